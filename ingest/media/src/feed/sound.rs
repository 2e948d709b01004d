//! Audio messages: what each has of which track, and what waits for the start.
//!
//! In: RTMP audio messages with their timestamps. Out: units of all tracks, in order of arrival. Pure; part of the feed.

use super::{ALONE_MS, AUDIO_FRAME_BYTES_MAX, Feed, FeedError, WAITING_BYTES_MAX, WAITING_FRAMES_MAX};
use crate::flv::Audio;
use crate::unit::{AudioCoding, AudioConfig, AudioFrame, Unit};
use bytes::Bytes;
use ingest_api::{AudioTrack, Track};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An audio frame before the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    track: AudioTrack,
    pub(super) timestamp_ms: u32,
    pub(super) data: Bytes,
}

impl Feed {
    pub(super) fn audio(&mut self, timestamp_ms: u32, payload: Bytes) -> Result<Vec<Unit>, FeedError> {
        let (read, left_out) =
            Audio::parse(payload).map_err(|source| FeedError::Flv { timestamp_ms, source })?;
        self.left_out(Track::AUDIO, left_out);
        let mut units = Vec::new();
        for (track, audio) in read {
            match self.of_track(track, timestamp_ms, audio, &mut units) {
                Ok(()) => {}
                // The first comes first: nothing of the others is lost with it.
                Err(error) if track.is_first() => return Err(error),
                Err(_) => self.left_out(Track::Audio(track), 1),
            }
        }
        Ok(units)
    }

    /// What a message has of one audio track.
    fn of_track(
        &mut self,
        track: AudioTrack,
        timestamp_ms: u32,
        audio: Audio,
        units: &mut Vec<Unit>,
    ) -> Result<(), FeedError> {
        match audio {
            Audio::Config { coding, record } => {
                let now = &mut self.audio[track.id()];
                if now.as_ref().is_some_and(|now| now.coding == coding && now.record == record) {
                    return Ok(());
                }
                let config = match AudioConfig::of(coding, record) {
                    Ok(config) => Arc::new(config),
                    Err(source) => {
                        if !track.is_first() {
                            *now = None; // what follows is of a configuration that there is not
                        }
                        return Err(FeedError::Config { timestamp_ms, source });
                    }
                };
                *now = Some(config.clone());
                self.forget_waiting(|frame| frame.track == track);
                units.push(Unit::AudioConfig(track, config));
                Ok(())
            }
            Audio::Frame { coding, data } => self.sound(track, timestamp_ms, coding, data, units),
            Audio::Ignored(_) => {
                self.counts.ignored += 1;
                Ok(())
            }
        }
    }

    fn sound(
        &mut self,
        track: AudioTrack,
        timestamp_ms: u32,
        coding: AudioCoding,
        data: Bytes,
        units: &mut Vec<Unit>,
    ) -> Result<(), FeedError> {
        let config = self.audio[track.id()].as_ref().filter(|config| config.coding == coding);
        if data.is_empty() || config.is_none_or(|config| config.samples(&data).is_none()) {
            self.counts.dropped += 1;
            return Ok(());
        }
        if data.len() > AUDIO_FRAME_BYTES_MAX {
            return Err(FeedError::Large { track: Track::Audio(track), timestamp_ms, len: data.len() });
        }
        if self.started {
            let time_90k = self.stamp(Track::Audio(track), timestamp_ms);
            units.push(Unit::Audio(AudioFrame { track, time_90k, data }));
            return Ok(());
        }
        self.waiting_bytes += data.len();
        self.waiting.push_back(Waiting { track, timestamp_ms, data });
        while self.waiting.len() > WAITING_FRAMES_MAX || self.waiting_bytes > WAITING_BYTES_MAX {
            self.forget_first();
        }
        let first = self.waiting.iter().find(|frame| frame.track.is_first());
        let oldest = first.map_or(timestamp_ms, |frame| frame.timestamp_ms);
        let alone = self.video.is_none()
            && track.is_first()
            && (timestamp_ms.wrapping_sub(oldest) as i32) >= ALONE_MS;
        if alone {
            // The first track's first frame is what the run goes on with.
            while self.waiting.front().is_some_and(|frame| !frame.track.is_first()) {
                self.forget_first();
            }
            self.start(Track::AUDIO);
            self.release(units);
        }
        Ok(())
    }

    fn forget_first(&mut self) {
        if let Some(frame) = self.waiting.pop_front() {
            self.waiting_bytes -= frame.data.len();
            self.counts.dropped += 1;
        }
    }

    pub(super) fn forget_waiting(&mut self, which: impl Fn(&Waiting) -> bool) {
        let before = self.waiting.len();
        self.waiting.retain(|frame| !which(frame));
        self.waiting_bytes = self.waiting.iter().map(|frame| frame.data.len()).sum();
        self.counts.dropped += (before - self.waiting.len()) as u64;
    }

    /// Everything that waits, stamped.
    pub(super) fn release(&mut self, units: &mut Vec<Unit>) {
        self.waiting_bytes = 0;
        for Waiting { track, timestamp_ms, data } in std::mem::take(&mut self.waiting) {
            let time_90k = self.stamp(Track::Audio(track), timestamp_ms);
            units.push(Unit::Audio(AudioFrame { track, time_90k, data }));
        }
    }
}
