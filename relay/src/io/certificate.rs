//! The certificate files of the viewers' TLS: read at the start, on SIGHUP, and when they have changed.
//!
//! In: two PEM files. Out: `Current` in force; connections that are open keep theirs. A pair that is not good is refused
//! loudly and the last good one stays. Whoever renews a certificate writes two files, one after the other: a change is taken
//! up when the files have been the same for two looks.

use super::metrics::Metrics;
use crate::node::{Node, now_unix_s};
use crate::tls::{Certified, Current, IdentityError, Tickets};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::time::sleep;

/// A chain of the longest certificates there are fits many times.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// How long before its end a certificate is warned of: who renews does so a month before.
const WARN_S: u64 = 14 * 86_400;

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
    /// Says which file and what is wrong.
    pub fn read(&self, tickets: &Tickets) -> Result<Certified, CertificateError> {
        let (chain, _) = read(&self.certificate)?;
        let (key, mode) = read(&self.key)?;
        if mode & 0o027 != 0 {
            return Err(CertificateError::Open { path: self.key.clone(), mode: mode & 0o777 });
        }
        Ok(Certified::read(&chain, &key, tickets, now_unix_s())?)
    }

    /// What tells whether a file is another one.
    fn look(&self) -> [Option<(u64, i64, i64, u64)>; 2] {
        [&self.certificate, &self.key].map(|path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.ino(), found.mtime(), found.mtime_nsec(), found.len()))
        })
    }
}

fn read(path: &Path) -> Result<(Vec<u8>, u32), CertificateError> {
    let failed =
        |error: std::io::Error| CertificateError::Read { path: path.to_owned(), error: error.to_string() };
    let file = std::fs::File::open(path).map_err(failed)?;
    // Asked of the open file, so that it cannot be exchanged between the look and the read.
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    Ok((text, mode))
}

/// The certificate in force, and the files it comes from.
#[derive(Debug)]
pub(super) struct Keeper {
    files: Files,
    tickets: Tickets,
    pub(super) current: Arc<Current>,
}

impl Keeper {
    /// Reads the files for the first time.
    pub(super) fn new(files: Files, metrics: &Metrics) -> Result<Keeper, CertificateError> {
        let tickets = Tickets::new()?;
        let certified = files.read(&tickets)?;
        tell(&certified, metrics);
        Ok(Keeper { current: Arc::new(Current::new(&certified)), files, tickets })
    }

    /// Reads the files again; what is in force stays when they are not good.
    pub(super) fn reload(&self, metrics: &Metrics) {
        match self.files.read(&self.tickets) {
            Ok(certified) => {
                self.current.put(&certified);
                tell(&certified, metrics);
            }
            Err(error) => {
                metrics.tls_certificate_refused.inc();
                tracing::error!(%error, "the certificate for viewers stays as it was");
            }
        }
    }

    /// Takes up changes of the files until the node stops.
    pub(super) async fn keep(self: Arc<Keeper>, node: Arc<Node>) {
        let mut known = self.files.look();
        let mut before = known;
        loop {
            tokio::select! {
                () = sleep(node.limits.certificate_look) => {}
                () = node.stopped() => return,
            }
            let now = self.files.look();
            if now != known && now == before {
                known = now;
                self.reload(&node.metrics);
            }
            before = now;
        }
    }
}

fn tell(certified: &Certified, metrics: &Metrics) {
    let left_s = certified.not_after_unix_s.saturating_sub(now_unix_s());
    metrics.tls_certificate_expires.set(i64::try_from(certified.not_after_unix_s).unwrap_or(i64::MAX));
    if left_s < WARN_S {
        tracing::warn!(days = left_s / 86_400, "the certificate for viewers expires soon");
    } else {
        tracing::info!(days = left_s / 86_400, "the certificate for viewers is read");
    }
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
