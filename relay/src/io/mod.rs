//! Everything that touches the world: sockets, files, environment, signals, logs.
//!
//! ```text
//! start ─► key_files, config, ledger and coordinator
//!       ├─► viewers    one thread a core (epoll, `tls`, `http1`) ─► node.step, or node.answer on the runtime
//!       │              └─► http2    one task a connection that chose it, one a request
//!       ├─► admin      one task a connection (hyper): /metrics /livez /readyz, tokens to mint
//!       ├─► tier       one task a connection (hyper): relays behind this one, when configured
//!       ├─► revocations, announce, jwks, sessions, certificate    one task each
//!       ├─► witness    one thread: grants epochs to ingest nodes, when configured
//!       └─► (node)     one task an origin of a followed stream, one task a flight ─► origin (hyper client)
//! ```

pub mod admin;
pub mod certificate;
pub mod config;
pub(crate) mod http2;
pub mod jwks;
pub mod key_files;
pub mod log;
pub mod metrics;
pub mod mint;
pub mod origin;
pub mod players;
pub mod regular;
pub mod sessions;
pub mod start;
mod tier;
pub mod viewers;
pub mod webhook;
pub mod witness;
