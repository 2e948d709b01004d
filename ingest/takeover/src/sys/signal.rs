//! Signals as data: block some, read them from a descriptor.
//!
//! signalfd(2), pthread_sigmask(3).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The signals blocked in the calling thread, readable one by one. The former mask comes back on drop.
#[derive(Debug)]
pub(crate) struct Signals {
    descriptor: OwnedFd,
    former: libc::sigset_t,
}

fn set_of(numbers: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the whole set and cannot fail on a valid pointer.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for number in numbers {
        // SAFETY: the set is initialised; an invalid number only makes the call fail.
        unsafe { libc::sigaddset(&raw mut set, *number) };
    }
    set
}

fn mask(how: i32, set: &libc::sigset_t) -> io::Result<libc::sigset_t> {
    let mut former = set_of(&[]);
    // SAFETY: both sets are initialised and outlive the call.
    match unsafe { libc::pthread_sigmask(how, set, &raw mut former) } {
        0 => Ok(former),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

impl Signals {
    pub(crate) fn block(numbers: &[i32]) -> io::Result<Self> {
        let set = set_of(numbers);
        // SAFETY: −1 asks for a new descriptor; the set is initialised.
        let raw = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is open, was just made and has no other owner.
        let descriptor = unsafe { OwnedFd::from_raw_fd(raw) };
        let former = mask(libc::SIG_BLOCK, &set)?;
        Ok(Self { descriptor, former })
    }

    /// The next waiting signal, if there is one.
    pub(crate) fn next(&self) -> io::Result<Option<i32>> {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        // SAFETY: the descriptor is open and non-blocking; the kernel writes at most one record into the buffer.
        let count =
            unsafe { libc::read(self.descriptor.as_raw_fd(), record.as_mut_ptr().cast(), record.len()) };
        if count < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        // ssi_signo is the first field.
        Ok(Some(i32::from_ne_bytes([record[0], record[1], record[2], record[3]])))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // The former mask was valid when it was taken; there is nobody to tell if the kernel disagrees now.
        let _ = mask(libc::SIG_SETMASK, &self.former);
    }
}

/// Makes a command start with no signal blocked, and get `at_parents_end` when the thread that starts it ends.
pub(crate) fn prepare_child(command: &mut Command, at_parents_end: i32) {
    let parent = std::process::id() as i32;
    let prepare = move || {
        mask(libc::SIG_SETMASK, &set_of(&[]))?;
        super::process::signal_at_parents_end(at_parents_end)?;
        // The parent may have died before the request was made: then nobody would ever tell us.
        if super::process::parent() == parent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: between fork and exec the closure makes only async-signal-safe calls (sigprocmask, prctl, getppid) and
    // does not allocate: io::Error from a kind or an errno holds no heap memory.
    unsafe { command.pre_exec(prepare) };
}
