//! Further encodings of the picture: cut where it is, left out where they do not begin with it, and never in anybody's way.

use super::several::{first_two, of_tracks, published, together};
use super::*;
use ingest_api::Encoding;

const SECOND: Encoding = Encoding::ALL[0];
const THIRD: Encoding = Encoding::ALL[1];
const OF_SECOND: Track = Track::Encoding(SECOND);
const OF_THIRD: Track = Track::Encoding(THIRD);
/// A picture at 30 a second.
const STEP: i64 = 3_000;

fn config(encoding: Encoding, marker: u8) -> Unit {
    let Unit::VideoConfig(config) = video_config(marker) else { panic!("a video configuration") };
    Unit::EncodingConfig(encoding, config)
}

fn further(encoding: Encoding, dts_90k: i64, idr: bool) -> Unit {
    let Unit::Video(unit) = picture(dts_90k, idr) else { panic!("a picture") };
    let data = Bytes::from(vec![encoding.id() as u8; 31]);
    Unit::Encoding(encoding, AccessUnit { pieces: vec![Piece::Common(data)], ..unit })
}

/// Pictures between two ticks, `step` apart, an IDR picture each `gop` from `first_idr` on.
fn pictures(
    encoding: Encoding,
    ticks: std::ops::Range<i64>,
    step: i64,
    (first_idr, gop): (i64, i64),
) -> Vec<Unit> {
    let one = |dts: i64| further(encoding, dts, dts >= first_idr && (dts - first_idr) % gop == 0);
    ticks.step_by(step as usize).map(one).collect()
}

/// Which segments have a track.
fn has(outputs: &[Output], track: Track) -> Vec<bool> {
    let named = |record: &&window::Segment| record.tracks.iter().any(|entry| entry.track == track);
    records(outputs).iter().map(named).collect()
}

fn left_out(outputs: &[Output], of: Track) -> usize {
    let one = |report: &&&Report| matches!(report, Report::NotAligned { track, .. } if *track == of);
    reports(outputs).iter().filter(one).count()
}

fn without_hole(outputs: &[Output], track: Track) {
    let fragments = fragments(outputs, track);
    assert!(fragments.windows(2).all(|pair| pair[0].0 + pair[0].2 == pair[1].0), "{track:?}: {fragments:?}");
}

#[test]
fn every_encoding_has_every_segment_and_part_whoever_comes_first() {
    let configs = || [first_two(), vec![config(SECOND, 0xc1), config(THIRD, 0xc2)]].concat();
    let first = || feed(0, 8.0, 90_000, true, true);
    let second = || pictures(SECOND, 0..720_000, STEP, (0, 90_000));
    // Half as many pictures a second.
    let third = || pictures(THIRD, 0..720_000, 2 * STEP, (0, 180_000));
    let orders = [
        [configs(), together([first(), second(), third()])],
        [configs(), together([third(), second(), first()])],
    ];
    let made = orders.map(|order| published(order.concat()));
    for outputs in &made {
        assert_eq!(seconds(outputs), [2.0; 4]);
        for record in records(outputs) {
            let tracks: Vec<Track> = record.tracks.iter().map(|entry| entry.track).collect();
            assert_eq!(
                (tracks, record.discontinuity),
                (vec![Track::Video, Track::AUDIO, OF_SECOND, OF_THIRD], 7)
            );
            let inits: std::collections::BTreeSet<_> =
                record.tracks.iter().map(|entry| &entry.init).collect();
            assert_eq!(inits.len(), 4, "each its own");
            let independent = |entry: &window::SegmentTrack| -> Vec<bool> {
                entry.parts.iter().map(|part| part.independent).collect()
            };
            let [video, _, second, third] = &record.tracks[..] else { panic!() };
            assert_eq!(independent(second), independent(video));
            assert!(
                third.parts[0].independent && third.parts.iter().filter(|part| part.independent).count() == 1
            );
        }
        for (track, count) in [(Track::Video, 240), (OF_SECOND, 240), (OF_THIRD, 120)] {
            assert_eq!(fragments(outputs, track).iter().map(|fragment| fragment.1).sum::<usize>(), count);
            without_hole(outputs, track);
        }
        assert_eq!(reports(outputs), Vec::<&Report>::new());
    }
    let all = [Track::Video, Track::AUDIO, OF_SECOND, OF_THIRD];
    assert_eq!(of_tracks(&made[0], &all), of_tracks(&made[1], &all), "the order of one instant is nothing");
}

