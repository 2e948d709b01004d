//! Real players on a live stream: hls.js in Chromium, ffmpeg, VLC, GStreamer. Twelve seconds each, without a word of
//! complaint. And the other real broadcaster, OBS: ffmpeg is everywhere else.
//!
//! ffmpeg and VLC complain of any live fragmented MP4: ffmpeg of init sections that it reads again itself, VLC of sample
//! tables that are empty because samples are in fragments. What they say is therefore compared with what the same player
//! says of ffmpeg's own live playlist of the same feed: nothing may be said of ours that is not said of that one. Of the
//! same stream as MPEG-TS, which they read beside it, nothing may be said.
//!
//! Beside them, how soon there is something to play, what players tell the relay of themselves (`events`), two ways to the same
//! segments (`pathways`), several tracks to choose from (`tracks`), and codecs that not every browser has (`codecs`). All of it is in real time: run it with `--test-threads 1`. A player that
//! is not installed skips its test, unless `RELEVE_REQUIRE_TOOLS=1`.

mod codecs;
mod events;
mod pathways;
mod tracks;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tests::lab::by_script;
use tests::lab::players::{GST_CATEGORIES, VLC_LATE, VLC_SURROUNDINGS};
use tests::obs::Obs;
use tests::{Child, Cluster, Mark, Publisher, Viewer, certificate, clock, feed, http, tool, wait_for};

/// How long each of them plays: six segments beyond those it began with.
const SECONDS: u32 = 12;

/// ffmpeg's start to the first playlist: one segment and half a second.
const FIRST_PLAYLIST: Duration = Duration::from_millis(2_500);

/// A marked stream that is on the air, and a fresh playlist URL for it.
fn on_air() -> Result<(Cluster, Publisher, String)> {
    let cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let publisher = Publisher::looped(feed::HD, &cluster.publish_url(&key)?, cluster.dir())?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let mut viewer = Viewer::enter_when_live(&url, Duration::from_secs(20))?;
    viewer.follow_until(3, Duration::from_secs(20))?; // players start three segments before the newest
    Ok((cluster, publisher, url))
}

/// The way in to the same stream as MPEG-TS.
fn as_mpeg_ts(url: &str) -> String {
    url.replace("/index.m3u8", "/ts.m3u8")
}

/// What a player says of the stream as fragmented MP4, and of it as MPEG-TS at the same time.
fn of_both<T: Send>(url: &str, play: impl Fn(&str) -> Result<T> + Sync) -> Result<(T, T)> {
    std::thread::scope(|scope| {
        let muxed = scope.spawn(|| play(&as_mpeg_ts(url)));
        let fragmented = play(url)?;
        Ok((fragmented, muxed.join().map_err(|_| anyhow::anyhow!("a player panicked"))??))
    })
}

/// How long a player looks at ffmpeg's own playlist: a few reloads.
const YARDSTICK_SECONDS: u32 = 8;

/// ffmpeg's own live playlist in fragmented MP4, of the feed that `on_air` publishes.
fn yardstick(folder: &Path) -> Result<Option<(Child, String)>> {
    let Some(ffmpeg) = tool("ffmpeg")? else { return Ok(None) };
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "error", "-re", "-stream_loop", "-1", "-i"]).arg(feed::path(feed::HD)?);
    command.args(["-c", "copy", "-f", "hls", "-hls_segment_type", "fmp4", "-hls_time", "2"]);
    let playlist = folder.join("live.m3u8");
    let child = Child::start("yardstick", command.arg(&playlist), &folder.join("yardstick.log"))?;
    tests::wait_for("three segments of ffmpeg's own", Duration::from_secs(20), || {
        let text = std::fs::read_to_string(&playlist)?;
        ensure!(text.matches("#EXTINF").count() >= 3, "{text}");
        Ok(())
    })?;
    Ok(Some((child, playlist.to_str().context("a path in UTF-8")?.to_owned())))
}

/// Complaints without what changes from one to the next: who speaks, addresses, numbers.
fn kinds<'a>(complaints: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
    let words = |line: &str| line.rsplit_once("] ").map_or(line, |(_, words)| words).trim().to_owned();
    let bare = |text: String| text.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    complaints.into_iter().map(|line| bare(words(line))).collect()
}

