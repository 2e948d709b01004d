//! What a reading says for A and against B: log-likelihood weights under models of how viewers colluded.
//!
//! In: readings (soft value, variance, bias) of a copy. Out: for each decoder, a fitted `Channel` and two weights a
//! reading. Pure. Nothing here can make an accusation wrong: weights are made from the copy, the biases and the codewords
//! of viewers already held guilty, never from an innocent's symbols, and the false-positive bound holds for any weights.
//! They only decide how soon a guilty viewer is found.
//!
//! A decoder assumes `c` colluders and a strategy. Let z of the c have A at a position. Voting strategies put A in the
//! copy with probability θ(z); averaging puts the fraction z / c there. The reading is then normal around
//!
//! ```text
//! voting      +g with probability θ(z), else −g     interleave θ = z/c; majority; minority (marking assumption kept)
//! averaging   g · (2z/c − 1)
//! ```
//!
//! with the reader's variance times a noise factor, mixed with a thin uniform floor for readings that are plain wrong.
//! With L(s | z) that density, a viewer with symbol x at a position of bias p gets
//!
//! ```text
//! w(x) = ln  Σ_b Bin(c−1−k, p)(b) · L(s | a + x + b)  −  ln  P(s)          P(s) = p·(the sum for A) + (1−p)·(the sum for B)
//! ```
//!
//! where k colluders are known already and a of them have A (0 and 0 for a first search). For c = 1 that is a soft
//! matched filter, for interleaving and c > 1 the log-likelihood decoder of Laarhoven ("Capacities and capacity-achieving
//! decoders for various fingerprinting games", 2014), which is universal; with k > 0 it is the side-informed decoder of
//! Furon and Desoubeaux ("Tardos codes for real", 2014). Gain g and noise factor are fitted to the copy by largest
//! likelihood on a grid, since a re-encode shrinks the mark by an amount that nobody knows beforehand.

use super::tail::Step;

/// How colluders make one copy of theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Each slice is taken from one colluder at random; with one colluder, the plain copy.
    Interleave,
    /// The pictures are averaged.
    Average,
    /// The variant that most colluders have; a tie by lot.
    Majority,
    /// The variant that fewer colluders have, where they differ; a tie by lot.
    Minority,
}

/// A model of collusion to look with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decoder {
    /// How many colluders it assumes, 1 to `COLLUDERS_MAX`.
    pub colluders: u8,
    /// How they mix.
    pub strategy: Strategy,
}

/// Most colluders that a decoder assumes.
pub const COLLUDERS_MAX: u8 = 5;

/// All decoders; every one is tried on every viewer, and paid for.
pub const DECODERS: [Decoder; 12] = [
    Decoder { colluders: 1, strategy: Strategy::Interleave },
    Decoder { colluders: 2, strategy: Strategy::Interleave },
    Decoder { colluders: 3, strategy: Strategy::Interleave },
    Decoder { colluders: 4, strategy: Strategy::Interleave },
    Decoder { colluders: 5, strategy: Strategy::Interleave },
    Decoder { colluders: 2, strategy: Strategy::Average },
    Decoder { colluders: 3, strategy: Strategy::Average },
    Decoder { colluders: 4, strategy: Strategy::Average },
    Decoder { colluders: 5, strategy: Strategy::Average },
    Decoder { colluders: 3, strategy: Strategy::Majority },
    Decoder { colluders: 3, strategy: Strategy::Minority },
    Decoder { colluders: 4, strategy: Strategy::Minority },
];

/// log10 of what a decoder costs, by its index in `DECODERS`, where one viewer alone is looked for: its share of the budget, turned
/// over. Most leaks are one viewer's. What is for one has half, the others divide the other half.
pub(super) fn price(decoder: usize) -> f64 {
    if decoder == 0 { 2f64.log10() } else { (2.0 * (DECODERS.len() - 1) as f64).log10() }
}

/// Weights are whole numbers of this part of a nat, so that sums are exact and the tail can be counted out.
pub const UNITS_A_NAT: f64 = 64.0;

/// No single reading weighs more, in nats: one wrong reading must not bury a viewer, nor one lucky one name them.
const WEIGHT_NATS_MAX: f64 = 8.0;

/// Share of readings that may be plain wrong, anywhere in −1..1.
const WRONG: f64 = 0.02;

/// Gains that are tried: 0.5 is a mark that lost nothing, 0.13 the largest reading of an unmarked copy.
const GAINS: [f64; 13] = [0.05, 0.06, 0.073, 0.088, 0.107, 0.13, 0.157, 0.19, 0.23, 0.28, 0.34, 0.41, 0.5];

