//! Packets of 188 bytes (ISO/IEC 13818-1 §2.4.3.2), the tables among them, and the object they make.
//!
//! In: PES packets in order, and how many packets each lane is padded by. Out: an `Object`. Pure.

use super::pes::{Pes, Run, clock};
use bytes::Bytes;
use ingest_api::{Object, Pair, Track};

/// Bytes of a packet.
pub(super) const PACKET: usize = 188;
/// Bytes of a packet behind its head.
const BODY: usize = PACKET - 4;
/// Bytes of an adaptation field with a clock reference and nothing else.
pub(super) const REFERENCE: usize = 8;
/// Continuity counters count to this: each lane of a segment has a multiple of it, so that the next one begins with 0.
pub(super) const ROUND: usize = 16;

/// What has a packet identifier and a continuity counter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Programs,
    Program,
    Media(Track),
}

impl Lane {
    fn pid(self) -> u16 {
        match self {
            Lane::Programs => 0,
            Lane::Program => 0x1000,
            Lane::Media(Track::Video | Track::Encoding(_)) => 0x100,
            Lane::Media(Track::Audio(_)) => 0x101,
        }
    }

    fn index(self) -> usize {
        match self {
            Lane::Programs => 0,
            Lane::Program => 1,
            Lane::Media(Track::Video | Track::Encoding(_)) => 2,
            Lane::Media(Track::Audio(_)) => 3,
        }
    }
}

/// What stands in an adaptation field besides stuffing.
#[derive(Clone, Copy)]
struct Reference {
    tick_90k: i64,
    random_access: bool,
}

/// How many packets a run takes; the first of a PES packet that carries a clock reference has less room.
pub(super) fn packets(len: usize, with_reference: bool) -> usize {
    let first = BODY - if with_reference { REFERENCE } else { 0 };
    if len == 0 { 0 } else { 1 + len.saturating_sub(first).div_ceil(BODY) }
}

/// A segment in the making.
pub(super) struct Writer {
    /// The lane of the clock reference.
    clock: Track,
    tables: [Vec<u8>; 2],
    counters: [u8; 4],
    a: Vec<u8>,
    pairs: Vec<Pair>,
}

impl Writer {
    /// A segment of these tracks, which takes about so many packets. The clock reference rides with pictures, or with sound
    /// where there are none.
    pub(super) fn new(video: bool, audio: bool, about: usize) -> Writer {
        let clock = if video { Track::Video } else { Track::AUDIO };
        let tables = [programs(), program(clock, video, audio)];
        let a = Vec::with_capacity((about + 4 * ROUND) * PACKET);
        Writer { clock, tables, counters: [0; 4], a, pairs: Vec::new() }
    }

    /// Whether PES packets of this track begin with a clock reference.
    pub(super) fn has_reference(&self, track: Track) -> bool {
        self.clock == track
    }

    /// Adds both tables.
    pub(super) fn put_tables(&mut self) {
        for (lane, index) in [(Lane::Programs, 0), (Lane::Program, 1)] {
            let mut section = [0xff; BODY];
            section[0] = 0; // the section begins at once
            section[1..=self.tables[index].len()].copy_from_slice(&self.tables[index]);
            let mut a = std::mem::take(&mut self.a);
            self.packet(&mut a, lane, true, None, &section);
            self.a = a;
        }
    }

    /// Adds a PES packet; one of its common runs takes so many packets more than it needs.
    pub(super) fn put(&mut self, pes: &Pes, padded: Option<(usize, usize)>) {
        let lane = Lane::Media(pes.track);
        for (index, run) in pes.runs.iter().enumerate() {
            let first = index == 0;
            let reference = (first && self.has_reference(pes.track))
                .then_some(Reference { tick_90k: pes.tick_90k, random_access: pes.random_access });
            let more = padded.filter(|(at, _)| *at == index).map_or(0, |(_, more)| more);
            let mut a = std::mem::take(&mut self.a);
            match run {
                Run::Common(bytes) => self.run(&mut a, lane, first, reference, bytes, more),
                Run::Pair { a: bytes, b, position } => {
                    let (offset, before) = (a.len(), self.counters);
                    self.run(&mut a, lane, false, None, bytes, 0);
                    // The same packets once more, with the other bytes.
                    self.counters = before;
                    let mut other = Vec::with_capacity(a.len() - offset);
                    self.run(&mut other, lane, false, None, b, 0);
                    self.pairs.push(Pair { offset, position: *position, b: other.into() });
                }
            }
            self.a = a;
        }
    }

