//! A publish with two audio tracks: each is a rendition of its own, through the relay, as it was sent.

use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;
use tests::flv::Feed;
use tests::steady::{self, Steady};
use tests::{Cluster, Mark, Viewer, decode, feed, http};

/// Pitch of the second track, in Hz; the first one's is 220, with a beep of 880 each second.
const PITCH: u32 = 1_000;

/// The feed with a second audio track, as long as the first.
fn with_second(cluster: &Cluster) -> Result<Feed> {
    let mut feed = Feed::parse(&std::fs::read(feed::path(feed::SMALL)?)?)?;
    let file = cluster.dir().join("second.flv");
    let mut ffmpeg = Command::new("ffmpeg");
    let tone = format!("sine=frequency={PITCH}:sample_rate=48000:duration=8");
    ffmpeg
        .args(["-nostdin", "-v", "error", "-f", "lavfi", "-i", &tone, "-c:a", "aac", "-b:a", "64k"])
        .arg(&file);
    ensure!(ffmpeg.status()?.success(), "ffmpeg makes no second track");
    let mut other = Feed::parse(&std::fs::read(file)?)?;
    // So that a round follows another one as frame follows frame.
    other.audio.retain(|unit| unit.dts_ms < 7_990);
    (feed.second_asc, feed.second) = (other.asc, other.audio);
    Ok(feed)
}

#[test]
fn a_second_audio_track_is_a_rendition_of_its_own() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let feed = with_second(&cluster)?;
    let key = cluster.add_stream("two", Mark::Prefer)?;
    let to = cluster.ingest.port("rtmp")?;
    let mut socket = steady::connect(to, 0)?;
    steady::begin(&mut socket, to, &key, &feed)?;
    let mut publisher = Steady::begun(socket, &feed)?;
    let url = cluster.mint("two", "alice", 600)?.remove(0);
    let mut viewer = Viewer::enter_when_live(&url, Duration::from_secs(20))?;
    let names: Vec<&str> = viewer.index.audio.iter().map(|(name, _)| name.as_str()).collect();
    ensure!(names == ["Audio", "Audio 2"], "{names:?}");
    viewer.follow_until(5, Duration::from_secs(30))?;
    publisher.check_alive()?;
    viewer.verdict()?;

    let numbers: Vec<Vec<u64>> =
        viewer.tracks.iter().map(|track| track.listed().keys().copied().collect()).collect();
    let [video, first, second] = &numbers[..] else { anyhow::bail!("{} playlists", numbers.len()) };
    let common = first.iter().zip(second).zip(video).filter(|((a, b), c)| a == b && b == c).count();
    ensure!(common >= 5, "the same numbers in all: {numbers:?}");

    let recording = viewer.recording(2)?;
    let went: Vec<_> = recording.samples()?.into_iter().map(|sample| sample.data).collect();
    let sent: Vec<_> = feed.second.iter().map(|unit| unit.data.clone()).collect();
    let rounds = [&sent[..], &sent, &sent, &sent].concat();
    ensure!(
        rounds.windows(went.len()).any(|window| window == went),
        "not the {} frames that were sent",
        went.len()
    );
    let mut pitches = Vec::new();
    for (track, name) in [(1, "first.mp4"), (2, "second.mp4")] {
        let file = viewer.recording(track)?.save(cluster.dir(), name)?;
        decode::silently(&file)?;
        pitches.push(decode::pitch(&file)?);
    }
    ensure!((pitches[1] - f64::from(PITCH)).abs() < 10.0 && pitches[0] < 500.0, "{pitches:?} Hz");

    // The credential is asked for as for everything else.
    let own = &viewer.tracks[2].url;
    let session = viewer.index_url.rsplit('/').nth(1).context("a session")?;
    let stranger = own.replace(session, &session.chars().rev().collect::<String>());
    ensure!(http::get(own)?.status == 200 && stranger != *own, "{own}");
    let listed = viewer.tracks[2].playlist.as_ref().and_then(|playlist| playlist.segments.last());
    for url in [stranger.clone(), http::join(&stranger, &listed.context("a segment")?.uri)?] {
        let answer = http::get(&url)?;
        ensure!(answer.status == 404 || answer.status == 403, "{} to a stranger", answer.status);
    }
    drop(publisher);
    Ok(())
}
