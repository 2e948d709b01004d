//! The feed as a publisher meets it: starts, clocks, configurations, and messages that are wrong.
#![allow(clippy::unwrap_used)] // a test says what it expects by failing loudly, its helpers too

use bytes::Bytes;
use ingest_api::{AudioTrack, Encoding, Track};
use media::feed::{Feed, FeedError, Kind, NalFault, Note};
use media::timeline::Event;
use media::unit::Unit;
use proptest::prelude::*;

const AVCC: &str = "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0";

fn video_config() -> Bytes {
    [&[0x17, 0, 0, 0, 0][..], &hex::decode(AVCC).unwrap()].concat().into()
}

fn audio_config() -> Bytes {
    Bytes::from_static(&[0xaf, 0, 0x11, 0x90])
}

/// One NAL unit of a type, under whatever FLV key flag.
fn picture(nal: u8, key: bool) -> Bytes {
    Bytes::from(vec![if key { 0x17 } else { 0x27 }, 1, 0, 0, 67, 0, 0, 0, 2, nal, 0x88])
}

fn sound() -> Bytes {
    Bytes::from_static(&[0xaf, 1, 0x21, 0x10])
}

fn shape(units: &[Unit]) -> Vec<(char, i64)> {
    let one = |unit: &Unit| match unit {
        Unit::VideoConfig(_) => ('V', 0),
        Unit::AudioConfig(..) => ('A', 0),
        Unit::Video(unit) => (if unit.idr { 'i' } else { 'p' }, unit.dts_90k / 90),
        Unit::Audio(frame) => ('a', frame.time_90k / 90),
        Unit::EncodingConfig(..) => ('E', 0),
        Unit::Encoding(_, unit) => (if unit.idr { 'j' } else { 'q' }, unit.dts_90k / 90),
    };
    units.iter().map(one).collect()
}

fn feed(start_90k: i64, messages: &[(Kind, u32, Bytes)]) -> (Feed, Vec<(char, i64)>) {
    let mut feed = Feed::new(start_90k);
    let units = messages.iter().flat_map(|(kind, ms, bytes)| feed.push(*kind, *ms, bytes.clone()).unwrap());
    let shape = shape(&units.collect::<Vec<_>>());
    (feed, shape)
}

use Kind::{Audio, Data, Video};

#[test]
fn the_first_idr_lands_on_the_start_tick_with_the_audio_beside_it() {
    let (mut feed, units) = feed(
        900_000,
        &[
            (Data, 0, Bytes::from_static(b"\x02\0\nonMetaData")),
            (Video, 5_000, video_config()),
            (Audio, 5_000, audio_config()),
            (Audio, 5_000, sound()),
            (Video, 5_000, picture(0x41, false)),
            (Audio, 5_021, sound()),
            (Audio, 5_043, sound()),
            (Video, 5_033, picture(0x65, true)),
            (Audio, 5_064, sound()),
        ],
    );
    assert_eq!(units, [('V', 0), ('A', 0), ('i', 10_000), ('a', 10_010), ('a', 10_031)]);
    assert_eq!(feed.take_notes(), [Note::Started(Track::Video)]);
    assert_eq!((feed.counts().dropped, feed.counts().ignored), (3, 1));
}

#[test]
fn audio_alone_starts_after_a_second_with_nothing_lost() {
    let mut messages = vec![(Audio, 0, audio_config())];
    messages.extend((0..60).map(|n| (Audio, 700 + n * 21, sound())));
    let (_, units) = feed(0, &messages);
    assert_eq!(units.len(), 61);
    assert_eq!((units[1], units[60]), (('a', 0), ('a', 59 * 21)));
}

#[test]
fn nal_units_say_what_is_an_idr_not_the_flag() {
    let (_, units) = feed(
        0,
        &[
            (Video, 0, video_config()),
            (Video, 0, picture(0x41, true)),
            (Video, 33, picture(0x65, false)),
            (Video, 67, picture(0x41, true)),
            (Video, 70, picture(0x06, true)),
        ],
    );
    assert_eq!(units, [('V', 0), ('i', 0), ('p', 34)]);
}

#[test]
fn a_repeated_configuration_is_silent_and_another_one_waits_for_its_idr() {
    let mut other = video_config().to_vec();
    *other.last_mut().unwrap() = 0xc1;
    let (_, units) = feed(
        0,
        &[
            (Video, 0, video_config()),
            (Audio, 0, audio_config()),
            (Video, 0, picture(0x65, true)),
            (Video, 10, video_config()),
            (Audio, 10, audio_config()),
            (Video, 33, picture(0x41, false)),
            (Video, 40, other.into()),
            (Video, 67, picture(0x41, false)),
            (Video, 100, picture(0x65, true)),
        ],
    );
    assert_eq!(units, [('V', 0), ('A', 0), ('i', 0), ('p', 33), ('V', 0), ('i', 100)]);
}

