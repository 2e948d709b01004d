//! Hostile viewers at size, against a real ingest and relay with a live, marked stream.
//!
//! ```text
//! stage ─► scene ─► attack (paths, doors, forged) ─► raid ─► verdict      who has no right gets nothing
//!   │                 copies ─► crossed                                   who has one gets their own copy
//!   └───────────────────────── revoked                                    who had one gets nothing after 5 s
//! ```
//!
//! Attacks over HTTP/1.1 and HTTP/2 on every kind of resource; segments for many viewers at once, each compared with what the
//! tracer says; revocations, also of who has a reload waiting. Beside all of it a good viewer goes on. The yardstick is what
//! the project has set itself.

mod attack;
mod copies;
mod crossed;
mod doors;
mod forged;
mod line;
mod noise;
mod paths;
mod raid;
mod revoked;
mod scene;
mod stage;
mod verdict;
mod wire;

use super::load::raise_descriptor_limit;
use super::{Report, median};
use crate::{Viewer, http};
use anyhow::{Context, Result, ensure};
use crossed::{Hall, Watcher};
use raid::{Field, Tally, stuck};
use revoked::{Times, revocations};
use scene::Scout;
use stage::{STREAMS, Stage, entry};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// What the attacks are drawn by, unless the environment says otherwise.
const SEED: u64 = 0x5eed;
/// How often it is looked what there is.
const LOOK: Duration = Duration::from_millis(500);
/// The longest each of the three parts may take.
const TIME: Duration = Duration::from_secs(6 * 60);
/// So many times more attacks there are at least than requests that do no harm.
const HARMLESS: u64 = 20;
/// The fewest kinds of resources and tricks that must have come.
const KINDS_MIN: usize = 25;
const TRICKS_MIN: usize = 70;

/// The longest a good viewer may wait: what a player has in store, three segments.
const STALL: Duration = Duration::from_secs(6);

/// How much of each there is.
struct Size {
    attacks: u64,
    segments: u64,
    watchers: usize,
    revocations: usize,
}

const FULL: Size = Size { attacks: 1_000_000, segments: 1_000_000, watchers: 32, revocations: 1_000 };
const SHORT: Size = Size { attacks: 20_000, segments: 3_000, watchers: 16, revocations: 20 };

/// Runs it; `short` is for CI.
///
/// # Errors
/// When a program is missing or does not start, or the stream is not what it should be.
pub fn run(short: bool) -> Result<Report> {
    let size = if short { SHORT } else { FULL };
    let seed = match std::env::var("RELEVE_BENCH_SEED") {
        Ok(text) => text.parse().context("RELEVE_BENCH_SEED")?,
        Err(_) => SEED,
    };
    raise_descriptor_limit();
    let mut stage = Stage::start()?;
    let runtime = Runtime::new()?;
    let first = entry(&stage.doors, STREAMS[0], &stage.minter()?.token(STREAMS[0], "good", 3600, None)?);
    let good = Good::start(Viewer::enter(&first)?);
    let mut report = Vec::new();

    let began = Instant::now();
    let (tally, (longest, open)) = raid(&stage, &runtime, seed, size.attacks + size.attacks / HARMLESS)?;
    let raid_s = began.elapsed().as_secs_f64();
    let attacks = tally.attacks[0] + tally.attacks[1];
    let mut errors = tally.faults() + open;
    errors += missing("attacks", size.attacks, attacks);
    errors += missing("kinds of resources", KINDS_MIN as u64, tally.kinds.len() as u64);
    errors += missing("tricks", TRICKS_MIN as u64, tally.tricks.len() as u64);
    if stage.was_led_astray() {
        eprintln!("error: the relay went where a token said that keys are");
        errors += 1;
    }
    report.extend([
        ("seed", seed as f64),
        ("attacks", attacks as f64),
        ("attacks_http1", tally.attacks[0] as f64),
        ("attacks_http2", tally.attacks[1] as f64),
        ("tricks", tally.tricks.len() as f64),
        ("resource_kinds", tally.kinds.len() as f64),
        ("unauthorised_bytes", tally.unauthorised_bytes as f64),
        ("unauthorised_answers", tally.unauthorised as f64),
        ("answers_5xx", tally.server_errors as f64),
        ("wrong_answers", tally.wrong as f64),
        ("hung", (tally.hung + open) as f64),
        ("harmless_requests", tally.harmless as f64),
        ("stuck_connection_longest_s", longest.as_secs_f64()),
        ("attacks_s", raid_s),
    ]);

    let began = Instant::now();
    let hall = crossing(&stage, &runtime, seed, &size)?;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    errors += count(&hall.faults) + missing("segments", size.segments, count(&hall.segments));
    let copies = count(&hall.copies) as f64 / count(&hall.pairs).max(1) as f64;
    // Eight symbols a segment: some agree, half of the viewers cannot.
    errors += missing("copies of a segment", size.watchers as u64 / 2, copies as u64);
    report.extend([
        ("segments", count(&hall.segments) as f64),
        ("parts", count(&hall.parts) as f64),
        ("of_these_by_range", count(&hall.ranges) as f64),
        ("crossed", count(&hall.crossed) as f64),
        ("viewers", size.watchers as f64),
        ("copies_of_a_segment", copies),
        ("segments_s", began.elapsed().as_secs_f64()),
    ]);

    let began = Instant::now();
    let until = began + TIME;
    let (minter, dir) = (stage.minter()?, stage.cluster.dir());
    let times = runtime.block_on(revocations(&stage.doors, &minter, dir, seed, size.revocations, until));
    let Times { last_byte_ms, refused_ms, waiting, faults } = times;
    errors += faults + missing("revocations", size.revocations as u64, last_byte_ms.len() as u64);
    let most = |figures: &[f64]| figures.iter().copied().fold(0.0, f64::max);
    let last = most(&last_byte_ms);
    report.extend([
        ("revocations", last_byte_ms.len() as f64),
        ("with_a_reload_waiting", waiting as f64),
        ("last_byte_max_ms", last),
        ("reload_refused_max_ms", most(&refused_ms)),
        ("last_byte_p50_ms", median(last_byte_ms)),
        ("reload_refused_p50_ms", median(refused_ms)),
        ("revocations_s", began.elapsed().as_secs_f64()),
    ]);

    match good.end() {
        Ok((segments, longest)) => report.extend([
            ("good_viewer_segments", segments as f64),
            ("good_viewer_longest_wait_ms", longest.as_secs_f64() * 1e3),
        ]),
        Err(error) => {
            eprintln!("error: the good viewer: {error:#}");
            errors += 1;
        }
    }
    stage.cluster.check_alive()?;
    if stage.cluster.logs().contains("panicked") {
        eprintln!("error: something has panicked");
        errors += 1;
    }
    let named =
        |rows: &[(&str, f64)]| rows.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let bound = revoked::BOUND.as_secs_f64() * 1e3;
    let bars = [
        ("unauthorised_bytes", 0.0),
        ("answers_5xx", 0.0),
        ("hung", 0.0),
        ("crossed", 0.0),
        ("last_byte_max_ms", bound),
    ];
    Ok(Report { name: "hostile", ours: named(&report), yardstick: named(&bars), ratio: last / bound, errors })
}

