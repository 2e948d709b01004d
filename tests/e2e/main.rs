//! The programs as a whole, judged from outside. A file for each behaviour; each test has a cluster of its own.
//!
//! Needs the built programs (`RELEVE_BIN_DIR`), ffmpeg and the feeds of `scripts/clip.sh`; `scripts/test.sh` brings all.

mod access;
mod attacked;
mod cdn;
mod frames;
mod hostile;
mod ladder;
mod low_latency;
mod normalise;
mod path;
mod rejoin;
mod secrets;
mod takeover;
mod trace;
mod tracks;
mod variants;
