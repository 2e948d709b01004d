//! One run: a holder, at most one standby, publishers that check every byte.
//!
//! A publisher's bytes are a function of its number and the offset, so everyone can check them. It forgets what was
//! acknowledged; an acknowledgement leaves the holder only as far as [`Holder::confirmed`] says, or freely while alone.

use crate::holder::Event;
use crate::link::{Identity, Role};
use crate::{ConnectionId, Error, Holder, Link, Publishes, Standby, Step};
use bytes::Bytes;
use ingest_api::RunId;
use releve_watermark::{Key, KeyRing};
use std::collections::BTreeMap;

/// What runs met.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub takeovers: u64,
    pub takeovers_again: u64,
    pub late_joins: u64,
    pub pairings: u64,
    pub standby_deaths: u64,
    pub unpaired_deaths: u64,
    pub survivors: u64,
    pub unacknowledged_output: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.takeovers += other.takeovers;
        self.takeovers_again += other.takeovers_again;
        self.late_joins += other.late_joins;
        self.pairings += other.pairings;
        self.standby_deaths += other.standby_deaths;
        self.unpaired_deaths += other.unpaired_deaths;
        self.survivors += other.survivors;
        self.unacknowledged_output += other.unacknowledged_output;
    }
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Up to `high`, included.
    fn upto(&mut self, high: u64) -> u64 {
        self.roll() % (high + 1)
    }
}

/// The other end of a connection.
#[derive(Debug, Default)]
struct Publisher {
    /// Has seen the SYN-ACK.
    connected: bool,
    /// Input the holder's program has read.
    read: u64,
    /// Input the holder has parsed.
    parsed: u64,
    /// Input acknowledged to the publisher: forgotten there.
    acked: u64,
    /// Output that has arrived.
    seen: u64,
    /// Output the publisher has acknowledged.
    seen_acked: u64,
    /// Output the holder has written.
    written: u64,
    closing: bool,
    /// What the packet hold was told last.
    told: Option<(u64, u64)>,
}

fn content(way: u64, connection: ConnectionId, from: u64, len: u64) -> Bytes {
    let byte = |at: u64| (at.wrapping_mul(0x9E37_79B9).wrapping_add(connection.0 * 77 + way * 13) >> 5) as u8;
    (from..from + len).map(byte).collect()
}

fn state(parsed: u64, filler: u64) -> Bytes {
    [&parsed.to_be_bytes()[..], &vec![9; filler as usize]].concat().into()
}

/// A standby and its lockstep parse.
struct Follower {
    standby: Standby,
    parsed: BTreeMap<ConnectionId, u64>,
    /// On the wire.
    to_standby: Vec<u8>,
    to_holder: Vec<u8>,
}

impl Follower {
    fn steps(&mut self, most: u64) {
        for _ in 0..most {
            let Some(step) = self.standby.poll_step() else { break };
            match step {
                Step::Opened(connection) => assert_eq!(self.parsed.insert(connection, 0), None),
                Step::Snapshot { connection, input, state } => {
                    assert_eq!(state[..8], input.to_be_bytes());
                    self.parsed.insert(connection, input);
                }
                Step::Input { connection, offset, bytes } => {
                    let parsed = self.parsed.get_mut(&connection).expect("a state comes before input");
                    assert_eq!(*parsed, offset);
                    assert_eq!(bytes, content(0, connection, offset, bytes.len() as u64));
                    *parsed += bytes.len() as u64;
                }
                Step::Closed(connection) => drop(self.parsed.remove(&connection)),
                Step::Published { .. }
                | Step::Note { .. }
                | Step::Paired
                | Step::Segment(_)
                | Step::Part(_) => {}
            }
        }
    }
}

pub(super) struct World {
    dice: Dice,
    epoch: u64,
    holder: Holder,
    follower: Option<Follower>,
    /// The gate: only what is confirmed may leave.
    guarded: bool,
    /// Something left since then.
    released: bool,
    publishers: BTreeMap<ConnectionId, Publisher>,
    next: u64,
    pub(super) tally: Tally,
}

