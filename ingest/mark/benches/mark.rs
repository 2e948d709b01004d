//! Cost of one marked 1080p IDR, whole and by station: `cargo bench -p mark` (needs ffmpeg with libx264 on PATH).
//!
//! Milliseconds for each IDR; at a GOP of 2 s, 1 ms is 0.05 % of a core for a stream.

#[path = "../tests/common/mod.rs"]
mod common;

use codec::{Decoder, IntraEncoder, Picture};
use common::{Stream, host, seed};
use divan::Bencher;
use mark::hand::Hand;
use mark::host::Host;
use mark::{Job, Plan, job::code};
use releve_watermark::embed::{Luma, embed};
use std::sync::LazyLock;

const SHAPES: [&str; 2] = ["1280x720", "1920x1080"];

static HOSTS: LazyLock<Vec<(&str, Stream)>> = LazyLock::new(|| {
    SHAPES.iter().map(|&size| (size, host(&format!("bench-{size}"), size, 31, &["-crf", "28"]))).collect()
});

fn plan_and_job(size: &str) -> (Plan, Job) {
    let Some((_, stream)) = HOSTS.iter().find(|(name, _)| *name == size) else { panic!("no host of {size}") };
    let plan = Plan::of(&stream.avcc(4)).expect("the host fits");
    let previous = stream.units[..30].iter().map(|unit| unit.bytes(4).len() as u64).sum();
    let job = plan.job(stream.units[30].bytes(4), seed(0), previous, 35);
    (plan, job)
}

fn picture(plan: &Plan, job: &Job) -> Picture {
    let config = plan.intra();
    let annexb = Host::read(plan, &job.access_unit).expect("an IDR").annexb(plan);
    Decoder::new()
        .and_then(|decoder| decoder.decode(&annexb, config.width, config.height))
        .expect("it decodes")
}

/// CPU time of this process, which a busy machine lengthens less than wall time.
fn cpu_us() -> i64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// Pictures that the CPU time is the mean of.
const ROUNDS: i64 = 30;

fn main() {
    for size in SHAPES {
        let (_, job) = plan_and_job(size);
        let hand = Hand::start().expect("a thread");
        let coded = code(&job, &hand).expect("it is marked");
        let (bytes, qp, attempts) = (job.access_unit.len(), coded.qp, coded.attempts);
        let began = cpu_us();
        (0..ROUNDS).for_each(|_| drop(code(&job, &hand)));
        let us = (cpu_us() - began) / ROUNDS;
        let share = us as f64 / 2e6 * 100.0;
        println!("{size}: IDR {bytes} bytes, QP {qp}, {attempts} attempts");
        println!("{size}: {us} us of CPU for an IDR, {share:.1} % of a core at a GOP of 2 s");
    }
    divan::main();
}

#[divan::bench(args = SHAPES)]
fn whole(bencher: Bencher<'_, '_>, size: &str) {
    let (_, job) = plan_and_job(size);
    let hand = Hand::start().expect("a thread");
    bencher.bench(|| code(&job, &hand));
}

#[divan::bench(args = SHAPES)]
fn decode(bencher: Bencher<'_, '_>, size: &str) {
    let (plan, job) = plan_and_job(size);
    bencher.bench(|| picture(&plan, &job));
}

/// The same by openh264, in a build with libavcodec.
#[cfg(feature = "libav")]
#[divan::bench(args = SHAPES)]
fn decode_by_openh264(bencher: Bencher<'_, '_>, size: &str) {
    let (plan, job) = plan_and_job(size);
    let config = plan.intra();
    let annexb = Host::read(&plan, &job.access_unit).expect("an IDR").annexb(&plan);
    let decode = || codec::OpenH264Decoder::new()?.decode(&annexb, config.width, config.height);
    bencher.bench(decode);
}

#[divan::bench(args = SHAPES)]
fn embed_both(bencher: Bencher<'_, '_>, size: &str) {
    let (plan, job) = plan_and_job(size);
    let picture = picture(&plan, &job);
    let (width, height) = (picture.width(), picture.height());
    let luma = Luma { samples: picture.luma(), width, height, left: 0, top: 0, rows: height };
    bencher.bench(|| embed(&luma, &seed(0), 35));
}

#[divan::bench(args = SHAPES)]
fn encode_one(bencher: Bencher<'_, '_>, size: &str) {
    let (plan, job) = plan_and_job(size);
    let picture = picture(&plan, &job);
    let mut encoder = IntraEncoder::new(plan.intra().whole(), 20).expect("an encoder");
    bencher.bench_local(|| encoder.encode(&picture));
}

#[divan::bench(args = SHAPES)]
fn start_encoder(bencher: Bencher<'_, '_>, size: &str) {
    let (plan, _) = plan_and_job(size);
    bencher.bench(|| IntraEncoder::new(plan.intra().whole(), 20));
}

#[divan::bench(args = SHAPES)]
fn splice_one(bencher: Bencher<'_, '_>, size: &str) {
    let (plan, job) = plan_and_job(size);
    let picture = picture(&plan, &job);
    let whole = plan.intra().whole();
    let coded = IntraEncoder::new(whole.clone(), 20).and_then(|mut encoder| encoder.encode(&picture));
    let coded = coded.expect("coded");
    let host = Host::read(&plan, &job.access_unit).expect("an IDR");
    bencher.bench(|| mark::splice::splice(&plan, &host.header, &whole, &coded));
}
