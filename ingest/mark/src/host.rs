//! What is in the access unit of a host's IDR: which bytes stay, which slices are replaced.
//!
//! In: a `Plan` and length-prefixed bytes. Out: a `Host`, or why this picture cannot be marked. Pure and total.

use crate::h264::nal::{self, Units, kind};
use crate::h264::{IdrHeader, Malformed};
use crate::plan::{Misfit, Plan};
use std::ops::Range;
use thiserror::Error;

/// Longest access unit that is marked; a lossless 4096 × 2304 picture is about twice this, real ones a tenth.
pub const ACCESS_UNIT_BYTES_MAX: usize = 8 << 20;
/// Most slices of a host's IDR: no level allows more rows of macroblocks.
const HOST_SLICES_MAX: usize = 256;

/// Why a picture cannot be marked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostError {
    /// It does not keep to the plan.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// A slice header does not parse, or is of a kind that cannot be marked.
    #[error("an IDR slice cannot be replaced: {0}")]
    Slice(#[from] Malformed),
    /// Over `ACCESS_UNIT_BYTES_MAX`.
    #[error("the access unit has {0} bytes; at most {ACCESS_UNIT_BYTES_MAX} are marked")]
    TooLong(usize),
    /// A NAL unit that has no place in a picture that can be marked.
    #[error("NAL unit type {kind} at byte {at} of an IDR access unit cannot be marked")]
    Kind {
        /// Its `nal_unit_type`.
        kind: u8,
        /// Byte of its length prefix.
        at: usize,
    },
    /// A slice under a PPS that the configuration does not have.
    #[error("an IDR slice names picture parameter set {0}, which the configuration does not have")]
    UnknownPps(u32),
    /// Slices of different pictures, out of order, or not from the first macroblock on.
    #[error("slice {slice} of the IDR: {what}")]
    Order {
        /// Counted from 0.
        slice: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// No slice at all.
    #[error("the access unit has no IDR slice")]
    NoSlice,
}

/// The parts of an IDR access unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    /// Header of the first slice.
    pub header: IdrHeader,
    /// Mean QP of the slices, rounded down.
    pub qp: u8,
    /// Its slices as NAL units, in order.
    pub slices: Vec<&'a [u8]>,
    /// Bytes before the first slice: they stay in place.
    pub before: Range<usize>,
    /// Bytes behind the last slice (and filler between slices): they stay, in order.
    pub after: Vec<Range<usize>>,
    /// Whether it carries parameter sets itself; then our own PPS goes in beside them.
    pub carries_sets: bool,
}

impl<'a> Host<'a> {
    /// Takes an IDR access unit apart.
    ///
    /// # Errors
    /// Redundant and auxiliary pictures, prefix units, partitions, changed parameter sets and damage are errors; the
    /// picture then goes out as it came.
    pub fn read(plan: &Plan, access_unit: &'a [u8]) -> Result<Host<'a>, HostError> {
        if access_unit.len() > ACCESS_UNIT_BYTES_MAX {
            return Err(HostError::TooLong(access_unit.len()));
        }
        let (mut first, mut carries_sets) = (None, false);
        let (mut slices, mut after) = (Vec::new(), Vec::new());
        let (mut qp_sum, mut last_mb) = (0, None);
        let mut before = 0..0;
        for unit in Units::new(access_unit, plan.length_size()) {
            let (range, unit) = unit.map_err(Misfit::from)?;
            let kind = nal::kind_of(unit);
            let behind = !slices.is_empty();
            match kind {
                kind::IDR => {
                    let header = header(plan, unit)?;
                    let order = |what| HostError::Order { slice: slices.len(), what };
                    if slices.len() == HOST_SLICES_MAX {
                        return Err(order("more slices than any level allows"));
                    }
                    if !after.iter().all(|range: &Range<usize>| filler(access_unit, range, plan)) {
                        return Err(order("NAL units between slices"));
                    }
                    match last_mb {
                        None if header.first_mb != 0 => {
                            return Err(order("the picture starts in the middle"));
                        }
                        Some(last) if header.first_mb <= last => return Err(order("slices out of order")),
                        _ => last_mb = Some(header.first_mb),
                    }
                    qp_sum += header.qp;
                    slices.push(unit);
                    let first = first.get_or_insert_with(|| header.clone());
                    if (first.picture, first.nal_header) != (header.picture, header.nal_header) {
                        return Err(HostError::Order {
                            slice: slices.len() - 1,
                            what: "a slice of another picture",
                        });
                    }
                }
                kind::SEI | kind::DELIMITER | kind::SPS | kind::PPS if behind => {
                    return Err(HostError::Kind { kind, at: range.start });
                }
                kind::SPS | kind::PPS => {
                    plan.admits_unit(unit)?;
                    carries_sets = true;
                    before.end = range.end;
                }
                kind::SEI | kind::DELIMITER => before.end = range.end,
                kind::FILLER | kind::END_OF_SEQUENCE | kind::END_OF_STREAM if behind => after.push(range),
                _ => return Err(HostError::Kind { kind, at: range.start }),
            }
        }
        let header = first.ok_or(HostError::NoSlice)?;
        // A mean of values from 0 to 51.
        let qp = (qp_sum / slices.len() as i32) as u8;
        Ok(Host { header, qp, slices, before, after, carries_sets })
    }

    /// Bytes of its slices.
    pub fn slice_bytes(&self) -> usize {
        self.slices.iter().map(|slice| slice.len()).sum()
    }

    /// The lone picture for a decoder, in Annex B: SPS without cropping, all PPS, the slices.
    pub fn annexb(&self, plan: &Plan) -> Vec<u8> {
        let sps = plan.sps().uncropped();
        let units = [sps.as_slice()].into_iter().chain(plan.pps_units()).chain(self.slices.iter().copied());
        let mut bytes = Vec::with_capacity(self.slice_bytes() + 4096);
        for unit in units {
            bytes.extend_from_slice(&[0, 0, 0, 1]);
            bytes.extend_from_slice(unit);
        }
        bytes
    }
}

fn header(plan: &Plan, unit: &[u8]) -> Result<IdrHeader, HostError> {
    let id = IdrHeader::pps_of(unit)?;
    let pps = plan.pps(id).ok_or(HostError::UnknownPps(id))?;
    Ok(IdrHeader::parse(unit, plan.sps(), pps)?)
}

fn filler(access_unit: &[u8], range: &Range<usize>, plan: &Plan) -> bool {
    nal::kind_of(&access_unit[range.start + usize::from(plan.length_size())..range.end]) == kind::FILLER
}
