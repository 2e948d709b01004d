//! What a busy TLS connection holds beside its keys, and the pool that lends it.
//!
//! A connection holds an inbound buffer only while a record is incomplete or its plaintext has no taker, and an outbound one
//! only while the kernel has not taken everything. So the buffers of the pool stay few and hot. Pure.

use super::record::{PLAIN_BYTES_MAX, RECORD_BYTES_MAX};
use std::ops::Range;

/// Records sealed before they are sent: one write for so many costs less than one for each.
const RECORDS_AT_ONCE: usize = 8;
/// Plaintext sealed at once, and so what a slow viewer makes the relay hold at most, in bytes, beside a hundredth for
/// headers and tags and what the kernel's own buffer takes.
pub const SEALED_BYTES_MAX: usize = RECORDS_AT_ONCE * PLAIN_BYTES_MAX;
/// Headers, tags and a few control records.
const OVERHEAD_BYTES: usize = 1 << 10;

/// Spare buffers of one worker.
#[derive(Debug)]
#[allow(
    clippy::vec_box,
    reason = "the box itself is lent: unboxed buffers would be boxed anew for each record"
)]
pub struct Pool {
    inbound: Vec<Box<Inbound>>,
    outbound: Vec<Box<Outbound>>,
    spare_max: usize,
}

impl Pool {
    /// A pool that keeps up to `spare_max` buffers of each kind that nobody uses.
    pub fn new(spare_max: usize) -> Pool {
        Pool { inbound: Vec::with_capacity(spare_max), outbound: Vec::with_capacity(spare_max), spare_max }
    }

    pub(super) fn lend_inbound(&mut self) -> Box<Inbound> {
        self.inbound.pop().unwrap_or_else(|| Box::new(Inbound::new()))
    }

    pub(super) fn lend_outbound(&mut self) -> Box<Outbound> {
        self.outbound.pop().unwrap_or_else(|| Box::new(Outbound::new()))
    }

    /// Takes back what holds nothing any more.
    pub(super) fn take_back(&mut self, inbound: Option<Box<Inbound>>, outbound: Option<Box<Outbound>>) {
        if let Some(mut inbound) = inbound.filter(|_| self.inbound.len() < self.spare_max) {
            (inbound.plain, inbound.raw) = (0..0, 0..0);
            self.inbound.push(inbound);
        }
        if let Some(mut outbound) = outbound.filter(|_| self.outbound.len() < self.spare_max) {
            outbound.clear();
            self.outbound.push(outbound);
        }
    }
}

/// What came: plaintext that has no taker yet, then records that are not opened.
#[derive(Debug)]
pub(super) struct Inbound {
    bytes: Box<[u8]>,
    pub(super) plain: Range<usize>,
    raw: Range<usize>,
}

impl Inbound {
    fn new() -> Inbound {
        Inbound { bytes: vec![0; RECORD_BYTES_MAX].into(), plain: 0..0, raw: 0..0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.raw.is_empty()
    }

    /// Whether no more bytes fit behind the raw ones.
    pub(super) fn is_full(&self) -> bool {
        self.raw.len() == self.bytes.len()
    }

    pub(super) fn plaintext(&self) -> &[u8] {
        &self.bytes[self.plain.clone()]
    }

    /// Records, the last one perhaps incomplete.
    pub(super) fn raw(&mut self) -> &mut [u8] {
        &mut self.bytes[self.raw.clone()]
    }

    /// The same, to look at.
    pub(super) fn raw_bytes(&self) -> &[u8] {
        &self.bytes[self.raw.clone()]
    }

    /// Room for what comes next. None while plaintext waits for a taker.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if !self.plain.is_empty() {
            return &mut [];
        }
        self.bytes.copy_within(self.raw.clone(), 0);
        self.raw = 0..self.raw.len();
        &mut self.bytes[self.raw.end..]
    }

    /// `count` bytes have come into the room.
    pub(super) fn received(&mut self, count: usize) {
        self.raw.end = (self.raw.end + count).min(self.bytes.len());
    }

    /// The first `count` raw bytes are done with; a part of them, counted from their start, is plaintext now.
    pub(super) fn opened(&mut self, count: usize, plain: Range<usize>) {
        self.plain = self.raw.start + plain.start..self.raw.start + plain.end;
        self.raw.start += count;
    }
}

/// What is to be sent.
#[derive(Debug)]
pub(super) struct Outbound {
    pub(super) bytes: Vec<u8>,
    sent: usize,
    /// Bytes of answers in it, and how many of them count as sent.
    plain: usize,
    credited: usize,
}

impl Outbound {
    fn new() -> Outbound {
        let bytes = Vec::with_capacity(SEALED_BYTES_MAX + OVERHEAD_BYTES);
        Outbound { bytes, sent: 0, plain: 0, credited: 0 }
    }

    /// Whether nothing but a last alert may be added: what a viewer makes the relay hold has a bound.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() + OVERHEAD_BYTES / 4 > SEALED_BYTES_MAX + OVERHEAD_BYTES
    }

    /// Whether none of it has been sent yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.sent == 0 || self.unsent().is_empty()
    }

    /// Whether so many bytes may be sealed behind it.
    pub(super) fn has_room_for(&self, len: usize) -> bool {
        self.bytes.is_empty()
            || self.sent == 0
                && self.bytes.len() + len + OVERHEAD_BYTES / 4 <= SEALED_BYTES_MAX + OVERHEAD_BYTES
    }

    pub(super) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// Bytes of answers were sealed.
    pub(super) fn sealed(&mut self, plain: usize) {
        self.plain += plain;
    }

    /// The kernel took `count` bytes: how many bytes of answers that makes. Headers and tags count first, so that the last
    /// byte of an answer counts as sent when the last byte of its record is.
    pub(super) fn wrote(&mut self, count: usize) -> usize {
        self.sent = (self.sent + count).min(self.bytes.len());
        let overhead = self.bytes.len() - self.plain;
        let credited = self.credited.max(self.sent.saturating_sub(overhead));
        credited - std::mem::replace(&mut self.credited, credited)
    }

    fn clear(&mut self) {
        self.bytes.clear();
        (self.sent, self.plain, self.credited) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_as_sent_when_its_last_record_is() {
        let mut outbound = Outbound::new();
        outbound.bytes.extend_from_slice(&[0; 122]);
        outbound.sealed(100);
        assert_eq!(outbound.wrote(10), 0);
        assert_eq!(outbound.wrote(50), 38);
        outbound.bytes.extend_from_slice(&[0; 30]); // an alert
        assert_eq!(outbound.wrote(61), 31);
        assert_eq!((outbound.wrote(31), outbound.unsent().len()), (31, 0));
    }

    #[test]
    fn plaintext_without_a_taker_stops_the_reading() {
        let mut inbound = Inbound::new();
        assert_eq!(inbound.room().len(), RECORD_BYTES_MAX);
        inbound.received(40);
        inbound.opened(30, 5..20);
        assert_eq!((inbound.plain.clone(), inbound.raw().len(), inbound.room().len()), (5..20, 10, 0));
        inbound.plain.start = 20;
        assert_eq!((inbound.room().len(), inbound.raw().len()), (RECORD_BYTES_MAX - 10, 10));
    }
}
