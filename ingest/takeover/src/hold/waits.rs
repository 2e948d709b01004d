//! How long packets waited: count, mean, longest, quantiles. Pure.
//!
//! In: one time after the other. Out: figures. Times fall into classes, sixteen to an octave from 1 µs on, so that a quantile
//! is at most a sixteenth too long and noting costs an increment.

use std::time::Duration;

/// Classes to an octave.
const PARTS: usize = 16;
/// 24 octaves: up to 17 s.
const CLASSES: usize = 24 * PARTS;

/// Times, by class.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    sum: Duration,
    longest: Duration,
    count: u64,
    classes: [u64; CLASSES],
}

impl Default for Waits {
    fn default() -> Self {
        Self { sum: Duration::ZERO, longest: Duration::ZERO, count: 0, classes: [0; CLASSES] }
    }
}

impl Waits {
    /// Another packet waited this long.
    pub fn note(&mut self, time: Duration) {
        self.sum += time;
        self.longest = self.longest.max(time);
        self.count += 1;
        self.classes[class(time)] += 1;
    }

    /// How many waited.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The mean.
    pub fn mean(&self) -> Duration {
        self.sum.checked_div(u32::try_from(self.count).unwrap_or(u32::MAX)).unwrap_or_default()
    }

    /// The longest.
    pub fn longest(&self) -> Duration {
        self.longest
    }

    /// So long or shorter waited this share of all, from 0 to 1: the end of the class in which it falls.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut below = 0;
        for (class, count) in self.classes.iter().enumerate() {
            below += count;
            if below >= wanted && below > 0 {
                return end(class).min(self.longest);
            }
        }
        self.longest
    }
}

/// Octave and sixteenth of it; what is below 1.024 µs counts as that.
fn class(time: Duration) -> usize {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1024);
    let octave = nanos.ilog2() as usize - 10;
    let part = (nanos >> (octave + 6)) as usize % PARTS;
    (octave * PARTS + part).min(CLASSES - 1)
}

/// Where a class ends.
fn end(class: usize) -> Duration {
    Duration::from_nanos(((PARTS + class % PARTS + 1) as u64) << (class / PARTS + 6))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_class_that_ends_behind_it() {
        for nanos in (1_024..2_000_000_u64).step_by(997).chain([u64::from(u32::MAX), 16_000_000_000]) {
            let (time, class) = (Duration::from_nanos(nanos), class(Duration::from_nanos(nanos)));
            assert!(time < end(class) && end(class) <= time * 17 / 16 + Duration::from_nanos(1), "{time:?}");
        }
        assert_eq!((class(Duration::ZERO), class(Duration::MAX)), (0, CLASSES - 1));
    }

    #[test]
    fn quantiles_are_of_all_that_waited() {
        let mut waits = Waits::default();
        assert_eq!((waits.quantile(0.5), waits.mean()), (Duration::ZERO, Duration::ZERO));
        (1..=100).for_each(|ms| waits.note(Duration::from_millis(ms)));
        let (half, most) = (waits.quantile(0.5), waits.quantile(0.99));
        assert!(
            (50..=53).contains(&half.as_millis()) && (99..=100).contains(&most.as_millis()),
            "{half:?} {most:?}"
        );
        assert_eq!((waits.count(), waits.mean()), (100, Duration::from_micros(50_500)));
        assert_eq!(
            (waits.longest(), waits.quantile(1.0)),
            (Duration::from_millis(100), Duration::from_millis(100))
        );
    }
}
