//! From a publisher's messages to units: one feed for one connection of a publisher.
//!
//! In: RTMP audio, video and data messages with their timestamps, in order. Out: `Unit`s in order, or an error that names
//! timestamp and byte. Pure; `snapshot` and `restore` carry the whole state.
//!
//! **Start.** What comes first decides where the run goes on, so nothing is stamped before it is known: with a video
//! configuration that is the first IDR picture, and audio from before it is dropped; without one it is the first audio
//! frame, once `ALONE_MS` of audio came alone. That unit lands on the tick the feed was given, whatever its timestamp.
//!
//! **Trust.** The NAL units say what is an IDR picture, not the FLV key flag; of HEVC every picture that decoding may begin
//! with counts as one, as it does to those who write such streams, and of AV1 a key frame that is shown. After an error, a changed configuration or a
//! missing start the feed waits for the next IDR picture, since the ones between refer to what is not there.

mod walk;

pub use walk::NalFault;

use crate::config::ConfigError;
use crate::flv::{Audio, FlvError, Video};
use crate::saved::{self, SavedError};
use crate::timeline::{Event, Timeline};
use crate::unit::{AccessUnit, AudioCoding, AudioConfig, AudioFrame, Piece, Unit, VideoCoding, VideoConfig};
use bytes::Bytes;
use ingest_api::Track;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;
use thiserror::Error;
use walk::Picture;

/// Audio without any video configuration for this long is a stream without video.
pub const ALONE_MS: i32 = 1_000;
/// The largest access unit, in bytes: an uncompressed-looking 4K IDR is under 8 MB.
pub const ACCESS_UNIT_BYTES_MAX: usize = 16 << 20;
/// The largest audio frame, in bytes: AAC ends at 768 bytes a channel (ISO/IEC 14496-3 §4.5.3), Opus at 7,656 a stream of
/// 120 ms (RFC 6716 §3.2.5).
pub const AUDIO_FRAME_BYTES_MAX: usize = 16 << 10;
/// Audio frames that wait for the start: over 2 s at 96 kHz. The oldest is dropped and counted.
pub const WAITING_FRAMES_MAX: usize = 256;
/// Notes kept until they are taken; further ones are dropped, the counts go on.
const NOTES_MAX: usize = 64;

/// Which message it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// RTMP type 8.
    Audio,
    /// RTMP type 9.
    Video,
    /// RTMP types 15 and 18; nothing here needs them.
    Data,
}

/// Why a message is refused. The feed stays usable.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FeedError {
    /// The FLV head.
    #[error("message at {timestamp_ms} ms: {source}")]
    Flv {
        /// RTMP timestamp.
        timestamp_ms: u32,
        /// What is wrong.
        source: FlvError,
    },
    /// A sequence header.
    #[error("sequence header at {timestamp_ms} ms: {source}")]
    Config {
        /// RTMP timestamp.
        timestamp_ms: u32,
        /// What is wrong.
        source: ConfigError,
    },
    /// The NAL units or OBUs of a picture.
    #[error("picture at {timestamp_ms} ms, byte {offset} of its units: {why}")]
    Nal {
        /// RTMP timestamp.
        timestamp_ms: u32,
        /// Where, after the FLV head.
        offset: usize,
        /// What is wrong.
        why: NalFault,
    },
    /// Over `ACCESS_UNIT_BYTES_MAX` or `AUDIO_FRAME_BYTES_MAX`.
    #[error("{track:?} unit of {len} bytes at {timestamp_ms} ms is over the limit")]
    Large {
        /// Which track.
        track: Track,
        /// RTMP timestamp.
        timestamp_ms: u32,
        /// Its length.
        len: usize,
    },
}

/// Something worth a metric or a log line that is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// A timestamp that was not taken as it came.
    Time(Event),
    /// The feed began: which track landed on the start tick.
    Started(Track),
    /// The publisher sends more than one track of a kind; the first goes on.
    FurtherTracks(Track),
}

/// How often what happened; only ever grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Timestamps of another clock.
    pub jumps: u64,
    /// Timestamps moved forward.
    pub bumps: u64,
    /// Units dropped because nothing could start with them.
    pub dropped: u64,
    /// Messages without use here.
    pub ignored: u64,
    /// Units of video tracks beyond the first.
    pub further_video: u64,
    /// The same of audio tracks.
    pub further_audio: u64,
}

