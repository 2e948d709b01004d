//! Access tokens of others: JSON web tokens (RFC 7519) signed as JWS (RFC 7515), by the rules of RFC 8725.
//!
//! In: a token, the stream it came for, the keys and expectations, the time. Out: the claims, or a `JwtError`. Pure.
//!
//! | claim | | meaning |
//! |---|---|---|
//! | `sub` | required, or `wmid` | the viewer: marks, limits and revocation are keyed to it |
//! | `exp` | required | last second to come in |
//! | `stream`, `streams` | one of them | the stream it opens, or a list; `"*"` opens every stream |
//! | `nbf` | | first second to come in |
//! | `iat` | | when it was made; without it a revocation of the viewer voids it for ever |
//! | `watch_until` | | last second to watch; without it 12 hours after coming in |
//! | `iss`, `aud` | | must be as configured; an `aud` that nobody configured is refused (RFC 7519 §4.1.3) |
//!
//! A token with watermark claims (ETSI TS 104 002 §5.4, by their names) is taken in **indirect mode**: `wmver` 1, `wmid`,
//! `wmvnd`, `wmpatlen`, `wmopid`, `wmkeyver` and `iat` must all be there. `wmid` is the viewer: codewords are drawn by it,
//! and revocation and register know them by it; a `sub` beside it must say the same. The other five are checked for their
//! form only: which keys a codeword is drawn by stands in the record of each GOP, a codeword has no end, and there are no
//! vendors to choose from. **Direct mode** (`wmpattern`) is refused: a pattern of somebody else's would be nobody's codeword.
//!
//! Times are NumericDates. What a header offers beside `alg` and `kid` (`jku`, `x5u`, `jwk` …) is not looked at; `crit`
//! is refused, for no extension is understood here.

use super::key_set::KeySet;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ingest_api::StreamName;
use ingest_api::access::{Claims, TOKEN_BYTES_MAX, is_viewer_name};
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use std::sync::Arc;
use thiserror::Error;

/// How far the clock of whoever made a token may be ahead of ours, in seconds.
const AHEAD_S: u64 = 30;
/// Dates above this are no dates: integers above it are not exact in JSON (RFC 7493 §2.2).
const DATE_MAX: f64 = 9_007_199_254_740_991.0;

/// What tokens are measured by.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The keys in force.
    pub keys: Arc<KeySet>,
    /// What `iss` must be, if anything.
    pub issuer: Option<String>,
    /// What `aud` must hold, if anything.
    pub audience: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Payload {
    sub: Option<String>,
    exp: Date,
    nbf: Option<Date>,
    iat: Option<Date>,
    stream: Option<String>,
    streams: Option<Vec<String>>,
    watch_until: Option<Date>,
    iss: Option<String>,
    aud: Option<Audience>,
    // The watermark claims.
    wmver: Option<u8>,
    wmvnd: Option<u8>,
    wmpatlen: Option<u16>,
    wmpattern: Option<IgnoredAny>,
    wmid: Option<String>,
    wmopid: Option<u64>,
    wmkeyver: Option<u64>,
}

impl Payload {
    /// Who watches.
    fn viewer(&self) -> Result<&str, JwtError> {
        if self.wmpattern.is_some() {
            return Err(JwtError::Pattern);
        }
        let (wmvnd, wmpatlen) = (self.wmvnd.is_some(), self.wmpatlen.is_some());
        let others = [wmvnd, wmpatlen, self.wmopid.is_some(), self.wmkeyver.is_some()];
        let viewer = match &self.wmid {
            None if self.wmver.is_some() || others.contains(&true) => return Err(JwtError::Watermark),
            None => self.sub.as_deref().ok_or(JwtError::Malformed)?,
            Some(_) if self.wmver != Some(1) || others.contains(&false) || self.iat.is_none() => {
                return Err(JwtError::Watermark);
            }
            Some(wmid) if self.sub.as_ref().is_some_and(|sub| sub != wmid) => {
                return Err(JwtError::Watermark);
            }
            Some(wmid) => wmid,
        };
        if is_viewer_name(viewer) { Ok(viewer) } else { Err(JwtError::Malformed) }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Some(Vec<String>),
}

/// Whole seconds of a NumericDate.
#[derive(Clone, Copy)]
struct Date(u64);

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Date, D::Error> {
        let number = f64::deserialize(from)?;
        if (0.0..=DATE_MAX).contains(&number) {
            Ok(Date(number as u64))
        } else {
            Err(D::Error::custom("no date"))
        }
    }
}

