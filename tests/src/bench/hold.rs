//! What the packet hold costs: a pair with `protect = "commit"` beside the same pair with `"handover"`, which mirrors as well
//! but holds nothing back.
//!
//! Publishers of our own push 1080p30 at 6 Mb/s each, as many as RELEVE_BENCH_PUBLISHERS says. Processor time is the
//! kernel's own count of each node and its children; throughput is what publishers were acknowledged (`ss`); the round trip
//! is theirs, smoothed by their kernel; what a packet waited is the holder's own count, from its first sight to its verdict.
//! One publisher alone first: that is the time it costs; then all of them.

use super::flock::Flock;
use super::{Report, median};
use crate::lab::rig::{Rig, Wish};
use crate::{feed, http};
use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::{Duration, Instant};

/// What is left out: connecting, the first segments, growing windows.
const WARM_UP: Duration = Duration::from_secs(5);
/// Between two looks at round trips.
const LOOK: Duration = Duration::from_millis(200);
/// Acknowledged, of what was offered.
const SHARE_MIN: f64 = 0.98;

#[derive(Clone, Copy, Debug)]
struct Sample {
    holder_cpu: f64,
    standby_cpu: f64,
    mbps: f64,
    rtt_p50_us: f64,
    rtt_p99_us: f64,
    wait_p50_us: f64,
    wait_p99_us: f64,
    errors: u64,
}

/// Runs it, inside the client's namespace of the lab.
///
/// # Errors
/// When the lab does not work.
pub fn run(short: bool) -> Result<Report> {
    let prefix = std::env::var("RELEVE_LAB_PREFIX").context("scripts/bench.sh hold makes the namespaces")?;
    let wanted = std::env::var("RELEVE_BENCH_PUBLISHERS").ok().map(|count| count.parse()).transpose()?;
    let many = wanted.unwrap_or(if short { 5 } else { 100 });
    let time = if short { Duration::from_secs(5) } else { Duration::from_secs(15) };
    let (mut on, mut off, mut errors) = (Vec::new(), Vec::new(), 0);
    for streams in [1, many] {
        let label = if streams == 1 { "one" } else { "many" };
        // One publisher's packets wait for wake-ups: how long these take changes from pair to pair, hardly within one.
        let rounds = match (short, streams) {
            (true, _) => 1,
            (false, 1) => 7,
            (false, _) => 2,
        };
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for round in 0..rounds {
            for turn in 0..2 {
                match (round + turn) % 2 {
                    0 => with.push(measure(&prefix, "commit", streams, time)?),
                    _ => without.push(measure(&prefix, "handover", streams, time)?),
                }
            }
        }
        errors += with.iter().chain(&without).map(|sample| sample.errors).sum::<u64>();
        on.extend(figures(label, &with, true));
        off.extend(figures(label, &without, false));
    }
    on.push(("publishers".to_owned(), many as f64));
    let cost = |side: &[(String, f64)]| {
        side.iter().find(|(name, _)| name == "many_holder_cpu_percent_per_stream").map(|one| one.1)
    };
    let ratio = cost(&on).zip(cost(&off)).map_or(f64::NAN, |(on, off)| on / off);
    Ok(Report { name: "hold", ours: on, yardstick: off, ratio, errors })
}

fn figures(label: &str, samples: &[Sample], held: bool) -> Vec<(String, f64)> {
    let of = |figure: fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
    let mut all = vec![
        ("holder_cpu_percent_per_stream", of(|sample| sample.holder_cpu)),
        ("standby_cpu_percent_per_stream", of(|sample| sample.standby_cpu)),
        ("acknowledged_mbps", of(|sample| sample.mbps)),
        ("round_trip_p50_us", of(|sample| sample.rtt_p50_us)),
        ("round_trip_p99_us", of(|sample| sample.rtt_p99_us)),
    ];
    if held {
        all.push(("packet_waits_p50_us", of(|sample| sample.wait_p50_us)));
        all.push(("packet_waits_p99_us", of(|sample| sample.wait_p99_us)));
    }
    all.into_iter().map(|(name, figure)| (format!("{label}_{name}"), figure)).collect()
}

