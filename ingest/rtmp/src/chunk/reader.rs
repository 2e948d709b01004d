//! Chunk stream reader: bytes from one publisher become whole messages.
//!
//! In: arbitrary slices, as they arrive. Out: [`Raw`] messages in the order in which they end, or
//! an [`Error`] that names the chunk stream and the byte offset. Pure. Adobe RTMP 1.0, section 5.3.
//!
//! Messages are given one at a time, so that what a message changes (Set Chunk Size, Abort) is in
//! force for the very next byte. Each payload byte is copied once, from the input into the payload.

use super::header::{self, HEADER_LEN_MAX, Header};
use super::stream::ChunkStream;
use super::work::Work;
use super::{Raw, kind};
use crate::limits::{self, CHUNK_SIZE_INITIAL, CHUNK_SIZE_MAX, CHUNK_STREAMS_MAX, PARTIAL_MESSAGES_MAX};
use crate::snapshot::{Load, Save};
use crate::{Error, Millis, RestoreError};

/// Protocol control messages come on this chunk stream (section 5.4).
const CONTROL_CSID: u32 = 2;
const NO_SLOT: u8 = u8::MAX;
const _: () = assert!(CHUNK_STREAMS_MAX < NO_SLOT as usize);

/// Limits that the configuration decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest audio, video or aggregate message, in bytes.
    pub media_len_max: u32,
    /// Unfinished messages at their announced length, in bytes.
    pub budget: u32,
}

/// Reassembles the messages of one connection.
pub struct Reader {
    limits: Limits,
    chunk_size: u32,
    streams: Vec<ChunkStream>,
    /// Index into `streams` of the ids below 64, which are all that encoders use.
    slots: [u8; 64],
    /// Index of the chunk stream whose chunk we are in.
    current: usize,
    /// Payload bytes missing of that chunk; 0 between chunks.
    left: usize,
    /// A header that came in pieces.
    partial_header: Vec<u8>,
    /// Announced bytes of unfinished messages.
    charged: u64,
    media_allowed: bool,
    /// Bytes read so far, those before the first chunk included.
    position: u64,
    work: Work,
}

impl Reader {
    /// A reader whose first byte is byte `position` of the connection.
    pub fn new(limits: Limits, now: Millis, position: u64) -> Self {
        Self {
            limits,
            chunk_size: CHUNK_SIZE_INITIAL,
            streams: Vec::new(),
            slots: [NO_SLOT; 64],
            current: 0,
            left: 0,
            partial_header: Vec::new(),
            charged: 0,
            media_allowed: true,
            position,
            work: Work::new(now),
        }
    }

