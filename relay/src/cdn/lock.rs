//! Encryption of whole segments for a CDN: `METHOD=AES-128` (RFC 8216 §4.3.2.4, §5.2), once a file.
//!
//! ```text
//! key id  "cdn" ‖ kind u8 ‖ version of the code key u32 ‖ period u64       kind as in names; a period is 300 segments
//! key     HMAC-SHA-256(code key, "releve cdn key 1\0" ‖ key id ‖ stream), its first 16 bytes
//! vector  the last 16 bytes of the HMAC that the file's name is the first 16 of
//! ```
//!
//! In: a whole variant of a segment, its key; a playlist. Out: the same encrypted; the playlist with `EXT-X-KEY` lines. Pure.
//!
//! The chain of AES-CBC runs through the whole segment: what follows an A slice is other bytes than what follows a B slice.
//! Here each variant is a file of its own and is encrypted when the CDN first fetches it. Numbers never go back, so that key and
//! vector together stand for one file: A and B have the same key and other vectors, and no block in common. Both follow from
//! keys that all relays have, and so do the bytes. Init sections stay clear.

use crate::route::Wanted;
use aws_lc_rs::cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use ingest_api::content_key::KeyId;
use ingest_api::track::TRACKS_MAX;
use std::fmt::Write;

/// Segments that share a key.
pub const PERIOD: u64 = 300;
const TAG: &[u8; 3] = b"cdn";
const BLOCK: usize = 16;

/// What a key is of; its id says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockId {
    /// As in names: 0 MPEG-TS, 1 the picture, from 2 on the audio tracks, behind them the further encodings of the picture.
    pub kind: u8,
    /// Version of the code key that it follows from.
    pub version: u32,
    /// Which 300 segments.
    pub period: u64,
}

impl LockId {
    /// Of the key of a segment.
    pub fn of(kind: u8, version: u32, number: u64) -> LockId {
        LockId { kind, version, period: number / PERIOD }
    }

    /// The segments that it is the key of, first and last.
    pub fn numbers(self) -> (u64, u64) {
        let first = self.period.saturating_mul(PERIOD);
        (first, first.saturating_add(PERIOD - 1))
    }

    /// As players are told.
    pub fn kid(self) -> KeyId {
        let mut id = [0; 16];
        id[..3].copy_from_slice(TAG);
        id[3] = self.kind;
        id[4..8].copy_from_slice(&self.version.to_be_bytes());
        id[8..].copy_from_slice(&self.period.to_be_bytes());
        KeyId(id)
    }

    /// What an id says, if it is one of these.
    pub fn of_kid(KeyId(id): KeyId) -> Option<LockId> {
        let (head, period) = id.split_last_chunk::<8>()?;
        let (head, version) = head.split_last_chunk::<4>()?;
        let [tag @ .., kind] = head else { return None };
        let (version, period) = (u32::from_be_bytes(*version), u64::from_be_bytes(*period));
        (tag == TAG && usize::from(*kind) <= TRACKS_MAX).then_some(LockId { kind: *kind, version, period })
    }
}

/// How one file is encrypted, as players are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Its key.
    pub id: LockId,
    /// Its initialisation vector.
    pub vector: [u8; BLOCK],
}

/// What encrypts one file.
pub struct Seal {
    /// The key itself.
    pub key: [u8; BLOCK],
    /// The initialisation vector.
    pub vector: [u8; BLOCK],
}

impl Seal {
    /// How long bytes are when they are encrypted: padded to whole blocks, by one byte at least (PKCS #7).
    pub fn sealed_len(len: usize) -> usize {
        len / BLOCK * BLOCK + BLOCK
    }

    /// A file's bytes, encrypted, in the same memory where it has room for `sealed_len`; `None` when the cipher fails.
    pub fn sealed(&self, clear: Vec<u8>) -> Option<Vec<u8>> {
        let unbound = UnboundCipherKey::new(&AES_128, &self.key).ok()?;
        let cipher = PaddedBlockEncryptingKey::cbc_pkcs7(unbound).ok()?;
        let mut bytes = clear;
        cipher.less_safe_encrypt(&mut bytes, EncryptionContext::Iv128((&self.vector).into())).ok()?;
        Some(bytes)
    }
}

