//! Where a Common Access Token may be used: at which addresses (`catu`), from which networks (`catnip`).
//!
//! In: the claim as it was read, the request. Out: whether it fits, or that it asks for what is not understood. Pure. What
//! is not understood never fits: part of a URL that is not looked at here, a way to compare, a kind of network.

use super::foreign::ForeignError;
use core::net::IpAddr;
use coset::cbor::Value;
use ring::digest::{SHA256, digest};

/// Where viewers find a relay: scheme, host and port of its public URL. A port that the URL does not name is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Site {
    scheme: String,
    host: String,
    port: String,
}

impl Site {
    /// The site of a URL; one that is none gives a site that no claim about it fits.
    pub fn of(url: &str) -> Site {
        let Ok(url) = url.parse::<http::Uri>() else { return Site::default() };
        Site {
            scheme: url.scheme_str().unwrap_or_default().to_ascii_lowercase(),
            host: url.host().unwrap_or_default().to_ascii_lowercase(),
            port: url.port().map_or_else(String::new, |port| port.to_string()),
        }
    }
}

/// A request, as far as a token can say what it may be.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The path, as it came.
    pub path: &'a str,
    /// The method's name.
    pub method: &'a str,
    /// Where it comes from.
    pub source: Option<IpAddr>,
}

/// Whether `catu` allows a path of a site: a map from parts of the URL to what must hold of them, all of it.
pub(super) fn allows_uri(claim: &Value, site: &Site, path: &str) -> Result<bool, ForeignError> {
    let parts = claim.as_map().filter(|parts| !parts.is_empty()).ok_or(ForeignError::Malformed)?;
    let (parent, file) = path.rsplit_once('/').unwrap_or(("", path));
    let dot = file.rfind('.').unwrap_or(file.len());
    let mut allows = true;
    for (part, conditions) in parts {
        let text: &str = match number(part)? {
            0 => &site.scheme,
            1 => &site.host,
            2 => &site.port,
            3 => path,
            5 => parent,
            6 => file,
            7 => &file[..dot],
            8 => &file[dot..],
            _ => return Err(ForeignError::Critical), // 4 is the query: the token itself stands there
        };
        let conditions = conditions.as_map().filter(|conditions| !conditions.is_empty());
        for (kind, wanted) in conditions.ok_or(ForeignError::Malformed)? {
            allows &= holds(number(kind)?, text, wanted)?;
        }
    }
    Ok(allows)
}

/// Whether a part of a URL is what is wanted, compared in one of the ways.
fn holds(kind: i128, text: &str, wanted: &Value) -> Result<bool, ForeignError> {
    let word = wanted.as_text().ok_or(ForeignError::Malformed);
    Ok(match kind {
        0 => text == word?,
        1 => text.starts_with(word?),
        2 => text.ends_with(word?),
        3 => text.contains(word?),
        -1 => {
            digest(&SHA256, text.as_bytes()).as_ref() == wanted.as_bytes().ok_or(ForeignError::Malformed)?
        }
        _ => return Err(ForeignError::Critical), // regular expressions and other hashes
    })
}

/// Whether `catnip` allows an address: a list of networks (RFC 9164) and of autonomous systems, which are not known here
/// and so never the viewer's.
pub(super) fn allows_network(claim: &Value, source: Option<IpAddr>) -> Result<bool, ForeignError> {
    let networks = claim.as_array().ok_or(ForeignError::Malformed)?;
    let source = source.map(|source| source.to_canonical());
    let mut allows = false;
    for network in networks {
        allows |= match network {
            Value::Integer(_) => false,
            Value::Tag(52, network) => match source {
                Some(IpAddr::V4(source)) => is_in(network, &source.octets())?,
                _ => false,
            },
            Value::Tag(54, network) => match source {
                Some(IpAddr::V6(source)) => is_in(network, &source.octets())?,
                _ => false,
            },
            _ => return Err(ForeignError::Critical),
        };
    }
    Ok(allows)
}

