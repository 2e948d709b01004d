//! NAL units: finding them, their types, emulation prevention (ISO/IEC 14496-10 §7.3.1, 14496-15 §5.3.3).

use std::ops::Range;
use thiserror::Error;

/// `nal_unit_type` values that marking treats by name.
pub mod kind {
    /// Slice of another than an IDR picture.
    pub const SLICE: u8 = 1;
    /// Slice of an IDR picture.
    pub const IDR: u8 = 5;
    /// Supplemental enhancement information.
    pub const SEI: u8 = 6;
    /// Sequence parameter set.
    pub const SPS: u8 = 7;
    /// Picture parameter set.
    pub const PPS: u8 = 8;
    /// Access unit delimiter.
    pub const DELIMITER: u8 = 9;
    /// End of sequence.
    pub const END_OF_SEQUENCE: u8 = 10;
    /// End of stream.
    pub const END_OF_STREAM: u8 = 11;
    /// Filler data.
    pub const FILLER: u8 = 12;
}

/// The type of a NAL unit, 0 for an empty one.
pub fn kind_of(unit: &[u8]) -> u8 {
    unit.first().map_or(0, |header| header & 31)
}

/// A length prefix that does not fit what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the access unit's NAL unit lengths do not add up at byte {at}")]
pub struct BadLength {
    /// Byte of the prefix within the access unit.
    pub at: usize,
}

/// Walks length-prefixed NAL units: each item is where prefix and unit lie, and the unit. Stops at the first error.
#[derive(Clone, Debug)]
pub struct Units<'a> {
    bytes: &'a [u8],
    length_size: usize,
    at: usize,
}

impl<'a> Units<'a> {
    /// The units of an access unit with prefixes of 1, 2, 3 or 4 bytes.
    pub fn new(bytes: &'a [u8], length_size: u8) -> Units<'a> {
        Units { bytes, length_size: usize::from(length_size.clamp(1, 4)), at: 0 }
    }
}

impl<'a> Iterator for Units<'a> {
    type Item = Result<(Range<usize>, &'a [u8]), BadLength>;

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at;
        let rest = self.bytes.get(start..).filter(|rest| !rest.is_empty())?;
        let found = rest.split_at_checked(self.length_size).and_then(|(prefix, rest)| {
            let length = prefix.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
            rest.get(..length).filter(|unit| !unit.is_empty())
        });
        let Some(unit) = found else {
            self.at = self.bytes.len();
            return Some(Err(BadLength { at: start }));
        };
        self.at = start + self.length_size + unit.len();
        Some(Ok((start..self.at, unit)))
    }
}

/// Appends a unit with its length prefix; false when it is too long for one, nothing is appended then.
#[must_use]
pub fn push_prefixed(to: &mut Vec<u8>, unit: &[u8], length_size: u8) -> bool {
    if unit.len() > unit_length_max(length_size) {
        return false;
    }
    let length = (unit.len() as u64).to_be_bytes();
    to.extend_from_slice(&length[8 - usize::from(length_size.clamp(1, 4))..]);
    to.extend_from_slice(unit);
    true
}

/// Longest unit that a prefix of that many bytes can announce.
pub fn unit_length_max(length_size: u8) -> usize {
    (1usize << (8 * u32::from(length_size.clamp(1, 4)))) - 1
}

/// NAL units of Annex B bytes, without start codes and trailing zeros.
pub fn split_annexb(bytes: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> =
        (0..bytes.len().saturating_sub(2)).filter(|&at| bytes[at..at + 3] == [0, 0, 1]).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let units = starts.iter().zip(ends).map(|(&start, end)| trimmed(&bytes[start + 3..end]));
    units.filter(|unit| !unit.is_empty()).collect()
}

/// A unit without zero bytes behind it.
pub fn trimmed(unit: &[u8]) -> &[u8] {
    let end = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &unit[..end]
}

/// Undoes emulation prevention; the NAL unit header stays as the first byte.
pub fn unescape(unit: &[u8]) -> Vec<u8> {
    let mut payload = Vec::with_capacity(unit.len());
    let mut zeros = 0;
    for &byte in unit {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        payload.push(byte);
    }
    payload
}

/// Does emulation prevention.
pub fn escape(payload: &[u8]) -> Vec<u8> {
    let mut unit = Vec::with_capacity(payload.len() + payload.len() / 128 + 8);
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte <= 3 {
            unit.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        unit.push(byte);
    }
    if payload.last() == Some(&0) {
        unit.push(3);
    }
    unit
}

/// Whether a decoder of a byte stream would see something else than one NAL unit here.
pub fn emulates_start_code(unit: &[u8]) -> bool {
    unit.windows(3).any(|bytes| bytes[0] == 0 && bytes[1] == 0 && bytes[2] < 3) || unit.last() == Some(&0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn escaping_is_undone_and_hides_start_codes(payload in proptest::collection::vec(prop_oneof![3 => 0u8..5, 1 => any::<u8>()], 0..200)) {
            let unit = escape(&payload);
            prop_assert!(!emulates_start_code(&unit));
            let mut back = unescape(&unit);
            if payload.last() == Some(&0) {
                // The 3 behind a last zero is only dropped when two zeros stand before it.
                back.truncate(payload.len());
            }
            prop_assert_eq!(back, payload);
        }

        #[test]
        fn prefixed_units_come_back(units in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..6), length_size in 2u8..=4) {
            let mut bytes = Vec::new();
            for unit in &units {
                prop_assert!(push_prefixed(&mut bytes, unit, length_size));
            }
            let back: Result<Vec<_>, _> = Units::new(&bytes, length_size).map(|unit| unit.map(|(_, unit)| unit.to_vec())).collect();
            prop_assert_eq!(back, Ok(units));
        }

        #[test]
        fn any_bytes_are_units_or_one_error(bytes in proptest::collection::vec(0u8..9, 0..60), length_size: u8) {
            let items: Vec<_> = Units::new(&bytes, length_size).collect();
            prop_assert!(items.len() <= bytes.len());
            prop_assert!(items.iter().rev().skip(1).all(Result::is_ok));
        }
    }

    #[test]
    fn a_unit_too_long_for_its_prefix_is_refused() {
        let mut bytes = Vec::new();
        assert!(!push_prefixed(&mut bytes, &[0; 256], 1) && bytes.is_empty());
        assert!(push_prefixed(&mut bytes, &[7; 255], 1));
        assert_eq!(unit_length_max(2), 65_535);
        assert_eq!(Units::new(&[0, 0, 0, 9, 1], 4).next(), Some(Err(BadLength { at: 0 })));
        assert_eq!(
            Units::new(&[0, 0, 0, 0], 4).next(),
            Some(Err(BadLength { at: 0 })),
            "empty units are none"
        );
    }

    #[test]
    fn annex_b_splits_at_both_start_codes() {
        let bytes = [0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 1, 0x65, 3, 0, 0];
        assert_eq!(split_annexb(&bytes), vec![&[0x67, 1][..], &[0x68, 2], &[0x65, 3]]);
        assert!(split_annexb(&[0, 0]).is_empty());
    }
}
