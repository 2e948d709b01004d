//! Freeze: from here on no segment reaches the connection, and the peer hears nothing about it.
//!
//! One filter instruction on the socket ("keep 0 bytes") discards every segment before TCP sees it: no acknowledgement,
//! no reset, no trace. The peer sends again later. One call, one connection, undone by one call.

use super::dump::Dumped;
use super::error::Error;
use super::repair;
use crate::error::Purpose;
use crate::sys::netlink;
use socket2::{SockFilter, Socket};
use std::io;
use std::net::TcpStream;

/// A connection that no segment reaches. Reading still works: read it empty before the dump, then less has to move.
///
/// Dropped, it is thawed and closes like any connection.
#[derive(Debug)]
pub struct Frozen {
    socket: Option<Socket>,
    /// What the socket had discarded before.
    discarded: u32,
}

/// A step that failed, with the connection as it was before: nothing is lost by trying.
#[derive(Debug)]
pub struct Kept<T> {
    /// The connection, still usable.
    pub kept: T,
    /// Why the step failed.
    pub error: Error,
}

/// `BPF_RET | BPF_K`: the program ends and keeps `k` bytes of the packet.
const RETURN: u16 = 0x06;

impl Frozen {
    /// Freezes a connection.
    ///
    /// # Errors
    /// The filter could not be attached; the stream comes back untouched.
    pub fn freeze(stream: TcpStream) -> Result<Self, Box<Kept<TcpStream>>> {
        let socket = Socket::from(stream);
        // Only a count for people: a kernel that does not tell counts none.
        let discarded = repair::discarded(&socket).unwrap_or(0);
        let attached = socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]);
        match attached.to("freeze a connection (SO_ATTACH_FILTER)") {
            Ok(()) => Ok(Self { socket: Some(socket), discarded }),
            Err(error) => Err(Box::new(Kept { kept: socket.into(), error: error.into() })),
        }
    }

    /// Undoes the freeze. The peer's next transmission arrives as if nothing had been.
    ///
    /// # Errors
    /// The filter could not be removed; the connection is then still frozen.
    pub fn thaw(self) -> Result<TcpStream, Box<Kept<Self>>> {
        match self.socket().detach_filter().to("thaw a connection (SO_DETACH_FILTER)") {
            Ok(()) => Ok(self.into_socket().into()),
            Err(error) => Err(Box::new(Kept { kept: self, error: error.into() })),
        }
    }

    /// Reads what had arrived before the freeze. `WouldBlock` when all is read.
    ///
    /// # Errors
    /// As reading from the stream; `Ok(0)` means the peer had closed its side.
    pub fn drain(&self, buffer: &mut [u8]) -> io::Result<usize> {
        netlink::receive(self.socket(), buffer, libc::MSG_DONTWAIT)
    }

    /// Takes down everything that makes up this connection.
    ///
    /// # Errors
    /// The connection is not established, still moved, or the kernel refused; the frozen connection comes back.
    pub fn dump(self) -> Result<Dumped, Box<Kept<Self>>> {
        Dumped::of(self)
    }

    pub(super) fn socket(&self) -> &Socket {
        self.socket.as_ref().expect("the socket leaves only together with its owner")
    }

    /// What the socket had discarded before the freeze.
    pub(super) fn discarded_before(&self) -> u32 {
        self.discarded
    }

    /// Takes the socket out with its filter in place.
    pub(super) fn into_socket(mut self) -> Socket {
        self.socket.take().expect("the socket leaves only together with its owner")
    }

    pub(super) fn from_socket(socket: Socket) -> Self {
        Self { socket: Some(socket), discarded: 0 }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(socket) = &self.socket {
            // A connection that hears nothing could never finish its close; if this fails it times out instead.
            let _ = socket.detach_filter();
        }
    }
}
