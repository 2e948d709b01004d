//! State that more than one node shares: who may publish, which numbers are used, who watched, who may no longer.
//!
//! Traits `Coordinator` (with `Seats`), `Ledger` and `Blobs`, with one conformance suite (`tests/conformance.rs`) over their back-ends:
//! `memory` for tests, `sqlite` and `local` for one machine. None of it is on the media path: when it fails, streams and
//! viewers go on, and what needs it waits.
//!
//! The traits say what is durable when a call returns; nothing here knows RTMP, HTTP or a clock.
#![forbid(unsafe_code)]

pub mod blobs;
pub mod coordinator;
pub mod directory;
pub mod ledger;
pub mod local;
pub mod memory;
pub mod seats;
pub mod sqlite;
pub mod stream_key;

pub use blobs::Blobs;
pub use coordinator::Coordinator;
pub use directory::DirectoryEntry;
pub use ledger::Ledger;
pub use seats::Seats;
pub use stream_key::{KeyHash, StreamKey};
