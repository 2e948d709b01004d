//! Watermark tokens, as `relevectl token mint --format` makes them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use coset::{CoseSign1, TaggedCborSerializable};
use releve_ingest::operator::issue::{Format, IssueError, IssueKey, Said};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// Keys, claims and the tokens of them that `relay/tests/relay/issued.rs` has others read.
const VECTORS: &str = include_str!("../../api/vectors/watermark-tokens.json");

fn said() -> Said {
    Said {
        stream: "demo".parse().unwrap(),
        viewer: "alice".into(),
        issued_unix_s: 1_700_000_000,
        enter_until_unix_s: 4_102_444_800,
        issuer: None,
        audience: None,
        vendor: 7,
        operator: 3,
        key_version: 1,
    }
}

#[test]
fn tokens_are_those_that_others_read() {
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    for key in vectors["keys"].as_array().unwrap() {
        let issue = IssueKey::parse(key["private"].to_string().as_bytes()).unwrap();
        for (format, name) in [(Format::Jwt, "jwt"), (Format::Cwt, "cwt")] {
            let token = issue.issue(format, &said()).unwrap();
            let theirs = key[name].as_str().unwrap();
            if key["public"]["kty"] == "EC" {
                signed_alike(format, &token, theirs, &key["public"]);
            } else {
                assert_eq!(theirs, token, "{name} of {issue:?}");
            }
        }
    }
}

/// Two tokens say the same, and both signatures, which are never twice the same, are the key's.
fn signed_alike(format: Format, ours: &str, theirs: &str, public: &serde_json::Value) {
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(public[name].as_str().unwrap()).unwrap();
    let point = [&[4][..], &bytes("x"), &bytes("y")].concat();
    let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);
    let said = [ours, theirs].map(|token| match format {
        Format::Jwt => {
            let (said, signature) = token.rsplit_once('.').unwrap();
            key.verify(said.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
            said.as_bytes().to_vec()
        }
        Format::Cwt => {
            let token = URL_SAFE_NO_PAD.decode(token).unwrap();
            let sign = token.strip_prefix(b"\xd8\x3d").unwrap();
            let sign = CoseSign1::from_tagged_slice(sign).unwrap();
            sign.verify_signature(&[], |signature, said| key.verify(said, signature)).unwrap();
            token[..token.len() - 64].to_vec()
        }
    });
    assert_eq!(said[0], said[1], "{ours} {theirs}");
    assert_ne!(ours, theirs);
}

#[test]
fn issuer_and_audience_are_said_where_they_are_asked_for() {
    let said = Said { issuer: Some("shop".into()), audience: Some("tv".into()), ..said() };
    let key = format!(r#"{{"kty":"oct","k":"{}"}}"#, URL_SAFE_NO_PAD.encode([7; 32]));
    let key = IssueKey::parse(key.as_bytes()).unwrap();
    let jwt = key.issue(Format::Jwt, &said).unwrap();
    let words: Vec<_> = jwt.split('.').map(|word| URL_SAFE_NO_PAD.decode(word).unwrap()).collect();
    let claims: serde_json::Value = serde_json::from_slice(&words[1]).unwrap();
    assert_eq!((claims["iss"].as_str(), claims["aud"].as_str()), (Some("shop"), Some("tv")));
    assert_eq!(claims["wmid"], "alice");
    let cwt = URL_SAFE_NO_PAD.decode(key.issue(Format::Cwt, &said).unwrap()).unwrap();
    // 1: "shop", 3: "tv", 4: a number.
    let claims = [&b"\x01\x64shop\x03\x62tv\x04\x1a"[..]];
    assert!(claims.iter().all(|part| cwt.windows(part.len()).any(|window| window == *part)));
}

#[test]
fn a_key_that_is_none_makes_nothing() {
    let short = URL_SAFE_NO_PAD.encode([7; 31]);
    let seed = URL_SAFE_NO_PAD.encode([7; 32]);
    for text in [
        "".to_owned(),
        r#"{"keys":[]}"#.to_owned(),
        format!(r#"{{"kty":"oct","k":"{short}"}}"#),
        format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{seed}"}}"#),
        format!(r#"{{"kty":"OKP","crv":"Ed25519","d":"{seed}","x":"{seed}"}}"#),
        format!(r#"{{"kty":"EC","crv":"P-256","d":"{seed}","x":"{seed}","y":"{seed}"}}"#),
        r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#.to_owned(),
    ] {
        let refused = IssueKey::parse(text.as_bytes()).map(drop);
        assert!(matches!(refused, Err(IssueError::NoKey)), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.jwk");
    std::fs::write(&path, format!(r#"{{"kty":"oct","k":"{seed}"}}"#)).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(matches!(IssueKey::read(&path), Err(IssueError::Open(_))));
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(IssueKey::read(&path).is_ok());
}
