//! What a view holds to, situation by situation, and for any sequence of snapshots.

use super::*;
use ingest_api::window::{Segment, SegmentTrack, Sha256, TrackInfo};
use ingest_api::{RunId, Track};
use proptest::prelude::*;

const INIT: &str = "init-0123456789abcdef";

fn segment(number: u64) -> Segment {
    let hash = Sha256::of(&number.to_be_bytes());
    let entry = |track| SegmentTrack {
        track,
        init: INIT.into(),
        len: 10,
        sha256: hash,
        parts: Vec::new(),
        clear: None,
        sound_end: None,
        gops: Vec::new(),
    };
    Segment {
        number,
        run: RunId([1; 8]),
        discontinuity: 0,
        start_90k: number as i64 * 180_000,
        duration_90k: 180_000,
        date_unix_ms: number as i64 * 2_000,
        independent: true,
        gops: Vec::new(),
        tracks: vec![entry(Track::Video), entry(Track::AUDIO)],
        has_mpeg_ts: false,
        key: None,
    }
}

fn snapshot(epoch: u64, numbers: std::ops::Range<u64>) -> Snapshot {
    let info = |track| TrackInfo {
        track,
        codec: "x".into(),
        peak_bps: 1,
        mean_bps: 1,
        width: 0,
        height: 0,
        millihertz: 0,
        channels: 0,
    };
    Snapshot {
        stream: "demo".parse().unwrap(),
        epoch,
        version: 1,
        live: true,
        target_duration_s: 2,
        tracks: vec![info(Track::Video), info(Track::AUDIO)],
        segments: numbers.map(segment).collect(),
        part_90k: 0,
        open: None,
        signals: Vec::new(),
    }
}

fn view() -> View {
    let mut view = View::new("demo".parse().unwrap());
    view.offer(snapshot(3, 10..16), 0).unwrap();
    view
}

fn numbers(view: &View) -> Vec<u64> {
    view.shown().unwrap().snapshot.segments.iter().map(|segment| segment.number).collect()
}

#[test]
fn newer_numbers_are_shown_and_the_same_are_not_shown_twice() {
    let mut view = view();
    assert!(matches!(view.offer(snapshot(3, 10..16), 1), Ok(Verdict::Same)));
    assert!(matches!(view.offer(snapshot(3, 11..17), 2), Ok(Verdict::Show(_))));
    assert_eq!(numbers(&view), [11, 12, 13, 14, 15, 16]);
}

#[test]
fn a_lower_epoch_is_refused_whatever_it_brings() {
    let mut view = view();
    let refused = view.offer(snapshot(2, 11..17), 1).unwrap_err();
    assert_eq!(refused, Contradiction::Epoch { epoch: 2, seen: 3 });
    assert_eq!(numbers(&view), [10, 11, 12, 13, 14, 15]);
}

#[test]
fn a_higher_epoch_that_is_behind_counts_but_is_not_shown() {
    let mut view = view();
    let refused = view.offer(snapshot(4, 10..15), 1).unwrap_err();
    assert_eq!(refused, Contradiction::Number { number: Some(14), seen: 15 });
    assert!(refused.is_lag());
    assert!(matches!(view.offer(snapshot(3, 11..17), 2), Err(Contradiction::Epoch { .. })));
    assert!(matches!(view.offer(snapshot(4, 11..17), 3), Ok(Verdict::Show(_))));
}

#[test]
fn numbers_never_go_back_at_either_end() {
    let mut view = view();
    for back in [snapshot(3, 0..5), snapshot(3, 0..0), snapshot(9, 0..1)] {
        assert!(matches!(view.offer(back, 1), Err(Contradiction::Number { .. })));
    }
    view.offer(snapshot(9, 5..17), 2).unwrap();
    assert_eq!(numbers(&view), [10, 11, 12, 13, 14, 15, 16], "the past is not lengthened");
}

