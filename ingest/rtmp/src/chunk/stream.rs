//! One chunk stream: the header it inherits from, and the message that is not finished.
//!
//! In: headers and payload pieces of one chunk stream id. Out: the payload when it is whole. Pure.
//! Adobe RTMP 1.0, section 5.3.1.2.

use bytes::Bytes;

use crate::RestoreError;
use crate::limits::CHUNK_SIZE_MAX;
use crate::snapshot::{Load, Save};

/// First allocation of a payload, in bytes, if the message is that long.
const FIRST_GROWTH: usize = 4096;

/// State of one chunk stream id.
#[derive(Default)]
pub(super) struct ChunkStream {
    pub(super) csid: u32,
    pub(super) timestamp: u32,
    /// Added when a chunk of type 3 begins a message. After type 0 it is that timestamp itself
    /// (section 5.3.1.2.4).
    pub(super) delta: u32,
    /// The last header of type 0, 1 or 2 had an extended timestamp, so those of type 3 have it too.
    /// ffmpeg and OBS send it there, as the specification says; the few old encoders that leave
    /// it out after 4.6 hours cannot be told apart safely and are not supported.
    pub(super) extended: bool,
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) stream_id: u32,
    /// A message is begun and not finished.
    pub(super) open: bool,
    payload: Vec<u8>,
    /// Longest message that was really received here: the next payload may begin with that size.
    earned: usize,
}

impl ChunkStream {
    pub(super) fn new(csid: u32) -> Self {
        Self { csid, ..Self::default() }
    }

    /// Bytes that the open message still needs.
    #[inline]
    pub(super) fn missing(&self) -> usize {
        self.length as usize - self.payload.len()
    }

    /// Appends a piece, never longer than [`ChunkStream::missing`]. Memory grows by what came: to
    /// double, or to what this peer has sent before, and never beyond the announced length.
    #[inline]
    pub(super) fn append(&mut self, piece: &[u8]) {
        let have = self.payload.len();
        let need = have + piece.len();
        if need > self.payload.capacity() {
            let wish = need.max(2 * have).max(self.earned).max(FIRST_GROWTH);
            let capacity = wish.min(self.length as usize).max(need);
            self.payload.reserve_exact(capacity - have);
        }
        self.payload.extend_from_slice(piece);
    }

    /// The message is whole: hands its payload out without a copy.
    pub(super) fn finish(&mut self) -> Bytes {
        self.open = false;
        self.earned = self.earned.max(self.payload.len());
        Bytes::from(std::mem::take(&mut self.payload))
    }

    /// Abort Message: forgets what came of the open message.
    pub(super) fn abort(&mut self) {
        self.open = false;
        self.payload = Vec::new();
    }

    pub(super) fn memory(&self) -> usize {
        self.payload.capacity()
    }

    pub(super) fn save(&self, out: &mut Save) {
        for n in [self.csid, self.timestamp, self.delta, self.length, self.stream_id] {
            out.u32(n);
        }
        out.u8(u8::from(self.extended));
        out.u8(self.kind);
        out.u8(u8::from(self.open));
        out.bytes(&self.payload);
        out.u64(self.earned as u64);
    }

    pub(super) fn load(from: &mut Load<'_>) -> Result<Self, RestoreError> {
        let stream = Self {
            csid: from.u32()?,
            timestamp: from.u32()?,
            delta: from.u32()?,
            length: from.u32()?,
            stream_id: from.u32()?,
            extended: from.flag("chunk stream")?,
            kind: from.u8()?,
            open: from.flag("chunk stream")?,
            payload: from.bytes()?.to_vec(),
            earned: from.count()?,
        };
        let filled = stream.payload.len();
        let overfull = if stream.open { filled >= stream.length as usize } else { filled > 0 };
        if overfull
            || stream.length > CHUNK_SIZE_MAX
            || stream.earned > CHUNK_SIZE_MAX as usize
            || !(2..=65_599).contains(&stream.csid)
        {
            return Err(RestoreError::Invalid { what: "chunk stream" });
        }
        Ok(stream)
    }
}
