//! The session credential: what a viewer's path carries below `/v/`, and all that a relay knows of them.
//!
//! ```text
//! 2 u8  key version u32  session id 16  watermark id u64  issued u64  watch until u64  flags u8  stream name 1…64  MAC 32
//! ```
//!
//! as base64url without padding (RFC 4648 §5); integers big-endian, times in Unix seconds, the MAC HMAC-SHA-256
//! (RFC 2104) over a label and everything before it. The stream name is the only field without a fixed length, so no two
//! sessions share an encoding. Any relay with the key can check it: a viewer may come to another one at any request.
//!
//! In: a session and keys, or text and the time. Out: the other one. Pure: the caller brings time and randomness.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ingest_api::{StreamName, name::STREAM_NAME_MAX};
use releve_watermark::{KeyRing, WatermarkId};
use ring::hmac;
use thiserror::Error;

/// How long a viewer may watch when their token does not say, in seconds.
pub const WATCH_S: u64 = 12 * 3600;
/// The longest credential, in characters.
pub const CREDENTIAL_CHARS_MAX: usize = BYTES_MAX.div_ceil(3) * 4;

const LABEL: &[u8] = b"releve session 1\0";
const FORMAT: u8 = 2;
const HEAD_BYTES: usize = 1 + 4 + 16 + 8 + 8 + 8 + 1;
/// The webhook let the viewer in, and is asked again.
const ASKED: u8 = 1;
/// It takes one of its viewer's seats.
const COUNTED: u8 = 2;
const MAC_BYTES: usize = 32;
const BYTES_MAX: usize = HEAD_BYTES + STREAM_NAME_MAX + MAC_BYTES;

/// One admitted viewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Drawn at random; the ledger's key.
    pub id: [u8; 16],
    /// What the viewer's codeword is drawn by, and what a revocation finds them by.
    pub watermark_id: WatermarkId,
    /// The one stream it opens.
    pub stream: StreamName,
    /// When it was admitted, Unix seconds.
    pub issued_unix_s: u64,
    /// Last second to watch, Unix seconds.
    pub watch_until_unix_s: u64,
    /// Whether the webhook let the viewer in: it is asked again while they watch.
    pub asked: bool,
    /// Whether it takes one of its viewer's seats.
    pub counted: bool,
}

/// Writes a session as a credential, with the current key.
pub fn seal(keys: &KeyRing, session: &Session) -> String {
    let key = keys.current();
    let mut bytes = Vec::with_capacity(HEAD_BYTES + STREAM_NAME_MAX + MAC_BYTES);
    bytes.push(FORMAT);
    bytes.extend_from_slice(&key.version.to_be_bytes());
    bytes.extend_from_slice(&session.id);
    bytes.extend_from_slice(&session.watermark_id.0.to_be_bytes());
    bytes.extend_from_slice(&session.issued_unix_s.to_be_bytes());
    bytes.extend_from_slice(&session.watch_until_unix_s.to_be_bytes());
    bytes.push((u8::from(session.asked) * ASKED) | (u8::from(session.counted) * COUNTED));
    bytes.extend_from_slice(session.stream.as_str().as_bytes());
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.secret()));
    mac.update(LABEL);
    mac.update(&bytes);
    bytes.extend_from_slice(mac.sign().as_ref());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Checks a credential and gives its session. The MAC is compared in constant time, before any field is believed.
