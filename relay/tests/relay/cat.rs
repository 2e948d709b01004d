//! Common Access Tokens: by each of their ways in, and those that other makers' libraries write.

use crate::common::http2::*;
use crate::common::stage::Stage;
use crate::common::*;
use crate::jwt::python;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use coset::cbor::Value as Cbor;
use coset::{CborSerializable, CoseMac0Builder, HeaderBuilder, TaggedCborSerializable, iana};
use releve_relay::Config;
use ring::hmac;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

const SECRET: [u8; 32] = [9; 32];
const PUBLIC: &str = "https://tv.example.org";

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn int(number: u64) -> Cbor {
    Cbor::Integer(number.into())
}

fn text(text: &str) -> Cbor {
    Cbor::Text(text.into())
}

/// A token of these claims.
fn maced(claims: &[(u64, Cbor)]) -> String {
    let claims = claims.iter().map(|(label, value)| (int(*label), value.clone())).collect();
    let token = CoseMac0Builder::new()
        .protected(HeaderBuilder::new().algorithm(iana::Algorithm::HMAC_256_256).build())
        .unprotected(HeaderBuilder::new().key_id(b"ours".to_vec()).build())
        .payload(Cbor::Map(claims).to_vec().unwrap())
        .create_tag(&[], |signed| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), signed).as_ref().to_vec()
        });
    b64(token.build().to_tagged_vec().unwrap())
}

/// A token for the paths that begin so, with more claims.
fn cat_with(path: &str, more: &[(u64, Cbor)]) -> String {
    let path = Cbor::Map(vec![(int(3), Cbor::Map(vec![(int(1), text(path))]))]);
    let claims = [(2, text("alice")), (4, int(now_unix_s() + 60)), (312, path)];
    maced(&[&claims[..], more].concat())
}

fn cat() -> String {
    cat_with("/live/demo/", &[])
}

/// Has a relay take tokens of these keys.
pub(crate) fn taking(config: &mut Config, folder: &Path, keys: &Value) {
    let path = folder.join("jwks.json");
    std::fs::write(&path, keys.to_string()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    config.jwt_keys = Some(path.to_str().unwrap().to_owned());
    config.public_url = Some(PUBLIC.to_owned());
}

fn our_key() -> Value {
    json!({"keys": [{"kty": "oct", "kid": "ours", "k": b64(SECRET)}]})
}

async fn relay_with(keys: &Value, change: impl FnOnce(&mut Config)) -> (Relay, FakeOrigin, TempDir) {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&[origin.url()]);
    taking(&mut config, folder.path(), keys);
    change(&mut config);
    (Relay::with(config).await, origin, folder)
}

