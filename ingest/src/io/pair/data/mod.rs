//! The data half of a pair's node: what a publisher sent to the holder, the standby has, and makes the same of it.
//!
//! In: [`Order`]s of the control half, publishers' connections, segments of the streams' tasks. Out: [`Report`]s, the other
//! node's copy of everything, and the word on what may be listed. Touches the link's socket and those of its publishers.
//!
//! ```text
//!  holder                                                standby
//!  socket ─ pump ─► books ══ Input, Output, words ═════► books ─┐
//!             └───► line (rtmp::Session) ─► stream task         └► line (rtmp::Session) ─► stream task
//!                                            │ segment, hash ═════════ compare ═══════════ segment, hash │
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | `books` | the shared books of `mirror`, one lock; `Data`, their handle |
//! | `tap` | one connection's way into the books |
//! | `strand` | a stream's: its publisher over one connection or two, in one order |
//! | `engine` | the one task that carries out orders and what was heard, and owns the link |
//! | `link` | proof of who is on the other end |
//! | `mouth` | what is said on it, by whoever has something to say |
//! | `ear` | what the other node says on it, heard at once, on a thread of its own |
//! | `line` | one connection's parse, with a socket or without |
//! | `pump` | a live connection's socket |
//! | `intake` | the thread on which sockets are read |
//! | `ledger` | what may be listed: publish = commit |
//! | `asked` | what a standby fetches: slices it could not make, bytes to compare |
//! | `copy` | what a standby copies of what was listed without it |
//! | `directory` | the same streams and keys on both nodes |
//! | `word` | what the holder's shell tells the standby's |
//! | `pass` | what is compared |
//!
//! **Lockstep.** RTMP is not a function of its input alone (S1 is random), so a line's session starts on both nodes from one
//! state. From there the same bytes give the same messages, units and segments; the few things that bytes do not decide are
//! the holder's word, in order with the bytes: that a key opens a slot, run and epoch, how marking ended for each GOP, that a
//! publisher was closed by us. A publisher that is closed is closed behind whole reads, so that both nodes took the same.
//!
//! Slices that the standby's own worker could not make come from the holder. Where segments differ in spite of all, the alarm
//! names the first station; at the standby, which fetches the holder's bytes for it, a second one names the first byte.

mod asked;
mod books;
mod copy;
mod directory;
mod ear;
mod engine;
mod intake;
mod ledger;
mod line;
mod link;
mod mouth;
pub mod pass;
mod pump;
mod strand;
mod tap;
mod word;

pub use books::Data;
pub use copy::{Found, Standing, record_hash};
pub use ledger::{Facts, Listing};
pub use strand::{Decisions, Strand};
pub use word::{Lead, LiveState, Second};

use crate::config::pair::Protect;
use crate::io::marking::Saved;
use crate::io::pair::orders::{Egress, Order, Report};
use crate::io::pair::pulse::Pulse;
use crate::io::rtmp::Door;
use crate::io::vacancy::{is_in_use, once_free};
use crate::merge::Confluence;
use crate::metrics::Metrics;
use crate::slot::Push;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use ear::Hearing;
use intake::Intake;
use mirror::ConnectionId;
use releve_state::coordinator::StreamRecord;
use releve_watermark::KeyRing;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use takeover::wait::Bell;
use tokio::sync::{mpsc, oneshot, watch};

/// What the data half must know.
#[derive(Clone)]
pub struct Config {
    /// What a takeover must not lose.
    pub protect: Protect,
    /// The cluster (`failover::ClusterId`).
    pub cluster: u64,
    /// This node (`failover::NodeId`).
    pub node: u16,
    /// Where the standby dials.
    pub listen: SocketAddr,
    /// Where the holder listens.
    pub dial: SocketAddr,
    /// Connections to these have a twin; empty: all.
    pub addresses: Vec<IpAddr>,
    /// The cluster's keys.
    pub keys: KeyRing,
}

/// What connects the two halves.
pub struct Start {
    /// Settings.
    pub config: Config,
    /// Orders of the control half.
    pub orders: mpsc::UnboundedReceiver<Order>,
    /// Takes reports; never blocks.
    pub reports: Arc<dyn Fn(Report) + Send + Sync>,
    /// The packet hold, where there is one.
    pub egress: Option<Arc<dyn Egress>>,
    /// The clock and pulse of both halves.
    pub pulse: Arc<Pulse>,
}

impl std::fmt::Debug for Start {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Start")
    }
}

/// The data half before it runs: the streams' tasks need its handle, it needs the streams.
pub struct Prepared {
    start: Start,
    listener: std::net::TcpListener,
    data: Data,
    arrivals: mpsc::UnboundedReceiver<books::Arrival>,
    hearing: Hearing,
    intake: Intake,
}

