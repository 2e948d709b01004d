//! From a request to its answer, phase by phase.
//!
//! The credential comes before everything else that could be learned: a request without a valid one is refused the same
//! way whatever stream or object it names, and before any method, range or stream is looked at. What was held is checked
//! again before it is answered.

use super::answer::{Answer, Body};
use super::limits::ms;
use super::stream::Stream;
use super::{Node, now_unix_s, page};
use crate::route::range::{Span, cut, span};
use crate::route::{self, Route, Wanted};
use crate::session::{self, Session, SessionError};
use crate::token::{self, Refusal};
use crate::upstream::view::Known;
use ingest_api::access::Claims;
use ingest_api::{Object, StreamName, Track, playlist};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Objects never change, and each viewer's copy is theirs alone.
const OBJECT_CACHE: &str = "private, max-age=31536000, immutable";
/// Playlists change at any moment.
const PLAYLIST_CACHE: &str = "private, no-cache";
/// When to ask again for what is not there, in seconds.
const RETRY_S: u64 = 2;

/// A request as any HTTP front hands it over.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// Its target, as it stood in the request line.
    pub target: &'a [u8],
    /// Its `Range` header, if it has exactly one and no `If-Range`.
    pub range: Option<&'a str>,
}

/// The methods that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: a GET without the body.
    Head,
    /// OPTIONS: a browser asks whether it may.
    Options,
    /// Any other.
    Other,
}

impl Node {
    /// Answers a request. Always in bounded time: what may still come is held for as long as `Limits` says.
    pub async fn answer(self: &Arc<Self>, request: Request<'_>) -> Answer {
        let (kind, answer) = self.routed(request).await;
        self.metrics.request(kind, answer.status);
        answer
    }

    async fn routed(self: &Arc<Self>, request: Request<'_>) -> (&'static str, Answer) {
        match route::parse(request.target) {
            Err(route::Malformed) => ("malformed", Answer::bare(400)),
            Ok(Route::Nothing) => ("nothing", Answer::bare(404)),
            Ok(Route::Guarded) => ("guarded", self.refuse(Refusal::Missing)),
            Ok(Route::Asset { name }) => ("asset", with_method(request.method, page::asset(name))),
            Ok(Route::Live { stream, token }) => ("live", self.live(request.method, &stream, token).await),
            Ok(Route::Watch { stream, token }) => ("watch", self.watch(request.method, &stream, token)),
            Ok(Route::Session { credential, wanted, token_too }) => {
                let kind = wanted.as_ref().map_or("guarded", Wanted::word);
                (kind, self.below_session(request, credential, wanted, token_too).await)
            }
        }
    }

    async fn live(self: &Arc<Self>, method: Method, stream: &StreamName, token: Option<&str>) -> Answer {
        let claims = match self.claims(stream, token) {
            Ok(claims) => claims,
            Err(refusal) => return self.refuse(refusal),
        };
        match method {
            Method::Get | Method::Head => self.admit(claims).await,
            other => with_method(other, None),
        }
    }

    fn watch(self: &Arc<Self>, method: Method, stream: &StreamName, token: Option<&str>) -> Answer {
        match self.claims(stream, token) {
            Ok(_) => {
                self.follow(stream); // so that the playlist is on its way when the page asks
                with_method(method, Some(page::watch(stream)))
            }
            Err(refusal) => page::refused(self.refuse(refusal), refusal),
        }
    }

    fn claims(&self, stream: &StreamName, token: Option<&str>) -> Result<Claims, Refusal> {
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        token::check(&self.keys().access, &revocations, stream, token, now_unix_s())
    }

    async fn below_session(
        self: &Arc<Self>,
        request: Request<'_>,
        credential: &str,
        wanted: Option<Wanted>,
        token_too: bool,
    ) -> Answer {
        let session = match session::open(&self.keys().session, credential, now_unix_s()) {
            Ok(session) => session,
            Err(SessionError::Expired) => return self.refuse(Refusal::Expired),
            Err(error) => return self.refuse(Refusal::Session(error)),
        };
        if token_too {
            return self.refuse(Refusal::TwoCredentials);
        }
        if let Err(refusal) = self.still(&session) {
            return self.refuse(refusal);
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            return with_method(request.method, None);
        }
        let Some(wanted) = wanted else { return Answer::bare(404) };
        let Some(stream) = self.follow(&session.stream) else { return Answer::not_now(RETRY_S) };
        let found = match wanted {
            Wanted::Index => self.index(&session, &stream).await,
            Wanted::Media(track) => self.media(&session, &stream, track).await,
            Wanted::Segment(track, _) | Wanted::Init(track, _) => {
                self.copy(&session, &stream, &wanted, track, request.range).await
            }
        };
        match found {
            Ok(Some(answer)) => answer,
            Ok(None) => Answer::not_now(RETRY_S),
            Err(refusal) => self.refuse(refusal),
        }
    }