/// Nothing is said of ours that is not said of ffmpeg's own.
fn compare(player: &str, ours: &[&str], theirs: &[&str]) -> Result<()> {
    let known = kinds(theirs.iter().copied());
    eprintln!("{player} says of ffmpeg's own playlist: {known:?}");
    let only_ours: Vec<&&str> = ours.iter().filter(|line| !kinds([**line]).is_subset(&known)).collect();
    ensure!(only_ours.is_empty(), "{player} says of this stream, and not of ffmpeg's own: {only_ours:#?}");
    Ok(())
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// Runs a program as a user without rights: VLC refuses root.
fn unprivileged(program: &Path, home: &Path) -> Result<Command> {
    if !rustix::process::geteuid().is_root() {
        return Ok(Command::new(program));
    }
    let setpriv = tool("setpriv")?.context("setpriv is part of Debian's base")?;
    let mut command = Command::new(setpriv);
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).env("HOME", home);
    Ok(command)
}

/// What ffmpeg says when it reads a playlist.
fn ffmpeg_says(url: &str, seconds: u32) -> Result<Option<String>> {
    let Some(ffmpeg) = tool("ffmpeg")? else { return Ok(None) };
    let mut command = Command::new(ffmpeg);
    command.args(["-nostdin", "-v", "warning", "-stats", "-i", url, "-t", &seconds.to_string()]);
    let out = command.args(["-map", "0:v", "-map", "0:a", "-f", "null", "-"]).output()?;
    let said = said(&out);
    ensure!(out.status.success(), "{said}");
    Ok(Some(said))
}

fn ffmpegs_complaints(said: &str) -> Vec<&str> {
    said.split(['\n', '\r']).filter(|line| line.starts_with('[') || line.contains("rror")).collect()
}

#[test]
fn the_first_playlist_comes_soon() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let mut waited = Vec::new();
    for name in ["one", "two", "three"] {
        let key = cluster.add_stream(name, Mark::Prefer)?;
        let url = cluster.mint(name, "alice", 600)?.remove(0);
        let publisher = Publisher::looped(feed::HD, &cluster.publish_url(&key)?, cluster.dir())?;
        Viewer::enter_when_live(&url, Duration::from_secs(20))?;
        waited.push(publisher.started.elapsed());
    }
    waited.sort();
    println!("first playlists after {waited:?}");
    ensure!(waited[1] <= FIRST_PLAYLIST, "first playlists came after {waited:?}, not {FIRST_PLAYLIST:?}");
    Ok(())
}

#[test]
fn ffmpeg_reads_without_a_warning() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let Some((_child, playlist)) = yardstick(folder.path())? else { return Ok(()) };
    let theirs = ffmpeg_says(&playlist, YARDSTICK_SECONDS)?.unwrap_or_default();
    let (_cluster, _publisher, url) = on_air()?;
    let (said, muxed) = of_both(&url, |url| Ok(ffmpeg_says(url, SECONDS)?.unwrap_or_default()))?;
    for said in [&said, &muxed] {
        let frames = said.rsplit("frame=").next().and_then(|rest| rest.split_whitespace().next());
        let frames: u32 = frames.context("no count of frames")?.parse()?;
        ensure!(frames >= SECONDS * 30 - 2, "{frames} frames in {SECONDS} s");
    }
    let of_muxed = ffmpegs_complaints(&muxed);
    ensure!(of_muxed.is_empty(), "ffmpeg says of MPEG-TS: {of_muxed:#?}");
    compare("ffmpeg", &ffmpegs_complaints(&said), &ffmpegs_complaints(&theirs))
}

/// VLC's AAC decoder keeps back what it makes of its first frame, and says so of any file: once, unless it begins again.
const VLC_FIRST_FRAME: &str = "faad decoder warning: decoded zero sample";

