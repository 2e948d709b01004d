//! AV1: `VideoConfig` of an `av1C`.
//!
//! In: an `AV1CodecConfigurationRecord`. Out: a checked value, or an error. Pure, total. AV1 in ISO-BMFF v1.2 §2.3 (record) and §5
//! (name), AV1 §5.3 and §5.5 (sequence header).

use super::{CONFIG_BYTES_MAX, ConfigError, SIDE_MAX};
use crate::bits::Bits;
use crate::obu;
use crate::unit::{VideoCoding, VideoConfig};
use bytes::Bytes;
use mp4_atom::{Atom, Av1c};

const AV1C: &str = "av1C";

impl VideoConfig {
    /// Reads an `AV1CodecConfigurationRecord`.
    ///
    /// # Errors
    /// A cut record, reserved bits, no readable sequence header, a picture without a sane size.
    pub fn of_av1c(record: Bytes) -> Result<VideoConfig, ConfigError> {
        if record.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::Long { record: AV1C, len: record.len() });
        }
        let field = |offset, why: String| ConfigError::Field { record: AV1C, offset, why };
        let av1c = Av1c::decode_body(&mut &record[..]).map_err(|error| field(0, error.to_string()))?;
        let mut header = None;
        for unit in obu::each(&av1c.config_obus) {
            let unit = unit.map_err(|(offset, why)| field(4 + offset, why.to_string()))?;
            header = header.or((unit.kind == obu::SEQUENCE_HEADER).then_some(unit));
        }
        let header = header.ok_or_else(|| field(4, "it has no sequence header".to_owned()))?;
        let size = size(&mut Bits::new(header.payload));
        let (width, height) =
            size.ok_or_else(|| field(4, "the sequence header has no usable picture size".to_owned()))?;
        let depth = match (av1c.high_bitdepth, av1c.twelve_bit) {
            (true, true) => 12,
            (true, false) => 10,
            (false, _) => 8,
        };
        let tier = if av1c.seq_tier_0 { 'H' } else { 'M' };
        let codec = format!("av01.{}.{:02}{tier}.{depth:02}", av1c.seq_profile, av1c.seq_level_idx_0);
        let coding = VideoCoding::Av1;
        Ok(VideoConfig { coding, record, codec, width, height, millihertz: 0, length_size: 0 })
    }
}

/// The largest width and height; `None` where the bits end, are no number or give no sane size.
fn size(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    bits.take(3)?;
    bits.bit()?;
    if bits.bit()? {
        return None; // a short header, for still pictures
    }
    operating_points(bits)?;
    let (width_bits, height_bits) = (bits.take(4)? + 1, bits.take(4)? + 1);
    let (width, height) = (bits.take(width_bits)? + 1, bits.take(height_bits)? + 1);
    [width, height].iter().all(|side| *side <= SIDE_MAX).then_some((width, height))
}

/// Skips timing, decoder model and operating points.
fn operating_points(bits: &mut Bits<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.bit()? {
        bits.take(32)?;
        bits.take(32)?;
        if bits.bit()? {
            bits.unsigned()?;
        }
        if bits.bit()? {
            delay_bits = Some(bits.take(5)? + 1);
            bits.take(32)?;
            bits.take(10)?;
        }
    }
    let has_delays = bits.bit()?;
    for _ in 0..=bits.take(5)? {
        bits.take(12)?;
        if bits.take(5)? > 7 {
            bits.bit()?;
        }
        if let Some(count) = delay_bits
            && bits.bit()?
        {
            bits.take(count)?;
            bits.take(count)?;
            bits.bit()?;
        }
        if has_delays && bits.bit()? {
            bits.take(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// libsvtav1 in ffmpeg 5.1: Main, level 2.0, 8 bits, 320×180.
    const RECORD: &str = "81000c000a0b000000043cfecc02f80040";

    fn read(record: &[u8]) -> Result<VideoConfig, ConfigError> {
        VideoConfig::of_av1c(Bytes::copy_from_slice(record))
    }

    #[test]
    fn a_real_record_is_read() {
        let config = read(&hex::decode(RECORD).unwrap()).unwrap();
        assert_eq!((config.width, config.height, config.length_size), (320, 180, 0));
        assert_eq!((config.coding, config.codec.as_str()), (VideoCoding::Av1, "av01.0.00M.08"));
    }

    #[test]
    fn a_name_says_profile_level_tier_and_depth() {
        let mut record = hex::decode(RECORD).unwrap();
        for (profile_level, flags, name) in [
            (0x08, 0x0c, "av01.0.08M.08"),
            (0x0d, 0xcc, "av01.0.13H.10"),
            (0x50, 0xe0, "av01.2.16H.12"),
            (0x3f, 0x00, "av01.1.31M.08"),
        ] {
            (record[1], record[2]) = (profile_level, flags);
            assert_eq!(read(&record).unwrap().codec, name);
        }
    }

    /// A head with timing, decoder model and two operating points: all that stands before the size.
    #[test]
    fn the_size_is_found_behind_all_that_may_stand_before_it() {
        let mut bits = String::new();
        let mut put = |value: u64, count: usize| bits.push_str(&format!("{value:0count$b}"));
        for (value, count) in [
            (0, 3),
            (0, 1),
            (0, 1), // profile, no still picture, a whole head
            (1, 1),
            (1, 32),
            (60, 32),
            (1, 1),
            (0b010, 3), // timing: equal intervals of 2 ticks
            (1, 1),
            (9, 5),
            (1, 32),
            (9, 5),
            (9, 5), // decoder model: delays of 10 bits
            (1, 1),
            (1, 5), // display delays, two points
            (0x103, 12),
            (13, 5),
            (1, 1),
            (1, 1),
            (777, 10),
            (888, 10),
            (1, 1),
            (1, 1),
            (7, 4),
            (0x101, 12),
            (4, 5),
            (0, 1),
            (0, 1),
            (10, 4),
            (9, 4),
            (1_919, 11),
            (799, 10),
        ] {
            put(value, count);
        }
        let bytes: Vec<u8> = bits
            .as_bytes()
            .chunks(8)
            .map(|byte| byte.iter().enumerate().fold(0, |all, (at, bit)| all | (bit - b'0') << (7 - at)))
            .collect();
        assert_eq!(size(&mut Bits::new(&bytes)), Some((1_920, 800)));
        for cut in 0..bytes.len() - 1 {
            assert_eq!(size(&mut Bits::new(&bytes[..cut])), None, "cut at {cut}");
        }
    }

    #[test]
    fn records_without_use_are_refused() {
        let whole = hex::decode(RECORD).unwrap();
        for cut in 0..14 {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let with = |at: usize, byte: u8| {
            let mut record = whole.clone();
            record[at] = byte;
            read(&record).unwrap_err().to_string()
        };
        assert!(read(&[&[0x82][..], &whole[1..]].concat()).is_err(), "another version");
        assert!(with(4, 0x12).contains("no sequence header"));
        assert!(with(4, 0x8a).contains("no head of a unit"));
        assert!(with(6, 0x08).contains("picture size"), "a short header");
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_config_or_an_error(
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
            random in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut record = hex::decode(RECORD).unwrap();
            for (at, byte) in flips {
                let at = at.index(record.len());
                record[at] = byte;
            }
            for bytes in [&record, &random] {
                if let Ok(config) = read(bytes) {
                    prop_assert!(crate::container::cmaf::video_init(&config).is_ok());
                }
            }
        }
    }
}
