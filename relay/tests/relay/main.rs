//! A relay as viewers, operators and origins meet it: one program, so that what all of them need is built once.
//!
//! `cargo test -p releve-relay --test relay tls::` plays one room. What counts allocations stays a program of its own.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

#[path = "../common/mod.rs"]
mod common;

mod bound;
mod carried;
mod cat;
mod cdn;
mod chained;
mod choosing;
mod corpus;
mod crowd;
mod edges;
mod front;
mod http1_hyper;
mod http2;
mod http2_ill;
mod issued;
mod jwt;
mod kept;
mod keys;
mod locked;
mod low_latency;
mod outages;
mod program;
mod refusing;
mod reports;
mod revoking;
mod running;
mod seats;
mod steering;
mod tls;
mod watching;
mod webhook;
mod witness;
