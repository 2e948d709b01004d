//! The keys that JSON web tokens are checked with: a JWK set (RFC 7517) as an identity provider publishes it.
//!
//! In: the text of a set. Out: the keys of it that can be used, each bound to **one** algorithm. Pure: `io::jwks` fetches.
//!
//! The algorithm is a property of the key: what a token's header says can only agree with it or be refused. So a public
//! key is never taken for a shared secret, and `none` is no algorithm of any key (RFC 8725 §2.1, §3.1).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde::Deserialize;
use thiserror::Error;

/// The longest set that is looked at, in bytes.
pub const SET_BYTES_MAX: usize = 64 << 10;
/// Most keys of a set: providers publish two or three.
pub const KEYS_MAX: usize = 32;

/// The shortest shared secret, in bytes (RFC 7518 §3.2).
const SECRET_BYTES_MIN: usize = 32;
/// RSA moduli that are believed, in bytes: 2048 to 8192 bits.
const RSA_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Who can read a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Its owner only: it may hold shared secrets.
    Private,
    /// Anybody: a shared secret in it is none.
    Public,
}

/// Keys that tokens are checked with.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<VerifyKey>,
    skipped: usize,
}

/// One key and the only algorithm it is used with. Its `Debug` shows no key.
#[derive(Debug)]
pub struct VerifyKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    used_for: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
}

impl KeySet {
    /// Reads a set. Keys that are not ours to use are passed over and counted: a provider may publish others beside them.
    ///
    /// # Errors
    /// When it is no set, or holds no key that can be used.
    pub fn parse(text: &[u8], reach: Reach) -> Result<KeySet, KeySetError> {
        if text.len() > SET_BYTES_MAX {
            return Err(KeySetError::TooLong);
        }
        let Set { keys } = serde_json::from_slice(text).map_err(|_| KeySetError::NoSet)?;
        if keys.len() > KEYS_MAX {
            return Err(KeySetError::TooMany(keys.len()));
        }
        let mut set = KeySet { keys: Vec::new(), skipped: 0 };
        for jwk in keys {
            let key = serde_json::from_value(jwk).ok().and_then(|jwk| usable(jwk, reach));
            match key.filter(|key| !set.keys.iter().any(|known| known.id == key.id)) {
                Some(key) => set.keys.push(key),
                None => set.skipped += 1,
            }
        }
        if set.keys.is_empty() { Err(KeySetError::Empty { skipped: set.skipped }) } else { Ok(set) }
    }

