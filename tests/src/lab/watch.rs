//! Real players watch while the pair hands over, is killed, loses its power.
//!
//! In: which players, which events. Out: a JSON line for each player and event. All watch the relay that reads both nodes, as
//! viewers do. An event is good for a player when its pictures went on without a standstill and without a word of
//! complaint, the playlist kept its rules (numbers one by one, no discontinuity, bytes that stay) and the relay refused nobody.

use super::players::{ALL, Player, missing};
use super::rig::{HOSTS, Rig, Wish};
use crate::viewer::Viewer;
use crate::{feed, http, wait_for};
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Players that watch at once: two cores decode for all of them, and a browser is alone.
const GROUPS: [&[&str]; 7] = [
    &["hls.js"],
    &["shaka"],
    &["video.js"],
    &["chromium"],
    &["ffmpeg", "streamlink"],
    &["mpv", "gstreamer"],
    &["vlc"],
];
/// Shown before anything breaks: a player has found its pace by then.
const SETTLED_S: f64 = 4.0;
/// How long an event is followed: more than the three segments of 2 s that players hold back, so that a hole would be seen.
const AFTER: Duration = Duration::from_secs(9);
const AFTER_SHORT: Duration = Duration::from_secs(7);
/// Players speak five times a second or more often; nothing new for longer than this is a stall.
const STALL: Duration = Duration::from_millis(750);
/// Of the time that went by, so much is shown at least.
const SHARE_MIN: f64 = 0.9;
/// Where viewers of the relay that reads both nodes are counted.
const RELAY_METRICS: &str = "http://10.77.0.11:9083/metrics";

/// What happens under the players' eyes.
const EVENTS: [&str; 3] = ["handover", "kill", "power"];

/// Runs `words`: players' names to choose some, `--count N` rounds of the events, `--short` for hls.js across a handover
/// and a kill.
///
/// # Errors
/// When the lab itself does not work. `false` when somebody noticed something.
pub fn run(prefix: &str, words: &[String]) -> Result<bool> {
    let (mut chosen, mut rounds, mut short) = (Vec::new(), 1, false);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => short = true,
            "--count" => rounds = words.next().context("--count needs a number")?.parse()?,
            name if ALL.contains(&name) => chosen.push(name.to_owned()),
            other => bail!("{other:?} is none of {ALL:?}"),
        }
    }
    if chosen.is_empty() {
        chosen = if short { &ALL[..1] } else { &ALL[..] }.iter().map(|name| (*name).to_owned()).collect();
    }
    let events = if short { &EVENTS[..2] } else { &EVENTS[..] };
    chosen.retain(|name| match missing(name) {
        Some(why) => {
            println!("{}", json!({"player": name, "skipped": why}));
            false
        }
        None => true,
    });
    if chosen.is_empty() {
        return Ok(true);
    }
    let mut stage = Stage::set(prefix)?;
    let shown = GROUPS.iter().try_fold(true, |all, group| -> Result<bool> {
        let group: Vec<&str> =
            group.iter().copied().filter(|name| chosen.iter().any(|one| one == name)).collect();
        if group.is_empty() {
            return Ok(all);
        }
        let after = if short { AFTER_SHORT } else { AFTER };
        Ok(all & stage.show(&group, events, rounds, after).with_context(|| format!("{group:?}"))?)
    });
    if !matches!(shown, Ok(true)) {
        eprintln!("takeover-lab: see {}\n{}", stage.rig.keep().display(), stage.rig.logs());
    }
    shown
}

/// A pair on the air, and our own viewer as judge of the playlist.
struct Stage {
    judge: Viewer,
    publisher: crate::Child,
    rig: Rig,
    url: String,
}

impl Stage {
    fn set(prefix: &str) -> Result<Stage> {
        let mut rig = Rig::prepare(
            prefix,
            &Wish { protect: "commit", streams: 1, lag: None, marked: false, normalise: false },
        )?;
        rig.pair_up()?;
        let publisher = rig.publish(feed::SMALL)?;
        let url = rig.urls("demo")?.pop().context("the third relay")?;
        let mut judge = Viewer::enter_when_live(&url, Duration::from_secs(20))?;
        judge.follow_until(3, Duration::from_secs(20))?; // players start three segments before the newest
        Ok(Stage { judge, publisher, rig, url })
    }

