//! A feed that is pushed twice: its primary to the one node's own address, its backup to the other's.
//!
//! In: a rig, and what goes wrong how often. Out: an `Outcome`. What is pushed through a node that dies ends with it, and
//! ffmpeg begins it anew once the node is back; the other push must keep its connection, and viewers may notice nothing.

use super::audience::{Audience, Seat, Verdict};
use super::capture::{Capture, Sums};
use super::net::VIP;
use super::rig::{HOSTS, Rig, Wish};
use super::scenario::{Outcome, Play, Scenario};
use super::tally::{self, Moment};
use crate::child::Child;
use crate::{feed, wait_for};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::process::Command;
use std::time::{Duration, Instant};

/// Both pushes are there again within this: ffmpeg tries once a second.
const BOTH: Duration = Duration::from_secs(30);
/// The other node holds by then.
const HELD: Duration = Duration::from_secs(10);
/// Before the first event, so that viewers have something to compare with; and behind each, so that its segments are listed.
const PAUSE: Duration = Duration::from_secs(4);

/// Each node's own address, by place.
const OWN: [&str; 2] = ["10.77.0.1", "10.77.0.2"];

struct Stage {
    rig: Rig,
    /// The pushes' wires, by place.
    wires: [Capture; 2],
    ffmpeg: Child,
    /// What pushes that had to live went through.
    kept: Sums,
}

/// Plays it.
///
/// # Errors
/// When the lab itself does not work, or this scenario has no such form.
pub fn play(prefix: &str, play: Play) -> Result<Outcome> {
    let Play { scenario, protect, count, .. } = play;
    let mut rig =
        Rig::prepare(prefix, &Wish { protect, streams: 1, lag: None, marked: false, normalise: false })?;
    rig.pair_up()?;
    let wires = [Capture::of(OWN[0])?, Capture::of(OWN[1])?];
    let ffmpeg = publish(&rig)?;
    let mut stage = Stage { rig, wires, ffmpeg, kept: Sums::default() };
    let outcome = watch(&mut stage, scenario, count);
    if !outcome.as_ref().is_ok_and(|outcome| outcome.ok) {
        eprintln!("takeover-lab: see {}\n{}", stage.rig.keep().display(), stage.rig.logs());
    }
    outcome
}

/// One ffmpeg that says everything twice, as encoders with a backup do.
fn publish(rig: &Rig) -> Result<Child> {
    let (_, key) = rig.streams.first().context("a stream")?;
    let again = "attempt_recovery=1:recover_any_error=1:recovery_wait_time=1:restart_with_keyframe=1";
    let one = |to: &str, query: &str| {
        let fifo =
            format!("f=fifo:fifo_format=flv:queue_size=600:drop_pkts_on_overflow=1:{again}:onfail=ignore");
        format!("[{fifo}]rtmp://{to}/live/{key}{query}")
    };
    let both = format!("{}|{}", one(OWN[0], ""), one(OWN[1], "?backup=1"));
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-hide_banner", "-v", "warning", "-re", "-stream_loop", "-1", "-i"]);
    ffmpeg.arg(feed::path(feed::HD)?).args(["-map", "0", "-c", "copy", "-f", "tee", &both]);
    Child::start("ffmpeg", &mut ffmpeg, &rig.dir().join("ffmpeg.log"))
}

fn watch(stage: &mut Stage, scenario: Scenario, count: usize) -> Result<Outcome> {
    both_push(stage)?;
    let seats = stage.rig.urls(&stage.rig.streams[0].0)?.into_iter().enumerate();
    let seats = seats.map(|(relay, url)| Seat { feed: feed::HD, url, may_miss: relay != 2 });
    let audience = Audience::start(seats.collect())?;
    std::thread::sleep(PAUSE);
    let (mut runs, mut moments, mut problems) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..count {
        moments.push(Moment::now(stage.kept, audience.broken()));
        match one(stage, scenario) {
            Ok(run) => runs.push(run),
            Err(error) => {
                let words = format!("{scenario:?} {number}: {error:#}");
                eprintln!("takeover-lab: {words}");
                runs.push(json!({"error": words}));
                problems.push(words);
                break;
            }
        }
    }
    std::thread::sleep(PAUSE);
    problems.extend(stage.ffmpeg.check_alive().err().map(|error| error.to_string()));
    moments.push(Moment::now(stage.kept, audience.broken()));
    let verdict = audience.judge(scenario == Scenario::Planned).unwrap_or_else(|error| Verdict {
        problems: vec![format!("viewers: {error:#}")],
        ..Verdict::default()
    });
    tally::fill(&mut runs, &moments, &verdict);
    problems.extend(verdict.problems);
    let mut whole = stage.kept.json();
    whole["publishers"] = json!(2);
    whole["bytes_lost"] = json!(verdict.lost.iter().map(|(_, bytes)| bytes).sum::<usize>());
    whole["units_compared"] = json!(verdict.compared);
    whole["problems"] = json!(problems);
    let ok = problems.is_empty() && runs.len() == count && runs.iter().all(|run| run["ok"] == true);
    Ok(Outcome { runs, whole, ok })
}

