//! One track of a segment that is being filled: the bytes of its closed parts, and of audio the frames of the open one.
//!
//! In: fragments and placed audio frames. Out: part records with their bytes, and the track's record of the segment. Pure.

use super::audio::AudioClock;
use super::report::{OfSegment, Output};
use crate::container::cmaf::{self, Sample};
use crate::container::pieces::Pieces;
use crate::unit::AudioConfig;
use bytes::Bytes;
use ingest_api::window::{Part, SegmentTrack, SoundEnd};
use ingest_api::{AudioTrack, Object, Track};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A configuration and the init section made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared<C> {
    pub(super) config: Arc<C>,
    pub(super) name: String,
    pub(super) init: Bytes,
}

/// One track of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lane<C> {
    pub(super) prepared: Prepared<C>,
    pub(super) pieces: Pieces,
    pub(super) parts: Vec<Part>,
    pub(super) samples: usize,
}

/// Number of the segment, start and duration of the part in ticks, and whether it is independent.
pub(super) type Place = (u64, i64, i64, bool);

impl<C> Lane<C> {
    pub(super) fn new(prepared: Prepared<C>) -> Lane<C> {
        Lane { prepared, pieces: Pieces::default(), parts: Vec::new(), samples: 0 }
    }

    /// Takes a part's samples in.
    pub(super) fn close(
        &mut self,
        track: Track,
        of: OfSegment,
        (number, start_90k, duration_90k, independent): Place,
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

    /// The whole track of the segment.
    pub(super) fn finish(self, track: Track, sound_end: Option<SoundEnd>) -> (SegmentTrack, Object) {
        let (object, sha256) = self.pieces.freeze();
        let (init, len, parts) = (self.prepared.name, object.len() as u64, self.parts);
        (SegmentTrack { track, init, len, sha256, parts, clear: None, sound_end, gops: Vec::new() }, object)
    }

    pub(super) fn is_sane(&self) -> bool {
        self.pieces.is_sane() && self.samples <= 1 << 20
    }
}

/// `sequence_number` of a fragment: grows through a segment and from one to the next, and is no counter.
fn sequence(number: u64, index: u32) -> u32 {
    (number as u32).wrapping_mul(256).wrapping_add(index.min(255)).wrapping_add(1)
}

/// One audio track of a segment, and the frames of its open part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SoundLane {
    pub(super) track: AudioTrack,
    pub(super) lane: Lane<AudioConfig>,
    /// Which frames are this segment's.
    pub(super) generation: u64,
    sounds: Vec<Sound>,
    payload: Pieces,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Sound {
    sample: u64,
    samples: u32,
    size: u32,
}

impl SoundLane {
    pub(super) fn new(track: AudioTrack, prepared: Prepared<AudioConfig>, generation: u64) -> SoundLane {
        let (lane, sounds, payload) = (Lane::new(prepared), Vec::new(), Pieces::default());
        SoundLane { track, lane, generation, sounds, payload }
    }

    /// Adds a placed frame.
    pub(super) fn push(&mut self, sample: u64, samples: u32, data: Bytes) {
        self.sounds.push(Sound { sample, samples, size: data.len() as u32 }); // at most UNIT_BYTES_MAX
        self.payload.common(data);
    }

    /// Whether the open part has a frame.
    pub(super) fn has_samples(&self) -> bool {
        !self.sounds.is_empty()
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> usize {
        self.lane.pieces.len() + self.payload.len()
    }

    /// Closes the open part.
    pub(super) fn close(&mut self, of: OfSegment, place: Place, clock: &mut AudioClock) -> Output {
        let (sounds, payload) = (std::mem::take(&mut self.sounds), std::mem::take(&mut self.payload));
        let decode_time = match sounds.first() {
            Some(sound) => sound.sample,
            None => clock.nothing_at(place.1),
        };
        self.lane.close(Track::Audio(self.track), of, place, decode_time, &samples(&sounds), &payload)
    }

    /// What `restore` relies on.
    pub(super) fn is_sane(&self, ticks_max: i64) -> bool {
        let bytes: u64 = self.sounds.iter().map(|sound| u64::from(sound.size)).sum();
        self.sounds.iter().all(|sound| sound.sample <= 2 * ticks_max as u64)
            && self.sounds.is_sorted_by(|a, b| a.sample < b.sample)
            && bytes == self.payload.len() as u64
            && self.payload.is_sane()
            && self.lane.is_sane()
    }
}

/// A gap inside a part makes the frame before it long: a fragment has one decode time.
fn samples(sounds: &[Sound]) -> Vec<Sample> {
    let next = sounds.iter().skip(1).map(|sound| Some(sound.sample)).chain([None]);
    let sample = |(sound, next): (&Sound, Option<u64>)| Sample {
        duration: next.map_or(sound.samples, |next| u32::try_from(next - sound.sample).unwrap_or(u32::MAX)),
        size: sound.size,
        composition: 0,
        sync: true,
    };
    sounds.iter().zip(next).map(sample).collect()
}
