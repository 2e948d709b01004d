//! The harness: real programs, real feeds, and a judge of what viewers get.
//!
//! ```text
//! feed (FLV file) ─ Publisher (ffmpeg) ─► Cluster { ingest, relays } ─► Viewer ─► Recording
//!        └──────────── flv ───────────────── compared with ─────────────── mp4 ──────┘
//!                                         Judge: rules of live playlists over time
//! ```
//!
//! Everything runs on 127.0.0.1 with ports of the system's choice; every child is ended by its own id when its owner goes.
//! Nothing of the programs is linked here: they are judged from outside, by their documented contracts alone. Errors are
//! `anyhow`: a test fails with the whole chain.
#![forbid(unsafe_code)]

pub mod bench;
pub mod certificate;
pub mod child;
pub mod clock;
pub mod cluster;
pub mod decode;
pub mod enhanced;
pub mod feed;
pub mod flv;
pub mod hls;
pub mod http;
pub mod judge;
pub mod lab;
pub mod mp4;
pub mod obs;
pub mod publisher;
pub mod steady;
pub mod tap;
pub mod tracks;
pub mod viewer;

pub use child::Child;
pub use cluster::{Cluster, Mark};
pub use publisher::Publisher;
pub use viewer::{Recording, Viewer};

use anyhow::{Result, bail};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Asks again and again until there is an answer, at most this long.
///
/// # Errors
/// The last error, with what was waited for, when the time is over.
pub fn wait_for<T>(what: &str, at_most: Duration, mut ask: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + at_most;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= end => {
                return Err(error.context(format!("no {what} within {at_most:?}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Where a tool of the machine is. `None` when it is missing, and the test says so and passes; with
/// `RELEVE_REQUIRE_TOOLS=1` a missing one is an error.
///
/// # Errors
/// When the tool is required and missing.
pub fn tool(name: &str) -> Result<Option<PathBuf>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file());
    if found.is_none() {
        if std::env::var_os("RELEVE_REQUIRE_TOOLS").is_some_and(|value| value == "1") {
            bail!("{name} is not installed; scripts/setup.sh test installs it");
        }
        eprintln!("skipped: {name} is not installed");
    }
    Ok(found)
}

/// The top folder of the source tree.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().map(PathBuf::from).unwrap_or_default()
}
