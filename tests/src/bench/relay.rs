//! What viewers cost a relay, beside nginx with the same bytes as plain files.
//!
//! A real ingest marks a live stream of 1 Mb/s; a relay serves it to paced viewers, each with a session of its own (of
//! some accounts, so that copies can be compared), every request checked. nginx serves one viewer's copy of the same
//! stream to as many viewers, checking nothing. Server and generator share the machine: processor time counts
//! (`schedstat`), times say little when the machine is full.

use super::files::Files;
use super::load::{Entrance, Habit, Load, Outcome, percentile, raise_descriptor_limit};
use super::{Report, median};
use crate::{Child, Cluster, Mark, Publisher, Viewer, feed, http};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::time::Duration;

/// Names among which the viewers' sessions are spread.
const ACCOUNTS: usize = 32;
/// The length of the window: whoever comes begins at its end.
const LIVE: Duration = Duration::from_secs(30);
/// Above this lateness of the generator itself (99th percentile, ms) times are not the server's.
const LAG_MS_MAX: f64 = 5.0;

struct Sample {
    outcome: Outcome,
    cpu: f64,
    time: f64,
    kib_per_viewer: f64,
}

/// Runs it; `short` is for CI: it shows that it works, its figures are rough.
///
/// # Errors
/// When a program is missing or does not start.
pub fn run(short: bool) -> Result<Report> {
    beside("relay", Habit::Paced, viewers(if short { 500 } else { 15_000 })?, short)
}

/// The same at the rate of low latency: each viewer asks six times a second, for a playlist and a part by turns.
///
/// # Errors
/// As `run`.
pub fn parts(short: bool) -> Result<Report> {
    beside("parts", Habit::Parts, viewers(if short { 200 } else { 4_000 })?, short)
}

fn beside(name: &'static str, habit: Habit, viewers: usize, short: bool) -> Result<Report> {
    let (rounds, time) = if short { (1, Duration::from_secs(10)) } else { (3, Duration::from_secs(20)) };
    let Show { mut cluster, _publisher, paths, server, base } = Show::start("")?;
    let playlist = format!("{base}{}", habit.playlist());

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..2 {
            let load = |server, entrance| Load { server, entrance, viewers, time, habit };
            if (round + turn) % 2 == 0 {
                let load = load(server, Entrance::Tokens(paths.clone()));
                ours.push(measure(&load, &cluster.relays[0].child)?);
            } else {
                let files = Files::start(&playlist, habit)?;
                theirs.push(measure(&load(files.address, Entrance::Open), &files.child)?);
                files.stop()?;
            }
            cluster.check_alive()?;
        }
    }
    let mut errors: u64 = ours.iter().chain(&theirs).map(|sample| sample.outcome.errors).sum();
    for sample in &ours {
        let (copies, accounts) = sample.outcome.copies();
        // Eight symbols a segment: among so few accounts two may agree, half of them cannot. A part may have none.
        if habit == Habit::Paced && copies < accounts {
            errors += u64::from(copies * 2 < accounts);
            eprintln!("{accounts} sampled accounts got {copies} different copies of a segment");
        }
    }
    for word in ours.iter().chain(&theirs).flat_map(|sample| &sample.outcome.words) {
        eprintln!("error: {word}");
    }
    let (ours, theirs) = (figures(&mut ours), figures(&mut theirs));
    let cost = |side: &[(String, f64)]| side[0].1;
    Ok(Report { name, ratio: cost(&ours) / cost(&theirs), ours, yardstick: theirs, errors })
}

/// What blocking reloads cost when all viewers wait for the same segment; nobody else has them, so that the bar that the
/// project sets itself stands for the yardstick.
///
/// # Errors
/// When a program is missing or does not start.
pub fn reload(short: bool) -> Result<Report> {
    let viewers = viewers(if short { 1_000 } else { 15_000 })?;
    let Show { mut cluster, _publisher, paths, server, .. } = Show::start("low_latency = true")?;
    let time = Duration::from_secs(if short { 12 } else { 40 });
    let load = Load { server, entrance: Entrance::Tokens(paths), viewers, time, habit: Habit::Reload };
    let sample = measure(&load, &cluster.relays[0].child)?;
    cluster.check_alive()?;
    for word in &sample.outcome.words {
        eprintln!("error: {word}");
    }
    let mut spreads = sample.outcome.spreads_ms(viewers);
    ensure!(spreads.len() >= 3, "{} whole releases: {:?}", spreads.len(), sample.outcome.words);
    spreads.sort_by(f64::total_cmp);
    let (last, worst) = (median(spreads.clone()), spreads[spreads.len() - 1]);
    let ours = [
        ("last_answer_ms", last),
        ("last_answer_worst_ms", worst),
        ("waiting_viewers", viewers as f64),
        ("releases", spreads.len() as f64),
        ("cpu_us_per_reload", sample.cpu * 1e6 / sample.outcome.requests as f64),
        ("memory_kib_per_waiting_viewer", sample.kib_per_viewer),
    ];
    let ours = ours.map(|(name, value)| (name.to_owned(), value)).into();
    let yardstick = vec![("last_answer_ms".to_owned(), LAST_ANSWER_MS)];
    let errors = sample.outcome.errors;
    Ok(Report { name: "reload", ours, yardstick, ratio: last / LAST_ANSWER_MS, errors })
}

