//! A log of bytes between two offsets: appended at its end, trimmed at its start.
//!
//! In: shared bytes. Out: shared bytes. Pure. Whoever holds a log bounds its length.

use bytes::{Buf, Bytes, BytesMut};
use std::collections::VecDeque;

/// Bytes from `start` to `end`.
#[derive(Debug, Default)]
pub(crate) struct Log {
    start: u64,
    end: u64,
    pieces: VecDeque<Bytes>,
}

impl Log {
    /// Empty, at an offset.
    pub(crate) fn at(offset: u64) -> Log {
        Log { start: offset, end: offset, pieces: VecDeque::new() }
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }

    pub(crate) fn append(&mut self, bytes: Bytes) {
        self.end += bytes.len() as u64;
        self.pieces.push_back(bytes);
    }

    /// Forgets what lies before `offset`, at most everything.
    pub(crate) fn trim(&mut self, offset: u64) {
        while self.start < offset.min(self.end) {
            let Some(first) = self.pieces.front_mut() else { break };
            let cut = (offset - self.start).min(first.len() as u64);
            first.advance(usize::try_from(cut).expect("at most the length of a slice in memory"));
            self.start += cut;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// What it holds, with the offset of each piece.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        self.pieces.iter().scan(self.start, |at, piece| {
            let offset = *at;
            *at += piece.len() as u64;
            Some((offset, piece))
        })
    }

    /// What it holds, in one piece.
    pub(crate) fn concat(&self) -> Bytes {
        let mut all = BytesMut::new();
        self.pieces.iter().for_each(|piece| all.extend_from_slice(piece));
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_log_is_the_tail_of_what_was_appended(
            from in 0..u64::MAX / 2, pieces: Vec<Vec<u8>>, trims in prop::collection::vec(0..600_u64, 0..8),
        ) {
            let whole = pieces.concat();
            let mut log = Log::at(from);
            pieces.into_iter().for_each(|piece| log.append(piece.into()));
            let mut start = 0;
            for trim in trims {
                log.trim(from + trim);
                start = start.max(trim.min(whole.len() as u64));
                prop_assert_eq!((log.start(), log.end()), (from + start, from + whole.len() as u64));
                prop_assert_eq!(&log.concat()[..], &whole[start as usize..]);
            }
        }
    }
}
