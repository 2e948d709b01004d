//! The guardian: a parent process that takes the virtual address away when the node dies.
//!
//! In: the node's command and the addresses it may own. Out: the addresses gone within about a millisecond of the
//! node's death, however it died, and its exit status. A killed process cannot clean up; its parent can, and the kernel
//! tells it at once (a process descriptor becomes readable). The guardian does nothing else: no threads, no memory to
//! speak of, messages built beforehand. Call it first thing in `main`, before any thread exists.
//!
//! Termination signals are handed on to the node. If the guardian itself dies, the node gets SIGTERM.

use crate::address::Ownership;
use crate::error::{Purpose, SystemError};
use crate::sys::process;
use crate::sys::signal::{Signals, prepare_child};
use crate::sys::wait::readable;
use std::os::fd::AsFd;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

/// Signals that mean the node, not the guardian.
const HANDED_ON: [i32; 6] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2];

/// How the node ended, and what was left to do.
#[derive(Debug)]
pub struct Ended {
    /// The node's exit status.
    pub status: ExitStatus,
    /// Addresses that the node had left behind and the guardian removed.
    pub removed: usize,
    /// From the guardian's wake-up to the last address gone.
    pub took: Duration,
    /// Addresses that could not be removed, with the reason.
    pub failures: Vec<SystemError>,
}

/// Starts the node and watches it to its end.
///
/// # Errors
/// The node could not be started or watched; it is not running then.
pub fn watch(command: &mut Command, addresses: &[Ownership]) -> Result<Ended, SystemError> {
    // Blocked before the start, so that none is lost between start and watch.
    let signals = Signals::block(&HANDED_ON).to("prepare the guardian's signals")?;
    prepare_child(command, libc::SIGTERM);
    let mut node = command.spawn().to("start the node under its guardian")?;
    let watched = process::descriptor_of(node.id()).to("watch the node (pidfd)");
    let end = match watched {
        Ok(end) => end,
        Err(error) => {
            // Unwatched it must not run. It is our child and not reaped, so the number is its own.
            let _ = node.kill();
            let _ = node.wait();
            return Err(error);
        }
    };
    loop {
        let ready = readable([Some(end.as_fd()), Some(signals.as_fd())], None);
        // If waiting itself fails, falling through to `wait` below still watches, only less promptly.
        let Ok([ended, signalled]) = ready else { break };
        if ended {
            break;
        }
        if signalled && let Ok(Some(number)) = signals.next() {
            // The node may end at this moment; then the next round sees it.
            let _ = process::signal(&end, number);
        }
    }
    let waited = if readable([Some(end.as_fd())], Some(Duration::ZERO)).is_ok_and(|[ended]| ended) {
        None
    } else {
        Some(node.wait())
    };
    let woke = Instant::now();
    let mut failures = Vec::new();
    let mut removed = 0;
    for address in addresses {
        match address.give_up() {
            Ok(was_there) => removed += usize::from(was_there),
            Err(error) => failures.push(error),
        }
    }
    let took = woke.elapsed();
    // The addresses first, the zombie later.
    let status = waited.unwrap_or_else(|| node.wait()).to("reap the node")?;
    Ok(Ended { status, removed, took, failures })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_exit_status_is_the_nodes() {
        let ended = watch(&mut shell("exit 7"), &[]).unwrap();
        assert_eq!(ended.status.code(), Some(7));
        assert_eq!((ended.removed, ended.failures.len()), (0, 0));
        let ended = watch(&mut shell("kill -9 $$"), &[]).unwrap();
        assert_eq!(ended.status.signal(), Some(9));
    }

    #[test]
    fn a_node_that_does_not_start_is_an_error() {
        assert!(watch(&mut Command::new("/nonexistent/node"), &[]).is_err());
    }

    #[test]
    fn the_node_starts_with_no_signal_blocked() {
        // SigBlk of the shell: the guardian blocks SIGTERM for itself, the node must not inherit that.
        let ended = watch(&mut shell("grep -q 'SigBlk:.*0000000000000000' /proc/self/status"), &[]).unwrap();
        assert!(ended.status.success());
    }
}
