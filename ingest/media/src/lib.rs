//! The media path, from a publisher's FLV payload to listed segments. Pure: no sockets, clock, files, randomness.
//!
//! ```text
//! RTMP message → flv → feed (timeline) → Unit → [mark: IDR only] → segment (container) → window → Snapshot
//! ```
//!
//! Each room takes values of the room on its left and gives its own; nothing here knows who calls it.
#![forbid(unsafe_code)]

mod bits;
pub mod cbcs;
pub mod config;
pub mod container;
pub mod feed;
pub mod flv;
pub mod fuzzing;
mod obu;
pub mod saved;
pub mod segment;
pub mod timeline;
pub mod unit;
pub mod window;
