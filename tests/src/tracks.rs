//! Feeds with more tracks than one of a kind: another sound, another encoding of the picture.

use crate::feed;
use crate::flv::Feed;
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;

/// Pitch of the second track, in Hz; the first one's is 220, with a beep of 880 each second.
pub const PITCH: u32 = 1_000;

/// How the small feed's picture is coded once more, in 320×180.
pub const SMALLER: [&str; 8] = ["-profile:v", "baseline", "-b:v", "200k", "-g", "60", "-keyint_min", "60"];

/// A feed with the tracks that it has.
///
/// # Errors
/// When `scripts/clip.sh` has not made it.
pub fn plain(name: &str) -> Result<Feed> {
    Feed::parse(&std::fs::read(feed::path(name)?)?)
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

/// That feed, in the file `name`, with a second encoding of its picture, of this size, coded so, with the same key frames and the
/// same B-frames. What is made is left in `dir`.
///
/// # Errors
/// When ffmpeg makes none that fits.
pub fn with_smaller_picture(
    mut feed: Feed,
    name: &str,
    size: &str,
    x264: &[&str],
    dir: &Path,
) -> Result<Feed> {
    let path = feed::path(name)?;
    let keys: Vec<usize> =
        feed.video.iter().enumerate().filter(|(_, unit)| unit.key).map(|(at, _)| at).collect();
    let file = dir.join("smaller.flv");
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-i"]).arg(&path).args(["-an", "-vf", &format!("scale={size}")]);
    ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0"]).args(x264);
    ffmpeg.args(["-fps_mode", "passthrough"]);
    ensure!(ffmpeg.arg(&file).status()?.success(), "ffmpeg makes no second encoding");
    let mut other = Feed::parse(&std::fs::read(file)?)?;
    let smaller_keys = other.video.iter().enumerate().filter(|(_, unit)| unit.key).map(|(at, _)| at);
    ensure!(keys.iter().copied().eq(smaller_keys) && other.video.len() == feed.video.len(), "{keys:?}");
    // Picture for picture at the same time, as an encoder with one clock has them.
    for (one, other) in feed.video.iter().zip(&mut other.video) {
        // To the millisecond, which is rounded.
        let (delay, others) = (one.cts_ms, other.cts_ms);
        ensure!(!one.key || delay.abs_diff(others) <= 1, "key frames are shown {delay} and {others} ms late");
        let (at, others) = (one.dts_ms, other.dts_ms);
        ensure!(at.abs_diff(others) < 100, "pictures at {at} and {others} ms");
        other.dts_ms = one.dts_ms;
    }
    (feed.smaller_avcc, feed.smaller) = (other.avcc, other.video);
    Ok(feed)
}
