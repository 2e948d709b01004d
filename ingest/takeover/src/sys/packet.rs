//! A raw packet socket on one interface, and interface numbers.
//!
//! packet(7), if_nametoindex(3).

use super::netlink::receive;
use super::option;
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, SockFilter, Socket, Type};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

const ETH_P_ALL: u16 = 3;
/// `PACKET_IGNORE_OUTGOING`.
const IGNORE_OUTGOING: i32 = 23;

/// Whole Ethernet frames of one interface, in and out.
#[derive(Debug)]
pub(crate) struct PacketSocket(Socket);

/// The number of an interface of this network namespace.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let name = CString::new(name).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // SAFETY: the pointer is to a string that ends with zero and lives through the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

impl PacketSocket {
    /// Opens the socket with a filter that names the frames it wants; our own frames are never among them.
    pub(crate) fn open(interface: u32, filter: &[SockFilter]) -> io::Result<Self> {
        // Protocol 0 receives nothing yet: the filter is in place before the first frame.
        let socket = Socket::new(Domain::from(libc::AF_PACKET), Type::RAW, Some(Protocol::from(0)))?;
        socket.attach_filter(filter)?;
        option::set_int(&socket, libc::SOL_PACKET, IGNORE_OUTGOING, 1)?;
        socket.bind(&link_address(interface))?;
        Ok(Self(socket))
    }

    /// The interface's own hardware address; `None` when it has none of six bytes.
    pub(crate) fn hardware_address(&self) -> io::Result<Option<[u8; 6]>> {
        let mut storage = SockAddrStorage::zeroed();
        let local = self.0.local_addr()?;
        if usize::try_from(local.len()).is_ok_and(|length| length > size_of::<SockAddrStorage>()) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        // SAFETY: `local` holds an address the kernel wrote for a packet socket, so its bytes are a sockaddr_ll (the
        // eight-byte address field may be cut; the zeroed storage fills it). sockaddr_ll fits into the storage.
        let address = unsafe {
            let target: &mut libc::sockaddr_ll = storage.view_as();
            std::ptr::copy_nonoverlapping(
                local.as_ptr().cast::<u8>(),
                std::ptr::from_mut(target).cast::<u8>(),
                (local.len() as usize).min(size_of::<libc::sockaddr_ll>()),
            );
            *target
        };
        let [a, b, c, d, e, f, ..] = address.sll_addr;
        Ok((address.sll_halen == 6).then_some([a, b, c, d, e, f]))
    }

    pub(crate) fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(|_| ())
    }

    /// One frame, cut to the buffer; `None` when there is none.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        match receive(&self.0, buffer, libc::MSG_DONTWAIT) {
            Ok(count) => Ok(Some(&buffer[..count])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn link_address(interface: u32) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll fits into the storage (the kernel's own type for any address) and all-zero bytes are valid
    // for it; the length given is its size.
    unsafe {
        let address: &mut libc::sockaddr_ll = storage.view_as();
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_protocol = ETH_P_ALL.to_be();
        address.sll_ifindex = interface as i32;
        SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t)
    }
}