#[test]
fn what_was_shown_stays_while_a_restarted_origin_fills_its_window() {
    let mut view = view();
    view.offer(snapshot(4, 16..17), 1).unwrap();
    assert_eq!(numbers(&view), [11, 12, 13, 14, 15, 16]);
    view.offer(snapshot(4, 16..20), 2).unwrap();
    assert_eq!(numbers(&view), [14, 15, 16, 17, 18, 19]);
    view.offer(snapshot(4, 20..22), 3).unwrap();
    assert_eq!(numbers(&view), [16, 17, 18, 19, 20, 21]);
    // A hole, or another target duration, and the past is over.
    view.offer(snapshot(5, 24..25), 4).unwrap();
    assert_eq!(numbers(&view), [24]);
    view.offer(Snapshot { target_duration_s: 4, ..snapshot(6, 25..26) }, 5).unwrap();
    assert_eq!(numbers(&view), [25]);
}

#[test]
fn a_number_keeps_its_bytes() {
    let mut view = view();
    let changes: [fn(&mut Segment); 4] = [
        |segment| segment.tracks[0].sha256 = Sha256([0; 32]),
        |segment| segment.tracks[1].init = "init-ffffffffffffffff".into(),
        |segment| segment.duration_90k += 1,
        |segment| segment.tracks.truncate(1),
    ];
    for change in changes {
        let mut other = snapshot(3, 11..17);
        change(&mut other.segments[2]);
        assert!(matches!(view.offer(other, 1), Err(Contradiction::Changed { number: 13 })));
    }
    assert!(matches!(view.offer(snapshot(3, 11..17), 2), Ok(Verdict::Show(_))));
}

#[test]
fn what_left_the_window_stays_for_its_duration_and_the_windows() {
    let mut view = view();
    let old = Wanted::Segment(Track::Video, 10);
    view.offer(snapshot(3, 11..17), 1_000).unwrap();
    assert!(matches!(view.find(&old), Known::Entry(_)));
    view.offer(snapshot(3, 11..17), 1_000 + 14_000 - 1).unwrap();
    assert!(matches!(view.find(&old), Known::Entry(_)));
    view.offer(snapshot(3, 11..17), 1_000 + 14_000).unwrap();
    assert_eq!(view.find(&old), Known::Never);
}

#[test]
fn what_comes_soon_is_told_from_what_never_comes() {
    let view = view();
    let find = |number| view.find(&Wanted::Segment(Track::AUDIO, number));
    assert!(matches!(find(15), Known::Entry(Entry { len: Some(10), .. })));
    assert_eq!((find(16), find(18)), (Known::Soon, Known::Soon));
    assert_eq!((find(9), find(19), find(u64::MAX)), (Known::Never, Known::Never, Known::Never));
    assert!(matches!(view.find(&Wanted::Init(Track::Video, INIT.into())), Known::Entry(_)));
    assert_eq!(View::new("demo".parse().unwrap()).find(&Wanted::Segment(Track::Video, 1)), Known::Soon);
}

#[test]
fn a_stream_without_a_publisher_is_live_for_the_grace_only() {
    let mut view = view();
    let mut gone = snapshot(3, 10..16);
    gone.live = false;
    view.offer(gone.clone(), 1_000).unwrap();
    gone.version = 2;
    view.offer(gone, 5_000).unwrap();
    let live = |view: &View, now| view.is_live(now, 10_000, 30_000);
    assert!(live(&view, 10_999) && !live(&view, 11_000));
    view.offer(snapshot(3, 11..17), 12_000).unwrap();
    assert!(live(&view, 12_000 + 29_999));
    view.offer(snapshot(4, 11..17), 20_000).unwrap();
    assert!(!live(&view, 12_000 + 30_000), "a window that does not grow is not live");
}

#[test]
fn an_odd_snapshot_is_refused() {
    let changes: [fn(&mut Snapshot); 6] = [
        |odd| odd.stream = "other".parse().unwrap(),
        |odd| drop(odd.segments.remove(2)),
        |odd| odd.segments[0].duration_90k = -1,
        |odd| odd.segments[0].tracks[0].init = "../../x".into(),
        |odd| odd.segments[0].tracks[0].len = u64::MAX,
        |odd| odd.segments[0].discontinuity = 9,
    ];
    for change in changes {
        let mut odd = snapshot(3, 10..16);
        change(&mut odd);
        let mut view = View::new("demo".parse().unwrap());
        assert!(view.offer(odd, 0).is_err());
        assert!(view.shown().is_none());
    }
}

