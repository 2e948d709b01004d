//! A worker's door: its listener, and what happens when there is no room.
//!
//! In: readiness. Out: accepted sockets. The listener is never left standing: without a free descriptor the one kept back is
//! given up for a moment, so that the connection is told so and closed instead of waiting in the queue.

use crate::tls::Current;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// What whoever comes in vain is told.
const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 2\r\n\
    cache-control: no-store\r\nconnection: close\r\n\r\n";

pub(super) struct Door {
    /// What it is called by in the worker's epoll.
    pub(super) number: u64,
    listener: TcpListener,
    /// What whoever comes in is given for TLS; `None` where it is plain.
    tls: Option<Arc<Current>>,
    /// It is not listened to until the next tick.
    pub(super) rests: bool,
    /// A descriptor kept back; `None` while there is none to be had.
    spare: Option<File>,
}

/// What an attempt to accept gave.
pub(super) enum Accepted {
    /// Somebody, not blocking, and from where.
    Viewer(TcpStream, IpAddr),
    /// Nobody waits.
    Nobody,
    /// There is no descriptor or memory for now: look again in a while.
    Later,
}

impl Door {
    pub(super) fn new(number: u64, listener: TcpListener, tls: Option<Arc<Current>>) -> Door {
        Door { number, listener, tls, rests: false, spare: spare() }
    }

    pub(super) fn tls(&self) -> Option<&Current> {
        self.tls.as_deref()
    }

    pub(super) fn listener(&self) -> &TcpListener {
        &self.listener
    }

    /// Accepts one.
    pub(super) fn accept(&mut self) -> Accepted {
        loop {
            match self.next() {
                Ok((stream, peer)) => return Accepted::Viewer(stream, peer),
                Err(Errno::INTR | Errno::CONNABORTED | Errno::PROTO) => {}
                Err(error) if error == Errno::AGAIN => return Accepted::Nobody,
                Err(error @ (Errno::MFILE | Errno::NFILE)) => {
                    if self.spare.take().is_none() {
                        tracing::warn!(%error, "cannot accept viewers");
                        self.spare = spare();
                        return Accepted::Later;
                    }
                    if let Ok((stream, _)) = self.next() {
                        self.refuse(stream);
                    }
                    self.spare = spare();
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept viewers");
                    return Accepted::Later;
                }
            }
        }
    }

    /// Tells somebody that there is no room, as far as that goes without waiting. What they have said is read first: closing
    /// over unread bytes would reset the connection before they read the answer. Through TLS there is nothing to be said
    /// without a handshake.
    pub(super) fn refuse(&self, mut stream: TcpStream) {
        if self.tls.is_none() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write(TOO_MANY);
        }
    }

    fn next(&self) -> Result<(TcpStream, IpAddr), Errno> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let (stream, peer) = acceptfrom_with(&self.listener, flags)?;
        // Who has left already may have no address any more: then nothing comes of it.
        let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok()).ok_or(Errno::CONNABORTED)?;
        Ok((stream.into(), peer.ip()))
    }
}

fn spare() -> Option<File> {
    File::open("/dev/null").ok()
}
