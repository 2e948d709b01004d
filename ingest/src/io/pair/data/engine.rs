//! The one task of the data half: carries out orders in their order, then what was heard on the link, which it owns.
//!
//! In: [`Order`]s, the steps that `ear` has heard, proven links. Out: [`Report`]s, bytes for the link, turns of connections. It
//! waits for nothing but a connection whose queue is full, and for that not long. Touches the link's socket.

mod copying;
mod orders;
mod steps;

use super::asked::Want;
use super::books::{Arrival, Books, Data, Describe};
use super::copy::Copies;
use super::ear::{Hearing, READ_BYTES};
use super::line::Turn;
use super::link::{self, Proven, Redial};
use super::mouth::Mouth;
use super::word::{Word, read, write};
use super::{Config, Start};
use crate::io::pair::orders::{Order, Report};
use crate::io::rtmp::Door;
use failover::Epoch;
use mirror::{ConnectionId, Event, Identity, Role, Standby};
use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, info, warn};

/// A turn at least this often: control takes a second without one for a hung data plane.
const TICK: Duration = Duration::from_millis(50);
/// Something waits for the standby, and it confirms nothing for this long: the wire is cut, though heartbeats come by another
/// one. Publishers wait meanwhile; two losses in a row on the link (the kernel's timer is 200 ms, then 400) come near.
const UNHEARD_MAX: Duration = Duration::from_millis(500);
/// Ends that may prove themselves at once.
const STRANGERS_MAX: usize = 4;

/// The link, once proven. It closes with this.
struct Wire {
    stream: Arc<std::net::TcpStream>,
    epoch: Epoch,
    in_step_told: bool,
    /// The paired standby confirmed something, or had nothing to confirm.
    confirmed_at: Instant,
    /// Every connection runs here since.
    in_step_since: Option<Instant>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Whoever hears it holds it too. One that has failed is closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// What is said once so much was read.
struct Promise {
    epoch: Epoch,
    goals: BTreeMap<ConnectionId, u64>,
}

pub(super) struct Engine {
    config: Config,
    data: Data,
    door: Door,
    orders: mpsc::UnboundedReceiver<Order>,
    /// Publishers' connections; the hold's word on each handshake is among the orders by then.
    arrivals: mpsc::UnboundedReceiver<Arrival>,
    reports: Arc<dyn Fn(Report) + Send + Sync>,
    listener: TcpListener,
    /// The link that is wanted.
    wanted: Option<(Role, Epoch)>,
    seekers: JoinSet<io::Result<Proven>>,
    redial: Redial,
    /// This node has just handed over, and lacks nothing of the next epoch; in which epoch that is.
    handed: bool,
    handed_in: Option<Epoch>,
    /// Dialled before this node was to listen: after a handover the former holder is the faster one.
    early: Option<TcpStream>,
    wire: Option<Wire>,
    promise: Option<Promise>,
    /// A link whose epoch has ended with a handover, open until the other end has read it.
    parting: Option<Wire>,
    buffer: Vec<u8>,
    /// Hears the link.
    _hearing: Hearing,
}

enum Wake {
    Order(Option<Order>),
    Arrival(Arrival),
    Stranger(io::Result<TcpStream>),
    Proven(io::Result<Box<Proven>>),
    Else,
}

impl Engine {
    pub(super) fn new(
        start: Start,
        data: Data,
        door: Door,
        listener: TcpListener,
        arrivals: mpsc::UnboundedReceiver<Arrival>,
        hearing: Hearing,
    ) -> Engine {
        let Start { config, orders, reports, egress: _, pulse: _ } = start;
        Engine {
            config,
            data,
            door,
            orders,
            arrivals,
            reports,
            listener,
            wanted: None,
            seekers: JoinSet::new(),
            redial: Redial::new(Instant::now()),
            handed: false,
            handed_in: None,
            early: None,
            wire: None,
            promise: None,
            parting: None,
            buffer: vec![0; READ_BYTES],
            _hearing: hearing,
        }
    }

