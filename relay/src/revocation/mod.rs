//! Who may no longer watch, in memory: asked at every request.
//!
//! In: revocation records. Out: whether what a viewer was given at some time is void. Pure.
//!
//! A session names its viewer by watermark id alone, so revoked accounts are kept by that: no list of sessions is needed. Single
//! sessions can be ended too; those are forgotten when they would be over anyway.

use crate::session::Standing;
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
    /// Ended sessions, and when they would have been over.
    sessions: HashMap<[u8; 16], u64>,
}

impl Revocations {
    /// Adds a revocation; the latest one of a viewer counts.
    pub fn revoke(&mut self, viewer: &str, at_unix_s: u64) {
        let latest = self.by_id.entry(WatermarkId::of_viewer(viewer)).or_default();
        *latest = at_unix_s.max(*latest);
    }

    /// Ends one session that would be over at `until_unix_s`.
    pub fn end(&mut self, session: [u8; 16], until_unix_s: u64, now_unix_s: u64) {
        if self.sessions.len() == self.sessions.capacity() {
            self.sessions.retain(|_, until| *until >= now_unix_s);
        }
        if until_unix_s >= now_unix_s {
            self.sessions.insert(session, until_unix_s);
        }
    }

    /// Whether this one session was ended.
    pub fn has_ended(&self, session: &Standing) -> bool {
        self.sessions.contains_key(&session.id)
    }

    /// Whether this session's viewer is revoked.
    pub fn covers(&self, session: &Standing) -> bool {
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
    use crate::session::{Binding, Session};

    fn session(viewer: &str, issued_unix_s: u64) -> Standing {
        let session = Session {
            id: [0; 16],
            watermark_id: WatermarkId::of_viewer(viewer),
            stream: "demo".parse().unwrap(),
            issued_unix_s,
            watch_until_unix_s: u64::MAX,
            asked: false,
            counted: false,
            bound: Binding::default(),
        };
        session.standing()
    }

    #[test]
    fn an_ended_session_ends_alone_and_is_forgotten_when_it_would_be_over() {
        let mut revocations = Revocations::default();
        let (ended, other) = (session("alice", 0), Standing { id: [1; 16], ..session("alice", 0) });
        revocations.end(ended.id, 50, 10);
        assert!(revocations.has_ended(&ended) && !revocations.has_ended(&other));
        revocations.end([2; 16], 9, 10);
        assert_eq!(revocations.sessions.len(), 1, "it was over already");
        for number in 0..10_000u64 {
            let mut id = [7; 16];
            id[..8].copy_from_slice(&number.to_be_bytes());
            revocations.end(id, 100 + number, 100 + number);
        }
        assert!(revocations.sessions.capacity() < 100, "{}", revocations.sessions.capacity());
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
