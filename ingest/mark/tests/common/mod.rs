//! Streams for the tests: made by ffmpeg and x264 where they are installed, cut into access units, put together again.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use bytes::Bytes;
use mark::h264::nal::{self, Units, kind};
use media::unit::Piece;
use releve_watermark::embed::PatternSeed;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Whether ffmpeg is there. Without it the caller returns; with `RELEVE_REQUIRE_TOOLS=1` that is a failure.
pub fn ffmpeg_or_skip(test: &str) -> bool {
    let there = Command::new("ffmpeg").arg("-version").output().is_ok_and(|output| output.status.success());
    let required = std::env::var("RELEVE_REQUIRE_TOOLS").is_ok_and(|value| value == "1");
    assert!(there || !required, "{test} needs ffmpeg with libx264 on PATH");
    if !there {
        eprintln!("SKIP {test}: no ffmpeg on PATH");
    }
    there
}

/// A clip of testsrc2 with noise, coded by x264 with these extra arguments, as Annex B.
pub fn host(name: &str, size: &str, frames: u32, arguments: &[&str]) -> Stream {
    let path = scratch(&format!("{name}.h264"));
    let source = format!("testsrc2=size={size}:rate=30,noise=alls=6:all_seed=7");
    let mut command = Command::new("ffmpeg");
    command.args(["-hide_banner", "-v", "error", "-y", "-f", "lavfi", "-i", &source]);
    command.args([
        "-frames:v",
        &frames.to_string(),
        "-pix_fmt",
        "yuv420p",
        "-threads",
        "1",
        "-c:v",
        "libx264",
    ]);
    command.args([
        "-preset",
        "veryfast",
        "-crf",
        "26",
        "-g",
        "30",
        "-keyint_min",
        "30",
        "-sc_threshold",
        "0",
    ]);
    let output = command.args(arguments).arg(&path).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Stream::of_annexb(&std::fs::read(&path).unwrap())
}

/// A file of this test run.
pub fn scratch(name: &str) -> PathBuf {
    Path::new(option_env!("CARGO_TARGET_TMPDIR").unwrap_or("/tmp")).join(name)
}

/// A stream as a publisher sends it: configuration record and access units with prefixes of 4 bytes.
#[derive(Clone)]
pub struct Stream {
    pub sps: Vec<u8>,
    pub pps: Vec<Vec<u8>>,
    pub units: Vec<AccessUnit>,
}

#[derive(Clone)]
pub struct AccessUnit {
    pub idr: bool,
    pub nals: Vec<Vec<u8>>,
}

impl AccessUnit {
    pub fn bytes(&self, length_size: u8) -> Bytes {
        let mut bytes = Vec::new();
        for unit in &self.nals {
            assert!(nal::push_prefixed(&mut bytes, unit, length_size));
        }
        bytes.into()
    }
}

impl Stream {
    /// Parameter sets go to the record only, as RTMP encoders do it.
    pub fn of_annexb(annexb: &[u8]) -> Stream {
        let mut stream = Stream { sps: vec![], pps: vec![], units: vec![] };
        let mut pending: Vec<Vec<u8>> = Vec::new();
        for unit in nal::split_annexb(annexb) {
            match nal::kind_of(unit) {
                kind::SPS => stream.sps = unit.to_vec(),
                kind::PPS if !stream.pps.contains(&unit.to_vec()) => stream.pps.push(unit.to_vec()),
                kind::PPS => {}
                kind::SLICE | kind::IDR => {
                    let first = unit[1] & 0x80 != 0;
                    if first {
                        let idr = nal::kind_of(unit) == kind::IDR;
                        stream.units.push(AccessUnit { idr, nals: std::mem::take(&mut pending) });
                    }
                    stream.units.last_mut().unwrap().nals.push(unit.to_vec());
                }
                kind::FILLER => stream.units.last_mut().unwrap().nals.push(unit.to_vec()),
                _ => pending.push(unit.to_vec()),
            }
        }
        stream
    }

    pub fn avcc(&self, length_size: u8) -> Bytes {
        let sps = &self.sps;
        let mut record = vec![1, sps[1], sps[2], sps[3], 0xfc | (length_size - 1), 0xe1];
        let put = |record: &mut Vec<u8>, set: &[u8]| {
            record.extend_from_slice(&(set.len() as u16).to_be_bytes());
            record.extend_from_slice(set);
        };
        put(&mut record, sps);
        record.push(self.pps.len() as u8);
        self.pps.iter().for_each(|set| put(&mut record, set));
        if sps[1] == 100 {
            record.extend_from_slice(&[0xfd, 0xf8, 0xf8, 0]);
        }
        record.into()
    }

    /// Bytes of the GOP that ends before access unit `at`.
    pub fn previous_gop(&self, at: usize) -> u64 {
        let Some(start) = (0..at).rev().find(|&index| self.units[index].idr) else { return 0 };
        self.units[start..at].iter().map(|unit| unit.bytes(4).len() as u64).sum()
    }
}

/// The seed of a test's GOP.
pub fn seed(gop: usize) -> PatternSeed {
    PatternSeed([gop as u8 | 1; 32])
}

/// A viewer's bytes of these pieces.
pub fn chosen(pieces: &[Piece], is_b: impl Fn(u16) -> bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Common(common) => bytes.extend_from_slice(common),
            Piece::Pair { a, b, slice } => bytes.extend_from_slice(if is_b(*slice) { b } else { a }),
        }
    }
    bytes
}

/// Annex B of prefixed bytes, parameter sets of a record in front.
pub fn annexb(avcc: &[u8], access_units: &[Vec<u8>], length_size: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |unit: &[u8]| {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(unit);
    };
    let mut at = 6;
    let mut sets = |count: u8, at: &mut usize| {
        for _ in 0..count {
            let length = usize::from(u16::from_be_bytes([avcc[*at], avcc[*at + 1]]));
            put(&avcc[*at + 2..*at + 2 + length]);
            *at += 2 + length;
        }
    };
    sets(avcc[5] & 31, &mut at);
    let count = avcc[at];
    at += 1;
    sets(count, &mut at);
    for bytes in access_units {
        for unit in Units::new(bytes, length_size) {
            put(unit.unwrap().1);
        }
    }
    out
}

/// Decodes Annex B with ffmpeg, every doubt an error; returns the uncropped frames. Nothing may be printed.
pub fn decode_strictly(name: &str, annexb: &[u8], frames: usize) -> Vec<u8> {
    let path = scratch(&format!("{name}.check.h264"));
    std::fs::write(&path, annexb).unwrap();
    let output = Command::new("ffmpeg")
        .args([
            "-hide_banner",
            "-nostdin",
            "-v",
            "warning",
            "-xerror",
            "-err_detect",
            "explode",
            "-apply_cropping",
            "0",
        ])
        .arg("-i")
        .arg(&path)
        .args([
            "-frames:v",
            &frames.to_string(),
            "-fps_mode",
            "passthrough",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "yuv420p",
            "-",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{name}: ffmpeg said {said}");
    output.stdout
}
