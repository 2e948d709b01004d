//! Every version of the keys that codewords are drawn by, for whoever traces; and what is published of a key before its use.
//!
//! In: key rings, or the text of a file of opened keys. Out: a `Codebook` for the versions that a GOP record names, or which
//! key is missing. Pure.
//!
//! ```text
//! a file of opened keys    KIND VERSION HEX     one a line; KIND is `code` or `bias`; lines with `#` are comments
//! commitment               SHA-256("releve key 1\0" ‖ KIND ‖ "\0" ‖ version u32 ‖ secret 32)
//! ```
//!
//! A secret has 256 bits, so its commitment gives nothing away, and nobody finds another secret for it.

use crate::codeword::Codebook;
use crate::key::{Key, KeyFileError};
use ring::digest;
use thiserror::Error;

/// Kinds of key that a codeword needs.
pub const KINDS: [&str; 2] = ["code", "bias"];

/// Code and bias keys of all versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyBook {
    code: Vec<Key>,
    bias: Vec<Key>,
}

/// A version that is not in the book.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("there is no {kind} key {version}; `relevectl key open {version}` prints it where it is kept")]
pub struct NoKey {
    kind: &'static str,
    version: u32,
}

impl KeyBook {
    /// Of keys at hand: the current one of each kind first.
    pub fn new(code: Vec<Key>, bias: Vec<Key>) -> KeyBook {
        KeyBook { code, bias }
    }

    /// Reads a file of opened keys.
    ///
    /// # Errors
    /// Names the first line that is not a key. No part of a secret is in the error.
    pub fn parse(text: &str) -> Result<KeyBook, KeyFileError> {
        let mut book = KeyBook::default();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (kind, line) = line.split_once(' ').ok_or(KeyFileError::Shape { line_number })?;
            let keys = match kind {
                "code" => &mut book.code,
                "bias" => &mut book.bias,
                _ => return Err(KeyFileError::Shape { line_number }),
            };
            let key = Key::of_line(line, line_number)?;
            if keys.iter().any(|other| other.version == key.version) {
                return Err(KeyFileError::Version { line_number });
            }
            keys.push(key);
        }
        if book.code.is_empty() || book.bias.is_empty() { Err(KeyFileError::Empty) } else { Ok(book) }
    }

    /// The codebook that relays used under a code key. `bias` is the version that the GOP record names; 0 in old records:
    /// then the one of the same version, or else the first.
    ///
    /// # Errors
    /// When one of them is not here.
    pub fn codebook(&self, code: u32, bias: u32) -> Result<Codebook, NoKey> {
        let (code, bias) = self.keys(code, bias)?;
        Ok(Codebook::new(code, bias))
    }

    /// The two keys of such a codebook.
    ///
    /// # Errors
    /// When one of them is not here.
    pub fn keys(&self, code: u32, bias: u32) -> Result<(&Key, &Key), NoKey> {
        let find = |keys: &'_ [Key], version| keys.iter().position(|key| key.version == version);
        let missing = |kind, version| NoKey { kind, version };
        let code_at = find(&self.code, code).ok_or(missing("code", code))?;
        let bias_at = match bias {
            0 => find(&self.bias, code).or((!self.bias.is_empty()).then_some(0)),
            bias => find(&self.bias, bias),
        };
        let bias_at = bias_at.ok_or(missing("bias", if bias == 0 { code } else { bias }))?;
        Ok((&self.code[code_at], &self.bias[bias_at]))
    }
}

/// What is published of a key before it is used, 64 hex digits.
pub fn commitment(kind: &str, key: &Key) -> String {
    let mut hash = digest::Context::new(&digest::SHA256);
    hash.update(b"releve key 1\0");
    hash.update(kind.as_bytes());
    hash.update(&[0]);
    hash.update(&key.version.to_be_bytes());
    hash.update(key.secret());
    hex::encode(hash.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(version: u32) -> Key {
        Key::new(version, [version as u8; 32])
    }

    #[test]
    fn a_record_gets_the_keys_it_names_and_an_old_one_those_of_its_time() {
        let text = format!(
            "# opened\ncode {}bias {}\ncode {}bias {}",
            key(3).to_line(),
            key(2).to_line(),
            key(1).to_line(),
            key(1).to_line()
        );
        let book = KeyBook::parse(&text).unwrap();
        let versions = |code, bias| book.keys(code, bias).map(|(code, bias)| (code.version, bias.version));
        assert_eq!(versions(3, 1), Ok((3, 1)));
        assert_eq!((versions(1, 0), versions(3, 0)), (Ok((1, 1)), Ok((3, 2))));
        assert!(versions(2, 1).unwrap_err().to_string().contains("code key 2"));
        assert!(versions(3, 3).unwrap_err().to_string().contains("bias key 3"));
    }

    #[test]
    fn lines_that_are_no_keys_are_named_and_secrets_are_not_shown() {
        assert_eq!(KeyBook::parse("code 1 00"), Err(KeyFileError::Secret { line_number: 1 }));
        assert_eq!(KeyBook::parse("\nword 1 00"), Err(KeyFileError::Shape { line_number: 2 }));
        assert_eq!(KeyBook::parse(&format!("code {}", key(1).to_line())), Err(KeyFileError::Empty));
        assert!(!format!("{:?}", KeyBook::new(vec![Key::new(1, [0xab; 32])], vec![])).contains("ab, "));
    }

    /// Computed with `printf 'releve key 1\0code\0\0\0\0\1' | cat - secret | sha256sum`.
    #[test]
    fn a_commitment_binds_kind_version_and_secret() {
        assert_eq!(commitment("code", &key(1)), KNOWN);
        assert_ne!(commitment("bias", &key(1)), KNOWN);
        assert_ne!(commitment("code", &Key::new(2, [1; 32])), KNOWN);
    }

    const KNOWN: &str = "3ccf28d44c691e64ff8681ffc4ea8eed67495a67f457a41febfa4ccf3717542f";
}
