//! What a window lists, keeps and refuses.

use super::*;
use bytes::Bytes;
use ingest_api::RunId;
use ingest_api::window::{SegmentTrack, Sha256};

fn window(listed: usize, kept: usize) -> Window {
    let mut window = Window::new("demo".parse().unwrap(), 4, listed, kept, 100);
    let info = TrackInfo {
        track: Track::Video,
        codec: "avc1.64001f".to_owned(),
        peak_bps: 0,
        mean_bps: 0,
        width: 16,
        height: 16,
        millihertz: 0,
        channels: 0,
    };
    window.add_init("init-0".to_owned(), Object::plain(Bytes::from_static(b"i")), info);
    window
}

fn segment(number: u64, duration_90k: i64, len: usize) -> (Segment, Vec<(Track, Object)>) {
    let object = Object::plain(vec![0; len].into());
    let track = SegmentTrack {
        track: Track::Video,
        init: "init-0".to_owned(),
        len: len as u64,
        sha256: Sha256::of(&object.encode()),
        parts: Vec::new(),
        clear: None,
        sound_end: None,
        gops: Vec::new(),
    };
    let record = Segment {
        number,
        run: RunId([0; 8]),
        discontinuity: 0,
        start_90k: 0,
        duration_90k,
        date_unix_ms: 0,
        independent: true,
        gops: Vec::new(),
        tracks: vec![track],
        has_mpeg_ts: false,
        key: None,
    };
    (record, vec![(Track::Video, object)])
}

fn push(window: &mut Window, number: u64, duration_90k: i64, len: usize) -> Result<(), WindowError> {
    let (record, objects) = segment(number, duration_90k, len);
    window.push(record, objects)
}

fn listed(window: &Window) -> Vec<u64> {
    window.snapshot().segments.iter().map(|segment| segment.number).collect()
}

/// One part of segment `number`, as the segmenter gives it.
fn push_part(window: &mut Window, number: u64, index: u32, bytes: &'static [u8]) -> bool {
    let object = Object::plain(Bytes::from_static(bytes));
    let sha256 = Sha256::of(&object.encode());
    let part = Part { duration_90k: 30_000, len: bytes.len() as u64, independent: index == 0, sha256 };
    let of = OfSegment { init: "init-0".to_owned(), discontinuity: 0, date_unix_ms: 7, key: None };
    window.push_part(Track::Video, (number, index), part, object, &of)
}

#[test]
fn parts_are_listed_as_they_come_and_cut_from_the_segment_later() {
    let mut silent = window(3, 5);
    assert!(!push_part(&mut silent, 0, 0, b"ab"), "not where parts are not listed");
    assert_eq!(silent.snapshot().open, None);
    let mut window = window(3, 5).with_parts();
    assert!(push_part(&mut window, 0, 0, b"ab"), "also before the first segment");
    assert_eq!(window.snapshot().tracks.len(), 1);
    assert!(!push_part(&mut window, 0, 2, b"cd"), "no hole");
    assert!(!push_part(&mut window, 1, 1, b"cd"), "no part of another segment");
    let version = window.version();
    assert!(push_part(&mut window, 0, 1, b"cde"));
    assert_ne!(window.version(), version);
    let open = window.snapshot().open.unwrap();
    assert_eq!((open.number, open.parts(), open.date_unix_ms), (0, 2, 7));
    assert_eq!(window.snapshot().edge(), Some((u64::MAX, 2)));
    assert_eq!(window.part(Track::Video, 0, 1).unwrap().a, "cde");
    assert_eq!(window.part(Track::Video, 0, 2), None);
    assert_eq!(window.part(Track::AUDIO, 0, 0), None);
    let (mut record, _) = segment(0, 60_000, 5);
    record.tracks[0].parts = open.tracks[0].parts.clone();
    window.push(record, vec![(Track::Video, Object::plain(Bytes::from_static(b"abcde")))]).unwrap();
    assert_eq!(window.snapshot().open, None);
    assert_eq!(window.part(Track::Video, 0, 0).unwrap().a, "ab");
    assert_eq!(window.part(Track::Video, 0, 1).unwrap().a, "cde");
    assert_eq!(window.part(Track::Video, 0, 2), None);
    assert!(!push_part(&mut window, 0, 0, b"ab"), "that segment is complete");
    assert!(push_part(&mut window, 1, 0, b"f"));
    assert_eq!(window.snapshot().edge(), Some((0, 1)));
}

