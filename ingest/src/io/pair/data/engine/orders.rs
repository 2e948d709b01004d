//! What control orders.

use super::super::books::{Books, Data, Describe, Entry, Since};
use super::super::copy::Copies;
use super::super::line::{Line, Turn};
use super::super::mouth::Mouth;
use super::super::pump::{self, Command};
use super::super::tap::Tap;
use super::super::word::{LineState, Start, write};
use super::steps::LIVE_ROOM;
use super::{Engine, Promise};
use crate::io::admission::Pass;
use crate::io::pair::orders::{Order, Report, Resumed, Socket};
use crate::io::pair::outline::Outline;
use crate::io::rtmp::{Door, settings};
use bytes::Bytes;
use failover::{Epoch, Gate};
use mirror::{ConnectionId, Holder, Role, Survived};
use ring::rand::{SecureRandom, SystemRandom};
use rtmp::Session;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use takeover::hold::{Base, Flow, SynAck};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

/// A socket that is being written to has this long to be given out.
const DETACH_MAX: Duration = Duration::from_secs(1);

impl Engine {
    pub(super) async fn carry_out(&mut self, order: Order) {
        debug!(?order, "order");
        match order {
            Order::Opened(flow, syn_ack) => self.opened(flow, &syn_ack),
            Order::OpenLink(role, epoch) => self.open_link(role, epoch),
            Order::CloseLink => self.close_link().await,
            Order::TellPaired(epoch) => self.tell_paired(epoch).await,
            Order::Gate(gate) => self.gate(gate),
            Order::TakeOver => self.take_over().await,
            Order::Resume(resumed) => self.resume(resumed),
            Order::Detach => {
                let sockets = self.detach_all(|| Turn::Away).await;
                self.report(Report::Detached(sockets));
            }
            Order::Drained(connection, bytes) => self.drained(connection, bytes),
            Order::Describe(connection, tcp) => self.describe(connection, tcp),
            Order::Departed => self.departed(),
            Order::StepDown => self.step_down().await,
            Order::Forget => self.forget(),
        }
    }

    fn opened(&self, flow: Flow, syn_ack: &SynAck) {
        let tcp = Outline::of_syn_ack(flow, syn_ack, self.data.0.pulse.now()).encode();
        // Another connection between the same ends: what the former one's line still says is not about this one.
        self.data.books().part(flow, syn_ack.base);
        let known = self.data.books().find(flow);
        // A SYN-ACK that is sent again is the same connection's.
        if known.is_none()
            && let Err(why) = self.data.open(self.door.clone(), flow, Some(syn_ack.base), tcp)
        {
            warn!(peer = %flow.peer, why, "a connection is not protected");
        }
        self.data.ring();
    }

    fn open_link(&mut self, role: Role, epoch: Epoch) {
        self.wanted = Some((role, epoch));
        self.handed_in = std::mem::take(&mut self.handed).then_some(epoch);
        self.seekers = JoinSet::new();
        if self.wire.take().is_some() {
            self.detach();
        }
        self.data.books().ledger.set_role(role);
        self.data.tell_streams();
        self.seek();
    }

    async fn close_link(&mut self) {
        if self.wire.is_none() {
            self.report(Report::LinkDown);
        } else if !self.drain().await {
            self.wire = None;
            self.detach();
            self.report(Report::LinkDown);
        }
        self.wanted = None;
        self.seekers = JoinSet::new();
    }

    async fn tell_paired(&mut self, epoch: Epoch) {
        let mut asked = Vec::new();
        for (connection, entry) in &self.data.books().entries {
            if let Some(pump) = &entry.pump {
                let (reply, unread) = oneshot::channel();
                let _ = pump.send(Command::Unread(reply));
                asked.push((*connection, unread));
            }
        }
        let mut goals = BTreeMap::new();
        for (connection, unread) in asked {
            // One that has ended is owed nothing.
            if let Ok(Ok(goal)) = timeout(DETACH_MAX, unread).await {
                goals.insert(connection, goal);
            }
        }
        self.promise = Some(Promise { epoch, goals });
    }

    fn gate(&self, gate: Gate) {
        let mut books = self.data.books();
        if gate != Gate::Held {
            books.ledger.set_role(Role::Holder);
        }
        books.ledger.set_gate(gate);
        drop(books);
        self.data.tell_streams();
    }

