//! When to announce the address. Pure.
//!
//! In: the time the address was taken, foreign claims, the time now. Out: whether to announce, and when to ask again.
//! An announcement can be lost, or a neighbour can learn the old place just after it; so they repeat, densely first.

use std::time::Duration;

/// Announcements after taking the address.
pub const ANNOUNCEMENTS: [Duration; 12] = [
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// The shortest time between two answers to foreign claims. Two hosts that both believe in themselves would else answer
/// each other without end; claims in between are answered together at its end.
pub const CLAIM_INTERVAL: Duration = Duration::from_millis(20);

/// The plan for one ownership of the address. Times are on any clock that only goes forward.
#[derive(Clone, Debug)]
pub struct Schedule {
    taken: Duration,
    done: usize,
    answered: Option<Duration>,
    answer_due: Option<Duration>,
}

impl Schedule {
    /// The address was taken at `now`; the first announcement is due at once.
    pub fn start(now: Duration) -> Self {
        Self { taken: now, done: 0, answered: None, answer_due: None }
    }

    /// Somebody else claimed the address.
    pub fn claimed(&mut self, now: Duration) {
        let earliest = self.answered.map_or(now, |last| last + CLAIM_INTERVAL);
        self.answer_due.get_or_insert(earliest.max(now));
    }

    /// True when an announcement is due; it counts as made. Late calls do not pile up: whatever is overdue is one.
    pub fn due(&mut self, now: Duration) -> bool {
        let before = self.done;
        while self.done < ANNOUNCEMENTS.len() && self.taken + ANNOUNCEMENTS[self.done] <= now {
            self.done += 1;
        }
        let answer = self.answer_due.is_some_and(|due| due <= now);
        if answer {
            self.answer_due = None;
            self.answered = Some(now);
        }
        answer || self.done > before
    }

    /// When to call [`due`](Self::due) next; `None` when only a claim can make it necessary.
    pub fn next(&self) -> Option<Duration> {
        let planned = ANNOUNCEMENTS.get(self.done).map(|offset| self.taken + *offset);
        [planned, self.answer_due].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn twelve_announcements_at_their_times_and_then_silence() {
        let mut schedule = Schedule::start(MS * 1000);
        let mut at = Vec::new();
        while let Some(next) = schedule.next() {
            assert!(!schedule.due(next - Duration::from_nanos(1)));
            assert!(schedule.due(next));
            at.push((next - MS * 1000).as_millis());
        }
        assert_eq!(at, [0, 1, 5, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]);
        assert!(!schedule.due(MS * 1_000_000));
    }

    #[test]
    fn late_calls_make_one_announcement() {
        let mut schedule = Schedule::start(Duration::ZERO);
        assert!(schedule.due(MS * 60));
        assert!(!schedule.due(MS * 60));
        assert_eq!(schedule.next(), Some(MS * 100));
    }

    #[test]
    fn a_claim_is_answered_at_once_and_a_storm_at_a_pace() {
        let mut schedule = Schedule::start(Duration::ZERO);
        while let Some(next) = schedule.next() {
            schedule.due(next);
        }
        let start = MS * 60_000;
        let mut answers = Vec::new();
        for claim in 0..1000 {
            let now = start + MS / 10 * claim;
            schedule.claimed(now);
            if schedule.due(now) {
                answers.push((now - start).as_millis());
            }
        }
        assert_eq!(answers, [0, 20, 40, 60, 80]);
        // The last claims of the storm are answered too.
        assert!(schedule.next().is_some_and(|next| schedule.due(next)));
        assert_eq!(schedule.next(), None);
    }

    proptest! {
        #[test]
        fn every_claim_is_followed_by_an_announcement_within_the_interval(
            steps in proptest::collection::vec((0..50_u32, any::<bool>()), 1..100),
        ) {
            let mut now = Duration::ZERO;
            let mut schedule = Schedule::start(now);
            let mut open: Option<Duration> = None;
            for (pause, claim) in steps {
                let until = now + MS * pause;
                while let Some(next) = schedule.next().filter(|next| *next <= until) {
                    prop_assert!(next >= now || schedule.clone().due(now));
                    now = now.max(next);
                    if schedule.due(now) && let Some(since) = open.take() {
                        prop_assert!(now - since <= CLAIM_INTERVAL);
                    }
                }
                now = until;
                if claim {
                    schedule.claimed(now);
                    open.get_or_insert(now);
                }
            }
        }
    }
}
