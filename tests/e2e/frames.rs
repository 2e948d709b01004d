//! What went in and what came out are the same pictures and the same sound, at the same times.

use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::flv::Feed;
use tests::mp4::{Sample, nal_type, nals};
use tests::{Cluster, Mark, Publisher, Recording, Viewer, decode, feed};

/// NAL unit types that a marked IDR brings along or replaces (H.264 table 7-1).
const IDR: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;
const FILLER: u8 = 12;

/// Records a feed from its first to its last picture.
fn record(cluster: &Cluster, name: &str, mark: Mark, what: &str) -> Result<(Feed, Recording, Recording)> {
    let feed = Feed::parse(&std::fs::read(feed::path(what)?)?)?;
    let seconds = feed.video.last().context("an empty feed")?.dts_ms / 1000 + 1;
    let key = cluster.add_stream(name, mark)?;
    let mut publisher = Publisher::once(what, &cluster.publish_url(&key)?, cluster.dir())?;
    let url = cluster.mint(name, "alice", 600)?.remove(0);
    let mut viewer = Viewer::enter_when_live(&url, Duration::from_secs(20))?;
    viewer.follow_until(seconds as usize / 2, Duration::from_secs(u64::from(seconds) + 10))?;
    ensure!(publisher.child.wait(Duration::from_secs(10))?.success(), "ffmpeg: {}", publisher.child.log());
    viewer.follow(Duration::from_secs(1))?;
    viewer.verdict()?;
    Ok((feed, viewer.recording(0)?, viewer.recording(1)?))
}

/// Times: every sample as far from the first picture as in the feed, but for the feed's whole milliseconds; sound within
/// a frame.
fn same_times(feed: &Feed, video: &Recording, audio: &Recording) -> Result<()> {
    let ms = |ticks: u64, timescale: u32| (ticks * 1000 / u64::from(timescale)) as i64;
    let (pictures, sounds) = (video.samples()?, audio.samples()?);
    let (video_scale, audio_scale) = (video.init()?.timescale, audio.init()?.timescale);
    ensure!(pictures.len() == feed.video.len(), "{} pictures of {}", pictures.len(), feed.video.len());
    // Sound before the first picture has nothing to go with; sound after the last would run into the next publisher's.
    let (start, end) = (feed.video[0].dts_ms, feed.video.last().context("pictures")?.dts_ms + 33);
    let heard: Vec<_> = feed.audio.iter().filter(|sound| (start..end).contains(&sound.dts_ms)).collect();
    ensure!(heard.len() + 3 >= feed.audio.len(), "the feed's own sound is out of place");
    ensure!(sounds.len() == heard.len(), "{} sounds of {}", sounds.len(), heard.len());
    let (zero, feed_zero) = (ms(pictures[0].dts, video_scale), i64::from(feed.video[0].dts_ms));
    for (index, (got, sent)) in pictures.iter().zip(&feed.video).enumerate() {
        let (at, wanted) = (ms(got.dts, video_scale) - zero, i64::from(sent.dts_ms) - feed_zero);
        ensure!((at - wanted).abs() <= 1, "picture {index} is at {at} ms, not {wanted}");
        let cts = got.cts * 1000 / i64::from(video_scale);
        ensure!(
            cts == i64::from(sent.cts_ms),
            "picture {index} is shown {cts} ms later, not {}",
            sent.cts_ms
        );
    }
    for (index, (got, sent)) in sounds.iter().zip(heard).enumerate() {
        let (at, wanted) = (ms(got.dts, audio_scale) - zero, i64::from(sent.dts_ms) - feed_zero);
        ensure!(
            (at - wanted).abs() <= 22,
            "sound {index} is at {at} ms, not {wanted}: the A/V offset is not kept"
        );
        ensure!(got.data == sent.data, "sound {index} has other bytes");
    }
    Ok(())
}

fn kept(sample: &[u8]) -> Result<Vec<&[u8]>> {
    let all = nals(sample)?;
    Ok(all.into_iter().filter(|nal| ![IDR, SPS, PPS, FILLER].contains(&nal_type(nal))).collect())
}

fn idr_slices(sample: &Sample) -> Result<usize> {
    Ok(nals(&sample.data)?.iter().filter(|nal| nal_type(nal) == IDR).count())
}

#[test]
fn a_marked_stream_keeps_every_byte_but_its_idr_pictures() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let (feed, video, audio) = record(&cluster, "marked", Mark::Require, feed::HD)?;
    same_times(&feed, &video, &audio)?;
    let samples = video.samples()?;
    for (index, (got, sent)) in samples.iter().zip(&feed.video).enumerate() {
        ensure!(got.sync == sent.key, "picture {index} is a key frame on one side only");
        if sent.key {
            ensure!(
                kept(&got.data)? == kept(&sent.data)?,
                "picture {index}: a NAL unit beside the IDR has changed"
            );
            ensure!(idr_slices(got)? == 8, "picture {index} has {} IDR slices", idr_slices(got)?);
        } else {
            ensure!(got.data == sent.data, "picture {index} has other bytes");
        }
    }
    ensure!(samples.iter().filter(|sample| sample.sync).count() == 16, "16 key frames in 32 s");
    let file = video.save(cluster.dir(), "marked.mp4")?;
    decode::silently(&file)?;
    ensure!(decode::pictures(&file)?.len() == feed.video.len(), "not every picture decodes");
    decode::silently(&audio.save(cluster.dir(), "audio.mp4")?)
}

#[test]
fn an_unmarked_stream_keeps_every_picture() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let (feed, video, audio) = record(&cluster, "plain", Mark::Off, feed::SMALL)?;
    same_times(&feed, &video, &audio)?;
    for (index, (got, sent)) in video.samples()?.iter().zip(&feed.video).enumerate() {
        ensure!(got.data == sent.data, "picture {index} has other bytes");
    }
    ensure!(video.init()?.config == feed.avcc, "the decoder configuration has changed");
    ensure!(audio.init()?.config == feed.asc, "the audio configuration has changed");
    let file = video.save(cluster.dir(), "plain.mp4")?;
    decode::silently(&file)?;
    ensure!(
        decode::pictures(&file)? == decode::pictures(&feed::path(feed::SMALL)?)?,
        "a decoded picture differs"
    );
    Ok(())
}

#[test]
fn what_cannot_be_marked_passes_only_where_that_is_allowed() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let (feed, video, _) = record(&cluster, "prefer", Mark::Prefer, feed::INTERLACED)?;
    let samples = video.samples()?;
    ensure!(samples.len() == feed.video.len(), "{} pictures of {}", samples.len(), feed.video.len());
    ensure!(
        samples.iter().zip(&feed.video).all(|(got, sent)| got.data == sent.data),
        "a picture has changed"
    );

    let key = cluster.add_stream("require", Mark::Require)?;
    let mut publisher = Publisher::once(feed::INTERLACED, &cluster.publish_url(&key)?, cluster.dir())?;
    let url = cluster.mint("require", "alice", 600)?.remove(0);
    let end = std::time::Instant::now() + Duration::from_secs(8);
    while std::time::Instant::now() < end && publisher.child.ended()?.is_none() {
        ensure!(
            Viewer::enter(&url).is_err(),
            "an unmarked segment was published although marks are required"
        );
    }
    Ok(())
}