    async fn take_over(&mut self) {
        // In a handover the link lives, and so does the former holder, which stands where we do.
        let handover = self.wire.is_some();
        if handover {
            self.drain().await;
        }
        self.close_ear().await;
        let wire = self.wire.take();
        self.wanted = None;
        let mut guard = self.data.books();
        let books = &mut *guard;
        let whole = books.ear.is_carried_out();
        let survived = books.standby.as_mut().map(mirror::Standby::take_over);
        let survived = match survived {
            Some(_) if !whole => {
                warn!("nothing is taken over: what the holder acknowledged could not be followed");
                None
            }
            Some(Ok(survived)) => Some(survived),
            Some(Err(error)) => {
                warn!(%error, "nothing is taken over");
                None
            }
            None => None,
        };
        books.ledger.set_role(Role::Holder);
        books.detached = false;
        let mut standby = None;
        if let Some(survived) = &survived {
            books.adopt(survived, handover);
            standby = books.standby.take();
        }
        books.copies = Copies::default();
        drop(guard);
        let connections = survived.as_ref().map_or(0, Vec::len);
        // Publishers wait for this word. Whatever they do not wait for comes after it.
        self.report(Report::Survived(survived));
        drop((wire, standby));
        self.seekers = JoinSet::new();
        self.data.tell_streams();
        info!(connections, handover, "this node holds now");
    }

    fn resume(&mut self, resumed: Vec<Resumed>) {
        let mut named = BTreeSet::new();
        for Resumed { connection, stream, tcp } in resumed {
            match self.data.live(connection, stream, tcp) {
                Ok(()) => drop(named.insert(connection)),
                Err(why) => error!(%connection, %why, "a connection is not resumed"),
            }
        }
        let mut books = self.data.books();
        books.detached = false;
        for (connection, entry) in &books.entries {
            if entry.pump.is_none() && entry.flow.is_some() && !named.contains(connection) && entry.away {
                entry.turn(Turn::Over);
            }
        }
        drop(books);
        self.data.ring();
        self.data.tell_streams();
    }

    /// Every live connection's socket, between two bytes.
    async fn detach_all(&mut self, turn: fn() -> Turn) -> Vec<Socket> {
        let mut asked = Vec::new();
        // Behind this, what the standby is told of each connection is all that was decided.
        self.data.books().detached = true;
        for (connection, entry) in &mut self.data.books().entries {
            if let Some(pump) = entry.pump.take() {
                let (reply, socket) = oneshot::channel();
                let _ = pump.send(Command::Detach(reply));
                entry.away = true;
                asked.push((*connection, socket, entry.turns.clone()));
            }
        }
        let mut sockets = Vec::new();
        for (connection, socket, turns) in asked {
            let found = match timeout(DETACH_MAX, socket).await {
                Ok(Ok(stream)) => Self::socket(connection, stream).ok(),
                _ => None,
            };
            let _ = turns.send(match &found {
                Some(_) => turn(),
                None => Turn::Over,
            });
            sockets.extend(found);
        }
        sockets
    }

    fn socket(connection: ConnectionId, stream: std::net::TcpStream) -> std::io::Result<Socket> {
        let (local, peer) = (stream.local_addr()?, stream.peer_addr()?);
        Ok(Socket { connection, stream, local, peer })
    }

    fn drained(&self, connection: ConnectionId, bytes: Bytes) {
        Tap { data: self.data.clone(), connection }.input(bytes, None);
    }

    fn describe(&self, connection: ConnectionId, tcp: Bytes) {
        let mut guard = self.data.books();
        let books = &mut *guard;
        match books.holder.set_tcp(connection, tcp) {
            Ok(()) => {
                if let Some(entry) = books.entries.get_mut(&connection) {
                    entry.describe = Describe::Told;
                    books.ear.awaited = true;
                }
            }
            // Control waits for the word in vain and takes the handover back.
            Err(error) => error!(%connection, %error, "a connection cannot be described"),
        }
    }

