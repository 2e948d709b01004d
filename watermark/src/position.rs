//! Where in a stream a mark symbol sits: the GOP and the slice within its IDR.
//!
//! In: stream, run, start tick. Out: a `GopId` that any node derives alike, and `Position`s made from it. Pure.

use ring::digest;

/// Names a GOP of a source, for ever: a hash of stream, run and the GOP's start tick on the primary video track.
///
/// Two nodes that see the same bytes derive the same id; renditions of one source share it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GopId(pub [u8; 16]);

impl GopId {
    /// SHA-256 over a domain label, the length-prefixed stream name, the run id and the start tick (90 kHz), cut to
    /// 16 bytes.
    pub fn derive(stream: &str, run: &[u8; 8], start_90k: i64) -> GopId {
        let mut hash = digest::Context::new(&digest::SHA256);
        hash.update(b"releve gop 1\0");
        hash.update(&(stream.len() as u64).to_be_bytes());
        hash.update(stream.as_bytes());
        hash.update(run);
        hash.update(&start_90k.to_be_bytes());
        let mut id = [0; 16];
        id.copy_from_slice(&hash.finish().as_ref()[..16]);
        GopId(id)
    }
}

impl std::fmt::Debug for GopId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GopId({})", hex::encode(self.0))
    }
}

/// What one symbol of a viewer's codeword belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The GOP whose IDR carries the symbol.
    pub gop: GopId,
    /// Slice of that IDR, counted from the top, from 0.
    pub slice: u16,
}

/// The slice of a position that stands for all slices of a segment at once: no picture has so many.
pub const WHOLE: u16 = 255;

/// Bits of the pattern that an edge goes by which chooses whole segments itself; they come round again. More than any number of
/// colluders was measured to need (1,272, `docs/score.md`), and few enough for a token that comes with each request.
pub const PATTERN_BITS: u16 = 2_048;
/// What the positions of such a pattern belong to in place of a GOP: no hash is like it.
const PATTERN: GopId = GopId(*b"releve edge 1\0\0\0");
/// The slice of the pattern's bit 0: beyond all slices of pictures, and beyond `WHOLE`.
const PATTERN_SLICE: u16 = WHOLE + 1;

impl Position {
    /// Where the one symbol of a segment stands that is A or B as a whole: at the first marked GOP that starts in it.
    pub fn whole(gop: GopId) -> Position {
        Position { gop, slice: WHOLE }
    }

    /// Which bit of a pattern says what an edge gives of a segment, 0 to `PATTERN_BITS` − 1: `position` of ETSI TS 104 002
    /// V1.1.1 §5.5.2.
    pub fn bit_of(segment: u64) -> u16 {
        (segment % u64::from(PATTERN_BITS)) as u16
    }

    /// Where the symbol of a segment stands that an edge chose by a viewer's pattern. Segments a pattern's length apart share
    /// one; so do all streams, so that a token leads to its viewer whatever is watched with it.
    pub fn chosen(segment: u64) -> Position {
        Position { gop: PATTERN, slice: PATTERN_SLICE + Position::bit_of(segment) }
    }

    /// Whether it belongs to a pattern, and to no GOP.
    pub fn is_of_pattern(self) -> bool {
        self.gop == PATTERN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_comes_round_and_meets_no_slice_of_a_picture() {
        let at = |segment| Position::chosen(segment);
        assert_eq!((at(0), at(2_047)), (at(2_048), at(u64::MAX)));
        let slices: std::collections::BTreeSet<u16> = (0..2_048).map(|segment| at(segment).slice).collect();
        assert_eq!((slices.len(), slices.first(), slices.last()), (2_048, Some(&256), Some(&2_303)));
        assert!(at(5).is_of_pattern());
        assert!(!Position::whole(GopId::derive("demo", b"run-0001", 0)).is_of_pattern());
    }

    #[test]
    fn every_field_changes_the_id() {
        let id = GopId::derive("demo", b"run-0001", 180_000);
        assert_eq!(id, GopId::derive("demo", b"run-0001", 180_000));
        assert_ne!(id, GopId::derive("demp", b"run-0001", 180_000));
        assert_ne!(id, GopId::derive("demo", b"run-0002", 180_000));
        assert_ne!(id, GopId::derive("demo", b"run-0001", 180_001));
    }
}
