//! Boundaries, tracks and time, told in units.

mod encodings;
mod several;

use super::*;
use crate::container::cmaf::read_fragment_head;
use crate::unit::{AudioConfig, AudioFrame, Piece};
use ingest_api::window::Gop;
use ingest_api::{AudioTrack, Object, RunId};
use proptest::prelude::*;
use releve_watermark::GopId;

pub(super) fn run(target_duration_s: u32) -> Run {
    Run {
        id: RunId([9; 8]),
        stream: "demo".parse().unwrap(),
        anchor_unix_ms: 1_700_000_000_000,
        first_number: 100,
        first_discontinuity: 7,
        target_duration_s,
        part_90k: 45_000,
        mpeg_ts: true,
        encryption: None,
    }
}

fn video_config(marker: u8) -> Unit {
    let mut avcc =
        hex::decode("0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f1831960010006").unwrap();
    avcc.extend([0x68, 0xeb, 0xe3, 0xcb, 0x22, marker]);
    Unit::VideoConfig(Arc::new(VideoConfig::of_avcc(avcc.into()).unwrap()))
}

fn audio_config(asc: &'static [u8]) -> Unit {
    let config = AudioConfig::of_asc(Bytes::from_static(asc)).unwrap();
    Unit::AudioConfig(AudioTrack::FIRST, Arc::new(config))
}

const AT_48K: &[u8] = &[0x11, 0x90];
const AT_44K: &[u8] = &[0x12, 0x10];

fn picture(dts_90k: i64, idr: bool) -> Unit {
    let data = Bytes::from(vec![if idr { 5 } else { 1 }; 50]);
    Unit::Video(AccessUnit {
        dts_90k,
        composition_90k: 6_000,
        idr,
        gop: None,
        pieces: vec![Piece::Common(data)],
    })
}

fn sound(time_90k: i64) -> Unit {
    let data = Bytes::from_static(&[0xa; 20]);
    Unit::Audio(AudioFrame { track: AudioTrack::FIRST, time_90k, data })
}

/// 30 pictures a second and 48 kHz audio, interleaved by time.
fn feed(from_90k: i64, seconds: f64, gop_90k: i64, video: bool, audio: bool) -> Vec<Unit> {
    let end = from_90k + (seconds * 90_000.0) as i64;
    let mut units: Vec<(i64, Unit)> = Vec::new();
    if video {
        units.extend((from_90k..end).step_by(3_000).map(|t| (t, picture(t, (t - from_90k) % gop_90k == 0))));
    }
    if audio {
        units.extend((from_90k..end).step_by(1_920).map(|t| (t, sound(t))));
    }
    units.sort_by_key(|(time, _)| *time);
    units.into_iter().map(|(_, unit)| unit).collect()
}

fn push(segmenter: &mut Segmenter, units: impl IntoIterator<Item = Unit>) -> Vec<Output> {
    units.into_iter().flat_map(|unit| segmenter.push(unit)).collect()
}

fn records(outputs: &[Output]) -> Vec<&window::Segment> {
    outputs
        .iter()
        .filter_map(|output| if let Output::Segment { record, .. } = output { Some(record) } else { None })
        .collect()
}

fn reports(outputs: &[Output]) -> Vec<&Report> {
    outputs
        .iter()
        .filter_map(|output| if let Output::Report(report) = output { Some(report) } else { None })
        .collect()
}

fn seconds(outputs: &[Output]) -> Vec<f64> {
    records(outputs).iter().map(|record| record.duration_90k as f64 / 90_000.0).collect()
}

/// Both configurations, media, and the publisher leaving.
fn whole(target_s: u32, gop_90k: i64, length_s: f64) -> Vec<Output> {
    let mut segmenter = Segmenter::begin(run(target_s));
    let units =
        [video_config(0xc0), audio_config(AT_48K)].into_iter().chain(feed(0, length_s, gop_90k, true, true));
    let mut outputs = push(&mut segmenter, units);
    outputs.extend(segmenter.gone());
    outputs
}

