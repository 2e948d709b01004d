//! Publishers that have only begun when the holder dies or hands over: each at another point of its way to the first picture.
//!
//! In: a rig and a count. Out: an `Outcome`. Each publisher goes on with its connection or is told at once that it is over;
//! then it connects again, as encoders do. It must publish within 10 s, and neither node may keep a connection that is over.

use super::rig::{HOSTS, Rig, Wish};
use super::scenario::Outcome;
use crate::flv::Feed;
use crate::steady::{self, STEPS, Steady};
use crate::{feed, wait_for};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs;
use std::net::TcpStream;
use std::sync::{Arc, Barrier};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A publisher must be heard again within this.
const HEARD: Duration = Duration::from_secs(10);
/// Between two tries of a publisher that was told that its connection is over.
const AGAIN: Duration = Duration::from_millis(100);
/// A node's books and its kernel have this long to forget what is over.
const FORGOTTEN: Duration = Duration::from_secs(15);

/// Where a publisher is when something happens: so many steps are done; the first two have no connection yet and connect at
/// that moment, or a little later.
const PLACES: [(&str, Place); 7] = [
    ("syn", Place::Connects(Duration::ZERO)),
    ("syn-later", Place::Connects(Duration::from_millis(2))),
    ("connected", Place::Done(0)),
    ("hello", Place::Done(1)),
    ("shaken", Place::Done(2)),
    ("asked", Place::Done(3)),
    ("granted", Place::Done(4)),
];

#[derive(Clone, Copy)]
enum Place {
    Connects(Duration),
    Done(usize),
}

/// One publisher's way.
struct Heard {
    steady: Steady,
    reconnects: usize,
    ms: f64,
    /// What its connections said.
    why: Vec<String>,
}

/// Plays it `count` times, handover and kill by turns.
///
/// # Errors
/// When the lab itself does not work.
pub fn play(prefix: &str, protect: &str, count: usize) -> Result<Outcome> {
    let mut rig = Rig::prepare(
        prefix,
        &Wish { protect, streams: PLACES.len() + 1, lag: None, marked: false, normalise: false },
    )?;
    rig.pair_up()?;
    let _ffmpeg = rig.publish(feed::HD)?;
    let (mut runs, mut problems) = (Vec::new(), Vec::new());
    for number in 0..count {
        let before = problems.len();
        match one(&mut rig, number.is_multiple_of(2), &mut problems) {
            Ok(mut run) => {
                run["ok"] = json!(problems.len() == before);
                runs.push(run);
            }
            Err(error) => {
                problems.push(format!("{number}: {error:#}"));
                break;
            }
        }
    }
    let ok = problems.is_empty();
    if !ok {
        eprintln!("takeover-lab: see {}\n{}", rig.keep().display(), rig.logs());
    }
    Ok(Outcome { runs, whole: json!({"publishers": PLACES.len(), "problems": problems}), ok })
}

fn one(rig: &mut Rig, planned: bool, problems: &mut Vec<String>) -> Result<Value> {
    let from = rig.await_pair()?;
    // ffmpeg's alone.
    forgotten(rig, 1)?;
    let feed = Arc::new(Feed::parse(&fs::read(feed::path(feed::SMALL)?)?)?);
    let ready = Arc::new(Barrier::new(PLACES.len() + 1));
    let mut threads: Vec<(&str, JoinHandle<Result<Heard>>)> = Vec::new();
    for ((name, place), (_, key)) in PLACES.into_iter().zip(&rig.streams[1..]) {
        let (feed, ready, key) = (feed.clone(), ready.clone(), key.clone());
        threads.push((name, std::thread::spawn(move || publish(place, &feed, &key, &ready))));
    }
    ready.wait();
    if planned {
        let said = rig.ctl(HOSTS[from], &["failover", "--json", "--admin", &Rig::admin(from)])?;
        let said: Value = serde_json::from_str(said.trim())?;
        ensure!(said["took"]["epoch"].is_u64(), "nothing was taken: {said}");
    } else {
        rig.kill(from)?;
        rig.await_state(1 - from, &["solo", "paired"], HEARD)?;
    }
    let (mut run, mut living) = (json!({"what": if planned { "handover" } else { "kill" }}), Vec::new());
    for (name, thread) in threads {
        match thread.join().map_err(|_| anyhow::anyhow!("a publisher panicked"))? {
            Ok(Heard { steady, reconnects, ms, why }) => {
                run[format!("{name}_ms")] = json!((ms * 1e3).round() / 1e3);
                run["reconnects"] = json!(run["reconnects"].as_u64().unwrap_or(0) + reconnects as u64);
                if reconnects > 0 {
                    run["reconnected"][name] = json!(reconnects);
                }
                if !why.is_empty() {
                    run["why"][name] = json!(why);
                }
                living.push(steady);
            }
            Err(error) => problems.push(format!("{}, {name}: {error:#}", run["what"])),
        }
    }
    if !planned {
        rig.restart(from)?;
    }
    rig.await_pair()?;
    let listed = wait_for("segments of all", HEARD, || live(rig, living.len() + 1));
    problems.extend(listed.err().map(|error| format!("{}: {error:#}", run["what"])));
    for steady in &mut living {
        problems.extend(steady.check_alive().err().map(|error| format!("{}: {error:#}", run["what"])));
    }
    let kept = forgotten(rig, living.len() + 1);
    problems.extend(kept.err().map(|error| format!("{}: {error:#}", run["what"])));
    Ok(run)
}

