//! The holder's books: what came from and goes to each publisher, and how much of it the standby has.
//!
//! In: input as it was read, output before it is written, snapshots, bytes of the link. Out: bytes for the link, what the
//! packet hold may release, events. Pure. After every call take [`Holder::poll_release`], [`Holder::poll_event`] and
//! [`Holder::poll_transmit`] until they are empty.
//!
//! It outlives links. Without one it only counts, and keeps the output that publishers have not acknowledged; with one
//! every byte goes to the standby.
//!
//! ```text
//!  alone ── attach ──► joining ── tell_paired, caught up ──► told ── PairedSeen ──► paired
//!    ▲                   │  too slow: Behind                   │  input waits         │  input waits
//!    └────── detach ─────┴─────────────────────────────────────┴──────────────────────┘
//! ```
//!
//! **Bounds.** [`UNCONFIRMED_MAX`] bytes of input a connection, [`UNCONFIRMED_TOTAL_MAX`] in all. While joining, a standby
//! that stays behind is given up ([`Event::Behind`]): a live publisher does not wait for a newcomer. From `tell_paired` on
//! the publisher waits: [`Holder::may_read`] is false, the socket is not read, its window closes, nothing is lost. Output
//! that a publisher does not acknowledge, [`OUTPUT_MAX`] bytes, ends in [`Error::Full`]: drop that publisher.

mod hear;
mod join;
mod say;

use crate::frame::{Frame, PAYLOAD_MAX, Publishes, RECORD_MAX, TCP_MAX};
use crate::link::Link;
use crate::log::Log;
use crate::{ConnectionId, Error, PartDigest, SegmentDigest, Survived, Way};
use bytes::Bytes;
use say::{send_input, send_output};
use std::collections::{BTreeMap, VecDeque};

/// Connections at once; what the packet hold's ledger knows.
pub const CONNECTIONS_MAX: usize = 4_096;
/// Unconfirmed input of one connection, bytes: ten seconds of 6 Mb/s, far beyond any dead time.
pub const UNCONFIRMED_MAX: u64 = 8 << 20;
/// Unconfirmed input of all connections, bytes.
pub const UNCONFIRMED_TOTAL_MAX: u64 = 512 << 20;
/// Unacknowledged output of one connection, bytes. A publisher is sent some kilobytes in all.
pub const OUTPUT_MAX: u64 = 1 << 20;
/// A snapshot, bytes: session, feed and segmenter with an open segment of the largest size.
pub const SNAPSHOT_MAX: usize = 128 << 20;
/// Snapshots on their way at once. Others wait for their next GOP boundary.
pub const SNAPSHOTS_MAX: usize = 2;

/// News for the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The standby knows that it is paired; only now [`Holder::confirmed`] says anything.
    Paired,
    /// The standby, if there is one, knows that the connection is over: its last packets may leave.
    Finished(ConnectionId),
    /// The standby has the connection's newest static TCP state.
    TcpKnown(ConnectionId),
    /// What the standby made of a segment.
    Segment(SegmentDigest),
    /// The standby's shell asks for something: answer with notes.
    Asked {
        /// Which connection it is about.
        connection: ConnectionId,
        /// What [`Standby::ask`](crate::Standby::ask) was given.
        bytes: Bytes,
    },
    /// What the standby made of a part.
    Part(PartDigest),
    /// The joining standby did not keep up; it was detached. Close the link.
    Behind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Joining,
    Told,
    Paired,
}

#[derive(Debug)]
struct Connection {
    tcp: Bytes,
    publishes: Option<Publishes>,
    /// Until the first input.
    first_state: Option<Bytes>,
    input: u64,
    /// Input that a snapshot may still leave to be sent; empty otherwise.
    held_back: Log,
    /// What the publisher has not acknowledged.
    output: Log,
    closing: bool,
    /// Static TCP states that were told and not answered.
    tcp_unseen: u32,
    /// Was there before the link, so it counts for "caught up", and needs a snapshot.
    late: bool,
    awaits_snapshot: bool,
    /// The least that a confirmation may say.
    low: (u64, u64),
    /// "Caught up" is having this.
    goal: (u64, u64),
    confirmed: Option<(u64, u64)>,
}

impl Connection {
    fn unconfirmed(&self) -> u64 {
        self.input - self.confirmed.map_or(self.goal.0, |(input, _)| input)
    }

    fn is_caught_up(&self) -> bool {
        !self.late
            || self.confirmed.is_some_and(|(input, output)| input >= self.goal.0 && output >= self.goal.1)
    }
}

