//! Chunk streams: the layer that cuts messages into chunks and interleaves them.
//!
//! In: bytes after the handshake. Out: whole [`Raw`] messages, in the order in which they end; and
//! the other way round, messages to bytes. Pure. Adobe RTMP 1.0, section 5.3.

mod header;
mod reader;
mod stream;
mod work;
mod writer;

pub use reader::{Limits, Reader};
pub use writer::Writer;

use bytes::Bytes;

/// Message type ids (sections 5.4, 7.1).
pub mod kind {
    /// Set Chunk Size.
    pub const SET_CHUNK_SIZE: u8 = 1;
    /// Abort Message.
    pub const ABORT: u8 = 2;
    /// Acknowledgement.
    pub const ACKNOWLEDGEMENT: u8 = 3;
    /// User Control.
    pub const USER_CONTROL: u8 = 4;
    /// Window Acknowledgement Size.
    pub const WINDOW_ACK_SIZE: u8 = 5;
    /// Set Peer Bandwidth.
    pub const SET_PEER_BANDWIDTH: u8 = 6;
    /// Audio.
    pub const AUDIO: u8 = 8;
    /// Video.
    pub const VIDEO: u8 = 9;
    /// Data behind an AMF3 format byte.
    pub const DATA_AMF3: u8 = 15;
    /// Command behind an AMF3 format byte.
    pub const COMMAND_AMF3: u8 = 17;
    /// Data in AMF0.
    pub const DATA: u8 = 18;
    /// Command in AMF0.
    pub const COMMAND: u8 = 20;
    /// Aggregate.
    pub const AGGREGATE: u8 = 22;

    /// True for what only a publisher sends: audio, video, data, aggregates of them.
    pub(crate) fn is_media(kind: u8) -> bool {
        matches!(kind, AUDIO | VIDEO | DATA | DATA_AMF3 | AGGREGATE)
    }
}

/// One whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw {
    /// Chunk stream it came on.
    pub csid: u32,
    /// Message type id.
    pub kind: u8,
    /// Message stream id.
    pub stream_id: u32,
    /// Absolute, in milliseconds, wrapping.
    pub timestamp: u32,
    /// Body.
    pub payload: Bytes,
}
