//! What a connection is: everything the kernel must be told to continue it elsewhere.
//!
//! Plain data. In and out: [`TcpState::encode`] and [`TcpState::decode`] (in `encoding.rs`). Sequence numbers are those
//! of RFC 9293 and wrap; options are those of RFC 7323 and RFC 2018.

use std::fmt;
use std::net::SocketAddr;

/// Most bytes of one queue that move with a connection: 64 MiB, ten times what a publisher's connection ever holds.
pub const QUEUE_MAX: usize = 64 << 20;

/// A connection between two segments.
#[derive(Clone, PartialEq, Eq)]
pub struct TcpState {
    /// Our end: the virtual address.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// What was agreed in the handshake.
    pub options: Options,
    /// `RCV.NXT`: the next sequence number expected from the peer.
    pub receive_next: u32,
    /// Bytes that were acknowledged and not yet read. They end at `receive_next`.
    pub unread: Vec<u8>,
    /// The sequence number after the last byte written by the program (sent or not).
    pub write_next: u32,
    /// Bytes the peer has not acknowledged. They end at `write_next`.
    pub unacknowledged: Vec<u8>,
    /// How many bytes at the end of `unacknowledged` were never sent.
    pub unsent: usize,
    /// The windows; without them the kernel starts with small ones.
    pub window: Option<Window>,
}

/// What both ends agreed on in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Largest segment we may send, bytes.
    pub segment_max: u16,
    /// Selective acknowledgement.
    pub sack: bool,
    /// Window scaling; `None` when one end did not offer it.
    pub scale: Option<Scale>,
    /// Our timestamp clock at the moment of the dump; `None` when timestamps are off. The lowest bit says that the
    /// clock counts microseconds (Linux 6.7 and later), else milliseconds.
    pub timestamp: Option<u32>,
}

/// Window scale shifts, 0–14.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Applies to windows the peer announces.
    pub send: u8,
    /// Applies to windows we announce.
    pub receive: u8,
}

/// `struct tcp_repair_window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// `SND.WL1`: sequence number of the segment that last changed the send window.
    pub update: u32,
    /// `SND.WND`: bytes the peer allows us, scaled.
    pub send: u32,
    /// The largest send window seen.
    pub send_max: u32,
    /// `RCV.WND`: bytes we allow the peer, scaled.
    pub receive: u32,
    /// `RCV.NXT` when that was last announced.
    pub receive_update: u32,
}

impl TcpState {
    /// The bytes that were never sent; they must be written after the connection is live again.
    pub fn unsent_bytes(&self) -> &[u8] {
        &self.unacknowledged[self.sent_length()..]
    }

    /// The bytes that were sent and not acknowledged.
    pub fn in_flight(&self) -> &[u8] {
        &self.unacknowledged[..self.sent_length()]
    }

    fn sent_length(&self) -> usize {
        self.unacknowledged.len().saturating_sub(self.unsent)
    }
}

/// Without the bytes: a publisher's data has no place in a log.
impl fmt::Debug for TcpState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("TcpState")
            .field("local", &self.local)
            .field("peer", &self.peer)
            .field("options", &self.options)
            .field("receive_next", &self.receive_next)
            .field("unread", &self.unread.len())
            .field("write_next", &self.write_next)
            .field("unacknowledged", &self.unacknowledged.len())
            .field("unsent", &self.unsent)
            .field("window", &self.window)
            .finish()
    }
}
