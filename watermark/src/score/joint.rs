//! Colluders together: who else, beside those already held guilty, and which two where neither can be held alone.
//!
//! In: a `Scorer` and the top list of a search. Out: candidates with tail probabilities given the others' codewords. Pure.
//!
//! What one colluder had explains part of the copy; what remains speaks more clearly of the next. Given the copy and the
//! known codewords, an innocent's symbols are as random as before, so the same tails hold for the conditional weights.
//! A **pair** counts only as far as each of the two is improbable given the other: naming both is wrong as soon as one of
//! them is innocent, and then that one's conditional probability is an honest p-value.

use super::decoder::{DECODERS, UNITS_A_NAT};
use super::search::{Candidate, Scorer};
use super::tail::{Step, Tail};
use crate::codeword::WatermarkId;

/// Candidates that pairs are made of: the first of the top list.
const PAIRED: usize = 24;

/// Two viewers, and how improbable the less improbable of them is given the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pair {
    pub(super) ids: [WatermarkId; 2],
    pub(super) decoder: usize,
    pub(super) log10_p: f64,
}

/// Decoders that can have `known` colluders and one more.
pub(super) fn lanes_beyond(known: usize) -> impl Iterator<Item = usize> {
    (0..DECODERS.len()).filter(move |&lane| usize::from(DECODERS[lane].colluders) > known)
}

/// The most improbable of `candidates` as one more colluder beside the `known`.
pub(super) fn accomplice(
    scorer: &Scorer<'_>,
    known: &[WatermarkId],
    candidates: &[WatermarkId],
) -> Option<Candidate> {
    let known: Vec<Vec<bool>> = known.iter().map(|&id| scorer.symbols(id)).collect();
    let known: Vec<&[bool]> = known.iter().map(Vec::as_slice).collect();
    let symbols: Vec<Vec<bool>> = candidates.iter().map(|&id| scorer.symbols(id)).collect();
    let mut best: Option<Candidate> = None;
    for decoder in lanes_beyond(known.len()) {
        let steps = scorer.steps(decoder, &known);
        let tail = Tail::new(&steps);
        for (&id, symbols) in candidates.iter().zip(&symbols) {
            let log10_p = tail.log10_sharp(total(&steps, symbols));
            if best.is_none_or(|best| log10_p < best.log10_p) {
                best = Some(Candidate { id, decoder, log10_p });
            }
        }
    }
    best
}

/// The most improbable pair in the top list, where either scores at least `nats_min` beside the other. The bound for less
/// is not worked out: a score of S nats has a tail near e^−S, and with half of what is needed no pair would stand.
pub(super) fn pair(scorer: &Scorer<'_>, top: &[Candidate], nats_min: f64) -> Option<Pair> {
    let ids: Vec<WatermarkId> = top.iter().take(PAIRED).map(|candidate| candidate.id).collect();
    let symbols: Vec<Vec<bool>> = ids.iter().map(|&id| scorer.symbols(id)).collect();
    let mut best: Option<Pair> = None;
    for decoder in lanes_beyond(1) {
        // log10_p[j][k]: of k given j; 0, which always holds, where it is not worth working out.
        let given = |j: &Vec<bool>| {
            let steps = scorer.steps(decoder, &[j]);
            let totals: Vec<i32> = symbols.iter().map(|k| total(&steps, k)).collect();
            if totals.iter().all(|&units| f64::from(units) < nats_min * UNITS_A_NAT) {
                return vec![0.0; totals.len()];
            }
            let tail = Tail::chernoff(&steps);
            totals.into_iter().map(|units| tail.log10(units)).collect()
        };
        let log10_p: Vec<Vec<f64>> = symbols.iter().map(given).collect();
        for j in 0..ids.len() {
            for k in 0..j {
                let both = log10_p[j][k].max(log10_p[k][j]);
                if best.is_none_or(|best| both < best.log10_p) {
                    best = Some(Pair { ids: [ids[k], ids[j]], decoder, log10_p: both });
                }
            }
        }
    }
    best
}

/// A viewer's score.
pub(super) fn total(steps: &[Step], symbols: &[bool]) -> i32 {
    steps.iter().zip(symbols).map(|(step, &a)| if a { step.a } else { step.b }).sum()
}
