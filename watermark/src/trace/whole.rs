//! A copy of whole segments, as a CDN keeps them: all slices of a segment say one symbol.
//!
//! In: soft symbols of slices; which GOP a segment's symbol belongs to. Out: one soft symbol a segment, at `Position::whole`. Pure.
//!
//! The slices are added up by the inverse of their variances, as `Evidence` does with a position that is read twice. They
//! need not be independent: a variance that is too small makes a viewer's score worse, and an innocent's no more probable.

use super::finding::Read;
use crate::position::{GopId, WHOLE};
use std::collections::BTreeMap;

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
