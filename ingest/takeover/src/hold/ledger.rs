//! The ledger: which waiting packet may leave. Pure.
//!
//! In: packets as they enter the kernel's queue ([`Ledger::offer`]), what the standby knows and has
//! ([`Ledger::admit`], [`Ledger::confirm`], [`Ledger::finish`]). Out: one verdict for each packet
//! ([`Ledger::poll_verdict`]) and news of connections ([`Ledger::poll_event`]); drain both after every call.
//!
//! Rules, first that fits:
//!
//! | packet | fate |
//! |---|---|
//! | SYN-ACK with new numbers | waits; [`Event::Opened`]; leaves once the standby knows the connection |
//! | of a connection nobody knows | dropped; a reset leaves if [`Ledger::strangers_may_reset`] says so |
//! | of a finished connection | leaves |
//! | RST of a living connection | dropped: the standby would keep a connection that its peer has lost |
//! | any other | waits behind its predecessors until `ack` and `seq + len` are confirmed; a FIN counts one |
//!
//! Packets of one connection keep their order. Dropping is always safe (the kernel sends again), leaving never is: so
//! every limit drops. Selective acknowledgements are let through: they are advice, and a sender keeps those bytes
//! (RFC 2018, section 8).

use super::flow::{Base, Confirmed, Flow};
use super::segment::{Segment, SynAck};
use std::collections::{HashMap, VecDeque};

/// Bounds of a ledger.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Waiting packets of all connections. The rest is dropped.
    pub packets: usize,
    /// Connections known at once, finished ones included. The oldest finished one makes room, else the oldest that
    /// never confirmed a byte (a handshake nobody completed), else the new one is dropped.
    pub flows: usize,
}

impl Default for Limits {
    /// A thousand publishers with a window of acknowledgements each.
    fn default() -> Self {
        Self { packets: 16_384, flows: 4_096 }
    }
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the wire.
    Leave,
    /// It is forgotten.
    Drop,
}

/// News for the owner of the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A handshake began. Tell the standby, then [`Ledger::admit`] the connection.
    Opened {
        /// Which connection.
        flow: Flow,
        /// What the SYN-ACK says about it.
        syn_ack: SynAck,
    },
}

/// Who may speak at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Passage {
    /// Nobody: packets wait, whatever was confirmed. This host may have been overtaken.
    Shut,
    /// Whoever the standby has confirmed.
    #[default]
    Confirmed,
    /// Everybody: this host answers alone.
    Open,
}

/// Figures for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets waiting now.
    pub waiting: usize,
    /// The most that ever waited.
    pub waiting_max: usize,
    /// Packets that left.
    pub left: u64,
    /// Dropped: no room.
    pub dropped_full: u64,
    /// Dropped: a reset of a living connection.
    pub dropped_reset: u64,
    /// Dropped: of a connection nobody knows, or whose numbers are over.
    pub dropped_stranger: u64,
    /// Connections known now.
    pub flows: usize,
}

/// The ledger over packets that carry a token `P`.
#[derive(Debug)]
pub struct Ledger<P> {
    flows: HashMap<Flow, Entry<P>>,
    /// Connections in the order they came, to find the oldest. May hold some that are gone.
    ages: VecDeque<Flow>,
    verdicts: VecDeque<(P, Verdict)>,
    events: VecDeque<Event>,
    limits: Limits,
    counts: Counts,
    passage: Passage,
    strangers_may_reset: bool,
}

#[derive(Debug)]
struct Entry<P> {
    base: Base,
    stage: Stage,
    waiting: VecDeque<(P, Segment)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The standby has not said that it knows the connection.
    Opening,
    /// The standby knows it and has this much.
    Known(Confirmed),
    /// The standby knows that it is over.
    Finished,
}

/// `a > b` on the circle of sequence numbers (RFC 9293, section 3.4).
fn after(a: u32, b: u32) -> bool {
    (b.wrapping_sub(a) as i32) < 0
}

