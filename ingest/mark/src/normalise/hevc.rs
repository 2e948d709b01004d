//! HEVC's sequence parameter set, as far as how its pictures are shown (ITU-T H.265 §7.3.2.2, §E.2.1).
//!
//! In: a NAL unit of a publisher. Out: a value, or `Malformed` with the bit where reading stopped. Pure and total. The crate that
//! reads one (scuffle-h265 0.2.2) panics at some that are damaged.

use crate::h264::Malformed;
use crate::h264::bits::BitReader;
use crate::h264::nal;
use crate::h264::shown::{Shown, Timing};

/// Largest value of numbers that are only passed over.
const ANY: u32 = u32::MAX - 1;
/// Most pictures that a set refers to, earlier or later ones.
const REFERENCES_MAX: u32 = 16;

/// What the normaliser asks of an SPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sps {
    /// `chroma_format_idc`.
    pub(super) chroma_format: u32,
    /// Whether pictures are fields.
    pub(super) fields: bool,
    /// Without level and cropping.
    pub(super) shown: Shown,
}

impl Sps {
    /// Reads a NAL unit of type 33.
    ///
    /// # Errors
    /// Names the bit where it stops making sense.
    pub(super) fn parse(unit: &[u8]) -> Result<Sps, Malformed> {
        let payload = nal::unescape(nal::trimmed(unit));
        let mut read = BitReader::new("HEVC SPS", &payload);
        read.bits(16)?; // NAL unit header
        read.bits(4)?; // VPS
        let sub_layers = read.bits(3)?;
        read.flag()?; // nesting
        skip_levels(&mut read, sub_layers)?;
        read.ue(15, "sps_seq_parameter_set_id")?;
        let chroma_format = read.ue(3, "chroma_format_idc")?;
        if chroma_format == 3 {
            read.flag()?;
        }
        skip_numbers(&mut read, 2)?; // width, height
        if read.flag()? {
            skip_numbers(&mut read, 4)?;
        }
        skip_numbers(&mut read, 2)?; // depths
        let order_bits = 4 + read.ue(12, "log2_max_pic_order_cnt_lsb")?;
        let layers = if read.flag()? { sub_layers + 1 } else { 1 };
        skip_numbers(&mut read, 3 * layers)?; // what is buffered
        skip_numbers(&mut read, 6)?; // sizes of blocks
        if read.flag()? && read.flag()? {
            skip_scaling_lists(&mut read)?;
        }
        read.bits(2)?; // asymmetric partitions, sample adaptive offset
        if read.flag()? {
            read.bits(8)?; // depths of PCM
            skip_numbers(&mut read, 2)?;
            read.flag()?;
        }
        skip_references(&mut read)?;
        if read.flag()? {
            for _ in 0..read.ue(32, "num_long_term_ref_pics_sps")? {
                read.bits(order_bits + 1)?;
            }
        }
        read.bits(2)?; // temporal motion vectors, strong smoothing
        let mut sps = Sps { chroma_format, fields: false, shown: Shown::default() };
        if read.flag()? {
            sps.read_vui(&mut read)?;
        }
        Ok(sps)
    }

    fn read_vui(&mut self, read: &mut BitReader<'_>) -> Result<(), Malformed> {
        self.shown.read_samples(read)?;
        read.flag()?; // neutral chroma
        self.fields = read.flag()?;
        read.flag()?; // information on fields
        if read.flag()? {
            skip_numbers(read, 4)?; // a window to begin with
        }
        if read.flag()? {
            let (units, scale) = (read.bits(32)?, read.bits(32)?);
            // One tick a picture, where H.264 has two.
            self.shown.timing = Some(Timing { units, scale: scale.saturating_mul(2), fixed: false });
        }
        Ok(())
    }
}

fn skip_numbers(read: &mut BitReader<'_>, count: u32) -> Result<(), Malformed> {
    (0..count).try_for_each(|_| read.ue(ANY, "a number").map(drop))
}

/// `profile_tier_level( 1, sub_layers )` (§7.3.3).
fn skip_levels(read: &mut BitReader<'_>, sub_layers: u32) -> Result<(), Malformed> {
    let profile =
        |read: &mut BitReader<'_>| [32, 32, 24].into_iter().try_for_each(|bits| read.bits(bits).map(drop));
    profile(read)?;
    read.bits(8)?;
    let present = (0..sub_layers).map(|_| Ok((read.flag()?, read.flag()?)));
    let present = present.collect::<Result<Vec<_>, Malformed>>()?;
    if sub_layers > 0 {
        read.bits(2 * (8 - sub_layers))?;
    }
    for (has_profile, has_level) in present {
        if has_profile {
            profile(read)?;
        }
        if has_level {
            read.bits(8)?;
        }
    }
    Ok(())
}

/// `scaling_list_data( )` (§7.3.4).
fn skip_scaling_lists(read: &mut BitReader<'_>) -> Result<(), Malformed> {
    for size in 0..4 {
        for _ in 0..if size == 3 { 2 } else { 6 } {
            if !read.flag()? {
                read.ue(5, "scaling_list_pred_matrix_id_delta")?;
                continue;
            }
            let first = u32::from(size > 1);
            for _ in 0..first + (1 << (4 + 2 * size)).min(64) {
                read.se(255, "scaling_list_delta_coef")?;
            }
        }
    }
    Ok(())
}

/// All `st_ref_pic_set( )` (§7.3.7). How long one is may follow from how many pictures the one before has.
fn skip_references(read: &mut BitReader<'_>) -> Result<(), Malformed> {
    let mut before = 0;
    for set in 0..read.ue(64, "num_short_term_ref_pic_sets")? {
        let mut pictures = 0;
        if set > 0 && read.flag()? {
            read.flag()?;
            read.ue(ANY, "abs_delta_rps")?;
            for _ in 0..=before {
                // Used by the picture, or else kept for later ones.
                pictures += u32::from(read.flag()? || read.flag()?);
            }
        } else {
            let sides = [
                read.ue(REFERENCES_MAX, "num_negative_pics")?,
                read.ue(REFERENCES_MAX, "num_positive_pics")?,
            ];
            pictures = sides.iter().sum();
            for _ in 0..pictures {
                read.ue(ANY, "delta_poc")?;
                read.flag()?;
            }
        }
        if pictures > REFERENCES_MAX {
            return Err(read.malformed("too many references"));
        }
        before = pictures;
    }
    Ok(())
}