    pub(super) async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.carry_some().await {
                // The rest in the next turn.
                self.data.ring();
            }
            self.settle();
            let data = self.data.clone();
            let wake = tokio::select! {
                biased;
                order = self.orders.recv() => Wake::Order(order),
                Some(arrival) = self.arrivals.recv() => Wake::Arrival(arrival),
                () = data.0.bell.notified() => Wake::Else,
                accepted = self.listener.accept() => Wake::Stranger(accepted.map(|(stream, _)| stream)),
                Some(proven) = self.seekers.join_next() => {
                    Wake::Proven(proven.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).map(Box::new))
                }
                _ = tick.tick() => Wake::Else,
            };
            match wake {
                Wake::Order(Some(order)) => self.carry_out(order).await,
                Wake::Order(None) => return,
                Wake::Arrival(Arrival { socket, peer, pass }) => {
                    if let Err(words) = self.data.accept(&self.door, socket, peer, pass) {
                        self.door.refused(peer, "standby", words);
                    }
                }
                Wake::Stranger(Ok(stream)) => self.stranger(stream),
                Wake::Stranger(Err(error)) => debug!(%error, "the pair's link accepts nothing"),
                Wake::Proven(Ok(proven)) => self.proven(*proven).await,
                Wake::Proven(Err(error)) => debug!(%error, "no proof on the pair's link"),
                Wake::Else => {}
            }
        }
    }

    fn report(&self, report: Report) {
        (self.reports)(report);
    }

    fn identity(&self, role: Role, epoch: Epoch) -> Identity {
        Identity { cluster: self.config.cluster, node: self.config.node, role, epoch }
    }

    fn stranger(&mut self, stream: TcpStream) {
        match self.wanted {
            Some((Role::Holder, epoch)) if self.seekers.len() < STRANGERS_MAX => {
                let identity = self.identity(Role::Holder, epoch);
                self.seekers.spawn(link::prove(stream, identity, self.config.keys.clone()));
            }
            Some((Role::Holder, _)) => {}
            // One place, for the last who came. Whoever is put out dials again.
            _ => self.early = Some(stream),
        }
    }

    fn seek(&mut self) {
        if let Some(stream) = self.early.take()
            && matches!(self.wanted, Some((Role::Holder, _)))
        {
            self.stranger(stream);
        }
        if let Some((Role::Standby, epoch)) = self.wanted {
            let identity = self.identity(Role::Standby, epoch);
            let from = self.redial.at(epoch, Instant::now());
            self.seekers.spawn(link::dial(self.config.dial, identity, self.config.keys.clone(), from));
        }
    }

    /// The other end is who it says: this is the link now.
    async fn proven(&mut self, proven: Proven) {
        let Proven { stream, link } = proven;
        let Identity { role, epoch, .. } = link.identity();
        if self.wanted != Some((role, epoch)) {
            return;
        }
        let stream = match stream.into_std() {
            Ok(stream) => Arc::new(stream),
            Err(error) => return debug!(%error, "the pair's link is not up"),
        };
        self.close_ear().await;
        if self.wire.take().is_some() {
            self.report(Report::LinkDown);
        }
        (self.promise, self.parting) = (None, None);
        info!(?role, epoch, "the pair's link is up");
        self.redial.up(Instant::now());
        let whole = self.handed_in.take() == Some(epoch);
        let copies = if role == Role::Standby && !whole { Copies::of_link() } else { Copies::default() };
        self.data.books().join(link, Mouth::of(role, &stream), copies);
        self.wire = Some(Wire {
            stream,
            epoch,
            in_step_told: false,
            confirmed_at: Instant::now(),
            in_step_since: None,
        });
        self.report(Report::LinkUp);
        // What came behind the proof.
        self.data.take_in(self.data.books(), &[]);
        self.data.0.listen.ring();
    }

    /// Reads what is there, and carries it out. `true`: the link has ended.
    async fn drain(&mut self) -> bool {
        self.carry().await;
        while let Some(stream) = self.wire.as_ref().map(|wire| wire.stream.clone()) {
            let mut buffer = std::mem::take(&mut self.buffer);
            let more = self.data.hear(&stream, &mut buffer);
            self.buffer = buffer;
            self.carry().await;
            if !more {
                break;
            }
        }
        self.wire.is_none()
    }

    /// From here on nobody hears the link; what was heard is carried out.
    async fn close_ear(&mut self) {
        self.data.books().mouth = Mouth::default();
        self.carry().await;
    }

    /// The link has ended by itself.
    fn lose(&mut self, why: &str) {
        if self.wire.take().is_none() {
            return;
        }
        info!(why, "the pair's link is down");
        self.detach();
        self.report(Report::LinkDown);
        self.seek();
    }

    fn detach(&mut self) {
        self.promise = None;
        self.data.books().holder.detach();
        self.data.0.room.notify_waiters();
    }

    /// Whatever follows from what happened: news of the books, bytes for the link.
    fn settle(&mut self) {
        self.data.0.pulse.turn();
        self.news();
        self.keep_promise();
        self.tell_in_step();
        self.ask();
        self.speak();
        self.data.judge();
        let diverged = std::mem::take(&mut self.data.books().diverged);
        diverged.into_iter().for_each(|words| self.report(Report::Diverged(words)));
    }

    fn news(&mut self) {
        let mut behind = false;
        let (mut paired, mut more) = (false, false);
        let (mut described, mut questions) = (Vec::new(), Vec::new());
        let mut guard = self.data.books();
        let books = &mut *guard;
        while let Some(event) = books.holder.poll_event() {
            match event {
                Event::Paired => paired = true,
                Event::Finished(connection) => self.finished(books, connection),
                Event::TcpKnown(connection) => {
                    if let Some(entry) = books.entries.get_mut(&connection)
                        && entry.describe == Describe::Told
                    {
                        entry.describe = Describe::Seen;
                    }
                }
                Event::Segment(digest) => books.ledger.heard(digest),
                Event::Part(digest) => {
                    books.ledger.heard_part(digest);
                    more = true;
                }
                Event::Asked { connection: ConnectionId::NONE, bytes } => questions.push(bytes),
                Event::Asked { connection, bytes } => books.answer(connection, &bytes),
                Event::Behind => behind = true,
            }
        }
        let mut again = Vec::new();
        for (connection, entry) in &mut books.entries {
            if entry.describe == Describe::Seen {
                let has = books.holder.confirmed(*connection);
                if has.is_some() && has == books.holder.position(*connection) {
                    entry.describe = Describe::No;
                    described.push(*connection);
                }
            }
            if books.holder.wants_snapshot(*connection) {
                match entry.since {
                    Some(_) => again.push(*connection),
                    None => entry.turn(Turn::Awaited),
                }
            }
        }
        // What connections of one publisher shared since is told of all of them.
        for member in again.iter().flat_map(|connection| books.company(*connection)).collect::<Vec<_>>() {
            if let Some(since) = books.entries.get_mut(&member).and_then(|entry| entry.since.take()) {
                steps::say_again(&mut books.holder, member, since);
            }
        }
        self.data.0.pulse.set_bytes(books.mirrored, books.mirrored - books.holder.unconfirmed());
        self.data.0.metrics.pair_unconfirmed.set(books.holder.unconfirmed().try_into().unwrap_or(i64::MAX));
        let heard = std::mem::take(&mut books.ear.confirmed)
            || books.holder.unconfirmed() == 0
            || !books.holder.is_paired();
        self.data.0.metrics.pair_connections.set(books.entries.len().try_into().unwrap_or(i64::MAX));
        books.ear.awaited = books.entries.values().any(|entry| entry.describe != Describe::No);
        drop(guard);
        questions.iter().for_each(|question| self.serve(question));
        if more {
            self.data.tell_streams();
        }
        described.into_iter().for_each(|connection| self.report(Report::Described(connection)));
        if let Some(wire) = self.wire.as_ref().filter(|_| paired) {
            self.report(Report::Paired(wire.epoch));
        }
        if behind {
            warn!("the standby does not keep up while it joins");
            self.lose("the standby is behind");
        }
        self.listen(heard);
    }

    /// Gives up a link on which a standby that should confirm says nothing.
    fn listen(&mut self, heard: bool) {
        let Some(wire) = &mut self.wire else { return };
        if heard {
            wire.confirmed_at = Instant::now();
        } else if wire.confirmed_at.elapsed() > UNHEARD_MAX {
            warn!("the standby confirms nothing any more: its heartbeats come, the link's bytes do not");
            self.lose("nothing is heard on it");
        }
    }

    fn finished(&self, books: &mut Books, connection: ConnectionId) {
        let Some(entry) = books.entries.get(&connection) else { return };
        if let (Some(egress), Some(flow), Some(base)) = (&self.data.0.egress, entry.flow, entry.base) {
            egress.finish(flow, base);
        }
        if entry.turns.is_closed() {
            books.entries.remove(&connection);
        }
    }

    /// "Paired" is said once everything that the kernel had acknowledged is in the books.
    fn keep_promise(&mut self) {
        let Some(promise) = &self.promise else { return };
        let mut books = self.data.books();
        let read = |(connection, goal): (&ConnectionId, &u64)| {
            books.holder.position(*connection).is_none_or(|(input, _)| input >= *goal)
        };
        if promise.goals.iter().all(read)
            && self.wire.as_ref().is_some_and(|wire| wire.epoch == promise.epoch)
            && books.holder.tell_paired().is_ok()
        {
            drop(books);
            self.promise = None;
        }
    }

    /// Gives the link what there is to say, as far as it takes it.
    fn speak(&mut self) {
        let mut books = self.data.books();
        let said = books.speak();
        let waits = !books.mouth.is_free();
        drop(books);
        if said.is_err() {
            self.lose("broke");
        } else if waits {
            // For room in the socket.
            self.data.0.listen.ring();
        }
    }
}

