//! What may be listed: which segments both nodes made, and what the election allows. Publish = commit.
//!
//! In: what each side made, the gate, the role. Out: a [`Listing`] for each finished segment, words for the operator, figures
//! for the status page. Pure.
//!
//! | `protect = "commit"` | gate | a finished segment |
//! |---|---|---|
//! | holder | `Held` | waits |
//! | holder | `Confirmed` | is listed once the standby has spoken of it |
//! | holder | `Alone` | is listed, and so is all that was made before |
//! | standby | any | is listed once the holder's record came and is the same |
//!
//! Parts of the open segment follow the same rules, each by its hash. In `protect = "handover"` an open gate is enough for the holder. Where the two differ, the holder's counts: the holder lists its own
//! and says so loudly; the standby records the holder's number as used, lists nothing of it, takes the older ones out of its
//! window (a playlist cannot name a hole), and lists again from the next equal one on. A standby that makes nothing of a stream says
//! so of each segment that the holder made, or the holder would wait for it.

use crate::config::pair::Protect;
use failover::Gate;
use ingest_api::track::TRACKS_MAX;
use ingest_api::window::{Segment, SegmentTrack, Sha256};
use ingest_api::{RunId, StreamName, Track};
use mirror::compare::Side;
use mirror::{Compare, PartDigest, Role, SegmentDigest, Stations, Verdict};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};

/// Segments of one stream that one node may be ahead of the other; one that is further behind lists nothing more.
const WORDS_MAX: usize = 1_024;
/// Parts of one stream that may be waited for: ten segments of ten seconds, all tracks.
const PARTS_MAX: usize = 320 * TRACKS_MAX;

/// Segments of one stream whose digests are said again.
const SAID_MAX: u64 = 8;

/// What is to be done with a finished segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Nothing yet.
    Wait,
    /// List it.
    Ours,
    /// Leave it out: the holder's is this one.
    Theirs(Box<Segment>),
}

/// Two nodes that did not make the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// For the operator.
    pub(super) words: String,
    /// What is worth a look byte for byte: the first difference of a stream, and ever fewer of those that follow.
    pub(super) look: Option<(u64, Track)>,
}

/// What is known of one stream.
#[derive(Debug, Default)]
struct Stream {
    run: Option<RunId>,
    /// Numbers both have spoken of, with the tracks that still lack a word.
    spoken: BTreeMap<u64, Vec<Track>>,
    /// What the other node made of parts.
    their_parts: BTreeMap<(u64, u32, Track), Sha256>,
    /// As standby: what the holder made.
    theirs: BTreeMap<u64, Segment>,
    /// The fencing term at the other node, when it held.
    epoch: u64,
    /// What was said of the newest segments: said again where a link's last words may be lost.
    said: VecDeque<SegmentDigest>,
    /// The newest made here.
    made: Option<u64>,
    /// Up to here nobody is waited for.
    free: Option<u64>,
    /// As standby: this node makes nothing of it, and says so of each segment.
    makes_nothing: bool,
    facts: Facts,
}

/// One stream's line on the status page.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Highest number both made alike.
    pub equal_to: Option<u64>,
    /// Segments in which the two differed.
    pub differing: u64,
}

/// All streams of the pair.
#[derive(Debug)]
pub(super) struct Ledger {
    protect: Protect,
    role: Role,
    /// How often it has held no longer.
    ceded: u64,
    gate: Gate,
    compare: Compare,
    streams: BTreeMap<StreamName, Stream>,
}

impl Ledger {
    /// A node that is nothing yet.
    pub(super) fn new(protect: Protect) -> Ledger {
        let (compare, streams) = (Compare::default(), BTreeMap::new());
        Ledger { protect, role: Role::Standby, ceded: 0, gate: Gate::Held, compare, streams }
    }

    /// What this node is.
    pub(super) fn role(&self) -> Role {
        self.role
    }

    /// It is this from now on.
    pub(super) fn set_role(&mut self, role: Role) {
        self.ceded += u64::from((self.role, role) == (Role::Holder, Role::Standby));
        self.role = role;
    }

    /// How often it was a holder and became a standby.
    pub(super) fn ceded(&self) -> u64 {
        self.ceded
    }

