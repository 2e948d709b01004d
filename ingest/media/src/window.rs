//! The newest segments of one stream: what is listed, and the bytes behind it.
//!
//! In: init sections and segments in order. Out: a `Snapshot`, of which playlists are a function, and objects by number.
//! Pure and bounded, by count and by bytes.
//!
//! More is kept than listed: a segment stays fetchable after it left the playlist, for viewers that still hold an older
//! copy of it (RFC 8216bis §6.2.2). The first listed number only ever grows, and no removal leaves less than three target
//! durations unless `kept` or the bytes force it.

mod earlier;
mod muxed;

pub use earlier::Whole;

use crate::segment::{OfSegment, Output};
use bytes::Bytes;
use ingest_api::object::ObjectError;
use ingest_api::track::TRACKS_MAX;
use ingest_api::window::{OpenSegment, OpenTrack, Part, Segment, SegmentTrack, TICKS_PER_SECOND, TrackInfo};
use ingest_api::{Object, Run, Signals, Snapshot, StreamName, Track};
use muxed::Muxed;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use thiserror::Error;

/// The most bytes of segments of one stream, both variants: 40 s at 100 Mb/s. The oldest segments go first; MPEG-TS, which can be
/// made again, has what room they leave.
pub const WINDOW_BYTES_MAX: usize = 512 << 20;
/// The most segments of one stream that may be asked for.
pub const KEPT_MAX: usize = 1_024;
/// Init sections that no segment has named yet; the oldest goes first. An encoder that changes its settings with each of 32
/// segments that wait for the other node.
const INITS_WAITING_MAX: usize = 32 * TRACKS_MAX;
/// What players are told of keys that no kept segment has; the oldest goes first.
const SIGNALS_WAITING_MAX: usize = 4;

/// Why a segment does not fit. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum WindowError {
    /// A number that does not follow: a promise of the segmenter's is broken.
    #[error("segment {number} after {last}: numbers have no holes and never go back")]
    Number {
        /// The one refused.
        number: u64,
        /// The newest one here.
        last: u64,
    },
    /// A track without its object, or an object without its track.
    #[error("segment {number}: record and objects name different tracks")]
    Tracks {
        /// The one refused.
        number: u64,
    },
    /// Bytes that are not those of the record.
    #[error("segment {number}: the bytes are not those of its record")]
    Bytes {
        /// The one refused.
        number: u64,
    },
    /// A track refers to an init section that was never given.
    #[error("segment {number} needs an init section that was not given before")]
    Init {
        /// The one refused.
        number: u64,
    },
}

/// One stream's window.
#[derive(Clone, Debug)]
pub struct Window {
    stream: StreamName,
    epoch: u64,
    version: u64,
    live: bool,
    target_duration_s: u32,
    listed: usize,
    kept: usize,
    /// First number a playlist names.
    first_listed: u64,
    /// With this number the run began or went on here.
    begins: u64,
    segments: VecDeque<Arc<Entry>>,
    inits: Vec<Init>,
    signals: Vec<Signals>,
    bytes: usize,
    /// By the tracks' places in `Track::ALL`.
    rates: [Rate; TRACKS_MAX],
    /// Whether parts are listed.
    lists_parts: bool,
    part_90k: i64,
    open: Option<Open>,
}

/// The segment after the newest one: its parts so far, each with its bytes.
#[derive(Clone, Debug)]
struct Open {
    record: OpenSegment,
    /// By the tracks' places in `Track::ALL`.
    objects: [Vec<Object>; TRACKS_MAX],
}

#[derive(Debug)]
struct Entry {
    record: Segment,
    /// The bytes of each track, as the record names them.
    objects: Vec<(Track, Object)>,
    muxed: Muxed,
}

#[derive(Clone, Debug)]
struct Init {
    name: String,
    object: Object,
    info: TrackInfo,
    /// A segment has named it since it was given: it is kept as long as one that is kept does. Until then it waits for a
    /// segment that is not listed yet.
    named: bool,
}

/// What the window of a node that joins needs besides the segments to come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Seed {
    /// Name, encoded object and description of each init section in use.
    inits: Vec<(String, Bytes, TrackInfo)>,
    rates: [Rate; TRACKS_MAX],
}

/// Bit rate of one track of the run.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Rate {
    peak_bps: u64,
    bits: u64,
    ticks: u64,
}

impl Seed {
    /// Name and encoded object of each init section.
    pub fn inits(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.inits.iter().map(|(name, bytes, _)| (name.as_str(), bytes))
    }
}

