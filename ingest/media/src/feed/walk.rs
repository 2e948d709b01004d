//! What the units of a picture say: whether decoding may begin with it, and whether they are units at all.
//!
//! In: what follows the head of a video message. Out: the units that go on and what they make, or the byte that is wrong. Pure.

use crate::obu;
use crate::unit::VideoCoding;
use bytes::Bytes;
use thiserror::Error;

/// What is wrong with length-prefixed NAL units, or with OBUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NalFault {
    /// The length prefix is cut.
    #[error("the length prefix is cut")]
    Prefix,
    /// The NAL unit is longer than what is left.
    #[error("a unit of {len} bytes where {left} are left")]
    Length {
        /// What its prefix says.
        len: u32,
        /// What there is.
        left: usize,
    },
    /// A NAL unit without a byte.
    #[error("an empty NAL unit")]
    Empty,
    /// The forbidden bit is set.
    #[error("this is no head of a unit")]
    Head,
}

/// What the units of a message make.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Picture {
    /// No slice: parameter sets, SEI, or nothing.
    None,
    Idr,
    Other,
}

/// The units that go on, and what they make; a fault comes with its byte.
pub(super) fn picture(
    data: Bytes,
    coding: VideoCoding,
    length_size: u8,
) -> Result<(Bytes, Picture), (usize, NalFault)> {
    match coding {
        VideoCoding::Av1 => obus(data),
        VideoCoding::H264 | VideoCoding::Hevc => {
            nal_units(&data, coding, length_size).map(|picture| (data, picture))
        }
    }
}

/// Walks the OBUs of a temporal unit. Its first frame says what it is: `show_existing_frame`, `frame_type` and `show_frame`
/// begin every frame header (AV1 §5.9.2). The temporal delimiter does not go on: none belongs into a file (AV1 in
/// ISO-BMFF §2.4).
fn obus(data: Bytes) -> Result<(Bytes, Picture), (usize, NalFault)> {
    let (mut from, mut picture) = (0, Picture::None);
    for unit in obu::each(&data) {
        let unit = unit?;
        match (unit.kind, &picture) {
            (obu::TEMPORAL_DELIMITER, _) if unit.bytes.start == from => from = unit.bytes.end,
            (obu::FRAME | obu::FRAME_HEADER, Picture::None) => {
                let head = *unit.payload.first().ok_or((unit.bytes.start, NalFault::Empty))?;
                picture = if head >> 4 == 0b0001 { Picture::Idr } else { Picture::Other };
            }
            _ => {}
        }
    }
    Ok((data.slice(from..), picture))
}

/// Walks length-prefixed NAL units (ISO/IEC 14496-15 §5.3.2); a fault comes with its byte.
fn nal_units(data: &[u8], coding: VideoCoding, length_size: u8) -> Result<Picture, (usize, NalFault)> {
    let size = usize::from(length_size);
    let (mut at, mut picture) = (0, Picture::None);
    while at < data.len() {
        let prefix = data.get(at..at + size).ok_or((at, NalFault::Prefix))?;
        let len = prefix.iter().fold(0u32, |len, byte| len << 8 | u32::from(*byte));
        let body = &data[at + size..];
        let nal = body.get(..len as usize).ok_or((at, NalFault::Length { len, left: body.len() }))?;
        let head = *nal.first().ok_or((at, NalFault::Empty))?;
        if head & 0x80 != 0 {
            return Err((at + size, NalFault::Head));
        }
        let (starts, goes_on) = match coding {
            VideoCoding::H264 => (head & 0x1f == 5, matches!(head & 0x1f, 1..=4)),
            // H.265 table 7-1: random access pictures, of which some are IDR; all other slices.
            _ => (matches!(head >> 1, 16..=21), head >> 1 < 32),
        };
        match picture {
            _ if starts => picture = Picture::Idr,
            Picture::None if goes_on => picture = Picture::Other,
            _ => {}
        }
        at += size + nal.len();
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn av1(bytes: &'static [u8]) -> Result<(Bytes, Picture), (usize, NalFault)> {
        picture(Bytes::from_static(bytes), VideoCoding::Av1, 0)
    }

    #[test]
    fn the_first_frame_of_a_temporal_unit_says_what_it_is() {
        let whole =
            |bytes: &'static [u8], what| assert_eq!(av1(bytes), Ok((Bytes::from_static(bytes), what)));
        whole(b"\x0a\x01\x00\x32\x02\x14\x00", Picture::Idr); // sequence header, key frame
        whole(b"\x1a\x01\x10\x22\x01\x00", Picture::Idr); // its header and tiles apart
        whole(b"\x32\x01\x30\x32\x01\x10", Picture::Other); // an inter frame first
        whole(b"\x32\x01\x00", Picture::Other); // a key frame that is not shown yet
        whole(b"\x1a\x01\x90", Picture::Other); // one that was there is shown
        whole(b"\x0a\x01\x00\x2a\x01\x00", Picture::None); // no frame
        whole(b"", Picture::None);
    }

    #[test]
    fn the_temporal_delimiter_stays_behind() {
        assert_eq!(av1(b"\x12\x00\x32\x01\x10"), Ok((Bytes::from_static(b"\x32\x01\x10"), Picture::Idr)));
        assert_eq!(av1(b"\x12\x00"), Ok((Bytes::new(), Picture::None)));
    }

    #[test]
    fn faults_name_their_byte() {
        assert_eq!(av1(b"\x12\x00\x32\x00"), Err((2, NalFault::Empty)));
        assert_eq!(av1(b"\x12\x00\x32\x04\x10"), Err((2, NalFault::Length { len: 4, left: 1 })));
    }
}
