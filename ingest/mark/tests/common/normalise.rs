//! Streams that do not fit, made anew: as many pictures at the same times, near the publisher's, in closed GOPs that mark.

use crate::common::{chosen, decode_strictly, ffmpeg_or_skip, scratch, seed};
use bytes::Bytes;
use ingest_api::AudioTrack;
use mark::h264::{IdrHeader, Pps, Sps};
use mark::normalise::{Do, Normaliser, Saved, Session};
use mark::{Plan, mark};
use media::feed::{Feed, Kind};
use media::unit::{AccessUnit, AudioFrame, Unit};
use std::process::Command;

const GOP_90K: u32 = 180_000;
const FRAMES: usize = 140;

/// What x264 does, and whether that fits as it is.
const CASES: [(&str, &str, &[&str]); 7] = [
    ("long", "640x360", &["-g", "250"]),
    (
        "pyramid",
        "320x192",
        &["-g", "80", "-x264-params", "bframes=3:b-pyramid=normal:ref=4:weightp=2:scenecut=0"],
    ),
    ("open", "322x200", &["-g", "30", "-x264-params", "open-gop=1:bframes=3:scenecut=0"]),
    ("refresh", "320x192", &["-g", "30", "-x264-params", "intra-refresh=1"]),
    ("baseline", "176x144", &["-g", "250", "-profile:v", "baseline", "-x264-params", "ref=3"]),
    ("slices", "320x192", &["-g", "250", "-x264-params", "slices=4:bframes=2:aud=1"]),
    (
        "film",
        "640x360",
        &["-g", "250", "-r", "24000/1001", "-color_primaries", "bt709", "-colorspace", "bt709"],
    ),
];

