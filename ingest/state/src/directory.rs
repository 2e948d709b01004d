//! The directory of streams as two nodes compare it: every name there ever was, with how often it changed.
//!
//! In: entries of two nodes. Out: which of two counts. Pure; the back-ends share the rule. A revision is a counter and no
//! time: each change is given one above all that its node has seen, so what was changed knowing of another change is above
//! it, whatever the nodes' clocks say. Of two changes that knew nothing of each other both nodes choose the same one.

use crate::coordinator::StreamRecord;
use ingest_api::StreamName;
use serde::{Deserialize, Serialize};

/// A name in the directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryEntry {
    /// The stream.
    pub name: StreamName,
    /// Of its last change; 0 where that was before changes were counted.
    pub revision: u64,
    /// What it is since; `None`: removed.
    pub record: Option<StreamRecord>,
}

impl DirectoryEntry {
    /// Whether this one takes the place of the other, which has the same name.
    pub fn replaces(&self, other: &DirectoryEntry) -> bool {
        self.rank() > other.rank()
    }

    /// A stream that is there stands above one that is not: what is removed by mistake is the greater loss.
    fn rank(&self) -> (u64, Option<[String; 4]>) {
        let words = self.record.as_ref().map(|record| {
            let StreamRecord { name: _, key_id, key_hash, mark, encrypt } = record;
            [
                key_id.clone(),
                serde_json::json!(key_hash).to_string(),
                format!("{mark:?}"),
                format!("{encrypt:?}"),
            ]
        });
        (self.revision, words)
    }

    /// Whether the record is of this name, and the revision can be counted on from.
    pub(crate) fn is_sound(&self) -> bool {
        self.revision < REVISION_MAX && self.record.as_ref().is_none_or(|record| record.name == self.name)
    }
}

/// Nobody changes streams so often. One that says so must not use the numbers up.
const REVISION_MAX: u64 = 1 << 48;

/// What of `ours` takes the place of what `theirs` says, at most `count`, by name.
pub fn newer(ours: &[DirectoryEntry], theirs: &[DirectoryEntry], count: usize) -> Vec<DirectoryEntry> {
    let beats = |entry: &&DirectoryEntry| {
        theirs.iter().find(|other| other.name == entry.name).is_none_or(|other| entry.replaces(other))
    };
    ours.iter().filter(beats).take(count).cloned().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::coordinator::MarkPolicy;
    use crate::stream_key::{KeyHash, StreamKey};

    fn entry(revision: u64, mark: Option<MarkPolicy>) -> DirectoryEntry {
        let name: StreamName = "demo".parse().unwrap();
        let key = StreamKey::parse(&format!("kaaaaaaaa01_{}", "0".repeat(32))).unwrap();
        let record = mark.map(|mark| StreamRecord {
            name: name.clone(),
            key_id: "one".to_owned(),
            key_hash: KeyHash::of(&key),
            mark,
            encrypt: Default::default(),
        });
        DirectoryEntry { name, revision, record }
    }

    #[test]
    fn of_two_one_counts_and_never_both() {
        let all = [
            entry(1, None),
            entry(1, Some(MarkPolicy::Off)),
            entry(2, None),
            entry(2, Some(MarkPolicy::Require)),
        ];
        for (place, one) in all.iter().enumerate() {
            for (other_place, other) in all.iter().enumerate() {
                assert_eq!(one.replaces(other), place > other_place, "{one:?} and {other:?}");
            }
        }
    }

    #[test]
    fn only_what_is_newer_is_said_and_no_more_than_fits() {
        let (old, new) = ([entry(1, Some(MarkPolicy::Off))], [entry(2, None)]);
        assert_eq!(newer(&new, &old, 9), new);
        assert_eq!(newer(&old, &new, 9), []);
        assert_eq!(newer(&old, &old, 9), []);
        assert_eq!(newer(&old, &[], 9), old);
        assert_eq!(newer(&old, &[], 0), []);
    }
}
