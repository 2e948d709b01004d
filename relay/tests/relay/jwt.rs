//! Tokens of others: keys from a file and from a URL, their rotation, and tokens that PyJWT made.

use crate::common::outside::{self, Outside};
use crate::common::*;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// An issuer with a key of its own, by number.
struct Issuer(u8);

impl Issuer {
    fn pair(&self) -> Ed25519KeyPair {
        Ed25519KeyPair::from_seed_unchecked(&[self.0; 32]).unwrap()
    }

    fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": self.0.to_string(), "x": b64(self.pair().public_key())})
    }

    fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "EdDSA", "kid": self.0.to_string()});
        let signed = format!("{}.{}", b64(header.to_string()), b64(claims.to_string()));
        format!("{signed}.{}", b64(self.pair().sign(signed.as_bytes())))
    }

    fn good(&self) -> String {
        self.token(&json!({"sub": "alice", "exp": now_unix_s() + 60, "iat": now_unix_s(), "stream": "demo"}))
    }
}

fn set(issuers: &[Issuer]) -> String {
    json!({"keys": issuers.iter().map(Issuer::jwk).collect::<Vec<_>>()}).to_string()
}

async fn status(relay: &Relay, stream: &str, token: &str) -> u16 {
    relay.client().await.get(&format!("/live/{stream}/index.m3u8?token={token}")).await.status
}

fn asking(origin: &FakeOrigin, keys: &str) -> releve_relay::Config {
    let mut config = config(&[origin.url()]);
    config.jwt_keys = Some(keys.to_owned());
    config.limits.outside_patience = Duration::from_millis(300);
    config
}

#[tokio::test]
async fn a_token_of_others_opens_a_session_like_one_of_ours() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let provider = Outside::start(set(&[Issuer(1)])).await;
    let relay = Relay::with(asking(&origin, &provider.url())).await;
    until("the keys are read", async || relay.metric("releve_relay_jwt_keys_read_total") >= Some(1.0)).await;
    let mut client = relay.client().await;
    let entered = client.get(&format!("/live/demo/index.m3u8?token={}", Issuer(1).good())).await;
    assert_eq!(entered.status, 302);
    let session = entered.header("location").unwrap().strip_suffix("/index.m3u8").unwrap().to_owned();
    let mine = client.get(&format!("{session}/video/1.m4s")).await;
    assert_eq!((mine.status, mine.body), (200, copy_for(&marked(1, 40), "alice")));
    assert_eq!(client.get(&format!("/watch/demo?token={}", Issuer(1).good())).await.status, 200);
    assert_eq!(status(&relay, "demo", &token("demo", "alice")).await, 302, "ours beside theirs");
    for name in ["other", "nobody"] {
        assert_eq!(status(&relay, name, &Issuer(1).good()).await, 403);
    }
    let expired = Issuer(1).token(&json!({"sub": "alice", "exp": now_unix_s() - 1, "stream": "demo"}));
    let refused = client.get(&format!("/live/demo/index.m3u8?token={expired}")).await;
    assert_eq!((refused.status, refused.header("releve-reason")), (403, Some("expired")));
}

#[tokio::test]
async fn a_new_key_is_fetched_once_when_a_token_names_it() {
    let origin = FakeOrigin::start().await;
    let provider = Outside::start(set(&[Issuer(1)])).await;
    let mut config = asking(&origin, &provider.url());
    config.limits.keys_rest = Duration::from_secs(1);
    let relay = Relay::with(config).await;
    until("the keys are read", async || relay.metric("releve_relay_jwt_keys_read_total") >= Some(1.0)).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    provider.says(|says| {
        says.body = set(&[Issuer(2), Issuer(1)]);
        says.delay = Duration::from_millis(100);
    });
    let new = Issuer(2).good();
    let together = [status(&relay, "demo", &new), status(&relay, "demo", &new), status(&relay, "demo", &new)];
    let [first, second, third] = together;
    assert_eq!(tokio::join!(first, second, third), (302, 302, 302));
    assert_eq!(provider.asked().len(), 2, "one reading for all who wait");
    for number in 0..20 {
        assert_eq!(status(&relay, "demo", &Issuer(50 + number).good()).await, 403);
    }
    assert_eq!(provider.asked().len(), 2, "unknown keys cause no flood");
    assert_eq!(status(&relay, "demo", &Issuer(1).good()).await, 302, "the old key beside the new one");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    provider.says(|says| says.body = set(&[Issuer(2)]));
    assert_eq!(status(&relay, "demo", &Issuer(3).good()).await, 403);
    assert_eq!(status(&relay, "demo", &Issuer(1).good()).await, 403, "the old key has gone");
    assert_eq!(status(&relay, "demo", &new).await, 302);
}

