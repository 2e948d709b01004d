//! Tests of `cat`: tokens made by hand, so that anything can be wrong with them. Those of other makers are in `tests/`.

use super::*;
use crate::token::fixtures::{NOW, SECRET, b64, ed, rules_with};
use crate::token::key_set::KeySet;
use crate::token::place::Site;
use coset::{
    CborSerializable, CoseMac0Builder, CoseSign1Builder, HeaderBuilder, TaggedCborSerializable, iana,
};
use serde_json::json;
use std::sync::Arc;

/// `claims` signed with the P-256 key `e`, by OpenSSL: ECDSA draws, so this is made once.
const ES256: &str = concat!(
    "2D3ShEOhASahBEFlWCulAmVhbGljZQQaAA9CfAYaAA9COxkBNgEZATihA6EBay9saXZlL2RlbW8vWEBvsrAyVWP52OniSqnbkCDz",
    "Mow4G1x4oGWJp7a4AL72m2YD-VB4lsKm_loKebTomxgztFoo8VKAUqO1NZBk5QNL",
);

/// With a P-256 key `e`.
fn rules() -> Rules {
    let (x, y) =
        ("l3eyRIfyNyFm4ky7qtugjEOsUha_-GhLH6UqVqom6hY", "5_0Lyl1y7ScqZ6tk_0ZbsnxSsJWqWjyhjQiDEdxmTCc");
    let key = json!({"kty": "EC", "crv": "P-256", "kid": "e", "x": x, "y": y});
    rules_with(&[key], Site::of("https://tv.example.org"))
}

fn place() -> Place<'static> {
    Place { path: "/live/demo/index.m3u8", method: "GET", source: "192.0.2.7".parse().ok() }
}

fn look_by(rules: &Rules, token: &str) -> Result<Claims, ForeignError> {
    verify(rules, &"demo".parse().unwrap(), place(), token, NOW)
}

fn look(token: &[u8]) -> Result<Claims, ForeignError> {
    look_by(&rules(), &b64(token))
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn int(number: u64) -> Value {
    Value::Integer(number.into())
}

fn texts(words: &[&str]) -> Value {
    Value::Array(words.iter().map(|word| text(word)).collect())
}

fn map(pairs: Vec<(u64, Value)>) -> Value {
    Value::Map(pairs.into_iter().map(|(key, value)| (int(key), value)).collect())
}

fn path(kind: u64, word: &str) -> Value {
    map(vec![(3, map(vec![(kind, text(word))]))])
}

type Pairs = Vec<(Value, Value)>;

fn claims() -> Pairs {
    vec![
        (int(2), text("alice")),
        (int(4), int(NOW + 60)),
        (int(6), int(NOW - 5)),
        (int(310), int(1)),
        (int(312), path(1, "/live/demo/")),
    ]
}

fn hs256() -> Header {
    HeaderBuilder::new().algorithm(iana::Algorithm::HMAC_256_256).build()
}

fn kid(id: &str) -> Header {
    HeaderBuilder::new().key_id(id.into()).build()
}

fn hmac(signed: &[u8]) -> Vec<u8> {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &SECRET);
    ring::hmac::sign(&key, signed).as_ref().to_vec()
}

fn maced(protected: Header, open: Header, payload: Vec<u8>) -> CoseMac0 {
    let builder = CoseMac0Builder::new().protected(protected).unprotected(open).payload(payload);
    builder.create_tag(&[], hmac).build()
}

fn token(claims: Pairs) -> Vec<u8> {
    maced(hs256(), kid("h"), Value::Map(claims).to_vec().unwrap()).to_tagged_vec().unwrap()
}

fn said(claims: Pairs) -> Result<Claims, ForeignError> {
    look(&token(claims))
}

fn with(label: Value, value: Value) -> Result<Claims, ForeignError> {
    let mut claims = claims();
    claims.retain(|(known, _)| *known != label);
    claims.push((label, value));
    said(claims)
}

fn without(label: u64) -> Result<Claims, ForeignError> {
    let mut claims = claims();
    claims.retain(|(known, _)| *known != int(label));
    said(claims)
}

fn signed(protected: Header, id: &str, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let payload = Value::Map(claims()).to_vec().unwrap();
    let builder = CoseSign1Builder::new().protected(protected).unprotected(kid(id)).payload(payload);
    builder.create_signature(&[], sign).build().to_tagged_vec().unwrap()
}

