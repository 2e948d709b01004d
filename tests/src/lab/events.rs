//! What may go wrong: one function each. It breaks something, waits until the pair has dealt with it, and says what was seen.
//!
//! In: the stage with everything that runs. Out: a JSON object for the run; an error when the pair did not do what it must.

use super::capture::Capture;
use super::net::VIP;
use super::rig::{HOSTS, Rig};
use crate::steady::Steady;
use crate::{Child, wait_for};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The pair has this long to deal with anything.
const DEALT: Duration = Duration::from_secs(10);

/// How long the private wire is cut: far longer than anybody may wait for it.
const CUT: Duration = Duration::from_secs(5);
/// Whoever goes on does so by then: the link's patience of 500 ms, and as much for a machine that is busy.
const PARTED_WAIT_MAX_MS: f64 = 1000.0;
/// How long one node is deaf.
const PARTED: Duration = Duration::from_secs(1);
/// Busy loops, and how long they run each time.
const HOGS: usize = 8;
const HOGGED: Duration = Duration::from_secs(30);

/// Everything that runs.
pub struct Stage {
    /// Nodes, relays, network.
    pub rig: Rig,
    /// The publishers' wire.
    pub capture: Capture,
    /// Our own publishers.
    pub steady: Vec<Steady>,
    /// Real ffmpeg, and its port.
    pub ffmpeg: (Child, u16),
}

impl Stage {
    /// Each publisher's port: ours first.
    pub fn ports(&self) -> impl Iterator<Item = u16> + '_ {
        self.steady.iter().map(|one| one.port).chain([self.ffmpeg.1])
    }

    /// How each connection changed hands after an event: the first steady one in full, of all the longest.
    fn changes(&self, at: Instant) -> Result<Value> {
        let mut changes = Vec::new();
        for port in self.ports() {
            changes.push(wait_for("new byte from the other", DEALT, || self.capture.change(at, port))?);
        }
        let longest = changes.iter().map(|change| change.byte_ms).fold(0.0, f64::max);
        let first = changes.first().context("a publisher")?;
        let ffmpeg = changes.last().context("a publisher")?;
        Ok(json!({
            "blackout_ms": round(first.byte_ms), "byte_ms": round(first.byte_ms), "word_ms": round(first.word_ms), "silent_ms": round(first.silent_ms),
            "ffmpeg_ms": round(ffmpeg.byte_ms), "longest_ms": round(longest),
        }))
    }

    /// The longest time since a moment in which the first publisher heard of nothing new.
    fn longest_wait(&self, since: Instant) -> Result<f64> {
        let port = self.ports().next().context("a publisher")?;
        Ok(round(self.capture.longest_wait_ms(port, since).context("the first publisher heard nothing")?))
    }

    /// How many takeovers both nodes count since they were started.
    fn takeovers(&self) -> Result<u64> {
        let statuses = [self.rig.status(0)?, self.rig.status(1)?];
        Ok(statuses.iter().filter_map(|status| status["takeover_count"].as_u64()).sum())
    }

    /// Adds what the survivor itself says of its takeover.
    fn record(&self, place: usize, run: &mut Value) -> Result<()> {
        let status = self.rig.status(place)?;
        let last = status["takeovers"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
        run["epoch"] = status["epoch"].clone();
        run["steps_ms"] = last["steps_ms"].clone();
        ensure!(last["trouble"].as_array().is_none_or(Vec::is_empty), "trouble: {last}");
        Ok(())
    }
}

