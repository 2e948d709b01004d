//! Slice header of IDR slices (ISO/IEC 14496-10 §7.3.3): read of host and donor, written for the marked slices.

use super::bits::{BitReader, BitWriter, Malformed};
use super::nal;
use super::pps::{OwnPps, Pps};
use super::sps::{PictureOrder, Sps};

/// Bytes of a slice that are enough for its header.
const HEADER_BYTES_MAX: usize = 96;
/// `slice_type` of an I slice in a picture of I slices only.
const TYPE_ALL_I: u32 = 7;

/// The header of an IDR slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdrHeader {
    /// First byte of the NAL unit, `nal_ref_idc` in it.
    pub nal_header: u8,
    /// First macroblock, in raster order.
    pub first_mb: u32,
    /// `pic_parameter_set_id`.
    pub pps: u32,
    /// What all slices of the picture share.
    pub picture: PictureFields,
    /// QP of the slice's first macroblock.
    pub qp: i32,
    /// `disable_deblocking_filter_idc` and the two offsets.
    pub deblocking: (u32, i32, i32),
    /// Bit of the payload where slice data starts (before CABAC's alignment).
    pub data_bit: usize,
}

/// The fields of a slice header that name the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureFields {
    /// `frame_num`.
    pub frame_num: u32,
    /// `idr_pic_id`.
    pub idr_pic_id: u32,
    /// `pic_order_cnt_lsb`, 0 where there is none.
    pub order_lsb: u32,
    /// `delta_pic_order_cnt_bottom`, 0 where there is none.
    pub order_bottom: i32,
    /// `delta_pic_order_cnt[0]` and `[1]`, 0 where there are none.
    pub order_deltas: (i32, i32),
    /// `no_output_of_prior_pics_flag`.
    pub no_output_of_prior: bool,
    /// `long_term_reference_flag`.
    pub long_term: bool,
}

impl IdrHeader {
    /// The PPS that an IDR slice names.
    ///
    /// # Errors
    /// When the header ends before it does.
    pub fn pps_of(unit: &[u8]) -> Result<u32, Malformed> {
        let payload = head(unit);
        let mut read = BitReader::new("slice header", &payload);
        read.bits(8)?;
        read.ue(u32::MAX, "first_mb_in_slice")?;
        read.ue(9, "slice_type")?;
        read.ue(255, "pic_parameter_set_id")
    }

    /// Reads the header of a NAL unit of type 5. `sps` codes frames only.
    ///
    /// # Errors
    /// Names the bit where it stops making sense; redundant pictures and slices that are not I are errors too.
    pub fn parse(unit: &[u8], sps: &Sps, pps: &Pps) -> Result<IdrHeader, Malformed> {
        let payload = head(unit);
        let mut read = BitReader::new("slice header", &payload);
        let nal_header = read.bits(8)? as u8;
        if nal_header & 0x9f != nal::kind::IDR || nal_header & 0x60 == 0 {
            return Err(read.malformed("not a reference slice of an IDR picture"));
        }
        let first_mb = read.ue(sps.columns * sps.rows - 1, "first_mb_in_slice")?;
        if read.ue(9, "slice_type")? % 5 != 2 {
            return Err(read.malformed("a slice that is not I"));
        }
        if read.ue(255, "pic_parameter_set_id")? != pps.id {
            return Err(read.malformed("pic_parameter_set_id of another PPS"));
        }
        let mut picture = PictureFields {
            frame_num: read.bits(sps.frame_num_bits)?,
            idr_pic_id: read.ue(65_535, "idr_pic_id")?,
            order_lsb: 0,
            order_bottom: 0,
            order_deltas: (0, 0),
            no_output_of_prior: false,
            long_term: false,
        };
        match sps.picture_order {
            PictureOrder::Lsb(bits) => {
                picture.order_lsb = read.bits(bits)?;
                if pps.bottom_order {
                    picture.order_bottom = read.se(i32::MAX as u32, "delta_pic_order_cnt_bottom")?;
                }
            }
            PictureOrder::Cycle { deltas: true } => {
                picture.order_deltas.0 = read.se(i32::MAX as u32, "delta_pic_order_cnt")?;
                if pps.bottom_order {
                    picture.order_deltas.1 = read.se(i32::MAX as u32, "delta_pic_order_cnt")?;
                }
            }
            PictureOrder::Cycle { deltas: false } | PictureOrder::None => {}
        }
        if pps.redundant_pictures && read.ue(127, "redundant_pic_cnt")? != 0 {
            return Err(read.malformed("a redundant picture"));
        }
        picture.no_output_of_prior = read.flag()?;
        picture.long_term = read.flag()?;
        let qp = pps.init_qp + read.se(77, "slice_qp_delta")?;
        if !(0..=51).contains(&qp) {
            return Err(read.malformed("QP out of range"));
        }
        let mut deblocking = (0, 0, 0);
        if pps.deblocking_control {
            deblocking.0 = read.ue(2, "disable_deblocking_filter_idc")?;
            if deblocking.0 != 1 {
                deblocking.1 = read.se(6, "slice_alpha_c0_offset")?;
                deblocking.2 = read.se(6, "slice_beta_offset")?;
            }
        }
        Ok(IdrHeader {
            nal_header,
            first_mb,
            pps: pps.id,
            picture,
            qp,
            deblocking,
            data_bit: read.position(),
        })
    }
}

