//! Memory that the kernel sends without copying it: objects that many viewers get lie in files of memory, on huge pages.
//!
//! In: bytes ([`Arena::keep`]). Out: the same bytes as `Bytes`, and for any piece of them the file and the place in it
//! ([`Arena::find`]), for `sendfile`. A `write` of 250 KB copies them into the socket, for each viewer again; `sendfile`
//! hands over the pages themselves, and large ones take fewer steps.
//!
//! Nothing is ever changed that was handed out, neither in memory nor by way of the file, so what the kernel still sends
//! stays as it was. A sheet goes when the last of its bytes does; pages on their way stay with the kernel until then.
//!
//! Unsafe inside, safe outside. memfd_create(2), mmap(2), madvise(2) (`MADV_COLLAPSE`, Linux 6.1; without it the pages are
//! small, and all else is the same).

mod sheet;

use bytes::Bytes;
pub use sheet::Sheet;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

/// Below this a copy costs less than what `sendfile` costs more than `write`.
pub const WORTH_BYTES: usize = 16 << 10;
/// Most sheets at once: each has a descriptor, and those are for viewers.
pub const SHEETS_MAX: usize = 75;
/// Where bytes begin: none shares a line of the processor's cache with others.
const ALIGN: usize = 64;

/// A place for bytes.
#[derive(Debug)]
pub struct Arena {
    /// The sheet that is being filled, and how far.
    open: Mutex<Option<(Arc<Sheet>, usize)>>,
    /// All that are still there, by where they begin.
    sheets: RwLock<BTreeMap<usize, Weak<Sheet>>>,
    sheets_max: usize,
}

impl Default for Arena {
    fn default() -> Arena {
        Arena::of(SHEETS_MAX)
    }
}

/// Bytes on a sheet.
struct Piece {
    sheet: Arc<Sheet>,
    from: usize,
    len: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.sheet.bytes(self.from, self.len)
    }
}

impl Arena {
    fn of(sheets_max: usize) -> Arena {
        Arena { open: Mutex::default(), sheets: RwLock::default(), sheets_max }
    }

    /// The same bytes, in a file of memory.
    ///
    /// # Errors
    /// There is no memory, or no descriptor, for another sheet, or there are as many as may be.
    pub fn keep(&self, bytes: &[u8]) -> io::Result<Bytes> {
        let mut open = self.open();
        let (sheet, from) = match open.take().filter(|(sheet, used)| sheet.len() - used >= bytes.len()) {
            Some(place) => place,
            None => (self.another(bytes.len())?, 0),
        };
        sheet.fill(from, bytes)?;
        *open = Some((sheet.clone(), (from + bytes.len()).next_multiple_of(ALIGN).min(sheet.len())));
        drop(open);
        Ok(Bytes::from_owner(Piece { sheet, from, len: bytes.len() }))
    }

    /// Where these bytes lie, if they came from [`keep`](Self::keep): the sheet, and their place in its file.
    pub fn find(&self, bytes: &[u8]) -> Option<(Arc<Sheet>, u64)> {
        let at = bytes.as_ptr().addr();
        let sheets = self.sheets.read().unwrap_or_else(PoisonError::into_inner);
        let (begin, sheet) = sheets.range(..=at).next_back()?;
        // While these bytes are there, so is whatever they lie on; a sheet that is gone cannot be theirs.
        let sheet = sheet.upgrade()?;
        let from = at - begin;
        (from + bytes.len() <= sheet.len()).then_some((sheet, from as u64))
    }

    fn another(&self, len: usize) -> io::Result<Arc<Sheet>> {
        let mut sheets = self.sheets.write().unwrap_or_else(PoisonError::into_inner);
        sheets.retain(|_, sheet| sheet.strong_count() > 0);
        if sheets.len() >= self.sheets_max {
            return Err(io::Error::other("as many sheets as may be"));
        }
        let sheet = Arc::new(Sheet::new(len)?);
        sheets.insert(sheet.begin(), Arc::downgrade(&sheet));
        Ok(sheet)
    }

    fn open(&self) -> MutexGuard<'_, Option<(Arc<Sheet>, usize)>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    /// What the file has where `find` says.
    fn in_file(arena: &Arena, bytes: &[u8]) -> Option<Vec<u8>> {
        let (sheet, from) = arena.find(bytes)?;
        let mut read = vec![0; bytes.len()];
        let file = std::fs::File::from(sheet.file().try_clone_to_owned().unwrap());
        file.read_exact_at(&mut read, from).unwrap();
        Some(read)
    }

    #[test]
    fn bytes_lie_in_memory_and_in_a_file_and_go_with_the_last_of_a_sheet() {
        let arena = Arena::default();
        let all: Vec<Vec<u8>> = (0..60_u8).map(|n| vec![n; 100_000 + usize::from(n) * 7]).collect();
        let kept: Vec<Bytes> = all.iter().map(|bytes| arena.keep(bytes).unwrap()).collect();
        for (bytes, kept) in all.iter().zip(&kept) {
            assert_eq!(bytes, kept);
            assert_eq!(in_file(&arena, &kept[17..]).as_ref(), Some(&bytes[17..].to_vec()));
        }
        let count = || arena.sheets.read().unwrap().values().filter(|sheet| sheet.strong_count() > 0).count();
        assert_eq!(count(), 2, "6 MB, on sheets of 4 MiB");
        let last = kept.last().unwrap().slice(5..);
        drop(kept);
        assert_eq!(count(), 1, "the first sheet has gone");
        assert_eq!(in_file(&arena, &last), Some(last.to_vec()));
    }

    #[test]
    fn what_was_not_kept_is_not_found_and_what_is_larger_than_a_sheet_is() {
        let arena = Arena::default();
        let kept = arena.keep(&vec![7; 5_000_000]).unwrap();
        assert_eq!(in_file(&arena, &kept), Some(kept.to_vec()));
        assert!(arena.find(&vec![7; 20_000]).is_none());
        assert!(arena.find(b"static").is_none());
        assert!(arena.keep(b"").unwrap().is_empty());
        let begin = kept.as_ptr();
        drop(kept);
        arena.keep(&[1]).unwrap();
        // Whatever lies there now is found by its own sheet only.
        assert!(arena.sheets.read().unwrap().len() <= 2, "{begin:?}");
    }

    #[test]
    fn there_is_an_end_to_sheets_and_room_again_when_one_has_gone() {
        let arena = Arena::of(2);
        let long = vec![1; 3_000_000];
        let (first, second) = (arena.keep(&long).unwrap(), arena.keep(&long).unwrap());
        assert!(arena.keep(&long).is_err());
        drop(first);
        assert_eq!(arena.keep(&long).unwrap(), second);
    }

    #[test]
    fn bytes_outlive_their_arena() {
        let kept = Arena::default().keep(&vec![9; 50_000]).unwrap();
        assert!(kept.iter().all(|byte| *byte == 9));
    }
}
