//! What may leave this node, for whoever asks: published by the election's thread, with the time until which it holds.
//!
//! One writer, any readers, two atomics. A thread that was paused publishes nothing, so the gate shuts by itself when its
//! time is over: also for threads that were paused with it.

use failover::Gate;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const EPOCH_BITS: u32 = 62;

/// The gate as last published.
#[derive(Debug, Default)]
pub struct GateCell {
    /// Kind in the two highest bits, epoch below.
    word: AtomicU64,
    until_ns: AtomicU64,
}

impl GateCell {
    /// Publishes: `gate` holds until `until` on the node's clock.
    pub fn set(&self, gate: Gate, until: Duration) {
        let (kind, epoch) = match gate {
            Gate::Held => (0, 0),
            Gate::Confirmed(epoch) => (1, epoch),
            Gate::Alone(epoch) => (2, epoch),
        };
        // In this order a reader who sees the new time sees the new gate too; a gate that shuts is never seen late.
        self.word.store(kind << EPOCH_BITS | epoch & ((1 << EPOCH_BITS) - 1), Ordering::Release);
        self.until_ns.store(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX), Ordering::Release);
    }

    /// The gate at this moment; `Held` when the election's thread is late.
    pub fn at(&self, now: Duration) -> Gate {
        let until = self.until_ns.load(Ordering::Acquire);
        let gate = self.told();
        if now.as_nanos() > until.into() { Gate::Held } else { gate }
    }

    /// The gate as last published, however long ago.
    pub fn told(&self) -> Gate {
        let word = self.word.load(Ordering::Acquire);
        let epoch = word & ((1 << EPOCH_BITS) - 1);
        match word >> EPOCH_BITS {
            1 => Gate::Confirmed(epoch),
            2 => Gate::Alone(epoch),
            _ => Gate::Held,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_that_nobody_renews_shuts() {
        let cell = GateCell::default();
        let ms = Duration::from_millis;
        assert_eq!(cell.at(ms(0)), Gate::Held);
        cell.set(Gate::Alone(7), ms(35));
        assert_eq!(
            (cell.at(ms(35)), cell.at(ms(36)), cell.told()),
            (Gate::Alone(7), Gate::Held, Gate::Alone(7))
        );
        cell.set(Gate::Confirmed(8), ms(70));
        assert_eq!(cell.at(ms(50)), Gate::Confirmed(8));
        cell.set(Gate::Held, ms(100));
        assert_eq!(cell.at(ms(60)), Gate::Held);
    }
}
