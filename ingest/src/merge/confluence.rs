//! A merge with its connections: the whole state, of one instant between two messages.
//!
//! In: messages of connections by their numbers. Out: what goes on. Pure. Another node that is given this value and the same
//! messages in the same order goes on alike.

use super::{Merge, Source, Standing, Taken};
use rtmp::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A merge and the connections that have said something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Confluence {
    merge: Merge,
    sources: BTreeMap<u64, (Source, u64)>,
    taken: u64,
}

impl Confluence {
    /// Of a connection that leads, and so far nothing.
    pub fn new(leads: u64, now_ms: u64) -> Confluence {
        let sources = BTreeMap::from([(leads, (Source::new(leads, true), 0))]);
        Confluence { merge: Merge::new(now_ms), sources, taken: 0 }
    }

    /// One that another node gave; `None` where it cannot be one. Its silence is counted from now.
    pub fn received(mut self, now_ms: u64) -> Option<Confluence> {
        self.merge.passed_ms = now_ms;
        self.sources.values().all(|(source, _)| source.is_sound()).then_some(self)
    }

    /// Takes the next message of a connection.
    pub fn take(&mut self, of: u64, standing: Standing, now_ms: u64, message: Message) -> Taken {
        let (source, taken) = self.sources.entry(of).or_insert_with(|| (Source::new(of, false), 0));
        (self.taken, *taken) = (self.taken + 1, *taken + 1);
        self.merge.take(source, standing, now_ms, message)
    }

    /// How things stand, for a node that decides.
    pub fn standing(&self, alone: bool, now_ms: u64) -> Standing {
        Standing { alone, quiet: self.merge.is_quiet(now_ms) }
    }

    /// Messages taken so far.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The same of one connection.
    pub fn taken_of(&self, of: u64) -> u64 {
        self.sources.get(&of).map_or(0, |(_, taken)| *taken)
    }

    /// Whether a connection was found to be another encode of the feed since the last call.
    pub fn found_to_differ(&mut self, of: u64) -> bool {
        self.sources.get_mut(&of).is_some_and(|(source, _)| source.found_to_differ())
    }

    /// A connection says nothing more; what waits of it is forgotten.
    pub fn leave(&mut self, of: u64) {
        self.sources.remove(&of);
    }
}
