//! How long viewers may take, and how a connection ends.
//!
//! Values only, each with its reason; `connection` acts on them.

use std::time::Duration;

/// How long viewers may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Between an answer and the first byte of the next request.
    pub idle: Duration,
    /// From the first byte of a head to its last, and to the last of its body.
    pub head: Duration,
    /// To take the next bytes of an answer, at most.
    pub write: Duration,
    /// Bytes a second that a viewer takes in the long run, at least: whoever takes less uses up `write`.
    pub write_rate_min: u32,
    /// To end the connection after us, so that our last answer is not lost in a reset.
    pub linger: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            idle: Duration::from_secs(30), // players poll every few seconds
            head: Duration::from_secs(10),
            write: Duration::from_secs(20),
            write_rate_min: 4 << 10, // half of the smallest audio rendition
            linger: Duration::from_secs(1),
        }
    }
}

/// What the shell has to do with the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Read and write.
    Open,
    /// Everything is sent: shut the write side once, go on reading (what comes is passed over).
    Lingering,
    /// Close it, or reset it if the ending says so; `close` comes last.
    Over(Ending),
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All that was to be said is said.
    Done,
    /// No request came for `Patience::idle`.
    Idle,
    /// A head or its body did not come to its end within `Patience::head`.
    Late,
    /// The viewer takes no bytes, or too few: reset it, or the kernel goes on holding what is unsent.
    Slow,
}
