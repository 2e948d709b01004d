//! Scenarios: who publishes, what goes wrong how often, and whether anybody noticed.
//!
//! In: a `Play`. Out: an `Outcome`: an object for each time something was broken, and one for the whole. It is good when every publisher kept its one connection, every access unit it sent is in the recording, and the playlists of all
//! relays went on by their rules with the same bytes. A control is good when somebody noticed.

use super::audience::{Audience, Seat, Verdict};
use super::capture::Capture;
use super::echo::Echo;
use super::events::{self, Stage};
use super::proof::Proof;
use super::rig::{HOSTS, Rig, Wish};
use super::tally::{self, Moment};
use super::{early, kinds, twice, wrap};
use crate::{feed, wait_for};
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the streams run before something breaks.
const BEFORE: Duration = Duration::from_secs(3);
/// How long they run on after the last time: as long as a segment takes to be listed everywhere, and more.
const AFTER: Duration = Duration::from_secs(9);
/// Between two events on one connection, at least; longer by something that nobody can foresee.
const BETWEEN: Duration = Duration::from_millis(120);
const BETWEEN_MORE_MS: u128 = 200;
/// ffmpeg and one of our own, when nobody says.
pub const PUBLISHERS: usize = 2;
/// The slow link's delay.
const LAG: Duration = Duration::from_millis(30);

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// `relevectl failover`, again and again on the same connections.
    Planned,
    /// The holder's process is killed.
    Kill,
    /// Both of the holder's wires are cut, then it is killed.
    Power,
    /// The holder's processes stand still for 0.3 s.
    PauseShort,
    /// ... for 30 s.
    PauseLong,
    /// The private wire between the nodes is cut for a second.
    ReplicationCut,
    /// For a second one node hears nothing of the other, which hears it well; holder and standby by turns.
    OneWay,
    /// Handovers while 1, 3 and 5 % of the publishers' frames are lost both ways.
    Loss,
    /// Eight busy loops beside everything, half a minute each time.
    Hogs,
    /// `Power`, and what the nodes tell each other comes 30 ms later: what was acknowledged late must not be lost.
    LagOn,
    /// The same past the packet hold: something must be lost, or `LagOn` shows nothing.
    LagOff,
    /// The standby is killed.
    Standby,
    /// The standby is killed as soon as it is back, three times.
    Flap,
    /// Publishers without SACK, timestamps, window scaling, and without all three; handover and kill by turns.
    Clients,
    /// A publisher whose sequence numbers begin anew at 0 amid handovers; then a kill.
    Wrap,
    /// Every packet to publishers on the wire compared with every confirmation on the wire, through handovers.
    CommitProof,
    /// Handover and kill among replayed and forged heartbeats.
    Beats,
    /// Publishers that have only begun: kill and handover by turns (`early`).
    Early,
    /// As `Kill`, without the packet hold: the publisher must notice, or the other scenarios show nothing.
    Control,
}

impl Scenario {
    /// All of them, by the names of the command line.
    pub const ALL: &'static [(&'static str, Scenario)] = &[
        ("planned", Scenario::Planned),
        ("kill", Scenario::Kill),
        ("power", Scenario::Power),
        ("pause-short", Scenario::PauseShort),
        ("pause-long", Scenario::PauseLong),
        ("replication-cut", Scenario::ReplicationCut),
        ("one-way", Scenario::OneWay),
        ("loss", Scenario::Loss),
        ("hogs", Scenario::Hogs),
        ("lag-on", Scenario::LagOn),
        ("lag-off", Scenario::LagOff),
        ("standby", Scenario::Standby),
        ("flap", Scenario::Flap),
        ("clients", Scenario::Clients),
        ("wrap", Scenario::Wrap),
        ("commit-proof", Scenario::CommitProof),
        ("beats", Scenario::Beats),
        ("early", Scenario::Early),
        ("control", Scenario::Control),
    ];

    /// How often it is played when nobody says.
    pub fn usual(self) -> usize {
        match self {
            Scenario::Planned | Scenario::CommitProof => 20,
            Scenario::Clients | Scenario::Beats | Scenario::Early => 4,
            Scenario::OneWay | Scenario::ReplicationCut => 2,
            Scenario::Loss => 15,
            Scenario::Wrap => 12,
            Scenario::Standby | Scenario::Flap | Scenario::Hogs => 1,
            Scenario::PauseLong | Scenario::LagOff | Scenario::Control => 1,
            _ => 5,
        }
    }

    /// Whether somebody must notice, or others show nothing; the streams are over then.
    fn is_control(self) -> bool {
        matches!(self, Scenario::LagOff | Scenario::Control)
    }

    /// The feeds of our own publishers, beside ffmpeg, when there are `publishers` in all.
    fn steady(self, publishers: usize) -> Vec<&'static str> {
        match (self, publishers) {
            (Scenario::Clients, _) => vec![feed::SMALL; kinds::ALL.len()],
            (Scenario::Wrap, _) | (_, PUBLISHERS) => vec![feed::FULL_HD],
            (_, many) => vec![feed::SMALL; many.saturating_sub(1)],
        }
    }
}