/// What holds of any output: numbers, ticks and bytes without holes, EXTINF within the target.
fn check(outputs: &[Output], run: &Run) {
    let mut last: Option<&window::Segment> = None;
    for record in records(outputs) {
        assert!((record.duration_90k + 45_000) / 90_000 <= i64::from(run.target_duration_s), "{record:?}");
        assert_eq!(record.date_unix_ms, run.anchor_unix_ms + record.start_90k / 90);
        if let Some(last) = last {
            assert_eq!(record.number, last.number + 1);
            assert_eq!(record.start_90k, last.start_90k + last.duration_90k);
        }
        for track in &record.tracks {
            assert_eq!(track.parts.iter().map(|part| part.duration_90k).sum::<i64>(), record.duration_90k);
            assert_eq!(track.parts.len(), record.tracks[0].parts.len());
        }
        last = Some(record);
    }
    for output in outputs {
        let Output::Segment { record, objects } = output else { continue };
        assert_eq!(record.tracks.len(), objects.len());
        for (track, (of, object)) in record.tracks.iter().zip(objects) {
            assert_eq!(track.track, *of);
            assert_eq!(track.sha256, Sha256::of(&object.encode()));
            let mut at = 0;
            for part in &track.parts {
                let bytes = object.a.slice(at..at + part.len as usize);
                at += part.len as usize;
                assert_eq!(read_fragment_head(&bytes).unwrap().traf.len(), 1);
                if object.pairs.is_empty() {
                    assert_eq!(part.sha256, Sha256::of(&Object::plain(bytes).encode()));
                }
            }
            assert_eq!(at, object.len());
        }
    }
}

/// (decode time, samples, their whole duration) of each fragment of a track.
fn fragments(outputs: &[Output], track: Track) -> Vec<(u64, usize, u64)> {
    let mut all = Vec::new();
    for output in outputs {
        let Output::Segment { record, objects } = output else { continue };
        let Some(at) = record.tracks.iter().position(|named| named.track == track) else { continue };
        let (named, (_, object)) = (&record.tracks[at], &objects[at]);
        let mut at = 0;
        for part in &named.parts {
            let moof = read_fragment_head(&object.a[at..]).unwrap();
            at += part.len as usize;
            let traf = &moof.traf[0];
            let usual = u64::from(traf.tfhd.default_sample_duration.unwrap_or(0));
            let durations = traf.trun.iter().flat_map(|run| run.samples.iter());
            let durations: Vec<u64> = durations.map(|s| s.duration.map_or(usual, u64::from)).collect();
            all.push((
                traf.tfdt.as_ref().unwrap().base_media_decode_time,
                durations.len(),
                durations.iter().sum(),
            ));
        }
    }
    all
}

#[test]
fn gops_of_many_lengths_make_segments_at_idr_pictures() {
    for (gop_90k, target_s, expected) in [
        (90_000, 4, vec![4.0, 4.0, 4.0]),
        (36_000, 4, vec![4.0, 4.0, 4.0]),
        (135_000, 4, vec![3.0, 3.0, 3.0, 3.0]),
        (180_000, 2, vec![2.0; 6]),
        (270_000, 2, vec![]),
    ] {
        let outputs = whole(target_s, gop_90k, 12.0);
        check(&outputs, &run(target_s));
        if !expected.is_empty() {
            assert_eq!(seconds(&outputs), expected, "GOP of {gop_90k} ticks");
            assert!(records(&outputs).iter().all(|record| record.independent));
            assert_eq!(reports(&outputs), Vec::<&Report>::new());
        }
    }
}

#[test]
fn a_gop_a_little_over_the_target_is_not_cut() {
    // 2.002 s, as of 29.97 frames a second.
    let mut segmenter = Segmenter::begin(run(2));
    let mut units = vec![video_config(0xc0)];
    units.extend((0..600).map(|n| picture(n * 3_003, n % 60 == 0)));
    let mut outputs = push(&mut segmenter, units);
    outputs.extend(segmenter.gone());
    check(&outputs, &run(2));
    assert!(records(&outputs).iter().all(|record| record.duration_90k == 180_180 && record.independent));
    assert_eq!(records(&outputs).len(), 10);
}

