//! Gaps between beats: the last 2,048 of them in a histogram, to read off what is rare.

use std::time::Duration;

/// How many gaps are remembered: ten seconds of beats at 5 ms.
const WINDOW: usize = 2048;
/// Width of a step, ms, and how many there are: up to 512 ms, more counts as that.
const STEP_MS: u64 = 2;
const STEPS: usize = 256;

#[derive(Clone, Debug)]
pub(crate) struct Gaps {
    ring: Vec<u8>,
    next: usize,
    counts: [u16; STEPS],
}

impl Gaps {
    pub(crate) fn new() -> Gaps {
        Gaps { ring: Vec::new(), next: 0, counts: [0; STEPS] }
    }

    pub(crate) fn add(&mut self, gap: Duration) {
        let step = u8::try_from(gap.as_millis() / u128::from(STEP_MS)).unwrap_or(u8::MAX);
        if self.ring.len() < WINDOW {
            self.ring.push(step);
        } else {
            let old = std::mem::replace(&mut self.ring[self.next], step);
            self.counts[usize::from(old)] -= 1;
            self.next = (self.next + 1) % WINDOW;
        }
        self.counts[usize::from(step)] += 1;
    }

    /// The gap that all but one in a thousand stay below, rounded up; zero before the first.
    pub(crate) fn p999(&self) -> Duration {
        let mut rare = self.ring.len() / 1000;
        for (step, count) in (1u64..).zip(&self.counts).collect::<Vec<_>>().into_iter().rev() {
            let count = usize::from(*count);
            if count > rare {
                return Duration::from_millis(step * STEP_MS);
            }
            rare -= count;
        }
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_a_thousand_is_left_out_and_old_gaps_go() {
        let mut gaps = Gaps::new();
        assert_eq!(gaps.p999(), Duration::ZERO);
        for _ in 0..1500 {
            gaps.add(Duration::from_millis(5));
        }
        gaps.add(Duration::from_millis(90));
        assert_eq!(gaps.p999(), Duration::from_millis(6));
        gaps.add(Duration::from_secs(9));
        assert_eq!(gaps.p999(), Duration::from_millis(92));
        for _ in 0..2048 {
            gaps.add(Duration::from_millis(1));
        }
        assert_eq!(gaps.p999(), Duration::from_millis(2));
    }
}
