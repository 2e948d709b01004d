//! HEVC's sequence parameter set: size, and how its pictures are shown (ITU-T H.265 §7.3.2.2, §7.3.3, §7.3.7, §E.2.1).
//!
//! In: a NAL unit. Out: a value, or `None` where the bits end, are no number or give no sane size. Pure, total. The crate that
//! reads one (scuffle-h265 0.2.2) panics at some that are damaged.

use super::SIDE_MAX;
use crate::bits::{Bits, unescaped};

/// `Extended_SAR`.
const SHAPE_EXTENDED: u32 = 255;
/// Most pictures that a set refers to, earlier or later ones.
const REFERENCES_MAX: u32 = 16;

/// What an SPS says of pictures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HevcSps {
    /// Width inside the conformance window, in samples.
    pub width: u32,
    /// Height inside it.
    pub height: u32,
    /// `chroma_format_idc`.
    pub chroma_format: u32,
    /// Whether each picture is a field.
    pub fields: bool,
    /// The sample's shape: `aspect_ratio_idc`, or width to height with 255.
    pub shape: Option<(u8, u16, u16)>,
    /// `overscan_appropriate_flag`.
    pub overscan: Option<bool>,
    /// `video_format`, `video_full_range_flag`, and primaries, transfer characteristics and matrix.
    pub signal: Option<(u8, bool, Option<[u8; 3]>)>,
    /// `chroma_sample_loc_type` of the top and the bottom field.
    pub chroma_place: Option<[u32; 2]>,
    /// Units of the clock a picture, and a second.
    pub timing: Option<(u32, u32)>,
}

impl HevcSps {
    /// Reads a NAL unit of type 33.
    pub fn parse(unit: &[u8]) -> Option<HevcSps> {
        let payload = unescaped(unit.get(2..)?);
        let mut bits = Bits::new(&payload);
        let mut sps = HevcSps::default();
        bits.take(4)?; // VPS
        let sub_layers = bits.take(3)?;
        bits.bit()?; // nesting
        if sub_layers > 6 {
            return None;
        }
        skip_levels(&mut bits, sub_layers)?;
        sps.read_size(&mut bits)?;
        // Players need a size. Whatever stands behind it and cannot be read is not said.
        let known = sps.clone();
        Some(sps.read_shown(&mut bits, sub_layers).map_or(known, |()| sps))
    }

    /// Frames in 1,000 seconds; 0 where it does not say.
    pub fn millihertz(&self) -> u32 {
        let hertz = |(units, scale): (u32, u32)| (u64::from(scale) * 1_000).checked_div(units.into());
        self.timing.and_then(hertz).and_then(|rate| u32::try_from(rate).ok()).unwrap_or(0)
    }

    fn read_size(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        bits.unsigned()?; // its id
        self.chroma_format = bits.unsigned()?;
        if self.chroma_format > 3 || self.chroma_format == 3 && bits.bit()? {
            return None; // planes coded apart are of no use to any player
        }
        let (width, height) = (bits.unsigned()?, bits.unsigned()?);
        let mut cut = (0, 0);
        if bits.bit()? {
            let unit_x = if matches!(self.chroma_format, 1 | 2) { 2u64 } else { 1 };
            let unit_y = if self.chroma_format == 1 { 2u64 } else { 1 };
            let (left, right) = (u64::from(bits.unsigned()?), u64::from(bits.unsigned()?));
            let (top, bottom) = (u64::from(bits.unsigned()?), u64::from(bits.unsigned()?));
            cut = ((left + right) * unit_x, (top + bottom) * unit_y);
        }
        let sane = |whole: u32, cut: u64| {
            let left = u32::try_from(u64::from(whole).checked_sub(cut)?).ok()?;
            (1..=SIDE_MAX).contains(&left).then_some(left)
        };
        (self.width, self.height) = (sane(width, cut.0)?, sane(height, cut.1)?);
        Some(())
    }

    /// From the depths of samples on.
    fn read_shown(&mut self, bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
        skip_numbers(bits, 2)?; // depths
        let order_bits = 4 + bits.unsigned().filter(|more| *more <= 12)?;
        let layers = if bits.bit()? { sub_layers + 1 } else { 1 };
        skip_numbers(bits, 3 * layers)?; // what is buffered
        skip_numbers(bits, 6)?; // sizes of blocks
        if bits.bit()? && bits.bit()? {
            skip_scaling_lists(bits)?;
        }
        bits.take(2)?; // asymmetric partitions, sample adaptive offset
        if bits.bit()? {
            bits.take(8)?; // depths of PCM
            skip_numbers(bits, 2)?;
            bits.bit()?;
        }
        skip_references(bits)?;
        if bits.bit()? {
            for _ in 0..bits.unsigned().filter(|count| *count <= 32)? {
                bits.take(order_bits + 1)?;
            }
        }
        bits.take(2)?; // temporal motion vectors, strong smoothing
        if bits.bit()? { self.read_vui(bits) } else { Some(()) }
    }

