//! How many connections may be open, in all and from one address, before they have shown a key.
//!
//! In: an address. Out: a `Pass`, or `None`. Touches memory only. A publisher that was accepted gives its place among the
//! strangers back.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections that have not published yet, in all: at 64 KiB of buffers each these are 64 MiB.
pub const STRANGERS_MAX: usize = 1024;
/// Of these from one address: a studio's encoders behind one address that all reconnect at once.
pub const STRANGERS_PER_ADDRESS_MAX: usize = 64;

/// Counts connections that have not published yet.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    strangers: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// A stranger's place; dropping it gives it back.
#[derive(Debug)]
pub struct Pass {
    admission: Admission,
    peer: IpAddr,
}

impl Admission {
    /// A place for a new connection, if there is one.
    pub fn enter(&self, peer: IpAddr) -> Option<Pass> {
        let mut counts = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = counts.by_address.get(&peer).copied().unwrap_or(0);
        if counts.all >= STRANGERS_MAX || of_peer >= STRANGERS_PER_ADDRESS_MAX {
            return None;
        }
        counts.all += 1;
        counts.by_address.insert(peer, of_peer + 1);
        Some(Pass { admission: self.clone(), peer })
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.admission.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        counts.all -= 1;
        match counts.by_address.get_mut(&self.peer) {
            Some(of_peer) if *of_peer > 1 => *of_peer -= 1,
            _ => {
                counts.by_address.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_take_all_places() {
        let admission = Admission::default();
        let (noisy, quiet) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut passes: Vec<Pass> = std::iter::from_fn(|| admission.enter(noisy)).collect();
        assert_eq!(passes.len(), STRANGERS_PER_ADDRESS_MAX);
        assert!(admission.enter(quiet).is_some());
        passes.pop();
        assert!(admission.enter(noisy).is_some());
        drop(passes);
        assert!(admission.strangers.lock().unwrap().by_address.is_empty());
    }
}
