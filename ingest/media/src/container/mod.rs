//! How samples become bytes: CMAF boxes, a transport stream of the same, and the hash of an object that is still in pieces.
//!
//! In: configurations, samples, pieces. Out: boxes, packets and hashes. Pure.

pub mod cmaf;
pub mod mpeg_ts;
pub mod pieces;
