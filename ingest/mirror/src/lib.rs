//! What holder and standby tell each other of each publisher connection, so that either may die. Two sets of books.
//!
//! In: bytes read from publishers, bytes to be sent to them, bytes of one ordered link (TCP, owned by the shell), random
//! nonces. Out: bytes for the link, what the packet hold may let go, input for the lockstep parse, and at the holder's death
//! what the survivor restores. Pure: no sockets, clocks or randomness. Offsets are `u64` counts of bytes since the handshake.
//!
//! ```text
//!  holder                                             standby
//!   Hello (nonce) ──────────────► ◄────────────────── Hello (nonce), then Ping: proves that it is live
//!   Opened × n, Roll              the connections there are, and where each one is
//!   Snapshot chunks, Input from its offset            Step::Snapshot, Step::Input …   ─► lockstep parse
//!   Output from the last acknowledged byte            kept for a restore
//!                                 ◄────────────────── Confirm, once the step was taken
//!   (all caught up) Paired ─────► Step::Paired        from here on it has whatever the holder acknowledges
//!   Input, Output, Acked, Published, Closed … ──────► ◄── Confirm, Forgotten
//!   SegmentHash ────────────────► ◄────────────────── SegmentHash: compared on both sides
//!   ✝                                                 drain, `take_over`: old frames are refused from then on
//! ```
//!
//! | module | what it is |
//! |---|---|
//! | [`frame`] | what is said, as bytes |
//! | [`link`] | how it is said: Hello, keys of this link, counters, MACs |
//! | [`holder`] | the holder's books: log, confirmations, back-pressure, snapshots for a late standby |
//! | [`standby`] | the standby's books: every byte once and in order, confirmations, output log |
//! | [`takeover`] | what a survivor restores |
//! | [`compare`] | segment hashes of both sides, and the first station at which they differ |
//!
//! One link lives in one epoch; another epoch is another link. A broken link is never resumed: the standby joins anew,
//! by snapshot. Nothing is encrypted: the link belongs on a private network (input may contain stream keys).
#![forbid(unsafe_code)]

pub mod compare;
mod error;
pub mod frame;
pub mod holder;
pub mod link;
mod log;
mod rule;
#[cfg(test)]
mod simulation;
pub mod standby;
pub mod takeover;

pub use compare::{Compare, PartDigest, SegmentDigest, Station, Stations, Verdict};
pub use error::{Error, Way};
pub use frame::{Frame, Publishes};
pub use holder::{Event, Holder};
pub use link::{Identity, Link, Role};
pub use standby::{Standby, Step};
pub use takeover::Survived;

/// Names a publisher connection between the two nodes. The holder counts; a number is used once in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// None of them: what the two shells say to each other beside all connections.
    pub const NONE: ConnectionId = ConnectionId(u64::MAX);
}

impl std::fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}
