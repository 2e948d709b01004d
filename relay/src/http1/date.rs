//! The `date` line (RFC 9110 §5.6.7, §6.6.1), rendered once a second.
//!
//! In: seconds since 1970. Out: the line with its CR LF. Pure; no allocation.

const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] =
    [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];
const DAY_S: u64 = 86_400;
/// The last second of the year 9999: the format has four digits for a year.
const LAST_S: u64 = 253_402_300_799;

/// The `date` line of one second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp([u8; 37]);

impl Stamp {
    /// The line of a second, in Unix seconds.
    pub fn new(unix_s: u64) -> Stamp {
        let unix_s = unix_s.min(LAST_S);
        let (days, second) = (unix_s / DAY_S, unix_s % DAY_S);
        let (year, month, day) = civil(days);
        let mut line = *b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n";
        let mut put = |at: usize, bytes: &[u8]| line[at..at + bytes.len()].copy_from_slice(bytes);
        put(6, DAYS[(days % 7) as usize]);
        put(11, &two(day));
        put(14, MONTHS[(month - 1) as usize]);
        put(18, &two(year / 100));
        put(20, &two(year % 100));
        put(23, &two(second / 3600));
        put(26, &two(second / 60 % 60));
        put(29, &two(second % 60));
        Stamp(line)
    }

    /// The line, CR LF included.
    pub fn line(&self) -> &[u8] {
        &self.0
    }
}

fn two(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

/// Days since 1970 as year, month, day: years are counted from March, so that the leap day is a year's last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // days from 0000-03-01 to 1970-01-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_seconds_have_their_lines() {
        for (unix_s, line) in [
            (0, "date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"),
            (784_111_777, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), // the example of the RFC
            (951_782_400, "date: Tue, 29 Feb 2000 00:00:00 GMT\r\n"),
            (951_868_799, "date: Tue, 29 Feb 2000 23:59:59 GMT\r\n"),
            (951_868_800, "date: Wed, 01 Mar 2000 00:00:00 GMT\r\n"),
            (1_798_761_599, "date: Thu, 31 Dec 2026 23:59:59 GMT\r\n"),
            (4_107_542_400, "date: Mon, 01 Mar 2100 00:00:00 GMT\r\n"), // 2100 has no leap day
            (u64::MAX, "date: Fri, 31 Dec 9999 23:59:59 GMT\r\n"),
        ] {
            assert_eq!(Stamp::new(unix_s).line(), line.as_bytes(), "{unix_s}");
        }
    }
}
