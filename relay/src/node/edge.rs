//! What edges that choose variants themselves are given: playlists that are everybody's, both variants of each segment, and
//! which bit of a viewer's pattern says which (`crate::cdn::pace`; ETSI TS 104 002 V1.1.1 §5.7).
//!
//! In: a request of who has the edge's key. Out: what there is, found like everything else. No waiting.
//!
//! Whoever has `edge.key` can make any viewer's copy, and one of all A: it is another key than a CDN's, which fetches by
//! names that it is told. Viewers never come here: their tokens are the edge's to check.

use super::Node;
use super::answer::{Answer, CdnCopy, Reply};
use super::park::Park;
use super::respond::{Found, RETRY_S, Whose, of_playlist, with_method};
use crate::cdn::pace;
use crate::http1::condition::outcome;
use crate::http1::{Method, Request};
use crate::route::{Of, Wanted};
use crate::token::{Refusal, bearer};
use crate::upstream::Held;
use crate::upstream::object::CDN_CACHE;
use crate::upstream::shown::Neutral;
use ingest_api::StreamName;
use releve_watermark::{Position, Symbol};
use std::sync::Arc;

impl Node {
    /// A file for an edge.
    pub(super) fn for_edge(
        self: &Arc<Self>,
        request: &Request<'_>,
        stream: &StreamName,
        wanted: Wanted,
        of: Of,
    ) -> Found {
        let keys = self.keys();
        let Some(edge) = &keys.edge else { return Answer::bare(404).into() };
        if !bearer::opens(edge, request.authorization) {
            return self.refuse(Refusal::Bearer).into();
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            return with_method(request.method, None).into();
        }
        let Some(stream) = self.follow(stream) else { return Answer::not_now(RETRY_S).into() };
        let view = stream.view();
        let seen = stream.version();
        let number = match &wanted {
            Wanted::Segment(_, number) | Wanted::TsSegment(number) => Some(*number),
            _ => None,
        };
        let which = match &wanted {
            Wanted::Index => Neutral::Index,
            Wanted::Media(track) => Neutral::Media(*track),
            Wanted::MpegTs => Neutral::MpegTs,
            _ => {
                let known = view.find(&wanted);
                drop(view);
                let park = Park::of(stream, seen, self.limits.ahead_hold);
                return self.object_found(request, known, park, Whose::Edge(of, number));
            }
        };
        let playlist = view.shown().and_then(|shown| shown.neutral(which));
        if let Some(playlist) = playlist {
            return Found::Reply(of_playlist(playlist, request));
        }
        drop(view);
        Found::Change(Park::of(stream, seen, self.limits.playlist_hold))
    }
}

/// One variant of a segment with its place in a pattern, or that place alone; an init section as it is.
pub(super) fn edge_copy(request: &Request<'_>, held: Arc<Held>, of: Of, number: Option<u64>) -> Reply {
    let marked = !held.object.pairs.is_empty();
    let position = number.filter(|_| marked).map(Position::bit_of);
    let symbol = match of {
        Of::A => Symbol::A,
        Of::B => Symbol::B,
        Of::Pace => {
            return Answer::content(pace::CONTENT_TYPE, CDN_CACHE, pace::sidecar(position).into()).into();
        }
    };
    let pace = number.map(|_| pace::field(position));
    let outcome = outcome(request, held.object.len(), None);
    Reply::Cdn(CdnCopy { head: held.edge_head(pace.as_deref()), held, outcome, symbol })
}