#[test]
fn long_gops_are_cut_inside_and_reported_once_each() {
    let outputs = whole(4, 900_000, 30.0);
    check(&outputs, &run(4));
    let long = reports(&outputs);
    assert_eq!(long.len(), 3, "{long:?}");
    assert!(long.iter().all(|report| matches!(report, Report::LongGop { .. })));
    let independent: Vec<bool> = records(&outputs).iter().map(|record| record.independent).collect();
    assert_eq!(independent.iter().filter(|independent| **independent).count(), 3);
    // From the second GOP on its length is known, and cuts are at the target.
    assert_eq!(seconds(&outputs)[3..], [4.0, 4.0, 2.0, 4.0, 4.0, 2.0]);
}

#[test]
fn both_tracks_are_cut_at_the_same_ticks_and_are_seamless() {
    let outputs = whole(4, 180_000, 20.0);
    for track in [Track::Video, Track::AUDIO] {
        let fragments = fragments(&outputs, track);
        assert!(fragments.len() >= 40);
        for pair in fragments.windows(2) {
            assert_eq!(pair[0].0 + pair[0].2, pair[1].0, "{track:?}");
        }
    }
    let video: usize = fragments(&outputs, Track::Video).iter().map(|f| f.1).sum();
    let audio: usize = fragments(&outputs, Track::AUDIO).iter().map(|f| f.1).sum();
    assert_eq!((video, audio), (600, 938));
    let longest = records(&outputs).iter().flat_map(|r| &r.tracks[0].parts).map(|p| p.duration_90k).max();
    assert_eq!(longest, Some(45_000));
    let first_parts = records(&outputs)[0].tracks[1].parts.len();
    let boundary = records(&outputs)[1].start_90k as u64 * 48_000 / 90_000;
    let second = fragments(&outputs, Track::AUDIO)[first_parts].0;
    assert!(
        (boundary..boundary + 1_024).contains(&second),
        "frames before the boundary are in the old segment"
    );
}

#[test]
fn early_and_late_audio_finds_its_segment() {
    for lead in [-40_000i64, 40_000] {
        let mut units: Vec<(i64, Unit)> =
            (0..300).map(|n| (n * 3_000, picture(n * 3_000, n % 60 == 0))).collect();
        units.extend((0..468).map(|n| (n * 1_920 - lead, sound(n * 1_920))));
        units.sort_by_key(|(time, _)| *time);
        let first = units.iter().position(|(_, unit)| matches!(unit, Unit::Video(_))).unwrap();
        let units = units.split_off(first).into_iter().map(|(_, unit)| unit);
        let mut segmenter = Segmenter::begin(run(2));
        let mut outputs = push(&mut segmenter, [video_config(0xc0), audio_config(AT_48K)]);
        outputs.extend(push(&mut segmenter, units));
        outputs.extend(segmenter.gone());
        check(&outputs, &run(2));
        for pair in fragments(&outputs, Track::AUDIO).windows(2) {
            assert_eq!(pair[0].0 + pair[0].2, pair[1].0, "lead {lead}");
        }
    }
}

#[test]
fn audio_alone_and_video_alone() {
    let mut segmenter = Segmenter::begin(run(4));
    let mut outputs =
        push(&mut segmenter, [audio_config(AT_48K)].into_iter().chain(feed(0, 20.0, 1, false, true)));
    outputs.extend(segmenter.gone());
    check(&outputs, &run(4));
    assert!(
        records(&outputs).len() == 5
            && records(&outputs).iter().all(|r| r.independent && r.tracks.len() == 1)
    );
    assert_eq!(fragments(&outputs, Track::AUDIO).iter().map(|f| f.1).sum::<usize>(), 938);

    let mut segmenter = Segmenter::begin(run(4));
    let mut outputs =
        push(&mut segmenter, [video_config(0xc0)].into_iter().chain(feed(0, 20.0, 90_000, true, false)));
    outputs.extend(segmenter.gone());
    check(&outputs, &run(4));
    assert!(records(&outputs).len() == 5 && records(&outputs).iter().all(|record| record.tracks.len() == 1));
}

