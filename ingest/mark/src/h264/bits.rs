//! Bits of a raw byte sequence payload: reading forward, writing.
//!
//! Emulation prevention is undone before reading and done after writing (`nal`).

use thiserror::Error;

/// Where reading stopped and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{unit}: {what} at bit {bit}")]
pub struct Malformed {
    /// What was being read: SPS, PPS, slice header.
    pub unit: &'static str,
    /// What is wrong.
    pub what: &'static str,
    /// Bit from the NAL unit's first, emulation prevention undone.
    pub bit: usize,
}

/// Reads bits forward, highest first.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    unit: &'static str,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    /// A reader at the first bit. `unit` names it in errors.
    pub fn new(unit: &'static str, bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { unit, bytes, at: 0 }
    }

    /// Bits read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    /// Goes to a bit that was read before.
    pub fn seek(&mut self, to: usize) {
        self.at = to;
    }

    /// An error at this bit.
    pub fn malformed(&self, what: &'static str) -> Malformed {
        Malformed { unit: self.unit, what, bit: self.at }
    }

    /// One bit.
    pub fn flag(&mut self) -> Result<bool, Malformed> {
        let byte = self.bytes.get(self.at >> 3).ok_or_else(|| self.malformed("the bytes end"))?;
        let bit = byte << (self.at & 7) & 0x80 != 0;
        self.at += 1;
        Ok(bit)
    }

    /// `u(n)`, n ≤ 32.
    pub fn bits(&mut self, count: u32) -> Result<u32, Malformed> {
        (0..count).try_fold(0, |value, _| Ok(value << 1 | u32::from(self.flag()?)))
    }

    /// `ue(v)`, at most `max`.
    pub fn ue(&mut self, max: u32, what: &'static str) -> Result<u32, Malformed> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return Err(self.malformed(what));
            }
        }
        let value = ((1u64 << zeros) - 1) + u64::from(self.bits(zeros)?);
        u32::try_from(value).ok().filter(|&value| value <= max).ok_or_else(|| self.malformed(what))
    }

    /// `se(v)`, at most `max` away from nought.
    pub fn se(&mut self, max: u32, what: &'static str) -> Result<i32, Malformed> {
        let code = self.ue(max.saturating_mul(2), what)?;
        let size = i32::try_from(code.div_ceil(2)).map_err(|_| self.malformed(what))?;
        Ok(if code % 2 == 1 { size } else { -size })
    }

    /// `more_rbsp_data()`.
    pub fn more(&self) -> bool {
        stop_bit(self.bytes).is_some_and(|stop| self.at < stop)
    }
}

/// Position of `rbsp_stop_one_bit`: the last bit set.
pub fn stop_bit(bytes: &[u8]) -> Option<usize> {
    let last = bytes.iter().rposition(|&byte| byte != 0)?;
    Some(last * 8 + 7 - bytes[last].trailing_zeros() as usize)
}

/// Writes bits, highest first.
#[derive(Clone, Debug, Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    /// Bits used in the last byte; 0 means all.
    used: u32,
}

impl BitWriter {
    /// A writer with room for that many bytes.
    pub fn with_capacity(bytes: usize) -> BitWriter {
        BitWriter { bytes: Vec::with_capacity(bytes), used: 0 }
    }

    /// One bit.
    pub fn flag(&mut self, bit: bool) {
        if self.used == 0 {
            self.bytes.push(0);
        }
        if let (true, Some(last)) = (bit, self.bytes.last_mut()) {
            *last |= 0x80 >> self.used;
        }
        self.used = (self.used + 1) & 7;
    }

    /// `u(n)`.
    pub fn bits(&mut self, count: u32, value: u32) {
        for bit in (0..count).rev() {
            self.flag(value >> bit & 1 == 1);
        }
    }

    /// `ue(v)`.
    pub fn ue(&mut self, value: u32) {
        let value = u64::from(value) + 1;
        let length = 64 - value.leading_zeros();
        (1..length).for_each(|_| self.flag(false));
        for bit in (0..length).rev() {
            self.flag(value >> bit & 1 == 1);
        }
    }

