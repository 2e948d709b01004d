//! The little that a node of a pair keeps through restarts: which life it lives, and its election's note.
//!
//! In: the state folder. Out: the incarnation of this life, the durable note, and a thread that stores newer ones: the
//! election's thread never waits for a disk. A file is whole or not there: written beside its name, synced, renamed, folder
//! synced. Nodes that share a folder have a file each.
//!
//! ```text
//! incarnation N                      DIR/pair-NODE
//! alone EPOCH
//! renounced EPOCH
//! ```

use failover::{Epoch, Note};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// Why it cannot be kept.
#[derive(Debug, Error)]
#[error("{path}: {why}", path = path.display())]
pub struct KeepError {
    path: PathBuf,
    why: String,
}

/// The file, open for this life.
#[derive(Debug)]
pub(super) struct Keep {
    path: PathBuf,
    /// Which life this is; higher than any before.
    pub(super) incarnation: u64,
}

impl Keep {
    /// Begins a life: reads what the last one left, and stores the new incarnation.
    ///
    /// # Errors
    /// When the file cannot be read or written, or holds something else.
    pub(super) fn begin(folder: &Path, node: u16) -> Result<(Keep, Note), KeepError> {
        let path = folder.join(format!("pair-{node}"));
        let wrong = |why: String| KeepError { path: path.clone(), why };
        let (last, note) = match fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or_else(|| {
                wrong("this is no record of a pair's node; remove it only while the peer serves".into())
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => (0, Note::default()),
            Err(error) => return Err(wrong(error.to_string())),
        };
        // Also above every life of a folder that was lost.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let keep = Keep { incarnation: now.max(last + 1), path: path.clone() };
        keep.store(note).map_err(|error| wrong(error.to_string()))?;
        Ok((keep, note))
    }

    /// Stores a note; durable when this returns.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn store(&self, note: Note) -> io::Result<()> {
        let Note { alone, renounced } = note;
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        write!(file, "incarnation {}\nalone {alone}\nrenounced {renounced}\n", self.incarnation)?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)?;
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn parse(text: &str) -> Option<(u64, Note)> {
    let mut lines = text.lines();
    let mut number = |name: &str| -> Option<Epoch> { lines.next()?.strip_prefix(name)?.parse().ok() };
    let read = (number("incarnation ")?, Note { alone: number("alone ")?, renounced: number("renounced ")? });
    (text.ends_with('\n') && lines.next().is_none()).then_some(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_life_is_higher_and_finds_the_note() {
        let folder = tempfile::tempdir().unwrap();
        let (first, note) = Keep::begin(folder.path(), 1).unwrap();
        assert_eq!(note, Note::default());
        first.store(Note { alone: 3, renounced: 2 }).unwrap();
        let (second, note) = Keep::begin(folder.path(), 1).unwrap();
        assert!(second.incarnation > first.incarnation);
        assert_eq!(note, Note { alone: 3, renounced: 2 });
        assert_eq!(Keep::begin(folder.path(), 2).unwrap().1, Note::default());
    }

    #[test]
    fn a_torn_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        drop(Keep::begin(folder.path(), 1).unwrap());
        let path = folder.path().join("pair-1");
        let text = fs::read_to_string(&path).unwrap();
        for cut in 0..text.len() {
            fs::write(&path, &text[..cut]).unwrap();
            assert!(
                Keep::begin(folder.path(), 1).unwrap_err().to_string().contains("pair-1"),
                "cut at {cut}"
            );
        }
    }
}