/// Whether a text has the form of a JWS: three words between dots.
pub fn has_form(token: &str) -> bool {
    token.split('.').count() == 3
}

/// Checks a token that came for a stream, and gives its claims for that stream.
///
/// # Errors
/// Every reason is one of `JwtError`; a stranger is told nothing but "no".
pub fn verify(rules: &Rules, stream: &StreamName, token: &str, now_unix_s: u64) -> Result<Claims, JwtError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(JwtError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(JwtError::Malformed)?;
    let header: Header = decode(header)?;
    if header.crit.is_some() {
        return Err(JwtError::Critical);
    }
    let key = rules.keys.find(header.kid.as_deref()).ok_or(JwtError::UnknownKey)?;
    if header.alg != key.algorithm() {
        return Err(JwtError::Algorithm);
    }
    if !key.verifies(signed.as_bytes(), signature) {
        return Err(JwtError::BadSignature);
    }
    let payload: Payload = decode(payload)?;
    let viewer = payload.viewer()?.to_owned();
    let ahead = |date: Option<Date>| date.is_some_and(|date| date.0 > now_unix_s.saturating_add(AHEAD_S));
    if ahead(payload.nbf) || ahead(payload.iat) {
        return Err(JwtError::NotYet);
    }
    if payload.exp.0 < now_unix_s || payload.watch_until.is_some_and(|until| until.0 < now_unix_s) {
        return Err(JwtError::Expired);
    }
    if rules.issuer.is_some() && rules.issuer != payload.iss {
        return Err(JwtError::Issuer);
    }
    let meant = match (&rules.audience, &payload.aud) {
        (None, None) => true,
        (Some(ours), Some(Audience::One(one))) => ours == one,
        (Some(ours), Some(Audience::Some(some))) => some.contains(ours),
        _ => false,
    };
    if !meant {
        return Err(JwtError::Audience);
    }
    let mut named = payload.stream.iter().chain(payload.streams.iter().flatten());
    if !named.any(|name| name == "*" || name == stream.as_str()) {
        return Err(JwtError::OtherStream);
    }
    Ok(Claims {
        stream: stream.clone(),
        viewer,
        issued_unix_s: payload.iat.map_or(0, |date| date.0),
        enter_until_unix_s: payload.exp.0,
        watch_until_unix_s: payload.watch_until.map(|date| date.0),
    })
}

fn decode<T: DeserializeOwned>(word: &str) -> Result<T, JwtError> {
    let json = URL_SAFE_NO_PAD.decode(word).map_err(|_| JwtError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| JwtError::Malformed)
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JwtError {
    /// Not three words of base64url with the JSON that is expected, or too long.
    #[error("the token is malformed")]
    Malformed,
    /// It demands what is not understood here.
    #[error("the token has critical extensions")]
    Critical,
    /// No key of that id: it may be new.
    #[error("the token names no key of the set")]
    UnknownKey,
    /// Its header names another algorithm than its key has.
    #[error("the token's algorithm is not its key's")]
    Algorithm,
    /// Signed with another key, or changed since.
    #[error("the token's signature does not hold")]
    BadSignature,
    /// `nbf` or `iat` lies ahead.
    #[error("the token is not valid yet")]
    NotYet,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Another `iss`.
    #[error("the token is of another issuer")]
    Issuer,
    /// Another `aud`.
    #[error("the token is for another audience")]
    Audience,
    /// It carries a watermark pattern (direct mode).
    #[error("the token carries a watermark pattern of its own")]
    Pattern,
    /// Its watermark claims are incomplete, of another version, or at odds with `sub`.
    #[error("the token's watermark claims are not complete, or not the viewer's")]
    Watermark,
    /// None of its streams is the one that was asked for.
    #[error("the token is for another stream")]
    OtherStream,
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
