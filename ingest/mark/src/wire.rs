//! Frames between the pool and a worker, over the worker's standard input and output.
//!
//! In: values, or bytes of the other side. Out: bytes, or values and `WireError`. Pure and total; every length is
//! checked against what is there and against a limit before anything is allocated.
//!
//! ```text
//! frame   "RLM" version u8 | kind u8 | length u32 | body           numbers big endian
//! Hello   limits the kernel refused, as text                       worker → pool, once
//! Job     id u64, own PPS u8, slices u16, strength u16, previous GOP u64, seed 32, avcC, access unit
//! Coded   id u64, QP u8, attempts u8, count u16, then for each slice: A, B
//! Failed  id u64, reason as text
//! Step    id u64, then Begin: 0 u8, coding u8, GOP u32, rate, record; Picture: 1 u8, shown i64, access unit; End: 2 u8
//! Stepped id u64, rate, count u16, then for each picture: shown i64, Annex B
//! rate    QP u8, odd u8, GOP bytes u32, carry i32
//! ```
//!
//! A field of bytes has its length as u32 in front.

use crate::host::ACCESS_UNIT_BYTES_MAX;
use crate::job::{Coded, Job};
use crate::normalise::{self, Rate, Step};
use bytes::Bytes;
use media::unit::VideoCoding;
use releve_watermark::embed::PatternSeed;
use thiserror::Error;

/// Bytes of a frame before its body.
pub const HEADER_BYTES: usize = 9;
/// Longest body: two variants of the longest access unit and change.
pub const BODY_BYTES_MAX: usize = 2 * ACCESS_UNIT_BYTES_MAX + (1 << 20);
/// Longest text of a worker.
pub const TEXT_BYTES_MAX: usize = 1024;

const MAGIC: [u8; 4] = *b"RLM\x02";
const SEED_BYTES: usize = 32;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A worker is ready.
    Hello,
    /// A picture to mark.
    Job,
    /// Its slices.
    Coded,
    /// Why there are none.
    Failed,
    /// Something to do for a stream that is coded anew.
    Step,
    /// Its pictures.
    Stepped,
}

/// Bytes that are no frame of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WireError {
    /// Other first bytes: another program, or another version of this one.
    #[error("not a frame of this version of the mark worker")]
    Magic,
    /// A kind that does not exist, or not here.
    #[error("frame kind {0} is unknown or out of place")]
    Kind(u8),
    /// A body over the limit.
    #[error("a frame of {0} bytes; at most {BODY_BYTES_MAX} are taken")]
    TooLong(usize),
    /// A body that does not hold what its kind needs.
    #[error("a frame's body is damaged at byte {at}")]
    Body {
        /// Byte of the body.
        at: usize,
    },
}

/// The reply to a job: slices, or the worker's reason for none.
pub type Reply = Result<Coded, String>;

/// Reads a frame's header: its kind and the length of its body.
///
/// # Errors
/// When it is none.
pub fn read_header(header: &[u8; HEADER_BYTES]) -> Result<(Kind, usize), WireError> {
    if header[..4] != MAGIC {
        return Err(WireError::Magic);
    }
    let kind = match header[4] {
        0 => Kind::Hello,
        1 => Kind::Job,
        2 => Kind::Coded,
        3 => Kind::Failed,
        4 => Kind::Step,
        5 => Kind::Stepped,
        other => return Err(WireError::Kind(other)),
    };
    let length = u32::from_be_bytes([header[5], header[6], header[7], header[8]]) as usize;
    if length > BODY_BYTES_MAX { Err(WireError::TooLong(length)) } else { Ok((kind, length)) }
}

/// A worker's first frame.
pub fn hello(missing: &str) -> Vec<u8> {
    frame(Kind::Hello, |body| body.extend_from_slice(cut(missing).as_bytes()))
}

/// What a worker's first frame says.
pub fn read_hello(body: &[u8]) -> String {
    String::from_utf8_lossy(&body[..body.len().min(TEXT_BYTES_MAX)]).into_owned()
}

