//! Rules of the protocol that the simulation can break one at a time, to show that its checkers notice.
//!
//! Without the feature `mutations` nothing can be broken and this room is a constant `false`.

/// A rule that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A witness stores a grant before it answers.
    DurableFirst,
    /// A witness grants an epoch only to an asker that descends from its lock.
    BaseNotBelowLock,
    /// A witness grants each epoch number once.
    OneGrantPerEpoch,
    /// The survivor waits for a majority.
    MajorityGrants,
    /// A survivor keeps its gate shut until it has the grant.
    HoldUntilGranted,
    /// A beat's counter must rise.
    CounterRises,
    /// A beat counts after a restart only when it names the new incarnation.
    IncarnationEchoed,
    /// A node that was paused checks before it acts.
    CheckAfterPause,
    /// A holder lets its gate go back to confirmations before the standby may succeed it.
    ConfirmBeforePaired,
    /// A lower epoch yields at the sight of a higher one.
    YieldToHigherEpoch,
    /// A restarted node that was paired waits for its peer.
    PairedWaitsForPeer,
}

/// Which rule is left out, if any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    #[cfg(feature = "mutations")]
    rule: Option<Rule>,
}

impl Broken {
    /// Leaves one rule out.
    #[cfg(feature = "mutations")]
    pub fn at(rule: Rule) -> Broken {
        Broken { rule: Some(rule) }
    }

    #[cfg(feature = "mutations")]
    pub(crate) fn is(self, rule: Rule) -> bool {
        self.rule == Some(rule)
    }

    #[cfg(not(feature = "mutations"))]
    pub(crate) fn is(self, _: Rule) -> bool {
        false
    }
}
