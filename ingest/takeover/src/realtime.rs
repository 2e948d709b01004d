//! Punctuality: the real-time policy for one thread, and memory that is never paged out.
//!
//! For threads that beat, hold or watch, not for the data plane: the kernel throttles real-time threads that use a
//! whole core, and that shows as 50 ms stalls. Needs CAP_SYS_NICE and CAP_IPC_LOCK, or the matching limits.

use crate::error::{Purpose, SystemError};
use crate::sys::process;
use std::time::{Duration, Instant};

/// Puts the calling thread under SCHED_FIFO, priority 1–99. What it starts is ordinary again.
///
/// # Errors
/// Missing CAP_SYS_NICE (or `RLIMIT_RTPRIO`).
pub fn fifo(priority: u8) -> Result<(), SystemError> {
    process::schedule_fifo(priority.into()).to("run a thread under the real-time policy (SCHED_FIFO)")
}

/// How often a thread's use of the processor is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Of a core, over that time: with more, punctuality would be at the cost of everything else on this host.
const LARGE: f64 = 0.10;
/// With less it is punctual again.
const SMALL: f64 = 0.05;

/// The real-time policy for a thread that moves data: for as long as that is little. A thread that is woken for each packet
/// works in small pieces, which costs more; under load ordinary turns gather what has come meanwhile.
#[derive(Debug)]
pub struct WhileIdle {
    priority: u8,
    punctual: bool,
    since: Instant,
    used: Duration,
}

impl WhileIdle {
    /// Puts the calling thread under SCHED_FIFO, where it may be: without the right to it the thread works as well, only less
    /// punctually ([`rights`](crate::rights) reports that).
    pub fn fifo(priority: u8) -> WhileIdle {
        let punctual = fifo(priority).is_ok();
        WhileIdle {
            priority,
            punctual,
            since: Instant::now(),
            used: process::thread_time().unwrap_or_default(),
        }
    }

    /// Looks at how much the calling thread, the one that made this, has used, if it is time to. Call it often.
    pub fn look(&mut self) {
        let passed = self.since.elapsed();
        if passed < LOOK {
            return;
        }
        let used = process::thread_time().unwrap_or_default();
        let share = used.saturating_sub(self.used).as_secs_f64() / passed.as_secs_f64();
        (self.since, self.used) = (Instant::now(), used);
        let punctual = stays(self.punctual, share);
        if punctual != self.punctual {
            // What the host does not let be stays as it is, and is tried again.
            let done =
                if punctual { fifo(self.priority).is_ok() } else { process::schedule_ordinary().is_ok() };
            self.punctual = punctual == done;
        }
    }
}

/// Whether a thread with this share of a core is to be punctual, by whether it is.
fn stays(punctual: bool, share: f64) -> bool {
    share < if punctual { LARGE } else { SMALL }
}

/// Pins all memory of the process, present and future, once it was used.
///
/// # Errors
/// Missing CAP_IPC_LOCK (or `RLIMIT_MEMLOCK`).
pub fn lock_memory() -> Result<(), SystemError> {
    process::lock_memory().to("lock the process in memory (mlockall)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_is_an_ordinary_one_until_it_rests() {
        let shares = [0.02, 0.09, 0.11, 0.09, 0.06, 0.04, 0.09, 0.5];
        let mut punctual = true;
        let turns = shares.map(|share| {
            punctual = stays(punctual, share);
            punctual
        });
        assert_eq!(turns, [true, true, false, false, false, true, true, false]);
    }

    #[test]
    fn work_is_seen_as_work_and_waiting_is_not() {
        let mut thread = WhileIdle::fifo(1);
        if !thread.punctual {
            eprintln!("skipped: no right to the real-time policy");
            return;
        }
        let until = |time: Duration| Instant::now() + time;
        let busy = until(LOOK * 2);
        while Instant::now() < busy {
            std::hint::spin_loop();
        }
        thread.look();
        assert!(!thread.punctual);
        // A loaded machine may give no rest at all to whoever measures; rest is what is waited for.
        let rest = until(Duration::from_secs(20));
        while !thread.punctual {
            assert!(Instant::now() < rest, "it rests, and stays an ordinary thread");
            std::thread::sleep(LOOK * 2);
            thread.look();
        }
    }
}
