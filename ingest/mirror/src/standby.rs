//! The standby's books: every byte once and in order, for a parse in lockstep with the holder's.
//!
//! In: bytes of the link. Out: [`Step`]s in the order in which they happened on the holder, confirmations, and at the
//! holder's death what to restore (`takeover.rs`). Pure. Call [`Standby::handle_bytes`], carry out every
//! [`Standby::poll_step`], then [`Standby::poll_transmit`]: a step counts as taken once it was polled, and only then it is
//! confirmed. Both nodes must be gone for bytes to be lost, so memory is enough.
//!
//! A byte that does not follow the last one is an error with connection and offset: on an ordered link that is a fault of
//! one of the nodes, and the only cure is to join anew.

use crate::frame::{ASK_MAX, Frame, Publishes};
use crate::holder::{CONNECTIONS_MAX, OUTPUT_MAX, SNAPSHOT_MAX, check_length};
use crate::link::Link;
use crate::log::Log;
use crate::rule::{Rule, broken};
use crate::{ConnectionId, Error, PartDigest, SegmentDigest, Way};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What the shell does next, in this order over all connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A connection began; its parse starts with a fresh state, unless a `Snapshot` comes before any input.
    Opened(ConnectionId),
    /// The parse of the connection goes on from this state.
    Snapshot {
        /// Which connection.
        connection: ConnectionId,
        /// Input that the state has taken.
        input: u64,
        /// What the holder's shell gave.
        state: Bytes,
    },
    /// Input for the parse, each byte once.
    Input {
        /// Which connection.
        connection: ConnectionId,
        /// Of the first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// The holder let the connection publish: the parse asked for it, or will, with the next input.
    Published {
        /// Which connection.
        connection: ConnectionId,
        /// What; the record must be durable before the first segment.
        publishes: Publishes,
    },
    /// A word of the holder's shell.
    Note {
        /// Which connection.
        connection: ConnectionId,
        /// What [`Holder::note`](crate::Holder::note) was given.
        bytes: Bytes,
    },
    /// The connection is over.
    Closed(ConnectionId),
    /// From here on this node has whatever the holder acknowledges: tell the election.
    Paired,
    /// What the holder made of a segment.
    Segment(SegmentDigest),
    /// What the holder made of a part.
    Part(PartDigest),
}

/// How the parse of a connection starts.
#[derive(Debug)]
enum Start {
    /// The state is not whole yet.
    Awaited {
        input: u64,
        state: BytesMut,
        begun: bool,
    },
    /// Untouched: a first state may come.
    Fresh,
    Running,
}

/// What is known of one connection.
#[derive(Debug)]
pub(crate) struct Mirrored {
    pub(crate) tcp: Bytes,
    pub(crate) publishes: Option<Publishes>,
    start: Start,
    /// Input received.
    pub(crate) received: u64,
    /// Input given out.
    taken: u64,
    pub(crate) output: Log,
    /// In step once it has this.
    goal: (u64, u64),
    /// The first step was given out.
    begun: bool,
}

impl Mirrored {
    fn is_caught_up(&self) -> bool {
        self.begun && self.taken >= self.goal.0 && self.output.end() >= self.goal.1
    }
}

/// The books of the node that follows.
#[derive(Debug)]
pub struct Standby {
    pub(crate) link: Link,
    pub(crate) connections: BTreeMap<ConnectionId, Mirrored>,
    last: Option<ConnectionId>,
    pub(crate) steps: VecDeque<Step>,
    /// Connections of which there is something to confirm.
    unsaid: BTreeSet<ConnectionId>,
    roll: bool,
    paired: bool,
    /// Whose snapshot is not whole. Pieces of two are never mixed, so one is all that is ever buffered.
    assembling: Option<ConnectionId>,
    failed: Option<Error>,
    pub(crate) fenced: bool,
}

impl Standby {
    /// Joins over a link.
    pub fn new(link: Link) -> Standby {
        Standby {
            link,
            connections: BTreeMap::new(),
            last: None,
            steps: VecDeque::new(),
            unsaid: BTreeSet::new(),
            roll: false,
            paired: false,
            assembling: None,
            failed: None,
            fenced: false,
        }
    }

