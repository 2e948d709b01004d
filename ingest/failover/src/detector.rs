//! Is the peer dead? Silence counts only while we were listening.
//!
//! Picture: you listen at a wall for a neighbour's clock. If you nodded off for a minute you have not *heard silence* for a
//! minute. So silence is a sum: each time the shell has emptied its sockets and polled, the time since the last poll is
//! added, but never more than two beats of it. A clock that ticks while nothing moves behind it is a broken neighbour too.
//!
//! In: beats, polls. Out: a [`Verdict`]. Idle data plane: its `turns` go on. Bursty network: the dead time is twice the
//! gap that only one beat in a thousand exceeds, between the configured floor and ceiling. Pure.

use crate::config::Config;
use crate::gaps::Gaps;
use std::time::Duration;

/// What is to be thought of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Beats come and its data plane moves.
    Alive,
    /// Beats come, its data plane stands still.
    Hung,
    /// No beats for the dead time.
    Silent,
}

/// Watches one peer.
#[derive(Clone, Debug)]
pub struct Detector {
    grace: Duration,
    dead_min: Duration,
    dead_max: Duration,
    hung_after: Duration,
    /// Up to here time was counted.
    counted: Option<Duration>,
    /// Silence that was listened to.
    silent: Duration,
    turns: u64,
    turns_still: Duration,
    gaps: Gaps,
}

impl Detector {
    /// A detector that has heard nothing yet: its peer is silent.
    pub fn new(config: &Config) -> Detector {
        Detector {
            grace: config.beat_every * 2,
            dead_min: config.dead_min.max(config.beat_every * 4),
            dead_max: config.dead_max,
            hung_after: config.hung_after,
            counted: None,
            silent: config.dead_max,
            turns: 0,
            turns_still: Duration::ZERO,
            gaps: Gaps::new(),
        }
    }

    /// A beat that counts, with its data plane's turns.
    pub fn heard(&mut self, now: Duration, turns: u64) {
        let known = self.silent < self.dead_max;
        self.listen(now);
        if known {
            self.gaps.add(self.silent);
        }
        self.silent = Duration::ZERO;
        if turns != self.turns {
            self.turns = turns;
            self.turns_still = Duration::ZERO;
        }
    }

    /// The sockets were emptied and everything in them was `heard`.
    pub fn polled(&mut self, now: Duration) {
        self.listen(now);
    }

    /// The peer has started anew, or was given up: what it did before says nothing.
    pub fn restart(&mut self) {
        (self.silent, self.turns_still) = (self.dead_max, Duration::ZERO);
    }

    /// What is to be thought of the peer, as of the last poll.
    pub fn verdict(&self) -> Verdict {
        if self.silent >= self.dead_time() {
            Verdict::Silent
        } else if self.turns_still >= self.hung_after {
            Verdict::Hung
        } else {
            Verdict::Alive
        }
    }

    /// Silence longer than this is death. From measured jitter; for status pages too.
    pub fn dead_time(&self) -> Duration {
        (self.gaps.p999() * 2).clamp(self.dead_min, self.dead_max)
    }

    /// Adds the time since the last call, as far as it counts: being late is our own fault.
    fn listen(&mut self, now: Duration) {
        let passed = self.counted.map_or(Duration::ZERO, |last| now.saturating_sub(last).min(self.grace));
        self.silent = (self.silent + passed).min(self.dead_max);
        self.turns_still = (self.turns_still + passed).min(self.hung_after);
        self.counted = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeId, WitnessId};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn detector() -> Detector {
        Detector::new(&Config::of(NodeId(1), NodeId(2), vec![WitnessId(1)]))
    }

    #[test]
    fn silence_is_death_after_the_dead_time_and_not_before() {
        let mut detector = detector();
        assert_eq!(detector.verdict(), Verdict::Silent, "never heard");
        detector.polled(ms(0));
        detector.heard(ms(1), 1);
        detector.polled(ms(1));
        for at in (5..=35).step_by(5) {
            detector.polled(ms(at));
            assert_eq!(detector.verdict(), Verdict::Alive, "at {at} ms");
        }
        detector.polled(ms(36));
        assert_eq!(detector.verdict(), Verdict::Silent);
    }

    #[test]
    fn our_own_lateness_is_not_the_peers_death() {
        let mut detector = detector();
        detector.polled(ms(0));
        detector.heard(ms(0), 1);
        detector.polled(ms(0));
        detector.polled(ms(5_000));
        assert_eq!(detector.verdict(), Verdict::Alive, "we slept for 5 s and heard 10 ms of silence");
        detector.polled(ms(5_010));
        detector.polled(ms(5_020));
        assert_eq!(detector.verdict(), Verdict::Alive);
        detector.polled(ms(5_030));
        assert_eq!(detector.verdict(), Verdict::Silent);
    }

    #[test]
    fn jitter_raises_the_dead_time_and_the_ceiling_ends_it() {
        let mut detector = detector();
        let mut now = 0;
        detector.polled(ms(0));
        detector.heard(ms(0), 0);
        for beat in 1..500u64 {
            for _ in 0..12 {
                now += 5;
                detector.polled(ms(now));
            }
            detector.heard(ms(now), beat);
        }
        assert!(detector.dead_time() >= ms(120) && detector.dead_time() <= ms(130), "{detector:?}");
    }

    #[test]
    fn a_beating_node_with_a_standing_data_plane_is_hung() {
        let mut detector = detector();
        for at in (0..1_100).step_by(5) {
            detector.heard(ms(at), 7);
            detector.polled(ms(at));
        }
        assert_eq!(detector.verdict(), Verdict::Hung);
        detector.heard(ms(1_100), 8);
        assert_eq!(detector.verdict(), Verdict::Alive);
    }

    #[test]
    fn a_clock_that_steps_back_does_no_harm() {
        let mut detector = detector();
        detector.polled(ms(1_000));
        detector.heard(ms(1_000), 1);
        detector.polled(ms(10));
        assert_eq!(detector.verdict(), Verdict::Alive);
    }
}
