//! The program itself: its configuration, its ready file, its signals, its exit code.

use crate::common::outside::Outside;
use crate::common::secure::{Secure, certificate, client, install};
use crate::common::{Client, token, until};
use releve_watermark::Key;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::sleep;

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn prepare(dir: &Path) {
    for (number, name) in ["access", "session", "cluster", "code", "bias"].into_iter().enumerate() {
        let key = Key::new(1, [number as u8 + 1; 32]);
        write(&dir.join(format!("{name}.key")), &key.to_line(), 0o600);
    }
    let config = format!(
        "name = \"relay-1\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
         origins = [\"http://127.0.0.1:9\"]\nkeys_dir = {dir:?}\nstate = {:?}\n",
        dir.join("state.db")
    );
    write(&dir.join("relay.toml"), &config, 0o644);
}

fn relay(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_releve-relay"));
    command.arg("--config").arg(dir.join("relay.toml")).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_configuration_is_checked_without_running() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let check = |command: &mut Command| {
        let output = command.arg("--check-config").output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(check(&mut relay(dir.path())), (true, String::new()));
    let (good, said) = check(relay(dir.path()).env("RELEVE_RELAY_CHACHE_MIB", "1"));
    assert!(!good && said.contains("RELEVE_RELAY_CHACHE_MIB"), "{said}");
    let keys = dir.path().join("jwks.json");
    let (good, said) = check(relay(dir.path()).env("RELEVE_RELAY_JWT_KEYS", &keys));
    assert!(!good && said.contains("jwks.json"), "{said}");
    write(&keys, r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#, 0o600);
    let (good, said) = check(relay(dir.path()).env("RELEVE_RELAY_JWT_KEYS", &keys));
    assert!(!good && said.contains("no key that can be used") && !said.contains("AAAA"), "{said}");
    write(&dir.path().join("code.key"), "1 00", 0o644);
    let (good, said) = check(&mut relay(dir.path()));
    assert!(!good && said.contains("code.key") && said.contains("chmod 600"), "{said}");
}

#[test]
fn what_is_wrong_with_a_certificate_is_said_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let (certificate, key) = (dir.path().join("relay.pem"), dir.path().join("relay.key"));
    let check = |all: bool| {
        let mut command = relay(dir.path());
        command
            .env("RELEVE_RELAY_TLS_LISTEN", "127.0.0.1:0")
            .env("RELEVE_RELAY_TLS_CERTIFICATE", &certificate);
        if all {
            command.env("RELEVE_RELAY_TLS_KEY", &key);
        }
        let output = command.arg("--check-config").output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let wrong = |all: bool, wanted: &str| {
        let (good, said) = check(all);
        assert!(!good && said.contains(wanted), "{wanted}: {said}");
    };
    wrong(false, "TLS needs all three");
    wrong(true, "relay.pem: No such file");
    install(dir.path(), "first.pem", "first.key");
    assert_eq!(check(true), (true, String::new()));
    install(dir.path(), "first.pem", "second.key");
    wrong(true, "does not belong to the first certificate");
    install(dir.path(), "expired.pem", "first.key");
    wrong(true, "expired on Fri, 31 Jan 2020 00:00:00 GMT");
    install(dir.path(), "first.key", "first.key");
    wrong(true, "holds no certificate");
    install(dir.path(), "first.pem", "first.pem");
    wrong(true, "holds no private key");
    install(dir.path(), "first.pem", "first.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    wrong(true, "chmod 640");
    // Nor does it start, and what it says is the same.
    let output = relay(dir.path())
        .env("RELEVE_RELAY_TLS_LISTEN", "127.0.0.1:0")
        .env("RELEVE_RELAY_TLS_CERTIFICATE", &certificate)
        .env("RELEVE_RELAY_TLS_KEY", &key)
        .output()
        .unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("chmod 640"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_has_the_certificate_read_again() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    install(dir.path(), "first.pem", "first.key");
    let ready = dir.path().join("ready.json");
    let mut child = relay(dir.path())
        .env("RELEVE_RELAY_TLS_LISTEN", "127.0.0.1:0")
        .env("RELEVE_RELAY_TLS_CERTIFICATE", dir.path().join("relay.pem"))
        .env("RELEVE_RELAY_TLS_KEY", dir.path().join("relay.key"))
        .arg("--ready-file")
        .arg(&ready)
        .spawn()
        .unwrap();
    until("the ready file is there", async || ready.exists()).await;
    let addresses: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let address = addresses["tls_listen"].as_str().unwrap().parse().unwrap();
    let shown = || Secure::connect(address, &client(&[&rustls::version::TLS13])).unwrap().shown();
    assert_eq!(shown(), certificate("first.pem"));
    install(dir.path(), "second.pem", "second.key");
    signal(&child, "-HUP");
    until("the other one is shown", async || shown() == certificate("second.pem")).await;
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
}

/// The command of the operators' page, with curl, against the program.
#[tokio::test]
async fn a_token_is_minted_over_http() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let state = releve_state::sqlite::Sqlite::open(&dir.path().join("state.db")).unwrap();
    let key = releve_state::StreamKey::generate().unwrap();
    let (key_id, key_hash) = (key.id().to_owned(), releve_state::KeyHash::of(&key));
    let mark = releve_state::coordinator::MarkPolicy::Prefer;
    let name = "demo".parse().unwrap();
    let stream =
        releve_state::coordinator::StreamRecord { name, key_id, key_hash, mark, encrypt: Default::default() };
    releve_state::Coordinator::add_stream(&state, stream).await.unwrap();
    write(&dir.path().join("mint.key"), &Key::new(1, [9; 32]).to_line(), 0o600);
    let ready = dir.path().join("ready.json");
    let mut child = relay(dir.path()).arg("--ready-file").arg(&ready).spawn().unwrap();
    until("the ready file is there", async || ready.exists()).await;
    let addresses: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let (admin, listen) = (addresses["admin"].as_str().unwrap(), addresses["listen"].as_str().unwrap());
    let ask = async |bearer: &str, body: &str| {
        let bearer = if bearer.is_empty() { String::new() } else { format!("authorization: {bearer}\r\n") };
        let mut operator = Client::connect(admin.parse().unwrap()).await;
        let head = format!(
            "POST /api/v1/tokens HTTP/1.1\r\nhost: a\r\n{bearer}content-length: {}\r\n\r\n",
            body.len()
        );
        operator.send((head + body).as_bytes()).await;
        operator.answer(false).await.unwrap()
    };
    let good = format!("Bearer {}", "09".repeat(32));
    let wish = r#"{"stream":"demo","viewer":"alice","ttl_s":300}"#;
    let minted = ask(&good, wish).await;
    assert_eq!((minted.status, minted.header("cache-control")), (201, Some("no-store")), "{}", minted.text());
    let minted: serde_json::Value = serde_json::from_slice(&minted.body).unwrap();
    let target = minted["url"].as_str().unwrap().strip_prefix(&format!("http://{listen}")).unwrap();
    let mut viewer = Client::connect(listen.parse().unwrap()).await;
    assert_eq!(viewer.get(target).await.status, 302);
    let page = minted["watch_page"].as_str().unwrap().strip_prefix(&format!("http://{listen}")).unwrap();
    assert_eq!(viewer.get(page).await.status, 200);
    for bearer in [
        "",
        "Bearer ",
        "Bearer 09",
        &good.to_lowercase(),
        &good.replace("Bearer", "Basic"),
        &format!("{good}0"),
    ] {
        for body in [wish, "nonsense"] {
            let refused = ask(bearer, body).await;
            assert_eq!(
                (refused.status, refused.header("www-authenticate")),
                (401, Some("Bearer")),
                "{bearer}"
            );
        }
    }
    for (body, status) in [
        ("nonsense".to_owned(), 400),
        (wish.replace("alice", ""), 400),
        (wish.replace("alice", &"x".repeat(5000)), 400),
        (wish.replace("300", "0"), 400),
        (wish.replace("300", "31536001"), 400),
        (wish.replace("demo", "../demo"), 400),
        (wish.replace("ttl_s", "ttl"), 400),
        (wish.replace("demo", "other"), 404),
    ] {
        assert_eq!(ask(&good, &body).await.status, status, "{body}");
    }
    let get = Client::connect(admin.parse().unwrap())
        .await
        .ask("GET", "/api/v1/tokens", &format!("authorization: {good}\r\n"))
        .await;
    assert_eq!(get.status, 405);
    assert_eq!(viewer.get("/api/v1/tokens").await.status, 404, "not where viewers are");
    if let Ok(curl) = Command::new("sh")
        .env("DIR", dir.path())
        .env("ADMIN", admin)
        .args([
            "-c",
            r#"curl -sS -H "Authorization: Bearer $(cut -d' ' -f2 $DIR/mint.key | head -n 1)" \
        -d '{"stream":"demo","viewer":"alice","ttl_s":300}' http://$ADMIN/api/v1/tokens"#,
        ])
        .output()
    {
        assert!(String::from_utf8_lossy(&curl.stdout).contains("\"token\":\"r1.1."), "{curl:?}");
    }
    std::fs::remove_file(dir.path().join("mint.key")).unwrap();
    signal(&child, "-HUP");
    until("nothing is minted any more", async || ask(&good, wish).await.status == 404).await;
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
    let logged = child.wait_with_output().unwrap().stderr;
    let logged = String::from_utf8(logged).unwrap();
    assert!(!logged.contains("0909") && !logged.contains("r1.1."), "{logged}");
}

/// Everything there is to log, and none of it a secret: tokens, credentials, keys, viewers.
#[tokio::test]
async fn at_the_level_of_traces_nothing_secret_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    for (number, name) in [(6, "webhook"), (9, "mint")] {
        write(&dir.path().join(format!("{name}.key")), &Key::new(1, [number; 32]).to_line(), 0o600);
    }
    let hook = Outside::start(r#"{"allow":true,"viewer":"alice-of-the-hook"}"#).await;
    let provider =
        Outside::start(r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"key-id-of-others","x":""}]}"#).await;
    let (ready, config) = (dir.path().join("ready.json"), dir.path().join("relay.toml"));
    let mut text = std::fs::read_to_string(&config).unwrap();
    text += &format!(
        "webhook_url = {:?}\njwt_keys = {:?}\nsessions_per_viewer = 1\n",
        hook.url(),
        provider.url()
    );
    write(&config, &text, 0o644);
    let mut child =
        relay(dir.path()).arg("--ready-file").arg(&ready).env("RUST_LOG", "trace").spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let logged = std::thread::spawn(move || std::io::read_to_string(&mut stderr).unwrap());
    until("the ready file is there", async || ready.exists()).await;
    let addresses: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let address = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
    let mut viewer = Client::connect(address("listen")).await;
    let entered = viewer.get("/live/demo/index.m3u8?token=cookie-that-is-secret").await;
    let credential = entered.header("location").unwrap().split('/').nth(2).unwrap().to_owned();
    assert_eq!(viewer.get("/live/demo/index.m3u8?token=cookie-that-is-secret").await.status, 403, "one seat");
    hook.says(|says| says.status = 500);
    assert_eq!(viewer.get("/live/demo/index.m3u8?token=cookie-that-is-secret").await.status, 503);
    let unknown = "eyJhbGciOiJFZERTQSIsImtpZCI6IngifQ.e30.c2lnbmF0dXJl";
    assert_eq!(viewer.get(&format!("/live/demo/index.m3u8?token={unknown}")).await.status, 403);
    let told = hook.asked().iter().any(|asked| asked.body.contains(unknown));
    assert!(!told, "a token of others is not the webhook's, also while their keys are not known");
    let bearer = format!("authorization: Bearer {}\r\n", "09".repeat(32));
    let mut operator = Client::connect(address("admin")).await;
    assert_eq!(operator.ask("GET", "/api/v1/tokens", &bearer).await.status, 405);
    signal(&child, "-TERM");
    assert!(child.wait().unwrap().success());
    let logged = logged.join().unwrap();
    assert!(logged.len() > 500 && logged.contains("the webhook gave no verdict"), "{logged}");
    let signature = hook.asked()[0].header("releve-signature").split("v1=").nth(1).unwrap().to_owned();
    let (mint, key) = ("09".repeat(32), "06".repeat(32));
    let secrets = [
        "cookie-that",
        "alice-of",
        "key-id-of",
        unknown,
        &credential,
        &credential[70..],
        &signature,
        &mint,
        &key,
    ];
    for secret in secrets {
        assert!(!logged.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn it_runs_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let ready = dir.path().join("ready.json");
    let mut child =
        relay(dir.path()).arg("--ready-file").arg(&ready).env("RELEVE_RELAY_LOG", "json").spawn().unwrap();
    until("the ready file is there", async || ready.exists()).await;
    let addresses: serde_json::Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    let address = |name: &str| addresses[name].as_str().unwrap().parse().unwrap();
    let mut viewer = Client::connect(address("listen")).await;
    let entered = viewer.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    assert_eq!(entered.status, 302);
    assert_eq!(Client::connect(address("admin")).await.get("/readyz").await.status, 200);
    // Other access keys, on demand: the old token opens nothing any more.
    write(&dir.path().join("access.key"), &Key::new(2, [77; 32]).to_line(), 0o600);
    signal(&child, "-HUP");
    until("the keys are read again", async || {
        viewer.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await.status == 403
    })
    .await;
    signal(&child, "-TERM");
    let mut status = None;
    for _ in 0..300 {
        status = child.try_wait().unwrap();
        if status.is_some() {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    let output = child.wait_with_output().unwrap();
    let logged = String::from_utf8(output.stderr).unwrap();
    for line in logged.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
    assert!(logged.contains("the relay has stopped") && !logged.contains("alice"), "{logged}");
}
