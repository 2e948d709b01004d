//! Work budget: headers cost, payload and time earn. Stops a peer that makes us parse a header for
//! every byte, or answer a ping for every packet, long before it costs a noticeable share of a core.
//!
//! In: what was parsed, and `now`. Out: whether it may go on. Pure.

use crate::Millis;
use crate::limits::{WORK_CHUNK, WORK_PER_MS, WORK_SAVED_MAX};
use crate::snapshot::{Load, Save};
use crate::{RestoreError, limits};

pub(super) struct Work {
    /// Between 0 and [`WORK_SAVED_MAX`].
    saved: i64,
    refilled: Millis,
}

impl Work {
    pub(super) fn new(now: Millis) -> Self {
        Self { saved: WORK_SAVED_MAX, refilled: now }
    }

    /// Time has passed. A `now` that goes back earns nothing.
    pub(super) fn pass_time(&mut self, now: Millis) {
        let ms = i64::try_from(now.saturating_sub(self.refilled)).unwrap_or(i64::MAX);
        self.refilled = self.refilled.max(now);
        self.saved = self.saved.saturating_add(ms.saturating_mul(WORK_PER_MS)).min(WORK_SAVED_MAX);
    }

    /// As after a long time.
    pub(super) fn refill(&mut self) {
        self.saved = WORK_SAVED_MAX;
    }

    /// So many payload bytes were taken.
    #[inline]
    pub(super) fn earn(&mut self, bytes: usize) {
        self.saved = (self.saved + bytes as i64).min(WORK_SAVED_MAX);
    }

    /// False if it is used up.
    #[inline]
    pub(super) fn chunk(&mut self) -> bool {
        self.spend(WORK_CHUNK)
    }

    /// False if it is used up.
    pub(super) fn message(&mut self) -> bool {
        self.spend(limits::WORK_MESSAGE)
    }

    #[inline]
    fn spend(&mut self, cost: i64) -> bool {
        let enough = self.saved >= cost;
        self.saved = (self.saved - cost).max(0);
        enough
    }

    pub(super) fn save(&self, out: &mut Save) {
        out.u64(self.saved as u64);
        out.u64(self.refilled);
    }

    pub(super) fn load(from: &mut Load<'_>) -> Result<Self, RestoreError> {
        let invalid = RestoreError::Invalid { what: "work budget" };
        let saved = i64::try_from(from.u64()?).map_err(|_| invalid.clone())?;
        let refilled = from.u64()?;
        if saved > WORK_SAVED_MAX {
            return Err(invalid);
        }
        Ok(Self { saved, refilled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_64_bytes_never_run_out_and_smaller_ones_do() {
        let mut work = Work::new(0);
        assert!((0..1_000_000).all(|_| {
            let enough = work.chunk();
            work.earn(64);
            enough
        }));
        let mut work = Work::new(0);
        let count = (0..1_000_000).take_while(|_| {
            let enough = work.chunk();
            work.earn(1);
            enough
        });
        assert_eq!(count.count(), 16_644);
    }

    #[test]
    fn time_earns_4000_chunks_a_second_and_going_back_earns_nothing() {
        let mut work = Work::new(1000);
        while work.chunk() {}
        work.pass_time(2000);
        work.pass_time(500);
        work.pass_time(2000);
        assert_eq!((0..10_000).take_while(|_| work.chunk()).count(), 4000);
        work.pass_time(u64::MAX);
        assert_eq!((0..100_000).take_while(|_| work.chunk()).count(), 16_384);
    }
}
