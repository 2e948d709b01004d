//! The books of `mirror`, shared by everything that carries bytes: one lock, held for moments, nothing awaits under it.
//!
//! In: what connections read and write, what streams make, what the link says. Out: the same to the other node; room to read.
//! [`Data`] is the handle of the node's tasks; `tap` is that of one connection, `strand` that of a stream's publisher.

use super::asked::Want;
use super::copy::{Copies, Shelf};
use super::ear::Ear;
use super::ledger::{Difference, Ledger, Listing};
use super::line::Turn;
use super::mouth::Mouth;
use super::pump::Command;
use super::strand::Of;
use super::word::{Again, Word, write};
use super::{Config, News, Status};
use crate::io::admission::Pass;
use crate::io::pair::orders::Egress;
use crate::io::pair::pulse::Pulse;
use crate::metrics::{Metrics, OfStreamAnd};
use ingest_api::StreamName;
use ingest_api::window::Segment;
use mirror::{ConnectionId, Error, Holder, PartDigest, Role, Standby, Stations};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use takeover::hold::{Base, Flow};
use takeover::wait::Bell;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tracing::{error, warn};

/// What a connection's task, its socket and its twin share here.
pub(super) struct Entry {
    pub(super) turns: mpsc::UnboundedSender<Turn>,
    /// Bytes that may wait for its task.
    pub(super) room: Arc<Semaphore>,
    /// Its socket, while it is live here.
    pub(super) pump: Option<mpsc::UnboundedSender<Command>>,
    pub(super) stream: Option<StreamName>,
    /// What it shares with its stream, and with the other connection of its publisher.
    pub(super) strand: Option<Arc<Of>>,
    pub(super) flow: Option<Flow>,
    pub(super) base: Option<Base>,
    /// The packet hold was told of it on this link.
    pub(super) admitted: bool,
    /// Control waits until the standby has it whole.
    pub(super) describe: Describe,
    /// It had a socket, or its former holder had, and waits for one.
    pub(super) away: bool,
    /// This node was its holder up to here, input in bytes.
    pub(super) departed_at: Option<u64>,
    /// This link has spoken of it.
    pub(super) mentioned: bool,
    /// What was said of it since this node took it over.
    pub(super) since: Option<Since>,
}

/// How far the description of a detached connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Describe {
    No,
    Told,
    Seen,
}

/// What a former holder, which stood here when we took over, must be told to stand where we do.
#[derive(Debug, Default)]
pub(super) struct Since {
    pub(super) from: u64,
    pub(super) log: Vec<Again>,
    pub(super) bytes: usize,
}

/// A former holder that is away for longer is given a snapshot instead, bytes of input.
pub(super) const SINCE_MAX: usize = 8 << 20;

impl Entry {
    pub(super) fn new(turns: mpsc::UnboundedSender<Turn>, room: Arc<Semaphore>) -> Entry {
        Entry {
            turns,
            room,
            pump: None,
            stream: None,
            strand: None,
            flow: None,
            base: None,
            admitted: false,
            describe: Describe::No,
            away: false,
            departed_at: None,
            mentioned: true,
            since: None,
        }
    }

    /// A task that has ended no longer listens; nobody needs to know.
    pub(super) fn turn(&self, turn: Turn) {
        let _ = self.turns.send(turn);
    }

    /// It lives elsewhere: its task ends without a trace, and waits for no word any more.
    pub(super) fn forget(&self, connection: ConnectionId) {
        self.turn(Turn::Forget);
        if let Some(strand) = &self.strand {
            strand.abandon(connection);
        }
    }
}

/// A publisher's connection, accepted and in no books yet.
pub(super) struct Arrival {
    pub(super) socket: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) pass: Pass,
}

