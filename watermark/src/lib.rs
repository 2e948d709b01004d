//! Forensic watermark: which variant a viewer gets, what the variants look like, and (later) who a leak came from.
//!
//! Depends on no other part of Relève: the ingest asks it for patterns, a relay for symbols, and `releve-trace` reads
//! both back. Pure: bytes and integers in, bytes and integers out; only `records`, which the `releve-trace` program reads
//! with, touches files.
#![forbid(unsafe_code)]

pub mod codeword;
pub mod detect;
pub mod embed;
pub mod key;
pub mod position;
pub mod records;
pub mod score;
pub mod video;

pub use codeword::{Codebook, Symbol, WatermarkId};
pub use key::{Key, KeyRing};
pub use position::{GopId, Position};
