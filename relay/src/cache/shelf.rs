//! The shelf: values up to a sum of sizes, the longest unused leaving first.
//!
//! In: keys, values, sizes. Out: values. Pure. Places form a ring in the order of use; looking at a value moves its place
//! and allocates nothing.

use std::collections::HashMap;
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct Shelf<K, V> {
    bytes_max: usize,
    bytes: usize,
    held: HashMap<K, usize>,
    places: Vec<Place<K, V>>,
    /// Places that hold nothing.
    free: Vec<usize>,
    /// The place used last, and the one longest unused.
    newest: usize,
    oldest: usize,
}

#[derive(Debug)]
struct Place<K, V> {
    /// `None` while the place is free.
    held: Option<(K, V)>,
    bytes: usize,
    newer: usize,
    older: usize,
}

/// No place.
const NONE: usize = usize::MAX;

impl<K: Hash + Eq + Clone, V: Clone> Shelf<K, V> {
    pub(super) fn new(bytes_max: usize) -> Shelf<K, V> {
        Shelf {
            bytes_max,
            bytes: 0,
            held: HashMap::new(),
            places: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let at = *self.held.get(key)?;
        if self.newest != at {
            self.unlink(at);
            self.link(at);
        }
        self.places[at].held.as_ref().map(|(_, value)| value.clone())
    }

    /// Puts a value in place of others; one larger than the whole shelf is not put.
    pub(super) fn put(&mut self, key: K, value: V, bytes: usize) {
        if let Some(at) = self.held.get(&key) {
            self.take(*at);
        }
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes > self.bytes_max - bytes {
            self.take(self.oldest);
        }
        let place = Place { held: Some((key.clone(), value)), bytes, newer: NONE, older: NONE };
        let at = match self.free.pop() {
            Some(at) => {
                self.places[at] = place;
                at
            }
            None => {
                self.places.push(place);
                self.places.len() - 1
            }
        };
        self.bytes += bytes;
        self.held.insert(key, at);
        self.link(at);
    }

    fn take(&mut self, at: usize) {
        self.unlink(at);
        let place = &mut self.places[at];
        if let Some((key, _)) = place.held.take() {
            self.bytes -= place.bytes;
            self.held.remove(&key);
            self.free.push(at);
        }
    }

    fn link(&mut self, at: usize) {
        (self.places[at].newer, self.places[at].older) = (NONE, self.newest);
        match self.newest {
            NONE => self.oldest = at,
            newest => self.places[newest].newer = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: usize) {
        let (newer, older) = (self.places[at].newer, self.places[at].older);
        match newer {
            NONE => self.newest = older,
            newer => self.places[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.places[older].newer = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_longest_unused_leaves_first() {
        let mut shelf = Shelf::new(3);
        for key in 1..=3 {
            shelf.put(key, key, 1);
        }
        assert_eq!(shelf.get(&1), Some(1));
        shelf.put(4, 4, 2);
        assert_eq!([1, 2, 3, 4].map(|key| shelf.get(&key)), [Some(1), None, None, Some(4)]);
    }

    /// The keys from the one used last to the one longest unused.
    fn order(shelf: &Shelf<u8, u8>) -> Vec<u8> {
        let mut keys = Vec::new();
        let mut at = shelf.newest;
        while at != NONE {
            keys.push(shelf.places[at].held.expect("a linked place holds something").0);
            at = shelf.places[at].older;
        }
        keys
    }

    proptest! {
        #[test]
        fn sizes_never_exceed_the_limit(steps in proptest::collection::vec((0u8..20, 0usize..60, any::<bool>()), 0..200)) {
            let mut shelf = Shelf::new(100);
            let mut used: Vec<u8> = Vec::new();
            for (key, bytes, get) in steps {
                if get {
                    if shelf.get(&key).is_none() { continue; }
                } else {
                    shelf.put(key, key, bytes);
                    prop_assert_eq!(shelf.get(&key), Some(key));
                }
                used.retain(|other| *other != key && shelf.held.contains_key(other));
                used.insert(0, key);
                prop_assert_eq!(order(&shelf), used.clone());
                prop_assert!(shelf.bytes() <= 100);
                let held = shelf.places.iter().filter(|place| place.held.is_some());
                prop_assert_eq!(shelf.bytes(), held.map(|place| place.bytes).sum::<usize>());
                prop_assert_eq!(shelf.places.len(), shelf.held.len() + shelf.free.len());
            }
        }
    }
}
