//! From units to parts and segments: where to cut, and what a cut makes.
//!
//! In: `Unit`s of one run, in order. Out: init sections, part records, whole segments, and reports for metrics. Pure: the
//! same units after the same run record make the same bytes on any node; `snapshot` and `restore` carry the whole state.
//!
//! **Boundaries** (T = the run's target duration; MAX = T + 40,000 ticks, so that a rounded EXTINF never exceeds T):
//! - At an IDR picture: once T is reached, or when another GOP like the last one would not fit into MAX.
//! - At any other picture: when one more like it would not fit; at T already while GOPs are longer than MAX. Reported
//!   once a GOP, since such a segment does not start with a picture of its own.
//! - At an IDR picture with another configuration, set of tracks or code key.
//! - Without video: at the first frame at or after T.
//! - Where one track stalls and the other goes on: at T, so that no segment is ever longer than MAX.
//!
//! What an IDR picture ends whatever becomes of its marks, it may end before they are there: `announce`.
//!
//! A boundary is the decode time of the picture that cuts. All tracks are cut there: audio frames with an earlier time
//! go to the old segment, others wait for the new one, late ones go to the open one. All tracks have every number and
//! every part; where nothing came there is an empty fragment, so numbers never have holes and no track waits for another.
//!
//! **Start.** A segment starts where the last one ended, also after the publisher was away: no hole, no discontinuity
//! unless the init sections differ. An audio configuration that comes late, but before the first part is out, still joins.
//! Later ones begin with the next IDR picture; audio until then is dropped, it would need an init section of its own.
//!
//! **Further encodings** of the picture (`encoding`) are cut where it is and cut nothing. One that does not begin with it is left out
//! of a segment.
//!
//! **Audio tracks.** A segment has the first one and, beside it, the further ones (`voice`) that have a configuration when it opens.
//! One that falls silent has empty fragments until the publisher leaves. Where there is no picture the first one drives, and the
//! others are cut where it is.
//!
//! **Memory** is bounded: what would make a part, a segment or the audio queue too large closes the part, cuts the
//! segment, or drops the oldest audio frame. Each is reported.

mod audio;
mod boundary;
mod encoding;
mod lane;
mod open;
mod report;
mod sound;
mod state;
#[cfg(test)]
mod tests;
mod voice;

pub use report::{DropCause, OfSegment, Output, Report};

use crate::container::cmaf;
use crate::saved::{self, SavedError};
use crate::unit::{AccessUnit, Unit, VideoCoding, VideoConfig};
use audio::AudioClock;
use boundary::GopState;
use bytes::Bytes;
use encoding::Encodings;
use ingest_api::object::OBJECT_BYTES_MAX;
use ingest_api::track::TRACKS_MAX;
use ingest_api::window::{self, Marking, Sha256, TICKS_PER_SECOND};
use ingest_api::{Encoding, Run, Track};
use lane::Prepared;
use open::{Names, Open};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use voice::Voices;

/// Room for rounding: EXTINF of T + 40,000 ticks (0.444 s) still rounds to T.
pub const ROUNDING_90K: i64 = 40_000;
/// A part is closed before it grows over this, in bytes: two of the largest access units.
pub const PART_BYTES_MAX: usize = 32 << 20;
/// A segment is cut before a track of it grows over this, in bytes; the rest to `OBJECT_BYTES_MAX` is for boxes.
pub const SEGMENT_BYTES_MAX: usize = OBJECT_BYTES_MAX - (8 << 20);
/// The largest access unit, in bytes; marking adds a little to what the feed let through.
pub const UNIT_BYTES_MAX: usize = 24 << 20;
/// Pictures of a part; more are a publisher with broken times.
pub const PART_SAMPLES_MAX: usize = 4_096;
/// Pictures of a segment: 10 s at 400 frames a second.
pub const SEGMENT_SAMPLES_MAX: usize = 4_096;
/// How far audio may run ahead of the longest segment before missing video counts as stalled.
pub const STALL_90K: i64 = 3 * TICKS_PER_SECOND;
/// A step of a track that no timeline gives: the segment ends and a hole is left, as asked.
pub const HOLE_90K: i64 = 60 * TICKS_PER_SECOND;
/// Times beyond this are refused: 1,585 years.
pub const TICKS_MAX: i64 = 1 << 52;

/// One run's segmenter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Segmenter {
    run: Run,
    next_number: u64,
    /// Where the next segment starts; `None` until the run has begun.
    next_90k: Option<i64>,
    discontinuity: u64,
    /// Init names of the last segment.
    previous: Option<Names>,
    /// Init sections of the last segment that were given out: one that returns after others is given out again, since a
    /// window keeps only those that its segments name.
    announced: Vec<String>,
    video: Option<Prepared<VideoConfig>>,
    voices: Voices,
    encodings: Encodings,
    open: Option<Open>,
    gop: GopState,
}

/// One a track.
const ANNOUNCED_MAX: usize = TRACKS_MAX;