/// Factors on the reader's variance that are tried: readers believe in themselves too much rather than too little.
const NOISES: [f64; 4] = [0.7, 1.4, 2.8, 5.6];

/// Readings that a channel is fitted to, at most, evenly spread over the copy.
const FITTED_MAX: usize = 2_048;

/// One position of the copy as decoders see it.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// Fraction of A less one half, shrunk by what the copy went through.
    pub soft: f64,
    /// The reader's variance of it.
    pub variance: f64,
    /// Probability of A in a codeword there.
    pub bias: f64,
}

/// What the copy did to the mark, as fitted under one decoder.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Channel {
    /// A pure A reads +gain, a pure B −gain.
    pub gain: f64,
    /// Variances are the reader's times this.
    pub noise: f64,
}

impl Decoder {
    /// The most likely channel for these readings.
    pub fn fit(self, readings: &[Reading]) -> Channel {
        let stride = readings.len().div_ceil(FITTED_MAX).max(1);
        let mut best = (f64::NEG_INFINITY, Channel { gain: GAINS[0], noise: NOISES[0] });
        for noise in NOISES {
            for gain in GAINS {
                let channel = Channel { gain, noise };
                let likelihood: f64 = readings
                    .iter()
                    .step_by(stride)
                    .map(|reading| {
                        mix(self.colluders, reading.bias, &self.likelihoods(channel, reading)).ln()
                    })
                    .sum();
                if likelihood > best.0 {
                    best = (likelihood, channel);
                }
            }
        }
        best.1
    }

    /// The weights of A and of B at a reading, in nats, when `known` of the colluders are known and `known_a` of those
    /// have A there. Asks for `known_a <= known < colluders`.
    pub fn weights(self, channel: Channel, reading: &Reading, known: u8, known_a: u8) -> (f64, f64) {
        debug_assert!(known_a <= known && known < self.colluders);
        let likelihoods = self.likelihoods(channel, reading);
        let unknown = self.colluders - 1 - known;
        let of_a = mix(unknown, reading.bias, &likelihoods[usize::from(known_a) + 1..]);
        let of_b = mix(unknown, reading.bias, &likelihoods[usize::from(known_a)..]);
        let of_either = reading.bias * of_a + (1.0 - reading.bias) * of_b;
        let weigh = |of_one: f64| (of_one / of_either).ln().clamp(-WEIGHT_NATS_MAX, WEIGHT_NATS_MAX);
        (weigh(of_a), weigh(of_b))
    }

    /// The same in units, as one step of an innocent's score.
    pub fn step(self, channel: Channel, reading: &Reading, known: u8, known_a: u8) -> Step {
        let (a, b) = self.weights(channel, reading, known, known_a);
        let units = |nats: f64| (nats * UNITS_A_NAT).round() as i32;
        Step { a: units(a), b: units(b), bias: reading.bias }
    }

    /// L(s | z) for z from 0 to c; what lies beyond is 0.
    fn likelihoods(self, channel: Channel, reading: &Reading) -> [f64; 7] {
        let colluders = f64::from(self.colluders);
        let variance = reading.variance * channel.noise;
        let density = |mean: f64| {
            let off = reading.soft - mean;
            let normal = (-off * off / (2.0 * variance)).exp() / (std::f64::consts::TAU * variance).sqrt();
            (1.0 - WRONG) * normal + WRONG * 0.5
        };
        let mut of_z = [0.0; 7];
        let filled = (0..=self.colluders).zip(&mut of_z);
        if self.strategy == Strategy::Average {
            for (z, likelihood) in filled {
                *likelihood = density(channel.gain * (2.0 * f64::from(z) / colluders - 1.0));
            }
        } else {
            let (a, b) = (density(channel.gain), density(-channel.gain));
            for (z, likelihood) in filled {
                let theta = self.strategy.a_in_the_copy(z, self.colluders);
                *likelihood = theta * a + (1.0 - theta) * b;
            }
        }
        of_z
    }
}

impl Strategy {
    /// θ(z): the probability that a vote puts A in the copy when `z` of `c` colluders have A.
    fn a_in_the_copy(self, z: u8, c: u8) -> f64 {
        let most = match (2 * z).cmp(&c) {
            std::cmp::Ordering::Less => 0.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Greater => 1.0,
        };
        match self {
            Strategy::Interleave | Strategy::Average => f64::from(z) / f64::from(c),
            Strategy::Majority => most,
            // Where all agree they have nothing else to show.
            Strategy::Minority if z == 0 || z == c => most,
            Strategy::Minority => 1.0 - most,
        }
    }
}

