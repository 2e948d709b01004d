//! What the two halves of a pair's node say to each other: the control half decides (election, witnesses, address, packet
//! hold, sockets of the kernel), the data half carries (link, books of `mirror`, lockstep parse, publication).
//!
//! In and out: [`Order`]s from control to data, [`Report`]s back, and the [`Egress`] that data tells what the standby has.
//! Orders are carried out in the order given; none blocks the sender. Values only; touches nothing.
//!
//! ```text
//!  crash:     CloseLink ─► LinkDown · TakeOver ─► Survived ─► (control: restore, take the address, go live) ─► Resume
//!  handover:  Detach ─► Detached ─► (control: freeze, drain) ─► Drained ─► (control: dump) ─► Describe ─► Described
//!             … point of no return: Departed, at the other node TakeOver …   else (control: thaw) ─► Resume
//! ```

use bytes::Bytes;
use failover::{Epoch, Gate};
use mirror::{ConnectionId, Role, Survived};
use std::net::{SocketAddr, TcpStream};
use takeover::hold::{Base, Confirmed, Flow, SynAck};

/// Control to data.
#[derive(Debug)]
pub enum Order {
    /// A handshake began in the packet hold: tell the standby of the connection. Its packets wait for `Egress::admit`.
    Opened(Flow, SynAck),
    /// Keep a link with the peer in this role and epoch: the holder listens, the standby dials, and dials again.
    OpenLink(Role, Epoch),
    /// Read the link until it is empty or ended, carry out what it said, close it. Then `Report::LinkDown`.
    CloseLink,
    /// Say "paired" on the link, behind all bytes sent so far.
    TellPaired(Epoch),
    /// What may be published from now on.
    Gate(Gate),
    /// This node holds from now on: the mirrored connections become its own. `Report::Survived` names them.
    TakeOver,
    /// These connections are live here, each parse goes on where it stood. Of those that were detached or survived and are
    /// not named, nothing is left: they are over.
    Resume(Vec<Resumed>),
    /// Stop reading and writing every live connection and give its socket out; what was read is in the books.
    Detach,
    /// Input that was still found in a detached connection's socket: as if it had just been read.
    Drained(ConnectionId, Bytes),
    /// The state of a detached connection (an `Outline`, from now on its entry in the books), for the peer to restore; `Described` once the standby has confirmed it and all
    /// input and output before it.
    Describe(ConnectionId, Bytes),
    /// The detached connections live at the peer now: this node follows. Their parse goes on from the new link.
    Departed,
    /// Give every live connection's socket out and end its task; what was mirrored stays. `Report::Detached` follows.
    StepDown,
    /// What was mirrored is worth nothing: another node went on without us.
    Forget,
}

/// A connection that is live here.
#[derive(Debug)]
pub struct Resumed {
    /// Its number.
    pub connection: ConnectionId,
    /// Non-blocking.
    pub stream: TcpStream,
    /// What the books are to say of it from now on: an `Outline`.
    pub tcp: Bytes,
}

/// Data to control.
#[derive(Debug)]
pub enum Report {
    /// Both ends of the link have proved who they are.
    LinkUp,
    /// The link has ended, everything that arrived on it was carried out.
    LinkDown,
    /// As standby: all connections of the holder run here in lockstep.
    InStep(Epoch),
    /// As standby: the holder said "paired". As holder: the standby has seen it.
    Paired(Epoch),
    /// Answer to `TakeOver`; `None` when the holder had never said "paired" here.
    Survived(Option<Vec<Survived>>),
    /// Answer to `Detach` and `StepDown`: every live connection.
    Detached(Vec<Socket>),
    /// The standby has the detached connection whole.
    Described(ConnectionId),
    /// Holder and standby made different segments: words for the operator, first difference named.
    Diverged(String),
}

/// A detached connection's socket.
#[derive(Debug)]
pub struct Socket {
    /// Its number.
    pub connection: ConnectionId,
    /// Ready for `takeover::socket::Frozen`.
    pub stream: TcpStream,
    /// Our end.
    pub local: SocketAddr,
    /// The publisher.
    pub peer: SocketAddr,
}

/// What data tells the packet hold. Without one (`protect = "handover"`) nothing waits and nothing is told.
pub trait Egress: Send + Sync {
    /// A connection is known to the standby.
    fn admit(&self, flow: Flow, base: Base);
    /// The standby has this much of these; what may leave for it has left on return.
    fn confirm(&self, news: &[(Flow, Base, Confirmed)]);
    /// Its last packets may leave.
    fn finish(&self, flow: Flow, base: Base);
    /// It lives elsewhere now.
    fn forget(&self, flow: Flow);
}
