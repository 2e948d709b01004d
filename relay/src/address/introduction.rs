//! The PROXY protocol, versions 1 and 2: how a balancer that passes bytes on says whose they are.
//!
//! In: the first bytes of a connection. Out: how long the header is and what address it names, or why it is none. The answer
//! for some bytes is the same however they were cut on the way. No allocation. "The PROXY protocol", HAProxy 2.9, §2.1, §2.2.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Longest header of version 1, its CR LF included.
const LINE_BYTES_MAX: usize = 107;
/// Longest header of version 2: addresses take 216 bytes at most, the rest is what balancers add about TLS and themselves.
pub const HEADER_BYTES_MAX: usize = 4 << 10;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Introduction {
    /// The beginning of a header, or nothing.
    Incomplete,
    /// A header of `len` bytes, and the address it names. `None`: the balancer speaks for itself, or does not know.
    Of {
        /// Bytes of the header.
        len: usize,
        /// Whose connection it is.
        source: Option<IpAddr>,
    },
    /// No header.
    Malformed(Malformed),
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They begin like no header.
    #[error("does not begin with a PROXY header")]
    Beginning,
    /// A line of version 1 that does not follow the grammar.
    #[error("PROXY line does not follow the grammar")]
    Line,
    /// A header of version 2 that does not follow the grammar.
    #[error("PROXY header of version 2 does not follow the grammar")]
    Binary,
    /// It is longer than `HEADER_BYTES_MAX`.
    #[error("PROXY header is longer than {HEADER_BYTES_MAX} bytes")]
    TooLong,
}

/// Reads the header at the beginning of `bytes`.
pub fn introduction(bytes: &[u8]) -> Introduction {
    let read = match bytes.first() {
        None => return Introduction::Incomplete,
        Some(b'P') => line(bytes),
        Some(_) => binary(bytes),
    };
    match read {
        Ok(Some((len, source))) => {
            Introduction::Of { len, source: source.map(|source| source.to_canonical()) }
        }
        Ok(None) => Introduction::Incomplete,
        Err(malformed) => Introduction::Malformed(malformed),
    }
}

type Read = Result<Option<(usize, Option<IpAddr>)>, Malformed>;

fn line(bytes: &[u8]) -> Read {
    const BEGINNING: &[u8] = b"PROXY ";
    let seen = bytes.len().min(BEGINNING.len());
    if bytes[..seen] != BEGINNING[..seen] {
        return Err(Malformed::Beginning);
    }
    let bytes = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() == LINE_BYTES_MAX { Err(Malformed::Line) } else { Ok(None) };
    };
    let text = std::str::from_utf8(&bytes[BEGINNING.len()..end]).map_err(|_| Malformed::Line)?;
    let source = if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        None
    } else {
        Some(source(text).ok_or(Malformed::Line)?)
    };
    Ok(Some((end + 2, source)))
}

/// `TCP4 source destination port port`.
fn source(text: &str) -> Option<IpAddr> {
    let mut words = text.split(' ');
    let family = words.next()?;
    let mut address = || -> Option<IpAddr> {
        let word = words.next()?;
        match family {
            "TCP4" => word.parse::<Ipv4Addr>().ok().map(IpAddr::from),
            "TCP6" => word.parse::<Ipv6Addr>().ok().map(IpAddr::from),
            _ => None,
        }
    };
    let (source, _destination) = (address()?, address()?);
    for _ in 0..2 {
        let port = words.next()?;
        let is_plain =
            port.bytes().all(|byte| byte.is_ascii_digit()) && (port == "0" || !port.starts_with('0'));
        if !is_plain || port.parse::<u16>().is_err() {
            return None;
        }
    }
    words.next().is_none().then_some(source)
}

fn binary(bytes: &[u8]) -> Read {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(Malformed::Beginning);
    }
    let Some(fixed) = bytes.get(..FIXED_BYTES) else { return Ok(None) };
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let is_local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Binary),
    };
    if len > HEADER_BYTES_MAX {
        return Err(Malformed::TooLong);
    }
    let Some(addresses) = bytes.get(FIXED_BYTES..len) else { return Ok(None) };
    let source = match fixed[13] {
        _ if is_local => None,
        // TCP over IPv4: two addresses, two ports. What follows is not for us.
        0x11 => match addresses {
            [a, b, c, d, rest @ ..] if rest.len() >= 8 => Some(Ipv4Addr::new(*a, *b, *c, *d).into()),
            _ => return Err(Malformed::Binary),
        },
        0x21 => match addresses.split_first_chunk::<16>() {
            Some((source, rest)) if rest.len() >= 20 => Some(Ipv6Addr::from(*source).into()),
            _ => return Err(Malformed::Binary),
        },
        // Unspecified, or of a kind that viewers do not come by: to be taken as the balancer's own (§2.2).
        0x00 | 0x12 | 0x22 | 0x31 | 0x32 => None,
        _ => return Err(Malformed::Binary),
    };
    Ok(Some((len, source)))
}