/// Σ_b Bin(n, p)(b) · values[b], n at most 5.
fn mix(n: u8, p: f64, values: &[f64]) -> f64 {
    // Horner's way through the rows of Pascal's triangle: n times, replace neighbours by their mean.
    let mut row = [0.0; 7];
    row[..values.len()].copy_from_slice(values);
    for length in (1..=usize::from(n)).rev() {
        for b in 0..length {
            row[b] = (1.0 - p) * row[b] + p * row[b + 1];
        }
    }
    row[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Channel = Channel { gain: 0.4, noise: 1.0 };

    fn reading(soft: f64, bias: f64) -> Reading {
        Reading { soft, variance: 0.0025, bias }
    }

    #[test]
    fn a_mix_is_a_binomial_mean() {
        let values = [3.0, -1.0, 4.0, 1.0];
        let p: f64 = 0.3;
        let by_hand = 0.343 * 3.0 - 3.0 * p * 0.49 + 3.0 * 0.09 * 0.7 * 4.0 + 0.027;
        assert!((mix(3, p, &values) - by_hand).abs() < 1e-12);
        assert_eq!(mix(0, p, &values), 3.0);
    }

    /// With no noise to speak of: a clear A weighs ln(θ-mix / p), as in the published formula.
    #[test]
    fn interleaving_weights_are_laarhovens() {
        for (c, p) in [(1, 0.5), (2, 0.5), (3, 0.2113), (5, 0.7887)] {
            let decoder = Decoder { colluders: c, strategy: Strategy::Interleave };
            let (a, b) = decoder.weights(CLEAN, &reading(0.4, p), 0, 0);
            let c = f64::from(c);
            assert!((a - ((p + (1.0 - p) / c) / p).ln()).abs() < 0.02, "c {c}: {a}");
            let of_b: f64 = p * (1.0 - 1.0 / c);
            if of_b > 0.0 {
                assert!((b - (of_b / p).ln()).abs() < 0.02, "c {c}: {b}");
            } else {
                assert!(
                    (-WEIGHT_NATS_MAX..-4.0).contains(&b),
                    "a clear A is strong against B, but bounded: {b}"
                );
            }
        }
    }

    #[test]
    fn averaging_reads_the_fraction() {
        let decoder = Decoder { colluders: 2, strategy: Strategy::Average };
        let (a, b) = decoder.weights(CLEAN, &reading(0.0, 0.5), 0, 0);
        assert!(a.abs() < 0.02 && b.abs() < 0.02, "half and half says nothing of one: {a} {b}");
        let (a, b) = decoder.weights(CLEAN, &reading(0.0, 0.5), 1, 1);
        assert!(a < -3.0 && b > 0.6, "beside a known A it says B: {a} {b}");
    }

    /// Three by minority at p = ½: nothing; at the lower Nuida value: A speaks for A.
    #[test]
    fn minority_shows_at_biased_positions_only() {
        let decoder = Decoder { colluders: 3, strategy: Strategy::Minority };
        let (a, b) = decoder.weights(CLEAN, &reading(0.4, 0.5), 0, 0);
        assert!(a.abs() < 1e-9 && b.abs() < 1e-9);
        let (a, b) = decoder.weights(CLEAN, &reading(0.4, 0.2113), 0, 0);
        assert!(a > 0.4 && b < -0.1, "{a} {b}");
    }

    /// The innocent's mean likelihood ratio is 1 under every decoder: what makes e^−score a bound by itself.
    #[test]
    fn an_innocents_mean_ratio_is_one() {
        for decoder in DECODERS {
            for soft in [-0.9, -0.4, -0.05, 0.0, 0.2, 0.5, 40.0] {
                for p in [0.2113, 0.5, 0.7887] {
                    for known in 0..decoder.colluders {
                        let (a, b) = decoder.weights(CLEAN, &reading(soft, p), known, known / 2);
                        let mean = p * a.exp() + (1.0 - p) * b.exp();
                        assert!((mean - 1.0).abs() < 1e-3, "{decoder:?} {soft} {p}: {mean}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_fit_finds_the_channel() {
        let readings: Vec<_> = (0..400)
            .map(|n| reading(if n % 2 == 0 { 0.23 } else { -0.23 } + [0.05, -0.05][n / 2 % 2], 0.5))
            .collect();
        let fitted = DECODERS[0].fit(&readings);
        assert_eq!(fitted.gain, 0.23);
        assert!(fitted.noise <= 1.4, "{fitted:?}");
        assert_eq!(DECODERS[3].fit(&[]).gain, GAINS[0]);
    }
}
