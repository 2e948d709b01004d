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
/// `SOCK_DIAG_BY_FAMILY`.
const LOOK: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
const AF_INET: u8 = libc::AF_INET as u8;
const AF_INET6: u8 = libc::AF_INET6 as u8;

/// `TCP_LISTEN`.
const LISTENING: u8 = 10;
/// Of `idiag_state` and of the socket's cookie in `struct inet_diag_msg`.
const STATE_AT: usize = 1;
const COOKIE_AT: usize = 44;
const ANY: [u8; 8] = [0xff; 8];

/// Destroys the kernel's socket with these ends. `false` when there is none. Where no connection has them the kernel finds
/// the listener of the port; that is none of these, and stays.
///
/// # Errors
/// Missing CAP_NET_ADMIN, or a kernel without `CONFIG_INET_DIAG_DESTROY`.
pub fn destroy_orphan(local: SocketAddr, peer: SocketAddr) -> Result<bool, SystemError> {
    let what = "destroy an orphaned connection (SOCK_DESTROY)";
    let link = Netlink::open(SOCK_DIAG).to(what)?;
    let mut found = None;
    let looked = link.ask(&request(LOOK, local, peer, ANY), |kind, body| {
        if kind == LOOK
            && let (Some(state), Some(cookie)) = (body.get(STATE_AT), body.get(COOKIE_AT..COOKIE_AT + 8))
        {
            found = cookie.first_chunk().map(|cookie| (*state, *cookie));
        }
    });
    match looked {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
        other => other.to("look for an orphaned connection (sock_diag)")?,
    }
    let cookie = match found {
        Some((state, cookie)) if state != LISTENING => cookie,
        _ => return Ok(false),
    };
    // By its cookie: another socket that has come to these ends meanwhile is not meant.
    match link.transact(&request(DESTROY, local, peer, cookie)) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error).to(what),
    }
}

/// `struct inet_diag_req_v2`.
fn request(kind: u16, local: SocketAddr, peer: SocketAddr, cookie: [u8; 8]) -> Vec<u8> {
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
    fixed.extend(cookie);
    message(kind, REQUEST | ACK, 1, &fixed, &Written::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_the_kernels_size() {
        for ends in [("192.0.2.1:1", "192.0.2.2:2"), ("[2001:db8::1]:1", "[2001:db8::2]:2")] {
            let bytes = request(LOOK, ends.0.parse().unwrap(), ends.1.parse().unwrap(), ANY);
            assert_eq!(bytes.len(), 16 + 56);
            assert_eq!(bytes[24..28], [0, 1, 0, 2]);
        }
    }
}
