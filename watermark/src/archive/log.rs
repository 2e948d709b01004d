//! A log in the making, and its payloads.
//!
//! In: whose it is, init sections, segments. Out: bytes to append, in order; the caller appends each whole or not at all and
//! says so with `Log::sealed`. Pure.
//!
//! ```text
//! head      JSON {"stream","run","after"}: after = chain of the last record of the run's log before this one, or zeros
//! init      length u8  name  bytes of the init section
//! segment   length u32  JSON record  object as RLV1 (`crate::object`)
//! encoding  length u8  track's word (`video2`)  the same of that track
//! ```

use super::record::{Chain, HEAD_BYTES, Kind, PAYLOAD_BYTES_MAX, RecordError, RecordHead};
use super::segment::SegmentRecord;
use crate::object::Object;
use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A log holds no more time than this, in milliseconds of the stream's dates: it begins and ends on the hour.
pub const LOG_MS: i64 = 3_600_000;
/// A log that is longer than this, in bytes, is followed by the next.
pub const LOG_BYTES: u64 = 256 << 20;
/// The track's word of the picture itself.
pub const PICTURE: &str = "video";
/// Bytes of a segment's payload in which the track's word and the length of its record are.
pub const SEGMENT_HEAD_MAX: usize = 1 + u8::MAX as usize + 4;
/// Ends a log's name.
pub const SUFFIX: &str = ".rla";

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The stream's public name.
    pub stream: String,
    /// The run's id, 16 hex digits.
    pub run: String,
    /// Chain of the run's log before this one, 64 hex digits; zeros for the first, or where it is not known any more.
    pub after: String,
}

/// The name of a log: `RUN/DATE.rla`, the date of its first segment in Unix milliseconds. It says when it may be pruned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogName {
    /// The run's id, 16 hex digits.
    pub run: String,
    /// Date of the first segment in Unix milliseconds.
    pub begins_unix_ms: i64,
}

impl LogName {
    /// The text.
    pub fn text(&self) -> String {
        format!("{}/{:015}{SUFFIX}", self.run, self.begins_unix_ms)
    }

    /// Reads a text; a folder spells `/` as `+`. `None` for anything else.
    pub fn parse(text: &str) -> Option<LogName> {
        let (run, date) = text.strip_suffix(SUFFIX)?.split_once(['/', '+'])?;
        let hex = run.len() == 16 && run.bytes().all(|byte| byte.is_ascii_hexdigit());
        let digits = date.len() == 15 && date.bytes().all(|byte| byte.is_ascii_digit());
        (hex && digits).then(|| Some(LogName { run: run.to_owned(), begins_unix_ms: date.parse().ok()? }))?
    }
}

/// A log that grows.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its name.
    pub name: LogName,
    /// How long it is in bytes: where the next bytes go.
    pub len: u64,
    /// The seal of what is written.
    pub chain: Chain,
    inits: Vec<String>,
}

/// Bytes to append to a log, and what it is then.
#[derive(Clone, Debug)]
pub struct Append {
    /// The bytes.
    pub bytes: Bytes,
    chain: Chain,
    init: Option<String>,
}

impl Log {
    /// A log that begins with a segment of this date.
    pub fn new(run: &str, begins_unix_ms: i64) -> Log {
        let name = LogName { run: run.to_owned(), begins_unix_ms: begins_unix_ms.max(0) };
        Log { name, len: 0, chain: Chain::START, inits: Vec::new() }
    }

    /// Whether a segment of this run and date belongs into it.
    pub fn takes(&self, run: &str, date_unix_ms: i64) -> bool {
        let hour = |date: i64| date.div_euclid(LOG_MS);
        self.name.run == run && hour(self.name.begins_unix_ms) == hour(date_unix_ms) && self.len < LOG_BYTES
    }

    /// What a track of a segment adds (`PICTURE`, or the word of a further encoding): a head and an init section too where they
    /// are not there yet. `None` if it is too large to be written at all. `after` is the last seal of the log before.
    pub fn segment(
        &self,
        (stream, track): (&str, &str),
        after: Chain,
        record: &[u8],
        init: (&str, &[u8]),
        object: &Object,
    ) -> Option<Append> {
        let mut out = Append { bytes: Bytes::new(), chain: self.chain, init: None };
        let mut bytes = BytesMut::new();
        if self.len == 0 {
            let head =
                Head { stream: stream.to_owned(), run: self.name.run.clone(), after: hex::encode(after.0) };
            let json = serde_json::to_vec(&head).ok()?;
            out.chain = push(&mut bytes, out.chain, Kind::Head, &[&json])?;
        }
        if !self.inits.iter().any(|name| name == init.0) {
            let len = u8::try_from(init.0.len()).ok()?;
            out.chain = push(&mut bytes, out.chain, Kind::Init, &[&[len], init.0.as_bytes(), init.1])?;
            out.init = Some(init.0.to_owned());
        }
        let len = u32::try_from(record.len()).ok()?;
        let word_len = u8::try_from(track.len()).ok()?;
        let (kind, before) = match track {
            PICTURE => (Kind::Segment, 0),
            _ => (Kind::Encoding, 1 + track.len()),
        };
        let payload_len = before + 4 + record.len() + object.encoded_len();
        out.chain = push_with(&mut bytes, out.chain, kind, payload_len, |bytes| {
            if kind == Kind::Encoding {
                bytes.put_u8(word_len);
                bytes.put_slice(track.as_bytes());
            }
            bytes.put_u32(len);
            bytes.put_slice(record);
            object.encode_into(bytes);
        })?;
        out.bytes = bytes.freeze();
        Some(out)
    }

