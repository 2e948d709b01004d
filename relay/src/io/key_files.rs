//! Key files: read once, and again on demand. A file that others than its owner can read is refused.

use crate::node::Keys;
use releve_watermark::KeyRing;
use releve_watermark::key::KeyFileError;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Two keys and some comments fit many times.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Reads all keys of a relay from a folder.
///
/// # Errors
/// Names the file and what to do; never a part of a key.
pub fn read_keys(dir: &Path) -> Result<Keys, KeysError> {
    let ring = |name: &str| read_ring(&dir.join(name));
    let mut keys = Keys::new(
        ring("access.key")?,
        ring("session.key")?,
        ring("cluster.key")?,
        ring("code.key")?,
        &ring("bias.key")?,
    );
    keys.webhook = if_there(&dir.join("webhook.key"))?;
    keys.mint = if_there(&dir.join("mint.key"))?;
    keys.cdn = if_there(&dir.join("cdn.key"))?;
    keys.edge = if_there(&dir.join("edge.key"))?;
    keys.edge_auth = if_there(&dir.join("edgeauth.key"))?;
    keys.content = if_there(&dir.join("content.key"))?;
    Ok(keys)
}

/// Keys that a relay may do without.
fn if_there(path: &Path) -> Result<Option<KeyRing>, KeysError> {
    if path.exists() { read_ring(path).map(Some) } else { Ok(None) }
}

fn read_ring(path: &Path) -> Result<KeyRing, KeysError> {
    let failed = |error: std::io::Error| KeysError::Read { path: path.to_owned(), error: error.to_string() };
    let file = std::fs::File::open(path).map_err(failed)?;
    // Asked of the open file, so that it cannot be exchanged between the look and the read.
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(KeysError::Open { path: path.to_owned(), mode: mode & 0o777 });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    KeyRing::parse(&text).map_err(|error| KeysError::Text { path: path.to_owned(), error })
}

/// Why keys cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeysError {
    /// The file cannot be read.
    #[error("cannot read the key file {path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// Others can read it.
    #[error("the key file {path} is open to others (mode {mode:03o}): run chmod 600 on it")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not a key file.
    #[error("the key file {path}: {error}")]
    Text {
        /// Which file.
        path: PathBuf,
        /// Which line.
        error: KeyFileError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use releve_watermark::Key;

    fn write(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["access.key", "session.key", "cluster.key", "code.key", "bias.key"] {
            write(&dir.path().join(name), &Key::new(1, [1; 32]).to_line(), 0o600);
        }
        assert!(read_keys(dir.path()).is_ok());
        let path = dir.path().join("code.key");
        for mode in [0o640, 0o604, 0o660] {
            write(&path, &Key::new(1, [1; 32]).to_line(), mode);
            assert_eq!(read_keys(dir.path()).err(), Some(KeysError::Open { path: path.clone(), mode }));
        }
        write(&path, "nonsense", 0o600);
        assert!(matches!(read_keys(dir.path()), Err(KeysError::Text { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_keys(dir.path()), Err(KeysError::Read { .. })));
    }
}
