//! Access units on their way from a publisher to a segment.
//!
//! The values that flow between the feed, the marker and the segmenter. Pure data. Times are 90 kHz ticks of the run.

use bytes::Bytes;
use ingest_api::window::Gop;
use ingest_api::{AudioTrack, Encoding};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Samples of an AAC frame.
pub const AAC_FRAME_SAMPLES: u32 = 1_024;
/// The longest Opus packet: 120 ms (RFC 6716 §3.2.5).
const OPUS_PACKET_SAMPLES_MAX: u32 = 5_760;

/// `single_channel_element` with `max_sfb` 0, then `ID_END`.
const SILENT_MONO: [u8; 4] = [0x00, 0x00, 0x00, 0x07];
/// `channel_pair_element` with a common window and `max_sfb` 0, then `ID_END`.
const SILENT_STEREO: [u8; 6] = [0x21, 0x00, 0x00, 0x00, 0x00, 0x1c];
/// Opus: one CELT frame of 20 ms over the whole band, that says it is silent (RFC 6716 §3.1, §4.3).
const SILENT_OPUS_MONO: [u8; 3] = [0xf8, 0xff, 0xfe];
const SILENT_OPUS_STEREO: [u8; 3] = [0xfc, 0xff, 0xfe];

/// What the feed gives and the segmenter takes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unit {
    /// From here on video looks like this.
    VideoConfig(Arc<VideoConfig>),
    /// From here on this audio track looks like this.
    AudioConfig(AudioTrack, Arc<AudioConfig>),
    /// A coded picture.
    Video(AccessUnit),
    /// A coded audio frame.
    Audio(AudioFrame),
    /// From here on this further encoding of the picture looks like this.
    EncodingConfig(Encoding, Arc<VideoConfig>),
    /// A picture of a further encoding.
    Encoding(Encoding, AccessUnit),
}

/// How pictures are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VideoCoding {
    /// H.264: can be marked.
    H264,
    /// HEVC: goes on as it comes.
    Hevc,
    /// AV1: goes on as it comes.
    Av1,
}

/// What a decoder must know before the first picture (ISO/IEC 14496-15 §5.3.3.1, §8.3.3.1; AV1 in ISO-BMFF §2.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VideoConfig {
    /// The coding of the pictures.
    pub coding: VideoCoding,
    /// The `AVCDecoderConfigurationRecord`, where the marker may have added its own PPS; of HEVC the
    /// `HEVCDecoderConfigurationRecord`, of AV1 the `AV1CodecConfigurationRecord`.
    pub record: Bytes,
    /// RFC 6381 name, as `avc1.64001f`.
    pub codec: String,
    /// Width after cropping, in samples.
    pub width: u32,
    /// Height after cropping, in samples.
    pub height: u32,
    /// Frames in 1,000 seconds by the SPS timing; 0 where it has none.
    pub millihertz: u32,
    /// Bytes of a NAL unit's length prefix: 1, 2 or 4; 0 for AV1, which has no NAL units.
    pub length_size: u8,
}

/// How sound is coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AudioCoding {
    /// AAC-LC, alone or as a core.
    Aac,
    /// Opus.
    Opus,
}

/// What a decoder must know before the first audio frame (ISO/IEC 14496-3 §1.6.2.1, RFC 7845 §5.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AudioConfig {
    /// The coding of the sound.
    pub coding: AudioCoding,
    /// The `AudioSpecificConfig`; of Opus the identification header.
    pub record: Bytes,
    /// RFC 6381 name, as `mp4a.40.2`.
    pub codec: String,
    /// Samples a second of the core codec, of Opus 48,000: the clock of the audio track.
    pub sample_rate: u32,
    /// Channels.
    pub channels: u32,
}

impl AudioConfig {
    /// A frame of digital silence in this configuration, where it is known: AAC-LC of one or two channels (ISO/IEC 14496-3
    /// §4.4.2.1, a raw data block without a spectral line), which fits every sample rate, and Opus of as many.
    pub fn silence(&self) -> Option<&'static [u8]> {
        match (self.codec.as_str(), self.channels) {
            ("mp4a.40.2", 1) => Some(&SILENT_MONO),
            ("mp4a.40.2", 2) => Some(&SILENT_STEREO),
            ("Opus", 1) => Some(&SILENT_OPUS_MONO),
            ("Opus", 2) => Some(&SILENT_OPUS_STEREO),
            _ => None,
        }
    }

    /// Samples of a frame; `None` where it is none. An Opus packet says it in its first byte (RFC 6716 §3.1).
    pub fn samples(&self, frame: &[u8]) -> Option<u32> {
        if self.coding == AudioCoding::Aac {
            return Some(AAC_FRAME_SAMPLES);
        }
        let head = *frame.first()?;
        let config = head >> 3;
        let each = match config {
            0..=11 => [480, 960, 1_920, 2_880][usize::from(config & 3)],
            12..=15 => [480, 960][usize::from(config & 1)],
            _ => [120, 240, 480, 960][usize::from(config & 3)],
        };
        let count = match head & 3 {
            0 => 1,
            1 | 2 => 2,
            _ => u32::from(*frame.get(1)? & 0x3f),
        };
        Some(each * count).filter(|samples| (1..=OPUS_PACKET_SAMPLES_MAX).contains(samples))
    }
}

/// A coded picture with its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessUnit {
    /// Decode time.
    pub dts_90k: i64,
    /// Presentation time minus decode time, as received.
    pub composition_90k: i32,
    /// Whether it is an IDR picture; of HEVC and AV1 any that decoding may begin with.
    pub idr: bool,
    /// The record of the GOP it starts; set by the marker on IDR pictures, `None` otherwise and before.
    pub gop: Option<Gop>,
    /// Its length-prefixed NAL units, of AV1 its OBUs.
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

/// A coded audio frame (AAC: 1,024 samples; Opus: a packet) with the time it was received under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AudioFrame {
    /// Of which track.
    pub track: AudioTrack,
    /// The publisher's time on the run's clock; the segmenter counts samples and uses this as an anchor only.
    pub time_90k: i64,
    /// The raw frame, without ADTS.
    pub data: Bytes,
}
