//! Opus: `AudioConfig` of an identification header, and the `dOps` box that says the same.
//!
//! In: an `OpusHead`. Out: a checked value, or an error. Pure, total. RFC 7845 §5.1 (head), Opus in ISO-BMFF §4.3.2 (`dOps`).

use super::{CONFIG_BYTES_MAX, ConfigError};
use crate::unit::{AudioCoding, AudioConfig};
use bytes::Bytes;
use mp4_atom::{Atom, Dops, OpusChannelMapping};

const HEAD: &str = "Opus head";
/// Opus counts in these whatever the source had (RFC 7845 §4).
const SAMPLE_RATE: u32 = 48_000;

impl AudioConfig {
    /// Reads an Opus identification header.
    ///
    /// # Errors
    /// A cut head, another version, no channels or more than 8, a channel mapping other than families 0 and 1.
    pub fn of_opus(record: Bytes) -> Result<AudioConfig, ConfigError> {
        if record.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::Long { record: HEAD, len: record.len() });
        }
        let channels = dops(&record)?.output_channel_count.into();
        let (coding, codec) = (AudioCoding::Opus, "Opus".to_owned());
        Ok(AudioConfig { coding, record, codec, sample_rate: SAMPLE_RATE, channels })
    }
}

/// The box of a head: its numbers in the other byte order.
pub(crate) fn dops(head: &[u8]) -> Result<Dops, ConfigError> {
    let field = |offset, why: &str| ConfigError::Field { record: HEAD, offset, why: why.to_owned() };
    let short = ConfigError::Short { record: HEAD, offset: head.len(), field: "the head" };
    let fixed = head.first_chunk::<19>().ok_or(short.clone())?;
    if !fixed.starts_with(b"OpusHead") {
        return Err(field(0, "it does not begin with OpusHead"));
    }
    if fixed[8] >> 4 != 0 {
        return Err(field(8, "its version is not 0 or 1"));
    }
    let (channels, family) = (fixed[9], fixed[18]);
    let channel_mapping = match family {
        0 if (1..=2).contains(&channels) => None,
        1 if (1..=8).contains(&channels) => {
            let table = head.get(19..21 + usize::from(channels)).ok_or(short)?;
            let (stream_count, coupled_count) = (table[0], table[1]);
            Some(OpusChannelMapping {
                family,
                stream_count,
                coupled_count,
                channel_mapping: table[2..].to_vec(),
            })
        }
        0 | 1 => return Err(field(9, "a number of channels that its mapping family does not have")),
        _ => return Err(field(18, "a channel mapping family other than 0 and 1")),
    };
    let dops = Dops {
        output_channel_count: channels,
        pre_skip: u16::from_le_bytes([fixed[10], fixed[11]]),
        input_sample_rate: u32::from_le_bytes([fixed[12], fixed[13], fixed[14], fixed[15]]),
        output_gain: i16::from_le_bytes([fixed[16], fixed[17]]),
        channel_mapping,
    };
    // Its writer has the rules of a mapping.
    dops.encode_body(&mut Vec::new()).map_err(|error| field(19, &error.to_string()))?;
    Ok(dops)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// libopus in ffmpeg 5.1, stereo.
    const STEREO: &[u8] = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    /// The same, 5.1.
    const SURROUND: &[u8] = b"OpusHead\x01\x06\x38\x01\x80\xbb\0\0\0\0\x01\x04\x02\0\x04\x01\x02\x03\x05";

    fn read(head: &[u8]) -> Result<AudioConfig, ConfigError> {
        AudioConfig::of_opus(Bytes::copy_from_slice(head))
    }

    #[test]
    fn real_heads_are_read() {
        let config = read(STEREO).unwrap();
        assert_eq!((config.codec.as_str(), config.sample_rate, config.channels), ("Opus", 48_000, 2));
        assert_eq!(read(SURROUND).unwrap().channels, 6);
        let mut body = Vec::new();
        dops(STEREO).unwrap().encode_body(&mut body).unwrap();
        assert_eq!(body, b"\0\x02\x01\x38\0\0\xbb\x80\0\0\0", "numbers turned round");
    }

    #[test]
    fn heads_without_use_are_refused() {
        for (cut, whole) in
            (0..STEREO.len()).map(|cut| (cut, STEREO)).chain((0..SURROUND.len()).map(|cut| (cut, SURROUND)))
        {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let with = |at: usize, byte: u8| {
            let mut head = SURROUND.to_vec();
            head[at] = byte;
            read(&head).unwrap_err().to_string()
        };
        assert!(with(0, b'o').contains("OpusHead"));
        assert!(with(8, 0x10).contains("version"));
        assert!(with(9, 9).contains("channels") && with(18, 0).contains("channels"));
        assert!(with(18, 2).contains("family"));
        assert!(with(19, 0).contains("stream") && with(20, 5).contains("coupled"));
    }

    #[test]
    fn a_packet_says_how_long_it_is() {
        let config = read(STEREO).unwrap();
        for (packet, samples) in [
            (&[0xfc, 1][..], Some(960)),     // CELT, 20 ms
            (&[0xe0], Some(120)),            // 2.5 ms
            (&[0x18], Some(2_880)),          // SILK, 60 ms
            (&[0x60], Some(480)),            // hybrid, 10 ms
            (&[0xfd, 1], Some(1_920)),       // two of 20 ms
            (&[0xff, 0x86, 1], Some(5_760)), // six of them, of any size
            (&[0xff, 0x07], None),           // 140 ms
            (&[0xff, 0x00], None),
            (&[0xff], None),
            (&[], None),
        ] {
            assert_eq!(config.samples(packet), samples, "{packet:x?}");
        }
        let silence = config.silence().unwrap();
        assert_eq!(config.samples(silence), Some(960));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_config_or_an_error(
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut head = SURROUND.to_vec();
            for (at, byte) in flips {
                let at = at.index(head.len());
                head[at] = byte;
            }
            if let Ok(config) = read(&head) {
                prop_assert!(crate::container::cmaf::audio_init(&config).is_ok());
            }
        }
    }
}
