//! One round of asking: who has granted what was asked for.
//!
//! In: answers. Out: a [`Standing`]. Pure bookkeeping; what follows from it is `election`'s business. A round ends for good:
//! grants that come after its end count for nothing, or a vote given back could still be used.

use crate::vote::{Answer, Lock};
use crate::{Epoch, NodeId, WitnessId};
use std::collections::BTreeMap;
use std::time::Duration;

/// How a round stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Open.
    Open,
    /// A majority granted.
    Won,
    /// A majority has granted a newer epoch than our base to this owner.
    Lost(Lock),
    /// So many granted others that a majority cannot be reached now.
    Split,
    /// The number was used up; ask again above this one.
    Raise(Epoch),
}

/// One round.
#[derive(Clone, Debug)]
pub struct Ballot {
    /// The number asked for.
    pub wanted: Epoch,
    /// What the asker descends from.
    pub base: Epoch,
    /// When the round began.
    pub since: Duration,
    /// When the ask is repeated.
    pub repeat_at: Duration,
    answers: BTreeMap<WitnessId, Answer>,
}

impl Ballot {
    /// A round that has not been asked yet.
    pub fn new(wanted: Epoch, base: Epoch, now: Duration) -> Ballot {
        Ballot { wanted, base, since: now, repeat_at: now, answers: BTreeMap::new() }
    }

    /// Takes an answer to this round; the newest of each witness counts, but a grant stays.
    pub fn take(&mut self, answer: Answer) {
        let seen = self.answers.entry(answer.witness).or_insert(answer);
        if !seen.granted {
            *seen = answer;
        }
    }

    /// How it stands among these witnesses.
    ///
    /// `incarnation` is this life of `me`: a lock of an earlier life is somebody else's.
    pub fn standing(&self, me: NodeId, incarnation: u64, witnesses: &[WitnessId]) -> Standing {
        let own = |lock: Lock| lock.node == me.0 && lock.incarnation == incarnation;
        let majority = witnesses.len() / 2 + 1;
        let known = || witnesses.iter().filter_map(|witness| self.answers.get(witness));
        if known().filter(|answer| answer.granted).count() >= majority {
            return Standing::Won;
        }
        let above = || known().filter(|a| !a.granted && a.lock.epoch > self.base && !own(a.lock));
        let same = |lock: Lock| known().filter(|answer| answer.lock == lock).count();
        if let Some(owner) = above().find(|answer| same(answer.lock) >= majority) {
            return Standing::Lost(owner.lock);
        }
        let used = known().filter(|a| !a.granted && a.highest >= self.wanted);
        let free = used.filter(|a| a.lock.epoch <= self.base || own(a.lock));
        if let Some(highest) = free.map(|answer| answer.highest).max() {
            return Standing::Raise(highest);
        }
        if above().count() > witnesses.len() - majority { Standing::Split } else { Standing::Open }
    }

    /// The epoch that a majority names as ours, in whatever life.
    pub fn ours(&self, me: NodeId, witnesses: &[WitnessId]) -> Option<Epoch> {
        let locks = || witnesses.iter().filter_map(|witness| self.answers.get(witness)).map(|a| a.lock);
        let mine = locks().filter(|lock| lock.node == me.0);
        mine.map(|lock| lock.epoch).find(|&epoch| {
            locks().filter(|lock| lock.node == me.0 && lock.epoch == epoch).count() > witnesses.len() / 2
        })
    }

    /// Has anybody refused?
    pub fn any_refusal(&self) -> bool {
        self.answers.values().any(|answer| !answer.granted)
    }

    /// Has anybody granted?
    pub fn any_grant(&self) -> bool {
        self.answers.values().any(|answer| answer.granted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [WitnessId; 3] = [WitnessId(1), WitnessId(2), WitnessId(3)];

    fn answer(witness: u16, granted: bool, highest: Epoch, owner: u16, epoch: Epoch) -> Answer {
        Answer {
            witness: WitnessId(witness),
            node: NodeId(1),
            incarnation: 1,
            wanted: 6,
            granted,
            highest,
            lock: Lock { epoch, node: owner, incarnation: 1 },
        }
    }

    fn standing(answers: &[Answer]) -> Standing {
        let mut ballot = Ballot::new(6, 5, Duration::ZERO);
        answers.iter().for_each(|answer| ballot.take(*answer));
        ballot.standing(NodeId(1), 1, &ALL)
    }

    #[test]
    fn a_majority_of_all_configured_witnesses_decides() {
        let (yes, no) = (|w| answer(w, true, 6, 1, 6), |w| answer(w, false, 6, 2, 6));
        assert_eq!(standing(&[]), Standing::Open);
        assert_eq!(standing(&[yes(1)]), Standing::Open);
        assert_eq!(standing(&[yes(1), yes(1)]), Standing::Open, "one witness has one vote");
        assert_eq!(standing(&[yes(1), yes(9)]), Standing::Open, "not a witness");
        assert_eq!(standing(&[yes(1), yes(2)]), Standing::Won);
        assert_eq!(standing(&[no(1), yes(2)]), Standing::Open);
        assert_eq!(standing(&[no(1), no(3)]), Standing::Lost(Lock { epoch: 6, node: 2, incarnation: 1 }));
        assert_eq!(standing(&[no(1), answer(2, false, 7, 2, 7)]), Standing::Split);
        assert_eq!(standing(&[answer(2, false, 9, 2, 5)]), Standing::Raise(9));
    }
}
