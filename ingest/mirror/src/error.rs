//! What can be wrong on the link, or in how it is used. After any error from the link: close it, and join anew.

use crate::ConnectionId;
use thiserror::Error;

/// Which of the two logs of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the publisher.
    Input,
    /// To the publisher.
    Output,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Way::Input => "input",
            Way::Output => "output",
        })
    }
}

/// Why a link ends, or a call is refused. A refused call has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The first bytes are not a Hello of this protocol.
    #[error(
        "not a mirror link, or version {version} where this program speaks 1; run the same version on both nodes"
    )]
    NotOurs {
        /// The version byte, as it came.
        version: u8,
    },
    /// Another cluster's link.
    #[error("mirror link of another cluster; is the port shared?")]
    Cluster,
    /// Both ends want to be holder, both standby, or a node talks to itself.
    #[error("mirror link to node {node}, which claims the same role or is ourselves")]
    Role {
        /// Who it says it is.
        node: u16,
    },
    /// The other end, or a frame, belongs to another epoch.
    #[error("epoch {theirs} on a mirror link of epoch {ours}; the lower one must step down")]
    Epoch {
        /// The link's.
        ours: u64,
        /// What came.
        theirs: u64,
    },
    /// A key that is not live here.
    #[error(
        "mirror link under key version {version}, not live here; give both nodes the same cluster key file"
    )]
    Key {
        /// What the Hello names.
        version: u32,
    },
    /// Forged, damaged, or recorded from another link.
    #[error("MAC of frame {counter} does not hold (0 is the Hello)")]
    Mac {
        /// Frame on this link.
        counter: u64,
    },
    /// A frame is missing or repeated.
    #[error("frame {got} where frame {want} comes next")]
    Counter {
        /// Next.
        want: u64,
        /// Came.
        got: u64,
    },
    /// Longer than its bound.
    #[error("{what} of {got} bytes, at most {max}")]
    Length {
        /// What is too long.
        what: &'static str,
        /// Its length.
        got: u64,
        /// The bound.
        max: u64,
    },
    /// A frame under a good MAC that no node of ours writes.
    #[error("frame of kind {kind} does not decode")]
    Layout {
        /// The kind byte.
        kind: u8,
    },
    /// A frame that this role does not take.
    #[error("frame {name} is not for this end of the link")]
    Direction {
        /// Its name.
        name: &'static str,
    },
    /// No such connection.
    #[error("connection {connection} is not open")]
    Unknown {
        /// Which.
        connection: ConnectionId,
    },
    /// A number that was used before, or a table that is full.
    #[error("connection {connection} cannot open: numbers only rise, and at most {max} are open")]
    Open {
        /// Which.
        connection: ConnectionId,
        /// Most at once.
        max: usize,
    },
    /// Bytes that do not follow the last ones: a gap, a copy, or a changed order.
    #[error("connection {connection}: {way} at offset {got}, next is {want}")]
    Position {
        /// Which.
        connection: ConnectionId,
        /// Which log.
        way: Way,
        /// Next.
        want: u64,
        /// Came.
        got: u64,
    },
    /// A position outside what there is.
    #[error("connection {connection}: {way} position {got} outside {low}..={high}")]
    Range {
        /// Which.
        connection: ConnectionId,
        /// Which log.
        way: Way,
        /// What was named.
        got: u64,
        /// Lowest allowed.
        low: u64,
        /// Highest allowed.
        high: u64,
    },
    /// Input before the state it applies to, or a second state.
    #[error("connection {connection}: {what}")]
    Snapshot {
        /// Which.
        connection: ConnectionId,
        /// What is wrong.
        what: &'static str,
    },
    /// More unconfirmed bytes than the bound; ask `may_read` first.
    #[error("connection {connection}: {way} log is full; wait for confirmations")]
    Full {
        /// Which.
        connection: ConnectionId,
        /// Which log.
        way: Way,
    },
    /// The standby lacks something, so the two are no pair.
    #[error("the standby has not caught up with every connection")]
    NotInStep,
    /// A takeover before every drained step was carried out.
    #[error("the link was not drained: {steps} steps wait")]
    Undrained {
        /// How many.
        steps: usize,
    },
    /// The link's epoch is over.
    #[error("the link of epoch {epoch} is fenced")]
    Fenced {
        /// The old epoch.
        epoch: u64,
    },
    /// Nobody to tell.
    #[error("no standby is attached")]
    NoLink,
}