/// One publisher connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    timeline: Timeline,
    video: Option<Arc<VideoConfig>>,
    audio: Option<Arc<AudioConfig>>,
    started: bool,
    needs_idr: bool,
    /// Audio before the start.
    waiting: VecDeque<(u32, Bytes)>,
    counts: Counts,
    notes: Vec<Note>,
}

impl Feed {
    /// A feed whose first unit lands on `start_90k`: the segmenter's `next_tick`.
    pub fn new(start_90k: i64) -> Feed {
        Feed {
            timeline: Timeline::start(start_90k),
            video: None,
            audio: None,
            started: false,
            needs_idr: true,
            waiting: VecDeque::new(),
            counts: Counts::default(),
            notes: Vec::new(),
        }
    }

    /// Takes one message and gives the units it makes, in order.
    ///
    /// # Errors
    /// Media that cannot be what it claims, or another codec. The message is dropped and the feed goes on; whether the
    /// publisher stays is the caller's choice.
    pub fn push(&mut self, kind: Kind, timestamp_ms: u32, payload: Bytes) -> Result<Vec<Unit>, FeedError> {
        match kind {
            Kind::Data => {
                self.counts.ignored += 1;
                Ok(Vec::new())
            }
            Kind::Video => self.video(timestamp_ms, payload).inspect_err(|_| self.needs_idr = true),
            Kind::Audio => self.audio(timestamp_ms, payload),
        }
    }

