//! Watermark tokens, as `relevectl token mint --format` makes them.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use coset::{CoseSign1, TaggedCborSerializable};
use releve_ingest::operator::issue::{Format, IssueError, IssueKey, Mode, Said};
use releve_watermark::{Codebook, Key, WatermarkId};
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

/// Keys, claims and the tokens of them that `relay/tests/relay/issued.rs` has others read.
const VECTORS: &str = include_str!("../../api/vectors/watermark-tokens.json");

fn said() -> Said {
    let mode = Mode::Indirect {
        stream: "demo".parse().unwrap(),
        viewer: "alice".into(),
        operator: 3,
        key_version: 1,
    };
    Said {
        issued_unix_s: 1_700_000_000,
        enter_until_unix_s: 4_102_444_800,
        issuer: None,
        audience: None,
        vendor: 7,
        mode,
    }
}

/// The same for edges: the pattern of the keys that stand in `make.py`.
fn direct() -> Said {
    let book = Codebook::new(&Key::new(1, [4; 32]), &Key::new(1, [5; 32]));
    Said { mode: Mode::Direct(book.pattern(WatermarkId::of_viewer("alice"))), ..said() }
}

#[test]
fn tokens_are_those_that_others_read() {
    let vectors: serde_json::Value = serde_json::from_str(VECTORS).unwrap();
    for key in vectors["keys"].as_array().unwrap() {
        let issue = IssueKey::parse(key["private"].to_string().as_bytes()).unwrap();
        for (format, said, name) in [
            (Format::Jwt, said(), "jwt"),
            (Format::Cwt, said(), "cwt"),
            (Format::Jwt, direct(), "direct_jwt"),
            (Format::Cwt, direct(), "direct_cwt"),
        ] {
            let token = issue.issue(format, &said).unwrap();
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

/// A token for edges, and the register that a leak is compared with, of a state folder in which no relay ever was.
#[test]
fn who_has_a_token_for_edges_is_in_the_register() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("state");
    let ctl = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_relevectl"));
        let done = command.arg("--dir").arg(&dir).args(arguments).output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        if done.status.success() { Ok(String::from_utf8(done.stdout).unwrap()) } else { Err(said) }
    };
    ctl(&["init"]).unwrap();
    ctl(&["stream", "add", "demo"]).unwrap();
    let key = folder.path().join("key.jwk");
    std::fs::write(&key, format!(r#"{{"kty":"oct","k":"{}"}}"#, URL_SAFE_NO_PAD.encode([7; 32]))).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let mint = |stream: &str, more: &[&str]| {
        let mint = ["token", "mint", "--stream", stream, "--viewer", "alice", "--ttl", "60"];
        ctl(&[&mint[..], more].concat())
    };
    let direct = ["--format", "jwt", "--key", key.to_str().unwrap(), "--direct"];
    assert!(mint("other", &direct).unwrap_err().contains("no stream `other`"));
    assert!(mint("demo", &direct[..4]).unwrap_err().contains("no relay"));
    assert!(mint("demo", &direct[4..]).unwrap_err().contains("--format"));
    let register = || releve_watermark::records::register_of(&dir.join("state.db")).unwrap();
    assert_eq!(register(), []);
    let token = mint("demo", &direct).unwrap();
    assert_eq!(register(), [("alice".to_owned(), WatermarkId::of_viewer("alice"))]);
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
    let keys = releve_watermark::records::Records::open(&dir).unwrap().keys().clone();
    let pattern = keys.codebook(1, 0).unwrap().pattern(WatermarkId::of_viewer("alice"));
    assert_eq!(claims["wmpattern"], URL_SAFE_NO_PAD.encode(pattern));
    assert_eq!((claims["wmpatlen"].as_u64(), claims["wmver"].as_u64()), (Some(2_048), Some(1)));
    assert!(["wmid", "sub", "stream", "wmkeyver"].iter().all(|name| claims.get(name).is_none()), "{claims}");
}

/// `relevectl token edgeauth` with these arguments: its output, or what it complains of.
fn edgeauth(arguments: &[&str]) -> Result<String, String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_relevectl"));
    let done = command.args(["--dir", "/nowhere", "token", "edgeauth"]).args(arguments).output().unwrap();
    let (out, complaint) = [done.stdout, done.stderr].map(|text| String::from_utf8(text).unwrap()).into();
    if done.status.success() { Ok(out.trim_end().to_owned()) } else { Err(complaint) }
}

#[test]
fn a_token_for_an_edge_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, text: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let secret: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
    let key = put("edgeauth.key", &format!("1 {secret}\n"), 0o600);
    let salt = put("salt", "a salt\n", 0o600);
    let fields = |token: &str| -> Vec<(String, String)> {
        let field =
            |field: &str| field.split_once('=').map(|(name, text)| (name.to_owned(), text.to_owned()));
        token.split('~').filter_map(field).collect()
    };
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let acl = edgeauth(&["--key", &key, "--ttl", "60", "--acl", "/a/*", "--acl", "/b", "--starts-in", "5"])
        .unwrap();
    let said = fields(&acl);
    let names: Vec<&str> = said.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, said[2].1.as_str()), (vec!["st", "exp", "acl", "hmac"], "/a/*!/b"), "{acl}");
    let (from, until): (u64, u64) = (said[0].1.parse().unwrap(), said[1].1.parse().unwrap());
    assert!((now + 5..now + 30).contains(&from) && until == from + 60, "{acl}");
    let url = ["--key", &key, "--ttl", "60", "--url", "/a b", "--id", "alice", "--data", "x/y", "--escape"];
    assert!(edgeauth(&url).unwrap_err().contains("`url`"));
    let url = ["--key", &key, "--ttl", "60", "--url", "/a", "--id", "alice", "--data", "x/y", "--escape"];
    let said = fields(&edgeauth(&url).unwrap());
    assert_eq!((said[1].1.as_str(), said[2].1.as_str(), said.len()), ("alice", "x%2fy", 4));
    let salted = edgeauth(&[&url[..], &["--salt", &salt]].concat()).unwrap();
    assert!(!salted.contains("salt") && fields(&salted)[3].1.len() == 64, "{salted}");
    let open = put("open.key", &format!("1 {secret}\n"), 0o644);
    let broken = put("broken.key", &secret, 0o600);
    for bad in [open, broken, "/nowhere/edgeauth.key".to_owned()] {
        let complaint = edgeauth(&["--key", &bad, "--ttl", "60", "--acl", "/a"]).unwrap_err();
        assert!(complaint.contains(&bad) && !complaint.contains(&secret), "{complaint}");
    }
    for odd in [&["--key", &key, "--ttl", "60"][..], &["--key", &key, "--ttl", "0", "--acl", "/a"]] {
        assert!(edgeauth(odd).is_err(), "{odd:?}");
    }
}