#[tokio::test]
async fn a_token_comes_by_each_of_its_ways_and_opens_its_stream() {
    let (relay, _origin, _folder) = relay_with(&our_key(), |_| {}).await;
    let mut client = relay.client().await;
    let field = |token: &str| format!("CTA-Common-Access-Token: {token}\r\n");
    let ways = |stream: &str, token: &str| {
        let path = format!("/live/{stream}/index.m3u8");
        [
            (format!("{path}?token={token}"), String::new()),
            (format!("{path}?CAT={token}"), String::new()),
            (path, field(token)),
        ]
    };
    for (target, fields) in ways("demo", &cat()) {
        let entered = client.ask("GET", &target, &fields).await;
        assert_eq!(entered.status, 302, "{target} {fields}");
        let index = entered.header("location").unwrap();
        assert_eq!(client.get(index).await.status, 200);
        // Players send the field with every request: below the session it says nothing.
        assert_eq!(client.ask("GET", index, &fields).await.status, 200);
        let segment = client.ask("GET", &index.replace("index.m3u8", "video/1.m4s"), &fields).await;
        assert_eq!(segment.body, copy_for(&marked(1, 40), "alice"));
    }
    let altered = |token: &str| format!("{}{}", &token[..token.len() - 2], "AA");
    for (stream, token) in [
        ("demo", altered(&cat())),
        ("other", cat()),
        ("nobody", cat()),
        ("demo", cat_with("/live/demo2", &[])),
    ] {
        for (target, fields) in ways(stream, &token) {
            let refused = client.ask("GET", &target, &fields).await;
            assert_eq!((refused.status, refused.header("releve-reason")), (403, Some("denied")), "{target}");
        }
    }
    for (target, fields) in [
        (format!("/live/demo/index.m3u8?CAT={}&token={}", cat(), token("demo", "alice")), String::new()),
        (format!("/live/demo/index.m3u8?CAT={}", cat()), field(&cat())),
        (format!("/live/demo/index.m3u8?token={}", token("demo", "alice")), field(&cat())),
        ("/live/demo/index.m3u8".to_owned(), field(&cat()).repeat(2)),
        ("/live/demo/index.m3u8".to_owned(), field("")),
        // Where a Common Access Token stands nothing else counts.
        (format!("/live/demo/index.m3u8?CAT={}", token("demo", "alice")), String::new()),
        ("/live/demo/index.m3u8".to_owned(), field(&token("demo", "alice"))),
    ] {
        assert_eq!(client.ask("GET", &target, &fields).await.status, 403, "{target} {fields}");
    }
    let expired = cat_with("/live/demo/", &[(5, int(now_unix_s() + 3600))]);
    assert_eq!(client.get(&format!("/live/demo/index.m3u8?CAT={expired}")).await.status, 403, "not yet");
    // The watch page is another address.
    assert_eq!(client.get(&format!("/watch/demo?CAT={}", cat())).await.status, 403);
    let both = cat_with("/", &[]);
    assert_eq!(client.get(&format!("/watch/demo?CAT={both}")).await.status, 200);
}

