//! Further audio tracks: cut with the others, late or silent, and never in anybody's way.

use super::*;
use ingest_api::AudioTrack;
use ingest_api::content_key::Encryption;

/// The second and the fourth track.
const SECOND: Track = Track::ALL[2];
const FOURTH: Track = Track::ALL[4];

fn of(track: Track) -> AudioTrack {
    let Track::Audio(track) = track else { panic!("{track:?} is no audio") };
    track
}

fn config(track: Track, asc: &'static [u8]) -> Unit {
    Unit::AudioConfig(of(track), Arc::new(AudioConfig::of_asc(Bytes::from_static(asc)).unwrap()))
}

fn opus(track: Track) -> Unit {
    let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    Unit::AudioConfig(of(track), Arc::new(AudioConfig::of_opus(Bytes::from_static(head)).unwrap()))
}

/// Frames of a track, a little behind the first one's, between two ticks.
fn frames(track: Track, from_90k: i64, to_90k: i64) -> Vec<Unit> {
    let step = if track == SECOND { 2_090 } else { 1_920 };
    let frame = |time_90k| {
        let data = Bytes::from(vec![track.index() as u8; 30]);
        Unit::Audio(AudioFrame { track: of(track), time_90k: time_90k + 700, data })
    };
    (from_90k..to_90k).step_by(step).map(frame).collect()
}

fn time(unit: &Unit) -> i64 {
    match unit {
        Unit::Video(unit) => unit.dts_90k,
        Unit::Audio(frame) => frame.time_90k,
        Unit::Encoding(_, unit) => unit.dts_90k,
        Unit::VideoConfig(_) | Unit::AudioConfig(..) | Unit::EncodingConfig(..) => i64::MIN,
    }
}

/// All of them in order of time.
pub(super) fn together(units: impl IntoIterator<Item = Vec<Unit>>) -> Vec<Unit> {
    let mut all: Vec<Unit> = units.into_iter().flatten().collect();
    all.sort_by_key(time);
    all
}

pub(super) fn first_two() -> Vec<Unit> {
    vec![video_config(0xc0), audio_config(AT_48K)]
}

pub(super) fn published(units: Vec<Unit>) -> Vec<Output> {
    let mut segmenter = Segmenter::begin(run(2));
    let mut outputs = push(&mut segmenter, units);
    outputs.extend(segmenter.gone());
    check(&outputs, &run(2));
    outputs
}

/// Everything that is made of some tracks: parts, segments, where they lie.
pub(super) fn of_tracks(outputs: &[Output], tracks: &[Track]) -> Vec<String> {
    let named = |track: &Track| tracks.contains(track);
    let one = |output: &Output| match output {
        Output::Part { track, number, index, part, of, .. } if named(track) => {
            Some(format!("{track:?} {number}.{index} {part:?} {of:?}"))
        }
        Output::Segment { record, .. } => {
            let entries: Vec<_> = record.tracks.iter().filter(|entry| named(&entry.track)).collect();
            Some(format!("{} {} {entries:?}", record.start_90k, record.discontinuity))
        }
        _ => None,
    };
    outputs.iter().filter_map(one).collect()
}

#[test]
fn every_track_has_every_segment_and_part() {
    let configs = [first_two(), vec![config(SECOND, AT_44K), config(FOURTH, AT_48K)]].concat();
    let media = [feed(0, 8.0, 90_000, true, true), frames(SECOND, 0, 720_000), frames(FOURTH, 0, 720_000)];
    let outputs = published([configs, together(media)].concat());
    assert_eq!(seconds(&outputs), [2.0; 4]);
    for record in records(&outputs) {
        let tracks: Vec<Track> = record.tracks.iter().map(|entry| entry.track).collect();
        assert_eq!((tracks, record.discontinuity), (vec![Track::Video, Track::AUDIO, SECOND, FOURTH], 7));
        let [_, first, second, fourth] = &record.tracks[..] else { panic!() };
        assert!(first.init != second.init && first.init == fourth.init, "one a configuration");
        let rates = record.tracks.iter().map(|entry| entry.sound_end.map(|end| end.rate));
        assert_eq!(rates.collect::<Vec<_>>(), [None, Some(48_000), Some(44_100), Some(48_000)]);
    }
    let inits = outputs.iter().filter(|output| matches!(output, Output::Init { .. })).count();
    assert_eq!(inits, 3, "tracks of one configuration share theirs");
    for (track, count) in [(Track::AUDIO, 375), (SECOND, 345), (FOURTH, 375)] {
        let fragments = fragments(&outputs, track);
        assert_eq!(fragments.iter().map(|fragment| fragment.1).sum::<usize>(), count, "{track:?}");
        assert!(fragments.windows(2).all(|pair| pair[0].0 + pair[0].2 == pair[1].0), "{track:?} has a hole");
    }
    assert_eq!(reports(&outputs), Vec::<&Report>::new());
}