#[test]
fn faults_name_time_and_byte_and_the_feed_goes_on() {
    let (mut feed, _) = feed(0, &[(Video, 0, video_config()), (Video, 0, picture(0x65, true))]);
    let nal = |nals: &[u8]| Bytes::from([&[0x27, 1, 0, 0, 0][..], nals].concat());
    for (nals, offset, why) in [
        (&[0, 0, 0, 1, 0x41, 0, 0][..], 5, NalFault::Prefix),
        (&[0, 0, 0, 9, 0x41], 0, NalFault::Length { len: 9, left: 1 }),
        (&[0xff, 0xff, 0xff, 0xff, 0x41], 0, NalFault::Length { len: u32::MAX, left: 1 }),
        (&[0, 0, 0, 0], 0, NalFault::Empty),
        (&[0, 0, 0, 1, 0xc1], 4, NalFault::Head),
    ] {
        assert_eq!(feed.push(Video, 40, nal(nals)), Err(FeedError::Nal { timestamp_ms: 40, offset, why }));
    }
    assert_eq!(feed.push(Video, 50, picture(0x41, false)), Ok(vec![]), "it refers to what was refused");
    assert_eq!(shape(&feed.push(Video, 67, picture(0x65, false)).unwrap()), [('i', 67)]);
    let error = feed.push(Video, 80, Bytes::from_static(b"\x91vp09\0\0\0x")).unwrap_err().to_string();
    assert!(error.contains("VP9") && error.contains("80 ms"), "{error}");
}

/// Pictures are of the coding that the configuration names, or of none.
#[test]
fn pictures_of_another_coding_are_dropped() {
    let (mut feed, _) = feed(0, &[(Video, 0, video_config()), (Video, 0, picture(0x65, true))]);
    let hevc = Bytes::from_static(b"\x93hvc1\0\0\0\x03\x26\x01\xaf");
    assert_eq!(feed.push(Video, 40, hevc), Ok(vec![]));
    assert_eq!(feed.counts().dropped, 1);
}

/// A message with one audio track: packet type 0 is its configuration, 1 a frame.
fn track(id: u8, packet: u8, fourcc: &[u8; 4], data: &[u8]) -> Bytes {
    [&[0x95, packet][..], fourcc, &[id], data].concat().into()
}

#[test]
fn further_audio_tracks_go_on_beside_the_first() {
    let second = AudioTrack::new(1).unwrap();
    let (mut feed, units) = feed(
        0,
        &[
            (Video, 0, video_config()),
            (Audio, 0, audio_config()),
            (Audio, 0, track(1, 0, b"mp4a", &[0x12, 0x10])),
            (Audio, 0, track(1, 1, b"mp4a", b"early")),
            (Video, 20, picture(0x65, true)),
            (Audio, 21, sound()),
            (Audio, 22, track(1, 1, b"mp4a", b"b")),
            (Audio, 23, track(1, 0, b"mp4a", &[0x12, 0x10])),
        ],
    );
    assert_eq!(units, [('V', 0), ('A', 0), ('A', 0), ('i', 0), ('a', 1), ('a', 2)], "on one clock");
    let both = Bytes::from_static(b"\x95\x11mp4a\x01\0\0\x01x\0\0\0\x03abc");
    let units = feed.push(Audio, 44, both).unwrap();
    let of = |unit: &Unit| match unit {
        Unit::Audio(frame) => (frame.track, frame.data.clone()),
        other => panic!("{other:?}"),
    };
    let expected = [(AudioTrack::FIRST, Bytes::from_static(b"abc")), (second, Bytes::from_static(b"x"))];
    assert_eq!(units.iter().map(of).collect::<Vec<_>>(), expected);
    assert_eq!((feed.counts().dropped, feed.counts().further_audio), (1, 0));
    assert_eq!(Feed::restore(&feed.snapshot()), Ok(feed));
}

