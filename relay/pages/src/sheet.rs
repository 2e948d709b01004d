//! One file of memory, mapped for reading.
//!
//! In: bytes for places nobody has yet. Out: bytes, the file. The mapping begins where a huge page may, so that the kernel
//! can make the file's pages huge ones.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::ptr::NonNull;

/// A huge page of x86-64 and, with pages of 4 KiB, of ARM.
const HUGE: usize = 2 << 20;
/// As large as most sheets are: a descriptor for each, so not too small; and as long as one of its objects is there all of it
/// is, so not too large.
const SHEET: usize = 2 * HUGE;

/// A file of memory and where it is mapped.
#[derive(Debug)]
pub struct Sheet {
    file: std::fs::File,
    begin: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is read by anybody and written by nobody; what is written goes by way of the file, to places that no
// `bytes` has been asked for yet (`Arena::keep` gives each place out once).
unsafe impl Send for Sheet {}
// SAFETY: as above.
unsafe impl Sync for Sheet {}

impl Sheet {
    /// Room for so many bytes at least.
    pub(crate) fn new(len: usize) -> io::Result<Sheet> {
        let len = len.max(SHEET).checked_next_multiple_of(HUGE).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the name is a string with its end; the call gives a new descriptor or −1.
        let raw = unsafe { libc::memfd_create(c"releve-objects".as_ptr(), libc::MFD_CLOEXEC) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is open, was just made and has no other owner.
        let file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(raw) });
        file.set_len(len as u64)?;
        let begin = map(file.as_raw_fd(), len)?;
        let sheet = Sheet { file, begin, len };
        // One page there is enough for the kernel to fill up a huge one; where it cannot, pages are small.
        for huge in (0..len).step_by(HUGE) {
            sheet.file.write_all_at(&[0], huge as u64)?;
        }
        // SAFETY: the range is exactly our mapping; the call changes where its pages lie, not what is in them.
        unsafe { libc::madvise(sheet.begin.as_ptr().cast(), len, libc::MADV_COLLAPSE) };
        Ok(sheet)
    }

    /// The address of its first byte.
    pub(crate) fn begin(&self) -> usize {
        self.begin.as_ptr().addr()
    }

    /// How long it is.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes to a place that nobody has.
    pub(crate) fn fill(&self, from: usize, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, from as u64)
    }

    /// What was written there.
    pub(crate) fn bytes(&self, from: usize, len: usize) -> &[u8] {
        assert!(from.checked_add(len).is_some_and(|end| end <= self.len), "outside of the sheet");
        // SAFETY: the range lies in the mapping, which lives as long as `self`; its bytes were written before they were given
        // out, and are not written again.
        unsafe { std::slice::from_raw_parts(self.begin.as_ptr().add(from), len) }
    }

    /// The file, to send from. Whoever wrote to it would change what others have.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Sheet {
    fn drop(&mut self) {
        // SAFETY: the range is exactly our mapping, and nobody borrows from it any more.
        unsafe { libc::munmap(self.begin.as_ptr().cast(), self.len) };
    }
}

/// Maps the file for reading, from an address on that a huge page may begin at.
fn map(file: i32, len: usize) -> io::Result<NonNull<u8>> {
    let reserved = len.checked_add(HUGE).ok_or(io::ErrorKind::OutOfMemory)?;
    let nowhere = std::ptr::null_mut();
    let hidden = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a new mapping at a place of the kernel's choice touches nothing that is there.
    let room = unsafe { libc::mmap(nowhere, reserved, libc::PROT_NONE, hidden, -1, 0) };
    if room == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let before = room.addr().next_multiple_of(HUGE) - room.addr();
    let shared = libc::MAP_SHARED | libc::MAP_FIXED;
    // SAFETY: `before + len` is within the room that was just reserved, and nothing else is there.
    let begin = unsafe { libc::mmap(room.byte_add(before), len, libc::PROT_READ, shared, file, 0) };
    let error = io::Error::last_os_error();
    // SAFETY: what is before and behind the file belongs to the room, and to nobody else. A length of 0 is refused, in peace.
    unsafe {
        libc::munmap(room, before);
        libc::munmap(room.byte_add(before + len), reserved - before - len);
    }
    if begin == libc::MAP_FAILED {
        // SAFETY: the middle of the room, which the file did not take.
        unsafe { libc::munmap(room.byte_add(before), len) };
        return Err(error);
    }
    NonNull::new(begin.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}
