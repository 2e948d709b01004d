//! Elementary streams in PES packets (ISO/IEC 13818-1 §2.4.3.6): a picture each, or a few audio frames.
//!
//! In: samples of a CMAF segment. Out: PES packets as runs of bytes: everyone's, or a slice as A and B. Pure.
//!
//! Length prefixes become start codes (ISO/IEC 14496-10 annex B); escaping is the same in both. Each picture begins with an
//! access unit delimiter, its own or ours; each IDR has the parameter sets behind it.

use super::source::{Pictures, Sample, Sounds};
use crate::unit::AAC_FRAME_SAMPLES;
use ingest_api::{Object, Track};
use releve_watermark::Position;

/// How far decode times lie behind the clock reference: what a receiver may take to fetch and to buffer.
const LEAD_90K: i64 = 45_000;
/// Audio frames of a PES packet at most: 85 ms at 48 kHz, so that the clock reference of audio alone comes every 0.1 s.
const FRAMES_MAX: usize = 4;
/// Bits of a time stamp: it wraps every 26.5 hours, and players undo that.
const STAMP_BITS: u32 = 33;

pub(super) const START_CODE: [u8; 4] = [0, 0, 0, 1];
/// NAL unit type of an access unit delimiter.
const DELIMITER: u8 = 9;
/// A delimiter before a picture of any slices.
pub(super) const ANY_PICTURE: [u8; 2] = [DELIMITER, 0xf0];
/// Bytes of a PES packet's head with both stamps.
pub(super) const HEAD_MAX: usize = 19;
const VIDEO_ID: u8 = 0xe0;
const AUDIO_ID: u8 = 0xc0;

/// A PES packet.
pub(super) struct Pes {
    pub(super) track: Track,
    /// Its place in the order of the stream, and its clock reference.
    pub(super) tick_90k: i64,
    /// Whether a decoder may begin here.
    pub(super) random_access: bool,
    /// Its bytes; the first run is common and begins with the head.
    pub(super) runs: Vec<Run>,
}

/// Bytes of a PES packet.
pub(super) enum Run {
    /// Everyone's.
    Common(Vec<u8>),
    /// One of two, equally long.
    Pair { a: Vec<u8>, b: Vec<u8>, position: Position },
}

impl Run {
    /// Bytes that everyone gets so many of.
    pub(super) fn len(&self) -> usize {
        match self {
            Run::Common(bytes) | Run::Pair { a: bytes, .. } => bytes.len(),
        }
    }
}

/// A 33-bit time.
pub(super) fn clock(tick_90k: i64) -> u64 {
    tick_90k as u64 & ((1 << STAMP_BITS) - 1)
}

/// Room for what a picture's units get before them; more of them than usual, and it grows.
const UNITS_ROOM: usize = 256;

/// One PES packet a picture.
pub(super) fn pictures<'a>(
    with: &'a Pictures,
    object: &'a Object,
    samples: &'a [Sample],
) -> impl Iterator<Item = Pes> + 'a {
    samples.iter().map(move |sample| picture(with, object, sample))
}

fn picture(with: &Pictures, object: &Object, sample: &Sample) -> Pes {
    let tick_90k = sample.time as i64; // a tick of the run
    let end = sample.bytes.end;
    let from = object.pairs.partition_point(|pair| pair.offset < sample.bytes.start);
    let mut pairs = object.pairs[from..].iter().take_while(|pair| pair.end() <= end).peekable();

    let mut common = head(VIDEO_ID, tick_90k, sample.composition);
    common.reserve(sample.bytes.len() + UNITS_ROOM);
    let mut at = pairs.peek().map_or(end, |pair| pair.offset);
    let mut before = units(&object.a[sample.bytes.start..at], with.length_size).peekable();
    let own = before.next_if(|unit| unit[0] & 0x1f == DELIMITER);
    put_unit(&mut common, own.unwrap_or(&ANY_PICTURE));
    if sample.idr {
        with.sets.iter().for_each(|set| put_unit(&mut common, set));
    }
    before.for_each(|unit| put_unit(&mut common, unit));

    let mut runs = Vec::new();
    while let Some(pair) = pairs.next() {
        let a = byte_stream(&object.a[pair.offset..pair.end()], with.length_size);
        let b = byte_stream(&pair.b, with.length_size);
        // Marking makes as many NAL units of both: they stay equally long. If they did not, everyone would get A.
        if a.len() == b.len() && !a.is_empty() {
            runs.push(Run::Common(std::mem::take(&mut common)));
            runs.push(Run::Pair { a, b, position: pair.position });
        } else {
            common.extend(a);
        }
        at = pairs.peek().map_or(end, |next| next.offset);
        common.extend(byte_stream(&object.a[pair.end()..at], with.length_size));
    }
    runs.push(Run::Common(common));
    Pes { track: Track::Video, tick_90k, random_access: sample.idr, runs }
}