    /// The bytes are written, all of them.
    pub fn sealed(&mut self, append: Append) {
        self.len += append.bytes.len() as u64;
        self.chain = append.chain;
        self.inits.extend(append.init);
    }
}

fn push(out: &mut BytesMut, before: Chain, kind: Kind, payload: &[&[u8]]) -> Option<Chain> {
    let len = payload.iter().map(|piece| piece.len()).sum();
    push_with(out, before, kind, len, |out| payload.iter().for_each(|piece| out.put_slice(piece)))
}

/// A record whose payload of `len` bytes is written in its place: the seal comes after it, its head before it.
fn push_with(
    out: &mut BytesMut,
    before: Chain,
    kind: Kind,
    len: usize,
    payload: impl FnOnce(&mut BytesMut),
) -> Option<Chain> {
    if len > PAYLOAD_BYTES_MAX {
        return None;
    }
    out.reserve(HEAD_BYTES + len);
    let head = out.len();
    out.put_bytes(0, HEAD_BYTES);
    payload(out);
    let chain = before.next(kind, &out[head + HEAD_BYTES..]);
    out[head..head + HEAD_BYTES].copy_from_slice(&RecordHead { kind, len, chain }.encode());
    Some(chain)
}

/// Reads the payload of a head.
///
/// # Errors
/// When it is none.
pub fn read_head(payload: &[u8]) -> Result<Head, RecordError> {
    serde_json::from_slice(payload).map_err(|error| RecordError::Payload(error.to_string()))
}

/// The name and bytes in the payload of an init section.
///
/// # Errors
/// When it is none.
pub fn read_init(payload: &[u8]) -> Result<(&str, &[u8]), RecordError> {
    let bad = || RecordError::Payload("an init section without a name".to_owned());
    let (len, rest) = payload.split_first().ok_or_else(bad)?;
    let (name, bytes) = rest.split_at_checked(usize::from(*len)).ok_or_else(bad)?;
    Ok((std::str::from_utf8(name).map_err(|_| bad())?, bytes))
}

/// Of a segment's payload: the track's word, and which bytes of the payload are its record. The object stands behind it.
///
/// # Errors
/// When the payload, of which the first `SEGMENT_HEAD_MAX` bytes are enough, begins otherwise.
pub fn segment_head(kind: Kind, payload: &[u8]) -> Result<(&str, Range<usize>), RecordError> {
    let bad = |what: &str| RecordError::Payload(what.to_owned());
    let (word, rest) = match kind {
        Kind::Segment => (PICTURE, payload),
        Kind::Encoding => {
            let (len, rest) = payload.split_first().ok_or_else(|| bad("it names no track"))?;
            let named = rest.split_at_checked(usize::from(*len));
            let (word, rest) = named.ok_or_else(|| bad("its track's name is cut"))?;
            (std::str::from_utf8(word).map_err(|_| bad("its track's name is no text"))?, rest)
        }
        Kind::Head | Kind::Init => return Err(bad("it is no segment")),
    };
    let len = rest.first_chunk::<4>().ok_or_else(|| bad("it has no record"))?;
    let begin = payload.len() - rest.len() + 4;
    Ok((word, begin..begin.saturating_add(u32::from_be_bytes(*len) as usize)))
}

/// Reads the JSON of a segment's payload: what it says of a track.
///
/// # Errors
/// When it is none.
pub fn read_record(json: &[u8], track: &str) -> Result<SegmentRecord, RecordError> {
    let record: SegmentRecord =
        serde_json::from_slice(json).map_err(|error| RecordError::Payload(error.to_string()))?;
    Ok(record.of_track(track))
}

/// The object in the payload of a segment.
///
/// # Errors
/// When there is none.
pub fn read_object(kind: Kind, payload: &Bytes) -> Result<Object, RecordError> {
    let bad = |what: &str| RecordError::Payload(what.to_owned());
    let (_, record) = segment_head(kind, payload)?;
    if record.end > payload.len() {
        return Err(bad("its record is cut"));
    }
    Object::decode(payload.slice(record.end..)).map_err(|error| bad(&error.to_string()))
}

/// Walks through a whole log: each record whose seal holds goes to `each`. Gives the last seal that holds and how many bytes
/// it seals: the log's length, if nothing is torn or altered.
pub fn walk(log: &[u8], mut each: impl FnMut(RecordHead, &[u8])) -> (Chain, usize) {
    let (mut chain, mut at) = (Chain::START, 0);
    while let Some(head) = log.get(at..).and_then(|rest| rest.first_chunk::<HEAD_BYTES>())
        && let Ok(head) = RecordHead::parse(head)
        && let Some(payload) = log.get(at + HEAD_BYTES..at + HEAD_BYTES + head.len)
        && head.verify(chain, payload).is_ok()
    {
        each(head, payload);
        chain = head.chain;
        at += HEAD_BYTES + payload.len();
    }
    (chain, at)
}