#[test]
fn late_audio_before_the_first_part_joins_and_later_audio_is_a_discontinuity() {
    for (after, discontinuities) in [(5, vec![7, 7, 7]), (40, vec![7, 8, 8])] {
        let mut segmenter = Segmenter::begin(run(4));
        let mut units = vec![video_config(0xc0)];
        units.extend(feed(0, 12.0, 180_000, true, false));
        units.insert(1 + after, audio_config(AT_48K));
        let (head, tail) = units.split_at(2 + after);
        let mut outputs = push(&mut segmenter, head.to_vec());
        let mut time = after as i64 * 3_000;
        for unit in tail {
            outputs.extend(segmenter.push(sound(time)));
            outputs.extend(segmenter.push(unit.clone()));
            time += 3_000;
        }
        outputs.extend(segmenter.gone());
        check(&outputs, &run(4));
        let got: Vec<u64> = records(&outputs).iter().map(|record| record.discontinuity).collect();
        assert!(got.starts_with(&discontinuities[..1]) && got.last() == discontinuities.last(), "{got:?}");
        assert_eq!(records(&outputs).last().unwrap().tracks.len(), 2);
    }
}

#[test]
fn another_configuration_cuts_at_its_idr_picture() {
    let mut segmenter = Segmenter::begin(run(4));
    let mut outputs = push(&mut segmenter, [video_config(0xc0), audio_config(AT_48K)]);
    outputs.extend(push(&mut segmenter, feed(0, 3.0, 90_000, true, true)));
    outputs.extend(push(&mut segmenter, [video_config(0xc1)]));
    outputs.extend(push(&mut segmenter, feed(270_000, 3.0, 90_000, true, true)));
    outputs.extend(push(&mut segmenter, [audio_config(AT_44K)]));
    outputs.extend(push(&mut segmenter, feed(540_000, 6.0, 90_000, true, true)));
    outputs.extend(segmenter.gone());
    check(&outputs, &run(4));
    let facts: Vec<(i64, u64)> = records(&outputs).iter().map(|r| (r.start_90k, r.discontinuity)).collect();
    assert_eq!(facts[..3], [(0, 7), (270_000, 8), (540_000, 9)]);
    let inits = outputs.iter().filter(|output| matches!(output, Output::Init { .. })).count();
    assert_eq!(inits, 4, "two videos and two audios, each once");
    // The same configuration again is no change.
    let mut again = Segmenter::begin(run(4));
    let mut outputs =
        push(&mut again, [video_config(0xc0)].into_iter().chain(feed(0, 2.0, 90_000, true, false)));
    outputs.extend(push(
        &mut again,
        [video_config(0xc0)].into_iter().chain(feed(180_000, 4.0, 90_000, true, false)),
    ));
    assert_eq!(records(&outputs)[0].duration_90k, 360_000);
}

/// A window keeps only the init sections that its segments name: one that comes back must come again.
#[test]
fn a_configuration_that_returns_gives_its_init_section_again() {
    let mut segmenter = Segmenter::begin(run(4));
    let mut window = crate::window::Window::new("demo".parse().unwrap(), 4, 3, 3, 0);
    for (at, marker) in [(0, 0xc0), (1, 0xc1), (2, 0xc0)] {
        let outputs = [
            push(&mut segmenter, [video_config(marker)]),
            push(&mut segmenter, feed(at * 1_800_000, 20.0, 90_000, true, false)),
        ];
        outputs.iter().flatten().for_each(|output| window.apply(output).unwrap());
    }
    assert_eq!(window.newest().unwrap().discontinuity, 9);
}

/// Sound that ends before its pictures do, as any publisher's does.
fn sound_until(end_90k: i64, units: impl IntoIterator<Item = Unit>) -> impl Iterator<Item = Unit> {
    units.into_iter().filter(move |unit| !matches!(unit, Unit::Audio(frame) if frame.time_90k >= end_90k))
}