/// Everything under the lock.
pub(super) struct Books {
    pub(super) holder: Holder,
    pub(super) standby: Option<Standby>,
    pub(super) mouth: Mouth,
    pub(super) ear: Ear,
    pub(super) entries: BTreeMap<ConnectionId, Entry>,
    pub(super) ledger: Ledger,
    /// What this node copies as standby, and what it gives as holder.
    pub(super) copies: Copies,
    pub(super) shelf: Shelf,
    pub(super) next: u64,
    pub(super) mirrored: u64,
    /// How many links there were.
    pub(super) links: u64,
    /// The sockets are on their way to the other node: it has heard all that was decided, and nothing more is.
    pub(super) detached: bool,
    /// Words for control.
    pub(super) diverged: Vec<String>,
}

pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) pulse: Arc<Pulse>,
    pub(super) metrics: Metrics,
    /// The packet hold, where there is one.
    pub(super) egress: Option<Arc<dyn Egress>>,
    pub(super) books: Mutex<Books>,
    /// There is something to say on the link, or something was heard.
    pub(super) bell: Notify,
    /// For the link's thread: there is another link, or room in it is waited for, or it may be read again.
    pub(super) listen: Bell,
    /// Where publishers' sockets are read.
    pub(super) intake: Handle,
    /// There may be room to read.
    pub(super) room: Notify,
    /// Publishers that were accepted.
    arrivals: mpsc::UnboundedSender<Arrival>,
    pub(super) news: watch::Sender<News>,
}

/// The data half of a pair's node, for the node's other tasks.
#[derive(Clone)]
pub struct Data(pub(super) Arc<Shared>);

impl std::fmt::Debug for Data {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Data")
    }
}

impl Data {
    /// A node that is nothing yet.
    pub(super) fn new(
        config: Config,
        pulse: Arc<Pulse>,
        metrics: Metrics,
        egress: Option<Arc<dyn Egress>>,
        listen: Bell,
        intake: Handle,
        arrivals: mpsc::UnboundedSender<Arrival>,
    ) -> Data {
        let ledger = Ledger::new(config.protect);
        let books = Books {
            holder: Holder::default(),
            standby: None,
            mouth: Mouth::default(),
            ear: Ear::default(),
            entries: BTreeMap::new(),
            ledger,
            copies: Copies::default(),
            shelf: Shelf::default(),
            next: 1,
            mirrored: 0,
            links: 0,
            detached: false,
            diverged: Vec::new(),
        };
        Data(Arc::new(Shared {
            config,
            pulse,
            metrics,
            egress,
            books: Mutex::new(books),
            bell: Notify::new(),
            listen,
            intake,
            room: Notify::new(),
            arrivals,
            news: watch::channel(News::default()).0,
        }))
    }

    pub(super) fn books(&self) -> MutexGuard<'_, Books> {
        self.0.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ring(&self) {
        self.0.bell.notify_one();
    }

    /// Tells the streams that more may be listed, or that this node's role has changed.
    pub(super) fn tell_streams(&self) {
        self.0.news.send_modify(|news| news.0 += 1);
    }

    /// Whether connections to this address of ours have a twin.
    pub fn protects(&self, local: IpAddr) -> bool {
        let addresses = &self.0.config.addresses;
        addresses.is_empty() || addresses.contains(&local.to_canonical())
    }

    /// A publisher has connected to a protected address: it is served behind what is known of its handshake.
    pub fn arrived(&self, socket: TcpStream, peer: SocketAddr, pass: Pass) {
        // A node that ends serves nobody.
        let _ = self.0.arrivals.send(Arrival { socket, peer, pass });
    }

    /// The shared address for whoever came to this one: itself, or else one of its kind.
    pub fn shared(&self, local: IpAddr) -> Option<IpAddr> {
        let addresses = &self.0.config.addresses;
        let itself = addresses.iter().find(|shared| **shared == local);
        itself.or(addresses.iter().find(|shared| shared.is_ipv4() == local.is_ipv4())).copied()
    }

