//! From what was read of a copy to an answer that somebody else can check: who, how sure, on which evidence.
//!
//! In: a `Detection`, the GOP records that it is about, keys, a register. Out: a `Finding`, as JSON and as a page; `io` has
//! the archive's pictures for the detector. Pure but for `io`.
//!
//! Where GOPs of several key versions are in a copy, each part is scored apart and pays for all of them.

pub mod finding;
pub mod io;
pub mod page;
pub mod whole;

pub use finding::{Finding, Read, Register, Suspects, find, verify};
pub use whole::{chosen, whole};
