//! The shelf: values up to a sum of sizes, the longest unused leaving first.
//!
//! In: keys, values, sizes. Out: values. Pure.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

#[derive(Debug)]
pub(super) struct Shelf<K, V> {
    bytes_max: usize,
    bytes: usize,
    uses: u64,
    held: HashMap<K, Held<V>>,
    /// Use → key, oldest first: one entry for each value.
    order: BTreeMap<u64, K>,
}

#[derive(Debug)]
struct Held<V> {
    value: V,
    bytes: usize,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone> Shelf<K, V> {
    pub(super) fn new(bytes_max: usize) -> Shelf<K, V> {
        Shelf { bytes_max, bytes: 0, uses: 0, held: HashMap::new(), order: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn get(&mut self, key: &K) -> Option<V> {
        let held = self.held.get_mut(key)?;
        self.order.remove(&held.used);
        self.uses += 1;
        held.used = self.uses;
        self.order.insert(self.uses, key.clone());
        Some(held.value.clone())
    }

    /// Puts a value in place of others; one larger than the whole shelf is not put.
    pub(super) fn put(&mut self, key: K, value: V, bytes: usize) {
        self.take(&key);
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes > self.bytes_max - bytes {
            let Some((_, oldest)) = self.order.first_key_value() else { break };
            let oldest = oldest.clone();
            self.take(&oldest);
        }
        self.uses += 1;
        self.bytes += bytes;
        self.order.insert(self.uses, key.clone());
        self.held.insert(key, Held { value, bytes, used: self.uses });
    }

    fn take(&mut self, key: &K) {
        if let Some(held) = self.held.remove(key) {
            self.order.remove(&held.used);
            self.bytes -= held.bytes;
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

    proptest! {
        #[test]
        fn sizes_never_exceed_the_limit(steps in proptest::collection::vec((0u8..20, 0usize..60, any::<bool>()), 0..200)) {
            let mut shelf = Shelf::new(100);
            for (key, bytes, get) in steps {
                if get { shelf.get(&key); } else { shelf.put(key, key, bytes); prop_assert_eq!(shelf.get(&key), Some(key)); }
                prop_assert!(shelf.bytes() <= 100);
                prop_assert_eq!(shelf.bytes(), shelf.held.values().map(|held| held.bytes).sum::<usize>());
                prop_assert_eq!(shelf.order.len(), shelf.held.len());
            }
        }
    }
}