/// The bytes of picture and sound are those of the same publish without further encodings.
#[test]
fn what_a_further_encoding_does_changes_nothing_of_the_others() {
    let first = || feed(0, 12.0, 180_000, true, true);
    let alone = of_tracks(&published([first_two(), first()].concat()), &[Track::Video, Track::AUDIO]);
    let early = || vec![config(SECOND, 0xc1)];
    let all = || pictures(SECOND, 0..1_080_000, STEP, (0, 180_000));
    let odd = pictures(SECOND, 0..1_080_000, STEP, (9_000, 180_000));
    let halted: Vec<Unit> = all().into_iter().take(100).collect();
    for (name, units, segments) in [
        ("beside", [first_two(), early(), together([first(), all()])].concat(), 6),
        ("not aligned", [first_two(), early(), together([first(), odd])].concat(), 0),
        ("without a configuration", [first_two(), together([first(), all()])].concat(), 0),
        ("halted", [first_two(), early(), together([first(), halted])].concat(), 2),
        ("never seen", [first_two(), early(), first()].concat(), 0),
    ] {
        let outputs = published(units);
        assert_eq!(of_tracks(&outputs, &[Track::Video, Track::AUDIO]), alone, "{name}");
        let with = has(&outputs, OF_SECOND).into_iter().filter(|has| *has).count();
        assert_eq!(with, segments, "{name}");
    }
}

#[test]
fn one_that_does_not_begin_with_the_picture_is_left_out_of_that_segment_alone() {
    let first = || feed(0, 12.0, 180_000, true, false);
    let configs = || [first_two(), vec![config(SECOND, 0xc1)]].concat();
    let made = |further: Vec<Unit>| published([configs(), together([first(), further])].concat());
    // Its IDR pictures are three pictures later than the picture's.
    let outputs = made(pictures(SECOND, 0..1_080_000, STEP, (9_000, 180_000)));
    assert_eq!((has(&outputs, OF_SECOND), left_out(&outputs, OF_SECOND)), (vec![false; 6], 6));
    // One picture is lost: the rest of that GOP goes on, as that of the picture would. Then an IDR picture is lost.
    let mut lossy = pictures(SECOND, 0..1_080_000, STEP, (0, 180_000));
    lossy
        .retain(|unit| !matches!(unit, Unit::Encoding(_, unit) if [90_000, 360_000].contains(&unit.dts_90k)));
    let outputs = made(lossy);
    assert_eq!(has(&outputs, OF_SECOND), [true, true, false, true, true, true]);
    assert_eq!(left_out(&outputs, OF_SECOND), 1);
    assert!(records(&outputs).iter().all(|record| record.discontinuity == 7), "nobody begins anew");
    let counts: Vec<usize> = fragments(&outputs, OF_SECOND).iter().map(|fragment| fragment.1).collect();
    assert_eq!(counts.iter().sum::<usize>(), 5 * 60 - 1);
}

#[test]
fn where_a_long_gop_is_cut_inside_it_goes_on() {
    let configs = [first_two(), vec![config(SECOND, 0xc1), config(THIRD, 0xc2)]].concat();
    let late = pictures(THIRD, 200_000..900_000, STEP, (200_000, 900_000));
    let further = [pictures(SECOND, 0..900_000, STEP, (0, 900_000)), late];
    let outputs = published(
        [configs, together([feed(0, 10.0, 900_000, true, false)].into_iter().chain(further))].concat(),
    );
    assert!(records(&outputs).iter().any(|record| !record.independent));
    assert!(has(&outputs, OF_SECOND).into_iter().all(|has| has), "{:?}", has(&outputs, OF_SECOND));
    without_hole(&outputs, OF_SECOND);
    assert!(!has(&outputs, OF_THIRD).into_iter().any(|has| has), "it began elsewhere");
}

#[test]
fn a_late_one_begins_with_the_next_segment_and_another_configuration_is_a_discontinuity() {
    let first = || feed(0, 12.0, 180_000, true, false);
    let further = || pictures(SECOND, 0..1_080_000, STEP, (0, 180_000));
    let begins = |unit: &Unit, at: i64| matches!(unit, Unit::Encoding(_, unit) if unit.dts_90k == at);
    let with = |configs: &[(i64, u8)]| {
        let mut all = first_two();
        for unit in together([first(), further()]) {
            let new = configs.iter().find(|(at, _)| begins(&unit, *at));
            all.extend(new.map(|(_, marker)| config(SECOND, *marker)));
            all.push(unit);
        }
        published(all)
    };
    let outputs = with(&[(270_000, 0xc1)]);
    assert_eq!(has(&outputs, OF_SECOND), [false, false, true, true, true, true]);
    assert!(records(&outputs).iter().all(|record| record.discontinuity == 7));
    let outputs = with(&[(0, 0xc1), (540_000, 0xc2)]);
    assert_eq!(has(&outputs, OF_SECOND), [true; 6]);
    let numbers: Vec<u64> = records(&outputs).iter().map(|record| record.discontinuity).collect();
    assert_eq!(numbers, [7, 7, 7, 8, 8, 8]);
    let inits =
        outputs.iter().filter(|output| matches!(output, Output::Init { track: OF_SECOND, .. })).count();
    assert_eq!(inits, 2);
}

