//! The way between a socket and `http1::Connection`: plain, or through TLS.
//!
//! In: readiness. Out: bytes both ways. Edges are remembered: a socket is read until it has nothing more and written until it
//! takes nothing more, so that a request costs one `recv` and one write and no `epoll_ctl`. It never waits.

use super::seat::Hall;
use super::send::send;
use crate::address::{Introduction, introduction};
use crate::http1::Connection;
use crate::tls::{Handshake, Session};
use rustix::event::epoll::EventFlags;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};

/// Bytes read at once: a head seldom has more than one.
pub(super) const READ_BYTES: usize = 16 << 10;
/// Slices of one write: both sides of eight marked slices in a few GOPs.
const SLICES_MAX: usize = 64;

pub(super) struct Wire {
    socket: TcpStream,
    /// `None`: plain.
    tls: Option<Box<Session>>,
    /// There may be something to read.
    readable: bool,
    /// There may be room to write.
    writable: bool,
    /// The client's end has come in, though it may not have been read yet.
    ended: bool,
    /// Its handshake is under way.
    shaking: bool,
    /// A PROXY header must come first.
    to_be_introduced: bool,
    /// Whom it named, until that is taken.
    source: Option<IpAddr>,
    /// Nothing more goes out: TLS has said so.
    notified: bool,
    /// Our end has gone out.
    shut: bool,
}

impl Wire {
    pub(super) fn new(socket: TcpStream, tls: Option<Session>, to_be_introduced: bool) -> Wire {
        Wire {
            socket,
            shaking: tls.is_some(),
            tls: tls.map(Box::new),
            to_be_introduced,
            source: None,
            readable: false,
            writable: true,
            ended: false,
            notified: false,
            shut: false,
        }
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// The kernel says what has changed. `false`: the connection is gone.
    pub(super) fn ready(&mut self, flags: EventFlags) -> bool {
        let ends = EventFlags::RDHUP | EventFlags::HUP;
        self.ended |= flags.intersects(ends);
        self.readable |= flags.intersects(EventFlags::IN | ends);
        self.writable |= flags.intersects(EventFlags::OUT);
        !flags.contains(EventFlags::ERR)
    }

    pub(super) fn is_shaking(&self) -> bool {
        self.shaking
    }

    /// Whether its client has chosen HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_http2())
    }

    /// For somebody else to go on with; `None` when it is plain.
    pub(super) fn into_parts(self) -> (TcpStream, Option<Box<Session>>) {
        (self.socket, self.tls)
    }

    /// Whom a PROXY header named, once.
    pub(super) fn take_source(&mut self) -> Option<IpAddr> {
        self.source.take()
    }

    /// Reads the PROXY header, and nothing behind it. Whether it is there.
    fn introduce(&mut self, hall: &mut Hall) -> io::Result<bool> {
        if !self.readable {
            return Ok(false);
        }
        let count = match self.socket.peek(&mut hall.scratch[..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) => return self.not_read(error),
        };
        match introduction(&hall.scratch[..count]) {
            Introduction::Incomplete => {
                self.readable = false; // more of it is another edge
                Ok(false)
            }
            Introduction::Of { len, source } => {
                self.socket.read_exact(&mut hall.scratch[..len])?; // it is there
                (self.to_be_introduced, self.source) = (false, source);
                Ok(true)
            }
            Introduction::Malformed(malformed) => {
                hall.proxy_is_wrong(&malformed);
                Err(io::Error::new(ErrorKind::InvalidData, malformed))
            }
        }
    }

    /// Reads what there is, once. Whether something came.
    pub(super) fn read(&mut self, hall: &mut Hall, connection: &mut Connection) -> io::Result<bool> {
        if self.to_be_introduced {
            return self.introduce(hall);
        }
        if self.tls.is_some() {
            let read = self.read_sealed(hall, connection);
            if let Some(tls) = self.tls.as_mut().filter(|tls| !self.readable && !tls.is_http2()) {
                tls.rest(&mut hall.tls);
            }
            return read;
        }
        let room = connection.room().min(READ_BYTES);
        if room == 0 || !self.readable {
            return Ok(false); // there is some when the answer is sent
        }
        match self.socket.read(&mut hall.scratch[..room]) {
            Ok(0) => {
                self.readable = false;
                connection.received_end();
                Ok(true)
            }
            Ok(count) => {
                // Less than asked for is all there was, unless the end came with it.
                self.readable = count == room || self.ended;
                connection.receive(&mut hall.pool, &hall.scratch[..count]);
                Ok(true)
            }
            Err(error) => self.not_read(error),
        }
    }