/// Whether an address is the one that is named, or begins with the bits of the network that is. Of a network the bytes of
/// zeros at its end may be missing, and no bit behind its length may be set (RFC 9164 §3.1.2, §3.2).
fn is_in(network: &Value, address: &[u8]) -> Result<bool, ForeignError> {
    let (bits, named) = match network {
        Value::Bytes(named) if named.len() == address.len() => (address.len() * 8, named),
        Value::Array(of) => match &of[..] {
            [Value::Integer(bits), Value::Bytes(named)] if named.len() <= address.len() => {
                let bits = usize::try_from(*bits).ok().filter(|bits| *bits <= address.len() * 8);
                (bits.ok_or(ForeignError::Malformed)?, named)
            }
            _ => return Err(ForeignError::Critical),
        },
        _ => return Err(ForeignError::Malformed),
    };
    let named = |at: usize| named.get(at).copied().unwrap_or(0);
    let mask = |at: usize| match bits.saturating_sub(at * 8) {
        left @ 0..8 => !(0xff_u8 >> left),
        _ => 0xff,
    };
    if (0..address.len()).any(|at| named(at) & !mask(at) != 0) {
        return Err(ForeignError::Malformed);
    }
    Ok(address.iter().enumerate().all(|(at, byte)| byte & mask(at) == named(at)))
}

