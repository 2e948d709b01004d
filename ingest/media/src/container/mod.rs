//! How samples become bytes: CMAF boxes, and the hash of an object that is still in pieces.
//!
//! In: configurations, samples, pieces. Out: boxes and hashes. Pure.

pub mod cmaf;
pub mod pieces;
