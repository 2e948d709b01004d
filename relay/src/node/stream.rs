//! One stream as this relay has it, and who waits for it to change.

use crate::upstream::View;
use ingest_api::StreamName;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A stream that viewers have asked for.
#[derive(Debug)]
pub struct Stream {
    view: Mutex<View>,
    changed: watch::Sender<u64>,
    wanted_ms: AtomicU64,
    followed: AtomicBool,
}

impl Stream {
    /// A stream of which nothing is known.
    pub fn new(name: StreamName) -> Stream {
        Stream {
            view: Mutex::new(View::new(name)),
            changed: watch::Sender::new(0),
            wanted_ms: AtomicU64::new(0),
            followed: AtomicBool::new(false),
        }
    }

    /// What is known of it. Held for a look or one offer, never across a wait.
    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves when what viewers are shown changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Wakes whoever waits for a change.
    pub fn announce_change(&self) {
        self.changed.send_modify(|moves| *moves += 1);
    }

    /// Notes that a viewer asked; true when nobody follows the stream yet: then the caller must.
    pub fn want(&self, now_ms: u64) -> bool {
        self.wanted_ms.store(now_ms, Ordering::Relaxed);
        !self.followed.swap(true, Ordering::AcqRel)
    }

    /// Whether nobody has asked for it for so long.
    pub fn is_idle(&self, now_ms: u64, idle_ms: u64) -> bool {
        now_ms.saturating_sub(self.wanted_ms.load(Ordering::Relaxed)) > idle_ms
    }

    /// Notes that its followers have gone; whoever wants it next must follow it.
    pub fn unfollow(&self) {
        self.followed.store(false, Ordering::Release);
    }

    /// Whether its origins are being asked about it.
    pub fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Acquire)
    }
}