/// A number of ours is a small one, but any may come.
fn number(value: &Value) -> Result<i128, ForeignError> {
    value.as_integer().map(i128::from).ok_or(ForeignError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/live/demo/index.m3u8";

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    fn map(pairs: Vec<(i64, Value)>) -> Value {
        Value::Map(pairs.into_iter().map(|(key, value)| (Value::Integer(key.into()), value)).collect())
    }

    fn uri(part: i64, kind: i64, wanted: Value) -> Result<bool, ForeignError> {
        allows_uri(
            &map(vec![(part, map(vec![(kind, wanted)]))]),
            &Site::of("https://TV.example.org:8443/x"),
            PATH,
        )
    }

    #[test]
    fn each_part_of_an_address_is_compared_in_each_way() {
        for (part, whole) in [
            (0, "https"),
            (1, "tv.example.org"),
            (2, "8443"),
            (3, PATH),
            (5, "/live/demo"),
            (6, "index.m3u8"),
            (7, "index"),
            (8, ".m3u8"),
        ] {
            let end = whole.len() - 1;
            for (kind, good, bad) in [
                (0, whole, &whole[1..]),
                (1, &whole[..end], &whole[1..]),
                (2, &whole[1..], &whole[..end]),
                (3, &whole[1..end], "demon"),
            ] {
                assert_eq!(uri(part, kind, text(good)), Ok(true), "{part} {kind} {good}");
                assert_eq!(uri(part, kind, text(bad)), Ok(false), "{part} {kind} {bad}");
                assert_eq!(uri(part, kind, Value::Bytes(good.into())), Err(ForeignError::Malformed));
            }
            let hash = |text: &str| Value::Bytes(digest(&SHA256, text.as_bytes()).as_ref().to_vec());
            assert_eq!((uri(part, -1, hash(whole)), uri(part, -1, hash("x"))), (Ok(true), Ok(false)));
            for kind in [4, 5, -2, -3, i64::MAX] {
                assert_eq!(uri(part, kind, text(whole)), Err(ForeignError::Critical), "{kind}");
            }
        }
        for part in [4, 9, -1, i64::MIN] {
            assert_eq!(uri(part, 1, text("")), Err(ForeignError::Critical), "{part}");
        }
    }

    #[test]
    fn all_of_it_must_hold_and_nothing_is_not_all() {
        let (https, http) = (map(vec![(0, text("https"))]), map(vec![(0, text("http"))]));
        let path = map(vec![(1, text("/live/")), (2, text(".m3u8"))]);
        let allows = |claim: &Value| allows_uri(claim, &Site::of("https://tv"), PATH);
        assert_eq!(allows(&map(vec![(0, https.clone()), (3, path.clone())])), Ok(true));
        assert_eq!(allows(&map(vec![(0, http), (3, path)])), Ok(false));
        assert_eq!(allows(&map(vec![(3, map(vec![(1, text("/live/")), (2, text(".mp4"))]))])), Ok(false));
        for nothing in [map(vec![]), map(vec![(0, map(vec![]))]), text("https"), Value::Null] {
            assert_eq!(allows(&nothing), Err(ForeignError::Malformed), "{nothing:?}");
        }
        // What is not understood counts also beside what does not fit.
        let strange = map(vec![(0, map(vec![(0, text("ftp"))])), (99, https)]);
        assert_eq!(allows(&strange), Err(ForeignError::Critical));
        assert_eq!(
            allows_uri(&map(vec![(1, map(vec![(0, text("tv"))]))]), &Site::of("no url"), PATH),
            Ok(false)
        );
    }

    fn network(tag: u64, value: Value, source: &str) -> Result<bool, ForeignError> {
        allows_network(&Value::Array(vec![Value::Tag(tag, Box::new(value))]), source.parse().ok())
    }

    fn prefix(bits: i64, bytes: &[u8]) -> Value {
        Value::Array(vec![Value::Integer(bits.into()), Value::Bytes(bytes.to_vec())])
    }

    #[test]
    fn an_address_is_in_its_network_only() {
        let one = Value::Bytes(vec![192, 0, 2, 1]);
        assert_eq!(network(52, one.clone(), "192.0.2.1"), Ok(true));
        assert_eq!(network(52, one.clone(), "::ffff:192.0.2.1"), Ok(true));
        for other in ["192.0.2.2", "2001:db8::1", "nowhere"] {
            assert_eq!(network(52, one.clone(), other), Ok(false), "{other}");
        }
        for (bits, bytes, inside, outside) in [
            (24, &[192, 0, 2][..], "192.0.2.255", "192.0.3.0"),
            (24, &[192, 0, 2, 0], "192.0.2.0", "192.1.2.0"),
            (22, &[192, 0, 4], "192.0.7.255", "192.0.8.0"),
            (1, &[128], "255.0.0.1", "127.0.0.1"),
            (32, &[192, 0, 2, 1], "192.0.2.1", "192.0.2.3"),
        ] {
            assert_eq!(network(52, prefix(bits, bytes), inside), Ok(true), "{bits}");
            assert_eq!(network(52, prefix(bits, bytes), outside), Ok(false), "{bits}");
        }
        assert_eq!(network(52, prefix(0, &[]), "203.0.113.1"), Ok(true));
        assert_eq!(network(54, prefix(0, &[]), "203.0.113.1"), Ok(false));
        let home = prefix(44, &[0x20, 0x01, 0x0d, 0xb8, 0, 0x10]);
        assert_eq!(network(54, home.clone(), "2001:db8:1f:1::"), Ok(true));
        assert_eq!(network(54, home, "2001:db8:20::1"), Ok(false));
    }

    #[test]
    fn what_is_no_network_or_not_understood_is_refused() {
        let source = "192.0.2.1";
        for malformed in [
            prefix(33, &[192, 0, 2]),
            prefix(-1, &[]),
            prefix(20, &[192, 0, 255]),
            Value::Bytes(vec![192, 0, 2]),
            text("192.0.2.1"),
        ] {
            assert_eq!(network(52, malformed.clone(), source), Err(ForeignError::Malformed), "{malformed:?}");
        }
        let interface = Value::Array(vec![Value::Bytes(vec![192, 0, 2, 1]), Value::Integer(24.into())]);
        assert_eq!(network(52, interface, source), Err(ForeignError::Critical));
        assert_eq!(network(260, Value::Bytes(vec![192, 0, 2, 1]), source), Err(ForeignError::Critical));
        let list = |networks| allows_network(&Value::Array(networks), source.parse().ok());
        assert_eq!(list(vec![Value::Integer(64512.into())]), Ok(false), "no system is known");
        assert_eq!(list(vec![]), Ok(false));
        assert_eq!(list(vec![text("192.0.2.1")]), Err(ForeignError::Critical));
        let good = Value::Tag(52, Box::new(prefix(24, &[192, 0, 2])));
        assert_eq!(list(vec![Value::Integer(1.into()), good.clone()]), Ok(true));
        assert_eq!(list(vec![good, Value::Null]), Err(ForeignError::Critical));
        assert_eq!(allows_network(&Value::Null, None), Err(ForeignError::Malformed));
    }
}
