//! The verdict: who may be named, with a false-positive probability for the whole procedure, or why nobody is.
//!
//! In: codebook, register, evidence, and what else was tried (`Tried`). Out: a `Report`. Pure.
//!
//! An accusation stands when the probability that this procedure, with everything it tries, ever names an innocent viewer
//! is below `LOG10_FP_MAX`. What is tried is paid for by a union bound:
//!
//! ```text
//! log10_fp = log10 P(an innocent scores this) + log10(hypotheses) + log10(alignments) + log10(π²k²/6) + share
//!
//! alone        hypotheses = viewers × 2 or 22 (decoder::price)      share = log10 2     half of the budget
//! beside       viewers × decoders with room × r(r+1), round r       share = log10 4     a quarter
//! pair         viewers·(viewers−1)/2 × decoders with room           share = log10 4     a quarter
//! ```
//!
//! Of what is for viewers alone the decoder for one has half and the eleven for more the other half: shares may be any that add
//! up to one, as long as they are settled before the copy is seen.
//!
//! Look k of a copy that is judged again as it grows may spend 6/(π²k²) of each part; those sum to 1 however many looks
//! follow. When looks are taken may depend on the copy, never on scores (`looks` gives a fair plan).

use super::decoder::{self, COLLUDERS_MAX, DECODERS, Decoder};
use super::evidence::Evidence;
use super::joint;
use super::need;
use super::presence::Presence;
use super::roll::Roll;
use super::search::{Candidate, Scorer};
use crate::codeword::{Codebook, WatermarkId};

/// Nobody is named unless log10 of the global false-positive probability is at most this.
pub const LOG10_FP_MAX: f64 = -6.0;

/// A growing copy is first looked at when it shows so many symbols for each bit that a name costs: fewer than one hardly
/// ever name anybody, and each look has its price.
const SYMBOLS_A_BIT: f64 = 1.4;
/// From one look to the next it shows more by this part.
const LOOK_PART: usize = 10;

/// What was tried beside what `judge` itself tries: the caller's hypotheses, to be paid for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// How many viewers could have been named: all of the register, also when only a part of it is passed. Fewer than the
    /// ids passed counts as that many.
    pub viewers: u64,
    /// How many readings of the copy (alignments, codebooks, pattern keys) are scored in search of a name, this one
    /// included. 0 counts as 1.
    pub alignments: u64,
    /// Which look at this copy this is, counted from 1. 0 counts as 1.
    pub look: u32,
}

/// What can be said about a copy.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// These viewers had it; the surest first, never empty.
    Identified {
        /// Who, and how sure.
        viewers: Vec<Accused>,
    },
    /// Nobody can be named.
    Insufficient {
        /// About so much more copy would be enough; `None` when more of the same would probably not help.
        needed_s: Option<f64>,
    },
    /// The copy carries no mark of this code.
    NotOurs,
}

/// A viewer who is named.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accused {
    /// Who.
    pub id: WatermarkId,
    /// log10 of the probability that this procedure would name an innocent viewer at this strength; all paid for.
    pub log10_fp: f64,
    /// log10 of the probability that one given innocent viewer scores this, in this one test.
    pub log10_p: f64,
    /// The model of collusion it was found under: a way of looking, not a finding about how they did it.
    pub decoder: Decoder,
    /// What the accusation stands on.
    pub basis: Basis,
}

/// What an accusation stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The viewer's own score.
    Alone,
    /// The score beside the viewers named before.
    Beside,
    /// Two who explain the copy together, each improbable given the other.
    Pair,
}

/// A verdict with what led to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What can be said.
    pub verdict: Verdict,
    /// Whether there is a mark at all.
    pub presence: Presence,
    /// Positions that were read.
    pub positions: usize,
    /// Length of the copy in seconds.
    pub seconds: f64,
    /// Ids that were scored.
    pub scored: u64,
}

/// Scores the register and gives the verdict. `threads` share the scoring; the outcome does not depend on them.
pub fn judge(
    codebook: &Codebook,
    ids: &[WatermarkId],
    evidence: &Evidence,
    tried: Tried,
    threads: usize,
) -> Report {
    judge_roll(&mut Roll::new(codebook, ids), evidence, tried, threads)
}

