//! Log lines: set up once, and a gate for those that a peer could cause without end.
//!
//! In: a format. Out: `tracing` lines on standard error. Secrets have types that print `***`; nothing here sees them.

use crate::config::LogFormat;
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tracing_subscriber::EnvFilter;

/// Starts logging; `RUST_LOG` chooses levels, `info` by default.
pub fn start(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A second start (tests in one process) changes nothing.
    let _ = match format {
        LogFormat::Human => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

/// Lets one line a second pass and counts the rest.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<(Option<Instant>, u64)>,
}

impl Gate {
    /// `Some(n)` when a line may be written now, `n` being how many were held back since the last.
    pub fn pass(&self) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let now = Instant::now();
        if state.0.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1)) {
            state.1 += 1;
            return None;
        }
        let held = std::mem::take(&mut state.1);
        state.0 = Some(now);
        Some(held)
    }
}
