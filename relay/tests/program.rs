//! The program itself: its configuration, its ready file, its signals, its exit code.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod common;

use common::{Client, token, until};
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
