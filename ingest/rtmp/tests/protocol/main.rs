//! The protocol from outside: sessions, traps, attacks, and another implementation beside ours. One program, built once.
#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;

mod attacks;
mod chunks;
mod corpus;
mod differential;
mod properties;
mod session;
mod traps;
