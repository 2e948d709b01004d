//! Changing the keys that codewords and patterns are drawn by, with a commitment that is published before use.
//!
//! ```text
//! commit   draws the next version of pattern, code and bias key; it stands second in each key file: known, not used
//! use      puts a version first: nodes that are started from then on use it
//! open     prints the code and bias key of a version, for whoever shall check a report
//!
//! DIR/keys/KIND.history   versions that made room for others: what they marked can still be traced
//! DIR/keys/commitments    KIND VERSION COMMITMENT, one a line, all versions ever
//! ```
//!
//! In: a state folder. Out: changed key files, each written beside and renamed; lines to publish. Touches that folder only.

use crate::state_dir::{KeyKind, StateDir, StateDirError};
use releve_watermark::key::{KeyFileError, LIVE_KEYS_MAX, parse_history};
use releve_watermark::keybook::commitment;
use releve_watermark::{Key, KeyRing};
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Kinds that change together, under one version, and their names in commitments.
const TOGETHER: [(KeyKind, &str); 3] =
    [(KeyKind::Pattern, "pattern"), (KeyKind::Code, "code"), (KeyKind::Bias, "bias")];

/// Why keys were not changed.
#[derive(Debug, Error)]
pub enum KeyChangeError {
    /// A key file is missing or wrong.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// A history file is wrong.
    #[error("{path}: {error}", path = .path.display())]
    History {
        /// Which.
        path: PathBuf,
        /// Why.
        error: KeyFileError,
    },
    /// A file cannot be read or written.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No such version.
    #[error("there is no {kind} key {version}; `relevectl key list` shows what there is")]
    NoVersion {
        /// Of which kind.
        kind: &'static str,
        /// Which.
        version: u32,
    },
    /// The next version is there already.
    #[error("version {0} is committed to and not used yet: `relevectl key use {0}` first")]
    Waiting(u32),
}

/// A key as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// `pattern`, `code` or `bias`.
    pub kind: &'static str,
    /// Its version.
    pub version: u32,
    /// `current`, `live` (accepted beside it) or `used` (in the history).
    pub state: &'static str,
    /// What is published of it.
    pub commitment: String,
}

/// Writes down the commitments of keys that have none yet.
///
/// # Errors
/// When a file cannot be read or written.
pub fn note_commitments(dir: &StateDir) -> Result<(), KeyChangeError> {
    let path = keys_dir(dir).join("commitments");
    let mut text = read_or_empty(&path)?;
    let before = text.len();
    for listed in list(dir)? {
        let line = format!("{} {} {}\n", listed.kind, listed.version, listed.commitment);
        if !text.contains(&line) {
            text += &line;
        }
    }
    if text.len() > before { replace(&path, &text) } else { Ok(()) }
}

/// All versions of all three kinds.
///
/// # Errors
/// When a key file is missing or wrong.
pub fn list(dir: &StateDir) -> Result<Vec<Listed>, KeyChangeError> {
    let mut all = Vec::new();
    for (kind, name) in TOGETHER {
        let ring = dir.keys(kind)?;
        let live = ring.iter().enumerate().map(|(at, key)| (key, if at == 0 { "current" } else { "live" }));
        let used = history(dir, name)?;
        for (key, state) in live.chain(used.iter().map(|key| (key, "used"))) {
            all.push(Listed { kind: name, version: key.version, state, commitment: commitment(name, key) });
        }
    }
    Ok(all)
}

/// Draws the next version, which nobody uses yet. Gives it.
///
/// # Errors
/// When the last one drawn is not in use yet, or a file cannot be written.
pub fn commit(dir: &StateDir) -> Result<u32, KeyChangeError> {
    let all = list(dir)?;
    let highest = all.iter().map(|key| key.version).max().unwrap_or(0);
    if all.iter().any(|key| key.version == highest && key.state == "live") {
        return Err(KeyChangeError::Waiting(highest));
    }
    for (kind, name) in TOGETHER {
        let ring = dir.keys(kind)?;
        let key = Key::generate(highest + 1).map_err(|_| StateDirError::Random)?;
        // The history first: a crash between the two writes leaves a key twice, never none.
        let gone: Vec<Key> = ring.iter().skip(LIVE_KEYS_MAX - 1).cloned().collect();
        add_history(dir, name, &gone)?;
        let text = ring.current().to_line() + &key.to_line();
        replace(&keys_dir(dir).join(format!("{name}.key")), &text)?;
    }
    note_commitments(dir)?;
    Ok(highest + 1)
}

