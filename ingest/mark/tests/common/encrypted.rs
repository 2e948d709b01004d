//! Marked segments, encrypted: every viewer's mixture of A and B slices decrypts to what it is without encryption. The
//! decryptor is ffmpeg's.

use crate::common::{Stream, host, scratch, seed};
use bytes::Bytes;
use ingest_api::content_key::ContentKey;
use ingest_api::window::{Gop, Marking};
use ingest_api::{Object, Run, RunId, Track};
use mark::{Plan, mark};
use media::cbcs::Seal;
use media::segment::{Output, Segmenter};
use media::unit::{AccessUnit, Piece, Unit, VideoConfig};
use releve_watermark::{GopId, Key, Position, Symbol};
use std::process::Command;
use std::sync::Arc;

fn run() -> Run {
    Run {
        id: RunId([3; 8]),
        stream: "demo".parse().unwrap(),
        anchor_unix_ms: 0,
        first_number: 1,
        first_discontinuity: 0,
        target_duration_s: 1,
        part_90k: 30_000,
        mpeg_ts: false,
        encryption: None,
    }
}

/// The init section and the segments of a stream whose IDR pictures are marked.
fn segments(stream: &Stream) -> (Bytes, Vec<Object>) {
    let plan = Plan::of(&stream.avcc(4)).unwrap();
    let mut segmenter = Segmenter::begin(run());
    let config = Arc::new(VideoConfig::of_avcc(plan.avcc().clone()).unwrap());
    let mut outputs = segmenter.push(Unit::VideoConfig(config));
    for (at, unit) in stream.units.iter().enumerate() {
        let (bytes, dts_90k) = (unit.bytes(4), at as i64 * 3_000);
        let (pieces, gop) = if unit.idr {
            let marked = mark(&plan.job(bytes, seed(at), stream.previous_gop(at), 35)).unwrap();
            let id = GopId([at as u8; 16]);
            let (slices, marking) = (marked.slices, Marking::Marked);
            let keys = (1, 1, 1);
            let (pattern_key, code_key, bias_key) = keys;
            let gop = Gop { id, start_90k: dts_90k, marking, slices, pattern_key, code_key, bias_key };
            (marked.pieces, Some(gop))
        } else {
            (vec![Piece::Common(bytes)], None)
        };
        let unit = AccessUnit { dts_90k, composition_90k: 0, idr: unit.idr, gop, pieces };
        outputs.extend(segmenter.push(Unit::Video(unit)));
    }
    outputs.extend(segmenter.gone());
    let (mut init, mut objects) = (Bytes::new(), Vec::new());
    for output in outputs {
        match output {
            Output::Init { object, .. } => init = object.a,
            Output::Segment { objects: made, .. } => objects.extend(made.into_iter().map(|(_, video)| video)),
            _ => {}
        }
    }
    (init, objects)
}

/// The pictures of a file, as ffmpeg decodes them without a word.
fn pictures(name: &str, file: &[u8], key: Option<&ContentKey>) -> Vec<u8> {
    let path = scratch(name);
    std::fs::write(&path, file).unwrap();
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-xerror", "-err_detect", "explode"]);
    if let Some(key) = key {
        let hex: String = key.secret().iter().map(|byte| format!("{byte:02x}")).collect();
        // It reads in order then: ffmpeg 5.1 mixes the maps of fragments up when it looks ahead.
        command.args(["-fflags", "ignidx", "-decryption_key", &hex]);
    }
    command.arg("-i").arg(&path).args(["-fps_mode", "passthrough", "-f", "rawvideo", "-"]);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{name}: ffmpeg said {said}");
    output.stdout
}

#[test]
fn every_mixture_of_encrypted_slices_decrypts_to_its_pictures() {
    if !crate::common::ffmpeg_or_skip("every_mixture_of_encrypted_slices_decrypts_to_its_pictures") {
        return;
    }
    let stream = host("encrypted", "640x352", 62, &["-bf", "0"]);
    let (init, segments) = segments(&stream);
    assert!(segments.len() >= 2 && segments.iter().all(|segment| segment.pairs.len() >= 8));
    let key = ContentKey::of_segment(&Key::new(1, [9; 32]), &run().stream, 1, 300);
    let seal = Seal::new(Track::Video, &init, &key).unwrap();
    let sealed: Vec<Object> = segments.iter().map(|segment| seal.seal(segment).unwrap().0).collect();
    for (clear, sealed) in segments.iter().zip(&sealed) {
        let places = |object: &Object| -> Vec<(Position, usize)> {
            object.pairs.iter().map(|pair| (pair.position, pair.b.len())).collect()
        };
        assert_eq!(places(clear), places(sealed), "the pairs are the same ones");
        assert_eq!(clear.code_key, sealed.code_key);
        assert!(clear.pairs.iter().zip(&sealed.pairs).all(|(clear, sealed)| clear.b != sealed.b));
        assert_eq!(Object::decode(sealed.encode()).as_ref(), Ok(sealed));
    }
    let mut seen: Vec<Vec<u8>> = Vec::new();
    for mix in [0u16, 0xff, 0xa5, 0x3c] {
        let symbol = |position: Position| match mix >> (position.slice % 8) & 1 {
            1 => Symbol::B,
            _ => Symbol::A,
        };
        let file = |init: &Bytes, segments: &[Object]| -> Vec<u8> {
            let pieces = segments.iter().flat_map(|segment| segment.pieces(symbol));
            [init.clone()].into_iter().chain(pieces).flatten().collect()
        };
        let clear = pictures("mixture-clear.mp4", &file(&init, &segments), None);
        let file = file(seal.init(), &sealed);
        let ours = pictures("mixture-encrypted.mp4", &file, Some(&key));
        assert_eq!(clear.len(), stream.units.len() * 640 * 352 * 3 / 2);
        assert!(clear == ours, "mixture {mix:02x} is another picture");
        assert!(!seen.contains(&clear), "mixtures differ");
        seen.push(clear);
    }
}