impl World {
    pub(super) fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        dice.roll();
        World {
            dice,
            epoch: 1,
            holder: Holder::default(),
            follower: None,
            guarded: false,
            released: false,
            publishers: BTreeMap::new(),
            next: 0,
            tally: Tally::default(),
        }
    }

    /// One event. `false`: the run is over, for nobody may go on.
    pub(super) fn event(&mut self) -> bool {
        match self.dice.upto(99) {
            0..4 => self.open(),
            4..30 => self.input(),
            30..40 => self.output(),
            40..44 => self.outline(),
            44..55 => self.packets(),
            55..62 => self.acks(),
            62..64 => self.close(),
            64..68 => self.attach(),
            68..90 => self.pump(),
            90..96 => self.catch_up(),
            96..98 if self.follower.is_some() && self.dice.upto(5) == 0 => self.standby_dies(),
            98.. if self.follower.is_some() && self.dice.upto(2) == 0 => {
                let cut = self.dice.upto(self.on_the_way() as u64) as usize;
                if !self.holder_dies(cut) {
                    return false;
                }
            }
            _ => self.pump(),
        }
        self.check();
        true
    }

    pub(super) fn until_paired(&mut self) -> bool {
        for _ in 0..400 {
            if self.follower.as_ref().is_some_and(|follower| follower.standby.is_paired()) {
                return true;
            }
            match self.dice.upto(5) {
                0 => self.open(),
                1 => self.input(),
                2 => self.attach(),
                3 => self.catch_up(),
                _ => self.pump(),
            }
        }
        false
    }

    /// Traffic that the standby has not heard of yet.
    pub(super) fn busy(&mut self) {
        for _ in 0..8 {
            self.input();
            self.output();
            self.outline();
        }
        self.carry();
    }

    fn pick(&mut self) -> Option<ConnectionId> {
        let all: Vec<_> =
            self.publishers.iter().filter(|(_, it)| !it.closing).map(|(connection, _)| *connection).collect();
        (!all.is_empty()).then(|| all[self.dice.upto(all.len() as u64 - 1) as usize])
    }

    fn open(&mut self) {
        if self.publishers.len() < 4 {
            self.next += 1;
            let connection = ConnectionId(self.next);
            self.holder.open(connection, Bytes::from_static(b"tcp")).unwrap();
            if self.dice.upto(1) == 0 {
                self.holder.first_state(connection, state(0, 5)).unwrap();
            }
            self.publishers.insert(connection, Publisher::default());
        }
    }

    fn input(&mut self) {
        let Some(connection) = self.pick() else { return };
        let len = 1 + self.dice.upto(60);
        let parse = self.dice.upto(3) > 0;
        let publisher = self.publishers.get_mut(&connection).unwrap();
        // No data before the handshake is complete.
        if publisher.connected && self.holder.may_read(connection) {
            self.holder.input(connection, content(0, connection, publisher.read, len)).unwrap();
            publisher.read += len;
            if parse {
                publisher.parsed = publisher.read;
            }
        }
    }

    fn output(&mut self) {
        let Some(connection) = self.pick() else { return };
        let len = 1 + self.dice.upto(30);
        let publisher = self.publishers.get_mut(&connection).unwrap();
        if publisher.connected {
            self.holder.output(connection, content(1, connection, publisher.written, len)).unwrap();
            publisher.written += len;
        }
    }

    fn outline(&mut self) {
        let Some(connection) = self.pick() else { return };
        if self.dice.upto(1) == 0 {
            self.holder.set_tcp(connection, Bytes::from_static(b"better")).unwrap();
        } else if self.publishers[&connection].read > 0 {
            let stream = format!("cam{connection}").parse().unwrap();
            let publishes = Publishes { stream, run: RunId([1; 8]), record: Bytes::from_static(b"run") };
            self.holder.publish(connection, publishes).unwrap();
        }
    }

    /// Packets leave, as far as they may.
    fn packets(&mut self) {
        for (connection, publisher) in &mut self.publishers {
            let all = (publisher.read, publisher.written);
            let free = if self.guarded { self.holder.confirmed(*connection) } else { Some(all) };
            let Some((input, output)) = free else { continue };
            self.released |= self.guarded;
            publisher.connected = true;
            publisher.acked += self.dice.upto(input.saturating_sub(publisher.acked));
            publisher.seen += self.dice.upto(output.saturating_sub(publisher.seen));
            if self.dice.upto(1) == 0 {
                publisher.acked = publisher.acked.max(input);
                publisher.seen = publisher.seen.max(output);
            }
        }
    }

    fn acks(&mut self) {
        let Some(connection) = self.pick() else { return };
        let publisher = self.publishers.get_mut(&connection).unwrap();
        publisher.seen_acked = publisher.seen;
        self.holder.acked_output(connection, publisher.seen).unwrap();
    }

    fn close(&mut self) {
        let Some(connection) = self.pick() else { return };
        self.publishers.get_mut(&connection).unwrap().closing = true;
        self.holder.close(connection).unwrap();
    }

    fn attach(&mut self) {
        if self.follower.is_some() {
            return;
        }
        let mut link = |role, node| {
            let nonce = [self.dice.roll(); 4].map(u64::to_be_bytes).concat().try_into().unwrap();
            let identity = Identity { cluster: 1, node, role, epoch: self.epoch };
            Link::new(identity, KeyRing::of(Key::new(1, [5; 32])), nonce)
        };
        self.holder.attach(link(Role::Holder, 1));
        let standby = Standby::new(link(Role::Standby, 2));
        self.tally.late_joins += u64::from(self.publishers.values().any(|publisher| publisher.read > 0));
        self.follower = Some(Follower {
            standby,
            parsed: BTreeMap::new(),
            to_standby: Vec::new(),
            to_holder: Vec::new(),
        });
    }

    /// What both ends have to say goes onto the wire.
    fn carry(&mut self) {
        let Some(follower) = &mut self.follower else { return };
        while let Some(bytes) = self.holder.poll_transmit() {
            follower.to_standby.extend_from_slice(&bytes);
        }
        while let Some(bytes) = follower.standby.poll_transmit() {
            follower.to_holder.extend_from_slice(&bytes);
        }
    }

    /// Some bytes arrive, some steps are taken.
    fn pump(&mut self) {
        self.carry();
        let Some(follower) = &mut self.follower else { return };
        let whole = self.dice.upto(2) > 0;
        let len = follower.to_standby.len();
        let some = if whole { len } else { self.dice.upto(len as u64) as usize };
        let bytes: Vec<_> = follower.to_standby.drain(..some).collect();
        follower.standby.handle_bytes(&bytes).unwrap();
        let most = self.dice.upto(12);
        follower.steps(most);
        let len = follower.to_holder.len();
        let some = if whole { len } else { self.dice.upto(len as u64) as usize };
        let bytes: Vec<_> = follower.to_holder.drain(..some).collect();
        self.holder.handle_bytes(&bytes).unwrap();
        self.news();
    }

    fn news(&mut self) {
        while let Some((connection, has)) = self.holder.poll_release() {
            if let Some(publisher) = self.publishers.get_mut(&connection) {
                publisher.told = Some(has);
            }
        }
        while let Some(event) = self.holder.poll_event() {
            match event {
                Event::Finished(connection) => drop(self.publishers.remove(&connection)),
                Event::Paired => self.tally.pairings += 1,
                Event::TcpKnown(_) | Event::Segment(_) | Event::Part(_) | Event::Asked { .. } => {}
                Event::Behind => panic!("so few bytes are never behind"),
            }
        }
    }

    /// Snapshots, then the word "paired".
    fn catch_up(&mut self) {
        for (connection, publisher) in &mut self.publishers {
            if self.holder.wants_snapshot(*connection) && self.dice.upto(2) > 0 {
                let filler = if self.dice.upto(9) == 0 { 40_000 } else { self.dice.upto(50) };
                match self.holder.snapshot(*connection, publisher.parsed, state(publisher.parsed, filler)) {
                    // Parsed less than what the link begins with: parse on, ask again.
                    Err(Error::Range { .. }) => publisher.parsed = publisher.read,
                    other => other.unwrap(),
                }
            }
        }
        let ready = |follower: &Follower| follower.standby.in_step() && !follower.standby.is_paired();
        if self.follower.as_ref().is_some_and(ready) && self.holder.in_step() {
            (self.guarded, self.released) = (true, false);
            self.holder.tell_paired().unwrap();
        }
    }

    fn standby_dies(&mut self) {
        self.follower = None;
        self.holder.detach();
        self.news();
        // The witnesses grant the holder the next epoch.
        (self.epoch, self.guarded) = (self.epoch + 1, false);
        self.tally.standby_deaths += 1;
    }

    pub(super) fn on_the_way(&self) -> usize {
        self.follower.as_ref().map_or(0, |follower| follower.to_standby.len())
    }

    /// The holder dies when `cut` bytes of what is on the way still arrive. `false` when nobody may go on.
    pub(super) fn holder_dies(&mut self, cut: usize) -> bool {
        let mut follower = self.follower.take().expect("asked only with a standby");
        let late = follower.to_standby.split_off(cut);
        follower.standby.handle_bytes(&follower.to_standby).unwrap();
        if !follower.standby.steps.is_empty() {
            assert!(matches!(follower.standby.take_over(), Err(Error::Undrained { .. })));
        }
        follower.steps(u64::MAX);
        let survived = match follower.standby.take_over() {
            Ok(survived) => survived,
            Err(Error::NotInStep) => {
                assert!(!(self.guarded && self.released), "the standby was not told that it is one");
                self.tally.unpaired_deaths += 1;
                return false;
            }
            Err(other) => panic!("{other}"),
        };
        // What the old epoch still has to say is refused.
        assert_eq!(follower.standby.handle_bytes(&late), Err(Error::Fenced { epoch: self.epoch }));
        assert_eq!(follower.standby.poll_transmit(), None);
        let mut holder = Holder::default();
        for survivor in &survived {
            let connection = survivor.connection;
            assert_eq!(follower.parsed.get(&connection), Some(&survivor.received), "parsed is not received");
            let sent_to = survivor.sent_from + survivor.sent.len() as u64;
            assert_eq!(
                survivor.sent,
                content(1, connection, survivor.sent_from, sent_to - survivor.sent_from)
            );
            // One whose end both know may be here still, if the word of it was cut off.
            let Some(publisher) = self.publishers.get_mut(&connection) else {
                panic!("{connection} came back")
            };
            assert!(survivor.received >= publisher.acked, "acknowledged input is missing");
            assert!(survivor.received <= publisher.read);
            assert!(survivor.sent_from <= publisher.seen_acked, "output the publisher lacks was dropped");
            assert!(sent_to >= publisher.seen, "the publisher has output that the survivor does not know");
            self.tally.unacknowledged_output += u64::from(!survivor.sent.is_empty());
            (publisher.read, publisher.parsed) = (survivor.received, survivor.received);
            (publisher.written, publisher.closing) = (sent_to, false);
            holder.adopt(survivor.clone()).unwrap();
        }
        self.publishers.retain(|connection, publisher| {
            let found = survived.iter().any(|survivor| survivor.connection == *connection);
            assert!(found || publisher.closing || !publisher.connected, "connection {connection} is lost");
            found
        });
        self.tally.takeovers += 1;
        self.tally.takeovers_again += u64::from(self.tally.takeovers > 1);
        self.tally.survivors += survived.len() as u64;
        (self.holder, self.epoch, self.guarded) = (holder, self.epoch + 1, false);
        true
    }

    /// Nothing is confirmed that the standby has not taken.
    fn check(&self) {
        let Some(follower) = &self.follower else { return };
        for (connection, publisher) in self.publishers.iter().filter(|(_, publisher)| !publisher.closing) {
            let Some((input, output)) = self.holder.confirmed(*connection) else { continue };
            assert!(
                follower.parsed.get(connection).is_some_and(|parsed| *parsed >= input),
                "confirmed early"
            );
            let known = follower.standby.position(*connection).expect("a confirmed connection is known");
            assert!(known.1 >= output && output <= publisher.written, "output confirmed early");
            assert_eq!(publisher.told, Some((input, output)), "the packet hold was not told");
        }
    }

    /// Left alone, the two become a pair that has everything.
    pub(super) fn settle(&mut self) {
        self.attach();
        for _ in 0..60 {
            self.pump();
            self.catch_up();
        }
        for _ in 0..200 {
            self.pump();
        }
        self.check();
        for (connection, publisher) in &self.publishers {
            assert_eq!(self.holder.confirmed(*connection), Some((publisher.read, publisher.written)));
        }
        assert_eq!(self.holder.unconfirmed(), 0);
    }
}
