//! Scores of every id in the register, under every decoder at once.
//!
//! In: a codebook, ids, an `Evidence`. Out: a `Ranking`: the best few by tail probability, the same however many threads
//! worked. Pure but for threads. Memory is the prepared evidence (some 60 weights' worth a position) and the top
//! list.
//!
//! The cost is the codebook's MACs, one for four slices, which a `Roll` makes once however often a growing copy is judged.
//! Those four symbols are one of 16 cases, and what each case adds under twelve decoders is worked out beforehand.

use super::decoder::{self, Channel, DECODERS, Reading, UNITS_A_NAT};
use super::evidence::Evidence;
use super::roll::{Block, Part, Roll};
use super::tail::{Step, Tail};
use crate::codeword::{Codebook, SLICES_A_BLOCK, Symbol, WatermarkId};
use crate::position::{GopId, Position};
use std::cmp::Ordering;
use std::ops::Range;

/// How many candidates a ranking keeps.
pub const TOP: usize = 64;

/// How many decoders there are.
const LANES: usize = DECODERS.len();

/// An id and its best tail probability, the price of the decoder considered: material for a verdict, not to be shown as one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Who.
    pub id: WatermarkId,
    /// Index in `DECODERS` of the decoder that says so.
    pub decoder: usize,
    /// log10 of the probability that one innocent viewer scores this much under that decoder. Nothing is paid for yet.
    pub log10_p: f64,
}

impl Candidate {
    /// log10 of the probability that an innocent viewer scores this much under any decoder.
    pub fn log10_of_all(&self) -> f64 {
        self.log10_p + decoder::price(self.decoder)
    }
}

/// The outcome of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// How many ids were scored.
    pub scored: u64,
    /// The best, least probable first; at most `TOP`.
    pub top: Vec<Candidate>,
    /// The highest score under each decoder, in nats; −∞ when no id was scored.
    pub best_nats: [f64; LANES],
}

/// Scores all ids against the evidence; see `Scorer`.
pub fn rank(codebook: &Codebook, ids: &[WatermarkId], evidence: &Evidence, threads: usize) -> Ranking {
    Scorer::new(codebook, evidence).rank(&mut Roll::new(codebook, ids), threads)
}

/// Evidence made ready for scoring: weights and tails of all decoders.
pub struct Scorer<'a> {
    codebook: &'a Codebook,
    gops: Vec<Gop>,
    /// Slice of each reading, in the order of `gops`.
    slices: Vec<u16>,
    readings: Vec<Reading>,
    channels: [Channel; LANES],
    /// What an id has before anything is added: B everywhere.
    base: [i32; LANES],
    /// What A adds to that at each reading.
    adds: Vec<[i32; LANES]>,
    /// The same for all slices of a block at once.
    blocks: Vec<BlockSums>,
    tails: Vec<Tail>,
}

/// What a block's symbols add to an id's scores.
struct BlockSums {
    block: Block,
    biases: [u64; SLICES_A_BLOCK],
    /// By the bits of the slices that have A.
    sums: [[i32; LANES]; 1 << SLICES_A_BLOCK],
}

/// The readings of one GOP.
struct Gop {
    gop: GopId,
    /// Slices to ask the codebook for: one more than the last that was read.
    slices: u16,
    readings: Range<usize>,
}

