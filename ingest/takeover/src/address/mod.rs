//! The virtual address: take it, tell the neighbours, notice who else claims it, give it up.
//!
//! Two back-ends: [`Ownership`] moves the address on a local network by netlink (0.05 ms), [`Hook`] runs a program that
//! moves it where the network belongs to somebody else (clouds). Packets are built and read by pure functions
//! ([`arp`], [`neighbour`], [`Claim`]); [`Schedule`] says when to send them; [`Announcer`] does.

pub mod arp;
pub mod neighbour;

mod announce;
mod claim;
mod error;
mod hook;
mod ownership;
mod schedule;

pub use announce::{Announcer, Announcing};
pub use claim::Claim;
pub use error::Error;
pub use hook::{Action, Hook, HookError, Occasion, Printed};
pub use ownership::{Interface, Ownership};
pub use schedule::{ANNOUNCEMENTS, CLAIM_INTERVAL, Schedule};

/// An Ethernet address.
pub type Mac = [u8; 6];
