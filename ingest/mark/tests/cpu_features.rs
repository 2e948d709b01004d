//! The same input in processes that see different CPUs gives the same segments.
//!
//! `cargo test -p mark --features cpu-mask --test cpu_features`. Each run is this program again, which then prints the
//! hashes of its marked segments; `RELEVE_CPU_MASK` hides features from openh264 (`codec::cpu_mask`).
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod common;

use codec::{Entropy, GopEncoder, IntraConfig, IntraEncoder, Picture};
use common::{Stream, seed};
use ingest_api::window::{Gop, Marking, Sha256};
use ingest_api::{Run, RunId};
use mark::Plan;
use mark::normalise::{Rate, Session, Step};
use media::segment::{Output, Segmenter};
use media::unit::{AccessUnit, Unit, VideoCoding, VideoConfig};
use releve_watermark::GopId;
use std::process::Command;
use std::sync::Arc;

const CHILD: &str = "RELEVE_CPU_CHILD";

/// A textured picture, moved by so many samples.
fn picture(width: usize, height: usize, moved: usize) -> Picture {
    let mut state = 1u32;
    let samples = (0..width * height * 3 / 2).map(|i| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let (x, y) = (i % width + moved, i / width + moved / 3);
        (60 + ((x * 7) ^ (y * 3)) % 90 + (state % 24) as usize) as u8
    });
    Picture::new(width, height, samples.collect()).unwrap()
}

/// Pictures that openh264 has coded itself: this test needs no ffmpeg.
fn hosts() -> Vec<Stream> {
    let (width, height) = (320, 192);
    let picture = picture(width, height, 0);
    let coded = |entropy| {
        let config = IntraConfig { width, height, slices: 2, entropy };
        Stream::of_annexb(&IntraEncoder::new(config.whole(), 24).unwrap().encode(&picture).unwrap())
    };
    vec![coded(Entropy::Cabac), coded(Entropy::Cavlc)]
}

/// Hashes, A and B bytes alike, of the segments that three marked GOPs of this picture make.
fn segments(stream: &Stream) -> Vec<Sha256> {
    let plan = Plan::of(&stream.avcc(4)).unwrap();
    let run = Run {
        id: RunId([7; 8]),
        stream: "demo".parse().unwrap(),
        anchor_unix_ms: 0,
        first_number: 0,
        first_discontinuity: 0,
        target_duration_s: 2,
        part_90k: 30_000,
        mpeg_ts: false,
        encryption: None,
    };
    let mut segmenter = Segmenter::begin(run);
    let mut outputs =
        segmenter.push(Unit::VideoConfig(Arc::new(VideoConfig::of_avcc(plan.avcc().clone()).unwrap())));
    for number in 0..3 {
        let marked = mark::mark(&plan.job(stream.units[0].bytes(4), seed(number), 0, 35)).unwrap();
        let start_90k = number as i64 * 180_000;
        let gop = Gop {
            id: GopId::derive("demo", &[7; 8], start_90k),
            start_90k,
            marking: Marking::Marked,
            slices: marked.slices,
            pattern_key: 1,
            code_key: 1,
            bias_key: 1,
        };
        outputs.extend(segmenter.push(Unit::Video(AccessUnit {
            dts_90k: start_90k,
            composition_90k: 0,
            idr: true,
            gop: Some(gop),
            pieces: marked.pieces,
        })));
    }
    outputs.extend(segmenter.gone());
    let hashes = outputs.iter().filter_map(|output| match output {
        Output::Segment { record, objects } => {
            assert_eq!(objects[0].1.pairs.len(), usize::from(plan.slices()), "a marked segment");
            Some(record.tracks[0].sha256)
        }
        _ => None,
    });
    let hashes: Vec<Sha256> = hashes.collect();
    assert_eq!(hashes.len(), 3);
    hashes
}

/// What the normaliser makes of a GOP of 100 pictures.
fn normalised() -> Sha256 {
    let (width, height) = (320, 192);
    let mut encoder = GopEncoder::new(width, height, 24).unwrap();
    let coded = (0..100).map(|at| encoder.encode(&picture(width, height, at), 24, at == 0).unwrap());
    let stream = Stream::of_annexb(&coded.collect::<Vec<_>>().concat());
    let (mut session, mut all, mut count) = (Session::default(), Vec::new(), 0);
    let begin = Step::Begin {
        coding: VideoCoding::H264,
        record: stream.avcc(4),
        gop_90k: 90_000,
        rate: Rate::first(24, 60_000),
    };
    let picture = |(at, unit): (usize, &common::AccessUnit)| Step::Picture {
        pts_90k: at as i64 * 3_000,
        access_unit: unit.bytes(4),
    };
    let steps = std::iter::once(begin).chain(stream.units.iter().enumerate().map(picture)).chain([Step::End]);
    for step in steps {
        for (_, bytes) in session.step(step).unwrap().pictures {
            all.extend_from_slice(&bytes);
            count += 1;
        }
    }
    assert_eq!(count, 100);
    Sha256::of(&all)
}

#[test]
fn bytes_do_not_depend_on_the_cpu() {
    if std::env::var_os(CHILD).is_some() {
        let hashes: Vec<Sha256> = hosts().iter().flat_map(segments).chain([normalised()]).collect();
        assert!(codec::cpu_mask::times_asked() > 0, "openh264 asks our function");
        println!("\nhash {hashes:?}");
        return;
    }
    let run = |mask: Option<&str>| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "bytes_do_not_depend_on_the_cpu", "--nocapture"]).env(CHILD, "1");
        if let Some(mask) = mask {
            command.env(codec::cpu_mask::VARIABLE, mask);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("hash ")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{mask:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
    };
    let native = run(None);
    for mask in ["avx2", "avx", "sse41", "ssse3", "sse2", "all"] {
        assert_eq!(run(Some(mask)), native, "without {mask} and newer");
    }
}