    /// What happened since the last call.
    pub fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }

    /// What happened how often since the beginning.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The whole state.
    pub fn snapshot(&self) -> Vec<u8> {
        saved::write(self)
    }

    /// A feed that goes on where `snapshot` was taken.
    ///
    /// # Errors
    /// Bytes that are not such a state.
    pub fn restore(bytes: &[u8]) -> Result<Feed, SavedError> {
        let feed: Feed = saved::read("the feed", bytes)?;
        let fault = |what| Err(SavedError::Value { room: "the feed", what });
        if feed.waiting.len() > WAITING_FRAMES_MAX || feed.notes.len() > NOTES_MAX {
            return fault("a queue is longer than it may be");
        }
        let sane = |video: &Arc<VideoConfig>| match video.coding {
            VideoCoding::H264 | VideoCoding::Hevc => matches!(video.length_size, 1 | 2 | 4),
            VideoCoding::Av1 => video.length_size == 0,
        };
        if !feed.video.as_ref().is_none_or(sane) {
            return fault("a NAL length size");
        }
        Ok(feed)
    }

    fn video(&mut self, timestamp_ms: u32, payload: Bytes) -> Result<Vec<Unit>, FeedError> {
        let parsed = Video::parse(payload).map_err(|source| FeedError::Flv { timestamp_ms, source })?;
        match self.first_of(Track::Video, parsed) {
            Video::Config { coding, record } => {
                if self.video.as_ref().is_some_and(|now| now.coding == coding && now.record == record) {
                    return Ok(Vec::new());
                }
                let config = VideoConfig::of(coding, record)
                    .map_err(|source| FeedError::Config { timestamp_ms, source })?;
                let config = Arc::new(config);
                self.video = Some(config.clone());
                self.needs_idr = true;
                Ok(vec![Unit::VideoConfig(config)])
            }
            Video::Frame { coding, composition_ms, data, .. } => {
                self.picture(timestamp_ms, coding, composition_ms, data)
            }
            Video::End | Video::Ignored(_) => {
                self.counts.ignored += 1;
                Ok(Vec::new())
            }
        }
    }

    /// What is read of a message, with further tracks counted and noted once a kind.
    fn first_of<T>(&mut self, track: Track, (read, further): (T, u64)) -> T {
        let count = match track {
            Track::Video => &mut self.counts.further_video,
            Track::Audio => &mut self.counts.further_audio,
        };
        let is_new = *count == 0 && further > 0;
        *count += further;
        if is_new {
            self.note(Note::FurtherTracks(track));
        }
        read
    }

    fn picture(
        &mut self,
        timestamp_ms: u32,
        coding: VideoCoding,
        composition_ms: i32,
        data: Bytes,
    ) -> Result<Vec<Unit>, FeedError> {
        let Some(config) = self.video.as_ref().filter(|config| config.coding == coding) else {
            self.counts.dropped += 1;
            return Ok(Vec::new());
        };
        if data.len() > ACCESS_UNIT_BYTES_MAX {
            return Err(FeedError::Large { track: Track::Video, timestamp_ms, len: data.len() });
        }
        let (data, picture) = walk::picture(data, coding, config.length_size)
            .map_err(|(offset, why)| FeedError::Nal { timestamp_ms, offset, why })?;
        let idr = match picture {
            Picture::None => {
                self.counts.ignored += 1;
                return Ok(Vec::new());
            }
            Picture::Idr => true,
            Picture::Other => false,
        };
        if self.needs_idr && !idr {
            self.counts.dropped += 1;
            return Ok(Vec::new());
        }
        self.needs_idr = false;
        let dts_90k = self.stamp(Track::Video, timestamp_ms);
        let composition_90k = composition_ms * 90; // 24 bits times 90 fits 32
        let pieces = vec![Piece::Common(data)];
        let mut units = vec![Unit::Video(AccessUnit { dts_90k, composition_90k, idr, gop: None, pieces })];
        if !self.started {
            self.start(Track::Video);
            for (ms, data) in std::mem::take(&mut self.waiting) {
                if (ms.wrapping_sub(timestamp_ms) as i32) < 0 {
                    self.counts.dropped += 1;
                    continue;
                }
                let time_90k = self.stamp(Track::Audio, ms);
                units.push(Unit::Audio(AudioFrame { time_90k, data }));
            }
        }
        Ok(units)
    }

    fn audio(&mut self, timestamp_ms: u32, payload: Bytes) -> Result<Vec<Unit>, FeedError> {
        let parsed = Audio::parse(payload).map_err(|source| FeedError::Flv { timestamp_ms, source })?;
        match self.first_of(Track::Audio, parsed) {
            Audio::Config { coding, record } => {
                if self.audio.as_ref().is_some_and(|now| now.coding == coding && now.record == record) {
                    return Ok(Vec::new());
                }
                let config = AudioConfig::of(coding, record)
                    .map_err(|source| FeedError::Config { timestamp_ms, source })?;
                let config = Arc::new(config);
                self.audio = Some(config.clone());
                self.counts.dropped += self.waiting.len() as u64;
                self.waiting.clear();
                Ok(vec![Unit::AudioConfig(config)])
            }
            Audio::Frame { coding, data } => self.sound(timestamp_ms, coding, data),
            Audio::Ignored(_) => {
                self.counts.ignored += 1;
                Ok(Vec::new())
            }
        }
    }

    fn sound(&mut self, timestamp_ms: u32, coding: AudioCoding, data: Bytes) -> Result<Vec<Unit>, FeedError> {
        let config = self.audio.as_ref().filter(|config| config.coding == coding);
        if data.is_empty() || config.is_none_or(|config| config.samples(&data).is_none()) {
            self.counts.dropped += 1;
            return Ok(Vec::new());
        }
        if data.len() > AUDIO_FRAME_BYTES_MAX {
            return Err(FeedError::Large { track: Track::Audio, timestamp_ms, len: data.len() });
        }
        if self.started {
            let time_90k = self.stamp(Track::Audio, timestamp_ms);
            return Ok(vec![Unit::Audio(AudioFrame { time_90k, data })]);
        }
        if self.waiting.len() == WAITING_FRAMES_MAX {
            self.waiting.pop_front();
            self.counts.dropped += 1;
        }
        let oldest = self.waiting.front().map_or(timestamp_ms, |(ms, _)| *ms);
        self.waiting.push_back((timestamp_ms, data));
        let alone = self.video.is_none() && (timestamp_ms.wrapping_sub(oldest) as i32) >= ALONE_MS;
        if !alone {
            return Ok(Vec::new());
        }
        self.start(Track::Audio);
        let waiting = std::mem::take(&mut self.waiting);
        let frames = waiting.into_iter().map(|(ms, data)| {
            let time_90k = self.stamp(Track::Audio, ms);
            Unit::Audio(AudioFrame { time_90k, data })
        });
        Ok(frames.collect())
    }

    fn start(&mut self, track: Track) {
        self.started = true;
        self.note(Note::Started(track));
    }

    fn stamp(&mut self, track: Track, timestamp_ms: u32) -> i64 {
        let stamp = self.timeline.push(track, timestamp_ms);
        if let Some(event) = stamp.event {
            match event {
                Event::Jump { .. } => self.counts.jumps += 1,
                Event::Bump { .. } => self.counts.bumps += 1,
            }
            self.note(Note::Time(event));
        }
        stamp.time_90k
    }

    fn note(&mut self, note: Note) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }
}
