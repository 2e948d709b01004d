//! Transitions, timers, and what the shell is told after each input.
//!
//! The shell is told differences: first what shuts, then the steps of the transition, then what opens. So no order of
//! events can open a gate before the address of a lower epoch is gone, or take an address before its sockets are live.

use super::{Election, Peer, Shown, State};
use crate::action::{Action, Alarm, Gate, Loss};
use crate::beat::Offer;
use crate::config::Note;
use crate::detector::Verdict;
use crate::rule::Rule;
use std::time::Duration;

/// Between answers to somebody else's claim: two nodes that both answer must not flood the wire.
pub(super) const DEFEND_EVERY: Duration = Duration::from_millis(50);
/// When to announce the address after taking it, ms: caches may learn the other node's answer in between.
const ANNOUNCE_MS: [u64; 12] = [0, 1, 5, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

impl Election {
    /// Before anything else: time, and whether we were there while it passed.
    pub(super) fn begin(&mut self, now: Duration) {
        self.now = now;
        let Some(last) = self.last_poll else { return };
        let pause = now.saturating_sub(last);
        if self.waking || pause <= self.config.dead_min || self.broken.is(Rule::CheckAfterPause) {
            return;
        }
        // A paused node checks before it sends: alone, what lies in its sockets; paired, also that the standby still is one.
        self.waking = true;
        self.next_beat = now;
        let mark = self.counter + 1;
        match &mut self.state {
            State::Solo { paused } => *paused = true,
            State::Paired { paused, .. } => *paused = Some((mark, now + self.detector.dead_time())),
            // What lies in the sockets is of the time before: it does not prove that the peer is back.
            State::Holding { mark: old, .. } | State::Fault { mark: old, .. } => *old = mark,
            _ => {}
        }
        let ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        self.steps.push(Action::Alarm(Alarm::OwnPause(ms)));
    }

    /// Takes a state, and says so to the peer at once.
    pub(super) fn enter(&mut self, state: State) {
        self.state = state;
        self.peer.apart_since = None;
        self.in_step = 0;
        self.next_beat = self.now;
        if !matches!(state, State::Solo { .. }) {
            self.pairing = None;
        }
    }

    /// Takes or keeps the pair, as its holder. On what was read just after a pause it opens nothing yet: the standby must
    /// answer first. (Found by simulation, seed 41979: a handover from before a pause, taken after it.)
    pub(super) fn enter_paired(&mut self, partner: u64) {
        let until = self.now + self.detector.dead_time();
        let paused = self.waking.then_some((self.counter + 1, until));
        self.enter(State::Paired { partner, paused, frozen: false });
    }

    /// The pair is over: restore at once, give nothing out, ask (design: losing the peer costs one grant).
    pub(super) fn lose_peer(&mut self, why: Loss) {
        let (incumbent, frozen) = match self.state {
            State::Standby => (false, false),
            State::Paired { frozen, .. } => (true, frozen),
            _ => return self.close_link(),
        };
        self.offer = Offer::None;
        self.close_link();
        if frozen {
            self.steps.push(Action::Thaw);
        }
        self.steps.push(Action::Alarm(Alarm::PeerLost(why)));
        self.next_round = self.now;
        self.round_wait = self.config.yield_after * 2;
        let mark = self.counter + 1;
        self.enter(State::Holding { since: self.now, incumbent, mark });
        if self.own_hung {
            self.fault(Loss::OwnHung);
        }
        self.run_rounds();
    }

    /// The address goes; the right to be granted stays.
    pub(super) fn fault(&mut self, why: Loss) {
        if let State::Holding { incumbent, mark, .. } = self.state {
            self.enter(State::Fault { incumbent, mark });
            self.steps.push(Action::StepDown(why));
            self.steps.push(Action::Alarm(Alarm::Fault(why)));
        }
    }

    /// A higher epoch has members, and we are not one: what we have is history.
    pub(super) fn overtaken(&mut self) {
        self.give_back();
        if matches!(self.state, State::Idle { .. }) {
            return;
        }
        (self.member, self.prepared, self.offer) = (0, 0, Offer::None);
        self.close_link();
        self.steps.push(Action::StepDown(Loss::HigherEpoch));
        self.steps.push(Action::Forget);
        self.enter(State::Idle { since: self.now });
    }

    /// A link to a peer that is gone may hang for minutes: end it, so that the next one can begin.
    fn close_link(&mut self) {
        if std::mem::take(&mut self.link_up) {
            self.steps.push(Action::CloseLink);
        }
        self.unlink();
    }

    pub(super) fn unlink(&mut self) {
        (self.link_up, self.in_step, self.pairing) = (false, 0, None);
    }

    /// Everything that time alone brings about.
    pub(super) fn run_timers(&mut self) {
        if let State::Solo { paused } = &mut self.state {
            // The sockets are empty and held no higher epoch; nobody but us descends from a grant alone.
            *paused = false;
        }
        match self.detector.verdict() {
            Verdict::Alive => {}
            Verdict::Hung => self.lose_peer(Loss::Hung),
            // Just after our own pause the peer has had no time to be heard: the check has its own deadline.
            Verdict::Silent => self.lose_peer(Loss::Silent),
        }
        if self.peer.apart_since.is_some_and(|since| self.now > since + self.config.dead_max) {
            self.lose_peer(Loss::PeerLeft);
        }
        match self.state {
            State::Paired { paused: Some((_, until)), .. } if self.now > until => {
                self.lose_peer(Loss::Paused);
            }
            State::Paired { .. } if self.own_hung => {
                // Better the peer than a holder that does nothing: step back and say why.
                self.lose_peer(Loss::OwnHung);
            }
            State::Paired { .. } if self.offer != Offer::None && self.now > self.offer_until => {
                self.abort_handover();
            }
            State::Paired { .. } => {
                let steady = self.now.saturating_sub(self.paired_since);
                if steady > self.config.hold_down_max {
                    self.flaps = 0;
                }
                let wanted = self.config.preempt && self.config.peer < self.config.me;
                if wanted && steady > self.config.hold_down_min * 2u32.pow(self.flaps) {
                    // Cannot fail but for a handover that is under way.
                    let _ = self.offer_handover();
                }
            }
            State::Holding { since, .. } if self.now > since + self.config.max_hold => {
                self.fault(Loss::HeldTooLong);
            }
            _ => {}
        }
        self.run_rounds();
    }

    fn run_announcements(&mut self) {
        while let Some((since, next)) = self.announced
            && let Some(at) = ANNOUNCE_MS.get(next)
            && self.now >= since + Duration::from_millis(*at)
        {
            self.announced = Some((since, next + 1));
            self.steps.push(Action::Announce);
        }
    }

    /// What the state allows, pauses aside.
    pub(super) fn open_gate(&self) -> Gate {
        match self.state {
            State::Solo { paused: false } => Gate::Alone(self.member),
            State::Paired { paused: None, frozen: false, .. } => {
                let late = self.broken.is(Rule::ConfirmBeforePaired);
                if late { Gate::Alone(self.member) } else { Gate::Confirmed(self.member) }
            }
            State::Holding { .. } if self.broken.is(Rule::HoldUntilGranted) => Gate::Alone(self.member),
            _ => Gate::Held,
        }
    }

    /// After each input: write down what is certain, then tell the shell what has changed.
    pub(super) fn settle(&mut self) {
        self.write_note();
        let gate = self.open_gate();
        let address = matches!(self.state, State::Solo { .. } | State::Paired { .. } | State::Holding { .. });
        let before = std::mem::replace(&mut self.shown, Shown { gate, address });
        let opens = matches!((before.gate, gate), (_, Gate::Alone(_)) | (Gate::Held, _));
        if gate != before.gate && gate == Gate::Held {
            self.actions.extend([Action::HoldAcks, Action::PublishAllowed(false)]);
        } else if gate != before.gate && !opens {
            self.actions.push_back(Action::ReleaseAcks(gate));
        }
        if before.address && !address {
            self.announced = None;
            self.actions.push_back(Action::DropAddress);
        }
        if before.address && gate != before.gate && gate != Gate::Held {
            // While we could not be sure, the peer may have taken the address too: caches must learn again.
            self.announced = Some((self.now, 0));
        }
        if address {
            self.run_announcements();
        }
        self.actions.extend(self.steps.drain(..));
        if !before.address && address {
            self.actions.extend([Action::RestoreConnections, Action::TakeAddress, Action::Announce]);
            self.announced = Some((self.now, 1));
        }
        if gate != before.gate && gate != Gate::Held && opens {
            self.actions.push_back(Action::ReleaseAcks(gate));
            if before.gate == Gate::Held {
                self.actions.push_back(Action::PublishAllowed(true));
            }
        }
    }

    /// Keeps the durable note true.
    ///
    /// Neither holding nor asking, this node can promise to hold nothing up to what it knows, so that a lock which nobody
    /// uses does not bind its peer. Durable before it is said: a later life must ask above it. `alone` is written once we
    /// are, and taken back before the peer becomes a member.
    fn write_note(&mut self) {
        let free = self.ballot.is_none()
            && self.prepared == 0
            && !matches!(self.state, State::Solo { .. } | State::Paired { .. });
        let renounced = if free { self.known.max(self.note.renounced) } else { self.note.renounced };
        let alone = match self.state {
            State::Solo { .. } if self.pairing.is_none() => self.member,
            State::Idle { .. } | State::Fault { .. } => self.note.alone,
            _ => 0,
        };
        let note = Note { alone, renounced };
        if self.noting.is_none() && note != self.note {
            self.noting = Some(note);
            self.steps.push(Action::Persist(note));
        }
    }

    /// For tests and status: the peer's present life; 0 before the first beat.
    pub fn peer_incarnation(&self) -> u64 {
        let Peer { incarnation, .. } = self.peer;
        incarnation
    }
}