/// The playlist with a line before each segment that is encrypted: each has a vector of its own. `lock` says how what a line
/// names is, where it is. An init section is clear, and so a playlist says before one that no key is in force (RFC 8216
/// §4.3.2.5).
pub fn keyed(playlist: &str, lock: impl Fn(&Wanted) -> Option<Lock>) -> String {
    let mut out = String::with_capacity(3 * playlist.len());
    let (mut in_force, mut lines) = (false, playlist.lines());
    while let Some(line) = lines.next() {
        let another = line.starts_with("#EXT-X-MAP:") || line.starts_with("#EXT-X-KEY:");
        // A playlist of whole segments: nothing but tags stands between this and the address.
        let lock = line.starts_with("#EXTINF:").then(|| {
            let named = lines.clone().find(|line| !line.starts_with('#'))?;
            lock(&Wanted::of_path(named)?)
        });
        match lock {
            Some(Some(Lock { id, vector })) => {
                let (kid, vector) = (id.kid(), hex::encode(vector));
                let _ = writeln!(out, "#EXT-X-KEY:METHOD=AES-128,URI=\"key/{kid}.key\",IV=0x{vector}");
                in_force = true;
            }
            lock if in_force && (another || lock.is_some()) => {
                out.push_str("#EXT-X-KEY:METHOD=NONE\n");
                in_force = false;
            }
            _ => {}
        }
        out.extend([line, "\n"]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::cipher::{DecryptionContext, PaddedBlockDecryptingKey};

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn an_id_says_what_a_key_is_of() {
        let id = LockId::of(2, 7, 3 * PERIOD - 1);
        assert_eq!(id, LockId { kind: 2, version: 7, period: 2 });
        assert_eq!(id.numbers(), (600, 899));
        assert_eq!(id.kid().to_string(), "63646e02000000070000000000000002");
        assert_eq!(LockId::of_kid(id.kid()), Some(id));
        assert_ne!(LockId::of(2, 7, 3 * PERIOD), id);
        for odd in ["63646e0e000000070000000000000002", "63646f02000000070000000000000002"] {
            assert_eq!(LockId::of_kid(odd.parse().unwrap()), None);
        }
        let (first, last) = LockId { period: u64::MAX, ..id }.numbers();
        assert!(first <= last, "an id that somebody made up is no arithmetic error");
    }

    /// NIST SP 800-38A, F.2.1 (CBC-AES128.Encrypt), and the block of padding as OpenSSL has it:
    /// `openssl enc -aes-128-cbc -K 2b7e…4f3c -iv 0001…0f`.
    #[test]
    fn a_file_is_encrypted_as_nist_and_openssl_do() {
        let seal = Seal {
            key: bytes("2b7e151628aed2a6abf7158809cf4f3c"),
            vector: bytes("000102030405060708090a0b0c0d0e0f"),
        };
        let clear: [u8; 64] = bytes(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
             30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        let nist = "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2\
             73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7";
        let (whole, cut) = (seal.sealed(clear.to_vec()).unwrap(), seal.sealed(clear[..20].to_vec()).unwrap());
        assert_eq!(hex::encode(&whole[..64]), nist);
        assert_eq!(hex::encode(&whole[64..]), PADDING);
        assert_eq!(hex::encode(cut), CUT);
    }

    const PADDING: &str = "8cb82807230e1321d3fae00d18cc2012";
    const CUT: &str = "7649abac8119b246cee98e9b12e9197d2e013f890472d82217b17f45f6e7f539";

    #[test]
    fn what_is_encrypted_comes_back_and_is_as_long_as_was_said() {
        let seal = Seal { key: [9; 16], vector: [7; 16] };
        for len in [0, 1, 15, 16, 17, 1000] {
            let clear: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut sealed = seal.sealed(clear.clone()).unwrap();
            assert_eq!(sealed.len(), Seal::sealed_len(len));
            let key = UnboundCipherKey::new(&AES_128, &seal.key).unwrap();
            let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).unwrap();
            let context = DecryptionContext::Iv128((&seal.vector).into());
            assert_eq!(key.decrypt(&mut sealed, context).unwrap(), clear);
        }
    }

    #[test]
    fn a_key_is_said_before_each_segment_and_init_sections_are_clear() {
        let playlist = "#EXTM3U\n#EXT-X-MAP:URI=\"video/init-000000000000000a.mp4\"\n#EXTINF:2,\nvideo/1.m4s\n#EXTINF:2,\nvideo/2.m4s\n\
            #EXT-X-DISCONTINUITY\n#EXT-X-MAP:URI=\"video/init-000000000000000b.mp4\"\n#EXTINF:2,\nvideo/3.m4s\n\
            #EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"key/a.key\"\n#EXT-X-MAP:URI=\"video/init-000000000000000c.mp4\"\n#EXTINF:2,\nvideo/4.m4s\n\
            #EXT-X-KEY:METHOD=NONE\n#EXT-X-MAP:URI=\"video/init-000000000000000d.mp4\"\n#EXTINF:2,\nvideo/5.m4s\n#EXTINF:2,\nvideo/6.m4s\n";
        let lock = |wanted: &Wanted| match wanted {
            Wanted::Segment(_, number @ (1 | 2 | 3 | 5)) => {
                Some(Lock { id: LockId::of(1, 7, 298 + number), vector: [*number as u8; 16] })
            }
            _ => None,
        };
        let key = |period: u64, number: u64| {
            let (id, vector) = (format!("63646e0100000007{period:016x}"), format!("0{number}").repeat(16));
            format!("#EXT-X-KEY:METHOD=AES-128,URI=\"key/{id}.key\",IV=0x{vector}")
        };
        let none = "#EXT-X-KEY:METHOD=NONE".to_owned();
        let added: Vec<(String, &str)> = {
            let text = keyed(playlist, lock);
            let (mut before, mut added) = (playlist.lines().peekable(), Vec::new());
            for line in text.lines() {
                if before.next_if_eq(&line).is_none() {
                    added.push((line.to_owned(), *before.peek().unwrap()));
                }
            }
            assert_eq!(before.next(), None, "nothing is lost: {text}");
            added
        };
        let expected = [
            (key(0, 1), "#EXTINF:2,"),
            (key(1, 2), "#EXTINF:2,"),
            (none.clone(), "#EXT-X-MAP:URI=\"video/init-000000000000000b.mp4\""),
            (key(1, 3), "#EXTINF:2,"),
            (none.clone(), "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"key/a.key\""),
            (key(1, 5), "#EXTINF:2,"),
            (none, "#EXTINF:2,"),
        ];
        assert_eq!(added, expected);
        assert_eq!(keyed(playlist, |_| None), playlist);
    }
}