/// Puts a live version first.
///
/// # Errors
/// When there is no such live version, or a file cannot be written.
pub fn use_version(dir: &StateDir, version: u32) -> Result<(), KeyChangeError> {
    let rings: Vec<KeyRing> = TOGETHER.iter().map(|(kind, _)| dir.keys(*kind)).collect::<Result<_, _>>()?;
    for ((_, kind), ring) in TOGETHER.iter().zip(&rings) {
        ring.version(version).ok_or(KeyChangeError::NoVersion { kind, version })?;
    }
    for ((_, name), ring) in TOGETHER.iter().zip(&rings) {
        let (first, rest): (Vec<&Key>, Vec<&Key>) = ring.iter().partition(|key| key.version == version);
        let text: String = first.into_iter().chain(rest).map(Key::to_line).collect();
        replace(&keys_dir(dir).join(format!("{name}.key")), &text)?;
    }
    Ok(())
}

/// The lines of a file of opened keys: code and bias key of a version, with the commitments that they open.
///
/// # Errors
/// When there is no such version.
pub fn open(dir: &StateDir, version: u32) -> Result<String, KeyChangeError> {
    let mut text = String::new();
    for (kind, name) in &TOGETHER[1..] {
        let mut keys: Vec<Key> = dir.keys(*kind)?.iter().cloned().collect();
        keys.extend(history(dir, name)?);
        let key = keys.iter().find(|key| key.version == version);
        let key = key.ok_or(KeyChangeError::NoVersion { kind: name, version })?;
        text += &format!("# commitment {}\n{name} {}", commitment(name, key), key.to_line());
    }
    Ok(text)
}

fn keys_dir(dir: &StateDir) -> PathBuf {
    dir.root().join("keys")
}

fn history(dir: &StateDir, name: &str) -> Result<Vec<Key>, KeyChangeError> {
    let path = keys_dir(dir).join(format!("{name}.history"));
    parse_history(&read_or_empty(&path)?).map_err(|error| KeyChangeError::History { path, error })
}

fn add_history(dir: &StateDir, name: &str, keys: &[Key]) -> Result<(), KeyChangeError> {
    let path = keys_dir(dir).join(format!("{name}.history"));
    let known = history(dir, name)?;
    let new: String = keys
        .iter()
        .filter(|key| known.iter().all(|other| other.version != key.version))
        .map(Key::to_line)
        .collect();
    if new.is_empty() { Ok(()) } else { replace(&path, &(read_or_empty(&path)? + &new)) }
}

fn read_or_empty(path: &Path) -> Result<String, KeyChangeError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        other => other.map_err(|error| KeyChangeError::Io { path: path.to_owned(), error }),
    }
}

/// Writes a file beside the old one, synced, and renames it.
fn replace(path: &Path, text: &str) -> Result<(), KeyChangeError> {
    let new = path.with_extension("new");
    let written = || -> io::Result<()> {
        // What an earlier crash left there is of no use.
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    written().map_err(|error| KeyChangeError::Io { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use releve_watermark::KeyBook;

    #[test]
    fn versions_are_committed_to_before_use_and_none_is_ever_lost() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path());
        dir.init().unwrap();
        note_commitments(&dir).unwrap();
        let first = dir.keys(KeyKind::Code).unwrap().current().clone();
        let current = || dir.keys(KeyKind::Code).unwrap().current().version;
        for version in 2..6 {
            assert_eq!(commit(&dir).unwrap(), version);
            assert_eq!(current(), version - 1, "known, not used");
            assert!(matches!(commit(&dir), Err(KeyChangeError::Waiting(waiting)) if waiting == version));
            use_version(&dir, version).unwrap();
            assert_eq!(current(), version);
        }
        assert!(matches!(use_version(&dir, 9), Err(KeyChangeError::NoVersion { version: 9, .. })));
        let text: String = (1..6).map(|version| open(&dir, version).unwrap()).collect();
        let book = KeyBook::parse(&text).unwrap();
        assert_eq!(book.keys(1, 1).unwrap().0, &first);
        let listed = list(&dir).unwrap();
        assert_eq!(listed.len(), 15);
        let states: Vec<_> =
            listed.iter().filter(|key| key.kind == "bias").map(|key| (key.version, key.state)).collect();
        assert_eq!(states, [(5, "current"), (4, "live"), (1, "used"), (2, "used"), (3, "used")]);
        let commitments = fs::read_to_string(folder.path().join("keys/commitments")).unwrap();
        assert_eq!(commitments.lines().count(), 15);
        for key in listed {
            assert!(commitments.contains(&format!("{} {} {}", key.kind, key.version, key.commitment)));
        }
        assert!(!commitments.contains(&hex(first.secret())), "a commitment gives nothing away");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
