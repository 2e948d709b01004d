//! `inspect`: where a clip is from, and what can be read of the mark.

use super::compare::{Compared, open, see};
use super::{DONE, NOT_OURS};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;

/// What is asked.
#[derive(Args)]
pub struct Inspect {
    /// The clip: any film that ffmpeg reads.
    #[arg(long)]
    clip: PathBuf,
    #[command(flatten)]
    compared: Compared,
}

/// Shows where a clip is from and what can be read of it; needs no keys and no register.
///
/// # Errors
/// Says what is missing or wrong.
pub fn inspect(asked: Inspect) -> Result<u8> {
    let references = open(&asked.compared)?;
    let seen = see(&references, &references, &asked.clip)?;
    let (reads, places) = (seen.reads(), seen.places());
    if asked.compared.json {
        let seconds = seen.detection.seconds;
        let json = serde_json::json!({"seconds": seconds, "symbols": reads.len(), "places": places, "evidence": reads});
        println!("{json}");
        return Ok(if places.is_empty() { NOT_OURS } else { DONE });
    }
    println!("{:.1} s, {} symbols", seen.detection.seconds, reads.len());
    places.iter().for_each(|place| println!("{place}"));
    let mut gop = None;
    for read in &reads {
        if gop != Some(read.gop) {
            gop = Some(read.gop);
            print!(
                "\n{:>8.2} s  {} {:>6} {}  ",
                read.at_s,
                read.stream,
                read.segment,
                hex::encode(&read.gop.0[..4])
            );
        }
        print!(" {}{:+.2}±{:.2}", read.slice, read.soft, read.variance.sqrt());
    }
    println!();
    Ok(if places.is_empty() { NOT_OURS } else { DONE })
}