fn alg(algorithm: iana::Algorithm) -> Header {
    HeaderBuilder::new().algorithm(algorithm).build()
}

fn in_tag(tag: u64, token: &[u8]) -> Vec<u8> {
    Value::Tag(tag, Box::new(Value::from_slice(token).unwrap())).to_vec().unwrap()
}

#[test]
fn a_good_token_gives_its_claims() {
    let good = said(claims()).unwrap();
    assert_eq!((good.viewer.as_str(), good.stream.as_str()), ("alice", "demo"));
    assert_eq!((good.issued_unix_s, good.enter_until_unix_s), (NOW - 5, NOW + 60));
    assert_eq!(good.watch_until_unix_s, None);
    assert_eq!(look(&in_tag(61, &token(claims()))), Ok(good.clone()));
    let eddsa = signed(alg(iana::Algorithm::EdDSA), "d", |signed| ed().sign(signed).as_ref().to_vec());
    assert_eq!(look(&eddsa), Ok(good.clone()));
    assert_eq!(look_by(&rules(), ES256), Ok(good.clone()));
    let other = Rules { keys: Arc::new(KeySet::default()), ..rules() };
    assert_eq!(look_by(&other, ES256), Err(ForeignError::UnknownKey));
    let inside = HeaderBuilder::new().algorithm(iana::Algorithm::HMAC_256_256).key_id(b"h".to_vec()).build();
    let payload = Value::Map(claims()).to_vec().unwrap();
    assert_eq!(look(&maced(inside, Header::default(), payload).to_tagged_vec().unwrap()), Ok(good));
    for one in [b64(token(claims())), b64(in_tag(61, &token(claims()))), b64(eddsa), ES256.to_owned()] {
        assert!(has_form(&one));
    }
}

#[test]
fn other_texts_are_not_of_its_form() {
    for text in [
        "",
        "2D3",
        "2D3é",
        "r1.1.a.b",
        "eyJhbGciOiJub25lIn0.e30.",
        "cookie-17",
        "hEOhAQU",
        "2D0x",
        "0YQ",
        "0Y==",
    ] {
        assert!(!has_form(text), "{text}");
        assert!(look_by(&rules(), text).is_err(), "{text}");
    }
}

#[test]
fn every_changed_bit_closes_it() {
    let token = token(claims());
    for at in 0..token.len() * 8 {
        let mut changed = token.clone();
        changed[at / 8] ^= 1 << (at % 8);
        assert!(look(&changed).is_err(), "bit {at}");
    }
    for cut in 0..token.len() {
        assert!(look(&token[..cut]).is_err(), "cut at {cut}");
    }
    assert_eq!(look(&[&token[..], &[0]].concat()), Err(ForeignError::Malformed));
    assert_eq!(look_by(&rules(), &format!("{}=", b64(&token))), Err(ForeignError::Malformed));
    assert_eq!(look_by(&rules(), &"0YRD".repeat(600)), Err(ForeignError::Malformed), "too long");
}

#[test]
fn the_key_chooses_the_algorithm() {
    let payload = Value::Map(claims()).to_vec().unwrap();
    let maced = |protected, open| look(&maced(protected, open, payload.clone()).to_tagged_vec().unwrap());
    for other in [iana::Algorithm::HMAC_384_384, iana::Algorithm::HMAC_256_64, iana::Algorithm::ES256] {
        assert_eq!(maced(alg(other), kid("h")), Err(ForeignError::Algorithm), "{other:?}");
    }
    assert_eq!(maced(Header::default(), kid("h")), Err(ForeignError::Algorithm));
    let open = HeaderBuilder::new().algorithm(iana::Algorithm::HMAC_256_256).key_id(b"h".to_vec()).build();
    for protected in [Header::default(), hs256()] {
        assert_eq!(maced(protected, open.clone()), Err(ForeignError::Algorithm), "not protected");
    }
    // A public key is no secret, and a secret makes no signature.
    assert_eq!(maced(hs256(), kid("d")), Err(ForeignError::Algorithm));
    assert_eq!(maced(alg(iana::Algorithm::EdDSA), kid("d")), Err(ForeignError::Algorithm));
    assert_eq!(look(&signed(hs256(), "h", hmac)), Err(ForeignError::Algorithm));
    let forged = signed(alg(iana::Algorithm::EdDSA), "d", |_| vec![0; 64]);
    assert_eq!(look(&forged), Err(ForeignError::BadSignature));
    let short = || CoseMac0Builder::new().protected(hs256()).unprotected(kid("h")).payload(payload.clone());
    for len in [0, 8, 31] {
        let cut = short().create_tag(&[], |signed| hmac(signed)[..len].to_vec()).build();
        assert_eq!(
            look(&cut.to_tagged_vec().unwrap()),
            Err(ForeignError::BadSignature),
            "{len} bytes of a MAC"
        );
    }
}