#[tokio::test]
async fn a_page_of_another_site_may_ask_whether_it_may_send_the_field() {
    let (relay, _origin, _folder) = relay_with(&our_key(), |_| {}).await;
    let mut client = relay.client().await;
    let preflight = "origin: https://x\r\naccess-control-request-headers: cta-common-access-token\r\n";
    for stream in ["demo", "nobody"] {
        let may = client.ask("OPTIONS", &format!("/live/{stream}/index.m3u8"), preflight).await;
        let allowed = may.header("access-control-allow-headers").unwrap().to_ascii_lowercase();
        assert!(may.status == 204 && allowed.contains("cta-common-access-token"), "{may:?}");
        let bad = client.ask("OPTIONS", &format!("/live/{stream}/index.m3u8?CAT=x"), preflight).await;
        assert_eq!(bad.status, 403);
    }
    let none = Relay::start(&[&FakeOrigin::start().await]).await;
    let refused = none.client().await.ask("OPTIONS", "/live/demo/index.m3u8", preflight).await;
    assert_eq!(refused.status, 403, "where none are taken there is nothing to ask");
    let refused = none.client().await.get(&format!("/live/demo/index.m3u8?CAT={}", cat())).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn networks_methods_and_sites_are_those_of_the_request() {
    let (relay, _origin, _folder) = relay_with(&our_key(), |config| {
        config.trusted_proxies = vec!["127.0.0.1".to_owned()].try_into().unwrap();
    })
    .await;
    let mut client = relay.client().await;
    let home = Cbor::Array(vec![int(24), Cbor::Bytes(vec![192, 0, 2])]);
    let networks = Cbor::Array(vec![int(64_512), Cbor::Tag(52, Box::new(home))]);
    let target = format!("/live/demo/index.m3u8?CAT={}", cat_with("/live/", &[(311, networks)]));
    for (source, status) in [("192.0.2.9", 302), ("198.51.100.1", 403), ("192.0.2.9, 198.51.100.1", 403)] {
        let fields = format!("x-forwarded-for: {source}\r\n");
        assert_eq!(client.ask("GET", &target, &fields).await.status, status, "{source}");
    }
    assert_eq!(client.get(&target).await.status, 403, "the proxy for itself");
    let get = Cbor::Array(vec![text("GET")]);
    let target = format!("/live/demo/index.m3u8?CAT={}", cat_with("/live/", &[(313, get)]));
    assert_eq!(client.ask("GET", &target, "").await.status, 302);
    assert_eq!(client.ask("HEAD", &target, "").await.status, 403);
    let at = |host: &str| {
        let host = Cbor::Map(vec![(int(1), Cbor::Map(vec![(int(0), text(host))]))]);
        let claims = [(2, text("alice")), (4, int(now_unix_s() + 60)), (312, host)];
        maced(&claims)
    };
    for (host, status) in [("tv.example.org", 302), ("relay", 403)] {
        // What a request says of its host is the viewer's word: it counts for nothing.
        let answer = client.get(&format!("/live/demo/index.m3u8?CAT={}", at(host))).await;
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_it_is_no_different() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::with(Show::new("demo", 0..3), |config| {
        config.http2 = true;
        taking(config, folder.path(), &our_key());
    })
    .await;
    let viewer = Viewer::connect(stage.address()).await;
    let (target, token) = ("/live/demo/index.m3u8", cat());
    let field = ("cta-common-access-token", token.as_str());
    let entered = viewer.ask("GET", target, &[field]).await.unwrap();
    assert_eq!(entered.status, 302);
    assert_eq!(viewer.get(entered.header("location").unwrap()).await.status, 200);
    assert_eq!(viewer.get(&format!("{target}?CAT={token}")).await.status, 302);
    for fields in [&[field, field][..], &[("cta-common-access-token", "x")], &[]] {
        assert_eq!(viewer.ask("GET", target, fields).await.unwrap().status, 403);
    }
}

/// Every good token comes in, and every bad one, and every good one with a bit changed, is refused.
async fn judged(keys: &Value, good: &[String], bad: &[String]) {
    let (relay, _origin, _folder) = relay_with(keys, |_| {}).await;
    let status = async |token: &str| {
        relay.client().await.get(&format!("/live/demo/index.m3u8?CAT={token}")).await.status
    };
    for (number, token) in good.iter().enumerate() {
        assert_eq!(status(token).await, 302, "good token {number}: {token}");
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        for at in (0..bytes.len()).step_by(7) {
            let mut altered = bytes.clone();
            altered[at] ^= 1 << (at % 8);
            assert_eq!(status(&b64(altered)).await, 403, "good token {number}, byte {at} altered");
        }
    }
    for (number, token) in bad.iter().enumerate() {
        assert_eq!(status(token).await, 403, "bad token {number}: {token}");
    }
}

/// Tokens that the crate `common-access-token` 0.2.7 has made once, for a key of the bytes 0 to 31; they hold until 2100.
/// `tests/cat/crate.rs` is the program.
#[tokio::test]
async fn tokens_of_the_crate_are_taken() {
    let made = include_str!("../cat/crate.txt");
    let of = |kind: &str| -> Vec<String> {
        made.lines().filter_map(|line| line.strip_prefix(kind)).map(|token| token.trim().to_owned()).collect()
    };
    let key: Vec<u8> = (0..32).collect();
    let (good, bad) = (of("good"), of("bad"));
    assert_eq!((good.len(), bad.len()), (2, 9));
    judged(&json!({"keys": [{"kty": "oct", "kid": "crate", "k": b64(key)}]}), &good, &bad).await;
}

/// Keys and signed tokens as somebody makes them who has an ECDSA and writes the CBOR by hand.
const SIGN1: &str = r#"
import base64, json, struct, sys, time
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

def head(kind, number):
    for size, form, most in ((24, "B", 0xff), (25, ">H", 0xffff), (26, ">I", 0xffffffff)):
        if number < 24:
            return bytes([kind << 5 | number])
        if number <= most:
            return bytes([kind << 5 | size]) + struct.pack(form, number)

def cbor(value):
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value)) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    return head(5, len(value)) + b"".join(cbor(key) + cbor(of) for key, of in value.items())

