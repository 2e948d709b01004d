//! Whether a copy carries a mark of ours at all, whoever watched it.
//!
//! In: readings. Out: a `Presence`. Pure. This decides between "not ours" and "not enough" and nothing else: it rests on
//! the reader's variances, so no accusation may lean on it.
//!
//! Two signs of a mark, either of which keeps a copy from being called not ours:
//!
//! ```text
//! energy   g² = Σ (s² − v)/v² / Σ 1/v²      0 in expectation where there is no mark, gain² where there is
//! bias     z  = Σ s(2p−1)/v / √Σ (s(2p−1)/v)²   standard normal unless readings follow the secret biases
//! ```
//!
//! The biases are secret, so nothing but our code correlates with them, and it does so for one viewer as for hundreds
//! mixed together.

use super::decoder::Reading;

/// A copy whose gain is surely below this carries no mark of use: a sixth of what an untouched mark reads (0.5).
pub const GAIN_MIN: f64 = 0.08;

/// How sure: standard deviations, 99 % on one side.
const SURE: f64 = 2.33;

/// A bias correlation from here on is a sign of our code (one in 740 by chance).
const BIAS_Z_MIN: f64 = 3.0;

/// What the readings say about a mark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Presence {
    /// Estimated gain: root mean square of the mark in the soft values, 0 to 0.5.
    pub gain: f64,
    /// The gain is below this with 99 %; +∞ without readings.
    pub gain_max: f64,
    /// How readings follow the secret biases, in standard deviations.
    pub bias_z: f64,
}

impl Presence {
    /// Looks for both signs.
    pub fn of(readings: &[Reading]) -> Presence {
        let (mut weight, mut energy, mut noise, mut slope) = (0.0, 0.0, 0.0, 0.0);
        let (mut along, mut along_squares) = (0.0, 0.0);
        for reading in readings {
            let (s, v) = (reading.soft, reading.variance);
            weight += 1.0 / (v * v);
            energy += (s * s - v) / (v * v);
            noise += 2.0 / (v * v);
            slope += 4.0 / (v * v * v);
            let product = s * (2.0 * reading.bias - 1.0) / v;
            along += product;
            along_squares += product * product;
        }
        if weight == 0.0 {
            return Presence { gain: 0.0, gain_max: f64::INFINITY, bias_z: 0.0 };
        }
        let gain_squared = (energy / weight).max(0.0);
        let deviation = (noise + slope * gain_squared).sqrt() / weight;
        let bias_z = if along_squares > 0.0 { along / along_squares.sqrt() } else { 0.0 };
        Presence { gain: gain_squared.sqrt(), gain_max: (gain_squared + SURE * deviation).sqrt(), bias_z }
    }

    /// Whether the copy can be called not ours: surely too little energy, and no trace of the biases.
    pub fn is_absent(&self) -> bool {
        self.gain_max < GAIN_MIN && self.bias_z < BIAS_Z_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Random;
    use super::*;

    const BIASES: [f64; 4] = [0.5, 0.5, 0.211, 0.789];

    fn readings(
        random: &mut Random,
        count: usize,
        sd: f64,
        mark: impl Fn(f64, &mut Random) -> f64,
    ) -> Vec<Reading> {
        let reading = |n: usize| {
            let bias = BIASES[n % 4];
            Reading { soft: mark(bias, random) + sd * random.normal(), variance: sd * sd, bias }
        };
        (0..count).map(reading).collect()
    }

    #[test]
    fn noise_is_absent_once_there_is_enough_of_it() {
        let mut random = Random::new(1);
        assert!(!Presence::of(&[]).is_absent());
        assert!(
            !Presence::of(&readings(&mut random, 4, 0.1, |_, _| 0.0)).is_absent(),
            "four readings are no proof"
        );
        let absent =
            (0..200).filter(|_| Presence::of(&readings(&mut random, 160, 0.1, |_, _| 0.0)).is_absent());
        assert!(absent.count() > 190);
    }

    #[test]
    fn a_weak_mark_of_one_or_of_a_hundred_is_not_absent() {
        let mut random = Random::new(2);
        let one = |bias: f64, random: &mut Random| if random.chance(bias) { 0.15 } else { -0.15 };
        let hundred = |bias: f64, _: &mut Random| 0.15 * (2.0 * bias - 1.0);
        for _ in 0..200 {
            assert!(!Presence::of(&readings(&mut random, 160, 0.1, one)).is_absent());
            let averaged = Presence::of(&readings(&mut random, 800, 0.1, hundred));
            assert!(!averaged.is_absent() && averaged.bias_z > 5.0, "{averaged:?}");
        }
    }

    #[test]
    fn the_gain_is_estimated() {
        let mut random = Random::new(3);
        let mark = |bias: f64, random: &mut Random| if random.chance(bias) { 0.3 } else { -0.3 };
        let presence = Presence::of(&readings(&mut random, 800, 0.1, mark));
        assert!((presence.gain - 0.3).abs() < 0.02, "{presence:?}");
    }
}
