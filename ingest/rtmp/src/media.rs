//! From message payloads to media: the data frame wrapper and aggregates.
//!
//! In: payloads of data and aggregate messages. Out: what is inside, sharing the same bytes. Pure.
//! FLV 10.1, annex E.4 (tags); Adobe RTMP 1.0, section 7.1.6 (aggregates).

use bytes::Bytes;

use crate::Error;

/// AMF0 string `@setDataFrame`: "keep the values behind me for late viewers".
const SET_DATA_FRAME: &[u8] = b"\x02\x00\x0d@setDataFrame";
/// AMF0 string `@clearDataFrame`: "forget them".
const CLEAR_DATA_FRAME: &[u8] = b"\x02\x00\x0f@clearDataFrame";

const TAG_HEADER_LEN: usize = 11;
const BACK_POINTER_LEN: usize = 4;

/// The values of a data message behind `@setDataFrame`; `None` for `@clearDataFrame`.
pub(crate) fn data_frame(payload: Bytes) -> Option<Bytes> {
    if payload.starts_with(SET_DATA_FRAME) {
        Some(payload.slice(SET_DATA_FRAME.len()..))
    } else if payload.starts_with(CLEAR_DATA_FRAME) {
        None
    } else {
        Some(payload)
    }
}

/// A payload behind its AMF3 format byte: 0 says that AMF0 follows, which is all that is sent.
pub(crate) fn behind_format_byte(payload: Bytes) -> Bytes {
    if payload.first() == Some(&0) { payload.slice(1..) } else { payload }
}

/// One message inside an aggregate.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) kind: u8,
    pub(crate) timestamp: u32,
    pub(crate) payload: Bytes,
}

/// Walks the messages of an aggregate whose own timestamp is `timestamp`. Their times are moved so
/// that the first has the aggregate's.
pub(crate) struct Aggregate {
    body: Bytes,
    at: usize,
    timestamp: u32,
    first: Option<u32>,
}

impl Aggregate {
    pub(crate) fn new(body: Bytes, timestamp: u32) -> Self {
        Self { body, at: 0, timestamp, first: None }
    }

    /// The next message; `None` at the end. A part that leaves the aggregate is an error. The back
    /// pointer behind each part is skipped: encoders disagree on what it counts.
    pub(crate) fn next(&mut self) -> Result<Option<Part>, Error> {
        let offset = self.at;
        if offset == self.body.len() {
            return Ok(None);
        }
        let broken = Error::Aggregate { offset };
        let begin = offset + TAG_HEADER_LEN;
        let header = self.body.get(offset..begin).ok_or(broken.clone())?;
        let len = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
        let time = u32::from_be_bytes([header[7], header[4], header[5], header[6]]);
        let end = begin + len;
        if end + BACK_POINTER_LEN > self.body.len() {
            return Err(broken);
        }
        self.at = end + BACK_POINTER_LEN;
        let first = *self.first.get_or_insert(time);
        Ok(Some(Part {
            kind: header[0],
            timestamp: self.timestamp.wrapping_add(time.wrapping_sub(first)),
            payload: self.body.slice(begin..end),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_frame_wrapper_is_taken_off() {
        let wrapped = Bytes::from_static(b"\x02\x00\x0d@setDataFrame\x02\x00\x0aonMetaData\x05");
        assert_eq!(data_frame(wrapped).unwrap(), b"\x02\x00\x0aonMetaData\x05".as_slice());
        let bare = Bytes::from_static(b"\x02\x00\x0aonMetaData\x05");
        assert_eq!(data_frame(bare.clone()), Some(bare));
        assert_eq!(data_frame(Bytes::from_static(CLEAR_DATA_FRAME)), None);
        assert_eq!(data_frame(Bytes::from_static(b"\x02\x00")), Some(Bytes::from_static(b"\x02\x00")));
    }

    #[test]
    fn an_aggregate_gives_its_parts_with_moved_times() {
        let mut body = b"\x08\0\0\x02\x00\x00\x64\0\0\0\0aa\0\0\0\x0d".to_vec();
        body.extend(b"\x09\0\0\x01\x00\x00\x6e\0\0\0\0v\0\0\0\x0c");
        let mut parts = Aggregate::new(Bytes::from(body.clone()), 1000);
        let part = |kind, timestamp, payload: &'static [u8]| {
            Ok(Some(Part { kind, timestamp, payload: Bytes::from_static(payload) }))
        };
        assert_eq!(parts.next(), part(8, 1000, b"aa"));
        assert_eq!(parts.next(), part(9, 1010, b"v"));
        assert_eq!(parts.next(), Ok(None));

        for cut in 1..17 {
            let mut parts = Aggregate::new(Bytes::copy_from_slice(&body[..cut]), 0);
            assert_eq!(parts.next(), Err(Error::Aggregate { offset: 0 }), "cut at {cut}");
        }
    }
}