    /// The key that a token names; one without a name means the only key, if there is only one.
    pub fn find(&self, id: Option<&str>) -> Option<&VerifyKey> {
        match (id, &self.keys[..]) {
            (Some(id), keys) => keys.iter().find(|key| key.id.as_deref() == Some(id)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// How many keys can be used.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none can.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many keys of the text are passed over.
    pub fn skipped(&self) -> usize {
        self.skipped
    }
}

impl VerifyKey {
    /// The algorithm's name in a token's header.
    pub fn algorithm(&self) -> &'static str {
        match self.algorithm {
            Algorithm::HS256 => "HS256",
            Algorithm::RS256 => "RS256",
            Algorithm::ES256 => "ES256",
            _ => "EdDSA",
        }
    }

    /// Whether a signature, as base64url, is this key's over these bytes. Constant time where the key is a secret.
    pub fn verifies(&self, signed: &[u8], signature: &str) -> bool {
        crypto::verify(signature, signed, &self.key, self.algorithm).unwrap_or(false)
    }
}

/// The key of a JWK, if it is for signatures and one of the four kinds.
fn usable(jwk: Jwk, reach: Reach) -> Option<VerifyKey> {
    if jwk.used_for.is_some_and(|used_for| used_for != "sig") {
        return None;
    }
    let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
    let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_deref(), jwk.alg.as_deref()) {
        ("oct", _, None | Some("HS256")) if reach == Reach::Private => {
            let secret = bytes(&jwk.k).filter(|secret| secret.len() >= SECRET_BYTES_MIN)?;
            (Algorithm::HS256, DecodingKey::from_secret(&secret))
        }
        ("RSA", _, None | Some("RS256")) => {
            let n = bytes(&jwk.n).filter(|n| RSA_BYTES.contains(&n.len()))?;
            let e = bytes(&jwk.e).filter(|e| (1..=8).contains(&e.len()))?;
            (Algorithm::RS256, DecodingKey::from_rsa_raw_components(&n, &e))
        }
        ("EC", Some("P-256"), None | Some("ES256")) => {
            let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
            if x.len() != 32 || y.len() != 32 {
                return None;
            }
            (Algorithm::ES256, DecodingKey::from_ec_der(&[&[4][..], &x, &y].concat()))
        }
        ("OKP", Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => {
            let x = bytes(&jwk.x).filter(|x| x.len() == 32)?;
            (Algorithm::EdDSA, DecodingKey::from_ed_der(&x))
        }
        _ => return None,
    };
    Some(VerifyKey { id: jwk.kid, algorithm, key })
}

/// Why a text is no set of keys. No part of it is repeated: it may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeySetError {
    /// Longer than `SET_BYTES_MAX`.
    #[error("the key set has more than {SET_BYTES_MAX} bytes")]
    TooLong,
    /// Not JSON with a list `keys`.
    #[error("this is no JWK set: expected {{\"keys\": [...]}}")]
    NoSet,
    /// More than `KEYS_MAX`.
    #[error("the key set has {0} keys, at most {KEYS_MAX} are read")]
    TooMany(usize),
    /// Nothing to check tokens with.
    #[error(
        "the key set has no key that can be used ({skipped} passed over): RSA for RS256, P-256 for ES256, Ed25519 for \
         EdDSA, or in a private file a secret of 32 bytes for HS256"
    )]
    Empty {
        /// How many there were.
        skipped: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(keys: &str, reach: Reach) -> Result<KeySet, KeySetError> {
        KeySet::parse(format!("{{\"keys\":[{keys}]}}").as_bytes(), reach)
    }

    fn oct(id: &str, bytes: usize) -> String {
        format!(r#"{{"kty":"oct","kid":"{id}","k":"{}"}}"#, URL_SAFE_NO_PAD.encode(vec![7; bytes]))
    }

    fn ed(id: &str) -> String {
        let x = URL_SAFE_NO_PAD.encode([9; 32]);
        format!(r#"{{"kty":"OKP","crv":"Ed25519","kid":"{id}","x":"{x}"}}"#)
    }

    #[test]
    fn each_kind_of_key_has_one_algorithm() {
        let n = URL_SAFE_NO_PAD.encode([0xc1; 256]);
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        let keys = [
            oct("h", 32),
            format!(r#"{{"kty":"RSA","kid":"r","use":"sig","n":"{n}","e":"AQAB"}}"#),
            format!(r#"{{"kty":"EC","crv":"P-256","kid":"e","alg":"ES256","x":"{x}","y":"{x}"}}"#),
            ed("d"),
        ];
        let set = parse(&keys.join(","), Reach::Private).unwrap();
        let algorithm = |id| set.find(Some(id)).unwrap().algorithm();
        assert_eq!(
            [algorithm("h"), algorithm("r"), algorithm("e"), algorithm("d")],
            ["HS256", "RS256", "ES256", "EdDSA"]
        );
        assert!(set.find(None).is_none(), "of several keys a token must name one");
        assert!(set.find(Some("x")).is_none());
        assert!(parse(&ed("d"), Reach::Public).unwrap().find(None).is_some());
        assert!(!format!("{set:?}").contains(&format!("{:?}", [7u8; 32])), "{set:?}");
    }

    #[test]
    fn what_cannot_be_used_is_passed_over() {
        let short = URL_SAFE_NO_PAD.encode([1; 128]);
        for other in [
            oct("a", 31),
            format!(r#"{{"kty":"RSA","kid":"a","n":"{short}","e":"AQAB"}}"#),
            r#"{"kty":"EC","crv":"P-521","kid":"a","x":"AA","y":"AA"}"#.into(),
            r#"{"kty":"EC","crv":"P-256","kid":"a","x":"AA","y":"AA"}"#.into(),
            ed("a").replace("\"kid\"", "\"use\":\"enc\",\"kid\""),
            ed("a").replace("\"kid\"", "\"alg\":\"HS256\",\"kid\""),
            ed("a").replace("\"kid\"", "\"alg\":\"none\",\"kid\""),
            r#"{"kty":"new"}"#.into(),
            "7".into(),
            ed("good"),
        ] {
            let set = parse(&format!("{},{other}", ed("good")), Reach::Private).unwrap();
            assert_eq!((set.len(), set.skipped()), (1, 1), "{other}");
        }
        let public = parse(&oct("a", 32), Reach::Public).map(drop);
        assert_eq!(public, Err(KeySetError::Empty { skipped: 1 }), "a secret that all can read");
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for text in ["", "{}", "[]", "{\"keys\":{}}", "{\"keys\":[]}", "nonsense"] {
            assert!(KeySet::parse(text.as_bytes(), Reach::Private).is_err(), "{text}");
        }
        let many = vec![ed("x"); KEYS_MAX + 1].join(",");
        assert_eq!(parse(&many, Reach::Private).map(drop), Err(KeySetError::TooMany(KEYS_MAX + 1)));
        let long = format!("{{\"keys\":[{}{}]}}", ed("x"), " ".repeat(SET_BYTES_MAX));
        assert_eq!(KeySet::parse(long.as_bytes(), Reach::Private).map(drop), Err(KeySetError::TooLong));
    }
}
