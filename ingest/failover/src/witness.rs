//! A witness: makes sure that each epoch has one owner, and that each owner descends from the one before.
//!
//! In: authentic asks, and what was stored before a restart. Out: [`Action`]s **to be carried out in order**: `Persist` must
//! be durable before the `Answer` behind it leaves. When the store fails, send nothing, drop the `Witness` and make a new
//! one from what is durable. Pure. Runs in every relay; the rules are those of the crate's first page.
//!
//! ```text
//!            ask: number is new, base ≥ lock (or the lock is the asker's own, of this life)
//!   free / lock(e, X) ───────────────────────────────► lock(wanted, asker), highest = wanted
//!            ◄───────────────────────────────────────
//!            release by the lock's owner: the lock before comes back; `highest` stays
//! ```

use crate::rule::{Broken, Rule};
use crate::vote::{Answer, Ask, Lock};
use crate::{Epoch, WitnessId};
use std::collections::VecDeque;

/// What a witness keeps through restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Highest number ever granted; never falls.
    pub highest: Epoch,
    /// Granted now.
    pub lock: Lock,
    /// What comes back when the lock is released.
    pub before: Lock,
}

/// What the relay has to do, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Store this, durably, before anything behind it is done.
    Persist(Record),
    /// Send this to the node it names.
    Answer(Answer),
}

/// One witness of one cluster.
#[derive(Clone, Debug)]
pub struct Witness {
    id: WitnessId,
    record: Record,
    actions: VecDeque<Action>,
    broken: Broken,
}

impl Witness {
    /// A witness that goes on from what is durable; `Record::default()` the very first time.
    pub fn new(id: WitnessId, durable: Record, broken: Broken) -> Witness {
        Witness { id, record: durable, actions: VecDeque::new(), broken }
    }

    /// What it knows now.
    pub fn record(&self) -> Record {
        self.record
    }

    /// Takes an ask or a release. Drain `poll_action` afterwards.
    pub fn handle_ask(&mut self, ask: &Ask) {
        if ask.release { self.release(ask) } else { self.grant(ask) }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn grant(&mut self, ask: &Ask) {
        let Record { highest, lock, before } = self.record;
        let own = lock.node == ask.node.0 && lock.incarnation == ask.incarnation;
        // The same node asks again: the first answer was lost. Granted already, nothing changes.
        let mut granted = own && lock.epoch == ask.wanted;
        // Each number has one owner at this witness, for ever: equal and lower ones are refused.
        let twice = self.broken.is(Rule::OneGrantPerEpoch) && ask.wanted == lock.epoch;
        let number_is_new = ask.wanted > highest || twice;
        // Compare and swap: whoever does not descend from what is granted would overtake an owner unseen. One's own lock
        // that won nothing may be moved up: the asker has given the lower number up by asking for the higher.
        let descends = ask.base >= lock.epoch || own || twice || self.broken.is(Rule::BaseNotBelowLock);
        if !granted && number_is_new && descends {
            granted = true;
            // What a release brings back: not a lock that won nothing, but one that its owner descends from.
            let moved_up = own && ask.base < lock.epoch;
            self.record = Record {
                highest: ask.wanted.max(highest),
                lock: Lock { epoch: ask.wanted, node: ask.node.0, incarnation: ask.incarnation },
                before: if moved_up { before } else { lock },
            };
            self.persist();
        }
        self.actions.push_back(Action::Answer(Answer {
            witness: self.id,
            node: ask.node,
            incarnation: ask.incarnation,
            wanted: ask.wanted,
            granted,
            highest: self.record.highest,
            lock: self.record.lock,
        }));
    }

    /// Only the owner gives back, in the life that asked, and only what it asked for or less.
    fn release(&mut self, ask: &Ask) {
        let Record { lock, before, .. } = self.record;
        if lock.node == ask.node.0 && lock.incarnation == ask.incarnation && lock.epoch <= ask.wanted {
            self.record.lock = before;
            self.persist();
        }
    }

    fn persist(&mut self) {
        if !self.broken.is(Rule::DurableFirst) {
            self.actions.push_back(Action::Persist(self.record));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodeId;

    fn ask(node: u16, base: Epoch, wanted: Epoch) -> Ask {
        Ask { node: NodeId(node), incarnation: 1, counter: 0, wanted, base, release: false }
    }

    fn witness() -> Witness {
        Witness::new(WitnessId(1), Record::default(), Broken::default())
    }

    /// (was something stored first, was it granted)
    fn put(witness: &mut Witness, ask: Ask) -> (bool, bool) {
        witness.handle_ask(&ask);
        let mut stored = false;
        loop {
            match witness.poll_action() {
                Some(Action::Persist(record)) => {
                    assert_eq!(record, witness.record());
                    stored = true;
                }
                Some(Action::Answer(answer)) => return (stored, answer.granted),
                None => return (stored, false),
            }
        }
    }

    #[test]
    fn a_grant_is_stored_first_and_repeated_without_storing() {
        let mut witness = witness();
        assert_eq!(put(&mut witness, ask(1, 0, 1)), (true, true));
        assert_eq!(put(&mut witness, ask(1, 0, 1)), (false, true));
        assert_eq!(put(&mut witness, ask(2, 0, 1)), (false, false), "one owner per epoch");
        assert_eq!(put(&mut witness, ask(2, 0, 2)), (false, false), "does not descend from 1");
        assert_eq!(put(&mut witness, ask(2, 1, 2)), (true, true));
        assert_eq!(put(&mut witness, ask(1, 1, 3)), (false, false), "1 is no longer the newest");
    }

    #[test]
    fn what_is_given_back_is_free_but_its_number_is_used() {
        let mut witness = witness();
        put(&mut witness, ask(1, 0, 5));
        put(&mut witness, ask(2, 5, 6));
        let strange = Ask { node: NodeId(1), release: true, ..ask(2, 0, 6) };
        assert_eq!(put(&mut witness, strange), (false, false), "not the owner");
        assert_eq!(put(&mut witness, Ask { release: true, ..ask(2, 0, 6) }), (true, false));
        assert_eq!(witness.record().lock.epoch, 5);
        assert_eq!(put(&mut witness, ask(1, 5, 6)), (false, false), "6 was granted once");
        assert_eq!(put(&mut witness, ask(1, 5, 7)), (true, true));
    }

    /// Found by simulation, seed 2908: a holder asked to go on alone, gave that back, and its own epoch was forgotten.
    #[test]
    fn a_release_brings_back_the_epoch_that_was_won() {
        let mut witness = witness();
        put(&mut witness, ask(1, 0, 1));
        put(&mut witness, ask(1, 1, 2));
        put(&mut witness, ask(1, 1, 3));
        put(&mut witness, Ask { release: true, ..ask(1, 0, 3) });
        assert_eq!(witness.record().lock.epoch, 1);
        assert_eq!(put(&mut witness, Ask { incarnation: 2, ..ask(1, 0, 4) }), (false, false));
    }

    #[test]
    fn another_life_of_the_owner_is_somebody_else() {
        let mut witness = witness();
        put(&mut witness, ask(1, 0, 5));
        assert_eq!(put(&mut witness, Ask { incarnation: 2, ..ask(1, 0, 5) }), (false, false));
        assert_eq!(put(&mut witness, Ask { incarnation: 2, ..ask(1, 5, 6) }), (true, true));
        assert_eq!(put(&mut witness, ask(1, 0, 7)), (false, false), "a late ask of the former life");
    }
}
