//! Who holds: one node's side of the election.
//!
//! In: beats, answers of witnesses, link events, the operator, the end of things it asked for, and polls. Out: [`Action`]s,
//! beats, asks. After every call: take all actions in order, then a beat, then all asks. Pure. See the crate's first page.
//!
//! ```text
//!            in step, and told "paired"           peer lost: silent, hung, restarted, link closed
//!   ┌──────┐ ─────────────────────► ┌─────────┐ ──────────────────────────────► ┌─────────┐
//!   │ Idle │                        │ Standby │ ◄────────────────────────────── │ Holding │ address on, gate shut,
//!   └──────┘ ◄── higher epoch ───── └─────────┘  the holder is back: step down  └─────────┘ asks base → wanted
//!     │ ▲                             ▲     │                                     │  │  ▲
//!     │ └─ from every state           │     │ Handed: take over                   │  │  │ peer lost
//!     │                        Handed │     ▼                                     │  │  │
//!     │ no holder anywhere:         ┌──────────┐ ◄──── standby is back: resume ───┘  │  │
//!     │ ask; granted                │  Paired  │ ───────────────────────────────────┼──┘
//!     │                             └──────────┘                                    │ granted
//!     │                                  ▲ note stored, gate to confirmations,      │
//!     ▼                                  │ then "paired" on the link                ▼
//!   ┌──────┐ ────────────────────────────┘                                       ┌──────┐
//!   │ Solo │ ◄────────────────────────────────────────────────────────────────── │ Solo │
//!   └──────┘ ◄─ granted ─ Fault (address off, still asks) ◄─ max_hold, refused ─ Holding
//! ```

mod ask;
mod follow;
mod settle;
mod state;

use crate::Epoch;
use crate::action::{Action, Gate, Loss};
use crate::ballot::Ballot;
use crate::beat::{Beat, Offer, Progress};
use crate::config::{Config, Note};
use crate::detector::{Detector, Verdict};
use crate::rule::{Broken, Rule};
use crate::vote::Ask;
use crate::window::{Replay, Seen, Window};
use state::{Peer, Shown};
use std::collections::VecDeque;
use std::time::Duration;

pub use state::{NoHandover, State};

/// One node's side.
#[derive(Clone, Debug)]
pub struct Election {
    config: Config,
    broken: Broken,
    incarnation: u64,
    counter: u64,
    now: Duration,
    last_poll: Option<Duration>,
    /// A pause was noticed and the sockets are not drained yet.
    waking: bool,
    state: State,
    /// Epoch of which this node is a member; 0 for none.
    member: Epoch,
    /// Number promised to a handover as its taker; 0 for none.
    prepared: Epoch,
    offer: Offer,
    offer_until: Duration,
    known: Epoch,
    won: Epoch,
    asked: Epoch,
    note: Note,
    noting: Option<Note>,
    pairing: Option<u64>,
    peer: Peer,
    window: Window,
    detector: Detector,
    ballot: Option<Ballot>,
    ask_counter: u64,
    next_round: Duration,
    round_wait: Duration,
    /// Our own epoch of a former life that no peer can succeed; 0 for none.
    own_base: Epoch,
    forced: bool,
    force_alarm: bool,
    link_up: bool,
    in_step: Epoch,
    own: Progress,
    own_still: Duration,
    own_hung: bool,
    flaps: u32,
    pair_after: Duration,
    paired_since: Duration,
    announced: Option<(Duration, usize)>,
    defended: Duration,
    shown: Shown,
    next_beat: Duration,
    /// What transitions want done, between what shuts and what opens.
    steps: Vec<Action>,
    actions: VecDeque<Action>,
    asks: VecDeque<Ask>,
}