/// The bar: from the first to the last answer of 20,000.
const LAST_ANSWER_MS: f64 = 250.0;

/// How many viewers there are: so many unless the environment says otherwise.
fn viewers(usual: usize) -> Result<usize> {
    let viewers = match std::env::var("RELEVE_BENCH_VIEWERS") {
        Ok(text) => text.parse().context("RELEVE_BENCH_VIEWERS")?,
        Err(_) => usual,
    };
    let descriptors = usize::try_from(raise_descriptor_limit())?;
    ensure!(viewers + 300 <= descriptors, "{viewers} viewers, but at most {descriptors} open files");
    Ok(viewers)
}

/// A live stream, marked, and a relay before it.
struct Show {
    cluster: Cluster,
    _publisher: Publisher,
    /// The ways in, one an account.
    paths: Vec<String>,
    server: SocketAddr,
    /// Where one viewer's playlists are.
    base: String,
}

impl Show {
    fn start(ingest_toml: &str) -> Result<Show> {
        let cluster = Cluster::start_with(1, ingest_toml, &[])?;
        let key = cluster.add_stream("bench", Mark::Require)?;
        let publisher = Publisher::looped(feed::MEGABIT, &cluster.publish_url(&key)?, cluster.dir())?;
        let mut paths = Vec::new();
        for account in 0..ACCOUNTS {
            let url = cluster.mint("bench", &format!("account-{account}"), 3600)?.remove(0);
            paths.push(http::split(&url)?.1.to_owned());
        }
        let server = cluster.relays[0].port("listen")?;
        let viewer = Viewer::enter_when_live(&format!("http://{server}{}", paths[0]), LIVE)?;
        let base = http::join(&viewer.index_url, "")?;
        Ok(Show { cluster, _publisher: publisher, paths, server, base })
    }
}

fn measure(load: &Load, server: &Child) -> Result<Sample> {
    let before = server.family_rss_kib()?;
    let (outcome, (cpu_before, _), (cpu_after, rss), time) =
        load.run(|| Ok((server.cpu()?, server.family_rss_kib()?)))?;
    ensure!(outcome.requests > 0, "nobody was served: {:?}", outcome.words);
    Ok(Sample {
        cpu: cpu_after.saturating_sub(cpu_before).as_secs_f64(),
        time: time.as_secs_f64(),
        kib_per_viewer: rss.saturating_sub(before) as f64 / load.viewers as f64,
        outcome,
    })
}

/// Medians over rounds; processor time per GB comes first.
fn figures(samples: &mut [Sample]) -> Vec<(String, f64)> {
    let mut rows: Vec<(&str, Vec<f64>)> = Vec::new();
    for sample in samples {
        let out = &mut sample.outcome;
        let ms = |values: &mut Vec<u32>, percent| percentile(values, percent) / 1000.0;
        let lag = ms(&mut out.lag_us, 99.0);
        if lag > LAG_MS_MAX {
            eprintln!(
                "the generator was {lag:.1} ms late itself (99th percentile): its times are not the server's"
            );
        }
        let (gb, seconds) = (out.bytes as f64 / 1e9, sample.time);
        let row = [
            ("cpu_s_per_gb", sample.cpu / gb),
            ("cpu_us_per_request", sample.cpu * 1e6 / out.requests as f64),
            ("server_cores", sample.cpu / seconds),
            ("viewers_served", out.served as f64),
            ("mbit_per_s_per_viewer", out.bytes as f64 * 8e-6 / seconds / out.served.max(1) as f64),
            ("requests_per_s", out.requests as f64 / seconds),
            ("playlist_p50_ms", ms(&mut out.playlist_us, 50.0)),
            ("playlist_p99_ms", ms(&mut out.playlist_us, 99.0)),
            ("segment_p50_ms", ms(&mut out.segment_us, 50.0)),
            ("segment_p99_ms", ms(&mut out.segment_us, 99.0)),
            ("late_segments", out.late as f64),
            ("memory_kib_per_viewer", sample.kib_per_viewer),
            ("generator_lag_p99_ms", lag),
        ];
        for (name, value) in row {
            match rows.iter_mut().find(|(other, _)| *other == name) {
                Some((_, values)) => values.push(value),
                None => rows.push((name, vec![value])),
            }
        }
    }
    rows.into_iter().map(|(name, values)| (name.to_owned(), median(values))).collect()
}
