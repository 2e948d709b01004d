//! Marked streams of real encoders: what a viewer gets decodes without a doubt, and only the IDRs are other bytes.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod common;
#[path = "common/encrypted.rs"]
mod encrypted;
#[cfg(feature = "libav")]
#[path = "common/foreign.rs"]
mod foreign;
#[path = "common/normalise.rs"]
mod normalise;

use bytes::Bytes;
use codec::{Band, Decoder, Entropy, IntraConfig, IntraEncoder, Picture};
use common::{Stream, annexb, chosen, decode_strictly, ffmpeg_or_skip, host, seed};
use mark::h264::nal::{self, Units, kind};
use mark::host::Host;
use mark::splice::splice;
use mark::{Marked, Plan, mark};
use media::unit::Piece;
use releve_watermark::embed::{Luma, embed};

struct Case {
    name: &'static str,
    size: &'static str,
    arguments: &'static [&'static str],
    slices: u16,
}

const fn case(
    name: &'static str,
    size: &'static str,
    slices: u16,
    arguments: &'static [&'static str],
) -> Case {
    Case { name, size, arguments, slices }
}

const FRAMES: u32 = 62;

const CASES: [Case; 13] = [
    case("high", "640x352", 8, &["-x264-params", "bframes=2"]),
    case(
        "pyramid",
        "640x360",
        8,
        &["-x264-params", "bframes=3:b-pyramid=normal:ref=3:weightp=2:chroma-qp-offset=-2"],
    ),
    case("main", "640x352", 8, &["-profile:v", "main", "-x264-params", "chroma-qp-offset=3"]),
    case("baseline", "640x352", 8, &["-profile:v", "baseline"]),
    case("order-2", "640x352", 8, &["-x264-params", "bframes=0:8x8dct=1"]),
    case("slices", "640x352", 8, &["-x264-params", "slices=4"]),
    case(
        "delimiter-filler",
        "640x352",
        8,
        &[
            "-x264-params",
            "aud=1:nal-hrd=cbr:constrained-intra=1",
            "-b:v",
            "3M",
            "-maxrate",
            "3M",
            "-bufsize",
            "3M",
        ],
    ),
    case("matrix", "640x352", 8, &["-x264-params", "cqm=jvt"]),
    case("no-deblock", "640x352", 8, &["-x264-params", "no-deblock=1:cabac=0"]),
    case("cropped-1080", "1920x1080", 8, &[]),
    case("portrait", "608x1080", 8, &[]),
    case("odd", "854x480", 8, &[]),
    case("small", "176x144", 8, &[]),
];

/// Marks every IDR; the pieces of each access unit.
fn marked(stream: &Stream, plan: &Plan, length_size: u8) -> Vec<(bool, Vec<Piece>, Option<Marked>)> {
    let mut gop = 0;
    let mut out = Vec::new();
    for (at, unit) in stream.units.iter().enumerate() {
        let bytes = unit.bytes(length_size);
        plan.admits(&bytes).unwrap();
        if unit.idr {
            let marked = mark(&plan.job(bytes, seed(gop), stream.previous_gop(at), 35)).unwrap();
            gop += 1;
            out.push((true, marked.pieces.clone(), Some(marked)));
        } else {
            out.push((false, vec![Piece::Common(bytes)], None));
        }
    }
    assert!(gop >= 2, "a clip of more than one GOP");
    out
}

