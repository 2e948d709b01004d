//! Audio on its way into a segment: it waits for its part, or drives where there is no picture.
//!
//! In: configurations and frames of all audio tracks. Out: where the first one drives, closed parts and segments. Pure.

use super::lane::Prepared;
use super::open::Open;
use super::report::{DropCause, Output, Report};
use super::{HOLE_90K, STALL_90K, Segmenter, TICKS_MAX, UNIT_BYTES_MAX, prepared};
use crate::container::cmaf;
use crate::unit::{AudioCoding, AudioConfig, AudioFrame};
use ingest_api::{AudioTrack, Track};
use std::sync::Arc;

impl Segmenter {
    pub(super) fn sounds_like(&mut self, track: AudioTrack, config: Arc<AudioConfig>, out: &mut Vec<Output>) {
        let voice = self.voices.of_mut(track);
        if voice.config.as_ref().is_some_and(|now| now.config == config) {
            return;
        }
        let of = Track::Audio(track);
        voice.clock.next_config();
        // The first one of such a stream ends the publish where it is encrypted.
        let encrypts = config.coding == AudioCoding::Aac || track.is_first();
        voice.config = if self.run.encryption.is_some() && !encrypts {
            let why = "only AAC is encrypted: this further track is left out".to_owned();
            out.push(Output::Report(Report::BadConfig { track: of, why }));
            None
        } else {
            let init = cmaf::audio_init(&config);
            prepared(of, config, init, out)
        };
        if let Some(open) = self.open.as_mut().filter(|open| !open.is_published() && open.has_video()) {
            open.join(&self.voices);
        }
    }

    pub(super) fn sound(&mut self, frame: AudioFrame, out: &mut Vec<Output>) {
        let of = frame.track;
        let dropped = |why| {
            let (track, time_90k) = (Track::Audio(of), frame.time_90k);
            Output::Report(Report::Dropped { track, time_90k, why })
        };
        let config = self.voices.chosen().find(|(track, _)| *track == of);
        let Some((_, Prepared { config, .. })) = config else {
            return out.push(dropped(DropCause::NoConfig));
        };
        if !(0..=TICKS_MAX).contains(&frame.time_90k) {
            return out.push(dropped(DropCause::Time));
        }
        if frame.data.is_empty() || frame.data.len() > UNIT_BYTES_MAX {
            return out.push(dropped(DropCause::Size));
        }
        let rate = config.sample_rate;
        let Some(samples) = config.samples(&frame.data) else {
            return out.push(dropped(DropCause::Size));
        };
        match &self.open {
            Some(open) if open.has_video() => {
                let time = frame.time_90k;
                self.voices.of_mut(of).clock.wait(frame, out);
                let (target, max) = (self.target_90k(), self.max_90k());
                while let Some(open) =
                    self.open.as_ref().filter(|open| time - open.start_90k() > max + STALL_90K)
                {
                    if time - open.start_90k() > HOLE_90K {
                        break; // no timeline gives this: the queue's bound answers it
                    }
                    let end = self.stalled_end(open, target, max);
                    self.cut(end, out);
                    self.open_at(end, out);
                }
            }
            None if self.video.is_some() => out.push(dropped(DropCause::BeforeStart)),
            _ if of.is_first() => self.sound_alone(frame, rate, samples, out),
            Some(_) => self.voices.of_mut(of).clock.wait(frame, out),
            None => out.push(dropped(DropCause::BeforeStart)),
        }
    }

    /// Audio without video drives the boundaries itself.
    fn sound_alone(&mut self, frame: AudioFrame, rate: u32, samples: u32, out: &mut Vec<Output>) {
        let floor = self.open.as_ref().map(Open::start_90k).or(self.next_90k).unwrap_or(0);
        let clock = self.voices.clock_mut();
        clock.set_rate(rate);
        let time_90k = frame.time_90k.max(floor);
        let Some(placed) = clock.place(time_90k, samples, self.next_number, out) else { return };
        let (tick, length) = (placed.tick_90k, clock.length_90k(samples));
        if let Some(open) = &self.open {
            let elapsed = tick - open.start_90k();
            let changed = !open.same_tracks(None, &self.voices);
            if elapsed > self.max_90k() {
                // A hole in the sound alone: the segment ends where its sound ended.
                let end =
                    placed.before_90k.clamp(open.part_start_90k() + 1, open.start_90k() + self.max_90k());
                self.cut(end, out);
            } else if elapsed > 0 && tick > open.part_start_90k() && (changed || elapsed >= self.target_90k())
            {
                self.cut(tick, out);
            } else if tick + length - open.part_start_90k() > self.run.part_90k.max(1)
                && open.part_has_samples()
            {
                self.close_part(tick, out);
            }
        }
        if self.open.is_none() && !self.open_at(tick, out) {
            return;
        }
        let open = self.open.as_mut().expect("opened above");
        open.sound(placed.sample, samples, frame.data);
    }
}
