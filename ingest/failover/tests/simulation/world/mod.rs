//! The world: places, a network that loses, delays, reorders, doubles and cuts, and one queue of events.
//!
//! Same seed, same run.

mod fault;
mod link;
mod serve;
mod shell;
mod wire;

use crate::checks::Checks;
use crate::dice::Dice;
use crate::places::{Clock, Data, MS, Node, Place, Publisher, Time, WitnessPlace};
use failover::beat::Beat;
use failover::{Answer, Ask, Broken, ClusterId, Config, Gate, NodeId, Note, Record, WitnessId};
use releve_watermark::{Key, KeyRing};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

pub const CLUSTER: ClusterId = ClusterId(77);
const PATHS: usize = 2;

#[derive(Clone, Debug, PartialEq)]
pub enum Datagram {
    Beat(Beat),
    Ask(Ask),
    Answer(Answer),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq)]
pub enum LinkWord {
    Bytes { epoch: u64, data: Data },
    Confirm { epoch: u64, data: Data },
    Paired(u64),
    Frozen(Data),
    Thawable,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    Crash(usize),
    Boot(usize),
    Pause(usize, Time),
    Hang(usize, Time),
    ClockStep(usize, i64),
    Handover(usize),
    CrashWitness(usize),
    BootWitness(usize),
    /// One direction between two places, on one path, or on both.
    Cut(Place, Place, Option<usize>, bool),
    CutLink,
    Heal,
}

#[derive(Clone, Debug, PartialEq)]
enum Event {
    Deliver { from: Place, to: Place, datagram: Datagram, forged: bool, made: Time },
    Poll(usize, u64),
    Persisted(usize, u64, Note),
    Written(usize, u64, Record),
    LinkPump(usize, u64),
    LinkEnd(usize, u64),
    Wake(usize),
    Claim(usize),
    Tick,
    Attack,
    Fault(Fault),
}

struct Due(Time, u64, Event);

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Due) -> std::cmp::Ordering {
        (other.0, other.1).cmp(&(self.0, self.1))
    }
}

/// How bad the network is.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub loss: u64,
    pub copies: u64,
    pub delay_min: Time,
    pub delay_max: Time,
}

pub struct World {
    pub time: Time,
    pub dice: Dice,
    pub weather: Weather,
    pub nodes: Vec<Node>,
    pub witnesses: Vec<WitnessPlace>,
    pub publisher: Publisher,
    pub checks: Checks,
    broken: Broken,
    keys: KeyRing,
    /// Datagrams travel as bytes, and somebody records and forges them.
    attacked: bool,
    recorded: Vec<(Place, Place, Vec<u8>, Time)>,
    cuts: Vec<(Place, Place, usize)>,
    events: BinaryHeap<Due>,
    order: u64,
    sessions: u64,
    words: [VecDeque<(Time, LinkWord)>; 2],
}

impl World {
    pub fn new(seed: u64, witnesses: usize, weather: Weather, attacked: bool, broken: Broken) -> World {
        let mut dice = Dice::new(seed ^ 0xABCD);
        let ids: Vec<WitnessId> = (0..witnesses).map(|at| WitnessId(at as u16 + 1)).collect();
        let node = |me: u16, dice: &mut Dice| Node {
            config: Config {
                beat_every: Duration::from_millis(8),
                dead_max: Duration::from_millis(200),
                hung_after: Duration::from_millis(250),
                max_hold: Duration::from_millis(300),
                cold_wait: Duration::from_millis(100),
                round_max: Duration::from_millis(400),
                handover_within: Duration::from_millis(100),
                hold_down_min: Duration::from_millis(20),
                hold_down_max: Duration::from_millis(300),
                ..Config::of(NodeId(me), NodeId(3 - me), ids.clone())
            },
            clock: Clock {
                origin: dice.range(1 << 40, 1 << 50),
                ppm: dice.range(0, 20_000) as i64 - 10_000,
                steps: 0,
            },
            incarnation: 0,
            note: Note::default(),
            life: 0,
            election: None,
            booted: 0,
            wake_at: 0,
            paused_until: 0,
            woke: 0,
            hung_until: 0,
            turns: 0,
            gate: Gate::Held,
            publishes: false,
            address: false,
            data: None,
            confirmed: Data::default(),
            link: None,
            highest_member: 0,
            alone_at: 0,
            newest_counter: (0, 0),
            newest_beat_sent: 0,
        };
        let nodes = vec![node(1, &mut dice), node(2, &mut dice)];
        let place = || WitnessPlace {
            durable: Record::default(),
            core: None,
            life: 0,
            writing: false,
            queue: VecDeque::new(),
        };
        let mut world = World {
            time: MS,
            dice,
            weather,
            nodes,
            witnesses: (0..witnesses).map(|_| place()).collect(),
            publisher: Publisher { connection: 1, ..Publisher::default() },
            checks: Checks::new(witnesses / 2 + 1),
            broken,
            keys: KeyRing::of(Key::new(1, [42; 32])),
            attacked,
            recorded: Vec::new(),
            cuts: Vec::new(),
            events: BinaryHeap::new(),
            order: 0,
            sessions: 0,
            words: [VecDeque::new(), VecDeque::new()],
        };
        for at in 0..witnesses {
            world.fault(Fault::BootWitness(at));
        }
        for at in 0..2 {
            world.fault(Fault::Boot(at));
        }
        world.at(world.time, Event::Tick);
        if attacked {
            world.at(world.time, Event::Attack);
        }
        world
    }

