//! The tasks of an ingest node and what passes between them.
//!
//! `node` starts everything. `rtmp` accepts publishers (`rtmps` through TLS), one task a connection, and hands media to `streams`, which knows
//! who holds which slot. `publish` is one task a stream and the only owner of that stream's feed, segmenter and window;
//! `marking` is its way to the marking processes, `key_server` to the keys of DRM systems. `origin` answers relays and `admin` operators from what `publish` last
//! published. Queues are bounded, and a full one makes the publisher wait.

pub mod admin;
pub mod admission;
pub mod archive;
pub mod key_server;
pub mod marking;
pub mod node;
pub mod normalising;
pub mod origin;
pub mod pair;
pub mod publish;
pub mod rtmp;
pub mod rtmps;
pub mod streams;
pub mod vacancy;
