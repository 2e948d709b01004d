//! The same input in processes that see different CPUs gives the same bytes.
//!
//! `cargo test -p mark --features cpu-mask --test cpu_features`. Each run is this program again, which then prints the
//! hash of a marked picture; `RELEVE_CPU_MASK` hides features from openh264 (`codec::cpu_mask`).
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod common;

use codec::{Entropy, IntraConfig, IntraEncoder, Picture};
use common::{Stream, seed};
use mark::Plan;
use ring::digest::{Context, SHA256};
use std::process::Command;

const CHILD: &str = "RELEVE_CPU_CHILD";

/// A textured picture that openh264 has coded itself: this test needs no ffmpeg.
fn hosts() -> Vec<Stream> {
    let (width, height) = (320, 192);
    let mut state = 1u32;
    let samples = (0..width * height * 3 / 2).map(|i| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let (x, y) = (i % width, i / width);
        (60 + ((x * 7) ^ (y * 3)) % 90 + (state % 24) as usize) as u8
    });
    let picture = Picture::new(width, height, samples.collect()).unwrap();
    let coded = |entropy| {
        let config = IntraConfig { width, height, slices: 2, entropy };
        Stream::of_annexb(&IntraEncoder::new(config, 24).unwrap().encode(&picture).unwrap())
    };
    vec![coded(Entropy::Cabac), coded(Entropy::Cavlc)]
}

#[test]
fn bytes_do_not_depend_on_the_cpu() {
    if std::env::var_os(CHILD).is_some() {
        let mut hash = Context::new(&SHA256);
        for stream in hosts() {
            let plan = Plan::of(&stream.avcc(4)).unwrap();
            let marked = mark::mark(&plan.job(stream.units[0].bytes(4), seed(0), 0, 35)).unwrap();
            for is_b in [false, true] {
                hash.update(&common::chosen(&marked.pieces, |_| is_b));
            }
        }
        assert!(codec::cpu_mask::times_asked() > 0, "openh264 asks our function");
        println!("\nhash {:?}", hash.finish());
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
