//! What viewers cost a relay, beside nginx with the same bytes as plain files.
//!
//! A real ingest marks a live stream; a relay serves it to paced viewers, each with a session of its own (of some accounts,
//! so that copies can be compared), every request checked. nginx serves one viewer's copy of the same stream to as many
//! viewers, checking nothing, or signatures (`secure_link`). A relay has as many viewers as it may have files open; for more
//! there are more relays on the same cores. Server and generator share the machine: processor time counts (`schedstat`),
//! times say little when the machine is full.

use super::files::{Check, Files};
use super::load::{Entrance, Habit, Load, WARM_UP, percentile};
use super::show::{ACCOUNTS, Sample, Show, measure, viewers};
use super::{Report, median};
use crate::{feed, http};
use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Above this lateness of the generator itself (99th percentile, ms) times are not the server's.
const LAG_MS_MAX: f64 = 5.0;

/// What is compared: who the viewers are, and what they watch.
struct Match {
    name: &'static str,
    feed: &'static str,
    habit: Habit,
    viewers: usize,
    /// Whether nginx takes a turn that checks signatures, too.
    signed: bool,
    short: bool,
}

/// Runs it with viewers at 1 Mb/s; `short` is for CI: it shows that it works, its figures are rough.
///
/// # Errors
/// When a program is missing or does not start.
pub fn run(short: bool) -> Result<Report> {
    let viewers = viewers(if short { 500 } else { 19_500 })?;
    beside(&Match { name: "relay", feed: feed::MEGABIT, habit: Habit::Paced, viewers, signed: true, short })
}

/// The same with more viewers at 250 kb/s.
///
/// # Errors
/// As `run`.
pub fn many(short: bool) -> Result<Report> {
    let viewers = viewers(if short { 500 } else { 36_000 })?;
    beside(&Match { name: "many", feed: feed::QUARTER, habit: Habit::Paced, viewers, signed: false, short })
}

/// The same at the rate of low latency: each viewer asks six times a second, for a playlist and a part by turns.
///
/// # Errors
/// As `run`.
pub fn parts(short: bool) -> Result<Report> {
    let viewers = viewers(if short { 200 } else { 10_000 })?;
    beside(&Match { name: "parts", feed: feed::MEGABIT, habit: Habit::Parts, viewers, signed: false, short })
}

fn beside(of: &Match) -> Result<Report> {
    let Match { name, habit, viewers, short, .. } = *of;
    let (rounds, time) = if short { (1, Duration::from_secs(10)) } else { (3, Duration::from_secs(20)) };
    let mut show = Show::start(of.feed, "", viewers)?;
    let playlist = format!("{}{}", show.base, habit.playlist());
    let load = |servers, entrance| Load {
        servers,
        entrance,
        viewers,
        ramp: Load::ramp_of(viewers),
        warm_up: WARM_UP,
        time,
        habit,
        secure: false,
    };
    let turns = if of.signed { 3 } else { 2 };
    let (mut ours, mut theirs, mut signed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..turns {
            let (check, samples) = match (round + turn) % turns {
                0 => {
                    let load = load(show.servers.clone(), Entrance::Tokens(show.paths.clone()));
                    ours.push(measure(&load, &show.relays())?);
                    show.cluster.check_alive()?;
                    continue;
                }
                1 => (Check::Nothing, &mut theirs),
                _ => (Check::Signature, &mut signed),
            };
            let files = Files::start(&playlist, habit, check, ACCOUNTS)?;
            samples.push(measure(
                &load(vec![files.address], Entrance::Below(files.below.clone())),
                &[&files.child],
            )?);
            files.stop()?;
        }
    }
    let all = || ours.iter().chain(&theirs).chain(&signed);
    let mut errors: u64 = all().map(|sample| sample.outcome.errors).sum();
    // A part may have no marks.
    if habit == Habit::Paced {
        errors += ours.iter().map(Sample::too_few_copies).sum::<u64>();
    }
    for word in all().flat_map(|sample| &sample.outcome.words) {
        eprintln!("error: {word}");
    }
    let (mut ours, mut theirs) = (figures(&mut ours), figures(&mut theirs));
    let cost = |side: &[(String, f64)]| side[0].1;
    let ratio = cost(&ours) / cost(&theirs);
    ours.push(("relays".to_owned(), show.servers.len() as f64));
    if of.signed {
        let late = |side: &[(String, f64)]| {
            side.iter().find(|(name, _)| name == "late_segments").map_or(0.0, |row| row.1)
        };
        let signed = figures(&mut signed);
        theirs.push(("secure_link_cpu_s_per_gb".to_owned(), cost(&signed)));
        theirs.push(("secure_link_late_segments".to_owned(), late(&signed)));
        ours.push(("ratio_to_secure_link".to_owned(), cost(&ours) / cost(&signed)));
    }
    Ok(Report { name, ratio, ours, yardstick: theirs, errors })
}