/// Waits until the holder takes both pushes.
fn both_push(stage: &mut Stage) -> Result<usize> {
    let holder = stage.rig.await_pair()?;
    let rig = &stage.rig;
    wait_for("both pushes", BOTH, || {
        let publishers = rig.metric(holder, "releve_ingest_publishers")?;
        ensure!(publishers == 2, "{publishers} publishers at {}", HOSTS[holder]);
        Ok(holder)
    })
}

/// Something goes wrong; what was pushed through the node that lives must not notice.
fn one(stage: &mut Stage, scenario: Scenario) -> Result<Value> {
    let from = both_push(stage)?;
    let before = [stage.wires[0].sums(), stage.wires[1].sums()];
    let rig = &mut stage.rig;
    let (mut run, lives) = match scenario {
        Scenario::Planned => (hand_over(rig, from)?, vec![0, 1]),
        Scenario::Kill => {
            rig.kill(from)?;
            (survive(rig, from)?, vec![1 - from])
        }
        Scenario::Power => {
            let mut wires = rig.net.wires(HOSTS[from])?;
            // It has started, and waits.
            std::thread::sleep(Duration::from_millis(50));
            wires.cut()?;
            rig.signal(from, Signal::KILL)?;
            (survive(rig, from)?, vec![1 - from])
        }
        Scenario::Standby => {
            let at = Instant::now();
            rig.kill(1 - from)?;
            rig.await_state(from, &["solo"], HELD)?;
            let solo_ms = at.elapsed().as_secs_f64() * 1e3;
            rig.restart(1 - from)?;
            (json!({"blackout_ms": null, "solo_seen_after_ms": solo_ms}), vec![from])
        }
        _ => bail!("{scenario:?} is not played with two pushes"),
    };
    let holder = both_push(stage)?;
    std::thread::sleep(PAUSE);
    for place in lives {
        stage.kept = stage.kept + (stage.wires[place].sums() - before[place]);
    }
    let statuses = [stage.rig.status(holder)?, stage.rig.status(1 - holder)?];
    run["epoch"] = statuses[0]["epoch"].clone();
    run["hash_mismatches"] = json!(statuses.iter().filter(|one| !one["diverged"].is_null()).count());
    Ok(run)
}

fn hand_over(rig: &mut Rig, from: usize) -> Result<Value> {
    let said = rig.ctl(HOSTS[from], &["failover", "--json", "--admin", &Rig::admin(from)])?;
    let said: Value = serde_json::from_str(said.trim())?;
    ensure!(!rig.net.has_vip(HOSTS[from])?, "{VIP} is still on {}", HOSTS[from]);
    let moved: Vec<&Value> = said["took"]["connections"].as_array().into_iter().flatten().collect();
    let alive = moved.iter().filter(|one| one["alive"] == true).count();
    ensure!((moved.len(), alive) == (2, 2), "{alive} of {} connections live: {said}", moved.len());
    let longest = moved.iter().filter_map(|one| one["blackout_ms"].as_f64()).fold(0.0, f64::max);
    Ok(json!({"blackout_ms": longest}))
}

/// The other node holds; then the lost one comes back. The time is the survivor's own: until packets may leave again.
fn survive(rig: &mut Rig, from: usize) -> Result<Value> {
    rig.await_state(1 - from, &["solo", "paired"], HELD)?;
    let status = rig.status(1 - from)?;
    let last = status["takeovers"].as_array().and_then(|all| all.last()).cloned().unwrap_or_default();
    ensure!(last["planned"] == false, "no takeover after a loss: {last}");
    rig.restart(from)?;
    Ok(json!({"blackout_ms": last["steps_ms"]["open"], "connections": last["connections"]}))
}
