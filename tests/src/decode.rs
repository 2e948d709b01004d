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
