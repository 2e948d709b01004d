//! The audio tracks of a run: for each its configuration, where it has one, and its clock.
//!
//! In: configurations. Out: which tracks a segment has. Pure. Further tracks go beside the first one, or not at all: it is what
//! players begin with, and what drives where there is no picture. A track that ends keeps its clock, for when it returns.

use super::audio::AudioClock;
use super::lane::Prepared;
use super::report::Output;
use crate::unit::AudioConfig;
use ingest_api::AudioTrack;
use ingest_api::track::AUDIO_TRACKS_MAX;
use serde::{Deserialize, Serialize};

/// One audio track.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Voice {
    pub(super) config: Option<Prepared<AudioConfig>>,
    pub(super) clock: AudioClock,
}

/// All that there may be, by their ids.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Voices([Voice; AUDIO_TRACKS_MAX]);

impl Voices {
    /// None of them yet, with these clocks.
    pub(super) fn new(clock: impl Fn(AudioTrack) -> AudioClock) -> Voices {
        Voices(AudioTrack::ALL.map(|track| Voice { config: None, clock: clock(track) }))
    }

    pub(super) fn of(&self, track: AudioTrack) -> &Voice {
        &self.0[track.id()]
    }

    pub(super) fn of_mut(&mut self, track: AudioTrack) -> &mut Voice {
        &mut self.0[track.id()]
    }

    /// The clock of the first one.
    pub(super) fn clock(&self) -> &AudioClock {
        &self.of(AudioTrack::FIRST).clock
    }

    pub(super) fn clock_mut(&mut self) -> &mut AudioClock {
        &mut self.of_mut(AudioTrack::FIRST).clock
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Voice> {
        self.0.iter()
    }

    /// Those that a segment has that begins now.
    pub(super) fn chosen(&self) -> impl Iterator<Item = (AudioTrack, &Prepared<AudioConfig>)> {
        let there = self.of(AudioTrack::FIRST).config.is_some();
        let chosen = AudioTrack::ALL.into_iter().zip(&self.0).filter(move |_| there);
        chosen.filter_map(|(track, voice)| Some((track, voice.config.as_ref()?)))
    }

    /// The publisher left, and took its configurations along.
    pub(super) fn publisher_left(&mut self, out: &mut Vec<Output>) {
        for voice in &mut self.0 {
            voice.clock.publisher_left(out);
            voice.config = None;
        }
    }
}
