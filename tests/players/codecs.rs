//! Codecs that not every browser has: what it decodes plays, what it does not is refused by what `CODECS` says.
//!
//! Debian's Chromium decodes AV1 and Opus by itself; HEVC only where the machine's graphics do, which a test machine's do not.

use crate::{browse, plays_in_size, script, watch_url};
use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::enhanced::{self, Video};
use tests::steady::{self, Steady};
use tests::{Cluster, Mark, Viewer};

const SIZE: [u32; 2] = [640, 360];
const SECONDS: u32 = 10;

/// A stream of these codecs on the air.
fn on_air(video: Option<Video>, opus: bool) -> Result<(Cluster, Steady)> {
    let cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let feed = enhanced::small(video, opus, cluster.dir())?;
    let to = cluster.ingest.port("rtmp")?;
    let mut socket = steady::connect(to, 0)?;
    steady::begin(&mut socket, to, &key, &feed)?;
    let publisher = Steady::begun(socket, &feed)?;
    let looker = cluster.mint("demo", "bob", 600)?.remove(0);
    let mut viewer =
        Viewer::enter_when_live(&looker, Duration::from_secs(20)).with_context(|| cluster.logs())?;
    viewer.follow_until(3, Duration::from_secs(20))?;
    Ok((cluster, publisher))
}

/// The watch page plays it, picture and sound.
fn plays(video: Option<Video>, opus: bool, codecs: &str) -> Result<()> {
    let (cluster, mut publisher) = on_air(video, opus)?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let Some(facts) = script("facts.mjs", &["codecs", "hls.js", &url, "1"])? else { return Ok(()) };
    let says = facts["codecs"].as_str().context("CODECS")?;
    ensure!(says.contains(codecs) && facts["decodes"] == true, "{facts}");
    plays_in_size(&url, &cluster.dir().join("codecs.png"), SECONDS, SIZE)?;
    publisher.check_alive()
}

#[test]
fn chromium_plays_opus_beside_h264() -> Result<()> {
    plays(None, true, "Opus")
}

#[test]
fn chromium_plays_av1_with_opus() -> Result<()> {
    plays(Some(Video::Av1), true, "av01.0.")
}

/// HEVC where the browser has it plays; where it does not, `CODECS` is enough for players to say no.
#[test]
fn hevc_plays_or_is_refused_in_words() -> Result<()> {
    let (cluster, mut publisher) = on_air(Some(Video::Hevc), false)?;
    // Shaka fetches a few segments before it looks what it can play: to see when they begin.
    for (player, words, fetches) in
        [("hls.js", "manifestIncompatibleCodecsError", false), ("shaka", "error 4032", true)]
    {
        let url = cluster.mint("demo", "alice", 600)?.remove(0);
        let Some(facts) = script("facts.mjs", &["codecs", player, &url, "6"])? else { return Ok(()) };
        ensure!(facts["codecs"].as_str().is_some_and(|codecs| codecs.starts_with("hvc1.1.6.L")), "{facts}");
        let said = facts["said"].to_string();
        if facts["decodes"] == true {
            ensure!(facts["at"].as_f64().is_some_and(|at| at > 1.0), "{player} does not play: {facts}");
        } else {
            eprintln!("this browser has no HEVC; {player} says {said}");
            ensure!(said.contains(words) && facts["at"] == 0, "{player}: {facts}");
            ensure!(fetches || facts["segments"] == 0, "{player}: {facts}");
        }
    }
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let Some(facts) = browse(&["read", &watch_url(&url)])? else { return Ok(()) };
    let says_so = facts["words"].as_str().is_some_and(|words| words.contains("cannot play"));
    ensure!(says_so != (facts["playing"] == true), "{facts}");
    ensure!(facts["complaints"] == serde_json::json!([]), "{facts}");
    publisher.check_alive()
}