/// What VLC says when it plays a playlist.
fn vlc_says(vlc: &Path, url: &str, seconds: u32) -> Result<String> {
    let home = tempfile::tempdir()?;
    std::os::unix::fs::chown(home.path(), Some(65534), Some(65534))
        .or_else(|error| if rustix::process::geteuid().is_root() { Err(error) } else { Ok(()) })?;
    let mut command = unprivileged(vlc, home.path())?;
    command.args(["--no-color", "--verbose=1", "--vout=dummy", "--aout=dummy", "--no-media-library"]);
    command.args(["--no-dbus", "--no-lua", "--ignore-config"]);
    command.args(["--run-time", &seconds.to_string(), url, "vlc://quit"]);
    let started = std::time::Instant::now();
    let out = command.output()?;
    let text = said(&out);
    ensure!(out.status.success(), "{text}");
    ensure!(started.elapsed() >= Duration::from_secs(seconds.into()), "VLC ended early: {text}");
    Ok(text)
}

fn vlcs_complaints(text: &str) -> Vec<&str> {
    // What it says of its own surroundings is not about the stream.
    let of_itself = |line: &str| VLC_SURROUNDINGS.iter().chain(&[VLC_LATE]).any(|word| line.contains(word));
    let complaint = |line: &str| line.contains("error") || line.contains("warning");
    text.lines().filter(|line| complaint(line) && !of_itself(line)).collect()
}

#[test]
fn vlc_plays_without_a_warning() -> Result<()> {
    let Some(vlc) = tool("cvlc")? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let Some((_child, playlist)) = yardstick(folder.path())? else { return Ok(()) };
    let theirs = vlc_says(&vlc, &playlist, YARDSTICK_SECONDS)?;
    let (_cluster, _publisher, url) = on_air()?;
    let (text, muxed) = of_both(&url, |url| vlc_says(&vlc, url, SECONDS))?;
    let (first_frame, of_muxed): (Vec<&str>, Vec<&str>) =
        vlcs_complaints(&muxed).into_iter().partition(|line| line.contains(VLC_FIRST_FRAME));
    ensure!(of_muxed.is_empty(), "VLC says of MPEG-TS: {of_muxed:#?}");
    ensure!(first_frame.len() <= 1, "VLC's AAC decoder had to begin again: {first_frame:#?}");
    compare("VLC", &vlcs_complaints(&text), &vlcs_complaints(&theirs))
}

/// Plays with GStreamer, which may not complain.
fn gstreamer_plays(gst: &Path, url: &str) -> Result<()> {
    let mut command = Command::new("timeout");
    command
        .args(["--signal=INT", "--kill-after=5", &SECONDS.to_string()])
        .arg(gst)
        .args(["-m", "uridecodebin3"]);
    command.arg(format!("uri={url}")).args([
        "name=d",
        "d.",
        "!",
        "queue",
        "!",
        "fakevideosink",
        "d.",
        "!",
        "queue",
    ]);
    let out = command
        .args(["!", "fakeaudiosink"])
        .env("GST_DEBUG", format!("{GST_CATEGORIES},mpegts*:2,tsdemux:2"))
        .env("GST_DEBUG_NO_COLOR", "1")
        .output()?;
    let text = said(&out);
    ensure!(out.status.code() == Some(124), "GStreamer ended by itself ({}): {text}", out.status);
    ensure!(text.contains("PLAYING"), "GStreamer never played: {text}");
    ensure!(text.contains("hlsdemux2") || !text.contains("hlsdemux"), "the old demuxer was used");
    let complaints: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(" WARN ") || line.contains(" ERROR ") || line.contains("ERROR:"))
        .collect();
    ensure!(complaints.is_empty(), "GStreamer of {url}: {complaints:#?}");
    Ok(())
}

#[test]
fn gstreamer_plays_without_a_warning() -> Result<()> {
    let Some(gst) = tool("gst-launch-1.0")? else { return Ok(()) };
    let (_cluster, _publisher, url) = on_air()?;
    of_both(&url, |url| gstreamer_plays(&gst, url)).map(drop)
}

/// What the browser's script reports of the watch page.
fn browse(arguments: &[&str]) -> Result<Option<Value>> {
    script("watch.mjs", arguments)
}