    /// Reads from `input` up to the end of one message, or all of it (then `None`).
    /// After an error the reader is useless.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Raw>, Error> {
        loop {
            if self.left == 0 && !self.begin_chunk(input)? {
                return Ok(None);
            }
            let stream = &mut self.streams[self.current];
            let (piece, rest) = input.split_at(self.left.min(input.len()));
            stream.append(piece);
            *input = rest;
            self.left -= piece.len();
            self.position += piece.len() as u64;
            self.work.earn(piece.len());
            if stream.missing() == 0 {
                self.charged -= u64::from(stream.length);
                return Ok(Some(Raw {
                    csid: stream.csid,
                    kind: stream.kind,
                    stream_id: stream.stream_id,
                    timestamp: stream.timestamp,
                    payload: stream.finish(),
                }));
            }
            if self.left > 0 {
                return Ok(None);
            }
        }
    }

    /// Takes one whole chunk header from `input`. False if it is not all there; it is kept then.
    #[inline]
    fn begin_chunk(&mut self, input: &mut &[u8]) -> Result<bool, Error> {
        let header = if self.partial_header.is_empty() {
            let Some(header) = self.parse(input)? else {
                self.partial_header.extend_from_slice(input);
                *input = &[];
                return Ok(false);
            };
            *input = &input[header.size..];
            header
        } else {
            loop {
                let Some((&byte, rest)) = input.split_first() else { return Ok(false) };
                *input = rest;
                self.partial_header.push(byte);
                debug_assert!(self.partial_header.len() <= HEADER_LEN_MAX);
                if let Some(header) = self.parse(&self.partial_header)? {
                    self.partial_header.clear();
                    break header;
                }
            }
        };
        let size = header.size as u64;
        self.open(&header)?;
        self.position += size;
        Ok(true)
    }

    #[inline]
    fn parse(&self, bytes: &[u8]) -> Result<Option<Header>, Error> {
        let Some(basic) = header::basic(bytes) else { return Ok(None) };
        let (fmt, csid, _) = basic;
        let extended = match (fmt, self.slot(csid)) {
            (3, Some(slot)) => self.streams[slot].extended,
            (3, None) => return Err(Error::NoHeader { csid, fmt, at: self.position }),
            _ => false,
        };
        Ok(header::rest(bytes, basic, extended))
    }

    /// Applies a header: continues the open message of its chunk stream, or begins a new one.
    #[inline]
    fn open(&mut self, header: &Header) -> Result<(), Error> {
        let at = self.position;
        if !self.work.chunk() {
            return Err(Error::ChunkWork { at });
        }
        let slot = match self.slot(header.csid) {
            Some(slot) => slot,
            None => self.add_stream(header)?,
        };
        self.current = slot;
        if !self.streams[slot].open {
            self.begin_message(slot, header)?;
        } else if header.fmt != 3 {
            return Err(Error::HeaderInsideMessage { csid: header.csid, fmt: header.fmt, at });
        }
        self.left = self.streams[slot].missing().min(self.chunk_size as usize);
        Ok(())
    }

    /// A chunk stream begins with type 0. One exception: librtmp (OBS) sends its control messages
    /// with type 1 from the first on.
    fn add_stream(&mut self, header: &Header) -> Result<usize, Error> {
        let (csid, fmt, at) = (header.csid, header.fmt, self.position);
        if fmt != 0 && !(fmt == 1 && csid == CONTROL_CSID) {
            return Err(Error::NoHeader { csid, fmt, at });
        }
        if self.streams.len() >= CHUNK_STREAMS_MAX {
            return Err(Error::ChunkStreams { csid, max: CHUNK_STREAMS_MAX, at });
        }
        let slot = self.streams.len();
        self.streams.push(ChunkStream::new(csid));
        if let Some(entry) = self.slots.get_mut(csid as usize) {
            *entry = slot as u8;
        }
        Ok(slot)
    }

    fn begin_message(&mut self, slot: usize, header: &Header) -> Result<(), Error> {
        let (csid, at) = (header.csid, self.position);
        let stream = &mut self.streams[slot];
        if header.fmt == 0 {
            stream.timestamp = header.time;
            stream.stream_id = header.stream_id;
        }
        if header.fmt <= 1 {
            stream.length = header.length;
            stream.kind = header.kind;
        }
        if header.fmt <= 2 {
            stream.delta = header.time;
            stream.extended = header.extended;
        }
        if header.fmt > 0 {
            stream.timestamp = stream.timestamp.wrapping_add(stream.delta);
        }
        let (length, kind) = (stream.length, stream.kind);
        if !self.media_allowed && kind::is_media(kind) {
            return Err(Error::MediaWithoutPublish { kind, at });
        }
        let max = self.limits.length_max(kind);
        if length > max {
            return Err(Error::MessageLength { kind, len: length, max, at });
        }
        if self.streams.iter().filter(|stream| stream.open).count() >= PARTIAL_MESSAGES_MAX {
            return Err(Error::PartialMessages { csid, max: PARTIAL_MESSAGES_MAX, at });
        }
        self.charged += u64::from(length);
        if self.charged > u64::from(self.limits.budget) {
            return Err(Error::Budget { needed: self.charged, budget: self.limits.budget, at });
        }
        self.streams[slot].open = true;
        Ok(())
    }

    #[inline]
    fn slot(&self, csid: u32) -> Option<usize> {
        match self.slots.get(csid as usize) {
            Some(&NO_SLOT) => None,
            Some(&slot) => Some(usize::from(slot)),
            None => self.streams.iter().position(|stream| stream.csid == csid),
        }
    }

    /// Set Chunk Size from the peer (section 5.4.1): in force for the next chunk. A large size is
    /// taken as "never cut a message" and sizes no buffer.
    pub fn set_chunk_size(&mut self, size: u32) -> Result<(), Error> {
        if size == 0 || size > 0x7FFF_FFFF {
            return Err(Error::ChunkSize { size });
        }
        self.chunk_size = size.min(CHUNK_SIZE_MAX);
        Ok(())
    }

    /// Abort Message (section 5.4.2): drops the unfinished message of `csid`, if there is one.
    pub fn abort(&mut self, csid: u32) {
        if let Some(slot) = self.slot(csid)
            && self.streams[slot].open
        {
            self.charged -= u64::from(self.streams[slot].length);
            self.streams[slot].abort();
        }
    }

    /// Whether audio, video, data and aggregates may begin; if not, their first header is an error,
    /// before a byte of them is kept. They may at first.
    pub fn allow_media(&mut self, allowed: bool) {
        self.media_allowed = allowed;
    }

    /// Charges the work of a message that is read by us and not passed on.
    pub fn charge_message(&mut self) -> Result<(), Error> {
        if self.work.message() { Ok(()) } else { Err(Error::ChunkWork { at: self.position }) }
    }

    /// Charges the work of one message inside an aggregate, as if it had come in its own chunk.
    pub fn charge_part(&mut self) -> Result<(), Error> {
        if self.work.chunk() { Ok(()) } else { Err(Error::ChunkWork { at: self.position }) }
    }

    /// Earns all work there is to earn: somebody else counts it.
    pub fn refill(&mut self) {
        self.work.refill();
    }

    /// Time has passed: earns work.
    pub fn pass_time(&mut self, now: Millis) {
        self.work.pass_time(now);
    }

    /// Bytes read so far. A header that is not all there is not counted.
    #[inline]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Announced bytes of unfinished messages.
    pub fn charged(&self) -> u64 {
        self.charged
    }

    /// Bytes on the heap.
    pub fn memory(&self) -> usize {
        self.streams.capacity() * size_of::<ChunkStream>()
            + self.streams.iter().map(ChunkStream::memory).sum::<usize>()
            + self.partial_header.capacity()
    }

    pub(crate) fn save(&self, out: &mut Save) {
        out.u32(self.chunk_size);
        out.u64(self.streams.len() as u64);
        self.streams.iter().for_each(|stream| stream.save(out));
        out.u64(self.current as u64);
        out.u64(self.left as u64);
        out.bytes(&self.partial_header);
        out.u64(self.position);
        self.work.save(out);
    }

    pub(crate) fn load(from: &mut Load<'_>, limits: Limits) -> Result<Self, RestoreError> {
        let mut reader = Self::new(limits, 0, 0);
        reader.chunk_size = from.u32()?;
        let count = from.count()?;
        let invalid = RestoreError::Invalid { what: "chunk reader" };
        if count > CHUNK_STREAMS_MAX || !(1..=CHUNK_SIZE_MAX).contains(&reader.chunk_size) {
            return Err(invalid);
        }
        for slot in 0..count {
            let stream = ChunkStream::load(from)?;
            let too_long = stream.open && stream.length > limits.length_max(stream.kind);
            if too_long || reader.slot(stream.csid).is_some() {
                return Err(invalid);
            }
            if let Some(entry) = reader.slots.get_mut(stream.csid as usize) {
                *entry = slot as u8;
            }
            reader.charged += if stream.open { u64::from(stream.length) } else { 0 };
            reader.streams.push(stream);
        }
        reader.current = from.count()?;
        reader.left = from.count()?;
        reader.partial_header = from.bytes()?.to_vec();
        reader.position = from.u64()?;
        reader.work = Work::load(from)?;
        let in_chunk = reader.streams.get(reader.current).filter(|stream| stream.open);
        let left_max = in_chunk.map_or(0, ChunkStream::missing).min(reader.chunk_size as usize);
        let header_is_whole = !matches!(reader.parse(&reader.partial_header), Ok(None));
        let open = reader.streams.iter().filter(|stream| stream.open).count();
        if reader.left > left_max
            || (reader.left > 0 && !reader.partial_header.is_empty())
            || header_is_whole
            || reader.charged > u64::from(limits.budget)
            || open > PARTIAL_MESSAGES_MAX
            || reader.position > u64::MAX / 2
        {
            return Err(invalid);
        }
        Ok(reader)
    }
}

impl Limits {
    /// Longest message of a type, in bytes.
    fn length_max(&self, kind: u8) -> u32 {
        match kind {
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE => self.media_len_max,
            kind::DATA | kind::DATA_AMF3 => limits::DATA_LEN_MAX,
            1..=7 => limits::CONTROL_LEN_MAX,
            _ => limits::COMMAND_LEN_MAX,
        }
    }
}
