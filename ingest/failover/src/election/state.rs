//! What a node is, what it knows of its peer, and what its shell was last told.

use crate::Epoch;
use crate::action::Gate;
use crate::beat::{Beat, Role};
use std::time::Duration;

/// What this node is, with what belongs to it. Public so that status pages and tests can look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No part in any epoch.
    Idle {
        /// Since when.
        since: Duration,
    },
    /// Member beside a holder.
    Standby,
    /// Holder, granted alone.
    Solo {
        /// Was paused; acts again once the sockets are empty and no higher epoch was in them.
        paused: bool,
    },
    /// Holder with a standby; lets out only what that one confirmed.
    Paired {
        /// The standby's incarnation.
        partner: u64,
        /// Was paused: acts again once the standby answers a beat of at least this counter, by that time.
        paused: Option<(u64, Duration)>,
        /// Handing over; sockets are frozen.
        frozen: bool,
    },
    /// Lost its peer, has the address, gives nothing out, asks.
    Holding {
        /// Since when.
        since: Duration,
        /// Was the holder.
        incumbent: bool,
        /// The peer is back once it answers a beat of at least this counter.
        mark: u64,
    },
    /// Without the address; still asks.
    Fault {
        /// Was the holder.
        incumbent: bool,
        /// As in `Holding`.
        mark: u64,
    },
}

impl State {
    /// What a beat says of it: role, and whether it holds or held the address.
    pub(super) fn role(self) -> (Role, bool) {
        match self {
            State::Idle { .. } => (Role::Idle, false),
            State::Standby => (Role::Standby, false),
            State::Solo { .. } | State::Paired { .. } => (Role::Holder, true),
            State::Holding { incumbent, .. } => (Role::Holding, incumbent),
            State::Fault { incumbent, .. } => (Role::Fault, incumbent),
        }
    }
}

/// What is known of the other node, in its present life.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer {
    pub(super) incarnation: u64,
    /// It has named our incarnation: its beats are of now, not recorded ones.
    pub(super) proven: bool,
    pub(super) renounced: Epoch,
    pub(super) stance: Option<Beat>,
    /// Since when it plays no part in our pair.
    pub(super) apart_since: Option<Duration>,
}

/// What the shell was last told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Shown {
    pub(super) gate: Gate,
    pub(super) address: bool,
}

/// Why a planned handover does not begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoHandover {
    /// There is no standby that has every byte.
    #[error("this node is {0:?}: only a holder with a paired standby can hand over")]
    NotPaired(State),
    /// One is under way.
    #[error("a handover is under way")]
    UnderWay,
}