fn measure(prefix: &str, protect: &str, streams: usize, time: Duration) -> Result<Sample> {
    let mut rig =
        Rig::prepare(prefix, &Wish { protect, streams, lag: None, marked: false, normalise: false })?;
    rig.pair_up()?;
    let keys: Vec<String> = rig.streams.iter().map(|(_, key)| key.clone()).collect();
    let flock = Flock::start(feed::FULL_HD, Rig::address()?, &keys)?;
    std::thread::sleep(WARM_UP);
    let holder = rig.await_pair()?;
    let cpu = |rig: &Rig, place: usize| rig.nodes[place].as_ref().context("a node")?.cpu();
    let before = (cpu(&rig, holder)?, cpu(&rig, 1 - holder)?, acknowledged()?.0);
    let began = Instant::now();
    let mut trips = Vec::new();
    while began.elapsed() < time {
        std::thread::sleep(LOOK);
        trips.extend(acknowledged()?.1);
    }
    let after = (cpu(&rig, holder)?, cpu(&rig, 1 - holder)?, acknowledged()?.0);
    let seconds = began.elapsed().as_secs_f64();
    let percent = |from: Duration, to: Duration| {
        to.saturating_sub(from).as_secs_f64() / seconds * 100.0 / streams as f64
    };
    let mbps = after.2.saturating_sub(before.2) as f64 * 8e-6 / seconds;
    trips.sort_by(f64::total_cmp);
    let trip = |share: f64| trips.get((trips.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    let wait = |quantile: &str| waited(holder, quantile);
    let offered = flock.mbps * streams as f64;
    let behind = mbps < offered * SHARE_MIN;
    if behind {
        eprintln!("error: {protect}: {mbps:.0} of {offered:.0} Mb/s were acknowledged");
    }
    // Still a pair, and every publisher there?
    let errors = flock.ended() + u64::from(behind) + u64::from(rig.await_pair()? != holder);
    if errors > 0 {
        eprintln!("error: {} publishers ended; see {}", flock.ended(), rig.keep().display());
    }
    Ok(Sample {
        holder_cpu: percent(before.0, after.0),
        standby_cpu: percent(before.1, after.1),
        mbps,
        rtt_p50_us: trip(0.5),
        rtt_p99_us: trip(0.99),
        wait_p50_us: if protect == "commit" { wait("0.5")? } else { f64::NAN },
        wait_p99_us: if protect == "commit" { wait("0.99")? } else { f64::NAN },
        errors,
    })
}

/// What all publishers were acknowledged so far, bytes, and each one's smoothed round trip, µs.
fn acknowledged() -> Result<(u64, Vec<f64>)> {
    let out =
        Command::new("ss").args(["-HtinO", "state", "established", "dst", crate::lab::net::VIP]).output()?;
    ensure!(out.status.success(), "ss: {}", String::from_utf8_lossy(&out.stderr));
    let (mut sum, mut trips) = (0, Vec::new());
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let word = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name));
        sum += word("bytes_acked:").unwrap_or("0").parse::<u64>()?;
        if let Some(trip) = word("rtt:").and_then(|both| both.split('/').next()) {
            trips.push(trip.parse::<f64>()? * 1000.0);
        }
    }
    Ok((sum, trips))
}

/// A quantile of the time packets waited at a node, µs, as it counts itself.
fn waited(place: usize, quantile: &str) -> Result<f64> {
    let text = http::get(&format!("{}/metrics", Rig::admin(place)))?.ok()?.text()?.to_owned();
    let name = format!("releve_ingest_pair_held_us{{quantile=\"{quantile}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    Ok(line.with_context(|| format!("no {name}"))?.trim().parse()?)
}