#[test]
fn what_is_wrong_with_a_further_track_is_left_out_and_noted_once() {
    let (mut feed, _) =
        feed(0, &[(Video, 0, video_config()), (Audio, 0, audio_config()), (Video, 0, picture(0x65, true))]);
    feed.take_notes();
    let large = vec![0x21; media::feed::AUDIO_FRAME_BYTES_MAX + 1];
    for (message, left_out, dropped) in [
        (track(8, 1, b"mp4a", b"x"), 1, 0),
        (track(1, 0, b"fLaC", b"x"), 1, 0),
        (track(1, 1, b"mp4a", b"before its configuration"), 0, 1),
        (track(1, 0, b"mp4a", &[0x12, 0x10]), 0, 0),
        (track(1, 1, b"mp4a", &large), 1, 0),
        (track(1, 0, b"mp4a", &[0xff]), 1, 0),
        (track(1, 1, b"mp4a", b"after a bad one"), 0, 1),
    ] {
        let before = feed.counts();
        let units = feed.push(Audio, 20, message).unwrap();
        assert!(units.iter().all(|unit| matches!(unit, Unit::AudioConfig(..))), "{units:?}");
        let counts = feed.counts();
        assert_eq!(counts.further_audio - before.further_audio, left_out);
        assert_eq!(counts.dropped - before.dropped, dropped);
    }
    assert_eq!(feed.take_notes(), [Note::LeftOut(Track::AUDIO)]);
    // The same of the first is the publisher's to hear.
    assert!(feed.push(Audio, 40, track(0, 0, b"fLaC", b"x")).is_err());
    assert!(feed.push(Audio, 40, track(0, 1, b"mp4a", &large)).is_err());
}

/// A message with one encoding of the picture: packet type 0 is its configuration, 3 a picture.
fn encoding(id: u8, packet: u8, data: &[u8]) -> Bytes {
    [&[0x96, packet][..], b"avc1", &[id], data].concat().into()
}

fn further(id: u8, nal: u8) -> Bytes {
    encoding(id, 3, &[0, 0, 0, 2, nal, 0x88])
}

#[test]
fn further_encodings_go_on_beside_the_picture_and_on_its_clock() {
    let avcc = hex::decode(AVCC).unwrap();
    let (mut feed, units) = feed(
        900_000,
        &[
            (Video, 5_000, encoding(1, 0, &avcc)),
            (Video, 5_000, further(1, 0x65)),
            (Video, 5_000, video_config()),
            (Video, 5_000, encoding(2, 0, &avcc)),
            (Video, 5_000, encoding(2, 0, &avcc)),
            (Video, 5_000, picture(0x65, true)),
            (Video, 5_000, further(2, 0x65)),
            (Video, 5_000, further(1, 0x41)),
            (Video, 5_033, further(2, 0x41)),
            (Video, 5_033, picture(0x41, false)),
            (Video, 5_067, further(1, 0x65)),
            (Video, 9_000, further(2, 0x41)),
            (Video, 5_067, further(2, 0x41)),
            (Video, 5_067, picture(0x41, false)),
        ],
    );
    let expected = [
        ('E', 0),
        ('V', 0),
        ('E', 0),
        ('i', 10_000),
        ('j', 10_000),
        ('q', 10_033),
        ('p', 10_033),
        ('j', 10_067),
        ('p', 10_067),
    ];
    assert_eq!(
        units, expected,
        "nothing before the picture, nothing behind a hole, nothing on another clock"
    );
    assert_eq!((feed.counts().dropped, feed.counts().further_video, feed.counts().jumps), (4, 0, 0));
    let many = [
        &[0x96, 0x13][..],
        b"avc1\x02\0\0\x06",
        &[0, 0, 0, 2, 0x65, 0x88],
        b"\0\0\0\x06",
        &[0, 0, 0, 2, 0x41, 0x88],
    ];
    let units = feed.push(Video, 5_100, many.concat().into()).unwrap();
    assert_eq!(shape(&units), [('p', 10_100), ('j', 10_100)], "the picture first");
    let Unit::Encoding(of, _) = &units[1] else { panic!("{units:?}") };
    assert_eq!(Encoding::new(2), Some(*of));
    assert_eq!(Feed::restore(&feed.snapshot()), Ok(feed));
}

