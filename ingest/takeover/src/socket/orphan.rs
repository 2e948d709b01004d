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

/// Destroys every connection that the kernel still has at this address and port, and gives how many there were. For a node
/// that starts, while none of its own can exist there: the resets of its former life then stay behind the shut hold, or
/// behind an address that is elsewhere, instead of meeting the connections of the present one.
///
/// # Errors
/// As [`destroy_orphan`], for the first that cannot be destroyed; the rest is tried.
pub fn destroy_orphans(address: IpAddr, port: u16) -> Result<usize, SystemError> {
    let (mut count, mut outcome) = (0, Ok(()));
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        // A kernel without IPv6 has no such table.
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for (local, peer) in text.lines().filter_map(ends_of) {
            if local == SocketAddr::new(address, port) && peer.port() != 0 {
                match destroy_orphan(local, peer) {
                    Ok(destroyed) => count += usize::from(destroyed),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
        }
    }
    outcome.map(|()| count)
}

/// Both ends in a line of /proc/net/tcp or tcp6: `sl: ADDRESS:PORT ADDRESS:PORT …`, addresses as words of this machine.
fn ends_of(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let end = |word: &str| {
        let (address, port) = word.split_once(':')?;
        let bytes: Vec<u8> = (0..address.len() / 8)
            .map(|at| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok())
            .collect::<Option<Vec<u32>>>()?
            .into_iter()
            .flat_map(u32::to_ne_bytes)
            .collect();
        let ip = match bytes.len() {
            4 => IpAddr::from(*bytes.first_chunk::<4>()?),
            16 => IpAddr::from(*bytes.first_chunk::<16>()?).to_canonical(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
    };
    Some((end(words.next()?)?, end(words.next()?)?))
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
    #[cfg(target_endian = "little")]
    fn lines_of_the_kernels_tables_are_read() {
        let line = "  12: 64004D0A:078F 09004D0A:C71A 01 00000000:00000000 00:00000000 00000000     0        0 1 1 0";
        let ends = ("10.77.0.100:1935".parse().unwrap(), "10.77.0.9:50970".parse().unwrap());
        assert_eq!(ends_of(line), Some(ends));
        let mapped = "1: 0000000000000000FFFF000064004D0A:078F 0000000000000000FFFF000009004D0A:C71A 01";
        assert_eq!(ends_of(mapped), Some(ends));
        assert_eq!(ends_of("sl  local_address rem_address st"), None);
    }

    #[test]
    fn the_request_has_the_kernels_size() {
        for ends in [("192.0.2.1:1", "192.0.2.2:2"), ("[2001:db8::1]:1", "[2001:db8::2]:2")] {
            let bytes = request(LOOK, ends.0.parse().unwrap(), ends.1.parse().unwrap(), ANY);
            assert_eq!(bytes.len(), 16 + 56);
            assert_eq!(bytes[24..28], [0, 1, 0, 2]);
        }
    }
}
