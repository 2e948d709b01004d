//! Segments taken apart again by a demuxer that knows nothing of how they were made.

use super::packets::PACKET;
use super::*;
use crate::container::cmaf::{self, Sample};
use crate::container::pieces::Pieces;
use crate::unit::{AudioConfig, VideoConfig};
use bytes::Bytes;
use proptest::prelude::*;
use releve_watermark::{GopId, Position, Symbol};
use std::collections::BTreeMap;

const AVCC: &str = "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0";
const SPS: &str = "6764001facd9405005bb0110000003001000000303c0f18319 60";
const PPS: &str = "68ebe3cb22c0";
const FRAME_TICKS: i64 = 1_920;

/// A picture: its NAL units, and how many of them, from the second on, exist as A and B.
#[derive(Clone, Debug)]
struct Picture {
    idr: bool,
    composition: i32,
    units: Vec<Vec<u8>>,
    pairs: usize,
}

/// A unit's other variant: as long, with other bytes.
fn other(unit: &[u8]) -> Vec<u8> {
    unit.iter().enumerate().map(|(at, byte)| if at == 0 { *byte } else { !byte }).collect()
}

fn prefixed(unit: &[u8]) -> Bytes {
    [&(unit.len() as u32).to_be_bytes(), unit].concat().into()
}

fn video(start_90k: i64, pictures: &[Picture]) -> (Bytes, Object) {
    let config = VideoConfig::of_avcc(hex::decode(AVCC).unwrap().into()).unwrap();
    let sample = |picture: &Picture| Sample {
        duration: 3_000,
        size: picture.units.iter().map(|unit| unit.len() as u32 + 4).sum(),
        composition: picture.composition,
        sync: picture.idr,
    };
    let mut pieces = Pieces::default();
    // Two fragments, as parts make them.
    let (first, second) = pictures.split_at(pictures.len() / 2);
    for (pictures, time) in [(first, start_90k), (second, start_90k + 3_000 * first.len() as i64)] {
        let samples: Vec<Sample> = pictures.iter().map(sample).collect();
        pieces.common(cmaf::fragment_head(Track::Video, 1, time as u64, &samples));
        for picture in pictures {
            for (slice, unit) in picture.units.iter().enumerate() {
                if (1..=picture.pairs).contains(&slice) {
                    let position = Position { gop: GopId([5; 16]), slice: slice as u16 - 1 };
                    pieces.pair(prefixed(unit), prefixed(&other(unit)), position, 7);
                } else {
                    pieces.common(prefixed(unit));
                }
            }
        }
    }
    (cmaf::video_init(&config).unwrap(), pieces.freeze().0)
}

fn audio(start: u64, frames: &[Vec<u8>]) -> (Bytes, Object) {
    let config = AudioConfig::of_asc(Bytes::from_static(&[0x11, 0x90])).unwrap();
    let sample =
        |frame: &Vec<u8>| Sample { duration: 1_024, size: frame.len() as u32, composition: 0, sync: true };
    let samples: Vec<Sample> = frames.iter().map(sample).collect();
    let mut pieces = Pieces::default();
    pieces.common(cmaf::fragment_head(Track::AUDIO, 1, start, &samples));
    frames.iter().for_each(|frame| pieces.common(frame.clone().into()));
    (cmaf::audio_init(&config).unwrap(), pieces.freeze().0)
}

fn source(track: &(Bytes, Object)) -> Source<'_> {
    Source { init: &track.0, object: &track.1 }
}

fn muxed(video: Option<&(Bytes, Object)>, audio: Option<&(Bytes, Object)>) -> Object {
    segment(video.map(source), audio.map(source)).unwrap()
}

/// What a demuxer finds.
#[derive(Debug, Default)]
struct Found {
    /// Of each packet identifier: continuity counters, in order.
    counters: BTreeMap<u16, Vec<u8>>,
    /// PES packets of each packet identifier.
    packets: BTreeMap<u16, Vec<Vec<u8>>>,
    /// Clock reference and the packet it came in.
    references: Vec<(u64, u16)>,
}