impl Window {
    /// An empty window that lists `listed` segments and keeps `kept` (at least as many). `version` is any number that an
    /// earlier process of this node did not use for this stream.
    pub fn new(
        stream: StreamName,
        target_duration_s: u32,
        listed: usize,
        kept: usize,
        version: u64,
    ) -> Window {
        let listed = listed.clamp(1, KEPT_MAX);
        Window {
            stream,
            epoch: 0,
            version,
            live: false,
            target_duration_s,
            listed,
            kept: kept.clamp(listed, KEPT_MAX),
            first_listed: 0,
            begins: 0,
            segments: VecDeque::new(),
            inits: Vec::new(),
            signals: Vec::new(),
            bytes: 0,
            rates: Default::default(),
            lists_parts: false,
            part_90k: 0,
            open: None,
        }
    }

    /// The same, listing parts as they come.
    #[must_use]
    pub fn with_parts(self) -> Window {
        Window { lists_parts: true, ..self }
    }

    /// A run begins or goes on here with segment `next`: its target duration, and bit rates from the beginning. What is
    /// kept goes if numbers in between were used elsewhere (another process, a segment that was recorded and lost): a
    /// playlist cannot name a hole.
    pub fn begin(&mut self, run: &Run, next: u64) {
        self.target_duration_s = run.target_duration_s;
        self.rates = Default::default();
        self.part_90k = if self.lists_parts { run.part_90k } else { 0 };
        self.open = None;
        self.begins = next;
        if self.newest().is_some_and(|newest| next > newest.number.saturating_add(1)) {
            self.segments.clear();
            self.bytes = 0;
        }
        self.changed();
    }

    /// For the window of a node that joins now.
    pub fn seed(&self) -> Seed {
        let inits = self.inits.iter();
        let inits = inits.map(|init| (init.name.clone(), init.object.encode(), init.info.clone()));
        Seed { inits: inits.collect(), rates: self.rates }
    }

    /// As `begin`, with what another node's window has: from segment `next` on both list the same.
    ///
    /// # Errors
    /// An init section that does not decode; nothing has changed then.
    pub fn join(&mut self, run: &Run, next: u64, seed: &Seed) -> Result<(), ObjectError> {
        let decoded = seed.inits.iter().map(|(name, bytes, info)| {
            Object::decode(bytes.clone()).map(|object| (name.clone(), object, info.clone()))
        });
        let decoded = decoded.collect::<Result<Vec<_>, _>>()?;
        self.begin(run, next);
        self.rates = seed.rates;
        decoded.into_iter().for_each(|(name, object, info)| self.add_init(name, object, info));
        Ok(())
    }

    /// Whether parts are listed.
    pub fn lists_parts(&self) -> bool {
        self.lists_parts
    }

