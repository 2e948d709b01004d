//! HEVC: `VideoConfig` of an `hvcC`.
//!
//! In: an `HEVCDecoderConfigurationRecord`. Out: a checked value, or an error. Pure, total. ISO/IEC 14496-15 §8.3.3.1 (hvcC) and
//! Annex E (its name). The frame rate is the record's, or else that of its SPS.

use super::hevc_sps::HevcSps;
use super::{CONFIG_BYTES_MAX, ConfigError};
use crate::unit::{VideoCoding, VideoConfig};
use bytes::Bytes;
use mp4_atom::{Atom, Hvcc};

const HVCC: &str = "hvcC";
/// NAL unit types (H.265 table 7-1).
const SPS: u8 = 33;
const SETS: [(u8, &str); 3] = [(32, "VPS"), (SPS, "SPS"), (34, "PPS")];

impl VideoConfig {
    /// Reads an `HEVCDecoderConfigurationRecord`.
    ///
    /// # Errors
    /// A cut record, no VPS, SPS or PPS, an unreadable SPS, a length size of 3, a picture without a sane size.
    pub fn of_hvcc(record: Bytes) -> Result<VideoConfig, ConfigError> {
        if record.len() > CONFIG_BYTES_MAX {
            return Err(ConfigError::Long { record: HVCC, len: record.len() });
        }
        let field = |offset, why: String| ConfigError::Field { record: HVCC, offset, why };
        let hvcc = Hvcc::decode_body(&mut &record[..]).map_err(|error| field(0, error.to_string()))?;
        if hvcc.configuration_version != 1 {
            return Err(field(0, "its version is not 1".to_owned()));
        }
        let length_size = hvcc.length_size_minus_one + 1;
        if length_size == 3 {
            return Err(field(21, "NAL unit lengths of 3 bytes are not allowed".to_owned()));
        }
        for (kind, name) in SETS {
            let mut sets = hvcc.arrays.iter().filter(|array| array.nal_unit_type == kind);
            if sets.all(|array| array.nalus.is_empty()) {
                return Err(field(22, format!("it has no {name}")));
            }
        }
        let units = hvcc
            .arrays
            .iter()
            .flat_map(|array| array.nalus.iter().map(move |nal| (array.nal_unit_type, nal)));
        if units.clone().any(|(kind, nal)| nal.len() < 3 || nal[0] >> 1 != kind) {
            return Err(field(22, "a parameter set is none".to_owned()));
        }
        let sps = units.clone().find(|(kind, _)| *kind == SPS).and_then(|(_, nal)| HevcSps::parse(nal));
        let sps = sps.ok_or_else(|| field(22, "the SPS has no usable picture size".to_owned()))?;
        let millihertz = match u32::from(hvcc.avg_frame_rate) * 1_000 / 256 {
            0 => sps.millihertz(),
            known => known,
        };
        let (coding, codec, width, height) = (VideoCoding::Hevc, name(&hvcc), sps.width, sps.height);
        Ok(VideoConfig { coding, record, codec, width, height, millihertz, length_size })
    }
}

/// The first SPS of an `HEVCDecoderConfigurationRecord`.
pub fn hevc_sps(record: &[u8]) -> Option<HevcSps> {
    let hvcc = Hvcc::decode_body(&mut &*record).ok()?;
    let sets = hvcc.arrays.iter().filter(|array| array.nal_unit_type == SPS);
    HevcSps::parse(sets.flat_map(|array| &array.nalus).next()?)
}

/// As `hvc1.1.6.L93.B0`: profile, its compatibility flags from the last to the first, tier and level, constraints.
fn name(hvcc: &Hvcc) -> String {
    let space = ["", "A", "B", "C"][usize::from(hvcc.general_profile_space & 3)];
    let flags = u32::from_be_bytes(hvcc.general_profile_compatibility_flags).reverse_bits();
    let tier = if hvcc.general_tier_flag { 'H' } else { 'L' };
    let mut name =
        format!("hvc1.{space}{}.{flags:X}.{tier}{}", hvcc.general_profile_idc, hvcc.general_level_idc);
    let constraints = hvcc.general_constraint_indicator_flags;
    let count = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for byte in &constraints[..count] {
        name.push_str(&format!(".{byte:X}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// libx265 in ffmpeg 5.1: Main, 320×180.
    const RECORD: &str = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003003c959409a10001002b42010101600000030090000003000003003ca00a080c1f3e595952930bc05a020000030002000003003210a2000100064401c073c189";

    fn read(record: &[u8]) -> Result<VideoConfig, ConfigError> {
        VideoConfig::of_hvcc(Bytes::copy_from_slice(record))
    }

    #[test]
    fn a_real_record_is_read() {
        let config = read(&hex::decode(RECORD).unwrap()).unwrap();
        assert_eq!((config.width, config.height, config.length_size), (320, 180, 4));
        assert_eq!(config.millihertz, 25_000, "the SPS has it");
        assert_eq!((config.coding, config.codec.as_str()), (VideoCoding::Hevc, "hvc1.1.6.L60.90"));
    }

    #[test]
    fn a_name_says_space_tier_and_all_constraints_up_to_the_last() {
        let hvcc = Hvcc {
            general_profile_space: 1,
            general_tier_flag: true,
            general_profile_idc: 2,
            general_profile_compatibility_flags: [0x20, 0, 0, 0],
            general_constraint_indicator_flags: [0xb0, 0, 0x23, 0, 0, 0],
            general_level_idc: 153,
            ..Hvcc::new()
        };
        assert_eq!(name(&hvcc), "hvc1.A2.4.H153.B0.0.23");
        assert_eq!(name(&Hvcc::new()), "hvc1.0.0.L0");
    }

    #[test]
    fn records_without_use_are_refused() {
        let whole = hex::decode(RECORD).unwrap();
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
        }
        let with = |at: usize, byte: u8| {
            let mut record = whole.clone();
            record[at] = byte;
            read(&record).unwrap_err().to_string()
        };
        assert!(with(0, 2).contains("version"));
        assert!(with(21, whole[21] & !3 | 2).contains("3 bytes"));
        assert!(with(23, 0x80 | 39).contains("no VPS"));
        assert!(read(&[1; 200]).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_config_or_an_error(
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
            random in proptest::collection::vec(any::<u8>(), 0..120),
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
