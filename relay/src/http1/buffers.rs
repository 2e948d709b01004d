//! What a busy connection holds, and the pool that lends it.
//!
//! An idle or waiting connection holds no buffers at all: the worker lends them with the first byte and has them back when
//! everything is answered and sent. So the steady state allocates nothing, and 20,000 idle viewers cost no buffers. Pure.

use super::date::Stamp;
use super::ending::Patience;
use super::request::HEAD_BYTES_MAX;
use bytes::Bytes;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::time::Instant;

/// Shared bytes up to so many are copied behind the head: one slice then, and copying costs less than a second one does.
const COPY_BYTES_MAX: usize = 2 << 10;
/// Buffers that have grown beyond these are not kept for the next connection.
const KEEP_BYTES: usize = 64 << 10;
const KEEP_CHUNKS: usize = 4096;
/// Room that the longest head may have made; a body makes more.
const KEEP_INPUT_BYTES: usize = 2 * HEAD_BYTES_MAX;

/// What the connections of one worker thread share: the time of this turn of its loop, patience, spare buffers.
#[derive(Debug)]
pub struct Pool {
    /// The time of this turn.
    pub now: Instant,
    /// Its `date` line.
    pub stamp: Stamp,
    /// How long viewers may take.
    pub patience: Patience,
    #[allow(
        clippy::vec_box,
        reason = "the box itself is lent: unboxed buffers would be boxed anew for each request"
    )]
    spare: Vec<Box<Buffers>>,
    spare_max: usize,
}

impl Pool {
    /// A pool that keeps up to `spare_max` buffers that nobody uses.
    pub fn new(now: Instant, unix_s: u64, patience: Patience, spare_max: usize) -> Pool {
        Pool { now, stamp: Stamp::new(unix_s), patience, spare: Vec::with_capacity(spare_max), spare_max }
    }

    /// A new turn of the loop.
    pub fn turn(&mut self, now: Instant, unix_s: u64) {
        self.now = now;
        self.stamp = Stamp::new(unix_s);
    }

    /// How many buffers lie idle.
    pub fn spare(&self) -> usize {
        self.spare.len()
    }

    pub(super) fn lend(&mut self) -> Box<Buffers> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn take_back(&mut self, mut buffers: Box<Buffers>) {
        buffers.clear();
        let grown = buffers.own.capacity() > KEEP_BYTES
            || buffers.queue.capacity() > KEEP_CHUNKS
            || buffers.input.capacity() > KEEP_INPUT_BYTES;
        if self.spare.len() < self.spare_max && !grown {
            self.spare.push(buffers);
        }
    }
}

/// Bytes that came and are not consumed; bytes to send, in order.
#[derive(Debug, Default)]
pub(super) struct Buffers {
    /// What came; before `consumed` it has been read.
    pub(super) input: Vec<u8>,
    pub(super) consumed: usize,
    /// Heads and small bodies of the answers in `queue`.
    own: Vec<u8>,
    queue: VecDeque<Chunk>,
    /// Bytes of the first chunk that are sent.
    sent: usize,
    unsent: usize,
}

/// An end of what is to be sent.
#[derive(Debug)]
pub(super) struct Mark {
    chunks: usize,
    own: usize,
    unsent: usize,
}

/// A slice of what is to be sent.
#[derive(Debug)]
enum Chunk {
    /// Bytes of `own`.
    Own(Range<usize>),
    /// Bytes that others send as well.
    Shared(Bytes),
}

impl Chunk {
    fn len(&self) -> usize {
        match self {
            Chunk::Own(range) => range.len(),
            Chunk::Shared(bytes) => bytes.len(),
        }
    }
}

impl Buffers {
    pub(super) fn unread(&self) -> &[u8] {
        &self.input[self.consumed..]
    }

    /// Takes bytes, as many as leave no more than `most` unread.
    pub(super) fn take(&mut self, bytes: &[u8], most: usize) -> usize {
        if self.consumed > 0 {
            self.input.copy_within(self.consumed.., 0);
            self.input.truncate(self.input.len() - self.consumed);
            self.consumed = 0;
        }
        let taken = bytes.len().min(most.saturating_sub(self.input.len()));
        self.input.extend_from_slice(&bytes[..taken]);
        taken
    }

    pub(super) fn unsent(&self) -> usize {
        self.unsent
    }

    /// Appends bytes that `write` puts into the own buffer.
    pub(super) fn push_own(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.own.len();
        write(&mut self.own);
        let end = self.own.len();
        self.unsent += end - start;
        match self.queue.back_mut() {
            Some(Chunk::Own(last)) if last.end == start => last.end = end,
            _ if start < end => self.queue.push_back(Chunk::Own(start..end)),
            _ => {}
        }
    }

    /// Appends shared bytes.
    pub(super) fn push_shared(&mut self, bytes: Bytes) {
        if bytes.len() <= COPY_BYTES_MAX {
            return self.push_own(|own| own.extend_from_slice(&bytes));
        }
        self.push_slice(bytes);
    }

    /// Appends shared bytes that are never copied.
    pub(super) fn push_slice(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.unsent += bytes.len();
            self.queue.push_back(Chunk::Shared(bytes));
        }
    }

    /// The present end, to come back to.
    pub(super) fn mark(&self) -> Mark {
        Mark { chunks: self.queue.len(), own: self.own.len(), unsent: self.unsent }
    }

    /// Takes back what was appended since `mark`; nothing may have been written meanwhile.
    pub(super) fn back_to(&mut self, mark: &Mark) {
        self.queue.truncate(mark.chunks);
        self.own.truncate(mark.own);
        self.unsent = mark.unsent;
        if let Some(Chunk::Own(last)) = self.queue.back_mut() {
            last.end = last.end.min(mark.own);
        }
    }

    /// Fills `slices` with what is to be sent, from the first unsent byte on; how many it filled.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut skip = self.sent;
        let mut filled = 0;
        for (slot, chunk) in slices.iter_mut().zip(&self.queue) {
            let bytes = match chunk {
                Chunk::Own(range) => &self.own[range.clone()],
                Chunk::Shared(bytes) => bytes,
            };
            *slot = IoSlice::new(&bytes[skip..]);
            skip = 0;
            filled += 1;
        }
        filled
    }

    /// `count` bytes, at most what is unsent, have gone.
    pub(super) fn wrote(&mut self, count: usize) {
        self.unsent -= count;
        self.sent += count;
        while let Some(chunk) = self.queue.front()
            && self.sent >= chunk.len()
        {
            self.sent -= chunk.len();
            self.queue.pop_front();
        }
        if self.unsent == 0 {
            self.own.clear();
        }
    }

    fn clear(&mut self) {
        self.input.clear();
        self.consumed = 0;
        self.own.clear();
        self.queue.clear();
        (self.sent, self.unsent) = (0, 0);
    }
}