    /// The whole; `code_key` chooses in it.
    pub(super) fn finish(self, code_key: u32) -> Object {
        let code_key = if self.pairs.is_empty() { 0 } else { code_key };
        Object { code_key, a: Bytes::from(self.a), pairs: self.pairs }
    }

    /// A run in as many packets as it needs, and `more`: the last of them carry a byte each.
    fn run(
        &mut self,
        to: &mut Vec<u8>,
        lane: Lane,
        first: bool,
        reference: Option<Reference>,
        bytes: &[u8],
        more: usize,
    ) {
        let count = packets(bytes.len(), reference.is_some()) + more;
        let mut rest = bytes;
        for index in 0..count {
            let reference = reference.filter(|_| index == 0);
            let room = BODY - if reference.is_some() { REFERENCE } else { 0 };
            let later = count - index - 1;
            let (payload, after) = rest.split_at(rest.len().saturating_sub(later).min(room));
            self.packet(to, lane, first && index == 0, reference, payload);
            rest = after;
        }
    }

    fn packet(
        &mut self,
        to: &mut Vec<u8>,
        lane: Lane,
        start: bool,
        reference: Option<Reference>,
        payload: &[u8],
    ) {
        let counter = &mut self.counters[lane.index()];
        let [high, low] = lane.pid().to_be_bytes();
        let field = BODY - payload.len();
        let control = if field > 0 { 0x30 } else { 0x10 };
        to.extend([0x47, u8::from(start) << 6 | high, low, control | *counter]);
        *counter = (*counter + 1) % ROUND as u8;
        if let Some(after) = field.checked_sub(1) {
            let end = to.len() + field;
            to.push(after as u8);
            if after > 0 {
                let random = reference.is_some_and(|reference| reference.random_access);
                to.push(u8::from(random) << 6 | u8::from(reference.is_some()) << 4);
            }
            if let Some(reference) = reference {
                // 33 bits at 90 kHz, six reserved, nine of the finer clock: that one is 0.
                let base = clock(reference.tick_90k) << 15 | 0x7e00;
                to.extend_from_slice(&base.to_be_bytes()[2..]);
            }
            to.resize(end, 0xff);
        }
        to.extend_from_slice(payload);
    }
}

/// The program association table: one program.
fn programs() -> Vec<u8> {
    let [high, low] = Lane::Program.pid().to_be_bytes();
    section(0, 1, 0, &[0, 1, 0xe0 | high, low])
}

/// The program map table. Its version says which tracks there are: where they change, it does.
fn program(clock: Track, video: bool, audio: bool) -> Vec<u8> {
    let entry = |kind: u8, track| {
        let [high, low] = Lane::Media(track).pid().to_be_bytes();
        [kind, 0xe0 | high, low, 0xf0, 0]
    };
    let [high, low] = Lane::Media(clock).pid().to_be_bytes();
    let mut body = vec![0xe0 | high, low, 0xf0, 0];
    body.extend(video.then(|| entry(0x1b, Track::Video)).into_iter().flatten()); // H.264
    body.extend(audio.then(|| entry(0x0f, Track::AUDIO)).into_iter().flatten()); // AAC in ADTS
    section(2, 1, u8::from(video) | u8::from(audio) << 1, &body)
}

/// A section with its checksum (§2.4.4).
fn section(table: u8, id: u16, version: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() + 9) as u8; // a few entries
    let [high, low] = id.to_be_bytes();
    let mut out = vec![table, 0xb0, len, high, low, 0xc1 | version << 1, 0, 0];
    out.extend_from_slice(body);
    let crc = crc32(&out);
    out.extend(crc.to_be_bytes());
    out
}

/// The checksum of sections: CRC-32 with the highest bit first and nothing inverted at the end (annex A).
fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte) << 24, |crc, _| {
            if crc >> 31 == 1 { crc << 1 ^ 0x04c1_1db7 } else { crc << 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0x0376_e6e7, "CRC-32/MPEG-2");
        assert_eq!(crc32(&programs()), 0, "a section with its checksum checks to 0");
    }
}
