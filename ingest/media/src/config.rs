//! What a decoder must know first: `VideoConfig` of an `avcC`, `hvcC` or `av1C`, `AudioConfig` of an `AudioSpecificConfig`
//! or an Opus identification header.
//!
//! In: the bytes of a publisher's sequence headers. Out: checked values, or an error that names the byte. Pure, total.
//! ISO/IEC 14496-15 §5.3.3.1 (avcC), ITU-T H.264 §7.3.2.1 (SPS), ISO/IEC 14496-3 §1.6.2.1 (ASC).
//!
//! The avcC and SPS are read here and not by scuffle-h264: its Exp-Golomb and scaling-list arithmetic overflows on a
//! hostile SPS, and our programs stop on overflow. It is the oracle of the tests instead.

mod av1;
mod hevc;
mod hevc_sps;
mod opus;
mod sps;

pub use hevc::hevc_sps;
pub use hevc_sps::HevcSps;
pub(crate) use opus::dops;

use crate::bits::Bits;
use crate::unit::{AudioCoding, AudioConfig, VideoCoding, VideoConfig};
use bytes::Bytes;
use mp4_atom::{Atom, Avcc};
use scuffle_aac::{AudioObjectType, PartialAudioSpecificConfig};
use thiserror::Error;

/// The longest sequence header that is taken, in bytes: 32 SPS and 255 PPS of real encoders stay under 2 KiB.
pub const CONFIG_BYTES_MAX: usize = 64 << 10;
/// The largest picture side, in samples: level 6.2 ends at 16,888 (H.264 Annex A), no publisher is near it.
pub const SIDE_MAX: u32 = 16_384;

/// Why a sequence header is refused. Offsets count in the record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The record ends inside a field.
    #[error("the {record} ends at byte {offset}, inside {field}")]
    Short {
        /// Which record.
        record: &'static str,
        /// Its length, in bytes.
        offset: usize,
        /// What was being read.
        field: &'static str,
    },
    /// A field that no decoder could use.
    #[error("the {record} is not usable at byte {offset}: {why}")]
    Field {
        /// Which record.
        record: &'static str,
        /// Where it starts.
        offset: usize,
        /// What is wrong.
        why: String,
    },
    /// Longer than `CONFIG_BYTES_MAX`.
    #[error("a {record} of {len} bytes is over the limit of {CONFIG_BYTES_MAX}")]
    Long {
        /// Which record.
        record: &'static str,
        /// Its length, in bytes.
        len: usize,
    },
}

impl VideoConfig {
    /// Reads the record of this coding.
    ///
    /// # Errors
    /// As `of_avcc`, `of_hvcc` and `of_av1c`.
    pub fn of(coding: VideoCoding, record: Bytes) -> Result<VideoConfig, ConfigError> {
        match coding {
            VideoCoding::H264 => VideoConfig::of_avcc(record),
            VideoCoding::Hevc => VideoConfig::of_hvcc(record),
            VideoCoding::Av1 => VideoConfig::of_av1c(record),
        }
    }
}

const AVCC: &str = "avcC";
const ASC: &str = "AudioSpecificConfig";

impl VideoConfig {
    /// Reads an `AVCDecoderConfigurationRecord`.
    ///
    /// # Errors
    /// A cut record, no SPS or PPS, an empty or unreadable SPS, a length size of 3, a picture without a sane size, damage
    /// behind the PPS.
    pub fn of_avcc(avcc: Bytes) -> Result<VideoConfig, ConfigError> {
        if avcc.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::Long { record: AVCC, len: avcc.len() });
        }
        let mut at = 0;
        let head = slice(&avcc, &mut at, 6, "the head")?;
        let field = |offset, why: &str| ConfigError::Field { record: AVCC, offset, why: why.to_owned() };
        if head[0] != 1 {
            return Err(field(0, "its version is not 1"));
        }
        let length_size = (head[4] & 3) + 1;
        if length_size == 3 {
            return Err(field(4, "NAL unit lengths of 3 bytes are not allowed"));
        }
        let sps_count = head[5] & 0x1f;
        let mut first = None;
        for _ in 0..sps_count {
            let (offset, nal) = parameter_set(&avcc, &mut at, "an SPS")?;
            if nal.len() < 4 || nal[0] & 0x1f != 7 {
                return Err(field(offset, "this is no SPS"));
            }
            first.get_or_insert((offset, nal));
        }
        let (sps_at, sps) = first.ok_or_else(|| field(5, "it has no SPS"))?;
        let pps_at = at;
        let pps_count = slice(&avcc, &mut at, 1, "the number of PPS")?[0];
        for _ in 0..pps_count {
            let (offset, nal) = parameter_set(&avcc, &mut at, "a PPS")?;
            if nal.is_empty() || nal[0] & 0x1f != 8 {
                return Err(field(offset, "this is no PPS"));
            }
        }
        if pps_count == 0 {
            return Err(field(pps_at, "it has no PPS"));
        }
        // High profiles carry more behind the PPS: it must be whole, or there is no init section.
        <Avcc as Atom>::decode_body(&mut &avcc[..])
            .map_err(|error| field(at, &format!("what follows the PPS is damaged ({error})")))?;
        let picture = sps::Picture::of_sps(sps).map_err(|why| field(sps_at, why))?;
        let codec = format!("avc1.{:02x}{:02x}{:02x}", sps[1], sps[2], sps[3]);
        let (width, height, millihertz) = (picture.width, picture.height, picture.millihertz);
        let (coding, record) = (VideoCoding::H264, avcc);
        Ok(VideoConfig { coding, record, codec, width, height, millihertz, length_size })
    }
}

