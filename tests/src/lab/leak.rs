//! A viewer's copy, recorded across takeovers, and whose it is by the archive of either node and of both.
//!
//! ```text
//! a alone ── b joins ── handover to b ── b is killed, a takes over ── b is back
//!  2 s in the copy: the leak begins                                             its end ── the same without takeovers
//! ```
//!
//! In: a rig of its own, how often. Out: a JSON line for each leak: how much of it was enough, by which archive. Good when the
//! viewer, and nobody else of a register of 1,000,000, is named each time: node a has all of the copy, node b came second, died
//! once and lacks what was published without it.

use super::capture::Capture;
use super::events::{self, Stage};
use super::rig::{HOSTS, Rig, Wish};
use super::tally::Moment;
use crate::cluster::program;
use crate::{Viewer, feed, wait_for};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Viewers in the register.
const REGISTER: u64 = 1_000_000;
/// How long one node is alone, how long they are a pair before the handover, and the next holder lives.
const ALONE: Duration = Duration::from_secs(5);
const BETWEEN: Duration = Duration::from_secs(3);
/// What is recorded when all is over: the part without takeovers.
const QUIET: Duration = Duration::from_secs(20);
/// Where the leak begins in the recording, and how long each part of it is, in seconds.
const FROM_S: f64 = 2.0;
const QUIET_S: f64 = 14.0;

/// What the nodes are asked for together with.
const ASKED: [(&str, &[usize]); 3] = [("a", &[0]), ("b", &[1]), ("both", &[1, 0])];

/// `leak [--anew] [--count N]`: exit as the other labs. `--anew`: the publisher's GOPs are of 8.3 s, and both nodes code it anew.
///
/// # Errors
/// When the lab itself does not work, or the words are not understood.
pub fn run(prefix: &str, words: &[String]) -> Result<bool> {
    let anew = words.first().is_some_and(|word| word == "--anew");
    let count: usize = match &words[usize::from(anew)..] {
        [] => 1,
        [word, count] if word == "--count" => count.parse().context("--count")?,
        _ => return Err(anyhow!("leak takes --anew and --count N only")),
    };
    let mut all = true;
    for _ in 0..count {
        let wish = Wish { protect: "commit", streams: 1, lag: None, marked: true, normalise: anew };
        let mut rig = Rig::prepare(prefix, &wish)?;
        rig.begin(0)?;
        let capture = Capture::start()?;
        let mut stage = enter(rig, capture, if anew { feed::WANDER_8S } else { feed::WANDER })?;
        let line =
            one(&mut stage).unwrap_or_else(|error| json!({"ok": false, "error": format!("{error:#}")}));
        println!("{line}");
        all &= line["ok"] == true;
        if line["ok"] == true && std::env::var_os("RELEVE_LAB_KEEP").is_some() {
            eprintln!("takeover-lab: see {}", stage.rig.keep().display());
        } else if line["ok"] != true {
            eprintln!("takeover-lab: see {}\n{}", stage.rig.keep().display(), stage.rig.logs());
        }
    }
    Ok(all)
}

/// The first node holds alone, and ffmpeg publishes to it.
fn enter(rig: Rig, capture: Capture, film: &str) -> Result<Stage> {
    rig.await_state(0, &["solo"], Duration::from_secs(20))?;
    let ffmpeg = rig.publish(film)?;
    let (port, _) = wait_for("connection of ffmpeg", Duration::from_secs(10), || capture.newest())?;
    Ok(Stage { rig, capture, steady: Vec::new(), ffmpeg: (ffmpeg, port) })
}

