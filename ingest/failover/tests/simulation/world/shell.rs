//! A node's shell: what the crate's first page asks of a real one, no more.

use super::{Datagram, Event, LinkWord, PATHS, World};
use crate::places::{MS, Place};
use failover::beat::{Beat, Progress};
use failover::{Action, Election, Gate};
use std::time::Duration;

impl World {
    pub(super) fn tell(&mut self, at: usize, input: impl FnOnce(&mut Election, Duration)) {
        let now = self.now(at);
        if let Some(election) = &mut self.nodes[at].election {
            input(election, now);
            self.drive(at, true);
        }
    }

    /// Sockets are drained: poll, carry out, send, sleep.
    pub(super) fn drive(&mut self, at: usize, poll: bool) {
        let now = self.now(at);
        let time = self.time;
        let node = &mut self.nodes[at];
        let Some(election) = &mut node.election else { return };
        if node.hung_until <= time {
            node.turns += 1;
        }
        if poll {
            let bytes = node.data.unwrap_or_default().bytes;
            let own = Progress { turns: node.turns, mirrored: bytes, confirmed: node.confirmed.bytes };
            election.handle_poll(now, own);
        }
        let mut actions = Vec::new();
        while let Some(action) = election.poll_action() {
            actions.push(action);
        }
        let beat = election.poll_beat(now);
        let mut asks = Vec::new();
        while let Some(ask) = election.poll_ask() {
            asks.push(ask);
        }
        let wait = election.poll_timeout().saturating_sub(now);
        for action in actions {
            self.carry_out(at, action);
        }
        if let Some(beat) = beat {
            for path in 0..PATHS {
                let beat = Beat { path: path as u8, ..beat };
                self.send(Place::Node(at), Place::Node(1 - at), path, Datagram::Beat(beat));
            }
        }
        for ask in asks {
            for to in 0..self.witnesses.len() {
                self.send(Place::Node(at), Place::Witness(to), 0, Datagram::Ask(ask));
            }
        }
        let late = if self.dice.chance(5) { self.dice.range(0, 30 * MS) } else { self.dice.range(0, MS / 4) };
        let wake = self.time + u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / 4) + late;
        self.nodes[at].wake_at = wake;
        let life = self.nodes[at].life;
        self.at(wake, Event::Poll(at, life));
        self.checks.look(self.time, &mut self.nodes, &self.publisher);
    }

    pub(super) fn carry_out(&mut self, at: usize, action: Action) {
        if crate::places::tells(&action) {
            self.note(|| format!("node {at}: {action:?}"));
        }
        match action {
            Action::HoldAcks => self.nodes[at].gate = Gate::Held,
            Action::ReleaseAcks(gate) => self.nodes[at].gate = gate,
            Action::PublishAllowed(yes) => self.nodes[at].publishes = yes,
            Action::CloseLink => self.close_link(at),
            Action::RestoreConnections | Action::Thaw | Action::StepDown(_) | Action::Alarm(_) => {}
            Action::TakeAddress => self.nodes[at].address = true,
            Action::DropAddress => {
                self.nodes[at].address = false;
                if self.publisher.owner == Some(at) {
                    self.publisher.owner = None;
                }
            }
            Action::Announce => {
                if !self.nodes[at].address {
                    self.checks.fail(format!("node {at} announces an address that it has not"));
                }
                self.publisher.owner = Some(at);
                if !self.dice.chance(self.weather.loss) {
                    let delay = self.dice.range(self.weather.delay_min, self.weather.delay_max);
                    self.at(self.time + delay, Event::Claim(1 - at));
                }
            }
            Action::Forget => self.nodes[at].data = None,
            Action::TellPaired(epoch) => self.say(at, LinkWord::Paired(epoch)),
            Action::Freeze(_) => {
                let data = self.nodes[at].data.unwrap_or_default();
                self.say(at, LinkWord::Frozen(data));
            }
            Action::Persist(note) => {
                let (life, delay) = (self.nodes[at].life, self.dice.range(0, 3 * MS));
                self.at(self.time + delay, Event::Persisted(at, life, note));
            }
        }
    }
}
