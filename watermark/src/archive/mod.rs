//! The archive: what an ingest keeps of a stream so that a leak can be traced to it later.
//!
//! In: segment records and their marked objects. Out: hash-chained logs that a crash cannot half write, and their reading.
//! The format (`record`, `log`, `segment`) is pure, and the same for files and an object store; `io` reads a folder of them.
//! The ingest writes through `log`. `docs/archive.md` describes the bytes.

pub mod fragment;
pub mod io;
pub mod log;
pub mod record;
pub mod segment;

pub use io::{Archive, ArchiveError, Entry};
pub use log::{Head, Log, LogName};
pub use record::{Chain, Kind, RecordError};
pub use segment::{GopRecord, SegmentRecord};
