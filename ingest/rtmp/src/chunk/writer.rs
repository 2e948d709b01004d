//! Writes messages as chunks: type 0, then type 3 until the message ends.
//!
//! In: a message. Out: its bytes, appended. Pure. Adobe RTMP 1.0, section 5.3.1.

use bytes::{BufMut, BytesMut};

use crate::limits::CHUNK_SIZE_INITIAL;

/// Cuts our messages into chunks of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writer {
    chunk_size: u32,
}

impl Default for Writer {
    fn default() -> Self {
        Self { chunk_size: CHUNK_SIZE_INITIAL }
    }
}

impl Writer {
    /// Size of the chunks to come, in bytes, at least 1. Announce it before (Set Chunk Size).
    pub fn set_chunk_size(&mut self, size: u32) {
        self.chunk_size = size.max(1);
    }

    /// Current chunk size in bytes.
    pub fn chunk_size(&self) -> u32 {
        self.chunk_size
    }

    /// Appends one message to `out`. `csid` is 2 to 63; `payload` is shorter than 16 MiB.
    pub fn write(
        &self,
        out: &mut BytesMut,
        csid: u8,
        kind: u8,
        stream_id: u32,
        timestamp: u32,
        payload: &[u8],
    ) {
        debug_assert!((2..64).contains(&csid) && payload.len() < 1 << 24);
        let extended = timestamp >= 0x00FF_FFFF;
        out.put_u8(csid);
        out.put_uint(u64::from(if extended { 0x00FF_FFFF } else { timestamp }), 3);
        out.put_uint(payload.len() as u64, 3);
        out.put_u8(kind);
        out.put_u32_le(stream_id);
        if extended {
            out.put_u32(timestamp);
        }
        for (n, piece) in payload.chunks(self.chunk_size as usize).enumerate() {
            if n > 0 {
                out.put_u8(0xC0 | csid);
                if extended {
                    out.put_u32(timestamp);
                }
            }
            out.put_slice(piece);
        }
    }
}
