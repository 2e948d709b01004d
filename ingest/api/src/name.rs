//! Names that may come from outside: a stream's public name and a run's id.
//!
//! In: text of a peer or an operator. Out: a checked name, or an error that says what is allowed. Pure.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest public stream name, in bytes.
pub const STREAM_NAME_MAX: usize = 64;

/// A stream's public name: `[A-Za-z0-9][A-Za-z0-9_-]*`, at most 64 bytes.
///
/// The allow-list keeps path tricks (`..`, `%2e`, NUL, look-alike letters) out of every later room. It is held in place, so
/// that a relay reads one from each request without allocating.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamName {
    /// ASCII, then zeros: the order of these bytes is that of the names.
    bytes: [u8; STREAM_NAME_MAX],
    len: u8,
}

impl StreamName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("the allow-list holds ASCII only")
    }
}

impl std::fmt::Display for StreamName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for StreamName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamName({self})")
    }
}

/// Why a text is not a stream name. The text itself is not repeated: it may be a secret in the wrong place.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Empty or too long.
    #[error("a stream name has 1 to {STREAM_NAME_MAX} characters, not {0}")]
    Length(usize),
    /// A character outside the allow-list.
    #[error(
        "a stream name may hold letters, digits, `_` and `-` and must start with a letter or digit (character {0} is not allowed)"
    )]
    Character(usize),
}

impl std::str::FromStr for StreamName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<StreamName, NameError> {
        if text.is_empty() || text.len() > STREAM_NAME_MAX {
            return Err(NameError::Length(text.len()));
        }
        let bad = text.bytes().enumerate().find(|(index, byte)| {
            !(byte.is_ascii_alphanumeric() || (*index > 0 && matches!(byte, b'_' | b'-')))
        });
        match bad {
            Some((index, _)) => Err(NameError::Character(index + 1)),
            None => {
                let mut bytes = [0; STREAM_NAME_MAX];
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Ok(StreamName { bytes, len: text.len() as u8 })
            }
        }
    }
}

impl TryFrom<String> for StreamName {
    type Error = NameError;
    fn try_from(text: String) -> Result<StreamName, NameError> {
        text.parse()
    }
}

impl From<StreamName> for String {
    fn from(name: StreamName) -> String {
        name.as_str().to_owned()
    }
}

/// Names one numbering and time origin of a stream; 16 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(pub [u8; 8]);

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RunId({self})")
    }
}

impl std::str::FromStr for RunId {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<RunId, hex::FromHexError> {
        let mut id = [0; 8];
        hex::decode_to_slice(text, &mut id)?;
        Ok(RunId(id))
    }
}

impl TryFrom<String> for RunId {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<RunId, hex::FromHexError> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        for good in ["demo", "A", "0-_", &"x".repeat(64)] {
            assert_eq!(good.parse::<StreamName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "_a", ".a", "a/b", "a%2fb", "..", "a\0", "a b", "á", &"x".repeat(65)] {
            assert!(bad.parse::<StreamName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_ordered_as_text() {
        let mut texts = ["demo", "demo2", "a", "Z", "demo-", "a0", "0"];
        let mut names: Vec<StreamName> = texts.iter().map(|text| text.parse().unwrap()).collect();
        texts.sort_unstable();
        names.sort();
        assert_eq!(names.iter().map(StreamName::as_str).collect::<Vec<_>>(), texts);
    }
}