    /// Whether it publishes on its own account.
    pub(super) fn holds(&self) -> bool {
        self.role == Role::Holder && self.gate != Gate::Held
    }

    /// The election's word.
    pub(super) fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
        if matches!(gate, Gate::Alone(_)) && self.role == Role::Holder {
            self.streams.values_mut().for_each(|stream| stream.free = stream.made);
        }
    }

    /// A standby has joined a stream: what was made before, it is told of and makes no more.
    pub(super) fn joined(&mut self, name: &StreamName) {
        if let Some(stream) = self.streams.get_mut(name) {
            stream.free = stream.made;
        }
    }

    /// The connections of this holder live at its standby now, which knows every record: those count as they are.
    pub(super) fn departed(&mut self) {
        self.set_role(Role::Standby);
        self.streams.values_mut().for_each(|stream| stream.free = stream.made);
    }

    /// Another link: what was said on the last one is not repeated.
    pub(super) fn new_link(&mut self) {
        self.compare = Compare::default();
    }

    /// This node has made a segment: what the other one is told.
    pub(super) fn made(
        &mut self,
        name: &StreamName,
        record: &Segment,
        stations: &Stations,
    ) -> Vec<SegmentDigest> {
        let stream = self.streams.entry(name.clone()).or_default();
        if stream.run != Some(record.run) {
            // Numbers go on in the next run: what was said of them stays.
            if let Some(run) = stream.run.replace(record.run) {
                self.compare.forget(name, run);
            }
        }
        stream.made = stream.made.max(Some(record.number));
        if self.role == Role::Holder && matches!(self.gate, Gate::Alone(_)) {
            stream.free = stream.made;
        }
        let digests = digests(name, record, stations);
        stream.said.extend(digests.iter().cloned());
        stream.said.retain(|said| said.number.saturating_add(SAID_MAX) > record.number);
        for digest in &digests {
            self.compare.handle_digest(Side::Ours, digest.clone());
        }
        digests
    }

    /// What was said of the newest segments.
    pub(super) fn said(&self) -> impl Iterator<Item = &SegmentDigest> {
        self.streams.values().flat_map(|stream| &stream.said)
    }

    /// The other node has made a segment.
    pub(super) fn heard(&mut self, digest: SegmentDigest) {
        self.compare.handle_digest(Side::Theirs, digest);
    }

    /// The holder's record of a segment: what it is told in return.
    pub(super) fn heard_record(&mut self, name: &StreamName, record: Segment) -> Vec<SegmentDigest> {
        let stream = self.streams.entry(name.clone()).or_default();
        let answer = if stream.makes_nothing { nothing(name, &record) } else { Vec::new() };
        stream.theirs.insert(record.number, record);
        while stream.theirs.len() > WORDS_MAX {
            stream.theirs.pop_first();
        }
        answer
    }

    /// Whether this node makes segments of a stream that it follows: what the holder is told of those that it made already.
    pub(super) fn makes(&mut self, name: &StreamName, something: bool) -> Vec<SegmentDigest> {
        let stream = self.streams.entry(name.clone()).or_default();
        stream.makes_nothing = !something;
        if something {
            return Vec::new();
        }
        let lacking = stream.theirs.values().filter(|record| Some(record.number) > stream.made);
        lacking.flat_map(|record| nothing(name, record)).collect()
    }

    /// The newest record that the holder has told of a stream.
    pub(super) fn newest_heard(&self, name: &StreamName) -> Option<&Segment> {
        self.streams.get(name)?.theirs.values().next_back()
    }

    /// The fencing term at the holder.
    pub(super) fn heard_epoch(&mut self, name: &StreamName, epoch: u64) {
        self.streams.entry(name.clone()).or_default().epoch = epoch;
    }

    /// The newest fencing term the other node had as holder.
    pub(super) fn epoch(&self, name: &StreamName) -> u64 {
        self.streams.get(name).map_or(0, |stream| stream.epoch)
    }

    /// What both have spoken of since the last call: the word for the metric, and what an operator must hear.
    pub(super) fn take_verdicts(&mut self) -> Vec<(StreamName, &'static str, Option<Difference>)> {
        let mut news = Vec::new();
        while let Some(verdict) = self.compare.poll_verdict() {
            let (digest, word) = match &verdict {
                Verdict::Matched(digest) => (digest, "equal"),
                Verdict::Mismatch { ours, .. } => (ours.as_ref(), "differs"),
                Verdict::Missing { made, .. } => (made, "missing"),
                Verdict::Changed { last, .. } => (last, "changed"),
            };
            let stream = self.streams.entry(digest.stream.clone()).or_default();
            stream.spoken.entry(digest.number).or_default().push(digest.track);
            while stream.spoken.len() > WORDS_MAX {
                stream.spoken.pop_first();
            }
            match word {
                "equal" => stream.facts.equal_to = stream.facts.equal_to.max(Some(digest.number)),
                _ => stream.facts.differing += 1,
            }
            let look = word == "differs" && stream.facts.differing.is_power_of_two();
            let look = look.then_some((digest.number, digest.track));
            let alarm = (word != "equal").then(|| Difference { words: verdict.to_string(), look });
            news.push((digest.stream.clone(), word, alarm));
        }
        news
    }

    /// What is to be done with a segment made here.
    pub(super) fn listing(&self, name: &StreamName, record: &Segment) -> Listing {
        let Some(stream) = self.streams.get(name) else { return Listing::Wait };
        let free = stream.free.is_some_and(|free| record.number <= free);
        let holds = self.role == Role::Holder && self.gate != Gate::Held;
        // The word of whoever held when it was said counts, and is known to both.
        if let Some(theirs) =
            stream.theirs.get(&record.number).filter(|_| holds || self.role == Role::Standby)
        {
            return match theirs == record {
                true => Listing::Ours,
                false => Listing::Theirs(Box::new(theirs.clone())),
            };
        }
        if self.role == Role::Standby {
            return if free { Listing::Ours } else { Listing::Wait };
        }
        let spoken = || {
            let spoken = stream.spoken.get(&record.number);
            spoken.is_some_and(|spoken| record.tracks.iter().all(|track| spoken.contains(&track.track)))
        };
        let listed = match self.gate {
            Gate::Held => false,
            _ if self.protect == Protect::Handover => true,
            Gate::Alone(_) => true,
            Gate::Confirmed(_) => free || spoken(),
        };
        if listed { Listing::Ours } else { Listing::Wait }
    }

    /// The other node has made a part.
    pub(super) fn heard_part(&mut self, digest: PartDigest) {
        let PartDigest { stream, number, index, track, sha256, .. } = digest;
        let parts = &mut self.streams.entry(stream).or_default().their_parts;
        parts.insert((number, index, track), sha256);
        while parts.len() > PARTS_MAX {
            parts.pop_first();
        }
    }

    /// Whether a part that was made here is listed: by the rules of segments, and where the two differ, not.
    pub(super) fn lists_part(&self, digest: &PartDigest) -> bool {
        let Some(stream) = self.streams.get(&digest.stream) else { return self.lists_alone() };
        let theirs = stream.their_parts.get(&(digest.number, digest.index, digest.track));
        match self.role {
            Role::Standby => theirs == Some(&digest.sha256),
            Role::Holder if self.lists_alone() => true,
            Role::Holder => matches!(self.gate, Gate::Confirmed(_)) && theirs == Some(&digest.sha256),
        }
    }

    /// The holder waits for nobody.
    fn lists_alone(&self) -> bool {
        let handover = self.protect == Protect::Handover && self.gate != Gate::Held;
        self.role == Role::Holder && (handover || matches!(self.gate, Gate::Alone(_)))
    }

    /// For the status page.
    pub(super) fn facts(&self) -> impl Iterator<Item = (&StreamName, &Facts)> {
        self.streams.iter().map(|(name, stream)| (name, &stream.facts))
    }
}

/// What is said of a segment's tracks.
fn digests(name: &StreamName, record: &Segment, stations: &Stations) -> Vec<SegmentDigest> {
    let digest = |track: &SegmentTrack| SegmentDigest {
        stream: name.clone(),
        run: record.run,
        number: record.number,
        track: track.track,
        sha256: track.sha256,
        stations: *stations,
    };
    record.tracks.iter().map(digest).collect()
}

/// The same of one that is not made here.
fn nothing(name: &StreamName, record: &Segment) -> Vec<SegmentDigest> {
    digests(name, record, &Stations([[0; 16]; 4])).into_iter().map(SegmentDigest::of_nothing).collect()
}
