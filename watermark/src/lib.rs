//! Forensic watermark: which variant a viewer gets, what the variants look like, and (later) who a leak came from.
//!
//! Depends on no other part of Relève: the ingest asks it for patterns, a relay for symbols, and `releve-trace` reads
//! both back. Pure: bytes and integers in, bytes and integers out; only `records` and `archive::io`, which the
//! `releve-trace` program reads with, touch files.
#![forbid(unsafe_code)]

pub mod archive;
pub mod codeword;
pub mod detect;
pub mod embed;
pub mod key;
pub mod object;
pub mod position;
pub mod records;
pub mod score;
pub mod video;

pub use codeword::{Codebook, Symbol, WatermarkId};
pub use key::{Key, KeyRing};
pub use position::{GopId, Position};
