//! What can keep an address from moving.

use crate::SystemError;
use std::net::IpAddr;
use thiserror::Error;

/// Why an address could not be taken, given up or announced.
#[derive(Debug, Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// No interface of that name.
    #[error("there is no network interface {name:?} here: check `interface` in the settings")]
    NoInterface {
        /// The name asked for.
        name: String,
    },
    /// The interface has no Ethernet address, so there is nobody to announce to.
    #[error("interface {name:?} has no Ethernet address: the virtual address needs an Ethernet interface")]
    NotEthernet {
        /// The interface.
        name: String,
    },
    /// The address is not one that a host can own.
    #[error("{ip} cannot be a virtual address: it must be a plain unicast address")]
    NotUnicast {
        /// The address.
        ip: IpAddr,
    },
}