    fn read_vui(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        if bits.bit()? {
            // Eight and sixteen bits fit.
            let idc = bits.take(8)?;
            let (width, height) =
                if idc == SHAPE_EXTENDED { (bits.take(16)?, bits.take(16)?) } else { (0, 0) };
            self.shape = Some((idc as u8, width as u16, height as u16));
        }
        if bits.bit()? {
            self.overscan = Some(bits.bit()?);
        }
        if bits.bit()? {
            let (format, full_range) = (bits.take(3)? as u8, bits.bit()?);
            let mut colours = None;
            if bits.bit()? {
                let mut code = || bits.take(8).map(|code| code as u8);
                colours = Some([code()?, code()?, code()?]);
            }
            self.signal = Some((format, full_range, colours));
        }
        if bits.bit()? {
            self.chroma_place = Some([bits.unsigned()?, bits.unsigned()?]);
        }
        bits.bit()?; // neutral chroma
        self.fields = bits.bit()?;
        bits.bit()?; // information on fields
        if bits.bit()? {
            skip_numbers(bits, 4)?; // a window to begin with
        }
        if bits.bit()? {
            self.timing = Some((bits.take(32)?, bits.take(32)?));
        }
        Some(())
    }
}

fn skip_numbers(bits: &mut Bits<'_>, count: u32) -> Option<()> {
    (0..count).try_for_each(|_| bits.unsigned().map(drop))
}

/// `profile_tier_level( 1, sub_layers )`.
fn skip_levels(bits: &mut Bits<'_>, sub_layers: u32) -> Option<()> {
    let skip = |bits: &mut Bits<'_>, count: [u32; 3]| {
        count.into_iter().try_for_each(|count| bits.take(count).map(drop))
    };
    let profile = [32, 32, 24];
    skip(bits, profile)?;
    bits.take(8)?;
    let present: Vec<(bool, bool)> =
        (0..sub_layers).map(|_| Some((bits.bit()?, bits.bit()?))).collect::<Option<_>>()?;
    if sub_layers > 0 {
        bits.take(2 * (8 - sub_layers))?;
    }
    for (has_profile, has_level) in present {
        if has_profile {
            skip(bits, profile)?;
        }
        if has_level {
            bits.take(8)?;
        }
    }
    Some(())
}

/// `scaling_list_data( )`.
fn skip_scaling_lists(bits: &mut Bits<'_>) -> Option<()> {
    for size in 0..4 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !bits.bit()? {
                bits.unsigned()?; // as another one
                continue;
            }
            let first = u32::from(size > 1);
            skip_numbers(bits, first + (1 << (4 + 2 * size)).min(64))?;
        }
    }
    Some(())
}

/// All `st_ref_pic_set( )`. How long one is may follow from how many pictures the one before has.
fn skip_references(bits: &mut Bits<'_>) -> Option<()> {
    let mut before = 0;
    for set in 0..bits.unsigned().filter(|count| *count <= 64)? {
        let mut pictures = 0;
        if set > 0 && bits.bit()? {
            bits.bit()?;
            bits.unsigned()?;
            for _ in 0..=before {
                // Used by the picture, or else kept for later ones.
                pictures += u32::from(bits.bit()? || bits.bit()?);
            }
        } else {
            pictures = bits.unsigned()?.checked_add(bits.unsigned()?)?;
            if pictures > REFERENCES_MAX {
                return None;
            }
            for _ in 0..pictures {
                bits.unsigned()?;
                bits.bit()?;
            }
        }
        if pictures > REFERENCES_MAX {
            return None;
        }
        before = pictures;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// libx265 in ffmpeg 5.1: 4:2:2 of 10 bits, 322×200, several sets of references of which some follow from others, default
    /// scaling lists, a VUI with everything.
    const UNIT: &str =
        "4201010408000003009d0800000300003cb00a480c9c9b65959a49395e076a1224136c2000007d20000ea601";

    #[test]
    fn a_real_one_is_read_to_its_end() {
        let sps = HevcSps::parse(&hex::decode(UNIT).unwrap()).unwrap();
        let expected = HevcSps {
            width: 322,
            height: 200,
            chroma_format: 2,
            fields: false,
            shape: Some((3, 0, 0)),
            overscan: Some(false),
            signal: Some((5, false, Some([9, 18, 9]))),
            chroma_place: Some([2, 2]),
            timing: Some((1_001, 30_000)),
        };
        assert_eq!(sps, expected);
        assert_eq!((sps.millihertz(), HevcSps::default().millihertz()), (29_970, 0));
    }

    #[test]
    fn what_is_cut_behind_its_size_says_no_more() {
        let whole = hex::decode(UNIT).unwrap();
        let cut = HevcSps::parse(&whole[..26]).unwrap();
        assert_eq!(cut, HevcSps { width: 322, height: 200, chroma_format: 2, ..HevcSps::default() });
        assert_eq!(HevcSps::parse(&whole[..16]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_one_or_none(flips in proptest::collection::vec((0usize..44, any::<u8>()), 0..8), cut in 0usize..50) {
            let mut unit = hex::decode(UNIT).unwrap();
            for (at, byte) in flips {
                unit[at] = byte;
            }
            unit.truncate(cut);
            if let Some(sps) = HevcSps::parse(&unit) {
                prop_assert!(sps.width <= SIDE_MAX && sps.height <= SIDE_MAX);
            }
        }
    }
}
