//! What may go wrong, and whether anybody noticed.
//!
//! In: a rig with a pair. Out: a `Run` for each time something was broken: what the publisher's wire showed, what viewers got.
//! A run is good when the publisher kept its one connection, every message it sent is in the recording, and the playlists of
//! all relays went on by their rules with the same bytes.

use super::capture::Capture;
use super::net::VIP;
use super::rig::{HOSTS, Rig};
use crate::flv::Feed;
use crate::viewer::Viewer;
use crate::{feed, wait_for};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the stream runs before something breaks, and after.
const BEFORE: Duration = Duration::from_secs(7);
const AFTER: Duration = Duration::from_secs(9);
/// Between two events on one connection.
const BETWEEN: Duration = Duration::from_millis(700);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// `relevectl failover`, again and again on one connection.
    Handover,
    /// The holder's process is killed.
    Kill,
    /// Both of the holder's wires are cut, then it is killed.
    Power,
    /// The holder's processes stand still for 0.3 s.
    Pause,
    /// ... for 30 s.
    PauseLong,
    /// The private wire between the nodes is cut for a second.
    Cut,
    /// The standby is killed.
    Standby,
    /// The standby is killed again and again, as soon as it is back.
    Flap,
    /// As `Power`, with 30 ms of delay on the private wire: what the holder acknowledged late must not be lost.
    Lag,
    /// As `Kill`, without the packet hold: the publisher must notice, or the other scenarios show nothing.
    Control,
}