/// A fair coin for a slice of an access unit.
fn coin(mix: u64, at: usize, slice: u16) -> bool {
    let z = (mix << 32 | (at as u64) << 8 | u64::from(slice)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40 & 1 == 1
}

fn nals(bytes: &[u8], length_size: u8) -> Vec<&[u8]> {
    Units::new(bytes, length_size).map(|unit| unit.unwrap().1).collect()
}

/// Everything the module's first line says, for one stream.
fn holds(name: &str, stream: &Stream, length_size: u8, slices: u16) {
    let plan = Plan::of(&stream.avcc(length_size)).unwrap();
    assert_eq!(plan.slices(), slices, "{name}");
    let marked = marked(stream, &plan, length_size);
    let variant = |pick: &dyn Fn(usize, u16) -> bool| -> Vec<Vec<u8>> {
        marked
            .iter()
            .enumerate()
            .map(|(at, (_, pieces, _))| chosen(pieces, |slice| pick(at, slice)))
            .collect()
    };
    let mixes = [
        variant(&|_, _| false),
        variant(&|_, _| true),
        variant(&|at, s| coin(1, at, s)),
        variant(&|at, s| coin(2, at, s)),
    ];
    let frames = stream.units.len();
    let decoded: Vec<Vec<u8>> = mixes
        .iter()
        .enumerate()
        .map(|(mix, units)| {
            decode_strictly(&format!("{name}-{mix}"), &annexb(plan.avcc(), units, length_size), frames)
        })
        .collect();

    let config = plan.intra();
    let frame = config.width * config.height * 3 / 2;
    assert!(
        decoded.iter().all(|pixels| pixels.len() == frames * frame),
        "{name}: every frame of {frames} comes out"
    );
    let mut gop = 0;
    for (at, unit) in stream.units.iter().enumerate() {
        let lengths: Vec<usize> = mixes.iter().map(|units| units[at].len()).collect();
        assert!(
            lengths.iter().all(|&length| length == lengths[0]),
            "{name}: {lengths:?} bytes in picture {at}"
        );
        if !unit.idr {
            assert!(
                mixes.iter().all(|units| units[at] == unit.bytes(length_size)),
                "{name}: picture {at} is not the host's"
            );
            continue;
        }
        // Whatever is no slice is there, in order and untouched.
        let other = |unit: &&[u8]| nal::kind_of(unit) != kind::IDR;
        let host_other: Vec<&[u8]> = unit.nals.iter().map(Vec::as_slice).filter(other).collect();
        let common: Vec<u8> = marked[at]
            .1
            .iter()
            .filter_map(|piece| if let Piece::Common(bytes) = piece { Some(bytes.to_vec()) } else { None })
            .flatten()
            .collect();
        assert_eq!(nals(&common, length_size), host_other, "{name}: picture {at}");
        let kinds =
            |bytes: &[u8]| nals(bytes, length_size).iter().map(|unit| nal::kind_of(unit)).collect::<Vec<_>>();
        assert_eq!(kinds(&mixes[0][at]), kinds(&mixes[1][at]), "{name}: as many NAL units in A as in B");

        // Each slice of a mix has the pixels of A's or B's.
        // (GOPs are closed: an IDR is shown where it is decoded.)
        let pixels = |mix: usize| &decoded[mix][at * frame..][..frame];
        let info = marked[at].2.as_ref().unwrap();
        for mix in 2..4 {
            for slice in 0..info.slices {
                let rows = 16 * config.first_row(slice) * config.width
                    ..16 * config.first_row(slice + 1) * config.width;
                let from = usize::from(coin(mix as u64 - 1, at, slice));
                assert!(
                    pixels(mix)[rows.clone()] == pixels(from)[rows],
                    "{name}: picture {at} slice {slice} of mix {mix}"
                );
            }
        }
        // The mark is there in the IDR, and motion compensation carries it to the GOP's last picture.
        let last = (at + 1..frames).find(|&next| stream.units[next].idr).unwrap_or(frames) - 1;
        let strength = |picture: usize| {
            let luma = |mix: usize| &decoded[mix][picture * frame..][..config.width * config.height];
            mark_strength(&plan, unit, gop, luma(0), luma(1))
        };
        let (first, carried) = (strength(at), strength(last));
        eprintln!(
            "{name}: the mark is {first:.2} of the pattern in picture {at}, {carried:.2} in picture {last}"
        );
        assert!(first > 0.25 && carried > 0.1, "{name}: {first:.2} in picture {at}, {carried:.2} in {last}");
        gop += 1;
        // A second decoder sees the same in the lone IDR.
        let own = plan_with_own(&plan);
        for (mix, units) in mixes.iter().enumerate().take(2) {
            let host =
                mark::host::Host::read(&own, &slices_only(&units[at], length_size)).unwrap().annexb(&own);
            let picture = Decoder::new().unwrap().decode(&host, config.width, config.height).unwrap();
            assert!(picture.samples() == pixels(mix), "{name}: openh264 and ffmpeg agree on picture {at}");
        }
    }
}

/// It does not matter to any byte whether a picture was coded at once or by halves.
#[test]
fn halves_are_spliced_as_the_whole_picture_is() {
    for entropy in [Entropy::Cavlc, Entropy::Cabac] {
        for (width, height) in [(320, 192), (640, 368), (608, 1088)] {
            let samples = (0..width * height * 3 / 2).map(|i| {
                let (x, y) = (i % width, i / width);
                (60 + ((x * 7) ^ (y * 3)) % 90 + (x * y / 16) % 40) as u8
            });
            let picture = Picture::new(width, height, samples.collect()).unwrap();
            let code = |band: &Band, qp| {
                let rows = picture.rows(band.rows()).unwrap();
                IntraEncoder::new(band.clone(), qp).unwrap().encode(&rows).unwrap()
            };
            let config = IntraConfig { width, height, slices: 8, entropy };
            let stream = Stream::of_annexb(&code(&config.whole(), 24));
            let plan = Plan::of(&stream.avcc(4)).unwrap();
            assert_eq!(plan.intra(), config);
            let unit = stream.units[0].bytes(4);
            let host = Host::read(&plan, &unit).unwrap();
            for qp in [10, 22, 40] {
                let (upper, lower) = config.halves();
                let spliced = |band: Band| splice(&plan, &host.header, &band, &code(&band, qp)).unwrap();
                let by_halves = [spliced(upper), spliced(lower.unwrap())].concat();
                assert_eq!(by_halves.len(), 8);
                assert!(by_halves == spliced(config.whole()));
            }
        }
    }
}

/// How much of the pattern the difference of two decoded luma planes holds: 1 is all of it.
fn mark_strength(plan: &Plan, unit: &common::AccessUnit, gop: usize, a: &[u8], b: &[u8]) -> f64 {
    let bytes = unit.bytes(plan.length_size());
    let host = mark::host::Host::read(plan, &bytes).unwrap();
    let (width, height) = (plan.intra().width, plan.intra().height);
    let picture = Decoder::new().unwrap().decode(&host.annexb(plan), width, height).unwrap();
    let samples = picture.luma();
    let (pattern_a, pattern_b) =
        embed(&Luma { samples, width, height, left: 0, top: 0, rows: height }, &seed(gop), 35).unwrap();
    let differences =
        |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)).collect::<Vec<_>>();
    let (seen, made) = (differences(a, b), differences(&pattern_a, &pattern_b));
    let product = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    product(&seen, &made) / product(&made, &made)
}