/// What a feed makes of ffmpeg's FLV.
fn published(name: &str, size: &str, arguments: &[&str]) -> Vec<Unit> {
    let path = scratch(&format!("normalise-{name}.flv"));
    let source = format!("testsrc2=size={size}:rate=30,noise=alls=6:all_seed=7");
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-v", "error", "-y", "-f", "lavfi", "-i", &source]);
    command.args([
        "-f",
        "lavfi",
        "-i",
        "sine=sample_rate=48000",
        "-t",
        "6",
        "-pix_fmt",
        "yuv420p",
        "-threads",
        "1",
    ]);
    command.args(["-c:a", "aac", "-c:v", "libx264", "-preset", "veryfast", "-crf", "26"]);
    let output =
        command.args(arguments).args(["-frames:v", &FRAMES.to_string()]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    let flv = std::fs::read(&path).unwrap();
    let (mut feed, mut units, mut at) = (Feed::new(0), Vec::new(), 13);
    while at + 11 <= flv.len() {
        let head = &flv[at..at + 11];
        let length = usize::from(head[1]) << 16 | usize::from(head[2]) << 8 | usize::from(head[3]);
        let time = u32::from_be_bytes([head[7], head[4], head[5], head[6]]);
        let payload = Bytes::copy_from_slice(&flv[at + 11..at + 11 + length]);
        let kind = match head[0] {
            8 => Some(Kind::Audio),
            9 => Some(Kind::Video),
            _ => None,
        };
        if let Some(kind) = kind {
            units.extend(feed.push(kind, time, payload).unwrap());
        }
        at += 15 + length;
    }
    units
}

/// A normaliser with its worker's part in this process.
struct Node {
    normaliser: Normaliser,
    session: Session,
}

impl Node {
    fn new() -> Node {
        Node { normaliser: Normaliser::new(GOP_90K), session: Session::default() }
    }

    /// One that begins where another stands.
    fn twin(saved: Saved) -> Node {
        let (normaliser, steps) = Normaliser::restore(saved).unwrap();
        let mut session = Session::default();
        for step in steps {
            session.step(step).unwrap();
        }
        Node { normaliser, session }
    }

    fn push(&mut self, unit: &Unit) -> Vec<Unit> {
        let todo = self.normaliser.push(unit.clone(), true);
        self.carry_out(todo)
    }

    fn end(&mut self) -> Vec<Unit> {
        let todo = self.normaliser.end();
        self.carry_out(todo)
    }

    fn carry_out(&mut self, todo: Vec<Do>) -> Vec<Unit> {
        let mut out = Vec::new();
        for one in todo {
            match one {
                Do::Pass(unit) => out.push(unit),
                Do::Code(step) => {
                    out.extend(self.normaliser.coded(self.session.step(step).unwrap()).unwrap());
                }
            }
        }
        out
    }
}

/// What the normaliser makes of a stream.
pub(crate) fn normalised(units: &[Unit]) -> Vec<Unit> {
    let mut node = Node::new();
    let mut out: Vec<Unit> = units.iter().flat_map(|unit| node.push(unit)).collect();
    out.extend(node.end());
    out
}

pub(crate) fn pictures(units: &[Unit]) -> Vec<&AccessUnit> {
    let mut pictures = Vec::new();
    for unit in units {
        if let Unit::Video(picture) = unit {
            pictures.push(picture);
        }
    }
    pictures
}

pub(crate) fn configs(units: &[Unit]) -> Vec<Bytes> {
    let config = |unit: &Unit| match unit {
        Unit::VideoConfig(config) => Some(config.record.clone()),
        _ => None,
    };
    units.iter().filter_map(config).collect()
}

pub(crate) fn shown(picture: &AccessUnit) -> i64 {
    picture.dts_90k + i64::from(picture.composition_90k)
}

/// ffmpeg's pictures of these units, whole macroblocks.
pub(crate) fn decoded(name: &str, avcc: &[u8], pictures: &[Vec<u8>]) -> Vec<u8> {
    decode_strictly(name, &crate::common::annexb(avcc, pictures, 4), pictures.len())
}

/// Of luma and chroma, in dB.
pub(crate) fn psnr(one: &[u8], two: &[u8]) -> f64 {
    let error: u64 = one.iter().zip(two).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    10.0 * (255.0f64.powi(2) * one.len() as f64 / (error as f64).max(1.0)).log10()
}

#[test]
fn what_does_not_fit_is_the_same_film_in_closed_gops() {
    if !ffmpeg_or_skip("what_does_not_fit_is_the_same_film_in_closed_gops") {
        return;
    }
    for (name, size, arguments) in CASES {
        let mut units = published(name, size, arguments);
        // Some encoders send sound between the first two pictures.
        let first = units.iter().position(|unit| matches!(unit, Unit::Video(_))).unwrap();
        units.insert(
            first + 1,
            Unit::Audio(AudioFrame {
                track: AudioTrack::FIRST,
                time_90k: 900,
                data: Bytes::from_static(&[0x21]),
            }),
        );
        let out = normalised(&units);
        let (came, went) = (pictures(&units), pictures(&out));
        assert!(came.len() >= FRAMES * 2 / 3, "{name}: {} pictures", came.len());
        assert_eq!(went.len(), came.len(), "{name}");
        let mut times: Vec<i64> = came.iter().map(|picture| shown(picture)).collect();
        times.sort_unstable();
        assert_eq!(went.iter().map(|picture| shown(picture)).collect::<Vec<_>>(), times, "{name}");
        assert!(went.iter().zip(&came).all(|(went, came)| went.dts_90k == came.dts_90k), "{name}");
        assert!(went.iter().all(|picture| picture.composition_90k >= 0), "{name}");
        let sounds = |units: &[Unit]| -> Vec<Unit> {
            units
                .iter()
                .filter(|unit| matches!(unit, Unit::Audio(_) | Unit::AudioConfig(..)))
                .cloned()
                .collect()
        };
        assert_eq!(sounds(&out), sounds(&units), "{name}");
        // Sound that comes before any picture would open a segment of its own.
        let first = |is: fn(&Unit) -> bool| out.iter().position(is).unwrap();
        let sound = first(|unit| matches!(unit, Unit::Audio(_)));
        assert!(first(|unit| matches!(unit, Unit::Video(_))) < sound, "{name}: picture first, as it came");

        let idr: Vec<i64> =
            went.iter().filter(|picture| picture.idr).map(|picture| picture.dts_90k).collect();
        assert!(went[0].idr && idr.len() >= 3, "{name}: {idr:?}");
        let ids =
            went.iter().filter(|picture| picture.idr).map(|picture| idr_pic_id(&configs(&out)[0], picture));
        let ids: Vec<u32> = ids.collect();
        assert!(ids.windows(2).all(|two| two[0] != two[1]), "{name}: {ids:?}");
        assert!(idr.windows(2).all(|two| two[1] - two[0] <= 184_000), "{name}: {idr:?}");
        let (host, ours) = (configs(&units), configs(&out));
        assert_eq!(ours.len(), 1, "{name}");
        let read = |avcc: &Bytes| media::unit::VideoConfig::of_avcc(avcc.clone()).unwrap();
        let (host, ours) = (read(&host[0]), read(&ours[0]));
        assert_eq!(
            (ours.width, ours.height, ours.millihertz),
            (host.width, host.height, host.millihertz),
            "{name}"
        );

        let bytes = |pictures: &[&AccessUnit]| -> Vec<Vec<u8>> {
            pictures.iter().map(|picture| chosen(&picture.pieces, |_| false)).collect()
        };
        let (before, after) = (bytes(&came), bytes(&went));
        let sum = |pictures: &[Vec<u8>]| pictures.iter().map(Vec::len).sum::<usize>();
        let (source, film) = (
            decoded(&format!("{name}-host"), &host.record, &before),
            decoded(&format!("{name}-ours"), &ours.record, &after),
        );
        assert_eq!(source.len(), film.len(), "{name}: no picture is missing");
        let one = source.len() / came.len();
        let worst = source.chunks(one).zip(film.chunks(one)).map(|(a, b)| psnr(a, b)).fold(99.0, f64::min);
        let grown = sum(&after) as f64 / sum(&before) as f64;
        println!(
            "{name}: {grown:.2} of the bytes, worst picture {worst:.1} dB, all {:.1} dB",
            psnr(&source, &film)
        );
        assert!(worst > 30.0 && grown < 1.6, "{name}: {worst} dB, {grown} of the bytes");

        marks(name, &ours.record, &went, &film);
        if name == "open" {
            assert_eq!(normalised(&units), out, "{name}: the same again");
        }
    }
}

/// What tells an IDR picture from one that comes directly before or after it.
fn idr_pic_id(avcc: &Bytes, picture: &AccessUnit) -> u32 {
    let set = |at: usize| {
        let length = usize::from(u16::from_be_bytes([avcc[at], avcc[at + 1]]));
        (&avcc[at + 2..at + 2 + length], at + 2 + length)
    };
    let (sps, end) = set(6);
    let (pps, _) = set(end + 1);
    let bytes = chosen(&picture.pieces, |_| false);
    IdrHeader::parse(&bytes[4..], &Sps::parse(sps).unwrap(), &Pps::parse(pps).unwrap())
        .unwrap()
        .picture
        .idr_pic_id
}

/// Each of its IDR pictures takes a mark, and what a viewer gets decodes.
pub(crate) fn marks(name: &str, avcc: &Bytes, pictures: &[&AccessUnit], film: &[u8]) {
    let plan = Plan::of(avcc).unwrap();
    let (mut copy, mut gops) = (Vec::new(), 0);
    for picture in pictures {
        let bytes = chosen(&picture.pieces, |_| false);
        plan.admits(&bytes).unwrap();
        copy.push(if picture.idr {
            gops += 1;
            let marked = mark(&plan.job(bytes.into(), seed(gops), 0, 35)).unwrap();
            assert_eq!(marked.slices, plan.slices());
            chosen(&marked.pieces, |slice| (usize::from(slice) + gops) % 2 == 0)
        } else {
            bytes
        });
    }
    let copy = decoded(&format!("{name}-marked"), plan.avcc(), &copy);
    assert_eq!(copy.len(), film.len(), "{name}");
    let near = psnr(&copy, film);
    assert!((36.0..60.0).contains(&near), "{name}: a marked copy is {near} dB from the other");
}

#[test]
fn what_fits_is_not_touched() {
    if !ffmpeg_or_skip("what_fits_is_not_touched") {
        return;
    }
    let units = published("fits", "176x144", &["-g", "60", "-x264-params", "scenecut=0"]);
    assert_eq!(normalised(&units), units);
}

/// Wherever a stream may be given to another node, that one makes of the rest what the first one makes; and that is before anything
/// is coded, and behind the first picture of each period that can be seen to begin.
#[test]
fn a_twin_goes_on_alike() {
    if !ffmpeg_or_skip("a_twin_goes_on_alike") {
        return;
    }
    const PYRAMID: &str = "bframes=3:b-pyramid=normal:ref=4:weightp=2:scenecut=0";
    for (name, keys, periods) in [("twin-fits", "0,1.5,3", 0), ("twin-late", "0,3,3.5,4.5", 3)] {
        let arguments = ["-g", "250", "-force_key_frames", keys, "-x264-params", PYRAMID];
        let units = published(name, "320x192", &arguments);
        let mut node = Node::new();
        let (mut out, mut saved) = (Vec::new(), Vec::new());
        for (at, unit) in units.iter().enumerate() {
            out.push(node.push(unit));
            saved.extend(node.normaliser.save().map(|saved| (at + 1, node.normaliser.is_coding(), saved)));
        }
        out.push(node.end());
        // Sound may come before the next picture.
        let begins =
            |(at, coding, _): &&(usize, bool, Saved)| *coding && matches!(units[at - 1], Unit::Video(_));
        assert_eq!(saved.iter().filter(begins).count(), periods, "{name}");
        assert!(periods > 0 || saved.len() > 20, "{name}: {} places", saved.len());
        // Of many alike the last ones.
        for (at, coding, saved) in saved.into_iter().rev().take(20) {
            let mut twin = Node::twin(saved);
            for (unit, expected) in units[at..].iter().zip(&out[at..]) {
                assert_eq!(twin.push(unit), *expected, "{name}, from unit {at} on, coding: {coding}");
            }
            assert_eq!(twin.end(), out[units.len()], "{name}, from unit {at} on, coding: {coding}");
        }
    }
}
