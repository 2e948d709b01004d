//! Tests of `jwt`: tokens made by hand, so that anything can be wrong with them. Those of other makers are in `tests/`.

use super::*;
use crate::token::fixtures::{NOW, SECRET, b64, ed, rules_with};
use crate::token::foreign::AHEAD_S;
use crate::token::place::Site;
use ring::signature::KeyPair;
use serde_json::{Value, json};

fn rules() -> Rules {
    rules_with(&[], Site::default())
}

fn claims() -> Value {
    json!({"sub": "alice", "exp": NOW + 60, "iat": NOW - 5, "stream": "demo"})
}

fn hmac_of(secret: &[u8], signed: &str) -> String {
    b64(ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), signed.as_bytes()))
}

fn hs256(header: &str, payload: &str) -> String {
    let signed = format!("{}.{}", b64(header), b64(payload));
    format!("{signed}.{}", hmac_of(&SECRET, &signed))
}

fn look(token: &str) -> Result<Claims, ForeignError> {
    verify(&rules(), &"demo".parse().unwrap(), token, NOW)
}

/// A token of the secret key with these claims.
fn said(payload: impl AsRef<str>) -> Result<Claims, ForeignError> {
    look(&hs256(r#"{"alg":"HS256","kid":"h"}"#, payload.as_ref()))
}

fn with(name: &str, value: Value) -> Result<Claims, ForeignError> {
    let mut claims = claims();
    claims[name] = value;
    said(claims.to_string())
}

fn without(name: &str) -> Result<Claims, ForeignError> {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    said(claims.to_string())
}

#[test]
fn a_good_token_gives_its_claims() {
    let good = said(claims().to_string()).unwrap();
    assert_eq!((good.viewer.as_str(), good.stream.as_str()), ("alice", "demo"));
    assert_eq!((good.issued_unix_s, good.enter_until_unix_s), (NOW - 5, NOW + 60));
    assert_eq!(good.watch_until_unix_s, None);
    let signed = format!("{}.{}", b64(r#"{"alg":"EdDSA","kid":"d","typ":"JWT"}"#), b64(claims().to_string()));
    let token = format!("{signed}.{}", b64(ed().sign(signed.as_bytes())));
    assert_eq!(look(&token), Ok(good));
}

#[test]
fn the_key_chooses_the_algorithm() {
    let payload = claims().to_string();
    for alg in ["none", "None", "nOnE", "", "HS384", "RS256", "EdDSA", "hs256"] {
        let header = json!({"alg": alg, "kid": "h"}).to_string();
        assert_eq!(look(&hs256(&header, &payload)), Err(ForeignError::Algorithm), "{alg}");
        let unsigned = format!("{}.{}.", b64(&header), b64(&payload));
        assert_eq!(look(&unsigned), Err(ForeignError::Algorithm), "{alg}, no signature");
    }
    // The public key of `d` as if it were a secret, in the forms an attacker would try.
    let public = ed().public_key().as_ref().to_vec();
    for secret in [public.clone(), b64(&public).into_bytes()] {
        for alg in ["HS256", "EdDSA"] {
            let signed = format!("{}.{}", b64(json!({"alg": alg, "kid": "d"}).to_string()), b64(&payload));
            let token = format!("{signed}.{}", hmac_of(&secret, &signed));
            assert!(
                matches!(look(&token), Err(ForeignError::Algorithm | ForeignError::BadSignature)),
                "{alg}"
            );
        }
    }
}

#[test]
fn a_header_brings_no_key_and_no_demands() {
    let payload = claims().to_string();
    let own = json!({"kty": "oct", "kid": "x", "k": b64([9; 32])});
    for (header, expected) in [
        (json!({"alg": "HS256"}), ForeignError::UnknownKey),
        (json!({"alg": "HS256", "kid": "x", "jwk": own}), ForeignError::UnknownKey),
        (json!({"alg": "HS256", "kid": "../../dev/null"}), ForeignError::UnknownKey),
        (json!({"alg": "HS256", "kid": "h' OR '1'='1"}), ForeignError::UnknownKey),
        (json!({"alg": "HS256", "kid": 7}), ForeignError::Malformed),
        (json!({"kid": "h"}), ForeignError::Malformed),
        (json!({"alg": "HS256", "kid": "h", "crit": ["b64"], "b64": false}), ForeignError::Critical),
        (json!({"alg": "HS256", "kid": "h", "crit": []}), ForeignError::Critical),
        (json!(["HS256"]), ForeignError::Malformed),
    ] {
        assert_eq!(look(&hs256(&header.to_string(), &payload)), Err(expected), "{header}");
    }
    let twice = look(&hs256(r#"{"alg":"none","kid":"h","alg":"HS256"}"#, &payload));
    assert_eq!(twice, Err(ForeignError::Malformed));
    let ignored = json!({"alg": "HS256", "kid": "h", "jku": "http://127.0.0.1/", "x5u": "file:///"});
    assert!(look(&hs256(&ignored.to_string(), &payload)).is_ok());
}

#[test]
fn dates_are_dates_and_are_kept() {
    assert_eq!(with("exp", json!(NOW)).unwrap().enter_until_unix_s, NOW);
    assert_eq!(with("exp", json!(NOW as f64 + 0.5)).unwrap().enter_until_unix_s, NOW);
    assert_eq!(with("exp", json!(NOW - 1)), Err(ForeignError::Expired));
    assert_eq!(without("exp"), Err(ForeignError::Malformed));
    for wrong in [json!("1000060"), json!(-1), json!(1e308), json!(null), json!([]), json!(true)] {
        assert_eq!(with("exp", wrong.clone()), Err(ForeignError::Malformed), "{wrong}");
    }
    let twice = format!(r#"{{"sub":"alice","stream":"demo","exp":1,"exp":{}}}"#, NOW + 60);
    assert_eq!(said(twice), Err(ForeignError::Malformed));
    for name in ["nbf", "iat"] {
        assert!(with(name, json!(NOW + AHEAD_S)).is_ok());
        assert_eq!(with(name, json!(NOW + AHEAD_S + 1)), Err(ForeignError::NotYet));
    }
    assert_eq!(without("iat").unwrap().issued_unix_s, 0);
    assert_eq!(with("watch_until", json!(NOW + 9)).unwrap().watch_until_unix_s, Some(NOW + 9));
    assert_eq!(with("watch_until", json!(NOW - 1)), Err(ForeignError::Expired));
}

#[test]
fn streams_are_named_exactly() {
    for (name, value) in
        [("stream", json!("*")), ("streams", json!(["a", "demo"])), ("streams", json!(["*"]))]
    {
        assert!(with(name, value.clone()).is_ok(), "{value}");
    }
    for value in [json!("dem"), json!("demo2"), json!("DEMO"), json!(""), json!("*demo")] {
        assert_eq!(with("stream", value.clone()), Err(ForeignError::OtherStream), "{value}");
    }
    assert_eq!(without("stream"), Err(ForeignError::OtherStream));
    assert_eq!(with("stream", json!(7)), Err(ForeignError::Malformed));
    for sub in [json!(""), json!("a\nb"), json!("x".repeat(129)), json!(7), json!(null)] {
        assert_eq!(with("sub", sub.clone()), Err(ForeignError::Malformed), "{sub}");
    }
}

#[test]
fn issuer_and_audience_are_as_configured() {
    let check = |issuer: Option<&str>, audience: Option<&str>, iss: Value, aud: Value| {
        let rules = Rules { issuer: issuer.map(Into::into), audience: audience.map(Into::into), ..rules() };
        let mut claims = claims();
        (claims["iss"], claims["aud"]) = (iss, aud);
        let token = hs256(r#"{"alg":"HS256","kid":"h"}"#, &claims.to_string());
        verify(&rules, &"demo".parse().unwrap(), &token, NOW).map(drop)
    };
    let none = || Value::Null;
    assert_eq!(check(None, None, json!("any"), none()), Ok(()));
    assert_eq!(check(Some("me"), None, json!("me"), none()), Ok(()));
    assert_eq!(check(Some("me"), None, json!("you"), none()), Err(ForeignError::Issuer));
    assert_eq!(check(Some("me"), None, none(), none()), Err(ForeignError::Issuer));
    assert_eq!(check(None, Some("tv"), none(), json!("tv")), Ok(()));
    assert_eq!(check(None, Some("tv"), none(), json!(["web", "tv"])), Ok(()));
    assert_eq!(check(None, Some("tv"), none(), none()), Err(ForeignError::Audience));
    assert_eq!(check(None, Some("tv"), none(), json!(["web"])), Err(ForeignError::Audience));
    assert_eq!(
        check(None, None, none(), json!("tv")),
        Err(ForeignError::Audience),
        "nobody said that we are tv"
    );
}

/// ETSI TS 104 002 V1.1.1 §5.4: version 1, indirect mode, claims by name.
#[test]
fn watermark_claims_name_the_viewer_or_close_the_door() {
    let wm = || {
        json!({"wmver": 1, "wmvnd": 7, "wmpatlen": 65_535, "wmid": "alice", "wmopid": 3, "wmkeyver": 1,
            "exp": NOW + 60, "iat": NOW - 5, "stream": "demo"})
    };
    let changed = |name: &str, value: Value| {
        let mut claims = wm();
        claims[name] = value;
        said(claims.to_string()).map(|claims| claims.viewer)
    };
    assert_eq!(changed("jti", json!("x")), Ok("alice".to_owned()));
    assert_eq!(changed("sub", json!("alice")), Ok("alice".to_owned()));
    assert_eq!(changed("sub", json!("bob")), Err(ForeignError::Watermark));
    assert_eq!(changed("wmver", json!(2)), Err(ForeignError::Watermark));
    assert_eq!(changed("wmpattern", json!("AAAA")), Err(ForeignError::Pattern));
    for (name, value) in [
        ("wmid", json!(7)),
        ("wmid", json!("a\nb")),
        ("wmid", json!("")),
        ("wmvnd", json!(256)),
        ("wmpatlen", json!(65_536)),
        ("wmopid", json!(-1)),
        ("wmkeyver", json!("1")),
    ] {
        assert_eq!(changed(name, value.clone()), Err(ForeignError::Malformed), "{name} {value}");
    }
    for name in ["wmver", "wmvnd", "wmpatlen", "wmid", "wmopid", "wmkeyver", "iat"] {
        assert_eq!(changed(name, Value::Null), Err(ForeignError::Watermark), "no {name}");
    }
    assert_eq!(with("wmopid", json!(3)), Err(ForeignError::Watermark), "of a token that has `sub`");
    assert_eq!(without("sub"), Err(ForeignError::Malformed));
}

#[test]
fn every_changed_character_closes_it() {
    let token = hs256(r#"{"alg":"HS256","kid":"h"}"#, &claims().to_string());
    assert!(look(&token).is_ok());
    for at in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        assert!(look(&String::from_utf8(changed).unwrap()).is_err(), "character {at}");
    }
    for nonsense in
        ["", ".", "..", "...", "a.b.c", &"x".repeat(3000), &format!("{token}."), &format!("{token}=")]
    {
        assert!(look(nonsense).is_err(), "{nonsense}");
    }
    let deep = format!("{}{}", "[".repeat(900), "]".repeat(900));
    assert_eq!(said(deep), Err(ForeignError::Malformed));
}
