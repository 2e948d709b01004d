//! Whether both nodes make the same segments; and if not, at which station they parted.
//!
//! In: what each side made of a segment ([`SegmentDigest`]), in any order. Out: a [`Verdict`] for each segment. Pure.
//!
//! A segment is a pure function of its input, computed in stations. Each side digests what comes out of every station, so
//! the first digest that differs names the station that is not pure. The byte is found by fetching the peer's segment
//! from its origin: [`first_difference`].

use ingest_api::window::Sha256;
use ingest_api::{RunId, StreamName, Track};
use ring::digest;
use std::collections::{BTreeMap, VecDeque};

/// Segments of one track that may wait for the other side once that one has passed them: each side makes them in their order.
pub const WAITING_MAX: usize = 16;
/// Segments of one track by which a side may be ahead. 256 of 2 s are eight minutes: a side that is later is lost.
pub const AHEAD_MAX: usize = 256;
/// Tracks compared at once; what is beyond is not compared. Two tracks for each of four thousand publishers.
pub const LANES_MAX: usize = 8_192;

/// A station on the way from input to segment, in the order of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Station {
    /// Messages, as the RTMP session gave them. Not the pieces the socket gave: those differ.
    Input,
    /// Access units and audio frames, with their times.
    Units,
    /// The same after marking: common bytes and both variants of each slice.
    Marked,
    /// The container's bytes.
    Container,
}

impl Station {
    /// All of them, in order.
    pub const ALL: [Station; 4] = [Station::Input, Station::Units, Station::Marked, Station::Container];
}

/// One digest for each station: SHA-256, first 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Stations(pub [[u8; 16]; 4]);

impl Stations {
    /// The digest of one station.
    pub fn of(&self, station: Station) -> &[u8; 16] {
        &self.0[station as usize]
    }
}

/// Takes what passes the stations while a segment is made.
#[derive(Clone)]
pub struct Chain([digest::Context; 4]);

impl Default for Chain {
    /// A chain for the next segment.
    fn default() -> Self {
        Self(std::array::from_fn(|_| digest::Context::new(&digest::SHA256)))
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chain")
    }
}

impl Chain {
    /// Something came out of a station. How it is cut into calls does not matter.
    pub fn add(&mut self, station: Station, bytes: &[u8]) {
        self.0[station as usize].update(bytes);
    }

    /// The segment is whole.
    pub fn finish(self) -> Stations {
        Stations(self.0.map(|context| {
            *context.finish().as_ref().first_chunk().expect("SHA-256 has 32 bytes, more than 16")
        }))
    }
}

/// What one side made of one track of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentDigest {
    /// Public name.
    pub stream: StreamName,
    /// The run.
    pub run: RunId,
    /// Segment number.
    pub number: u64,
    /// Which one.
    pub track: Track,
    /// Of the segment's bytes.
    pub sha256: Sha256,
    /// How they came about.
    pub stations: Stations,
}

impl SegmentDigest {
    /// What is said of a segment of which this side makes nothing: all zeros.
    #[must_use]
    pub fn of_nothing(self) -> SegmentDigest {
        SegmentDigest { sha256: Sha256([0; 32]), stations: Stations([[0; 16]; 4]), ..self }
    }

    fn is_of_nothing(&self) -> bool {
        self.sha256 == Sha256([0; 32])
    }
}

/// What one side made of one part of one track of the open segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartDigest {
    /// Public name.
    pub stream: StreamName,
    /// The run.
    pub run: RunId,
    /// Segment number.
    pub number: u64,
    /// Counted from 0 in the segment.
    pub index: u32,
    /// Which one.
    pub track: Track,
    /// Of the part's bytes.
    pub sha256: Sha256,
}

/// Which node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// This one.
    Ours,
    /// The other one.
    Theirs,
}

/// What became of a segment. All but `Matched` are alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both made the same bytes.
    Matched(SegmentDigest),
    /// They did not. Fetch both and ask [`first_difference`].
    Mismatch {
        /// What this node made.
        ours: Box<SegmentDigest>,
        /// What the other one made.
        theirs: Box<SegmentDigest>,
        /// The first station at which they part; `None` when all agree and only the segment differs, so the fault is
        /// after the last station.
        station: Option<Station>,
    },
    /// One side made it, the other did not, though it had begun with this track before or says that it makes nothing.
    Missing {
        /// Who did not.
        side: Side,
        /// What the other one made.
        made: SegmentDigest,
    },
    /// One side said two things of one segment: a published segment never changes.
    Changed {
        /// Who.
        side: Side,
        /// What it said last.
        last: SegmentDigest,
    },
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, digest) = match self {
            Verdict::Matched(digest) => ("is the same on both nodes".into(), digest),
            Verdict::Mismatch { ours, station: Some(station), .. } => {
                (format!("differs between the nodes, first at station {station:?}"), ours.as_ref())
            }
            Verdict::Mismatch { ours, station: None, .. } => {
                ("differs between the nodes, after the last station".into(), ours.as_ref())
            }
            Verdict::Missing { side, made } => (format!("is missing on one node ({side:?})"), made),
            Verdict::Changed { side, last } => (format!("changed on one node ({side:?})"), last),
        };
        let SegmentDigest { stream, run, number, track, .. } = digest;
        write!(f, "segment {number} ({}) of stream {stream}, run {run}, {what}", track.as_str())
    }
}