/// Frames that follow each other without a gap, a few to a packet.
pub(super) fn sounds<'a>(
    with: Sounds,
    object: &'a Object,
    samples: &'a [Sample],
) -> impl Iterator<Item = Pes> + 'a {
    let joined = |a: &Sample, b: &Sample| b.time == a.time + u64::from(AAC_FRAME_SAMPLES);
    samples.chunk_by(joined).flat_map(|run| run.chunks(FRAMES_MAX)).map(move |frames| {
        let tick_90k = tick(frames[0].time, with.rate);
        let mut bytes = head(AUDIO_ID, tick_90k, 0);
        frames.iter().for_each(|frame| with.put_frame(&mut bytes, &object.a[frame.bytes.clone()]));
        let len = (bytes.len() - 6) as u16; // at most FRAMES_MAX of 13 bits, and a head
        bytes[4..6].copy_from_slice(&len.to_be_bytes());
        Pes { track: Track::AUDIO, tick_90k, random_access: true, runs: vec![Run::Common(bytes)] }
    })
}

fn tick(sample: u64, rate: u32) -> i64 {
    let ticks = u128::from(sample) * ingest_api::window::TICKS_PER_SECOND as u128 / u128::from(rate);
    ticks as i64 // sample counts are of ticks below TICKS_MAX
}

/// The head of a PES packet of unsaid length. A presentation before its decoding cannot be said: it is both.
fn head(id: u8, tick_90k: i64, composition_90k: i32) -> Vec<u8> {
    let pts = clock(tick_90k + LEAD_90K + i64::from(composition_90k));
    let dts = (composition_90k > 0).then(|| clock(tick_90k + LEAD_90K));
    let (flags, len) = if dts.is_some() { (0xc0, 10) } else { (0x80, 5) };
    // 10 and "data begins here"; which stamps; how long they are.
    let mut out = vec![0, 0, 1, id, 0, 0, 0x84, flags, len];
    out.extend(stamp(flags >> 6, pts));
    out.extend(dts.into_iter().flat_map(|dts| stamp(1, dts)));
    out
}

/// A time stamp: four bits of prefix, then 3, 15 and 15 bits with a one behind each.
fn stamp(prefix: u8, time: u64) -> [u8; 5] {
    let bits = |from: u32| (time >> from) as u8;
    [prefix << 4 | (bits(30) & 7) << 1 | 1, bits(22), bits(14) | 1, bits(7), bits(0) << 1 | 1]
}

/// A NAL unit behind a start code.
fn put_unit(to: &mut Vec<u8>, unit: &[u8]) {
    to.extend_from_slice(&START_CODE);
    to.extend_from_slice(unit);
}

fn byte_stream(prefixed: &[u8], length_size: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(prefixed.len() + 8);
    units(prefixed, length_size).for_each(|unit| put_unit(&mut out, unit));
    out
}

/// The NAL units behind length prefixes, none empty; ends at a length that does not fit.
fn units(prefixed: &[u8], length_size: usize) -> impl Iterator<Item = &[u8]> {
    let mut rest = prefixed;
    let next = move || {
        let (prefix, after) = rest.split_at_checked(length_size)?;
        let len = prefix.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
        let (unit, after) = after.split_at_checked(len)?;
        rest = after;
        Some(unit)
    };
    std::iter::from_fn(next).filter(|unit| !unit.is_empty())
}