fn demux(bytes: &[u8]) -> Found {
    let mut found = Found::default();
    assert_eq!(bytes.len() % PACKET, 0);
    for packet in bytes.chunks(PACKET) {
        assert_eq!(packet[0], 0x47);
        let pid = u16::from_be_bytes([packet[1] & 0x1f, packet[2]]);
        found.counters.entry(pid).or_default().push(packet[3] & 15);
        let mut at = 4;
        if packet[3] & 0x20 != 0 {
            at += 1 + usize::from(packet[4]);
            if packet[4] > 0 && packet[5] & 0x10 != 0 {
                let field = packet[6..12].iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
                found.references.push((field >> 15, pid));
            }
        }
        assert!(packet[3] & 0x10 != 0 && at < PACKET, "every packet carries something");
        let open = found.packets.entry(pid).or_default();
        if packet[1] & 0x40 != 0 {
            open.push(Vec::new());
        }
        open.last_mut().expect("begins with a start").extend_from_slice(&packet[at..]);
    }
    found
}

/// PTS, DTS and payload of a PES packet.
fn opened(pes: &[u8]) -> (u64, u64, &[u8]) {
    assert_eq!(pes[..3], [0, 0, 1]);
    let said = usize::from(u16::from_be_bytes([pes[4], pes[5]]));
    assert!(said == 0 || said == pes.len() - 6);
    let time = |at: usize| {
        let bits = |index: usize, shift: u32, mask: u8| u64::from(pes[at + index] >> shift & mask);
        bits(0, 1, 7) << 30
            | bits(1, 0, 255) << 22
            | bits(2, 1, 127) << 15
            | bits(3, 0, 255) << 7
            | bits(4, 1, 127)
    };
    let pts = time(9);
    (pts, if pes[7] & 0x40 != 0 { time(14) } else { pts }, &pes[9 + usize::from(pes[8])..])
}

/// NAL units of a byte stream with four-byte start codes; the units of these tests hold no zeros.
fn nal_units(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut units: Vec<Vec<u8>> = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at..].starts_with(&[0, 0, 0, 1]) {
            units.push(Vec::new());
            at += 4;
        } else {
            units.last_mut().expect("begins with a start code").push(bytes[at]);
            at += 1;
        }
    }
    units
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.replace(' ', "")).unwrap()
}