/// What a script reports that opens a browser.
fn script(name: &str, arguments: &[&str]) -> Result<Option<Value>> {
    let (Some(node), Some(_)) = (tool("node")?, tool("chromium")?) else { return Ok(None) };
    let folder = tests::root().join("tests/browser");
    ensure!(folder.join("node_modules").is_dir(), "npm ci --prefix tests/browser comes first");
    let out = Command::new(node).arg(folder.join(name)).args(arguments).output()?;
    ensure!(out.status.success(), "{}", said(&out));
    Ok(Some(serde_json::from_slice(&out.stdout).with_context(|| said(&out))?))
}

fn watch_url(playlist_url: &str) -> String {
    playlist_url.replace("/live/", "/watch/").replace("/index.m3u8", "")
}

#[test]
fn chromium_plays_the_watch_page_without_a_stall() -> Result<()> {
    let (_cluster, _publisher, url) = on_air()?;
    let screenshot = tests::root().join("target/watch-page.png");
    let Some(facts) = plays_steadily(&url, &screenshot, SECONDS)? else { return Ok(()) };
    ensure!(facts["protocols"] == serde_json::json!(["http/1.1"]), "{facts}");
    ensure!(std::fs::metadata(&screenshot)?.len() > 20_000, "the screenshot is empty");
    Ok(())
}

/// The same through TLS and HTTP/2.
#[test]
fn chromium_plays_the_watch_page_over_http2() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let tls = certificate::relay_env(folder.path())?;
    let mut env: Vec<_> = tls.iter().map(|(name, value)| (*name, value.as_str())).collect();
    env.push(("RELEVE_RELAY_HTTP2", "true"));
    let cluster = Cluster::start_with(1, "", &env)?;
    let stream_key = cluster.add_stream("demo", Mark::Require)?;
    let _publisher = Publisher::looped(feed::HD, &cluster.publish_url(&stream_key)?, cluster.dir())?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let plain = format!("http://{}/", cluster.relays[0].port("listen")?);
    let secure = format!("https://{}/", cluster.relays[0].port("tls_listen")?);
    let looker = cluster.mint("demo", "bob", 600)?.remove(0).replace(&secure, &plain);
    Viewer::enter_when_live(&looker, Duration::from_secs(20))?.follow_until(3, Duration::from_secs(20))?;
    let shot = cluster.dir().join("h2.png");
    let Some(facts) = plays_steadily(&url, &shot, SECONDS)? else { return Ok(()) };
    ensure!(facts["protocols"] == serde_json::json!(["h2"]), "{facts}");
    Ok(())
}

/// The session in a cookie, which the page's own requests must carry.
#[test]
fn chromium_plays_the_watch_page_with_its_session_in_a_cookie() -> Result<()> {
    let cluster = Cluster::start_with(1, "", &[("RELEVE_RELAY_SESSION_IN", "cookie")])?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let _publisher = Publisher::looped(feed::HD, &cluster.publish_url(&key)?, cluster.dir())?;
    let (alice, bob) =
        (cluster.mint("demo", "alice", 600)?.remove(0), cluster.mint("demo", "bob", 600)?.remove(0));
    let entered = http::get(&bob)?;
    let cookie = entered.header("set-cookie").and_then(|set| set.split(';').next()).context("no cookie")?;
    let video = format!("http://{}/c/demo/video.m3u8", http::split(&alice)?.0);
    wait_for("three segments", Duration::from_secs(20), || {
        let listed = http::request("GET", &video, &[("Cookie", cookie)])?.ok()?;
        ensure!(listed.text()?.matches("#EXTINF").count() >= 3, "{}", listed.text()?);
        Ok(())
    })?;
    let shot = cluster.dir().join("cookie.png");
    let Some(facts) = plays_steadily(&alice, &shot, 10)? else { return Ok(()) };
    ensure!(facts["address"] == "/c/demo/index.m3u8", "{facts}");
    Ok(())
}

