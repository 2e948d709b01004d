//! One stream as this relay has it.

use crate::upstream::View;
use ingest_api::StreamName;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A stream that viewers have asked for.
#[derive(Debug)]
pub struct Stream {
    view: Mutex<View>,
    version: AtomicU64,
    wanted_ms: AtomicU64,
    followed: AtomicBool,
}

impl Stream {
    /// A stream of which nothing is known. Versions are counted from this one on; no earlier stream of the name had it.
    pub fn new(name: StreamName, version: u64) -> Stream {
        Stream {
            view: Mutex::new(View::new(name)),
            version: AtomicU64::new(version),
            wanted_ms: AtomicU64::new(0),
            followed: AtomicBool::new(false),
        }
    }

    /// What is known of it. Held for a look or one offer, never across a wait.
    pub fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves when what viewers are shown has changed. Read it while the view is held: a change that is not seen there moves
    /// it later.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What viewers are shown has changed.
    pub fn moved(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
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