type Key = (StreamName, RunId, Track);

/// What waits of one track.
#[derive(Debug, Default)]
struct Lane {
    /// What each side said and the other did not yet.
    waiting: [BTreeMap<u64, SegmentDigest>; 2],
    /// The first and the last number each side ever said.
    first: [Option<u64>; 2],
    last: [Option<u64>; 2],
    /// Numbers of which both have spoken, newest last, at most [`WAITING_MAX`].
    settled: VecDeque<(u64, [Sha256; 2])>,
}

/// Compares the two sides of one pair, as long as its link lives.
#[derive(Debug, Default)]
pub struct Compare {
    lanes: BTreeMap<Key, Lane>,
    verdicts: VecDeque<Verdict>,
}

impl Compare {
    /// One side has made a segment.
    pub fn handle_digest(&mut self, side: Side, digest: SegmentDigest) {
        let key = (digest.stream.clone(), digest.run, digest.track);
        if self.lanes.len() >= LANES_MAX && !self.lanes.contains_key(&key) {
            return;
        }
        let lane = self.lanes.entry(key).or_default();
        let (me, other) = (side as usize, 1 - side as usize);
        let number = digest.number;
        lane.first[me] = Some(lane.first[me].map_or(number, |first| first.min(number)));
        lane.last[me] = lane.last[me].max(Some(number));
        let said = lane.settled.iter().find(|(settled, _)| *settled == number).map(|(_, said)| said[me]);
        if let Some(before) = said.or(lane.waiting[me].get(&number).map(|before| before.sha256)) {
            if before != digest.sha256 {
                self.verdicts.push_back(Verdict::Changed { side, last: digest });
            }
            return;
        }
        let Some(their) = lane.waiting[other].remove(&number) else {
            lane.waiting[me].insert(number, digest);
            let passed = |(number, _): (&u64, _)| lane.last[other] > Some(*number);
            let bound =
                if lane.waiting[me].first_key_value().is_some_and(passed) { WAITING_MAX } else { AHEAD_MAX };
            if lane.waiting[me].len() > bound
                && let Some((number, made)) = lane.waiting[me].pop_first()
                // Before it joined it could not make any.
                && lane.first[other].is_none_or(|first| first <= number)
            {
                let side = if side == Side::Ours { Side::Theirs } else { Side::Ours };
                self.verdicts.push_back(Verdict::Missing { side, made });
            }
            return;
        };
        let (ours, theirs) = if side == Side::Ours { (digest, their) } else { (their, digest) };
        lane.settled.push_back((number, [ours.sha256, theirs.sha256]));
        if lane.settled.len() > WAITING_MAX {
            lane.settled.pop_front();
        }
        self.verdicts.push_back(judge(ours, theirs));
    }

    /// The next verdict.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// The run is over. What still waits is missing on the other side.
    pub fn forget(&mut self, stream: &StreamName, run: RunId) {
        for track in Track::ALL {
            let Some(lane) = self.lanes.remove(&(stream.clone(), run, track)) else { continue };
            let [ours, theirs] = lane.waiting;
            for (side, first, waiting) in
                [(Side::Theirs, lane.first[1], ours), (Side::Ours, lane.first[0], theirs)]
            {
                let late = |made: &SegmentDigest| first.is_none_or(|first| first <= made.number);
                let missing = waiting.into_values().filter(late);
                self.verdicts.extend(missing.map(|made| Verdict::Missing { side, made }));
            }
        }
    }
}

fn judge(ours: SegmentDigest, theirs: SegmentDigest) -> Verdict {
    match (ours.is_of_nothing(), theirs.is_of_nothing()) {
        (true, false) => return Verdict::Missing { side: Side::Ours, made: theirs },
        (false, true) => return Verdict::Missing { side: Side::Theirs, made: ours },
        _ => {}
    }
    let station =
        Station::ALL.into_iter().find(|station| ours.stations.of(*station) != theirs.stations.of(*station));
    if ours.sha256 == theirs.sha256 && station.is_none() {
        return Verdict::Matched(ours);
    }
    Verdict::Mismatch { ours: Box::new(ours), theirs: Box::new(theirs), station }
}

/// Offset of the first byte that differs, the end of the shorter one included; `None` when they are equal.
pub fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<usize> {
    let same = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
    (same < ours.len().max(theirs.len())).then_some(same)
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