    fn not_read(&mut self, error: io::Error) -> io::Result<bool> {
        match error.kind() {
            ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(false)
            }
            ErrorKind::Interrupted => Ok(true),
            _ => Err(error),
        }
    }

    /// The same through TLS: what came before first, then one reading of the socket.
    fn read_sealed(&mut self, hall: &mut Hall, connection: &mut Connection) -> io::Result<bool> {
        let mut moved = self.open(hall, connection)?;
        let Some(tls) = &mut self.tls else { return Ok(moved) };
        if !self.readable || !tls.plaintext().is_empty() || tls.has_ended() {
            return Ok(moved);
        }
        let room = tls.room(&mut hall.tls);
        let len = room.len();
        let read = self.socket.read(room);
        tls.received(&mut hall.tls, *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => {
                self.readable = false;
                if self.shaking {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                connection.received_end(); // without close_notify: what was asked is answered all the same
                Ok(true)
            }
            Ok(count) => {
                self.readable = count == len || self.ended;
                moved = true;
                self.open(hall, connection)?;
                Ok(moved)
            }
            Err(error) => self.not_read(error).map(|again| again || moved),
        }
    }

    /// Opens what came and hands it over, as far as it has room there. Whether something moved.
    fn open(&mut self, hall: &mut Hall, connection: &mut Connection) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else { return Ok(false) };
        let mut moved = false;
        loop {
            while !tls.plaintext().is_empty() {
                let taken = match connection.room() {
                    0 => 0,
                    _ => connection.receive(&mut hall.pool, tls.plaintext()),
                };
                if taken == 0 {
                    return Ok(moved);
                }
                tls.consumed(&mut hall.tls, taken);
                moved = true;
            }
            if tls.has_ended() || !tls.has_raw() {
                return Ok(moved);
            }
            match tls.advance(&mut hall.tls) {
                Ok(Some(Handshake::UnderWay)) => return Ok(moved),
                Ok(Some(done)) => {
                    self.shaking = false;
                    hall.shaking -= 1;
                    let resumed = done == Handshake::Resumed;
                    hall.shared.node.metrics.handshake(if resumed { "resumed" } else { "full" });
                    moved = true;
                    if tls.is_http2() {
                        return Ok(true); // what follows is for somebody else
                    }
                }
                Ok(None) if tls.has_ended() => {
                    connection.received_end();
                    return Ok(true);
                }
                Ok(None) if tls.plaintext().is_empty() => return Ok(moved),
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error)),
            }
        }
    }

    /// Whether there is something to write and it may be taken.
    pub(super) fn may_write(&self, connection: &Connection) -> bool {
        let held = self.tls.as_ref().is_some_and(|tls| !tls.unsent().is_empty());
        self.writable && (held || connection.unsent_bytes() > 0 && !self.shaking)
    }

    /// Writes once. Whether the kernel took something.
    pub(super) fn write(&mut self, hall: &mut Hall, connection: &mut Connection) -> io::Result<bool> {
        let (offered, written) = match &mut self.tls {
            None => {
                let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                let filled = connection.unsent(&mut slices);
                let offered: usize = slices[..filled].iter().map(|slice| slice.len()).sum();
                (offered, send(&self.socket, &slices[..filled], &hall.shared.node.pages))
            }
            Some(tls) => {
                if tls.unsent().is_empty() {
                    let mut slices = [IoSlice::new(&[]); SLICES_MAX];
                    let filled = connection.unsent(&mut slices);
                    tls.seal(&mut hall.tls, &slices[..filled])
                        .map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
                }
                (tls.unsent().len(), self.socket.write(tls.unsent()))
            }
        };
        match written {
            Ok(count) => {
                self.writable = count == offered;
                hall.shared.node.metrics.sent_bytes.inc_by(count as u64);
                let of_answers = match &mut self.tls {
                    None => count,
                    Some(tls) => tls.wrote(&mut hall.tls, count),
                };
                connection.wrote(&mut hall.pool, of_answers);
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(false)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Everything is sent: ends our side, once.
    pub(super) fn shut(&mut self, hall: &mut Hall, connection: &mut Connection) -> io::Result<()> {
        if self.shut {
            return Ok(());
        }
        self.notify(hall);
        while self.may_write(connection) {
            self.write(hall, connection)?;
        }
        if self.tls.as_ref().is_none_or(|tls| tls.unsent().is_empty()) {
            self.shut = true;
            self.socket.shutdown(Shutdown::Write)?;
        }
        Ok(())
    }

    fn notify(&mut self, hall: &mut Hall) {
        if let Some(tls) = &mut self.tls
            && !std::mem::replace(&mut self.notified, true)
        {
            tls.close_notify(&mut hall.tls);
        }
    }

    /// The last call. `politely`: the client is told that nothing more comes, as far as that goes without waiting.
    pub(super) fn close(mut self, hall: &mut Hall, politely: bool) {
        if self.shaking {
            hall.shaking -= 1;
            hall.shared.node.metrics.handshake("failed");
        }
        if !politely {
            // Should the option fail, the close is an ordinary one: nothing more is written all the same.
            let _ = socket2::SockRef::from(&self.socket).set_linger(Some(std::time::Duration::ZERO));
        } else {
            self.notify(hall);
        }
        if let Some(tls) = self.tls {
            if politely && !tls.unsent().is_empty() {
                let _ = self.socket.write(tls.unsent());
            }
            tls.close(&mut hall.tls);
        }
    }
}
