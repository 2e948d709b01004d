//! Donor slices under the host's header: what openh264 coded becomes slices of the host's picture.
//!
//! In: one IDR of openh264 in Annex B, which is a band of the picture, and the host's header. Out: NAL units, one a slice, checked for count and place. Pure.

use crate::h264::bits::{self, BitWriter};
use crate::h264::nal::{self, kind};
use crate::h264::pps::INIT_QP;
use crate::h264::{IdrHeader, Malformed, Pps, Sps, slice};
use crate::plan::Plan;
use codec::{Band, IntraConfig};
use thiserror::Error;

/// A donor that is not what the encoder was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SpliceError {
    /// A unit of it does not parse.
    #[error("the encoder's own {0}")]
    Malformed(#[from] Malformed),
    /// Parameter sets missing.
    #[error("the encoder gave no parameter sets")]
    NoSets,
    /// Other tools than our own PPS announces.
    #[error("the encoder used other tools than it was asked for")]
    Tools,
    /// Slices missing, too many, or elsewhere.
    #[error("the encoder gave slice {slice} elsewhere than asked, or not the {slices} slices asked for")]
    Slices {
        /// First wrong one.
        slice: usize,
        /// Asked for.
        slices: u16,
    },
}

/// The host's new slices of one band, from the top. `host` is the header of its first slice.
///
/// # Errors
/// When the donor is not what was asked for.
pub fn splice(plan: &Plan, host: &IdrHeader, band: &Band, donor: &[u8]) -> Result<Vec<Vec<u8>>, SpliceError> {
    let units = nal::split_annexb(donor);
    let find =
        |kind| units.iter().find(|unit| nal::kind_of(unit) == kind).copied().ok_or(SpliceError::NoSets);
    let sps = Sps::parse(find(kind::SPS)?)?;
    let pps = Pps::parse(find(kind::PPS)?)?;
    if (sps.columns as usize, sps.rows as usize) != (band.config().width / 16, band.height() / 16)
        || (pps.cabac, pps.init_qp, pps.deblocking_control) != (plan.own().cabac, INIT_QP, true)
    {
        return Err(SpliceError::Tools);
    }
    let slices: Vec<_> = units.iter().filter(|unit| nal::kind_of(unit) == kind::IDR).collect();
    let wrong = |slice| SpliceError::Slices { slice, slices: plan.slices() };
    if slices.len() != band.slices().len() {
        return Err(wrong(usize::from(band.slices().start) + slices.len()));
    }
    let first = first_mb(band.config(), band.slices().start);
    let mut spliced = Vec::with_capacity(slices.len());
    for (number, unit) in band.slices().zip(slices) {
        // The donor counts from the top of the band.
        let mut header = IdrHeader::parse(unit, &sps, &pps)?;
        header.first_mb += first;
        if header.first_mb != first_mb(band.config(), number) {
            return Err(wrong(number.into()));
        }
        spliced.push(rehead(plan, host, unit, &header)?);
    }
    Ok(spliced)
}

/// The first macroblock of a slice.
pub fn first_mb(config: &IntraConfig, slice: u16) -> u32 {
    // At most 36,864 macroblocks a picture.
    (config.first_row(slice) * config.width / 16) as u32
}

/// The donor slice's data behind a header that fits the host's picture.
fn rehead(plan: &Plan, host: &IdrHeader, unit: &[u8], header: &IdrHeader) -> Result<Vec<u8>, SpliceError> {
    let payload = nal::unescape(unit);
    let empty = Malformed { unit: "slice", what: "no data", bit: header.data_bit };
    let stop = bits::stop_bit(&payload).filter(|&stop| stop >= header.data_bit).ok_or(empty)?;
    let mut write = BitWriter::with_capacity(payload.len() + 32);
    slice::write(&mut write, header, host, plan.sps(), plan.own());
    if plan.own().cabac {
        // Slice data starts on a byte's edge, after ones; the last byte with a bit set ends it.
        write.align(true);
        write.bytes(payload.get(header.data_bit.div_ceil(8)..=stop / 8).ok_or(empty)?);
    } else {
        write.copy(&payload, header.data_bit, stop);
        write.trailing();
    }
    Ok(nal::escape(&write.into_bytes()))
}
