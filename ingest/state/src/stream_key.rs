//! Stream keys: what a publisher shows to push a stream.
//!
//! A key is `ID_SECRET`: the id finds the stream's record, the secret proves the right. Only a hash of the secret is kept.
//! The secret has 128 random bits, so one SHA-256 is as good as a slow password hash: there is nothing to guess.
//! In: text of a publisher. Out: a checked key, or whether it opens a record. Pure but for `generate`, which draws random
//! bytes.

use crate::coordinator::{Error, StreamRecord};
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

const ID_BYTES: usize = 11;
const SECRET_BYTES: usize = 16;
const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz2345678";

/// A stream key. `Debug` and `Display` hide the secret; `expose` is the one way to see it.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKey {
    id: String,
    secret: [u8; SECRET_BYTES],
}

/// Not of the form `ID_SECRET`. The text is not repeated: it may be a secret all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ThisError)]
#[error("a stream key reads ID_SECRET: `k` and 10 letters or digits, `_`, 32 hex digits")]
pub struct KeyFormatError;

impl StreamKey {
    /// A new key.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<StreamKey, Error> {
        let mut random = [0; ID_BYTES - 1 + SECRET_BYTES];
        SystemRandom::new().fill(&mut random).map_err(|_| Error::Store("no random bytes".to_owned()))?;
        let letters = random[..ID_BYTES - 1].iter().map(|byte| ALPHABET[usize::from(byte % 32)] as char);
        let id = std::iter::once('k').chain(letters).collect();
        let mut secret = [0; SECRET_BYTES];
        secret.copy_from_slice(&random[ID_BYTES - 1..]);
        Ok(StreamKey { id, secret })
    }

    /// Reads a key's text.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn parse(text: &str) -> Result<StreamKey, KeyFormatError> {
        let (id, secret_text) = text.split_once('_').ok_or(KeyFormatError)?;
        let id_ok = id.len() == ID_BYTES
            && id.starts_with('k')
            && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        let mut secret = [0; SECRET_BYTES];
        hex::decode_to_slice(secret_text, &mut secret).map_err(|_| KeyFormatError)?;
        if id_ok { Ok(StreamKey { id: id.to_owned(), secret }) } else { Err(KeyFormatError) }
    }

    /// The public half.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole key as text: for the one moment it is shown.
    pub fn expose(&self) -> String {
        format!("{}_{}", self.id, hex::encode(self.secret))
    }
}

impl std::fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamKey({}_***)", self.id)
    }
}

impl std::fmt::Display for StreamKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_***", self.id)
    }
}

/// What is kept of a key's secret half; 64 hex digits as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of no key: what a presented key is compared with when its id is unknown.
    const NEVER: KeyHash = KeyHash([0; 32]);

    /// The hash of a key.
    pub fn of(key: &StreamKey) -> KeyHash {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"releve stream key 1\0");
        context.update(key.id.as_bytes());
        context.update(&key.secret);
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        KeyHash(hash)
    }

    /// Whether it is the hash of this key, in constant time.
    pub fn matches(&self, key: &StreamKey) -> bool {
        // Compared under a fixed MAC key: ring compares MACs in constant time.
        let compare = hmac::Key::new(hmac::HMAC_SHA256, b"compare");
        hmac::verify(&compare, &KeyHash::of(key).0, hmac::sign(&compare, &self.0).as_ref()).is_ok()
    }
}

/// Whether a presented key opens a record: what `stream_by_key_id` gave for the key's id, `None` too. An unknown id costs
/// the same work as a wrong secret, so the time of the answer tells nothing about which ids exist.
pub fn verify(record: Option<&StreamRecord>, presented: &StreamKey) -> bool {
    let hash = record.map_or(KeyHash::NEVER, |record| record.key_hash);
    hash.matches(presented) && record.is_some()
}

impl TryFrom<String> for KeyHash {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<KeyHash, hex::FromHexError> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash)?;
        Ok(KeyHash(hash))
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> String {
        hex::encode(hash.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_its_own_record_only() {
        let (key, other) = (StreamKey::generate().unwrap(), StreamKey::generate().unwrap());
        let record = StreamRecord {
            name: "demo".parse().unwrap(),
            key_id: key.id().to_owned(),
            key_hash: KeyHash::of(&key),
            mark: Default::default(),
            encrypt: Default::default(),
        };
        assert_eq!(StreamKey::parse(&key.expose()), Ok(key.clone()));
        assert!(verify(Some(&record), &key));
        assert!(!verify(Some(&record), &other));
        assert!(!verify(None, &key));
        assert!(!format!("{key} {key:?} {record:?}").contains(&key.expose()[12..]));
    }

    /// Computed with Python's `hashlib` from the label, the id and the secret bytes: records of old files must stay valid.
    #[test]
    fn a_known_key_has_a_known_hash() {
        let key = StreamKey::parse("kabcdefghij_00112233445566778899aabbccddeeff").unwrap();
        assert_eq!(
            String::from(KeyHash::of(&key)),
            "c3b96f24812bfe4897c05ae9dec51db3ae85b8dbd9466e31f318b6c1885bdcf6"
        );
        let twin = StreamKey::parse("kabcdefghik_00112233445566778899aabbccddeeff").unwrap();
        assert!(!KeyHash::of(&key).matches(&twin), "the id is part of it");
    }

    #[test]
    fn other_texts_are_no_keys() {
        let secret = "00112233445566778899aabbccddeeff";
        let wrong_ids =
            ["kabcdefghi", "kabcdefghijk", "Kabcdefghij", "jabcdefghij", "kabcdefgh-j", "kabcdefgh\u{e9}"];
        let wrong_ids = wrong_ids.map(|id| format!("{id}_{secret}"));
        let wrong_secrets =
            ["", &secret[1..], "0g112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff_"];
        let wrong_secrets = wrong_secrets.map(|secret| format!("kabcdefghij_{secret}"));
        for text in ["", "_", "demo"].map(str::to_owned).iter().chain(&wrong_ids).chain(&wrong_secrets) {
            assert_eq!(StreamKey::parse(text), Err(KeyFormatError), "{text}");
        }
    }
}