#[test]
fn they_return_with_their_publisher_or_do_not() {
    let mut segmenter = Segmenter::begin(run(4));
    let configs = || [first_two(), vec![config(SECOND, 0xc1)]].concat();
    let media = |from: i64| {
        let further = pictures(SECOND, from..from + 540_000, STEP, (from, 180_000));
        together([feed(from, 6.0, 180_000, true, true), further])
    };
    let mut outputs = push(&mut segmenter, [configs(), media(0)].concat());
    outputs.extend(segmenter.gone());
    outputs.extend(push(&mut segmenter, [configs(), media(540_000)].concat()));
    outputs.extend(segmenter.gone());
    check(&outputs, &run(4));
    assert!(records(&outputs).iter().all(|record| (record.tracks.len(), record.discontinuity) == (3, 7)));
    without_hole(&outputs, OF_SECOND);
    let last = records(&outputs).last().copied().cloned().unwrap();
    let mut again = Segmenter::resume(run(4), &last);
    let media = [first_two(), feed(1_080_000, 6.0, 180_000, true, true)].concat();
    let mut without = push(&mut again, media);
    without.extend(again.gone());
    assert!(records(&without).iter().all(|record| (record.tracks.len(), record.discontinuity) == (2, 7)));
    assert_eq!(left_out(&without, OF_SECOND), 0, "it is not missed");
}

#[test]
fn pictures_that_nobody_takes_are_forgotten() {
    let mut segmenter = Segmenter::begin(run(2));
    let outputs = push(&mut segmenter, [first_two(), vec![config(SECOND, 0xc1)]].concat());
    assert_eq!(outputs, Vec::new());
    let many = 3 * SEGMENT_SAMPLES_MAX as i64;
    let outputs = push(&mut segmenter, (0..many).map(|at| further(SECOND, at, at % 10 == 0)));
    let full = |report: &&&Report| matches!(report, Report::Dropped { why: DropCause::Queue, .. });
    assert_eq!(reports(&outputs).iter().filter(full).count(), 2);
    assert!(segmenter.snapshot().len() < SEGMENT_SAMPLES_MAX * 100);
}

#[test]
fn a_restored_twin_makes_the_same_of_all_encodings() {
    let configs = [first_two(), vec![config(SECOND, 0xc1)]].concat();
    let media = [feed(0, 5.0, 180_000, true, true), pictures(SECOND, 0..450_000, STEP, (0, 180_000))];
    let mut segmenter = Segmenter::begin(run(2));
    for unit in [configs, together(media)].concat() {
        let mut twin = Segmenter::restore(&segmenter.snapshot()).unwrap();
        let outputs = segmenter.push(unit.clone());
        assert_eq!(twin.push(unit), outputs);
    }
}

/// Beside marked pictures an unmarked one would be a way around them. What is marked of it is recorded as its own.
#[test]
fn one_is_marked_where_the_picture_is_or_left_out() {
    let unit = |encoding: Option<Encoding>, dts: i64, marked: bool, slices: u16, key: u32| {
        let Unit::Video(unit) = picture(dts, dts % 180_000 == 0) else { panic!("a picture") };
        let marking = if marked { Marking::Marked } else { Marking::Unmarked };
        let gop =
            Gop { slices, ..super::gop((dts / 180_000) as u8, dts, if marked { key } else { 0 }, marking) };
        let pair = |slice| {
            let [a, b] = [b"aaaa", b"bbbb"].map(|bytes| Bytes::from_static(bytes));
            Piece::Pair { a, b, slice }
        };
        let mut unit = AccessUnit { gop: Some(gop).filter(|_| unit.idr), ..unit };
        if unit.idr && marked {
            unit.pieces = (0..slices).map(pair).collect();
        }
        encoding.map_or(Unit::Video(unit.clone()), |encoding| Unit::Encoding(encoding, unit))
    };
    // GOPs of two seconds: which of them are marked, of the picture and of the further one.
    let made = |picture: [bool; 4], further: [bool; 4], keys: [u32; 4]| {
        let of = |encoding: Option<Encoding>, marked: [bool; 4], slices| -> Vec<Unit> {
            let at = |dts: i64| (dts / 180_000) as usize;
            let one = |dts: i64| unit(encoding, dts, marked[at(dts)], slices, keys[at(dts)]);
            (0..720_000).step_by(STEP as usize).map(one).collect()
        };
        let media = together([of(None, picture, 2), of(Some(SECOND), further, 1)]);
        published([first_two(), vec![config(SECOND, 0xc1)], media].concat())
    };
    let outputs = made([true, true, false, false], [true, false, true, false], [1; 4]);
    assert_eq!(has(&outputs, OF_SECOND), [true, false, false, true]);
    let outputs = made([true; 4], [true; 4], [1, 1, 2, 2]);
    for (number, record) in records(&outputs).into_iter().enumerate() {
        let of = |track| record.tracks.iter().find(|entry| entry.track == track).unwrap();
        let [own] = &of(OF_SECOND).gops[..] else { panic!("{:?}", of(OF_SECOND).gops) };
        assert_eq!((own.id, own.code_key), (record.gops[0].id, record.gops[0].code_key));
        assert_eq!((own.slices, record.gops[0].slices, own.code_key), (1, 2, 1 + number as u32 / 2));
        assert_eq!(of(Track::Video).gops, []);
    }
}