#[test]
fn a_publisher_that_left_and_came_back_leaves_no_trace_in_the_list() {
    let mut segmenter = Segmenter::begin(run(4));
    let configs = || [video_config(0xc0), audio_config(AT_48K)];
    let mut outputs = push(
        &mut segmenter,
        configs().into_iter().chain(sound_until(491_000, feed(0, 5.5, 90_000, true, true))),
    );
    outputs.extend(segmenter.gone());
    assert_eq!(segmenter.gone(), [], "leaving twice is leaving once");
    let back = segmenter.next_tick();
    assert_eq!(back, 495_000);
    outputs.extend(push(&mut segmenter, configs().into_iter().chain(feed(back, 8.0, 90_000, true, true))));
    outputs.extend(segmenter.gone());
    check(&outputs, &run(4));
    assert!(records(&outputs).iter().all(|record| record.discontinuity == 7));
    assert_eq!(seconds(&outputs), [4.0, 1.5, 4.0, 4.0]);
    let audio = fragments(&outputs, Track::AUDIO);
    assert!(audio.windows(2).all(|pair| pair[0].0 + pair[0].2 == pair[1].0), "audio has no hole");
    assert_eq!(outputs.iter().filter(|output| matches!(output, Output::Init { .. })).count(), 2);
}

#[test]
fn a_restart_goes_on_from_the_last_record() {
    let mut first = Segmenter::begin(run(4));
    let configs = || [video_config(0xc0), audio_config(AT_48K)];
    let mut outputs =
        push(&mut first, configs().into_iter().chain(sound_until(535_000, feed(0, 6.0, 90_000, true, true))));
    outputs.extend(first.gone());
    let last = (*records(&outputs).last().unwrap()).clone();
    let mut second = Segmenter::resume(run(4), &last);
    assert_eq!((second.next_tick(), second.next_number()), (first.next_tick(), first.next_number()));
    let back = second.next_tick();
    outputs.extend(push(&mut second, configs().into_iter().chain(feed(back, 6.0, 90_000, true, true))));
    outputs.extend(second.gone());
    check(&outputs, &run(4));
    assert!(records(&outputs).iter().all(|record| record.discontinuity == 7));
    let audio = fragments(&outputs, Track::AUDIO);
    assert!(audio.windows(2).all(|pair| pair[0].0 + pair[0].2 == pair[1].0), "audio has no hole");
    let other = Run { id: RunId([8; 8]), first_number: 500, ..run(4) };
    assert_eq!(Segmenter::resume(other, &last).next_number(), 500);
}

#[test]
fn silence_makes_empty_fragments_and_a_stalled_picture_makes_empty_segments() {
    let mut segmenter = Segmenter::begin(run(4));
    let mut outputs = push(&mut segmenter, [video_config(0xc0), audio_config(AT_48K)]);
    outputs.extend(push(&mut segmenter, feed(0, 4.0, 90_000, true, true)));
    outputs.extend(push(&mut segmenter, feed(360_000, 8.0, 90_000, true, false)));
    outputs.extend(push(&mut segmenter, feed(1_080_000, 4.0, 90_000, true, true)));
    outputs.extend(push(&mut segmenter, feed(1_440_000, 20.0, 1, false, true)));
    outputs.extend(push(&mut segmenter, feed(3_240_000, 4.0, 90_000, true, true)));
    outputs.extend(segmenter.gone());
    check(&outputs, &run(4));
    let empty = |of: fn(&Report) -> bool| reports(&outputs).into_iter().filter(|r| of(r)).count();
    assert_eq!(empty(|report| matches!(report, Report::EmptyAudio { .. })), 2);
    assert!(empty(|report| matches!(report, Report::EmptyVideo { .. })) >= 3);
    assert!(empty(|report| matches!(report, Report::AudioReanchored { .. })) == 1);
    let numbers: Vec<u64> = records(&outputs).iter().map(|record| record.number).collect();
    assert!(numbers.len() >= 9 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1));
}

fn gop(id: u8, start_90k: i64, code_key: u32, marking: Marking) -> Gop {
    Gop { id: GopId([id; 16]), start_90k, marking, slices: 2, pattern_key: 1, code_key, bias_key: code_key }
}

fn marked(dts_90k: i64, id: u8, code_key: u32) -> Unit {
    let pair = |slice| Piece::Pair { a: Bytes::from_static(b"aaaa"), b: Bytes::from_static(b"bbbb"), slice };
    let pieces = vec![
        Piece::Common(Bytes::from_static(b"sei")),
        pair(0),
        Piece::Common(Bytes::from_static(b"-")),
        pair(1),
    ];
    let gop = Some(gop(id, dts_90k, code_key, Marking::Marked));
    Unit::Video(AccessUnit { dts_90k, composition_90k: 0, idr: true, gop, pieces })
}

