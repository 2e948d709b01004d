//! The normaliser: a stream whose IDR pictures are too far apart, or that is not 8-bit H.264, becomes one of closed GOPs that can
//! be marked.
//!
//! ```text
//! units → Normaliser (does it fit? what must be coded?) ─ Step ─► worker process: Session (decode → rate → code) ─ Coded ─┐
//! units ◄─────────────────────────────────────────────── Normaliser (decode times, our configuration) ◄──────────────────┘
//! ```
//!
//! In: the units of one publisher, in order. Out: the same number of pictures, each with the presentation time it came with
//! and with the decode times of the stream in order; sound and everything else untouched. Pure are `flow`, `rate`, `sets`;
//! `session` calls the codec and runs in the worker; `coder` runs the worker. `ingest/docs/normalise.md` is the operators'
//! page.
//!
//! **The same bytes on every node.** An IDR period of the stream is a pure function of its access units and of the `Rate`
//! that came out of the period before: a fresh decoder at its IDR picture, a fresh encoder for every GOP that is made of it,
//! integers, one thread, no clock. For the same reason nothing can begin elsewhere than at an IDR picture of the publisher.

pub mod coder;
mod decoding;
mod flow;
#[cfg(feature = "libav")]
mod foreign;
mod rate;
mod session;
mod sets;
mod source;

pub use flow::{Do, Fault, GOP_LONGEST_90K, Normaliser, Saved};
pub use rate::Rate;
pub use session::{Session, SessionError};
pub use sets::Untrue;
pub use source::Source;

use bytes::Bytes;
use media::unit::VideoCoding;

/// Pictures that a decoder may hold back: no level lets more be kept (ISO/IEC 14496-10 §A.3.1).
pub const DELAY_MAX: usize = 16;

/// What the worker is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An IDR period begins, with the next picture; the one before ends.
    Begin {
        /// The publisher's coding.
        coding: VideoCoding,
        /// Its configuration record.
        record: Bytes,
        /// After so long a new GOP begins, in ticks.
        gop_90k: u32,
        /// What the period before left, where the worker has not made it itself.
        rate: Rate,
    },
    /// The next access unit of the period.
    Picture {
        /// When it is shown, in ticks.
        pts_90k: i64,
        /// Its length-prefixed NAL units.
        access_unit: Bytes,
    },
    /// The period is over: everything comes out.
    End,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coded {
    /// Pictures in output order: when each is shown, in ticks, and its bytes in Annex B as the encoder gave them.
    pub pictures: Vec<(i64, Bytes)>,
    /// For the next period.
    pub rate: Rate,
}
