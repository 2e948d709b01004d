//! Processes by descriptor, and the two settings that make a thread punctual.
//!
//! A process descriptor becomes readable when its process ends and never means another process. pidfd_open(2),
//! pidfd_send_signal(2), prctl(2), sched(7), mlockall(2).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// A descriptor of a process that is not yet reaped.
pub(crate) fn descriptor_of(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: plain numbers; the call gives a new descriptor or −1.
    let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let raw = i32::try_from(raw).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` is open, was just made and has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Sends a signal to the process behind a descriptor. A process that has already ended is no error.
pub(crate) fn signal(process: &OwnedFd, number: i32) -> io::Result<()> {
    let nothing: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: the descriptor is open; a null siginfo is allowed and means "as kill would".
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), number, nothing, 0) };
    quiet_if_gone(done as i32)
}

/// Kills every process of a group whose leader is a child of ours that is not yet reaped (so the number is still its).
pub(crate) fn kill_group(leader: u32) -> io::Result<()> {
    let group = libc::pid_t::try_from(leader).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    if group <= 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: plain numbers; the check above keeps the call from meaning "every process".
    quiet_if_gone(unsafe { libc::kill(-group, libc::SIGKILL) })
}

fn quiet_if_gone(done: i32) -> io::Result<()> {
    if done == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ESRCH) { Ok(()) } else { Err(error) }
}

/// Asks the kernel to send this process a signal when its parent thread ends. Safe between fork and exec.
pub(crate) fn signal_at_parents_end(number: i32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes one number.
    let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, number as libc::c_ulong, 0, 0, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the calling thread under the real-time policy FIFO. Threads and processes it starts are ordinary again.
pub(crate) fn schedule_fifo(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    // SAFETY: pid 0 is the calling thread; the kernel reads one sched_param.
    let done = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Puts the calling thread under the ordinary policy.
pub(crate) fn schedule_ordinary() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: pid 0 is the calling thread; the kernel reads one sched_param.
    let done = unsafe {
        libc::sched_setscheduler(0, libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK, &raw const parameters)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The processor's time that the calling thread has had.
pub(crate) fn thread_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

/// Pins all present and future memory of this process, each page from its first use: stacks and arenas that nobody uses
/// would else be filled, and the kernel would have to empty them before a dead process's link ends.
pub(crate) fn lock_memory() -> io::Result<()> {
    // SAFETY: plain flags.
    let done = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many bytes this process may lock: the soft limit of `RLIMIT_MEMLOCK`.
pub(crate) fn lockable_memory() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &raw mut limit) };
    if done == 0 { Ok(limit.rlim_cur) } else { Err(io::Error::last_os_error()) }
}

/// This process's parent.
pub(crate) fn parent() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::getppid() }
}
