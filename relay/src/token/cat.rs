//! Common Access Tokens (CTA-5007): CBOR web tokens (RFC 8392) in a COSE_Mac0 or COSE_Sign1 (RFC 9052).
//!
//! In: a token, the request it came with, the keys and expectations, the time. Out: the claims, or a `ForeignError`. Pure.
//!
//! | claim | | meaning |
//! |---|---|---|
//! | 2 `sub` | required, or 305 `wmid` | the viewer; the watermark claims 300 to 307 are in `foreign` |
//! | 4 `exp` | required | last second to come in |
//! | 312 `catu`, `"stream"`, `"streams"` | one of them | the addresses it opens (`place`), or the streams, as in a JSON web token |
//! | 311 `catnip`, 313 `catm` | | networks and methods to come in by |
//! | 5 `nbf`, 6 `iat`, 1 `iss`, 3 `aud`, `"watch_until"` | | as in a JSON web token |
//! | 308 `catreplay` | | 0 only: nobody counts how often a token is used |
//! | 310 `catv` | | 1 |
//! | 7 `cti`, 320 `catifdata`, 322 `catif`, 323 `catr` | | name the token, or say what is done when it does not hold: not looked at |
//!
//! Any other claim narrows what the token is for, or may: a token that has one is refused. So are critical headers, and a
//! map that names something twice.
//!
//! The outermost tag is 61 (CWT) or missing, the one below says MAC or signature and must be there: what a token is is not
//! guessed. The key decides on the algorithm, as for JSON web tokens.

use super::foreign::{DATE_MAX, ForeignError, Rules, Said, date, names};
use super::key_set::VerifyKey;
use super::place::{Place, allows_network, allows_uri};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use coset::cbor::Value;
use coset::cbor::de::from_reader_with_recursion_limit;
use coset::iana::{Algorithm, EnumI64};
use coset::{AsCborValue, CoseMac0, CoseSign1, Header, Label, ProtectedHeader};
use ingest_api::StreamName;
use ingest_api::access::{Claims, TOKEN_BYTES_MAX};
use std::collections::BTreeSet;

/// How deep values may lie in each other: a token with all of the claims above needs half of it.
const DEPTH_MAX: usize = 12;

const CWT: u64 = 61;
const MAC0: u64 = 17;
const SIGN1: u64 = 18;

/// Whether a text begins as one of these does: base64url of the tags.
pub fn has_form(token: &str) -> bool {
    let mut head = [0; 3];
    let begins = token.get(..4).and_then(|head_text| URL_SAFE_NO_PAD.decode_slice(head_text, &mut head).ok());
    // A tag up to 23 is one byte, 61 is two; an array of four follows.
    begins == Some(3) && matches!(head, [0xd1 | 0xd2, 0x84, _] | [0xd8, 61, 0xd1 | 0xd2])
}

/// Checks a token that came with a request for a stream, and gives its claims for that stream.
///
/// # Errors
/// Every reason is one of `ForeignError`; a stranger is told nothing but "no".
pub fn verify(
    rules: &Rules,
    stream: &StreamName,
    place: Place<'_>,
    token: &str,
    now_unix_s: u64,
) -> Result<Claims, ForeignError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(ForeignError::Malformed);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| ForeignError::Malformed)?;
    let payload = payload(rules, read(&bytes)?)?;
    let Value::Map(map) = read(&payload)? else { return Err(ForeignError::Malformed) };
    let wanted = Wanted::of(map)?;
    let claims = wanted.said.claims(rules, stream, now_unix_s)?;
    if let Some(networks) = &wanted.networks
        && !allows_network(networks, place.source)?
    {
        return Err(ForeignError::OtherNetwork);
    }
    if wanted.methods.is_some_and(|methods| !methods.iter().any(|method| method == place.method)) {
        return Err(ForeignError::OtherMethod);
    }
    let at = wanted.uri.as_ref().map(|uri| allows_uri(uri, &rules.site, place.path)).transpose()?;
    let named = wanted.streams.as_ref().map(|streams| names(streams.iter(), stream));
    match (at, named) {
        (Some(false), _) | (_, Some(false)) | (None, None) => Err(ForeignError::OtherStream),
        _ => Ok(claims),
    }
}

/// The payload of a token whose MAC or signature holds.
fn payload(rules: &Rules, token: Value) -> Result<Vec<u8>, ForeignError> {
    let cose = match token {
        Value::Tag(CWT, cose) => *cose,
        cose => cose,
    };
    match cose {
        Value::Tag(MAC0, mac) => {
            let mac = CoseMac0::from_cbor_value(*mac).map_err(|_| ForeignError::Malformed)?;
            let Some(payload) = mac.payload.clone() else { return Err(ForeignError::Malformed) };
            let key = key(rules, &mac.protected, &mac.unprotected, true)?;
            mac.verify_payload_tag(&[], || ForeignError::Malformed, |tag, signed| holds(key, tag, signed))?;
            Ok(payload)
        }
        Value::Tag(SIGN1, sign) => {
            let sign = CoseSign1::from_cbor_value(*sign).map_err(|_| ForeignError::Malformed)?;
            let Some(payload) = sign.payload.clone() else { return Err(ForeignError::Malformed) };
            let key = key(rules, &sign.protected, &sign.unprotected, false)?;
            sign.verify_signature(&[], |signature, signed| holds(key, signature, signed))?;
            Ok(payload)
        }
        _ => Err(ForeignError::Malformed),
    }
}

fn holds(key: &VerifyKey, signature: &[u8], signed: &[u8]) -> Result<(), ForeignError> {
    let holds = key.verifies(signed, &URL_SAFE_NO_PAD.encode(signature));
    if holds { Ok(()) } else { Err(ForeignError::BadSignature) }
}

