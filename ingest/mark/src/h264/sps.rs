//! Sequence parameter set, as far as the VUI (ISO/IEC 14496-10 §7.3.2.1.1).

use super::bits::{BitReader, BitWriter, Malformed};
use super::nal;
use super::shown::Shown;
use std::ops::Range;

/// Profiles with the fields of High in their SPS.
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
/// Most macroblocks a side; what is marked is limited further by `plan`.
const SIDE_MACROBLOCKS_MAX: u32 = 1024;
/// Where `level_idc` stands: behind NAL unit header, profile and constraints.
const LEVEL_BIT: usize = 24;

/// What marking asks of an SPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`.
    pub profile: u32,
    /// `seq_parameter_set_id`.
    pub id: u32,
    /// `chroma_format_idc`; 1 is 4:2:0.
    pub chroma_format: u32,
    /// Bits of a luma and of a chroma sample.
    pub depth: (u32, u32),
    /// Whether it carries scaling lists, which every PPS without its own inherits.
    pub scaling_lists: bool,
    /// Bits of `frame_num`.
    pub frame_num_bits: u32,
    /// How picture order is coded.
    pub picture_order: PictureOrder,
    /// Coded width in macroblocks.
    pub columns: u32,
    /// Coded height of a frame in macroblocks.
    pub rows: u32,
    /// Whether all pictures are frames.
    pub frames_only: bool,
    /// Cropped luma samples: left, right, top, bottom (for 4:2:0 frames).
    pub crop: [u32; 4],
    payload: Vec<u8>,
    /// Bits of `max_num_ref_frames`.
    references: Range<usize>,
    crop_bit: usize,
    vui_bit: usize,
}

/// `pic_order_cnt_type` and what a slice header needs of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PictureOrder {
    /// Type 0: that many bits of `pic_order_cnt_lsb`.
    Lsb(u32),
    /// Type 1: whether slice headers carry deltas.
    Cycle {
        /// Not `delta_pic_order_always_zero_flag`.
        deltas: bool,
    },
    /// Type 2: output order is decoding order.
    None,
}

impl Sps {
    /// Reads a NAL unit of type 7.
    ///
    /// # Errors
    /// Names the bit where it stops making sense.
    pub fn parse(unit: &[u8]) -> Result<Sps, Malformed> {
        let payload = nal::unescape(nal::trimmed(unit));
        let mut read = BitReader::new("SPS", &payload);
        if read.bits(8)? & 0x9f != u32::from(nal::kind::SPS) {
            return Err(read.malformed("not an SPS"));
        }
        let profile = read.bits(8)?;
        read.bits(16)?; // constraints, level
        let id = read.ue(31, "seq_parameter_set_id")?;
        let (mut chroma_format, mut depth, mut scaling_lists) = (1, (8, 8), false);
        if HIGH_PROFILES.contains(&profile) {
            chroma_format = read.ue(3, "chroma_format_idc")?;
            if chroma_format == 3 {
                read.flag()?;
            }
            depth = (8 + read.ue(6, "bit_depth_luma")?, 8 + read.ue(6, "bit_depth_chroma")?);
            read.flag()?; // lossless bypass
            scaling_lists = read.flag()?;
            if scaling_lists {
                skip_scaling_lists(&mut read, if chroma_format == 3 { 12 } else { 8 })?;
            }
        }
        let frame_num_bits = 4 + read.ue(12, "log2_max_frame_num")?;
        let picture_order = match read.ue(2, "pic_order_cnt_type")? {
            0 => PictureOrder::Lsb(4 + read.ue(12, "log2_max_pic_order_cnt_lsb")?),
            1 => {
                let deltas = !read.flag()?;
                read.se(i32::MAX as u32, "offset_for_non_ref_pic")?;
                read.se(i32::MAX as u32, "offset_for_top_to_bottom_field")?;
                for _ in 0..read.ue(255, "num_ref_frames_in_pic_order_cnt_cycle")? {
                    read.se(i32::MAX as u32, "offset_for_ref_frame")?;
                }
                PictureOrder::Cycle { deltas }
            }
            _ => PictureOrder::None,
        };
        let references_from = read.position();
        read.ue(16, "max_num_ref_frames")?;
        let references = references_from..read.position();
        read.flag()?; // gaps in frame_num
        let columns = 1 + read.ue(SIDE_MACROBLOCKS_MAX - 1, "pic_width_in_mbs")?;
        let map_rows = 1 + read.ue(SIDE_MACROBLOCKS_MAX - 1, "pic_height_in_map_units")?;
        let frames_only = read.flag()?;
        if !frames_only {
            read.flag()?; // MBAFF
        }
        read.flag()?; // direct_8x8_inference
        let crop_bit = read.position();
        let mut crop = [0; 4];
        if read.flag()? {
            for side in &mut crop {
                *side = 2 * read.ue(SIDE_MACROBLOCKS_MAX * 8, "frame_crop_offset")?;
            }
        }
        let rows = if frames_only { map_rows } else { 2 * map_rows };
        if crop[0] + crop[1] >= 16 * columns || crop[2] + crop[3] >= 16 * rows {
            return Err(read.malformed("cropping leaves nothing"));
        }
        let vui_bit = read.position();
        read.flag()?; // VUI or not: it must not end here
        Ok(Sps {
            profile,
            id,
            chroma_format,
            depth,
            scaling_lists,
            frame_num_bits,
            picture_order,
            columns,
            rows,
            frames_only,
            crop,
            references,
            crop_bit,
            vui_bit,
            payload,
        })
    }

