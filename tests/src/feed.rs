//! The feeds that tests push, as `scripts/clip.sh` makes them.
//!
//! In: a feed's name. Out: the path of an FLV file; it is made at the first time.

use anyhow::{Context, Result, ensure};
use std::path::PathBuf;
use std::process::Command;

/// 1280×720, 30 frames a second, two B frames, closed GOPs of 2 s, 32 s long.
pub const HD: &str = "720";
/// 640×360, baseline profile (no B frames), 8 s long: cheap.
pub const SMALL: &str = "baseline";
/// 1280×720, closed GOPs of 1 s, 48 s long, no two seconds alike: what a tracer can find again.
pub const WANDER: &str = "wander";
/// The same in closed GOPs of 2 s, 64 s long.
pub const WANDER_2S: &str = "wander-2s";
/// The film of `WANDER`, 64 s of it, in closed GOPs of 250 pictures: 8.3 s.
pub const WANDER_8S: &str = "wander-8s";
/// The same as `WANDER`, 176 s long: for colluders who take their time.
pub const WANDER_LONG: &str = "wander-long";
/// The same at a sixth of its brightness, 64 s long: marks are small in the dark.
pub const DARK: &str = "dark";
/// The same without detail, 64 s long: what remains is as smooth as a sky, and shows marks most.
pub const FLAT: &str = "flat";
/// 640×360, 64 s long, open GOPs: one IDR picture at the start and no other. The film is that of `WANDER`.
pub const OPEN: &str = "open";
/// 640×360, interlaced: cannot be marked.
pub const INTERLACED: &str = "interlaced";
/// 1920×1080, 6 Mb/s, 16 s long: for benchmarks.
pub const FULL_HD: &str = "1080";
/// 960×540, 1 Mb/s, 16 s long: for benchmarks with many viewers.
pub const MEGABIT: &str = "540";
/// 1280×720, 4 Mb/s, 16 s long, a megabyte of video in each GOP: for benchmarks of long segments.
pub const MEGABYTE: &str = "megabyte";
/// 640×360, 250 kb/s, 16 s long: for benchmarks with more viewers still.
pub const QUARTER: &str = "360";

/// Where the feed of that name is.
///
/// # Errors
/// When it cannot be made: then with what the script said.
pub fn path(name: &str) -> Result<PathBuf> {
    let out =
        Command::new(crate::root().join("scripts/clip.sh")).arg(name).output().context("scripts/clip.sh")?;
    ensure!(out.status.success(), "scripts/clip.sh {name}: {}", String::from_utf8_lossy(&out.stderr));
    Ok(PathBuf::from(String::from_utf8(out.stdout)?.trim_end()))
}
