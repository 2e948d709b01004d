//! The newest segments of one stream: what is listed, and the bytes behind it.
//!
//! In: init sections and segments in order. Out: a `Snapshot`, of which playlists are a function, and objects by number.
//! Pure and bounded, by count and by bytes.
//!
//! More is kept than listed: a segment stays fetchable after it left the playlist, for viewers that still hold an older
//! copy of it (RFC 8216bis §6.2.2). The first listed number only ever grows, and no removal leaves less than three target
//! durations unless `kept` or the bytes force it.

use crate::segment::Output;
use ingest_api::window::{Segment, TICKS_PER_SECOND, TrackInfo};
use ingest_api::{Object, Run, Snapshot, StreamName, Track};
use std::collections::VecDeque;
use thiserror::Error;

/// The most bytes of segments of one stream, both variants: 40 s at 100 Mb/s. The oldest segments go first.
pub const WINDOW_BYTES_MAX: usize = 512 << 20;
/// The most segments of one stream that may be asked for.
pub const KEPT_MAX: usize = 1_024;

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
    segments: VecDeque<Entry>,
    inits: Vec<Init>,
    bytes: usize,
    rates: [Rate; 2],
}

#[derive(Clone, Debug)]
struct Entry {
    record: Segment,
    video: Option<Object>,
    audio: Option<Object>,
}

#[derive(Clone, Debug)]
struct Init {
    name: String,
    object: Object,
    info: TrackInfo,
}

