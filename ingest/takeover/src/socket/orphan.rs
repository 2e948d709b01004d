//! Removes what a killed program left of a connection in the kernel.
//!
//! A process that dies leaves its connections half closed, and such an orphan blocks the way back: the same four
//! numbers cannot be restored beside it. sock_diag(7), `SOCK_DESTROY`. The kernel may answer the peer with a reset when
//! it destroys: call this while the packet hold's rule is installed or after the address has left.

use crate::error::{Purpose, SystemError};
use crate::sys::netlink::{ACK, Netlink, REQUEST, Written, message};
use std::net::{IpAddr, SocketAddr};

/// `NETLINK_SOCK_DIAG`.
const SOCK_DIAG: i32 = 4;
/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;

/// Destroys the kernel's socket with these ends. `false` when there is none.
///
/// # Errors
/// Missing CAP_NET_ADMIN, or a kernel without `CONFIG_INET_DIAG_DESTROY`.
pub fn destroy_orphan(local: SocketAddr, peer: SocketAddr) -> Result<bool, SystemError> {
    let what = "destroy an orphaned connection (SOCK_DESTROY)";
    let link = Netlink::open(SOCK_DIAG).to(what)?;
    match link.transact(&request(local, peer)) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error).to(what),
    }
}

/// `struct inet_diag_req_v2`.
fn request(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let mut fixed = vec![if local.is_ipv4() { AF_INET } else { AF_INET6 }, libc::IPPROTO_TCP as u8, 0, 0];
    fixed.extend(u32::MAX.to_ne_bytes()); // any state
    fixed.extend(local.port().to_be_bytes());
    fixed.extend(peer.port().to_be_bytes());
    for end in [local, peer] {
        match end.ip() {
            IpAddr::V4(address) => fixed.extend([&address.octets()[..], &[0; 12]].concat()),
            IpAddr::V6(address) => fixed.extend(address.octets()),
        }
    }
    fixed.extend(0_u32.to_ne_bytes()); // any interface
    fixed.extend([0xff; 8]); // any cookie
    message(DESTROY, REQUEST | ACK, 1, &fixed, &Written::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_kernels_size() {
        for ends in [("192.0.2.1:1", "192.0.2.2:2"), ("[2001:db8::1]:1", "[2001:db8::2]:2")] {
            let bytes = request(ends.0.parse().unwrap(), ends.1.parse().unwrap());
            assert_eq!(bytes.len(), 16 + 56);
            assert_eq!(bytes[24..28], [0, 1, 0, 2]);
        }
    }
}
