//! As standby: what the holder said, in its order.

use super::super::books::{Books, Data, Entry, Since};
use super::super::line::{Line, Turn};
use super::super::strand::Strand;
use super::super::tap::Tap;
use super::super::word::{Again, Lead, Start, Word, read, write};
use super::Engine;
use crate::io::pair::orders::Report;
use bytes::Bytes;
use mirror::{ConnectionId, Holder, Role, Step};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{error, warn};

/// Bytes that may wait for one connection's task. A live connection waits in its socket.
pub(super) const LIVE_ROOM: usize = 1 << 20;
/// More than a holder can be ahead with one stream (its room, its stream's queue), so that nothing it says is stuck behind.
pub(super) const MIRRORED_ROOM: usize = 64 << 20;
/// Steps that are carried out without a look at anything else: some milliseconds of a hundred publishers.
const STEPS: usize = 64;
/// A stream that takes nothing for this long does not keep up, and the link is closed.
const FULL_MAX: Duration = Duration::from_secs(2);

/// To a former holder: what happened since it was one.
pub(super) fn say_again(holder: &mut Holder, connection: ConnectionId, since: Since) {
    let Some((input, _)) = holder.position(connection) else { return };
    let state = write(&Start::Again { from: since.from, log: since.log });
    if let Err(error) = holder.snapshot(connection, input, state) {
        warn!(%connection, %error, "a former holder needs a whole snapshot");
    }
}

impl Engine {
    /// Carries out all that was heard; behind it, the link's end.
    pub(super) async fn carry(&mut self) {
        while self.carry_some().await {}
    }

    /// Carries out some of what was heard, so that orders do not wait for all of it; behind the last of it, the link's end.
    /// `true`: there is more.
    pub(super) async fn carry_some(&mut self) -> bool {
        self.data.0.pulse.turn();
        for _ in 0..STEPS {
            let step = self.data.books().ear.next();
            let Some(step) = step else {
                self.carried();
                return false;
            };
            if !self.take_step(step).await {
                self.data.books().ear.fail();
                self.lose("the holder cannot be followed");
            }
        }
        true
    }

    /// Nothing is due.
    fn carried(&mut self) {
        let mut books = self.data.books();
        let (ended, waits) = (books.ear.take_end(), books.ear.take_waits());
        drop(books);
        if waits {
            self.data.0.listen.ring();
        }
        if let Some(why) = ended {
            self.lose(&why);
        }
    }

    async fn take_step(&mut self, step: Step) -> bool {
        match step {
            // Its state follows.
            Step::Opened(_) => {}
            Step::Snapshot { connection, state, .. } => return self.start(connection, &state).await,
            Step::Input { connection, bytes, .. } => return self.input(connection, bytes).await,
            Step::Published { connection, publishes } => {
                // Before its state: that says it.
                let known = |entry: &Entry| entry.mentioned;
                if !self.data.books().entries.get(&connection).is_some_and(known) {
                    return true;
                }
                match read::<Lead>(&publishes.record) {
                    Ok(lead) => self.published(connection, Box::new(lead)),
                    Err(error) => return self.refuse(connection, &error.to_string()),
                }
            }
            Step::Note { connection, bytes } => match read::<Word>(&bytes) {
                Ok(Word::Copy(chunk)) => self.copied(&chunk),
                Ok(word) => self.word(connection, word),
                Err(error) => return self.refuse(connection, &error.to_string()),
            },
            Step::Closed(connection) => {
                if let Some(entry) = self.data.books().entries.get(&connection) {
                    // The holder has decided all it ever will.
                    if let Some(strand) = &entry.strand {
                        strand.leave(connection);
                    }
                    entry.turn(Turn::Closed);
                }
            }
            Step::Paired => {
                if let Some(wire) = &self.wire {
                    self.report(Report::Paired(wire.epoch));
                }
            }
            Step::Segment(digest) => self.data.books().ledger.heard(digest),
            Step::Part(digest) => {
                self.data.books().ledger.heard_part(digest);
                self.data.tell_streams();
            }
        }
        true
    }

    fn refuse(&self, connection: ConnectionId, why: &str) -> bool {
        error!(%connection, why, "the holder cannot be followed");
        false
    }

    async fn input(&mut self, connection: ConnectionId, bytes: Bytes) -> bool {
        let (turns, room) = match self.data.books().entries.get(&connection) {
            Some(entry) => (entry.turns.clone(), entry.room.clone()),
            None => return true,
        };
        let Some(permit) = self.room(room, bytes.len()).await else {
            self.data.diverged(format!(
                "connection {connection}: its stream takes nothing, this node cannot keep up"
            ));
            return false;
        };
        // A task that has ended listens no more.
        let _ = turns.send(Turn::Input(bytes, Some(permit)));
        true
    }

    /// Room for input; the pulse goes on meanwhile. `None` when there is none for too long.
    async fn room(&self, room: Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = bytes.min(MIRRORED_ROOM) as u32;
        let pulse = Duration::from_millis(50);
        for _ in 0..FULL_MAX.as_millis() / pulse.as_millis() {
            match timeout(pulse, room.clone().acquire_many_owned(wanted)).await {
                Ok(permit) => return permit.ok(),
                Err(_) => self.data.0.pulse.turn(),
            }
        }
        None
    }

