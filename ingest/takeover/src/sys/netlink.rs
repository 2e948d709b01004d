//! Netlink: one socket, messages built by hand, answers read in the same breath.
//!
//! In: bytes of requests. Out: the kernel's verdict on each, or the payloads it sends by itself. netlink(7);
//! attribute layout as in linux/netlink.h.

use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

/// `NLMSG_ERROR`: the verdict on a request (zero is success).
const ERROR: u16 = 2;
/// Bytes of `nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// The kernel's answers to our requests are short; one that is longer is cut and refused.
const ANSWER_MAX: usize = 8192;

/// Header flag: this is a request.
pub(crate) const REQUEST: u16 = 1;
/// Header flag: answer even on success.
pub(crate) const ACK: u16 = 4;
/// Header flag: refuse when it exists.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// Header flag: create when it does not exist.
pub(crate) const CREATE: u16 = 0x400;
/// Header flag: after what is there.
pub(crate) const APPEND: u16 = 0x800;

/// A netlink socket of one family.
#[derive(Debug)]
pub(crate) struct Netlink(Socket);

impl Netlink {
    pub(crate) fn open(family: i32) -> io::Result<Self> {
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(family)))?;
        socket.bind(&kernel_address())?;
        Ok(Self(socket))
    }

    /// The underlying socket, for options and waiting.
    pub(crate) fn socket(&self) -> &Socket {
        &self.0
    }

    pub(crate) fn send(&self, message: &[u8]) -> io::Result<()> {
        let sent = self.0.send(message)?;
        if sent == message.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// One datagram; `None` when there is none.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match receive(&self.0, buffer, libc::MSG_DONTWAIT) {
            Ok(count) => Ok(Some(&buffer[..count])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends requests that carry [`ACK`] and reads the verdicts. Gives the first refusal.
    ///
    /// The kernel works through a request inside the call that sends it, so all verdicts are there when it returns,
    /// and this never waits.
    pub(crate) fn transact(&self, messages: &[u8]) -> io::Result<()> {
        self.ask(messages, |_, _| ())
    }

    /// As [`transact`](Self::transact), and shows every other answer: (type, body).
    pub(crate) fn ask(&self, messages: &[u8], mut answer: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.send(messages)?;
        let mut buffer = [0; ANSWER_MAX];
        let mut outcome = Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        let mut refused = false;
        while let Some(datagram) = self.receive(&mut buffer)? {
            for (kind, body) in Messages(datagram) {
                if kind != ERROR {
                    answer(kind, body);
                    continue;
                }
                let code = body.first_chunk().map_or(-libc::EBADMSG, |bytes| i32::from_ne_bytes(*bytes));
                if code != 0 && !refused {
                    refused = true;
                    outcome = Err(io::Error::from_raw_os_error(code.saturating_neg()));
                } else if !refused {
                    outcome = Ok(());
                }
            }
        }
        outcome
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn kernel_address() -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_nl fits into the storage (the kernel's own type for any address) and all-zero bytes are valid
    // for it; the length given is its size.
    unsafe {
        let address: &mut libc::sockaddr_nl = storage.view_as();
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        SockAddr::new(storage, size_of::<libc::sockaddr_nl>() as libc::socklen_t)
    }
}

/// Receives into initialised memory, which socket2 only offers for uninitialised.
pub(crate) fn receive(socket: &Socket, buffer: &mut [u8], flags: i32) -> io::Result<usize> {
    // SAFETY: u8 and MaybeUninit<u8> have the same layout, and socket2 promises not to write uninitialised bytes.
    let buffer = unsafe { &mut *(std::ptr::from_mut(buffer) as *mut [MaybeUninit<u8>]) };
    socket.recv_with_flags(buffer, flags)
}

/// The messages of a datagram: (type, what follows the header). Stops at the first that does not fit.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?) as usize;
        let message = self.0.get(..length).filter(|message| message.len() >= HEADER)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((u16::from_ne_bytes([message[4], message[5]]), &message[HEADER..]))
    }
}

/// The attributes of a message: (type without flags, value). Stops at the first that does not fit.
pub(crate) struct Attributes<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let attribute = self.0.get(..length).filter(|attribute| attribute.len() >= 4)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Some((u16::from_ne_bytes([attribute[2], attribute[3]]) & 0x3fff, &attribute[4..]))
    }
}

fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}

/// Writes one message: header, the family's own fixed part, attributes.
pub(crate) fn message(kind: u16, flags: u16, sequence: u32, fixed: &[u8], attributes: &Written) -> Vec<u8> {
    let length = HEADER + aligned(fixed.len()) + attributes.0.len();
    let mut bytes = Vec::with_capacity(length);
    bytes.extend((length as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(fixed);
    bytes.resize(HEADER + aligned(fixed.len()), 0);
    bytes.extend(&attributes.0);
    bytes
}

/// Attributes being written.
#[derive(Debug, Default)]
pub(crate) struct Written(Vec<u8>);

impl Written {
    pub(crate) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(value.len() + 4).expect("attributes of ours are shorter than a page");
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(aligned(self.0.len()), 0);
        self
    }

    /// A number in network order, as netfilter wants them.
    pub(crate) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// A string with its closing zero.
    pub(crate) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// An attribute made of attributes.
    pub(crate) fn nested(self, kind: u16, inner: Self) -> Self {
        const NESTED: u16 = 0x8000;
        self.bytes(kind | NESTED, &inner.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_nonsense_stops_the_reader() {
        let inner = Written::default().number(7, 1);
        let attributes = Written::default().text(1, "abc").nested(2, inner).bytes(3, &[9]);
        let bytes = message(0x123, REQUEST, 5, &[1, 2], &attributes);
        assert_eq!(bytes.len() % 4, 0);
        let (kind, body) = Messages(&bytes).next().unwrap();
        assert_eq!((kind, &body[..4]), (0x123, &[1, 2, 0, 0][..]));
        let read: Vec<_> = Attributes(&body[4..]).collect();
        assert_eq!(read.len(), 3);
        assert_eq!(read[0], (1, &b"abc\0"[..]));
        assert_eq!(Attributes(read[1].1).next(), Some((7, &[0, 0, 0, 1][..])));
        assert_eq!(read[2], (3, &[9][..]));
        assert_eq!(Messages(&[255; 40]).count(), 0);
        assert_eq!(Messages(&[0; 40]).count(), 0);
        assert_eq!(Attributes(&[0; 8]).count(), 0);
    }
}
