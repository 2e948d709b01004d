//! From a publisher's messages to units: one feed for one connection of a publisher.
//!
//! In: RTMP audio, video and data messages with their timestamps, in order. Out: `Unit`s in order, or an error that names
//! timestamp and byte. Pure; `snapshot` and `restore` carry the whole state.
//!
//! **Start.** What comes first decides where the run goes on, so nothing is stamped before it is known: with a video
//! configuration that is the first IDR picture, and audio from before it is dropped; without one it is the first audio
//! frame, once `ALONE_MS` of audio came alone. That unit lands on the tick the feed was given, whatever its timestamp.
//!
//! **Tracks.** The picture, of it up to `ENCODINGS_MAX` further encodings, and of audio up to `AUDIO_TRACKS_MAX`. Nothing that is
//! wrong with a further track ends the publish, or holds the first one up: what cannot be read of it is left out and counted. A
//! further encoding is on the clock of the picture, and leaves no trace in it.
//!
//! **Trust.** The NAL units say what is an IDR picture, not the FLV key flag; of HEVC every picture that decoding may begin
//! with counts as one, as it does to those who write such streams, and of AV1 a key frame that is shown. After an error, a changed configuration or a
//! missing start the feed waits for the next IDR picture, since the ones between refer to what is not there.

mod encoding;
mod sound;
mod walk;

pub use walk::NalFault;

use crate::config::ConfigError;
use crate::flv::{FlvError, Video};
use crate::saved::{self, SavedError};
use crate::timeline::{Event, Timeline};
use crate::unit::{AccessUnit, AudioConfig, Piece, Unit, VideoCoding, VideoConfig};
use bytes::Bytes;
use encoding::Beside;
use ingest_api::Track;
use ingest_api::track::{AUDIO_TRACKS_MAX, ENCODINGS_MAX};
use serde::{Deserialize, Serialize};
use sound::Waiting;
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
/// Audio frames that wait for the start: over 2 s at 96 kHz of each track. The oldest is dropped and counted.
pub const WAITING_FRAMES_MAX: usize = 256 * AUDIO_TRACKS_MAX;
/// The same in bytes: 2 s of all tracks at 2 Mb/s each.
pub const WAITING_BYTES_MAX: usize = 4 << 20;
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
    #[error("{} unit of {len} bytes at {timestamp_ms} ms is over the limit", track.as_str())]
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
    /// The publisher sends something of a further track that is left out: one of an id, a coding or a configuration that is not
    /// published, or a unit that cannot be read. Noted once for pictures and once for sound.
    LeftOut(Track),
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
    /// What was left out of further encodings of the picture.
    pub further_video: u64,
    /// What was left out of further audio tracks.
    pub further_audio: u64,
}

/// One publisher connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    timeline: Timeline,
    video: Option<Arc<VideoConfig>>,
    /// By the tracks' ids.
    audio: [Option<Arc<AudioConfig>>; AUDIO_TRACKS_MAX],
    /// By their places in `Encoding::ALL`.
    encodings: [Beside; ENCODINGS_MAX],
    started: bool,
    needs_idr: bool,
    /// Audio before the start.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    counts: Counts,
    notes: Vec<Note>,
}

impl Feed {
    /// A feed whose first unit lands on `start_90k`: the segmenter's `next_tick`.
    pub fn new(start_90k: i64) -> Feed {
        Feed {
            timeline: Timeline::start(start_90k),
            video: None,
            audio: Default::default(),
            encodings: Default::default(),
            started: false,
            needs_idr: true,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
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
            Kind::Video => self.video(timestamp_ms, payload),
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
        if feed.waiting_bytes != feed.waiting.iter().map(|frame| frame.data.len()).sum::<usize>() {
            return fault("the bytes that wait");
        }
        let sane = |video: &Arc<VideoConfig>| match video.coding {
            VideoCoding::H264 | VideoCoding::Hevc => matches!(video.length_size, 1 | 2 | 4),
            VideoCoding::Av1 => video.length_size == 0,
        };
        let mut configs =
            feed.encodings.iter().filter_map(|beside| beside.config.as_ref()).chain(&feed.video);
        if !configs.all(sane) {
            return fault("a NAL length size");
        }
        Ok(feed)
    }

    fn video(&mut self, timestamp_ms: u32, payload: Bytes) -> Result<Vec<Unit>, FeedError> {
        let parsed = Video::parse(payload).map_err(|source| FeedError::Flv { timestamp_ms, source });
        let (read, left_out) = parsed.inspect_err(|_| self.needs_idr = true)?;
        self.left_out(Track::Video, left_out);
        let mut units = Vec::new();
        for (track, video) in read {
            match track {
                Track::Encoding(encoding) => self.of_encoding(encoding, timestamp_ms, video, &mut units),
                _ => {
                    units.extend(self.of_picture(timestamp_ms, video).inspect_err(|_| self.needs_idr = true)?)
                }
            }
        }
        Ok(units)
    }

    /// What a message has of the picture itself.
    fn of_picture(&mut self, timestamp_ms: u32, video: Video) -> Result<Vec<Unit>, FeedError> {
        match video {
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

    /// Counts what is left out, and notes it once a kind.
    fn left_out(&mut self, track: Track, units: u64) {
        let count = match track {
            Track::Video | Track::Encoding(_) => &mut self.counts.further_video,
            Track::Audio(_) => &mut self.counts.further_audio,
        };
        let is_new = *count == 0 && units > 0;
        *count += units;
        if is_new {
            self.note(Note::LeftOut(track));
        }
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
            let early = |frame: &Waiting| (frame.timestamp_ms.wrapping_sub(timestamp_ms) as i32) < 0;
            self.forget_waiting(early);
            self.release(&mut units);
        }
        Ok(units)
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