    /// Has a group of players watch all events.
    fn show(&mut self, group: &[&str], events: &[&str], rounds: usize, after: Duration) -> Result<bool> {
        let mut players = Vec::new();
        for name in group {
            players.push(Player::start(name, &self.url)?);
        }
        for player in &mut players {
            wait_for("steady play", Duration::from_secs(30), || {
                player.check_alive()?;
                self.judge.poll()?;
                ensure!(player.shown() >= SETTLED_S, "{} has shown {} s", player.name, player.shown());
                Ok(())
            })
            .with_context(|| format!("{:?}", player.complaints()))?;
        }
        let mut all = true;
        for event in events.iter().cycle().take(events.len() * rounds) {
            let (since, refused) = (Instant::now(), refusals()?);
            happen(&mut self.rig, event).with_context(|| (*event).to_owned())?;
            self.judge.follow(after)?;
            let mut problems = self.stream_problems();
            if refusals()? != refused {
                problems.push(format!("the relay refused: {refused:?} before, {:?} after", refusals()?));
            }
            for player in &mut players {
                let line = verdict(player, event, since, &problems);
                all &= line["ok"] == true;
                println!("{line}");
            }
        }
        Ok(all)
    }

    /// What is wrong with the playlist, or with the publisher's connection.
    fn stream_problems(&mut self) -> Vec<String> {
        let mut problems: Vec<String> =
            self.judge.verdict().err().into_iter().map(|error| format!("{error:#}")).collect();
        // ffmpeg's own words name the stream key.
        if !matches!(self.publisher.ended(), Ok(None)) {
            problems.push("the publisher's connection has ended".to_owned());
        }
        for track in &self.judge.tracks {
            let listed = track.listed();
            let numbers: Vec<u64> = listed.keys().copied().collect();
            if numbers.windows(2).any(|two| two[1] != two[0] + 1) {
                problems.push(format!("a hole in {numbers:?}"));
            }
            if listed.values().any(|segment| segment.discontinuity != 0) {
                problems.push("a discontinuity".to_owned());
            }
        }
        problems
    }
}

/// Hands over, or takes the holder away and brings it back as soon as the other one goes on.
fn happen(rig: &mut Rig, event: &str) -> Result<()> {
    let from = rig.await_pair()?;
    match event {
        "handover" => return rig.ctl(HOSTS[from], &["failover", "--admin", &Rig::admin(from)]).map(drop),
        "kill" => drop(rig.kill(from)?),
        _ => {
            let mut wires = rig.net.wires(HOSTS[from])?;
            wires.cut()?;
            rig.signal(from, Signal::KILL)?;
        }
    }
    rig.await_state(1 - from, &["solo"], Duration::from_secs(10))?;
    rig.restart(from)
}

fn verdict(player: &mut Player, event: &str, since: Instant, problems: &[String]) -> Value {
    let wall = since.elapsed();
    let watched = player.watched(since);
    let mut problems = problems.to_vec();
    problems.extend(player.check_alive().err().map(|error| error.to_string()));
    problems.extend(watched.complaints.iter().take(10).map(|words| format!("said: {words}")));
    let slow = watched.played.as_secs_f64() < wall.as_secs_f64() * SHARE_MIN - 0.4; // of the last word's age
    if watched.standstill > STALL || slow {
        problems.push("a stall".to_owned());
    }
    json!({
        "player": player.name, "event": event, "ok": problems.is_empty(),
        "standstill_ms": watched.standstill.as_millis() as u64,
        "played_s": (watched.played.as_secs_f64() * 100.0).round() / 100.0,
        "wall_s": (wall.as_secs_f64() * 100.0).round() / 100.0,
        "problems": problems,
    })
}

/// The relay's counts of answers that are errors, by the metric's own words.
fn refusals() -> Result<Vec<String>> {
    let text = http::get(RELAY_METRICS)?.ok()?.text()?.to_owned();
    let of_requests = text.lines().filter(|line| line.starts_with("releve_relay_requests_total{"));
    let bad = |line: &&str| line.contains("code=\"4") || line.contains("code=\"5");
    Ok(of_requests.filter(bad).map(str::to_owned).collect())
}
