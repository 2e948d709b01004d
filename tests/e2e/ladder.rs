//! A marked stream in two encodings: whose copy a leak is, of the smaller one, and of one whose player changed over between them.

use crate::trace::{leaked, names};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;
use tests::steady::{self, Steady};
use tests::{Cluster, Mark, Viewer, feed, tracks};

/// What both record.
const WATCHED: Duration = Duration::from_secs(34);

#[test]
fn a_leak_of_any_encoding_is_traced_to_its_viewer() -> Result<()> {
    let cluster = Cluster::start(2)?;
    let x264 = ["-profile:v", "high", "-bf", "2", "-b:v", "400k", "-g", "30", "-keyint_min", "30"];
    let feed = tracks::plain(feed::WANDER)?;
    let feed = tracks::with_smaller_picture(feed, feed::WANDER, "320:180", &x264, cluster.dir())?;
    let key = cluster.add_stream("ladder", Mark::Require)?;
    let to = cluster.ingest.port("rtmp")?;
    let mut socket = steady::connect(to, 0)?;
    steady::begin(&mut socket, to, &key, &feed)?;
    let mut publisher = Steady::begun(socket, &feed)?;
    let mut viewers = Vec::new();
    for (relay, name) in ["alice", "bob"].iter().enumerate() {
        let url = cluster.mint("ladder", name, 600)?.remove(relay);
        viewers.push(Viewer::enter_when_live(&url, Duration::from_secs(20))?);
    }
    std::thread::scope(|scope| {
        let all: Vec<_> = viewers.iter_mut().map(|viewer| scope.spawn(|| viewer.follow(WATCHED))).collect();
        all.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a viewer panicked"))?)
    })?;
    publisher.check_alive()?;
    for viewer in &mut viewers {
        viewer.verdict()?;
        let uris: Vec<_> = viewer.index.others.iter().map(|(_, uri)| uri.as_str()).collect();
        ensure!(uris == ["video2.m3u8"], "{uris:?}");
    }
    let said = cluster.ingest.metrics()?;
    ensure!(!said.contains("archive_dropped_total{"), "the archive lacks segments:\n{said}");

    // Bob's player had the smaller one all the time; Alice's began with it and changed over after ten seconds or so.
    let film = viewers[1].recording(2)?.save(cluster.dir(), "bob.mp4")?;
    let smaller = leaked(&film, "8", cluster.dir(), "smaller.mp4")?;
    let mut parts = Vec::new();
    for (track, from_s, name) in [(2, "6", "before"), (0, "16", "after")] {
        let film = viewers[0].recording(track)?.save(cluster.dir(), &format!("alice-{name}.mp4"))?;
        let part = cluster.dir().join(format!("{name}.mp4"));
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(&film).args(["-ss", from_s, "-t", "10"]);
        ffmpeg.args(["-vf", "scale=640:360", "-c:v", "libx264", "-preset", "veryfast", "-crf", "18"]);
        ensure!(ffmpeg.arg(&part).status()?.success(), "ffmpeg cuts no {name}");
        parts.push(part);
    }
    let list = cluster.dir().join("parts.txt");
    let lines: String = parts.iter().map(|part| format!("file '{}'\n", part.display())).collect();
    std::fs::write(&list, lines)?;
    let both = cluster.dir().join("both.mp4");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-f", "concat", "-safe", "0", "-i"]).arg(&list);
    ensure!(ffmpeg.args(["-c", "copy"]).arg(&both).status()?.success(), "ffmpeg joins nothing");
    let changed = leaked(&both, "0", cluster.dir(), "changed.mp4")?;

    let (code, found) = cluster.identify_each(&[&smaller, &changed], &[])?;
    for (found, name) in found.iter().zip(["bob", "alice"]) {
        ensure!(code == 0 && names(found) == [name], "exit {code}, not {name}: {found}");
        ensure!(
            found["viewers"][0]["log10_fp"].as_f64().is_some_and(|fp| fp <= -6.0),
            "{}",
            found["viewers"]
        );
        let evidence = found["evidence"].as_array().context("evidence")?;
        let positions: BTreeSet<_> =
            evidence.iter().map(|read| (read["gop"].to_string(), read["slice"].to_string())).collect();
        ensure!(positions.len() == evidence.len(), "a symbol counts twice: {found}");
        ensure!(evidence.len() > 100, "{} symbols", evidence.len());
    }
    drop(publisher);
    Ok(())
}
