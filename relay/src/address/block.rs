//! What counts as one address, and lists of networks.
//!
//! An IPv4 address is one; of an IPv6 address the first 64 bits are, which is what one household or one host is given
//! (RFC 6177, RFC 7421): who has one of them has 2^64. Pure.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What connections are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Block {
    /// One address.
    V4(Ipv4Addr),
    /// The network part of an address.
    V6(u64),
}

impl Block {
    /// The block of an address. An IPv4 address inside IPv6 is the IPv4 address.
    pub fn of(address: IpAddr) -> Block {
        match address.to_canonical() {
            IpAddr::V4(address) => Block::V4(address),
            IpAddr::V6(address) => Block::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// A list of networks, written as `10.0.0.0/8`, `2001:db8::/32` or one address.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct Networks(Vec<(IpAddr, u32)>);

impl Networks {
    /// Whether none is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|(network, bits)| masked(address, *bits) == Some(*network))
    }
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoNetwork(String);

impl fmt::Display for NoNetwork {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?} is no network: write 10.0.0.0/8, 2001:db8::/32 or one address", self.0)
    }
}

impl TryFrom<Vec<String>> for Networks {
    type Error = NoNetwork;

    fn try_from(texts: Vec<String>) -> Result<Networks, NoNetwork> {
        texts
            .iter()
            .map(|text| network(text).ok_or_else(|| NoNetwork(text.clone())))
            .collect::<Result<_, _>>()
            .map(Networks)
    }
}

/// A network must have no bits behind its length: `10.1.0.0/8` is more likely a slip than meant.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address.parse().ok()?, Some(bits.parse().ok()?)),
        None => (text.parse::<IpAddr>().ok()?, None),
    };
    let bits = bits.unwrap_or(if address.is_ipv4() { 32 } else { 128 });
    (masked(address, bits)? == address).then_some((address, bits))
}

/// The first bits of an address; `None` when it has fewer.
fn masked(address: IpAddr, bits: u32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            let behind = 32u32.checked_sub(bits)?;
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            Some(Ipv4Addr::from_bits(address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let behind = 128u32.checked_sub(bits)?;
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            Some(Ipv6Addr::from_bits(address.to_bits() & mask).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Result<Networks, NoNetwork> {
        Networks::try_from(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    fn block(text: &str) -> Block {
        Block::of(text.parse().unwrap())
    }

    #[test]
    fn a_household_is_one() {
        assert_ne!(block("192.0.2.1"), block("192.0.2.2"));
        assert_eq!(block("::ffff:192.0.2.1"), block("192.0.2.1"));
        assert_eq!(block("2001:db8:1:2:3::4"), block("2001:db8:1:2:ffff::1"));
        assert_ne!(block("2001:db8:1:2::1"), block("2001:db8:1:3::1"));
    }

    #[test]
    fn networks_hold_their_own_addresses_only() {
        let listed = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/33", "::1"]).unwrap();
        for inside in ["10.255.0.1", "::ffff:10.0.0.1", "192.0.2.7", "2001:db8:7fff::1", "::1"] {
            assert!(listed.contains(inside.parse().unwrap()), "{inside}");
        }
        for outside in ["11.0.0.0", "192.0.2.8", "2001:db8:8000::1", "::2", "127.0.0.1"] {
            assert!(!listed.contains(outside.parse().unwrap()), "{outside}");
        }
        assert!(networks(&["0.0.0.0/0"]).unwrap().contains("203.0.113.9".parse().unwrap()));
        assert!(!networks(&["0.0.0.0/0"]).unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_named() {
        for text in
            ["", "10.0.0.0/33", "10.0.0.1/8", "::/129", "10.0.0.0/", "proxy", "10.0.0.0/-1", "10.0.0/8"]
        {
            let error = networks(&["::1", text]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{text:?} ")), "{error}");
        }
    }
}
