//! The heir: whoever is killed lets go of its sockets first, and of its memory afterwards.
//!
//! The kernel ends a killed process in one order: its memory, page by page, then its descriptors. The peer sees the end of
//! the replication link, and the guardian the node's, only when hundreds of megabytes have gone back: 5 to 35 ms. While
//! another process has the same memory, there is nothing to give back, and the descriptors close within a fraction of a
//! millisecond. That is all the heir is for: it shares the node's memory, has nothing of it open, hears no signal, and ends when
//! the node has ended to the last thread; then it pays for the memory.
//!
//! It appears as a process `releve-heir` of the same size as the node; the memory is there once. Where both are killed in one
//! stroke (the OOM killer, a whole control group) the order is as without it.

use crate::error::{Purpose, SystemError};
use crate::sys::heir;

/// Starts the heir of this process, and gives its number. One is enough.
///
/// # Errors
/// The system has no room for another process. Without an heir everything works, and a crash is noticed later.
pub fn appoint() -> Result<u32, SystemError> {
    heir::start().to("start the process that keeps a killed node's memory for a moment")
}