    /// Where a connection's twin starts.
    async fn start(&mut self, connection: ConnectionId, state: &[u8]) -> bool {
        match read::<Start>(state) {
            Ok(Start::State(state)) => {
                if let Some(entry) = self.data.books().entries.get(&connection) {
                    entry.forget(connection);
                }
                let (strand, decisions) = Strand::new(&self.data);
                let mut guard = self.data.books();
                let books = &mut *guard;
                let turns = self.data.line(books, connection, Role::Standby, |tap, turns| {
                    Line::mirrored(tap, self.door.clone(), turns)
                });
                match (&state.lead, &state.joins) {
                    (Some(lead), _) => {
                        books.copies.expect(lead.record.name.clone());
                        strand.begins(books, connection, lead);
                    }
                    (None, Some(joins)) => {
                        let host = books.entries.get(&ConnectionId(joins.host));
                        if let Some(of) = host.and_then(|host| host.strand.clone()) {
                            Strand { data: self.data.clone(), of }.attach(books, connection);
                        }
                    }
                    (None, None) => {}
                }
                drop(guard);
                let _ = turns.send(Turn::State(state, decisions));
                true
            }
            Ok(Start::Again { from, log }) => {
                let stands = match self.data.books().entries.get_mut(&connection) {
                    Some(entry) => {
                        entry.mentioned = true;
                        entry.departed_at == Some(from)
                    }
                    None => false,
                };
                if !stands {
                    return self.refuse(connection, "it does not stand where the holder took it over");
                }
                for item in log {
                    match item {
                        Again::Input(bytes) => {
                            if !self.input(connection, bytes).await {
                                return false;
                            }
                        }
                        Again::Published(lead) => self.published(connection, lead),
                        Again::Word(word) => self.word(connection, *word),
                    }
                }
                true
            }
            Err(error) => self.refuse(connection, &error.to_string()),
        }
    }

    fn published(&self, connection: ConnectionId, lead: Box<Lead>) {
        let (strand, decisions) = Strand::new(&self.data);
        let mut guard = self.data.books();
        strand.begins(&mut guard, connection, &lead);
        if let Some(entry) = guard.entries.get(&connection) {
            entry.turn(Turn::Published(lead, decisions));
        }
    }

    /// Words for the stream go past what waits for the connection: the stream may wait for them.
    fn word(&self, connection: ConnectionId, word: Word) {
        let mut guard = self.data.books();
        let books = &mut *guard;
        let Some(entry) = books.entries.get(&connection) else { return };
        let strand = entry.strand.clone();
        match word {
            Word::Decided(word) => strand.into_iter().for_each(|strand| strand.decided(word.clone())),
            Word::Next(next) => strand.into_iter().for_each(|strand| strand.next(connection, next)),
            Word::Shares(second) => {
                if let Some(of) = strand {
                    Strand { data: self.data.clone(), of }.shares(books, connection, second);
                }
            }
            Word::Made(record) => {
                if let Some(stream) = &entry.stream {
                    let answer = books.ledger.heard_record(stream, record);
                    if let Some(standby) = &mut books.standby {
                        answer.into_iter().for_each(|digest| standby.segment(digest));
                    }
                    drop(guard);
                    self.data.ring();
                    self.data.tell_streams();
                }
            }
            Word::Epoch(epoch) => {
                if let Some(stream) = &entry.stream {
                    books.ledger.heard_epoch(stream, epoch);
                    drop(guard);
                    self.data.tell_streams();
                }
            }
            Word::End => entry.turn(Turn::End),
            // Beside all connections.
            Word::Copy(_) => {}
            Word::Answer(answer) => {
                let found = strand.and_then(|strand| strand.heard(answer));
                let stream = entry.stream.clone();
                drop(guard);
                if let (Some(found), Some(stream)) = (found, stream) {
                    self.data.diverged(format!("stream {stream}, {found}"));
                }
                self.data.tell_streams();
            }
        }
    }

    /// Connections of an earlier link that the holder does not have any more.
    pub(super) fn forget_unmentioned(&self) {
        let mut books = self.data.books();
        books.entries.retain(|connection, entry| {
            if !entry.mentioned {
                entry.forget(*connection);
            }
            entry.mentioned
        });
    }
}

impl Data {
    /// Starts a connection's task.
    pub(in super::super) fn line(
        &self,
        books: &mut Books,
        connection: ConnectionId,
        role: Role,
        make: impl FnOnce(Tap, mpsc::UnboundedReceiver<Turn>) -> Line,
    ) -> mpsc::UnboundedSender<Turn> {
        let (turns, listens) = mpsc::unbounded_channel();
        let room = if role == Role::Holder { LIVE_ROOM } else { MIRRORED_ROOM };
        let entry = Entry::new(turns.clone(), Arc::new(Semaphore::new(room)));
        books.entries.insert(connection, entry);
        let tap = Tap { data: self.clone(), connection };
        tokio::spawn(make(tap, listens).run());
        turns
    }
}
