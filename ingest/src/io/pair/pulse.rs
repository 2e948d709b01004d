//! One clock for both halves, and the data half's pulse: what it has done, for the eye of the election and of the peer.
//!
//! In: additions from any task. Out: figures for each heartbeat. The clock is monotonic and begins with the node; its hands
//! are sent with each beat, so that the peer can tell how old a thing is that was dated here.

use failover::beat::Progress;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Shared by both halves.
#[derive(Debug)]
pub struct Pulse {
    start: Instant,
    turns: AtomicU64,
    mirrored: AtomicU64,
    confirmed: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse {
            start: Instant::now(),
            turns: AtomicU64::new(0),
            mirrored: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
        }
    }
}

impl Pulse {
    /// Time since the node began.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Another turn of the data half's loop: at least every 100 ms, idle or not. It counts as hung after one second.
    pub fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes mirrored to, or from, the peer since the link began, and of these confirmed.
    pub fn set_bytes(&self, mirrored: u64, confirmed: u64) {
        self.mirrored.store(mirrored, Ordering::Relaxed);
        self.confirmed.store(confirmed, Ordering::Relaxed);
    }

    /// The figures.
    pub fn progress(&self) -> Progress {
        Progress {
            turns: self.turns.load(Ordering::Relaxed),
            mirrored: self.mirrored.load(Ordering::Relaxed),
            confirmed: self.confirmed.load(Ordering::Relaxed),
        }
    }
}
