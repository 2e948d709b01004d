//! The small feed with more tracks than one of a kind: another sound, another encoding of the picture.

use crate::feed;
use crate::flv::Feed;
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;

/// Pitch of the second track, in Hz; the first one's is 220, with a beep of 880 each second.
pub const PITCH: u32 = 1_000;

/// The small feed, with the tracks that it has.
///
/// # Errors
/// When `scripts/clip.sh 360` has not made it.
pub fn small() -> Result<Feed> {
    Feed::parse(&std::fs::read(feed::path(feed::SMALL)?)?)
}

/// The feed with a second audio track, as long as the first. What is made is left in `dir`.
///
/// # Errors
/// When ffmpeg makes none.
pub fn with_second_sound(mut feed: Feed, dir: &Path) -> Result<Feed> {
    let file = dir.join("second.flv");
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

/// The small feed with a second encoding of its picture, at a quarter of the size and with the same key frames. What is made is
/// left in `dir`.
///
/// # Errors
/// When ffmpeg makes none that fits.
pub fn with_smaller_picture(mut feed: Feed, dir: &Path) -> Result<Feed> {
    let path = feed::path(feed::SMALL)?;
    let keys: Vec<usize> =
        feed.video.iter().enumerate().filter(|(_, unit)| unit.key).map(|(at, _)| at).collect();
    let file = dir.join("smaller.flv");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-i"]).arg(&path).args(["-an", "-vf", "scale=320:180"]);
    ffmpeg.args(["-c:v", "libx264", "-profile:v", "baseline", "-preset", "veryfast", "-b:v", "200k"]);
    ffmpeg.args(["-sc_threshold", "0", "-g", "60", "-keyint_min", "60", "-fps_mode", "passthrough"]);
    ensure!(ffmpeg.arg(&file).status()?.success(), "ffmpeg makes no second encoding");
    let mut other = Feed::parse(&std::fs::read(file)?)?;
    let smaller_keys = other.video.iter().enumerate().filter(|(_, unit)| unit.key).map(|(at, _)| at);
    ensure!(keys.iter().copied().eq(smaller_keys) && other.video.len() == feed.video.len(), "{keys:?}");
    // Picture for picture at the same time, as an encoder with one clock has them: neither has B-frames.
    for (one, other) in feed.video.iter().zip(&mut other.video) {
        ensure!((one.cts_ms, other.cts_ms) == (0, 0) && one.dts_ms.abs_diff(other.dts_ms) < 100, "{other:?}");
        other.dts_ms = one.dts_ms;
    }
    (feed.smaller_avcc, feed.smaller) = (other.avcc, other.video);
    Ok(feed)
}