    /// For the status page.
    pub fn status(&self) -> Status {
        let books = self.books();
        let holder = books.ledger.role() == Role::Holder;
        let facts = books.ledger.facts();
        Status {
            holder,
            paired: match &books.standby {
                Some(standby) if !holder => standby.is_paired(),
                _ => books.holder.is_paired(),
            },
            connections: books.entries.len(),
            copying: books.copies.open(),
            unconfirmed: books.holder.unconfirmed(),
            streams: facts.map(|(name, facts)| (name.to_string(), facts.clone())).collect(),
        }
    }

    /// Whether this node publishes on its own account.
    pub fn holds(&self) -> bool {
        self.books().ledger.holds()
    }

    /// The newest fencing term that the other node had on the stream as holder; 0 where it had none.
    pub fn epoch_of(&self, stream: &StreamName) -> u64 {
        self.books().ledger.epoch(stream)
    }

    /// Whether this node has the publishers.
    pub fn is_holder(&self) -> bool {
        self.books().ledger.role() == Role::Holder
    }

    /// Changes whenever more may be listed.
    pub fn news(&self) -> watch::Receiver<News> {
        self.0.news.subscribe()
    }

    /// How often this node had the publishers and gave them up.
    pub fn ceded(&self) -> u64 {
        self.books().ledger.ceded()
    }

    /// A stream has made a segment.
    pub fn made(&self, stream: &StreamName, record: &Segment, stations: &Stations) {
        let mut books = self.books();
        let Books { holder, standby, ledger, .. } = &mut *books;
        let digests = ledger.made(stream, record, stations);
        match (ledger.role(), standby) {
            (Role::Holder, _) => digests.into_iter().for_each(|digest| holder.segment(digest)),
            (Role::Standby, Some(standby)) => digests.into_iter().for_each(|digest| standby.segment(digest)),
            // Said when there is a link.
            (Role::Standby, None) => {}
        }
        drop(books);
        self.judge();
        self.ring();
    }

    /// As standby: whether this node makes segments of a stream. The holder does not wait for those of one that it does not.
    pub fn makes(&self, stream: &StreamName, something: bool) {
        let mut books = self.books();
        let Books { standby, ledger, .. } = &mut *books;
        let said = ledger.makes(stream, something);
        if let (Role::Standby, Some(standby)) = (ledger.role(), standby) {
            said.into_iter().for_each(|digest| standby.segment(digest));
        }
        drop(books);
        self.ring();
    }

    /// As standby: the newest segment that the holder has told of.
    pub fn newest_heard(&self, stream: &StreamName) -> Option<Segment> {
        self.books().ledger.newest_heard(stream).cloned()
    }

    /// A stream has made a part.
    pub fn made_part(&self, digest: &PartDigest) {
        let mut books = self.books();
        let Books { holder, standby, ledger, .. } = &mut *books;
        match (ledger.role(), standby) {
            (Role::Holder, _) => holder.part(digest.clone()),
            (Role::Standby, Some(standby)) => standby.part(digest.clone()),
            // The segment will be listed whole.
            (Role::Standby, None) => {}
        }
        drop(books);
        self.ring();
    }

    /// Whether a part that was made here is listed by now.
    pub fn lists_part(&self, digest: &PartDigest) -> bool {
        self.books().ledger.lists_part(digest)
    }

    /// Whether a segment that was made here is listed.
    pub fn listing(&self, stream: &StreamName, record: &Segment) -> Listing {
        self.books().ledger.listing(stream, record)
    }

    /// The two nodes no longer make the same.
    pub fn diverged(&self, words: String) {
        error!("the two nodes differ: {words}");
        self.books().diverged.push(words);
        self.ring();
    }

    /// The socket of a connection is read no more. `false`: it has none.
    pub(super) fn hush(&self, connection: ConnectionId) -> bool {
        let books = self.books();
        let pump = books.entries.get(&connection).and_then(|entry| entry.pump.as_ref());
        pump.is_some_and(|pump| pump.send(Command::Hush).is_ok())
    }