    fn departed(&mut self) {
        self.parting = self.wire.take();
        self.handed = true;
        self.wanted = None;
        self.promise = None;
        self.seekers = JoinSet::new();
        let mut guard = self.data.books();
        let books = &mut *guard;
        let holder = std::mem::take(&mut books.holder);
        books.mouth = Mouth::default();
        books.ledger.departed();
        for (connection, entry) in &mut books.entries {
            if let (Some(egress), Some(flow)) = (&self.data.0.egress, entry.flow.take()) {
                egress.forget(flow);
            }
            match holder.position(*connection).filter(|_| entry.away) {
                Some((input, _)) => {
                    entry.departed_at = Some(input);
                    entry.room = Arc::new(Semaphore::new(super::steps::MIRRORED_ROOM));
                    entry.away = false;
                    entry.turn(Turn::Follow);
                }
                None => entry.forget(*connection),
            }
        }
        books.detached = false;
        drop(guard);
        self.data.0.room.notify_waiters();
        self.data.tell_streams();
    }

    async fn step_down(&mut self) {
        let sockets = self.detach_all(|| Turn::Forget).await;
        let mut guard = self.data.books();
        let books = &mut *guard;
        let holder = std::mem::take(&mut books.holder);
        books.ledger.set_role(Role::Standby);
        books.ledger.set_gate(Gate::Held);
        for (connection, entry) in &mut books.entries {
            if let (Some(egress), Some(flow)) = (&self.data.0.egress, entry.flow.take()) {
                egress.forget(flow);
            }
            if holder.position(*connection).is_some() {
                entry.forget(*connection);
            }
        }
        books.detached = false;
        drop(guard);
        self.data.0.room.notify_waiters();
        self.data.tell_streams();
        self.report(Report::Detached(sockets));
    }

    fn forget(&self) {
        let mut guard = self.data.books();
        let books = &mut *guard;
        books.standby = None;
        books.ear.forget();
        for (connection, entry) in &books.entries {
            if books.holder.position(*connection).is_none() {
                entry.forget(*connection);
            }
        }
    }
}

impl Books {
    fn find(&self, flow: Flow) -> Option<ConnectionId> {
        let found =
            self.entries.iter().find(|(_, entry)| entry.flow == Some(flow) && !entry.turns.is_closed());
        found.map(|(connection, _)| *connection)
    }

    /// Takes these ends from a connection that began with other numbers: it is over, whether its line knows or not.
    fn part(&mut self, flow: Flow, base: Base) {
        let former =
            |entry: &&mut Entry| entry.flow == Some(flow) && entry.base.is_some_and(|known| known != base);
        for entry in self.entries.values_mut().filter(former) {
            entry.flow = None;
            if entry.pump.is_none() {
                entry.turn(Turn::Over);
            }
        }
    }

    /// The mirrored connections are this node's.
    fn adopt(&mut self, survived: &[Survived], handover: bool) {
        self.holder = Holder::default();
        for survivor in survived {
            let connection = survivor.connection;
            self.next = self.next.max(connection.0 + 1);
            if let Err(error) = self.holder.adopt(survivor.clone()) {
                error!(%connection, %error, "a connection is not taken over");
                continue;
            }
            let Some(entry) = self.entries.get_mut(&connection) else { continue };
            if let Ok(outline) = Outline::decode(&survivor.tcp) {
                (entry.flow, entry.base) = (Some(outline.flow()), outline.base);
            }
            entry.away = true;
            entry.departed_at = None;
            entry.since = handover.then(|| Since { from: survivor.received, ..Since::default() });
            entry.turn(Turn::Own);
        }
    }
}

