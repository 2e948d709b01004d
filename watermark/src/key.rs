//! Keys as operators hold them: a small ring of versions, the current one first.
//!
//! In: the text of a key file. Out: a `KeyRing`, or an error that names the line. Pure; whoever calls reads the file.
//!
//! A key file has one key a line, `VERSION HEX`, 64 hex digits (32 bytes). The first line is the current key, a second
//! one is accepted beside it while keys are being changed. Lines that start with `#` are comments.

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

/// How many keys of one kind may be live at once: the current one and the one on its way out or in.
pub const LIVE_KEYS_MAX: usize = 2;

/// One 32-byte secret and the version that credentials and records name it by.
#[derive(Clone)]
pub struct Key {
    /// Names the key in tokens and GOP records; never 0.
    pub version: u32,
    secret: [u8; 32],
    /// The secret as HMAC wants it, which costs as much to make as a MAC.
    mac: hmac::Key,
}

impl PartialEq for Key {
    fn eq(&self, other: &Key) -> bool {
        (self.version, self.secret) == (other.version, other.secret)
    }
}

impl Eq for Key {}

impl Key {
    /// A key from its parts.
    pub fn new(version: u32, secret: [u8; 32]) -> Key {
        Key { version, secret, mac: hmac::Key::new(hmac::HMAC_SHA256, &secret) }
    }

    /// A new secret from the system's random source.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate(version: u32) -> Result<Key, ring::error::Unspecified> {
        let mut secret = [0; 32];
        SystemRandom::new().fill(&mut secret)?;
        Ok(Key::new(version, secret))
    }

    /// The secret itself: for MACs and derivations, never for text.
    pub fn secret(&self) -> &[u8; 32] {
        &self.secret
    }

    /// The secret as a key for HMAC-SHA-256.
    pub fn mac(&self) -> &hmac::Key {
        &self.mac
    }

    /// The key in a line of a key file.
    pub(crate) fn of_line(line: &str, line_number: usize) -> Result<Key, KeyFileError> {
        let (version, secret) = line.split_once(' ').ok_or(KeyFileError::Shape { line_number })?;
        let version: u32 = version.parse().map_err(|_| KeyFileError::Version { line_number })?;
        if version == 0 {
            return Err(KeyFileError::Version { line_number });
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(secret.trim(), &mut bytes).map_err(|_| KeyFileError::Secret { line_number })?;
        Ok(Key::new(version, bytes))
    }

    /// The line of a key file that holds this key.
    pub fn to_line(&self) -> String {
        format!("{} {}\n", self.version, hex::encode(self.secret))
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({}, ***)", self.version)
    }
}

/// The live keys of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRing {
    keys: Vec<Key>,
}

impl KeyRing {
    /// A ring of one key.
    pub fn of(key: Key) -> KeyRing {
        KeyRing { keys: vec![key] }
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// Names the first line that is not a key. No part of a secret is in the error.
    pub fn parse(text: &str) -> Result<KeyRing, KeyFileError> {
        KeyRing::of_keys(parse_lines(text, LIVE_KEYS_MAX)?)
    }

    /// A ring of these keys, the current one first.
    ///
    /// # Errors
    /// When there is none, or more than may be live.
    pub fn of_keys(keys: Vec<Key>) -> Result<KeyRing, KeyFileError> {
        match keys.len() {
            0 => Err(KeyFileError::Empty),
            1..=LIVE_KEYS_MAX => Ok(KeyRing { keys }),
            more => Err(KeyFileError::TooMany { line_number: more }),
        }
    }

    /// The key that new credentials and marks are made with.
    pub fn current(&self) -> &Key {
        &self.keys[0]
    }

    /// The live key of that version.
    pub fn version(&self, version: u32) -> Option<&Key> {
        self.keys.iter().find(|key| key.version == version)
    }

    /// All live keys, the current one first.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }
}

/// The keys in a file that was used up: any number of lines, none too.
///
/// # Errors
/// Names the first line that is not a key.
pub fn parse_history(text: &str) -> Result<Vec<Key>, KeyFileError> {
    parse_lines(text, usize::MAX)
}

fn parse_lines(text: &str, most: usize) -> Result<Vec<Key>, KeyFileError> {
    let mut keys: Vec<Key> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = Key::of_line(line, line_number)?;
        if keys.iter().any(|other| other.version == key.version) {
            return Err(KeyFileError::Version { line_number });
        }
        if keys.len() == most {
            return Err(KeyFileError::TooMany { line_number });
        }
        keys.push(key);
    }
    Ok(keys)
}

/// What is wrong with a key file.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyFileError {
    /// No key in it.
    #[error("the key file holds no key; a line reads `VERSION HEX`, with 64 hex digits")]
    Empty,
    /// Not two words.
    #[error("line {line_number}: expected `VERSION HEX`")]
    Shape {
        /// Counted from 1.
        line_number: usize,
    },
    /// Not a number from 1, or named twice.
    #[error("line {line_number}: the version must be a number from 1 that no other line has")]
    Version {
        /// Counted from 1.
        line_number: usize,
    },
    /// Not 64 hex digits.
    #[error("line {line_number}: the secret must be 64 hex digits")]
    Secret {
        /// Counted from 1.
        line_number: usize,
    },
    /// More than two keys.
    #[error("line {line_number}: at most {LIVE_KEYS_MAX} keys may be live; remove the oldest")]
    TooMany {
        /// Counted from 1.
        line_number: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_reads_back_what_it_wrote() {
        let (new, old) = (Key::new(2, [7; 32]), Key::new(1, [9; 32]));
        let text = format!("# two live keys\n{}\n{}", new.to_line(), old.to_line());
        let ring = KeyRing::parse(&text).unwrap();
        assert_eq!(ring.current(), &new);
        assert_eq!(ring.version(1), Some(&old));
        assert_eq!(ring.version(3), None);
    }

    #[test]
    fn errors_name_the_line_and_keep_the_secret() {
        assert_eq!(KeyRing::parse("# nothing\n"), Err(KeyFileError::Empty));
        assert_eq!(KeyRing::parse("\nabc\n"), Err(KeyFileError::Shape { line_number: 2 }));
        assert_eq!(KeyRing::parse("0 00"), Err(KeyFileError::Version { line_number: 1 }));
        assert_eq!(KeyRing::parse("1 00"), Err(KeyFileError::Secret { line_number: 1 }));
        assert!(!format!("{:?}", Key::new(1, [0xab; 32])).contains("ab"));
    }
}
