//! A viewer's socket that remembers since when it takes no bytes.
//!
//! A body that waits in a blocked socket is not polled, so what a slow or revoked viewer still gets can only be seen, and
//! ended, here.

use std::io::{IoSlice, Result};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::session::Session;

/// A TCP stream with its traffic light.
pub(super) struct Socket {
    stream: TcpStream,
    traffic: Arc<Traffic>,
}

/// What is going on on a connection, for whoever watches it.
pub(super) struct Traffic {
    opened: Instant,
    /// Milliseconds after `opened` since when writes block, plus one; 0 while they do not.
    blocked: AtomicU64,
    /// Whose copy of an object was given to this connection last.
    last_copy: Mutex<Option<Session>>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream) -> (Socket, Arc<Traffic>) {
        let traffic = Arc::new(Traffic {
            opened: Instant::now(),
            blocked: AtomicU64::new(0),
            last_copy: Mutex::new(None),
        });
        (Socket { stream, traffic: traffic.clone() }, traffic)
    }

    /// Closes at once: what the kernel still holds of an answer is thrown away, the viewer sees a reset.
    pub(super) fn abort(self) {
        // Should the option fail, the close below is an ordinary one: nothing more is written all the same.
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl Traffic {
    /// How long the viewer has taken no byte of an answer.
    pub(super) fn blocked_for(&self) -> Option<Duration> {
        let since = self.blocked.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.opened.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Notes whose copy is being sent.
    pub(super) fn sending(&self, session: &Session) {
        *self.last_copy.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
    }

    /// Whose copy was sent last.
    pub(super) fn last_copy(&self) -> Option<Session> {
        self.last_copy.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note<T>(&self, written: &Poll<Result<T>>) {
        if written.is_ready() {
            self.blocked.store(0, Ordering::Relaxed);
        } else if self.blocked.load(Ordering::Relaxed) == 0 {
            let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
            self.blocked.store(now + 1, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.traffic.note(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.traffic.note(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