b64 = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
ours, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

def token(claims, key=ours, protected={1: -7}, tag=18, kid=b"py"):
    protected, payload = cbor(protected), cbor(claims)
    r, s = decode_dss_signature(key.sign(cbor(["Signature1", protected, b"", payload]), ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return b64(head(6, 61) + head(6, tag) + cbor([protected, {4: kid}, payload, signature]))

now = int(time.time())
claims = {2: "alice", 4: now + 300, 6: now, 310: 1, 312: {3: {1: "/live/demo/"}}}
marks = {300: 1, 301: 1, 302: 1024, 305: "alice", 306: 1, 307: 1, 4: now + 300, 6: now, "stream": "demo"}
good = [token(claims), token(marks), token(dict(claims, **{"watch_until": now + 60}))]
bad = [
    token(claims, key=other), token(claims, protected={1: 5}), token(claims, protected={}), token(claims, tag=17),
    token(claims, protected={1: -7, 2: [-65537]}), token(claims, kid=b"yp"),
    token({**claims, 4: now - 60}), token({**claims, 312: {3: {1: "/live/other/"}}}), token({**claims, 321: {}}),
    token({**marks, 304: b"pattern"}), token({**marks, 2: "bob"}), token({**marks, "stream": "other"}),
]
point = ours.public_key().public_numbers()
x, y = (b64(number.to_bytes(32, "big")) for number in (point.x, point.y))
json.dump({"set": {"keys": [{"kty": "EC", "crv": "P-256", "kid": "py", "x": x, "y": y}]}, "good": good, "bad": bad}, sys.stdout)
"#;

/// Has what a program has made judged; `None`: it could not run.
async fn judged_of(made: Option<Vec<u8>>, good: usize, bad: usize) {
    let Some(made) = made else { return };
    let made: Value = serde_json::from_slice(&made).unwrap();
    let texts = |name: &str| -> Vec<String> { serde_json::from_value(made[name].clone()).unwrap() };
    assert_eq!((texts("good").len(), texts("bad").len()), (good, bad));
    judged(&made["set"], &texts("good"), &texts("bad")).await;
}

#[tokio::test]
async fn tokens_signed_in_python_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    judged_of(python(SIGN1, folder.path()), 3, 12).await;
}

#[tokio::test]
async fn tokens_of_npm_are_taken() {
    judged_of(npm(Path::new("make.cjs"), &[]), 3, 13).await;
}

/// What a script with the libraries from npm prints; `None`, loudly, where there is no npm. It is installed once a lock file.
pub(crate) fn npm(script: &Path, arguments: &[String]) -> Option<Vec<u8>> {
    // Each test that asks may be the first.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cat");
    let work = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cat");
    std::fs::create_dir_all(&work).unwrap();
    let read = |path: PathBuf| std::fs::read(path).ok();
    let installed = work.join("node_modules/.lock-installed");
    for name in [".npmrc", "package.json", "package-lock.json", "make.cjs", "read.cjs", "edge.cjs"] {
        std::fs::copy(sources.join(name), work.join(name)).unwrap();
    }
    if read(installed.clone()) != read(sources.join("package-lock.json")) {
        // Not `npm ci`: it insists on binaries for all systems of a package that is not needed.
        let npm = ["install", "--silent", "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund"];
        let Ok(done) = Command::new("npm").args(npm).current_dir(&work).status() else {
            assert!(std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none(), "npm is missing");
            eprintln!("SKIPPED: no npm (Debian: nodejs npm)");
            return None;
        };
        assert!(done.success(), "npm cannot install what the lock file names");
        std::fs::copy(sources.join("package-lock.json"), &installed).unwrap();
    }
    let made = Command::new("node").arg(script).args(arguments).current_dir(&work).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(made.stdout)
}
