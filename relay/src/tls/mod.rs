//! TLS 1.2 and 1.3 as a viewer's connection speaks it, over byte buffers, without sockets.
//!
//! ```text
//!                 handshake (rustls)                          records (ours)
//! bytes read ─► Inbound ─► process_tls_records ─secrets─► Channel: open in place ─► plaintext ─► http1
//! bytes sent ◄─ Outbound ◄─ flights, alerts               Channel: gather, seal ◄─ slices of the answer
//! ```
//!
//! rustls decides everything that is negotiated: versions, suites, keys, tickets, certificates. When it is done it hands over
//! the traffic secrets, by the door that it has for kernel TLS, and forgets the connection. From then on records are sealed
//! and opened here: slices of shared objects are gathered into one record at a time and sealed in place. Nothing is allocated
//! for a record, no second copy of a segment is made, and an idle connection holds its keys and nothing else. rustls itself
//! would allocate for each record, in either of its interfaces.
//!
//! What a connection holds is bounded: one buffer of a record while more than a few bytes of one have come, and one of `SEALED_BYTES_MAX` while
//! the kernel has not taken everything. RFC 8446, RFC 5246, RFC 5288, RFC 7905.
//!
//! - `session`: one connection, from the first byte to close_notify.
//! - `handshake`: rustls, record by record.
//! - `channel`: records after it; `protection` is one direction's key, `record` the framing.
//! - `buffers`: what a busy connection holds, lent by its worker's pool.
//! - `identity`: what connections with a certificate are made with.

pub mod buffers;
mod channel;
#[cfg(test)]
mod fixtures;
mod handshake;
pub mod identity;
mod protection;
mod record;
pub mod session;

pub use buffers::{Pool, SEALED_BYTES_MAX};
pub use identity::{Certified, Current, Tickets};
pub use record::TlsError;
pub use session::{Handshake, Session};
