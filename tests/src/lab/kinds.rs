//! Publishers whose kernels agree on less in their handshake: no SACK, no timestamps, no window scaling.
//!
//! In: a kind. Out: a steady publisher whose connection was made so. Touches three switches of the publishers' namespace, and
//! puts them back.

use super::rig::Rig;
use crate::steady::Steady;
use anyhow::{Context, Result};
use std::fs;

/// Which switches are off while it connects.
pub type Kind = &'static [&'static str];

/// One without each, one without all.
pub const ALL: [Kind; 4] = [
    &["tcp_sack"],
    &["tcp_timestamps"],
    &["tcp_window_scaling"],
    &["tcp_sack", "tcp_timestamps", "tcp_window_scaling"],
];

/// Starts a publisher of that kind.
///
/// # Errors
/// When a switch cannot be set, or the publisher is not let in.
pub fn start(kind: Kind, feed: &str, key: &str) -> Result<Steady> {
    set(kind, "0")?;
    let started = Steady::start(feed, Rig::address()?, key);
    set(kind, "1")?;
    started.with_context(|| format!("without {kind:?}"))
}

fn set(kind: Kind, value: &str) -> Result<()> {
    for name in kind {
        let file = format!("/proc/sys/net/ipv4/{name}");
        fs::write(&file, value).with_context(|| file)?;
    }
    Ok(())
}
