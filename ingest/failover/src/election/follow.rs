//! What the peer's stance means for ours: handover, pairing, giving way, resuming.
//!
//! In: a beat that counts. Out: transitions. Each branch names its rule.

use super::{Election, NoHandover, State};
use crate::action::{Action, Alarm, Loss};
use crate::beat::{Beat, Offer, Role};
use crate::detector::Verdict;

impl Election {
    pub(super) fn follow(&mut self, peer: &Beat) {
        self.take_handover(peer);
        match self.state {
            State::Idle { .. } => {
                // Somebody holds or may: no first epoch is wanted from us.
                if peer.role != Role::Idle && self.ballot.is_some() {
                    self.give_back();
                }
            }
            State::Standby => self.follow_as_standby(peer),
            State::Solo { paused } => {
                // Rejoin: the peer caught up with us, the hold-down is over. First the note, then the gate, then the word.
                let ready = self.in_step_with_us(peer) && !paused && self.now >= self.pair_after;
                if ready && self.pairing.is_none() {
                    self.pairing = Some(peer.incarnation);
                    self.pair_up();
                }
            }
            State::Paired { partner, paused, frozen } => {
                if matches!(peer.role, Role::Holding | Role::Fault) {
                    // It took us for dead: it confirms nothing any more.
                    return self.lose_peer(Loss::PeerLeft);
                }
                let with_us = peer.role == Role::Standby
                    && peer.epoch == self.member
                    && peer.partner == self.incarnation;
                self.apart(!with_us);
                // After a pause: a beat that answers one sent since proves that the standby still is one.
                if let Some((mark, _)) = paused
                    && with_us
                    && self.answers(peer, mark)
                {
                    self.state = State::Paired { partner, paused: None, frozen };
                }
                if let Offer::Prepare(number) = self.offer
                    && peer.offer == Offer::Prepared(number)
                    && !frozen
                {
                    self.state = State::Paired { partner, paused, frozen: true };
                    self.steps.push(Action::Freeze(number));
                }
            }
            State::Holding { incumbent, mark, .. } | State::Fault { incumbent, mark } => {
                if incumbent {
                    self.resume(peer, mark)
                } else {
                    self.give_way(peer, mark)
                }
            }
        }
    }

    fn follow_as_standby(&mut self, peer: &Beat) {
        let holds = peer.incumbent && !peer.hung && peer.epoch >= self.member;
        self.apart(!holds);
        match (peer.offer, self.offer) {
            // Phase one: the number must be above all we ever asked for or renounced, so that no witness has it from us.
            (Offer::Prepare(number), _)
                if peer.role == Role::Holder && peer.epoch == self.member && self.prepared != number =>
            {
                let renounced = self.noting.unwrap_or(self.note).renounced;
                if number > self.asked && number > renounced {
                    self.prepared = number;
                    self.next_beat = self.now;
                }
            }
            // The taker holds: our handover is through.
            (_, Offer::Handed(number)) if peer.role == Role::Holder && peer.epoch >= number => {
                self.offer = Offer::None;
            }
            _ => {}
        }
    }

    /// Phase two: the former holder is past its point of no return, and only we can hold that number.
    fn take_handover(&mut self, peer: &Beat) {
        let Offer::Handed(number) = peer.offer else { return };
        let waiting = matches!(self.state, State::Standby | State::Holding { .. } | State::Fault { .. });
        if self.prepared != number || !waiting || peer.role != Role::Standby || peer.epoch != number {
            return;
        }
        self.give_back();
        (self.member, self.prepared, self.offer) = (number, 0, Offer::None);
        self.enter_paired(peer.incarnation);
        self.steps.push(Action::Alarm(Alarm::Paired(number)));
        if !self.link_up {
            self.lose_peer(Loss::LinkClosed);
        }
    }

    pub(super) fn offer_handover(&mut self) -> Result<(), NoHandover> {
        match self.state {
            _ if self.offer != Offer::None => return Err(NoHandover::UnderWay),
            State::Paired { paused: None, .. } if self.link_up => {
                self.known += 1;
                self.offer = Offer::Prepare(self.known);
                self.offer_until = self.now + self.config.handover_within;
                self.next_beat = self.now;
            }
            other => return Err(NoHandover::NotPaired(other)),
        }
        Ok(())
    }

    /// The point of no return: from here on we are the standby of a number that only the peer can hold.
    pub(super) fn hand_over(&mut self) {
        let (State::Paired { frozen: true, .. }, Offer::Prepare(number)) = (self.state, self.offer) else {
            return;
        };
        (self.member, self.offer) = (number, Offer::Handed(number));
        self.enter(State::Standby);
        self.steps.push(Action::StepDown(Loss::HandedOver));
    }

    /// Back from a handover that did not come through.
    pub(super) fn abort_handover(&mut self) {
        let State::Paired { partner, paused, frozen } = self.state else { return };
        self.offer = Offer::None;
        if frozen {
            self.state = State::Paired { partner, paused, frozen: false };
            self.steps.push(Action::Thaw);
        }
        self.steps.push(Action::Alarm(Alarm::HandoverFailed));
        self.next_beat = self.now;
    }

    /// Once the note no longer says "alone": shut the gate down to confirmations, then tell the standby, behind all bytes
    /// sent so far.
    pub(super) fn pair_up(&mut self) {
        let Some(partner) = self.pairing else { return };
        if self.note.alone != 0 || self.noting.is_some() {
            return;
        }
        let ready = self.peer.stance.is_some_and(|peer| self.in_step_with_us(&peer));
        if !matches!(self.state, State::Solo { .. }) || !ready {
            self.pairing = None;
            return;
        }
        self.enter_paired(partner);
        self.paired_since = self.now;
        self.steps.push(Action::TellPaired(self.member));
        self.steps.push(Action::Alarm(Alarm::Paired(self.member)));
    }

    /// The standby is back and still one, nobody was granted anything: go on where we were. What the rounds asked for is
    /// given back first; a grant that is still on its way counts for nothing.
    fn resume(&mut self, peer: &Beat, mark: u64) {
        let back = peer.role == Role::Standby
            && peer.epoch == self.member
            && peer.partner == self.incarnation
            && self.answers(peer, mark);
        if back && self.link_up && !self.own_hung {
            self.give_back();
            self.enter_paired(peer.incarnation);
            self.steps.push(Action::Alarm(Alarm::Resumed(self.member)));
        }
    }

    /// The holder lives after all and is the one to go on: connections stay where they were.
    fn give_way(&mut self, peer: &Beat, mark: u64) {
        let back = peer.incumbent && !peer.hung && peer.epoch == self.member && self.answers(peer, mark);
        if back && self.detector.verdict() != Verdict::Hung {
            self.give_back();
            self.enter(State::Standby);
            self.steps.push(Action::StepDown(Loss::PeerIsBack));
        }
    }

    fn in_step_with_us(&self, peer: &Beat) -> bool {
        self.link_up
            && peer.role == Role::Idle
            && peer.in_step == self.member
            && peer.heard.0 == self.incarnation
            && peer.incarnation == self.peer.incarnation
    }

    /// It answers a beat that we sent at `mark` or later: it was made after that, whatever the network did.
    fn answers(&self, peer: &Beat, mark: u64) -> bool {
        peer.heard.0 == self.incarnation && peer.heard.1 >= mark
    }

    fn apart(&mut self, apart: bool) {
        self.peer.apart_since = match (apart, self.peer.apart_since) {
            (false, _) => None,
            (true, since) => since.or(Some(self.now)),
        };
    }
}
