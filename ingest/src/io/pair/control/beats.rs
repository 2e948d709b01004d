//! The election's thread: it beats, listens, decides, and hands on what is to be done.
//!
//! In: datagrams, reports of the data half, the operator, the keeper. Out: datagrams, the gate, [`Work`] for the mover in
//! order. A thread of its own under the real-time policy, with locked memory where allowed; it never waits for anything but
//! its sockets, its bell and the next beat. Turn by turn as `failover`'s first page says.

use super::board::{Board, Shown};
use super::gate::GateCell;
use super::wire::Wire;
use crate::io::pair::pulse::Pulse;
use failover::election::{NoHandover, State};
use failover::rule::Broken;
use failover::{Action, Election, Epoch, Note, Role as Stance};
use mirror::Role;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use takeover::realtime;
use takeover::wait::Bell;
use tracing::warn;

/// Above every ordinary thread, below the kernel's own.
const PRIORITY: u8 = 50;
/// A link that is exchanged for one of the next epoch is missed after this long.
const SWAP_MAX: Duration = Duration::from_millis(500);
/// How often the status is brought up to date when nothing happens.
const SHOW_EVERY: Duration = Duration::from_millis(50);

/// What the thread is told.
#[derive(Debug)]
pub(super) enum Input {
    LinkUp,
    LinkDown,
    InStep(Epoch),
    Paired(Epoch),
    /// This note is durable.
    Persisted(Note),
    /// All sockets are frozen and described; or they are not, and live on.
    Frozen(bool),
    /// The operator wants the peer to hold.
    Handover(SyncSender<Result<(), NoHandover>>),
    /// The operator vouches that the peer is off.
    Force,
    /// Somebody else claimed the address.
    Claimed,
    Stop,
}

/// What is to be done, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The election's word, the epoch it is spoken in, whether the peer lives and hands over (else it is lost), and when it
    /// was spoken.
    Act(Action, Epoch, bool, Instant),
    /// Keep a link in this role and epoch.
    Link(Role, Epoch),
}

/// The thread's letter box; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Letters {
    sender: Sender<Input>,
    bell: Arc<Bell>,
}

impl Letters {
    pub(super) fn put(&self, input: Input) {
        // After the thread's end nobody needs to be told.
        let _ = self.sender.send(input);
        self.bell.ring();
    }
}

/// What the thread is made of.
pub(super) struct Beats {
    pub(super) election: failover::Config,
    pub(super) incarnation: u64,
    pub(super) note: Note,
    pub(super) wire: Wire,
    pub(super) pulse: Arc<Pulse>,
    pub(super) gate: Arc<GateCell>,
    pub(super) board: Arc<Board>,
    /// The peer's clock less ours, in nanoseconds, as its last beat said.
    pub(super) offset: Arc<AtomicI64>,
    /// Takes work and notes to store; must not block.
    pub(super) hand_on: Box<dyn FnMut(Work) + Send>,
}

impl Beats {
    /// Starts the thread.
    pub(super) fn start(self) -> std::io::Result<(Letters, JoinHandle<()>)> {
        let (sender, inbox) = channel();
        let letters = Letters { sender, bell: Arc::new(Bell::new()?) };
        let bell = letters.bell.clone();
        let dead_min = self.election.dead_min;
        let now = self.pulse.now();
        let election = Election::new(self.election, self.incarnation, self.note, now, Broken::default());
        let mut turner = Turner {
            election,
            dead_min,
            wire: self.wire,
            inbox,
            bell,
            pulse: self.pulse,
            gate: self.gate,
            board: self.board,
            offset: self.offset,
            hand_on: self.hand_on,
            link: None,
            link_up: false,
            told: false,
            swapping: None,
            shown_at: Duration::ZERO,
            shown: None,
            stop: false,
        };
        let run = move || {
            if let Err(error) = realtime::fifo(PRIORITY) {
                warn!(%error, "heartbeats run without real-time priority: a busy machine may look dead");
            }
            while !turner.stop {
                turner.turn();
            }
        };
        let thread = std::thread::Builder::new().name("election".into()).spawn(run)?;
        Ok((letters, thread))
    }
}

struct Turner {
    election: Election,
    dead_min: Duration,
    wire: Wire,
    inbox: Receiver<Input>,
    bell: Arc<Bell>,
    pulse: Arc<Pulse>,
    gate: Arc<GateCell>,
    board: Arc<Board>,
    offset: Arc<AtomicI64>,
    hand_on: Box<dyn FnMut(Work) + Send>,
    /// The link that was asked for.
    link: Option<(Role, Epoch)>,
    link_up: bool,
    /// "Paired" was said on the present link.
    told: bool,
    /// A link is being exchanged for one of another epoch: until then the gap is no loss.
    swapping: Option<Duration>,
    shown_at: Duration,
    shown: Option<State>,
    stop: bool,
}

