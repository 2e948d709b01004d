//! What a session is bound to, where an operator wants that: the network its viewer came from, the player they came with.
//!
//! In: who presents a credential, the session key. Out: tags that the credential carries, and which of them do not fit. Pure.
//!
//! A tag is the beginning of a MAC, so that a URL does not say where its viewer lives. It is covered by the credential's own
//! MAC; all it has to do is differ for other viewers, for which 64 bits are plenty.

use core::net::IpAddr;
use ring::hmac;
use serde::Deserialize;

/// Bits of an IPv4 address that stay with a viewer: behind a carrier's translator connections of one viewer may leave by
/// several addresses of a pool (RFC 6888 §2 asks for one, not all obey), and those are neighbours.
const V4_BITS: usize = 24;
/// Bits of an IPv6 address: what a home is given (RFC 6177 §2), so that a device may move between its networks and change
/// the lower half as often as it likes (RFC 8981).
const V6_BITS: usize = 56;
/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 8;

/// What sessions are bound to. Nothing by default: a phone changes its network while it plays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "Vec<BoundTo>")]
pub struct Binding {
    /// The first bits of the viewer's address.
    pub address: bool,
    /// The `User-Agent` of their player.
    pub agent: bool,
}

/// One thing that a session can be bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BoundTo {
    /// The address.
    Ip,
    /// The player.
    UserAgent,
}

impl From<Vec<BoundTo>> for Binding {
    fn from(to: Vec<BoundTo>) -> Binding {
        Binding { address: to.contains(&BoundTo::Ip), agent: to.contains(&BoundTo::UserAgent) }
    }
}

/// Who presents a credential.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presenter<'a> {
    /// Where they come from. Not knowing it fits nothing.
    pub address: Option<IpAddr>,
    /// Their `User-Agent`; coming without one is a way to come, too.
    pub agent: Option<&'a [u8]>,
}

impl Presenter<'_> {
    pub(super) fn address_tag(&self, key: &hmac::Key, session: &[u8; 16]) -> [u8; TAG_BYTES] {
        match self.address.map(|address| address.to_canonical()) {
            Some(IpAddr::V4(address)) => tag(key, session, b"v4", &address.octets()[..V4_BITS / 8]),
            Some(IpAddr::V6(address)) => tag(key, session, b"v6", &address.octets()[..V6_BITS / 8]),
            None => tag(key, session, b"nowhere", b""),
        }
    }

    pub(super) fn agent_tag(&self, key: &hmac::Key, session: &[u8; 16]) -> [u8; TAG_BYTES] {
        match self.agent {
            Some(agent) => tag(key, session, b"agent", agent),
            None => tag(key, session, b"no agent", b""),
        }
    }
}

/// The session's id is as long each time, and no kind is the beginning of another: no two inputs are spelt alike.
fn tag(key: &hmac::Key, session: &[u8; 16], kind: &[u8], value: &[u8]) -> [u8; TAG_BYTES] {
    let mut mac = hmac::Context::with_key(key);
    mac.update(b"releve session binding 1\0");
    mac.update(session);
    mac.update(kind);
    mac.update(b"\0");
    mac.update(value);
    let mut tag = [0; TAG_BYTES];
    tag.copy_from_slice(&mac.sign().as_ref()[..TAG_BYTES]);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address_tag(address: &str) -> [u8; TAG_BYTES] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        Presenter { address: address.parse().ok(), agent: None }.address_tag(&key, &[2; 16])
    }

    #[test]
    fn neighbours_are_one_and_others_are_not() {
        assert_eq!(address_tag("192.0.2.1"), address_tag("192.0.2.255"));
        assert_eq!(address_tag("192.0.2.1"), address_tag("::ffff:192.0.2.9"));
        assert_eq!(address_tag("2001:db8:1:200::1"), address_tag("2001:db8:1:2ff:9::"));
        for (one, other) in [
            ("192.0.2.1", "192.0.3.1"),
            ("192.0.2.1", "193.0.2.1"),
            ("2001:db8:1:200::1", "2001:db8:1:300::1"),
            ("2001:db8:1:200::1", "2001:db9:1:200::1"),
            ("192.0.2.1", "c000:200::"), // the same first bits
            ("192.0.2.1", "unknown"),
        ] {
            assert_ne!(address_tag(one), address_tag(other), "{one} {other}");
        }
    }

    #[test]
    fn tags_differ_by_session_key_and_player() {
        let tag = |key: u8, session: u8, agent: Option<&[u8]>| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &[key; 32]);
            Presenter { address: None, agent }.agent_tag(&key, &[session; 16])
        };
        let one = tag(1, 1, Some(b"VLC/3.0.21"));
        assert_eq!(one, tag(1, 1, Some(b"VLC/3.0.21")));
        for other in
            [tag(2, 1, Some(b"VLC/3.0.21")), tag(1, 2, Some(b"VLC/3.0.21")), tag(1, 1, Some(b"VLC/3.0.2"))]
        {
            assert_ne!(one, other);
        }
        assert_ne!(tag(1, 1, None), tag(1, 1, Some(b"")));
    }
}