/// A length-prefixed parameter set and where it starts.
fn parameter_set<'a>(
    avcc: &'a [u8],
    at: &mut usize,
    field: &'static str,
) -> Result<(usize, &'a [u8]), ConfigError> {
    let len = slice(avcc, at, 2, field)?;
    let len = usize::from(u16::from_be_bytes([len[0], len[1]]));
    let offset = *at;
    Ok((offset, slice(avcc, at, len, field)?))
}

fn slice<'a>(
    bytes: &'a [u8],
    at: &mut usize,
    len: usize,
    field: &'static str,
) -> Result<&'a [u8], ConfigError> {
    let end = at.saturating_add(len);
    let taken = bytes.get(*at..end).ok_or(ConfigError::Short { record: AVCC, offset: bytes.len(), field })?;
    *at = end;
    Ok(taken)
}

impl AudioConfig {
    /// Reads the record of this coding.
    ///
    /// # Errors
    /// As `of_asc` and `of_opus`.
    pub fn of(coding: AudioCoding, record: Bytes) -> Result<AudioConfig, ConfigError> {
        match coding {
            AudioCoding::Aac => AudioConfig::of_asc(record),
            AudioCoding::Opus => AudioConfig::of_opus(record),
        }
    }

    /// Reads an `AudioSpecificConfig` of AAC-LC, alone or as the core of explicitly signalled SBR or PS.
    ///
    /// Implicit SBR is invisible here and plays as AAC-LC until the decoder finds it, as everywhere.
    ///
    /// # Errors
    /// Another object type, a reserved or absurd sample rate, no channels, frames of 960 samples.
    pub fn of_asc(asc: Bytes) -> Result<AudioConfig, ConfigError> {
        if asc.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::Long { record: ASC, len: asc.len() });
        }
        let field = |offset, why: String| ConfigError::Field { record: ASC, offset, why };
        let short = ConfigError::Short { record: ASC, offset: asc.len(), field: "the head" };
        if asc.len() < 2 {
            return Err(short);
        }
        let head = PartialAudioSpecificConfig::parse(&asc).map_err(|error| field(0, format!("{error}")))?;
        let object_type = match head.audio_object_type {
            AudioObjectType::AacLowComplexity => 2,
            AudioObjectType::Unknown(kind @ (5 | 29)) => kind,
            other => {
                let why = format!("audio object type {} is not AAC-LC", other.as_u16());
                return Err(field(0, why));
            }
        };
        if !(7_350..=96_000).contains(&head.sampling_frequency) {
            return Err(field(0, format!("a sample rate of {} Hz", head.sampling_frequency)));
        }
        let channels = match head.channel_configuration {
            few @ 1..=6 => u32::from(few),
            7 | 12 | 14 => 8,
            11 => 7,
            other => return Err(field(1, format!("channel configuration {other} does not say how many"))),
        };
        if object_type == 2 && frames_are_960(&asc).ok_or(short)? {
            return Err(field(1, "frames of 960 samples".to_owned()));
        }
        let codec = format!("mp4a.40.{object_type}");
        let (coding, record) = (AudioCoding::Aac, asc);
        Ok(AudioConfig { coding, record, codec, sample_rate: head.sampling_frequency, channels })
    }
}

