//! The access token: what lets a viewer in, as our own HMAC URL.
//!
//! `?token=r1.VERSION.CLAIMS.MAC`: the version of the access key, the claims as base64url of JSON, and HMAC-SHA-256
//! (RFC 2104) over a label and everything before the last dot, base64url (RFC 4648 §5, no padding). Checked once, where a
//! viewer comes in; what follows is the relay's session.
//! In: claims and keys, or a token and the time. Out: the other one. Pure: the caller brings the time.

use crate::name::StreamName;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use releve_watermark::KeyRing;
use ring::hmac;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 2048;
/// The longest viewer name, in bytes.
pub const VIEWER_BYTES_MAX: usize = 128;

const LABEL: &[u8] = b"releve access 1\0";
const PREFIX: &str = "r1";

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// The one stream it opens.
    #[serde(rename = "s")]
    pub stream: StreamName,
    /// The account that watches; marks and revocation are keyed to it.
    #[serde(rename = "v")]
    pub viewer: String,
    /// When it was made, Unix time: a revocation voids what was made up to then.
    #[serde(rename = "i")]
    pub issued_unix_s: u64,
    /// Last second to come in, Unix time.
    #[serde(rename = "e")]
    pub enter_until_unix_s: u64,
    /// Last second to watch, Unix time; `None` leaves it to the relay (12 hours).
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub watch_until_unix_s: Option<u64>,
}

/// Whether a text may name a viewer: 1 to 128 bytes without control characters.
pub fn is_viewer_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= VIEWER_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Whether a text begins as a token does.
pub fn has_form(token: &str) -> bool {
    token.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('.'))
}

/// Makes a token with the current key.
pub fn mint(keys: &KeyRing, claims: &Claims) -> String {
    let json = serde_json::to_vec(claims).expect("claims are plain strings and numbers");
    let key = keys.current();
    let signed = format!("{PREFIX}.{}.{}", key.version, URL_SAFE_NO_PAD.encode(json));
    let mac = sign(key.secret(), &signed);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))
}

/// Checks a token and gives its claims.
///
/// # Errors
/// Every reason is one of `AccessError`; a caller tells strangers nothing but "no".
pub fn verify(keys: &KeyRing, token: &str, now_unix_s: u64) -> Result<Claims, AccessError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(AccessError::Malformed);
    }
    let (signed, mac) = token.rsplit_once('.').ok_or(AccessError::Malformed)?;
    let mut words = signed.split('.');
    let (Some(PREFIX), Some(version), Some(claims), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(AccessError::Malformed);
    };
    let version: u32 = version.parse().map_err(|_| AccessError::Malformed)?;
    let mac = URL_SAFE_NO_PAD.decode(mac).map_err(|_| AccessError::Malformed)?;
    let key = keys.version(version).ok_or(AccessError::UnknownKey)?;
    hmac::verify(key.mac(), &labelled(signed), &mac).map_err(|_| AccessError::BadMac)?;
    let json = URL_SAFE_NO_PAD.decode(claims).map_err(|_| AccessError::Malformed)?;
    let claims: Claims = serde_json::from_slice(&json).map_err(|_| AccessError::Malformed)?;
    if !is_viewer_name(&claims.viewer) {
        return Err(AccessError::Malformed);
    }
    if claims.enter_until_unix_s < now_unix_s
        || claims.watch_until_unix_s.is_some_and(|until| until < now_unix_s)
    {
        return Err(AccessError::Expired);
    }
    Ok(claims)
}

fn labelled(signed: &str) -> Vec<u8> {
    [LABEL, signed.as_bytes()].concat()
}

fn sign(secret: &[u8; 32], signed: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), &labelled(signed))
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AccessError {
    /// Not of the form `r1.VERSION.CLAIMS.MAC`, or too long.
    #[error("the token is malformed")]
    Malformed,
    /// Signed with a key that is not live.
    #[error("the token names an access key that is not live")]
    UnknownKey,
    /// Signed with another secret, or changed since.
    #[error("the token's signature does not hold")]
    BadMac,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;
    use releve_watermark::Key;

    fn keys() -> KeyRing {
        KeyRing::of(Key::new(3, [5; 32]))
    }

    fn claims() -> Claims {
        Claims {
            stream: "demo".parse().unwrap(),
            viewer: "alice@example.org".into(),
            issued_unix_s: 900,
            enter_until_unix_s: 1000,
            watch_until_unix_s: None,
        }
    }

    #[test]
    fn a_minted_token_opens_until_its_time_is_over() {
        let token = mint(&keys(), &claims());
        assert!(has_form(&token) && !has_form("r10.1") && !has_form("r1"));
        assert_eq!(verify(&keys(), &token, 1000), Ok(claims()));
        assert_eq!(verify(&keys(), &token, 1001), Err(AccessError::Expired));
    }

    #[test]
    fn every_changed_character_closes_it() {
        let token = mint(&keys(), &claims());
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(verify(&keys(), &changed, 0).is_err(), "character {at}");
        }
    }

    #[test]
    fn another_key_and_nonsense_are_refused() {
        let token = mint(&KeyRing::of(Key::new(3, [6; 32])), &claims());
        assert_eq!(verify(&keys(), &token, 0), Err(AccessError::BadMac));
        let token = mint(&KeyRing::of(Key::new(4, [5; 32])), &claims());
        assert_eq!(verify(&keys(), &token, 0), Err(AccessError::UnknownKey));
        for nonsense in ["", ".", "r1", "r1.3", "r1.3.x", "r2.3.e30.AA", "r1.3.e30.AA.AA", &"x".repeat(3000)]
        {
            assert!(verify(&keys(), nonsense, 0).is_err());
        }
    }
}
