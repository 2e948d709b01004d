//! Which connection, where its numbers begin, and how far the standby has come.

use std::net::SocketAddr;

/// A connection by its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// Our end: the virtual address and the protected port.
    pub local: SocketAddr,
    /// The publisher's end.
    pub peer: SocketAddr,
}

/// The first sequence numbers behind the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Of the first byte from the peer.
    pub received: u32,
    /// Of our first byte.
    pub sent: u32,
}

/// What the standby has, counted in sequence numbers since the [`Base`]: bytes, plus one for a FIN it knows about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// From the peer.
    pub received: u64,
    /// Of our output.
    pub sent: u64,
}
