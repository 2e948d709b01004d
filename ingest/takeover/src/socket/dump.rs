//! Dump: read the whole connection out of the kernel, then give it away or take it back.
//!
//! In: a frozen connection. Out: its [`TcpState`], and the two ways on: [`Dumped::thaw`] while the peer host has not
//! been told to go, [`Dumped::depart`] once it has.

use super::error::Error;
use super::freeze::{Frozen, Kept};
use super::repair::{self, Mute, Queue};
use super::state::{Options, QUEUE_MAX, Scale, TcpState};
use crate::error::Purpose;
use socket2::Socket;
use std::net::{IpAddr, SocketAddr, TcpStream};

/// `TCP_ESTABLISHED`.
const ESTABLISHED: u8 = 1;

/// A connection in repair mode, with its state taken down. It sends nothing and hears nothing.
///
/// Dropped, it vanishes without a packet: by then the peer host may own it.
#[derive(Debug)]
pub struct Dumped {
    socket: Mute,
    state: TcpState,
    /// What the socket had discarded before it was frozen.
    discarded: u32,
}

/// A connection that belongs to the peer host now. What remains here vanishes without a packet.
#[derive(Debug)]
pub struct Departed(Mute);

impl Dumped {
    pub(super) fn of(frozen: Frozen) -> Result<Self, Box<Kept<Frozen>>> {
        match take_down(frozen.socket()) {
            Ok(state) => {
                let discarded = frozen.discarded_before();
                Ok(Self { socket: Mute::new(frozen.into_socket()), state, discarded })
            }
            Err(error) => {
                // Back to where we came from; if the kernel refuses that too, the first error is the one to tell.
                let _ = repair::off_silently(frozen.socket());
                Err(Box::new(Kept { kept: frozen, error }))
            }
        }
    }

    /// What to send to the peer host.
    pub fn state(&self) -> &TcpState {
        &self.state
    }

    /// Segments of the peer that met the freeze and were discarded unanswered: those with bytes it sends again. What comes
    /// once the address has gone does not reach this socket and is not counted; an acknowledgement without bytes is.
    pub fn discarded(&self) -> u32 {
        repair::discarded(&*self.socket).map_or(0, |now| now.wrapping_sub(self.discarded))
    }

    /// Takes the connection back: possible as long as the peer host has not been told to go.
    ///
    /// # Errors
    /// The kernel refused to leave repair mode or to remove the filter; the connection is lost then (it closes
    /// without a packet when dropped).
    pub fn thaw(self) -> Result<TcpStream, Error> {
        repair::off_silently(&self.socket).to("take a dumped connection back (TCP_REPAIR)")?;
        Frozen::from_socket(self.socket.release()).thaw().map_err(|kept| kept.error)
    }

    /// The point of no return: the last check that nothing moved since the dump. Call it after the address is gone
    /// and before the peer host is told to go.
    ///
    /// # Errors
    /// [`Error::StillMoving`]: a segment slipped in; put the address back and [`thaw`](Self::thaw) the returned value.
    pub fn depart(self) -> Result<Departed, Box<Kept<Self>>> {
        let now =
            repair::sequence(&*self.socket, Queue::Receive).to("check a dumped connection (TCP_QUEUE_SEQ)");
        match now {
            Ok(number) if number == self.state.receive_next => Ok(Departed(self.socket)),
            Ok(_) => {
                let error = Error::StillMoving { peer: self.state.peer };
                Err(Box::new(Kept { kept: self, error }))
            }
            Err(error) => Err(Box::new(Kept { kept: self, error: error.into() })),
        }
    }
}

impl Departed {
    /// Closes what remains. The socket is still in repair mode, so neither FIN nor RST is sent.
    pub fn close(self) {
        drop(self.0);
    }
}

/// Reads the state of a live connection and lets it go on: for the standby's record of a new connection. The queues
/// are left out, and sequence numbers may be old when this returns.
///
/// # Errors
/// As [`Frozen::dump`].
pub fn peek(stream: &TcpStream) -> Result<TcpState, Error> {
    let socket = socket2::SockRef::from(stream);
    repair::on(&*socket).to("look at a connection (TCP_REPAIR)")?;
    let state = outline(&socket);
    let off = repair::off_silently(&socket).to("let a connection go on (TCP_REPAIR)");
    let state = state?;
    off?;
    Ok(state)
}

