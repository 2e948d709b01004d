//! The open bitstream units of AV1 (§5.3): where each one lies.
//!
//! In: bytes. Out: units in order, or the byte where they end to be units. Pure, total.

use crate::feed::NalFault;
use std::ops::Range;

/// OBU types (AV1 §6.2.2).
pub(crate) const SEQUENCE_HEADER: u8 = 1;
pub(crate) const TEMPORAL_DELIMITER: u8 = 2;
pub(crate) const FRAME_HEADER: u8 = 3;
pub(crate) const FRAME: u8 = 6;

/// One unit.
pub(crate) struct Obu<'a> {
    pub(crate) kind: u8,
    pub(crate) payload: &'a [u8],
    /// Where it lies, head included.
    pub(crate) bytes: Range<usize>,
}

/// All units, up to the first fault; the last one may come without a length.
pub(crate) fn each(all: &[u8]) -> impl Iterator<Item = Result<Obu<'_>, (usize, NalFault)>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let bytes = all.get(at..).filter(|rest| !rest.is_empty())?;
        let obu = one(bytes, at).map_err(|why| (at, why));
        at = obu.as_ref().map_or(all.len(), |obu| obu.bytes.end);
        Some(obu)
    })
}

/// The first unit of these bytes, which begin at `at`.
fn one(bytes: &[u8], at: usize) -> Result<Obu<'_>, NalFault> {
    let head = bytes[0];
    if head & 0x80 != 0 {
        return Err(NalFault::Head);
    }
    let body = bytes.get(1 + usize::from(head >> 2 & 1)..).ok_or(NalFault::Prefix)?;
    let (len, rest) =
        if head & 2 != 0 { leb128(body).ok_or(NalFault::Prefix)? } else { (body.len() as u64, body) };
    let left = rest.len();
    let payload = usize::try_from(len).ok().and_then(|len| rest.get(..len));
    let payload = payload.ok_or(NalFault::Length { len: u32::try_from(len).unwrap_or(u32::MAX), left })?;
    let used = bytes.len() - left + payload.len();
    Ok(Obu { kind: head >> 3 & 15, payload, bytes: at..at + used })
}

/// A number (AV1 §4.10.5), and what follows it.
fn leb128(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Result<(u8, Range<usize>), (usize, NalFault)>;

    fn kinds(bytes: &[u8]) -> Vec<Found> {
        each(bytes).map(|obu| obu.map(|obu| (obu.kind, obu.bytes))).collect()
    }

    #[test]
    fn units_with_and_without_extension_and_length() {
        let bytes = [0x12, 0, 0x36, 0xff, 0x81, 0, 9, 0x30, 1, 2];
        assert_eq!(kinds(&bytes), [Ok((2, 0..2)), Ok((6, 2..7)), Ok((6, 7..10))]);
        assert!(kinds(&[]).is_empty());
    }

    #[test]
    fn what_is_no_unit_is_found() {
        assert_eq!(kinds(&[0x12, 0, 0x92, 0]), [Ok((2, 0..2)), Err((2, NalFault::Head))]);
        assert_eq!(kinds(&[0x36]), [Err((0, NalFault::Prefix))]);
        assert_eq!(kinds(&[0x32, 0x80]), [Err((0, NalFault::Prefix))]);
        assert_eq!(kinds(&[0x32, 3, 1, 2]), [Err((0, NalFault::Length { len: 3, left: 2 }))]);
        let huge = [0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1];
        assert_eq!(kinds(&huge), [Err((0, NalFault::Length { len: u32::MAX, left: 1 }))]);
    }
}
