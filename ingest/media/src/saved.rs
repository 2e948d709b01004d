//! State as bytes: what a room hands to its twin on the standby node.
//!
//! In: a room's state. Out: one version byte and postcard. Reading is total: bytes of another version, cut or altered
//! ones are an error, and nothing is reserved before its bytes are there. Pure.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Version of the layout; raise it with any change of a saved type.
const VERSION: u8 = 5;

/// Why saved state cannot be taken over.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SavedError {
    /// Written by another version of the program.
    #[error(
        "saved state has version {0:?}, this program reads {VERSION}; run the same version on both nodes"
    )]
    Version(Option<u8>),
    /// Cut, altered, or not this room's.
    #[error("saved state of {room} does not decode")]
    Layout {
        /// Whose.
        room: &'static str,
    },
    /// Decodes to values that the room could not have had.
    #[error("saved state of {room} contradicts itself: {what}")]
    Value {
        /// Whose.
        room: &'static str,
        /// What does not hold.
        what: &'static str,
    },
}

pub(crate) fn write<T: Serialize>(state: &T) -> Vec<u8> {
    let out = vec![VERSION];
    postcard::to_extend(state, out)
        .expect("a Vec takes any length and our states have only derived, sized fields")
}

pub(crate) fn read<T: DeserializeOwned>(room: &'static str, bytes: &[u8]) -> Result<T, SavedError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((state, [])) => Ok(state),
            _ => Err(SavedError::Layout { room }),
        },
        other => Err(SavedError::Version(other.map(|(version, _)| *version))),
    }
}