/// Microseconds are enough.
fn round(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

/// `relevectl failover`.
pub fn hand_over(stage: &mut Stage) -> Result<Value> {
    let from = stage.rig.await_pair()?;
    let at = Instant::now();
    let said = stage.rig.ctl(HOSTS[from], &["failover", "--json", "--admin", &Rig::admin(from)])?;
    let said: Value = serde_json::from_str(said.trim())?;
    ensure!(!stage.rig.net.has_vip(HOSTS[from])?, "{VIP} is still on {}", HOSTS[from]);
    let moved: Vec<&Value> = said["took"]["connections"].as_array().into_iter().flatten().collect();
    ensure!(moved.iter().all(|one| one["alive"] == true), "not every connection lives: {said}");
    let all = stage.steady.len() + 1;
    ensure!(moved.len() == all, "{} connections moved, not {all}: {said}", moved.len());
    let longest = moved.iter().filter_map(|one| one["blackout_ms"].as_f64()).fold(0.0, f64::max);
    let mut run = stage.changes(at)?;
    // On the wire, what counts is from the last word of the one to the first new byte of the other.
    let number = |key: &str| run[key].as_f64().unwrap_or_default();
    run["gap_ms"] = json!(round(number("byte_ms") - number("silent_ms")));
    run["blackout_ms"] = json!(round(longest));
    run["discarded"] = json!(moved.iter().filter_map(|one| one["discarded"].as_u64()).sum::<u64>());
    run["epoch"] = said["took"]["epoch"].clone();
    run["to"] = said["to"].clone();
    run["steps_ms"] = json!({"gave": said["takeover"]["steps_ms"], "took": said["took"]["steps_ms"]});
    Ok(run)
}

/// The holder's process is killed; the other one goes on alone; then the killed one comes back.
pub fn kill(stage: &mut Stage) -> Result<Value> {
    let from = stage.rig.await_pair()?;
    let at = stage.rig.kill(from)?;
    survive(stage, from, at)
}

/// Both wires of the holder are cut in one step, then it is killed.
pub fn power(stage: &mut Stage) -> Result<Value> {
    let from = stage.rig.await_pair()?;
    let mut wires = stage.rig.net.wires(HOSTS[from])?;
    // It has started, and waits.
    std::thread::sleep(Duration::from_millis(50));
    if let Some(slow) = &stage.rig.slow {
        slow.cut();
    }
    let (at, cut) = wires.cut()?;
    stage.rig.signal(from, Signal::KILL)?;
    let mut run = survive(stage, from, at)?;
    run["cut_ms"] = json!(round((cut - at).as_secs_f64() * 1e3));
    Ok(run)
}

fn survive(stage: &mut Stage, from: usize, at: Instant) -> Result<Value> {
    let other = 1 - from;
    stage.rig.await_state(other, &["solo", "paired"], DEALT)?;
    let mut run = stage.changes(at)?;
    stage.record(other, &mut run)?;
    // Back into the pair, for the next time.
    stage.rig.restart(from)?;
    stage.rig.await_pair()?;
    Ok(run)
}

/// The holder stands still and wakes as a zombie: it may say nothing more for the address.
pub fn pause(stage: &mut Stage, time: Duration) -> Result<Value> {
    let from = stage.rig.await_pair()?;
    let old = stage.capture.speaker(Instant::now()).context("nobody spoke yet")?;
    let at = Instant::now();
    stage.rig.signal(from, Signal::STOP)?;
    std::thread::sleep(time);
    let woke = Instant::now();
    stage.rig.signal(from, Signal::CONT)?;
    // As often as `ip` answers: some milliseconds late.
    while stage.rig.net.has_vip(HOSTS[from])? {
        ensure!(woke.elapsed() < DEALT, "{VIP} is still on {}, which woke as a zombie", HOSTS[from]);
    }
    let gone = woke.elapsed();
    let mut run = stage.changes(at)?;
    run["address_gone_ms"] = json!(round(gone.as_secs_f64() * 1e3));
    stage.rig.await_pair()?;
    let spoken = stage.capture.spoken_by(old, woke);
    ensure!(spoken == 0, "the zombie sent {spoken} segments for the address");
    run["zombie_segments"] = json!(spoken);
    Ok(run)
}

/// Replication and one path are cut; whoever is granted goes on.
pub fn cut(stage: &mut Stage) -> Result<Value> {
    let rig = &mut stage.rig;
    rig.await_pair()?;
    let at = Instant::now();
    rig.net.inside("a", "link set eth1 down")?;
    std::thread::sleep(CUT);
    rig.net.inside("a", "link set eth1 up")?;
    healed(stage, at, CUT)
}

/// One node hears nothing of the other; every second time it is the standby that hears nothing.
pub fn one_way(stage: &mut Stage, number: usize) -> Result<Value> {
    let rig = &mut stage.rig;
    let holder = rig.await_pair()?;
    let deaf = if number.is_multiple_of(2) { holder } else { 1 - holder };
    let at = Instant::now();
    rig.net.deafen(HOSTS[deaf], HOSTS[1 - deaf])?;
    std::thread::sleep(PARTED);
    rig.net.hear(HOSTS[deaf])?;
    let mut run = healed(stage, at, PARTED)?;
    run["deaf"] = json!(if deaf == holder { "holder" } else { "standby" });
    Ok(run)
}

/// Parted for a while, and now no more: one has the address, and they find each other.
fn healed(stage: &mut Stage, parted: Instant, time: Duration) -> Result<Value> {
    let rig = &mut stage.rig;
    let with: Vec<&str> = HOSTS.into_iter().filter(|host| rig.net.has_vip(host).unwrap_or(false)).collect();
    ensure!(with.len() == 1, "{VIP} is on {with:?}");
    rig.await_pair()?;
    let healed = parted.elapsed().saturating_sub(time);
    let waited = stage.longest_wait(parted)?;
    ensure!(waited < PARTED_WAIT_MAX_MS, "the publisher heard nothing new for {waited} ms");
    Ok(json!({"blackout_ms": waited, "healed_ms": round(healed.as_secs_f64() * 1e3)}))
}

/// Busy loops beside everything: four for each core.
pub fn hogs(stage: &mut Stage) -> Result<Value> {
    stage.rig.await_pair()?;
    let (at, before) = (Instant::now(), stage.takeovers()?);
    let stop = Arc::new(AtomicBool::new(false));
    for _ in 0..HOGS {
        let stopping = stop.clone();
        std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
    }
    std::thread::sleep(HOGGED);
    stop.store(true, Ordering::Relaxed);
    stage.rig.await_pair()?;
    let takeovers = stage.takeovers()? - before;
    Ok(json!({"blackout_ms": stage.longest_wait(at)?, "takeovers": takeovers}))
}

/// The standby dies as soon as it is back, so many times; the holder goes on, and does not pair at once with such a one.
pub fn lose_standby(stage: &mut Stage, times: usize) -> Result<Value> {
    let rig = &mut stage.rig;
    let from = rig.await_pair()?;
    let at = Instant::now();
    let mut solo_ms = Value::Null;
    for _ in 0..times {
        let struck = rig.kill(1 - from)?;
        rig.await_state(from, &["solo"], DEALT)?;
        solo_ms = json!(struck.elapsed().as_secs_f64() * 1000.0);
        rig.restart(1 - from)?;
        rig.await_pair()?;
    }
    ensure!(rig.net.has_vip(HOSTS[from])?, "{VIP} left its holder");
    let paired_ms = at.elapsed().as_secs_f64() * 1000.0;
    Ok(json!({
        "blackout_ms": stage.longest_wait(at)?, "lost": times, "solo_seen_after_ms": solo_ms,
        "paired_after_ms": paired_ms,
    }))
}

/// Without the packet hold a crash disconnects the publishers: ffmpeg ends.
pub fn unprotected(stage: &mut Stage) -> Result<Value> {
    let from = stage.rig.await_pair()?;
    let before = stage.capture.sums();
    let at = stage.rig.kill(from)?;
    stage.rig.await_state(1 - from, &["solo"], DEALT)?;
    let ended = stage.ffmpeg.0.wait(Duration::from_secs(20)).is_ok();
    let rst = (stage.capture.sums() - before).rst;
    Ok(
        json!({"ok": ended && rst > 0, "blackout_ms": at.elapsed().as_secs_f64() * 1e3, "publisher_ended": ended}),
    )
}