    /// The socket of a connection that is over is closed behind what was written.
    pub(super) fn finish(&self, connection: ConnectionId) {
        let pump = self.books().entries.get_mut(&connection).and_then(|entry| entry.pump.take());
        if let Some(pump) = pump {
            // A pump that has ended has closed.
            let _ = pump.send(Command::Finish);
        }
    }

    /// A connection's task has ended.
    pub(super) fn forget(&self, connection: ConnectionId) {
        let mut books = self.books();
        let known = books.holder.position(connection).is_some();
        let over = books.entries.get(&connection).is_some_and(|entry| entry.turns.is_closed());
        if over && !known {
            books.entries.remove(&connection);
        }
    }

    /// Says what the comparison has found.
    pub(super) fn judge(&self) {
        let verdicts = self.books().ledger.take_verdicts();
        if verdicts.is_empty() {
            return;
        }
        for (stream, kind, alarm) in verdicts {
            let of = OfStreamAnd { stream: stream.to_string(), kind };
            self.0.metrics.pair_segments.get_or_create(&of).inc();
            if let Some(Difference { words, look }) = alarm {
                self.diverged(words);
                if let Some((number, track)) = look {
                    self.look(&stream, Want::Object(number, track));
                }
            }
        }
        self.tell_streams();
    }
}

impl Books {
    /// As holder: a word for the other node, in order with the connection's input.
    pub(super) fn note(&mut self, connection: ConnectionId, word: Word) {
        if self.ledger.role() != Role::Holder {
            return;
        }
        let noted = self.holder.note(connection, write(&word));
        self.keep(connection, Again::Word(Box::new(word)), 0);
        match noted {
            // Closed meanwhile: nobody needs the word.
            Ok(()) | Err(Error::Unknown { .. }) => {}
            Err(error) => warn!(%connection, %error, "the standby misses a word"),
        }
    }

    /// For a former holder that joins again.
    pub(super) fn keep(&mut self, connection: ConnectionId, item: Again, bytes: usize) {
        let entry = self.entries.get_mut(&connection);
        let Some(since) = entry.and_then(|entry| entry.since.as_mut()) else { return };
        since.bytes += bytes;
        since.log.push(item);
        if since.bytes > SINCE_MAX {
            self.keep_no_longer(connection);
        }
    }

    /// A former holder needs snapshots, of the publisher's other connection too: the two meet in one stream.
    pub(super) fn keep_no_longer(&mut self, connection: ConnectionId) {
        for member in self.company(connection) {
            if let Some(entry) = self.entries.get_mut(&member) {
                entry.since = None;
            }
        }
    }

    /// A connection, and the other one of its publisher.
    pub(super) fn company(&self, connection: ConnectionId) -> Vec<ConnectionId> {
        let of = |entry: &Entry| entry.strand.as_ref().map(Arc::as_ptr);
        let strand = self.entries.get(&connection).and_then(of);
        let with = |(number, entry): &(&ConnectionId, &Entry)| {
            **number == connection || (strand.is_some() && of(entry) == strand)
        };
        self.entries.iter().filter(with).map(|(number, _)| *number).collect()
    }

    /// As standby: asks the holder.
    pub(super) fn ask(&mut self, connection: ConnectionId, want: Want) -> bool {
        let Some(standby) = self.standby.as_mut() else { return false };
        self.ledger.role() == Role::Standby && standby.ask(connection, write(&want)).is_ok()
    }
}

impl Data {
    /// As standby: fetches what the holder made, to find the first byte that differs. A publisher that has left is not
    /// asked about any more.
    fn look(&self, stream: &StreamName, want: Want) {
        let mut books = self.books();
        let of = books.entries.iter().find(|(_, entry)| entry.stream.as_ref() == Some(stream));
        if let Some(connection) = of.map(|(connection, _)| *connection) {
            books.ask(connection, want);
        }
        drop(books);
        self.ring();
    }
}