    /// The fencing term that the snapshot carries.
    pub fn set_epoch(&mut self, epoch: u64) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.changed();
        }
    }

    /// Whether a publisher is connected.
    pub fn set_live(&mut self, live: bool) {
        if self.live != live {
            self.live = live;
            self.changed();
        }
    }

    /// Whether a publisher is connected.
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Takes what of a segmenter's output concerns it; reports pass by.
    ///
    /// # Errors
    /// As `push`.
    pub fn apply(&mut self, output: &Output) -> Result<(), WindowError> {
        match output {
            Output::Init { name, object, info, .. } => {
                self.add_init(name.clone(), object.clone(), info.clone())
            }
            Output::Segment { record, objects } => {
                self.push(record.clone(), objects.clone())?;
            }
            Output::Part { track, number, index, part, object, of, .. } => {
                self.push_part(*track, (*number, *index), part.clone(), object.clone(), of);
            }
            Output::Report(_) => {}
        }
        Ok(())
    }

    /// Keeps an init section for the segments that will name it, also where earlier ones are listed first.
    pub fn add_init(&mut self, name: String, object: Object, info: TrackInfo) {
        if let Some(init) = self.inits.iter_mut().find(|init| init.name == name) {
            init.named = false;
            return;
        }
        self.inits.push(Init { name, object, info, named: false });
        let waits = |init: &Init| !init.named;
        if self.inits.iter().filter(|init| waits(init)).count() > INITS_WAITING_MAX
            && let Some(oldest) = self.inits.iter().position(waits)
        {
            self.inits.remove(oldest);
        }
    }

    /// Keeps what players are told of a key, for the segments that will name it.
    pub fn add_signals(&mut self, signals: &Signals) {
        if self.signals.last() == Some(signals) {
            return;
        }
        self.signals.retain(|known| known.kid != signals.kid);
        let named =
            |kid| self.segments.iter().any(|entry| entry.record.key.is_some_and(|key| key.kid == kid));
        let newest = self.signals.len().saturating_sub(SIGNALS_WAITING_MAX);
        let mut at = 0..;
        self.signals.retain(|known| at.next() >= Some(newest) || named(known.kid));
        self.signals.push(signals.clone());
    }

    /// Adds a part of the segment after the newest one. Whether there is something new to list: not where parts are not
    /// listed, and not one that does not follow the part before it.
    pub fn push_part(
        &mut self,
        track: Track,
        (number, index): (u64, u32),
        part: Part,
        object: Object,
        of: &OfSegment,
    ) -> bool {
        let next = self.newest().is_none_or(|newest| newest.number.checked_add(1) == Some(number));
        let known = self.inits.iter().any(|init| init.name == of.init);
        if !self.lists_parts || !next || !known {
            return false;
        }
        let open = self.open.get_or_insert_with(|| Open {
            record: OpenSegment {
                number,
                discontinuity: of.discontinuity,
                date_unix_ms: of.date_unix_ms,
                key: of.key,
                tracks: Vec::new(),
            },
            objects: Default::default(),
        });
        let objects = &mut open.objects[track.index()];
        if open.record.number != number || objects.len() != index as usize {
            return false;
        }
        objects.push(object);
        let tracks = &mut open.record.tracks;
        match tracks.iter_mut().find(|open| open.track == track) {
            Some(open) => open.parts.push(part),
            None => tracks.push(OpenTrack { track, init: of.init.clone(), parts: vec![part] }),
        }
        self.changed();
        true
    }

    /// Adds the next segment.
    ///
    /// # Errors
    /// A number that is not the next one, missing objects or init sections.
    pub fn push(&mut self, record: Segment, objects: Vec<(Track, Object)>) -> Result<(), WindowError> {
        let number = record.number;
        if let Some(last) = self.segments.back().map(|entry| entry.record.number)
            && last.checked_add(1) != Some(number)
        {
            return Err(WindowError::Number { number, last });
        }
        let named = record.tracks.iter().map(|named| (named.track, named.len));
        if !named.eq(objects.iter().map(|(track, object)| (*track, object.len() as u64))) {
            return Err(WindowError::Tracks { number });
        }
        if !record.tracks.iter().all(|track| self.inits.iter().any(|init| init.name == track.init)) {
            return Err(WindowError::Init { number });
        }
        for init in &mut self.inits {
            init.named |= init.is_of(&record);
        }
        for track in &record.tracks {
            self.rates[track.track.index()].saw(track.len, record.duration_90k);
        }
        if self.segments.is_empty() {
            self.first_listed = self.first_listed.max(number);
        }
        let entry = Entry { record, objects, muxed: Muxed::default() };
        self.bytes += entry.bytes();
        self.segments.push_back(Arc::new(entry));
        self.open = None;
        self.slide();
        self.changed();
        Ok(())
    }

    /// What playlists are a function of.
    pub fn snapshot(&self) -> Snapshot {
        let tracks = match (self.segments.back(), &self.open) {
            (Some(newest), _) => {
                newest.record.tracks.iter().filter_map(|t| self.info(t.track, &t.init)).collect()
            }
            (None, Some(open)) => {
                open.record.tracks.iter().filter_map(|t| self.info(t.track, &t.init)).collect()
            }
            (None, None) => Vec::new(),
        };
        let listed = self.segments.iter().map(|entry| &entry.record);
        let mut snapshot = Snapshot {
            stream: self.stream.clone(),
            epoch: self.epoch,
            version: self.version,
            live: self.live,
            target_duration_s: self.target_duration_s,
            tracks,
            segments: listed.filter(|record| record.number >= self.first_listed).cloned().collect(),
            part_90k: self.part_90k,
            open: self.open.as_ref().map(|open| open.record.clone()),
            signals: Vec::new(),
        };
        let named = |signals: &&Signals| snapshot.keys().any(|key| key.kid == signals.kid);
        snapshot.signals = self.signals.iter().filter(named).cloned().collect();
        snapshot
    }

    /// Version of the snapshot without making it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A segment's bytes on one track; kept longer than listed.
    pub fn object(&self, track: Track, number: u64) -> Option<&Object> {
        let mut objects = self.entry(number)?.objects.iter();
        objects.find(|(of, _)| *of == track).map(|(_, object)| object)
    }

    /// One part's bytes on one track: of the segment that is being filled, or cut from one that is kept.
    pub fn part(&self, track: Track, number: u64, part: u32) -> Option<Object> {
        let part = part as usize;
        if let Some(open) = self.open.as_ref().filter(|open| open.record.number == number) {
            return open.objects[track.index()].get(part).cloned();
        }
        let record = self.record(number)?.tracks.iter().find(|named| named.track == track)?;
        let len = |part: &Part| usize::try_from(part.len).unwrap_or(usize::MAX);
        let start = record.parts.get(..part)?.iter().map(len).sum::<usize>();
        let end = start.checked_add(len(record.parts.get(part)?))?;
        self.object(track, number)?.part(start..end)
    }

    /// A segment's record; kept longer than listed.
    pub fn record(&self, number: u64) -> Option<&Segment> {
        Some(&self.entry(number)?.record)
    }

    /// The newest record.
    pub fn newest(&self) -> Option<&Segment> {
        Some(&self.segments.back()?.record)
    }

    /// An init section by name.
    pub fn init(&self, name: &str) -> Option<&Object> {
        Some(&self.inits.iter().find(|init| init.name == name)?.object)
    }

    /// The same, and what the multivariant playlist says of its track; bit rates are 0.
    pub fn init_with_info(&self, name: &str) -> Option<(&Object, &TrackInfo)> {
        let init = self.inits.iter().find(|init| init.name == name)?;
        Some((&init.object, &init.info))
    }

    /// Bytes of the segments kept, both variants.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        let first = self.segments.front()?.record.number;
        self.segments.get(usize::try_from(number.checked_sub(first)?).ok()?).map(Arc::as_ref)
    }

    /// Tracks of one configuration have one init section: it was described for one of them.
    fn info(&self, track: Track, init: &str) -> Option<TrackInfo> {
        let info = &self.inits.iter().find(|known| known.name == init)?.info;
        let rate = self.rates[track.index()];
        Some(TrackInfo { track, peak_bps: rate.peak_bps, mean_bps: rate.mean_bps(), ..info.clone() })
    }

    /// Moves the first listed number on, then drops what is kept no longer.
    fn slide(&mut self) {
        let three = i64::from(self.target_duration_s) * 3 * TICKS_PER_SECOND;
        let listed = self.segments.iter().filter(|entry| entry.record.number >= self.first_listed);
        let (mut count, mut ticks) = (0, 0i64);
        for entry in listed.clone() {
            count += 1;
            ticks = ticks.saturating_add(entry.record.duration_90k);
        }
        for entry in listed.map(|entry| &entry.record).collect::<Vec<_>>() {
            ticks -= entry.duration_90k;
            if count <= self.listed || ticks < three {
                break;
            }
            count -= 1;
            self.first_listed = entry.number + 1;
        }
        while self.segments.len() > 1 && (self.segments.len() > self.kept || self.bytes > WINDOW_BYTES_MAX) {
            let Some(oldest) = self.segments.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.first_listed = self.first_listed.max(oldest.record.number + 1);
        }
        self.make_room();
        let segments = &self.segments;
        self.inits.retain(|init| !init.named || segments.iter().any(|entry| init.is_of(&entry.record)));
    }

    fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
    }
}

impl Init {
    /// Whether a segment names it, as its own or as that which it was encrypted from.
    fn is_of(&self, record: &Segment) -> bool {
        let clear = |track: &SegmentTrack| track.clear.as_ref().is_some_and(|clear| clear.init == self.name);
        record.tracks.iter().any(|track| track.init == self.name || clear(track))
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        self.objects.iter().map(|(_, bytes)| weight(bytes)).sum()
    }
}

/// Bytes of an object, both variants.
fn weight(object: &Object) -> usize {
    object.len() + object.pairs.iter().map(|pair| pair.b.len()).sum::<usize>()
}

impl Rate {
    fn saw(&mut self, len: u64, duration_90k: i64) {
        let ticks = duration_90k.max(1) as u64;
        let bits = len.saturating_mul(8);
        self.peak_bps = self.peak_bps.max(bits.saturating_mul(TICKS_PER_SECOND as u64) / ticks);
        self.bits = self.bits.saturating_add(bits);
        self.ticks = self.ticks.saturating_add(ticks);
    }

    fn mean_bps(self) -> u64 {
        let bits = u128::from(self.bits) * TICKS_PER_SECOND as u128;
        u64::try_from(bits / u128::from(self.ticks.max(1))).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