fn plan_with_own(plan: &Plan) -> Plan {
    Plan::of(plan.avcc()).unwrap()
}

/// The IDR slices of an access unit alone.
fn slices_only(bytes: &[u8], length_size: u8) -> Bytes {
    let mut out = Vec::new();
    for unit in nals(bytes, length_size) {
        if nal::kind_of(unit) == kind::IDR {
            assert!(nal::push_prefixed(&mut out, unit, length_size));
        }
    }
    out.into()
}

fn run(names: &[&str]) {
    if !ffmpeg_or_skip("streams") {
        return;
    }
    for case in CASES.iter().filter(|case| names.contains(&case.name)) {
        holds(case.name, &host(case.name, case.size, FRAMES, case.arguments), 4, case.slices);
    }
}

#[test]
fn high_profile() {
    run(&["high", "pyramid", "order-2"]);
}

#[test]
fn main_and_baseline() {
    run(&["main", "baseline", "no-deblock"]);
}

#[test]
fn several_slices_delimiters_filler_and_matrices() {
    run(&["slices", "delimiter-filler", "matrix"]);
}

#[test]
fn cropped_and_other_shapes() {
    run(&["portrait", "odd", "small"]);
}

#[test]
fn full_hd() {
    run(&["cropped-1080"]);
}

/// Prefixes of 2 bytes: everything fits, or the picture is refused with the reason.
#[test]
fn short_length_prefixes() {
    if !ffmpeg_or_skip("short_length_prefixes") {
        return;
    }
    let stream = host("short", "320x192", FRAMES, &[]);
    holds("short", &stream, 2, 8);
    let fine = host("fine", "1280x720", 31, &["-crf", "1"]);
    let split = |stream: &Stream| {
        let unit = &stream.units[0];
        unit.nals.iter().all(|unit| unit.len() < 65_536).then(|| unit.bytes(2))
    };
    assert!(split(&fine).is_none(), "the host's own slice is too long, no such stream exists");
}

/// Encoders that repeat their parameter sets in every IDR: ours goes in beside them; a changed one ends the plan.
#[test]
fn parameter_sets_within_the_stream() {
    if !ffmpeg_or_skip("parameter_sets_within_the_stream") {
        return;
    }
    let mut stream = host("in-band", "320x192", FRAMES, &[]);
    let plan = Plan::of(&stream.avcc(4)).unwrap();
    let sets = [stream.sps.clone(), stream.pps[0].clone()];
    for unit in stream.units.iter_mut().filter(|unit| unit.idr) {
        unit.nals.splice(0..0, sets.clone());
    }
    let marked = marked(&stream, &plan, 4);
    for is_b in [false, true] {
        let units: Vec<Vec<u8>> = marked.iter().map(|(_, pieces, _)| chosen(pieces, |_| is_b)).collect();
        // The first record is the host's: our PPS must come with the pictures.
        decode_strictly(&format!("in-band-{is_b}"), &annexb(&stream.avcc(4), &units, 4), stream.units.len());
    }
    let own = nals(&chosen(&marked[0].1, |_| false), 4)
        .iter()
        .filter(|unit| nal::kind_of(unit) == kind::PPS)
        .count();
    assert_eq!(own, 2);

    let taken =
        mark::h264::pps::OwnPps { id: 1, sps: 0, cabac: true, bottom_order: false, flat_lists: false }
            .write();
    stream.units[0].nals.insert(2, taken);
    let job = plan.job(stream.units[0].bytes(4), seed(0), 0, 35);
    let error = mark(&job).unwrap_err();
    assert!(error.to_string().contains("an id that marking had taken"), "{error}");
    let other = Plan::avoiding(&stream.avcc(4), &[1]).unwrap();
    assert_eq!(other.own_pps_id(), 2);
}

