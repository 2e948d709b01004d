//! The keys that segments are encrypted by: how each follows from the cluster's content key, and those of a DRM key server.
//!
//! In: a root (`keys/content.key`), a stream, a segment's number. Out: the key of its period. Pure, so that both nodes of a
//! pair and every relay have the same ones, and none is ever sent between nodes or stored. Where a key server gives the keys,
//! ids and vectors follow in the same way, and the key is what it said.
//!
//! ```text
//! key id  = HKDF-Expand(root, "releve content key id" stream 0 first number of the period u64 segments a period u32)
//! key, IV = HKDF-Expand(root, "releve content key" stream 0 key id)                          HKDF-SHA-256, RFC 5869
//! ```
//!
//! A key id says nothing of its key. Whoever knows the key of one period knows nothing of any other.

use crate::StreamName;
use releve_watermark::Key;
use ring::hkdf::{HKDF_SHA256, KeyType, Prk};
use serde::{Deserialize, Serialize};

/// The version that stands for keys of a DRM key server: they follow from no content key, and relays do not have them.
pub const OF_KEY_SERVER: u32 = 0;

/// How a run is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encryption {
    /// Version of the content key that its keys follow from, or `OF_KEY_SERVER`.
    pub content_key: u32,
    /// Segments that share a key, at least 1. Periods begin at multiples of it.
    pub key_segments: u32,
}

/// Names a key: the `KID` of ISO/IEC 23001-7; 32 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyId(pub [u8; 16]);

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Debug for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl std::str::FromStr for KeyId {
    type Err = hex::FromHexError;
    fn from_str(text: &str) -> Result<KeyId, hex::FromHexError> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id)?;
        Ok(KeyId(id))
    }
}

impl TryFrom<String> for KeyId {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<KeyId, hex::FromHexError> {
        text.parse()
    }
}

impl From<KeyId> for String {
    fn from(id: KeyId) -> String {
        id.to_string()
    }
}

/// The key that a segment is encrypted by, as its record names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentKey {
    /// Version of the content key that it follows from, or `OF_KEY_SERVER`.
    pub content_key: u32,
    /// Its id.
    pub kid: KeyId,
}

/// A key with the initialisation vector that goes with it. Its `Debug` shows the id only.
#[derive(Clone, PartialEq, Eq)]
pub struct ContentKey {
    /// Its id.
    pub kid: KeyId,
    key: [u8; 16],
    iv: [u8; 16],
    pssh: Vec<u8>,
}

impl std::fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ContentKey({}, ***)", self.kid)
    }
}

impl ContentKey {
    /// The key of a segment; `every` segments share one.
    pub fn of_segment(root: &Key, stream: &StreamName, number: u64, every: u32) -> ContentKey {
        let first = number - number % u64::from(every.max(1));
        let (name, first, every) = (stream.as_str().as_bytes(), first.to_be_bytes(), every.to_be_bytes());
        let kid = expand(root, &[b"releve content key id", name, &[0], &first, &every]);
        ContentKey::of_id(root, stream, KeyId(kid))
    }

    /// The key of this id. Any id has one: ask only for those that a record names.
    pub fn of_id(root: &Key, stream: &StreamName, kid: KeyId) -> ContentKey {
        let both: [u8; 32] = expand(root, &[b"releve content key", stream.as_str().as_bytes(), &[0], &kid.0]);
        let (mut key, mut iv) = ([0; 16], [0; 16]);
        key.copy_from_slice(&both[..16]);
        iv.copy_from_slice(&both[16..]);
        ContentKey { kid, key, iv, pssh: Vec::new() }
    }

    /// What a key server said of this id: the key, perhaps another vector, and `pssh` boxes for the init section.
    #[must_use]
    pub fn of_server(self, key: [u8; 16], iv: Option<[u8; 16]>, pssh: Vec<u8>) -> ContentKey {
        ContentKey { key, iv: iv.unwrap_or(self.iv), pssh, ..self }
    }

    /// Whole boxes of DRM systems (ISO/IEC 23001-7:2016 §8.1), one behind the other; none where the key is ours.
    pub fn pssh(&self) -> &[u8] {
        &self.pssh
    }

    /// The key itself: for the cipher, and for viewers who may have it; never for logs.
    pub fn secret(&self) -> &[u8; 16] {
        &self.key
    }

    /// The constant initialisation vector. It stands in each init section.
    pub fn iv(&self) -> &[u8; 16] {
        &self.iv
    }
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The root is 32 random bytes: there is nothing to extract.
fn expand<const N: usize>(root: &Key, info: &[&[u8]]) -> [u8; N] {
    let mut out = [0; N];
    let prk = Prk::new_less_safe(HKDF_SHA256, root.secret());
    let filled = prk.expand(info, Length(N)).and_then(|okm| okm.fill(&mut out));
    filled.expect("HKDF-SHA-256 gives up to 8,160 bytes, and as many as were asked for");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with Python's `hmac` from the layout above: one block of HKDF-Expand is HMAC(root, info ‖ 0x01).
    #[test]
    fn keys_are_those_of_the_layout() {
        let root = Key::new(1, [7; 32]);
        let key = ContentKey::of_segment(&root, &"demo".parse().unwrap(), 1_234, 300);
        assert_eq!(key.kid.to_string(), "0fb7808221e545ee9416ae2002eb40cc");
        assert_eq!(hex::encode(key.secret()), "af4df6b525718ebb88e21691137bdcbf");
        assert_eq!(hex::encode(key.iv()), "c6fba2345f87c78729d78c3d3b2c7bf3");
    }

    #[test]
    fn a_period_has_one_key_and_no_two_share_one() {
        let (root, other) = (Key::new(1, [7; 32]), Key::new(2, [8; 32]));
        let (demo, second): (StreamName, StreamName) = ("demo".parse().unwrap(), "demo2".parse().unwrap());
        let key = |root: &Key, stream: &StreamName, number, every| {
            let key = ContentKey::of_segment(root, stream, number, every);
            assert_eq!(ContentKey::of_id(root, stream, key.kid), key);
            key
        };
        assert_eq!(key(&root, &demo, 300, 300), key(&root, &demo, 599, 300));
        let keys = [
            key(&root, &demo, 300, 300),
            key(&root, &demo, 600, 300),
            key(&root, &demo, 300, 100),
            key(&root, &second, 300, 300),
            key(&other, &demo, 300, 300),
        ];
        for (at, one) in keys.iter().enumerate() {
            assert!(keys[..at].iter().all(|other| other.kid != one.kid && other.secret() != one.secret()));
        }
    }

    #[test]
    fn nothing_shows_a_key() {
        let key = ContentKey::of_segment(&Key::new(1, [7; 32]), &"demo".parse().unwrap(), 1, 1);
        assert!(!format!("{key:?}").contains(&hex::encode(key.secret())));
    }
}