    /// Bytes from the link. They may end anywhere: half a frame counts for nothing until the rest is here.
    ///
    /// # Errors
    /// Close the link and join anew. What was mirrored stays, in case the holder dies now: everything before the frame at
    /// fault counts. Every later call says the same. [`Error::Fenced`] after a takeover.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.fenced && !broken(Rule::Fence) {
            return Err(Error::Fenced { epoch: self.link.identity().epoch });
        }
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.link.handle_bytes(bytes);
        self.handle_frames().inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn handle_frames(&mut self) -> Result<(), Error> {
        while let Some(frame) = self.link.poll_frame()? {
            self.handle_frame(frame)?;
        }
        Ok(())
    }

    pub(crate) fn handle_frame(&mut self, frame: Frame) -> Result<(), Error> {
        match frame {
            Frame::Ping => {}
            Frame::Opened { connection, tcp, input, output_from, output } => {
                self.open(connection, tcp, input, output_from, output)?;
            }
            Frame::Roll { connections } => {
                if self.roll || connections as usize != self.connections.len() {
                    return Err(Error::Length {
                        what: "roll of connections",
                        got: connections.into(),
                        max: self.connections.len() as u64,
                    });
                }
                self.roll = true;
            }
            Frame::Tcp { connection, tcp } => {
                self.entry(connection)?.tcp = tcp;
                self.link.send(Frame::TcpSeen { connection });
            }
            Frame::Note { connection, bytes } => {
                self.known(connection)?;
                self.steps.push_back(Step::Note { connection, bytes });
            }
            Frame::Published { connection, publishes } => {
                self.entry(connection)?.publishes = Some(publishes.clone());
                self.steps.push_back(Step::Published { connection, publishes });
            }
            Frame::Snapshot { connection, input, at, last, bytes } => {
                self.assemble(connection, input, at, last, &bytes)?;
            }
            Frame::Input { connection, offset, bytes } => {
                let entry = self.entry(connection)?;
                match entry.start {
                    Start::Awaited { .. } => {
                        return Err(Error::Snapshot { connection, what: "input before its snapshot" });
                    }
                    Start::Fresh => entry.start = Start::Running,
                    Start::Running => {}
                }
                in_order(connection, Way::Input, entry.received, offset)?;
                entry.received = offset + bytes.len() as u64;
                if broken(Rule::ConfirmTaken) {
                    entry.taken = entry.received;
                    self.unsaid.insert(connection);
                }
                self.steps.push_back(Step::Input { connection, offset, bytes });
            }
            Frame::Output { connection, offset, bytes } => {
                let log = &mut self.entry(connection)?.output;
                in_order(connection, Way::Output, log.end(), offset)?;
                if log.len() + bytes.len() as u64 > OUTPUT_MAX {
                    return Err(Error::Full { connection, way: Way::Output });
                }
                log.append(bytes);
                self.unsaid.insert(connection);
            }
            Frame::Acked { connection, output } => {
                let log = &mut self.entry(connection)?.output;
                let (low, high) = (log.start(), log.end());
                if output < low || output > high {
                    return Err(Error::Range { connection, way: Way::Output, got: output, low, high });
                }
                log.trim(if broken(Rule::KeepUnacknowledged) { high } else { output });
            }
            Frame::Closed { connection, input, output } => {
                let entry = self.entry(connection)?;
                // Closed while its snapshot was awaited: nobody will ask for its bytes.
                if !matches!(entry.start, Start::Awaited { .. }) {
                    in_order(connection, Way::Input, entry.received, input)?;
                }
                in_order(connection, Way::Output, entry.output.end(), output)?;
                self.connections.remove(&connection);
                self.unsaid.remove(&connection);
                self.assembling = self.assembling.filter(|assembling| *assembling != connection);
                self.steps.push_back(Step::Closed(connection));
            }
            Frame::Paired => {
                let whole = |entry: &Mirrored| !matches!(entry.start, Start::Awaited { .. });
                let lenient = broken(Rule::SnapshotBeforeStep);
                if !self.roll || self.paired || !(lenient || self.connections.values().all(whole)) {
                    return Err(Error::NotInStep);
                }
                self.paired = true;
                self.steps.push_back(Step::Paired);
            }
            Frame::SegmentHash(digest) => self.steps.push_back(Step::Segment(digest)),
            Frame::PartHash(digest) => self.steps.push_back(Step::Part(digest)),
            other => return Err(Error::Direction { name: other.name() }),
        }
        Ok(())
    }

    fn open(
        &mut self,
        connection: ConnectionId,
        tcp: Bytes,
        input: u64,
        output_from: u64,
        output: u64,
    ) -> Result<(), Error> {
        let rises = self.last.is_none_or(|last| connection > last) && connection != ConnectionId::NONE;
        if !rises || self.connections.len() >= CONNECTIONS_MAX {
            return Err(Error::Open { connection, max: CONNECTIONS_MAX });
        }
        if output_from > output {
            return Err(Error::Range {
                connection,
                way: Way::Output,
                got: output_from,
                low: 0,
                high: output,
            });
        }
        self.last = Some(connection);
        let fresh = input == 0 && output == 0;
        let start = if fresh {
            self.steps.push_back(Step::Opened(connection));
            Start::Fresh
        } else {
            Start::Awaited { input, state: BytesMut::new(), begun: false }
        };
        let entry = Mirrored {
            tcp,
            publishes: None,
            start,
            received: input,
            taken: input,
            output: Log::at(output_from),
            goal: (input, output),
            begun: false,
        };
        self.connections.insert(connection, entry);
        Ok(())
    }

    fn assemble(
        &mut self,
        connection: ConnectionId,
        from: u64,
        at: u32,
        last: bool,
        bytes: &Bytes,
    ) -> Result<(), Error> {
        let other = self.assembling.is_some_and(|assembling| assembling != connection);
        let entry = self.entry(connection)?;
        let fault = |what| Err(Error::Snapshot { connection, what });
        let state = match &mut entry.start {
            Start::Running => return fault("a second snapshot"),
            Start::Fresh if from == 0 && at == 0 && last => bytes.clone(),
            Start::Fresh => return fault("a first state that is not one piece at offset 0"),
            Start::Awaited { input, state, begun } => {
                if other {
                    return fault("its snapshot begins within another");
                }
                let low = *input;
                if from < low || (*begun && from != low) {
                    return Err(Error::Range { connection, way: Way::Input, got: from, low, high: u64::MAX });
                }
                if at as usize != state.len() || (bytes.is_empty() && !last) {
                    return fault("a piece of its snapshot is missing, empty or repeated");
                }
                if state.len() + bytes.len() > SNAPSHOT_MAX {
                    return Err(Error::Length {
                        what: "snapshot",
                        got: (state.len() + bytes.len()) as u64,
                        max: SNAPSHOT_MAX as u64,
                    });
                }
                (*input, *begun) = (from, true);
                state.extend_from_slice(bytes);
                if !last {
                    self.assembling = Some(connection);
                    return Ok(());
                }
                std::mem::take(state).freeze()
            }
        };
        (entry.start, entry.received) = (Start::Running, from);
        self.assembling = None;
        self.steps.push_back(Step::Snapshot { connection, input: from, state });
        Ok(())
    }

    /// The next step. Carry it out: with this call it counts as taken.
    pub fn poll_step(&mut self) -> Option<Step> {
        let step = self.steps.pop_front()?;
        let (connection, taken) = match &step {
            Step::Opened(connection) => (*connection, 0),
            Step::Snapshot { connection, input, .. } => (*connection, *input),
            Step::Input { connection, offset, bytes } => (*connection, offset + bytes.len() as u64),
            Step::Closed(connection) => {
                self.link.send(Frame::Forgotten { connection: *connection });
                return Some(step);
            }
            Step::Paired => {
                self.confirm();
                self.link.send(Frame::PairedSeen);
                return Some(step);
            }
            Step::Published { .. } | Step::Note { .. } | Step::Segment(_) | Step::Part(_) => {
                return Some(step);
            }
        };
        // A step of a connection whose end was received already has nothing left to confirm.
        if let Some(entry) = self.connections.get_mut(&connection) {
            (entry.taken, entry.begun) = (taken.max(entry.taken), true);
            self.unsaid.insert(connection);
        }
        Some(step)
    }

    /// Queues a confirmation for each connection that has news.
    fn confirm(&mut self) {
        for connection in std::mem::take(&mut self.unsaid) {
            let Some(entry) = self.connections.get(&connection) else { continue };
            if entry.begun {
                let (input, output) = (entry.taken, entry.output.end());
                self.link.send(Frame::Confirm { connection, input, output });
            }
        }
    }

    /// Bytes for the link. `None` also after a takeover: a dead epoch is told nothing.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        if self.fenced {
            return None;
        }
        self.confirm();
        self.link.poll_transmit()
    }

    /// This node has made a segment.
    pub fn segment(&mut self, digest: SegmentDigest) {
        self.link.send(Frame::SegmentHash(digest));
    }

    /// This node has made a part.
    pub fn part(&mut self, digest: PartDigest) {
        self.link.send(Frame::PartHash(digest));
    }

    /// A question of this shell to the holder's; the answer comes as notes, or not at all. At most
    /// [`ASK_MAX`](crate::frame::ASK_MAX) bytes.
    ///
    /// # Errors
    /// [`Error::Unknown`], [`Error::Length`].
    pub fn ask(&mut self, connection: ConnectionId, bytes: Bytes) -> Result<(), Error> {
        check_length("question", bytes.len(), ASK_MAX)?;
        self.known(connection)?;
        self.link.send(Frame::Ask { connection, bytes });
        Ok(())
    }

    /// Every connection that was there before us has arrived, and was taken at least as far as it was then: what the
    /// election calls "in step".
    pub fn in_step(&self) -> bool {
        let lenient = broken(Rule::SnapshotBeforeStep);
        self.roll && self.connections.values().all(|entry| entry.is_caught_up() || lenient)
    }

    /// The holder has said "paired" on this link.
    pub fn is_paired(&self) -> bool {
        self.paired
    }

    /// How far a connection has come: input taken, output known; bytes.
    pub fn position(&self, connection: ConnectionId) -> Option<(u64, u64)> {
        self.connections.get(&connection).map(|entry| (entry.taken, entry.output.end()))
    }

    /// Something may be said of it.
    fn known(&mut self, connection: ConnectionId) -> Result<(), Error> {
        match connection {
            ConnectionId::NONE => Ok(()),
            _ => self.entry(connection).map(drop),
        }
    }

    fn entry(&mut self, connection: ConnectionId) -> Result<&mut Mirrored, Error> {
        self.connections.get_mut(&connection).ok_or(Error::Unknown { connection })
    }
}

fn in_order(connection: ConnectionId, way: Way, want: u64, got: u64) -> Result<(), Error> {
    if got != want && !broken(Rule::InOrder) {
        return Err(Error::Position { connection, way, want, got });
    }
    Ok(())
}

#[cfg(test)]
#[path = "standby_tests.rs"]
mod tests;
