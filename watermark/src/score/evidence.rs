//! What a reader saw in a copy: one soft symbol a position, with its variance and its time in the copy.
//!
//! In: observations in any order, from a reader that may be wrong and a copy that is hostile. Out: an `Evidence` in which
//! every number is finite and every position stands once, or an `EvidenceError` that names the observation. Pure.
//!
//! Each position must stand once because the false-positive bound multiplies over positions: an innocent's symbol at a
//! position is drawn once, however often a looping copy shows it.

use crate::position::Position;
use thiserror::Error;

/// Most observations that are taken: two hours at 8 a second. It bounds memory, and scores so that they fit 32 bits.
pub const OBSERVATIONS_MAX: usize = 1 << 16;

/// Largest soft value that is taken, either way. A least-squares reader overshoots ±0.5 in slices it hardly sees.
pub const SOFT_MAX: f64 = 1_000.0;

/// Variances below are raised to this: nobody reads a re-encoded slice to better than ±0.01.
pub const VARIANCE_MIN: f64 = 1e-4;

/// Observations with a larger variance say nothing: they are erasures, and left out.
pub const VARIANCE_MAX: f64 = 1e4;

/// What was read at one position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Where.
    pub position: Position,
    /// Fraction of A less one half: +0.5 is A, −0.5 is B, 0 nothing or half and half. A re-encode shrinks it.
    pub soft: f64,
    /// Variance of `soft`, by the reader's own estimate; +∞ for an erasure.
    pub variance: f64,
    /// When the position's GOP begins, in seconds from the start of the copy.
    pub at_s: f64,
}

/// Observations fit to be scored: finite, and sorted by position with none twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    observations: Vec<Observation>,
    seconds: f64,
}

impl Evidence {
    /// Checks and sorts. Erasures are dropped; a position read more than once becomes one observation, the mean by
    /// inverse variance, at its earliest time. `seconds` is how long the copy is.
    ///
    /// # Errors
    /// Names the first observation whose numbers cannot be.
    pub fn new(
        observations: impl IntoIterator<Item = Observation>,
        seconds: f64,
    ) -> Result<Evidence, EvidenceError> {
        if !(seconds.is_finite() && seconds >= 0.0) {
            return Err(EvidenceError::Length { seconds });
        }
        let mut kept = Vec::new();
        for (index, mut seen) in observations.into_iter().enumerate() {
            if index == OBSERVATIONS_MAX {
                return Err(EvidenceError::TooMany);
            }
            if seen.soft.is_nan() || seen.soft.abs() > SOFT_MAX {
                return Err(EvidenceError::Soft { index, soft: seen.soft });
            }
            if seen.variance.is_nan() || seen.variance <= 0.0 {
                return Err(EvidenceError::Variance { index, variance: seen.variance });
            }
            if !(0.0..=seconds).contains(&seen.at_s) {
                return Err(EvidenceError::Time { index, at_s: seen.at_s, seconds });
            }
            if seen.variance <= VARIANCE_MAX {
                seen.variance = seen.variance.max(VARIANCE_MIN);
                kept.push(seen);
            }
        }
        // By value too, so that the mean of equal positions does not depend on the order they came in.
        kept.sort_by(|x: &Observation, y| {
            let by_value = || x.soft.total_cmp(&y.soft).then(x.variance.total_cmp(&y.variance));
            x.position.cmp(&y.position).then_with(by_value)
        });
        kept.dedup_by(|next, kept| {
            let same = next.position == kept.position;
            if same {
                let (mine, theirs) = (1.0 / kept.variance, 1.0 / next.variance);
                kept.soft = (kept.soft * mine + next.soft * theirs) / (mine + theirs);
                kept.variance = (1.0 / (mine + theirs)).max(VARIANCE_MIN);
                kept.at_s = kept.at_s.min(next.at_s);
            }
            same
        });
        Ok(Evidence { observations: kept, seconds })
    }

    /// Sorted by position, each position once.
    pub fn observations(&self) -> &[Observation] {
        &self.observations
    }

    /// Length of the copy.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// What was there after the first `seconds` of the copy: what a look at that time may use.
    pub fn until(&self, seconds: f64) -> Evidence {
        let seconds = if seconds >= 0.0 { seconds.min(self.seconds) } else { 0.0 };
        let observations = self.observations.iter().filter(|seen| seen.at_s < seconds).copied().collect();
        Evidence { observations, seconds }
    }
}

