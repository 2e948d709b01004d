//! Marking: the IDR of a GOP becomes two variants, slice by slice; every other byte passes untouched.
//!
//! ```text
//! avcC → Plan (fits? our own PPS, the new avcC)
//! IDR access unit → Host (what is in it) ─┐
//! Plan + access unit + seed → Job ─► worker process: decode → ±pattern → code A and B → re-head ─► Coded
//!                                         └─► assemble: common bytes as they came, slices as A/B pairs of equal length
//! ```
//!
//! A stream whose IDR pictures are too far apart can be coded anew first: `normalise`.
//!
//! Pure are `h264`, `plan`, `host`, `splice`, `pad`, `rate`, `wire` and all of `job` and `bands` but the codec they call. Effects:
//! `sandbox`, `hand` and `worker` in the child process that decodes (a publisher's bytes meet C++ code there and nowhere else),
//! `pool` and `normalise::coder` in the parent, which run the children (`child`) and believe nothing they say. ISO/IEC 14496-10 and 14496-15;
//! `research/idr-openh264.md` has the measurements.
#![forbid(unsafe_code)]

mod bands;
mod child;
pub mod fuzzing;
pub mod h264;
pub mod hand;
pub mod host;
pub mod job;
pub mod normalise;
pub mod pad;
pub mod plan;
pub mod pool;
pub mod rate;
pub mod sandbox;
pub mod splice;
pub mod wire;
pub mod worker;

pub use job::{Job, MarkError, Marked, mark};
pub use plan::{Misfit, Plan};
pub use pool::{Pool, PoolConfig, PoolCounts, PoolError};
