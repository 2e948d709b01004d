//! A connection state as bytes, for the link between the two hosts.
//!
//! Total: any bytes give a state or an [`Error::Encoding`] that names the offset, and no length in them sizes an
//! allocation (a queue is copied from bytes that are there). Version 1, big-endian:
//!
//! ```text
//! "TK" version=1 flags │ local │ peer │ mss u16 │ scales u8 u8 │ timestamp u32 │ receive_next u32 │ write_next u32
//! unsent u32 │ window 5 × u32 │ unread: u32 length, bytes │ unacknowledged: u32 length, bytes
//! address: 4 or 6, 4 or 16 bytes, port u16        flags: 1 SACK, 2 scale, 4 timestamp, 8 window
//! ```
//!
//! A field whose flag is off is zero. Authenticity is the link's business.

use super::error::Error;
use super::state::{Options, QUEUE_MAX, Scale, TcpState, Window};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const MAGIC: [u8; 2] = *b"TK";
const VERSION: u8 = 1;
const SACK: u8 = 1;
const SCALE: u8 = 2;
const TIMESTAMP: u8 = 4;
const WINDOW: u8 = 8;
/// RFC 7323, section 2.3.
const SCALE_MAX: u8 = 14;

impl TcpState {
    /// The state as bytes, version 1.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.unread.len() + self.unacknowledged.len());
        let options = &self.options;
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        out.extend(MAGIC);
        out.push(VERSION);
        out.push(
            flag(options.sack, SACK)
                | flag(options.scale.is_some(), SCALE)
                | flag(options.timestamp.is_some(), TIMESTAMP)
                | flag(self.window.is_some(), WINDOW),
        );
        for end in [self.local, self.peer] {
            match end.ip() {
                IpAddr::V4(address) => {
                    out.push(4);
                    out.extend(address.octets());
                }
                IpAddr::V6(address) => {
                    out.push(6);
                    out.extend(address.octets());
                }
            }
            out.extend(end.port().to_be_bytes());
        }
        out.extend(options.segment_max.to_be_bytes());
        let scale = options.scale.unwrap_or(Scale { send: 0, receive: 0 });
        out.extend([scale.send, scale.receive]);
        let window =
            self.window.unwrap_or(Window { update: 0, send: 0, send_max: 0, receive: 0, receive_update: 0 });
        let numbers = [
            options.timestamp.unwrap_or(0),
            self.receive_next,
            self.write_next,
            self.unsent as u32,
            window.update,
            window.send,
            window.send_max,
            window.receive,
            window.receive_update,
        ];
        out.extend(numbers.iter().flat_map(|number| number.to_be_bytes()));
        for queue in [&self.unread, &self.unacknowledged] {
            out.extend((queue.len() as u32).to_be_bytes());
            out.extend(queue);
        }
        out
    }

    /// Reads a state that [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// [`Error::Encoding`], [`Error::QueueTooLong`], [`Error::MixedFamilies`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader { bytes, offset: 0 };
        if reader.take::<2>("the magic bytes")? != MAGIC {
            return Err(reader.broken("the magic bytes"));
        }
        if reader.byte("the version")? != VERSION {
            return Err(reader.broken("version 1"));
        }
        let flags = reader.byte("the flags")?;
        if flags & !(SACK | SCALE | TIMESTAMP | WINDOW) != 0 {
            return Err(reader.broken("known flags only"));
        }
        let local = reader.address()?;
        let peer = reader.address()?;
        if local.is_ipv4() != peer.is_ipv4() {
            return Err(Error::MixedFamilies { local, peer });
        }
        let segment_max = u16::from_be_bytes(reader.take("the segment size")?);
        if segment_max == 0 {
            return Err(reader.broken("a segment size above zero"));
        }
        let [send, receive] = reader.take("the window scales")?;
        if send > SCALE_MAX || receive > SCALE_MAX {
            return Err(reader.broken("window scales of at most 14"));
        }
        let timestamp = reader.number("the timestamp")?;
        let receive_next = reader.number("the receive sequence number")?;
        let write_next = reader.number("the send sequence number")?;
        let unsent = reader.number("the unsent length")? as usize;
        let window = Window {
            update: reader.number("the window")?,
            send: reader.number("the window")?,
            send_max: reader.number("the window")?,
            receive: reader.number("the window")?,
            receive_update: reader.number("the window")?,
        };
        let unread = reader.queue("receive")?;
        let unacknowledged = reader.queue("send")?;
        if unsent > unacknowledged.len() {
            return Err(reader.broken("an unsent part no longer than its queue"));
        }
        if reader.offset != bytes.len() {
            return Err(reader.broken("the end"));
        }
        Ok(Self {
            local,
            peer,
            options: Options {
                segment_max,
                sack: flags & SACK != 0,
                scale: (flags & SCALE != 0).then_some(Scale { send, receive }),
                timestamp: (flags & TIMESTAMP != 0).then_some(timestamp),
            },
            receive_next,
            unread,
            write_next,
            unacknowledged,
            unsent,
            window: (flags & WINDOW != 0).then_some(window),
        })
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    fn broken(&self, what: &'static str) -> Error {
        Error::Encoding { offset: self.offset, what }
    }

    fn slice(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], Error> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        let taken = rest.get(..length).ok_or(self.broken(what))?;
        self.offset += length;
        Ok(taken)
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Error> {
        let slice = self.slice(N, what)?;
        Ok(*slice.first_chunk().expect("the slice was cut to this length"))
    }

    fn byte(&mut self, what: &'static str) -> Result<u8, Error> {
        let [byte] = self.take(what)?;
        Ok(byte)
    }

    fn number(&mut self, what: &'static str) -> Result<u32, Error> {
        Ok(u32::from_be_bytes(self.take(what)?))
    }

    fn address(&mut self) -> Result<SocketAddr, Error> {
        let ip = match self.byte("an address family")? {
            4 => IpAddr::V4(Ipv4Addr::from(self.take::<4>("an IPv4 address")?)),
            6 => IpAddr::V6(Ipv6Addr::from(self.take::<16>("an IPv6 address")?)),
            _ => return Err(self.broken("address family 4 or 6")),
        };
        Ok(SocketAddr::new(ip, u16::from_be_bytes(self.take("a port")?)))
    }

    fn queue(&mut self, queue: &'static str) -> Result<Vec<u8>, Error> {
        let length = self.number("a queue length")? as usize;
        if length > QUEUE_MAX {
            return Err(Error::QueueTooLong { queue, length, max: QUEUE_MAX });
        }
        Ok(self.slice(length, "the bytes of a queue")?.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state() -> impl Strategy<Value = TcpState> {
        let ends = prop_oneof![
            (any::<[u8; 4]>(), any::<[u8; 4]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
            (any::<[u8; 16]>(), any::<[u8; 16]>()).prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        ];
        let options = (
            1..=u16::MAX,
            any::<bool>(),
            proptest::option::of((0..=14_u8, 0..=14_u8)),
            proptest::option::of(any::<u32>()),
        );
        let window = proptest::option::of(any::<[u32; 5]>());
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        (ends, any::<(u16, u16, u32, u32)>(), options, bytes(), bytes(), window, any::<prop::sample::Index>())
            .prop_map(|(ends, numbers, options, unread, unacknowledged, window, unsent)| TcpState {
                local: SocketAddr::new(ends.0, numbers.0),
                peer: SocketAddr::new(ends.1, numbers.1),
                options: Options {
                    segment_max: options.0,
                    sack: options.1,
                    scale: options.2.map(|(send, receive)| Scale { send, receive }),
                    timestamp: options.3,
                },
                receive_next: numbers.2,
                write_next: numbers.3,
                unsent: unsent.index(unacknowledged.len() + 1),
                unread,
                unacknowledged,
                window: window.map(|[update, send, send_max, receive, receive_update]| Window {
                    update,
                    send,
                    send_max,
                    receive,
                    receive_update,
                }),
            })
    }

    proptest! {
        #[test]
        fn reads_back_what_it_wrote(state in state()) {
            prop_assert_eq!(TcpState::decode(&state.encode()).unwrap(), state);
        }

        #[test]
        fn every_shorter_or_longer_form_is_refused(state in state(), cut in any::<prop::sample::Index>()) {
            let bytes = state.encode();
            prop_assert!(TcpState::decode(&bytes[..cut.index(bytes.len())]).is_err());
            let longer = [&bytes[..], &[0]].concat();
            prop_assert!(TcpState::decode(&longer).is_err());
        }

        #[test]
        fn damaged_bytes_never_panic(state in state(), at in any::<prop::sample::Index>(), value in any::<u8>()) {
            let mut bytes = state.encode();
            let at = at.index(bytes.len());
            bytes[at] = value;
            if let Ok(read) = TcpState::decode(&bytes) {
                prop_assert_eq!(read.in_flight().len() + read.unsent_bytes().len(), read.unacknowledged.len());
            }
        }

        #[test]
        fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(noise.starts_with(b"TK") || TcpState::decode(&noise).is_err());
        }
    }

    #[test]
    fn a_queue_length_without_bytes_is_refused_at_its_place() {
        let empty = TcpState {
            local: "192.0.2.1:1935".parse().unwrap(),
            peer: "192.0.2.2:4000".parse().unwrap(),
            options: Options { segment_max: 1460, sack: true, scale: None, timestamp: None },
            receive_next: 1,
            unread: Vec::new(),
            write_next: 2,
            unacknowledged: Vec::new(),
            unsent: 0,
            window: None,
        };
        let mut bytes = empty.encode();
        let length = bytes.len();
        bytes[length - 8..length - 4].copy_from_slice(&(1_u32 << 20).to_be_bytes());
        let error = TcpState::decode(&bytes).unwrap_err();
        assert!(matches!(error, Error::Encoding { offset, .. } if offset == length - 4), "{error}");
        bytes[length - 8..length - 4].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(TcpState::decode(&bytes), Err(Error::QueueTooLong { queue: "receive", .. })));
    }
}
