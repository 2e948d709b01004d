//! Access units on their way from a publisher to a segment.
//!
//! The values that flow between the feed, the marker and the segmenter. Pure data. Times are 90 kHz ticks of the run.

use bytes::Bytes;
use ingest_api::window::Gop;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// `single_channel_element` with `max_sfb` 0, then `ID_END`.
const SILENT_MONO: [u8; 4] = [0x00, 0x00, 0x00, 0x07];
/// `channel_pair_element` with a common window and `max_sfb` 0, then `ID_END`.
const SILENT_STEREO: [u8; 6] = [0x21, 0x00, 0x00, 0x00, 0x00, 0x1c];

/// What the feed gives and the segmenter takes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// From here on video looks like this.
    VideoConfig(Arc<VideoConfig>),
    /// From here on audio looks like this.
    AudioConfig(Arc<AudioConfig>),
    /// A coded picture.
    Video(AccessUnit),
    /// A coded audio frame.
    Audio(AudioFrame),
}

/// How pictures are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VideoCoding {
    /// H.264: can be marked.
    H264,
    /// HEVC: goes on as it comes.
    Hevc,
}

/// What a decoder must know before the first picture (ISO/IEC 14496-15 §5.3.3.1, §8.3.3.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoConfig {
    /// The coding of the pictures.
    pub coding: VideoCoding,
    /// The `AVCDecoderConfigurationRecord`, where the marker may have added its own PPS; of HEVC the
    /// `HEVCDecoderConfigurationRecord`.
    pub record: Bytes,
    /// RFC 6381 name, as `avc1.64001f`.
    pub codec: String,
    /// Width after cropping, in samples.
    pub width: u32,
    /// Height after cropping, in samples.
    pub height: u32,
    /// Frames in 1,000 seconds by the SPS timing; 0 where it has none.
    pub millihertz: u32,
    /// Bytes of a NAL unit's length prefix: 1, 2 or 4.
    pub length_size: u8,
}

/// What a decoder must know before the first audio frame (ISO/IEC 14496-3 §1.6.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioConfig {
    /// The `AudioSpecificConfig`.
    pub asc: Bytes,
    /// RFC 6381 name, as `mp4a.40.2`.
    pub codec: String,
    /// Samples a second of the core codec: the clock of the audio track.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
}

impl AudioConfig {
    /// A frame of digital silence in this configuration, where it is known: AAC-LC of one or two channels (ISO/IEC 14496-3
    /// §4.4.2.1, a raw data block without a spectral line). It fits every sample rate.
    pub fn silence(&self) -> Option<&'static [u8]> {
        match (self.codec.as_str(), self.channels) {
            ("mp4a.40.2", 1) => Some(&SILENT_MONO),
            ("mp4a.40.2", 2) => Some(&SILENT_STEREO),
            _ => None,
        }
    }
}

/// A coded picture with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// Decode time.
    pub dts_90k: i64,
    /// Presentation time minus decode time, as received.
    pub composition_90k: i32,
    /// Whether it is an IDR picture; of HEVC any that decoding may begin with.
    pub idr: bool,
    /// The record of the GOP it starts; set by the marker on IDR pictures, `None` otherwise and before.
    pub gop: Option<Gop>,
    /// Its length-prefixed NAL units.
    pub pieces: Vec<Piece>,
}

/// Bytes of an access unit: the same for everyone, or one of two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Every viewer's.
    Common(Bytes),
    /// A slice as A and B, equally long, filler included.
    Pair {
        /// The variant with the pattern added.
        a: Bytes,
        /// The variant with the pattern subtracted.
        b: Bytes,
        /// Which slice of the IDR, from the top.
        slice: u16,
    },
}

impl Piece {
    /// Bytes any viewer gets of it.
    pub fn len(&self) -> usize {
        match self {
            Piece::Common(bytes) => bytes.len(),
            Piece::Pair { a, .. } => a.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl AccessUnit {
    /// Bytes any viewer gets of it.
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Piece::len).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A coded audio frame (AAC: 1,024 samples) with the time it was received under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioFrame {
    /// The publisher's time on the run's clock; the segmenter counts samples and uses this as an anchor only.
    pub time_90k: i64,
    /// The raw frame, without ADTS.
    pub data: Bytes,
}
