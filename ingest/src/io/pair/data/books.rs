//! The books of `mirror`, shared by everything that carries bytes: one lock, held for moments, nothing awaits under it.
//!
//! In: what connections read and write, what streams make, what the link says. Out: the same to the other node; room to read.
//! [`Data`] is the handle of the node's tasks, [`Tap`] that of one connection and its stream.

use super::asked::{Kept, Want};
use super::copy::{Copies, Shelf};
use super::ledger::{Difference, Ledger, Listing};
use super::line::Turn;
use super::pump::Command;
use super::word::{Lead, LineState, Record, Word, write};
use super::{Config, Moment, News, Status};
use crate::io::pair::pulse::Pulse;
use crate::metrics::{Metrics, OfStreamAnd};
use bytes::Bytes;
use ingest_api::window::{Gop, Segment};
use ingest_api::{Object, StreamName, Track};
use media::unit::Piece;
use mirror::{ConnectionId, Error, Holder, PartDigest, Publishes, Role, Standby, Stations};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use takeover::hold::{Base, Flow};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::timeout;
use tracing::{error, warn};

/// What a connection's task, its socket and its twin share here.
pub(super) struct Entry {
    pub(super) turns: mpsc::UnboundedSender<Turn>,
    /// Bytes that may wait for its task.
    pub(super) room: Arc<Semaphore>,
    /// Its socket, while it is live here.
    pub(super) pump: Option<mpsc::UnboundedSender<Command>>,
    /// How the holder marked its GOPs.
    pub(super) decisions: Option<mpsc::UnboundedSender<Gop>>,
    pub(super) stream: Option<StreamName>,
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
    /// What its twin may ask for, or was asked for.
    pub(super) kept: Kept,
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
    pub(super) log: Vec<super::word::Again>,
    pub(super) bytes: usize,
}

/// How long slices may take from the holder: many times a round trip and some hundred kilobytes. The stream waits for them.
const SLICES_MAX: Duration = Duration::from_secs(1);

/// A former holder that is away for longer is given a snapshot instead, bytes of input.
pub(super) const SINCE_MAX: usize = 8 << 20;

impl Entry {
    pub(super) fn new(turns: mpsc::UnboundedSender<Turn>, room: Arc<Semaphore>) -> Entry {
        Entry {
            turns,
            room,
            pump: None,
            decisions: None,
            stream: None,
            flow: None,
            base: None,
            admitted: false,
            describe: Describe::No,
            away: false,
            departed_at: None,
            mentioned: true,
            since: None,
            kept: Kept::default(),
        }
    }

    /// A task that has ended no longer listens; nobody needs to know.
    pub(super) fn turn(&self, turn: Turn) {
        let _ = self.turns.send(turn);
    }

    fn keep(&mut self, item: super::word::Again, bytes: usize) {
        let Some(since) = &mut self.since else { return };
        since.bytes += bytes;
        since.log.push(item);
        if since.bytes > SINCE_MAX {
            self.since = None;
        }
    }
}

/// Everything under the lock.
pub(super) struct Books {
    pub(super) holder: Holder,
    pub(super) standby: Option<Standby>,
    pub(super) entries: BTreeMap<ConnectionId, Entry>,
    pub(super) ledger: Ledger,
    /// What this node copies as standby, and what it gives as holder.
    pub(super) copies: Copies,
    pub(super) shelf: Shelf,
    pub(super) next: u64,
    pub(super) mirrored: u64,
    /// Words for control.
    pub(super) diverged: Vec<String>,
}

pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) pulse: Arc<Pulse>,
    pub(super) metrics: Metrics,
    pub(super) books: Mutex<Books>,
    /// There is something to say on the link.
    pub(super) bell: Notify,
    /// There may be room to read.
    pub(super) room: Notify,
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
    pub(super) fn new(config: Config, pulse: Arc<Pulse>, metrics: Metrics) -> Data {
        let ledger = Ledger::new(config.protect);
        let books = Books {
            holder: Holder::default(),
            standby: None,
            entries: BTreeMap::new(),
            ledger,
            copies: Copies::default(),
            shelf: Shelf::default(),
            next: 1,
            mirrored: 0,
            diverged: Vec::new(),
        };
        Data(Arc::new(Shared {
            config,
            pulse,
            metrics,
            books: Mutex::new(books),
            bell: Notify::new(),
            room: Notify::new(),
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

    /// Where the holder's words on GOPs arrive from now on.
    pub(super) fn decisions(&self, connection: ConnectionId) -> mpsc::UnboundedReceiver<Gop> {
        let (said, decisions) = mpsc::unbounded_channel();
        if let Some(entry) = self.books().entries.get_mut(&connection) {
            entry.decisions = Some(said);
        }
        decisions
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
    /// As standby: asks the holder.
    fn ask(&mut self, connection: ConnectionId, want: Want) -> bool {
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

/// One connection's way into the books. While this node is not its holder nothing is said.
#[derive(Clone)]
pub struct Tap {
    pub(super) data: Data,
    pub(super) connection: ConnectionId,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tap({})", self.connection)
    }
}

impl Tap {
    /// Waits until the socket may be read.
    pub(super) async fn may_read(&self) {
        loop {
            let room = self.data.0.room.notified();
            if self.data.books().holder.may_read(self.connection) {
                return;
            }
            room.await;
        }
    }

    /// Input was read, and is not parsed yet. `false`: the books have closed the connection.
    pub(super) fn input(&self, bytes: &Bytes) -> bool {
        let mut books = self.data.books();
        let taken = books.holder.input(self.connection, bytes.clone()).is_ok();
        if taken {
            books.mirrored += bytes.len() as u64;
            if let Some(entry) = books.entries.get_mut(&self.connection) {
                entry.keep(super::word::Again::Input(bytes.clone()), bytes.len());
            }
        }
        drop(books);
        self.data.ring();
        taken
    }

    /// Enters output and gives it to the socket, both or neither. `Ok(false)`: there is no socket now.
    pub(super) fn write(&self, bytes: Bytes) -> Result<bool, Error> {
        let mut books = self.data.books();
        let Some(entry) = books.entries.get(&self.connection) else { return Ok(false) };
        let Some(pump) = entry.pump.clone() else { return Ok(false) };
        books.holder.output(self.connection, bytes.clone())?;
        let written = pump.send(Command::Write(bytes)).is_ok();
        drop(books);
        self.data.ring();
        Ok(written)
    }

    /// So much output the publisher has acknowledged.
    pub(super) fn acknowledged(&self, acked: u64) {
        // Beyond what was written it cannot be; a closed connection needs no acknowledgements.
        let _ = self.data.books().holder.acked_output(self.connection, acked);
    }

    /// Input read and output said so far.
    pub(super) fn position(&self) -> Option<(u64, u64)> {
        self.data.books().holder.position(self.connection)
    }

    /// The connection publishes: before any input that is parsed under this. `false`: it is not this node's any more.
    pub(super) fn publishes(&self, lead: &Lead) -> bool {
        let publishes = Publishes { stream: lead.record.name.clone(), run: lead.run.id, record: write(lead) };
        let mut books = self.data.books();
        if books.entries.get(&self.connection).is_none_or(|entry| entry.pump.is_none()) {
            return false;
        }
        let entered = books.holder.publish(self.connection, publishes);
        if let Err(Error::Unknown { .. }) = entered {
            return false;
        }
        if let Some(entry) = books.entries.get_mut(&self.connection) {
            entry.stream = Some(lead.record.name.clone());
            entry.keep(super::word::Again::Published(Box::new(lead.clone())), 0);
        }
        drop(books);
        if let Err(error) = entered {
            self.data
                .diverged(format!("stream {}: the standby is not told of it: {error}", lead.record.name));
        }
        self.data.ring();
        true
    }

    fn note(&self, word: Word) {
        let mut books = self.data.books();
        if books.ledger.role() != Role::Holder {
            return;
        }
        let noted = books.holder.note(self.connection, write(&word));
        if let Some(entry) = books.entries.get_mut(&self.connection) {
            entry.keep(super::word::Again::Word(Box::new(word)), 0);
        }
        drop(books);
        match noted {
            // Closed meanwhile: nobody needs the word.
            Ok(()) | Err(Error::Unknown { .. }) => self.data.ring(),
            Err(error) => warn!(connection = %self.connection, %error, "the standby misses a word"),
        }
    }

    fn decided(&self, gop: &Gop) {
        self.note(Word::Gop(gop.clone()));
    }

    /// A segment is finished.
    pub fn made(&self, record: &Segment) {
        self.note(Word::Made(Record(record.clone())));
    }

    /// The stream's fencing term has been raised.
    pub fn raised(&self, epoch: u64) {
        self.note(Word::Epoch(epoch));
    }

    /// The publisher has ended.
    pub(super) fn ended(&self) {
        self.note(Word::End);
    }

    /// This node has marked a GOP: its twin may ask for it.
    pub fn marked(&self, start_90k: i64, pieces: &[Piece]) {
        if let Some(entry) = self.data.books().entries.get_mut(&self.connection) {
            entry.kept.marked(start_90k, pieces);
        }
    }

    /// This node has made a track of a segment: it may be compared byte for byte.
    pub fn keep(&self, number: u64, track: Track, object: &Object) {
        if let Some(entry) = self.data.books().entries.get_mut(&self.connection) {
            entry.kept.made(number, track, object);
        }
    }

    /// As standby: the slices of a GOP that the holder marked and this node could not. `None` where they do not come.
    pub async fn slices(&self, start_90k: i64) -> Option<Vec<Piece>> {
        let mut news = self.data.news();
        if !self.data.books().ask(self.connection, Want::Slices(start_90k)) {
            return None;
        }
        self.data.ring();
        let fetched = async {
            loop {
                let (found, follows) = {
                    let mut books = self.data.books();
                    let found = books.entries.get_mut(&self.connection)?.kept.take(start_90k);
                    (found, books.ledger.role() == Role::Standby)
                };
                if found.is_some() || !follows {
                    return found;
                }
                news.changed().await.ok()?;
            }
        };
        timeout(SLICES_MAX, fetched).await.ok().flatten()
    }

    /// The holder's word on a GOP, `None` where this node is the holder: then the twin is told ours.
    pub async fn agree(&self, ours: &Gop, decisions: &mut mpsc::UnboundedReceiver<Gop>) -> Option<Gop> {
        let mut news = self.data.news();
        loop {
            // What a holder said before it died counts.
            let theirs = match decisions.try_recv() {
                Ok(theirs) => Some(theirs),
                Err(_) if self.data.is_holder() => {
                    self.decided(ours);
                    return None;
                }
                Err(_) => tokio::select! {
                    theirs = decisions.recv() => Some(theirs?),
                    _ = news.changed() => None,
                },
            };
            match theirs {
                Some(theirs) if theirs.start_90k == ours.start_90k => return Some(theirs),
                Some(theirs) if theirs.start_90k > ours.start_90k => return None,
                _ => {}
            }
        }
    }

    /// Whether a standby waits for a snapshot of the connection.
    pub(super) fn is_awaited(&self) -> bool {
        self.data.books().holder.wants_snapshot(self.connection)
    }

    /// Everything of one instant, for a standby that joins.
    pub fn joined(&self, moment: Moment, lead: Lead) {
        let Moment { session, input, output, .. } = moment;
        let stream = lead.record.name.clone();
        self.snapshot(input, LineState { session, output, lead: Some(lead) });
        self.data.books().ledger.joined(&stream);
        self.data.tell_streams();
    }

    pub(super) fn snapshot(&self, input: u64, state: LineState) {
        let state = write(&super::word::Start::State(Box::new(state)));
        let given = self.data.books().holder.snapshot(self.connection, input, state);
        match given {
            Ok(()) => self.data.ring(),
            // The link came up after this instant, or has gone: the next instant will do.
            Err(Error::Range { .. } | Error::NoLink | Error::Snapshot { .. } | Error::Unknown { .. }) => {}
            Err(error) => self.data.diverged(format!("connection {}: no snapshot: {error}", self.connection)),
        }
    }

    /// The connection is over; all it said is in the books.
    pub(super) fn close(&self) {
        let mut books = self.data.books();
        // Closed twice is closed.
        let _ = books.holder.close(self.connection);
        drop(books);
        self.data.ring();
    }
}
