//! Reads the keys that tokens of others are checked with, at the start, regularly and when a token names a new one.
//!
//! In: a file, or a URL. Out: rules for the node; the last good ones stay when a reading fails. What is read is bounded, a
//! reading has a time limit, and requests cause at most one reading in `Limits::keys_rest`.

use crate::node::{Limits, Node};
use crate::token::foreign::Rules;
use crate::token::key_set::{KeySet, KeySetError, Reach, SET_BYTES_MAX};
use crate::token::place::Site;
use releve_listen::outside::{Outside, OutsideError, may_ask};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use thiserror::Error;
use tokio::time::sleep;

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file. When only its owner can read it, it may hold shared secrets.
    File(PathBuf),
    /// A URL.
    Url(String),
}

/// Reads keys, and what else tokens are measured by.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    outside: Option<Outside>,
    issuer: Option<String>,
    audience: Option<String>,
    site: Site,
}

impl Source {
    /// The source that a text of the configuration means; `None` for a URL that may not be asked.
    pub fn of(text: &str) -> Option<Source> {
        match text.contains("://") {
            false => Some(Source::File(text.into())),
            true => may_ask(text).then(|| Source::Url(text.to_owned())),
        }
    }

    /// Looks at keys in a file; those behind a URL are another machine's matter.
    ///
    /// # Errors
    /// As `Reader::read`.
    pub fn check(&self) -> Result<(), JwksError> {
        match self {
            Source::File(path) => read_file(path).map(drop),
            Source::Url(_) => Ok(()),
        }
    }
}

impl Reader {
    /// A reader of this source; nothing is read yet.
    ///
    /// # Errors
    /// As `Outside::new`.
    pub fn new(
        source: Source,
        issuer: Option<String>,
        audience: Option<String>,
        site: Site,
        limits: &Limits,
    ) -> Result<Reader, JwksError> {
        let outside = match &source {
            Source::Url(url) => Some(Outside::new(url, limits.outside_patience)?),
            Source::File(_) => None,
        };
        Ok(Reader { source, outside, issuer, audience, site })
    }

    /// Whether its keys are in a file: then they must be there from the start.
    pub fn is_file(&self) -> bool {
        self.outside.is_none()
    }

    /// The rules before any keys are read: a token of others is known as one, and opens nothing.
    pub fn nothing_yet(&self) -> Rules {
        self.with(KeySet::default())
    }

    fn with(&self, keys: KeySet) -> Rules {
        Rules {
            keys: Arc::new(keys),
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            site: self.site.clone(),
        }
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// Says what is wrong with them, never what they are.
    pub async fn read(&self, limits: &Limits) -> Result<Rules, JwksError> {
        let keys = match (&self.outside, &self.source) {
            (Some(outside), _) => {
                KeySet::parse(&outside.get(SET_BYTES_MAX, limits.outside_patience).await?, Reach::Public)?
            }
            (None, Source::File(path)) => read_file(path)?,
            (None, Source::Url(_)) => return Err(OutsideError::Url.into()),
        };
        Ok(self.with(keys))
    }
}

/// A set in a file. A few kilobytes on a local disk: read in place.
fn read_file(path: &Path) -> Result<KeySet, JwksError> {
    let failed = |error: std::io::Error| JwksError::File { path: path.to_owned(), error: error.to_string() };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.permissions().mode();
    let reach = if mode & 0o077 == 0 { Reach::Private } else { Reach::Public };
    let mut text = Vec::new();
    file.take(SET_BYTES_MAX as u64 + 1).read_to_end(&mut text).map_err(failed)?;
    Ok(KeySet::parse(&text, reach)?)
}

/// Keeps the node's rules fresh until it stops.
pub(super) async fn keep(node: Arc<Node>, reader: Reader) {
    let (mut well, mut first) = (true, true);
    loop {
        let read = tokio::select! {
            read = reader.read(&node.limits) => read,
            () = node.stopped() => return,
        };
        let next = match read {
            Ok(rules) => {
                if !std::mem::replace(&mut well, true) || std::mem::replace(&mut first, false) {
                    let (keys, skipped) = (rules.keys.len(), rules.keys.skipped());
                    tracing::info!(keys, skipped, "the keys of JSON web tokens are read");
                }
                node.jwt.put(rules);
                node.metrics.jwt_keys_read.inc();
                node.limits.keys_refresh
            }
            Err(error) => {
                node.metrics.jwt_keys_failed.inc();
                if std::mem::replace(&mut well, false) {
                    tracing::error!(%error, "the keys of JSON web tokens cannot be read: those known stay in force");
                }
                node.limits.keys_rest
            }
        };
        node.jwt_keys_read(node.limits.keys_rest);
        let next = sleep(next);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                // Whoever asked while the keys were being read has them now: that is no reason to read them again.
                () = node.jwt.asked() => if node.may_ask_for_keys() { break },
                () = node.stopped() => return,
            }
        }
    }
}

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum JwksError {
    /// The file.
    #[error("cannot read {path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: String,
    },
    /// Whoever has them.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// What they are.
    #[error(transparent)]
    Set(#[from] KeySetError),
}
