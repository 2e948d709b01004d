//! Unsolicited neighbour advertisement: what gratuitous ARP is for IPv4, for IPv6.
//!
//! In: both addresses. Out: one frame to all nodes with the Override flag. Pure. RFC 4861, sections 4.4 and 7.2.6.

use super::Mac;
use std::net::Ipv6Addr;

/// EtherType of IPv6.
pub const ETHERTYPE: u16 = 0x86dd;
/// Next header of ICMPv6.
pub const ICMP: u8 = 58;
/// ICMPv6 type of a neighbour advertisement.
pub const ADVERTISEMENT: u8 = 136;
/// Option: target link-layer address.
pub const TARGET_LINK_LAYER: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];
const OVERRIDE: u8 = 0x20;
const MESSAGE: usize = 32;

/// The announcement.
pub fn unsolicited(mac: Mac, ip: Ipv6Addr) -> [u8; 86] {
    let mut frame = [0; 86];
    frame[..6].copy_from_slice(&ALL_NODES_MAC);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    frame[14] = 0x60;
    frame[18..20].copy_from_slice(&(MESSAGE as u16).to_be_bytes());
    frame[20] = ICMP;
    frame[21] = 255; // receivers refuse anything that came through a router
    frame[22..38].copy_from_slice(&ip.octets());
    frame[38..54].copy_from_slice(&ALL_NODES.octets());
    frame[54] = ADVERTISEMENT;
    frame[58] = OVERRIDE;
    frame[62..78].copy_from_slice(&ip.octets());
    frame[78..80].copy_from_slice(&[TARGET_LINK_LAYER, 1]);
    frame[80..86].copy_from_slice(&mac);
    let sum = checksum(ip, ALL_NODES, &frame[54..]);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// ICMPv6 checksum (RFC 4443, section 2.3) over a message whose checksum field is zero; over a whole message it is 0.
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = (message.len() as u32).to_be_bytes();
    let pseudo = [&source.octets()[..], &destination.octets(), &length, &[0, 0, 0, ICMP]].concat();
    let words = |bytes: &[u8]| -> u32 {
        bytes
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte)))
            .sum()
    };
    let mut sum = words(&pseudo) + words(message);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_byte_by_byte() {
        let ip: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let frame = unsolicited([2, 0, 0, 0, 0, 0xa], ip);
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xa, 0x86, 0xdd]);
        assert_eq!(frame[14..22], [0x60, 0, 0, 0, 0, 32, 58, 255]);
        assert_eq!(frame[54..56], [136, 0]);
        assert_eq!(frame[58..62], [0x20, 0, 0, 0]);
        assert_eq!(frame[62..78], ip.octets());
        assert_eq!(frame[78..], [2, 1, 2, 0, 0, 0, 0, 0xa]);
        assert_eq!(checksum(ip, ALL_NODES, &frame[54..]), 0, "a whole message sums to zero");
    }

    #[test]
    fn the_checksum_of_a_known_message() {
        // Echo request 8000 0001 0001 from ::1 to ::1, summed by hand: 1+1+8+3a+8000+1+1 = 8046, inverted 7fb9.
        let message = [0x80, 0, 0, 0, 0, 1, 0, 1];
        assert_eq!(checksum(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, &message), 0x7fb9);
    }
}
