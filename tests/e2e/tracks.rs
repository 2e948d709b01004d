//! A publish with two audio tracks, and one with two encodings of the picture: each is a rendition or a variant of its own, through
//! the relay, as it was sent.

use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;
use tests::steady::{self, Steady};
use tests::{Cluster, Mark, Viewer, decode, feed, http, tracks};

/// Pictures a second of the feed.
const RATE: usize = 30;

#[test]
fn a_second_audio_track_is_a_rendition_of_its_own() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let feed = tracks::with_second_sound(tracks::plain(feed::SMALL)?, cluster.dir())?;
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
    ensure!((pitches[1] - f64::from(tracks::PITCH)).abs() < 10.0 && pitches[0] < 500.0, "{pitches:?} Hz");

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

/// A second encoding of an unmarked stream: a variant with the same numbers, parts and dates, picture by picture what was sent, and
/// a player that chooses it plays it.
#[test]
fn a_second_encoding_is_a_variant_of_its_own() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let feed = tracks::plain(feed::SMALL)?;
    let feed = tracks::with_smaller_picture(feed, feed::SMALL, "320:180", &tracks::SMALLER, cluster.dir())?;
    let key = cluster.add_stream("ladder", Mark::Off)?;
    let to = cluster.ingest.port("rtmp")?;
    let mut socket = steady::connect(to, 0)?;
    steady::begin(&mut socket, to, &key, &feed)?;
    let mut publisher = Steady::begun(socket, &feed)?;
    let url = cluster.mint("ladder", "alice", 600)?.remove(0);
    let mut viewer = Viewer::enter_when_live(&url, Duration::from_secs(20))?;
    let [(attributes, uri)] = &viewer.index.others[..] else { anyhow::bail!("{:?}", viewer.index) };
    ensure!(uri == "video2.m3u8" && attributes.contains("RESOLUTION=320x180,"), "{attributes}");
    viewer.follow_until(5, Duration::from_secs(30))?;
    publisher.check_alive()?;
    viewer.verdict()?;

    let [video, _, smaller] = &viewer.tracks[..] else { anyhow::bail!("{} playlists", viewer.tracks.len()) };
    let common: Vec<u64> =
        video.listed().keys().copied().filter(|number| smaller.listed().contains_key(number)).collect();
    ensure!(common.len() >= 5, "the same numbers in both: {common:?}");
    for number in &common {
        let (one, other) = (&video.listed()[number], &smaller.listed()[number]);
        let of =
            |listed: &tests::hls::Listed| (listed.duration_10us, listed.date_ms_of_day, listed.discontinuity);
        ensure!(of(one) == of(other), "segment {number}: {one:?} {other:?}");
    }
    for (track, sent) in [(0, &feed.video), (2, &feed.smaller)] {
        let went: Vec<_> =
            viewer.recording(track)?.samples()?.into_iter().map(|sample| sample.data).collect();
        let sent: Vec<_> = sent.iter().map(|unit| unit.data.clone()).collect();
        let rounds = [&sent[..], &sent, &sent, &sent].concat();
        ensure!(rounds.windows(went.len()).any(|window| window == went), "not the {} pictures", went.len());
        let file = viewer.recording(track)?.save(cluster.dir(), &format!("{track}.mp4"))?;
        decode::silently(&file)?;
        ensure!(decode::pictures(&file)?.len() == went.len(), "pictures of {track}");
    }
    // A player that reads the multivariant playlist and takes the second variant has pictures of its size.
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-select_streams", "v", "-show_entries", "stream=width,height"]);
    ffprobe.args(["-of", "csv=p=0"]);
    let said = ffprobe.arg(&viewer.index_url).output()?;
    let said = String::from_utf8(said.stdout)?;
    ensure!(said.contains("640,360") && said.contains("320,180"), "{said}");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-i", &viewer.index_url, "-map", "0:v:1", "-frames:v"]);
    let out = ffmpeg.args([&(2 * RATE).to_string(), "-f", "framemd5", "-"]).output()?;
    let rows = String::from_utf8(out.stdout)?.lines().filter(|line| !line.starts_with('#')).count();
    ensure!(out.status.success() && rows == 2 * RATE, "{rows}: {}", String::from_utf8_lossy(&out.stderr));
    drop(publisher);
    Ok(())
}