impl<P> Entry<P> {
    fn may_leave(&self, segment: &Segment) -> bool {
        match self.stage {
            Stage::Opening => false,
            Stage::Finished => true,
            Stage::Known(confirmed) => {
                let received = self.base.received.wrapping_add(confirmed.received as u32);
                let sent = self.base.sent.wrapping_add(confirmed.sent as u32);
                !segment.acknowledges.is_some_and(|number| after(number, received))
                    && !after(segment.end, sent)
            }
        }
    }
}

impl<P> Ledger<P> {
    /// An empty ledger: every packet is a stranger's.
    pub fn new(limits: Limits) -> Self {
        Self {
            flows: HashMap::new(),
            ages: VecDeque::new(),
            verdicts: VecDeque::new(),
            events: VecDeque::new(),
            limits,
            counts: Counts::default(),
            passage: Passage::default(),
            strangers_may_reset: false,
        }
    }

    /// A packet entered the queue. `None` for one that is no TCP segment: dropped.
    pub fn offer(&mut self, segment: Option<Segment>, token: P) {
        let Some(segment) = segment else {
            self.counts.dropped_stranger += 1;
            return self.give(token, Verdict::Drop);
        };
        if let Some(syn_ack) = segment.syn_ack {
            self.open(segment.flow, syn_ack);
        }
        if self.passage == Passage::Open {
            return self.give(token, Verdict::Leave);
        }
        let shut = self.passage == Passage::Shut;
        let Some(entry) = self.flows.get_mut(&segment.flow) else {
            let leaves = segment.reset && self.strangers_may_reset && !shut;
            let verdict = if leaves { Verdict::Leave } else { Verdict::Drop };
            self.counts.dropped_stranger += u64::from(verdict == Verdict::Drop);
            return self.give(token, verdict);
        };
        if segment.reset && entry.stage != Stage::Finished {
            self.counts.dropped_reset += 1;
            return self.give(token, Verdict::Drop);
        }
        if !shut && entry.waiting.is_empty() && entry.may_leave(&segment) {
            return self.give(token, Verdict::Leave);
        }
        if self.counts.waiting >= self.limits.packets {
            self.counts.dropped_full += 1;
            return self.give(token, Verdict::Drop);
        }
        entry.waiting.push_back((token, segment));
        self.counts.waiting += 1;
        self.counts.waiting_max = self.counts.waiting_max.max(self.counts.waiting);
    }

    /// The standby knows this connection and where its numbers begin. Again with the same numbers: no effect. With
    /// others: the former connection is forgotten.
    pub fn admit(&mut self, flow: Flow, base: Base) {
        if self.flows.get(&flow).is_none_or(|entry| entry.base != base) && !self.insert(flow, base) {
            return;
        }
        if let Some(entry) = self.flows.get_mut(&flow) {
            if entry.stage == Stage::Opening {
                entry.stage = Stage::Known(Confirmed::default());
            }
            self.flush(flow);
        }
    }

    /// The standby has this much. Less than before changes nothing. `false` when the connection is not admitted: another one
    /// may have the same ends by now, with numbers of its own.
    pub fn confirm(&mut self, flow: Flow, base: Base, confirmed: Confirmed) -> bool {
        let Some(entry) = self.flows.get_mut(&flow).filter(|entry| entry.base == base) else { return false };
        let Stage::Known(known) = &mut entry.stage else { return false };
        known.received = known.received.max(confirmed.received);
        known.sent = known.sent.max(confirmed.sent);
        self.flush(flow);
        true
    }

    /// The standby knows that this connection is over: whatever its kernel still says may leave, resets too. Not what is said
    /// on the next connection between the same ends.
    pub fn finish(&mut self, flow: Flow, base: Base) {
        if let Some(entry) = self.flows.get_mut(&flow).filter(|entry| entry.base == base) {
            entry.stage = Stage::Finished;
            self.flush(flow);
        }
    }

    /// Forgets a connection; what waits is dropped.
    pub fn forget(&mut self, flow: Flow) {
        if let Some(entry) = self.flows.remove(&flow) {
            self.counts.flows = self.flows.len();
            self.discard(entry);
        }
    }