impl Books {
    /// The standby asks for something: what there is of it is said.
    fn answer(&mut self, connection: ConnectionId, question: &[u8]) {
        let strand = self.entries.get(&connection).and_then(|entry| entry.strand.clone());
        let (Ok(want), Some(strand)) = (read::<Want>(question), strand) else { return };
        for answer in strand.answer(want) {
            let noted = self.holder.note(connection, write(&Word::Answer(answer)));
            if let Err(error) = noted {
                return warn!(%connection, %error, "the standby misses an answer");
            }
        }
    }

    /// The books go on over this link.
    fn join(&mut self, link: mirror::Link, mouth: Mouth, copies: Copies) {
        (self.mouth, self.copies) = (mouth, copies);
        self.ear.forget();
        let again = self.new_link();
        self.links += 1;
        match link.identity().role {
            Role::Holder => self.holder.attach(link),
            Role::Standby => {
                let mut standby = Standby::new(link);
                // A former holder's last words may not have been heard.
                if again {
                    self.ledger.said().for_each(|digest| standby.segment(digest.clone()));
                }
                self.standby = Some(standby);
            }
        }
    }

    /// Another link: nothing on it was said or admitted. `true` where it follows a handover.
    fn new_link(&mut self) -> bool {
        let again = |entry: &super::books::Entry| entry.since.is_some() || entry.departed_at.is_some();
        let again = self.entries.values().any(again);
        if !again {
            self.ledger.new_link();
        }
        for entry in self.entries.values_mut() {
            (entry.admitted, entry.mentioned) = (false, false);
        }
        again
    }
}
