//! A broadcaster: real ffmpeg, pushing a prepared feed as it is.
//!
//! In: a feed and an RTMP URL. Out: a running push; ffmpeg's own words in a log.

use crate::child::Child;
use crate::feed;
use anyhow::Result;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// A running push.
pub struct Publisher {
    /// ffmpeg.
    pub child: Child,
    /// When it was started.
    pub started: Instant,
}

impl Publisher {
    /// Pushes a feed once, from its first to its last picture, in real time.
    ///
    /// # Errors
    /// When the feed or ffmpeg is missing.
    pub fn once(feed: &str, url: &str, dir: &Path) -> Result<Publisher> {
        Publisher::push(feed, url, dir, &[])
    }

    /// Pushes a feed over and over; timestamps go on.
    ///
    /// # Errors
    /// When the feed or ffmpeg is missing.
    pub fn looped(feed: &str, url: &str, dir: &Path) -> Result<Publisher> {
        Publisher::push(feed, url, dir, &["-stream_loop", "-1"])
    }

    fn push(feed: &str, url: &str, dir: &Path, options: &[&str]) -> Result<Publisher> {
        let path = feed::path(feed)?;
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-hide_banner", "-v", "warning", "-re"]).args(options).arg("-i").arg(path);
        ffmpeg.args(["-c", "copy", "-f", "flv", "-flvflags", "no_duration_filesize"]).arg(url);
        let started = Instant::now();
        let child = Child::start("ffmpeg", &mut ffmpeg, &dir.join("publisher.log"))?;
        Ok(Publisher { child, started })
    }
}