/// The whole state, taken twice if a segment that was already past the filter arrived in between.
fn take_down(socket: &Socket) -> Result<TcpState, Error> {
    const ATTEMPTS: usize = 3;
    repair::on(socket).to("dump a connection (TCP_REPAIR)")?;
    for _ in 0..ATTEMPTS {
        let mut state = outline(socket)?;
        let (unread, unacknowledged, unsent) =
            repair::lengths(socket).to("measure the queues (SIOCINQ, SIOCOUTQ)")?;
        for (queue, length) in [("receive", unread), ("send", unacknowledged)] {
            if length > QUEUE_MAX {
                return Err(Error::QueueTooLong { queue, length, max: QUEUE_MAX });
            }
        }
        state.unread =
            repair::contents(socket, Queue::Receive, unread).to("copy the receive queue (MSG_PEEK)")?;
        state.unacknowledged =
            repair::contents(socket, Queue::Send, unacknowledged).to("copy the send queue (MSG_PEEK)")?;
        state.unsent = unsent;
        let settled = state.unread.len() == unread
            && state.unacknowledged.len() == unacknowledged
            && unsent <= unacknowledged
            && repair::lengths(socket).to("measure the queues again")? == (unread, unacknowledged, unsent)
            && repair::sequence(socket, Queue::Receive).to("read RCV.NXT again")? == state.receive_next;
        repair::select(socket, Queue::None).to("end the dump (TCP_REPAIR_QUEUE)")?;
        if settled {
            return Ok(state);
        }
    }
    Err(Error::StillMoving { peer: ends(socket)?.1 })
}

/// Everything but the queues.
fn outline(socket: &Socket) -> Result<TcpState, Error> {
    let (local, peer) = ends(socket)?;
    let info = repair::info(socket).to("read a connection's options (TCP_INFO)")?;
    if info.state != ESTABLISHED {
        return Err(Error::NotEstablished { peer, state: info.state });
    }
    let timestamp = match info.timestamps {
        true => Some(repair::timestamp(socket).to("read the timestamp clock (TCP_TIMESTAMP)")?),
        false => None,
    };
    let options = Options {
        segment_max: repair::segment_max(socket).to("read the segment size (TCP_MAXSEG)")?,
        sack: info.sack,
        scale: info.scaled.then_some(Scale { send: info.send_scale, receive: info.receive_scale }),
        timestamp,
    };
    let receive_next = repair::sequence(socket, Queue::Receive).to("read RCV.NXT (TCP_QUEUE_SEQ)")?;
    let write_next =
        repair::sequence(socket, Queue::Send).to("read the end of the send queue (TCP_QUEUE_SEQ)")?;
    repair::select(socket, Queue::None).to("end the dump (TCP_REPAIR_QUEUE)")?;
    let window = Some(repair::window(socket).to("read the windows (TCP_REPAIR_WINDOW)")?);
    let (unread, unacknowledged) = (Vec::new(), Vec::new());
    Ok(TcpState { local, peer, options, receive_next, unread, write_next, unacknowledged, unsent: 0, window })
}

/// Both ends, with IPv4 as IPv4 even when the listener was an IPv6 one.
fn ends(socket: &Socket) -> Result<(SocketAddr, SocketAddr), Error> {
    let plain = |address: socket2::SockAddr| {
        let address =
            address.as_socket().ok_or_else(|| std::io::Error::from(std::io::ErrorKind::InvalidInput))?;
        Ok(SocketAddr::new(address.ip().to_canonical(), address.port()))
    };
    let local = socket.local_addr().and_then(plain).to("read a connection's own address")?;
    let peer = socket.peer_addr().and_then(plain).to("read a connection's peer")?;
    for address in [local, peer] {
        if matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return Err(Error::LinkLocal { address });
        }
    }
    Ok((local, peer))
}