///
/// # Errors
/// Every reason is one of `SessionError`; a stranger is told nothing but "no".
pub fn open(keys: &KeyRing, credential: &str, now_unix_s: u64) -> Result<Session, SessionError> {
    if credential.len() > CREDENTIAL_CHARS_MAX {
        return Err(SessionError::Malformed);
    }
    // The label first, then the bytes: what is signed lies in one piece, and nothing is allocated for a request.
    let mut buffer = [0; LABEL.len() + BYTES_MAX + 2]; // the decoder may want room for a last group of three
    buffer[..LABEL.len()].copy_from_slice(LABEL);
    let len = URL_SAFE_NO_PAD
        .decode_slice(credential, &mut buffer[LABEL.len()..])
        .map_err(|_| SessionError::Malformed)?;
    let bytes = &buffer[..LABEL.len() + len];
    let signed_len = bytes.len().checked_sub(MAC_BYTES).filter(|len| *len >= LABEL.len());
    let (signed, mac) = bytes.split_at(signed_len.ok_or(SessionError::Malformed)?);
    let (head, stream) =
        signed[LABEL.len()..].split_first_chunk::<HEAD_BYTES>().ok_or(SessionError::Malformed)?;
    if head[0] != FORMAT || head[45] & !(ASKED | COUNTED) != 0 {
        return Err(SessionError::Malformed);
    }
    let version = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let key = keys.version(version).ok_or(SessionError::UnknownKey)?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.secret());
    hmac::verify(&key, signed, mac).map_err(|_| SessionError::BadMac)?;
    let stream = std::str::from_utf8(stream).map_err(|_| SessionError::Malformed)?;
    let mut id = [0; 16];
    id.copy_from_slice(&head[5..21]);
    let session = Session {
        id,
        watermark_id: WatermarkId(read_u64(head, 21)),
        stream: stream.parse().map_err(|_| SessionError::Malformed)?,
        issued_unix_s: read_u64(head, 29),
        watch_until_unix_s: read_u64(head, 37),
        asked: head[45] & ASKED != 0,
        counted: head[45] & COUNTED != 0,
    };
    if session.watch_until_unix_s < now_unix_s {
        return Err(SessionError::Expired);
    }
    Ok(session)
}

fn read_u64(bytes: &[u8; HEAD_BYTES], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_be_bytes(number)
}

/// Why a credential opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// Not what `seal` writes.
    #[error("the session credential is malformed")]
    Malformed,
    /// Signed with a key that is not live.
    #[error("the session names a session key that is not live")]
    UnknownKey,
    /// Signed with another secret, or changed since.
    #[error("the session's signature does not hold")]
    BadMac,
    /// Its time is over.
    #[error("the session is over")]
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;
    use releve_watermark::Key;

    fn keys() -> KeyRing {
        KeyRing::of(Key::new(7, [3; 32]))
    }

    fn session() -> Session {
        Session {
            id: [9; 16],
            watermark_id: WatermarkId(0x0102_0304_0506_0708),
            stream: "demo".parse().unwrap(),
            issued_unix_s: 1_000,
            watch_until_unix_s: 2_000,
            asked: true,
            counted: false,
        }
    }

    #[test]
    fn a_credential_opens_until_its_last_second() {
        let credential = seal(&keys(), &session());
        assert_eq!(open(&keys(), &credential, 2_000), Ok(session()));
        assert_eq!(open(&keys(), &credential, 2_001), Err(SessionError::Expired));
        let longest = Session { stream: "x".repeat(STREAM_NAME_MAX).parse().unwrap(), ..session() };
        let credential = seal(&keys(), &longest);
        assert!(credential.len() <= CREDENTIAL_CHARS_MAX);
        assert_eq!(open(&keys(), &credential, 0), Ok(longest));
        let counted = Session { asked: false, counted: true, ..session() };
        assert_eq!(open(&keys(), &seal(&keys(), &counted), 0), Ok(counted));
    }

    #[test]
    fn every_changed_character_closes_it() {
        let credential = seal(&keys(), &session());
        for at in 0..credential.len() {
            let mut changed = credential.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(open(&keys(), &changed, 0).is_err(), "character {at}");
        }
        for cut in 0..credential.len() {
            assert!(open(&keys(), &credential[..cut], 0).is_err(), "cut at {cut}");
        }
        assert!(open(&keys(), &format!("{credential}="), 0).is_err());
    }

    #[test]
    fn two_keys_are_live_and_a_third_is_not() {
        let (old, new) = (Key::new(1, [1; 32]), Key::new(2, [2; 32]));
        let both = KeyRing::parse(&format!("{}{}", new.to_line(), old.to_line())).unwrap();
        let before = seal(&KeyRing::of(old), &session());
        assert_eq!(open(&both, &before, 0), Ok(session()));
        assert_eq!(open(&KeyRing::of(new), &before, 0), Err(SessionError::UnknownKey));
        let forged = seal(&KeyRing::of(Key::new(2, [8; 32])), &session());
        assert_eq!(open(&both, &forged, 0), Err(SessionError::BadMac));
    }

    #[test]
    fn an_access_token_is_no_session() {
        let claims = ingest_api::access::Claims {
            stream: "demo".parse().unwrap(),
            viewer: "alice".into(),
            issued_unix_s: 40,
            enter_until_unix_s: 9_000,
            watch_until_unix_s: None,
        };
        let token = ingest_api::access::mint(&keys(), &claims);
        assert_eq!(open(&keys(), &token, 0), Err(SessionError::Malformed));
    }
}
