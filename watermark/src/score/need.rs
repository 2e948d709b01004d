//! How much more of a copy would probably be enough.
//!
//! In: a `Scorer`, its `Ranking`, the length of the copy and each decoder's price in nats. Out: seconds, or nothing when more of the
//! same would not help. Pure. An estimate for people; no accusation leans on it.
//!
//! Under a decoder's own model a colluder gains Σ p·e^w(A)·w(A) + (1−p)·e^w(B)·w(B) nats over the copy, with a variance to
//! match. From the rate follows when nine in ten colluders are over the price. A decoder whose colluders would by now
//! stand three standard deviations above the best score seen is out of the question: nobody like that is registered.

use super::decoder::DECODERS;
use super::search::{Ranking, Scorer};

/// Nine in ten, in standard deviations.
const LIKELY: f64 = 1.28;

/// Out of the question, in standard deviations.
const REFUTED: f64 = 3.0;

/// No estimate goes beyond a day of copy: there is then no evidence to speak of.
const SECONDS_MAX: f64 = 86_400.0;

/// Seconds of copy still needed, at least 1, by the easiest decoder that is not refuted.
pub(super) fn more_seconds(
    scorer: &Scorer<'_>,
    ranking: &Ranking,
    seconds: f64,
    price_nats: impl Fn(usize) -> f64,
) -> Option<f64> {
    if seconds <= 0.0 {
        return None;
    }
    let mut least: Option<f64> = None;
    for lane in 0..DECODERS.len() {
        let (mean, variance) = expected(scorer, lane);
        if mean - REFUTED * variance.sqrt() > ranking.best_nats[lane] {
            continue;
        }
        let (rate, spread) = (mean / seconds, (variance / seconds).sqrt());
        // An exact tail is better than e^−score by about the height of a normal density at its end.
        let bonus = (0.5 * (std::f64::consts::TAU * variance).ln()).max(0.0);
        let price = (price_nats(lane) - bonus).max(0.0);
        // rate·T − LIKELY·spread·√T = price, solved for √T.
        let root = (LIKELY * spread + (LIKELY * LIKELY * spread * spread + 4.0 * rate * price).sqrt())
            / (2.0 * rate);
        let more = (root * root - seconds).max(1.0);
        if more <= SECONDS_MAX {
            least = Some(least.map_or(more, |least| least.min(more)));
        }
    }
    least
}

/// Mean and variance of a colluder's score under a decoder's own model, in nats.
fn expected(scorer: &Scorer<'_>, lane: usize) -> (f64, f64) {
    let (mut mean, mut variance) = (0.0, 0.0);
    for reading in scorer.readings() {
        let (a, b) = DECODERS[lane].weights(scorer.channel(lane), reading, 0, 0);
        let (of_a, of_b) = (reading.bias * a.exp(), (1.0 - reading.bias) * b.exp());
        let here = of_a * a + of_b * b;
        mean += here;
        variance += of_a * a * a + of_b * b * b - here * here;
    }
    (mean, variance.max(0.0))
}
