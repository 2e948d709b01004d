//! Punctuality: the real-time policy for one thread, and memory that is never paged out.
//!
//! For threads that beat, hold or watch, not for the data plane: the kernel throttles real-time threads that use a
//! whole core, and that shows as 50 ms stalls. Needs CAP_SYS_NICE and CAP_IPC_LOCK, or the matching limits.

use crate::error::{Purpose, SystemError};
use crate::sys::process;

/// Puts the calling thread under SCHED_FIFO, priority 1–99. What it starts is ordinary again.
///
/// # Errors
/// Missing CAP_SYS_NICE (or `RLIMIT_RTPRIO`).
pub fn fifo(priority: u8) -> Result<(), SystemError> {
    process::schedule_fifo(priority.into()).to("run a thread under the real-time policy (SCHED_FIFO)")
}

/// Pins all memory of the process, present and future, once it was used.
///
/// # Errors
/// Missing CAP_IPC_LOCK (or `RLIMIT_MEMLOCK`).
pub fn lock_memory() -> Result<(), SystemError> {
    process::lock_memory().to("lock the process in memory (mlockall)")
}
