//! The cache: objects once fetched, and one flight for each that is under way.
//!
//! ```text
//! look(key) ─► Held(value)                    it is here
//!          ├─► Absent                         it was looked for a moment ago, in vain
//!          ├─► Wait(Waiter)                   somebody is fetching it: wait for the landing
//!          └─► Fetch(Owner)                   fetch it: every later asker waits for you
//! ```
//!
//! In: keys made from typed routes and snapshots (never from URL text), values and their sizes, the time in
//! milliseconds. Out: as drawn. No sockets, no clock, no runtime: a `Waiter` is a plain future.
//!
//! Bounds: values are forgotten, longest unused first, when their sizes exceed the limit, but what a flight delivers reaches
//! all its waiters whatever its size. Failures are remembered briefly, and only `ABSENT_MAX` of them. An owner that is
//! dropped before it lands wakes its waiters, who look again: one of them becomes the owner.

mod flight;
mod shelf;

pub use flight::{Landed, Waiter};

use flight::Flight;
use shelf::Shelf;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most failures remembered at once.
pub const ABSENT_MAX: usize = 1024;

/// Values under keys, with a bound on their sizes.
#[derive(Debug)]
pub struct Cache<K, V> {
    state: Mutex<State<K, V>>,
}

#[derive(Debug)]
struct State<K, V> {
    shelf: Shelf<K, V>,
    flights: HashMap<K, Arc<Flight<V>>>,
    absent_until_ms: HashMap<K, u64>,
}

/// What a look into the cache gives.
#[derive(Debug)]
pub enum Look<K: Hash + Eq + Clone, V: Clone> {
    /// The value.
    Held(V),
    /// Looked for in vain a moment ago.
    Absent,
    /// Under way.
    Wait(Waiter<V>),
    /// The caller's to fetch.
    Fetch(Owner<K, V>),
}

/// The duty to fetch one value.
#[derive(Debug)]
pub struct Owner<K: Hash + Eq + Clone, V: Clone> {
    cache: Arc<Cache<K, V>>,
    key: K,
    flight: Arc<Flight<V>>,
    landed: bool,
}

