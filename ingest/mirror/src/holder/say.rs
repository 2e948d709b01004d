//! Bytes of any length as frames of their size.

use crate::ConnectionId;
use crate::frame::{Frame, PAYLOAD_MAX};
use crate::link::Link;
use bytes::Bytes;

pub(super) fn first_state(connection: ConnectionId, bytes: Bytes) -> Frame {
    Frame::Snapshot { connection, input: 0, at: 0, last: true, bytes }
}

pub(super) fn send_input(link: &mut Link, connection: ConnectionId, offset: u64, bytes: &Bytes) {
    for (at, bytes) in pieces(bytes) {
        link.send(Frame::Input { connection, offset: offset + at, bytes });
    }
}

pub(super) fn send_output(link: &mut Link, connection: ConnectionId, offset: u64, bytes: &Bytes) {
    for (at, bytes) in pieces(bytes) {
        link.send(Frame::Output { connection, offset: offset + at, bytes });
    }
}

/// Cuts to the size of a frame.
fn pieces(bytes: &Bytes) -> impl Iterator<Item = (u64, Bytes)> {
    (0..bytes.len())
        .step_by(PAYLOAD_MAX)
        .map(|at| (at as u64, bytes.slice(at..bytes.len().min(at + PAYLOAD_MAX))))
}
