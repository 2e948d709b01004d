//! A standby joins and leaves: what it is told first, snapshots, and when the two are a pair.

use super::say::{first_state, send_input, send_output};
use super::{Connection, Holder, Phase, SNAPSHOT_MAX, SNAPSHOTS_MAX, check_length};
use crate::frame::{Frame, PAYLOAD_MAX};
use crate::link::Link;
use crate::log::Log;
use crate::rule::{Rule, broken};
use crate::{ConnectionId, Error, Way};
use bytes::Bytes;

impl Holder {
    /// A new standby, or none before: it is told of every connection. A former link is detached.
    pub fn attach(&mut self, link: Link) {
        self.detach();
        self.link = Some((link, Phase::Joining));
        let all: Vec<_> = self.connections.keys().copied().collect();
        all.iter().for_each(|connection| self.introduce(*connection));
        self.tell(Frame::Roll { connections: all.len() as u32 });
    }

    /// The link is gone. Nothing counts as confirmed any more.
    pub fn detach(&mut self) {
        self.link = None;
        self.unconfirmed = 0;
        let closing: Vec<_> =
            self.connections.iter().filter(|(_, entry)| entry.closing).map(|(id, _)| *id).collect();
        closing.into_iter().for_each(|connection| self.remove(connection));
        for entry in self.connections.values_mut() {
            entry.held_back = Log::at(entry.input);
            entry.goal = (entry.input, entry.output.end());
            (entry.awaits_snapshot, entry.confirmed, entry.tcp_unseen) = (false, None, 0);
        }
    }

    /// Whether the standby lacks the connection's snapshot, wanted now or later. It is told no words of it until then.
    pub fn awaits_snapshot(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|entry| entry.awaits_snapshot && !entry.closing)
    }

    /// Whether a snapshot of the connection after so much input would do: not one of before the link came up.
    pub fn takes_snapshot(&self, connection: ConnectionId, input: u64) -> bool {
        let entry = self.connections.get(&connection).filter(|_| self.awaits_snapshot(connection));
        entry.is_some_and(|entry| (entry.held_back.start()..=entry.input).contains(&input))
    }

    /// Whether a snapshot of the connection is wanted. Ask at each GOP boundary, where it is smallest.
    pub fn wants_snapshot(&self, connection: ConnectionId) -> bool {
        let on_the_way =
            |entry: &&Connection| entry.late && !entry.awaits_snapshot && entry.confirmed.is_none();
        self.awaits_snapshot(connection)
            && self.link.as_ref().is_some_and(|(link, _)| link.is_proven())
            && self.connections.values().filter(on_the_way).count() < SNAPSHOTS_MAX
    }

    /// The state of everything that parses the connection, after exactly `input` bytes.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::NoLink`], [`Error::Length`]; [`Error::Snapshot`] when none is wanted;
    /// [`Error::Range`] for an offset before the link came up or not read yet.
    pub fn snapshot(&mut self, connection: ConnectionId, input: u64, state: Bytes) -> Result<(), Error> {
        check_length("snapshot", state.len(), SNAPSHOT_MAX)?;
        let entry = self.connections.get_mut(&connection).ok_or(Error::Unknown { connection })?;
        let (link, _) = self.link.as_mut().ok_or(Error::NoLink)?;
        if !entry.awaits_snapshot || entry.closing {
            return Err(Error::Snapshot { connection, what: "no snapshot is wanted" });
        }
        let (low, high) = (entry.held_back.start(), entry.input);
        if input < low || input > high {
            return Err(Error::Range { connection, way: Way::Input, got: input, low, high });
        }
        let chunks = state.len().div_ceil(PAYLOAD_MAX).max(1);
        for index in 0..chunks {
            let at = index * PAYLOAD_MAX;
            let bytes = state.slice(at..state.len().min(at + PAYLOAD_MAX));
            let last = index + 1 == chunks;
            link.send(Frame::Snapshot { connection, input, at: at as u32, last, bytes });
        }
        if !broken(Rule::LogFromSnapshot) {
            entry.held_back.trim(input);
        }
        for (offset, piece) in entry.held_back.pieces() {
            send_input(link, connection, offset, piece);
        }
        entry.held_back = Log::at(entry.input);
        entry.awaits_snapshot = false;
        entry.low.0 = input;
        Ok(())
    }

    /// The state of a connection of which no input was read yet, when a fresh one does not do (a drawn handshake, say).
    ///
    /// # Errors
    /// [`Error::Unknown`]; [`Error::Snapshot`] once input was read, or when there is one; [`Error::Length`].
    pub fn first_state(&mut self, connection: ConnectionId, state: Bytes) -> Result<(), Error> {
        check_length("first state", state.len(), PAYLOAD_MAX)?;
        let entry = self.entry(connection)?;
        if entry.input > 0 || entry.first_state.is_some() {
            return Err(Error::Snapshot { connection, what: "its first state is over" });
        }
        entry.first_state = Some(state.clone());
        self.tell(first_state(connection, state));
        Ok(())
    }

    /// Tells the standby of a connection, if there is one to tell.
    pub(super) fn introduce(&mut self, connection: ConnectionId) {
        let Some((link, _)) = &mut self.link else { return };
        let Some(entry) = self.connections.get_mut(&connection) else { return };
        let told = !broken(Rule::TellOutput);
        let output_from = if told { entry.output.start() } else { entry.output.end() };
        // An untouched connection starts with its first state; any other needs a snapshot.
        entry.late = entry.input > 0 || entry.output.end() > 0;
        entry.awaits_snapshot = entry.late;
        entry.held_back = Log::at(entry.input);
        entry.goal = (entry.input, entry.output.end());
        entry.low = (entry.input, output_from);
        entry.confirmed = None;
        link.send(Frame::Opened {
            connection,
            tcp: entry.tcp.clone(),
            input: entry.input,
            output_from,
            output: entry.output.end(),
        });
        if let Some(state) = entry.first_state.clone().filter(|_| !entry.late) {
            link.send(first_state(connection, state));
        }
        if let Some(publishes) = entry.publishes.clone() {
            link.send(Frame::Published { connection, publishes });
        }
        for (offset, piece) in entry.output.pieces().filter(|_| told) {
            send_output(link, connection, offset, piece);
        }
    }

    /// The standby has caught up with every connection that was there before it.
    pub fn in_step(&self) -> bool {
        let proven = self.link.as_ref().is_some_and(|(link, _)| link.is_proven());
        let lenient = broken(Rule::SnapshotBeforeStep);
        proven && self.connections.values().all(|entry| entry.closing || entry.is_caught_up() || lenient)
    }

    /// The election says "paired": so does the link, behind all bytes so far.
    ///
    /// # Errors
    /// [`Error::NoLink`]; [`Error::NotInStep`].
    pub fn tell_paired(&mut self) -> Result<(), Error> {
        let in_step = self.in_step();
        let (link, phase) = self.link.as_mut().ok_or(Error::NoLink)?;
        if !in_step {
            return Err(Error::NotInStep);
        }
        if *phase == Phase::Joining {
            *phase = Phase::Told;
            link.send(Frame::Paired);
        }
        Ok(())
    }
}