/// Writes a slice header under our own PPS: place, QP and deblocking of the donor, everything else of the host.
pub fn write(to: &mut BitWriter, donor: &IdrHeader, host: &IdrHeader, sps: &Sps, own: &OwnPps) {
    to.bits(8, host.nal_header.into());
    to.ue(donor.first_mb);
    to.ue(TYPE_ALL_I);
    to.ue(own.id);
    let picture = &host.picture;
    to.bits(sps.frame_num_bits, picture.frame_num);
    to.ue(picture.idr_pic_id);
    match sps.picture_order {
        PictureOrder::Lsb(bits) => {
            to.bits(bits, picture.order_lsb);
            if own.bottom_order {
                to.se(picture.order_bottom);
            }
        }
        PictureOrder::Cycle { deltas: true } => {
            to.se(picture.order_deltas.0);
            if own.bottom_order {
                to.se(picture.order_deltas.1);
            }
        }
        PictureOrder::Cycle { deltas: false } | PictureOrder::None => {}
    }
    to.flag(picture.no_output_of_prior);
    to.flag(picture.long_term);
    to.se(donor.qp - super::pps::INIT_QP);
    let (idc, alpha, beta) = donor.deblocking;
    to.ue(idc);
    if idc != 1 {
        to.se(alpha);
        to.se(beta);
    }
}

fn head(unit: &[u8]) -> Vec<u8> {
    nal::unescape(&unit[..unit.len().min(HEADER_BYTES_MAX)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h264::sps::tests::HIGH_1080;
    use proptest::prelude::*;

    fn sps(picture_order: PictureOrder, frame_num_bits: u32) -> Sps {
        let mut sps = Sps::parse(&HIGH_1080).unwrap();
        (sps.picture_order, sps.frame_num_bits) = (picture_order, frame_num_bits);
        sps
    }

    proptest! {
        /// Every picture order type, with and without bottom field deltas, reads back as written.
        #[test]
        fn written_headers_read_back(
            frame_num in 0u32..16, idr_pic_id in 0u32..=65_535, lsb in 0u32..64, bottom in -99i32..99,
            deltas in (-99i32..99, -99i32..99), flags: (bool, bool, bool), kind in 0u8..4, qp in 0i32..=51,
            deblocking in prop_oneof![Just((1, 0, 0)), (Just(0u32), -6i32..=6, -6i32..=6)], first_mb in 0u32..8160,
        ) {
            let order = match kind {
                0 => PictureOrder::Lsb(6),
                1 => PictureOrder::Cycle { deltas: true },
                2 => PictureOrder::Cycle { deltas: false },
                _ => PictureOrder::None,
            };
            let own = OwnPps { id: 7, sps: 0, cabac: true, bottom_order: flags.2, flat_lists: false };
            let picture = PictureFields {
                frame_num,
                idr_pic_id,
                order_lsb: if kind == 0 { lsb } else { 0 },
                order_bottom: if kind == 0 && flags.2 { bottom } else { 0 },
                order_deltas: if kind == 1 { (deltas.0, if flags.2 { deltas.1 } else { 0 }) } else { (0, 0) },
                no_output_of_prior: flags.0,
                long_term: flags.1,
            };
            let header = IdrHeader { nal_header: 0x65, first_mb, pps: 7, picture, qp, deblocking, data_bit: 0 };
            let sps = sps(order, 4);
            let mut writer = BitWriter::default();
            write(&mut writer, &header, &header, &sps, &own);
            writer.trailing();
            let unit = nal::escape(&writer.into_bytes());
            let read = IdrHeader::parse(&unit, &sps, &Pps::parse(&own.write()).unwrap()).unwrap();
            prop_assert_eq!(IdrHeader { data_bit: 0, ..read }, header);
            prop_assert_eq!(IdrHeader::pps_of(&unit), Ok(7));
        }

        #[test]
        fn any_bytes_are_a_header_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60), redundant: bool) {
            let unit: Vec<u8> = [0x65].into_iter().chain(bytes).collect();
            let pps = Pps { redundant_pictures: redundant, ..Pps::parse(&[0x68, 0xee, 0x3c, 0x80]).unwrap() };
            if let Ok(header) = IdrHeader::parse(&unit, &sps(PictureOrder::Lsb(6), 4), &pps) {
                prop_assert!((0..=51).contains(&header.qp) && header.first_mb < 8160);
            }
        }
    }
}
