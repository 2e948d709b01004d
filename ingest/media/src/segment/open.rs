//! The segment that is being filled: samples of its open part, pieces of its closed parts.
//!
//! In: pictures and placed audio frames, and ticks to close at. Out: part and segment records with their bytes. Pure.

use super::encoding::{EncodingLane, Encodings};
use super::lane::{Lane, Prepared, SoundLane};
use super::report::{OfSegment, Output, Report};
use super::voice::Voices;
use super::{PART_BYTES_MAX, PART_SAMPLES_MAX};
use crate::container::cmaf::Sample;
use crate::container::mpeg_ts::{self, Source};
use crate::container::pieces::Pieces;
use crate::unit::{AccessUnit, Piece, VideoConfig};
use bytes::Bytes;
use ingest_api::window::{Gop, Marking, Segment, SegmentTrack, TrackInfo};
use ingest_api::{AudioTrack, Object, Run, Track};
use releve_watermark::Position;
use serde::{Deserialize, Serialize};

/// The init names of a segment, each with its track: what a discontinuity is seen by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Names(pub(super) Vec<(Track, String)>);

impl Names {
    pub(super) fn of(&self, track: Track) -> Option<&String> {
        self.0.iter().find(|(named, _)| *named == track).map(|(_, name)| name)
    }

    /// Whether players must begin anew after these. Where a further track comes or ends they need not: its own playlist begins or
    /// ends there.
    pub(super) fn breaks(&self, next: &Names) -> bool {
        Track::ALL.into_iter().any(|track| match (self.of(track), next.of(track)) {
            (None, None) => false,
            (Some(before), Some(after)) => before != after,
            _ => matches!(track, Track::Video | Track::AUDIO),
        })
    }
}

/// A segment that is not complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Open {
    number: u64,
    start_90k: i64,
    /// Set with the first part.
    discontinuity: Option<u64>,
    video: Option<Lane<VideoConfig>>,
    /// By their ids.
    audio: Vec<SoundLane>,
    /// By their ids; none before the first part is out.
    encodings: Vec<EncodingLane>,
    gops: Vec<Gop>,
    part: OpenPart,
}

/// The part that is being filled: its pictures, while each audio track has its own frames, and each further encoding its own
/// pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenPart {
    start_90k: i64,
    pub(super) pictures: Vec<Picture>,
    pub(super) video: Pieces,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Picture {
    pub(super) dts_90k: i64,
    pub(super) composition_90k: i32,
    pub(super) size: u32,
    pub(super) idr: bool,
    /// A GOP that is marked begins with it.
    pub(super) marked: bool,
}

/// Whether a marked GOP begins with a picture.
pub(super) fn begins_marked(unit: &AccessUnit) -> bool {
    unit.idr && unit.gop.as_ref().is_some_and(|gop| gop.marking == Marking::Marked)
}

/// The bytes of a picture, behind what there is.
pub(super) fn pieces(unit: AccessUnit, number: u64, to: &mut Pieces, out: &mut Vec<Output>) {
    let gop = unit.gop.filter(|_| unit.idr);
    let position = gop.map(|gop| (gop.id, gop.code_key));
    for piece in unit.pieces {
        match (piece, position) {
            (Piece::Common(bytes), _) => to.common(bytes),
            (Piece::Pair { a, b, slice }, Some((gop, key))) if a.len() == b.len() && !a.is_empty() => {
                to.pair(a, b, Position { gop, slice }, key);
            }
            (Piece::Pair { a, slice, .. }, _) => {
                out.push(Output::Report(Report::BadPair { number, slice }));
                to.common(a);
            }
        }
    }
}

/// The audio tracks that a segment has which begins now.
fn sounding(voices: &Voices) -> Vec<SoundLane> {
    let lane = |(track, prepared): (AudioTrack, &Prepared<_>)| {
        SoundLane::new(track, prepared.clone(), voices.of(track).clock.generation())
    };
    voices.chosen().map(lane).collect()
}

impl Open {
    pub(super) fn new(
        number: u64,
        start_90k: i64,
        video: Option<Prepared<VideoConfig>>,
        voices: &Voices,
    ) -> Open {
        let part = OpenPart { start_90k, ..OpenPart::default() };
        let (video, audio, encodings) = (video.map(Lane::new), sounding(voices), Vec::new());
        Open { number, start_90k, discontinuity: None, video, audio, encodings, gops: Vec::new(), part }
    }

