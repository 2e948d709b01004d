//! The promises, one check each. They look at the world from above, with true time, and know nothing of the code's reasons.
//!
//! - **alone**: at no time are two nodes granted alone; each such epoch has one owner, more than all before, and a
//!   majority of witnesses has it on disk
//! - **back**: a node's epoch never falls within a life
//! - **zombie**: a node that was paused never acts again under an epoch that was overtaken before it woke; and nobody does
//!   for longer than it takes to notice
//! - **lost**: nothing acknowledged is missing at the next holder, unless its only holder died
//! - **numbers**: no two nodes publish in one epoch, and what relays are offered never goes back: they refuse an epoch below
//!   the highest they have seen
//! - **gate**: no node believes more than its election says

use crate::places::{MS, Node, Publisher, Time};
use failover::election::State;
use failover::{Epoch, Gate, Record};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Longest that an overtaken node that was never paused may go on with what the winner has: its longest dead time, clocks
/// and the network included.
const NOTICE: Time = 320 * MS;
const TRACE: usize = 400;

pub struct Checks {
    /// The first promise that was broken.
    pub broken: Option<String>,
    pub lines: VecDeque<String>,
    pub wins: Vec<(Time, Epoch, usize)>,
    pub resets: u64,
    pub takeovers: u64,
    /// Of these, with the publisher's connection alive.
    pub kept: u64,
    majority: usize,
    stored: BTreeMap<(Epoch, u16, u64), BTreeSet<usize>>,
    /// Who published in which epoch.
    publishers: BTreeMap<Epoch, usize>,
    /// The newest that relays were offered: connection, segment of it.
    newest: (u64, u64),
    /// Segments that were offered.
    pub published: u64,
}

impl Checks {
    pub fn new(majority: usize) -> Checks {
        Checks {
            broken: None,
            lines: VecDeque::new(),
            wins: Vec::new(),
            resets: 0,
            takeovers: 0,
            kept: 0,
            majority,
            stored: BTreeMap::new(),
            publishers: BTreeMap::new(),
            newest: (0, 0),
            published: 0,
        }
    }

