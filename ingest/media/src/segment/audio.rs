//! Audio time: samples are counted, the publisher's milliseconds are an anchor.
//!
//! In: frames with the times they came under. Out: the sample each starts with. Pure.
//!
//! Milliseconds jitter, samples do not: a frame starts where the last one ended. Only where its own time is off by more
//! than an AAC frame does that count: later leaves a gap, earlier is an overlap and the frame is dropped, since a decode time
//! never goes back.
//!
//! **Seam.** Where a publisher left and one comes back, sound and picture ended at different times, and begin at different
//! times: up to a frame each. Those are filled with silent frames, so that the track has no hole at all.

use super::report::{DropCause, Output, Report};
use crate::unit::{AAC_FRAME_SAMPLES, AudioConfig, AudioFrame};
use bytes::Bytes;
use ingest_api::window::SoundEnd;
use ingest_api::{AudioTrack, Track};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Frames that wait for a picture: 20 s at 96 kHz.
pub(super) const QUEUE_FRAMES_MAX: usize = 2_048;
/// Bytes that wait for a picture: 20 s at over 1 Mb/s.
pub(super) const QUEUE_BYTES_MAX: usize = 4 << 20;

/// Audio later than this against its picture is given up, in seconds.
const LATE_S: u64 = 3;

/// Silent frames that a seam is filled with at most: two that such times explain, and one for rounding.
const SEAM_FRAMES_MAX: u64 = 3;

/// A frame's own time may be off by so many samples.
const SLACK: u64 = AAC_FRAME_SAMPLES as u64;
const TICKS: u128 = ingest_api::window::TICKS_PER_SECOND as u128;

/// One audio track's clock and the frames that wait for their part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AudioClock {
    track: AudioTrack,
    queue: VecDeque<Waiting>,
    queue_bytes: usize,
    generation: u64,
    /// Samples a second that `end` counts in.
    rate: u32,
    /// First sample after the last frame.
    end: u64,
    /// Whether `end` is where the next frame belongs, or only where it may start.
    anchored: bool,
    /// The next frame is the first of a publisher that goes on where another one, or itself, had left.
    seam: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    generation: u64,
    time_90k: i64,
    data: Bytes,
}

/// Where a frame goes.
pub(super) struct Placed {
    /// Its first sample.
    pub(super) sample: u64,
    /// The same as a tick, rounded down.
    pub(super) tick_90k: i64,
    /// Where the frame before it ended, as a tick.
    pub(super) before_90k: i64,
}

impl AudioClock {
    /// Of a track without a frame so far.
    pub(super) fn new(track: AudioTrack) -> AudioClock {
        AudioClock {
            track,
            queue: VecDeque::new(),
            queue_bytes: 0,
            generation: 0,
            rate: ingest_api::window::TICKS_PER_SECOND as u32,
            end: 0,
            anchored: false,
            seam: false,
        }
    }

    /// After a restart: goes on where the sound of the last segment ended, or at that segment's end if it had none.
    pub(super) fn after(track: AudioTrack, tick_90k: i64, sound: Option<SoundEnd>) -> AudioClock {
        match sound {
            Some(SoundEnd { sample, rate }) => {
                AudioClock { rate, end: sample, anchored: true, seam: true, ..AudioClock::new(track) }
            }
            None => AudioClock { end: tick_90k.max(0) as u64, ..AudioClock::new(track) },
        }
    }