/// An encrypted and marked stream whose key changes every four seconds, by the browser's own Clear Key system.
#[test]
fn chromium_plays_an_encrypted_stream_through_changes_of_keys() -> Result<()> {
    let cluster = Cluster::start_with(1, "key_segments = 2", &[])?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    cluster.ctl(&["stream", "encrypt", "demo", "cbcs"])?;
    let _publisher = Publisher::looped(feed::HD, &cluster.publish_url(&key)?, cluster.dir())?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    Viewer::enter_when_live(&url, Duration::from_secs(20))?.follow_until(3, Duration::from_secs(20))?;
    let shot = cluster.dir().join("encrypted.png");
    let Some(facts) = plays_steadily(&url, &shot, 10)? else { return Ok(()) };
    ensure!(facts["encrypted"] == true, "the browser decrypts nothing: {facts}");
    let keys = facts["keys"].as_array().context("keys")?;
    let different: BTreeSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    ensure!(different.len() >= 3, "{} keys in 10 s: {facts}", different.len());
    ensure!(keys.len() == different.len(), "a key was fetched twice: {facts}");
    Ok(())
}

/// Whether the watch page plays for so long as it should; what it saw.
fn plays_steadily(url: &str, screenshot: &Path, seconds: u32) -> Result<Option<Value>> {
    plays_in_size(url, screenshot, seconds, [1280, 720])
}

/// The same of pictures of this size.
fn plays_in_size(url: &str, screenshot: &Path, seconds: u32, size: [u32; 2]) -> Result<Option<Value>> {
    let shot = screenshot.to_str().context("a path in UTF-8")?;
    let Some(facts) = browse(&["play", &watch_url(url), &seconds.to_string(), shot])? else {
        return Ok(None);
    };
    let number = |name: &str| facts[name].as_f64().with_context(|| format!("no {name} in {facts}"));
    ensure!(facts["errors"] == Value::Array(Vec::new()), "{facts}");
    ensure!(facts["waits"] == Value::Array(Vec::new()), "the player waited: {facts}");
    ensure!(facts["complaints"] == Value::Array(Vec::new()), "{facts}");
    ensure!(facts["hls"] == true, "the page does not play through hls.js: {facts}");
    // A tenth faster at most: while it catches up.
    let (played_s, wall_s) = (number("played_s")?, number("wall_s")?);
    ensure!((wall_s - 0.5..1.1 * wall_s + 0.5).contains(&played_s), "time does not go on steadily: {facts}");
    ensure!(number("smallest_step_s")? > 0.0, "currentTime stood still: {facts}");
    ensure!(number("frames")? >= f64::from(seconds) * 30.0 * 0.9, "too few frames: {facts}");
    ensure!(number("sound_bytes")? > f64::from(seconds) * 5_000.0, "there is no sound: {facts}");
    ensure!(facts["size"] == serde_json::json!(size), "{facts}");
    // `moved` is the largest mean change of a sample since the first of forty looks: 0 when the picture stands.
    ensure!(
        number("contrast")? > 60.0 && number("brightness")? > 10.0 && number("moved")? > 2.0,
        "no moving picture: {facts}"
    );
    eprintln!("{facts}");
    Ok(Some(facts))
}

/// From the broadcaster's frame clock to the pixels on screen, marking on: at most 2 s.
#[test]
fn chromium_is_two_seconds_behind_at_most() -> Result<()> {
    let (Some(_), Some(_)) = (tool("ffmpeg")?, tool("chromium")?) else { return Ok(()) };
    let cluster = Cluster::start_with(1, "low_latency = true", &[])?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let _publisher = clock::publish(&cluster.publish_url(&key)?, cluster.dir())?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    Viewer::enter_when_live(&url, Duration::from_secs(20))?.follow_until(3, Duration::from_secs(20))?;
    let Some(facts) = browse(&["clock", &watch_url(&url), &SECONDS.to_string()])? else { return Ok(()) };
    ensure!(facts["errors"] == Value::Array(Vec::new()), "{facts}");
    ensure!(facts["waits"] == Value::Array(Vec::new()), "the player waited: {facts}");
    let mut ages: Vec<u64> =
        facts["ages_ms"].as_array().context("ages")?.iter().filter_map(Value::as_u64).collect();
    ages.sort_unstable();
    let (least, median, most) = (ages.first(), ages.get(ages.len() / 2), ages.last());
    eprintln!(
        "pictures are {least:?} to {most:?} ms old, {median:?} in the median, when they are seen: {facts}"
    );
    ensure!(ages.len() as u32 >= SECONDS, "few pictures: {facts}");
    ensure!(median.is_some_and(|&age| age <= 2_000), "{facts}");
    Ok(())
}