    async fn index(&self, session: &Session, stream: &Stream) -> Result<Option<Answer>, Refusal> {
        let (grace, stall) = (ms(self.limits.offline_grace), ms(self.limits.stall));
        let held = Instant::now();
        let index = self.hold(session, stream, self.limits.playlist_hold, |stream| {
            let view = stream.view();
            if !view.is_live(self.now_ms(), grace, stall) {
                return None;
            }
            view.shown()?.index()
        });
        let index = index.await?;
        self.metrics.playlist_hold_seconds.observe(held.elapsed().as_secs_f64());
        Ok(index.map(|text| Answer::content(playlist::CONTENT_TYPE, PLAYLIST_CACHE, Body::Shared(text))))
    }

    /// The last good playlist, however old: a viewer who is watching is not thrown out by a gap.
    async fn media(
        &self,
        session: &Session,
        stream: &Stream,
        track: Track,
    ) -> Result<Option<Answer>, Refusal> {
        let held = Instant::now();
        let text = self
            .hold(session, stream, self.limits.playlist_hold, |stream| stream.view().shown()?.media(track));
        let text = text.await?;
        self.metrics.playlist_hold_seconds.observe(held.elapsed().as_secs_f64());
        Ok(text.map(|text| Answer::content(playlist::CONTENT_TYPE, PLAYLIST_CACHE, Body::Shared(text))))
    }

    /// A viewer's own copy of an object.
    async fn copy(
        self: &Arc<Self>,
        session: &Session,
        stream: &Arc<Stream>,
        wanted: &Wanted,
        track: Track,
        range: Option<&str>,
    ) -> Result<Option<Answer>, Refusal> {
        let known =
            self.hold(session, stream, self.limits.ahead_hold, |stream| match stream.view().find(wanted) {
                Known::Soon => None,
                known => Some(known),
            });
        let Some(Known::Entry(entry)) = known.await? else { return Ok(None) };
        let Some(object) = self.object(&entry).await else { return Ok(None) };
        self.still(session)?;
        let Some(pieces) = self.pieces(&object, session) else { return Ok(None) };
        let content_type = match track {
            Track::Video => "video/mp4",
            Track::Audio => "audio/mp4",
        };
        let len = object.len();
        let body = |pieces| Body::Copy { pieces, session: session.clone() };
        let answer = match span(range, len) {
            Span::Whole => Answer::content(content_type, OBJECT_CACHE, body(pieces)),
            Span::Part { start, end } => {
                let mut part = Answer::content(content_type, OBJECT_CACHE, body(cut(pieces, start, end)));
                part.status = 206;
                part.with("content-range", format!("bytes {start}-{}/{len}", end - 1))
            }
            Span::Outside => Answer::bare(416).with("content-range", format!("bytes */{len}")),
        };
        Ok(Some(answer.with("accept-ranges", "bytes")))
    }

    /// The slices of this viewer's copy; `None` when nobody can say any more which they are.
    fn pieces(&self, object: &Object, session: &Session) -> Option<Vec<bytes::Bytes>> {
        if object.pairs.is_empty() {
            return Some(vec![object.a.clone()]);
        }
        let keys = self.keys();
        let Some(codebook) = keys.codebook(object.code_key) else {
            tracing::error!(
                code_key = object.code_key,
                "an object is marked with a code key that is not live here: not served"
            );
            return None;
        };
        Some(object.pieces(|position| codebook.symbol(session.watermark_id, position)))
    }

    /// Waits until `look` finds something, at most so long, and gives up at once when the relay stops. The session is
    /// checked whenever something moves and before anything is given.
    async fn hold<T>(
        &self,
        session: &Session,
        stream: &Stream,
        at_most: Duration,
        look: impl Fn(&Stream) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let deadline = Instant::now() + at_most;
        // Subscribed before the first look, so that no change falls between.
        let (mut changes, mut revocations) = (stream.changes(), self.revoked.subscribe());
        loop {
            self.still(session)?;
            if let Some(found) = look(stream) {
                return Ok(Some(found));
            }
            // The senders live as long as the node and the stream: an error cannot come.
            tokio::select! {
                _ = changes.changed() => {}
                _ = revocations.changed() => {}
                () = self.stopped() => return Ok(None),
                () = sleep_until(deadline) => return self.still(session).map(|()| None),
            }
        }
    }

    fn refuse(&self, refusal: Refusal) -> Answer {
        self.metrics.denied(refusal.word());
        tracing::debug!(%refusal, "refused");
        Answer::refused(refusal)
    }
}

/// What a method other than GET gets where a GET would get `answer`; `None` stands for one that was not made.
fn with_method(method: Method, answer: Option<Answer>) -> Answer {
    match (method, answer) {
        (Method::Get | Method::Head, answer) => answer.unwrap_or_else(|| Answer::bare(404)),
        (Method::Options, _) => Answer::bare(204)
            .with("access-control-allow-methods", "GET, HEAD, OPTIONS")
            .with("access-control-allow-headers", "Range")
            .with("access-control-max-age", "86400"),
        (Method::Other, _) => Answer::bare(405).with("allow", "GET, HEAD, OPTIONS"),
    }
}
