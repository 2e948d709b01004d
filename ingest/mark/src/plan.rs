//! Whether a stream can be marked, and what it takes: decided once for each codec configuration.
//!
//! In: an `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 §5.3.3.1). Out: a `Plan`, or the `Misfit` in words for the
//! operator. Pure and total.

use crate::h264::nal::{self, BadLength, Units, kind};
use crate::h264::pps::OwnPps;
use crate::h264::{Malformed, Pps, Sps};
use bytes::Bytes;
use codec::{Entropy, IntraConfig};
use media::unit::{VideoCoding, VideoConfig};
use thiserror::Error;

/// Slices of a marked IDR, where the picture has that many rows of macroblocks: 8 symbols a GOP for about 1.7 % more
/// IDR bytes than 4.
pub const SLICES: u16 = 8;
/// Largest coded picture in macroblocks: 4096 × 2304.
pub const MACROBLOCKS_MAX: usize = 256 * 144;
/// Highest id our own PPS takes; openh264 knows no higher one, other decoders stop at other places.
const OWN_PPS_ID_MAX: u32 = 56;
/// Longest configuration record looked at.
const AVCC_BYTES_MAX: usize = 64 * 1024;

/// Why a stream cannot be marked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Misfit {
    /// The configuration record does not parse.
    #[error("the codec configuration is damaged: {what} at byte {at}")]
    Record {
        /// What is wrong.
        what: &'static str,
        /// Byte of the record.
        at: usize,
    },
    /// A parameter set does not parse.
    #[error("a parameter set is damaged: {0}")]
    ParameterSet(#[from] Malformed),
    /// Not Baseline, Main or High.
    #[error("H.264 profile {0} cannot be marked; send Baseline, Main or High")]
    Profile(u32),
    /// Another chroma format.
    #[error("the stream is not 4:2:0 (chroma format {0}); set the encoder to yuv420p")]
    Chroma(u32),
    /// More than 8 bits.
    #[error("the stream has {luma} and {chroma} bits a sample; only 8 can be marked")]
    Depth {
        /// Bits of a luma sample.
        luma: u32,
        /// Bits of a chroma sample.
        chroma: u32,
    },
    /// Fields or MBAFF allowed.
    #[error("the stream is interlaced; send progressive video or have it normalised")]
    Interlaced,
    /// Slice groups.
    #[error("the stream uses flexible macroblock ordering, which cannot be marked")]
    SliceGroups,
    /// Over `MACROBLOCKS_MAX` or a side over 4096.
    #[error("the coded picture is {width} x {height}; at most 4096 x 2304 samples can be marked")]
    TooLarge {
        /// Coded width.
        width: usize,
        /// Coded height.
        height: usize,
    },
    /// Not exactly one SPS, or a PPS for another one.
    #[error("the codec configuration has {0}; exactly one SPS and its PPS are needed")]
    Sets(&'static str),
    /// Pictures that are not H.264.
    #[error("its pictures are {0}, and only H.264 can be marked")]
    Coding(&'static str),
    /// No PPS id left for ours.
    #[error("the stream uses every picture parameter set id up to {OWN_PPS_ID_MAX}")]
    PpsIdsExhausted,
    /// The stream sends a PPS under the id that ours took: plan again with `Plan::avoiding`.
    #[error("the stream sends a picture parameter set {0}, an id that marking had taken")]
    OwnPpsTaken(u32),
    /// A parameter set within the stream differs from the configuration.
    #[error("the stream changes its parameter sets without announcing it")]
    SetsChanged,
    /// Length prefixes that do not add up.
    #[error(transparent)]
    Lengths(#[from] BadLength),
}

/// How to mark the IDRs of one codec configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    host_avcc: Bytes,
    avcc: Bytes,
    length_size: u8,
    sps_unit: Vec<u8>,
    sps: Sps,
    pps: Vec<(Vec<u8>, Pps)>,
    own: OwnPps,
    own_unit: Vec<u8>,
    slices: u16,
}

impl Plan {
    /// The plan for a stream of this configuration, or why there is none.
    ///
    /// # Errors
    /// Says what does not fit.
    pub fn of(avcc: &Bytes) -> Result<Plan, Misfit> {
        Plan::avoiding(avcc, &[])
    }

    /// The plan for a configuration of any coding, where the stream was seen to use these PPS ids too.
    ///
    /// # Errors
    /// As `of`.
    pub fn of_config(config: &VideoConfig, taken: &[u32]) -> Result<Plan, Misfit> {
        match config.coding {
            VideoCoding::H264 => Plan::avoiding(&config.record, taken),
            VideoCoding::Hevc => Err(Misfit::Coding("HEVC")),
            VideoCoding::Av1 => Err(Misfit::Coding("AV1")),
        }
    }

    /// The same, where the stream was seen to use these PPS ids too.
    ///
    /// # Errors
    /// As `of`.
    pub fn avoiding(avcc: &Bytes, taken: &[u32]) -> Result<Plan, Misfit> {
        let record = Record::parse(avcc)?;
        let [sps_unit] = record.sps[..] else { return Err(Misfit::Sets("not one SPS")) };
        let sps = Sps::parse(sps_unit)?;
        fits(&sps)?;
        if record.pps.is_empty() {
            return Err(Misfit::Sets("no PPS"));
        }
        let mut pps = Vec::with_capacity(record.pps.len());
        for &unit in &record.pps {
            let read = Pps::parse(unit)?;
            if read.slice_groups > 1 {
                return Err(Misfit::SliceGroups);
            }
            if read.sps != sps.id {
                return Err(Misfit::Sets("a PPS for an SPS it does not have"));
            }
            pps.push((nal::trimmed(unit).to_vec(), read));
        }
        let used = |id: &u32| taken.contains(id) || pps.iter().any(|(_, pps)| pps.id == *id);
        let id = (1..=OWN_PPS_ID_MAX).find(|id| !used(id)).ok_or(Misfit::PpsIdsExhausted)?;
        let own = OwnPps {
            id,
            sps: sps.id,
            cabac: sps.profile != 66,
            bottom_order: pps.iter().any(|(_, pps)| pps.bottom_order),
            flat_lists: sps.scaling_lists,
        };
        let own_unit = own.write();
        Ok(Plan {
            host_avcc: avcc.clone(),
            avcc: record.with_pps(avcc, &own_unit).ok_or(Misfit::PpsIdsExhausted)?,
            length_size: record.length_size,
            sps_unit: nal::trimmed(sps_unit).to_vec(),
            slices: SLICES.min(IntraConfig::slices_max(sps.width(), sps.height())),
            sps,
            pps,
            own,
            own_unit,
        })
    }

    /// The same with another count of slices, cut to what the picture can have.
    pub fn with_slices(self, slices: u16) -> Plan {
        let slices = slices.clamp(1, IntraConfig::slices_max(self.sps.width(), self.sps.height()));
        Plan { slices, ..self }
    }

    /// The configuration record to publish: the host's with our own PPS, nothing else changed.
    pub fn avcc(&self) -> &Bytes {
        &self.avcc
    }

    /// The configuration record as the publisher sent it.
    pub fn host_avcc(&self) -> &Bytes {
        &self.host_avcc
    }

    /// Slices of a marked IDR: symbols a GOP.
    pub fn slices(&self) -> u16 {
        self.slices
    }

    /// Id of our own PPS.
    pub fn own_pps_id(&self) -> u32 {
        self.own.id
    }

    /// Bytes of a NAL unit's length prefix.
    pub fn length_size(&self) -> u8 {
        self.length_size
    }

    /// Whether an access unit, IDR or not, leaves the plan valid: the parameter sets in it, if any, are the known ones.
    /// Ask for every access unit of the stream; a miss means that no later IDR may be marked by this plan.
    ///
    /// # Errors
    /// `OwnPpsTaken` calls for a new plan (and a new init section), `SetsChanged` for none until the publisher sends a
    /// new configuration.
    pub fn admits(&self, access_unit: &[u8]) -> Result<(), Misfit> {
        for unit in Units::new(access_unit, self.length_size) {
            self.admits_unit(unit?.1)?;
        }
        Ok(())
    }

    pub(crate) fn admits_unit(&self, unit: &[u8]) -> Result<(), Misfit> {
        match nal::kind_of(unit) {
            kind::SPS if nal::trimmed(unit) != self.sps_unit => Err(Misfit::SetsChanged),
            kind::PPS => match Pps::id_of(unit)? {
                id if id == self.own.id => Err(Misfit::OwnPpsTaken(id)),
                _ if self.pps.iter().any(|(known, _)| nal::trimmed(unit) == known) => Ok(()),
                _ => Err(Misfit::SetsChanged),
            },
            _ => Ok(()),
        }
    }

    /// The encoder that fits.
    pub fn intra(&self) -> IntraConfig {
        let entropy = if self.own.cabac { Entropy::Cabac } else { Entropy::Cavlc };
        IntraConfig { width: self.sps.width(), height: self.sps.height(), slices: self.slices, entropy }
    }

    pub(crate) fn sps(&self) -> &Sps {
        &self.sps
    }

    pub(crate) fn pps(&self, id: u32) -> Option<&Pps> {
        self.pps.iter().map(|(_, pps)| pps).find(|pps| pps.id == id)
    }

    pub(crate) fn pps_units(&self) -> impl Iterator<Item = &[u8]> {
        self.pps.iter().map(|(unit, _)| unit.as_slice())
    }

    pub(crate) fn own(&self) -> &OwnPps {
        &self.own
    }

    pub(crate) fn own_unit(&self) -> &[u8] {
        &self.own_unit
    }
}

/// The first SPS of a configuration record, whatever can be marked of it.
///
/// # Errors
/// When the record or the SPS does not parse.
#[cfg(feature = "libav")]
pub(crate) fn first_sps(avcc: &[u8]) -> Result<Sps, Misfit> {
    let record = Record::parse(avcc)?;
    let unit = record.sps.first().ok_or(Misfit::Sets("no SPS"))?;
    Ok(Sps::parse(unit)?)
}

fn fits(sps: &Sps) -> Result<(), Misfit> {
    if sps.chroma_format != 1 {
        return Err(Misfit::Chroma(sps.chroma_format));
    }
    if sps.depth != (8, 8) {
        return Err(Misfit::Depth { luma: sps.depth.0, chroma: sps.depth.1 });
    }
    if !matches!(sps.profile, 66 | 77 | 100) {
        return Err(Misfit::Profile(sps.profile));
    }
    if !sps.frames_only {
        return Err(Misfit::Interlaced);
    }
    let (width, height) = (sps.width(), sps.height());
    if width > codec::SIDE_MAX || height > codec::SIDE_MAX || width * height > MACROBLOCKS_MAX * 256 {
        return Err(Misfit::TooLarge { width, height });
    }
    Ok(())
}

/// The parts of an `AVCDecoderConfigurationRecord`.
struct Record<'a> {
    length_size: u8,
    sps: Vec<&'a [u8]>,
    pps: Vec<&'a [u8]>,
    /// Where the PPS count stands, and where the PPS end.
    pps_count_at: usize,
    pps_end: usize,
}

impl<'a> Record<'a> {
    fn parse(record: &'a [u8]) -> Result<Record<'a>, Misfit> {
        let damaged = |what, at| Misfit::Record { what, at };
        if record.len() > AVCC_BYTES_MAX {
            return Err(damaged("longer than any real one", AVCC_BYTES_MAX));
        }
        let byte = |at: usize| record.get(at).copied().ok_or(damaged("it ends", at));
        if byte(0)? != 1 {
            return Err(damaged("not version 1", 0));
        }
        let length_size = (byte(4)? & 3) + 1;
        if length_size == 3 {
            return Err(damaged("length prefixes of 3 bytes", 4));
        }
        let sets = |count: u8, mut at: usize| {
            let mut sets = Vec::new();
            for _ in 0..count {
                let length = usize::from(u16::from_be_bytes([byte(at)?, byte(at + 1)?]));
                let set = record.get(at + 2..at + 2 + length).filter(|set| !set.is_empty());
                sets.push(set.ok_or(damaged("a parameter set ends too early", at))?);
                at += 2 + length;
            }
            Ok::<_, Misfit>((sets, at))
        };
        let (sps, pps_count_at) = sets(byte(5)? & 31, 6)?;
        let (pps, pps_end) = sets(byte(pps_count_at)?, pps_count_at + 1)?;
        Ok(Record { length_size, sps, pps, pps_count_at, pps_end })
    }

    /// The record with one more PPS; what follows the PPS (High's trailer) stays. `None` when it is full.
    fn with_pps(&self, record: &[u8], unit: &[u8]) -> Option<Bytes> {
        let mut out = Vec::with_capacity(record.len() + unit.len() + 2);
        out.extend_from_slice(&record[..self.pps_end]);
        out[self.pps_count_at] = out[self.pps_count_at].checked_add(1)?;
        out.extend_from_slice(&u16::try_from(unit.len()).ok()?.to_be_bytes());
        out.extend_from_slice(unit);
        out.extend_from_slice(&record[self.pps_end..]);
        Some(out.into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::h264::sps::tests::HIGH_1080;
    use proptest::prelude::*;

    /// x264's usual PPS: CABAC, weighted prediction, 8x8 transform, chroma offset -2.
    const PPS: [u8; 6] = [0x68, 0xeb, 0xe3, 0xcb, 0x22, 0xc0];
    const TRAILER: [u8; 4] = [0xfd, 0xf8, 0xf8, 0x00];

    pub(crate) fn record(sps: &[&[u8]], pps: &[&[u8]], length_size: u8) -> Bytes {
        let mut record =
            vec![1, sps[0][1], sps[0][2], sps[0][3], 0xfc | (length_size - 1), 0xe0 | sps.len() as u8];
        let put = |record: &mut Vec<u8>, sets: &[&[u8]]| {
            for set in sets {
                record.extend_from_slice(&(set.len() as u16).to_be_bytes());
                record.extend_from_slice(set);
            }
        };
        put(&mut record, sps);
        record.push(pps.len() as u8);
        put(&mut record, pps);
        record.extend_from_slice(&TRAILER);
        record.into()
    }

    fn pps(id: u32) -> Vec<u8> {
        OwnPps { id, sps: 0, cabac: true, bottom_order: false, flat_lists: false }.write()
    }

    /// An SPS like the 1080p one, with a field or two of another value.
    fn sps(profile: u8, chroma: u32, depth: u32, frames_only: bool, size: (u32, u32)) -> Vec<u8> {
        let mut write = crate::h264::bits::BitWriter::default();
        write.bytes(&[0x67, profile, 0, 40]);
        write.ue(0);
        if profile >= 100 {
            write.ue(chroma);
            write.ue(depth - 8);
            write.ue(depth - 8);
            write.bits(2, 0);
        }
        write.ue(0);
        write.ue(2);
        write.ue(4);
        write.flag(false);
        write.ue(size.0 - 1);
        write.ue(size.1 - 1);
        write.flag(frames_only);
        if !frames_only {
            write.flag(true);
        }
        write.flag(true);
        write.bits(2, 0);
        write.trailing();
        nal::escape(&write.into_bytes())
    }

    fn misfit(sps: &[u8]) -> Misfit {
        Plan::of(&record(&[sps], &[&PPS], 4)).unwrap_err()
    }

    #[test]
    fn our_own_pps_joins_the_record_and_the_rest_stays() {
        let host = record(&[&HIGH_1080], &[&PPS], 4);
        let plan = Plan::of(&host).unwrap();
        assert_eq!((plan.own_pps_id(), plan.slices(), plan.length_size()), (1, 8, 4));
        assert_eq!(plan.avcc(), &record(&[&HIGH_1080], &[&PPS, &pps(1)], 4));
        assert_eq!(plan.host_avcc(), &host);
        assert_eq!(plan.intra().entropy, Entropy::Cabac);
    }

    #[test]
    fn our_own_pps_takes_the_lowest_free_id() {
        let (one, two) = (pps(1), pps(2));
        let host = record(&[&HIGH_1080], &[&PPS, &one, &two], 4);
        assert_eq!(Plan::of(&host).unwrap().own_pps_id(), 3);
        assert_eq!(Plan::avoiding(&host, &[3, 4]).unwrap().own_pps_id(), 5);
        let all: Vec<u32> = (0..=255).collect();
        assert_eq!(Plan::avoiding(&host, &all), Err(Misfit::PpsIdsExhausted));
    }

    #[test]
    fn what_does_not_fit_is_said_in_words() {
        let plain = (40, 30);
        assert!(Plan::of(&record(&[&sps(100, 1, 8, true, plain)], &[&PPS], 4)).is_ok());
        assert_eq!(misfit(&sps(122, 2, 8, true, plain)), Misfit::Chroma(2));
        assert_eq!(misfit(&sps(100, 0, 8, true, plain)), Misfit::Chroma(0));
        assert_eq!(misfit(&sps(110, 1, 10, true, plain)), Misfit::Depth { luma: 10, chroma: 10 });
        assert_eq!(misfit(&sps(88, 1, 8, true, plain)), Misfit::Profile(88));
        assert_eq!(misfit(&sps(100, 1, 8, false, plain)), Misfit::Interlaced);
        assert_eq!(misfit(&sps(100, 1, 8, true, (257, 16))), Misfit::TooLarge { width: 4112, height: 256 });
        assert_eq!(misfit(&sps(100, 1, 8, true, (256, 145))), Misfit::TooLarge { width: 4096, height: 2320 });
        assert!(misfit(&[0x67, 100, 0, 40]).to_string().starts_with("a parameter set is damaged: SPS"));
        let groups = [0x68, 0b1100_0100, 0x40];
        assert_eq!(Plan::of(&record(&[&HIGH_1080], &[&groups], 4)), Err(Misfit::SliceGroups));
        assert!(matches!(Plan::of(&record(&[&HIGH_1080], &[], 4)), Err(Misfit::Sets(_))));
        assert!(matches!(Plan::of(&record(&[&HIGH_1080, &HIGH_1080], &[&PPS], 4)), Err(Misfit::Sets(_))));
        assert!(matches!(Plan::of(&record(&[&HIGH_1080], &[&PPS], 3)), Err(Misfit::Record { at: 4, .. })));
        assert!(matches!(Plan::of(&Bytes::from_static(&[0])), Err(Misfit::Record { at: 0, .. })));
        assert!(matches!(Plan::of(&Bytes::new()), Err(Misfit::Record { at: 0, .. })));
    }

    #[test]
    fn slices_follow_the_picture() {
        let slices = |columns, rows| {
            Plan::of(&record(&[&sps(77, 1, 8, true, (columns, rows))], &[&PPS], 4)).unwrap().slices()
        };
        assert_eq!((slices(11, 9), slices(20, 5), slices(4, 4), slices(256, 144)), (8, 5, 1, 8));
        let plan = Plan::of(&record(&[&HIGH_1080], &[&PPS], 4)).unwrap();
        assert_eq!(plan.clone().with_slices(99).slices(), 35);
        assert_eq!(plan.with_slices(0).slices(), 1);
    }

    #[test]
    fn parameter_sets_in_the_stream_are_the_known_ones_or_end_the_plan() {
        let plan = Plan::of(&record(&[&HIGH_1080], &[&PPS], 4)).unwrap();
        let unit = |units: &[&[u8]]| {
            let mut bytes = Vec::new();
            units.iter().for_each(|unit| assert!(nal::push_prefixed(&mut bytes, unit, 4)));
            bytes
        };
        assert_eq!(plan.admits(&unit(&[&HIGH_1080, &PPS, &[0x41, 9]])), Ok(()));
        assert_eq!(plan.admits(&unit(&[&pps(1)])), Err(Misfit::OwnPpsTaken(1)));
        assert_eq!(plan.admits(&unit(&[&pps(2)])), Err(Misfit::SetsChanged));
        assert_eq!(plan.admits(&unit(&[&pps(0)])), Err(Misfit::SetsChanged));
        assert_eq!(plan.admits(&unit(&[&sps(100, 1, 8, true, (40, 30))])), Err(Misfit::SetsChanged));
        assert_eq!(plan.admits(&[0, 0, 1]), Err(Misfit::Lengths(BadLength { at: 0 })));
    }

    proptest! {
        #[test]
        fn any_record_is_a_plan_or_a_misfit(flips in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6), cut: usize) {
            let mut bytes = record(&[&HIGH_1080], &[&PPS], 4).to_vec();
            for (at, value) in flips {
                let length = bytes.len();
                bytes[at % length] = value;
            }
            bytes.truncate(cut % (bytes.len() + 40));
            if let Ok(plan) = Plan::of(&bytes.into()) {
                prop_assert!(Plan::of(plan.avcc()).is_ok());
            }
        }
    }
}
