//! The packet hold: no packet leaves before the standby has what it promises.
//!
//! An acknowledgement tells the publisher "you may forget these bytes". As long as only this host has them, that is a
//! promise a crash would break. So every packet from the protected address and port waits in a kernel queue (NFQUEUE)
//! until
//!
//! ```text
//! ack       ≤ first received sequence number + bytes the standby has received    (what the packet acknowledges)
//! seq + len ≤ first sent sequence number     + output bytes the standby has       (what the packet carries)
//! ```
//!
//! `rule.rs` sends the packets into the queue (an nftables table of our own, written over netlink), `queue.rs` is the
//! kernel's queue, `segment.rs` reads headers, `ledger.rs` decides, `holder.rs` ties them together for a thread that waits for
//! packets and for whoever brings news, `waits.rs` counts what it costs.
//!
//! It never fails open: without a listener the kernel drops what it would have queued, and after `kill -9` neither ACK,
//! FIN nor RST escapes. A full queue drops too. Dropped packets cost a retransmission; leaked ones would cost data.

mod error;
mod flow;
mod holder;
mod ledger;
mod queue;
mod rule;
mod segment;
mod waits;

pub use error::Error;
pub use flow::{Base, Confirmed, Flow};
pub use holder::{Hold, Settings};
pub use ledger::{Counts, Event, Ledger, Limits, Passage, Verdict};
pub use rule::{Rule, Target, supported_target};
pub use segment::{Segment, SynAck};
pub use waits::Waits;
