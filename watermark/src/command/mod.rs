//! The commands of `releve-trace`: each reads files, asks the pure rooms, and says how it ended.
//!
//! In: a parsed command line. Out: text on stdout, notes and progress on stderr, an exit code. Touches the files named.

pub mod codeword;
pub mod compare;
pub mod identify;
pub mod inspect;
pub mod progress;
pub mod verify;

/// Exit code: a viewer is named, or the command did what it says.
pub const DONE: u8 = 0;
/// Exit code: something is missing or damaged; stderr says what.
pub const FAILED: u8 = 1;
/// Exit code: there is not enough evidence.
pub const INSUFFICIENT: u8 = 3;
/// Exit code: the copy carries no mark of ours.
pub const NOT_OURS: u8 = 4;
