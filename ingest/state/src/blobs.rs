//! Blobs: immutable bytes under a name, as an object store keeps them.
//!
//! Init sections live here, so that a restarted node still has what its listed segments need. Logs of the archive grow here:
//! an object store, which cannot append, may keep each addition as an object of its own and join them in `get`.

use crate::coordinator::Error;
use async_trait::async_trait;
use bytes::Bytes;

/// The longest blob name, in bytes.
pub const NAME_BYTES_MAX: usize = 200;

/// Whether a text may name a blob: words of `[a-z0-9._-]`, not starting with a dot, joined by `/`.
pub fn is_blob_name(name: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && !word.starts_with('.')
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
    };
    name.len() <= NAME_BYTES_MAX && name.split('/').all(word)
}

/// Whether a blob may be stored under a name. Shared by the back-ends.
pub(crate) fn check_blob_name(name: &str) -> Result<(), Error> {
    match is_blob_name(name) {
        true => Ok(()),
        false => Err(Error::Conflict(format!(
            "that is no blob name: words of `a-z0-9._-` joined by `/`, no dot first, at most {NAME_BYTES_MAX} bytes"
        ))),
    }
}

/// Immutable named bytes.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Stores bytes under a new name; whole and durable when it returns, never half. The same bytes again are `Ok`,
    /// others under a used name `Error::Conflict`, as is a text that `is_blob_name` refuses.
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error>;
    /// Adds to a blob that grows; `at` is how long it is, 0 where it is not there yet. Durable when it returns. What stands
    /// behind `at` was never acknowledged (the disk was full) and is replaced; a blob shorter than `at` is
    /// `Error::Conflict`. One writer a name: two would undo each other.
    async fn append(&self, name: &str, at: u64, bytes: Bytes) -> Result<(), Error>;
    /// The bytes, or `None`, which is the answer for every text that is no blob name too.
    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error>;
    /// Names that start with `prefix`, sorted.
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error>;
    /// Forgets a name; nothing happens if it is unknown.
    async fn delete(&self, name: &str) -> Result<(), Error>;
}