#[test]
fn a_token_names_one_key() {
    let payload = Value::Map(claims()).to_vec().unwrap();
    let maced = |protected, open| look(&maced(protected, open, payload.clone()).to_tagged_vec().unwrap());
    let inside = HeaderBuilder::new().algorithm(iana::Algorithm::HMAC_256_256).key_id(b"h".to_vec()).build();
    assert_eq!(maced(inside, kid("h")), Err(ForeignError::Malformed));
    assert_eq!(maced(hs256(), kid("x")), Err(ForeignError::UnknownKey));
    assert_eq!(maced(hs256(), Header::default()), Err(ForeignError::UnknownKey), "one of two");
    let strange = HeaderBuilder::new().key_id(vec![0xff]).build();
    assert_eq!(maced(hs256(), strange), Err(ForeignError::UnknownKey));
    let critical = HeaderBuilder::new()
        .algorithm(iana::Algorithm::HMAC_256_256)
        .add_critical(iana::HeaderParameter::ContentType)
        .content_type("application/cwt".to_owned())
        .build();
    assert_eq!(maced(critical, kid("h")), Err(ForeignError::Critical));
}

#[test]
fn what_a_token_is_is_not_guessed() {
    let token = token(claims());
    let bare = CoseMac0::from_tagged_slice(&token).unwrap().to_vec().unwrap();
    let twice = in_tag(61, &in_tag(61, &token));
    for other in [bare.clone(), in_tag(61, &bare), in_tag(98, &bare), in_tag(55799, &token), twice] {
        assert_eq!(look(&other), Err(ForeignError::Malformed), "{other:x?}");
    }
    // A MAC's bytes said to be a signature's, and the other way round.
    assert_eq!(look(&in_tag(18, &bare)), Err(ForeignError::Algorithm));
    let detached = CoseMac0Builder::new().protected(hs256()).unprotected(kid("h")).build();
    assert_eq!(look(&detached.to_tagged_vec().unwrap()), Err(ForeignError::Malformed));
}

#[test]
fn what_is_not_understood_is_refused() {
    // `cnf`, `geohash`, `catpor`, `catalpn`, `cath`, where one is, keys and fingerprints of TLS, proofs of possession.
    for label in [0, 8, 9, 282, 299, 309, 314, 315, 316, 317, 318, 319, 321, 324, 325, 65_537] {
        assert_eq!(with(int(label), int(1)), Err(ForeignError::Critical), "{label}");
    }
    for label in [Value::Integer((-1).into()), text("role"), text("")] {
        assert_eq!(with(label.clone(), int(1)), Err(ForeignError::Critical), "{label:?}");
    }
    for label in [Value::Bytes(vec![2]), Value::Null, Value::Float(2.0), Value::Tag(1, Box::new(int(2)))] {
        assert_eq!(with(label.clone(), int(1)), Err(ForeignError::Malformed), "{label:?}");
    }
    for (label, value) in [(308, int(1)), (308, int(2)), (308, text("0")), (310, int(0)), (310, int(2))] {
        assert_eq!(with(int(label), value), Err(ForeignError::Critical), "{label}");
    }
    for (label, value) in [
        (7, Value::Bytes(vec![1, 2])),
        (303, int(4)),
        (308, int(0)),
        (320, text("x")),
        (322, map(vec![(4, int(302))])),
        (323, map(vec![(0, int(2)), (1, int(120))])),
    ] {
        assert!(with(int(label), value).is_ok(), "{label}");
    }
    assert!(without(310).is_ok(), "a CBOR web token like others");
}