#[test]
fn pairs_point_at_their_slices_and_one_object_has_one_code_key() {
    let mut segmenter = Segmenter::begin(run(4));
    let mut units = vec![video_config(0xc0)];
    for second in 0..8i64 {
        units.push(marked(second * 90_000, second as u8, if second < 2 { 3 } else { 4 }));
        units.extend((1..30).map(|n| picture(second * 90_000 + n * 3_000, false)));
    }
    let mut outputs = push(&mut segmenter, units);
    outputs.extend(segmenter.gone());
    check(&outputs, &run(4));
    assert_eq!(seconds(&outputs), [2.0, 4.0, 2.0]);
    for output in &outputs {
        let Output::Segment { record, objects } = output else { continue };
        let (_, object) = &objects[0];
        assert_eq!(object.code_key, if record.number == 100 { 3 } else { 4 });
        assert_eq!(object.pairs.len(), record.gops.len() * 2);
        for (index, pair) in object.pairs.iter().enumerate() {
            assert_eq!(&object.a[pair.offset..pair.end()], b"aaaa");
            assert_eq!(
                (pair.position.gop, usize::from(pair.position.slice)),
                (record.gops[index / 2].id, index % 2)
            );
        }
    }
}

#[test]
fn a_withheld_gop_leaves_its_record_and_no_byte() {
    let mut segmenter = Segmenter::begin(run(2));
    let mut units = vec![video_config(0xc0)];
    for second in 0..6i64 {
        let withheld = second == 1;
        let mut idr = marked(second * 90_000, second as u8, 1);
        if let (Unit::Video(unit), true) = (&mut idr, withheld) {
            unit.gop = Some(gop(1, 90_000, 0, Marking::Withheld));
        }
        units.push(idr);
        units.extend((1..30).map(|n| picture(second * 90_000 + n * 3_000, false)));
    }
    let mut outputs = push(&mut segmenter, units);
    outputs.extend(segmenter.gone());
    check(&outputs, &run(2));
    assert_eq!(records(&outputs)[0].gops.len(), 2);
    assert_eq!(fragments(&outputs, Track::Video).iter().map(|f| f.1).sum::<usize>(), 5 * 30);
}

