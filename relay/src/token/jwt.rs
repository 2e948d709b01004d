//! JSON web tokens (RFC 7519) signed as JWS (RFC 7515), by the rules of RFC 8725.
//!
//! In: a token, the stream it came for, the keys and expectations, the time. Out: the claims, or a `ForeignError`. Pure.
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
//! Watermark claims are in `foreign`.
//!
//! Times are NumericDates. What a header offers beside `alg` and `kid` (`jku`, `x5u`, `jwk` …) is not looked at; `crit`
//! is refused, for no extension is understood here.

use super::foreign::{ForeignError, Rules, Said, Watermark, date, names};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ingest_api::StreamName;
use ingest_api::access::{Claims, TOKEN_BYTES_MAX};
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};

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
        date(f64::deserialize(from)?).map(Date).ok_or_else(|| D::Error::custom("no date"))
    }
}

/// Whether a text has the form of a JWS: three words between dots.
pub fn has_form(token: &str) -> bool {
    token.split('.').count() == 3
}

/// Checks a token that came for a stream, and gives its claims for that stream.
///
/// # Errors
/// Every reason is one of `ForeignError`; a stranger is told nothing but "no".
pub fn verify(
    rules: &Rules,
    stream: &StreamName,
    token: &str,
    now_unix_s: u64,
) -> Result<Claims, ForeignError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(ForeignError::Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(ForeignError::Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(ForeignError::Malformed)?;
    let header: Header = decode(header)?;
    if header.crit.is_some() {
        return Err(ForeignError::Critical);
    }
    let key = rules.keys.find(header.kid.as_deref()).ok_or(ForeignError::UnknownKey)?;
    if header.alg != key.algorithm() {
        return Err(ForeignError::Algorithm);
    }
    if !key.verifies(signed.as_bytes(), signature) {
        return Err(ForeignError::BadSignature);
    }
    let payload: Payload = decode(payload)?;
    let said = Said {
        sub: payload.sub,
        exp: Some(payload.exp.0),
        nbf: payload.nbf.map(|date| date.0),
        iat: payload.iat.map(|date| date.0),
        watch_until: payload.watch_until.map(|date| date.0),
        iss: payload.iss,
        aud: payload.aud.map(|aud| match aud {
            Audience::One(one) => vec![one],
            Audience::Some(some) => some,
        }),
        watermark: Watermark {
            version: payload.wmver.map(u64::from),
            id: payload.wmid,
            pattern: payload.wmpattern.is_some(),
            others: [
                payload.wmvnd.is_some(),
                payload.wmpatlen.is_some(),
                payload.wmopid.is_some(),
                payload.wmkeyver.is_some(),
            ],
        },
    };
    let claims = said.claims(rules, stream, now_unix_s)?;
    let named = payload.stream.iter().chain(payload.streams.iter().flatten());
    if names(named, stream) { Ok(claims) } else { Err(ForeignError::OtherStream) }
}

fn decode<T: DeserializeOwned>(word: &str) -> Result<T, ForeignError> {
    let json = URL_SAFE_NO_PAD.decode(word).map_err(|_| ForeignError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| ForeignError::Malformed)
}

#[cfg(test)]
#[path = "jwt_tests.rs"]
mod tests;