/// In a pair what is made waits for the other node: a new init section is there before segments of the old one are listed.
#[test]
fn an_init_section_waits_for_its_segment_and_goes_with_the_last_that_names_it() {
    let mut window = window(1, 2);
    let info = window.inits[0].info.clone();
    let give = |window: &mut Window, name: &str| {
        window.add_init(name.to_owned(), Object::plain(Bytes::from_static(b"i")), info.clone());
    };
    let list = |window: &mut Window, number: u64, init: &str| {
        let (mut record, objects) = segment(number, 360_000, 1);
        record.tracks[0].init = init.to_owned();
        window.push(record, objects)
    };
    list(&mut window, 0, "init-0").unwrap();
    give(&mut window, "init-1");
    // And back again, all before the next one is listed.
    give(&mut window, "init-0");
    for (number, init) in [(1, "init-1"), (2, "init-1"), (3, "init-0"), (4, "init-0")] {
        list(&mut window, number, init).unwrap();
    }
    assert!(window.init("init-1").is_none(), "nothing that is kept names it");
    for number in 0..10 * INITS_WAITING_MAX {
        give(&mut window, &format!("never-named-{number}"));
    }
    assert_eq!(window.inits.len(), INITS_WAITING_MAX + 1);
    list(&mut window, 5, "init-0").unwrap();
}

#[test]
fn it_slides_and_keeps_more_than_it_lists() {
    let mut window = window(3, 5);
    for number in 7..15 {
        push(&mut window, number, 360_000, 100).unwrap();
    }
    assert_eq!(listed(&window), [12, 13, 14]);
    assert!(window.object(Track::Video, 10).is_some() && window.object(Track::Video, 9).is_none());
    assert!(window.object(Track::AUDIO, 14).is_none() && window.object(Track::Video, 15).is_none());
    assert_eq!(window.bytes(), 500);
}

#[test]
fn three_target_durations_stay_listed_and_the_first_number_never_goes_back() {
    let mut window = window(3, 20);
    let mut first = 0;
    for (number, ticks) in
        [(1, 360_000), (2, 360_000), (3, 360_000), (4, 90_000), (5, 90_000), (6, 360_000), (7, 360_000)]
    {
        push(&mut window, number, ticks, 1).unwrap();
        let now = listed(&window);
        let sum: i64 = window.snapshot().segments.iter().map(|segment| segment.duration_90k).sum();
        assert!(now[0] >= first && (number < 3 || sum >= 1_080_000), "{now:?}");
        first = now[0];
    }
    assert_eq!(listed(&window), [3, 4, 5, 6, 7]);
}

#[test]
fn numbers_never_go_back_or_leave_holes() {
    let mut window = window(3, 5);
    push(&mut window, 5, 360_000, 1).unwrap();
    let version = window.version();
    for number in [5, 4, 7, 0, u64::MAX] {
        assert_eq!(push(&mut window, number, 360_000, 1), Err(WindowError::Number { number, last: 5 }));
    }
    assert_eq!(window.version(), version);
}

#[test]
fn a_run_that_goes_on_elsewhere_leaves_no_hole_behind_it() {
    let run = Run {
        id: RunId([0; 8]),
        stream: "demo".parse().unwrap(),
        anchor_unix_ms: 0,
        first_number: 0,
        first_discontinuity: 0,
        target_duration_s: 4,
        part_90k: 30_000,
        mpeg_ts: false,
        encryption: None,
    };
    let mut window = window(3, 5);
    push(&mut window, 5, 360_000, 1).unwrap();
    window.begin(&run, 6);
    push(&mut window, 6, 360_000, 1).unwrap();
    assert_eq!(listed(&window), [5, 6]);
    window.begin(&run, 9);
    push(&mut window, 9, 360_000, 1).unwrap();
    assert_eq!((listed(&window), window.bytes()), (vec![9], 1));
    window.begin(&run, 4);
    assert_eq!(push(&mut window, 4, 360_000, 1), Err(WindowError::Number { number: 4, last: 9 }));
}

#[test]
fn tracks_and_inits_must_be_there() {
    let mut window = window(3, 5);
    let (record, ..) = segment(1, 1, 1);
    assert_eq!(window.push(record, Vec::new()), Err(WindowError::Tracks { number: 1 }));
    let (mut record, objects) = segment(1, 1, 1);
    record.tracks[0].init = "init-1".to_owned();
    assert_eq!(window.push(record, objects), Err(WindowError::Init { number: 1 }));
    assert!(window.init("init-0").is_some() && window.init("init-1").is_none());
}

#[test]
fn every_change_has_its_version_and_no_change_has_none() {
    let mut window = window(3, 5);
    let mut versions = vec![window.version()];
    window.set_live(true);
    versions.push(window.version());
    window.set_epoch(3);
    versions.push(window.version());
    push(&mut window, 1, 360_000, 1).unwrap();
    versions.push(window.version());
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    window.set_live(true);
    window.set_epoch(3);
    assert_eq!(Some(&window.version()), versions.last());
    assert_eq!(window.snapshot().version, window.version());
}

#[test]
fn rates_are_of_the_run() {
    let mut window = window(3, 5);
    push(&mut window, 1, 90_000, 1_000).unwrap();
    push(&mut window, 2, 90_000, 3_000).unwrap();
    let track = &window.snapshot().tracks[0];
    assert_eq!((track.peak_bps, track.mean_bps), (24_000, 16_000));
}

