//! Scenarios: who publishes, what goes wrong how often, and whether anybody noticed.
//!
//! In: a scenario and a count. Out: an `Outcome`: an object for each time something was broken, then one for the whole. It is
//! good when every publisher kept its one connection, every access unit it sent is in the recording, and the playlists of all
//! relays went on by their rules with the same bytes. A control is good when somebody noticed.

use super::audience::{Audience, Seat};
use super::capture::Capture;
use super::echo::Echo;
use super::events::{self, Stage};
use super::proof::Proof;
use super::rig::{HOSTS, Rig, Wish};
use super::{kinds, wrap};
use crate::{feed, wait_for};
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the streams run before something breaks.
const BEFORE: Duration = Duration::from_secs(3);
/// How long they run on after the last time: as long as a segment takes to be listed everywhere, and more.
const AFTER: Duration = Duration::from_secs(9);
/// Between two events on one connection, at least; longer by something that nobody can foresee.
const BETWEEN: Duration = Duration::from_millis(120);
const BETWEEN_MORE_MS: u128 = 200;
/// Publishers at once.
const MANY: usize = 20;
/// The slow link's delay.
const LAG: Duration = Duration::from_millis(30);

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
    /// The standby is killed as soon as it is back, three times.
    Flap,
    /// Twenty publishers; handover and kill by turns.
    Publishers,
    /// Publishers without SACK, timestamps, window scaling, and without all three; handover and kill by turns.
    Clients,
    /// A publisher whose sequence numbers begin anew at 0 amid handovers; then a kill.
    Wrap,
    /// Handovers while 1, 3 and 5 % of the publishers' frames are lost both ways.
    Loss,
    /// `Power`, and what the nodes tell each other comes 30 ms later: what was acknowledged late must not be lost.
    Lag,
    /// The same past the packet hold: somebody must notice, or `Lag` shows nothing.
    LagControl,
    /// Every packet to publishers on the wire compared with every confirmation on the wire, through handovers.
    CommitProof,
    /// Handover and kill among replayed and forged heartbeats.
    Beats,
    /// As `Kill`, without the packet hold: the publisher must notice, or the other scenarios show nothing.
    Control,
}

impl Scenario {
    /// All of them, by the names of the command line.
    pub const ALL: [(&'static str, Scenario); 17] = [
        ("handover", Scenario::Handover),
        ("kill", Scenario::Kill),
        ("power", Scenario::Power),
        ("pause", Scenario::Pause),
        ("pause-long", Scenario::PauseLong),
        ("cut", Scenario::Cut),
        ("standby", Scenario::Standby),
        ("flap", Scenario::Flap),
        ("publishers", Scenario::Publishers),
        ("clients", Scenario::Clients),
        ("wrap", Scenario::Wrap),
        ("loss", Scenario::Loss),
        ("lag", Scenario::Lag),
        ("lag-control", Scenario::LagControl),
        ("commit-proof", Scenario::CommitProof),
        ("beats", Scenario::Beats),
        ("control", Scenario::Control),
    ];

    /// How often it is played when nobody says.
    pub fn usual(self) -> usize {
        match self {
            Scenario::Handover | Scenario::CommitProof => 20,
            Scenario::Publishers | Scenario::Clients | Scenario::Beats => 4,
            Scenario::Loss => 15,
            Scenario::Wrap => 12,
            Scenario::Cut | Scenario::Standby | Scenario::Flap => 1,
            Scenario::PauseLong | Scenario::LagControl | Scenario::Control => 1,
            _ => 5,
        }
    }

    /// The feeds of our own publishers, beside ffmpeg.
    fn steady(self) -> Vec<&'static str> {
        match self {
            Scenario::Publishers => vec![feed::SMALL; MANY - 1],
            Scenario::Clients => vec![feed::SMALL; kinds::ALL.len()],
            _ => vec![feed::FULL_HD],
        }
    }
}

/// What came of one scenario.
pub struct Outcome {
    /// One object for each time something was broken, then one for the whole.
    pub runs: Vec<Value>,
    /// Whether all of it went unnoticed; of a control, whether it was noticed.
    pub ok: bool,
}