/// The same for a roll, which keeps what was drawn: for a copy that is judged again as it grows.
pub fn judge_roll(roll: &mut Roll, evidence: &Evidence, tried: Tried, threads: usize) -> Report {
    let codebook = roll.codebook().clone();
    let scorer = Scorer::new(&codebook, evidence);
    let ranking = scorer.rank(roll, threads);
    let price = Price::of(Tried { viewers: tried.viewers.max(ranking.scored), ..tried });
    let viewers = named(&scorer, &ranking.top, &price);
    let presence = Presence::of(scorer.readings());
    let verdict = if !viewers.is_empty() {
        Verdict::Identified { viewers }
    } else if presence.is_absent() {
        Verdict::NotOurs
    } else {
        let nats = |decoder| (price.alone(decoder) - LOG10_FP_MAX) * std::f64::consts::LN_10;
        Verdict::Insufficient { needed_s: need::more_seconds(&scorer, &ranking, evidence.seconds(), nats) }
    };
    Report {
        verdict,
        presence,
        positions: evidence.observations().len(),
        seconds: evidence.seconds(),
        scored: ranking.scored,
    }
}

/// When to look at a copy that grows: the number of each look and the length it is taken at. `starts_s` are when the GOPs
/// of its symbols begin, one a symbol, in any order; `viewers` is the size of the register. A look is taken where a GOP has
/// just ended. The plan depends on what can be read of the copy, never on what was read. The last look is at the whole copy.
pub fn looks(starts_s: impl IntoIterator<Item = f64>, seconds: f64, viewers: u64) -> Vec<(u32, f64)> {
    let mut starts: Vec<f64> = starts_s.into_iter().collect();
    starts.sort_by(f64::total_cmp);
    let price = Price::of(Tried { viewers, alignments: 1, look: 1 }).alone(0) - LOG10_FP_MAX;
    let mut due = (SYMBOLS_A_BIT * price / 2f64.log10()).ceil() as usize;
    let (mut plan, mut count) = (Vec::new(), 0);
    for gop in starts.chunk_by(|one, next| one == next) {
        count += gop.len();
        if let Some(&next) = starts.get(count)
            && count >= due
        {
            plan.push((plan.len() as u32 + 1, next));
            due = count + count / LOOK_PART;
        }
    }
    plan.push((plan.len() as u32 + 1, seconds));
    plan
}

/// log10 of what everything tried costs.
pub(super) struct Price {
    /// log10 of viewers.
    viewers: f64,
    /// log10 of pairs of viewers.
    pairs: f64,
    /// log10 of alignments × looks.
    common: f64,
}

impl Price {
    pub(super) fn of(tried: Tried) -> Price {
        let viewers = tried.viewers.max(1) as f64;
        let look = f64::from(tried.look.max(1));
        let of_looks = std::f64::consts::PI.powi(2) * look * look / 6.0;
        Price {
            viewers: viewers.log10(),
            pairs: (viewers * (viewers - 1.0) / 2.0).max(1.0).log10(),
            common: (tried.alignments.max(1) as f64 * of_looks).log10(),
        }
    }

    fn alone(&self, decoder: usize) -> f64 {
        self.viewers + decoder::price(decoder) + self.common + 2f64.log10()
    }

    fn beside(&self, known: usize, round: u32) -> f64 {
        let (lanes, round) = (joint::lanes_beyond(known).count() as f64, f64::from(round));
        self.viewers + (lanes * round * (round + 1.0)).log10() + self.common + 4f64.log10()
    }

    fn pair(&self) -> f64 {
        self.pairs + (joint::lanes_beyond(1).count() as f64).log10() + self.common + 4f64.log10()
    }
}

/// Everybody in the top list who may be named.
pub(super) fn named(scorer: &Scorer<'_>, top: &[Candidate], price: &Price) -> Vec<Accused> {
    let mut viewers = alone(scorer, top, price);
    if viewers.is_empty() {
        viewers = pair(scorer, top, price);
    }
    beside(scorer, top, price, &mut viewers);
    viewers
}

fn alone(scorer: &Scorer<'_>, top: &[Candidate], price: &Price) -> Vec<Accused> {
    let sharpened = top.iter().map(|candidate| {
        let score = scorer.score(candidate.id)[candidate.decoder];
        Candidate { log10_p: scorer.tail(candidate.decoder).log10_sharp(score), ..*candidate }
    });
    let mut named: Vec<Accused> = sharpened
        .filter_map(|candidate| accused(candidate, price.alone(candidate.decoder), Basis::Alone))
        .collect();
    named.sort_by(|x, y| x.log10_fp.total_cmp(&y.log10_fp).then(x.id.cmp(&y.id)));
    named
}

