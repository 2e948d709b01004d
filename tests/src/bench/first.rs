//! From a publisher's first frame to the first playlist that a player can play, and to its first bytes of picture.
//!
//! The stream has GOPs of 2 s, is marked, and has parts of a third of a second. The publisher is one of our own: it has
//! handshake and codec configurations behind it, then sends each access unit when its time comes, as an encoder does. The
//! viewer has come in before the stream began and waits, as players do: the relay answers as soon as there is something to
//! answer. Two of them wait: one as every player does, for the multivariant playlist and then the track's, one for the
//! track's alone, which shows what of that time is the first part's. The clock begins when the first frame is about to be
//! written and ends when the whole answer is there.

use super::{Report, median};
use crate::flv::Feed;
use crate::hls::Index;
use crate::mp4::{self, Init};
use crate::steady::{Reel, begin, connect};
use crate::{Cluster, Mark, feed, http, wait_for};
use anyhow::{Context, Result, ensure};
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

/// What SRS cannot go below, and what stands for it: a playlist of SRS lists whole segments alone, and the first one ends
/// with the second key frame. It has not been measured here; a real one takes longer.
const SRS_LEAST_MS: f64 = 2_000.0;
/// Key frames of the feed are so far apart.
const GOP_MS: u32 = 2_000;
/// How long a playlist or its media may take to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a viewer saw, and when.
struct Came {
    listed: Instant,
    /// The first bytes that it can show.
    held: Instant,
}

/// A stream's beginning: when what `FIGURES` names came, in ms since its first frame.
type Beginning = [f64; 4];
const FIGURES: [&str; 4] = ["playlist", "media", "part_listed", "part"];

/// Runs it; `short` shows that it works.
///
/// # Errors
/// When a program is missing or does not start, or a stream does not begin.
pub fn run(short: bool) -> Result<Report> {
    let runs = if short { 2 } else { 15 };
    let feed = Feed::parse(&std::fs::read(feed::path(feed::MEGABIT)?)?)?;
    let mut keys = feed.video.iter().filter(|unit| unit.key).map(|unit| unit.dts_ms);
    let (first, second) = (keys.next().context("no key frame")?, keys.next().context("one key frame")?);
    ensure!(second - first == GOP_MS, "GOPs of {} ms", second - first);
    let mut cluster = Cluster::start(1)?;
    let beginnings =
        (0..runs).map(|number| one(&cluster, &feed, number)).collect::<Result<Vec<Beginning>>>()?;
    cluster.check_alive()?;
    let mut ours = Vec::new();
    for (at, name) in FIGURES.into_iter().enumerate() {
        let all: Vec<f64> = beginnings.iter().map(|one| one[at]).collect();
        let most = all.iter().copied().fold(0.0, f64::max);
        ours.extend([(format!("{name}_ms"), median(all)), (format!("{name}_max_ms"), most)]);
    }
    ours.push(("runs".to_owned(), runs as f64));
    let ratio = ours[0].1 / SRS_LEAST_MS;
    // Whatever is wrong has ended it above.
    Ok(Report {
        name: "first",
        ours,
        yardstick: vec![("playlist_ms".to_owned(), SRS_LEAST_MS)],
        ratio,
        errors: 0,
    })
}

/// One stream's beginning.
fn one(cluster: &Cluster, feed: &Feed, number: usize) -> Result<Beginning> {
    let stream = format!("first-{number}");
    let key = cluster.add_stream(&stream, Mark::Require)?;
    let url = cluster.mint(&stream, "viewer", 600)?.remove(0);
    let answer = http::get(&url)?;
    ensure!(answer.status == 302, "no redirect but {}", answer.status);
    let index_url = http::join(&url, answer.header("location").context("a redirect without Location")?)?;
    let playlist_url = http::join(&index_url, "video.m3u8")?;
    let to = cluster.ingest.port("rtmp")?;
    let mut socket = connect(to, 0)?;
    begin(&mut socket, to, &key, feed)?;
    let reel = Reel::of(feed)?;
    let stop = AtomicBool::new(false);
    let (player, early, began) = std::thread::scope(|scope| {
        let player = scope.spawn(|| play(&index_url));
        let early = scope.spawn(|| take(&playlist_url));
        let pushed = scope.spawn(|| push(&mut socket, &reel, &stop));
        let (player, early) = (joined(player), joined(early));
        stop.store(true, Ordering::Release);
        (player, early, joined(pushed))
    });
    socket.shutdown(Shutdown::Both)?;
    let began = began.context("the publisher")?;
    let ms = |at: Instant| at.saturating_duration_since(began).as_secs_f64() * 1000.0;
    let (player, early) = (player.context("the player")?, early.context("who waits for a track's playlist")?);
    ensure!(early.listed > began && player.listed > began, "something was listed before the first frame");
    Ok([player.listed, player.held, early.listed, early.held].map(ms))
}

