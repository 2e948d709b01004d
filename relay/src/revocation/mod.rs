//! Who may no longer watch, in memory: asked at every request.
//!
//! In: revocation records, the code keys. Out: whether a viewer or a session is out. Pure.
//!
//! A session names its viewer by watermark id alone, so each revoked account is kept under its name (for tokens) and
//! under its id by every live code key (for sessions): no list of sessions is needed.

use crate::session::Session;
use releve_watermark::{KeyRing, WatermarkId};
use std::collections::HashMap;

/// How far the clocks of two nodes may differ, in seconds: a session that a fast clock dated this much after the
/// revocation is still held to be older. Nobody is hurt: a revoked viewer opens no new ones.
pub const SKEW_S: u64 = 30;

/// The revoked viewers and when each was revoked, in Unix seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revocations {
    by_viewer: HashMap<String, u64>,
    by_mark: HashMap<WatermarkId, u64>,
}

impl Revocations {
    /// Adds a revocation; the latest one of a viewer counts.
    pub fn revoke(&mut self, viewer: &str, at_unix_s: u64, code: &KeyRing) {
        let latest = self.by_viewer.entry(viewer.to_owned()).or_default();
        *latest = at_unix_s.max(*latest);
        for key in code.iter() {
            self.by_mark.insert(WatermarkId::of_viewer(key, viewer), *latest);
        }
    }

    /// The same revocations under other code keys. What sessions were given under a key that is gone is kept: they may
    /// outlive it.
    pub fn rekey(&mut self, code: &KeyRing) {
        for (viewer, at) in &self.by_viewer {
            for key in code.iter() {
                self.by_mark.insert(WatermarkId::of_viewer(key, viewer), *at);
            }
        }
    }

    /// When this viewer was revoked.
    pub fn viewer(&self, viewer: &str) -> Option<u64> {
        self.by_viewer.get(viewer).copied()
    }

    /// Whether this session is void.
    pub fn covers(&self, session: &Session) -> bool {
        let at = self.by_mark.get(&session.watermark_id);
        at.is_some_and(|at| session.issued_unix_s <= at.saturating_add(SKEW_S))
    }

    /// How many viewers are revoked.
    pub fn len(&self) -> usize {
        self.by_viewer.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.by_viewer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use releve_watermark::Key;

    fn session(key: &Key, viewer: &str, issued_unix_s: u64) -> Session {
        Session {
            id: [0; 16],
            watermark_id: WatermarkId::of_viewer(key, viewer),
            stream: "demo".parse().unwrap(),
            issued_unix_s,
            watch_until_unix_s: u64::MAX,
        }
    }

    #[test]
    fn a_revocation_covers_the_viewers_sessions_up_to_then() {
        let key = Key::new(1, [4; 32]);
        let mut revocations = Revocations::default();
        revocations.revoke("alice", 1_000, &KeyRing::of(key.clone()));
        assert!(revocations.covers(&session(&key, "alice", 999)));
        assert!(revocations.covers(&session(&key, "alice", 1_000 + SKEW_S)));
        assert!(!revocations.covers(&session(&key, "alice", 1_001 + SKEW_S)));
        assert!(!revocations.covers(&session(&key, "bob", 0)));
        revocations.revoke("alice", 500, &KeyRing::of(key.clone()));
        assert_eq!(revocations.viewer("alice"), Some(1_000), "an older record takes nothing back");
    }

    #[test]
    fn sessions_of_an_older_and_a_newer_code_key_are_covered() {
        let (old, new) = (Key::new(1, [4; 32]), Key::new(2, [5; 32]));
        let mut revocations = Revocations::default();
        revocations.revoke("alice", 1_000, &KeyRing::of(old.clone()));
        assert!(!revocations.covers(&session(&new, "alice", 0)));
        revocations.rekey(&KeyRing::of(new.clone()));
        assert!(revocations.covers(&session(&new, "alice", 0)));
        assert!(revocations.covers(&session(&old, "alice", 0)));
        assert_eq!(revocations.len(), 1);
    }
}