/// Everything that holds of a segment, whoever's copy it is.
fn check(start_90k: i64, pictures: &[Picture], frames: &[Vec<u8>], symbols: u64) {
    let (video, audio) = (video(start_90k, pictures), audio(start_90k as u64 * 8 / 15, frames));
    let object = muxed(Some(&video), Some(&audio));
    let tracks = Tracks::of(Some(source(&video)), Some(source(&audio))).unwrap();
    assert!(object.len() <= tracks.bytes_max(), "{} of {}", object.len(), tracks.bytes_max());
    let pairs: usize = pictures.iter().map(|picture| picture.pairs).sum();
    assert_eq!((object.pairs.len(), object.code_key), (pairs, if pairs > 0 { 7 } else { 0 }));
    assert!(object.pairs.iter().all(|pair| pair.offset % PACKET == 0 && pair.b.len() % PACKET == 0));
    assert_eq!(Object::decode(object.encode()), Ok(object.clone()));
    let chosen = |slice: u16| if symbols >> slice & 1 == 1 { Symbol::B } else { Symbol::A };
    let copy = object.pieces(|position| chosen(position.slice)).concat();
    let found = demux(&copy);
    for (pid, counters) in &found.counters {
        assert_eq!(counters.len() % ROUND, 0, "{pid}");
        assert!(
            counters.iter().enumerate().all(|(at, counter)| usize::from(*counter) == at % ROUND),
            "{pid}"
        );
    }
    assert_eq!((found.counters[&0].len(), found.counters[&0x1000].len()), (ROUND, ROUND));
    let none = Vec::new();
    let pes = |pid: u16| found.packets.get(&pid).unwrap_or(&none);
    assert_eq!(pes(0x100).len(), pictures.len());
    let mut tick = start_90k;
    for (picture, pes) in pictures.iter().zip(pes(0x100)) {
        let (pts, dts, payload) = opened(pes);
        let wrap = |tick: i64| (tick + 45_000) as u64 % (1 << 33);
        assert_eq!((pts, dts), (wrap(tick + i64::from(picture.composition)), wrap(tick)));
        let mut expected = vec![vec![9, 0xf0]];
        if picture.idr {
            expected.extend([unhex(SPS), unhex(PPS)]);
        }
        expected.extend(picture.units.iter().enumerate().map(|(slice, unit)| match slice.checked_sub(1) {
            Some(slice) if slice < picture.pairs && chosen(slice as u16) == Symbol::B => other(unit),
            _ => unit.clone(),
        }));
        assert_eq!(nal_units(payload), expected);
        tick += 3_000;
    }
    let mut heard: Vec<Vec<u8>> = Vec::new();
    for pes in pes(0x101) {
        let (pts, _, mut payload) = opened(pes);
        assert_eq!(pts, (start_90k + heard.len() as i64 * FRAME_TICKS + 45_000) as u64 % (1 << 33));
        while !payload.is_empty() {
            let len = usize::from(payload[3] & 3) << 11
                | usize::from(payload[4]) << 3
                | usize::from(payload[5] >> 5);
            assert_eq!((payload[0], payload[1], payload[2]), (0xff, 0xf1, 0x4c), "AAC-LC at 48 kHz");
            heard.push(payload[7..len].to_vec());
            payload = &payload[len..];
        }
    }
    assert_eq!(heard, frames);
    let expected = (0..pictures.len() as i64).map(|n| ((start_90k + n * 3_000) as u64 % (1 << 33), 0x100));
    assert_eq!(found.references, expected.collect::<Vec<_>>());
    // Nobody's bytes say more than their slices: heads and stuffing are everyone's.
    let a = object.pieces(|_| Symbol::A).concat();
    for (a, own) in a.chunks(PACKET).zip(copy.chunks(PACKET)) {
        let head = 4 + if a[3] & 0x20 != 0 { 1 + usize::from(a[4]) } else { 0 };
        assert_eq!(a[..head], own[..head]);
    }
}

fn unit(kind: u8) -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![0usize..40, 150usize..200, 0usize..1_200];
    size.prop_map(move |size| [&[kind][..], &vec![0xa5; size]].concat())
}

fn pictures() -> impl Strategy<Value = Vec<Picture>> {
    let slices = |kind| proptest::collection::vec(unit(kind), 1..6);
    let idr = (slices(0x65), 0usize..5, 0i32..9_000).prop_map(|(units, pairs, composition)| Picture {
        idr: true,
        composition,
        pairs: pairs.min(units.len() - 1),
        units,
    });
    let inter = (slices(0x41), 0i32..9_000).prop_map(|(units, composition)| Picture {
        idr: false,
        composition,
        pairs: 0,
        units,
    });
    proptest::collection::vec(prop_oneof![idr, inter], 0..12)
}

proptest! {
    #[test]
    fn every_copy_of_every_segment_comes_apart_as_it_went_in(
        start_90k in prop_oneof![Just(0i64), Just((1 << 33) - 9_000), (0i64..1 << 40)],
        pictures in pictures(),
        frames in proptest::collection::vec(proptest::collection::vec(1u8.., 1..400), 0..40),
        symbols in any::<u64>(),
    ) {
        // A whole sample: ticks of 15 are 8 samples at 48 kHz.
        check(start_90k / 15 * 15, &pictures, &frames, symbols);
    }
}

#[test]
fn sound_alone_carries_the_clock_reference() {
    let audio = audio(48_000, &vec![vec![0xaa; 300]; 9]);
    let found = demux(&muxed(None, Some(&audio)).a);
    let ticks = |frames: u64| 90_000 + frames * 1_920;
    assert_eq!(found.references, [(ticks(0), 0x101), (ticks(4), 0x101), (ticks(8), 0x101)]);
    let program = &found.packets[&0x1000][0];
    assert_eq!(program[1..3], [2, 0xb0], "a program map");
    assert_eq!((program[9], program[10]), (0xe1, 0x01), "its clock");
    assert_eq!((program[6] >> 1 & 31, program[3]), (2, 18), "version and length: one track");
}