#[tokio::test]
async fn the_last_good_keys_stay_whatever_the_provider_does() {
    let origin = FakeOrigin::start().await;
    let provider = Outside::start(set(&[Issuer(1)])).await;
    let elsewhere = Outside::start(set(&[Issuer(9)])).await;
    let mut config = asking(&origin, &provider.url());
    config.limits.keys_refresh = Duration::from_millis(50);
    config.limits.keys_rest = Duration::from_millis(50);
    let relay = Relay::with(config).await;
    until("the keys are read", async || relay.metric("releve_relay_jwt_keys_read_total") >= Some(1.0)).await;
    let failed = || relay.metric("releve_relay_jwt_keys_failed_total").unwrap();
    let faults: [&dyn Fn(&mut outside::Says); 5] = [
        &|says| says.status = 500,
        &|says| (says.status, says.body) = (200, "{\"keys\":[]}".into()),
        &|says| says.body = set(&[Issuer(1)]) + &" ".repeat(70_000),
        &|says| (says.status, says.location) = (302, Some(elsewhere.url())),
        &|says| says.delay = Duration::from_secs(5),
    ];
    for fault in faults {
        provider.says(fault);
        let before = failed();
        until("a reading fails", async || failed() > before + 1.0).await;
        assert_eq!(status(&relay, "demo", &Issuer(1).good()).await, 302);
    }
    assert_eq!(elsewhere.asked().len(), 0, "redirects are not followed");
    let came = Instant::now();
    assert_eq!(status(&relay, "demo", &Issuer(7).good()).await, 403);
    assert!(came.elapsed() < Duration::from_secs(4), "{:?}", came.elapsed());
}

