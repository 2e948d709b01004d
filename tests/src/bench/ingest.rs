//! What a publisher costs the ingest, beside nginx-rtmp on the same feed.
//!
//! 1080p30 at 6 Mb/s with GOPs of 2 s, pushed by `ffmpeg -re -c copy`; processor time is the kernel's own count
//! (`schedstat`, all threads and child processes, so that mark workers are in it). Each round measures, in turn, our ingest
//! with streams passed through, with streams marked, and nginx-rtmp making HLS. No viewer is connected to any of them.
//! RELEVE_BENCH_PUBLISHERS sets how many streams there are. They begin at once, so that all their IDR pictures come at one moment;
//! with RELEVE_BENCH_APART each begins when it happens to, as encoders that know nothing of each other do. Of marking there is also how long it held a GOP back, from its
//! IDR's arrival to the marked pair.

use super::nginx::Nginx;
use super::{Report, median, micro};
use crate::{Child, Cluster, Mark, Publisher, Viewer, feed};
use anyhow::{Result, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

/// What is left out of the figures: connecting, and the first segments.
const WARM_UP: Duration = Duration::from_secs(5);

/// The feed's GOP.
const GOP: Duration = Duration::from_secs(2);

struct Plan {
    rounds: usize,
    streams: usize,
    apart: bool,
    time: Duration,
}

/// One server under its publishers, for one round.
#[derive(Debug, Clone, Copy)]
struct Sample {
    /// Percent of one core for each stream.
    cpu_percent: f64,
    /// More resident memory for each publisher.
    kib: f64,
    errors: u64,
    marking: Marking,
}

/// What is known of the GOPs of a round.
#[derive(Debug, Clone, Copy, Default)]
struct Marking {
    marked: f64,
    /// Passed on unmarked, or withheld.
    not_marked: f64,
    /// How long all marked ones together were held back.
    seconds: f64,
    /// Those that were held back for 60 ms at most.
    soon: f64,
}

/// Runs it; `short` is for CI: it shows that it works, its figures are rough.
///
/// # Errors
/// When a program is missing or does not start.
pub fn run(short: bool) -> Result<Report> {
    let (streams, apart) = streams(short)?;
    let plan = match short {
        true => Plan { rounds: 1, streams, apart, time: Duration::from_secs(10) },
        false => Plan { rounds: 3, streams, apart, time: Duration::from_secs(30) },
    };
    let (mut passed, mut marked, mut nginx) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let mut turns = [0, 1, 2];
        turns.rotate_left(round % 3);
        for turn in turns {
            match turn {
                0 => passed.push(ours(&plan, Mark::Off)?),
                1 => marked.push(ours(&plan, Mark::Require)?),
                _ => nginx.push(theirs(&plan)?),
            }
        }
    }
    let cpu = |samples: &[Sample]| median(samples.iter().map(|sample| sample.cpu_percent).collect());
    let kib = |samples: &[Sample]| median(samples.iter().map(|sample| sample.kib).collect());
    let mut ours = vec![
        ("cpu_percent_per_stream".to_owned(), cpu(&passed)),
        ("cpu_percent_per_marked_stream".to_owned(), cpu(&marked)),
        ("memory_kib_per_publisher".to_owned(), kib(&passed)),
        ("memory_kib_per_marked_publisher".to_owned(), kib(&marked)),
    ];
    ours.extend(marking(&marked));
    for (name, package, bench, function, argument) in [
        ("rtmp_parse_gb_per_s", "rtmp", "parse", "session", "4096"),
        ("rtmp_parse_128_gb_per_s", "rtmp", "parse", "session", "128"),
        ("segment_writer_gb_per_s", "media", "segment", "segment_mbps", "6"),
    ] {
        ours.push((name.to_owned(), micro::gb_per_s(package, bench, function, argument)?));
    }
    let yardstick = vec![
        ("cpu_percent_per_stream".to_owned(), cpu(&nginx)),
        ("memory_kib_per_publisher".to_owned(), kib(&nginx)),
        ("rtmp_parse_gb_per_s".to_owned(), micro::gb_per_s("rtmp", "parse", "memcpy", "4096")?),
        ("segment_writer_gb_per_s".to_owned(), micro::gb_per_s("media", "segment", "copy_mbps", "6")?),
    ];
    let errors = passed.iter().chain(&marked).chain(&nginx).map(|sample| sample.errors).sum();
    Ok(Report { name: "ingest", ours, yardstick, ratio: cpu(&passed) / cpu(&nginx), errors })
}