/// Plays a scenario `count` times on a rig of its own.
///
/// # Errors
/// When the lab itself does not work; what the programs do wrong is in the outcome.
pub fn play(prefix: &str, scenario: Scenario, protect: &str, count: usize) -> Result<Outcome> {
    let protect = if scenario == Scenario::Control { "handover" } else { protect };
    let lag = matches!(scenario, Scenario::Lag | Scenario::LagControl).then_some(LAG);
    let streams = 1 + scenario.steady().len();
    let mut rig = Rig::prepare(prefix, &Wish { protect, streams, lag })?;
    let proof = (scenario == Scenario::CommitProof).then(|| Proof::start(&rig.net)).transpose()?;
    let echo = (scenario == Scenario::Beats).then(|| Echo::start(&rig.net)).transpose()?;
    rig.pair_up()?;
    let mut stage = enter(rig, scenario)?;
    match watch(&mut stage, scenario, count, proof.as_ref(), echo.as_ref()) {
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
fn enter(rig: Rig, scenario: Scenario) -> Result<Stage> {
    let capture = Capture::start()?;
    let ffmpeg = rig.publish(feed::HD)?;
    let (port, _) = wait_for("connection of ffmpeg", Duration::from_secs(10), || capture.newest())?;
    let mut steady = Vec::new();
    for (number, name) in scenario.steady().into_iter().enumerate() {
        let (_, key) = &rig.streams[number + 1];
        steady.push(match scenario {
            Scenario::Clients => kinds::start(kinds::ALL[number], name, key)?,
            Scenario::Wrap => wrap::start(&capture, name, key)?,
            _ => crate::steady::Steady::start(name, Rig::address()?, key)?,
        });
    }
    Ok(Stage { rig, capture, steady, ffmpeg: (ffmpeg, port) })
}

fn audience(stage: &Stage, scenario: Scenario) -> Result<Audience> {
    let mut seats = Vec::new();
    for (number, (name, _)) in stage.rig.streams.iter().enumerate() {
        let feed = if number == 0 { feed::HD } else { scenario.steady()[number - 1] };
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
    scenario: Scenario,
    count: usize,
    proof: Option<&Proof>,
    echo: Option<&Echo>,
) -> Result<Outcome> {
    let audience = audience(stage, scenario)?;
    let before = stage.capture.sums();
    std::thread::sleep(BEFORE);
    let mut runs = Vec::new();
    for number in 0..count {
        let sums = stage.capture.sums();
        let run = one(stage, scenario, number);
        let mut run = run.with_context(|| format!("{scenario:?} {number}\n{}", stage.capture.tail(60)))?;
        if run.get("noticed").is_some() {
            let noticed = run["noticed"] == true;
            return Ok(Outcome { runs: vec![run], ok: noticed });
        }
        let more = Instant::now().elapsed().as_nanos() + u128::from(stage.capture.sums().retransmissions);
        std::thread::sleep(BETWEEN + Duration::from_millis((more % BETWEEN_MORE_MS) as u64));
        run["retransmissions"] = json!((stage.capture.sums() - sums).retransmissions);
        runs.push(run);
    }
    std::thread::sleep(AFTER);
    let mut problems = Vec::new();
    problems.extend(stage.ffmpeg.0.check_alive().err().map(|error| error.to_string()));
    for steady in &mut stage.steady {
        problems.extend(steady.check_alive().err().map(|error| format!("{error:#}")));
    }
    // No connection began or ended from the first to the last moment, and nobody ever said that one was over.
    let sums = stage.capture.sums() - before;
    for (what, got) in [("SYN", sums.syn), ("RST", sums.rst), ("FIN", sums.fin)] {
        if got != 0 {
            problems.push(format!("{got} {what} at the publishers"));
        }
    }
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
    let strict = matches!(scenario, Scenario::Handover | Scenario::Loss | Scenario::CommitProof);
    let verdict = audience.judge(strict)?;
    problems.extend(verdict.problems);
    whole["bytes_lost"] = json!(verdict.lost);
    whole["units_compared"] = json!(verdict.compared);
    whole["problems"] = json!(problems);
    runs.push(whole);
    Ok(Outcome { runs, ok: problems.is_empty() && verdict.lost == 0 })
}

/// Something breaks.
fn one(stage: &mut Stage, scenario: Scenario, number: usize) -> Result<Value> {
    match scenario {
        Scenario::Handover | Scenario::CommitProof => events::hand_over(stage),
        Scenario::Kill => events::kill(stage),
        Scenario::Power | Scenario::Lag => events::power(stage),
        Scenario::Pause => events::pause(stage, Duration::from_millis(300)),
        Scenario::PauseLong => events::pause(stage, Duration::from_secs(30)),
        Scenario::Cut => events::cut(stage),
        Scenario::Standby => events::lose_standby(stage, 1),
        Scenario::Flap => events::lose_standby(stage, 3),
        Scenario::Publishers | Scenario::Clients if number.is_multiple_of(2) => events::hand_over(stage),
        Scenario::Publishers | Scenario::Clients => events::kill(stage),
        Scenario::Beats => among_strangers(stage, number),
        Scenario::Wrap => wrap::one(stage, number),
        Scenario::Loss => {
            let percent = [1, 3, 5][number % 3];
            stage.rig.net.lose(percent)?;
            let mut run = events::hand_over(stage)?;
            run["lost_percent"] = json!(percent);
            Ok(run)
        }
        Scenario::LagControl => past_the_hold(stage),
        Scenario::Control => events::unprotected(stage),
    }
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
    let sums = stage.capture.sums();
    let at = Instant::now();
    match events::power(stage) {
        Err(why) => {
            // The last wait was for a byte that never came.
            let stalled =
                stage.steady.iter().filter(|one| stage.capture.change(at, one.port).is_err()).count();
            let rst = (stage.capture.sums() - sums).rst;
            let noticed = stalled > 0 || rst > 0;
            Ok(
                json!({"noticed": noticed, "stalled": stalled, "rst": rst, "why": format!("{why:#}").lines().next()}),
            )
        }
        Ok(run) => bail!("nothing was lost past the hold, with {LAG:?} between the nodes: {run}"),
    }
}