impl Segmenter {
    /// The first segment of a new run: it starts with the first unit.
    pub fn begin(run: Run) -> Segmenter {
        Segmenter {
            next_number: run.first_number,
            next_90k: None,
            discontinuity: run.first_discontinuity,
            previous: None,
            announced: Vec::new(),
            video: None,
            voices: Voices::new(AudioClock::new),
            encodings: Encodings::default(),
            open: None,
            gop: GopState::default(),
            run,
        }
    }

    /// Goes on after `last`, the newest published segment of this run (a restart). `last` of another run: a new run begins
    /// with this one's first number.
    pub fn resume(run: Run, last: &window::Segment) -> Segmenter {
        let mut segmenter = Segmenter::begin(run);
        if last.run != segmenter.run.id {
            return segmenter;
        }
        let end = last.start_90k.saturating_add(last.duration_90k).clamp(0, TICKS_MAX);
        segmenter.next_number = last.number.saturating_add(1);
        segmenter.next_90k = Some(end);
        segmenter.discontinuity = last.discontinuity;
        // A change of configuration is seen by what was there before encryption.
        let names = last.tracks.iter().map(|entry| {
            let init = entry.clear.as_ref().map_or(&entry.init, |clear| &clear.init);
            (entry.track, init.clone())
        });
        segmenter.previous = Some(Names(names.collect()));
        segmenter.voices = Voices::new(|track| {
            let entry = last.tracks.iter().find(|entry| entry.track == Track::Audio(track));
            AudioClock::after(track, end, entry.and_then(|entry| entry.sound_end))
        });
        segmenter
    }

    /// Takes one unit. Drain nothing else: every consequence is in the answer, in order.
    pub fn push(&mut self, unit: Unit) -> Vec<Output> {
        let mut out = Vec::new();
        match unit {
            Unit::VideoConfig(config) => {
                if self.video.as_ref().is_none_or(|now| now.config != config) {
                    let init = cmaf::video_init(&config);
                    self.video = prepared(Track::Video, config, init, &mut out);
                    self.gop.needs_idr = true;
                }
            }
            Unit::AudioConfig(track, config) => self.sounds_like(track, config, &mut out),
            Unit::Video(unit) => self.picture(unit, &mut out),
            Unit::Audio(frame) => self.sound(frame, &mut out),
            Unit::EncodingConfig(encoding, config) => self.encodes_like(encoding, config, &mut out),
            Unit::Encoding(encoding, unit) => {
                let part = self.open.as_ref().map(Open::part_start_90k).or(self.next_90k);
                self.encodings.push(encoding, unit, (self.next_number, part), &mut out);
            }
        }
        out
    }

    /// An IDR picture that comes by `push` when it is marked: what it ends for certain is given at once, so that nobody waits for
    /// the marks of a picture that comes after. Both answers together are what `push` alone would have given.
    pub fn announce(&mut self, picture: &AccessUnit) -> Vec<Output> {
        let mut out = Vec::new();
        if picture.idr && self.refuses(picture, false).is_none() {
            self.boundary_ahead(picture.dts_90k, &mut out);
        }
        out
    }

    fn encodes_like(&mut self, encoding: Encoding, config: Arc<VideoConfig>, out: &mut Vec<Output>) {
        if self.encodings.has(encoding, &config) {
            return;
        }
        let track = Track::Encoding(encoding);
        // The picture itself ends the publish where it cannot be encrypted.
        let prepared = if self.run.encryption.is_some() && config.coding != VideoCoding::H264 {
            let why = "only H.264 is encrypted: this further encoding is left out".to_owned();
            out.push(Output::Report(Report::BadConfig { track, why }));
            None
        } else {
            let init = cmaf::video_init(&config);
            prepared(track, config, init, out)
        };
        self.encodings.configure(encoding, prepared);
    }

    /// The publisher left: the open segment ends one usual step after its last picture or frame and is published. Nothing
    /// else changes for viewers. The next publisher's configurations and IDR picture open the next segment at `next_tick`.
    pub fn gone(&mut self) -> Vec<Output> {
        let mut out = Vec::new();
        if self.open.is_some() {
            let end = self.next_tick();
            self.cut(end, &mut out);
        }
        self.voices.publisher_left(&mut out);
        self.encodings.publisher_left();
        self.video = None;
        self.gop = GopState::default();
        out
    }

    /// The tick that a returning publisher's first unit must land on: the end of what is, or would now be, published.
    pub fn next_tick(&self) -> i64 {
        let Some(open) = &self.open else { return self.next_90k.unwrap_or(0) };
        let end = if open.has_video() {
            self.gop.last_90k.unwrap_or(open.start_90k()).saturating_add(self.gop.step())
        } else {
            self.voices.clock().end_90k()
        };
        let most = open.start_90k().saturating_add(self.max_90k());
        end.min(most).max(open.part_start_90k().saturating_add(1))
    }

    /// Number of the segment that is open, or would be opened.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// The whole state.
    pub fn snapshot(&self) -> Vec<u8> {
        saved::write(self)
    }

