//! Who may no longer watch, in memory: asked at every request.
//!
//! In: revocation records. Out: whether what a viewer was given at some time is void. Pure.
//!
//! A session names its viewer by watermark id alone, so revoked accounts are kept by that: no list of sessions is needed.

use crate::session::Session;
use ingest_api::access::Claims;
use releve_watermark::WatermarkId;
use std::collections::HashMap;

/// How far the clocks of two nodes may differ, in seconds: a token or session that a fast clock dated this much after the
/// revocation is still held to be older.
pub const SKEW_S: u64 = 30;

/// The revoked viewers and when each was revoked, in Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    by_id: HashMap<WatermarkId, u64>,
}

impl Revocations {
    /// Adds a revocation; the latest one of a viewer counts.
    pub fn revoke(&mut self, viewer: &str, at_unix_s: u64) {
        let latest = self.by_id.entry(WatermarkId::of_viewer(viewer)).or_default();
        *latest = at_unix_s.max(*latest);
    }

    /// Whether this session is void.
    pub fn covers(&self, session: &Session) -> bool {
        self.void(session.watermark_id, session.issued_unix_s)
    }

    /// Whether these claims are void. A token made later lets the viewer in again.
    pub fn covers_claims(&self, claims: &Claims) -> bool {
        self.void(WatermarkId::of_viewer(&claims.viewer), claims.issued_unix_s)
    }

    fn void(&self, viewer: WatermarkId, issued_unix_s: u64) -> bool {
        self.by_id.get(&viewer).is_some_and(|at| issued_unix_s <= at.saturating_add(SKEW_S))
    }

    /// How many viewers are revoked.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(viewer: &str, issued_unix_s: u64) -> Session {
        Session {
            id: [0; 16],
            watermark_id: WatermarkId::of_viewer(viewer),
            stream: "demo".parse().unwrap(),
            issued_unix_s,
            watch_until_unix_s: u64::MAX,
        }
    }

    #[test]
    fn a_revocation_covers_the_viewers_sessions_up_to_then() {
        let mut revocations = Revocations::default();
        revocations.revoke("alice", 1_000);
        revocations.revoke("alice", 500);
        assert!(revocations.covers(&session("alice", 999)), "an older record takes nothing back");
        assert!(revocations.covers(&session("alice", 1_000 + SKEW_S)));
        assert!(!revocations.covers(&session("alice", 1_001 + SKEW_S)));
        assert!(!revocations.covers(&session("bob", 0)));
        assert_eq!(revocations.len(), 1);
    }
}
