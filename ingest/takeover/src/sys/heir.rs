//! A process that shares the memory of this one and outlives it by a moment.
//!
//! clone(2) with `CLONE_VM` and nothing else: the new process has the same memory, and copies of everything besides.

use super::process;
use std::ffi::{c_int, c_void};
use std::io;

/// More than the few frames of [`live`] need.
const STACK_WORDS: usize = 1024;

/// The least pressing niceness: what it does when the parent has ended, nobody waits for.
const LAST: c_int = 19;

/// Starts the process. Its stack stays taken for as long as this process lives.
pub(crate) fn start() -> io::Result<u32> {
    // Words of 16 bytes: the alignment that the machine asks of a stack.
    let stack: &'static mut [u128] = vec![0_u128; STACK_WORDS].leak();
    let top = stack.as_mut_ptr_range().end.cast::<c_void>();
    // SAFETY: plain numbers and two sets of signals that the calls initialise. All signals are blocked while the new process
    // begins, so that none of this program's handlers ever runs there; here they are as before afterwards. `live` keeps to
    // the stack it is given, which nobody else uses and which is never freed, and to system calls: it allocates nothing and
    // takes no lock of the memory that it shares. Its argument is a number.
    unsafe {
        let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        let blocked = libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        if blocked != 0 {
            return Err(io::Error::from_raw_os_error(blocked));
        }
        let ours = libc::getpid() as usize as *mut c_void;
        let heir = libc::clone(live, top, libc::CLONE_VM, ours);
        let error = io::Error::last_os_error();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        u32::try_from(heir).map_err(|_| error)
    }
}

/// The new process: deaf, with one descriptor that becomes readable when its parent has ended to the last thread. A signal at
/// the parent's end would come too soon: with the thread that started us, while others still have the parent's descriptors.
extern "C" fn live(parent: *mut c_void) -> c_int {
    // SAFETY: system calls with plain numbers, a name that is a constant and a record on this stack; none touches shared memory
    // unless it fails, and then only the calling thread's error number, of a thread that waits in `clone` or reads it after
    // its own next failure.
    unsafe {
        // With copies of this program's descriptors it would do the contrary of what it is for.
        if libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0) != 0 {
            return 1;
        }
        libc::setpriority(libc::PRIO_PROCESS, 0, LAST);
        libc::prctl(libc::PR_SET_NAME, c"releve-heir".as_ptr());
        let end = libc::syscall(libc::SYS_pidfd_open, parent as usize, 0);
        // A number that is somebody else's by now is no parent of ours.
        if end < 0 || process::parent() as usize != parent as usize {
            return 1;
        }
        let mut ended = libc::pollfd { fd: end as c_int, events: libc::POLLIN, revents: 0 };
        while ended.revents == 0 {
            libc::poll(&raw mut ended, 1, -1);
        }
    }
    0
}