fn pair(scorer: &Scorer<'_>, top: &[Candidate], price: &Price) -> Vec<Accused> {
    let half_of_the_price = 0.5 * (price.pair() - LOG10_FP_MAX) * std::f64::consts::LN_10;
    let Some(found) = joint::pair(scorer, top, half_of_the_price) else { return Vec::new() };
    let name = |id| {
        let candidate = Candidate { id, decoder: found.decoder, log10_p: found.log10_p };
        accused(candidate, price.pair(), Basis::Pair)
    };
    found.ids.into_iter().filter_map(name).collect()
}

/// Names further colluders one by one, as long as one stands and a decoder has room.
fn beside(scorer: &Scorer<'_>, top: &[Candidate], price: &Price, named: &mut Vec<Accused>) {
    let mut round = 1;
    while !named.is_empty() && named.len() < usize::from(COLLUDERS_MAX) {
        let known: Vec<WatermarkId> = named.iter().map(|viewer| viewer.id).collect();
        let others = top.iter().map(|candidate| candidate.id).filter(|id| !known.contains(id));
        let others: Vec<WatermarkId> = others.collect();
        let next = joint::accomplice(scorer, &known, &others);
        let next = next.and_then(|next| accused(next, price.beside(known.len(), round), Basis::Beside));
        let Some(next) = next else { break };
        named.push(next);
        round += 1;
    }
}

fn accused(candidate: Candidate, price: f64, basis: Basis) -> Option<Accused> {
    let Candidate { id, decoder, log10_p } = candidate;
    let log10_fp = log10_p + price;
    (log10_fp <= LOG10_FP_MAX).then_some(Accused { id, log10_fp, log10_p, decoder: DECODERS[decoder], basis })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_tried_is_paid_for() {
        let one = Tried { viewers: 1_000_000, alignments: 1, look: 1 };
        let price = Price::of(one);
        // 1e6 viewers × 2 or 22 of decoders × π²/6 for the first of all looks × 2 for half the budget.
        assert_eq!(DECODERS[0].colluders, 1);
        for (decoder, of) in [(0, 2f64), (1, 22f64), (11, 22f64)] {
            let paid = 6.0 + of.log10() + 1.644_934f64.log10() + 2f64.log10();
            assert!((price.alone(decoder) - paid).abs() < 1e-6);
        }
        assert!((price.pair() - (499_999_500_000f64 * 11.0 * 1.644_934 * 4.0).log10()).abs() < 1e-6);
        let later = Price::of(Tried { look: 10, alignments: 7, ..one });
        assert!((later.alone(3) - price.alone(3) - 700f64.log10()).abs() < 1e-9);
        let none = Price::of(Tried { viewers: 0, alignments: 0, look: 0 });
        assert!(none.alone(0) > 0.0 && none.pair().is_finite());
    }

    /// The shares of all looks and decoders together, and of all rounds, are no more than the whole.
    #[test]
    fn shares_sum_to_no_more_than_one() {
        let share = |log10: f64| 10f64.powf(-log10);
        let of_look = |look| Price::of(Tried { viewers: 1, alignments: 1, look });
        let of_all =
            |price: Price| (0..DECODERS.len()).map(|decoder| share(price.alone(decoder))).sum::<f64>();
        let looks: f64 = (1..10_000).map(|look| of_all(of_look(look))).sum();
        assert!(looks <= 0.5 && looks > 0.499, "{looks}");
        let price = of_look(1);
        let lanes = joint::lanes_beyond(1).count() as f64;
        let rounds: f64 = (1..100).map(|round| share(price.beside(1, round)) * lanes).sum();
        assert!(rounds <= 0.25);
        assert!(share(price.pair()) * lanes <= 0.25);
    }

    #[test]
    fn looks_come_as_symbols_do_and_end_with_the_whole_copy() {
        let starts = |gops: u32, every_s: f64| {
            (0..gops).flat_map(move |gop| [f64::from(gop) * every_s; 8]).collect::<Vec<_>>()
        };
        let plan = looks(starts(13, 1.0), 13.0, 1_000_000);
        assert_eq!(plan, [(1, 8.0), (2, 9.0), (3, 10.0), (4, 11.0), (5, 12.0), (6, 13.0)]);
        let slow = looks(starts(13, 2.0), 26.0, 1_000_000);
        assert!(slow.iter().zip(&plan).all(|(slow, quick)| *slow == (quick.0, 2.0 * quick.1)));
        assert!(looks(starts(13, 1.0), 13.0, 10)[0].1 < 8.0, "a small register costs less");
        assert_eq!(looks([], 3.0, 100), [(1, 3.0)]);
        assert_eq!(looks(starts(5, 1.0), 5.0, 1_000_000), [(1, 5.0)]);
        assert!(looks(starts(7_200, 1.0), 7_200.0, 1_000_000).len() < 80);
    }
}
