//! What of a picture is protected: a range of each slice, and the map of subsamples that says so to a player.
//!
//! In: an access unit's length-prefixed NAL units, with the pairs among them. Out: ranges and (clear, protected) lengths.
//! Pure. The bytes are a publisher's: what does not parse as units is left clear, it is no picture either.

use super::{LEAD, SealError};
use ingest_api::Pair;
use std::ops::Range;

/// Subsamples of one sample: their description takes 2 bytes and 6 for each, and its length is said in one byte.
pub(super) const SUBSAMPLES_MAX: usize = (255 - 2) / 6;
/// Shorter ranges are not worth a subsample: no block fits.
const PROTECTED_MIN: usize = 16;

/// Bytes of one subsample: clear ones, then protected ones.
pub(super) type Subsample = (u16, u32);

/// The ranges of a sample that are encrypted, in order. `base`: where the sample begins in the object that pairs count in.
pub(super) fn protected(
    sample: &[u8],
    pairs: &[Pair],
    base: usize,
    length_size: usize,
) -> Result<Vec<Range<usize>>, SealError> {
    let (mut ranges, mut at, mut pairs) = (Vec::new(), 0, pairs.iter().peekable());
    while let Some(length) = unit_length(&sample[at..], length_size) {
        let (start, mut end) = (at + length_size, at + length_size + length);
        at = end;
        if let Some(pair) = pairs.peek().filter(|pair| base + end > pair.offset) {
            if base + start - length_size != pair.offset || base + end > base + sample.len() {
                return Err(SealError::Fragment("a slice pair does not begin with a slice"));
            }
            let b = unit_length(&pair.b, length_size).unwrap_or(0);
            end = end.min(start + b);
            at = pair.end() - base;
            pairs.next();
        }
        let slice = sample.get(start).is_some_and(|head| matches!(head & 0x1f, 1..=5));
        if slice && end >= start + LEAD + PROTECTED_MIN {
            ranges.push(start + LEAD..end);
        }
    }
    match pairs.next() {
        None => Ok(ranges),
        Some(_) => Err(SealError::Fragment("a slice pair is not among the units")),
    }
}

/// The length of the unit that begins here; `None` where none does, or it is not all there.
fn unit_length(bytes: &[u8], length_size: usize) -> Option<usize> {
    let prefix = bytes.get(..length_size)?;
    let length = prefix.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    (length > 0 && length <= bytes.len() - length_size).then_some(length)
}

/// The map of a sample of this size.
pub(super) fn subsamples(size: usize, protected: &[Range<usize>]) -> Result<Vec<Subsample>, SealError> {
    let mut map = Vec::with_capacity(protected.len() + 1);
    let mut at = 0;
    for range in protected {
        push(&mut map, range.start - at, range.len());
        at = range.end;
    }
    if at < size {
        push(&mut map, size - at, 0);
    }
    if map.len() <= SUBSAMPLES_MAX { Ok(map) } else { Err(SealError::Subsamples { needed: map.len() }) }
}

/// A long clear run takes several.
fn push(map: &mut Vec<Subsample>, mut clear: usize, protected: usize) {
    while clear > usize::from(u16::MAX) {
        map.push((u16::MAX, 0));
        clear -= usize::from(u16::MAX);
    }
    map.push((clear as u16, protected as u32)); // samples are at most OBJECT_BYTES_MAX
}