#[test]
fn a_picture_keeps_its_own_delimiter_before_the_parameter_sets() {
    let units = vec![vec![9, 0x10], vec![6, 1, 1], vec![0x65; 30]];
    let video = video(0, &[Picture { idr: true, composition: 0, units, pairs: 1 }]);
    let found = demux(&muxed(Some(&video), None).a);
    let (_, _, payload) = opened(&found.packets[&0x100][0]);
    assert_eq!(nal_units(payload), [vec![9, 0x10], unhex(SPS), unhex(PPS), vec![6, 1, 1], vec![0x65; 30]]);
}

#[test]
fn presentation_never_comes_before_decoding_and_gaps_begin_anew() {
    let early = Picture { idr: true, composition: -3_000, units: vec![vec![0x65; 9]], pairs: 0 };
    let found = demux(&muxed(Some(&video(90_000, &[early])), None).a);
    assert_eq!(opened(&found.packets[&0x100][0]).0, 90_000 - 3_000 + 45_000);
    assert_eq!(found.packets[&0x100][0][7], 0x80, "one stamp");

    let config = AudioConfig::of_asc(Bytes::from_static(&[0x11, 0x90])).unwrap();
    let sample = |duration| Sample { duration, size: 4, composition: 0, sync: true };
    let mut pieces = Pieces::default();
    pieces.common(cmaf::fragment_head(Track::AUDIO, 1, 0, &[sample(1_024), sample(9_216), sample(1_024)]));
    pieces.common(Bytes::from_static(&[7; 12]));
    let audio = (cmaf::audio_init(&config).unwrap(), pieces.freeze().0);
    let found = demux(&muxed(None, Some(&audio)).a);
    let stamps: Vec<u64> = found.packets[&0x101].iter().map(|pes| opened(pes).0).collect();
    assert_eq!(stamps, [45_000, 45_000 + 10 * 1_920]);
}

#[test]
fn what_might_be_larger_than_an_object_may_be_is_not_there() {
    let of = |bytes: usize| {
        let picture = Picture { idr: true, composition: 0, units: vec![vec![0x65; bytes]], pairs: 0 };
        video(90_000, &[picture])
    };
    let (fits, large) = (of(60 << 20), of(63 << 20));
    assert!(is_there(Some(source(&fits)), None) && !is_there(Some(source(&large)), None));
    assert_eq!(segment(Some(source(&large)), None), None);
    assert!(segment(Some(source(&fits)), None).unwrap().len() <= OBJECT_BYTES_MAX);
}

#[test]
fn sound_that_adts_cannot_describe_is_left_out() {
    // A rate that is spelled out is found in the table; seven channels of another layout are not said in 3 bits.
    for (asc, tracks) in [(&[0x17, 0x80, 0x2e, 0xe0, 0x10][..], 1), (&[0x11, 0xd8], 0)] {
        let config = AudioConfig::of_asc(Bytes::from_static(asc)).unwrap();
        let mut pieces = Pieces::default();
        let sample = Sample { duration: 1_024, size: 4, composition: 0, sync: true };
        pieces.common(cmaf::fragment_head(Track::AUDIO, 1, 0, &[sample]));
        pieces.common(Bytes::from_static(&[7; 4]));
        let sound = (cmaf::audio_init(&config).unwrap(), pieces.freeze().0);
        let source = Source { init: &sound.0, object: &sound.1 };
        assert_eq!(segment(None, Some(source)).is_some(), tracks == 1, "{asc:x?}");
        let picture = Picture { idr: true, composition: 0, units: vec![vec![0x65; 9]], pairs: 0 };
        let pictures = video(90_000, &[picture]);
        let found = demux(&muxed(Some(&pictures), Some(&sound)).a);
        assert_eq!(found.packets.keys().filter(|pid| **pid == 0x101).count(), tracks, "{asc:x?}");
    }
}
