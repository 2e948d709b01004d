//! A publisher with a twin as its stream sees it, over one connection or over two (a primary and its backup).
//!
//! In: what the stream makes and decides; which connection's message comes next. Out: the same to the other node, in one
//! sequence, on whichever connection lives; at the standby the holder's word. Touches the books.
//!
//! ```text
//!  holder                                                     standby
//!  second connection may publish ── Shares, on the first one ──► takes its seat where the first one's turns have come to it
//!  message of either, number N ──── Next(N), on its connection ─► the same message is number N
//!  slices, segments, epoch ──────── on the first that is open ──► the stream
//! ```
//!
//! Which connection's message comes next is chance at the holder and its word at the standby; so is whether a publisher was
//! alone or quiet then. One connection by itself needs no such words: the second one comes between two of its turns, the same
//! two on both nodes (`order`). How the GOPs are marked is agreed on in `gops`; what a standby that joins is given of all of a
//! publisher's connections is of one instant (`instant`).
//!
//! A slot's lock comes before the books', the books' before a strand's. A claim is dropped under neither of the latter.

mod decisions;
mod gops;
mod instant;
mod order;

pub(super) use decisions::Decision;
pub use decisions::Decisions;

use super::asked::Kept;
use super::books::{Books, Data};
use super::line::Turn;
use super::word::{Lead, Next, Second, Word};
use crate::io::streams::Claim;
use crate::merge::Standing;
use ingest_api::StreamName;
use ingest_api::window::Segment;
use instant::Stored;
use mirror::ConnectionId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, mpsc, oneshot};

/// What connections of one publisher share.
#[derive(Default)]
pub(super) struct Of {
    inner: Mutex<Inner>,
    turned: Notify,
}

#[derive(Default)]
struct Inner {
    stream: Option<StreamName>,
    /// Its open connections, the oldest first.
    members: Vec<Second>,
    /// Those that publish no more.
    left: BTreeSet<u64>,
    /// Those that live elsewhere.
    abandoned: BTreeSet<u64>,
    /// What the other node may ask for, or was asked for.
    kept: Kept,
    /// How the holder marked its GOPs.
    decisions: Option<mpsc::UnboundedSender<Decision>>,
    /// The holder's words on messages to come.
    words: BTreeMap<u64, (u64, Standing)>,
    /// Our words since the instant that a standby is about to be given, and the link of that standby.
    said: Option<(u64, Vec<(u64, Next)>)>,
    /// Where connections stand, for a standby that joins.
    stored: BTreeMap<u64, Stored>,
    /// Claims of further connections.
    seats: BTreeMap<u64, Claim>,
}

impl Inner {
    fn enter(&mut self, member: Second) {
        self.left.remove(&member.connection);
        self.abandoned.remove(&member.connection);
        self.members.retain(|known| known.connection != member.connection);
        self.members.push(member);
    }

    /// Whether the standby of a link is about to be given an instant.
    fn on_the_way(&self, link: u64) -> bool {
        self.said.as_ref().is_some_and(|(of, _)| *of == link)
    }

    /// Those that publish.
    fn publishing(&self) -> impl Iterator<Item = &Second> {
        self.members.iter().filter(|member| !self.left.contains(&member.connection))
    }
}

impl Of {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection lives elsewhere: it waits for nothing here any more.
    pub(super) fn abandon(&self, connection: ConnectionId) {
        self.inner().abandoned.insert(connection.0);
        self.turned.notify_waiters();
    }

    /// A connection is over.
    pub(super) fn leave(&self, connection: ConnectionId) {
        let mut inner = self.inner();
        inner.members.retain(|member| member.connection != connection.0);
        if inner.members.is_empty() {
            // Nobody decides anything any more.
            inner.decisions = None;
        }
    }
}

/// The way of a publisher's stream into the books.
#[derive(Clone)]
pub struct Strand {
    pub(super) data: Data,
    pub(super) of: Arc<Of>,
}

impl std::fmt::Debug for Strand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Strand")
    }
}

impl Strand {
    /// Of a publisher that is about to begin, and where the holder's words on its GOPs arrive.
    pub(super) fn new(data: &Data) -> (Strand, Decisions) {
        let (said, decisions) = mpsc::unbounded_channel();
        let of = Arc::new(Of::default());
        of.inner().decisions = Some(said);
        (Strand { data: data.clone(), of }, Decisions::new(decisions))
    }

    /// The first connection.
    pub(super) fn begins(&self, books: &mut Books, connection: ConnectionId, lead: &Lead) {
        let mut inner = self.of.inner();
        let Lead { push, peer, .. } = *lead;
        inner.stream = Some(lead.record.name.clone());
        inner.enter(Second { connection: connection.0, push, peer });
        if let Some(live) = &lead.live {
            live.others.iter().for_each(|other| inner.enter(*other));
            inner.words.extend(live.words.iter().map(|(of, next)| (next.at, (*of, next.standing))));
        }
        drop(inner);
        self.attach(books, connection);
    }