    /// Takes in the further encodings that begin as the picture does; before anything is published.
    pub(super) fn choose(
        &mut self,
        encodings: &mut Encodings,
        previous: Option<&Names>,
        out: &mut Vec<Output>,
    ) {
        if self.has_video() {
            let had = |encoding, name: &str| {
                let before = previous.and_then(|names| names.of(Track::Encoding(encoding)));
                before.is_some_and(|before| before == name)
            };
            let first = self.part.pictures.first().copied();
            self.encodings = encodings.choose(self.number, first, had, out);
        }
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
    pub(super) fn join(&mut self, voices: &Voices) {
        self.audio = sounding(voices);
    }

    pub(super) fn names(&self) -> Names {
        let video = self.video.iter().map(|lane| (Track::Video, lane.prepared.name.clone()));
        let audio = self.audio.iter().map(|of| (Track::Audio(of.track), of.lane.prepared.name.clone()));
        let encodings =
            self.encodings.iter().map(|of| (Track::Encoding(of.encoding), of.lane.prepared.name.clone()));
        Names(video.chain(audio).chain(encodings).collect())
    }

    pub(super) fn same_tracks(&self, video: Option<&Prepared<VideoConfig>>, voices: &Voices) -> bool {
        self.video.as_ref().map(|lane| &lane.prepared) == video
            && self.audio.iter().map(|of| (of.track, &of.lane.prepared)).eq(voices.chosen())
    }

    /// Whether a GOP under this code key may join: one key an object.
    pub(super) fn takes_key(&self, code_key: u32) -> bool {
        let closed = self.video.as_ref().map_or(0, |lane| lane.pieces.code_key());
        let now = if closed == 0 { self.part.video.code_key() } else { closed };
        now == 0 || code_key == 0 || now == code_key
    }

    /// Bytes of the largest track that may cut: not of a further encoding.
    pub(super) fn bytes(&self) -> usize {
        let video = self.video.as_ref().map_or(0, |lane| lane.pieces.len()) + self.part.video.len();
        self.audio.iter().map(SoundLane::bytes).fold(video, usize::max)
    }

    pub(super) fn pairs(&self) -> usize {
        self.video.as_ref().map_or(0, |lane| lane.pieces.pairs()) + self.part.video.pairs()
    }

    /// Pictures so far.
    pub(super) fn samples(&self) -> usize {
        self.video.as_ref().map_or(0, |lane| lane.samples) + self.part.pictures.len()
    }

    pub(super) fn part_has_samples(&self) -> bool {
        !self.part.pictures.is_empty() || self.audio.iter().any(SoundLane::has_samples)
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
        self.gops.extend(unit.gop.clone().filter(|_| unit.idr));
        if withheld {
            return;
        }
        let before = self.part.video.len();
        let AccessUnit { dts_90k, composition_90k, idr, .. } = unit;
        let marked = begins_marked(&unit);
        pieces(unit, self.number, &mut self.part.video, out);
        let size = (self.part.video.len() - before) as u32; // at most UNIT_BYTES_MAX
        self.part.pictures.push(Picture { dts_90k, composition_90k, size, idr, marked });
    }

    /// Adds a placed frame of the first audio track, which drives where there is no picture.
    pub(super) fn sound(&mut self, sample: u64, samples: u32, data: Bytes) {
        if let Some(first) = self.audio.first_mut() {
            first.push(sample, samples, data);
        }
    }

    /// Takes the audio that waited for a part that ends here.
    pub(super) fn drain(&mut self, voices: &mut Voices, end_90k: i64, out: &mut Vec<Output>) {
        for track in AudioTrack::ALL {
            if self.video.is_none() && track.is_first() {
                continue; // what drives never waits
            }
            let clock = &mut voices.of_mut(track).clock;
            // Of a track that is not here: nobody's, and dropped.
            let mut lane = self.audio.iter_mut().find(|lane| lane.track == track);
            let of = lane.as_ref().map(|of| (of.generation, of.lane.prepared.config.clone()));
            if let Some((_, config)) = &of {
                clock.set_rate(config.sample_rate);
            }
            let of = of.as_ref().map(|(generation, config)| (*generation, &**config));
            while let Some((sample, samples, data)) = clock.next_before(end_90k, of, self.number, out) {
                if let Some(lane) = &mut lane {
                    lane.push(sample, samples, data);
                }
            }
        }
    }

    /// The init sections of its tracks.
    pub(super) fn inits(&self) -> Vec<(String, Output)> {
        let plain = |init: &Bytes| Object::plain(init.clone());
        let mut inits = Vec::new();
        let first = self.video.iter().map(|lane| (Track::Video, &lane.prepared));
        let further = self.encodings.iter().map(|of| (Track::Encoding(of.encoding), &of.lane.prepared));
        for (track, Prepared { config, name, init }) in first.chain(further) {
            let info = TrackInfo {
                width: config.width,
                height: config.height,
                millihertz: config.millihertz,
                ..info(track, &config.codec)
            };
            let object = plain(init);
            inits.push((name.clone(), Output::Init { track, name: name.clone(), object, info }));
        }
        for of in &self.audio {
            let Prepared { config, name, init } = &of.lane.prepared;
            let (track, object) = (Track::Audio(of.track), plain(init));
            let info = TrackInfo { channels: config.channels, ..info(track, &config.codec) };
            inits.push((name.clone(), Output::Init { track, name: name.clone(), object, info }));
        }
        inits
    }

    /// Closes the open part: one fragment a track, all of the same ticks.
    pub(super) fn close_part(
        &mut self,
        end_90k: i64,
        date_unix_ms: i64,
        (voices, encodings): (&mut Voices, &mut Encodings),
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
        let independent = match &self.video {
            Some(lane) => lane.parts.last().is_some_and(|part| part.independent),
            None => true,
        };
        for lane in &mut self.audio {
            let (of, place) = (of(&lane.lane.prepared.name), (number, start_90k, duration_90k, independent));
            out.push(lane.close(of, place, &mut voices.of_mut(lane.track).clock));
        }
        encodings.drop_before(end_90k, &self.encodings);
        for lane in &mut self.encodings {
            let (part, samples) = lane.take(encodings, end_90k, out);
            let first = part.pictures.first();
            let decode_time = first.map_or(start_90k, |picture| picture.dts_90k) as u64;
            let independent = first.is_some_and(|picture| picture.idr);
            let place = (number, start_90k, duration_90k, independent);
            let (track, of) = (Track::Encoding(lane.encoding), of(&lane.lane.prepared.name));
            out.push(lane.lane.close(track, of, place, decode_time, &samples, &part.video));
        }
    }

    /// The whole segment; every part is closed.
    pub(super) fn finish(self, end_90k: i64, voices: &Voices, run: &Run, out: &mut Vec<Output>) {
        let independent = match &self.video {
            Some(lane) => lane.parts.first().is_some_and(|part| part.independent),
            None => true,
        };
        if self.video.as_ref().is_some_and(|lane| lane.samples == 0) {
            out.push(Output::Report(Report::EmptyVideo { number: self.number }));
        }
        for of in self.audio.iter().filter(|of| of.lane.samples == 0) {
            let (track, number) = (Track::Audio(of.track), self.number);
            out.push(Output::Report(Report::EmptyAudio { track, number }));
        }
        let (mut tracks, mut objects, mut inits) = (Vec::new(), Vec::new(), Vec::new());
        let mut add = |init: Bytes, (entry, object): (SegmentTrack, Object)| {
            inits.push(init);
            objects.push((entry.track, object));
            tracks.push(entry);
        };
        if let Some(lane) = self.video {
            add(lane.prepared.init.clone(), lane.finish(Track::Video, None));
        }
        for of in self.audio {
            let end = voices.of(of.track).clock.sound_end();
            add(of.lane.prepared.init.clone(), of.lane.finish(Track::Audio(of.track), end));
        }
        for of in self.encodings {
            let init = of.lane.prepared.init.clone();
            let (entry, object) = of.lane.finish(Track::Encoding(of.encoding), None);
            add(init, (SegmentTrack { gops: of.gops, ..entry }, object));
        }
        let source = |track| {
            let at = objects.iter().position(|(of, _)| *of == track)?;
            Some(Source { init: &inits[at], object: &objects[at].1 })
        };
        let has_mpeg_ts = run.mpeg_ts && mpeg_ts::is_there(source(Track::Video), source(Track::AUDIO));
        if run.mpeg_ts && !has_mpeg_ts {
            out.push(Output::Report(Report::NoMpegTs { number: self.number }));
        }
        let record = Segment {
            number: self.number,
            run: run.id,
            discontinuity: self.discontinuity.unwrap_or(run.first_discontinuity),
            start_90k: self.start_90k,
            duration_90k: end_90k - self.start_90k,
            date_unix_ms: run.anchor_unix_ms.saturating_add(self.start_90k / 90),
            independent,
            gops: self.gops,
            tracks,
            has_mpeg_ts,
            key: None,
        };
        out.push(Output::Segment { record, objects });
    }

    /// Samples a second of its audio tracks.
    pub(super) fn sample_rates(&self) -> impl Iterator<Item = u32> {
        self.audio.iter().map(|of| of.lane.prepared.config.sample_rate)
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
        let lanes = self.video.as_ref().is_none_or(Lane::is_sane)
            && self.audio.iter().all(|lane| lane.is_sane(ticks_max))
            && self.audio.is_sorted_by(|a, b| a.track < b.track)
            && self.encodings.iter().all(|of| of.lane.is_sane())
            && self.encodings.is_sorted_by(|a, b| a.encoding < b.encoding);
        in_range(self.start_90k)
            && in_range(part.start_90k)
            && self.start_90k <= part.start_90k
            && part.pictures.iter().all(|picture| in_range(picture.dts_90k))
            && part.pictures.is_sorted_by(|a, b| a.dts_90k < b.dts_90k)
            && pictures == part.video.len() as u64
            && part.video.is_sane()
            && lanes
    }
}

impl OpenPart {
    pub(super) fn picture_samples(&self, end_90k: i64) -> Vec<Sample> {
        let next = self.pictures.iter().skip(1).map(|picture| picture.dts_90k).chain([end_90k]);
        let sample = |(picture, next): (&Picture, i64)| Sample {
            duration: u32::try_from(next - picture.dts_90k).unwrap_or(1), // bounded by MAX; the end is after all
            size: picture.size,
            composition: picture.composition_90k,
            sync: picture.idr,
        };
        self.pictures.iter().zip(next).map(sample).collect()
    }
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
