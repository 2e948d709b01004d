//! From a broadcaster to a viewer: how steady, and the same on every relay.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::time::Duration;
use tests::{Cluster, Mark, Publisher, Viewer, feed, http};

#[test]
fn a_viewer_sees_a_steady_stream_on_both_relays() -> Result<()> {
    let mut cluster = Cluster::start(2)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let urls = cluster.mint("demo", "alice", 600)?;
    let _publisher = Publisher::looped(feed::HD, &cluster.publish_url(&key)?, cluster.dir())?;
    let mut first = Viewer::enter_when_live(&urls[0], Duration::from_secs(20))?;
    let mut second = Viewer::enter_when_live(&urls[1], Duration::from_secs(5))?;
    std::thread::scope(|both| {
        let other = both.spawn(|| second.follow(Duration::from_secs(24)));
        first.follow(Duration::from_secs(24))?;
        other.join().map_err(|_| anyhow::anyhow!("the second viewer panicked"))?
    })?;
    first.verdict().context("first relay")?;
    second.verdict().context("second relay")?;
    cluster.check_alive()?;

    let (one, two) = (&first.tracks, &second.tracks);
    ensure!(one.len() == 2 && two.len() == 2, "one video and one audio track");
    for (a, b) in one.iter().zip(two) {
        ensure!(a.listed().len() >= 11, "{} segments in 24 s", a.listed().len());
        for (number, listed) in a.listed() {
            ensure!(
                b.listed().get(number).is_none_or(|other| other == listed),
                "segment {number} differs by relay"
            );
        }
    }
    let (one, two) = (first.recording(1)?, second.recording(1)?);
    ensure!(one.init == two.init, "the audio init sections differ by relay");
    for (number, bytes) in &one.segments {
        ensure!(
            two.segments.get(number).is_none_or(|other| other == bytes),
            "audio {number} differs by relay"
        );
    }
    Ok(())
}

#[test]
fn a_looped_feed_goes_on_without_a_step_for_a_minute() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let key = cluster.add_stream("loop", Mark::Prefer)?;
    let _publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&key)?, cluster.dir())?;
    let mut viewer =
        Viewer::enter_when_live(&cluster.mint("loop", "alice", 600)?[0], Duration::from_secs(20))?;
    viewer.follow(Duration::from_secs(64))?;
    viewer.verdict()?;
    for (track, expected) in [(0, 60 * 30), (1, 60 * 48_000 / 1024)] {
        let recording = viewer.recording(track)?;
        let samples = recording.samples()?;
        ensure!(samples.len() >= expected, "{} samples of track {track} in a minute", samples.len());
        let first = samples[0].dts;
        let last = samples.last().context("samples")?;
        let steps: BTreeSet<u32> = samples.iter().map(|sample| sample.duration).collect();
        let timescale = recording.init()?.timescale;
        ensure!(
            samples.windows(2).all(|two| two[0].dts + u64::from(two[0].duration) == two[1].dts),
            "decode times have a step in track {track}"
        );
        ensure!(last.dts - first >= 58 * u64::from(timescale), "less than a minute of track {track}");
        // FLV times are whole milliseconds: a frame of 33.3 ms lasts 33 or 34.
        let longest = steps.last().map_or(0, |longest| longest * 1000 / timescale);
        ensure!(longest <= 35, "a sample of track {track} lasts {longest} ms");
    }
    Ok(())
}

#[test]
fn a_stream_without_a_publisher_is_held_and_then_not_there() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.add_stream("idle", Mark::Prefer)?;
    let url = cluster.mint("idle", "alice", 600)?.remove(0);
    let answer = http::get(&url)?;
    let answer = match answer.header("location") {
        Some(session) => http::get(&http::join(&url, session)?)?,
        None => answer,
    };
    ensure!(answer.status == 404, "status {}", answer.status);
    ensure!(answer.header("retry-after").is_some(), "no Retry-After");
    let page = http::get(&url.replace("/live/", "/watch/").replace("/index.m3u8", ""))?.ok()?;
    ensure!(page.text()?.contains("<video"), "the watch page has no video");
    Ok(())
}

#[test]
fn programs_end_by_themselves_when_told() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let mut publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&key)?, cluster.dir())?;
    Viewer::enter_when_live(&cluster.mint("demo", "alice", 600)?[0], Duration::from_secs(20))?;
    publisher.child.kill();
    for node in cluster.relays.iter_mut().chain([&mut cluster.ingest]) {
        let status = node.child.stop()?;
        ensure!(status.success(), "{} ended with {status}", node.name);
    }
    Ok(())
}