/// The bytes of picture and first sound are those of the same publish without further tracks.
#[test]
fn what_a_further_track_does_changes_nothing_of_the_first_two() {
    let media = || feed(0, 12.0, 180_000, true, true);
    let alone = of_tracks(&published([first_two(), media()].concat()), &[Track::Video, Track::AUDIO]);
    let early = || vec![config(SECOND, AT_44K)];
    let silent_in_between = [frames(SECOND, 0, 270_000), frames(SECOND, 720_000, 1_080_000)].concat();
    let late = [config(SECOND, AT_44K), config(SECOND, AT_48K)].map(|config| vec![config]);
    let [late, changed] = late.map(|config| {
        let begins = |unit: &Unit| time(unit) >= 450_000;
        let (before, after): (Vec<Unit>, Vec<Unit>) =
            together([media(), frames(SECOND, 0, 1_080_000)]).into_iter().partition(|unit| !begins(unit));
        [before, config, after].concat()
    });
    for (name, units) in [
        ("beside", [first_two(), early(), together([media(), frames(SECOND, 0, 1_080_000)])].concat()),
        ("silent", [first_two(), early(), together([media(), silent_in_between])].concat()),
        ("never heard", [first_two(), early(), media()].concat()),
        (
            "without a configuration",
            [first_two(), together([media(), frames(SECOND, 0, 1_080_000)])].concat(),
        ),
        (
            "before the first",
            [early(), first_two(), together([media(), frames(SECOND, 0, 1_080_000)])].concat(),
        ),
        ("late", [first_two(), late].concat()),
    ] {
        let outputs = published(units);
        assert_eq!(of_tracks(&outputs, &[Track::Video, Track::AUDIO]), alone, "{name}");
    }
    // But for a configuration that changes: a discontinuity, which is one of all playlists.
    let outputs = published([first_two(), early(), changed].concat());
    let numbers: Vec<u64> = records(&outputs).iter().map(|record| record.discontinuity).collect();
    assert_eq!(numbers, [7, 7, 7, 8, 8, 8]);
}

#[test]
fn a_silent_track_has_empty_fragments_and_a_late_one_begins_at_an_idr_picture() {
    let configs = [first_two(), vec![config(SECOND, AT_44K)]].concat();
    let (before, after): (Vec<Unit>, Vec<Unit>) = together([
        feed(0, 12.0, 90_000, true, true),
        frames(SECOND, 0, 270_000),
        frames(SECOND, 720_000, 1_080_000),
        frames(FOURTH, 0, 1_080_000),
    ])
    .into_iter()
    .partition(|unit| time(unit) < 410_000);
    let outputs = published([configs, before, vec![config(FOURTH, AT_48K)], after].concat());
    let has = |track: Track| -> Vec<bool> {
        records(&outputs)
            .iter()
            .map(|record| record.tracks.iter().any(|entry| entry.track == track))
            .collect()
    };
    assert_eq!((has(SECOND), has(FOURTH)[0]), (vec![true; has(SECOND).len()], false));
    let first = records(&outputs).into_iter().find(|record| record.tracks.len() == 4).unwrap();
    assert_eq!(
        (first.start_90k, first.discontinuity),
        (450_000, 7),
        "at the next one, and nobody begins anew"
    );
    let empty: Vec<u64> = reports(&outputs)
        .iter()
        .filter_map(|report| match report {
            Report::EmptyAudio { track: SECOND, number } => Some(*number),
            _ => None,
        })
        .collect();
    let silent = |record: &&&window::Segment| (360_000..540_000).contains(&record.start_90k);
    let numbers: Vec<u64> = records(&outputs).iter().filter(silent).map(|record| record.number).collect();
    assert_eq!((empty.len(), empty), (2, numbers));
}