#[test]
fn what_is_wrong_with_a_further_encoding_is_left_out_and_the_picture_goes_on() {
    let (mut feed, _) = feed(0, &[(Video, 0, video_config()), (Video, 0, picture(0x65, true))]);
    feed.take_notes();
    let avcc = hex::decode(AVCC).unwrap();
    let large = [&[0, 0, 0, 2, 0x65, 0x88][..], &vec![0; media::feed::ACCESS_UNIT_BYTES_MAX]].concat();
    for (message, left_out, dropped) in [
        (encoding(5, 0, &avcc), 1, 0),
        (Bytes::from_static(b"\x96\x03vp09\x01x"), 1, 0),
        (further(1, 0x65), 0, 1),
        (encoding(1, 0, &avcc[..9]), 1, 0),
        (further(1, 0x65), 0, 1),
        (encoding(1, 0, &avcc), 0, 0),
        (further(1, 0x41), 0, 1),
        (further(1, 0x65), 0, 0),
        (encoding(1, 3, &[0, 0, 0, 9, 0x41]), 1, 0),
        (further(1, 0x41), 0, 1),
        (encoding(1, 3, &large), 1, 0),
    ] {
        let before = feed.counts();
        feed.push(Video, 20, message).unwrap();
        let counts = feed.counts();
        assert_eq!(counts.further_video - before.further_video, left_out);
        assert_eq!(counts.dropped - before.dropped, dropped);
    }
    assert_eq!(feed.take_notes(), [Note::LeftOut(Track::Video)]);
    assert_eq!(shape(&feed.push(Video, 33, picture(0x41, false)).unwrap()), [('p', 33)]);
    // The same of the picture is the publisher's to hear.
    assert!(feed.push(Video, 40, encoding(0, 0, &avcc[..9])).is_err());
}

#[test]
fn without_pictures_the_first_audio_track_is_what_the_run_begins_with() {
    let mut messages = vec![(Audio, 0, audio_config()), (Audio, 0, track(2, 0, b"mp4a", &[0x12, 0x10]))];
    for ms in (0..=1_500).step_by(20) {
        messages.push((Audio, 5_000 + ms, track(2, 1, b"mp4a", b"c")));
        if ms >= 100 {
            messages.push((Audio, 5_005 + ms, sound()));
        }
    }
    let (feed, units) = feed(900_000, &messages);
    assert_eq!(units[..4], [('A', 0), ('A', 0), ('a', 10_000), ('a', 10_015)]);
    assert_eq!(feed.counts().dropped, 6, "what came before it");
}

#[test]
fn jumps_are_noted() {
    let (mut feed, units) = feed(
        0,
        &[
            (Video, 9_000, video_config()),
            (Video, 9_000, picture(0x65, true)),
            (Video, 9_033, picture(0x41, false)),
            (Video, 0, picture(0x65, true)),
            (Video, 33, picture(0x41, false)),
        ],
    );
    assert_eq!(units, [('V', 0), ('i', 0), ('p', 33), ('i', 66), ('p', 99)]);
    let jump = Note::Time(Event::Jump { track: Track::Video, from_ms: 9_033, to_ms: 0 });
    assert_eq!(feed.take_notes(), [Note::Started(Track::Video), jump]);
    assert_eq!(feed.counts().jumps, 1);
}

proptest! {
    /// A state taken between any two messages goes on as if nothing had happened.
    #[test]
    fn a_cut_at_every_message_changes_nothing(
        messages in proptest::collection::vec((0u8..9, prop_oneof![0u32..4_000, any::<u32>()]), 1..80),
    ) {
        let mut straight = Feed::new(77);
        let mut carried = Feed::new(77);
        for (what, ms) in messages {
            let (kind, bytes) = match what {
                0 => (Video, video_config()),
                1 => (Audio, audio_config()),
                2 => (Video, picture(0x65, true)),
                3 => (Video, picture(0x41, false)),
                4 => (Audio, sound()),
                5 => (Video, encoding(1, 0, &hex::decode(AVCC).unwrap())),
                6 => (Video, further(1, 0x65)),
                7 => (Video, further(1, 0x41)),
                _ => (Video, Bytes::from_static(&[0x27, 1, 0, 0, 0, 9])),
            };
            carried = Feed::restore(&carried.snapshot()).unwrap();
            prop_assert_eq!(carried.push(kind, ms, bytes.clone()), straight.push(kind, ms, bytes));
        }
        prop_assert_eq!(carried.snapshot(), straight.snapshot());
    }

    #[test]
    fn any_payload_is_answered(messages in proptest::collection::vec(
        (any::<bool>(), any::<u32>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..40,
    )) {
        let mut feed = Feed::new(0);
        feed.push(Video, 0, video_config()).unwrap();
        feed.push(Audio, 0, audio_config()).unwrap();
        for (video, ms, bytes) in messages {
            let head: &[u8] = if video { &[0x17, 1, 0, 0, 0] } else { &[0xaf, 1] };
            let _ = feed.push(if video { Video } else { Audio }, ms, [head, &bytes].concat().into());
            let _ = feed.push(if video { Video } else { Audio }, ms, bytes.into());
        }
    }

    #[test]
    fn any_state_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Feed::restore(&bytes);
    }
}