/// The books of the node that has the publishers.
#[derive(Debug, Default)]
pub struct Holder {
    connections: BTreeMap<ConnectionId, Connection>,
    last: Option<ConnectionId>,
    link: Option<(Link, Phase)>,
    /// Sum over all connections while there is a link.
    unconfirmed: u64,
    events: VecDeque<Event>,
    /// What the packet hold was not told yet: input and output, bytes.
    releases: BTreeMap<ConnectionId, (u64, u64)>,
}

impl Holder {
    /// A new connection, at its SYN-ACK: no byte was read or written.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Length`].
    pub fn open(&mut self, connection: ConnectionId, tcp: Bytes) -> Result<(), Error> {
        let fresh =
            Survived { connection, tcp, publishes: None, received: 0, sent_from: 0, sent: Bytes::new() };
        self.adopt(fresh)
    }

    /// A connection that this node restored, with its history.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::Length`].
    pub fn adopt(&mut self, survived: Survived) -> Result<(), Error> {
        let from = survived;
        check_length("TCP state", from.tcp.len(), TCP_MAX)?;
        let (connection, sent_to) = (from.connection, from.sent_from + from.sent.len() as u64);
        let rises = self.last.is_none_or(|last| connection > last) && connection != ConnectionId::NONE;
        if self.connections.len() >= CONNECTIONS_MAX || !rises {
            return Err(Error::Open { connection, max: CONNECTIONS_MAX });
        }
        self.last = Some(connection);
        let mut output = Log::at(from.sent_from);
        if !from.sent.is_empty() {
            output.append(from.sent);
        }
        let entry = Connection {
            tcp: from.tcp,
            publishes: from.publishes,
            first_state: None,
            input: from.received,
            held_back: Log::at(from.received),
            output,
            closing: false,
            tcp_unseen: 0,
            late: false,
            awaits_snapshot: false,
            low: (0, 0),
            goal: (from.received, sent_to),
            confirmed: None,
        };
        self.connections.insert(connection, entry);
        self.introduce(connection);
        Ok(())
    }

    /// A better static TCP state, once the connection is accepted.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Length`].
    pub fn set_tcp(&mut self, connection: ConnectionId, tcp: Bytes) -> Result<(), Error> {
        check_length("TCP state", tcp.len(), TCP_MAX)?;
        let attached = self.link.is_some();
        let entry = self.entry(connection)?;
        entry.tcp = tcp.clone();
        if !entry.closing {
            entry.tcp_unseen += u32::from(attached);
            self.tell(Frame::Tcp { connection, tcp });
        }
        Ok(())
    }

    /// The connection may publish. Call it after the input that asked, before any input parsed under the decision.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Length`].
    pub fn publish(&mut self, connection: ConnectionId, publishes: Publishes) -> Result<(), Error> {
        check_length("run record", publishes.record.len(), RECORD_MAX)?;
        let entry = self.entry(connection)?;
        entry.publishes = Some(publishes.clone());
        if entry.closing {
            return Ok(());
        }
        self.tell(Frame::Published { connection, publishes });
        Ok(())
    }

    /// A word for the standby's shell, in order with the input. A standby that still awaits the connection's snapshot is
    /// not told: the snapshot says it. Of [`ConnectionId::NONE`] it is told in any case.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Length`].
    pub fn note(&mut self, connection: ConnectionId, bytes: Bytes) -> Result<(), Error> {
        check_length("note", bytes.len(), PAYLOAD_MAX)?;
        let told = match connection {
            ConnectionId::NONE => true,
            _ => self.entry(connection).map(|entry| !(entry.awaits_snapshot || entry.closing))?,
        };
        if told {
            self.tell(Frame::Note { connection, bytes });
        }
        Ok(())
    }

    /// Input read and output said so far, bytes.
    pub fn position(&self, connection: ConnectionId) -> Option<(u64, u64)> {
        self.connections.get(&connection).map(|entry| (entry.input, entry.output.end()))
    }

    /// Whether the connection's socket may be read now.
    pub fn may_read(&self, connection: ConnectionId) -> bool {
        let Some(entry) = self.connections.get(&connection) else { return false };
        let waits = matches!(self.link, Some((_, Phase::Told | Phase::Paired)));
        let full = entry.unconfirmed() >= UNCONFIRMED_MAX || self.unconfirmed >= UNCONFIRMED_TOTAL_MAX;
        !(entry.closing || waits && full)
    }

