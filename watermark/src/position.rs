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

impl Position {
    /// Where the one symbol of a segment stands that is A or B as a whole: at the first marked GOP that starts in it.
    pub fn whole(gop: GopId) -> Position {
        Position { gop, slice: WHOLE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_changes_the_id() {
        let id = GopId::derive("demo", b"run-0001", 180_000);
        assert_eq!(id, GopId::derive("demo", b"run-0001", 180_000));
        assert_ne!(id, GopId::derive("demp", b"run-0001", 180_000));
        assert_ne!(id, GopId::derive("demo", b"run-0002", 180_000));
        assert_ne!(id, GopId::derive("demo", b"run-0001", 180_001));
    }
}
