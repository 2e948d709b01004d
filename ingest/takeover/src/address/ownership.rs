//! Taking and giving up the virtual address by netlink, with messages built beforehand.
//!
//! In: an address and an interface. Out: the address on it, or off it. The prefix is /32 or /128, so the address never
//! becomes a secondary one of another and never brings a route. rtnetlink(7).

use super::error::Error;
use crate::error::{Purpose, SystemError};
use crate::sys::netlink::{ACK, CREATE, EXCLUSIVE, Netlink, REQUEST, Written, message};
use crate::sys::packet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// `RTN_LOCAL`.
const LOCAL: u8 = 2;
/// The kernel's worker needs some 0.1 ms; on a machine that is late for everything it may need long.
const ROUTE_WAIT_MAX: Duration = Duration::from_secs(1);
const ROUTE_WAIT_STEP: Duration = Duration::from_micros(20);
/// `IFA_F_NODAD`: usable at once. Duplicate detection would keep an IPv6 address silent for a second, and whether the
/// other host still has it is decided by the epoch, not by the link.
const NO_DETECTION: u32 = 0x02;
/// `IFA_F_NOPREFIXROUTE`.
const NO_ROUTE: u32 = 0x200;

/// A network interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    name: String,
    index: u32,
}

impl Interface {
    /// Finds an interface.
    ///
    /// # Errors
    /// [`Error::NoInterface`].
    pub fn named(name: &str) -> Result<Self, Error> {
        let index = packet::interface_index(name).map_err(|_| Error::NoInterface { name: name.into() })?;
        Ok(Self { name: name.into(), index })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn index(&self) -> u32 {
        self.index
    }
}

/// The means to take and give up one address.
#[derive(Debug)]
pub struct Ownership {
    link: Netlink,
    ip: IpAddr,
    take: Vec<u8>,
    give_up: Vec<u8>,
    ask_route: Vec<u8>,
}

impl Ownership {
    /// Prepares everything; changes nothing.
    ///
    /// # Errors
    /// The address is not unicast, or netlink cannot be opened.
    pub fn prepare(ip: IpAddr, interface: &Interface) -> Result<Self, Error> {
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        if ip.is_multicast() || ip.is_unspecified() || broadcast {
            return Err(Error::NotUnicast { ip });
        }
        let link = Netlink::open(libc::NETLINK_ROUTE).to("open netlink for the virtual address")?;
        let take = request(NEW_ADDRESS, CREATE | EXCLUSIVE, ip, interface.index);
        let give_up = request(DELETE_ADDRESS, 0, ip, interface.index);
        let ask_route = route_request(ip);
        Ok(Self { link, ip, take, give_up, ask_route })
    }

    /// The address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Puts the address on the interface; packets to it are accepted when this returns. `false` when it was there
    /// already.
    ///
    /// # Errors
    /// Missing CAP_NET_ADMIN, or the interface is gone or down.
    pub fn take(&self) -> Result<bool, SystemError> {
        let what = "take the virtual address";
        let taken = self.carry_out(&self.take, libc::EEXIST, what)?;
        if self.ip.is_ipv6() {
            self.await_route().to("wait until the virtual address works")?;
        }
        Ok(taken)
    }

    /// An IPv4 address works when the kernel has acknowledged it. An IPv6 address has its route made by a kernel
    /// worker a little later, and a segment that arrives before is dropped: the peer would wait for its timer.
    fn await_route(&self) -> io::Result<()> {
        let started = Instant::now();
        while !self.is_local()? {
            if started.elapsed() > ROUTE_WAIT_MAX {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(ROUTE_WAIT_STEP);
        }
        Ok(())
    }

    /// Whether packets to the address end on this host.
    fn is_local(&self) -> io::Result<bool> {
        let mut local = false;
        let asked = self.link.ask(&self.ask_route, |kind, body| {
            // rtm_type is the eighth byte of struct rtmsg.
            local |= kind == NEW_ROUTE && body.get(7) == Some(&LOCAL);
        });
        match asked {
            Ok(()) => Ok(local),
            // No route at all is an answer too.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENETUNREACH | libc::EHOSTUNREACH)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes the address from the interface. `false` when it was not there.
    ///
    /// # Errors
    /// Missing CAP_NET_ADMIN.
    pub fn give_up(&self) -> Result<bool, SystemError> {
        self.carry_out(&self.give_up, libc::EADDRNOTAVAIL, "give up the virtual address")
    }

    fn carry_out(&self, request: &[u8], already: i32, what: &'static str) -> Result<bool, SystemError> {
        match self.link.transact(request) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(already) => Ok(false),
            // With the interface the address is gone too.
            Err(error) if already == libc::EADDRNOTAVAIL && error.raw_os_error() == Some(libc::ENODEV) => {
                Ok(false)
            }
            Err(error) => Err::<bool, io::Error>(error).to(what),
        }
    }
}

/// `struct ifaddrmsg` and its attributes.
fn request(kind: u16, flags: u16, ip: IpAddr, interface: u32) -> Vec<u8> {
    let (family, prefix, octets) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET as u8, 32, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6 as u8, 128, ip.octets().to_vec()),
    };
    let mut fixed = vec![family, prefix, 0, 0];
    fixed.extend(interface.to_ne_bytes());
    // IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS
    let mut attributes = Written::default().bytes(1, &octets).bytes(2, &octets);
    if kind == NEW_ADDRESS {
        attributes = attributes.bytes(8, &(NO_DETECTION | NO_ROUTE).to_ne_bytes());
        if ip.is_ipv6() {
            // IFA_CACHEINFO: preferred for 0 s, valid for ever. A /128 would else win the choice of source address for
            // this host's own connections, and they would break with every takeover.
            let life = [0_u32, u32::MAX, 0, 0].map(u32::to_ne_bytes).concat();
            attributes = attributes.bytes(6, &life);
        }
    }
    message(kind, REQUEST | ACK | flags, 1, &fixed, &attributes)
}

/// `struct rtmsg`: where would a packet to this address go?
fn route_request(ip: IpAddr) -> Vec<u8> {
    let (family, prefix, octets) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET as u8, 32, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6 as u8, 128, ip.octets().to_vec()),
    };
    let fixed = [family, prefix, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // RTA_DST
    message(GET_ROUTE, REQUEST | ACK, 1, &fixed, &Written::default().bytes(1, &octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_host_prefixes_and_no_route() {
        let bytes = request(NEW_ADDRESS, CREATE, "192.0.2.7".parse().unwrap(), 3);
        assert_eq!(bytes[16..20], [2, 32, 0, 0]);
        assert_eq!(bytes[24..32], [8, 0, 1, 0, 192, 0, 2, 7]);
        assert_eq!(bytes[40..48], [8, 0, 8, 0, 2, 2, 0, 0]);
        let bytes = request(DELETE_ADDRESS, 0, "2001:db8::7".parse().unwrap(), 3);
        assert_eq!(bytes[16..18], [10, 128]);
        assert_eq!(bytes.len(), 16 + 8 + 2 * 20);
    }

    #[test]
    fn a_group_or_nobody_cannot_be_owned() {
        let interface = Interface { name: "x".into(), index: 1 };
        for ip in ["224.0.0.1", "0.0.0.0", "255.255.255.255", "ff02::1", "::"] {
            let refused = Ownership::prepare(ip.parse().unwrap(), &interface);
            assert!(matches!(refused, Err(Error::NotUnicast { .. })), "{ip}");
        }
    }
}
