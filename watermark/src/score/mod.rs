//! Name the leak: from soft symbols read off a pirate copy to accused viewers, or to nobody.
//!
//! In: a codebook, the ids of the register, an `Evidence` (what a reader saw at which position, and how well), and what
//! else was tried. Out: a `Report` whose false-positive probability rests on the code alone. Pure: no I/O, no clock;
//! floating point is allowed here, since nothing that two nodes must agree on is made from it.
//!
//! ```text
//! Evidence ─► decoder: weights for A and B under each model of collusion ─► search: every id's scores ─► top list
//!                 └─► tail: P(an innocent scores this much), exact ────────────────┐                        │
//! Evidence ─► presence: is there a mark of ours at all?     verdict ◄── price of everything tried ◄─ joint ◄┘
//! ```
//!
//! `docs/score.md` has the mathematics, what is promised and the measured figures.

pub mod decoder;
pub mod evidence;
mod joint;
mod need;
pub mod presence;
pub mod roll;
pub mod search;
#[cfg(test)]
mod simulation;
pub mod tail;
pub mod verdict;

pub use decoder::{DECODERS, Decoder, Strategy};
pub use evidence::{Evidence, EvidenceError, Observation};
pub use presence::Presence;
pub use roll::Roll;
pub use search::{Candidate, Ranking, rank};
pub use tail::{Step, Tail};
pub use verdict::{Accused, Basis, Report, Tried, Verdict, judge, judge_roll, looks};