    pub fn plan(&mut self, time: Time, fault: Fault) {
        self.at(time, Event::Fault(fault));
    }

    /// Runs up to a time, or to the first broken promise.
    pub fn run(&mut self, until: Time) {
        while self.checks.broken.is_none() {
            match self.events.peek() {
                Some(due) if due.0 <= until => {}
                _ => break,
            }
            let Due(time, _, event) = self.events.pop().expect("peeked");
            self.time = self.time.max(time);
            self.happen(event);
        }
        self.time = self.time.max(until);
    }

    fn at(&mut self, time: Time, event: Event) {
        self.order += 1;
        self.events.push(Due(time, self.order, event));
    }

    fn happen(&mut self, event: Event) {
        // What comes for a paused process waits until it wakes, in order.
        let node = match &event {
            Event::Deliver { to: Place::Node(at), .. } => Some(*at),
            Event::Poll(at, _)
            | Event::Claim(at)
            | Event::Persisted(at, ..)
            | Event::LinkPump(at, _)
            | Event::LinkEnd(at, _) => Some(*at),
            _ => None,
        };
        if let Some(at) = node
            && self.nodes[at].paused_until > self.time
        {
            // Polls come last: what waits in the sockets is drained first.
            let late = if matches!(event, Event::Poll(..)) { 1000 } else { 0 };
            let until = self.nodes[at].paused_until + late;
            return self.at(until, event);
        }
        match event {
            Event::Deliver { from, to, datagram, forged, made } => {
                self.deliver(from, to, datagram, forged, made)
            }
            Event::Poll(at, life) => {
                if self.nodes[at].life == life && self.nodes[at].wake_at <= self.time {
                    self.drive(at, true);
                }
            }
            Event::Persisted(at, life, note) => {
                if self.nodes[at].life == life {
                    self.nodes[at].note = note;
                    self.tell(at, |election, now| election.handle_persisted(now, note));
                }
            }
            Event::Written(at, life, record) => {
                let witness = &mut self.witnesses[at];
                if witness.life == life {
                    witness.writing = false;
                    witness.durable = record;
                    self.checks.stored(at, record);
                    self.pump_witness(at);
                }
            }
            Event::LinkPump(to, session) => self.pump_link(to, session),
            Event::LinkEnd(at, session) => {
                if !self.open_path(Place::Node(1 - at), Place::Node(at), 0) {
                    // The kernel sends the end again and again.
                    return self.at(self.time + 9 * MS, Event::LinkEnd(at, session));
                }
                if self.nodes[at].link == Some(session) {
                    self.drop_link(at);
                    self.tell(at, |election, now| election.handle_link_down(now));
                }
            }
            Event::Wake(at) => self.wake(at),
            Event::Claim(at) => self.tell(at, |election, now| election.handle_foreign_claim(now)),
            Event::Tick => self.tick(),
            Event::Attack => self.attack(),
            Event::Fault(fault) => self.fault(fault),
        }
    }

    pub fn now(&self, at: usize) -> Duration {
        self.nodes[at].clock.read(self.time)
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        let time = self.time;
        self.checks.trace(time, line);
    }
}