/// What is to be played.
#[derive(Clone, Copy, Debug)]
pub struct Play<'a> {
    /// What happens.
    pub scenario: Scenario,
    /// `protect` of both nodes.
    pub protect: &'a str,
    /// How often.
    pub count: usize,
    /// ffmpeg and our own; of some scenarios the number is given.
    pub publishers: usize,
    /// One feed instead, pushed to each node's own address once.
    pub backup: bool,
}

/// What came of one scenario.
pub struct Outcome {
    /// One object for each time something was broken.
    pub runs: Vec<Value>,
    /// What is not of a single run: sums, what was compared, and sentences against the programs.
    pub whole: Value,
    /// Whether all of it went unnoticed; of a control, whether it was noticed.
    pub ok: bool,
}

/// Plays a scenario on a rig of its own; a control, which ends its streams, each time on another.
///
/// # Errors
/// When the lab itself does not work; what the programs do wrong is in the outcome.
pub fn play(prefix: &str, play: Play) -> Result<Outcome> {
    if play.backup {
        return twice::play(prefix, play);
    }
    if play.scenario == Scenario::Early {
        return early::play(prefix, play.protect, play.count);
    }
    if !play.scenario.is_control() {
        return perform(prefix, play);
    }
    let mut all = Outcome { runs: Vec::new(), whole: json!({}), ok: true };
    for _ in 0..play.count {
        let one = perform(prefix, Play { count: 1, ..play })?;
        all.runs.extend(one.runs);
        all.whole = one.whole;
        all.ok &= one.ok;
    }
    Ok(all)
}

fn perform(prefix: &str, play: Play) -> Result<Outcome> {
    let Play { scenario, .. } = play;
    let protect = if scenario == Scenario::Control { "handover" } else { play.protect };
    let lag = matches!(scenario, Scenario::LagOn | Scenario::LagOff).then_some(LAG);
    let feeds = scenario.steady(play.publishers);
    let streams = 1 + feeds.len();
    let mut rig = Rig::prepare(prefix, &Wish { protect, streams, lag, marked: false, normalise: false })?;
    let proof = (scenario == Scenario::CommitProof).then(|| Proof::start(&rig.net)).transpose()?;
    let echo = (scenario == Scenario::Beats).then(|| Echo::start(&rig.net)).transpose()?;
    rig.pair_up()?;
    let mut stage = enter(rig, scenario, &feeds)?;
    let audience = audience(&stage, &feeds)?;
    match watch(&mut stage, audience, play, proof.as_ref(), echo.as_ref()) {
        Ok(outcome) if outcome.ok => {
            if std::env::var_os("RELEVE_LAB_KEEP").is_some() {
                eprintln!("takeover-lab: see {}", stage.rig.keep().display());
            }
            Ok(outcome)
        }
        other => {
            eprintln!("takeover-lab: see {}\n{}", stage.rig.keep().display(), stage.rig.logs());
            other
        }
    }
}