/// The key that a token names, if it is for what the token is, a MAC or a signature, and is used with what the token says.
fn key<'a>(
    rules: &'a Rules,
    protected: &ProtectedHeader,
    open: &Header,
    is_mac: bool,
) -> Result<&'a VerifyKey, ForeignError> {
    let shut = &protected.header;
    if !shut.crit.is_empty() || !open.crit.is_empty() {
        return Err(ForeignError::Critical);
    }
    let id = match (&shut.key_id[..], &open.key_id[..]) {
        ([], []) => None,
        (id, []) | ([], id) => Some(std::str::from_utf8(id).map_err(|_| ForeignError::UnknownKey)?),
        _ => return Err(ForeignError::Malformed),
    };
    let key = rules.keys.find(id).ok_or(ForeignError::UnknownKey)?;
    let algorithm = match key.algorithm() {
        "HS256" => Algorithm::HMAC_256_256,
        "RS256" => Algorithm::RS256,
        "ES256" => Algorithm::ES256,
        _ => Algorithm::EdDSA,
    };
    let said = match &shut.alg {
        Some(coset::Algorithm::Assigned(said)) => said.to_i64(),
        _ => return Err(ForeignError::Algorithm),
    };
    // What is not protected is anybody's.
    let agrees = said == algorithm.to_i64() && open.alg.is_none();
    if agrees && is_mac == (algorithm == Algorithm::HMAC_256_256) {
        Ok(key)
    } else {
        Err(ForeignError::Algorithm)
    }
}

/// What a token says and wants.
#[derive(Default)]
struct Wanted {
    said: Said,
    streams: Option<Vec<String>>,
    uri: Option<Value>,
    networks: Option<Value>,
    methods: Option<Vec<String>>,
}

impl Wanted {
    fn of(map: Vec<(Value, Value)>) -> Result<Wanted, ForeignError> {
        let mut wanted = Wanted::default();
        let said = &mut wanted.said;
        let mut seen = BTreeSet::new();
        for (label, value) in map {
            let label = Label::from_cbor_value(label).map_err(|_| ForeignError::Malformed)?;
            match &label {
                Label::Int(1) => said.iss = Some(text(value)?),
                Label::Int(2) => said.sub = Some(text(value)?),
                Label::Int(3) => said.aud = Some(texts(value)?),
                Label::Int(4) => said.exp = Some(seconds(&value)?),
                Label::Int(5) => said.nbf = Some(seconds(&value)?),
                Label::Int(6) => said.iat = Some(seconds(&value)?),
                // `wmver`, `wmvnd`, `wmpatlen`, `wmsegduration`, `wmpattern`, `wmid`, `wmopid`, `wmkeyver`
                Label::Int(300) => said.watermark.version = Some(at_most(&value, u8::MAX.into())?),
                Label::Int(301) => {
                    said.watermark.others[0] = at_most(&value, u8::MAX.into()).map(|_| true)?
                }
                Label::Int(302) => {
                    said.watermark.others[1] = at_most(&value, u16::MAX.into()).map(|_| true)?
                }
                Label::Int(303) => {}
                Label::Int(304) => said.watermark.pattern = true,
                Label::Int(305) => said.watermark.id = Some(text(value)?),
                Label::Int(306) => said.watermark.others[2] = at_most(&value, u64::MAX).map(|_| true)?,
                Label::Int(307) => said.watermark.others[3] = at_most(&value, u64::MAX).map(|_| true)?,
                // `catreplay`, `catv`
                Label::Int(308) if at_most(&value, 0).is_ok() => {}
                Label::Int(310) if at_most(&value, u64::MAX) == Ok(1) => {}
                Label::Int(311) => wanted.networks = Some(value),
                Label::Int(312) => wanted.uri = Some(value),
                Label::Int(313) => wanted.methods = Some(texts(value)?),
                // `cti`, `catifdata`, `catif`, `catr`
                Label::Int(7 | 320 | 322 | 323) => {}
                Label::Text(name) if name == "watch_until" => said.watch_until = Some(seconds(&value)?),
                Label::Text(name) if name == "stream" => {
                    wanted.streams.get_or_insert_default().push(text(value)?);
                }
                Label::Text(name) if name == "streams" => {
                    wanted.streams.get_or_insert_default().extend(texts(value)?);
                }
                _ => return Err(ForeignError::Critical),
            }
            if !seen.insert(label) {
                return Err(ForeignError::Malformed);
            }
        }
        Ok(wanted)
    }
}

/// One value and nothing behind it, not too deep. Its size is bounded by the token's.
fn read(mut bytes: &[u8]) -> Result<Value, ForeignError> {
    let value = from_reader_with_recursion_limit(&mut bytes, DEPTH_MAX);
    value.ok().filter(|_| bytes.is_empty()).ok_or(ForeignError::Malformed)
}

fn text(value: Value) -> Result<String, ForeignError> {
    value.into_text().map_err(|_| ForeignError::Malformed)
}

/// A text, or a list of them.
fn texts(value: Value) -> Result<Vec<String>, ForeignError> {
    match value {
        Value::Array(values) => values.into_iter().map(text).collect(),
        one => Ok(vec![text(one)?]),
    }
}

fn at_most(value: &Value, most: u64) -> Result<u64, ForeignError> {
    let number = value.as_integer().and_then(|number| u64::try_from(number).ok());
    number.filter(|number| *number <= most).ok_or(ForeignError::Malformed)
}

/// A NumericDate, without the tag that it must not have (RFC 8392 §2).
fn seconds(value: &Value) -> Result<u64, ForeignError> {
    match value {
        Value::Float(number) => date(*number).ok_or(ForeignError::Malformed),
        value => at_most(value, DATE_MAX),
    }
}

#[cfg(test)]
#[path = "cat_tests.rs"]
mod tests;
