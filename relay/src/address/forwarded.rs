//! `X-Forwarded-For`, as a listed proxy writes it.
//!
//! In: the last such field of a request, the list of proxies. Out: the viewer's address. Pure. The list grows to the right,
//! and only what a listed proxy has added is believed: from the right, the first address that is no listed proxy. What
//! stands left of it may be anybody's invention and is not looked at.

use super::Networks;
use core::net::{IpAddr, SocketAddr};

/// A field that no proxy of ours writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("X-Forwarded-For does not end with an address")]
pub struct Malformed;

/// Whose request it is; `None` when a listed proxy asks for itself.
///
/// # Errors
/// When what the proxy added is no address.
pub fn forwarded_for(field: &[u8], proxies: &Networks) -> Result<Option<IpAddr>, Malformed> {
    for element in field.rsplit(|&byte| byte == b',') {
        let address = std::str::from_utf8(element.trim_ascii()).ok().and_then(address).ok_or(Malformed)?;
        if !proxies.contains(address) {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// An address, as some proxies write it also with a port or in brackets.
fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse::<IpAddr>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(field: &str) -> Result<Option<String>, Malformed> {
        let proxies = Networks::try_from(vec!["10.0.0.0/8".to_owned()]).unwrap();
        forwarded_for(field.as_bytes(), &proxies).map(|address| address.map(|address| address.to_string()))
    }

    #[test]
    fn only_what_listed_proxies_added_is_believed() {
        for (field, address) in [
            ("192.0.2.1", "192.0.2.1"),
            ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
            ("nonsense,192.0.2.1 , 10.0.0.2,10.0.0.1", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(read(field), Ok(Some(address.into())), "{field}");
        }
        assert_eq!(read("10.0.0.2, 10.0.0.1"), Ok(None));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for field in
            ["", ",", "192.0.2.1,", "unknown", "192.0.2.1, _hidden", "192.0.2", "192.0.2.1, , 10.0.0.1"]
        {
            assert_eq!(read(field), Err(Malformed), "{field}");
        }
        assert_eq!(forwarded_for(b"\xff", &Networks::default()), Err(Malformed));
    }
}