impl<'a> Scorer<'a> {
    /// Fits the channels, makes the weights and counts out the tails.
    pub fn new(codebook: &'a Codebook, evidence: &Evidence) -> Scorer<'a> {
        let observations = evidence.observations();
        let mut gops: Vec<Gop> = Vec::new();
        for (index, seen) in observations.iter().enumerate() {
            let slices = seen.position.slice.saturating_add(1);
            match gops.last_mut().filter(|last| last.gop == seen.position.gop) {
                Some(last) => (last.slices, last.readings.end) = (slices, index + 1),
                None => gops.push(Gop { gop: seen.position.gop, slices, readings: index..index + 1 }),
            }
        }
        let readings: Vec<Reading> = observations
            .iter()
            .map(|seen| Reading {
                soft: seen.soft,
                variance: seen.variance,
                bias: codebook.bias(seen.position) as f64 / 2f64.powi(64),
            })
            .collect();
        let mut scorer = Scorer {
            codebook,
            gops,
            slices: observations.iter().map(|seen| seen.position.slice).collect(),
            channels: fits(&readings),
            base: [0; LANES],
            adds: vec![[0; LANES]; readings.len()],
            blocks: Vec::new(),
            tails: Vec::with_capacity(LANES),
            readings,
        };
        for lane in 0..LANES {
            let steps = scorer.steps(lane, &[]);
            for (add, step) in scorer.adds.iter_mut().zip(&steps) {
                scorer.base[lane] += step.b;
                add[lane] = step.a - step.b;
            }
            scorer.tails.push(Tail::new(&steps));
        }
        scorer.blocks = block_sums(codebook, observations.iter().map(|seen| seen.position).zip(&scorer.adds));
        scorer
    }

    /// What each reading adds to a viewer's score under a decoder, beside colluders whose symbols are known.
    pub(super) fn steps(&self, lane: usize, known: &[&[bool]]) -> Vec<Step> {
        let (decoder, channel) = (DECODERS[lane], self.channels[lane]);
        let known_count = known.len() as u8;
        let step = |(index, reading)| {
            let known_a = known.iter().filter(|symbols| symbols[index]).count() as u8;
            decoder.step(channel, reading, known_count, known_a)
        };
        self.readings.iter().enumerate().map(step).collect()
    }

    /// Which readings an id has A at.
    pub fn symbols(&self, id: WatermarkId) -> Vec<bool> {
        let mut symbols = vec![false; self.readings.len()];
        self.each(id, |reading, a| symbols[reading] = a);
        symbols
    }

    /// An id's score under each decoder, in units of 1/64 nat.
    pub fn score(&self, id: WatermarkId) -> [i32; LANES] {
        let mut scores = self.base;
        self.each(id, |reading, a| {
            let mask = -i32::from(a);
            for (score, add) in scores.iter_mut().zip(&self.adds[reading]) {
                *score += add & mask;
            }
        });
        scores
    }

    /// Scores all ids of a roll, which must be of the same codebook, with as many threads as asked for.
    pub fn rank(&self, roll: &mut Roll, threads: usize) -> Ranking {
        let lists: Vec<Top> = roll.each(threads, |codebook, part| self.best_of(codebook, part));
        let mut all = Top::default();
        for list in lists {
            list.kept.into_iter().for_each(|candidate| all.offer(candidate));
            for (best, score) in all.best.iter_mut().zip(list.best) {
                *best = (*best).max(score);
            }
        }
        let nats =
            |score: i32| if score == i32::MIN { f64::NEG_INFINITY } else { f64::from(score) / UNITS_A_NAT };
        Ranking { scored: roll.len() as u64, top: all.kept, best_nats: all.best.map(nats) }
    }

    /// The tail of an innocent's score under a decoder.
    pub fn tail(&self, lane: usize) -> &Tail {
        &self.tails[lane]
    }

    /// The readings, in the order of positions.
    pub fn readings(&self) -> &[Reading] {
        &self.readings
    }

    /// What the copy did to the mark, as a decoder sees it.
    pub fn channel(&self, lane: usize) -> Channel {
        self.channels[lane]
    }

    fn best_of(&self, codebook: &Codebook, part: &mut Part) -> Top {
        let mut top = Top::default();
        let mut all = vec![self.base; part.ids.len()];
        for BlockSums { block, biases, sums } in &self.blocks {
            for (scores, &symbols) in all.iter_mut().zip(part.symbols(codebook, *block, biases)) {
                let sums = &sums[usize::from(symbols) % sums.len()];
                scores.iter_mut().zip(sums).for_each(|(score, add)| *score += add);
            }
        }
        for (&id, scores) in part.ids.iter().zip(&all) {
            let mut least = Candidate { id, decoder: 0, log10_p: f64::INFINITY };
            for (decoder, &score) in scores.iter().enumerate() {
                top.best[decoder] = top.best[decoder].max(score);
                let here = Candidate { id, decoder, log10_p: self.tails[decoder].log10(score) };
                if here.log10_of_all() < least.log10_of_all() {
                    least = here;
                }
            }
            top.offer(least);
        }
        top
    }

    fn each(&self, id: WatermarkId, mut saw: impl FnMut(usize, bool)) {
        for gop in &self.gops {
            let mut readings = gop.readings.clone();
            for (slice, symbol) in (0..).zip(self.codebook.symbols(id, gop.gop, gop.slices)) {
                if self.slices[readings.start] == slice {
                    saw(readings.start, symbol == Symbol::A);
                    readings.start += 1;
                    if readings.is_empty() {
                        break;
                    }
                }
            }
        }
    }
}

/// Groups readings, which are in order of their positions, by block.
fn block_sums<'a>(
    codebook: &Codebook,
    readings: impl Iterator<Item = (Position, &'a [i32; LANES])>,
) -> Vec<BlockSums> {
    let mut blocks: Vec<BlockSums> = Vec::new();
    for (position, add) in readings {
        let number = position.slice / SLICES_A_BLOCK as u16;
        let block = Block { gop: position.gop, number };
        if blocks.last().is_none_or(|last| last.block != block) {
            let biases = codebook.block_biases(position.gop, number);
            blocks.push(BlockSums { block, biases, sums: [[0; LANES]; 1 << SLICES_A_BLOCK] });
        }
        let Some(last) = blocks.last_mut() else { continue };
        let slice = usize::from(position.slice) % SLICES_A_BLOCK;
        for (_, sums) in last.sums.iter_mut().enumerate().filter(|(bits, _)| bits >> slice & 1 == 1) {
            sums.iter_mut().zip(add).for_each(|(sum, add)| *sum += add);
        }
    }
    blocks
}

/// The best candidates so far.
struct Top {
    kept: Vec<Candidate>,
    best: [i32; LANES],
}

impl Default for Top {
    fn default() -> Top {
        Top { kept: Vec::with_capacity(TOP), best: [i32::MIN; LANES] }
    }
}

impl Top {
    fn offer(&mut self, candidate: Candidate) {
        let order = |x: &Candidate, y: &Candidate| {
            x.log10_of_all().total_cmp(&y.log10_of_all()).then(x.id.cmp(&y.id))
        };
        let full = self.kept.len() == TOP;
        if full && self.kept.last().is_some_and(|last| order(last, &candidate) != Ordering::Greater) {
            return;
        }
        let at = self.kept.partition_point(|kept| order(kept, &candidate) == Ordering::Less);
        if full {
            self.kept.pop();
        }
        self.kept.insert(at, candidate);
    }
}

/// All decoders' channels. What interleavers show does not depend on how many they are: one fit is enough.
fn fits(readings: &[Reading]) -> [Channel; LANES] {
    let interleaved = DECODERS[0].fit(readings);
    DECODERS.map(
        |decoder| if decoder.strategy == DECODERS[0].strategy { interleaved } else { decoder.fit(readings) },
    )
}

#[cfg(test)]
mod tests {
    use super::super::evidence::Observation;
    use super::*;
    use crate::key::Key;
    use crate::position::Position;

