//! A leak, from the broadcaster to the viewer's end: two watch, one's recording is leaked, that one is named and ended.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::{Cluster, Mark, Publisher, Viewer, feed};

/// What both record.
const WATCHED: Duration = Duration::from_secs(34);
/// The longest a revoked viewer may still get bytes.
const REVOKED: Duration = Duration::from_secs(5);
/// What a pirate sends on.
const LEAKED_S: &str = "20";

/// A re-encode of a part of a film, as pirates do it: 360p at 300 kb/s.
fn leaked(film: &Path, from_s: &str, folder: &Path, name: &str) -> Result<PathBuf> {
    let out = folder.join(name);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(film).args(["-ss", from_s, "-t", LEAKED_S]);
    ffmpeg.args(["-an", "-vf", "scale=640:360", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "300k"]);
    let ended = ffmpeg.args(["-maxrate", "450k", "-bufsize", "600k"]).arg(&out).status()?;
    ensure!(ended.success(), "ffmpeg ended with {ended}");
    Ok(out)
}

fn names(found: &Value) -> Vec<&str> {
    found["viewers"].as_array().into_iter().flatten().filter_map(|named| named["viewer"].as_str()).collect()
}

#[test]
fn a_leak_is_traced_to_its_viewer_who_is_then_ended() -> Result<()> {
    let cluster = Cluster::start(2)?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let _publisher = Publisher::looped(feed::WANDER, &cluster.publish_url(&key)?, cluster.dir())?;
    let mut viewers = Vec::new();
    for (relay, name) in ["alice", "bob"].iter().enumerate() {
        let url = cluster.mint("demo", name, 600)?.remove(relay);
        viewers.push(Viewer::enter_when_live(&url, Duration::from_secs(20))?);
    }
    std::thread::scope(|scope| {
        let all: Vec<_> = viewers.iter_mut().map(|viewer| scope.spawn(|| viewer.follow(WATCHED))).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a viewer panicked"))?)
    })?;
    let film = viewers[1].recording(0)?.save(cluster.dir(), "bob.mp4")?;
    let dropped = cluster.ingest.metrics()?;
    ensure!(!dropped.contains("archive_dropped_total{"), "the archive lacks segments:\n{dropped}");

    let clip = leaked(&film, "8", cluster.dir(), "leak.mp4")?;
    let report = cluster.dir().join("report.html");
    let report_text = report.to_str().context("a path is text")?;
    let (code, found) = cluster.identify(&clip, &["--report", report_text])?;
    ensure!(code == 0 && found["verdict"] == "identified", "exit {code}: {found}");
    ensure!(names(&found) == ["bob"], "{:?} are named", names(&found));
    ensure!(found["viewers"][0]["log10_fp"].as_f64().is_some_and(|fp| fp <= -6.0), "{}", found["viewers"]);

    let keys = cluster.dir().join("opened.keys");
    std::fs::write(&keys, cluster.ctl(&["key", "open", "1"])?)?;
    ensure!(cluster.verify_report(&report, &keys)? == 0, "the report does not hold");
    let forged = cluster.dir().join("forged.html");
    std::fs::write(&forged, std::fs::read_to_string(&report)?.replace("\"soft\":0.", "\"soft\":-0."))?;
    ensure!(cluster.verify_report(&forged, &keys)? == 1, "an altered report holds");

    // Nobody is named for a copy that no viewer had, or whose viewer is not in the register.
    let unmarked = leaked(&feed::path(feed::WANDER)?, "8", cluster.dir(), "unmarked.mp4")?;
    let others = cluster.dir().join("others.txt");
    std::fs::write(&others, (0..2_000).map(|n| format!("viewer-{n}\n")).collect::<String>() + "alice\n")?;
    let (code, found) = cluster.identify(&unmarked, &[])?;
    ensure!([3, 4].contains(&code) && names(&found).is_empty(), "an unmarked copy, exit {code}: {found}");
    let (code, found) =
        cluster.identify(&clip, &["--register", others.to_str().context("a path is text")?])?;
    ensure!(code == 3 && names(&found).is_empty(), "a viewer who is not registered, exit {code}: {found}");

    cluster.revoke("bob")?;
    let revoked = Instant::now();
    while viewers[1].poll().is_ok() {
        ensure!(revoked.elapsed() < REVOKED, "bob still watches {REVOKED:?} after the revocation");
        std::thread::sleep(Duration::from_millis(100));
    }
    viewers[0].poll().context("alice still watches")
}
