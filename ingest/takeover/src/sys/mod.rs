//! Thin wrappers around the system calls that no safe library offers.
//!
//! Every `unsafe` block of the package lives in this folder, one call a function, each with its proof. Callers see
//! slices, owned descriptors and `io::Result`.

pub(crate) mod heir;
pub(crate) mod netlink;
pub(crate) mod option;
pub(crate) mod packet;
pub(crate) mod process;
pub(crate) mod signal;
pub mod wait;