fn one(stage: &mut Stage) -> Result<Value> {
    let drawn = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() % u128::from(REGISTER);
    let name = format!("account-{drawn}");
    let url = stage.rig.urls_of("demo", &name)?.pop().context("the third relay")?;
    let viewer = Viewer::enter_when_live(&url, Duration::from_secs(30))?;
    let stop = Arc::new(AtomicBool::new(false));
    let watching = {
        let stop = stop.clone();
        std::thread::spawn(move || record(viewer, &stop))
    };
    let broken = breaks(stage);
    stop.store(true, Ordering::Relaxed);
    let viewer = watching.join().map_err(|_| anyhow!("the viewer's thread panicked"))?;
    let (run, again) = broken?;
    let mut viewer = viewer?;
    viewer.verdict()?;
    stage.ffmpeg.0.check_alive()?;
    let sums = stage.capture.sums();
    ensure!(sums.connections == 1 && sums.rst + sums.fin == 0, "the publisher noticed: {}", sums.json());
    // Before the feed comes round again: a place that the archive has twice, or only from the second time on, is no place.
    stage.ffmpeg.0.stop()?;

    let listed = viewer.tracks[0].listed().values().next().context("nothing was recorded")?;
    let into = |moment: Moment| (moment.day_ms as f64 - listed.date_ms_of_day as f64).rem_euclid(864e5) / 1e3;
    let quiet_s = into(again);
    let film = viewer.recording(0)?.save(stage.rig.dir(), "film.mp4")?;
    let register = stage.rig.dir().join("register.txt");
    fs::write(&register, (0..REGISTER).map(|number| format!("account-{number}\n")).collect::<String>())?;
    let mut line = json!({"viewer": name, "took_over": run, "quiet_from_s": quiet_s - FROM_S});
    let mut ok = true;
    for (part, from_s, length_s) in
        [("across", FROM_S, quiet_s + QUIET_S - FROM_S), ("quiet", quiet_s + 1.0, QUIET_S)]
    {
        let clip = leaked(&film, from_s, length_s, &stage.rig.dir().join(format!("{part}.mkv")))?;
        for (archive, nodes) in ASKED {
            let found = identify(&stage.rig, nodes, &clip, &register)?;
            let named: Vec<&str> = found["viewers"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one["viewer"].as_str())
                .collect();
            ok &= named == [name.as_str()];
            line[part][archive] = json!({
                "verdict": found["verdict"], "named": named, "seconds": found["seconds"], "symbols": found["symbols"],
                "begins_s": found["evidence"][0]["at_s"], "log10_fp": found["viewers"][0]["log10_fp"],
            });
        }
    }
    line["ok"] = json!(ok);
    Ok(line)
}

/// The second node joins, takes over by the operator's word, dies and comes back; gives what it took, and when all was over.
fn breaks(stage: &mut Stage) -> Result<(Value, Moment)> {
    sleep(ALONE);
    stage.rig.begin(1)?;
    ensure!(stage.rig.await_pair()? == 0, "the second node holds");
    sleep(BETWEEN);
    let handover = events::hand_over(stage)?;
    ensure!(stage.rig.await_pair()? == 1, "the handover went to nobody");
    sleep(BETWEEN);
    let kill = events::kill(stage)?;
    let over = Moment::now(stage.capture.sums(), 0);
    sleep(QUIET);
    Ok((json!({"handover_ms": handover["blackout_ms"], "kill_ms": kill["blackout_ms"]}), over))
}

fn record(mut viewer: Viewer, stop: &AtomicBool) -> Result<Viewer> {
    let begun = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        viewer.poll().with_context(|| format!("after {:?}", begun.elapsed()))?;
        sleep(Duration::from_millis(200));
    }
    Ok(viewer)
}

/// A re-encode of a part of a film, as pirates do it.
fn leaked(film: &Path, from_s: f64, length_s: f64, out: &Path) -> Result<PathBuf> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(film);
    ffmpeg.args(["-ss", &from_s.to_string(), "-t", &length_s.to_string(), "-an", "-vf", "scale=640:360"]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast", "-crf", "28"]);
    let ended = ffmpeg.arg(out).status()?;
    ensure!(ended.success(), "ffmpeg ended with {ended}");
    Ok(out.to_owned())
}

/// What the tracer says of a clip, given the archives of these nodes only.
fn identify(rig: &Rig, nodes: &[usize], clip: &Path, register: &Path) -> Result<Value> {
    let mut trace = Command::new(program("releve-trace")?);
    trace.arg("identify").arg("--dir").arg(rig.dir().join("r")).arg("--clip").arg(clip);
    trace.arg("--register").arg(register).args(["--growing", "--json"]);
    for &node in nodes {
        trace.arg("--archive").arg(rig.dir().join(HOSTS[node]).join("archive"));
    }
    let out = trace.output()?;
    ensure!(
        [Some(0), Some(3), Some(4)].contains(&out.status.code()),
        "{trace:?} ({}): {}",
        out.status,
        String::from_utf8_lossy(&out.stderr)
    );
    Ok(serde_json::from_slice(&out.stdout)?)
}
