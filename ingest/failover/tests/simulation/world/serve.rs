//! The publisher and the data plane: who gets its bytes, and who may acknowledge them.

use super::{Event, LinkWord, World};
use crate::places::{Data, MS, Publisher};
use failover::election::State;
use failover::{Election, Gate};

/// Bytes of a segment: some are finished between two heartbeats, some last over several.
const SEGMENT: u64 = 5_000;

impl World {
    pub(super) fn tick(&mut self) {
        self.connect();
        self.publisher.sent += self.dice.range(1, 3000);
        if let Some(at) = self.publisher.owner
            && self.nodes[at].up(self.time)
            && self.nodes[at].hung_until <= self.time
        {
            self.serve(at);
        }
        for at in 0..2 {
            self.publish(at);
            let node = &self.nodes[at];
            let Some(election) = &node.election else { continue };
            let leads = matches!(election.state(), State::Solo { .. } | State::Paired { .. });
            if node.up(self.time) && leads && node.hung_until <= self.time {
                let word = LinkWord::Bytes { epoch: election.epoch(), data: node.data.unwrap_or_default() };
                self.say(at, word);
            }
        }
        self.at(self.time + 5 * MS, Event::Tick);
    }

    /// Whoever may publishes the segments that are whole, in commit mode: those that the standby has too.
    fn publish(&mut self, at: usize) {
        let now = self.now(at);
        let node = &self.nodes[at];
        let (Some(election), Some(data)) = (&node.election, node.data) else { return };
        let works = node.up(self.time) && node.hung_until <= self.time && node.publishes;
        if !works || data.connection != self.publisher.connection {
            return;
        }
        let gate = if election.gate(now) == Gate::Held { Gate::Held } else { node.gate };
        let upto = match gate {
            Gate::Held => return,
            Gate::Alone(_) => data.bytes,
            Gate::Confirmed(_) if node.confirmed.connection == data.connection => {
                data.bytes.min(node.confirmed.bytes)
            }
            Gate::Confirmed(_) => return,
        };
        let segments = (data.bytes / SEGMENT, upto / SEGMENT);
        self.checks.publishes(at, gate, data.connection, segments, &self.publisher);
    }

    /// The first thing that runs after a pause may be the data plane, before any socket is read.
    pub(super) fn wake(&mut self, at: usize) {
        let now = self.now(at);
        let node = &self.nodes[at];
        let Some(election) = &node.election else { return };
        if node.up(self.time) && node.gate != Gate::Held && election.gate(now) != Gate::Held {
            self.checks.emitted(self.time, at, node.gate, node.woke);
        }
    }

    /// What the kernel has, the gate decides about.
    pub(super) fn serve(&mut self, at: usize) {
        let now = self.now(at);
        let publisher = &mut self.publisher;
        let newest = self.nodes[1 - at].election.as_ref().map_or(0, Election::epoch);
        let node = &mut self.nodes[at];
        let Some(election) = &node.election else { return };
        // Overtaken, unaware, gate on confirmations: resets wait in the queue too, nobody confirms them.
        let overtaken = matches!(node.gate, Gate::Confirmed(mine) if mine < newest);
        let gate = if election.gate(now) == Gate::Held { Gate::Held } else { node.gate };
        match &mut node.data {
            // TCP goes on only where nothing acknowledged is missing.
            Some(data) if data.connection == publisher.connection && data.bytes >= publisher.acknowledged => {
                data.bytes = publisher.sent;
            }
            _ if gate == Gate::Held || overtaken => return,
            data => {
                // Nobody here knows this connection: reset. The publisher comes back with a new one.
                self.checks.reset(at, publisher);
                let connection = publisher.connection + 1;
                *publisher = Publisher { connection, owner: Some(at), ..Publisher::default() };
                *data = Some(Data { connection: publisher.connection, bytes: 0 });
            }
        }
        let data = node.data.expect("just looked at or made");
        let upto = match gate {
            Gate::Held => return,
            Gate::Alone(_) => data.bytes,
            Gate::Confirmed(_) if node.confirmed.connection == data.connection => {
                data.bytes.min(node.confirmed.bytes)
            }
            Gate::Confirmed(_) => 0,
        };
        if upto > publisher.acknowledged {
            publisher.acknowledged = upto;
            self.checks.emitted(self.time, at, gate, node.woke);
            self.checks.acted(at, gate, &self.nodes, &self.publisher);
        }
    }
}
