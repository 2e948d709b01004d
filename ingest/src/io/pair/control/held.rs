//! The packet hold of this node: rule, queue, and what the data half tells it.
//!
//! In: confirmations of the data half, the gate. Out: packets that may leave; `Order::Opened` for each handshake. Rule and
//! hold are there from the start to the end of the process, whoever holds the address; nothing leaves that neither the
//! standby has nor a grant covers. The rule outlives a crash, on purpose.

use super::gate::GateCell;
use crate::io::pair::orders::{Egress, Order};
use crate::io::pair::pulse::Pulse;
use crate::io::vacancy::once_free;
use failover::Gate;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use takeover::hold::{Base, Confirmed, Counts, Error, Event, Flow, Hold, Passage, Rule, Settings, Waits};
use tokio::sync::mpsc::UnboundedSender;

/// Below the heartbeats.
const PRIORITY: u8 = 40;

/// First sequence numbers by connection: the hold's events bring them, the end of a connection takes them.
pub(super) type Bases = Arc<Mutex<HashMap<Flow, Base>>>;

/// Hold and rule at work.
#[derive(Debug)]
pub(super) struct Held {
    hold: Hold,
    rule: Rule,
    bases: Bases,
}

/// The name of our table.
pub(super) fn table(node: u16) -> String {
    format!("releve_pair_{node}")
}

/// Removes what a former life may have left: a rule without a hold keeps everything inside.
pub(super) fn clean(node: u16, addresses: &[IpAddr], port: u16) {
    // Without the right to it there can be none of ours; without the kernel's target neither.
    let _ = Rule::install(&table(node), addresses, port, node).and_then(Rule::remove);
}

impl Held {
    /// Starts the hold, then installs the rule.
    pub(super) fn start(
        node: u16,
        addresses: &[IpAddr],
        port: u16,
        gate: Arc<GateCell>,
        pulse: Arc<Pulse>,
        orders: UnboundedSender<Order>,
    ) -> Result<Held, Error> {
        let bases = Bases::default();
        let noted = bases.clone();
        let settings = Settings { priority: Some(PRIORITY), ..Settings::new(node) };
        let start = || {
            let (noted, orders) = (noted.clone(), orders.clone());
            Hold::start(settings, move |Event::Opened { flow, syn_ack }| {
                lock(&noted).insert(flow, syn_ack.base);
                // After the data half's end there is nobody to tell, and nothing to protect.
                let _ = orders.send(Order::Opened(flow, syn_ack));
            })
        };
        // A node that protects less because its former life was still ending would lose publishers to the next crash.
        let hold = once_free(|error| matches!(error, Error::QueueTaken { .. }), start)?;
        hold.obey(move || match gate.at(pulse.now()) {
            Gate::Held => Passage::Shut,
            Gate::Confirmed(_) => Passage::Confirmed,
            Gate::Alone(_) => Passage::Open,
        });
        let rule = Rule::install(&table(node), addresses, port, node)?;
        Ok(Held { hold, rule, bases })
    }

    /// The gate has changed: that has taken effect when this returns, and packets that may leave now have left.
    pub(super) fn look(&self) {
        self.hold.look();
    }

    pub(super) fn base(&self, flow: Flow) -> Option<Base> {
        lock(&self.bases).get(&flow).copied()
    }

    /// A connection that will live here: its packets wait like those of others.
    pub(super) fn adopt(&self, flow: Flow, base: Base) {
        lock(&self.bases).insert(flow, base);
        self.hold.admit(flow, base);
    }

    /// A publisher whose connection is truly gone may be told.
    pub(super) fn strangers_may_reset(&self, may: bool) {
        self.hold.strangers_may_reset(may);
    }

    pub(super) fn counts(&self) -> Counts {
        self.hold.counts()
    }

    pub(super) fn waits(&self) -> Waits {
        self.hold.waits()
    }

    /// Why nothing is held, or nothing leaves.
    pub(super) fn trouble(&self) -> Option<String> {
        if let Some(failure) = self.hold.failure() {
            return Some(format!("its thread has ended, nothing leaves the address: {failure}"));
        }
        match self.rule.is_installed() {
            Ok(true) => None,
            Ok(false) => {
                Some("its rule was removed by somebody else: a crash loses what was acknowledged".into())
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

/// What the data half holds of it.
#[derive(Debug)]
pub(super) struct Outlet(pub(super) Arc<Held>);

impl Egress for Outlet {
    fn admit(&self, flow: Flow, base: Base) {
        self.0.hold.admit(flow, base);
    }

    fn confirm(&self, news: &[(Flow, Base, Confirmed)]) {
        self.0.hold.confirm(news);
    }

    fn finish(&self, flow: Flow, base: Base) {
        let mut bases = lock(&self.0.bases);
        if bases.get(&flow) == Some(&base) {
            bases.remove(&flow);
        }
        drop(bases);
        self.0.hold.finish(flow, base);
    }

    fn forget(&self, flow: Flow) {
        forget(&self.0, flow);
    }
}

/// The connection lives elsewhere: what still waited here is dropped.
pub(super) fn forget(held: &Held, flow: Flow) {
    lock(&held.bases).remove(&flow);
    held.hold.forget(flow);
}

fn lock(bases: &Bases) -> MutexGuard<'_, HashMap<Flow, Base>> {
    bases.lock().unwrap_or_else(PoisonError::into_inner)
}