/// Default scaling lists in the SPS: a PPS without lists would inherit them (trap 4).
#[test]
fn scaling_lists_in_the_sps() {
    if !ffmpeg_or_skip("scaling_lists_in_the_sps") {
        return;
    }
    let mut stream = host("lists", "640x352", FRAMES, &["-x264-params", "bframes=0"]);
    stream.sps = with_default_lists(&stream.sps);
    let plan = Plan::of(&stream.avcc(4)).unwrap();
    assert!(plan.avcc().len() > stream.avcc(4).len() + 20, "our own PPS has lists of its own");
    holds("lists", &stream, 4, 8);
}

/// The same High SPS with `seq_scaling_matrix_present_flag` = 1 and no list present, which means the default ones.
fn with_default_lists(sps: &[u8]) -> Vec<u8> {
    use mark::h264::bits::{BitReader, BitWriter, stop_bit};
    let payload = nal::unescape(sps);
    let mut read = BitReader::new("SPS", &payload);
    read.bits(32).unwrap();
    for _ in 0..4 {
        read.ue(99, "before the lists").unwrap();
    }
    read.flag().unwrap();
    let at = read.position();
    let mut write = BitWriter::default();
    write.copy(&payload, 0, at);
    write.flag(true);
    write.bits(8, 0);
    write.copy(&payload, at + 1, stop_bit(&payload).unwrap());
    write.trailing();
    nal::escape(&write.into_bytes())
}

/// Pictures that no viewer may get marked: redundant and auxiliary slices, prefix units, mixed pictures, damage.
#[test]
fn what_cannot_be_marked_is_refused() {
    if !ffmpeg_or_skip("what_cannot_be_marked_is_refused") {
        return;
    }
    let stream = host("refused", "320x192", 31, &["-x264-params", "slices=4"]);
    let plan = Plan::of(&stream.avcc(4)).unwrap();
    let tried = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut unit = stream.units[0].clone();
        change(&mut unit.nals);
        mark(&plan.job(unit.bytes(4), seed(0), 0, 35)).map(|_| ()).map_err(|error| error.to_string())
    };
    let first = |nals: &[Vec<u8>]| nals.iter().position(|unit| nal::kind_of(unit) == kind::IDR).unwrap();
    assert_eq!(tried(&|_| ()), Ok(()));
    for kind in [1u8, 2, 14, 15, 19, 20, 21, 24] {
        let error = tried(&|nals| nals.insert(first(nals), vec![0x60 | kind, 0x80])).unwrap_err();
        assert!(error.contains(&format!("NAL unit type {kind}")), "{error}");
    }
    assert!(tried(&|nals| nals.truncate(first(nals))).unwrap_err().contains("no IDR slice"));
    assert!(tried(&|nals| drop(nals.remove(first(nals)))).unwrap_err().contains("starts in the middle"));
    assert!(tried(&|nals| drop(nals.pop())).is_err(), "the last slice is missing");
    assert!(tried(&|nals| nals.push(nals[first(nals)].clone())).unwrap_err().contains("out of order"));
    assert!(tried(&|nals| nals.push(vec![6, 5, 1, 0, 0x80])).unwrap_err().contains("NAL unit type 6"));
    assert_eq!(tried(&|nals| nals.push(vec![12, 0xff, 0x80])), Ok(()));
    assert!(
        tried(&|nals| {
            let at = first(nals);
            nals[at].truncate(30)
        })
        .is_err(),
        "half a slice"
    );
}

/// Small, coarse hosts in long GOPs: the cap holds, or the coarsest allowed try is taken.
#[test]
fn size_keeps_to_the_cap() {
    if !ffmpeg_or_skip("size_keeps_to_the_cap") {
        return;
    }
    let stream = host("cap", "640x352", FRAMES, &["-x264-params", "bframes=2"]);
    let plan = Plan::of(&stream.avcc(4)).unwrap();
    for (at, unit) in stream.units.iter().enumerate().filter(|(_, unit)| unit.idr) {
        let bytes = unit.bytes(4);
        let previous = stream.previous_gop(at);
        let marked = mark(&plan.job(bytes.clone(), seed(at), previous, 35)).unwrap();
        let length: usize = marked.pieces.iter().map(Piece::len).sum();
        let cap = mark::rate::cap(bytes.len() as u64, previous) as usize;
        assert!(
            length < cap + cap / 20 || marked.attempts == 4,
            "{length} bytes, cap {cap}, {} attempts",
            marked.attempts
        );
    }
}