fn joined<T>(thread: ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().map_err(|_| anyhow::anyhow!("a thread has panicked"))?
}

/// Sends each message when its time comes; gives when the first one went.
fn push(socket: &mut TcpStream, reel: &Reel, stop: &AtomicBool) -> Result<Instant> {
    let began = Instant::now();
    for (at_ms, message) in reel.messages() {
        let due = began + Duration::from_millis(u64::from(at_ms));
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if stop.load(Ordering::Acquire) {
            break;
        }
        socket.write_all(message)?;
    }
    Ok(began)
}

/// As a player: the multivariant playlist, the track's that it names, and the first media of that.
fn play(index_url: &str) -> Result<Came> {
    let index = wait_for("multivariant playlist", PATIENCE, || http::get(index_url)?.ok())?;
    take(&http::join(index_url, &Index::parse(index.text()?)?.main)?)
}

/// A track's playlist, and the first media that it lists.
fn take(playlist_url: &str) -> Result<Came> {
    let playlist = wait_for("playlist", PATIENCE, || http::get(playlist_url)?.ok())?;
    let listed = Instant::now();
    let text = playlist.text()?;
    let (init, media) = first_listed(text).with_context(|| format!("nothing to play in {text}"))?;
    let init = http::get(&http::join(playlist_url, init)?)?.ok().context("the init section")?;
    let media = http::get(&http::join(playlist_url, media)?)?.ok().context("the first media")?;
    let held = Instant::now();
    Init::parse(&init.body)?;
    let fragments = mp4::fragments(&media.body)?;
    let first = fragments.first().and_then(|fragment| fragment.samples.first()).context("no picture")?;
    ensure!(first.sync, "the first picture is no key frame");
    Ok(Came { listed, held })
}

/// The init section and the first part or segment that a playlist lists.
fn first_listed(playlist: &str) -> Option<(&str, &str)> {
    let init = playlist.lines().find(|line| line.starts_with("#EXT-X-MAP:"))?;
    let is_media = |line: &&str| line.starts_with("#EXT-X-PART:") || !line.starts_with('#');
    let media = playlist.lines().find(is_media)?;
    Some((uri_of(init)?, uri_of(media)?))
}

/// What a line of a playlist names: in its attribute, or as it stands.
fn uri_of(line: &str) -> Option<&str> {
    match line.split_once("URI=\"") {
        Some((_, rest)) => rest.split('"').next(),
        None => (!line.starts_with('#')).then_some(line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_listed_is_a_part_or_a_segment() {
        let head = "#EXTM3U\n#EXT-X-PART-INF:PART-TARGET=0.33\n#EXT-X-MAP:URI=\"video/init-a.mp4\"\n";
        let part = "#EXT-X-PART:DURATION=0.33,URI=\"video/7.0.m4s\",INDEPENDENT=YES\n";
        let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video/7.1.m4s\"\n";
        let segment = "#EXTINF:2,\nvideo/7.m4s\n";
        let first = |text: &str| first_listed(text).map(|(init, media)| format!("{init} {media}"));
        let named = |media: &str| Some(format!("video/init-a.mp4 video/{media}.m4s"));
        assert_eq!(first(&format!("{head}{part}{segment}{hint}")), named("7.0"));
        assert_eq!(first(&format!("{head}{segment}{hint}")), named("7"));
        assert_eq!(first(&format!("{head}{hint}")), None, "a hint is not there yet");
        assert_eq!(first(segment), None);
    }
}
