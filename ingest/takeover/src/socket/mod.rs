//! One TCP connection changes its host: freeze, dump, restore.
//!
//! The types allow one order only:
//!
//! ```text
//!  old host   TcpStream ─► Frozen ─► Dumped ─► Departed ─► (closed in silence)
//!                  ▲          │         │         point of no return: from here the peer owns the connection
//!                  └── thaw ──┴─────────┘
//!  new host   TcpState ─► Quiet ─► Live
//!                           │ built, no packet sent; drop it and nobody has noticed anything
//! ```
//!
//! A crash has no old host to ask. There [`Baseline`] (what never changes in a connection) and [`Progress`] (how far it
//! had come) give the `TcpState`, and the rest is the same.

mod baseline;
mod dump;
mod encoding;
mod error;
mod freeze;
mod orphan;
mod repair;
mod restore;
mod state;

pub use baseline::{Baseline, Progress};
pub use dump::{Departed, Dumped, peek};
pub use error::Error;
pub use freeze::{Frozen, Kept};
pub use orphan::{destroy_orphan, destroy_orphans};
pub use restore::{Live, Quiet};
pub use state::{Options, QUEUE_MAX, Scale, TcpState, Window};

/// Bytes written to the socket that the peer has not acknowledged (SIOCOUTQ).
///
/// # Errors
/// The descriptor is no open socket.
pub fn unacknowledged(stream: &impl std::os::fd::AsFd) -> std::io::Result<usize> {
    crate::sys::option::queue_length(stream, libc::TIOCOUTQ)
}

/// Bytes that have arrived and were not read (SIOCINQ).
///
/// # Errors
/// The descriptor is no open socket.
pub fn unread(stream: &impl std::os::fd::AsFd) -> std::io::Result<usize> {
    crate::sys::option::queue_length(stream, libc::FIONREAD)
}

/// Whether this process may move connections at all.
///
/// # Errors
/// Missing CAP_NET_ADMIN.
pub fn repair_allowed() -> Result<(), crate::SystemError> {
    use crate::error::Purpose;
    repair::allowed().to("enter repair mode (TCP_REPAIR)")
}
