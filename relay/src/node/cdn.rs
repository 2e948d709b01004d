//! What CDN mode adds to the phases of a request: a viewer's own playlist, which pathway they take, and files that their
//! names open (`crate::cdn`).
//!
//! In: a session and what is shown, or a name. Out: what there is, found like everything else. No waiting.

use super::Node;
use super::answer::{Answer, CdnCopy, Reply};
use super::respond::{Found, Park, RETRY_S, Whose, with_method};
use crate::cdn::names::Name;
use crate::cdn::steering::{self, Pathway};
use crate::cdn::{self, Variant};
use crate::http1::condition::outcome;
use crate::http1::{Method, Request};
use crate::route::{Carrier, Wanted, carried};
use crate::session::Session;
use crate::token::{Refusal, bearer};
use crate::upstream::Held;
use crate::upstream::shown::Shown;
use ingest_api::StreamName;
use ingest_api::playlist::CONTENT_TYPE;
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
        let listed =
            cdn::listed(&text, base, &query, &session.stream, &shown.snapshot.segments, &keys.names, symbol);
        if listed.is_none() {
            tracing::error!(stream = %session.stream, "a listed segment is marked with a code key that is not live here");
        }
        listed
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
        let Some(variant) = keys.names.variant(stream, &wanted, &name) else {
            return self.refuse(Refusal::Name).into();
        };
        if !matches!(request.method, Method::Get | Method::Head) {
            return with_method(request.method, None).into();
        }
        let Some(stream) = self.follow(stream) else { return Answer::not_now(RETRY_S).into() };
        let view = stream.view();
        let (known, seen) = (view.find(&wanted), stream.version());
        drop(view);
        let park = Park { stream, seen, at_most: self.limits.ahead_hold };
        self.object_found(request, known, park, Whose::Cdn(variant, name))
    }
}

/// One variant of an object. What has marks has no name as the only variant: it is not given as one of them by mistake.
pub(super) fn cdn_copy(request: &Request<'_>, held: Arc<Held>, variant: Variant, name: &Name) -> Reply {
    let symbol = match variant {
        Variant::Whole(symbol) => symbol,
        Variant::Only if held.object.pairs.is_empty() => Symbol::A,
        Variant::Only => {
            tracing::error!("a segment is marked, though its record says that it is not: not served");
            return Answer::not_now(RETRY_S).into();
        }
    };
    let etag = format!("\"{}\"", hex::encode(name));
    let outcome = outcome(request, held.object.len(), Some(&etag));
    Reply::Cdn(CdnCopy { head: held.cdn_head(&etag), held, outcome, symbol })
}

/// A playlist of one viewer's own. Whoever kept it would show another viewer's variants.
pub(super) fn written(text: &str, carrier: &Carrier<'_>) -> Answer {
    let text = match carrier {
        Carrier::Query(credential) => carried::carried(text, credential),
        Carrier::Path(_) | Carrier::Cookie(_) => text.to_owned(),
    };
    Answer { of_session: true, ..Answer::content(CONTENT_TYPE, "private, no-store", text.into()) }
}
