//! From a request to its answer, phase by phase.
//!
//! The credential comes before everything else that could be learned: a request without a valid one is refused the same
//! way whatever stream or object it names, and before any method, range or stream is looked at.
//!
//! `step` answers what is at hand, without waiting and, for playlists and objects, without allocating. A request whose
//! answer may come with the stream's next change is parked: whoever holds it steps again when that has moved, from the
//! start, so that it is authorised again before anything is given. What needs the ledger or an origin is for `answer`.

use super::answer::{Answer, NO_STORE, Reply, ViewersCopy};
use super::cdn::written;
use super::edge::edge_copy;
use super::limits::ms;
use super::park::Park;
use super::{Node, now_unix_s, page};
use crate::cdn::Variant;
use crate::cdn::lock::Seal;
use crate::cdn::names::Name;
use crate::http1::condition::outcome;
use crate::http1::{Method, Rendered, Request};
use crate::route::{self, Carrier, Of, Reload, Route, Tokens, Wanted, carried, cookie};
use crate::session::{self, Presenter, Session, SessionError};
use crate::token::place::Place;
use crate::token::{self, Entry, Refusal, Visit, Ways};
use crate::upstream::parts::{Due, due};
use crate::upstream::shown::Playlist;
use crate::upstream::view::Known;
use crate::upstream::{self, Held};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use bytes::Bytes;
use ingest_api::StreamName;
use ingest_api::access::Claims;
use ingest_api::content_key::{ContentKey, OF_KEY_SERVER, SegmentKey};
use ingest_api::playlist::{CONTENT_TYPE, MPEG_TS};
use std::sync::{Arc, PoisonError};
use tokio::time::timeout;

/// What `Wanted::CdnMpegTs` is spelled as.
const CDN_MPEG_TS: &str = "cdn-ts.m3u8";
/// When to ask again for what is not there, in seconds.
pub(super) const RETRY_S: u64 = 2;

/// What becomes of a request at once.
pub enum Step {
    /// It is answered.
    Reply(Reply),
    /// It waits for its stream: step again when that has moved.
    Park(Park),
    /// It waits for the ledger, the webhook, keys or an origin: `answer` it.
    Ask,
}