    /// `se(v)`.
    pub fn se(&mut self, value: i32) {
        let size = value.unsigned_abs() * 2;
        self.ue(if value > 0 { size - 1 } else { size });
    }

    /// Fills the last byte with `bit`.
    pub fn align(&mut self, bit: bool) {
        while self.used != 0 {
            self.flag(bit);
        }
    }

    /// `rbsp_trailing_bits()`.
    pub fn trailing(&mut self) {
        self.flag(true);
        self.align(false);
    }

    /// Whole bytes; the writer must stand on a byte's edge.
    pub fn bytes(&mut self, bytes: &[u8]) {
        debug_assert_eq!(self.used, 0, "bytes go to a byte's edge");
        self.bytes.extend_from_slice(bytes);
    }

    /// Bits `from` to `to` of other bytes; what lies beyond their end is left out.
    pub fn copy(&mut self, bytes: &[u8], from: usize, to: usize) {
        let to = to.min(bytes.len() * 8);
        let mut at = from;
        let bit = |at: usize| bytes[at >> 3] << (at & 7) & 0x80 != 0;
        while at < to && self.used != 0 {
            self.flag(bit(at));
            at += 1;
        }
        let shift = at & 7;
        while at + 8 <= to {
            let high = bytes[at >> 3] << shift;
            let low = if shift == 0 { 0 } else { bytes[(at >> 3) + 1] >> (8 - shift) };
            self.bytes.push(high | low);
            at += 8;
        }
        while at < to {
            self.flag(bit(at));
            at += 1;
        }
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn codes_read_back(ue in proptest::collection::vec(0u32..u32::MAX - 1, 0..20), se in proptest::collection::vec(-100_000i32..100_000, 0..20)) {
            let mut writer = BitWriter::default();
            ue.iter().for_each(|&value| writer.ue(value));
            se.iter().for_each(|&value| writer.se(value));
            writer.trailing();
            let bytes = writer.into_bytes();
            let mut reader = BitReader::new("test", &bytes);
            for value in ue {
                prop_assert_eq!(reader.ue(u32::MAX, "code"), Ok(value));
            }
            for value in se {
                prop_assert!(reader.more());
                prop_assert_eq!(reader.se(100_000, "code"), Ok(value));
            }
            prop_assert!(!reader.more());
        }

        #[test]
        fn copies_are_bit_by_bit(bytes in proptest::collection::vec(any::<u8>(), 1..40), lead in 0u32..8, ends: (usize, usize)) {
            let (from, to) = (ends.0 % (bytes.len() * 8), ends.1 % (bytes.len() * 8 + 9));
            let (mut fast, mut slow) = (BitWriter::default(), BitWriter::default());
            fast.bits(lead, 0);
            slow.bits(lead, 0);
            fast.copy(&bytes, from, to);
            for at in from..to.min(bytes.len() * 8) {
                slow.flag(bytes[at >> 3] << (at & 7) & 0x80 != 0);
            }
            prop_assert_eq!(fast.into_bytes(), slow.into_bytes());
        }
    }

    #[test]
    fn limits_and_ends_are_errors_with_their_bit() {
        assert_eq!(BitReader::new("SPS", &[0; 9]).ue(9, "id").unwrap_err().bit, 32);
        assert_eq!(BitReader::new("SPS", &[0b0001_1100]).ue(5, "id").unwrap_err().what, "id");
        assert_eq!(BitReader::new("SPS", &[0b0001_1000]).ue(11, "id"), Ok(11));
        assert_eq!(BitReader::new("SPS", &[]).flag().unwrap_err().to_string(), "SPS: the bytes end at bit 0");
        assert_eq!(stop_bit(&[0, 0]), None);
        assert_eq!(stop_bit(&[0xff, 0b0110_0000, 0]), Some(10));
    }
}