/// Opens the link's listener.
///
/// # Errors
/// The address cannot be listened on.
pub fn prepare(start: Start, metrics: Metrics) -> Result<Prepared> {
    let listen = start.config.listen;
    let opened = || -> std::io::Result<std::net::TcpListener> {
        let socket = socket2::Socket::new(socket2::Domain::for_address(listen), socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&listen.into())?;
        socket.listen(8)?;
        Ok(socket.into())
    };
    let listener = once_free(is_in_use, opened)
        .with_context(|| format!("cannot listen on {listen} for the pair's link"))?;
    let (arrived, arrivals) = mpsc::unbounded_channel();
    let intake = Intake::start().context("cannot start the thread that reads publishers")?;
    let data = Data::new(
        start.config.clone(),
        start.pulse.clone(),
        metrics,
        start.egress.clone(),
        Bell::new().context("cannot make the bell of the pair's link (eventfd)")?,
        intake.handle(),
        arrived,
    );
    let hearing = Hearing::start(&data).context("cannot start the thread of the pair's link")?;
    Ok(Prepared { start, listener, data, arrivals, hearing, intake })
}

impl Prepared {
    /// The handle for everybody.
    pub fn data(&self) -> Data {
        self.data.clone()
    }

    /// Carries out orders until nobody gives any.
    pub async fn run(self, door: Door) {
        match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => {
                let alike = tokio::spawn(directory::keep(self.data.clone(), door.streams.clone()));
                let engine =
                    engine::Engine::new(self.start, self.data, door, listener, self.arrivals, self.hearing);
                engine.run().await;
                drop(self.intake);
                alike.abort();
            }
            Err(error) => tracing::error!(%error, "the pair's link has no listener"),
        }
    }
}

/// Grows whenever more may be listed, or this node's role changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News(pub(super) u64);

/// The other half of a publisher, as its stream's task sees it.
#[derive(Clone, Debug)]
pub struct Twin {
    /// The publisher's way into the books.
    pub strand: Strand,
    /// Where its first connection comes from.
    pub peer: IpAddr,
    /// Which copy of the feed that one sends.
    pub push: Push,
    /// Dropped with the last segment.
    _done: watch::Sender<()>,
}

/// A publisher with a twin.
#[derive(Debug)]
pub struct Pairing {
    /// Its twin.
    pub twin: Twin,
    /// The connection it begins with.
    pub connection: u64,
    /// The holder's words on its GOPs.
    pub decisions: Decisions,
    /// How it begins.
    pub begin: Begins,
    /// Ends when the stream's task has made its last segment.
    pub done: watch::Receiver<()>,
}

impl Pairing {
    /// What the publisher has left already, where it does not begin just now.
    pub fn live(&self) -> Option<&LiveState> {
        match &self.begin {
            Begins::Follower(lead) => lead.live.as_ref(),
            Begins::Holder { .. } => None,
        }
    }
}

/// How a publisher with a twin begins in its stream's task.
#[derive(Debug)]
pub enum Begins {
    /// This node has the connection: where the stream stands is asked for, for the twin.
    Holder {
        /// The stream.
        record: Box<StreamRecord>,
        /// Takes the answer.
        lead: oneshot::Sender<Lead>,
    },
    /// The other node has it, and the stream stands here.
    Follower(Box<Lead>),
}

/// The connection's part of a snapshot, on its way to the stream's.
#[derive(Debug)]
pub struct Moment {
    rest: Rest,
    /// The stream.
    pub record: StreamRecord,
    /// The link it is for.
    link: u64,
    /// The publisher's other connections, each with its messages that are in the stream's part already.
    others: Vec<(Second, Rest, u64)>,
    /// What went on of the feed by now.
    pub confluence: Option<Confluence>,
    /// Each message has the holder's word.
    pub shared: bool,
}

/// Where a connection stands between two of its messages.
#[derive(Clone, Debug)]
struct Rest {
    connection: ConnectionId,
    session: Bytes,
    input: u64,
    output: u64,
}

impl Moment {
    /// What the publisher leaves in its stream's task, with the stream's part.
    pub fn live(&self, feed: Bytes, marking: Saved) -> Option<LiveState> {
        let others = self.others.iter().map(|(second, ..)| *second).collect();
        let (confluence, shared, words) = (self.confluence.clone()?, self.shared, Vec::new());
        Some(LiveState { feed, marking, confluence, shared, others, words })
    }
}

/// What the status page shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Whether this node holds.
    pub holder: bool,
    /// Whether the standby has whatever the holder acknowledges.
    pub paired: bool,
    /// Connections in the books.
    pub connections: usize,
    /// As standby: streams of which not all is here yet that the holder listed alone.
    pub copying: usize,
    /// Input the standby has not confirmed, bytes.
    pub unconfirmed: u64,
    /// Streams, by name.
    pub streams: BTreeMap<String, Facts>,
}
