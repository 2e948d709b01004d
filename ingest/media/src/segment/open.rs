//! The segment that is being filled: samples of its open part, pieces of its closed parts.
//!
//! In: pictures and placed audio frames, and ticks to close at. Out: part and segment records with their bytes. Pure.

use super::audio::AudioClock;
use super::report::{OfSegment, Output, Report};
use super::{PART_BYTES_MAX, PART_SAMPLES_MAX};
use crate::container::cmaf::{self, Sample};
use crate::container::mpeg_ts::{self, Source};
use crate::container::pieces::Pieces;
use crate::unit::{AccessUnit, AudioConfig, Piece, VideoConfig};
use bytes::Bytes;
use ingest_api::window::{Gop, Part, Rendition, Segment, SegmentTrack, TrackInfo};
use ingest_api::{Object, Run, Track};
use releve_watermark::Position;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A configuration and the init section made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared<C> {
    pub(super) config: Arc<C>,
    pub(super) name: String,
    pub(super) init: Bytes,
}

/// The init names of a segment: what a discontinuity is seen by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names {
    pub(super) video: Option<String>,
    pub(super) audio: Option<String>,
}

/// A segment that is not complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    number: u64,
    start_90k: i64,
    /// Set with the first part.
    discontinuity: Option<u64>,
    video: Option<Lane<VideoConfig>>,
    audio: Option<Lane<AudioConfig>>,
    /// Which audio frames are this segment's.
    generation: u64,
    gops: Vec<Gop>,
    part: OpenPart,
}

/// One track of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lane<C> {
    prepared: Prepared<C>,
    pieces: Pieces,
    parts: Vec<Part>,
    samples: usize,
}