/// 1, and a word, where there are fewer than there should be.
fn missing(what: &str, wanted: u64, found: u64) -> u64 {
    if found < wanted {
        eprintln!("error: {found} {what}, not {wanted}");
    }
    u64::from(found < wanted)
}

/// The attacks, and beside them connections that get nowhere.
fn raid(stage: &Stage, runtime: &Runtime, seed: u64, total: u64) -> Result<(Tally, (Duration, u64))> {
    let mut scout = Scout::new(stage.doors.plain, &stage.cast);
    let page = |query: &str| -> Result<Vec<u8>> {
        Ok(http::get(&format!("http://{}/watch/{}{query}", stage.doors.plain, STREAMS[0]))?.body)
    };
    let expired = format!("?token={}", stage.cast.passes[0].expired.token);
    let public = vec![page("")?, page(&expired)?];
    let words = ["does not open anything", "has expired"];
    for (body, words) in public.iter().zip(words) {
        let text = String::from_utf8_lossy(body);
        ensure!(text.contains(words), "the page of a refusal says {text:?}");
    }
    let field = Arc::new(Field {
        doors: stage.doors.clone(),
        cast: stage.cast.clone(),
        scene: RwLock::new(Arc::new(scout.look()?)),
        public,
        seed,
        total,
        until: Instant::now() + TIME,
        next: Default::default(),
        told: Default::default(),
        tally: Mutex::default(),
    });
    let over = AtomicBool::new(false);
    let looks = |scout: &mut Scout| {
        while !over.load(Ordering::Acquire) {
            // Something may have left the window between two looks: then the scene stays a moment longer.
            match scout.look() {
                Ok(scene) => *field.scene.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(scene),
                Err(error) => eprintln!("looking again: {error:#}"),
            }
            std::thread::sleep(LOOK);
        }
    };
    let stuck = std::thread::scope(|scope| {
        scope.spawn(|| looks(&mut scout));
        let ((), stuck) = runtime.block_on(async { tokio::join!(field.raid(), stuck(&field.doors)) });
        over.store(true, Ordering::Release);
        stuck
    });
    let tally = std::mem::take(&mut *field.tally.lock().unwrap_or_else(PoisonError::into_inner));
    Ok((tally, stuck))
}

/// Many viewers at once, each with their own copy.
fn crossing(stage: &Stage, runtime: &Runtime, seed: u64, size: &Size) -> Result<Arc<Hall>> {
    let minter = stage.minter()?;
    let watcher = |number: usize| -> Result<Watcher> {
        let name = format!("watcher-{number}");
        let pass = minter.enter(&stage.doors, STREAMS[0], &name, 3600, None)?;
        Ok(Watcher { name, session: pass.session })
    };
    let watchers = (0..size.watchers).map(watcher).collect::<Result<Vec<_>>>()?;
    let until = Instant::now() + TIME;
    let hall = Arc::new(Hall::new(stage.doors.clone(), watchers, seed, size.segments, until));
    std::thread::scope(|scope| {
        let followed = scope.spawn(|| hall.follow(&stage.cluster, &stage.cast));
        runtime.block_on(hall.fetch());
        followed.join().map_err(|_| anyhow::anyhow!("the judge has panicked"))?
    })?;
    Ok(hall)
}

/// A good viewer, who is not to notice anything.
struct Good {
    over: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Result<(usize, Duration)>>,
}

impl Good {
    fn start(mut viewer: Viewer) -> Good {
        let over = Arc::new(AtomicBool::new(false));
        let ends = over.clone();
        let thread = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !ends.load(Ordering::Acquire) {
                let asked = Instant::now();
                viewer.poll()?;
                longest = longest.max(asked.elapsed());
                std::thread::sleep(Duration::from_millis(200));
            }
            viewer.verdict()?;
            ensure!(longest <= STALL, "waited {longest:?} for playlists and what is new in them");
            Ok((viewer.tracks[0].listed().len(), longest))
        });
        Good { over, thread }
    }

    /// How many segments they saw, and how long they waited at most.
    fn end(self) -> Result<(usize, Duration)> {
        self.over.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow::anyhow!("has panicked"))?
    }
}
