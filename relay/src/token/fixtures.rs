//! Keys for the tests of tokens: a secret `h`, an Ed25519 key `d`, and whatever a test adds.

use super::foreign::Rules;
use super::key_set::{KeySet, Reach};
use super::place::Site;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) const NOW: u64 = 1_000_000;
pub(super) const SECRET: [u8; 32] = [7; 32];

pub(super) fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn ed() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap()
}

/// Rules with these keys and `more`, for a relay at this site.
pub(super) fn rules_with(more: &[Value], site: Site) -> Rules {
    let mut keys = vec![
        json!({"kty": "oct", "kid": "h", "k": b64(SECRET)}),
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "d", "x": b64(ed().public_key())}),
    ];
    keys.extend_from_slice(more);
    let keys = KeySet::parse(json!({ "keys": keys }).to_string().as_bytes(), Reach::Private).unwrap();
    Rules { keys: Arc::new(keys), issuer: None, audience: None, site }
}
