//! The run record: everything a segment is a function of besides its access units.
//!
//! Durable before the first segment of the run; every node that has it makes the same segments from the same bytes. Pure.

use crate::content_key::Encryption;
use crate::name::{RunId, StreamName};
use serde::{Deserialize, Serialize};

/// One numbering and time origin of a stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id, drawn at random when it begins.
    pub id: RunId,
    /// The stream it belongs to.
    pub stream: StreamName,
    /// UTC of tick 0, in Unix milliseconds. Dates are this plus ticks, never a clock.
    pub anchor_unix_ms: i64,
    /// Number of its first segment: one above every number the stream has used.
    pub first_number: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE` of its first segment.
    pub first_discontinuity: u64,
    /// `EXT-X-TARGETDURATION` in seconds, 1 to 10; a segment never rounds to more.
    pub target_duration_s: u32,
    /// Longest part, in 90 kHz ticks.
    pub part_90k: i64,
    /// Whether its segments are there as MPEG-TS too.
    #[serde(default)]
    pub mpeg_ts: bool,
    /// How its segments are encrypted, if they are.
    #[serde(default)]
    pub encryption: Option<Encryption>,
}