    /// Where the sound so far ends; `None` before the first frame.
    pub(super) fn sound_end(&self) -> Option<SoundEnd> {
        self.anchored.then_some(SoundEnd { sample: self.end, rate: self.rate })
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Frames from here on belong to another configuration.
    pub(super) fn next_config(&mut self) {
        self.generation += 1;
    }

    /// The next frame is joined to the last one; frames still waiting lie beyond what is published.
    pub(super) fn publisher_left(&mut self, out: &mut Vec<Output>) {
        let track = self.track;
        out.extend(self.queue.drain(..).map(|frame| dropped(track, frame.time_90k, DropCause::AfterEnd)));
        self.queue_bytes = 0;
        self.seam = true;
        self.generation += 1;
    }

    pub(super) fn set_rate(&mut self, rate: u32) {
        if rate != self.rate {
            let end = u128::from(self.end) * u128::from(rate);
            self.end = end.div_ceil(u128::from(self.rate)) as u64;
            self.rate = rate;
            (self.anchored, self.seam) = (false, false);
        }
    }

    /// Ticks of so many samples, rounded up.
    pub(super) fn length_90k(&self, samples: u32) -> i64 {
        (u128::from(samples) * TICKS).div_ceil(u128::from(self.rate)) as i64
    }

    /// Where the last frame ended, as a tick, rounded down.
    pub(super) fn end_90k(&self) -> i64 {
        self.tick(self.end)
    }

    /// The decode time of an empty fragment for a part that starts at this tick.
    ///
    /// It stays where the last frame ended, since frames may only be late, and follows the part at `LATE_S`: what comes
    /// later than that is dropped, so that players find the track near its place.
    pub(super) fn nothing_at(&mut self, tick_90k: i64) -> u64 {
        let place = self.sample(tick_90k);
        let floor = place.saturating_sub(LATE_S * u64::from(self.rate));
        if floor > self.end {
            self.end = if self.anchored { floor } else { place };
        }
        self.end
    }

    /// Keeps a frame until its part closes.
    pub(super) fn wait(&mut self, frame: AudioFrame, out: &mut Vec<Output>) {
        self.queue_bytes += frame.data.len();
        let (time_90k, data) = (frame.time_90k, frame.data);
        self.queue.push_back(Waiting { generation: self.generation, time_90k, data });
        while self.queue.len() > QUEUE_FRAMES_MAX || self.queue_bytes > QUEUE_BYTES_MAX {
            let Some(oldest) = self.queue.pop_front() else { break };
            self.queue_bytes -= oldest.data.len();
            out.push(dropped(self.track, oldest.time_90k, DropCause::Queue));
        }
    }

    /// The next waiting frame before a tick that is of this generation and configuration, placed: its first sample, how
    /// many it has, its bytes.
    pub(super) fn next_before(
        &mut self,
        tick_90k: i64,
        lane: Option<(u64, &AudioConfig)>,
        number: u64,
        out: &mut Vec<Output>,
    ) -> Option<(u64, u32, Bytes)> {
        while self.queue.front()?.time_90k < tick_90k {
            let frame = self.queue.pop_front()?;
            self.queue_bytes -= frame.data.len();
            let Some((_, config)) = lane.filter(|(generation, _)| *generation == frame.generation) else {
                out.push(dropped(self.track, frame.time_90k, DropCause::OtherConfig));
                continue;
            };
            if self.fill_seam(&frame, config) {
                continue;
            }
            let Some(samples) = config.samples(&frame.data) else { continue }; // asked before it waited
            if let Some(placed) = self.place(frame.time_90k, samples, number, out) {
                return Some((placed.sample, samples, frame.data));
            }
        }
        None
    }

    /// Puts silent frames before the first one of a seam, and that one behind them. `false` where none are missing.
    fn fill_seam(&mut self, frame: &Waiting, config: &AudioConfig) -> bool {
        let silence =
            config.silence().and_then(|silence| Some((silence, u64::from(config.samples(silence)?))));
        let (true, Some((silence, samples))) = (self.seam && self.anchored, silence) else { return false };
        let missing = (self.sample(frame.time_90k).saturating_sub(self.end) + samples / 2) / samples;
        if !(1..=SEAM_FRAMES_MAX).contains(&missing) {
            return false;
        }
        self.seam = false;
        self.queue_bytes += frame.data.len() + silence.len() * missing as usize;
        self.queue.push_front(frame.clone());
        for index in (0..missing).rev() {
            let time_90k = self.tick(self.end + index * samples);
            let data = Bytes::from_static(silence);
            self.queue.push_front(Waiting { generation: frame.generation, time_90k, data });
        }
        true
    }

    /// Counts a frame in; `None` where it would lie over the last one by more than a frame.
    pub(super) fn place(
        &mut self,
        time_90k: i64,
        samples: u32,
        number: u64,
        out: &mut Vec<Output>,
    ) -> Option<Placed> {
        let (own, before) = (self.sample(time_90k), self.end);
        if own + SLACK < before {
            out.push(dropped(self.track, time_90k, DropCause::Overlap));
            return None;
        }
        let sample = if own > before + SLACK {
            if self.anchored {
                let (track, samples) = (Track::Audio(self.track), own - before);
                out.push(Output::Report(Report::AudioReanchored { track, number, samples }));
            }
            own
        } else if self.anchored {
            before
        } else {
            own.max(before)
        };
        (self.anchored, self.seam) = (true, false);
        self.end = sample + u64::from(samples);
        Some(Placed { sample, tick_90k: self.tick(sample), before_90k: self.tick(before) })
    }

    /// The bounds that `restore` relies on.
    pub(super) fn is_sane(&self, ticks_max: i64) -> bool {
        let times = self.queue.iter().all(|frame| (0..=ticks_max).contains(&frame.time_90k));
        let bytes: usize = self.queue.iter().map(|frame| frame.data.len()).sum();
        times
            && bytes == self.queue_bytes
            && self.queue.len() <= QUEUE_FRAMES_MAX
            && bytes <= QUEUE_BYTES_MAX
            && (1..=96_000).contains(&self.rate)
            && self.end <= (ticks_max as u64) * 2
            && self.generation < 1 << 60
    }

    /// Rounded to the nearest sample.
    fn sample(&self, tick_90k: i64) -> u64 {
        let samples = u128::from(tick_90k.max(0) as u64) * u128::from(self.rate);
        ((samples + TICKS / 2) / TICKS) as u64
    }

    fn tick(&self, sample: u64) -> i64 {
        (u128::from(sample) * TICKS / u128::from(self.rate)) as i64
    }
}

fn dropped(track: AudioTrack, time_90k: i64, why: DropCause) -> Output {
    Output::Report(Report::Dropped { track: Track::Audio(track), time_90k, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(rate: u32) -> AudioClock {
        let mut clock = AudioClock::new(AudioTrack::FIRST);
        clock.set_rate(rate);
        clock
    }

    #[test]
    fn rounded_milliseconds_are_counted_not_followed() {
        let (mut clock, mut out) = (clock(44_100), Vec::new());
        for frame in 0u64..10_000 {
            let ms = (frame * 1_024 * 1_000 / 44_100) as i64;
            assert_eq!(clock.place(ms * 90, 1_024, 1, &mut out).unwrap().sample, frame * 1_024);
        }
        assert!(out.is_empty());
    }

    #[test]
    fn beyond_a_frame_a_gap_is_left_and_an_overlap_dropped() {
        let (mut clock, mut out) = (clock(48_000), Vec::new());
        assert_eq!(clock.place(0, 1_024, 1, &mut out).unwrap().sample, 0);
        assert_eq!(clock.place(3_840, 1_024, 1, &mut out).unwrap().sample, 1_024, "one frame late is jitter");
        assert_eq!(clock.place(90_000, 1_024, 1, &mut out).unwrap().sample, 48_000);
        assert_eq!(
            out,
            [Output::Report(Report::AudioReanchored {
                track: Track::AUDIO,
                number: 1,
                samples: 48_000 - 2_048
            })]
        );
        assert!(clock.place(80_000, 1_024, 1, &mut out).is_none());
        assert_eq!(out[1], dropped(AudioTrack::FIRST, 80_000, DropCause::Overlap));
        assert_eq!(clock.place(91_920, 1_024, 1, &mut out).unwrap().sample, 49_024);
    }

    /// What a drained queue gives: first sample and length of each frame.
    fn drained(clock: &mut AudioClock, out: &mut Vec<Output>) -> Vec<(u64, usize)> {
        let config = AudioConfig::of_asc(Bytes::from_static(&[0x11, 0x90])).unwrap();
        let lane = Some((clock.generation(), &config));
        let next = || clock.next_before(i64::MAX, lane, 1, out);
        std::iter::from_fn(next).map(|(sample, _, data)| (sample, data.len())).collect()
    }

    fn frame(time_90k: i64) -> AudioFrame {
        AudioFrame { track: AudioTrack::FIRST, time_90k, data: Bytes::from_static(&[1; 9]) }
    }

    #[test]
    fn a_seam_is_filled_with_silence_and_nothing_else_is() {
        for (gap, silent) in [(-1_023, 0), (0, 0), (511, 0), (512, 1), (1_400, 1), (2_047, 2), (3_500, 3)] {
            for restarted in [false, true] {
                let (mut clock, mut out) = (clock(48_000), Vec::new());
                clock.place(0, 1_024, 1, &mut out);
                if restarted {
                    clock = AudioClock::after(AudioTrack::FIRST, 7, clock.sound_end());
                } else {
                    clock.publisher_left(&mut out);
                }
                clock.wait(frame((1_024 + gap) * 90_000 / 48_000), &mut out);
                clock.wait(frame((2_048 + gap) * 90_000 / 48_000), &mut out);
                let frames = drained(&mut clock, &mut out);
                let samples: Vec<u64> = frames.iter().map(|(sample, _)| *sample).collect();
                let expected: Vec<u64> = (1..silent + 3).map(|index| index * 1_024).collect();
                assert_eq!(samples, expected, "{gap} {restarted}");
                assert_eq!(frames.iter().filter(|(_, len)| *len == 6).count() as u64, silent);
                assert!(out.is_empty() && clock.queue_bytes == 0);
            }
        }
        // A silence of the publisher's own is a gap, as is one that no seam explains.
        let (mut clock, mut out) = (clock(48_000), Vec::new());
        clock.place(0, 1_024, 1, &mut out);
        clock.wait(frame(5_760), &mut out);
        assert_eq!(drained(&mut clock, &mut out), [(3_072, 9)]);
        clock.publisher_left(&mut out);
        clock.wait(frame(90_000), &mut out);
        assert_eq!(drained(&mut clock, &mut out), [(48_000, 9)]);
        assert_eq!(out.len(), 2);
    }

    #[test]
    fn another_rate_never_takes_the_end_back() {
        let (mut clock, mut out) = (clock(48_000), Vec::new());
        clock.place(90_000, 1_024, 1, &mut out);
        clock.set_rate(44_100);
        let placed = clock.place(90_000, 1_024, 1, &mut out).unwrap();
        assert_eq!(placed.sample, (49_024u64 * 44_100).div_ceil(48_000));
    }
}