impl Data {
    /// A connection begins: it enters the books, and its task waits for a socket.
    pub(in super::super) fn open(
        &self,
        door: Door,
        flow: Flow,
        base: Option<Base>,
        tcp: Bytes,
    ) -> Result<ConnectionId, &'static str> {
        let mut random = [0; 1528];
        SystemRandom::new().fill(&mut random).map_err(|_| "the system gave no random bytes")?;
        let session = Session::new(settings(), 0, random);
        let state = LineState { session: session.snapshot().into(), output: 0, lead: None, joins: None };
        let mut guard = self.books();
        let books = &mut *guard;
        let connection = ConnectionId(books.next);
        books.next += 1;
        let opened = books.holder.open(connection, tcp);
        opened.map_err(|_| "the books have no room for another connection")?;
        let first = books.holder.first_state(connection, write(&Start::State(Box::new(state))));
        self.line(books, connection, Role::Holder, |tap, turns| {
            Line::fresh(tap, door, session, flow.peer, turns)
        });
        // With the rest, under one lock: the standby's word on it may be here at once, and is for these ends.
        if let Some(entry) = books.entries.get_mut(&connection) {
            (entry.flow, entry.base) = (Some(flow), base);
        }
        drop(guard);
        if let Err(error) = first {
            error!(%connection, %error, "a connection without its first state");
        }
        self.ring();
        Ok(connection)
    }

    /// A publisher has connected to a protected address; behind the hold's word on its handshake, where there is a hold: its
    /// first numbers and its place in the books come with that.
    ///
    /// # Errors
    /// In words, why it cannot be served.
    pub(in super::super) fn accept(
        &self,
        door: &Door,
        socket: TcpStream,
        peer: SocketAddr,
        pass: Pass,
    ) -> Result<(), &'static str> {
        if !self.is_holder() {
            return Err("this node is the standby");
        }
        let local = socket.local_addr().map_err(|_| "the connection has gone")?;
        let socket = socket.into_std().map_err(|_| "the connection has gone")?;
        let flow = Flow { local, peer };
        let known = self.books().find(flow);
        let base = known.and_then(|known| self.books().entries.get(&known).and_then(|entry| entry.base));
        let outline = Outline::of_stream(&socket, base, self.0.pulse.now());
        let tcp = match outline {
            Ok(outline) => Some(outline.encode()),
            Err(error) => {
                debug!(%peer, %error, "a connection cannot be described");
                None
            }
        };
        let connection = match known {
            Some(connection) => connection,
            None => self.open(door.clone(), flow, None, tcp.clone().unwrap_or_default())?,
        };
        self.attach(connection, socket, tcp, Some(pass)).map_err(|_| {
            // Reset before it was accepted: its line, and its twin, wait for a socket that never comes.
            if let Some(entry) = self.books().entries.get(&connection) {
                entry.turn(Turn::Over);
            }
            "the connection has gone"
        })
    }

    /// A connection is live here again.
    fn live(&self, connection: ConnectionId, socket: std::net::TcpStream, tcp: Bytes) -> std::io::Result<()> {
        let flow = Flow { local: socket.local_addr()?, peer: socket.peer_addr()? };
        let base = Outline::decode(&tcp).ok().and_then(|outline| outline.base);
        if let Some(entry) = self.books().entries.get_mut(&connection) {
            entry.flow = Some(flow);
            entry.base = base.or(entry.base);
            entry.room = Arc::new(Semaphore::new(LIVE_ROOM));
        }
        self.attach(connection, socket, Some(tcp), None)
    }

    /// Gives a connection its socket.
    fn attach(
        &self,
        connection: ConnectionId,
        socket: std::net::TcpStream,
        tcp: Option<Bytes>,
        pass: Option<Pass>,
    ) -> std::io::Result<()> {
        socket.set_nonblocking(true)?;
        let _ = socket.set_nodelay(true);
        let peer = socket.peer_addr()?;
        let intake = self.0.intake.enter();
        let socket = TcpStream::from_std(socket)?;
        drop(intake);
        let gone = || std::io::Error::from(std::io::ErrorKind::NotConnected);
        let mut guard = self.books();
        let books = &mut *guard;
        if let Some(tcp) = tcp.filter(|tcp| !tcp.is_empty())
            && let Err(error) = books.holder.set_tcp(connection, tcp)
        {
            warn!(%connection, %error, "a connection's state is not in the books");
        }
        let (_, written) = books.holder.position(connection).ok_or_else(gone)?;
        let entry = books.entries.get_mut(&connection).ok_or_else(gone)?;
        let (commands, takes) = mpsc::unbounded_channel();
        entry.pump = Some(commands);
        entry.away = false;
        let tap = Tap { data: self.clone(), connection };
        // Its first turn, before any input.
        entry.turn(Turn::Live(peer, pass));
        let pump = pump::run(socket, tap, entry.room.clone(), entry.turns.clone(), takes, written);
        self.0.intake.spawn(pump);
        Ok(())
    }
}
