//! A body as hyper sends it: slices of exact length, written together, and cut when the viewer may no longer have them.

use super::socket::Traffic;
use crate::node::{Body, Node};
use crate::session::Session;
use crate::token::Refusal;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The longest slice handed over at once, in bytes: between two of them the session is checked again.
const FRAME_BYTES_MAX: usize = 256 << 10;

/// Slices on their way to one viewer.
pub(super) struct Sending {
    left: VecDeque<Bytes>,
    left_bytes: u64,
    node: Arc<Node>,
    session: Option<Session>,
}

impl Sending {
    pub(super) fn new(body: Body, node: &Arc<Node>, traffic: &Traffic) -> Sending {
        let (pieces, session) = match body {
            Body::Empty => (Vec::new(), None),
            Body::Shared(bytes) => (vec![bytes], None),
            Body::Copy { pieces, session } => (pieces, Some(session)),
        };
        if let Some(session) = &session {
            traffic.sending(session);
        }
        let left_bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        Sending { left: pieces.into(), left_bytes, node: node.clone(), session }
    }
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        if self.left_bytes > 0
            && let Some(Err(refusal)) = self.session.as_ref().map(|session| self.node.still(session))
        {
            self.node.metrics.bodies_cut.inc();
            return Poll::Ready(Some(Err(refusal)));
        }
        while let Some(mut slice) = self.left.pop_front() {
            if slice.len() > FRAME_BYTES_MAX {
                let rest = slice.split_off(FRAME_BYTES_MAX);
                self.left.push_front(rest);
            }
            if !slice.is_empty() {
                self.left_bytes -= slice.len() as u64;
                self.node.metrics.sent_bytes.inc_by(slice.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(slice))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.left_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left_bytes)
    }
}
