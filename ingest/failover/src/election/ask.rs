//! Rounds of asking the witnesses.
//!
//! In: answers, time. Out: asks, and in the end a grant or a better reason to wait. A survivor asks at once and keeps on;
//! a former standby whose vote is split gives it back first, so that the holder wins; without the address a node asks in
//! rounds that grow apart.

use super::{Election, State};
use crate::Epoch;
use crate::action::{Action, Alarm, Loss};
use crate::ballot::{Ballot, Standing};
use crate::beat::{Offer, Role};
use crate::detector::Verdict;
use crate::rule::Rule;
use crate::vote::{Answer, Ask};
use std::time::Duration;

impl Election {
    /// An authentic answer of a witness.
    pub fn handle_answer(&mut self, now: Duration, answer: &Answer) {
        if answer.node != self.config.me || answer.incarnation != self.incarnation {
            return;
        }
        self.begin(now);
        self.known = self.known.max(answer.highest);
        match &mut self.ballot {
            Some(ballot) if ballot.wanted == answer.wanted => {
                ballot.take(*answer);
                self.judge();
            }
            // A grant for a round that is over, or that this node gave back: it must not stay locked.
            _ if answer.granted && answer.wanted > self.won && answer.lock.epoch == answer.wanted => {
                self.queue(answer.wanted, 0, true);
            }
            _ => {}
        }
        self.settle();
    }

    fn judge(&mut self) {
        let Some(ballot) = &self.ballot else { return };
        let (me, witnesses) = (self.config.me, &self.config.witnesses);
        let ours = ballot.ours(me, witnesses);
        let standing = ballot.standing(me, self.incarnation, witnesses);
        let one_is_enough = self.broken.is(Rule::MajorityGrants) && ballot.any_grant();
        match standing {
            _ if one_is_enough => self.granted(),
            Standing::Won => self.granted(),
            Standing::Open => {}
            Standing::Raise(highest) => {
                self.known = self.known.max(highest);
                self.ask_round();
            }
            Standing::Lost(_) => {
                // The witnesses have somebody else, or a former life of ours.
                self.give_back();
                match self.state {
                    State::Holding { .. } => self.fault(Loss::NotGranted),
                    State::Idle { .. } => self.consider_own_former_life(ours),
                    _ => {}
                }
            }
            Standing::Split => {
                if !self.is_incumbent() {
                    self.give_back();
                }
            }
        }
    }

    /// A majority names us, in a life that is over. If we were alone in that epoch to the end, nobody holds, and what we
    /// acknowledged died with us. Else the peer may have the only copy: wait for it.
    fn consider_own_former_life(&mut self, ours: Option<Epoch>) {
        let Some(epoch) = ours else { return self.wait_for_peer() };
        if self.note.alone == epoch || self.broken.is(Rule::PairedWaitsForPeer) {
            self.own_base = epoch;
            self.next_round = self.now;
        } else {
            self.wait_for_peer();
        }
    }

    fn wait_for_peer(&mut self) {
        if !self.force_alarm && self.detector.verdict() != Verdict::Alive {
            self.force_alarm = true;
            self.steps.push(Action::Alarm(Alarm::NeedsForce));
        }
    }

    /// The grant: alone, everything opens.
    fn granted(&mut self) {
        let Some(ballot) = self.ballot.take() else { return };
        (self.member, self.won) = (ballot.wanted, ballot.wanted);
        (self.prepared, self.own_base, self.forced, self.force_alarm) = (0, 0, false, false);
        self.offer = Offer::None;
        self.enter(State::Solo { paused: self.waking });
        // Flapping: each time alone makes the next pair wait longer.
        self.flaps = (self.flaps + 1).min(16);
        let wait = self.config.hold_down_min * 2u32.pow(self.flaps - 1);
        let wait = wait.min(self.config.hold_down_max);
        self.pair_after = self.now + wait;
        if self.flaps > 1 {
            let ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            self.steps.push(Action::Alarm(Alarm::HoldDown(ms)));
        }
        self.steps.push(Action::Alarm(Alarm::Solo(self.member)));
    }

    /// Deadlines of asking; called on every poll.
    pub(super) fn run_rounds(&mut self) {
        let base = self.base();
        let Some(ballot) = &mut self.ballot else {
            if self.now >= self.next_round && self.may_ask() {
                self.ask_round();
            }
            return;
        };
        if base > ballot.base {
            // The peer has renounced more since: ask with that.
            return self.ask_round();
        }
        let age = self.now.saturating_sub(ballot.since);
        let patience = match self.state {
            State::Holding { incumbent: true, .. } => Duration::MAX,
            State::Holding { .. } if !ballot.any_refusal() => Duration::MAX,
            State::Holding { .. } => self.config.yield_after,
            _ => self.config.yield_after * 4,
        };
        if age > patience {
            return self.give_back();
        }
        if self.now >= ballot.repeat_at {
            ballot.repeat_at = self.now + self.config.ask_every;
            let (wanted, base) = (ballot.wanted, ballot.base);
            self.queue(wanted, base, false);
        }
    }

    /// May this node seek an epoch now?
    fn may_ask(&self) -> bool {
        match self.state {
            State::Holding { .. } | State::Fault { .. } => !self.own_hung,
            State::Idle { since } => {
                let waited = self.now.saturating_sub(since);
                let peer = self.peer.stance.filter(|_| self.detector.verdict() == Verdict::Alive);
                match peer {
                    _ if self.forced => true,
                    // Both empty: the lower id first, the other when that one does not get it.
                    Some(peer) if peer.role == Role::Idle => {
                        let patience = if self.config.me < self.config.peer { 1 } else { 4 };
                        waited >= self.config.cold_wait * patience
                    }
                    // It holds, or has the bytes: its turn.
                    Some(_) => false,
                    None => waited >= self.config.cold_wait,
                }
            }
            _ => false,
        }
    }

    /// What this node descends from.
    fn base(&self) -> Epoch {
        if self.forced {
            return Epoch::MAX;
        }
        // An idle node may use what its peer renounced only if that one had nothing either.
        let idle = matches!(self.state, State::Idle { .. });
        let peer_empty = self.peer.stance.is_some_and(|peer| peer.role == Role::Idle);
        let renounced = if !idle || peer_empty { self.peer.renounced } else { 0 };
        self.member.max(self.prepared).max(renounced).max(self.own_base)
    }

    fn ask_round(&mut self) {
        self.known += 1;
        self.asked = self.known;
        let mut ballot = Ballot::new(self.known, self.base(), self.now);
        ballot.repeat_at = self.now + self.config.ask_every;
        self.queue(ballot.wanted, ballot.base, false);
        self.ballot = Some(ballot);
    }

    /// Ends the round for good. Grants that still come are given back too.
    pub(super) fn give_back(&mut self) {
        if let Some(ballot) = self.ballot.take() {
            self.queue(ballot.wanted, 0, true);
            self.next_round = self.now + self.round_wait;
            self.round_wait = (self.round_wait * 2).min(self.config.round_max);
        }
    }

    fn queue(&mut self, wanted: Epoch, base: Epoch, release: bool) {
        self.ask_counter += 1;
        self.asks.push_back(Ask {
            node: self.config.me,
            incarnation: self.incarnation,
            counter: self.ask_counter,
            wanted,
            base,
            release,
        });
    }

    fn is_incumbent(&self) -> bool {
        matches!(self.state, State::Holding { incumbent: true, .. })
    }
}