/// How full the cache is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Values held.
    pub values: usize,
    /// The sum of their sizes.
    pub bytes: usize,
    /// Flights under way.
    pub flights: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    /// An empty cache for values of `bytes_max` bytes together.
    pub fn new(bytes_max: usize) -> Arc<Cache<K, V>> {
        let state =
            State { shelf: Shelf::new(bytes_max), flights: HashMap::new(), absent_until_ms: HashMap::new() };
        Arc::new(Cache { state: Mutex::new(state) })
    }

    /// Looks for a value. Exactly one of all concurrent callers gets `Fetch`.
    pub fn look(self: &Arc<Self>, key: &K, now_ms: u64) -> Look<K, V> {
        let mut state = self.lock();
        if let Some(value) = state.shelf.get(key) {
            return Look::Held(value);
        }
        if let Some(flight) = state.flights.get(key) {
            return Look::Wait(Flight::waiter(flight));
        }
        if state.absent_until_ms.get(key).is_some_and(|until| now_ms < *until) {
            return Look::Absent;
        }
        state.absent_until_ms.remove(key);
        let flight = Flight::new();
        state.flights.insert(key.clone(), flight.clone());
        Look::Fetch(Owner { cache: self.clone(), key: key.clone(), flight, landed: false })
    }

    /// The value, if it is here. Nothing is allocated.
    pub fn held(&self, key: &K) -> Option<V> {
        self.lock().shelf.get(key)
    }

    /// How full it is.
    pub fn fill(&self) -> Fill {
        let state = self.lock();
        Fill { values: state.shelf.len(), bytes: state.shelf.bytes(), flights: state.flights.len() }
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        // Each change below is whole before anything can panic, so a poisoned state is still a good one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Owner<K, V> {
    /// A waiter for this flight, for the one who opened it.
    pub fn waiter(&self) -> Waiter<V> {
        Flight::waiter(&self.flight)
    }

    /// The value is here: keeps it and gives it to all who wait.
    pub fn found(mut self, value: V, bytes: usize) {
        let mut state = self.cache.lock();
        state.flights.remove(&self.key);
        state.shelf.put(self.key.clone(), value.clone(), bytes);
        drop(state);
        self.landed = true;
        self.flight.land(Landed::Found(value));
    }

    /// There is none: tells all who wait, and those who ask before `until_ms`.
    pub fn absent(mut self, now_ms: u64, until_ms: u64) {
        let mut state = self.cache.lock();
        state.flights.remove(&self.key);
        if state.absent_until_ms.len() >= ABSENT_MAX {
            state.absent_until_ms.retain(|_, until| now_ms < *until);
        }
        if state.absent_until_ms.len() < ABSENT_MAX {
            state.absent_until_ms.insert(self.key.clone(), until_ms);
        }
        drop(state);
        self.landed = true;
        self.flight.land(Landed::Absent);
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Drop for Owner<K, V> {
    fn drop(&mut self) {
        if !self.landed {
            self.cache.lock().flights.remove(&self.key);
            self.flight.land(Landed::Abandoned);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    fn now<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn fetch(cache: &Arc<Cache<u32, u32>>, key: u32, now_ms: u64) -> Owner<u32, u32> {
        match cache.look(&key, now_ms) {
            Look::Fetch(owner) => owner,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_fetches_and_the_others_wait() {
        let cache = Cache::new(100);
        let owner = fetch(&cache, 1, 0);
        let waiters: Vec<_> = (0..5)
            .map(|_| match cache.look(&1, 0) {
                Look::Wait(waiter) => waiter,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(cache.fill(), Fill { values: 0, bytes: 0, flights: 1 });
        let own = owner.waiter();
        owner.found(11, 10);
        assert_eq!(now(own), Some(Landed::Found(11)));
        for waiter in waiters {
            assert_eq!(now(waiter), Some(Landed::Found(11)));
        }
        assert!(matches!(cache.look(&1, 0), Look::Held(11)));
        assert_eq!(cache.fill(), Fill { values: 1, bytes: 10, flights: 0 });
    }

    #[test]
    fn a_failure_is_remembered_briefly() {
        let cache = Cache::new(100);
        let owner = fetch(&cache, 1, 0);
        let waiter = owner.waiter();
        owner.absent(0, 1000);
        assert_eq!(now(waiter), Some(Landed::Absent));
        assert!(matches!(cache.look(&1, 999), Look::Absent));
        fetch(&cache, 1, 1000).found(1, 1);
    }

    #[test]
    fn failures_are_bounded() {
        let cache = Cache::new(100);
        for key in 0..2 * ABSENT_MAX as u32 {
            fetch(&cache, key, 0).absent(0, 1000);
        }
        assert_eq!(cache.lock().absent_until_ms.len(), ABSENT_MAX);
        fetch(&cache, u32::MAX, 1000).absent(1000, 2000);
        assert_eq!(cache.lock().absent_until_ms.len(), 1);
    }

    #[test]
    fn a_lost_owner_is_replaced() {
        let cache = Cache::new(100);
        let owner = fetch(&cache, 1, 0);
        let Look::Wait(waiter) = cache.look(&1, 0) else { panic!() };
        drop(owner);
        assert_eq!(now(waiter), Some(Landed::Abandoned));
        fetch(&cache, 1, 0).found(5, 1);
        assert!(matches!(cache.look(&1, 0), Look::Held(5)));
    }

    #[test]
    fn what_is_too_large_to_keep_is_delivered_all_the_same() {
        let cache = Cache::new(100);
        fetch(&cache, 1, 0).found(1, 60);
        let owner = fetch(&cache, 2, 0);
        let waiter = owner.waiter();
        owner.found(2, 101);
        assert_eq!(now(waiter), Some(Landed::Found(2)));
        assert_eq!(cache.fill(), Fill { values: 1, bytes: 60, flights: 0 });
    }
}