impl Election {
    /// A node that starts. `incarnation` is higher than in any life before, and above 0; `note` is what was durable.
    pub fn new(config: Config, incarnation: u64, note: Note, now: Duration, broken: Broken) -> Election {
        let detector = Detector::new(&config);
        Election {
            broken,
            incarnation,
            counter: 0,
            now,
            last_poll: None,
            waking: false,
            state: State::Idle { since: now },
            member: 0,
            prepared: 0,
            offer: Offer::None,
            offer_until: Duration::ZERO,
            known: note.renounced.max(note.alone),
            won: 0,
            asked: 0,
            note,
            noting: None,
            pairing: None,
            peer: Peer::default(),
            window: Window::default(),
            detector,
            ballot: None,
            ask_counter: 0,
            next_round: Duration::ZERO,
            round_wait: config.yield_after * 2,
            own_base: 0,
            forced: false,
            force_alarm: false,
            link_up: false,
            in_step: 0,
            own: Progress::default(),
            own_still: Duration::ZERO,
            own_hung: false,
            flaps: 0,
            pair_after: now,
            paired_since: now,
            announced: None,
            defended: Duration::ZERO,
            shown: Shown::default(),
            next_beat: now,
            steps: Vec::new(),
            actions: VecDeque::new(),
            asks: VecDeque::new(),
            config,
        }
    }

    /// What may leave now. Asked before **every** send for the address and every publication: when the election's thread
    /// has not polled for the shortest dead time, the peer may have taken over, and nothing leaves.
    pub fn gate(&self, now: Duration) -> Gate {
        let quiet = self.last_poll.map_or(Duration::MAX, |last| now.saturating_sub(last));
        if quiet > self.config.dead_min && !self.broken.is(Rule::CheckAfterPause) {
            return Gate::Held;
        }
        self.open_gate()
    }

    /// What this node is.
    pub fn state(&self) -> State {
        self.state
    }

    /// The epoch of which it is a member; 0 for none.
    pub fn epoch(&self) -> Epoch {
        self.member
    }

    /// Highest epoch heard of.
    pub fn known(&self) -> Epoch {
        self.known
    }

    /// The peer's dead time at present, from measured jitter.
    pub fn dead_time(&self) -> Duration {
        self.detector.dead_time()
    }

    /// What is thought of the peer.
    pub fn peer_verdict(&self) -> Verdict {
        self.detector.verdict()
    }

    /// The peer's last stance that counted.
    pub fn peer_stance(&self) -> Option<&Beat> {
        self.peer.stance.as_ref()
    }

    /// An authentic beat.
    ///
    /// # Errors
    /// When it is late, a copy of an older one or replayed; nothing has changed then.
    pub fn handle_beat(&mut self, now: Duration, beat: &Beat) -> Result<(), Replay> {
        if beat.sender != self.config.peer {
            return Err(Replay::Stranger(beat.sender.0));
        }
        if self.window.accept(beat.incarnation, beat.counter, self.broken)? == Seen::Again {
            return Ok(());
        }
        self.begin(now);
        if beat.incarnation != self.peer.incarnation {
            let restarted = self.peer.incarnation != 0;
            self.peer = Peer { incarnation: beat.incarnation, ..Peer::default() };
            self.detector.restart();
            if restarted {
                self.lose_peer(Loss::Restarted);
            }
        }
        // Facts that stay true however old the beat: epochs that were reached, and what was renounced for good.
        self.known = self.known.max(beat.known).max(beat.epoch);
        self.peer.renounced = self.peer.renounced.max(beat.renounced);
        // "Receivers keep the highest epoch and refuse lower ones": our part in a lower one is over.
        if beat.epoch > self.member.max(self.prepared) && !self.broken.is(Rule::YieldToHigherEpoch) {
            self.overtaken();
        }
        // Who the peer *is* counts only from beats made in our present life.
        self.peer.proven |= beat.heard.0 == self.incarnation || self.broken.is(Rule::IncarnationEchoed);
        if self.peer.proven {
            self.detector.heard(now, beat.progress.turns);
            self.peer.stance = Some(*beat);
            self.follow(beat);
        }
        self.settle();
        Ok(())
    }

    /// The sockets were drained at `now` and everything in them was handled; `own` is what our data plane has done.
    pub fn handle_poll(&mut self, now: Duration, own: Progress) {
        self.begin(now);
        let listened = self
            .last_poll
            .map_or(Duration::ZERO, |last| now.saturating_sub(last).min(self.config.beat_every * 2));
        self.own_still = if own.turns == self.own.turns { self.own_still + listened } else { Duration::ZERO };
        self.own_hung = self.own_still >= self.config.hung_after;
        self.own = own;
        self.last_poll = Some(now);
        self.waking = false;
        self.detector.polled(now);
        self.run_timers();
        self.settle();
    }

