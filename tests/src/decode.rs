//! What ffmpeg makes of a recording: a judge of bitstreams that is not ours.
//!
//! In: a media file. Out: hashes of its pictures, or everything that ffmpeg had to complain about.

use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;

/// An error unless ffmpeg, told to stop at the first flaw, decodes the file to its end without a word.
///
/// # Errors
/// With what it said.
pub fn silently(file: &Path) -> Result<()> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "warning", "-xerror", "-err_detect", "explode", "-i"]).arg(file);
    let out = ffmpeg.args(["-f", "null", "-"]).output()?;
    let said = String::from_utf8_lossy(&out.stderr);
    ensure!(out.status.success() && said.is_empty(), "ffmpeg on {}: {said}", file.display());
    Ok(())
}

/// The MD5 of every decoded picture, in the order shown.
///
/// # Errors
/// When one does not decode.
pub fn pictures(file: &Path) -> Result<Vec<String>> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-i"]).arg(file).args([
        "-map",
        "0:v",
        "-fps_mode",
        "passthrough",
    ]);
    let out = ffmpeg.args(["-f", "framemd5", "-"]).output()?;
    ensure!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout)?;
    let hashes = text.lines().filter(|line| !line.starts_with('#'));
    Ok(hashes.filter_map(|line| Some(line.rsplit(',').next()?.trim().to_owned())).collect())
}

/// How often a second the sound goes from below zero to above it: the pitch of a pure tone, in Hz.
///
/// # Errors
/// When it does not decode.
pub fn pitch(file: &Path) -> Result<f64> {
    const RATE: usize = 48_000;
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-i"]).arg(file).args(["-map", "0:a", "-ac", "1", "-ar"]);
    let out = ffmpeg.args([&RATE.to_string(), "-f", "s16le", "-"]).output()?;
    ensure!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    let samples: Vec<i16> =
        out.stdout.chunks_exact(2).map(|two| i16::from_le_bytes([two[0], two[1]])).collect();
    let rises = samples.windows(2).filter(|two| two[0] < 0 && two[1] >= 0).count();
    ensure!(samples.len() > RATE, "{} samples", samples.len());
    Ok(rises as f64 * RATE as f64 / samples.len() as f64)
}
