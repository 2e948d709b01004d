//! A viewer's TLS connection as tokio reads and writes one.
//!
//! In: a socket whose hands are shaken. Out: plaintext both ways. What is written is sealed at once and sent when
//! `SEALED_BYTES_MAX` have come together or the connection has nothing more to say for now: a record a frame, but one write
//! for many. So the HTTP/2 library's own flush after each frame does nothing; whoever drives it calls `poll_send`.

use crate::node::Node;
use crate::tls::{Pool, Session};
use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Buffers kept on each thread of the runtime, of each kind.
const SPARE_BUFFERS_MAX: usize = 64;

thread_local! {
    /// What busy connections hold beside their keys: lent by whichever thread serves them, given back to another one maybe.
    static POOL: RefCell<Pool> = RefCell::new(Pool::new(SPARE_BUFFERS_MAX));
}

fn with_pool<Made>(make: impl FnOnce(&mut Pool) -> Made) -> Made {
    POOL.with_borrow_mut(make)
}

struct Sealed {
    socket: TcpStream,
    tls: Box<Session>,
    node: Arc<Node>,
}

/// A hand on the connection: the library has one, its driver the other. They never wait for each other.
#[derive(Clone)]
pub(super) struct Hand(Arc<Mutex<Sealed>>);

impl Hand {
    pub(super) fn new(socket: TcpStream, tls: Box<Session>, node: Arc<Node>) -> Hand {
        Hand(Arc::new(Mutex::new(Sealed { socket, tls, node })))
    }

    fn held(&self) -> MutexGuard<'_, Sealed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is sealed; ready when all of it is with the kernel.
    pub(super) fn poll_send(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held().poll_send(context)
    }

    /// Whether all that is sealed is with the kernel.
    pub(super) fn is_sent(&self) -> bool {
        self.held().tls.unsent().is_empty()
    }

    /// Says that nothing more comes, as far as that goes without waiting.
    pub(super) fn close(&self) {
        let held = &mut *self.held();
        with_pool(|pool| held.tls.close_notify(pool));
        let _ = held.socket.try_write(held.tls.unsent());
    }

    /// Nothing that the kernel holds is sent any more.
    pub(super) fn reset(&self) {
        // Should the option fail, the close is an ordinary one: nothing more is written all the same.
        let _ = socket2::SockRef::from(&self.held().socket).set_linger(Some(Duration::ZERO));
    }
}

impl Sealed {
    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let plain = self.tls.plaintext();
            if !plain.is_empty() {
                let count = plain.len().min(into.remaining());
                into.put_slice(&plain[..count]);
                with_pool(|pool| self.tls.consumed(pool, count));
                return Poll::Ready(Ok(()));
            }
            if self.tls.has_raw() {
                let broken = |error| io::Error::new(ErrorKind::InvalidData, error);
                with_pool(|pool| self.tls.advance(pool)).map_err(broken)?;
                if !self.tls.plaintext().is_empty() {
                    continue;
                }
            }
            if self.tls.has_ended() {
                return Poll::Ready(Ok(()));
            }
            match self.socket.poll_read_ready(context)? {
                Poll::Ready(()) => {}
                Poll::Pending => {
                    with_pool(|pool| self.tls.rest(pool));
                    return Poll::Pending;
                }
            }
            let read = with_pool(|pool| self.socket.try_read(self.tls.room(pool)));
            with_pool(|pool| self.tls.received(pool, *read.as_ref().unwrap_or(&0)));
            match read {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        if !self.tls.has_room_to_seal(len) {
            ready!(self.poll_send(context))?;
        }
        with_pool(|pool| self.tls.seal(pool, slices))
            .map(|()| len.min(crate::tls::SEALED_BYTES_MAX))
            .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
            .into()
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.tls.unsent().is_empty() {
            ready!(self.socket.poll_write_ready(context))?;
            match self.socket.try_write(self.tls.unsent()) {
                Ok(count) => {
                    self.node.metrics.sent_bytes.inc_by(count as u64);
                    with_pool(|pool| self.tls.wrote(pool, count));
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Hand {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.held().poll_read(context, into)
    }
}

impl AsyncWrite for Hand {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.held().poll_write(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.held().poll_write(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(())) // the driver sends
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.held().poll_send(context)
    }
}