    /// The replication link is there, both ways.
    pub fn handle_link_up(&mut self, now: Duration) {
        self.begin(now);
        self.link_up = true;
        self.settle();
    }

    /// The replication link has ended, and what it held was drained: with kill -9 the first sign of death.
    pub fn handle_link_down(&mut self, now: Duration) {
        self.begin(now);
        self.unlink();
        self.lose_peer(Loss::LinkClosed);
        self.settle();
    }

    /// What we mirror has caught up with the holder of this epoch.
    pub fn handle_in_step(&mut self, now: Duration, epoch: Epoch) {
        self.begin(now);
        if matches!(self.state, State::Idle { .. }) && self.link_up {
            self.in_step = epoch;
            self.next_beat = now;
        }
        self.settle();
    }

    /// The holder said "paired" on the link, behind all its bytes: from here on we have whatever it acknowledges.
    pub fn handle_paired(&mut self, now: Duration, epoch: Epoch) {
        self.begin(now);
        if matches!(self.state, State::Idle { .. }) && self.in_step == epoch && epoch != 0 {
            self.give_back();
            (self.member, self.prepared) = (epoch, 0);
            self.enter(State::Standby);
        }
        self.settle();
    }

    /// This note is durable. There is never more than one on its way.
    pub fn handle_persisted(&mut self, now: Duration, note: Note) {
        self.begin(now);
        self.note = note;
        self.noting = None;
        self.pair_up();
        self.settle();
    }

    /// The operator wants the peer to hold.
    ///
    /// # Errors
    /// When there is no healthy pair to do it with; nothing has changed then.
    pub fn handle_handover(&mut self, now: Duration) -> Result<(), NoHandover> {
        self.begin(now);
        let result = self.offer_handover();
        self.settle();
        result
    }

    /// All publisher sockets are frozen and their state is in the peer's hands.
    pub fn handle_frozen(&mut self, now: Duration) {
        self.begin(now);
        self.hand_over();
        self.settle();
    }

    /// The sockets could not be given to the peer, and are live here again: the handover goes back at once.
    pub fn handle_not_frozen(&mut self, now: Duration) {
        self.begin(now);
        if matches!(self.state, State::Paired { frozen: true, .. }) {
            self.abort_handover();
        }
        self.settle();
    }

    /// The operator vouches that the peer is off and stays off until it is started anew: ask without descent.
    pub fn handle_force(&mut self, now: Duration) {
        self.begin(now);
        self.forced = true;
        self.next_round = now;
        self.settle();
    }

    /// Somebody else claimed the address on the wire.
    pub fn handle_foreign_claim(&mut self, now: Duration) {
        self.begin(now);
        let rested = now >= self.defended + settle::DEFEND_EVERY;
        if self.shown.address && self.open_gate() != Gate::Held && rested {
            self.defended = now;
            self.steps.push(Action::Announce);
        }
        self.settle();
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The beat that is due, if one is: send it on every path, `path` set for each.
    pub fn poll_beat(&mut self, now: Duration) -> Option<Beat> {
        if now < self.next_beat && self.next_beat <= now + self.config.beat_every {
            return None;
        }
        self.next_beat = now + self.config.beat_every;
        self.counter += 1;
        let (role, incumbent) = self.state.role();
        let partner = match self.state {
            State::Paired { partner, .. } => partner,
            State::Standby => self.peer.incarnation,
            _ => 0,
        };
        let offer = if self.prepared != 0 { Offer::Prepared(self.prepared) } else { self.offer };
        Some(Beat {
            sender: self.config.me,
            incarnation: self.incarnation,
            counter: self.counter,
            epoch: self.member,
            path: 0,
            role,
            incumbent,
            hung: self.own_hung,
            offer,
            heard: self.window.newest(),
            partner,
            in_step: self.in_step,
            known: self.known,
            renounced: self.note.renounced,
            progress: self.own,
            sent_at: now,
        })
    }

    /// The next ask: send it to every witness.
    pub fn poll_ask(&mut self) -> Option<Ask> {
        self.asks.pop_front()
    }

    /// When to call `handle_poll` at the latest. Every other deadline is looked at then.
    pub fn poll_timeout(&self) -> Duration {
        self.next_beat
    }
}

#[cfg(test)]
mod tests;