/// A job's frame. An access unit over the limit is for `Host::read` to refuse before.
pub fn job(id: u64, job: &Job) -> Vec<u8> {
    frame(Kind::Job, |body| {
        body.extend_from_slice(&id.to_be_bytes());
        // Our ids end at 56.
        body.push(job.own_pps_id as u8);
        body.extend_from_slice(&job.slices.to_be_bytes());
        body.extend_from_slice(&job.strength.to_be_bytes());
        body.extend_from_slice(&job.previous_gop_bytes.to_be_bytes());
        body.extend_from_slice(&job.seed.0);
        put(body, &job.avcc);
        put(body, &job.access_unit);
    })
}

/// Reads a job's body.
///
/// # Errors
/// Names the byte where it ends too early or too late.
pub fn read_job(body: &[u8]) -> Result<(u64, Job), WireError> {
    let mut read = Reader { body, at: 0 };
    let id = read.u64()?;
    let own_pps_id = u32::from(read.u8()?);
    let (slices, strength) = (read.u16()?, read.u16()?);
    let previous_gop_bytes = read.u64()?;
    let mut seed = [0; SEED_BYTES];
    seed.copy_from_slice(read.take(SEED_BYTES)?);
    let (avcc, access_unit) = (read.bytes()?, read.bytes()?);
    read.end()?;
    let seed = PatternSeed(seed);
    Ok((id, Job { avcc, own_pps_id, slices, access_unit, seed, previous_gop_bytes, strength }))
}

/// A reply's frame.
pub fn reply(id: u64, reply: &Reply) -> Vec<u8> {
    match reply {
        Ok(coded) => frame(Kind::Coded, |body| {
            body.extend_from_slice(&id.to_be_bytes());
            body.extend_from_slice(&[coded.qp, coded.attempts]);
            // At most 35 slices.
            body.extend_from_slice(&(coded.pairs.len() as u16).to_be_bytes());
            for (a, b) in &coded.pairs {
                put(body, a);
                put(body, b);
            }
        }),
        Err(reason) => frame(Kind::Failed, |body| {
            body.extend_from_slice(&id.to_be_bytes());
            body.extend_from_slice(cut(reason).as_bytes());
        }),
    }
}

/// Reads a reply's body.
///
/// # Errors
/// When the kind is no reply, or names the byte where the body ends too early or too late.
pub fn read_reply(kind: Kind, body: &[u8]) -> Result<(u64, Reply), WireError> {
    let mut read = Reader { body, at: 0 };
    let id = read.u64()?;
    match kind {
        Kind::Coded => {
            let (qp, attempts) = (read.u8()?, read.u8()?);
            let count = read.u16()?;
            let mut pairs = Vec::new();
            for _ in 0..count {
                pairs.push((read.bytes()?, read.bytes()?));
            }
            read.end()?;
            Ok((id, Ok(Coded { pairs, qp, attempts })))
        }
        Kind::Failed => Ok((id, Err(read_hello(&body[read.at..])))),
        kind => Err(WireError::Kind(kind as u8)),
    }
}

/// A step's frame.
pub fn step(id: u64, step: &Step) -> Vec<u8> {
    frame(Kind::Step, |body| {
        body.extend_from_slice(&id.to_be_bytes());
        match step {
            Step::Begin { coding, record, gop_90k, rate } => {
                body.push(0);
                body.push(match coding {
                    VideoCoding::H264 => 0,
                    VideoCoding::Hevc => 1,
                    VideoCoding::Av1 => 2,
                });
                body.extend_from_slice(&gop_90k.to_be_bytes());
                put_rate(body, rate);
                put(body, record);
            }
            Step::Picture { pts_90k, access_unit } => {
                body.push(1);
                body.extend_from_slice(&pts_90k.to_be_bytes());
                put(body, access_unit);
            }
            Step::End => body.push(2),
        }
    })
}