/// The part that is being filled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct OpenPart {
    start_90k: i64,
    pictures: Vec<Picture>,
    video: Pieces,
    sounds: Vec<Sound>,
    audio: Pieces,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Picture {
    dts_90k: i64,
    composition_90k: i32,
    size: u32,
    idr: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sound {
    sample: u64,
    samples: u32,
    size: u32,
}

fn lane<C>(prepared: Prepared<C>) -> Lane<C> {
    Lane { prepared, pieces: Pieces::default(), parts: Vec::new(), samples: 0 }
}

impl Open {
    pub(super) fn new(
        number: u64,
        start_90k: i64,
        video: Option<Prepared<VideoConfig>>,
        audio: Option<Prepared<AudioConfig>>,
        generation: u64,
    ) -> Open {
        let part = OpenPart { start_90k, ..OpenPart::default() };
        let (video, audio) = (video.map(lane), audio.map(lane));
        Open { number, start_90k, discontinuity: None, video, audio, generation, gops: Vec::new(), part }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn start_90k(&self) -> i64 {
        self.start_90k
    }

    pub(super) fn part_start_90k(&self) -> i64 {
        self.part.start_90k
    }

    /// The last tick that nothing new may start at or before: what is published, or the sound that drives alone.
    pub(super) fn part_floor_90k(&self) -> i64 {
        if self.has_video() { -1 } else { self.part.start_90k }
    }

    pub(super) fn has_video(&self) -> bool {
        self.video.is_some()
    }

    pub(super) fn is_published(&self) -> bool {
        self.discontinuity.is_some()
    }

    pub(super) fn publish(&mut self, discontinuity: u64) {
        self.discontinuity = Some(discontinuity);
    }

    /// Takes a late audio configuration in; only before anything is published.
    pub(super) fn join(&mut self, audio: Option<&Prepared<AudioConfig>>, generation: u64) {
        self.audio = audio.cloned().map(lane);
        self.generation = generation;
    }

    pub(super) fn names(&self) -> Names {
        Names {
            video: self.video.as_ref().map(|lane| lane.prepared.name.clone()),
            audio: self.audio.as_ref().map(|lane| lane.prepared.name.clone()),
        }
    }

    pub(super) fn same_tracks(
        &self,
        video: Option<&Prepared<VideoConfig>>,
        audio: Option<&Prepared<AudioConfig>>,
    ) -> bool {
        self.video.as_ref().map(|lane| &lane.prepared) == video
            && self.audio.as_ref().map(|lane| &lane.prepared) == audio
    }

    /// Whether a GOP under this code key may join: one key an object.
    pub(super) fn takes_key(&self, code_key: u32) -> bool {
        let closed = self.video.as_ref().map_or(0, |lane| lane.pieces.code_key());
        let now = if closed == 0 { self.part.video.code_key() } else { closed };
        now == 0 || code_key == 0 || now == code_key
    }

    /// Bytes of the larger track.
    pub(super) fn bytes(&self) -> usize {
        let video = self.video.as_ref().map_or(0, |lane| lane.pieces.len()) + self.part.video.len();
        let audio = self.audio.as_ref().map_or(0, |lane| lane.pieces.len()) + self.part.audio.len();
        video.max(audio)
    }

    pub(super) fn pairs(&self) -> usize {
        self.video.as_ref().map_or(0, |lane| lane.pieces.pairs()) + self.part.video.pairs()
    }

    /// Pictures so far.
    pub(super) fn samples(&self) -> usize {
        self.video.as_ref().map_or(0, |lane| lane.samples) + self.part.pictures.len()
    }

    pub(super) fn part_has_samples(&self) -> bool {
        !self.part.pictures.is_empty() || !self.part.sounds.is_empty()
    }

    /// Whether the part must close before a picture of this time, usual step and size.
    pub(super) fn part_is_full(&self, dts_90k: i64, step_90k: i64, len: usize, part_90k: i64) -> bool {
        self.part_has_samples()
            && dts_90k > self.part.start_90k
            && (dts_90k + step_90k - self.part.start_90k > part_90k
                || self.part.video.len() + len > PART_BYTES_MAX
                || self.part.pictures.len() >= PART_SAMPLES_MAX)
    }

    /// Adds a picture; of a withheld one only the GOP record.
    pub(super) fn picture(&mut self, unit: AccessUnit, withheld: bool, out: &mut Vec<Output>) {
        let gop = unit.gop.filter(|_| unit.idr);
        let position = gop.as_ref().map(|gop| (gop.id, gop.code_key));
        self.gops.extend(gop);
        if withheld {
            return;
        }
        let before = self.part.video.len();
        for piece in unit.pieces {
            match (piece, position) {
                (Piece::Common(bytes), _) => self.part.video.common(bytes),
                (Piece::Pair { a, b, slice }, Some((gop, key))) if a.len() == b.len() && !a.is_empty() => {
                    self.part.video.pair(a, b, Position { gop, slice }, key);
                }
                (Piece::Pair { a, slice, .. }, _) => {
                    out.push(Output::Report(Report::BadPair { number: self.number, slice }));
                    self.part.video.common(a);
                }
            }
        }
        self.part.pictures.push(Picture {
            dts_90k: unit.dts_90k,
            composition_90k: unit.composition_90k,
            size: (self.part.video.len() - before) as u32, // at most UNIT_BYTES_MAX
            idr: unit.idr,
        });
    }

    /// Adds a placed audio frame.
    pub(super) fn sound(&mut self, sample: u64, samples: u32, data: Bytes) {
        self.part.sounds.push(Sound { sample, samples, size: data.len() as u32 }); // at most UNIT_BYTES_MAX
        self.part.audio.common(data);
    }

    /// Takes the audio that waited for a part that ends here.
    pub(super) fn drain(&mut self, clock: &mut AudioClock, end_90k: i64, out: &mut Vec<Output>) {
        if self.video.is_none() {
            return; // sound alone never waits
        }
        let lane = match &self.audio {
            Some(lane) => {
                let config = &lane.prepared.config;
                clock.set_rate(config.sample_rate);
                Some((self.generation, config.clone()))
            }
            None => None, // nobody's: dropped
        };
        let lane = lane.as_ref().map(|(generation, config)| (*generation, &**config));
        while let Some((sample, samples, data)) = clock.next_before(end_90k, lane, self.number, out) {
            self.sound(sample, samples, data);
        }
    }

    /// The init sections of its tracks.
    pub(super) fn inits(&self) -> Vec<(String, Output)> {
        let plain = |init: &Bytes| Object::plain(init.clone());
        let mut inits = Vec::new();
        if let Some(Prepared { config, name, init }) = self.video.as_ref().map(|lane| &lane.prepared) {
            let info = TrackInfo {
                width: config.width,
                height: config.height,
                millihertz: config.millihertz,
                ..info(Track::Video, &config.codec)
            };
            let (track, object) = (Track::Video, plain(init));
            inits.push((name.clone(), Output::Init { track, name: name.clone(), object, info }));
        }
        if let Some(Prepared { config, name, init }) = self.audio.as_ref().map(|lane| &lane.prepared) {
            let info = TrackInfo { channels: config.channels, ..info(Track::Audio, &config.codec) };
            let (track, object) = (Track::Audio, plain(init));
            inits.push((name.clone(), Output::Init { track, name: name.clone(), object, info }));
        }
        inits
    }

    /// Closes the open part: one fragment a track, both of the same ticks.
    pub(super) fn close_part(
        &mut self,
        end_90k: i64,
        date_unix_ms: i64,
        clock: &mut AudioClock,
        out: &mut Vec<Output>,
    ) {
        let discontinuity = self.discontinuity.expect("a segment is published with its first part");
        let of = |init: &str| OfSegment { init: init.to_owned(), discontinuity, date_unix_ms, key: None };
        let part = std::mem::replace(&mut self.part, OpenPart { start_90k: end_90k, ..OpenPart::default() });
        let duration_90k = end_90k - part.start_90k;
        let (number, start_90k) = (self.number, part.start_90k);
        if let Some(lane) = &mut self.video {
            let samples = part.picture_samples(end_90k);
            let first = part.pictures.first();
            let decode_time = first.map_or(start_90k, |picture| picture.dts_90k);
            let independent = first.is_some_and(|picture| picture.idr);
            let place = (number, start_90k, duration_90k, independent);
            let of = of(&lane.prepared.name);
            out.push(lane.close(Track::Video, of, place, decode_time as u64, &samples, &part.video));
        }
        if let Some(lane) = &mut self.audio {
            let samples = part.sound_samples();
            let decode_time = match part.sounds.first() {
                Some(sound) => sound.sample,
                None => clock.nothing_at(start_90k),
            };
            let independent = match &self.video {
                Some(lane) => lane.parts.last().is_some_and(|part| part.independent),
                None => true,
            };
            let place = (number, start_90k, duration_90k, independent);
            let of = of(&lane.prepared.name);
            out.push(lane.close(Track::Audio, of, place, decode_time, &samples, &part.audio));
        }
    }

    /// The whole segment; every part is closed.
    pub(super) fn finish(self, end_90k: i64, clock: &AudioClock, run: &Run, out: &mut Vec<Output>) {
        let independent = match &self.video {
            Some(lane) => lane.parts.first().is_some_and(|part| part.independent),
            None => true,
        };
        if self.video.as_ref().is_some_and(|lane| lane.samples == 0) {
            out.push(Output::Report(Report::EmptyVideo { number: self.number }));
        }
        if self.audio.as_ref().is_some_and(|lane| lane.samples == 0) {
            out.push(Output::Report(Report::EmptyAudio { number: self.number }));
        }
        let sound_end = self.audio.as_ref().and_then(|_| clock.sound_end());
        let video_init = self.video.as_ref().map(|lane| lane.prepared.init.clone());
        let audio_init = self.audio.as_ref().map(|lane| lane.prepared.init.clone());
        let mut tracks = Vec::with_capacity(2);
        let video = self.video.map(|lane| lane.finish(Track::Video, &mut tracks));
        let audio = self.audio.map(|lane| lane.finish(Track::Audio, &mut tracks));
        let mpeg_ts = run
            .mpeg_ts
            .then(|| mpeg_ts::segment(Source::of(&video_init, &video), Source::of(&audio_init, &audio)));
        if let Some(None) = &mpeg_ts {
            out.push(Output::Report(Report::NoMpegTs { number: self.number }));
        }
        let record = Segment {
            number: self.number,
            run: run.id,
            discontinuity: self.discontinuity.unwrap_or(run.first_discontinuity),
            start_90k: self.start_90k,
            duration_90k: end_90k - self.start_90k,
            sound_end,
            date_unix_ms: run.anchor_unix_ms.saturating_add(self.start_90k / 90),
            independent,
            gops: self.gops,
            tracks,
            mpeg_ts: mpeg_ts.flatten().as_ref().map(Rendition::of),
            key: None,
        };
        out.push(Output::Segment { record, video, audio });
    }

    /// Samples a second of its audio.
    pub(super) fn sample_rate(&self) -> Option<u32> {
        self.audio.as_ref().map(|lane| lane.prepared.config.sample_rate)
    }

    /// Its newest picture of the open part.
    pub(super) fn newest_90k(&self) -> Option<i64> {
        self.part.pictures.last().map(|picture| picture.dts_90k)
    }

    /// What `restore` relies on: ticks in order and in range, sizes that fit their pieces.
    pub(super) fn is_sane(&self, ticks_max: i64) -> bool {
        let in_range = |tick: i64| (0..=ticks_max).contains(&tick);
        let part = &self.part;
        let pictures: u64 = part.pictures.iter().map(|picture| u64::from(picture.size)).sum();
        let sounds: u64 = part.sounds.iter().map(|sound| u64::from(sound.size)).sum();
        let lanes =
            self.video.as_ref().is_none_or(Lane::is_sane) && self.audio.as_ref().is_none_or(Lane::is_sane);
        in_range(self.start_90k)
            && in_range(part.start_90k)
            && self.start_90k <= part.start_90k
            && part.pictures.iter().all(|picture| in_range(picture.dts_90k))
            && part.pictures.is_sorted_by(|a, b| a.dts_90k < b.dts_90k)
            && part.sounds.iter().all(|sound| sound.sample <= 2 * ticks_max as u64)
            && part.sounds.is_sorted_by(|a, b| a.sample < b.sample)
            && pictures == part.video.len() as u64
            && sounds == part.audio.len() as u64
            && part.video.is_sane()
            && part.audio.is_sane()
            && lanes
    }
}

impl OpenPart {
    fn picture_samples(&self, end_90k: i64) -> Vec<Sample> {
        let next = self.pictures.iter().skip(1).map(|picture| picture.dts_90k).chain([end_90k]);
        let sample = |(picture, next): (&Picture, i64)| Sample {
            duration: u32::try_from(next - picture.dts_90k).unwrap_or(1), // bounded by MAX; the end is after all
            size: picture.size,
            composition: picture.composition_90k,
            sync: picture.idr,
        };
        self.pictures.iter().zip(next).map(sample).collect()
    }

    /// A gap inside a part makes the frame before it long: a fragment has one decode time.
    fn sound_samples(&self) -> Vec<Sample> {
        let next = self.sounds.iter().skip(1).map(|sound| Some(sound.sample)).chain([None]);
        let sample = |(sound, next): (&Sound, Option<u64>)| Sample {
            duration: next
                .map_or(sound.samples, |next| u32::try_from(next - sound.sample).unwrap_or(u32::MAX)),
            size: sound.size,
            composition: 0,
            sync: true,
        };
        self.sounds.iter().zip(next).map(sample).collect()
    }
}

impl<C> Lane<C> {
    fn close(
        &mut self,
        track: Track,
        of: OfSegment,
        (number, start_90k, duration_90k, independent): (u64, i64, i64, bool),
        decode_time: u64,
        samples: &[Sample],
        payload: &Pieces,
    ) -> Output {
        let index = self.parts.len() as u32;
        let mut pieces = Pieces::default();
        pieces.common(cmaf::fragment_head(track, sequence(number, index), decode_time, samples));
        pieces.append(payload);
        let (object, sha256) = pieces.freeze();
        let part = Part { duration_90k, len: pieces.len() as u64, independent, sha256 };
        let offset = self.pieces.len() as u64;
        self.pieces.append(&pieces);
        self.parts.push(part.clone());
        self.samples += samples.len();
        Output::Part { track, number, index, start_90k, offset, part, object, of }
    }

    fn finish(self, track: Track, tracks: &mut Vec<SegmentTrack>) -> Object {
        let (object, sha256) = self.pieces.freeze();
        let (init, len, parts) = (self.prepared.name, object.len() as u64, self.parts);
        tracks.push(SegmentTrack { track, init, len, sha256, parts, clear: None });
        object
    }

    fn is_sane(&self) -> bool {
        self.pieces.is_sane() && self.samples <= 1 << 20
    }
}

/// `sequence_number` of a fragment: grows through a segment and from one to the next, and is no counter.
fn sequence(number: u64, index: u32) -> u32 {
    (number as u32).wrapping_mul(256).wrapping_add(index.min(255)).wrapping_add(1)
}

fn info(track: Track, codec: &str) -> TrackInfo {
    TrackInfo {
        track,
        codec: codec.to_owned(),
        peak_bps: 0,
        mean_bps: 0,
        width: 0,
        height: 0,
        millihertz: 0,
        channels: 0,
    }
}
