//! What a CDN keeps in AES-128, as a player has it that is not ours: ffmpeg asks for keys and decrypts by itself.

use anyhow::{Context, Result, ensure};
use std::net::TcpListener;
use std::process::Command;
use std::time::Duration;
use tests::{Cluster, Mark, Publisher, Viewer, feed, http};

/// How long it plays.
const SECONDS: usize = 8;
/// By when it must have, in seconds.
const TIMEOUT_S: &str = "60";
/// Pictures a second of the feed.
const RATE: usize = 30;

/// What ffmpeg, told to stop at the first flaw, decodes of a live playlist: the number of pictures.
fn decoded(url: &str) -> Result<usize> {
    // Of what it cannot decrypt it may look for a beginning for ever.
    let mut ffmpeg = Command::new("timeout");
    ffmpeg.args([
        TIMEOUT_S,
        "ffmpeg",
        "-nostdin",
        "-v",
        "error",
        "-xerror",
        "-err_detect",
        "explode",
        "-i",
        url,
    ]);
    ffmpeg.args(["-t", &SECONDS.to_string(), "-map", "0:v", "-map", "0:a", "-f", "framemd5", "-"]);
    let out = ffmpeg.output()?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success() && said.is_empty(), "ffmpeg on {url} ({}): {said}", out.status);
    let text = String::from_utf8(out.stdout)?;
    Ok(text.lines().filter(|line| line.starts_with("0,")).count())
}

#[test]
fn ffmpeg_plays_what_a_cdn_keeps_encrypted() -> Result<()> {
    // The relay is its own CDN: its address is told before it listens.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let base = format!("http://{address}");
    let env = [
        ("RELEVE_RELAY_LISTEN", address.as_str()),
        ("RELEVE_RELAY_CDN_URL", &base),
        ("RELEVE_RELAY_CDN_ENCRYPT", "true"),
    ];
    let cluster = Cluster::start_with(1, "", &env)?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let _publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&key)?, cluster.dir())?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let mut viewer = Viewer::enter_when_live(&url, Duration::from_secs(20))?;
    viewer.follow_until(3, Duration::from_secs(20))?; // players start three segments before the newest

    // A stranger who has the CDN's files has nothing.
    let files = viewer.recording(0)?;
    for (number, bytes) in &files.segments {
        ensure!(bytes.len().is_multiple_of(16), "segment {number} has {} bytes", bytes.len());
        ensure!(!bytes[..64].windows(4).any(|word| word == b"moof"), "segment {number} is clear");
    }
    files.init().context("the init section is clear")?;
    let playlist = http::get(&viewer.tracks[0].url)?.ok()?.text()?.to_owned();
    ensure!(playlist.contains("#EXT-X-KEY:METHOD=AES-128,URI=\"key/"), "{playlist}");

    for url in [&url, &url.replace("/index.m3u8", "/ts.m3u8")] {
        let pictures = decoded(url)?;
        ensure!(pictures + 2 >= SECONDS * RATE, "{pictures} pictures in {SECONDS} s of {url}");
    }
    let keys = cluster.relays[0].metrics()?;
    let keys = keys.lines().find(|line| line.contains("kind=\"key\",code=\"200\""));
    ensure!(keys.is_some(), "nobody asked for a key");
    Ok(())
}
