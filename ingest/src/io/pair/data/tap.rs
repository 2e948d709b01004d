//! One connection's way into the books.
//!
//! In: what the connection reads and says, and its end. Out: the same to the other node; room to read. While this node is not
//! the connection's holder nothing is said. Touches the books.

use super::books::{Data, Entry};
use super::line::Turn;
use super::pump::Command;
use super::strand::Strand;
use super::word::{Again, Lead, LineState, Start, Word, write};
use bytes::Bytes;
use mirror::{ConnectionId, Error, Publishes};
use tokio::sync::OwnedSemaphorePermit;

/// One connection's way into the books.
#[derive(Clone)]
pub(super) struct Tap {
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

    /// Input was read: it enters the books, and is the connection's next turn, both or neither, so that the turns of both nodes
    /// come in one order. `false`: the books have closed the connection.
    pub(super) fn input(&self, bytes: Bytes, room: Option<OwnedSemaphorePermit>) -> bool {
        let mut books = self.data.books();
        let taken = books.holder.input(self.connection, bytes.clone()).is_ok();
        // At once, before the line is woken for it. Whatever is left to say, or broke, is the engine's.
        let said = books.speak().unwrap_or(false);
        if taken {
            books.mirrored += bytes.len() as u64;
            books.keep(self.connection, Again::Input(bytes.clone()), bytes.len());
            if let Some(entry) = books.entries.get(&self.connection) {
                entry.turn(Turn::Input(bytes, room));
            }
        }
        drop(books);
        if !said {
            self.data.ring();
        }
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

    /// The connection publishes, as the first one of its publisher: before any input that is parsed under this. `false`: it is
    /// not this node's any more.
    pub(super) fn publishes(&self, strand: &Strand, lead: &Lead) -> bool {
        let publishes = Publishes { stream: lead.record.name.clone(), run: lead.run.id, record: write(lead) };
        let mut books = self.data.books();
        if books.entries.get(&self.connection).is_none_or(|entry| entry.pump.is_none()) {
            return false;
        }
        let entered = books.holder.publish(self.connection, publishes);
        if let Err(Error::Unknown { .. }) = entered {
            return false;
        }
        strand.begins(&mut books, self.connection, lead);
        books.keep(self.connection, Again::Published(Box::new(lead.clone())), 0);
        drop(books);
        if let Err(error) = entered {
            self.data
                .diverged(format!("stream {}: the standby is not told of it: {error}", lead.record.name));
        }
        self.data.ring();
        true
    }

    /// The publisher has ended.
    pub(super) fn ended(&self) {
        self.data.books().note(self.connection, Word::End);
        self.data.ring();
    }

    /// Whether a standby waits for a snapshot of the connection.
    pub(super) fn is_awaited(&self) -> bool {
        self.data.books().holder.wants_snapshot(self.connection)
    }

    /// The way of the connection's stream, where it publishes.
    pub(super) fn strand(&self) -> Option<Strand> {
        let of = self.data.books().entries.get(&self.connection).and_then(|entry| entry.strand.clone())?;
        Some(Strand { data: self.data.clone(), of })
    }

    pub(super) fn snapshot(&self, input: u64, state: LineState) {
        let state = write(&Start::State(Box::new(state)));
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
        // A former holder that joins will not hear of it: what it shared cannot be told by what came since.
        books.keep_no_longer(self.connection);
        let strand = books.entries.get(&self.connection).and_then(|entry: &Entry| entry.strand.clone());
        if let Some(strand) = strand {
            strand.leave(self.connection);
        }
        drop(books);
        self.data.ring();
    }
}
