//! The state folder of a one-machine set-up: where the state store, the keys and the blobs are.
//!
//! ```text
//! DIR/state.db                                              streams, runs, segments, ledger (SQLite)
//! DIR/keys/{access,session,cluster,pattern,code,bias,webhook,mint,content}.key   secrets, mode 0600
//! DIR/keys/drm.header                                       what the node says to a DRM key server of itself
//! DIR/blobs/                                                init sections
//! DIR/archive/                                              marked segments, for the tracer
//! ```
//!
//! In: a path. Out: key rings and paths, or an error that names the file. Touches files only.

use releve_watermark::key::KeyFileError;
use releve_watermark::{Key, KeyRing};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// What a key is for; each kind is a file of its own, so that a node is given only what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Signs access tokens: relays, and whoever mints.
    Access,
    /// Signs viewer sessions: relays.
    Session,
    /// Signs messages between nodes: ingest nodes and relays.
    Cluster,
    /// Draws the patterns of the variants: ingest nodes, the tracer.
    Pattern,
    /// Draws codewords: relays, the tracer.
    Code,
    /// Draws the bias of each position: relays, the tracer.
    Bias,
    /// Signs what relays ask the operator's webhook: relays, the webhook.
    Webhook,
    /// Opens the minting of access tokens on relays' admin listeners: relays, whoever mints there.
    Mint,
    /// Gives the keys that segments are encrypted by: ingest nodes, relays.
    Content,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [KeyKind; 9] = [
        KeyKind::Access,
        KeyKind::Session,
        KeyKind::Cluster,
        KeyKind::Pattern,
        KeyKind::Code,
        KeyKind::Bias,
        KeyKind::Webhook,
        KeyKind::Mint,
        KeyKind::Content,
    ];

    fn file_name(self) -> &'static str {
        match self {
            KeyKind::Access => "access.key",
            KeyKind::Session => "session.key",
            KeyKind::Cluster => "cluster.key",
            KeyKind::Pattern => "pattern.key",
            KeyKind::Code => "code.key",
            KeyKind::Bias => "bias.key",
            KeyKind::Webhook => "webhook.key",
            KeyKind::Mint => "mint.key",
            KeyKind::Content => "content.key",
        }
    }
}

/// What is wrong with a state folder.
#[derive(Debug, Error)]
pub enum StateDirError {
    /// A file or folder cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no such key file.
    #[error("{path} is missing; `relevectl --dir DIR init` makes a state folder with all keys", path = .0.display())]
    NoKey(PathBuf),
    /// Others than its owner may read the file.
    #[error("{path} may be read by others than its owner; run `chmod 600` on it", path = .0.display())]
    Open(PathBuf),
    /// Its text is not a key file.
    #[error("{path}: {error}", path = path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        error: KeyFileError,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for a key")]
    Random,
}

/// A state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
}

impl StateDir {
    /// The folder at this path; nothing is touched yet.
    pub fn at(root: impl Into<PathBuf>) -> StateDir {
        StateDir { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The SQLite file.
    pub fn database(&self) -> PathBuf {
        self.root.join("state.db")
    }

    /// Operators' commands that were carried out, a JSON line each.
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit.jsonl")
    }

    /// The header that a DRM key server is shown; there need not be one.
    pub fn drm_header(&self) -> PathBuf {
        self.root.join("keys/drm.header")
    }

    /// The folder of blobs.
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// The folder of the archive.
    pub fn archive(&self) -> PathBuf {
        self.root.join("archive")
    }

    /// Makes the folder and every key that is not there yet. Doing it again changes nothing.
    ///
    /// # Errors
    /// Names the file that could not be made.
    pub fn init(&self) -> Result<(), StateDirError> {
        let keys = self.root.join("keys");
        for folder in [&self.root, &keys, &self.blobs()] {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| StateDirError::Io { path: folder.clone(), error })?;
        }
        KeyKind::ALL.into_iter().try_for_each(|kind| new_key(&keys.join(kind.file_name())))
    }

    /// Reads the live keys of one kind.
    ///
    /// # Errors
    /// When the file is missing, readable by others, or not a key file.
    pub fn keys(&self, kind: KeyKind) -> Result<KeyRing, StateDirError> {
        let path = self.root.join("keys").join(kind.file_name());
        match read_ring(&path) {
            Err(StateDirError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
                Err(StateDirError::NoKey(path))
            }
            read => read,
        }
    }
}

/// Reads the live keys of a file.
///
/// # Errors
/// When the file cannot be read, is readable by others, or is not a key file.
pub fn read_ring(path: &Path) -> Result<KeyRing, StateDirError> {
    let at = |error| StateDirError::Io { path: path.to_owned(), error };
    if fs::metadata(path).map_err(at)?.mode() & 0o077 != 0 {
        return Err(StateDirError::Open(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(at)?;
    KeyRing::parse(&text).map_err(|error| StateDirError::Key { path: path.to_owned(), error })
}

fn new_key(path: &Path) -> Result<(), StateDirError> {
    let at = |error| StateDirError::Io { path: path.to_owned(), error };
    let key = Key::generate(1).map_err(|_| StateDirError::Random)?;
    match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => file.write_all(key.to_line().as_bytes()).and_then(|()| file.sync_all()).map_err(at),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn init_keeps_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path().join("state"));
        dir.init().unwrap();
        let first = dir.keys(KeyKind::Code).unwrap();
        dir.init().unwrap();
        assert_eq!(dir.keys(KeyKind::Code).unwrap(), first);
        assert_ne!(dir.keys(KeyKind::Bias).unwrap(), first);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path());
        assert!(matches!(dir.keys(KeyKind::Access), Err(StateDirError::NoKey(_))));
        dir.init().unwrap();
        let path = folder.path().join("keys/access.key");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(dir.keys(KeyKind::Access), Err(StateDirError::Open(_))));
    }
}