/// Reads a step's body.
///
/// # Errors
/// Names the byte where it ends too early or too late.
pub fn read_step(body: &[u8]) -> Result<(u64, Step), WireError> {
    let mut read = Reader { body, at: 0 };
    let id = read.u64()?;
    let step = match read.u8()? {
        0 => {
            let coding = match read.u8()? {
                0 => VideoCoding::H264,
                1 => VideoCoding::Hevc,
                2 => VideoCoding::Av1,
                _ => return Err(WireError::Body { at: read.at - 1 }),
            };
            let gop_90k = read.number(4)? as u32;
            let rate = read.rate()?;
            Step::Begin { coding, record: read.bytes()?, gop_90k, rate }
        }
        1 => Step::Picture { pts_90k: read.u64()? as i64, access_unit: read.bytes()? },
        2 => Step::End,
        _ => return Err(WireError::Body { at: read.at - 1 }),
    };
    read.end()?;
    Ok((id, step))
}

/// The frame of what came of a step.
pub fn stepped(id: u64, stepped: &Result<normalise::Coded, String>) -> Vec<u8> {
    match stepped {
        Ok(coded) => frame(Kind::Stepped, |body| {
            body.extend_from_slice(&id.to_be_bytes());
            put_rate(body, &coded.rate);
            // At most one more than a decoder holds back.
            body.extend_from_slice(&(coded.pictures.len() as u16).to_be_bytes());
            for (pts_90k, annexb) in &coded.pictures {
                body.extend_from_slice(&pts_90k.to_be_bytes());
                put(body, annexb);
            }
        }),
        Err(reason) => reply(id, &Err(reason.clone())),
    }
}

/// Reads what came of a step.
///
/// # Errors
/// When the kind is no answer to a step, or names the byte where the body ends too early or too late.
pub fn read_stepped(kind: Kind, body: &[u8]) -> Result<(u64, Result<normalise::Coded, String>), WireError> {
    let mut read = Reader { body, at: 0 };
    let id = read.u64()?;
    match kind {
        Kind::Stepped => {
            let rate = read.rate()?;
            let mut pictures = Vec::new();
            for _ in 0..read.u16()? {
                pictures.push((read.u64()? as i64, read.bytes()?));
            }
            read.end()?;
            Ok((id, Ok(normalise::Coded { pictures, rate })))
        }
        Kind::Failed => Ok((id, Err(read_hello(&body[read.at..])))),
        kind => Err(WireError::Kind(kind as u8)),
    }
}

fn put_rate(body: &mut Vec<u8>, rate: &Rate) {
    body.extend_from_slice(&[rate.qp, rate.odd.into()]);
    body.extend_from_slice(&rate.gop_bytes.to_be_bytes());
    body.extend_from_slice(&rate.carry.to_be_bytes());
}

