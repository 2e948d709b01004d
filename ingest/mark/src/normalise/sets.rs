//! What our encoder says of its pictures, made fit for a configuration record and for length-prefixed access units.
//!
//! In: one picture in Annex B, as a worker gave it, and the publisher's stream. Out: the access unit and, of an IDR picture, the
//! record that its stream has; or why it is not what was asked for. Pure: a worker is not believed.

use super::source::Source;
use crate::h264::nal::{self, kind};
use crate::h264::{IdrHeader, Malformed, Pps, Sps};
use bytes::Bytes;
use thiserror::Error;

/// Bytes of our length prefixes.
const LENGTH_SIZE: u8 = 4;
/// High profile's trailer: 4:2:0, 8 bits, no SPS extension (ISO/IEC 14496-15 §5.3.3.1.2).
const TRAILER: [u8; 4] = [0xfd, 0xf8, 0xf8, 0];

/// A picture that is not what the encoder was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Untrue {
    /// A unit of it does not parse.
    #[error("the encoder's own {0}")]
    Malformed(#[from] Malformed),
    /// Other units than one picture has.
    #[error("the encoder gave something else than one picture")]
    Units,
    /// Other tools or another size than asked for.
    #[error("the encoder used other tools than it was asked for")]
    Tools,
    /// Too long for its prefix or record.
    #[error("the encoder gave a picture or parameter set that is too long")]
    TooLong,
}

/// A picture of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    /// Length-prefixed, 4 bytes each; parameter sets left out.
    pub(super) access_unit: Bytes,
    /// Of an IDR picture, the configuration record of its stream.
    pub(super) avcc: Option<Bytes>,
}

/// Reads a picture of the normalised stream of that publisher.
///
/// # Errors
/// When it is none.
pub(super) fn read(source: &Source, annexb: &[u8]) -> Result<Picture, Untrue> {
    let (mut sps, mut pps, mut slice) = (None, None, None);
    for unit in nal::split_annexb(annexb) {
        let seen = match nal::kind_of(unit) {
            kind::SPS if slice.is_none() => sps.replace(unit),
            kind::PPS if slice.is_none() => pps.replace(unit),
            kind::SLICE | kind::IDR => slice.replace(unit),
            // What the encoder says of itself.
            kind::SEI => None,
            _ => return Err(Untrue::Units),
        };
        if seen.is_some() {
            return Err(Untrue::Units);
        }
    }
    let slice = slice.ok_or(Untrue::Units)?;
    let avcc = match (nal::kind_of(slice), sps, pps) {
        (kind::IDR, Some(sps), Some(pps)) => {
            let (own, own_pps) = (Sps::parse(sps)?, Pps::parse(pps)?);
            let same_size = (own.columns, own.rows) == (source.columns, source.rows);
            if !same_size || own.profile != 100 || !own_pps.cabac || own_pps.sps != own.id {
                return Err(Untrue::Tools);
            }
            if IdrHeader::parse(slice, &own, &own_pps)?.first_mb != 0 {
                return Err(Untrue::Units);
            }
            Some(record(&source.dressed(&own), pps).ok_or(Untrue::TooLong)?)
        }
        (kind::SLICE, None, None) if slice.get(1).is_some_and(|byte| byte & 0x80 != 0) => None,
        _ => return Err(Untrue::Units),
    };
    let mut access_unit = Vec::with_capacity(slice.len() + usize::from(LENGTH_SIZE));
    if !nal::push_prefixed(&mut access_unit, slice, LENGTH_SIZE) {
        return Err(Untrue::TooLong);
    }
    Ok(Picture { access_unit: access_unit.into(), avcc })
}

/// The `AVCDecoderConfigurationRecord` of one SPS of High profile and one PPS.
fn record(sps: &[u8], pps: &[u8]) -> Option<Bytes> {
    let mut record = vec![1];
    record.extend_from_slice(sps.get(1..4)?);
    record.push(0xfc | (LENGTH_SIZE - 1));
    for (count, set) in [(0xe1, sps), (1, pps)] {
        record.push(count);
        record.extend_from_slice(&u16::try_from(set.len()).ok()?.to_be_bytes());
        record.extend_from_slice(set);
    }
    record.extend_from_slice(&TRAILER);
    Some(record.into())
}
