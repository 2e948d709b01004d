//! Headers of one outgoing TCP segment.
//!
//! In: the bytes of an IP packet, possibly cut after the headers. Out: a [`Segment`], or `None` for anything else. Pure.
//! RFC 791, RFC 8200 (with hop-by-hop and destination options skipped), RFC 9293.

use super::flow::{Base, Flow};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const TCP: u8 = 6;
/// IPv6 extension headers that may stand before TCP on our own output: hop-by-hop, destination options.
const EXTENSIONS: [u8; 2] = [0, 60];
const EXTENSIONS_MAX: usize = 4;

/// What decides about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which connection.
    pub flow: Flow,
    /// Sequence number of the first byte.
    pub sequence: u32,
    /// The sequence number after the last, FIN included.
    pub end: u32,
    /// The acknowledgement, if the packet carries one.
    pub acknowledges: Option<u32>,
    /// RST.
    pub reset: bool,
    /// Set for a SYN-ACK.
    pub syn_ack: Option<SynAck>,
}

/// What our SYN-ACK tells about a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynAck {
    /// The first sequence numbers.
    pub base: Base,
    /// The segment size we offer, bytes.
    pub segment_max: Option<u16>,
    /// Selective acknowledgement was agreed.
    pub sack: bool,
    /// The shift of our windows, if scaling was agreed.
    pub scale: Option<u8>,
    /// Our timestamp clock, if timestamps were agreed.
    pub timestamp: Option<u32>,
}

impl Segment {
    /// Reads the headers of an IPv4 or IPv6 packet. `None` when it is not a whole TCP header from its first fragment.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let (source, destination, tcp, length) = match packet.first()? >> 4 {
            4 => internet_4(packet)?,
            6 => internet_6(packet)?,
            _ => return None,
        };
        let header: &[u8; 20] = tcp.first_chunk()?;
        let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let offset = usize::from(header[12] >> 4) * 4;
        let options = tcp.get(20..offset)?;
        let payload = length.checked_sub(offset)?;
        let flags = header[13];
        let (fin, syn, reset, ack) = (flags & 1, flags >> 1 & 1, flags & 4 != 0, flags & 16 != 0);
        let sequence = word(4);
        let length = payload as u32 + u32::from(fin) + u32::from(syn);
        let base = Base { received: word(8), sent: sequence.wrapping_add(1) };
        Some(Self {
            flow: Flow {
                local: SocketAddr::new(source, port(0)),
                peer: SocketAddr::new(destination, port(2)),
            },
            sequence,
            end: sequence.wrapping_add(length),
            acknowledges: ack.then(|| word(8)),
            reset,
            syn_ack: (syn == 1 && ack && !reset).then(|| handshake(base, options)),
        })
    }
}

type Parts<'a> = (IpAddr, IpAddr, &'a [u8], usize);

fn internet_4(packet: &[u8]) -> Option<Parts<'_>> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let start = usize::from(header[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let fragment_offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[9] != TCP || fragment_offset != 0 || start < 20 {
        return None;
    }
    let address =
        |at: usize| IpAddr::from(Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]));
    Some((address(12), address(16), packet.get(start..)?, total.checked_sub(start)?))
}

fn internet_6(packet: &[u8]) -> Option<Parts<'_>> {
    let header: &[u8; 40] = packet.first_chunk()?;
    let mut length = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let mut next = header[6];
    let mut start = 40;
    for _ in 0..EXTENSIONS_MAX {
        if !EXTENSIONS.contains(&next) {
            break;
        }
        let extension: &[u8; 2] = packet.get(start..)?.first_chunk()?;
        let size = (usize::from(extension[1]) + 1) * 8;
        next = extension[0];
        start += size;
        length = length.checked_sub(size)?;
    }
    let address = |at: usize| {
        let octets: [u8; 16] = *header[at..].first_chunk().expect("the header has forty bytes");
        IpAddr::from(Ipv6Addr::from(octets))
    };
    (next == TCP).then_some(())?;
    Some((address(8), address(24), packet.get(start..)?, length))
}