/// `frameLengthFlag` of the GASpecificConfig that follows the head of an AAC-LC config.
fn frames_are_960(asc: &[u8]) -> Option<bool> {
    let mut bits = Bits::new(asc);
    bits.take(5)?;
    if bits.take(4)? == 15 {
        bits.take(24)?;
    }
    bits.take(4)?;
    bits.bit()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// x264, High, 1280×720, 30 frames a second, with its PPS.
    const SPS: &str = "6764001facd9405005bb0110000003001000000303c0f1831960";
    const PPS: &str = "68ebe3cb22c0";

    fn avcc(length_size: u8, sps: &[&[u8]], pps: &[&[u8]]) -> Bytes {
        let mut out = vec![1, 0x64, 0, 0x1f, 0xfc | (length_size - 1), 0xe0 | sps.len() as u8];
        for nal in sps {
            out.extend((nal.len() as u16).to_be_bytes());
            out.extend(*nal);
        }
        out.push(pps.len() as u8);
        for nal in pps {
            out.extend((nal.len() as u16).to_be_bytes());
            out.extend(*nal);
        }
        out.into()
    }

    #[test]
    fn a_real_record_is_read() {
        let (sps, pps) = (hex::decode(SPS).unwrap(), hex::decode(PPS).unwrap());
        let config = VideoConfig::of_avcc(avcc(4, &[&sps], &[&pps])).unwrap();
        assert_eq!((config.width, config.height, config.millihertz), (1280, 720, 30_000));
        assert_eq!((config.codec.as_str(), config.length_size), ("avc1.64001f", 4));
    }

    #[test]
    fn records_without_use_are_refused() {
        let (sps, pps) = (hex::decode(SPS).unwrap(), hex::decode(PPS).unwrap());
        for (name, record) in [
            ("3-byte lengths", avcc(3, &[&sps], &[&pps])),
            ("no SPS", avcc(4, &[], &[&pps])),
            ("no PPS", avcc(4, &[&sps], &[])),
            ("empty SPS", avcc(4, &[&[]], &[&pps])),
            ("empty PPS", avcc(4, &[&sps], &[&[]])),
            ("PPS for an SPS", avcc(4, &[&pps], &[&pps])),
            (
                "huge numbers in the SPS",
                avcc(4, &[&[0x67, 0x64, 0, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]], &[&pps]),
            ),
            ("nothing", Bytes::new()),
        ] {
            assert!(VideoConfig::of_avcc(record).is_err(), "{name}");
        }
        let whole = avcc(4, &[&sps], &[&pps]);
        for cut in 0..whole.len() {
            assert!(VideoConfig::of_avcc(whole.slice(..cut)).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn audio_configs() {
        let read = |bytes: &'static [u8]| AudioConfig::of_asc(Bytes::from_static(bytes));
        let lc = read(&[0x11, 0x90]).unwrap();
        assert_eq!((lc.codec.as_str(), lc.sample_rate, lc.channels), ("mp4a.40.2", 48_000, 2));
        let cd = read(&[0x12, 0x10, 0x56, 0xe5, 0x00]).unwrap();
        assert_eq!((cd.codec.as_str(), cd.sample_rate, cd.channels), ("mp4a.40.2", 44_100, 2));
        // Object type 5, core 24 kHz (6), stereo, extension 48 kHz (3), core type 2.
        let he = read(&[0x2b, 0x11, 0x88]).unwrap();
        assert_eq!((he.codec.as_str(), he.sample_rate), ("mp4a.40.5", 24_000));
        for bad in [&[][..], &[0x11], &[0x16, 0x90], &[0x11, 0x80], &[0x09, 0x90], &[0x11, 0x94]] {
            assert!(AudioConfig::of_asc(Bytes::copy_from_slice(bad)).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_scuffle_or_refuses(flips in proptest::collection::vec((0usize..26, 0u8..8), 0..3)) {
            let mut sps = hex::decode(SPS).unwrap();
            for (byte, bit) in flips { sps[byte] ^= 1 << bit; }
            let ours = sps::Picture::of_sps(&sps);
            let theirs = std::panic::catch_unwind(|| {
                scuffle_h264::Sps::parse_with_emulation_prevention(std::io::Cursor::new(&sps)).ok()
                    .filter(|sps| sps.mb_adaptive_frame_field_flag.is_none())
                    .filter(|sps| sps.ext.as_ref().is_none_or(|ext| ext.chroma_format_idc == 1))
                    .map(|sps| (sps.width(), sps.height()))
            });
            if let (Ok(ours), Ok(Some(theirs))) = (ours, theirs) {
                prop_assert_eq!((u64::from(ours.width), u64::from(ours.height)), theirs);
            }
        }

        #[test]
        fn any_bytes_are_a_config_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = VideoConfig::of_avcc(bytes.clone().into());
            let _ = AudioConfig::of_asc(bytes.clone().into());
            let _ = sps::Picture::of_sps(&bytes);
        }
    }
}