#[test]
fn tracks_return_with_their_publisher_or_do_not() {
    let mut segmenter = Segmenter::begin(run(4));
    let configs = || [first_two(), vec![config(SECOND, AT_44K)]].concat();
    let media = |from: i64| {
        let until = from + 540_000 - 3_000;
        together([
            feed(from, 6.0, 180_000, true, false),
            feed(from, 6.0, 1, false, true).into_iter().filter(|unit| time(unit) < until).collect(),
            frames(SECOND, from, until),
        ])
    };
    let mut outputs = push(&mut segmenter, [configs(), media(0)].concat());
    outputs.extend(segmenter.gone());
    let next = segmenter.next_tick();
    outputs.extend(push(&mut segmenter, [configs(), media(next)].concat()));
    outputs.extend(segmenter.gone());
    // A node that starts anew goes on from the record.
    let last = records(&outputs).last().copied().cloned().unwrap();
    let mut again = Segmenter::resume(run(4), &last);
    assert_eq!(again.next_tick(), segmenter.next_tick());
    for segmenter in [&mut segmenter, &mut again] {
        let mut more = push(segmenter, [configs(), media(segmenter.next_tick())].concat());
        more.extend(segmenter.gone());
        let all = [outputs.clone(), more].concat();
        check(&all, &run(4));
        assert!(records(&all).iter().all(|record| (record.tracks.len(), record.discontinuity) == (3, 7)));
        for track in [Track::AUDIO, SECOND] {
            let holes = fragments(&all, track);
            assert!(holes.windows(2).all(|pair| pair[0].0 + pair[0].2 == pair[1].0), "{track:?} has a hole");
        }
    }
    // Without the second track it goes on all the same.
    let next = segmenter.next_tick();
    let mut without = push(&mut segmenter, [first_two(), feed(next, 6.0, 180_000, true, true)].concat());
    without.extend(segmenter.gone());
    assert!(records(&without).iter().all(|record| (record.tracks.len(), record.discontinuity) == (2, 7)));
}

#[test]
fn without_pictures_the_first_drives_and_the_others_are_cut_with_it() {
    let configs = vec![audio_config(AT_48K), config(SECOND, AT_44K)];
    let media = together([feed(0, 9.0, 1, false, true), frames(SECOND, 0, 810_000)]);
    let outputs = published([configs, media].concat());
    let tracks = [Track::AUDIO, SECOND];
    assert!(records(&outputs).iter().all(|record| record.tracks.iter().map(|t| t.track).eq(tracks)));
    let only = published([vec![audio_config(AT_48K)], feed(0, 9.0, 1, false, true)].concat());
    assert_eq!(of_tracks(&outputs, &[Track::AUDIO]), of_tracks(&only, &[Track::AUDIO]));
    let second = fragments(&outputs, SECOND);
    assert!(second.windows(2).all(|pair| pair[0].0 + pair[0].2 == pair[1].0));
    assert_eq!(second.iter().map(|fragment| fragment.1).sum::<usize>(), 388, "{second:?}");
}

#[test]
fn a_further_track_that_cannot_be_encrypted_is_left_out() {
    let encryption = Some(Encryption { content_key: 1, key_segments: 300 });
    let mut segmenter = Segmenter::begin(Run { encryption, ..run(2) });
    let configs = [first_two(), vec![opus(SECOND), config(FOURTH, AT_48K)]].concat();
    let outputs = push(&mut segmenter, [configs, feed(0, 5.0, 180_000, true, true)].concat());
    let tracks = [Track::Video, Track::AUDIO, FOURTH];
    assert_eq!(records(&outputs).len(), 2);
    assert!(records(&outputs).iter().all(|record| record.tracks.iter().map(|t| t.track).eq(tracks)));
    assert!(reports(&outputs).iter().any(|report| matches!(report, Report::BadConfig { track: SECOND, .. })));
    // In the clear it goes beside the others.
    let outputs = published([first_two(), vec![opus(SECOND)], feed(0, 5.0, 180_000, true, true)].concat());
    assert_eq!(records(&outputs)[0].tracks[2].track, SECOND);
}

#[test]
fn a_restored_twin_makes_the_same_of_all_tracks() {
    let configs = [first_two(), vec![config(SECOND, AT_44K)]].concat();
    let media = [feed(0, 5.0, 180_000, true, true), frames(SECOND, 0, 450_000)];
    let mut segmenter = Segmenter::begin(run(2));
    for unit in [configs, together(media)].concat() {
        let mut twin = Segmenter::restore(&segmenter.snapshot()).unwrap();
        let outputs = segmenter.push(unit.clone());
        assert_eq!(twin.push(unit), outputs);
    }
}
