//! What can stop a connection from changing its host.

use crate::SystemError;
use std::net::SocketAddr;
use thiserror::Error;

/// Why a connection cannot be frozen, dumped, read from bytes or restored.
#[derive(Debug, Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// Only an established connection moves; a half-closed one is left to finish where it is.
    #[error("the connection with {peer} is not established (kernel state {state}): let it end on this host")]
    NotEstablished {
        /// The other end.
        peer: SocketAddr,
        /// The kernel's number of the state, as in tcp_states.h.
        state: u8,
    },
    /// Segments kept arriving although the socket was frozen.
    #[error("the connection with {peer} still changed after the freeze: nothing was moved, try again")]
    StillMoving {
        /// The other end.
        peer: SocketAddr,
    },
    /// A queue is longer than a state may carry.
    #[error("the {queue} queue holds {length} bytes, more than the {max} that move with a connection")]
    QueueTooLong {
        /// `receive` or `send`.
        queue: &'static str,
        /// Bytes in it.
        length: usize,
        /// The limit.
        max: usize,
    },
    /// An address that means something only on the host that wrote it.
    #[error("{address} is a link-local address: it has no meaning on another host")]
    LinkLocal {
        /// The address.
        address: SocketAddr,
    },
    /// One end is IPv4, the other IPv6.
    #[error("the ends {local} and {peer} are of different families")]
    MixedFamilies {
        /// This end.
        local: SocketAddr,
        /// The other end.
        peer: SocketAddr,
    },
    /// A state received as bytes is not one.
    #[error("a connection state is broken at byte {offset}: {what}")]
    Encoding {
        /// Where reading stopped.
        offset: usize,
        /// What was expected there.
        what: &'static str,
    },
    /// The kernel took only a part of a queue back.
    #[error("the kernel took {taken} of {length} bytes back into the {queue} queue")]
    Refill {
        /// `receive` or `send`.
        queue: &'static str,
        /// Bytes it took.
        taken: usize,
        /// Bytes there were.
        length: usize,
    },
}
