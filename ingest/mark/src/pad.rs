//! Equal lengths: filler data behind the shorter of two slices, so that no viewer's bytes are longer than another's.
//!
//! In: the slice as A and as B. Out: both length-prefixed, with the same count of NAL units and the same length. Pure.
//!
//! Where lengths differ both variants get a filler NAL unit (ISO/IEC 14496-10 §7.3.2.7). The smallest takes 2 bytes and
//! its prefix, so both end at max + 6 with prefixes of 4; in a byte stream with start codes they stay equal too. Where
//! lengths are the same neither gets one.

use crate::h264::nal::{self, kind};
use bytes::Bytes;
use thiserror::Error;

/// Bytes of the smallest filler NAL unit: header and stop bit.
const FILLER_MIN: usize = 2;

/// A NAL unit longer than the stream's length prefixes can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a marked slice of {length} bytes does not fit length prefixes of {length_size} bytes")]
pub struct TooLong {
    /// Bytes of the unit.
    pub length: usize,
    /// Bytes of a prefix.
    pub length_size: u8,
}

/// Both variants, prefixed and equally long.
///
/// # Errors
/// When a slice or its filler is too long for the prefix.
pub fn pad(a: &[u8], b: &[u8], length_size: u8) -> Result<(Bytes, Bytes), TooLong> {
    let longer = a.len().max(b.len());
    let variant = |slice: &[u8]| {
        let mut bytes = Vec::with_capacity(longer + FILLER_MIN + 8);
        push(&mut bytes, slice, length_size)?;
        if a.len() != b.len() {
            push(&mut bytes, &filler(longer - slice.len() + FILLER_MIN), length_size)?;
        }
        Ok(Bytes::from(bytes))
    };
    Ok((variant(a)?, variant(b)?))
}

fn push(to: &mut Vec<u8>, unit: &[u8], length_size: u8) -> Result<(), TooLong> {
    let pushed = nal::push_prefixed(to, unit, length_size);
    if pushed { Ok(()) } else { Err(TooLong { length: unit.len(), length_size }) }
}

/// A filler NAL unit of that many bytes, at least 2.
fn filler(length: usize) -> Vec<u8> {
    let mut unit = vec![0xff; length];
    unit[0] = kind::FILLER;
    unit[length - 1] = 0x80;
    unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::h264::nal::Units;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn variants_are_equal_in_length_and_units(a in 1usize..400, b in 1usize..400, length_size in prop_oneof![Just(2u8), Just(4)]) {
            let (a, b) = (vec![0x65; a], vec![0x65; b]);
            let (padded_a, padded_b) = pad(&a, &b, length_size).unwrap();
            prop_assert_eq!(padded_a.len(), padded_b.len());
            let units = |bytes: &[u8]| -> Vec<Vec<u8>> { Units::new(bytes, length_size).map(|unit| unit.unwrap().1.to_vec()).collect() };
            let (units_a, units_b) = (units(&padded_a), units(&padded_b));
            prop_assert_eq!(units_a.len(), units_b.len());
            prop_assert_eq!((&units_a[0], &units_b[0]), (&a, &b));
            let prefix = usize::from(length_size);
            let expected = a.len().max(b.len()) + prefix + if a.len() == b.len() { 0 } else { prefix + 2 };
            prop_assert_eq!(padded_a.len(), expected);
            for unit in units_a.iter().chain(&units_b).skip(1).filter(|unit| unit[0] == 12) {
                prop_assert!(!nal::emulates_start_code(unit) && unit.last() == Some(&0x80));
            }
        }
    }

    #[test]
    fn what_the_prefix_cannot_say_is_an_error() {
        assert!(pad(&[7; 255], &[7; 3], 1).is_ok());
        assert_eq!(pad(&[7; 256], &[7; 3], 1), Err(TooLong { length: 256, length_size: 1 }));
        assert_eq!(pad(&[7; 255], &[7], 1), Err(TooLong { length: 256, length_size: 1 }), "the filler");
        assert!(pad(&[7; 65_536], &[7; 65_536], 2).is_err());
    }
}
