//! A leak, from the broadcaster to the viewer's end: three watch, two recordings are leaked, one of them off the MPEG-TS
//! rendition, and whose they are is named; one of them is ended.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::{Child, Cluster, Mark, Publisher, Viewer, feed};

/// What both record.
const WATCHED: Duration = Duration::from_secs(34);
/// The longest a revoked viewer may still get bytes.
const REVOKED: Duration = Duration::from_secs(5);
/// What is kept of the MPEG-TS rendition.
const RECORDED_TS_S: &str = "24";
/// What a pirate sends on.
const LEAKED_S: &str = "20";

/// A re-encode of a part of a film, as pirates do it: 360p at 300 kb/s.
pub(crate) fn leaked(film: &Path, from_s: &str, folder: &Path, name: &str) -> Result<PathBuf> {
    let out = folder.join(name);
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(film).args(["-ss", from_s, "-t", LEAKED_S]);
    ffmpeg.args(["-an", "-vf", "scale=640:360", "-c:v", "libx264", "-preset", "veryfast", "-b:v", "300k"]);
    let ended = ffmpeg.args(["-maxrate", "450k", "-bufsize", "600k"]).arg(&out).status()?;
    ensure!(ended.success(), "ffmpeg ended with {ended}");
    Ok(out)
}

/// A real player that keeps what it gets as MPEG-TS, bit for bit.
fn recorder(url: &str, folder: &Path) -> Result<(Child, PathBuf)> {
    let out = folder.join("carol.ts");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-i", &url.replace("/index.m3u8?", "/ts.m3u8?")]);
    ffmpeg.args(["-map", "0:v", "-c", "copy", "-t", RECORDED_TS_S, "-f", "mpegts"]).arg(&out);
    Ok((Child::start("ffmpeg", &mut ffmpeg, &folder.join("carol.log"))?, out))
}

pub(crate) fn names(found: &Value) -> Vec<&str> {
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
    let url = cluster.mint("demo", "carol", 600)?.remove(0);
    let (mut recorder, muxed) = recorder(&url, cluster.dir())?;
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

    // The other container holds the same pictures, and another viewer's symbols.
    let ended = recorder.wait(Duration::from_secs(20))?;
    ensure!(ended.success(), "ffmpeg ended with {ended}:\n{}", recorder.log());
    let muxed = leaked(&muxed, "2", cluster.dir(), "muxed.mp4")?;
    // Nobody is named for a copy that no viewer had: of several clips the highest exit code counts.
    let unmarked = leaked(&feed::path(feed::WANDER)?, "8", cluster.dir(), "unmarked.mp4")?;
    let (code, found) = cluster.identify_each(&[&muxed, &unmarked], &[])?;
    ensure!(names(&found[0]) == ["carol"], "off MPEG-TS: {}", found[0]);
    ensure!(
        [3, 4].contains(&code) && names(&found[1]).is_empty(),
        "an unmarked copy, exit {code}: {}",
        found[1]
    );

    let keys = cluster.dir().join("opened.keys");
    std::fs::write(&keys, cluster.ctl(&["key", "open", "1"])?)?;
    ensure!(cluster.verify_report(&report, &keys)? == 0, "the report does not hold");
    let forged = cluster.dir().join("forged.html");
    std::fs::write(&forged, std::fs::read_to_string(&report)?.replace("\"soft\":0.", "\"soft\":-0."))?;
    ensure!(cluster.verify_report(&forged, &keys)? == 1, "an altered report holds");

    // Nor is anybody for one whose viewer is not in the register.
    let others = cluster.dir().join("others.txt");
    std::fs::write(&others, (0..2_000).map(|n| format!("viewer-{n}\n")).collect::<String>() + "alice\n")?;
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