/// What a look at a request gives.
pub(super) enum Found {
    /// Its answer.
    Reply(Reply),
    /// The viewer may come in to this playlist, once the ledger has them.
    Admit(Claims, &'static str),
    /// Their token names a key that may be new.
    Keys,
    /// The webhook decides whether the viewer may come in to it.
    Ask(StreamName, String, &'static str),
    /// What it wants may come with the stream's next change.
    Change(Park),
    /// What it wants is listed, but not here yet.
    Flight(upstream::Entry, Whose),
}

/// Whose copy of an object it is to be.
pub(super) enum Whose {
    /// A viewer's, while they may have it.
    Viewer(Session),
    /// A CDN's: this variant, by this name, encrypted by this where it is.
    Cdn(Variant, Name, Option<Seal>),
    /// An edge's that chooses itself: what of the object, and the segment's number if it is one.
    Edge(Of, Option<u64>),
}

impl From<Answer> for Found {
    fn from(answer: Answer) -> Found {
        Found::Reply(Reply::Once(answer))
    }
}

impl Node {
    /// Answers a request with what is at hand. `over`: it has been held for as long as it may, or the relay stops: what
    /// there is is the answer.
    pub fn step(self: &Arc<Self>, request: &Request<'_>, over: bool) -> Step {
        let (kind, found) = self.look(request, over);
        match found {
            Found::Reply(reply) => Step::Reply(self.counted(kind, reply)),
            Found::Change(_) if over => Step::Reply(self.counted(kind, Answer::not_now(RETRY_S).into())),
            Found::Change(park) => Step::Park(park),
            Found::Admit(..) | Found::Ask(..) | Found::Keys | Found::Flight(..) => Step::Ask,
        }
    }

    /// Answers a request that needs the ledger, the webhook, keys or an origin, in bounded time.
    pub async fn answer(self: &Arc<Self>, request: &Request<'_>) -> Reply {
        let mut readings = self.jwt.readings();
        loop {
            let (kind, found) = self.look(request, true);
            let reply = match found {
                Found::Reply(reply) => reply,
                Found::Admit(claims, file) => self.admit(claims, file, by(request)).await.into(),
                Found::Ask(stream, token, file) => {
                    self.ask_webhook(&stream, &token, file, by(request)).await.into()
                }
                Found::Keys => {
                    self.jwt.ask();
                    if timeout(self.limits.keys_hold, readings.changed()).await.is_ok() {
                        continue;
                    }
                    self.refuse(Refusal::UnknownKey).into()
                }
                Found::Flight(entry, whose) => {
                    let held = self.object(&entry).await;
                    self.landed(request, held, whose)
                }
                Found::Change(_) => Answer::not_now(RETRY_S).into(), // what it wanted went the moment before
            };
            return self.counted(kind, reply);
        }
    }

    fn counted(&self, kind: &'static str, reply: Reply) -> Reply {
        self.metrics.request(kind, reply.status());
        reply
    }

    /// `over`: the time of waiting is over, so that the playlist there is answers a reload too.
    fn look(self: &Arc<Self>, request: &Request<'_>, over: bool) -> (&'static str, Found) {
        match route::parse(request.target) {
            Err(route::Malformed) => ("malformed", Answer::bare(400).into()),
            Ok(Route::Nothing) => ("nothing", Answer::bare(404).into()),
            Ok(Route::Guarded) => ("guarded", self.refuse(Refusal::Missing).into()),
            Ok(Route::Cdn { .. }) if self.limits.cdn.is_none() => ("nothing", Answer::bare(404).into()),
            Ok(Route::Cdn { stream, wanted, name }) => ("cdn", self.for_cdn(request, &stream, wanted, name)),
            Ok(Route::Edge { stream, wanted, of }) => ("edge", self.for_edge(request, &stream, wanted, of)),
            Ok(Route::Asset { name }) => ("asset", with_method(request.method, page::asset(name)).into()),
            Ok(Route::Live { stream, file, tokens }) => ("live", self.live(request, &stream, file, tokens)),
            Ok(Route::Watch { stream, tokens }) => ("watch", self.watch(request, &stream, tokens)),
            Ok(Route::Session { carrier, wanted, token_too, reload }) => {
                let kind = wanted.as_ref().map_or("guarded", Wanted::word);
                let reload = if over { Reload { msn: None, ..reload } } else { reload };
                // Into a text in gzip no session can be written.
                let text = Request { gzip: false, ..*request };
                let request = if matches!(carrier, Carrier::Query(_)) { &text } else { request };
                let found = match self.session_of(request, &carrier, token_too) {
                    Ok(session) => self.below_session(request, &carrier, session, wanted, reload),
                    Err(refusal) => self.refuse(refusal).into(),
                };
                match (found, carrier) {
                    (Found::Reply(Reply::Playlist(rendered, _)), Carrier::Query(credential)) => {
                        (kind, carrying(&rendered, credential).into())
                    }
                    (found, _) => (kind, found),
                }
            }
        }
    }

    fn live(
        &self,
        request: &Request<'_>,
        stream: &StreamName,
        file: &'static str,
        tokens: Tokens<'_>,
    ) -> Found {
        match (self.entry(request, stream, tokens), request.method) {
            (Err(Refusal::UnknownKey), _) if self.may_ask_for_keys() => Found::Keys,
            // A page of another site asks whether it may send the field that the token will stand in.
            (Err(Refusal::Missing), Method::Options) if self.jwt.rules().is_some() => {
                with_method(Method::Options, None).into()
            }
            (Err(refusal), _) => self.refuse(refusal).into(),
            (Ok(Entry::Known(claims)), Method::Get | Method::Head) => {
                Found::Admit(claims, self.listing(file))
            }
            (Ok(Entry::Ask), Method::Get | Method::Head) => {
                Found::Ask(stream.clone(), tokens.any.unwrap_or_default().to_owned(), self.listing(file))
            }
            (Ok(_), other) => with_method(other, None).into(),
        }
    }

    /// The playlist below the session that a way in leads to.
    fn listing(&self, file: &'static str) -> &'static str {
        // One playlist has one pathway: where there is room for viewers it is the relay's.
        let all = self.limits.cdn.is_some() && self.limits.overflow.is_none();
        if all && file == MPEG_TS { CDN_MPEG_TS } else { file }
    }

    fn watch(self: &Arc<Self>, request: &Request<'_>, stream: &StreamName, tokens: Tokens<'_>) -> Found {
        let method = request.method;
        match self.entry(request, stream, tokens) {
            // The page is the same for all streams: the webhook is asked when it fetches the playlist.
            Ok(Entry::Ask) => {
                with_method(method, Some(page::watch(stream, self.limits.cdn.as_deref()))).into()
            }
            Ok(Entry::Known(_)) => {
                self.follow(stream); // so that the playlist is on its way when the page asks
                with_method(method, Some(page::watch(stream, self.limits.cdn.as_deref()))).into()
            }
            Err(Refusal::UnknownKey) if self.may_ask_for_keys() => Found::Keys,
            Err(refusal) => page::refused(self.refuse(refusal), refusal).into(),
        }
    }

    fn entry(
        &self,
        request: &Request<'_>,
        stream: &StreamName,
        tokens: Tokens<'_>,
    ) -> Result<Entry, Refusal> {
        let field = request.access_token.map(|field| std::str::from_utf8(field).unwrap_or_default());
        let cat = match (tokens.cat, field) {
            (Some(_), Some(_)) => return Err(Refusal::TwoCredentials),
            (cat, field) => cat.or(field),
        };
        let path = request.target.split(|&byte| byte == b'?').next().unwrap_or_default();
        let path = std::str::from_utf8(path).unwrap_or_default(); // what is routed is ASCII
        let place = Place { path, method: request.method.name(), source: request.source };
        let visit = Visit { stream, token: tokens.any, cat, place };
        let (keys, rules) = (self.keys(), self.jwt.rules());
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        let ways = Ways { keys: &keys.access, foreign: rules.as_deref(), webhook: self.webhook.is_some() };
        token::check(ways, &revocations, visit, now_unix_s())
    }

    /// The session of a request, if it holds: each request is authorised anew.
    fn session_of(
        &self,
        request: &Request<'_>,
        carrier: &Carrier<'_>,
        token_too: bool,
    ) -> Result<Session, Refusal> {
        let credential = match carrier {
            Carrier::Path(credential) | Carrier::Query(credential) => *credential,
            Carrier::Cookie(_) => request.cookie.and_then(cookie::of_field).ok_or(Refusal::Missing)?,
        };
        let session = match session::open(&self.keys().session, credential, by(request), now_unix_s()) {
            Ok(session) => session,
            Err(SessionError::Expired) => return Err(Refusal::Expired),
            Err(error) => return Err(Refusal::Session(error)),
        };
        if token_too {
            return Err(Refusal::TwoCredentials);
        }
        if matches!(carrier, Carrier::Cookie(stream) if *stream != session.stream) {
            return Err(Refusal::OtherStream);
        }
        self.still(&session.standing())?;
        self.saw(&session);
        Ok(session)
    }

    fn below_session(
        self: &Arc<Self>,
        request: &Request<'_>,
        carrier: &Carrier<'_>,
        session: Session,
        wanted: Option<Wanted>,
        reload: Reload,
    ) -> Found {
        if wanted == Some(Wanted::Events) {
            return self.report(request, &session).into();
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            return with_method(request.method, None).into();
        }
        let Some(wanted) = wanted else { return Answer::bare(404).into() };
        let Some(stream) = self.follow(&session.stream) else { return Answer::not_now(RETRY_S).into() };
        let view = stream.view();
        let playlist = match &wanted {
            Wanted::Index => {
                let (grace, stall) = (ms(self.limits.offline_grace), ms(self.limits.stall));
                let live = view.is_live(self.now_ms(), grace, stall);
                let shown = view.shown().filter(|_| live);
                shown.and_then(|shown| match (&self.limits.cdn, self.limits.overflow) {
                    (None, _) => shown.index(),
                    (Some(_), None) => shown.cdn_index(),
                    (Some(_), Some(_)) => shown.steered_index(self.pathway(&session, shown, None)),
                })
            }
            // The last good playlist, however old: a viewer who is watching is not thrown out by a gap.
            Wanted::Media(track) => match view.shown() {
                None => None,
                Some(shown) => match due(&shown.snapshot, &reload) {
                    Due::Now if reload.skip => shown.delta(*track),
                    Due::Now => shown.media(*track),
                    Due::Never => return Answer::bare(400).into(),
                    Due::Within(at_most) => {
                        let seen = stream.version();
                        drop(view);
                        let at_most = at_most.min(self.limits.playlist_hold);
                        return Found::Change(Park::of_reload(stream, seen, at_most, reload));
                    }
                },
            },
            Wanted::MpegTs => view.shown().and_then(|shown| shown.mpeg_ts()),
            Wanted::Steering => {
                let (shown, seen) = (view.shown().cloned(), stream.version());
                drop(view);
                // A viewer may have the playlist from another relay, and this one nothing yet.
                return match shown {
                    Some(shown) => self.steering(&session, &shown, reload.here).into(),
                    None => Found::Change(Park::of(stream, seen, self.limits.playlist_hold)),
                };
            }
            Wanted::Events => return Answer::bare(404).into(), // above
            Wanted::CdnMedia(_) | Wanted::CdnMpegTs if self.limits.cdn.is_none() => {
                return Answer::bare(404).into();
            }
            Wanted::CdnMedia(_) | Wanted::CdnMpegTs => {
                let (shown, seen) = (view.shown().cloned(), stream.version());
                drop(view);
                return match shown.and_then(|shown| self.own_playlist(&shown, &session, &wanted)) {
                    Some(text) => written(&text, carrier).into(),
                    None => Found::Change(Park::of(stream, seen, self.limits.playlist_hold)),
                };
            }
            Wanted::Key(kid) | Wanted::Licence(kid) => {
                let key = view.key(*kid);
                if let (None, Wanted::Key(kid)) = (key, &wanted)
                    && let Some(found) = self.cdn_key(&session, &stream, &view, *kid)
                {
                    return found;
                }
                drop(view);
                return self.content_key(&session.stream, key, &wanted).into();
            }
            Wanted::Segment(..) | Wanted::TsSegment(_) | Wanted::Part(..) | Wanted::Init(..) => {
                let (known, seen) = (view.find(&wanted), stream.version());
                drop(view);
                let park = Park::of(stream, seen, self.limits.ahead_hold);
                return self.object_found(request, known, park, Whose::Viewer(session));
            }
        };
        if let Some(playlist) = playlist {
            return Found::Reply(of_playlist(playlist, request));
        }
        let seen = stream.version();
        drop(view);
        Found::Change(Park::of(stream, seen, self.limits.playlist_hold))
    }

    /// A key for whoever may watch what it encrypts; 404 where no such segment is known. Nobody keeps it: whoever has lost
    /// the right to watch gets none of the keys to come.
    fn content_key(&self, stream: &StreamName, key: Option<SegmentKey>, wanted: &Wanted) -> Answer {
        // A key server's are not here: its licences are the viewers' way to them.
        let key = key.filter(|key| key.content_key != OF_KEY_SERVER);
        let Some(key) = key else { return Answer::not_now(RETRY_S) };
        let keys = self.keys();
        let Some(root) = keys.content.as_ref().and_then(|ring| ring.version(key.content_key)) else {
            let content_key = key.content_key;
            tracing::error!(content_key, "segments are encrypted by a content key that is not live here");
            return Answer::not_now(RETRY_S);
        };
        let key = ContentKey::of_id(root, stream, key.kid);
        let (content_type, body) = match wanted {
            Wanted::Licence(_) => ("application/json", licence(&key).into()),
            _ => ("application/octet-stream", Bytes::copy_from_slice(key.secret())),
        };
        Answer { of_session: true, ..Answer::content(content_type, NO_STORE, body) }
    }

    pub(super) fn object_found(
        &self,
        request: &Request<'_>,
        known: Known,
        park: Park,
        whose: Whose,
    ) -> Found {
        match known {
            Known::Never => Answer::not_now(RETRY_S).into(),
            Known::Soon => Found::Change(park),
            Known::Entry(entry) => match self.cache.held(&entry.key) {
                Some(held) => {
                    self.metrics.cache_looks("hit");
                    Found::Reply(self.copy(request, held, whose))
                }
                None => Found::Flight(entry, whose),
            },
        }
    }

    /// The answer to who waited for a flight.
    fn landed(&self, request: &Request<'_>, held: Option<Arc<Held>>, whose: Whose) -> Reply {
        let still = match &whose {
            Whose::Viewer(session) => self.still(&session.standing()),
            Whose::Cdn(..) | Whose::Edge(..) => Ok(()),
        };
        match (still, held) {
            (Err(refusal), _) => self.refuse(refusal).into(),
            (Ok(()), None) => Answer::not_now(RETRY_S).into(),
            (Ok(()), Some(held)) => self.copy(request, held, whose),
        }
    }

    fn copy(&self, request: &Request<'_>, held: Arc<Held>, whose: Whose) -> Reply {
        match whose {
            Whose::Viewer(session) => self.viewers_copy(request, held, session),
            Whose::Cdn(variant, name, seal) => self.cdn_copy(request, held, variant, &name, seal),
            Whose::Edge(of, number) => edge_copy(request, held, of, number),
        }
    }

    /// A viewer's own copy of an object; "not now" when nobody can say any more which slices are theirs.
    fn viewers_copy(&self, request: &Request<'_>, held: Arc<Held>, session: Session) -> Reply {
        let keys = self.keys();
        let object = &held.object;
        if !object.pairs.is_empty() && keys.codebook(object.code_key).is_none() {
            tracing::error!(
                code_key = object.code_key,
                "an object is marked with a code key that is not live here: not served"
            );
            return Answer::not_now(RETRY_S).into();
        }
        let outcome = outcome(request, object.len(), None);
        Reply::Copy(ViewersCopy { held, session, outcome, keys })
    }

    pub(super) fn refuse(&self, refusal: Refusal) -> Answer {
        self.metrics.denied(refusal.word());
        tracing::debug!(%refusal, "refused");
        Answer::refused(refusal)
    }
}

/// A key as the Clear Key system of browsers takes it (W3C Encrypted Media Extensions §9.1.4).
fn licence(key: &ContentKey) -> String {
    let (k, kid) = (BASE64_URL_SAFE_NO_PAD.encode(key.secret()), BASE64_URL_SAFE_NO_PAD.encode(key.kid.0));
    format!(r#"{{"keys":[{{"kty":"oct","k":"{k}","kid":"{kid}"}}],"type":"temporary"}}"#)
}

/// Who makes a request, as far as a session can be bound to them.
fn by<'a>(request: &Request<'a>) -> Presenter<'a> {
    Presenter { address: request.source, agent: request.user_agent }
}

/// A playlist changes too often to be fetched in ranges: the whole, or nothing new.
pub(super) fn of_playlist(playlist: &Playlist, request: &Request<'_>) -> Reply {
    let whole = Request { range: None, ..*request };
    let coded = playlist.coded(request.gzip);
    let outcome = outcome(&whole, coded.answer.body_len(), Some(&coded.etag));
    Reply::Playlist(coded.answer.clone(), outcome)
}

/// A playlist for the one viewer whose session it carries on: rendered for each answer, and always whole.
fn carrying(playlist: &Rendered, credential: &str) -> Answer {
    let text = String::from_utf8_lossy(playlist.shared_body());
    let text = carried::carried(&text, credential);
    Answer { of_session: true, ..Answer::content(CONTENT_TYPE, "private, no-cache", text.into()) }
}

/// What a method other than GET gets where a GET would get `answer`; `None` stands for one that was not made.
pub(super) fn with_method(method: Method, answer: Option<Answer>) -> Answer {
    match (method, answer) {
        (Method::Get | Method::Head, answer) => answer.unwrap_or_else(|| Answer::bare(404)),
        (Method::Options, _) => Answer::bare(204)
            .with("access-control-allow-methods", "GET, HEAD, OPTIONS")
            .with(
                "access-control-allow-headers",
                "Range, CTA-Common-Access-Token, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status",
            )
            .with("access-control-max-age", "86400"),
        (Method::Post | Method::Other, _) => Answer::bare(405).with("allow", "GET, HEAD, OPTIONS"),
    }
}
