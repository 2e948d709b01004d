//! Picture parameter set: the host's, as far as slice headers need it, and our own (ISO/IEC 14496-10 §7.3.2.2).

use super::bits::{BitReader, BitWriter, Malformed};
use super::{nal, sps};

/// Initial QP of our own PPS and of openh264's.
pub const INIT_QP: i32 = 26;

/// What marking asks of a PPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pps {
    /// `pic_parameter_set_id`.
    pub id: u32,
    /// The SPS it belongs to.
    pub sps: u32,
    /// CABAC, else CAVLC.
    pub cabac: bool,
    /// Whether slice headers carry the bottom field's order.
    pub bottom_order: bool,
    /// Slice groups; more than one is FMO.
    pub slice_groups: u32,
    /// QP that slices count from.
    pub init_qp: i32,
    /// Whether slice headers carry deblocking settings.
    pub deblocking_control: bool,
    /// Whether slice headers carry `redundant_pic_cnt`.
    pub redundant_pictures: bool,
}

impl Pps {
    /// Reads a NAL unit of type 8. Of a PPS with slice groups only what stands before them is read.
    ///
    /// # Errors
    /// Names the bit where it stops making sense.
    pub fn parse(unit: &[u8]) -> Result<Pps, Malformed> {
        let payload = nal::unescape(nal::trimmed(unit));
        let mut read = BitReader::new("PPS", &payload);
        if read.bits(8)? & 0x9f != u32::from(nal::kind::PPS) {
            return Err(read.malformed("not a PPS"));
        }
        let mut pps = Pps {
            id: read.ue(255, "pic_parameter_set_id")?,
            sps: read.ue(31, "seq_parameter_set_id")?,
            cabac: read.flag()?,
            bottom_order: read.flag()?,
            slice_groups: 1 + read.ue(7, "num_slice_groups")?,
            init_qp: INIT_QP,
            deblocking_control: false,
            redundant_pictures: false,
        };
        if pps.slice_groups > 1 {
            return Ok(pps);
        }
        read.ue(31, "num_ref_idx_l0_default")?;
        read.ue(31, "num_ref_idx_l1_default")?;
        read.bits(3)?; // weighted prediction
        pps.init_qp += read.se(26, "pic_init_qp")?;
        read.se(26, "pic_init_qs")?;
        read.se(12, "chroma_qp_index_offset")?;
        pps.deblocking_control = read.flag()?;
        read.flag()?; // constrained intra prediction
        pps.redundant_pictures = read.flag()?;
        if read.more() {
            let transform_8x8 = read.flag()?;
            if read.flag()? {
                sps::skip_scaling_lists(&mut read, if transform_8x8 { 8 } else { 6 })?;
            }
            read.se(12, "second_chroma_qp_index_offset")?;
        }
        Ok(pps)
    }

    /// The PPS id of a NAL unit of type 8.
    ///
    /// # Errors
    /// When it has none.
    pub fn id_of(unit: &[u8]) -> Result<u32, Malformed> {
        let payload = nal::unescape(&unit[..unit.len().min(16)]);
        let mut read = BitReader::new("PPS", &payload);
        read.bits(8)?;
        read.ue(255, "pic_parameter_set_id")
    }
}

/// What our own PPS says; everything else in it is nought, for openh264 uses none of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPps {
    /// An id that the host does not use.
    pub id: u32,
    /// The host's SPS.
    pub sps: u32,
    /// As the new slices are coded.
    pub cabac: bool,
    /// Whether any of the host's PPS has it: its value must be carried on.
    pub bottom_order: bool,
    /// Write flat scaling lists, because the SPS has others that would be inherited.
    pub flat_lists: bool,
}

impl OwnPps {
    /// The NAL unit: 4 bytes, more with flat lists or a high id. The host's chroma offset must not be in it.
    pub fn write(&self) -> Vec<u8> {
        let mut write = BitWriter::default();
        write.bits(8, 0x60 | u32::from(nal::kind::PPS));
        write.ue(self.id);
        write.ue(self.sps);
        write.flag(self.cabac);
        write.flag(self.bottom_order);
        write.ue(0); // one slice group
        write.ue(0);
        write.ue(0);
        write.bits(3, 0); // no weighted prediction
        write.se(0); // INIT_QP
        write.se(0);
        write.se(0); // chroma offset
        write.flag(true); // deblocking settings in slice headers
        write.flag(false);
        write.flag(false);
        if self.flat_lists {
            write.flag(false); // no 8x8 transform
            write.flag(true);
            for _ in 0..6 {
                write.flag(true);
                write.se(8);
                (1..16).for_each(|_| write.se(0));
            }
            write.se(0);
        }
        write.trailing();
        nal::escape(&write.into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn our_own_reads_back_and_is_short() {
        let own = OwnPps { id: 1, sps: 0, cabac: true, bottom_order: false, flat_lists: false };
        assert_eq!(own.write().len(), 4);
        for flat_lists in [false, true] {
            for id in [1, 2, 31, 56] {
                let own = OwnPps { id, sps: 3, cabac: false, bottom_order: true, flat_lists };
                let read = Pps::parse(&own.write()).unwrap();
                assert_eq!((read.id, read.sps, read.cabac, read.bottom_order), (id, 3, false, true));
                assert_eq!((read.init_qp, read.deblocking_control, read.slice_groups), (INIT_QP, true, 1));
                assert_eq!(Pps::id_of(&own.write()), Ok(id));
            }
        }
    }

    #[test]
    fn slice_groups_are_seen() {
        let mut write = BitWriter::default();
        write.bits(8, 0x68);
        write.ue(0);
        write.ue(0);
        write.bits(2, 0);
        write.ue(1);
        write.trailing();
        assert_eq!(Pps::parse(&write.into_bytes()).unwrap().slice_groups, 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_pps_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let unit: Vec<u8> = [0x68].into_iter().chain(bytes).collect();
            if let Ok(pps) = Pps::parse(&unit) {
                prop_assert_eq!(Pps::id_of(&unit), Ok(pps.id));
            }
        }
    }
}