#[test]
fn a_map_says_each_thing_once_and_not_too_deep() {
    for claim in claims() {
        let twice = [claims(), vec![claim.clone()]].concat();
        assert_eq!(said(twice), Err(ForeignError::Malformed), "{claim:?}");
    }
    let nested = |depth| (0..depth).fold(int(1), |inner, _| Value::Array(vec![inner]));
    assert!(with(int(320), nested(3)).is_ok());
    for depth in [DEPTH_MAX, 100, 400] {
        assert_eq!(with(int(320), nested(depth)), Err(ForeignError::Malformed), "{depth}");
    }
    // The outside, too: nothing is signed yet where it is looked at.
    let deep = [vec![0x81; 1400], vec![0x01]].concat();
    assert_eq!(look(&deep), Err(ForeignError::Malformed));
    // And headers, which somebody else reads, to a limit of their own.
    for depth in [11, 250, 300, 1300] {
        let headers = [&[0xa1, 0x18, 99][..], &vec![0x81; depth], &[0x01]].concat();
        let parts =
            vec![Value::Bytes(headers), map(vec![]), Value::Bytes(vec![0xa0]), Value::Bytes(vec![0; 32])];
        let token = Value::Tag(17, Box::new(Value::Array(parts))).to_vec().unwrap();
        let refused = if depth < 255 { ForeignError::UnknownKey } else { ForeignError::Malformed };
        assert_eq!(look(&token), Err(refused), "{depth}");
    }
    // What is said to be long, and is not there.
    for head in
        [&[0xd1, 0x84, 0x5b, 255, 255, 255, 255, 255, 255, 255, 255][..], &[0xd1, 0x9b, 127, 255, 255, 255]]
    {
        assert_eq!(look(head), Err(ForeignError::Malformed));
    }
    for payload in [int(7).to_vec().unwrap(), vec![], vec![0xa0, 0xa0]] {
        let token = maced(hs256(), kid("h"), payload).to_tagged_vec().unwrap();
        assert_eq!(look(&token), Err(ForeignError::Malformed));
    }
}

#[test]
fn times_are_kept() {
    assert_eq!(without(4), Err(ForeignError::Malformed));
    assert!(with(int(4), int(NOW)).is_ok() && with(int(4), Value::Float(NOW as f64 + 0.5)).is_ok());
    assert_eq!(with(int(4), int(NOW - 1)), Err(ForeignError::Expired));
    let epoch = Value::Tag(1, Box::new(int(NOW + 60)));
    for bad in
        [text("2030"), epoch, int(1 << 53), Value::Integer((-1).into()), Value::Float(f64::NAN), Value::Null]
    {
        assert_eq!(with(int(4), bad.clone()), Err(ForeignError::Malformed), "{bad:?}");
    }
    for label in [5, 6] {
        assert!(with(int(label), int(NOW + 30)).is_ok());
        assert_eq!(with(int(label), int(NOW + 31)), Err(ForeignError::NotYet), "{label}");
    }
    assert_eq!(with(text("watch_until"), int(NOW + 9)).unwrap().watch_until_unix_s, Some(NOW + 9));
    assert_eq!(with(text("watch_until"), int(NOW - 1)), Err(ForeignError::Expired));
    assert_eq!(without(6).unwrap().issued_unix_s, 0);
}

#[test]
fn issuer_and_audience_are_as_configured() {
    let look = |issuer: Option<&str>, audience: Option<&str>, more: Pairs| {
        let rules = Rules { issuer: issuer.map(Into::into), audience: audience.map(Into::into), ..rules() };
        look_by(&rules, &b64(token([claims(), more].concat()))).map(drop)
    };
    let (iss, aud) = ((int(1), text("id")), (int(3), texts(&["x", "tv"])));
    assert_eq!(look(Some("id"), Some("tv"), vec![iss.clone(), aud.clone()]), Ok(()));
    assert_eq!(look(None, Some("tv"), vec![iss.clone(), (int(3), text("tv"))]), Ok(()));
    assert_eq!(look(Some("di"), None, vec![iss]), Err(ForeignError::Issuer));
    assert_eq!(look(Some("id"), None, vec![]), Err(ForeignError::Issuer));
    assert_eq!(look(None, None, vec![aud.clone()]), Err(ForeignError::Audience));
    assert_eq!(look(None, Some("vt"), vec![aud]), Err(ForeignError::Audience));
    assert_eq!(look(None, Some("tv"), vec![]), Err(ForeignError::Audience));
}

