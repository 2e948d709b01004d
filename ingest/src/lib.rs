//! The ingest node: publishers in on one side, listed segments out on the other.
//!
//! ```text
//!  rtmp::Session ─► Message ─► publish (Feed ─► marking ─► Segmenter ─► commit ─► Window) ─► origin
//!  io::rtmp                     io::publish, one task a stream                              io::origin
//! ```
//!
//! The pure rooms are packages of their own (`rtmp`, `media`, `mark`'s core); here are the decisions of a node (`config`,
//! `slot`, `merge`, `state_dir`) and, under `io`, the tasks that carry bytes between sockets, rooms and the state store.
#![forbid(unsafe_code)]

pub mod config;
pub mod cpix;
pub mod io;
pub mod key_change;
pub mod log;
pub mod merge;
pub mod metrics;
pub mod operator;
pub mod slot;
pub mod state_dir;
