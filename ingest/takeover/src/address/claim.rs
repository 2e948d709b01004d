//! Claims: somebody says that an address is his.
//!
//! In: an Ethernet frame. Out: which address, and who. Pure. ARP of both kinds by their sender fields (RFC 826; a probe
//! with sender 0.0.0.0 claims nothing, RFC 5227), neighbour advertisements by their target (RFC 4861, section 7.1.2).

use super::{Mac, arp, neighbour};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A claim seen on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The address claimed.
    pub ip: IpAddr,
    /// The Ethernet address it is said to be at.
    pub mac: Mac,
}

impl Claim {
    /// Reads a frame; `None` when it claims nothing.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let ethernet: &[u8; 14] = frame.first_chunk()?;
        let body = &frame[14..];
        match u16::from_be_bytes([ethernet[12], ethernet[13]]) {
            arp::ETHERTYPE => Self::from_arp(body),
            neighbour::ETHERTYPE => Self::from_advertisement(body, ethernet),
            _ => None,
        }
    }

    fn from_arp(body: &[u8]) -> Option<Self> {
        let body: &[u8; 28] = body.first_chunk()?;
        let known = body[..6] == [0, 1, 8, 0, 6, 4] && matches!(body[6..8], [0, 1 | 2]);
        let ip = Ipv4Addr::new(body[14], body[15], body[16], body[17]);
        let mac = *body[8..].first_chunk()?;
        (known && !ip.is_unspecified()).then_some(Self { ip: ip.into(), mac })
    }

    fn from_advertisement(body: &[u8], ethernet: &[u8; 14]) -> Option<Self> {
        let header: &[u8; 40] = body.first_chunk()?;
        if header[0] >> 4 != 6 || header[6] != neighbour::ICMP || header[7] != 255 {
            return None;
        }
        let message: &[u8; 24] = body.get(40..)?.first_chunk()?;
        if message[..2] != [neighbour::ADVERTISEMENT, 0] {
            return None;
        }
        let target: [u8; 16] = *message[8..].first_chunk()?;
        let sender: Mac = *ethernet[6..].first_chunk()?;
        let mac = target_option(&body[64..]).unwrap_or(sender);
        Some(Self { ip: Ipv6Addr::from(target).into(), mac })
    }
}

fn target_option(mut options: &[u8]) -> Option<Mac> {
    while let [kind, eights, ..] = options {
        let option = options.get(..usize::from(*eights) * 8).filter(|option| !option.is_empty())?;
        if *kind == neighbour::TARGET_LINK_LAYER {
            return option.get(2..8)?.first_chunk().copied();
        }
        options = &options[option.len()..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 9];

    #[test]
    fn our_own_announcements_read_as_claims() {
        let ip = Ipv4Addr::new(192, 0, 2, 7);
        for frame in arp::gratuitous(MAC, ip) {
            assert_eq!(Claim::parse(&frame), Some(Claim { ip: ip.into(), mac: MAC }));
        }
        let ip: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let frame = neighbour::unsolicited(MAC, ip);
        assert_eq!(Claim::parse(&frame), Some(Claim { ip: ip.into(), mac: MAC }));
        assert_eq!(
            Claim::parse(&frame[..78]),
            Some(Claim { ip: ip.into(), mac: MAC }),
            "sender, without the option"
        );
    }

    #[test]
    fn a_probe_and_a_routed_advertisement_claim_nothing() {
        let [mut probe, _] = arp::gratuitous(MAC, Ipv4Addr::new(192, 0, 2, 7));
        probe[28..32].fill(0);
        assert_eq!(Claim::parse(&probe), None);
        let mut routed = neighbour::unsolicited(MAC, "2001:db8::7".parse().unwrap());
        routed[21] = 254;
        assert_eq!(Claim::parse(&routed), None);
    }

    proptest! {
        #[test]
        fn any_frame_gives_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..100), which in 0..3_u8) {
            let mut bytes = bytes;
            let _ = Claim::parse(&bytes);
            if bytes.len() > 60 {
                let kind = if which == 0 { arp::ETHERTYPE } else { neighbour::ETHERTYPE };
                bytes[12..14].copy_from_slice(&kind.to_be_bytes());
                bytes[14] = 0x60;
                bytes[20..22].copy_from_slice(&[neighbour::ICMP, 255]);
                bytes[54..56].copy_from_slice(&[neighbour::ADVERTISEMENT, 0]);
                let _ = Claim::parse(&bytes);
            }
        }
    }
}
