//! Gratuitous ARP: "this IPv4 address is at this Ethernet address", unasked.
//!
//! In: both addresses. Out: two broadcast frames, a request and a reply, because some equipment updates its table on
//! one only. Pure. RFC 826, RFC 5227 (section 3), RFC 5944 (section 4.6).

use super::Mac;
use std::net::Ipv4Addr;

/// EtherType of ARP.
pub const ETHERTYPE: u16 = 0x0806;
const BROADCAST: Mac = [0xff; 6];

/// The announcement, as a request and as a reply.
pub fn gratuitous(mac: Mac, ip: Ipv4Addr) -> [[u8; 42]; 2] {
    // A request asks for its own address with an empty target; a reply is addressed to everybody.
    [frame(1, mac, ip, [0; 6]), frame(2, mac, ip, BROADCAST)]
}

fn frame(operation: u8, mac: Mac, ip: Ipv4Addr, target: Mac) -> [u8; 42] {
    let mut frame = [0; 42];
    frame[..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    // Ethernet, IPv4, address lengths, operation
    frame[14..22].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&ip.octets());
    frame[32..38].copy_from_slice(&target);
    frame[38..42].copy_from_slice(&ip.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_frames_byte_by_byte() {
        let [request, reply] = gratuitous([2, 0, 0, 0, 0, 0xa], Ipv4Addr::new(192, 0, 2, 7));
        assert_eq!(
            request,
            [
                0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0xa, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0,
                0, 0, 0, 0xa, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7
            ]
        );
        assert_eq!(reply[20..22], [0, 2]);
        assert_eq!(reply[32..38], [0xff; 6]);
    }
}
