//! What an election is told at its start: names, times with their reasons, and what was durable.

use crate::{Epoch, NodeId, WitnessId};
use std::time::Duration;

/// Settings of one node. [`Config::of`] gives the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub me: NodeId,
    /// The other one.
    pub peer: NodeId,
    /// All witnesses of the cluster, reachable or not: a majority of these grants.
    pub witnesses: Vec<WitnessId>,
    /// Between beats. 5 ms: seven chances within the shortest dead time.
    pub beat_every: Duration,
    /// Silence of a peer is death no sooner than this, whatever the jitter. 35 ms is what a real-time thread keeps.
    pub dead_min: Duration,
    /// ... and no later than this. 500 ms: above what loaded machines without real-time threads were seen to stall.
    pub dead_max: Duration,
    /// A data plane that stands still this long is hung. 1 s: no scheduler delay comes near.
    pub hung_after: Duration,
    /// A survivor without a grant holds its clients this long, then drops the address. 3 s: they wait 15.
    pub max_hold: Duration,
    /// A node that finds no holder after its start waits this long before it asks for the first epoch.
    pub cold_wait: Duration,
    /// Between repeats of an ask. 20 ms: lost datagrams cost little, witnesses see 50 a second at most.
    pub ask_every: Duration,
    /// A standby whose vote is split gives it back after this long, so that the holder gets it.
    pub yield_after: Duration,
    /// Longest wait between rounds of asking; they start at twice `yield_after` and double.
    pub round_max: Duration,
    /// A planned handover that is not through by then goes back.
    pub handover_within: Duration,
    /// After a lost peer the holder waits this long before it pairs again; doubled by each further loss.
    pub hold_down_min: Duration,
    /// ... up to this.
    pub hold_down_max: Duration,
    /// Hand over to the peer by itself once the pair has been steady, when the peer has the lower id. Off: moving for
    /// its own sake helps nobody and can flap.
    pub preempt: bool,
}

impl Config {
    /// The defaults.
    pub fn of(me: NodeId, peer: NodeId, witnesses: Vec<WitnessId>) -> Config {
        Config {
            me,
            peer,
            witnesses,
            beat_every: Duration::from_millis(5),
            dead_min: Duration::from_millis(35),
            dead_max: Duration::from_millis(500),
            hung_after: Duration::from_secs(1),
            max_hold: Duration::from_secs(3),
            cold_wait: Duration::from_millis(500),
            ask_every: Duration::from_millis(20),
            yield_after: Duration::from_millis(60),
            round_max: Duration::from_secs(2),
            handover_within: Duration::from_millis(500),
            hold_down_min: Duration::from_secs(1),
            hold_down_max: Duration::from_secs(60),
            preempt: false,
        }
    }

    /// Grants that win.
    pub fn majority(&self) -> usize {
        self.witnesses.len() / 2 + 1
    }
}

/// The little that a node keeps through restarts, beside its incarnation number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Note {
    /// The granted epoch in which this node went alone, and in which it has let nobody else become a member; else 0.
    pub alone: Epoch,
    /// It holds no epoch up to this one and never will.
    pub renounced: Epoch,
}