    fn book() -> Codebook {
        Codebook::new(&Key::new(1, [1; 32]), &Key::new(1, [2; 32]))
    }

    /// Every second slice of every third GOP, as viewer 7 had it.
    fn evidence(book: &Codebook) -> Evidence {
        let seen = (0..30u8).step_by(3).flat_map(|gop| (1..8).step_by(2).map(move |slice| (gop, slice)));
        let seen = seen.map(|(gop, slice)| {
            let position = Position { gop: GopId([gop; 16]), slice };
            let soft = if book.symbol(WatermarkId(7), position) == Symbol::A { 0.3 } else { -0.3 };
            Observation { position, soft, variance: 0.01, at_s: f64::from(gop) }
        });
        Evidence::new(seen, 30.0).unwrap()
    }

    #[test]
    fn scores_are_sums_over_the_codebook() {
        let (book, evidence) = (book(), evidence(&book()));
        let scorer = Scorer::new(&book, &evidence);
        for id in (0..50).map(WatermarkId) {
            let symbols = scorer.symbols(id);
            for (seen, &a) in evidence.observations().iter().zip(&symbols) {
                assert_eq!(a, book.symbol(id, seen.position) == Symbol::A);
            }
            for lane in 0..LANES {
                let steps = scorer.steps(lane, &[]);
                let sum: i32 =
                    steps.iter().zip(&symbols).map(|(step, &a)| if a { step.a } else { step.b }).sum();
                assert_eq!(scorer.score(id)[lane], sum);
            }
        }
    }

    #[test]
    fn threads_and_order_change_nothing() {
        let (book, evidence) = (book(), evidence(&book()));
        let ids: Vec<_> = (0..1_000).map(WatermarkId).collect();
        let one = rank(&book, &ids, &evidence, 1);
        assert_eq!(one.top[0].id, WatermarkId(7));
        assert_eq!((one.top.len(), one.scored), (TOP, 1_000));
        assert!(one.top.is_sorted_by(|x, y| x.log10_of_all() <= y.log10_of_all()));
        assert_eq!(one, rank(&book, &ids, &evidence, 3));
        assert_eq!(one, rank(&book, &ids, &evidence, 0));
        let backwards: Vec<_> = ids.iter().rev().copied().collect();
        assert_eq!(one, rank(&book, &backwards, &evidence, 2));
    }

    /// A roll that has judged the copy before, in parts and whole, ranks as a fresh one does.
    #[test]
    fn what_was_drawn_before_changes_nothing() {
        let (book, evidence) = (book(), evidence(&book()));
        let ids: Vec<_> = (0..5_000).map(WatermarkId).collect();
        let mut roll = Roll::new(&book, &ids);
        for seconds in [6.5, 30.0, 12.5, 30.0] {
            let so_far = evidence.until(seconds);
            let ranking = Scorer::new(&book, &so_far).rank(&mut roll, 2);
            assert_eq!(ranking, rank(&book, &ids, &so_far, 1), "{seconds} s");
            let scorer = Scorer::new(&book, &so_far);
            for candidate in &ranking.top {
                let score = scorer.score(candidate.id)[candidate.decoder];
                assert_eq!(candidate.log10_p, scorer.tail(candidate.decoder).log10(score));
            }
        }
    }

    #[test]
    fn nothing_read_and_nobody_registered_are_no_trouble() {
        let book = book();
        let nothing = Evidence::new([], 3.0).unwrap();
        let ranking = rank(&book, &[WatermarkId(1)], &nothing, 2);
        assert_eq!(ranking.top[0].log10_p, 0.0);
        assert!(rank(&book, &[], &evidence(&book), 2).top.is_empty());
    }
}