    /// With `true` this host answers alone (it was granted the epoch): everything leaves, at once and from now on.
    /// With `false` a standby is there again: connections it was not told about open anew with [`admit`](Self::admit).
    pub fn set_solo(&mut self, solo: bool) {
        self.set_passage(if solo { Passage::Open } else { Passage::Confirmed });
    }

    /// Who may speak from now on; what has waited for it leaves at once.
    pub fn set_passage(&mut self, passage: Passage) {
        let before = std::mem::replace(&mut self.passage, passage);
        if passage == before || passage == Passage::Shut {
            return;
        }
        if passage == Passage::Confirmed {
            let flows: Vec<Flow> = self.flows.keys().copied().collect();
            return flows.into_iter().for_each(|flow| self.flush(flow));
        }
        let flows: Vec<Flow> = self.flows.keys().copied().collect();
        for flow in flows {
            let waiting = self.flows.get_mut(&flow).map(|entry| std::mem::take(&mut entry.waiting));
            for (token, _) in waiting.unwrap_or_default() {
                self.counts.waiting -= 1;
                self.give(token, Verdict::Leave);
            }
        }
    }

    /// Whether a reset of an unknown connection may leave. Say `true` once all connections are restored: a publisher
    /// whose connection is truly gone then learns it at once and comes back.
    pub fn strangers_may_reset(&mut self, may: bool) {
        self.strangers_may_reset = may;
    }

    /// The next verdict to carry out.
    pub fn poll_verdict(&mut self) -> Option<(P, Verdict)> {
        self.verdicts.pop_front()
    }

    /// The next news.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Figures so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// A SYN-ACK: news, unless it repeats the numbers we know.
    fn open(&mut self, flow: Flow, syn_ack: SynAck) {
        let known = self.flows.get(&flow).is_some_and(|entry| entry.base == syn_ack.base);
        if !known && self.events.len() < self.limits.flows && self.insert(flow, syn_ack.base) {
            self.events.push_back(Event::Opened { flow, syn_ack });
        }
    }

    /// A fresh entry in stage Opening. `false` when there is no room.
    fn insert(&mut self, flow: Flow, base: Base) -> bool {
        self.forget(flow);
        if self.flows.len() >= self.limits.flows && !self.make_room() {
            return false;
        }
        self.flows.insert(flow, Entry { base, stage: Stage::Opening, waiting: VecDeque::new() });
        self.counts.flows = self.flows.len();
        self.ages.retain(|old| *old != flow);
        self.ages.push_back(flow);
        true
    }

    fn make_room(&mut self) -> bool {
        let flows = &self.flows;
        self.ages.retain(|flow| flows.contains_key(flow));
        let idle = [Stage::Finished, Stage::Opening, Stage::Known(Confirmed::default())];
        let victim = idle.iter().find_map(|stage| {
            self.ages
                .iter()
                .copied()
                .find(|flow| self.flows.get(flow).is_some_and(|entry| entry.stage == *stage))
        });
        victim.is_some_and(|flow| {
            self.forget(flow);
            true
        })
    }

    fn flush(&mut self, flow: Flow) {
        if self.passage == Passage::Shut {
            return;
        }
        let Some(entry) = self.flows.get_mut(&flow) else { return };
        while let Some((_, segment)) = entry.waiting.front() {
            if !entry.may_leave(segment) {
                break;
            }
            let Some((token, _)) = entry.waiting.pop_front() else { break };
            self.counts.waiting -= 1;
            self.counts.left += 1;
            self.verdicts.push_back((token, Verdict::Leave));
        }
    }

    fn discard(&mut self, entry: Entry<P>) {
        for (token, _) in entry.waiting {
            self.counts.waiting -= 1;
            self.counts.dropped_stranger += 1;
            self.give(token, Verdict::Drop);
        }
    }

    fn give(&mut self, token: P, verdict: Verdict) {
        self.counts.left += u64::from(verdict == Verdict::Leave);
        self.verdicts.push_back((token, verdict));
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