/// Why observations are not evidence. `index` counts from 0 in the order given.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum EvidenceError {
    /// NaN, or absurd.
    #[error("observation {index}: soft value {soft} is not between -{SOFT_MAX} and {SOFT_MAX}")]
    Soft {
        /// Which.
        index: usize,
        /// What it said.
        soft: f64,
    },
    /// NaN, zero or negative.
    #[error("observation {index}: variance {variance} is not above 0; use infinity for an erasure")]
    Variance {
        /// Which.
        index: usize,
        /// What it said.
        variance: f64,
    },
    /// Outside the copy.
    #[error("observation {index}: time {at_s} s is outside the copy of {seconds} s")]
    Time {
        /// Which.
        index: usize,
        /// What it said.
        at_s: f64,
        /// Length of the copy.
        seconds: f64,
    },
    /// No length of time.
    #[error("a copy cannot last {seconds} s")]
    Length {
        /// What was given.
        seconds: f64,
    },
    /// More than are taken.
    #[error("more than {OBSERVATIONS_MAX} observations; score a part of the copy")]
    TooMany,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::GopId;
    use proptest::prelude::*;

    fn seen(slice: u16, soft: f64, variance: f64) -> Observation {
        Observation { position: Position { gop: GopId([1; 16]), slice }, soft, variance, at_s: 0.0 }
    }

    #[test]
    fn numbers_that_cannot_be_are_named() {
        let refuse = |bad: Observation| Evidence::new([seen(0, 0.1, 0.01), bad], 1.0).unwrap_err();
        for soft in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e9] {
            assert!(matches!(refuse(seen(1, soft, 0.01)), EvidenceError::Soft { index: 1, .. }));
        }
        for variance in [f64::NAN, 0.0, -1.0, f64::NEG_INFINITY] {
            assert!(matches!(refuse(seen(1, 0.0, variance)), EvidenceError::Variance { index: 1, .. }));
        }
        for at_s in [f64::NAN, -0.1, 1.1, f64::INFINITY] {
            let late = Observation { at_s, ..seen(1, 0.0, 0.01) };
            assert!(matches!(refuse(late), EvidenceError::Time { index: 1, .. }));
        }
        for seconds in [f64::NAN, -1.0, f64::INFINITY] {
            assert!(matches!(Evidence::new([], seconds), Err(EvidenceError::Length { .. })));
        }
        let many = (0..=OBSERVATIONS_MAX).map(|_| seen(0, 0.0, 0.01));
        assert_eq!(Evidence::new(many, 1.0), Err(EvidenceError::TooMany));
    }

    #[test]
    fn a_position_read_twice_counts_once() {
        let evidence =
            Evidence::new([seen(3, 0.4, 0.01), seen(2, 0.1, 0.01), seen(3, 0.1, 0.02)], 1.0).unwrap();
        let [one, two] = evidence.observations() else { panic!("{evidence:?}") };
        assert_eq!((one.position.slice, two.position.slice), (2, 3));
        assert!((two.soft - 0.3).abs() < 1e-12 && (two.variance - 0.02 / 3.0).abs() < 1e-12, "{two:?}");
    }

    #[test]
    fn erasures_are_left_out_and_a_look_sees_only_its_past() {
        let late = Observation { at_s: 5.0, ..seen(1, 0.4, 0.01) };
        let evidence = Evidence::new([seen(0, 0.4, 1e-9), late, seen(2, 0.4, f64::INFINITY)], 9.0).unwrap();
        assert_eq!(evidence.observations().len(), 2);
        assert_eq!(evidence.observations()[0].variance, VARIANCE_MIN);
        assert_eq!(evidence.until(5.0).observations(), &evidence.observations()[..1]);
        assert_eq!(evidence.until(f64::NAN).seconds(), 0.0);
        assert_eq!(evidence.until(60.0), evidence);
    }

    proptest! {
        #[test]
        fn whatever_is_taken_is_finite_sorted_and_without_doubles(
            raw in prop::collection::vec((0u16..6, any::<f64>(), any::<f64>(), any::<f64>()), 0..20),
            seconds: f64,
        ) {
            let raw = raw.into_iter().map(|(slice, soft, variance, at_s)| Observation { at_s, ..seen(slice, soft, variance) });
            if let Ok(evidence) = Evidence::new(raw, seconds) {
                for seen in evidence.observations() {
                    prop_assert!(seen.soft.is_finite() && seen.at_s.is_finite());
                    prop_assert!((VARIANCE_MIN..=VARIANCE_MAX).contains(&seen.variance));
                }
                prop_assert!(evidence.observations().is_sorted_by(|x, y| x.position < y.position));
            }
        }
    }
}
