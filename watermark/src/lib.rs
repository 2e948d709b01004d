//! Forensic watermark: which variant a viewer gets, what the variants look like, and who a leak came from.
//!
//! Depends on no other part of Relève: the ingest asks it for patterns, a relay for symbols, and `releve-trace` reads
//! both back. Pure: bytes and integers in, bytes and integers out; only what the
//! `releve-trace` program reads with touches files: `records`, `video`, `archive::io`, `trace::io` and its `command`s.
#![forbid(unsafe_code)]

pub mod archive;
pub mod codeword;
pub mod command;
pub mod detect;
pub mod embed;
pub mod key;
pub mod keybook;
pub mod object;
pub mod position;
pub mod records;
pub mod score;
mod threads;
pub mod trace;
pub mod video;

pub use codeword::{Codebook, Symbol, WatermarkId};
pub use key::{Key, KeyRing};
pub use keybook::KeyBook;
pub use position::{GopId, Position};
