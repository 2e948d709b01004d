//! Rules that tests break on purpose, one at a time, to see that the simulation notices. Outside tests nothing can.

/// One rule of the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// The standby confirms what it gave out, not what it merely received.
    ConfirmTaken,
    /// The holder counts as confirmed what the standby said, not what was sent.
    ConfirmHeard,
    /// The same for output.
    ConfirmOutputHeard,
    /// Nothing is released before the standby knows that it is paired.
    ReleaseOncePaired,
    /// After a snapshot the input goes on at its offset.
    LogFromSnapshot,
    /// A connection without its snapshot is not in step.
    SnapshotBeforeStep,
    /// Bytes follow the last ones without gap or copy.
    InOrder,
    /// The output log keeps what the publisher has not acknowledged.
    KeepUnacknowledged,
    /// A late standby is given the unacknowledged output.
    TellOutput,
    /// A fenced link takes nothing.
    Fence,
    /// Frames of another epoch are refused.
    OneEpoch,
    /// The MAC is checked.
    CheckMac,
    /// The link's keys depend on both nonces.
    FreshNonce,
}

#[cfg(not(test))]
pub(crate) fn broken(_: Rule) -> bool {
    false
}

#[cfg(test)]
thread_local! {
    static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

#[cfg(test)]
pub(crate) fn broken(rule: Rule) -> bool {
    BROKEN.get() == Some(rule)
}

/// Runs `work` with one rule broken; whether it panicked.
#[cfg(test)]
pub(crate) fn notices(rule: Rule, work: impl FnOnce() + std::panic::UnwindSafe) -> bool {
    BROKEN.set(Some(rule));
    let outcome = std::panic::catch_unwind(work);
    BROKEN.set(None);
    outcome.is_err()
}
