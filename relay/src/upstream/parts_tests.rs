//! Open segments that go on, fall behind or turn out to be others; reloads by where the end is.

use super::*;
use crate::route::Wanted;
use crate::upstream::View;
use crate::upstream::object::{Entry, What};
use crate::upstream::view::{Known, Verdict};
use ingest_api::RunId;
use ingest_api::window::{OpenTrack, SegmentTrack, Sha256, TrackInfo};

const INIT: &str = "init-0123456789abcdef";

/// Part `index` of segment `number`, as run `run` makes it.
fn part(run: u8, number: u64, index: usize) -> Part {
    let sha256 = Sha256::of(&[run, number as u8, index as u8]);
    Part { duration_90k: 30_000, len: 10, independent: index == 0, sha256 }
}

fn parts(run: u8, number: u64, count: usize) -> Vec<Part> {
    (0..count).map(|index| part(run, number, index)).collect()
}

fn segment(run: u8, number: u64) -> Segment {
    let sha256 = Sha256::of(&[run, number as u8]);
    let entry = |track| SegmentTrack {
        track,
        init: INIT.into(),
        len: 60,
        sha256,
        parts: parts(run, number, 6),
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

fn open(run: u8, number: u64, count: usize) -> OpenSegment {
    let entry = |track| OpenTrack { track, init: INIT.into(), parts: parts(run, number, count) };
    OpenSegment {
        number,
        key: None,
        discontinuity: 0,
        date_unix_ms: number as i64 * 2_000,
        tracks: vec![entry(Track::Video), entry(Track::AUDIO)],
    }
}

/// Segments 10 up to, not including, `next`, and so many parts of that.
fn snapshot(next: u64, count: usize) -> Snapshot {
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
        epoch: 1,
        version: 1,
        live: true,
        target_duration_s: 2,
        tracks: vec![info(Track::Video), info(Track::AUDIO)],
        segments: (10..next).map(|number| segment(1, number)).collect(),
        part_90k: 30_000,
        open: (count > 0).then(|| open(1, next, count)),
        signals: Vec::new(),
    }
}

fn shown(view: &View) -> &Snapshot {
    &view.shown().unwrap().snapshot
}

/// That, shown.
pub(crate) fn view(next: u64, count: usize) -> View {
    let mut view = View::new("demo".parse().unwrap());
    view.offer(snapshot(next, count), 0).unwrap();
    view
}

#[test]
fn parts_are_shown_as_they_come() {
    let mut view = view(12, 0);
    for count in 1..6 {
        assert!(matches!(view.offer(snapshot(12, count), 0), Ok(Verdict::Show(_))));
        assert_eq!(shown(&view).open, Some(open(1, 12, count)));
    }
    assert!(matches!(view.offer(snapshot(12, 3), 0), Ok(Verdict::Same)), "an origin that is behind");
    assert!(matches!(view.offer(snapshot(12, 0), 0), Ok(Verdict::Same)));
    assert_eq!(shown(&view).open, Some(open(1, 12, 5)));
    view.offer(snapshot(13, 1), 0).unwrap();
    assert_eq!(shown(&view).segments.last().unwrap().tracks[0].parts.len(), 6);
    assert!(view.offer(snapshot(12, 5), 0).is_err(), "and back it never goes");
}

#[test]
fn an_open_segment_that_was_lost_keeps_what_was_shown_and_is_listed_whole() {
    let mut view = view(12, 4);
    let mut other = snapshot(12, 0);
    other.epoch = 2;
    other.open = Some(open(2, 12, 6));
    assert!(matches!(view.offer(other.clone(), 0), Ok(Verdict::Same)));
    assert_eq!(shown(&view).open, Some(open(1, 12, 4)));
    let what = |view: &View, index| view.find(&Wanted::Part(Track::Video, 12, index));
    assert!(matches!(what(&view, 3), Known::Entry(_)));
    other.segments.push(segment(2, 12));
    for count in 1..4 {
        other.open = Some(open(2, 13, count));
        view.offer(other.clone(), 0).unwrap();
        let last = shown(&view).segments.last().unwrap();
        assert_eq!((last.number, last.tracks[0].parts.len()), (12, 0), "whole, without its parts");
        assert_eq!(shown(&view).open, Some(open(2, 13, count)));
        assert_eq!(what(&view, 3), Known::Never);
    }
}

#[test]
fn out_of_bounds_is_refused() {
    let change: [fn(&mut Snapshot); 6] = [
        |snapshot| snapshot.open.as_mut().unwrap().number = 13,
        |snapshot| snapshot.open.as_mut().unwrap().tracks[0].init = "../x".into(),
        |snapshot| snapshot.open.as_mut().unwrap().tracks[1].parts[0].len = u64::MAX,
        |snapshot| snapshot.open.as_mut().unwrap().tracks[1].parts[0].duration_90k = -1,
        |snapshot| snapshot.part_90k = i64::MAX,
        |snapshot| snapshot.segments[0].tracks[0].parts = parts(1, 10, PARTS_MAX + 1),
    ];
    for (at, change) in change.into_iter().enumerate() {
        let mut odd = snapshot(12, 2);
        change(&mut odd);
        assert!(View::new("demo".parse().unwrap()).offer(odd, 0).is_err(), "{at}");
    }
}

#[test]
fn a_part_is_there_comes_soon_or_never() {
    let view = view(12, 2);
    let find = |number, index| view.find(&Wanted::Part(Track::AUDIO, number, index));
    for (number, index) in [(10, 0), (11, 5), (12, 0), (12, 1)] {
        let what =
            What::Part { track: Track::AUDIO, number, index, sha256: part(1, number, index as usize).sha256 };
        let Known::Entry(Entry { key, len }) = find(number, index) else { panic!("{number}.{index}") };
        assert_eq!((key.what, len), (what, Some(10)));
    }
    for (number, index) in [(12, 2), (12, 4), (13, 0), (13, 2)] {
        assert_eq!(find(number, index), Known::Soon, "{number}.{index}");
    }
    for (number, index) in [(11, 6), (12, 5), (13, 3), (14, 0), (9, 0), (u64::MAX, 0), (12, u32::MAX)] {
        assert_eq!(find(number, index), Known::Never, "{number}.{index}");
    }
    let mut without = snapshot(12, 0);
    without.part_90k = 0;
    assert_eq!(super::find(&without, Track::Video, 12, 0), Sought::Never);
}

#[test]
fn a_reload_is_due_when_what_it_asks_for_is_listed() {
    let wait = Due::Within(Duration::from_secs(6));
    let of = |next, count, msn, part| due(&snapshot(next, count), &Reload { msn, part, ..Reload::default() });
    for (msn, part, expected) in [
        (None, None, Due::Now),
        (Some(11), None, Due::Now),
        (Some(12), None, wait),
        (Some(13), None, wait),
        (Some(14), None, Due::Never),
        (Some(u64::MAX), None, Due::Never),
        (Some(3), Some(99), Due::Now),
        (Some(11), Some(5), Due::Now),
        (Some(11), Some(6), Due::Now), // the first of the next one: it has two
        (Some(12), Some(1), Due::Now),
        (Some(12), Some(2), wait),
        (Some(12), Some(PARTS_MAX as u64), Due::Never),
        (Some(13), Some(0), wait),
    ] {
        assert_eq!(of(12, 2, msn, part), expected, "{msn:?} {part:?}");
    }
    assert_eq!(of(12, 0, Some(11), Some(5)), Due::Now);
    assert_eq!(of(12, 0, Some(11), Some(6)), wait, "the next one has not begun");
    assert_eq!(of(12, 0, Some(12), Some(0)), wait);
    let mut without = snapshot(12, 0);
    without.part_90k = 0;
    assert_eq!(due(&without, &Reload { msn: Some(99), ..Reload::default() }), Due::Now, "not promised");
}

/// Players that do not know parts find nothing in a playlist without a segment.
#[test]
fn a_stream_is_live_from_its_first_whole_segment_on() {
    let mut view = view(10, 2);
    assert!(view.shown().is_some() && !view.is_live(0, 10_000, 30_000));
    view.offer(snapshot(11, 1), 0).unwrap();
    assert!(view.is_live(0, 10_000, 30_000));
}