/// What a connection costs in memory that has asked once and waits, beside nginx's.
///
/// # Errors
/// When a program is missing or does not start.
pub fn idle(short: bool) -> Result<Report> {
    let viewers = viewers(if short { 500 } else { 19_500 })?;
    let mut show = Show::start(feed::MEGABIT, "", viewers)?;
    // Whoever is idle for half a minute is closed: all of them are measured before that.
    let (ramp, warm_up, time) = (Load::ramp_of(viewers), WARM_UP, Duration::from_secs(3));
    let (habit, secure) = (Habit::Idle, false);
    let load = |servers, entrance| Load { servers, entrance, viewers, ramp, warm_up, time, habit, secure };
    let ours = measure(&load(show.servers.clone(), Entrance::Tokens(show.paths.clone())), &show.relays())?;
    show.cluster.check_alive()?;
    let files = Files::start(&format!("{}video.m3u8", show.base), Habit::Idle, Check::Nothing, ACCOUNTS)?;
    let theirs = measure(&load(vec![files.address], Entrance::Below(files.below.clone())), &[&files.child])?;
    files.stop()?;
    let mut errors = 0;
    for sample in [&ours, &theirs] {
        errors += sample.outcome.errors + (viewers - sample.outcome.served) as u64;
        sample.outcome.words.iter().for_each(|word| eprintln!("error: {word}"));
    }
    let rows = |sample: &Sample| {
        let rows = [
            ("memory_kib_per_idle_connection", sample.kib_per_viewer),
            ("idle_connections", sample.outcome.served as f64),
            ("server_cores", sample.cpu / sample.time),
        ];
        rows.map(|(name, value)| (name.to_owned(), value)).to_vec()
    };
    let ratio = ours.kib_per_viewer / theirs.kib_per_viewer;
    Ok(Report { name: "idle", ratio, ours: rows(&ours), yardstick: rows(&theirs), errors })
}

/// How long viewers take to come in when they all come at once.
const BURST: Duration = Duration::from_secs(2);

/// How long a new viewer waits behind a burst of connections, each of which asks at once: from the end of the burst to the
/// whole playlist, on a connection of their own. The bar that the project sets itself stands beside nginx's time.
///
/// # Errors
/// When a program is missing or does not start.
pub fn burst(short: bool) -> Result<Report> {
    let viewers = viewers(if short { 500 } else { 19_500 })?;
    let rounds = if short { 1 } else { 3 };
    let mut show = Show::start(feed::MEGABIT, "", viewers)?;
    let playlist = format!("{}video.m3u8", show.base);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                // What is asked is below sessions of some accounts: it is the connections that come in a burst.
                ours.push(after_burst(show.servers.clone(), show.sessions()?, viewers)?);
                show.cluster.check_alive()?;
            } else {
                let files = Files::start(&playlist, Habit::Idle, Check::Nothing, ACCOUNTS)?;
                theirs.push(after_burst(vec![files.address], files.below.clone(), viewers)?);
                files.stop()?;
            }
        }
    }
    let errors = ours.iter().chain(&theirs).map(|burst: &Burst| burst.errors).sum();
    let rows = |bursts: &[Burst]| {
        let middle = |of: fn(&Burst) -> f64| median(bursts.iter().map(of).collect());
        let rows = [
            ("next_request_ms", middle(|burst| burst.next_ms)),
            ("next_request_worst_ms", bursts.iter().map(|burst| burst.next_ms).fold(0.0, f64::max)),
            ("request_2_s_later_ms", middle(|burst| burst.later_ms)),
            ("served_in_burst", middle(|burst| burst.served)),
        ];
        rows.map(|(name, value)| (name.to_owned(), value)).to_vec()
    };
    let (ours, theirs) = (rows(&ours), rows(&theirs));
    Ok(Report { name: "burst", ratio: ours[0].1 / theirs[0].1, ours, yardstick: theirs, errors })
}

struct Burst {
    next_ms: f64,
    later_ms: f64,
    served: f64,
    errors: u64,
}

fn after_burst(servers: Vec<SocketAddr>, below: Vec<String>, viewers: usize) -> Result<Burst> {
    let next = format!("http://{}{}video.m3u8", servers[0], below[0]);
    let entrance = Entrance::Below(below);
    let (warm_up, time) = (Duration::ZERO, Duration::from_secs(2));
    let (habit, secure) = (Habit::Idle, false);
    let load = Load { servers, entrance, viewers, ramp: BURST, warm_up, time, habit, secure };
    let (outcome, next_ms, later_ms, _) = load.run(|| {
        let asked = Instant::now();
        http::get(&next)?.ok()?;
        Ok(asked.elapsed().as_secs_f64() * 1000.0)
    })?;
    outcome.words.iter().for_each(|word| eprintln!("error: {word}"));
    let served = outcome.served as f64;
    Ok(Burst { next_ms, later_ms, served, errors: outcome.errors + (viewers - outcome.served) as u64 })
}

/// What blocking reloads cost when all viewers wait for the same segment; nobody else has them, so that the bar that the
/// project sets itself stands for the yardstick.
///
/// # Errors
/// When a program is missing or does not start.
pub fn reload(short: bool) -> Result<Report> {
    let viewers = viewers(if short { 1_000 } else { 19_500 })?;
    let mut show = Show::start(feed::MEGABIT, "low_latency = true", viewers)?;
    let time = Duration::from_secs(if short { 12 } else { 40 });
    let (servers, entrance) = (show.servers.clone(), Entrance::Tokens(show.paths.clone()));
    let (ramp, warm_up) = (Load::ramp_of(viewers), WARM_UP);
    let (habit, secure) = (Habit::Reload, false);
    let load = Load { servers, entrance, viewers, ramp, warm_up, time, habit, secure };
    let sample = measure(&load, &show.relays())?;
    show.cluster.check_alive()?;
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

/// Medians over rounds; processor time per GB comes first.
pub(super) fn figures(samples: &mut [Sample]) -> Vec<(String, f64)> {
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
