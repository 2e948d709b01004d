//! What can keep packets from being held.

use crate::SystemError;
use thiserror::Error;

/// Why the packet hold cannot work. Without it a crash is a plain failover: say so loudly.
#[derive(Debug, Error)]
pub enum Error {
    /// A system call failed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// Another process listens on the queue.
    #[error("packet queue {queue} belongs to another process: choose another number or stop that process")]
    QueueTaken {
        /// The queue number.
        queue: u16,
    },
    /// Neither the nftables queue expression nor the xtables NFQUEUE target exists.
    #[error(
        "this kernel cannot queue packets from nftables: it needs CONFIG_NFT_QUEUE, or CONFIG_NFT_COMPAT with \
         CONFIG_NETFILTER_XT_TARGET_NFQUEUE"
    )]
    NoTarget,
    /// Nothing to hold.
    #[error("a hold rule needs at least one address")]
    NoAddress,
}
