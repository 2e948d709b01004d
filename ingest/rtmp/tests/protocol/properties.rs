//! What holds for every publish: the cut of the input does not show, a snapshot at any byte does
//! not show, and a damaged publish ends in an error or in media, never in anything else.

use crate::common::{KEY, Wire};
use proptest::prelude::*;
use rtmp::fuzzing::{Transcript, drive};
use rtmp::{Config, Error, Event, RestoreError, Session, Stage};

/// One second of `testsrc` and a sine, 96x64, published by ffmpeg 5.1 (`-c:v libx264 -c:a aac`).
const FFMPEG: &[u8] = include_bytes!("../captures/ffmpeg-5.1.bin");

fn config() -> Config {
    Config { budget: 1 << 20, media_len_max: 1 << 18, window_ack_size: 4096, ..Config::default() }
}

fn whole(input: &[u8]) -> Transcript {
    drive(&config(), input, [input.len()], false, false)
}

/// A publish with control messages, interleaving, an abort, a second publish.
fn varied() -> Wire {
    let mut wire = Wire::publishing();
    wire.chunk_size(1000).media(6);
    wire.message(2, 4, 0, 0, &[0, 6, 0, 0, 0, 1]).message(2, 5, 0, 0, &[0, 0, 0x20, 0]);
    wire.raw(&[7, 0, 0, 1, 0, 8, 0, 9, 1, 0, 0, 0]).raw(&[1; 1000]).media(2);
    wire.raw(&[0xC7]).raw(&[1; 1000]).media(2).raw(&[0xC7]).raw(&[1; 48]);
    wire.raw(&[7, 0, 0, 1, 0, 8, 0, 9, 1, 0, 0, 0]).raw(&[1; 1000]).message(2, 2, 0, 0, &[0, 0, 0, 7]);
    wire.goodbye().command(0, "createStream", 9.0, &[rtmp::amf::Value::Null]).publish().media(3);
    wire
}

#[test]
fn the_capture_of_a_real_ffmpeg_gives_all_its_frames() {
    let transcript = whole(FFMPEG);
    assert_eq!(transcript.error, None);
    let media = crate::common::media(&transcript.events);
    let count = |kind| media.iter().filter(|message| message.kind == kind).count();
    assert_eq!(count(rtmp::MediaKind::Video), 12, "10 frames, the AVC header and its end");
    assert_eq!(count(rtmp::MediaKind::Audio), 46, "45 frames and the AAC header");
    assert_eq!(transcript.events.last(), Some(&Event::Unpublish));
}

#[test]
fn a_snapshot_at_every_message_and_every_byte_does_not_show() {
    let wire = varied();
    let plain = whole(&wire.bytes);
    assert_eq!(plain.error, None);
    assert!(plain.events.len() > 25, "{:?}", plain.events);
    let mut last = 0;
    let cuts: Vec<usize> = wire.cuts.iter().map(|&cut| cut - std::mem::replace(&mut last, cut)).collect();
    assert_eq!(drive(&config(), &wire.bytes, cuts, true, false), plain);
    // Every byte behind the handshake, and every byte of the handshake in steps of 1.
    assert_eq!(drive(&config(), &wire.bytes, [1], true, false), plain);
}

#[test]
fn a_snapshot_before_output_and_events_are_drained_keeps_them() {
    let mut session = Session::new(config(), 0, [3; 1528]);
    session.handle_input(1, &varied().bytes).unwrap();
    let mut copy = Session::restore(&session.snapshot()).unwrap();
    for _ in 0..2 {
        assert_eq!(copy.stage(), session.stage());
        assert_eq!(copy.poll_timeout(), session.poll_timeout());
        assert_eq!(copy.bytes_received(), session.bytes_received());
        assert_eq!(copy.poll_transmit(), session.poll_transmit());
        let mut drained = 0;
        while let Some(event) = session.poll_event() {
            assert_eq!(copy.poll_event(), Some(event));
            drained += 1;
        }
        assert!(drained > 0 && copy.poll_event().is_none());
        session.accept_publish();
        copy.accept_publish();
        assert_eq!(copy.handle_timeout(2), session.handle_timeout(2));
        // Media waits again, undrained.
        copy = Session::restore(&session.snapshot()).unwrap();
    }
}

#[test]
fn a_session_that_follows_has_no_deadline_until_it_leads() {
    let mut session = Session::new(config(), 100, [3; 1528]);
    session.follow();
    session.handle_input(200, &Wire::created().bytes).unwrap();
    assert_eq!(session.poll_timeout(), None);
    session.handle_timeout(1_000_000).unwrap();
    session.lead(1_000_001);
    assert_eq!(session.poll_timeout(), Some(1_010_001));
    assert!(matches!(session.handle_timeout(1_010_001), Err(Error::PublishDeadline { .. })));
}