#[test]
fn the_same_units_make_the_same_bytes_and_any_cut_between_them_changes_nothing() {
    let units: Vec<Unit> = [video_config(0xc0), audio_config(AT_48K)]
        .into_iter()
        .chain(feed(0, 5.0, 117_000, true, true))
        .collect();
    let mut straight = Segmenter::begin(run(2));
    let expected: Vec<Vec<Output>> = units.iter().map(|unit| straight.push(unit.clone())).collect();
    let mut carried = Segmenter::begin(run(2));
    for (unit, expected) in units.iter().zip(&expected) {
        carried = Segmenter::restore(&carried.snapshot()).unwrap();
        assert_eq!(&carried.push(unit.clone()), expected);
    }
    assert_eq!(carried.gone(), straight.gone());
    assert_eq!(carried.snapshot(), straight.snapshot());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any steps, any IDR pictures, any interleaving: the list has no hole and no segment is too long.
    #[test]
    fn any_units_make_a_list_without_holes(
        target in 1u32..6,
        units in proptest::collection::vec((0u8..20, 1i64..90_000, any::<bool>()), 1..300),
    ) {
        let mut segmenter = Segmenter::begin(run(target));
        let mut outputs = push(&mut segmenter, [video_config(0xc0), audio_config(AT_48K), picture(0, true)]);
        let mut times = [0i64; 2];
        for (kind, step, idr) in units {
            let track = usize::from(kind % 3 == 0);
            times[track] = (times[track] + step / if track == 1 { 20 } else { 3 }).max(times[0].max(times[1]) - 90_000);
            let more = match (kind, track) {
                (19, _) => {
                    outputs.extend(segmenter.gone());
                    times = [segmenter.next_tick(); 2];
                    push(&mut segmenter, [video_config(0xc0), audio_config(AT_48K), picture(times[0], true)])
                }
                (18, _) => segmenter.push(audio_config(if idr { AT_48K } else { AT_44K })),
                (_, 0) => segmenter.push(picture(times[0], idr)),
                _ => segmenter.push(sound(times[1])),
            };
            outputs.extend(more);
        }
        outputs.extend(segmenter.gone());
        check(&outputs, &run(target));
        for track in [Track::Video, Track::AUDIO] {
            if track == Track::AUDIO && outputs.iter().filter(|o| matches!(o, Output::Init { track: Track::AUDIO, .. })).count() > 1 {
                continue; // other timescale
            }
            for pair in fragments(&outputs, track).windows(2) {
                prop_assert!(pair[0].0 + pair[0].2 <= pair[1].0, "{:?} goes back: {:?}", track, pair);
            }
        }
    }

    /// Announced or not, the same comes of any units, of IDR pictures that change with their marks too: of a configuration that
    /// comes between the two, of a GOP under another code key, of one that is withheld.
    #[test]
    fn what_is_announced_comes_sooner_and_is_the_same(
        target in 1u32..4,
        units in proptest::collection::vec((0u8..24, 1i64..30_000, 0u8..4), 1..300),
    ) {
        let begin = [video_config(0xc0), audio_config(AT_48K), picture(0, true)];
        let (mut told, mut not) = (Segmenter::begin(run(target)), Segmenter::begin(run(target)));
        let (mut sooner, mut plain) = (push(&mut told, begin.clone()), push(&mut not, begin));
        let mut times = [0i64; 2];
        for (kind, step, more) in units {
            let track = usize::from(kind % 3 == 0);
            times[track] = (times[track] + step / if track == 1 { 20 } else { 3 }).max(times[0].max(times[1]) - 90_000);
            let idr = kind > 15;
            let late = if kind == 23 { step } else { 0 };
            let mut unit = if track == 0 { picture(times[0] - late, idr) } else { sound(times[1]) };
            if let Unit::Video(picture) = &mut unit {
                sooner.extend(told.announce(picture));
                let marking = if more == 3 { Marking::Withheld } else { Marking::Marked };
                picture.gop = idr.then(|| gop(more, times[0], [1, 2, 1, 0][usize::from(more)], marking));
                if more == 3 && idr {
                    picture.pieces.clear();
                }
            }
            let between = (idr && more == 2).then(|| video_config(0xc0 + kind % 2));
            sooner.extend(push(&mut told, between.clone().into_iter().chain([unit.clone()])));
            plain.extend(push(&mut not, between.into_iter().chain([unit])));
            prop_assert_eq!(told.snapshot(), not.snapshot());
        }
        sooner.extend(told.gone());
        plain.extend(not.gone());
        check(&sooner, &run(target));
        prop_assert!(sooner == plain);
    }

    /// Times that no timeline gives are refused or answered with a hole, never with a panic.
    #[test]
    fn any_times_are_answered(units in proptest::collection::vec((any::<bool>(), any::<bool>(), prop_oneof![any::<i64>(), 0i64..1_000_000]), 1..60)) {
        let mut segmenter = Segmenter::begin(run(2));
        push(&mut segmenter, [video_config(0xc0), audio_config(AT_48K)]);
        for (video, idr, time) in units {
            segmenter.push(if video { picture(time, idr) } else { sound(time) });
            segmenter = Segmenter::restore(&segmenter.snapshot()).expect("own state");
        }
        segmenter.gone();
    }

    /// Altered state is refused or at least harmless.
    #[test]
    fn any_altered_state_is_answered(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut in any::<prop::sample::Index>()) {
        let mut segmenter = Segmenter::begin(run(2));
        push(&mut segmenter, [video_config(0xc0), audio_config(AT_48K)].into_iter().chain(feed(0, 1.2, 90_000, true, true)));
        let mut state = segmenter.snapshot();
        prop_assert!(Segmenter::restore(&state[..cut.index(state.len())]).is_err());
        for (at, byte) in flips {
            let at = at.index(state.len());
            state[at] = byte;
        }
        if let Ok(mut altered) = Segmenter::restore(&state) {
            push(&mut altered, feed(108_000, 3.0, 90_000, true, true));
            altered.gone();
        }
    }
}