/// What a fuzz target calls: the verdict does not depend on cuts, and no header is longer than it may be.
pub fn fuzzed(data: &[u8]) {
    let whole = introduction(data);
    for cut in 0..data.len() {
        match introduction(&data[..cut]) {
            Introduction::Incomplete => {}
            earlier => {
                assert_eq!(earlier, whole, "a cut at {cut} makes a difference");
                break;
            }
        }
    }
    if let Introduction::Of { len, .. } = whole {
        assert!(len <= HEADER_BYTES_MAX && len <= data.len() && len >= 15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn binary_header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend((addresses.len() as u16).to_be_bytes());
        header.extend(addresses);
        header
    }

    fn of(bytes: &[u8], source: Option<&str>) {
        let source = source.map(|source| source.parse().unwrap());
        let wanted = Introduction::Of { len: bytes.len(), source };
        assert_eq!(introduction(bytes), wanted, "{bytes:?}");
        let with_more = [bytes, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(introduction(&with_more), wanted);
        for cut in 0..bytes.len() {
            assert_eq!(introduction(&bytes[..cut]), Introduction::Incomplete, "{cut} of {bytes:?}");
        }
    }

    #[test]
    fn both_versions_name_the_viewer() {
        of(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", Some("192.0.2.1"));
        of(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", Some("2001:db8::1"));
        of(b"PROXY TCP6 ::ffff:192.0.2.1 ::1 0 1\r\n", Some("192.0.2.1"));
        of(b"PROXY UNKNOWN\r\n", None);
        of(b"PROXY UNKNOWN ffff::1 ::1 what ever\r\n", None);
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 220, 4, 1, 187];
        of(&binary_header(0x21, 0x11, &v4), Some("192.0.2.1"));
        let with_tlv = [&v4[..], &[4, 0, 3, 1, 2, 3]].concat();
        of(&binary_header(0x21, 0x11, &with_tlv), Some("192.0.2.1"));
        let mut v6 = [0; 36];
        v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
        of(&binary_header(0x21, 0x21, &v6), Some("2001:db8::7"));
        of(&binary_header(0x20, 0x00, &[]), None);
        of(&binary_header(0x20, 0x11, &v4), None);
        of(&binary_header(0x21, 0x31, &[0; 216]), None);
    }

    #[test]
    fn what_is_no_header_is_refused() {
        use Malformed::*;
        let long_line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(100));
        let too_long = binary_header(0x21, 0x11, &vec![0; HEADER_BYTES_MAX]);
        for (bytes, why) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], Beginning),
            (b"\x16\x03\x01\x02\x00", Beginning),
            (b"PROXZ", Beginning),
            (b"POST / HTTP/1.1", Beginning),
            (b"\r\n\r\n\0\r\nQUIX", Beginning),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", Line),
            (b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n", Line),
            (b"PROXY TCP5 192.0.2.1 198.51.100.1 1 2\r\n", Line),
            (b"PROXY TCP4 192.0.2.1  198.51.100.1 1 2\r\n", Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n", Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 01 2\r\n", Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 \r\n", Line),
            (b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n", Line),
            (b"PROXY \xff\r\n", Line),
            (long_line.as_bytes(), Line),
            (&binary_header(0x11, 0x11, &[0; 12]), Binary),
            (&binary_header(0x22, 0x11, &[0; 12]), Binary),
            (&binary_header(0x21, 0x11, &[0; 11]), Binary),
            (&binary_header(0x21, 0x21, &[0; 35]), Binary),
            (&binary_header(0x21, 0x41, &[0; 36]), Binary),
            (&too_long, TooLong),
        ] {
            assert_eq!(introduction(bytes), Introduction::Malformed(why), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(
            kind in 0..3usize,
            mut data in proptest::collection::vec(any::<u8>(), 0..160),
        ) {
            let beginning: &[u8] = [&b""[..], b"PROXY TCP4 192.0.2.1 ", &SIGNATURE][kind];
            data.splice(0..0, beginning.iter().copied());
            fuzzed(&data);
        }
    }
}