/// The publishers enter.
fn enter(rig: Rig, scenario: Scenario, feeds: &[&'static str]) -> Result<Stage> {
    let capture = Capture::start()?;
    let ffmpeg = rig.publish(feed::HD)?;
    let (port, _) = wait_for("connection of ffmpeg", Duration::from_secs(10), || capture.newest())?;
    let mut steady = Vec::new();
    for (number, name) in feeds.iter().enumerate() {
        let (_, key) = &rig.streams[number + 1];
        steady.push(match scenario {
            Scenario::Clients => kinds::start(kinds::ALL[number], name, key)?,
            Scenario::Wrap => wrap::start(&capture, name, key)?,
            _ => crate::steady::Steady::start(name, Rig::address()?, key)?,
        });
    }
    Ok(Stage { rig, capture, steady, ffmpeg: (ffmpeg, port) })
}

fn audience(stage: &Stage, feeds: &[&'static str]) -> Result<Audience> {
    let mut seats = Vec::new();
    for (number, (name, _)) in stage.rig.streams.iter().enumerate() {
        let feed = if number == 0 { feed::HD } else { feeds[number - 1] };
        for (relay, url) in stage.rig.urls(name)?.into_iter().enumerate() {
            if relay == 2 || number == 0 {
                seats.push(Seat { feed, url, may_miss: relay != 2 });
            }
        }
    }
    Audience::start(seats)
}

fn watch(
    stage: &mut Stage,
    audience: Audience,
    play: Play,
    proof: Option<&Proof>,
    echo: Option<&Echo>,
) -> Result<Outcome> {
    let Play { scenario, count, .. } = play;
    let moment = |stage: &Stage| Moment::now(stage.capture.sums(), audience.broken());
    let before = stage.capture.sums();
    std::thread::sleep(BEFORE);
    let (mut runs, mut moments, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..count {
        moments.push(moment(stage));
        match one(stage, scenario, number) {
            Ok(run) => runs.push(run),
            // What it leaves behind is of no use to another run.
            Err(error) => {
                let words = format!("{scenario:?} {number}: {error:#}");
                eprintln!("takeover-lab: {words}\n{}", stage.capture.tail(60));
                runs.push(json!({"error": words}));
                problems.push(words);
                break;
            }
        }
        let more = Instant::now().elapsed().as_nanos() + u128::from(stage.capture.sums().retransmissions);
        std::thread::sleep(BETWEEN + Duration::from_millis((more % BETWEEN_MORE_MS) as u64));
    }
    if scenario.is_control() {
        // The streams are over: there is nothing left to judge.
        moments.push(moment(stage));
        let epochs = (0..2).filter_map(|place| stage.rig.status(place).ok()?["epoch"].as_u64());
        let epoch = epochs.max();
        runs.iter_mut().for_each(|run| run["epoch"] = json!(epoch));
        tally::fill(&mut runs, &moments, &Verdict::default());
        let ok = problems.is_empty() && runs.iter().all(|run| run["ok"] == true);
        return Ok(Outcome { runs, whole: json!({"problems": problems}), ok });
    }
    std::thread::sleep(AFTER);
    problems.extend(stage.ffmpeg.0.check_alive().err().map(|error| error.to_string()));
    for steady in &mut stage.steady {
        problems.extend(steady.check_alive().err().map(|error| format!("{error:#}")));
    }
    // No connection began or ended from the first to the last moment, and nobody ever said that one was over.
    let last = moment(stage);
    let sums = last.wire - before;
    for (what, got) in [("SYN", sums.syn), ("RST", sums.rst), ("FIN", sums.fin)] {
        if got != 0 {
            problems.push(format!("{got} {what} at the publishers"));
        }
    }
    moments.push(last);
    let mut whole = sums.json();
    whole["publishers"] = json!(stage.steady.len() + 1);
    if let Some(proof) = proof {
        whole["proof"] = prove(stage, proof, &mut problems)?;
    }
    if let Some(echo) = echo {
        whole["strange_beats"] = json!(echo.sent());
        ensure!(echo.sent() > 1_000, "only {} strange beats were sent", echo.sent());
    }
    if scenario == Scenario::Wrap {
        let behind =
            |wanted: i64| runs.iter().any(|run| run["behind_wrap"].as_i64().map(i64::signum) == Some(wanted));
        ensure!(behind(-1) && behind(1), "the numbers did not wrap amid the events: {runs:?}");
    }
    // A relay that reads one node only sees that node's absence; the third reads both, as relays do.
    let strict = matches!(scenario, Scenario::Planned | Scenario::Loss | Scenario::CommitProof);
    let verdict = audience.judge(strict).unwrap_or_else(|error| Verdict {
        problems: vec![format!("viewers: {error:#}")],
        ..Verdict::default()
    });
    tally::fill(&mut runs, &moments, &verdict);
    problems.extend(verdict.problems);
    whole["bytes_lost"] = json!(verdict.lost.iter().map(|(_, bytes)| bytes).sum::<usize>());
    whole["units_compared"] = json!(verdict.compared);
    whole["problems"] = json!(problems);
    let ok = problems.is_empty() && runs.len() == count && runs.iter().all(|run| run["ok"] == true);
    Ok(Outcome { runs, whole, ok })
}

/// Something breaks; says what it took, in which epoch it ended, and whether the nodes made the same bytes.
fn one(stage: &mut Stage, scenario: Scenario, number: usize) -> Result<Value> {
    let mut run = match scenario {
        Scenario::Planned | Scenario::CommitProof => events::hand_over(stage)?,
        Scenario::Kill => events::kill(stage)?,
        Scenario::Power | Scenario::LagOn => events::power(stage)?,
        Scenario::PauseShort => events::pause(stage, Duration::from_millis(300))?,
        Scenario::PauseLong => events::pause(stage, Duration::from_secs(30))?,
        Scenario::ReplicationCut => events::cut(stage)?,
        Scenario::OneWay => events::one_way(stage, number)?,
        Scenario::Hogs => events::hogs(stage)?,
        Scenario::Standby => events::lose_standby(stage, 1)?,
        Scenario::Flap => events::lose_standby(stage, 3)?,
        Scenario::Clients if number.is_multiple_of(2) => events::hand_over(stage)?,
        Scenario::Clients => events::kill(stage)?,
        Scenario::Beats => among_strangers(stage, number)?,
        Scenario::Wrap => wrap::one(stage, number)?,
        Scenario::Loss => {
            let percent = [1, 3, 5][number % 3];
            stage.rig.net.lose(percent)?;
            let mut run = events::hand_over(stage)?;
            run["lost_percent"] = json!(percent);
            run
        }
        Scenario::Early => bail!("it has a rig of its own"),
        Scenario::LagOff => return past_the_hold(stage),
        Scenario::Control => return events::unprotected(stage),
    };
    let holder = stage.rig.await_pair()?;
    let status = stage.rig.status(holder)?;
    run["epoch"] = status["epoch"].clone();
    let differing =
        [&status, &stage.rig.status(1 - holder)?].iter().filter(|one| !one["diverged"].is_null()).count();
    run["hash_mismatches"] = json!(differing);
    Ok(run)
}

/// A second of nothing but strange beats, in which nothing may change; then a handover or a kill among them.
fn among_strangers(stage: &mut Stage, number: usize) -> Result<Value> {
    let from = stage.rig.await_pair()?;
    let look = |stage: &Stage| -> Result<(Value, Value, u64)> {
        let status = stage.rig.status(from)?;
        let refused = stage.rig.metric(from, "releve_ingest_pair_refused_datagrams")?;
        Ok((status["epoch"].clone(), status["takeover_count"].clone(), refused))
    };
    let before = look(stage)?;
    std::thread::sleep(Duration::from_secs(1));
    let after = look(stage)?;
    ensure!((&before.0, &before.1) == (&after.0, &after.1), "strangers changed {before:?} to {after:?}");
    ensure!(after.2 > before.2, "no strange beat has arrived");
    let mut run = if number.is_multiple_of(2) { events::hand_over(stage)? } else { events::kill(stage)? };
    run["refused_in_a_second"] = json!(after.2 - before.2);
    Ok(run)
}

/// What was heard; and, as a control, the same ears with packets that pass the hold by: they must hear it.
fn prove(stage: &mut Stage, proof: &Proof, problems: &mut Vec<String>) -> Result<Value> {
    let heard = proof.heard()?;
    let early = heard.broken.len();
    problems.extend(heard.broken.iter().take(5).map(|words| format!("commit: {words}")));
    let holder = stage.rig.await_pair()?;
    stage.rig.net.past_the_hold(HOSTS[holder])?;
    std::thread::sleep(Duration::from_secs(2));
    let control = proof.heard()?.broken.len() - early;
    if control == 0 {
        problems.push("commit: past the hold nothing was heard either: this proves nothing".to_owned());
    }
    Ok(json!({
        "packets_checked": heard.checked, "confirmations": heard.confirmations,
        "left_too_early": early, "control_left_too_early": control,
    }))
}

/// Acknowledged before the standby has it, and then the power goes: the connections cannot go on.
fn past_the_hold(stage: &mut Stage) -> Result<Value> {
    for host in HOSTS {
        stage.rig.net.past_the_hold(host)?;
    }
    std::thread::sleep(Duration::from_secs(1));
    let at = Instant::now();
    match events::power(stage) {
        Err(why) => {
            // The last wait was for a byte that never came.
            let stalled: Vec<u16> =
                stage.ports().filter(|port| stage.capture.change(at, *port).is_err()).collect();
            let lost: usize = stalled.iter().map(|port| stage.capture.forgotten(*port)).sum();
            Ok(json!({
                "ok": lost > 0, "bytes_lost": lost, "stalled": stalled.len(),
                "blackout_ms": at.elapsed().as_secs_f64() * 1e3, "why": format!("{why:#}").lines().next(),
            }))
        }
        Ok(run) => bail!("nothing was lost past the hold, with {LAG:?} between the nodes: {run}"),
    }
}