    /// A segmenter that goes on where `snapshot` was taken.
    ///
    /// # Errors
    /// Bytes that are not such a state.
    pub fn restore(bytes: &[u8]) -> Result<Segmenter, SavedError> {
        let segmenter: Segmenter = saved::read(state::ROOM, bytes)?;
        segmenter.check()?;
        Ok(segmenter)
    }

    fn target_90k(&self) -> i64 {
        i64::from(self.run.target_duration_s.clamp(1, 10)) * TICKS_PER_SECOND
    }

    fn max_90k(&self) -> i64 {
        self.target_90k() + ROUNDING_90K
    }

    fn picture(&mut self, unit: AccessUnit, out: &mut Vec<Output>) {
        let dts = unit.dts_90k;
        let withheld = match (&unit.gop, unit.idr) {
            (Some(gop), true) => gop.marking == Marking::Withheld,
            (None, true) => false,
            (_, false) => self.gop.withheld,
        };
        if let Some(why) = self.refuses(&unit, withheld) {
            self.gop.needs_idr = true;
            out.push(Output::Report(Report::Dropped { track: Track::Video, time_90k: dts, why }));
            return;
        }
        self.boundary_before(&unit, out);
        if self.open.is_none() && !self.open_at(dts, out) {
            self.gop.needs_idr = true;
            return;
        }
        self.gop.saw(dts, unit.idr, withheld);
        let open = self.open.as_mut().expect("opened above");
        open.picture(unit, withheld, out);
    }

    /// Why a picture is left out.
    fn refuses(&self, unit: &AccessUnit, withheld: bool) -> Option<DropCause> {
        let dts = unit.dts_90k;
        let late =
            self.open.as_ref().is_some_and(|open| dts < open.start_90k() || dts <= open.part_floor_90k())
                || self.gop.last_90k.is_some_and(|last| dts <= last);
        if self.video.is_none() {
            Some(DropCause::NoConfig)
        } else if !(0..=TICKS_MAX).contains(&dts) {
            Some(DropCause::Time)
        } else if (unit.is_empty() && !withheld) || unit.len() > UNIT_BYTES_MAX {
            Some(DropCause::Size)
        } else if !unit.idr && (self.gop.needs_idr || self.gop.start_90k.is_none()) {
            Some(DropCause::WaitsForIdr)
        } else if late {
            Some(DropCause::Late)
        } else {
            None
        }
    }

    /// Opens the next segment for a unit at `tick`; not where that lies before its start.
    fn open_at(&mut self, tick: i64, out: &mut Vec<Output>) -> bool {
        let start = match self.next_90k {
            Some(next) if tick < next => {
                let track = if self.video.is_some() { Track::Video } else { Track::AUDIO };
                out.push(Output::Report(Report::Dropped { track, time_90k: tick, why: DropCause::Late }));
                return false;
            }
            Some(next) if tick - next <= self.max_90k() => next,
            Some(next) => {
                out.push(Output::Report(Report::Hole { from_90k: next, to_90k: tick }));
                tick
            }
            None => tick,
        };
        self.open = Some(Open::new(self.next_number, start, self.video.clone(), &self.voices));
        true
    }

    fn close_part(&mut self, end_90k: i64, out: &mut Vec<Output>) {
        let Some(open) = &mut self.open else { return };
        open.drain(&mut self.voices, end_90k, out);
        if !open.is_published() {
            open.choose(&mut self.encodings, self.previous.as_ref(), out);
            let names = open.names();
            if self.previous.as_ref().is_some_and(|previous| previous.breaks(&names)) {
                self.discontinuity += 1;
            }
            open.publish(self.discontinuity);
            let before = std::mem::take(&mut self.announced);
            for (name, init) in open.inits() {
                // Tracks of one configuration have one init section.
                if self.announced.contains(&name) {
                    continue;
                }
                if !before.contains(&name) {
                    out.push(init);
                }
                self.announced.push(name);
            }
        }
        let date_unix_ms = self.run.anchor_unix_ms.saturating_add(open.start_90k() / 90);
        open.close_part(end_90k, date_unix_ms, (&mut self.voices, &mut self.encodings), out);
    }

    /// Ends the open segment at a tick after its open part's start, or at that, where `announce` has closed the part before it.
    fn cut(&mut self, end_90k: i64, out: &mut Vec<Output>) {
        if self.open.as_ref().is_some_and(|open| open.part_start_90k() < end_90k) {
            self.close_part(end_90k, out);
        }
        let Some(open) = self.open.take() else { return };
        self.previous = Some(open.names());
        self.next_number = self.next_number.saturating_add(1);
        self.next_90k = Some(end_90k);
        open.finish(end_90k, &self.voices, &self.run, out);
    }
}

fn prepared<C>(
    track: Track,
    config: Arc<C>,
    init: Result<Bytes, cmaf::InitError>,
    out: &mut Vec<Output>,
) -> Option<Prepared<C>> {
    match init {
        Ok(init) => {
            let name = format!("init-{}", hex::encode(&Sha256::of(&init).0[..8]));
            Some(Prepared { config, name, init })
        }
        Err(error) => {
            out.push(Output::Report(Report::BadConfig { track, why: error.to_string() }));
            None
        }
    }
}