/// Goes to its place, waits for the word, and goes on until it publishes.
fn publish(place: Place, feed: &Feed, key: &str, ready: &Barrier) -> Result<Heard> {
    let to = Rig::address()?;
    let mut before = match place {
        Place::Connects(_) => None,
        Place::Done(steps) => Some((steady::connect(to, 0)?, steps)),
    };
    if let Some((socket, steps)) = &mut before {
        (0..*steps).try_for_each(|step| steady::step(socket, to, key, feed, step))?;
    }
    ready.wait();
    let struck = Instant::now();
    if let Place::Connects(after) = place {
        std::thread::sleep(after);
    }
    let (mut reconnects, mut why) = (0, Vec::new());
    loop {
        match go_on(before.take(), feed, key) {
            Ok(socket) => {
                let ms = struck.elapsed().as_secs_f64() * 1e3;
                ensure!(struck.elapsed() < HEARD, "it publishes only after {ms} ms: {why:?}");
                return Ok(Heard { steady: Steady::begun(socket, feed)?, reconnects, ms, why });
            }
            Err(error) => why.push(format!("{:.0} ms: {error:#}", struck.elapsed().as_secs_f64() * 1e3)),
        }
        ensure!(struck.elapsed() < HEARD, "it cannot publish: {why:?}");
        reconnects += 1;
        std::thread::sleep(AGAIN);
    }
}

fn go_on(before: Option<(TcpStream, usize)>, feed: &Feed, key: &str) -> Result<TcpStream> {
    let to = Rig::address()?;
    let (mut socket, steps) = match before {
        Some(before) => before,
        None => (steady::connect(to, 0)?, 0),
    };
    for step in steps..STEPS {
        steady::step(&mut socket, to, key, feed, step).with_context(|| format!("step {step}"))?;
    }
    Ok(socket)
}

/// The holder lists so many streams as live, each with a segment.
fn live(rig: &Rig, streams: usize) -> Result<()> {
    let holder = (0..2).find(|place| rig.status(*place).is_ok_and(|status| status["state"] == "paired"));
    let rows = rig.streams_of(holder.context("a holder")?)?;
    let rows = rows.as_array().context("rows")?;
    let count = rows.iter().filter(|row| row["live"] == true && row["last_segment"].is_u64()).count();
    ensure!(count == streams, "{count} streams are live, not {streams}");
    Ok(())
}

/// Both nodes know so many connections and no more, and so does the holder's kernel; the standby's knows none.
fn forgotten(rig: &Rig, connections: usize) -> Result<()> {
    wait_for("end of what is over", FORGOTTEN, || {
        for (place, host) in HOSTS.into_iter().enumerate() {
            let books = rig.metric(place, "releve_ingest_pair_connections")?;
            ensure!(books == connections as u64, "{host} knows {books} connections, not {connections}");
            let holds = rig.status(place)?["state"] == "paired";
            let sockets = rig.sockets(place)?;
            let wanted = if holds { connections } else { 0 };
            ensure!(sockets == wanted, "{host} has {sockets} sockets, not {wanted}");
        }
        Ok(())
    })
}