/// The GOPs of all rounds together.
fn marking(samples: &[Sample]) -> [(String, f64); 3] {
    let sum = |of: fn(&Marking) -> f64| samples.iter().map(|sample| of(&sample.marking)).sum::<f64>();
    let marked = sum(|round| round.marked);
    [
        ("mark_ms_per_gop".to_owned(), sum(|round| round.seconds) * 1000.0 / marked),
        ("gops_marked_within_60_ms".to_owned(), sum(|round| round.soon) / marked),
        ("gops_not_marked".to_owned(), sum(|round| round.not_marked)),
    ]
}

fn ours(plan: &Plan, mark: Mark) -> Result<Sample> {
    let mut cluster = Cluster::start(1)?;
    let mut urls = Vec::new();
    for stream in 0..plan.streams {
        let key = cluster.add_stream(&format!("bench-{stream}"), mark)?;
        urls.push(cluster.publish_url(&key)?);
    }
    let dir = cluster.dir().to_owned();
    let mut sample = measure(plan, &cluster.ingest.child, &urls, &dir)?;
    for stream in 0..plan.streams {
        let url = cluster.mint(&format!("bench-{stream}"), "bench", 60)?.remove(0);
        sample.errors += u64::from(Viewer::enter(&url).is_err());
    }
    if mark == Mark::Require {
        let gops = |line: &str| line.starts_with("releve_ingest_gops_total{");
        let is_marked = |line: &str| line.contains("kind=\"marked\"");
        let ingest = &cluster.ingest;
        sample.marking = Marking {
            marked: ingest.sum(|line| gops(line) && is_marked(line))?,
            not_marked: ingest.sum(|line| gops(line) && !is_marked(line))?,
            seconds: ingest.sum(|line| line.starts_with("releve_ingest_mark_seconds_sum "))?,
            soon: ingest.sum(|line| line.starts_with("releve_ingest_mark_seconds_bucket{le=\"0.06\"}"))?,
        };
    }
    cluster.check_alive()?;
    Ok(sample)
}

fn theirs(plan: &Plan) -> Result<Sample> {
    let nginx = Nginx::start()?;
    let urls: Vec<String> =
        (0..plan.streams).map(|stream| format!("rtmp://{}/live/bench-{stream}", nginx.address)).collect();
    let folder = tempfile::tempdir()?;
    let mut sample = measure(plan, &nginx.child, &urls, folder.path())?;
    sample.errors += (plan.streams - nginx.playlists().min(plan.streams)) as u64;
    nginx.stop()?;
    Ok(sample)
}

/// How many streams there are, and whether they begin apart.
pub(super) fn streams(short: bool) -> Result<(usize, bool)> {
    let wanted = std::env::var("RELEVE_BENCH_PUBLISHERS").ok().map(|count| count.parse()).transpose()?;
    let apart = std::env::var_os("RELEVE_BENCH_APART").is_some();
    Ok((wanted.unwrap_or(if short { 2 } else { 4 }), apart))
}

/// When each stream begins, after the first: at once, or anywhere within a GOP, the same for each server and round.
pub(super) fn moments(streams: usize, apart: bool) -> Vec<Duration> {
    let mut state = 1u64;
    let mut drawn: Vec<Duration> = (0..streams)
        .map(|_| {
            // Knuth's MMIX generator; its upper bits are the good ones.
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if apart { GOP.mul_f64((state >> 32) as f64 / 2f64.powi(32)) } else { Duration::ZERO }
        })
        .collect();
    drawn.sort_unstable();
    drawn
}

fn measure(plan: &Plan, server: &Child, urls: &[String], dir: &Path) -> Result<Sample> {
    let before = server.family_rss_kib()?;
    let (mut publishers, first) = (Vec::new(), Instant::now());
    for (url, moment) in urls.iter().zip(moments(urls.len(), plan.apart)) {
        std::thread::sleep(moment.saturating_sub(first.elapsed()));
        publishers.push(Publisher::looped(feed::FULL_HD, url, dir)?);
    }
    std::thread::sleep(WARM_UP);
    let (began, used) = (Instant::now(), server.cpu()?);
    std::thread::sleep(plan.time);
    let (time, used) = (began.elapsed(), server.cpu()?.saturating_sub(used));
    let after = server.family_rss_kib()?;
    ensure!(!used.is_zero(), "the server used no processor time at all");
    let mut errors = 0;
    for publisher in &mut publishers {
        errors += u64::from(publisher.child.ended()?.is_some());
    }
    let streams = plan.streams as f64;
    Ok(Sample {
        cpu_percent: used.as_secs_f64() / time.as_secs_f64() * 100.0 / streams,
        kib: after.saturating_sub(before) as f64 / streams,
        errors,
        marking: Marking::default(),
    })
}