#[tokio::test]
async fn a_file_of_keys_must_be_good_and_may_change() {
    let origin = FakeOrigin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let write = |text: &str, mode| {
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let mut config = asking(&origin, path.to_str().unwrap());
    config.limits.keys_refresh = Duration::from_millis(100);
    config.limits.keys_rest = Duration::from_millis(100);
    let start = async || {
        let state = std::sync::Arc::new(releve_state::memory::Memory::default());
        releve_relay::start_with(config.clone(), keys(), state.clone(), state).await.map(drop)
    };
    assert!(start().await.unwrap_err().to_string().contains("jwks.json"));
    let shared = json!({"keys": [{"kty": "oct", "k": b64([1; 32])}]}).to_string();
    write(&shared, 0o644);
    assert!(start().await.is_err(), "a shared secret that everybody can read");
    write(&shared, 0o600);
    assert!(start().await.is_ok());
    write(&set(&[Issuer(1)]), 0o644);
    let relay = Relay::with(config.clone()).await;
    assert_eq!(status(&relay, "demo", &Issuer(1).good()).await, 302, "from the first request on");
    write(&set(&[Issuer(2)]), 0o644);
    until("the new key is in force", async || status(&relay, "demo", &Issuer(2).good()).await == 302).await;
    assert_eq!(status(&relay, "demo", &Issuer(1).good()).await, 403);
}

/// An HTTPS server with a certificate of its own authority, in Python: prints its port, serves the folder it is in.
const HTTPS: &str = r#"
import http.server, ssl, sys
server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
"#;

/// The same key set over TLS: read where the certificate's authority is trusted, and nowhere else.
#[tokio::test]
async fn keys_come_over_tls_from_whom_the_system_trusts() {
    let folder = tempfile::tempdir().unwrap();
    let openssl = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority \
        -addext keyUsage=critical,keyCertSign -keyout ca.key -out ca.pem && \
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr && \
        printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE' > ext && \
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out server.pem";
    let made = Command::new("sh").args(["-c", openssl]).current_dir(folder.path()).output().unwrap();
    if !made.status.success() || !Path::new("/usr/bin/python3").exists() {
        assert!(
            std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        eprintln!("SKIPPED: no openssl or no /usr/bin/python3");
        return;
    }
    std::fs::write(folder.path().join("jwks.json"), set(&[Issuer(1)])).unwrap();
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", HTTPS]).current_dir(folder.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Ended(python.spawn().unwrap());
    let mut port = String::new();
    BufReader::new(server.0.stdout.take().unwrap()).read_line(&mut port).unwrap();
    let url = format!("https://localhost:{}/jwks.json", port.trim());
    for (number, name) in ["access", "session", "cluster", "code", "bias"].into_iter().enumerate() {
        let path = folder.path().join(format!("{name}.key"));
        std::fs::write(&path, releve_watermark::Key::new(1, [number as u8 + 1; 32]).to_line()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    for (trusted, expected) in [(true, 302), (false, 403)] {
        let ready = folder.path().join(format!("ready-{expected}.json"));
        let dir = folder.path();
        let config = format!(
            "name = \"r\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\norigins = [\"http://127.0.0.1:9\"]\n\
             keys_dir = {dir:?}\nstate = {:?}\njwt_keys = {url:?}\n",
            dir.join("state.db")
        );
        std::fs::write(dir.join("relay.toml"), config).unwrap();
        let mut relay = Command::new(env!("CARGO_BIN_EXE_releve-relay"));
        relay.arg("--config").arg(dir.join("relay.toml")).arg("--ready-file").arg(&ready);
        // Otherwise the system's own authorities, none of which signed the server's certificate.
        if trusted {
            relay.env("SSL_CERT_FILE", dir.join("ca.pem"));
        }
        let _relay = Ended(relay.stderr(Stdio::null()).spawn().unwrap());
        until("the ready file is there", async || ready.exists()).await;
        let addresses: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        let address = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
        until("the keys are read, or not", async || {
            let metrics = Client::connect(address("admin")).await.get("/metrics").await.text();
            let count = |name: &str| metrics.contains(&format!("releve_relay_jwt_keys_{name}_total 1"));
            if expected == 302 { count("read") } else { count("failed") && !count("read") }
        })
        .await;
        let target = format!("/live/demo/index.m3u8?token={}", Issuer(1).good());
        assert_eq!(Client::connect(address("listen")).await.get(&target).await.status, expected);
    }
}

/// A program that ends with the test, also when that fails.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Keys and tokens of PyJWT, as an operator in Python would make them.
const PYJWT: &str = r#"
import json, sys, time, jwt
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
import base64, hashlib, hmac

b64 = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
secret = bytes(range(32))
pairs = {
    "RS256": (rsa.generate_private_key(public_exponent=65537, key_size=2048), RSAAlgorithm),
    "ES256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "EdDSA": (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm),
}
def jwk_of(algorithm, key):
    if algorithm == "ES256": # PyJWT 2.6 writes no P-256 keys
        point = key.public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "x": b64(point.x.to_bytes(32, "big")), "y": b64(point.y.to_bytes(32, "big"))}
    return json.loads(pairs[algorithm][1].to_jwk(key.public_key()))

keys = [{"kty": "oct", "kid": "HS256", "k": b64(secret)}]
claims = {"sub": "alice", "stream": "demo", "iat": int(time.time()), "exp": int(time.time()) + 300}
good = [jwt.encode(claims, secret, algorithm="HS256", headers={"kid": "HS256"})]
bad = [jwt.encode(claims, None, algorithm="none", headers={"kid": "HS256"})]
for algorithm, (key, _) in pairs.items():
    jwk = jwk_of(algorithm, key)
    jwk.pop("key_ops", None)
    keys.append(dict(jwk, kid=algorithm))
    good.append(jwt.encode(claims, key, algorithm=algorithm, headers={"kid": algorithm}))
    bad.append(jwt.encode(claims, None, algorithm="none", headers={"kid": algorithm}))
    # The public key as the secret of an HMAC, in each form it is handed around in.
    for form in ("PEM", "DER"):
        public = key.public_key().public_bytes(
            getattr(serialization.Encoding, form), serialization.PublicFormat.SubjectPublicKeyInfo)
        for name in ("HS256", algorithm):
            signed = b64(json.dumps({"alg": name, "kid": algorithm}).encode()) + "." + b64(json.dumps(claims).encode())
            bad.append(signed + "." + b64(hmac.new(public, signed.encode(), hashlib.sha256).digest()))
for kid in ("HS256", "ES256", "EdDSA"): # a good signature under the name of another key
    bad.append(jwt.encode(claims, pairs["RS256"][0], algorithm="RS256", headers={"kid": kid}))
for change in ({"exp": int(time.time()) - 60}, {"stream": "other"}, {"nbf": int(time.time()) + 3600}, {"aud": "tv"}):
    bad.append(jwt.encode(dict(claims, **change), pairs["ES256"][0], algorithm="ES256", headers={"kid": "ES256"}))
# Watermark claims of ETSI TS 104 002: indirect mode is taken, a pattern and half of them are not.
wm = {"wmver": 1, "wmvnd": 1, "wmpatlen": 1024, "wmid": "alice", "wmopid": 1, "wmkeyver": 1}
wm.update((name, claims[name]) for name in ("stream", "iat", "exp"))
signed = lambda claims: jwt.encode(claims, pairs["ES256"][0], algorithm="ES256", headers={"kid": "ES256"})
good.append(signed(wm))
for change in ({"wmpattern": b64(secret)}, {"wmkeyver": None}, {"sub": "bob"}):
    bad.append(signed(dict(wm, **change)))
json.dump({"set": {"keys": keys}, "good": good, "bad": bad}, sys.stdout)
"#;

/// What a script that needs PyJWT prints; `None`, loudly, where that is missing.
pub(crate) fn python(script: &str, folder: &Path) -> Option<Vec<u8>> {
    let there = Command::new("/usr/bin/python3").args(["-c", "import jwt, cryptography"]).output();
    if !there.is_ok_and(|there| there.status.success()) {
        assert!(std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none(), "PyJWT is missing");
        eprintln!("SKIPPED: no PyJWT (Debian: python3-jwt python3-cryptography)");
        return None;
    }
    let made = Command::new("/usr/bin/python3").args(["-c", script]).current_dir(folder).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Some(made.stdout)
}

/// The Python of the operators' page: keys into `jwks.json`, one token to standard output.
#[tokio::test]
async fn the_example_of_the_docs_works() {
    let docs = include_str!("../../docs/access.md");
    let script = docs.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let Some(token) = python(script, folder.path()) else { return };
    let token = String::from_utf8(token).unwrap();
    let origin = FakeOrigin::start().await;
    let relay = Relay::with(asking(&origin, folder.path().join("jwks.json").to_str().unwrap())).await;
    assert_eq!(status(&relay, "demo", token.trim()).await, 302);
    assert_eq!(status(&relay, "nobody", token.trim()).await, 403);
}

#[tokio::test]
async fn tokens_of_pyjwt_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let Some(made) = python(PYJWT, folder.path()) else { return };
    let made: Value = serde_json::from_slice(&made).unwrap();
    let origin = FakeOrigin::start().await;
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, made["set"].to_string()).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let relay = Relay::with(asking(&origin, path.to_str().unwrap())).await;
    let texts = |name: &str| -> Vec<String> { serde_json::from_value(made[name].clone()).unwrap() };
    assert_eq!((texts("good").len(), texts("bad").len()), (5, 26));
    for (number, token) in texts("good").iter().enumerate() {
        assert_eq!(status(&relay, "demo", token).await, 302, "good token {number}");
    }
    for (number, token) in texts("bad").iter().enumerate() {
        for stream in ["demo", "nobody"] {
            assert_eq!(status(&relay, stream, token).await, 403, "bad token {number}");
        }
    }
}