    pub fn fail(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    pub fn trace(&mut self, time: Time, line: impl FnOnce() -> String) {
        if self.lines.len() == TRACE {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>9.3} ms  {}", time as f64 / 1e6, line()));
    }

    pub fn stored(&mut self, witness: usize, record: Record) {
        let lock = record.lock;
        self.stored.entry((lock.epoch, lock.node, lock.incarnation)).or_default().insert(witness);
    }

    /// After every step of a node.
    pub fn look(&mut self, time: Time, nodes: &mut [Node], publisher: &Publisher) {
        let alone =
            |node: &Node| matches!(node.election.as_ref().map(|e| e.state()), Some(State::Solo { .. }));
        let open = |node: &Node| alone(node) || matches!(node.gate, Gate::Alone(_));
        if nodes.iter().filter(|node| open(node)).count() > 1 {
            self.fail("alone: both nodes were granted alone".to_owned());
        }
        for (at, node) in nodes.iter_mut().enumerate() {
            let Some(election) = &node.election else { continue };
            let epoch = election.epoch();
            if epoch != 0 && epoch < node.highest_member {
                self.fail(format!("back: node {at} went from epoch {} to {epoch}", node.highest_member));
            }
            node.highest_member = node.highest_member.max(epoch);
            if alone(node) && node.alone_at != epoch {
                node.alone_at = epoch;
                let key = (epoch, at as u16 + 1, node.incarnation);
                let disks = self.stored.get(&key).map_or(0, BTreeSet::len);
                if disks < self.majority {
                    self.fail(format!("alone: node {at} took epoch {epoch} with {disks} grants on disk"));
                }
                if let Some((_, last, owner)) = self.wins.last()
                    && *last >= epoch
                {
                    self.fail(format!("alone: node {at} took epoch {epoch}, node {owner} had {last}"));
                }
                self.wins.push((time, epoch, at));
                self.takeovers += 1;
                let has = node.data.is_some_and(|data| data.connection == publisher.connection);
                self.kept += u64::from(has && publisher.acknowledged > 0);
            }
            // Paused or not: what the shell lets out is what the state stands for.
            let more = match (node.gate, election.state()) {
                (Gate::Held, _) => node.publishes,
                (Gate::Confirmed(of), State::Paired { .. }) | (Gate::Alone(of), _) => of != epoch,
                (Gate::Confirmed(_), _) => true,
            };
            if more {
                self.fail(format!("gate: node {at} is {:?} and lets out {:?}", election.state(), node.gate));
            }
        }
    }

    /// Something left a node under this gate.
    pub fn emitted(&mut self, time: Time, at: usize, gate: Gate, woke: Time) {
        let (Gate::Alone(epoch) | Gate::Confirmed(epoch)) = gate else { return };
        let newer = self.wins.iter().find(|(_, other, owner)| *other > epoch && *owner != at).copied();
        let Some((won, other, _)) = newer else { return };
        if woke >= won && time >= woke {
            self.fail(format!("zombie: node {at} woke after epoch {other} and acted under {epoch}"));
        }
        if time > won + NOTICE {
            self.fail(format!("zombie: node {at} acted under {epoch} long after {other} was granted"));
        }
    }

    /// A node acknowledged more.
    pub fn acted(&mut self, at: usize, gate: Gate, nodes: &[Node], publisher: &Publisher) {
        let other = &nodes[1 - at];
        let alone = matches!(other.election.as_ref().map(|e| e.state()), Some(State::Solo { .. }));
        let has = other.data.is_some_and(|data| {
            data.connection == publisher.connection && data.bytes >= publisher.acknowledged
        });
        if alone && !has {
            self.fail(format!("lost: node {at} acknowledged what node {} alone does not have", 1 - at));
        }
        // Whoever may succeed has it.
        if matches!(gate, Gate::Confirmed(_)) && other.election.is_some() && !has {
            let member = matches!(other.election.as_ref().map(|e| e.state()), Some(State::Standby));
            if member {
                self.fail(format!("lost: node {at} acknowledged what its standby does not have"));
            }
        }
        let own = nodes[at].data.is_some_and(|data| data.bytes >= publisher.acknowledged);
        if !own {
            self.fail(format!("lost: node {at} serves without bytes that were acknowledged"));
        }
    }

    /// A node that has a connection up to segment `has` publishes it up to segment `upto`. Without what was published
    /// before, it would give those numbers to other segments.
    pub fn publishes(
        &mut self,
        at: usize,
        gate: Gate,
        connection: u64,
        (has, upto): (u64, u64),
        publisher: &Publisher,
    ) {
        let (Gate::Alone(epoch) | Gate::Confirmed(epoch)) = gate else { return };
        let highest = self.publishers.last_key_value().map_or(0, |(epoch, _)| *epoch);
        if epoch < highest {
            return; // refused by every relay
        }
        let first = *self.publishers.entry(epoch).or_insert(at);
        if first != at {
            self.fail(format!("numbers: nodes {first} and {at} publish in epoch {epoch}"));
        }
        if (connection, has) < self.newest && !publisher.excused {
            let newest = self.newest;
            self.fail(format!("numbers: node {at} has {connection}, {has} and publishes after {newest:?}"));
        }
        if (connection, upto) > self.newest {
            self.newest = (connection, upto);
            self.published += 1;
        }
    }

    /// A holder does not know the connection. Excused only if whatever was acknowledged died with its only holder.
    pub fn reset(&mut self, at: usize, publisher: &Publisher) {
        self.resets += 1;
        if publisher.acknowledged > 0 && !publisher.excused {
            self.fail(format!(
                "lost: node {at} resets a connection of which {} bytes were acknowledged",
                publisher.acknowledged
            ));
        }
    }

    /// Before a node's memory goes.
    pub fn crashed(&mut self, at: usize, nodes: &[Node], publisher: &mut Publisher) {
        let node = &nodes[at];
        let alone = matches!(node.election.as_ref().map(|e| e.state()), Some(State::Solo { .. }));
        let has = |node: &Node| {
            node.election.as_ref().is_some_and(|election| election.epoch() != 0)
                && node.data.is_some_and(|data| {
                    data.connection == publisher.connection && data.bytes >= publisher.acknowledged
                })
        };
        // A copy counts with a member: whoever merely catches up cannot know that nothing is missing.
        let other = has(&nodes[1 - at]);
        if alone || !other {
            publisher.excused = true;
        }
    }
}

#[test]
fn two_publishers_in_an_epoch_and_numbers_that_go_back_are_noticed() {
    let (publisher, gate) = (Publisher::default(), Gate::Alone(3));
    let mut checks = Checks::new(2);
    checks.publishes(0, gate, 1, (5, 5), &publisher);
    checks.publishes(0, gate, 1, (8, 6), &publisher);
    checks.publishes(1, Gate::Alone(2), 1, (1, 1), &publisher);
    assert_eq!((checks.broken.clone(), checks.published), (None, 2));
    checks.publishes(1, gate, 1, (7, 7), &publisher);
    assert!(checks.broken.take().is_some_and(|words| words.contains("epoch 3")));
    checks.publishes(1, Gate::Confirmed(4), 1, (6, 6), &publisher);
    assert!(checks.broken.take().is_some_and(|words| words.contains("after (1, 7)")));
}
