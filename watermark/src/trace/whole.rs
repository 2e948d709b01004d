//! A copy of whole segments, as a CDN keeps them: all slices of a segment say one symbol.
//!
//! In: soft symbols of slices; which GOP a segment's symbol belongs to. Out: one soft symbol a segment, at `Position::whole`; the
//! same where an edge would have chosen them, at `Position::chosen`. Pure.
//!
//! The slices are added up by the inverse of their variances, as `Evidence` does with a position that is read twice. They
//! need not be independent: a variance that is too small makes a viewer's score worse, and an innocent's no more probable.

use super::finding::Read;
use crate::keybook::KeyBook;
use crate::position::{GopId, Position, WHOLE};
use std::collections::{BTreeMap, BTreeSet};

/// One reading a segment. `first` gives the first marked GOP of the segment that a reading is from; readings of which that is
/// not known are left out.
pub fn whole(reads: &[Read], first: impl Fn(&Read) -> Option<GopId>) -> Vec<Read> {
    let mut segments = BTreeMap::<(GopId, u32, u32), Read>::new();
    for read in reads.iter().filter(|read| read.slice != WHOLE && read.variance > 0.0) {
        let Some(gop) = first(read) else { continue };
        let one = Read { gop, slice: WHOLE, ..read.clone() };
        let sum = segments.entry((gop, read.code_key, read.bias_key));
        sum.and_modify(|sum| {
            let (before, more) = (1.0 / sum.variance, 1.0 / read.variance);
            sum.soft = (sum.soft * before + read.soft * more) / (before + more);
            sum.variance = 1.0 / (before + more);
            sum.at_s = sum.at_s.min(read.at_s);
        })
        .or_insert(one);
    }
    let mut whole: Vec<Read> = segments.into_values().collect();
    for read in &mut whole {
        read.soft = super::finding::rounded(read.soft);
        read.variance = super::finding::rounded(read.variance).max(1e-6);
    }
    whole.sort_by(|one, other| one.at_s.total_cmp(&other.at_s).then(one.gop.cmp(&other.gop)));
    whole
}

/// The symbols of whole segments as those of a pattern that an edge chose by, once for each version of the keys that the pattern
/// may be of: a token is made under the keys of its day, and lives through a change. Those are the versions that the copy's own
/// records name, the one before and the one after, as far as they are in the book. Each is a reading of its own, to be paid for.
///
/// Segments a pattern's length apart have the same position: `Evidence` makes one reading of them.
pub fn chosen(whole: &[Read], keys: &KeyBook) -> Vec<Read> {
    let near = |read: &Read| read.code_key.saturating_sub(1)..=read.code_key.saturating_add(1);
    let versions: BTreeSet<u32> = whole.iter().flat_map(near).collect();
    let pairs = versions.into_iter().filter_map(|version| keys.keys(version, 0).ok());
    let of_pair = |(code, bias): (&crate::Key, &crate::Key)| {
        let (code_key, bias_key) = (code.version, bias.version);
        whole.iter().map(move |read| {
            let Position { gop, slice } = Position::chosen(read.segment);
            Read { gop, slice, code_key, bias_key, ..read.clone() }
        })
    };
    pairs.flat_map(of_pair).collect()
}
