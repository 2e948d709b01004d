//! Sessions that this relay has served lately and that somebody else wants to hear of: those that the webhook is asked about
//! again, and those that take a seat.
//!
//! In: every request of such a session. Out: lists for the tasks that ask and report. A request costs one look-up and
//! allocates only the first time. Who is in here had a good credential, so it is bounded by the sessions that were admitted.

use crate::session::Session;
use dashmap::DashMap;
use std::sync::atomic::{AtomicU64, Ordering};

/// The sessions and when each was last seen and asked about.
#[derive(Debug, Default)]
pub struct Watched {
    sessions: DashMap<[u8; 16], Seen>,
}

#[derive(Debug)]
struct Seen {
    session: Session,
    seen_unix_s: AtomicU64,
    ask_unix_s: AtomicU64,
}

impl Watched {
    /// Notes a request of a session; `recheck_s` after its admission the webhook is asked about it for the first time.
    pub fn saw(&self, session: &Session, recheck_s: u64, now_unix_s: u64) {
        if !session.asked && !session.counted {
            return;
        }
        if let Some(seen) = self.sessions.get(&session.id) {
            seen.seen_unix_s.store(now_unix_s, Ordering::Relaxed);
            return;
        }
        let ask_unix_s = AtomicU64::new(session.issued_unix_s.saturating_add(recheck_s));
        let seen = Seen { session: session.clone(), seen_unix_s: AtomicU64::new(now_unix_s), ask_unix_s };
        self.sessions.insert(session.id, seen);
    }

    /// Sessions with a seat that were seen at or after this, and when.
    pub fn counted_since(&self, since_unix_s: u64) -> Vec<(Session, u64)> {
        let all = self.sessions.iter().filter(|seen| seen.session.counted);
        all.map(|seen| (seen.session.clone(), seen.seen_unix_s.load(Ordering::Relaxed)))
            .filter(|(_, seen)| *seen >= since_unix_s)
            .collect()
    }

    /// Sessions that the webhook is to be asked about now, at most so many. Each is named once: it is due again at `again_unix_s`, unless
    /// `ask_at` says otherwise.
    pub fn due(&self, most: usize, now_unix_s: u64, again_unix_s: u64) -> Vec<Session> {
        let due = self
            .sessions
            .iter()
            .filter(|seen| seen.session.asked && seen.ask_unix_s.load(Ordering::Relaxed) <= now_unix_s);
        due.take(most)
            .map(|seen| {
                seen.ask_unix_s.store(again_unix_s, Ordering::Relaxed);
                seen.session.clone()
            })
            .collect()
    }

    /// When the webhook is to be asked about a session next.
    pub fn ask_at(&self, session: &[u8; 16], unix_s: u64) {
        if let Some(seen) = self.sessions.get(session) {
            seen.ask_unix_s.store(unix_s, Ordering::Relaxed);
        }
    }

    /// Forgets sessions that were last seen before this.
    pub fn forget(&self, before_unix_s: u64) {
        self.sessions.retain(|_, seen| seen.seen_unix_s.load(Ordering::Relaxed) >= before_unix_s);
    }

    /// How many sessions are in here.
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Binding;
    use releve_watermark::WatermarkId;

    fn session(id: u8, asked: bool, counted: bool) -> Session {
        Session {
            id: [id; 16],
            watermark_id: WatermarkId(1),
            stream: "demo".parse().unwrap(),
            issued_unix_s: 100,
            watch_until_unix_s: 9_000,
            asked,
            counted,
            bound: Binding::default(),
        }
    }

    fn ids(sessions: &[Session]) -> Vec<u8> {
        let mut ids: Vec<u8> = sessions.iter().map(|session| session.id[0]).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn each_session_is_asked_about_in_its_time() {
        let watched = Watched::default();
        watched.saw(&session(1, true, false), 300, 110);
        watched.saw(&session(2, false, true), 300, 110);
        watched.saw(&session(3, false, false), 300, 110);
        assert_eq!(watched.len(), 2, "of an ordinary session nothing is kept");
        assert!(watched.due(9, 399, 700).is_empty());
        assert!(watched.due(0, 400, 700).is_empty(), "there is no room: it stays due");
        assert_eq!(ids(&watched.due(9, 400, 700)), [1]);
        assert!(watched.due(9, 699, 1_000).is_empty());
        watched.ask_at(&[1; 16], 430);
        assert_eq!(ids(&watched.due(9, 430, 730)), [1]);
        watched.saw(&session(4, true, false), 300, 5_000);
        assert_eq!(ids(&watched.due(9, 430, 730)), [4], "admitted long ago, new to this relay: at once");
    }

    #[test]
    fn seats_are_reported_while_they_are_used() {
        let watched = Watched::default();
        watched.saw(&session(1, true, true), 300, 110);
        watched.saw(&session(2, false, true), 300, 110);
        watched.saw(&session(2, false, true), 300, 121);
        let reported = watched.counted_since(120);
        assert_eq!((reported.len(), reported[0].1), (1, 121));
        watched.forget(111);
        assert_eq!(watched.len(), 1);
    }
}
