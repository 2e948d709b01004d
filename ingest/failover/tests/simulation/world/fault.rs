//! Faults as they happen, and their end.

use super::{Event, Fault, PATHS, Weather, World};
use crate::places::MS;
use failover::{Election, Gate, Witness, WitnessId};

impl World {
    pub fn fault(&mut self, fault: Fault) {
        self.note(|| format!("** {fault:?}"));
        match fault {
            Fault::Boot(at) if self.nodes[at].election.is_none() => {
                let now = self.now(at);
                let node = &mut self.nodes[at];
                node.incarnation += 1;
                node.life += 1;
                (node.booted, node.newest_beat_sent, node.newest_counter) = (self.time, 0, (0, 0));
                let (config, note) = (node.config.clone(), node.note);
                node.election = Some(Election::new(config, node.incarnation, note, now, self.broken));
                self.drive(at, true);
            }
            Fault::Crash(at) => {
                let Some(session) = self.nodes[at].link else { return self.crash(at) };
                self.crash(at);
                // The kernel, or the guardian, ends the link: no timer needed.
                if self.dice.chance(700) {
                    self.end_at_peer(at, session);
                }
            }
            Fault::Pause(at, length) => {
                let node = &mut self.nodes[at];
                if node.election.is_some() {
                    node.paused_until = self.time + length;
                    if length > 36 * MS {
                        node.woke = node.paused_until;
                    }
                    let wake = node.paused_until;
                    self.at(wake, Event::Wake(at));
                }
            }
            Fault::Hang(at, length) => self.nodes[at].hung_until = self.time + length,
            Fault::ClockStep(at, step) => self.nodes[at].clock.steps += step,
            Fault::Handover(at) => {
                if self.nodes[at].up(self.time) {
                    self.tell(at, |election, now| {
                        let _ = election.handle_handover(now);
                    });
                }
            }
            Fault::CrashWitness(at) => {
                let witness = &mut self.witnesses[at];
                witness.life += 1;
                (witness.core, witness.writing) = (None, false);
                witness.queue.clear();
            }
            Fault::BootWitness(at) => {
                let (durable, broken) = (self.witnesses[at].durable, self.broken);
                let witness = &mut self.witnesses[at];
                if witness.core.is_none() {
                    witness.life += 1;
                    witness.core = Some(Witness::new(WitnessId(at as u16 + 1), durable, broken));
                }
            }
            Fault::Cut(a, b, path, both) => {
                for path in path.map_or(0..PATHS, |path| path..path + 1) {
                    self.cuts.push((a, b, path));
                    if both {
                        self.cuts.push((b, a, path));
                    }
                }
            }
            Fault::CutLink => {
                for at in 0..2 {
                    if let Some(session) = self.nodes[at].link {
                        let delay = self.dice.range(0, 10 * MS);
                        self.at(self.time + delay, Event::LinkEnd(at, session));
                    }
                }
            }
            Fault::Heal => self.cuts.clear(),
            Fault::Boot(_) => {}
        }
    }

    pub(super) fn crash(&mut self, at: usize) {
        self.checks.crashed(at, &self.nodes, &mut self.publisher);
        let node = &mut self.nodes[at];
        node.election = None;
        node.life += 1;
        (node.gate, node.publishes, node.address, node.data) = (Gate::Held, false, false, None);
        (node.paused_until, node.hung_until, node.woke) = (0, 0, 0);
        (node.highest_member, node.alone_at) = (0, 0);
        self.drop_link(at);
        if self.publisher.owner == Some(at) {
            self.publisher.owner = None;
        }
    }

    /// All is well again: everybody up, nothing cut, good weather.
    pub fn recover(&mut self) {
        self.note(|| "== recovery".to_owned());
        self.weather = Weather { loss: 0, copies: 0, delay_min: MS / 20, delay_max: MS };
        self.cuts.clear();
        for at in 0..self.witnesses.len() {
            self.fault(Fault::BootWitness(at));
        }
        for at in 0..2 {
            self.nodes[at].hung_until = 0;
            self.fault(Fault::Boot(at));
        }
    }
}