    /// The same SPS as a NAL unit for a lone IDR: without cropping and VUI, so that a decoder gives the whole coded
    /// picture at once, and with one reference frame, so that it makes room for no more.
    pub fn uncropped(&self) -> Vec<u8> {
        self.bare(true)
    }

    /// The same SPS as a NAL unit for a decoder of the whole stream: without cropping and VUI.
    pub fn uncropped_stream(&self) -> Vec<u8> {
        self.bare(false)
    }

    fn bare(&self, lone: bool) -> Vec<u8> {
        let mut write = BitWriter::with_capacity(self.payload.len() + 1);
        if lone {
            write.copy(&self.payload, 0, self.references.start);
            write.ue(1);
            write.copy(&self.payload, self.references.end, self.crop_bit);
        } else {
            write.copy(&self.payload, 0, self.crop_bit);
        }
        write.flag(false);
        write.flag(false);
        write.trailing();
        nal::escape(&write.into_bytes())
    }

    /// How its pictures are shown.
    ///
    /// # Errors
    /// When the VUI does not parse.
    pub fn shown(&self) -> Result<Shown, Malformed> {
        let mut shown = Shown { level: self.payload[LEVEL_BIT / 8], crop: self.crop, ..Shown::default() };
        let mut read = BitReader::new("VUI", &self.payload);
        read.seek(self.vui_bit);
        shown.read_vui(&mut read)?;
        Ok(shown)
    }

    /// This SPS, with pictures that are shown so. Output order is decoding order, one picture is kept.
    pub fn to_be_shown(&self, shown: &Shown) -> Vec<u8> {
        let mut write = BitWriter::with_capacity(self.payload.len() + 40);
        write.copy(&self.payload, 0, LEVEL_BIT);
        write.bits(8, shown.level.into());
        write.copy(&self.payload, LEVEL_BIT + 8, self.crop_bit);
        shown.write_crop(&mut write);
        shown.write_vui(&mut write);
        write.bits(3, 0); // no HRD of either kind, no picture structure
        write.flag(true); // restrictions: those below, and the largest of what else there is
        write.flag(true);
        for value in [0, 0, 16, 16, 0, 1] {
            write.ue(value);
        }
        write.trailing();
        nal::escape(&write.into_bytes())
    }

    /// Coded width in samples.
    pub fn width(&self) -> usize {
        self.columns as usize * 16
    }

    /// Coded height in samples.
    pub fn height(&self) -> usize {
        self.rows as usize * 16
    }
}

/// `scaling_list()` for each list that is present.
pub(super) fn skip_scaling_lists(read: &mut BitReader<'_>, lists: u32) -> Result<(), Malformed> {
    for list in 0..lists {
        if !read.flag()? {
            continue;
        }
        let (mut last, mut next) = (8, 8);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + read.se(128, "delta_scale")? + 256) % 256;
            }
            last = if next == 0 { last } else { next };
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// x264, High, 1920x1080, level 4.0, 8 bit 4:2:0, cropping 8 rows.
    pub(crate) const HIGH_1080: [u8; 25] = [
        0x67, 0x64, 0x00, 0x28, 0xac, 0xd9, 0x40, 0x78, 0x02, 0x27, 0xe5, 0xc0, 0x44, 0x00, 0x00, 0x03, 0x00,
        0x04, 0x00, 0x00, 0x03, 0x00, 0xf0, 0x3c, 0x60,
    ];

    #[test]
    fn reads_what_x264_writes_and_takes_the_cropping_off() {
        let sps = Sps::parse(&HIGH_1080).unwrap();
        assert_eq!((sps.profile, sps.width(), sps.height()), (100, 1920, 1088));
        assert_eq!((sps.crop, sps.frames_only, sps.depth), ([0, 0, 0, 8], true, (8, 8)));
        let bare = Sps::parse(&sps.uncropped()).unwrap();
        assert_eq!((bare.crop, bare.width(), bare.height()), ([0; 4], 1920, 1088));
        assert_eq!((bare.picture_order, bare.frame_num_bits), (sps.picture_order, sps.frame_num_bits));
    }

    #[test]
    fn nothing_but_an_sps_is_one() {
        assert_eq!(Sps::parse(&[]).unwrap_err().what, "the bytes end");
        assert_eq!(Sps::parse(&[0x68, 1, 2, 3]).unwrap_err().what, "not an SPS");
        for length in 1..14 {
            assert!(Sps::parse(&HIGH_1080[..length]).is_err() || length > 11, "cut to {length}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_sps_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let unit: Vec<u8> = [0x67].into_iter().chain(bytes).collect();
            if let Ok(sps) = Sps::parse(&unit) {
                prop_assert!(Sps::parse(&sps.uncropped()).is_ok());
            }
        }
    }
}
