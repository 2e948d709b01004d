//! Streams that libavcodec decodes: what their configuration says of size and show.
//!
//! In: a configuration that openh264 has no use for. Out: a `Source`, or the misfit as it was. Pure.

use super::source::{By, Source};
use crate::h264::shown::{SHAPE_EXTENDED, Shape, Shown, Signal, Timing};
use crate::plan::{self, MACROBLOCKS_MAX, Misfit};
use codec::Foreign;
use media::config::hevc_sps;
use media::unit::{VideoCoding, VideoConfig};

/// Profiles of H.264 that are decoded beside those that can be marked (ISO/IEC 14496-10 §A.2): High 10, High 4:2:2, High 4:4:4
/// Predictive, CAVLC 4:4:4 Intra.
const PROFILES: [u32; 4] = [110, 122, 244, 44];
/// Pictures in 1,000 seconds where the stream does not say: so many at most, for the level.
const MILLIHERTZ_UNKNOWN: u64 = 60_000;
/// Levels with their macroblocks a second and a picture (ISO/IEC 14496-10 table A-1).
const LEVELS: [(u8, u64, u64); 10] = [
    (20, 11_880, 396),
    (21, 19_800, 792),
    (30, 40_500, 1_620),
    (31, 108_000, 3_600),
    (32, 216_000, 5_120),
    (40, 245_760, 8_192),
    (42, 522_240, 8_704),
    (50, 589_824, 22_080),
    (51, 983_040, 36_864),
    (52, 2_073_600, 36_864),
];

/// The stream of this configuration, which cannot be marked for that reason.
///
/// # Errors
/// The same reason, or another one, when libavcodec's pictures would be of no use either.
pub(super) fn source(config: &VideoConfig, misfit: Misfit) -> Result<Source, Misfit> {
    let decoded = match &misfit {
        Misfit::Depth { .. } | Misfit::Chroma(2 | 3) => true,
        Misfit::Profile(profile) => PROFILES.contains(profile),
        _ => false,
    };
    let (coding, shown) = match config.coding {
        VideoCoding::H264 if decoded => (Foreign::H264, of_h264(config)?),
        VideoCoding::Hevc => (Foreign::Hevc, of_hevc(config)?),
        VideoCoding::H264 | VideoCoding::Av1 => return Err(misfit),
    };
    let (width, height) = (config.width as usize, config.height as usize);
    let (columns, rows) = (width.div_ceil(16), height.div_ceil(16));
    let whole = (columns * 16, rows * 16);
    if whole.0.max(whole.1) > codec::SIDE_MAX || columns * rows > MACROBLOCKS_MAX {
        return Err(Misfit::TooLarge { width: whole.0, height: whole.1 });
    }
    if !width.is_multiple_of(2) || !height.is_multiple_of(2) {
        // What is cropped from 4:2:0 are pairs of samples.
        return Err(misfit);
    }
    let millihertz = if config.millihertz == 0 { MILLIHERTZ_UNKNOWN } else { config.millihertz.into() };
    let level = level((columns * rows) as u64, millihertz);
    // Our pictures are as large as theirs are shown, and whole macroblocks.
    let crop = [0, (whole.0 - width) as u32, 0, (whole.1 - height) as u32];
    let shown = Shown { level, crop, ..shown };
    let (columns, rows) = (columns as u32, rows as u32);
    let decoder = By::Libav { coding, width, height };
    Ok(Source { coding: config.coding, record: config.record.clone(), columns, rows, shown, decoder })
}

fn level(macroblocks: u64, millihertz: u64) -> u8 {
    let rate = macroblocks * millihertz / 1_000;
    let holds = |(_, a_second, a_picture): &&(u8, u64, u64)| macroblocks <= *a_picture && rate <= *a_second;
    LEVELS.iter().find(holds).map_or(52, |(level, ..)| *level)
}

fn of_h264(config: &VideoConfig) -> Result<Shown, Misfit> {
    let sps = plan::first_sps(&config.record)?;
    if !sps.frames_only {
        return Err(Misfit::Interlaced);
    }
    Ok(sps.shown()?)
}

fn of_hevc(config: &VideoConfig) -> Result<Shown, Misfit> {
    let sps = hevc_sps(&config.record).ok_or(Misfit::Record { what: "no SPS that can be read", at: 22 })?;
    if sps.chroma_format == 0 {
        return Err(Misfit::Chroma(0));
    }
    if sps.fields {
        return Err(Misfit::Interlaced);
    }
    Ok(Shown {
        shape: sps.shape.map(|(idc, width, height)| match idc {
            SHAPE_EXTENDED => Shape::Of(width, height),
            known => Shape::Known(known),
        }),
        overscan: sps.overscan,
        signal: sps.signal.map(|(format, full_range, colours)| Signal { format, full_range, colours }),
        chroma_place: sps.chroma_place.map(|place| place.map(|place| place.min(5))),
        // One tick a picture, where H.264 has two.
        timing: sps.timing.map(|(units, scale)| Timing {
            units,
            scale: scale.saturating_mul(2),
            fixed: false,
        }),
        ..Shown::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// libx265 in ffmpeg 5.1: Main, 320×180, 25 pictures a second.
    const HVCC: &str = "0101600000009000000000003cf000fcfdf8f800000f03a00001001840010c01ffff01600000030090000003000003003c959409a10001002b42010101600000030090000003000003003ca00a080c1f3e595952930bc05a020000030002000003003210a2000100064401c073c189";

    fn config(record: Vec<u8>) -> Option<VideoConfig> {
        VideoConfig::of_hvcc(record.into()).ok()
    }

    #[test]
    fn hevc_is_shown_as_it_says() {
        let config = config(hex::decode(HVCC).unwrap()).unwrap();
        let source = Source::of(&config).unwrap();
        assert!(source.never_fits());
        assert_eq!((source.columns, source.rows), (20, 12));
        assert_eq!((source.shown.crop, source.shown.level), ([0, 0, 0, 12], 20));
        assert_eq!(source.shown.timing, Some(Timing { units: 1, scale: 50, fixed: false }));
        let idr = [0, 0, 0, 3, 0x4e, 1, 5, 0, 0, 0, 3, 0x28, 1, 0xaf];
        let open = [0, 0, 0, 3, 0x2a, 1, 0xaf];
        assert!(source.is_closed(&idr) && !source.is_closed(&open));
    }

    #[test]
    fn levels_hold_what_they_are_for() {
        let levels =
            [(20, 12, 25_000), (80, 45, 30_000), (80, 45, 60_000), (120, 68, 30_000), (120, 68, 60_000)];
        let levels = levels.map(|(columns, rows, millihertz)| level(columns * rows, millihertz));
        assert_eq!(levels, [20, 31, 32, 40, 42]);
        assert_eq!((level(240 * 135, 30_000), level(240 * 135, 60_000)), (51, 52));
    }

    proptest! {
        #[test]
        fn any_record_is_a_source_or_a_misfit(
            flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        ) {
            let mut record = hex::decode(HVCC).unwrap();
            for (at, byte) in flips {
                let at = at.index(record.len());
                record[at] = byte;
            }
            if let Some(source) = config(record).and_then(|config| Source::of(&config).ok()) {
                prop_assert!(source.columns * source.rows <= MACROBLOCKS_MAX as u32);
            }
        }
    }
}