impl Scenario {
    /// All of them, by the names of the command line.
    pub const ALL: [(&'static str, Scenario); 10] = [
        ("handover", Scenario::Handover),
        ("kill", Scenario::Kill),
        ("power", Scenario::Power),
        ("pause", Scenario::Pause),
        ("pause-long", Scenario::PauseLong),
        ("cut", Scenario::Cut),
        ("standby", Scenario::Standby),
        ("flap", Scenario::Flap),
        ("lag", Scenario::Lag),
        ("control", Scenario::Control),
    ];
}

/// What came of one scenario.
pub struct Outcome {
    /// One object for each time something was broken.
    pub runs: Vec<Value>,
    /// Whether all of it went unnoticed.
    pub ok: bool,
}

/// Plays a scenario `count` times on a rig of its own.
///
/// # Errors
/// When the lab itself does not work; what the programs do wrong is in the outcome.
pub fn play(prefix: &str, scenario: Scenario, protect: &str, count: usize) -> Result<Outcome> {
    let protect = if scenario == Scenario::Control { "handover" } else { protect };
    let mut rig = Rig::start(prefix, protect)?;
    if scenario == Scenario::Lag {
        for host in HOSTS {
            if let Err(error) = rig.net.delay(host, "eth1", "30ms") {
                eprintln!("skipped: lag: {error:#}");
                return Ok(Outcome { runs: vec![json!({"skipped": format!("{error:#}")})], ok: true });
            }
        }
    }
    match watch(&mut rig, scenario, count) {
        Ok(outcome) if outcome.ok => Ok(outcome),
        other => {
            eprintln!("takeover-lab: see {}\n{}", rig.keep().display(), rig.logs());
            other
        }
    }
}

fn watch(rig: &mut Rig, scenario: Scenario, count: usize) -> Result<Outcome> {
    let capture = Capture::start()?;
    let begun = Instant::now();
    let mut publisher = rig.publish(feed::HD)?;
    let urls = rig.urls()?;
    let mut viewers = Vec::new();
    for url in &urls {
        viewers.push(Viewer::enter_when_live(url, Duration::from_secs(20))?);
    }
    follow(&mut viewers, BEFORE)?;
    let mut runs = Vec::new();
    for number in 0..count {
        let since = Instant::now();
        let run = match scenario {
            Scenario::Handover => hand_over(rig),
            Scenario::Kill => lose(rig, &capture, |rig, place| rig.kill(place)),
            Scenario::Power | Scenario::Lag => lose(rig, &capture, cut_power),
            Scenario::Pause => pause(rig, &capture, &mut viewers, Duration::from_millis(300)),
            Scenario::PauseLong => pause(rig, &capture, &mut viewers, Duration::from_secs(30)),
            Scenario::Cut => cut(rig),
            Scenario::Standby => lose_standby(rig),
            Scenario::Flap => flap(rig),
            Scenario::Control => unprotected(rig, &mut publisher),
        };
        let mut run = run.with_context(|| format!("{scenario:?} {number}\n{}", capture.tail(60)))?;
        if scenario == Scenario::Control {
            let sums = capture.sums(since);
            let noticed = run["publisher_ended"] == true && sums.rst > 0;
            run["rst"] = json!(sums.rst);
            return Ok(Outcome { runs: vec![run], ok: noticed });
        }
        follow(&mut viewers, if number + 1 < count { BETWEEN } else { AFTER })?;
        let sums = capture.sums(since);
        run["retransmissions"] = json!(sums.retransmissions);
        runs.push(run);
    }
    follow(&mut viewers, Duration::from_secs(3))?;
    let alive = publisher.check_alive().err().map(|error| error.to_string());
    let sums = capture.sums(begun);
    let mut problems: Vec<String> = alive.into_iter().collect();
    // A relay that reads one node only sees that node's absence; the third reads both, as relays do.
    let judged = if scenario == Scenario::Handover { 0 } else { 2 };
    problems.extend(judge(&mut viewers, judged));
    let lost = lost_bytes(&viewers, &mut problems)?;
    // One connection from the first to the last moment, and nobody ever said that it was over.
    for (what, got, wanted) in [("SYN", sums.syn, 1), ("RST", sums.rst, 0), ("FIN", sums.fin, 0)] {
        if got != wanted {
            problems.push(format!("{got} {what} at the publisher, not {wanted}"));
        }
    }
    publisher.kill();
    let whole = json!({
        "syn": sums.syn, "rst": sums.rst, "fin": sums.fin, "retransmissions": sums.retransmissions,
        "bytes_lost": lost, "reconnects": sums.syn.saturating_sub(1), "problems": problems,
    });
    let ok = problems.is_empty() && lost == 0;
    runs.push(whole);
    Ok(Outcome { runs, ok })
}

fn follow(viewers: &mut [Viewer], time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for (place, viewer) in viewers.iter_mut().enumerate() {
            // The first two read one node each, which may be down; the third reads both and must never miss anything.
            let polled = viewer.poll();
            if place == 2 {
                polled?;
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// What the judge says of each relay's playlists, and where two relays gave different bytes.
fn judge(viewers: &mut [Viewer], from: usize) -> Vec<String> {
    let mut problems = Vec::new();
    for (place, viewer) in viewers.iter_mut().enumerate().skip(from) {
        problems.extend(viewer.verdict().err().map(|error| format!("relay {}: {error:#}", place + 1)));
    }
    for track in 0..2 {
        let Ok(first) = viewers[2].recording(track) else { continue };
        for (place, viewer) in viewers.iter().enumerate().take(2) {
            let Ok(other) = viewer.recording(track) else { continue };
            let both =
                first.segments.iter().filter_map(|(n, bytes)| Some((n, bytes, other.segments.get(n)?)));
            for (number, one, two) in both {
                if one != two {
                    problems
                        .push(format!("segment {number} of track {track} differs at relay {}", place + 1));
                }
            }
        }
        let numbers: Vec<u64> = first.segments.keys().copied().collect();
        if numbers.windows(2).any(|two| two[1] != two[0] + 1) {
            problems.push(format!("track {track} has a hole: {numbers:?}"));
        }
    }
    problems
}

/// Bytes of pictures and sound that the publisher sent and the recording (relay 3, which reads both nodes) does not have.
fn lost_bytes(viewers: &[Viewer], problems: &mut Vec<String>) -> Result<usize> {
    let sent = Feed::parse(&std::fs::read(feed::path(feed::HD)?)?)?;
    let mut lost = 0;
    for (track, units) in [(0, &sent.video), (1, &sent.audio)] {
        let samples = viewers.last().context("three viewers")?.recording(track)?.samples()?;
        let first = samples.first().context("samples")?;
        let mut at = units.iter().position(|unit| unit.data == first.data).context("not of this feed")?;
        for sample in &samples {
            // The feed comes over and over: what lies between is what is missing.
            let ahead = (0..units.len()).find(|ahead| units[(at + ahead) % units.len()].data == sample.data);
            let Some(ahead) = ahead else {
                problems.push(format!("a sample of track {track} is none that was sent"));
                continue;
            };
            lost += (0..ahead).map(|missing| units[(at + missing) % units.len()].data.len()).sum::<usize>();
            at = (at + ahead + 1) % units.len();
        }
    }
    Ok(lost)
}

/// The holder's place, once there is a pair.
fn holder(rig: &mut Rig) -> Result<usize> {
    rig.await_pair()
}

fn hand_over(rig: &mut Rig) -> Result<Value> {
    let from = holder(rig)?;
    let said = rig.ctl(HOSTS[from], &["failover", "--json", "--admin", &Rig::admin(from)])?;
    let said: Value = serde_json::from_str(said.trim())?;
    ensure!(!rig.net.has_vip(HOSTS[from])?, "{VIP} is still on {}", HOSTS[from]);
    let blackouts: Vec<&Value> = said["took"]["connections"].as_array().into_iter().flatten().collect();
    let alive = blackouts.iter().all(|one| one["alive"] == true);
    ensure!(alive && !blackouts.is_empty(), "not every connection lives: {said}");
    Ok(json!({"blackout_ms": blackouts[0]["blackout_ms"], "epoch": said["took"]["epoch"], "to": said["to"]}))
}

/// The holder is lost in some way; the other one goes on alone; then the lost one comes back.
fn lose(
    rig: &mut Rig,
    capture: &Capture,
    strike: impl FnOnce(&mut Rig, usize) -> Result<Instant>,
) -> Result<Value> {
    let from = holder(rig)?;
    let other = 1 - from;
    let at = strike(rig, from)?;
    rig.await_state(other, &["solo", "paired"], Duration::from_secs(10))?;
    let blackout = wait_for("a new byte from the survivor", Duration::from_secs(10), || {
        capture.first_new_byte(at).context("nobody else acknowledged anything")
    })?;
    let status = rig.status(other)?;
    // Back into the pair, for the next time.
    if let Some(mut node) = rig.nodes[from].take() {
        node.kill();
    }
    rig.net.inside(HOSTS[from], "link set eth0 up")?;
    rig.net.inside(HOSTS[from], "link set eth1 up")?;
    rig.begin(from)?;
    Ok(json!({"blackout_ms": blackout.as_secs_f64() * 1000.0, "epoch": status["epoch"]}))
}

fn cut_power(rig: &mut Rig, place: usize) -> Result<Instant> {
    let at = Instant::now();
    rig.net.inside(HOSTS[place], "link set eth0 down")?;
    rig.net.inside(HOSTS[place], "link set eth1 down")?;
    rig.signal(place, Signal::KILL)?;
    Ok(at)
}

/// The holder stands still and wakes as a zombie: it may say nothing more for the address.
fn pause(rig: &mut Rig, capture: &Capture, viewers: &mut [Viewer], time: Duration) -> Result<Value> {
    let from = holder(rig)?;
    let old = capture.speaker(Instant::now()).context("nobody spoke yet")?;
    let at = Instant::now();
    rig.signal(from, Signal::STOP)?;
    follow(viewers, time)?;
    let woke = Instant::now();
    rig.signal(from, Signal::CONT)?;
    let blackout = wait_for("a new byte from the other", Duration::from_secs(10), || {
        capture.first_new_byte(at).context("nobody else acknowledged anything")
    })?;
    rig.await_pair()?;
    let spoken = capture.spoken_by(old, woke);
    ensure!(spoken == 0, "the zombie sent {spoken} segments for the address");
    Ok(json!({"blackout_ms": blackout.as_secs_f64() * 1000.0, "zombie_segments": spoken}))
}

/// Replication and one path are cut; whoever is granted goes on.
fn cut(rig: &mut Rig) -> Result<Value> {
    holder(rig)?;
    let at = Instant::now();
    rig.net.inside("a", "link set eth1 down")?;
    std::thread::sleep(Duration::from_secs(1));
    rig.net.inside("a", "link set eth1 up")?;
    let with: Vec<&str> = HOSTS.into_iter().filter(|host| rig.net.has_vip(host).unwrap_or(false)).collect();
    if with.len() != 1 {
        bail!("{VIP} is on {with:?}");
    }
    rig.await_pair()?;
    Ok(json!({"healed_ms": at.elapsed().as_secs_f64() * 1000.0 - 1000.0}))
}

/// The standby dies as soon as it is back, three times; the holder goes on, and does not pair at once with such a one.
fn flap(rig: &mut Rig) -> Result<Value> {
    let from = holder(rig)?;
    let at = Instant::now();
    for _ in 0..3 {
        rig.kill(1 - from)?;
        rig.await_state(from, &["solo"], Duration::from_secs(10))?;
        if let Some(mut node) = rig.nodes[1 - from].take() {
            node.kill();
        }
        rig.begin(1 - from)?;
        rig.await_pair()?;
    }
    ensure!(rig.net.has_vip(HOSTS[from])?, "{VIP} left its holder");
    Ok(json!({"lost": 3, "paired_after_ms": at.elapsed().as_secs_f64() * 1000.0}))
}

/// Without the packet hold a crash disconnects the publisher: ffmpeg ends.
fn unprotected(rig: &mut Rig, publisher: &mut crate::Child) -> Result<Value> {
    let from = holder(rig)?;
    rig.kill(from)?;
    rig.await_state(1 - from, &["solo"], Duration::from_secs(10))?;
    let ended = publisher.wait(Duration::from_secs(20)).is_ok();
    Ok(json!({"publisher_ended": ended}))
}

fn lose_standby(rig: &mut Rig) -> Result<Value> {
    let from = holder(rig)?;
    let at = rig.kill(1 - from)?;
    rig.await_state(from, &["solo"], Duration::from_secs(10))?;
    let solo = at.elapsed();
    if let Some(mut node) = rig.nodes[1 - from].take() {
        node.kill();
    }
    rig.begin(1 - from)?;
    rig.await_pair()?;
    Ok(
        json!({"solo_seen_after_ms": solo.as_secs_f64() * 1000.0, "paired_after_ms": at.elapsed().as_secs_f64() * 1000.0}),
    )
}