fn frame(kind: Kind, fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = MAGIC.to_vec();
    frame.push(kind as u8);
    frame.extend_from_slice(&[0; 4]);
    fill(&mut frame);
    // Bodies end below 2³² bytes: see `BODY_BYTES_MAX`.
    let length = (frame.len() - HEADER_BYTES) as u32;
    frame[5..HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    frame
}

fn put(body: &mut Vec<u8>, bytes: &[u8]) {
    body.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    body.extend_from_slice(bytes);
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let taken = self.body[self.at..].get(..count).ok_or(WireError::Body { at: self.at })?;
        self.at += count;
        Ok(taken)
    }

    fn number(&mut self, count: usize) -> Result<u64, WireError> {
        Ok(self.take(count)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn u8(&mut self) -> Result<u8, WireError> {
        Ok(self.number(1)? as u8)
    }

    fn u16(&mut self) -> Result<u16, WireError> {
        Ok(self.number(2)? as u16)
    }

    fn u64(&mut self) -> Result<u64, WireError> {
        self.number(8)
    }

    fn rate(&mut self) -> Result<Rate, WireError> {
        let (qp, odd) = (self.u8()?, self.u8()? != 0);
        let (gop_bytes, carry) = (self.number(4)? as u32, self.number(4)? as u32 as i32);
        Ok(Rate { qp, gop_bytes, carry, odd })
    }

    fn bytes(&mut self) -> Result<Bytes, WireError> {
        let length = self.number(4)? as usize;
        Ok(Bytes::copy_from_slice(self.take(length)?))
    }

    fn end(&self) -> Result<(), WireError> {
        if self.at == self.body.len() { Ok(()) } else { Err(WireError::Body { at: self.at }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..50).prop_map(Bytes::from)
    }

    fn split(frame: &[u8]) -> (Kind, &[u8]) {
        let (kind, length) = read_header(frame[..HEADER_BYTES].try_into().unwrap()).unwrap();
        assert_eq!(length, frame.len() - HEADER_BYTES);
        (kind, &frame[HEADER_BYTES..])
    }

    proptest! {
        #[test]
        fn jobs_come_back(id: u64, avcc in bytes(), access_unit in bytes(), own_pps_id in 1u32..57, slices: u16, seed: [u8; 32], previous_gop_bytes: u64, strength: u16) {
            let sent = Job { avcc, own_pps_id, slices, access_unit, seed: PatternSeed(seed), previous_gop_bytes, strength };
            let frame = job(id, &sent);
            let (kind, body) = split(&frame);
            prop_assert_eq!(kind, Kind::Job);
            prop_assert_eq!(read_job(body), Ok((id, sent)));
            prop_assert!(read_job(&body[..body.len() - 1]).is_err());
        }

        #[test]
        fn replies_come_back(id: u64, pairs in proptest::collection::vec((bytes(), bytes()), 0..9), qp: u8, attempts: u8, failed: Option<String>) {
            let sent = failed.map_or(Ok(Coded { pairs, qp, attempts }), Err);
            let frame = reply(id, &sent);
            let (kind, body) = split(&frame);
            prop_assert_eq!(read_reply(kind, body), Ok((id, sent)));
        }

        #[test]
        fn steps_and_what_came_of_them_come_back(
            id: u64, avcc in bytes(), gop_90k: u32, coding in prop_oneof![
                Just(VideoCoding::H264), Just(VideoCoding::Hevc), Just(VideoCoding::Av1),
            ], pts_90k: i64, kind in 0u8..3, qp: u8, odd: bool, gop_bytes: u32, carry: i32,
            pictures in proptest::collection::vec((any::<i64>(), bytes()), 0..9), failed: Option<String>,
        ) {
            let rate = Rate { qp, gop_bytes, carry, odd };
            let sent = match kind {
                0 => Step::Begin { coding, record: avcc, gop_90k, rate },
                1 => Step::Picture { pts_90k, access_unit: avcc },
                _ => Step::End,
            };
            let frame = step(id, &sent);
            let (kind, body) = split(&frame);
            prop_assert_eq!(kind, Kind::Step);
            prop_assert_eq!(read_step(body), Ok((id, sent)));
            prop_assert!(read_step(&body[..body.len() - 1]).is_err());

            let sent = failed.map_or(Ok(normalise::Coded { pictures, rate }), Err);
            let frame = stepped(id, &sent);
            let (kind, body) = split(&frame);
            prop_assert_eq!(read_stepped(kind, body), Ok((id, sent)));
        }

        #[test]
        fn any_bytes_are_a_frame_or_an_error(header: [u8; HEADER_BYTES], body in bytes()) {
            let _ = read_header(&header);
            let _ = read_job(&body);
            let _ = (read_step(&body), read_hello(&body));
            for kind in [Kind::Hello, Kind::Job, Kind::Coded, Kind::Failed, Kind::Step, Kind::Stepped] {
                let _ = (read_reply(kind, &body), read_stepped(kind, &body));
            }
        }
    }

    #[test]
    fn strangers_and_giants_are_refused() {
        let mut header: [u8; HEADER_BYTES] = hello("")[..HEADER_BYTES].try_into().unwrap();
        assert_eq!(read_header(&header), Ok((Kind::Hello, 0)));
        header[5] = 0xff;
        assert_eq!(read_header(&header), Err(WireError::TooLong(0xff00_0000)));
        header[4] = 9;
        assert_eq!(read_header(&header), Err(WireError::Kind(9)));
        header[3] = 9;
        assert_eq!(read_header(&header), Err(WireError::Magic));
        assert_eq!(split(&hello(&"ü".repeat(1000))).1.len(), TEXT_BYTES_MAX);
    }
}