#[test]
fn a_snapshot_keeps_the_deadline_and_a_dead_session_stays_dead() {
    let mut session = Session::new(config(), 100, [3; 1528]);
    session.handle_input(200, &Wire::created().bytes).unwrap();
    let mut copy = Session::restore(&session.snapshot()).unwrap();
    assert_eq!(copy.poll_timeout(), Some(10_100));
    let late = Error::PublishDeadline { stage: Stage::StreamCreated, limit_ms: 10_000 };
    assert_eq!(copy.handle_timeout(10_100), Err(late));
    let mut dead = Session::restore(&copy.snapshot()).unwrap();
    assert_eq!(dead.handle_input(10_101, &[1]), Err(Error::Closed));
}

#[test]
fn snapshots_are_not_trusted() {
    let mut session = Session::new(config(), 0, [3; 1528]);
    session.handle_input(1, &varied().bytes[..5_000]).unwrap();
    let good = session.snapshot();
    assert_eq!(Session::restore(b"").unwrap_err(), RestoreError::Magic);
    assert_eq!(Session::restore(b"RTMX\x01").unwrap_err(), RestoreError::Magic);
    let version = Session::restore(b"RTMS\x63").unwrap_err();
    assert_eq!(version, RestoreError::Version { version: 0x63, ours: 2 });
    for cut in 5..good.len() {
        assert!(Session::restore(&good[..cut]).is_err(), "cut at {cut}");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(Session::restore(&longer).unwrap_err(), RestoreError::Length { at: good.len() });
    // Every byte changed: an error, or a session that still keeps its limits on any input.
    for at in 5..good.len() {
        for change in [1, 0x80, 0xFF] {
            let mut bad = good.clone();
            bad[at] ^= change;
            if let Ok(mut session) = Session::restore(&bad) {
                session.accept_publish();
                let _ = session.handle_timeout(1);
                let _ = session.handle_input(1, &[0xC6; 300]);
                while session.poll_event().is_some() || session.poll_transmit().is_some() {}
                session.close("test");
            }
        }
    }
}

/// One change of a recorded publish.
#[derive(Debug, Clone)]
enum Damage {
    Flip(usize, u8),
    Drop(usize, usize),
    Insert(usize, Vec<u8>),
    Swap(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        (any::<usize>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        (any::<usize>(), 1..40usize).prop_map(|(at, len)| Damage::Drop(at, len)),
        (any::<usize>(), prop::collection::vec(any::<u8>(), 1..20))
            .prop_map(|(at, new)| Damage::Insert(at, new)),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Damage::Swap(a, b)),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &[Damage]) {
    for one in damage {
        let len = bytes.len();
        match one {
            Damage::Flip(at, bit) => bytes[at % len] ^= 1 << bit,
            Damage::Drop(at, count) => {
                let at = at % len;
                bytes.drain(at..len.min(at + count));
            }
            Damage::Insert(at, new) => {
                let at = at % len;
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Swap(a, b) => bytes.swap(a % len, b % len),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_cut_of_the_input_does_not_show(
        pieces in prop::collection::vec(1usize..3000, 1..60), restore: bool, real: bool,
    ) {
        let input = if real { FFMPEG.to_vec() } else { varied().bytes };
        let cut = drive(&config(), &input, pieces, restore, false);
        prop_assert_eq!(cut, whole(&input));
    }

    #[test]
    fn a_refused_publish_does_not_depend_on_the_cut_either(pieces in prop::collection::vec(1usize..3000, 1..60)) {
        let input = varied().bytes;
        let whole = drive(&config(), &input, [input.len()], false, true);
        prop_assert!(matches!(whole.error, Some(Error::MediaWithoutPublish { .. })), "{:?}", whole.error);
        prop_assert_eq!(drive(&config(), &input, pieces, true, true), whole);
    }

    #[test]
    fn a_damaged_publish_keeps_every_promise(
        damages in prop::collection::vec(damage(), 1..6), real: bool, handshake: bool, seed: u8,
    ) {
        let input = if real { FFMPEG.to_vec() } else { varied().bytes };
        let (head, tail) = input.split_at(if handshake { 0 } else { 3073 });
        let mut tail = tail.to_vec();
        apply(&mut tail, &damages);
        let input = [head, &tail].concat();
        let whole = whole(&input);
        let pieces = [1 + usize::from(seed), 3000, 7, 500];
        let cut = drive(&config(), &input, pieces.into_iter().cycle().take(500), true, false);
        prop_assert_eq!(&cut, &whole);
        let printed = format!("{:?} {}", whole, whole.error.as_ref().map(Error::to_string).unwrap_or_default());
        prop_assert!(!printed.contains(KEY));
    }

    #[test]
    fn any_bytes_keep_every_promise(data in prop::collection::vec(any::<u8>(), 0..600)) {
        rtmp::fuzzing::session(&data);
        rtmp::fuzzing::chunk(&data);
        rtmp::fuzzing::amf(&data);
    }
}
