//! Datagrams: lost, late, doubled, cut, recorded and forged on their way; and what takes them.

use super::{CLUSTER, Datagram, Event, World};
use crate::places::{MS, Place, Time, WitnessPlace};
use failover::beat::Beat;
use failover::detector::Verdict;
use failover::{Answer, Ask};
use releve_watermark::{Key, KeyRing};

impl World {
    pub(super) fn open_path(&self, from: Place, to: Place, path: usize) -> bool {
        !self.cuts.contains(&(from, to, path))
    }

    pub(super) fn send(&mut self, from: Place, to: Place, path: usize, datagram: Datagram) {
        let datagram = if self.attacked {
            let bytes = match &datagram {
                Datagram::Beat(beat) => beat.seal(&self.keys, CLUSTER),
                Datagram::Ask(ask) => ask.seal(&self.keys, CLUSTER),
                Datagram::Answer(answer) => answer.seal(&self.keys, CLUSTER),
                Datagram::Bytes(bytes) => bytes.clone(),
            };
            if self.recorded.len() < 512 {
                self.recorded.push((from, to, bytes.clone(), self.time));
            } else {
                let at = self.dice.range(0, 511) as usize;
                self.recorded[at] = (from, to, bytes.clone(), self.time);
            }
            Datagram::Bytes(bytes)
        } else {
            datagram
        };
        if !self.open_path(from, to, path) || self.dice.chance(self.weather.loss) {
            return;
        }
        let copies = if self.dice.chance(self.weather.copies) { 2 } else { 1 };
        for _ in 0..copies {
            let delay = self.dice.range(self.weather.delay_min, self.weather.delay_max);
            let (datagram, made) = (datagram.clone(), self.time);
            self.at(self.time + delay, Event::Deliver { from, to, datagram, forged: false, made });
        }
    }

    pub(super) fn deliver(&mut self, from: Place, to: Place, datagram: Datagram, forged: bool, made: Time) {
        let datagram = match (datagram, to) {
            (Datagram::Bytes(bytes), Place::Witness(_)) => match Ask::open(&self.keys, CLUSTER, &bytes) {
                Ok(ask) => Datagram::Ask(ask),
                Err(_) => return,
            },
            (Datagram::Bytes(bytes), Place::Node(_)) => {
                if let Ok(beat) = Beat::open(&self.keys, CLUSTER, &bytes) {
                    Datagram::Beat(beat)
                } else if let Ok(answer) = Answer::open(&self.keys, CLUSTER, &bytes) {
                    Datagram::Answer(answer)
                } else {
                    return;
                }
            }
            (plain, _) => plain,
        };
        if forged {
            return self.checks.fail(format!("forged {datagram:?} from {from:?} was taken by {to:?}"));
        }
        match (to, datagram) {
            (Place::Node(at), Datagram::Beat(beat)) => self.deliver_beat(at, &beat, made),
            (Place::Node(at), Datagram::Answer(answer)) => {
                self.tell(at, |election, now| election.handle_answer(now, &answer));
            }
            (Place::Witness(at), Datagram::Ask(ask)) => {
                let WitnessPlace { core: Some(core), queue, .. } = &mut self.witnesses[at] else { return };
                core.handle_ask(&ask);
                while let Some(action) = core.poll_action() {
                    queue.push_back(action);
                }
                self.pump_witness(at);
            }
            _ => {}
        }
    }

    pub(super) fn deliver_beat(&mut self, at: usize, beat: &Beat, made: Time) {
        let now = self.now(at);
        let node = &mut self.nodes[at];
        let Some(election) = &mut node.election else { return };
        if election.handle_beat(now, beat).is_ok() {
            let counter = (beat.incarnation, beat.counter);
            if counter < node.newest_counter {
                self.checks.fail(format!("node {at} took a beat of the past: {counter:?}"));
            }
            node.newest_counter = counter;
            node.newest_beat_sent = node.newest_beat_sent.max(made);
            let alive = election.peer_verdict() == Verdict::Alive;
            if alive && node.newest_beat_sent < node.booted {
                self.checks.fail(format!("node {at} takes its peer for alive on recorded beats"));
            }
        }
        self.drive(at, true);
    }

    pub(super) fn pump_witness(&mut self, at: usize) {
        while !self.witnesses[at].writing
            && let Some(action) = self.witnesses[at].queue.pop_front()
        {
            match action {
                failover::witness::Action::Persist(record) => {
                    self.witnesses[at].writing = true;
                    let (life, delay) = (self.witnesses[at].life, self.dice.range(0, 3 * MS));
                    self.at(self.time + delay, Event::Written(at, life, record));
                }
                failover::witness::Action::Answer(answer) => {
                    let to = Place::Node(usize::from(answer.node.0) - 1);
                    self.send(Place::Witness(at), to, 0, Datagram::Answer(answer));
                }
            }
        }
    }

    /// Somebody on the wire: old datagrams again, to anybody; damaged ones; ones under another key.
    pub(super) fn attack(&mut self) {
        for _ in 0..self.dice.range(1, 4) {
            if self.recorded.is_empty() {
                break;
            }
            let at = self.dice.range(0, self.recorded.len() as u64 - 1) as usize;
            let (from, to, mut bytes, made) = self.recorded[at].clone();
            let way = self.dice.range(0, 9);
            if way == 0 {
                let bit = self.dice.range(0, bytes.len() as u64 * 8 - 1) as usize;
                bytes[bit / 8] ^= 1 << (bit % 8);
            } else if way == 1 {
                let keys = KeyRing::of(Key::new(1, [43; 32]));
                bytes = match Beat::open(&self.keys, CLUSTER, &bytes) {
                    Ok(beat) => Beat { epoch: 1 << 40, ..beat }.seal(&keys, CLUSTER),
                    Err(_) => vec![7; 100],
                };
            }
            let to = if way == 2 { Place::Witness(0) } else { to };
            let datagram = Datagram::Bytes(bytes);
            self.at(self.time, Event::Deliver { from, to, datagram, forged: way < 2, made });
        }
        let next = self.time + self.dice.range(MS, 20 * MS);
        self.at(next, Event::Attack);
    }
}
