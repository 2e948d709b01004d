//! A register made ready for scoring: what was drawn of its codewords is kept, so that judging a growing copy again costs
//! only what is new in it.
//!
//! In: a codebook and ids, then the blocks of slices that a copy shows. Out: for each id, who has A in a block, as bits.
//! Pure but for threads. Holds a byte a block and id, of at most `BLOCKS_KEPT` blocks: a quarter of a gigabyte for
//! a million ids; what a longer copy shows beyond is drawn each time.

use crate::codeword::{Codebook, SLICES_A_BLOCK, WatermarkId};
use crate::position::GopId;
use crate::threads;
use std::collections::BTreeMap;

/// Blocks that are kept: two minutes of a copy at a GOP a second and eight slices.
const BLOCKS_KEPT: usize = 256;
/// Ids that are scored together: their scores stay in the processor's near memory.
const TOGETHER: usize = 2_048;

/// Slices of a GOP whose symbols come from one MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// The GOP.
    pub gop: GopId,
    /// Which of its blocks; the first has the slices from 0 on.
    pub number: u16,
}

/// Ids and what was drawn for them.
pub struct Roll {
    codebook: Codebook,
    count: usize,
    parts: Vec<Part>,
}

/// Ids that are scored together.
pub(super) struct Part {
    pub(super) ids: Vec<WatermarkId>,
    drawn: BTreeMap<Block, Vec<u8>>,
    passing: Vec<u8>,
}

impl Roll {
    /// Of these ids, under that codebook. Nothing is drawn yet.
    pub fn new(codebook: &Codebook, ids: &[WatermarkId]) -> Roll {
        let part =
            |ids: &[WatermarkId]| Part { ids: ids.to_vec(), drawn: BTreeMap::new(), passing: Vec::new() };
        Roll { codebook: codebook.clone(), count: ids.len(), parts: ids.chunks(TOGETHER).map(part).collect() }
    }

    /// The codebook that its codewords are drawn from.
    pub fn codebook(&self) -> &Codebook {
        &self.codebook
    }

    /// How many ids it has.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Goes through all parts with as many threads as asked for; gives what came of each, in their order.
    pub(super) fn each<T: Send>(
        &mut self,
        threads: usize,
        work: impl Fn(&Codebook, &mut Part) -> T + Sync,
    ) -> Vec<T> {
        let codebook = &self.codebook;
        threads::each(self.parts.iter_mut(), threads, |part| work(codebook, part))
    }
}

impl Part {
    /// For each id, in which slices of a block it has A: bit s for slice s of the block.
    pub(super) fn symbols(
        &mut self,
        codebook: &Codebook,
        block: Block,
        biases: &[u64; SLICES_A_BLOCK],
    ) -> &[u8] {
        let draw = |ids: &[WatermarkId]| -> Vec<u8> {
            ids.iter().map(|&id| codebook.block(id, block.gop, block.number, biases)).collect()
        };
        if self.drawn.len() >= BLOCKS_KEPT && !self.drawn.contains_key(&block) {
            self.passing = draw(&self.ids);
            return &self.passing;
        }
        let ids = &self.ids;
        self.drawn.entry(block).or_insert_with(|| draw(ids))
    }
}
