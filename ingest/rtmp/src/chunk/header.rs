//! One chunk header: basic header, message header, extended timestamp.
//!
//! In: bytes from the first of the chunk. Out: the fields, or "not all here yet". Changes nothing,
//! so it may be asked again with more bytes. Adobe RTMP 1.0, sections 5.3.1.1 to 5.3.1.3.
//!
//! ```text
//!  0 1 2 3 4 5 6 7
//! +---+-----------+ ┌ 1 or 2 more id bytes if the id bits are 0 or 1
//! |fmt|  csid     | │ timestamp 3, length 3, type 1, message stream 4 (little-endian): fmt 0
//! +---+-----------+ │ timestamp delta 3, length 3, type 1: fmt 1; delta 3: fmt 2; nothing: fmt 3
//!                   └ 4 more bytes if the 3 bytes of timestamp are ff ff ff
//! ```

/// Longest header: 3 basic, 11 message, 4 extended timestamp.
pub(super) const HEADER_LEN_MAX: usize = 18;
/// In the 24-bit field: the number is in the extended timestamp.
const EXTENDED: u32 = 0x00FF_FFFF;

/// What a header says. Fields that its type does not carry are 0.
pub(super) struct Header {
    pub(super) fmt: u8,
    pub(super) csid: u32,
    /// Timestamp (fmt 0) or delta (fmt 1, 2); the extended one where there is one.
    pub(super) time: u32,
    pub(super) extended: bool,
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) stream_id: u32,
    /// Bytes of this header.
    pub(super) size: usize,
}

/// Chunk type, chunk stream id and their size; `None` if `bytes` ends before.
#[inline]
pub(super) fn basic(bytes: &[u8]) -> Option<(u8, u32, usize)> {
    let first = *bytes.first()?;
    let fmt = first >> 6;
    Some(match first & 0x3F {
        0 => (fmt, u32::from(*bytes.get(1)?) + 64, 2),
        1 => {
            let id: [u8; 2] = bytes.get(1..3)?.try_into().ok()?;
            (fmt, u32::from(u16::from_le_bytes(id)) + 64, 3)
        }
        id => (fmt, u32::from(id), 1),
    })
}

/// The whole header behind its basic part. `inherited_extended`: the chunk stream's last header of
/// type 0, 1 or 2 had an extended timestamp, so one of type 3 has it too.
#[inline]
pub(super) fn rest(
    bytes: &[u8],
    (fmt, csid, basic_size): (u8, u32, usize),
    inherited_extended: bool,
) -> Option<Header> {
    let size = basic_size + [11, 7, 3, 0][usize::from(fmt)];
    let body = bytes.get(basic_size..size)?;
    let u24 = |at: usize| u32::from_be_bytes([0, body[at], body[at + 1], body[at + 2]]);
    let mut header =
        Header { fmt, csid, time: 0, extended: inherited_extended, length: 0, kind: 0, stream_id: 0, size };
    if fmt <= 2 {
        header.time = u24(0);
        header.extended = header.time == EXTENDED;
    }
    if fmt <= 1 {
        header.length = u24(3);
        header.kind = body[6];
    }
    if fmt == 0 {
        header.stream_id = u32::from_le_bytes([body[7], body[8], body[9], body[10]]);
    }
    if header.extended {
        let field: [u8; 4] = bytes.get(size..size + 4)?.try_into().ok()?;
        header.time = u32::from_be_bytes(field);
        header.size += 4;
    }
    Some(header)
}