#[test]
fn the_watch_page_says_what_is_wrong() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let short = cluster.mint("demo", "bob", 1)?.remove(0);
    let good = watch_url(&cluster.mint("demo", "alice", 600)?[0]);
    std::thread::sleep(Duration::from_millis(2_500));
    for (url, word) in [
        (format!("{good}x"), "link"),
        (good.split('?').next().unwrap_or("").to_owned(), "link"),
        (watch_url(&short), "expired"),
    ] {
        let Some(facts) = browse(&["read", &url])? else { return Ok(()) };
        let words = facts["words"].as_str().context("words")?;
        ensure!(facts["playing"] == false && words.contains(word), "{url} says: {facts}");
        ensure!(facts["complaints"] == Value::Array(Vec::new()), "{facts}");
    }
    let Some(facts) = browse(&["read", &good])? else { return Ok(()) };
    ensure!(
        facts["status"] == 200 && facts["words"].as_str().is_some_and(|words| words.contains("demo")),
        "{facts}"
    );

    // The stream comes while the page is open: it starts by itself.
    let url = cluster.publish_url(&key)?;
    let dir = cluster.dir().to_owned();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_secs(4));
        Publisher::looped(feed::SMALL, &url, &dir)
    });
    let shot = cluster.dir().join("late.png");
    let facts = browse(&["play", &good, "3", shot.to_str().context("a path in UTF-8")?])?.context("facts")?;
    let _publisher = later.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))??;
    ensure!(facts["played_s"].as_f64().is_some_and(|played| played > 2.0), "{facts}");
    Ok(())
}

/// A pair of nodes hands over and is killed while hls.js watches with three segments in hand: it goes on, without an error.
/// All players and the loss of power: `scripts/takeover-lab.sh players`.
#[test]
fn hls_js_notices_neither_a_handover_nor_a_crash() -> Result<()> {
    let (Some(_), Some(_)) = (tool("node")?, tool("chromium")?) else { return Ok(()) };
    let said = by_script(env!("CARGO_BIN_EXE_takeover-lab"), &["players", "hls.js", "--short"])?;
    ensure!(said.is_none_or(|lines| lines.lines().count() == 2), "an event each");
    Ok(())
}

/// OBS with its own encoders: every GOP is marked, a viewer sees a steady stream, and the node has nothing to remark.
#[test]
fn obs_broadcasts_a_stream_that_is_marked_whole() -> Result<()> {
    let (Some(_), Some(_)) = (tool("obs")?, tool("Xvfb")?) else { return Ok(()) };
    let cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let home = tempfile::tempdir()?;
    let mut obs = Obs::streaming(&cluster.publish_url(&key)?, home.path())?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let mut viewer =
        Viewer::enter_when_live(&url, Duration::from_secs(40)).with_context(|| obs.child.log())?;
    viewer.follow_until(6, Duration::from_secs(30))?;
    obs.child.check_alive()?;
    viewer.verdict()?;
    let metrics = cluster.ingest.metrics()?;
    let counted = |name: &str| metrics.lines().find(|line| line.starts_with(name) && line.contains("marked"));
    let marked = counted("releve_ingest_gops_total").with_context(|| metrics.clone())?;
    ensure!(!metrics.contains("kind=\"unmarked\"") && !metrics.contains("kind=\"withheld\""), "{metrics}");
    ensure!(
        marked.rsplit(' ').next().is_some_and(|count| count.parse().is_ok_and(|n: u64| n >= 6)),
        "{marked}"
    );
    let log = cluster.ingest.child.log();
    ensure!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
    Ok(())
}
