//! Feeds of codecs that Debian 12's ffmpeg does not send as RTMP: it encodes them into fragmented MP4, and `steady` sends them.
//!
//! In: names of encoders. Out: the feed `SMALL` with pictures or sound of another codec, as long as before.

use crate::feed;
use crate::flv::{Feed, Unit};
use crate::mp4::{self, Init};
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;

/// Pictures coded anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Video {
    /// HEVC, by x265.
    Hevc,
    /// AV1, by SVT-AV1.
    Av1,
}

/// The feed `SMALL` with these pictures instead of its own, if any, and with its sound as Opus, if so.
///
/// # Errors
/// When ffmpeg does not make it.
pub fn small(video: Option<Video>, opus: bool, dir: &Path) -> Result<Feed> {
    let mut feed = Feed::parse(&std::fs::read(feed::path(feed::SMALL)?)?)?;
    let length_ms = feed.video.len() as u32 * 1000 / 30;
    // Closed GOPs of 2 s, and pictures in the order in which they are shown.
    let hevc = [
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=error:keyint=60:min-keyint=60:scenecut=0:open-gop=0:bframes=0",
        "-tag:v",
        "hvc1",
    ];
    let av1 = ["-c:v", "libsvtav1", "-preset", "11", "-g", "60", "-b:v", "700k"];
    let (options, fourcc) = match video {
        Some(Video::Hevc) => (&hevc[..], *b"hvc1"),
        Some(Video::Av1) => (&av1[..], *b"av01"),
        None => (&[][..], *b"avc1"),
    };
    if video.is_some() {
        let options = [&["-map", "0:v"][..], options].concat();
        (feed.avcc, feed.video) = coded(&options, dir, &format!("{}.mp4", String::from_utf8_lossy(&fourcc)))?;
        ensure!(feed.video.len() as u32 * 1000 / 30 == length_ms, "{} pictures", feed.video.len());
        ensure!(feed.video.iter().all(|unit| unit.cts_ms == 0), "pictures are out of order");
        feed.video_fourcc = Some(fourcc);
    }
    if opus {
        let options = ["-map", "0:a", "-c:a", "libopus", "-b:a", "96k"];
        let (dops, mut audio) = coded(&options, dir, "Opus.mp4")?;
        audio.retain(|unit| unit.dts_ms < length_ms);
        (feed.asc, feed.audio, feed.audio_fourcc) = (identification(&dops)?, audio, Some(*b"Opus"));
    }
    Ok(feed)
}

/// One track of the feed as ffmpeg codes it with these options: what a decoder must know first, and its units.
fn coded(options: &[&str], dir: &Path, name: &str) -> Result<(Vec<u8>, Vec<Unit>)> {
    let file = dir.join(name);
    let mut ffmpeg = Command::new("ffmpeg");
    // As many pictures as come in.
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-i"]).arg(feed::path(feed::SMALL)?).args(options);
    ffmpeg.args([
        "-fps_mode",
        "passthrough",
        "-use_editlist",
        "0",
        "-movflags",
        "+empty_moov+frag_keyframe+default_base_moof+skip_trailer",
    ]);
    // The variable keeps SVT-AV1 from telling of itself.
    let out = ffmpeg.arg(&file).env("SVT_LOG", "1").output()?;
    ensure!(out.status.success(), "ffmpeg {options:?}: {}", String::from_utf8_lossy(&out.stderr));
    let bytes = std::fs::read(file)?;
    let mut head = 0;
    for (kind, body) in mp4::boxes(&bytes)? {
        if kind == b"moof" {
            break;
        }
        head += 8 + body.len();
    }
    let moov = bytes[..head].windows(4).position(|four| four == b"moov").map_or(0, |at| at - 4);
    let init = Init::parse(&bytes[moov..head])?;
    let ms = |ticks: u64| (ticks * 1000 / u64::from(init.timescale)) as u32;
    let mut units = Vec::new();
    for sample in mp4::fragments(&bytes[head..])?.into_iter().flat_map(|fragment| fragment.samples) {
        let cts_ms = (sample.cts * 1000 / i64::from(init.timescale)) as i32;
        units.push(Unit { dts_ms: ms(sample.dts), cts_ms, key: sample.sync, data: sample.data });
    }
    Ok((init.config, units))
}

/// The identification header (RFC 7845 §5.1) of an `Opus` sample entry's `dOps`, which has the same in another byte order.
fn identification(dops: &[u8]) -> Result<Vec<u8>> {
    let [0, channels, skip_1, skip_0, rate @ .., gain_1, gain_0, 0] = dops else {
        anyhow::bail!("{dops:?} is no dOps of one family")
    };
    let mut rate = rate.to_vec();
    rate.reverse();
    ensure!(rate.len() == 4, "{dops:?} is no dOps");
    Ok([&b"OpusHead\x01"[..], &[*channels, *skip_0, *skip_1], &rate, &[*gain_0, *gain_1, 0]].concat())
}