proptest! {
    #[test]
    fn no_sequence_of_snapshots_makes_a_viewer_see_something_go_back(
        offers in proptest::collection::vec((0u64..4, 0u64..20, 0u64..8, 0u64..2, any::<bool>()), 1..40),
    ) {
        let mut view = View::new("demo".parse().unwrap());
        let (mut newest, mut oldest, mut epoch) = (None, None, 0);
        let mut bytes = std::collections::HashMap::new();
        for (step, (term, first, len, other, live)) in offers.into_iter().enumerate() {
            let mut offered = snapshot(term, first..first + len);
            offered.live = live;
            for segment in &mut offered.segments {
                if other == 1 && segment.number % 5 == 0 { segment.tracks[0].sha256 = Sha256([7; 32]); }
            }
            let accepted = view.offer(offered, step as u64 * 100).is_ok();
            prop_assert!(view.epoch() >= epoch);
            if accepted { prop_assert_eq!(view.epoch(), term); }
            epoch = view.epoch();
            let Some(shown) = view.shown() else { continue };
            let segments = &shown.snapshot.segments;
            let (first, last) = (segments.first().map(|s| s.number), segments.last().map(|s| s.number));
            prop_assert!(last >= newest && first >= oldest, "{first:?} {last:?}");
            (newest, oldest) = (last, first);
            for segment in segments {
                let hash = segment.tracks[0].sha256;
                prop_assert_eq!(*bytes.entry(segment.number).or_insert(hash), hash);
            }
        }
    }
}

/// A young stream: the node that takes over lists as many segments as were shown, but not the first of them.
#[test]
fn three_target_durations_stay_listed() {
    let mut view = View::new("demo".parse().unwrap());
    view.offer(snapshot(3, 0..2), 0).unwrap();
    view.offer(snapshot(4, 1..3), 1_000).unwrap();
    assert_eq!(numbers(&view), [0, 1, 2]);
    view.offer(snapshot(4, 1..4), 2_000).unwrap();
    assert_eq!(numbers(&view), [1, 2, 3]);
}

#[test]
fn what_was_told_of_a_key_stays_with_its_segments() {
    let key = |kid: u8| Some(SegmentKey { content_key: OF_KEY_SERVER, kid: KeyId([kid; 16]) });
    let signals = |kid: u8| Signals {
        kid: KeyId([kid; 16]),
        media: vec![format!("#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://{kid}\"")],
        session: Vec::new(),
    };
    let with = |numbers: std::ops::Range<u64>, kid: u8| {
        let mut snapshot = snapshot(1, numbers);
        snapshot.segments.iter_mut().for_each(|segment| segment.key = key(kid));
        Snapshot { signals: vec![signals(kid)], ..snapshot }
    };
    let mut view = View::new("demo".parse().unwrap());
    view.offer(with(10..16, 1), 0).unwrap();
    // Of an origin that was started anew and names only what it has made since.
    view.offer(with(16..17, 2), 1).unwrap();
    assert_eq!(numbers(&view), [11, 12, 13, 14, 15, 16]);
    let shown = &view.shown().unwrap().snapshot;
    assert!([1, 2].iter().all(|kid| shown.signals(KeyId([*kid; 16])) == Some(&signals(*kid))));
    for bad in
        [Vec::new(), vec![signals(3)], vec![Signals { media: vec!["#EXTINF:2,".into()], ..signals(2) }]]
    {
        let odd = Snapshot { signals: bad, ..with(16..18, 2) };
        assert_eq!(view.offer(odd, 2).unwrap_err(), Contradiction::Signals);
    }
}

#[test]
fn a_span_of_numbers_is_there_soon_or_never() {
    let mut view = View::new("demo".parse().unwrap());
    assert_eq!(view.keeps((0, 9)), None, "nothing is known yet");
    view.offer(snapshot(3, 10..16), 0).unwrap();
    for (span, expected) in [
        ((0, 9), Some(false)),
        ((0, 10), Some(true)),
        ((11, 12), Some(true)),
        ((15, 40), Some(true)),
        ((16, 40), None),
        ((18, 40), None),
        ((19, 40), Some(false)),
        ((u64::MAX, u64::MAX), Some(false)),
    ] {
        assert_eq!(view.keeps(span), expected, "{span:?}");
    }
}
