//! What an election wants done. The shell does it in order; nothing here is optional.

use crate::{Epoch, config::Note};

/// What may leave this node: acknowledgements and other packets of the address, and published parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// Nothing.
    #[default]
    Held,
    /// What the peer has confirmed under this epoch.
    Confirmed(Epoch),
    /// Everything.
    Alone(Epoch),
}

/// One order to the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// From now on nothing leaves for the address: packets wait.
    HoldAcks,
    /// Packets may leave as this gate says; never `Held`.
    ReleaseAcks(Gate),
    /// Parts may, or may not, be published.
    PublishAllowed(bool),
    /// Drain the replication link, then close it.
    CloseLink,
    /// Make the mirrored connections live (nothing leaves yet). Before the address, or the kernel answers with a reset.
    RestoreConnections,
    /// Add the virtual address.
    TakeAddress,
    /// Remove the virtual address, at once.
    DropAddress,
    /// Gratuitous ARP and unsolicited NA. Asked for at 0, 1, 5, 20 … 10,000 ms.
    Announce,
    /// Close live connections without a packet. What was mirrored stays, for a later takeover.
    StepDown(Loss),
    /// Mirrored bytes are worth nothing any more: another node went on without us. Catch up from its start.
    Forget,
    /// Say "paired under this epoch" on the replication link, in order behind all bytes sent so far.
    TellPaired(Epoch),
    /// Planned handover: freeze and dump every publisher socket, send them to the peer, then `handle_frozen`.
    Freeze(Epoch),
    /// The handover goes back: make the frozen sockets live again.
    Thaw,
    /// Store this durably, then `handle_persisted` with it.
    Persist(Note),
    /// Tell the operator: log, metric, status.
    Alarm(Alarm),
}

/// Why a pair ended or a node stepped down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// No beat for the dead time.
    Silent,
    /// The replication link ended.
    LinkClosed,
    /// The peer beats, but its data plane stands still.
    Hung,
    /// The peer has started anew.
    Restarted,
    /// The peer takes us for dead, or has left the pair.
    PeerLeft,
    /// We were paused and the peer did not answer since.
    Paused,
    /// Our own data plane stands still.
    OwnHung,
    /// A higher epoch is held elsewhere.
    HigherEpoch,
    /// The witnesses granted the peer.
    NotGranted,
    /// No grant within `max_hold`.
    HeldTooLong,
    /// Planned.
    HandedOver,
    /// The peer, which we took for dead, holds on.
    PeerIsBack,
}

/// What an operator should hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// Two nodes, everything protected.
    Paired(Epoch),
    /// The pair ended.
    PeerLost(Loss),
    /// Serving alone: a crash of this node now loses what it acknowledges.
    Solo(Epoch),
    /// The peer came back before the witnesses decided.
    Resumed(Epoch),
    /// The address is down: this node has no grant.
    Fault(Loss),
    /// This node was not scheduled for so many milliseconds.
    OwnPause(u64),
    /// The peer flaps: no new pair for so many milliseconds.
    HoldDown(u64),
    /// Nobody serves, and this node may not start alone, as its peer may have the only copy. `force` if the peer is gone.
    NeedsForce,
    /// A planned handover went back.
    HandoverFailed,
}
