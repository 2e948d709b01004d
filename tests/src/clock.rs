//! A broadcaster whose pictures show the time: a bar of 24 squares at the top, the milliseconds of this machine's clock in
//! binary, the lowest bit on the left.
//!
//! In: an RTMP URL. Out: a running push of the sea at 720p30, coded as it goes with GOPs of 2 s, as OBS does for low latency
//! (`zerolatency`: no pictures held back by the encoder). `browser/watch.mjs clock` reads the bar off the screen.

use crate::{Child, Publisher, feed};
use anyhow::Result;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// The time when the filter sees a picture, as 24 squares of 40 samples a side. The bar's own stamps hold the time, since
/// `geq` can read those; both branches then count pictures, so that the bar meets its picture again.
const BAR: &str = "[0:v]split[sea][seen];\
    [seen]scale=24:1,format=gray,settb=1/1000,setpts='mod(floor(RTCTIME/1000),16777216)',\
    geq=lum='if(mod(floor((T*1000+0.5)/pow(2,X)),2),235,16)',\
    scale=960:40:flags=neighbor,settb=1/30,setpts=N[bar];\
    [sea]settb=1/30,setpts=N[picture];\
    [picture][bar]overlay=0:0,format=yuv420p[out]";

/// Starts it.
///
/// # Errors
/// When the feed or ffmpeg is missing.
pub fn publish(url: &str, dir: &Path) -> Result<Publisher> {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-hide_banner", "-v", "warning", "-re", "-stream_loop", "-1", "-i"]);
    ffmpeg.arg(feed::path(feed::HD)?).args([
        "-filter_complex",
        BAR,
        "-map",
        "[out]",
        "-map",
        "0:a",
        "-c:a",
        "copy",
    ]);
    ffmpeg.args([
        "-c:v",
        "libx264",
        "-preset",
        "superfast",
        "-tune",
        "zerolatency",
        "-b:v",
        "2500k",
        "-g",
        "60",
    ]);
    ffmpeg.args(["-sc_threshold", "0", "-f", "flv", "-flvflags", "no_duration_filesize"]).arg(url);
    let started = Instant::now();
    Ok(Publisher { child: Child::start("ffmpeg", &mut ffmpeg, &dir.join("publisher.log"))?, started })
}