/// Options of a SYN-ACK; nonsense ends the reading.
fn handshake(base: Base, mut options: &[u8]) -> SynAck {
    let mut seen = SynAck { base, segment_max: None, sack: false, scale: None, timestamp: None };
    while let Some((&kind, rest)) = options.split_first() {
        if kind == 1 {
            options = rest;
            continue;
        }
        let Some(length) = rest.first().map(|&length| usize::from(length)) else { break };
        let Some(value) = options.get(2..length).filter(|_| kind != 0) else { break };
        match (kind, value) {
            (2, [high, low]) => seen.segment_max = Some(u16::from_be_bytes([*high, *low])),
            (3, [shift]) => seen.scale = Some((*shift).min(14)),
            (4, []) => seen.sack = true,
            (8, [a, b, c, d, ..]) => seen.timestamp = Some(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => {}
        }
        options = &options[length..];
    }
    seen
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An IPv4 packet of ours with the given TCP flags, options and payload length.
    pub(crate) fn packet(seq: u32, ack: u32, flags: u8, options: &[u8], payload: usize) -> Vec<u8> {
        let mut tcp = vec![0x07, 0x8f, 0xc3, 0x50];
        tcp.extend(seq.to_be_bytes());
        tcp.extend(ack.to_be_bytes());
        tcp.extend([(5 + options.len() as u8 / 4) << 4, flags, 1, 0, 0, 0, 0, 0]);
        tcp.extend(options);
        tcp.extend(vec![0; payload]);
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, TCP, 0, 0, 192, 0, 2, 1, 192, 0, 2, 9];
        let total = (ip.len() + tcp.len()) as u16;
        ip[2..4].copy_from_slice(&total.to_be_bytes());
        [ip, tcp].concat()
    }

    #[test]
    fn reads_a_syn_ack_with_the_options_linux_sends() {
        let options = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 1, 0, 0, 0, 0, 9, 1, 3, 3, 7];
        let segment = Segment::parse(&packet(999, 500, 0x12, &options, 0)).unwrap();
        assert_eq!(segment.flow.local, "192.0.2.1:1935".parse().unwrap());
        assert_eq!(segment.flow.peer, "192.0.2.9:50000".parse().unwrap());
        assert_eq!(segment.end, 1000);
        let expected = SynAck {
            base: Base { received: 500, sent: 1000 },
            segment_max: Some(1460),
            sack: true,
            scale: Some(7),
            timestamp: Some(256),
        };
        assert_eq!(segment.syn_ack, Some(expected));
    }

    #[test]
    fn fin_counts_one_and_numbers_wrap() {
        let segment = Segment::parse(&packet(u32::MAX, 7, 0x11, &[], 10)).unwrap();
        assert_eq!((segment.end, segment.acknowledges, segment.reset), (10, Some(7), false));
        let reset = Segment::parse(&packet(5, 0, 0x04, &[], 0)).unwrap();
        assert!(reset.reset && reset.acknowledges.is_none());
    }

    #[test]
    fn reads_ipv6_behind_an_extension_header() {
        let tcp = &packet(1, 2, 0x10, &[], 4)[20..];
        let mut ip = vec![0x60, 0, 0, 0, 0, (tcp.len() + 8) as u8, 0, 64];
        ip.extend("2001:db8::1".parse::<Ipv6Addr>().unwrap().octets());
        ip.extend("2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        ip.extend([TCP, 0, 1, 4, 0, 0, 0, 0]);
        ip.extend(tcp);
        let segment = Segment::parse(&ip).unwrap();
        assert_eq!(segment.flow.local, "[2001:db8::1]:1935".parse().unwrap());
        assert_eq!((segment.sequence, segment.end), (1, 5));
    }

    #[test]
    fn only_the_headers_are_needed() {
        let whole = packet(1, 2, 0x10, &[], 1000);
        assert_eq!(Segment::parse(&whole[..40]), Segment::parse(&whole));
        assert_eq!(Segment::parse(&whole[..39]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..120), version in 4..7_u8) {
            let mut bytes = bytes;
            let _ = Segment::parse(&bytes);
            if let Some(first) = bytes.first_mut() {
                *first = version << 4 | *first & 15;
            }
            let _ = Segment::parse(&bytes);
        }

        #[test]
        fn any_options_give_an_answer(options in proptest::collection::vec(any::<u8>(), 0..=10)) {
            let mut options = options;
            options.resize(options.len().next_multiple_of(4), 0);
            prop_assert!(Segment::parse(&packet(1, 1, 0x12, &options, 0)).unwrap().syn_ack.is_some());
        }
    }
}