    pub(super) fn attach(&self, books: &mut Books, connection: ConnectionId) {
        if let Some(entry) = books.entries.get_mut(&connection) {
            entry.stream = self.of.inner().stream.clone();
            entry.strand = Some(self.of.clone());
        }
    }

    /// As holder: a further connection joins, told on `host`. What is given ends where it may say something: once the host has
    /// come so far in its turns. `None`: not now, while sockets move or a standby would not hear of it.
    pub fn joins(&self, host: u64, second: Second) -> Option<oneshot::Receiver<()>> {
        let (host, connection) = (ConnectionId(host), ConnectionId(second.connection));
        let mut guard = self.data.books();
        let books = &mut *guard;
        let deaf = |connection| books.holder.awaits_snapshot(connection);
        let inner = self.of.inner();
        // A host that has just begun is not told of yet, and nothing can be told of what it shares. Where a standby lacks
        // both, what it is given says it, unless that is on its way already.
        let begun = inner.members.iter().any(|member| member.connection == host.0);
        let on_the_way = inner.on_the_way(books.links);
        drop(inner);
        if books.detached || !begun || on_the_way || deaf(host) != deaf(connection) {
            return None;
        }
        let since = |connection| books.entries.get(connection).is_some_and(|entry| entry.since.is_some());
        let alike = since(&host) == since(&connection);
        self.of.inner().enter(second);
        self.attach(books, connection);
        books.note(host, Word::Shares(second));
        if !alike {
            books.keep_no_longer(host);
        }
        let (admit, admitted) = oneshot::channel();
        if let Some(entry) = books.entries.get(&host) {
            entry.turn(Turn::Shares(second, Some(admit)));
        }
        drop(guard);
        self.data.ring();
        Some(admitted)
    }

    /// As standby: the same, by the holder's word.
    pub(super) fn shares(&self, books: &mut Books, host: ConnectionId, second: Second) {
        let connection = ConnectionId(second.connection);
        self.of.inner().enter(second);
        self.attach(books, connection);
        if let Some(entry) = books.entries.get(&host) {
            entry.turn(Turn::Shares(second, None));
        }
        if let Some(entry) = books.entries.get(&connection) {
            entry.turn(Turn::Joins);
        }
    }

    /// A further connection's claim, where that one still wants it.
    pub(super) fn give(&self, connection: u64, claim: Claim) {
        let unwanted = {
            let mut inner = self.of.inner();
            match inner.abandoned.contains(&connection) {
                true => Some(claim),
                false => inner.seats.insert(connection, claim),
            }
        };
        drop(unwanted);
        self.of.turned.notify_waiters();
    }

    /// Waits for one's own. `None`: the connection lives elsewhere.
    pub(super) async fn seat(&self, connection: ConnectionId) -> Option<Claim> {
        loop {
            let turned = self.turned();
            tokio::pin!(turned);
            turned.as_mut().enable();
            {
                let mut inner = self.of.inner();
                let seat = inner.seats.remove(&connection.0);
                if seat.is_some() || inner.abandoned.contains(&connection.0) {
                    return seat;
                }
            }
            turned.await;
        }
    }

    /// A connection publishes no more; its last words may be said by it.
    pub(super) fn left(&self, connection: ConnectionId) {
        let mut inner = self.of.inner();
        inner.left.insert(connection.0);
        inner.stored.remove(&connection.0);
        drop(inner);
        self.of.turned.notify_waiters();
    }

    /// A connection's task has ended: a claim that it never took is nobody's.
    pub(super) fn over(&self, connection: ConnectionId) {
        let unwanted = {
            let mut inner = self.of.inner();
            inner.left.insert(connection.0);
            inner.abandoned.insert(connection.0);
            inner.seats.remove(&connection.0)
        };
        drop(unwanted);
        self.of.turned.notify_waiters();
    }

    fn note(&self, word: Word) {
        let mut guard = self.data.books();
        let books = &mut *guard;
        let open = |member: &&Second| books.holder.position(ConnectionId(member.connection)).is_some();
        let speaker = self.of.inner().members.iter().find(open).map(|member| ConnectionId(member.connection));
        if let Some(speaker) = speaker {
            books.note(speaker, word);
        }
        drop(guard);
        self.data.ring();
    }

    /// A segment is finished.
    pub fn made(&self, record: &Segment) {
        self.note(Word::Made(record.clone()));
    }

    /// The stream's fencing term has been raised.
    pub fn raised(&self, epoch: u64) {
        self.note(Word::Epoch(epoch));
    }
}