    /// Input was read from the publisher; before it is parsed.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Full`] when [`Holder::may_read`] is false.
    pub fn input(&mut self, connection: ConnectionId, bytes: Bytes) -> Result<(), Error> {
        let len = bytes.len() as u64;
        self.entry(connection)?;
        if !self.may_read(connection) {
            return Err(Error::Full { connection, way: Way::Input });
        }
        let attached = self.link.is_some();
        let entry = self.entry(connection)?;
        let offset = entry.input;
        entry.input += len;
        if len > 0 {
            entry.first_state = None;
        }
        if !attached || len == 0 {
            return Ok(());
        }
        if entry.awaits_snapshot {
            entry.held_back.append(bytes);
        } else if let Some((link, _)) = &mut self.link {
            send_input(link, connection, offset, &bytes);
        }
        self.unconfirmed += len;
        let behind =
            self.connections.get(&connection).is_some_and(|entry| entry.unconfirmed() > UNCONFIRMED_MAX)
                || self.unconfirmed > UNCONFIRMED_TOTAL_MAX;
        if behind && matches!(self.link, Some((_, Phase::Joining))) {
            self.detach();
            self.events.push_back(Event::Behind);
        }
        Ok(())
    }

    /// Output that is about to be written to the publisher's socket; before it is.
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Full`] when the publisher does not acknowledge: drop it.
    pub fn output(&mut self, connection: ConnectionId, bytes: Bytes) -> Result<(), Error> {
        let entry = self.entry(connection)?;
        if entry.closing || entry.output.len() + bytes.len() as u64 > OUTPUT_MAX {
            return Err(Error::Full { connection, way: Way::Output });
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let offset = entry.output.end();
        entry.output.append(bytes.clone());
        if let Some((link, _)) = &mut self.link {
            send_output(link, connection, offset, &bytes);
        }
        Ok(())
    }

    /// The publisher has acknowledged our output up to here (written less what the kernel's send queue still has).
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Range`] beyond what was written.
    pub fn acked_output(&mut self, connection: ConnectionId, output: u64) -> Result<(), Error> {
        let entry = self.entry(connection)?;
        let (log, closing) = (&mut entry.output, entry.closing);
        if output > log.end() {
            let (low, high) = (log.start(), log.end());
            return Err(Error::Range { connection, way: Way::Output, got: output, low, high });
        }
        if output > log.start() {
            log.trim(output);
            // The standby knows nothing any more of one that is over: a word about it would end the link.
            if !closing {
                self.tell(Frame::Acked { connection, output });
            }
        }
        Ok(())
    }

    /// The connection is over, all its input and output is in the books. [`Event::Finished`] follows.
    ///
    /// # Errors
    /// [`Error::Unknown`].
    pub fn close(&mut self, connection: ConnectionId) -> Result<(), Error> {
        let entry = self.entry(connection)?;
        let closed = Frame::Closed { connection, input: entry.input, output: entry.output.end() };
        if self.link.is_none() {
            self.remove(connection);
        } else if let Some(entry) = self.connections.get_mut(&connection)
            && !std::mem::replace(&mut entry.closing, true)
        {
            // What was held back for a snapshot that is not needed any more goes with it.
            entry.held_back = Log::at(entry.input);
            self.tell(closed);
        }
        Ok(())
    }

    /// This node has made a segment.
    pub fn segment(&mut self, digest: SegmentDigest) {
        self.tell(Frame::SegmentHash(digest));
    }

    /// This node has made a part.
    pub fn part(&mut self, digest: PartDigest) {
        self.tell(Frame::PartHash(digest));
    }

    /// The open connections.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionId> {
        self.connections.keys().copied()
    }

    /// Unconfirmed input of all connections, bytes; for metrics.
    pub fn unconfirmed(&self) -> u64 {
        self.unconfirmed
    }

    /// The standby knows that it is paired.
    pub fn is_paired(&self) -> bool {
        matches!(self.link, Some((_, Phase::Paired)))
    }

    /// The standby has this much of a connection, input and output in bytes: admit it to the packet hold, and confirm it there.
    /// Apart from the other news, because packets wait for it.
    pub fn poll_release(&mut self) -> Option<(ConnectionId, (u64, u64))> {
        self.releases.pop_first()
    }

    /// Whether there is news.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// The next news.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes for the link.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.link.as_mut()?.0.poll_transmit()
    }

    fn entry(&mut self, connection: ConnectionId) -> Result<&mut Connection, Error> {
        self.connections.get_mut(&connection).ok_or(Error::Unknown { connection })
    }

    fn tell(&mut self, frame: Frame) {
        if let Some((link, _)) = &mut self.link {
            link.send(frame);
        }
    }

    fn remove(&mut self, connection: ConnectionId) {
        if let Some(entry) = self.connections.remove(&connection) {
            if self.link.is_some() {
                self.unconfirmed -= entry.unconfirmed();
            }
            self.events.push_back(Event::Finished(connection));
        }
    }
}

pub(crate) fn check_length(what: &'static str, got: usize, max: usize) -> Result<(), Error> {
    if got > max {
        return Err(Error::Length { what, got: got as u64, max: max as u64 });
    }
    Ok(())
}