impl Turner {
    fn turn(&mut self) {
        let Turner { election, wire, pulse, offset, .. } = self;
        let election_cell = std::cell::RefCell::new(election);
        wire.drain(
            |beat| {
                let now = pulse.now();
                // Late, copied and replayed beats change nothing, and are expected on several paths.
                if election_cell.borrow_mut().handle_beat(now, beat).is_ok() {
                    let ahead = beat.sent_at.as_nanos() as i64 - now.as_nanos() as i64;
                    offset.store(ahead, Ordering::Relaxed);
                }
            },
            |answer| election_cell.borrow_mut().handle_answer(pulse.now(), answer),
        );
        while let Ok(input) = self.inbox.try_recv() {
            self.take(input);
        }
        let now = self.pulse.now();
        if self.swapping.is_some_and(|until| now > until) {
            self.swapping = None;
            self.link = None;
            self.election.handle_link_down(now);
        }
        self.election.handle_poll(now, self.pulse.progress());
        self.publish_gate();
        self.act();
        if let Some(beat) = self.election.poll_beat(self.pulse.now()) {
            self.wire.beat(&beat);
        }
        while let Some(ask) = self.election.poll_ask() {
            self.wire.ask(&ask);
        }
        self.show();
        let limit = self.election.poll_timeout().saturating_sub(self.pulse.now());
        if self.wire.wait(&self.bell, limit).is_err() {
            // Never a reason to spin; the next turn looks again.
            std::thread::sleep(Duration::from_millis(1));
        }
        self.bell.hush();
    }

    fn publish_gate(&mut self) {
        let now = self.pulse.now();
        self.gate.set(self.election.gate(now), now + self.dead_min);
    }

    fn take(&mut self, input: Input) {
        let now = self.pulse.now();
        match input {
            Input::LinkUp => {
                (self.link_up, self.told) = (true, false);
                self.swapping = None;
                self.election.handle_link_up(now);
            }
            Input::LinkDown if self.swapping.is_some() => self.link_up = false,
            Input::LinkDown => {
                self.link_up = false;
                self.election.handle_link_down(now);
            }
            Input::InStep(epoch) => self.election.handle_in_step(now, epoch),
            Input::Paired(epoch) => self.election.handle_paired(now, epoch),
            Input::Persisted(note) => self.election.handle_persisted(now, note),
            Input::Frozen(true) => self.election.handle_frozen(now),
            Input::Frozen(false) => self.election.handle_not_frozen(now),
            Input::Handover(reply) => {
                let _ = reply.try_send(self.election.handle_handover(now));
            }
            Input::Force => self.election.handle_force(now),
            Input::Claimed => self.election.handle_foreign_claim(now),
            Input::Stop => self.stop = true,
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.election.poll_action() {
            if action == Action::CloseLink {
                (self.link, self.link_up, self.swapping) = (None, false, None);
            }
            self.told |= matches!(action, Action::TellPaired(_));
            let planned = matches!(self.election.state(), State::Paired { .. } | State::Standby);
            (self.hand_on)(Work::Act(action, self.election.epoch(), planned, Instant::now()));
        }
        let wanted = self.wanted_link();
        if wanted != self.link
            && let Some((role, epoch)) = wanted
        {
            // The same two nodes go on under the next number: what lies between the links is no loss yet.
            let swap = self.link.is_some() && self.link_up;
            self.swapping = swap.then(|| self.pulse.now() + SWAP_MAX);
            self.link = wanted;
            (self.hand_on)(Work::Link(role, epoch));
        }
        self.tell_paired();
    }

    /// A pair that goes on under another link, after a handover or a lost link, says so on that one too: the books count
    /// nothing as confirmed before.
    fn tell_paired(&mut self) {
        let holds = matches!(self.link, Some((Role::Holder, _)));
        if self.link_up
            && holds
            && !self.told
            && self.swapping.is_none()
            && matches!(self.election.state(), State::Paired { .. })
        {
            self.told = true;
            let epoch = self.election.epoch();
            (self.hand_on)(Work::Act(Action::TellPaired(epoch), epoch, true, Instant::now()));
        }
    }

    /// A holder listens for its standby, everybody else follows whom a beat names as the holder.
    fn wanted_link(&self) -> Option<(Role, Epoch)> {
        let epoch = self.election.epoch();
        match self.election.state() {
            State::Solo { .. } | State::Paired { .. } => Some((Role::Holder, epoch)),
            State::Holding { incumbent: true, .. } => Some((Role::Holder, epoch)),
            State::Holding { .. } | State::Fault { .. } => None,
            State::Standby => Some((Role::Standby, epoch)),
            State::Idle { .. } => {
                let peer = self.election.peer_stance()?;
                let holds = peer.role == Stance::Holder || (peer.role == Stance::Holding && peer.incumbent);
                (holds && peer.epoch != 0).then_some((Role::Standby, peer.epoch))
            }
        }
    }

    fn show(&mut self) {
        let (now, state) = (self.pulse.now(), self.election.state());
        if self.shown == Some(state) && now < self.shown_at + SHOW_EVERY {
            return;
        }
        let peer = self.election.peer_stance();
        let shown = Shown {
            state,
            epoch: self.election.epoch(),
            known: self.election.known(),
            gate: self.election.gate(now),
            dead_time: self.election.dead_time(),
            peer_verdict: self.election.peer_verdict(),
            peer_role: peer.map(|peer| peer.role),
            peer_epoch: peer.map_or(0, |peer| peer.epoch),
            link_up: self.link_up,
            refused: self.wire.refused,
        };
        if self.board.show(shown) {
            (self.shown, self.shown_at) = (Some(state), now);
        }
    }
}