/// Tracks of one configuration have one init section, and each is described as what it is.
#[test]
fn audio_tracks_that_share_an_init_section_are_told_apart() {
    let [second, third] = [Track::ALL[2], Track::ALL[3]];
    let mut theirs = window(3, 5).with_parts();
    let whole = |number: u64| {
        let (mut record, mut objects) = segment(number, 90_000, 1_000);
        for (track, len) in [(second, 10), (third, 20)] {
            let object = Object::plain(vec![track.index() as u8; len].into());
            let entry = record.tracks[0].clone();
            let (len, sha256) = (len as u64, Sha256::of(&object.encode()));
            record.tracks.push(SegmentTrack { track, len, sha256, ..entry });
            objects.push((track, object));
        }
        (record, objects)
    };
    for number in 0..2 {
        let (record, objects) = whole(number);
        theirs.push(record, objects).unwrap();
    }
    let tracks = theirs.snapshot().tracks;
    assert_eq!(tracks.iter().map(|info| info.track).collect::<Vec<_>>(), [Track::Video, second, third]);
    assert_eq!(tracks.iter().map(|info| info.peak_bps).collect::<Vec<_>>(), [8_000, 80, 160]);
    assert_eq!(theirs.object(third, 1).unwrap().a[0], 3);
    assert_eq!(theirs.object(Track::AUDIO, 1), None);
    let (record, mut objects) = whole(2);
    objects.swap(1, 2);
    assert_eq!(theirs.push(record, objects), Err(WindowError::Tracks { number: 2 }));
    // Another node lists them too, with the init section once.
    let mut ours = Window::new("demo".parse().unwrap(), 4, 3, 9, 1);
    ours.begins = 2;
    assert_eq!(ours.push_before(&theirs.whole(1).unwrap()), Ok(true));
    assert_eq!((ours.inits.len(), ours.object(second, 1)), (1, theirs.object(second, 1)));
}

#[test]
fn bytes_are_bounded() {
    let mut window = window(3, 5);
    for number in 0..4 {
        push(&mut window, number, 360_000, WINDOW_BYTES_MAX / 2 - 1).unwrap();
        assert!(window.bytes() <= WINDOW_BYTES_MAX);
    }
    assert_eq!(listed(&window), [2, 3]);
}

#[test]
fn what_another_node_listed_goes_in_front_newest_first_until_the_list_is_full() {
    let second = i64::from(4) * TICKS_PER_SECOND;
    let mut theirs = window(3, 9);
    (0..6).for_each(|number| push(&mut theirs, number, second, 10 + number as usize).unwrap());
    assert_eq!(listed(&theirs), [3, 4, 5]);
    assert_eq!((theirs.lists(3).is_some(), theirs.lists(2).is_some()), (true, false));
    let run = ingest_api::Run {
        id: RunId([0; 8]),
        stream: "demo".parse().unwrap(),
        anchor_unix_ms: 0,
        first_number: 0,
        first_discontinuity: 0,
        target_duration_s: 4,
        part_90k: 0,
        mpeg_ts: false,
        encryption: None,
    };
    let mut ours = Window::new("demo".parse().unwrap(), 4, 3, 9, 1);
    ours.join(&run, 6, &theirs.seed()).unwrap();
    let wrong = |ours: &mut Window, whole: &Whole, why: WindowError| {
        let before = ours.snapshot();
        assert_eq!(ours.push_before(whole), Err(why));
        assert_eq!(ours.snapshot(), before, "nothing has changed");
    };
    wrong(&mut ours, &theirs.whole(4).unwrap(), WindowError::Number { number: 4, last: 5 });
    let mut other = theirs.whole(5).unwrap();
    other.objects = theirs.whole(4).unwrap().objects;
    wrong(&mut ours, &other, WindowError::Bytes { number: 5 });
    other.objects.clear();
    wrong(&mut ours, &other, WindowError::Tracks { number: 5 });
    assert_eq!(ours.push_before(&theirs.whole(5).unwrap()), Ok(true));
    assert_eq!(listed(&ours), [5]);
    // Its own go on behind.
    push(&mut ours, 6, second, 16).unwrap();
    assert_eq!(ours.push_before(&theirs.whole(4).unwrap()), Ok(true));
    push(&mut theirs, 6, second, 16).unwrap();
    assert_eq!(ours.snapshot().segments, theirs.snapshot().segments);
    assert_eq!(ours.object(Track::Video, 4), theirs.object(Track::Video, 4));
    assert_eq!(ours.push_before(&theirs.whole(3).unwrap()), Ok(false), "it is kept, and listed no more");
    assert_eq!(listed(&ours), [4, 5, 6]);
    wrong(&mut ours, &theirs.whole(3).unwrap(), WindowError::Number { number: 3, last: 2 });
}
