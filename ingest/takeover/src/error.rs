//! A failed system call with the sentence an operator needs.
//!
//! In: what was tried and the error the kernel gave. Out: one line that names both.

use std::io;
use thiserror::Error;

/// A system call that failed, with what it was for.
#[derive(Debug, Error)]
#[error("{what}: {source}")]
pub struct SystemError {
    /// What was being done, in words.
    pub what: &'static str,
    /// What the kernel answered.
    pub source: io::Error,
}

impl SystemError {
    /// True when the kernel refused for lack of privileges.
    pub fn is_missing_right(&self) -> bool {
        self.source.kind() == io::ErrorKind::PermissionDenied
    }
}

/// Names the purpose of a call at the place of the call.
pub(crate) trait Purpose<T> {
    fn to(self, what: &'static str) -> Result<T, SystemError>;
}

impl<T> Purpose<T> for io::Result<T> {
    fn to(self, what: &'static str) -> Result<T, SystemError> {
        self.map_err(|source| SystemError { what, source })
    }
}
