//! What CDN mode adds to the phases of a request: a viewer's own playlist, which pathway they take, and files that their
//! names open (`crate::cdn`).
//!
//! In: a session and what is shown, or a name. Out: what there is, found like everything else. No waiting.

use super::Node;
use super::answer::{Answer, CdnCopy, Reply};
use super::park::Park;
use super::respond::{Found, RETRY_S, Whose, with_method};
use super::stream::Stream;
use crate::cache::Look;
use crate::cdn::lock::{LockId, Seal};
use crate::cdn::names::Name;
use crate::cdn::steering::{self, Pathway};
use crate::cdn::{self, Variant};
use crate::http1::condition::outcome;
use crate::http1::{Method, Outcome, Request};
use crate::route::{Carrier, Wanted, carried};
use crate::session::Session;
use crate::token::{Refusal, bearer};
use crate::upstream::Held;
use crate::upstream::shown::Shown;
use crate::upstream::view::View;
use bytes::Bytes;
use ingest_api::content_key::KeyId;
use ingest_api::playlist::CONTENT_TYPE;
use ingest_api::{Object, StreamName};
use releve_watermark::Symbol;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Node {
    /// The playlist of one viewer, of files at the CDN; `None` while there is nothing to list.
    pub(super) fn own_playlist(&self, shown: &Shown, session: &Session, wanted: &Wanted) -> Option<String> {
        let text = match wanted {
            Wanted::CdnMedia(track) => shown.whole(*track)?.into(),
            _ => String::from_utf8_lossy(shown.mpeg_ts()?.coded(false).answer.shared_body()),
        };
        let (keys, base) = (self.keys(), self.limits.cdn.as_deref()?);
        let symbol =
            |code_key, position| Some(keys.codebook(code_key)?.symbol(session.watermark_id, position));
        let query = match &self.limits.cdn_token {
            None => String::new(),
            Some(name) => {
                let Some(key) = keys.edge_auth.as_ref() else {
                    tracing::error!(
                        "`cdn_token` needs edgeauth.key: no playlist of files at the CDN is written"
                    );
                    return None;
                };
                let (key, id) = (key.current(), self.short(&session.id));
                cdn::token::query(name, key, base, session, &id)
                    .inspect_err(|error| tracing::error!(%error))
                    .ok()?
            }
        };
        let place = cdn::Place { base, query: &query, locked: self.limits.cdn_encrypt };
        let listed =
            cdn::listed(&text, &place, &session.stream, &shown.snapshot.segments, &keys.names, symbol);
        if listed.is_none() {
            tracing::error!(stream = %session.stream, "a listed segment is marked with a code key that is not live here");
        }
        listed
    }

    /// The key of files that are encrypted for the CDN, for whoever may watch them; `None` where no key has such an id. Its
    /// segments may be listed elsewhere already: then it is waited for.
    pub(super) fn cdn_key(
        &self,
        session: &Session,
        stream: &Arc<Stream>,
        view: &View,
        kid: KeyId,
    ) -> Option<Found> {
        let lock = LockId::of_kid(kid).filter(|_| self.limits.cdn.is_some())?;
        let key = self.keys().names.secret(&session.stream, lock)?;
        Some(match view.keeps(lock.numbers()) {
            Some(true) => {
                let key = Bytes::copy_from_slice(&key);
                let answer = Answer::content("application/octet-stream", "private, no-store", key);
                Answer { of_session: true, ..answer }.into()
            }
            Some(false) => Answer::not_now(RETRY_S).into(),
            None => {
                let (stream, seen) = (stream.clone(), stream.version());
                Found::Change(Park::of(stream, seen, self.limits.ahead_hold))
            }
        })
    }

    /// The pathway of a session, now. `here`: that which its player is on, if it has begun.
    pub(super) fn pathway(&self, session: &Session, shown: &Shown, here: Option<Pathway>) -> Pathway {
        let parts = shown.snapshot.part_90k > 0;
        Pathway::of(&session.id, self.cdn_share.load(Ordering::Relaxed), parts, here)
    }

    /// The steering manifest of a viewer; nobody else's, and none to keep.
    pub(super) fn steering(&self, session: &Session, shown: &Shown, here: Option<Pathway>) -> Answer {
        if self.limits.cdn.is_none() || self.limits.overflow.is_none() {
            return Answer::bare(404);
        }
        let pathway = self.pathway(session, shown, here.or(Some(Pathway::Relay)));
        let body = steering::manifest(pathway, self.limits.steer_every.as_secs());
        Answer { of_session: true, ..Answer::content("application/json", "private, no-store", body.into()) }
    }

    /// A file for a CDN. The name comes before everything else that could be learned: it opens what it stands for, and the
    /// same is said of every other one, whatever streams there are.
    pub(super) fn for_cdn(
        self: &Arc<Self>,
        request: &Request<'_>,
        stream: &StreamName,
        wanted: Wanted,
        name: Name,
    ) -> Found {
        let keys = self.keys();
        if keys.cdn.as_ref().is_some_and(|keys| !bearer::opens(keys, request.authorization)) {
            return self.refuse(Refusal::Bearer).into();
        }
        let Some(named) = keys.names.named(stream, &wanted, &name) else {
            return self.refuse(Refusal::Name).into();
        };
        if !matches!(request.method, Method::Get | Method::Head) {
            return with_method(request.method, None).into();
        }
        let seal = match named.lock {
            None => None,
            Some(lock) => match keys.names.secret(stream, lock.id) {
                Some(key) => Some(Seal { key, vector: lock.vector }),
                None => return Answer::not_now(RETRY_S).into(),
            },
        };
        let Some(stream) = self.follow(stream) else { return Answer::not_now(RETRY_S).into() };
        let view = stream.view();
        let (known, seen) = (view.find(&wanted), stream.version());
        drop(view);
        let park = Park::of(stream, seen, self.limits.ahead_hold);
        self.object_found(request, known, park, Whose::Cdn(named.variant, name, seal))
    }

    /// One variant of an object. What has marks has no name as the only variant: it is not given as one of them by mistake.
    pub(super) fn cdn_copy(
        &self,
        request: &Request<'_>,
        held: Arc<Held>,
        variant: Variant,
        name: &Name,
        seal: Option<Seal>,
    ) -> Reply {
        let symbol = match variant {
            Variant::Whole(symbol) => symbol,
            Variant::Only if held.object.pairs.is_empty() => Symbol::A,
            Variant::Only => {
                tracing::error!("a segment is marked, though its record says that it is not: not served");
                return Answer::not_now(RETRY_S).into();
            }
        };
        let etag = format!("\"{}\"", hex::encode(name));
        let Some(seal) = seal else {
            let len = held.object.len();
            let outcome = outcome(request, len, Some(&etag));
            return Reply::Cdn(CdnCopy { head: held.cdn_head(&etag, len), held, outcome, symbol });
        };
        let len = Seal::sealed_len(held.object.len());
        let outcome = outcome(request, len, Some(&etag));
        let head = held.cdn_head(&etag, len);
        // Nothing is encrypted for an answer that has no body.
        let has_body =
            request.method == Method::Get && matches!(outcome, Outcome::Whole | Outcome::Part { .. });
        let bytes =
            if has_body { self.sealed(&held.object, symbol, name, &seal) } else { Some(Bytes::new()) };
        let Some(bytes) = bytes else {
            tracing::error!("a segment cannot be encrypted: not served");
            return Answer::not_now(RETRY_S).into();
        };
        let held = Arc::new(held.with(Object::plain(bytes)));
        Reply::Cdn(CdnCopy { head, held, outcome, symbol })
    }

    /// A file, encrypted: once for all who fetch it, while there is room to keep it. Who comes while another thread is at it
    /// does not wait for that but makes it, too.
    fn sealed(&self, object: &Object, symbol: Symbol, name: &Name, seal: &Seal) -> Option<Bytes> {
        let make = || {
            let mut clear = Vec::with_capacity(Seal::sealed_len(object.len()));
            object.copy(|_| symbol).for_each(|piece| clear.extend_from_slice(&piece));
            seal.sealed(clear).map(Bytes::from)
        };
        match self.sealed.look(name, self.now_ms()) {
            Look::Held(bytes) => Some(bytes),
            Look::Fetch(owner) => {
                let bytes = make()?;
                owner.found(bytes.clone(), bytes.len());
                Some(bytes)
            }
            Look::Wait(_) | Look::Absent => make(),
        }
    }
}

/// A playlist of one viewer's own. Whoever kept it would show another viewer's variants.
pub(super) fn written(text: &str, carrier: &Carrier<'_>) -> Answer {
    let text = match carrier {
        Carrier::Query(credential) => carried::carried(text, credential),
        Carrier::Path(_) | Carrier::Cookie(_) => text.to_owned(),
    };
    Answer { of_session: true, ..Answer::content(CONTENT_TYPE, "private, no-store", text.into()) }
}