#[test]
fn a_token_says_what_it_opens() {
    assert_eq!(without(312), Err(ForeignError::OtherStream), "nothing is not everything");
    assert!(with(int(312), path(0, "/live/demo/index.m3u8")).is_ok());
    assert!(with(int(312), path(2, "/index.m3u8")).is_ok());
    for (kind, word) in [(0, "/live/demo/"), (1, "/live/demo2/"), (1, "/watch/"), (2, ".mpd")] {
        assert_eq!(with(int(312), path(kind, word)), Err(ForeignError::OtherStream), "{word}");
    }
    let site = |host: &str| map(vec![(0, map(vec![(0, text("https"))])), (1, map(vec![(0, text(host))]))]);
    assert!(with(int(312), site("tv.example.org")).is_ok());
    assert_eq!(with(int(312), site("tv.example.com")), Err(ForeignError::OtherStream));
    assert_eq!(with(int(312), map(vec![(4, map(vec![(3, text("CAT"))]))])), Err(ForeignError::Critical));
    let named = |label: &str, value| {
        let mut claims = claims();
        claims.pop();
        claims.push((text(label), value));
        said(claims).map(drop)
    };
    assert_eq!(named("stream", text("demo")), Ok(()));
    assert_eq!(named("streams", texts(&["x", "demo"])), Ok(()));
    assert_eq!(named("stream", text("*")), Ok(()));
    assert_eq!(named("stream", text("dem")), Err(ForeignError::OtherStream));
    assert_eq!(named("streams", texts(&[])), Err(ForeignError::OtherStream));
    assert_eq!(with(text("stream"), text("other")), Err(ForeignError::OtherStream), "both must fit");
}

#[test]
fn networks_and_methods_are_kept() {
    let network = |bytes: &[u8]| Value::Array(vec![Value::Tag(52, Box::new(Value::Bytes(bytes.to_vec())))]);
    assert!(with(int(311), network(&[192, 0, 2, 7])).is_ok());
    assert_eq!(with(int(311), network(&[192, 0, 2, 8])), Err(ForeignError::OtherNetwork));
    assert_eq!(with(int(311), Value::Array(vec![])), Err(ForeignError::OtherNetwork));
    assert!(with(int(313), texts(&["HEAD", "GET"])).is_ok());
    for methods in [texts(&["HEAD", "get"]), texts(&[])] {
        assert_eq!(with(int(313), methods), Err(ForeignError::OtherMethod));
    }
    assert_eq!(with(int(313), Value::Array(vec![int(1)])), Err(ForeignError::Malformed));
}

#[test]
fn the_viewer_has_a_name_and_watermark_claims_are_whole() {
    assert_eq!(without(2), Err(ForeignError::Malformed));
    for bad in [text(""), text("a\nb"), text(&"x".repeat(129)), int(7), Value::Bytes(b"alice".to_vec())] {
        assert_eq!(with(int(2), bad.clone()).map(drop), Err(ForeignError::Malformed), "{bad:?}");
    }
    let marks = || vec![(300, int(1)), (301, int(1)), (302, int(1024)), (306, int(1)), (307, int(1))];
    let marked = |marks: Vec<(u64, Value)>| {
        let mut claims = claims();
        claims.remove(0);
        claims.extend(marks.into_iter().map(|(label, value)| (int(label), value)));
        claims.push((int(305), text("alice")));
        said(claims)
    };
    assert_eq!(marked(marks()).unwrap().viewer, "alice");
    for missing in 0..marks().len() {
        let mut some = marks();
        some.remove(missing);
        assert_eq!(marked(some), Err(ForeignError::Watermark), "{missing}");
    }
    assert_eq!(marked([marks(), vec![(304, Value::Bytes(vec![1]))]].concat()), Err(ForeignError::Pattern));
    assert_eq!(marked([marks(), vec![(2, text("bob"))]].concat()), Err(ForeignError::Watermark));
    assert_eq!(marked([marks(), vec![(2, text("alice"))]].concat()).unwrap().viewer, "alice");
    let mut long = marks();
    long[2].1 = int(65_536);
    assert_eq!(marked(long), Err(ForeignError::Malformed));
    for label in [301, 302, 306, 307] {
        assert_eq!(with(int(label), text("1")), Err(ForeignError::Malformed), "{label}");
        assert_eq!(with(int(label), int(1)), Err(ForeignError::Watermark), "{label} alone");
    }
}
