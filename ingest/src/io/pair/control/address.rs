//! The pair's virtual addresses on this node: taken, announced, given up.
//!
//! In: the configuration, then orders of the mover. Out: addresses on interfaces and announcements on the wire, or runs of
//! the exec hook. Everything is opened at the start: opening a packet socket takes milliseconds, and the link to the peer
//! must be opened after them (`takeover`'s first page says why).

use crate::config::pair::Pair;
use failover::Epoch;
use std::cell::Cell;
use std::time::{Duration, Instant};
use takeover::address::{Action, Announcer, Announcing, Error, Hook, Interface, Occasion, Ownership};

/// The schedule of announcements ends this long after its begin; asked for again, it begins anew.
const SCHEDULE: Duration = Duration::from_secs(10);

/// All virtual addresses.
#[derive(Debug)]
pub(super) struct Addresses {
    each: Vec<One>,
    hook: Option<Hook>,
    node: String,
    announced: Cell<Option<Instant>>,
}

#[derive(Debug)]
struct One {
    ip: std::net::IpAddr,
    interface: String,
    ownership: Ownership,
    announcing: Option<Announcing>,
}

/// The means to give the addresses up, for whoever only does that: the guardian.
///
/// # Errors
/// Names the interface or address that cannot be had.
pub fn ownerships(pair: &Pair) -> Result<Vec<Ownership>, Error> {
    let prepare = |each: &crate::config::pair::Virtual| {
        Ownership::prepare(each.ip, &Interface::named(&each.interface)?)
    };
    pair.addresses.iter().map(prepare).collect()
}

impl Addresses {
    /// Prepares everything, and removes what a former life may have left. Also: what works less well than it should.
    pub(super) fn prepare(pair: &Pair, node: &str) -> Result<(Addresses, Vec<String>), Error> {
        let mut doubts = Vec::new();
        let hook = pair.hook.as_ref().map(|hook| Hook {
            argv: hook.argv.iter().map(Into::into).collect(),
            environment: Vec::new(),
            timeout: Duration::from_millis(hook.timeout_ms),
        });
        let mut each = Vec::new();
        for (ownership, address) in ownerships(pair)?.into_iter().zip(&pair.addresses) {
            let announcing = if hook.is_none() {
                let interface = Interface::named(&address.interface)?;
                match Announcer::prepare(address.ip, &interface).and_then(Announcing::prepare) {
                    Ok(announcing) => Some(announcing),
                    Err(error) => {
                        doubts.push(format!("{} is not announced to neighbours: {error}", address.ip));
                        None
                    }
                }
            } else {
                None
            };
            each.push(One { ip: address.ip, interface: address.interface.clone(), ownership, announcing });
        }
        let addresses = Addresses { each, hook, node: node.to_owned(), announced: Cell::new(None) };
        if addresses.hook.is_none() {
            for one in &addresses.each {
                match one.ownership.give_up() {
                    Ok(true) => doubts.push(format!("{} was still here from a former life: removed", one.ip)),
                    Ok(false) => {}
                    Err(error) => doubts.push(format!("{} cannot be moved: {error}", one.ip)),
                }
            }
        }
        Ok((addresses, doubts))
    }

    /// Takes all addresses; gives what did not work.
    pub(super) fn take(&self, epoch: Epoch) -> Vec<String> {
        self.move_all(Action::Acquire, epoch)
    }

    /// Gives all addresses up; nothing is announced any more. Gives what did not work.
    pub(super) fn give_up(&self, epoch: Epoch) -> Vec<String> {
        self.announced.set(None);
        self.each.iter().filter_map(|one| one.announcing.as_ref()).for_each(Announcing::cease);
        self.move_all(Action::Release, epoch)
    }

    fn move_all(&self, action: Action, epoch: Epoch) -> Vec<String> {
        let mut trouble = Vec::new();
        for one in &self.each {
            let done = match (&self.hook, action) {
                (Some(hook), _) => {
                    let (ip, interface) = (one.ip, one.interface.clone());
                    let occasion = Occasion { action, ip, interface, node: self.node.clone(), epoch };
                    hook.run(&occasion).map(drop).map_err(|error| error.to_string())
                }
                (None, Action::Acquire) => one.ownership.take().map(drop).map_err(|error| error.to_string()),
                (None, Action::Release) => {
                    one.ownership.give_up().map(drop).map_err(|error| error.to_string())
                }
            };
            trouble.extend(done.err().map(|error| format!("{}: {error}", one.ip)));
        }
        trouble
    }

    /// Tells the neighbours, now and on the schedule; while the schedule runs it needs no second word.
    pub(super) fn announce(&self) {
        if self.announced.get().is_some_and(|begun| begun.elapsed() < SCHEDULE) {
            return;
        }
        self.announced.set(Some(Instant::now()));
        for announcing in self.each.iter().filter_map(|one| one.announcing.as_ref()) {
            // A lost announcement is what the next one is for.
            let _ = announcing.begin();
        }
    }

    /// How often somebody else has claimed one of the addresses since they were taken.
    pub(super) fn claims(&self) -> u64 {
        self.each.iter().filter_map(|one| one.announcing.as_ref()).map(|one| one.claims().0).sum()
    }
}