/// Bit rate of one track of the run.
#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    peak_bps: u64,
    bits: u64,
    ticks: u64,
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
            segments: VecDeque::new(),
            inits: Vec::new(),
            bytes: 0,
            rates: Default::default(),
        }
    }

    /// A run begins or goes on here with segment `next`: its target duration, and bit rates from the beginning. What is
    /// kept goes if numbers in between were used elsewhere (another process, a segment that was recorded and lost): a
    /// playlist cannot name a hole.
    pub fn begin(&mut self, run: &Run, next: u64) {
        self.target_duration_s = run.target_duration_s;
        self.rates = Default::default();
        if self.newest().is_some_and(|newest| next > newest.number.saturating_add(1)) {
            self.segments.clear();
            self.bytes = 0;
        }
        self.changed();
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

    /// Takes what of a segmenter's output concerns it; parts and reports pass by.
    ///
    /// # Errors
    /// As `push`.
    pub fn apply(&mut self, output: &Output) -> Result<(), WindowError> {
        match output {
            Output::Init { name, object, info, .. } => {
                self.add_init(name.clone(), object.clone(), info.clone())
            }
            Output::Segment { record, video, audio } => {
                self.push(record.clone(), video.clone(), audio.clone())?;
            }
            Output::Part { .. } | Output::Report(_) => {}
        }
        Ok(())
    }

    /// Keeps an init section for the segments that will name it.
    pub fn add_init(&mut self, name: String, object: Object, info: TrackInfo) {
        if self.inits.iter().any(|init| init.name == name) {
            return;
        }
        self.inits.push(Init { name, object, info });
    }

    /// Adds the next segment.
    ///
    /// # Errors
    /// A number that is not the next one, missing objects or init sections.
    pub fn push(
        &mut self,
        record: Segment,
        video: Option<Object>,
        audio: Option<Object>,
    ) -> Result<(), WindowError> {
        let number = record.number;
        if let Some(last) = self.segments.back().map(|entry| entry.record.number)
            && last.checked_add(1) != Some(number)
        {
            return Err(WindowError::Number { number, last });
        }
        let objects = [(Track::Video, &video), (Track::Audio, &audio)];
        let agree = |(track, object): &(Track, &Option<Object>)| {
            let named = record.tracks.iter().find(|t| t.track == *track);
            named.map(|t| t.len) == object.as_ref().map(|object| object.len() as u64)
        };
        if !objects.iter().all(agree) {
            return Err(WindowError::Tracks { number });
        }
        if !record.tracks.iter().all(|track| self.inits.iter().any(|init| init.name == track.init)) {
            return Err(WindowError::Init { number });
        }
        for track in &record.tracks {
            self.rates[index(track.track)].saw(track.len, record.duration_90k);
        }
        if self.segments.is_empty() {
            self.first_listed = self.first_listed.max(number);
        }
        let entry = Entry { record, video, audio };
        self.bytes += entry.bytes();
        self.segments.push_back(entry);
        self.slide();
        self.changed();
        Ok(())
    }

    /// What playlists are a function of.
    pub fn snapshot(&self) -> Snapshot {
        let newest = self.segments.back();
        let tracks = newest
            .map_or(Vec::new(), |entry| entry.record.tracks.iter().filter_map(|t| self.info(t)).collect());
        let listed = self.segments.iter().map(|entry| &entry.record);
        Snapshot {
            stream: self.stream.clone(),
            epoch: self.epoch,
            version: self.version,
            live: self.live,
            target_duration_s: self.target_duration_s,
            tracks,
            segments: listed.filter(|record| record.number >= self.first_listed).cloned().collect(),
        }
    }

    /// Version of the snapshot without making it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// A segment's bytes on one track; kept longer than listed.
    pub fn object(&self, track: Track, number: u64) -> Option<&Object> {
        let entry = self.entry(number)?;
        match track {
            Track::Video => entry.video.as_ref(),
            Track::Audio => entry.audio.as_ref(),
        }
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

    /// Bytes of the segments kept, both variants.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn entry(&self, number: u64) -> Option<&Entry> {
        let first = self.segments.front()?.record.number;
        self.segments.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    fn info(&self, track: &ingest_api::window::SegmentTrack) -> Option<TrackInfo> {
        let info = &self.inits.iter().find(|init| init.name == track.init)?.info;
        let rate = self.rates[index(track.track)];
        Some(TrackInfo { peak_bps: rate.peak_bps, mean_bps: rate.mean_bps(), ..info.clone() })
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
        let segments = &self.segments;
        self.inits.retain(|init| {
            segments.iter().any(|entry| entry.record.tracks.iter().any(|track| track.init == init.name))
        });
    }

    fn changed(&mut self) {
        self.version = self.version.wrapping_add(1);
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        let object =
            |object: &Object| object.len() + object.pairs.iter().map(|pair| pair.b.len()).sum::<usize>();
        self.video.as_ref().map_or(0, object) + self.audio.as_ref().map_or(0, object)
    }
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

fn index(track: Track) -> usize {
    match track {
        Track::Video => 0,
        Track::Audio => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ingest_api::RunId;
    use ingest_api::window::{SegmentTrack, Sha256};

    fn window(listed: usize, kept: usize) -> Window {
        let mut window = Window::new("demo".parse().unwrap(), 4, listed, kept, 100);
        let info = TrackInfo {
            track: Track::Video,
            codec: "avc1.64001f".to_owned(),
            peak_bps: 0,
            mean_bps: 0,
            width: 16,
            height: 16,
            millihertz: 0,
            channels: 0,
        };
        window.add_init("init-0".to_owned(), Object::plain(Bytes::from_static(b"i")), info);
        window
    }

    fn segment(number: u64, duration_90k: i64, len: usize) -> (Segment, Option<Object>, Option<Object>) {
        let object = Object::plain(vec![0; len].into());
        let track = SegmentTrack {
            track: Track::Video,
            init: "init-0".to_owned(),
            len: len as u64,
            sha256: Sha256::of(&object.encode()),
            parts: Vec::new(),
        };
        let record = Segment {
            number,
            run: RunId([0; 8]),
            discontinuity: 0,
            start_90k: 0,
            duration_90k,
            sound_end: None,
            date_unix_ms: 0,
            independent: true,
            gops: Vec::new(),
            tracks: vec![track],
        };
        (record, Some(object), None)
    }

    fn push(window: &mut Window, number: u64, duration_90k: i64, len: usize) -> Result<(), WindowError> {
        let (record, video, audio) = segment(number, duration_90k, len);
        window.push(record, video, audio)
    }

    fn listed(window: &Window) -> Vec<u64> {
        window.snapshot().segments.iter().map(|segment| segment.number).collect()
    }

    #[test]
    fn it_slides_and_keeps_more_than_it_lists() {
        let mut window = window(3, 5);
        for number in 7..15 {
            push(&mut window, number, 360_000, 100).unwrap();
        }
        assert_eq!(listed(&window), [12, 13, 14]);
        assert!(window.object(Track::Video, 10).is_some() && window.object(Track::Video, 9).is_none());
        assert!(window.object(Track::Audio, 14).is_none() && window.object(Track::Video, 15).is_none());
        assert_eq!(window.bytes(), 500);
    }

    #[test]
    fn three_target_durations_stay_listed_and_the_first_number_never_goes_back() {
        let mut window = window(3, 20);
        let mut first = 0;
        for (number, ticks) in
            [(1, 360_000), (2, 360_000), (3, 360_000), (4, 90_000), (5, 90_000), (6, 360_000), (7, 360_000)]
        {
            push(&mut window, number, ticks, 1).unwrap();
            let now = listed(&window);
            let sum: i64 = window.snapshot().segments.iter().map(|segment| segment.duration_90k).sum();
            assert!(now[0] >= first && (number < 3 || sum >= 1_080_000), "{now:?}");
            first = now[0];
        }
        assert_eq!(listed(&window), [3, 4, 5, 6, 7]);
    }

    #[test]
    fn numbers_never_go_back_or_leave_holes() {
        let mut window = window(3, 5);
        push(&mut window, 5, 360_000, 1).unwrap();
        let version = window.version();
        for number in [5, 4, 7, 0, u64::MAX] {
            assert_eq!(push(&mut window, number, 360_000, 1), Err(WindowError::Number { number, last: 5 }));
        }
        assert_eq!(window.version(), version);
    }

    #[test]
    fn a_run_that_goes_on_elsewhere_leaves_no_hole_behind_it() {
        let run = Run {
            id: RunId([0; 8]),
            stream: "demo".parse().unwrap(),
            anchor_unix_ms: 0,
            first_number: 0,
            first_discontinuity: 0,
            target_duration_s: 4,
            part_90k: 30_000,
        };
        let mut window = window(3, 5);
        push(&mut window, 5, 360_000, 1).unwrap();
        window.begin(&run, 6);
        push(&mut window, 6, 360_000, 1).unwrap();
        assert_eq!(listed(&window), [5, 6]);
        window.begin(&run, 9);
        push(&mut window, 9, 360_000, 1).unwrap();
        assert_eq!((listed(&window), window.bytes()), (vec![9], 1));
        window.begin(&run, 4);
        assert_eq!(push(&mut window, 4, 360_000, 1), Err(WindowError::Number { number: 4, last: 9 }));
    }

    #[test]
    fn tracks_and_inits_must_be_there() {
        let mut window = window(3, 5);
        let (record, ..) = segment(1, 1, 1);
        assert_eq!(window.push(record.clone(), None, None), Err(WindowError::Tracks { number: 1 }));
        let (mut record, video, _) = segment(1, 1, 1);
        record.tracks[0].init = "init-1".to_owned();
        assert_eq!(window.push(record, video, None), Err(WindowError::Init { number: 1 }));
        assert!(window.init("init-0").is_some() && window.init("init-1").is_none());
    }

    #[test]
    fn every_change_has_its_version_and_no_change_has_none() {
        let mut window = window(3, 5);
        let mut versions = vec![window.version()];
        window.set_live(true);
        versions.push(window.version());
        window.set_epoch(3);
        versions.push(window.version());
        push(&mut window, 1, 360_000, 1).unwrap();
        versions.push(window.version());
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
        window.set_live(true);
        window.set_epoch(3);
        assert_eq!(Some(&window.version()), versions.last());
        assert_eq!(window.snapshot().version, window.version());
    }

    #[test]
    fn rates_are_of_the_run() {
        let mut window = window(3, 5);
        push(&mut window, 1, 90_000, 1_000).unwrap();
        push(&mut window, 2, 90_000, 3_000).unwrap();
        let track = &window.snapshot().tracks[0];
        assert_eq!((track.peak_bps, track.mean_bps), (24_000, 16_000));
    }

    #[test]
    fn bytes_are_bounded() {
        let mut window = window(3, 5);
        for number in 0..4 {
            push(&mut window, number, 360_000, WINDOW_BYTES_MAX / 2 - 1).unwrap();
            assert!(window.bytes() <= WINDOW_BYTES_MAX);
        }
        assert_eq!(listed(&window), [2, 3]);
    }
}
