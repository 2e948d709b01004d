//! One node by itself, as publishers, relays and its disk meet it: one program, so that what all of them need is built once.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../common/mod.rs"]
mod common;

mod archive;
mod backup;
mod drm;
mod issue;
mod node;
mod normalise;
mod relevectl;
mod rtmps;
mod slots;
mod tracks;
