//! A bar on stderr while work is long, where somebody looks.
//!
//! In: how much of what is done. Out: one line, written over; nothing unless stderr is a terminal.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often it is drawn.
const EVERY: Duration = Duration::from_millis(100);

/// The bar.
pub struct Bar {
    shown: bool,
    drawn: Option<Instant>,
}

impl Bar {
    /// A bar where stderr is a terminal.
    pub fn new() -> Bar {
        Bar { shown: std::io::stderr().is_terminal(), drawn: None }
    }

    /// Shows that `done` of `all` seconds of a step are through.
    pub fn show(&mut self, step: &str, done: f64, all: f64) {
        let due = self.drawn.is_none_or(|drawn| drawn.elapsed() >= EVERY);
        if !self.shown || !due {
            return;
        }
        self.drawn = Some(Instant::now());
        let part = if all > 0.0 { (done / all).clamp(0.0, 1.0) } else { 0.0 };
        let full = (part * 30.0) as usize;
        // A terminal that is gone is no reason to stop.
        let _ = write!(
            std::io::stderr(),
            "\r\x1b[K{step:<28} [{}{}] {done:.0} s",
            "#".repeat(full),
            ".".repeat(30 - full)
        );
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.shown && self.drawn.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Default for Bar {
    fn default() -> Bar {
        Bar::new()
    }
}
