//! What normalising a film costs, beside x264: processor time a picture, share of a core at 30 pictures a second, bytes.
//!
//! `cargo run --release -p mark --example normalise_cost -- FILE…` (needs ffmpeg with libx264). ffmpeg codes the film as a
//! publisher would (veryfast, one thread, GOPs of 250 pictures, the bitrate of the file); that stream is normalised in this
//! process. ffmpeg's time is that of decoding the file and coding it.
#![forbid(unsafe_code)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Stream, scratch};
use mark::Plan;
use mark::host::Host;
use mark::normalise::{Rate, Session, Step};
use media::unit::VideoCoding;
use std::error::Error;
use std::process::Command;

/// CPU time of this process.
fn cpu_us() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// The film as a publisher would send it, and the microseconds that took.
fn published(file: &str) -> Result<(Stream, i64), Box<dyn Error>> {
    let out = scratch("normalise-cost.h264");
    let bitrate = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", "format=bit_rate", "-of", "csv=p=0", file])
        .output()?;
    let bitrate = String::from_utf8(bitrate.stdout)?.trim().parse::<u64>()?.to_string();
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-hide_banner", "-v", "info", "-benchmark", "-y", "-threads", "1", "-i", file]);
    ffmpeg.args(["-an", "-c:v", "libx264", "-preset", "veryfast", "-threads", "1", "-g", "250", "-t", "16"]);
    ffmpeg.args(["-b:v", &bitrate, "-maxrate", &bitrate, "-bufsize", &bitrate]).arg(&out);
    let said = String::from_utf8_lossy(&ffmpeg.output()?.stderr).into_owned();
    let seconds = |name: &str| -> Option<f64> {
        let rest = said.split(name).nth(1)?;
        rest.split('s').next()?.parse().ok()
    };
    let (user, system) = seconds("utime=").zip(seconds("stime=")).ok_or_else(|| said.clone())?;
    Ok((Stream::of_annexb(&std::fs::read(out)?), ((user + system) * 1e6) as i64))
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("| film | x264 | normalised | of a core at 30 /s | bytes |");
    println!("|---|---|---|---|---|");
    for file in std::env::args().skip(1) {
        let (stream, x264_us) = published(&file)?;
        let avcc = stream.avcc(4);
        let plan = Plan::of(&avcc)?;
        let config = plan.intra();
        let units: Vec<_> = stream.units.iter().map(|unit| unit.bytes(4)).collect();
        let pictures = units.len() as f64;

        let (mut session, mut went) = (Session::default(), 0);
        let gop_bytes = units.iter().take(60).map(|unit| unit.len() as u64).sum();
        let began = cpu_us();
        let rate = Rate::first(Host::read(&plan, &units[0])?.qp, gop_bytes);
        let begin = Step::Begin { coding: VideoCoding::H264, record: avcc, gop_90k: 180_000, rate };
        let shown = |(at, unit): (usize, &bytes::Bytes)| Step::Picture {
            pts_90k: at as i64 * 3_000,
            access_unit: unit.clone(),
        };
        for step in std::iter::once(begin).chain(units.iter().enumerate().map(shown)).chain([Step::End]) {
            went += session.step(step)?.pictures.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        }
        let us = (cpu_us() - began) as f64 / pictures;
        let came: usize = units.iter().map(bytes::Bytes::len).sum();
        println!(
            "| {} x {}, {:.1} Mb/s | {:.1} ms | {:.1} ms | {:.0} % | {:.2} |",
            config.width,
            config.height,
            came as f64 * 8.0 * 30.0 / pictures / 1e6,
            x264_us as f64 / pictures / 1e3,
            us / 1e3,
            us * 30.0 / 1e4,
            went as f64 / came as f64,
        );
    }
    Ok(())
}
