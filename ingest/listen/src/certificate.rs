//! The files of a certificate: read when a program starts, and again when they have changed.
//!
//! In: two PEM files. Out: what is in them, checked, or which file is wrong and why. Touches both files. Whoever renews a
//! certificate writes two files, one after the other: a change counts when the files have been the same for two looks.

use crate::identity::{Identity, IdentityError};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use thiserror::Error;

/// A chain of the longest certificates there are fits many times.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where certificate and key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, its issuers behind it.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Files {
    /// Reads and checks both.
    ///
    /// # Errors
    /// Says which file and what is wrong, never what a key is.
    pub fn read(&self) -> Result<Identity, CertificateError> {
        let (chain, _) = read(&self.certificate)?;
        let (key, mode) = read(&self.key)?;
        if mode & 0o027 != 0 {
            return Err(CertificateError::Open { path: self.key.clone(), mode: mode & 0o777 });
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(Identity::read(&chain, &key, now)?)
    }

    /// Looks at the files for the first time.
    pub fn watched(&self) -> Watched {
        let now = self.look();
        Watched { files: self.clone(), known: now, before: now }
    }

    fn look(&self) -> Look {
        [&self.certificate, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
        })
    }
}

/// What tells whether a file is another one.
type Look = [Option<(u64, i64, i64, u64)>; 2];

/// Files that are looked at now and then.
#[derive(Debug)]
pub struct Watched {
    files: Files,
    known: Look,
    before: Look,
}

impl Watched {
    /// Looks again: whether they are others than those that were read, and as they were at the last look.
    pub fn changed(&mut self) -> bool {
        let now = self.files.look();
        let settled = now == std::mem::replace(&mut self.before, now);
        let changed = settled && now != self.known;
        if changed {
            self.known = now;
        }
        changed
    }
}

fn read(path: &Path) -> Result<(Vec<u8>, u32), CertificateError> {
    let failed =
        |error: std::io::Error| CertificateError::Read { path: path.to_owned(), error: error.to_string() };
    let file = File::open(path).map_err(failed)?;
    // Asked of the open file, so that it cannot be exchanged between the look and the read.
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok((text, mode))
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}: {error}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// Others can read the key, or its group can write it.
    #[error("the key {path} is open to others (mode {mode:03o}): run chmod 640 on it, or 600")]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// What is in them.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::fixtures::{EXPIRED, FIRST, FIRST_KEY, SECOND, SECOND_KEY};
    use std::fs::{Permissions, set_permissions, write};

    fn files(certificate: &str, key: &str, mode: u32) -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let files = Files { certificate: dir.path().join("c.pem"), key: dir.path().join("k.pem") };
        write(&files.certificate, certificate).unwrap();
        write(&files.key, key).unwrap();
        set_permissions(&files.key, Permissions::from_mode(mode)).unwrap();
        (dir, files)
    }

    #[test]
    fn what_is_wrong_with_the_files_is_said() {
        for mode in [0o600, 0o640, 0o400] {
            assert!(files(FIRST, FIRST_KEY, mode).1.read().is_ok());
        }
        for (certificate, key, mode, named) in [
            ("", FIRST_KEY, 0o600, "holds no certificate"),
            (FIRST, "", 0o600, "holds no private key"),
            (FIRST, FIRST_KEY, 0o644, "chmod 640"),
            (FIRST, FIRST_KEY, 0o660, "k.pem is open to others (mode 660)"),
            (FIRST, SECOND_KEY, 0o600, "does not belong"),
            (EXPIRED, FIRST_KEY, 0o600, "expired on Fri, 31 Jan 2020"),
        ] {
            let (_dir, files) = files(certificate, key, mode);
            let said = files.read().err().unwrap().to_string();
            assert!(said.contains(named), "{said}");
            assert!(!said.contains("PRIVATE"), "{said}");
        }
        let missing = Files { certificate: "/nowhere/c.pem".into(), key: "/nowhere/k.pem".into() };
        assert!(missing.read().err().unwrap().to_string().contains("/nowhere/c.pem"));
    }

    #[test]
    fn a_change_counts_once_and_when_it_stands_still() {
        let (_dir, files) = files(FIRST, FIRST_KEY, 0o600);
        let mut watched = files.watched();
        assert!(!watched.changed());
        write(&files.certificate, SECOND).unwrap();
        assert!(!watched.changed(), "the key may be about to follow");
        write(&files.key, SECOND_KEY).unwrap();
        assert!(!watched.changed(), "it did");
        assert!(watched.changed() && !watched.changed() && !watched.changed());
    }
}
