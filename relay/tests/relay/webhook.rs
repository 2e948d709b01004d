//! The operator's webhook: who comes in by it, what happens when it does not answer, and who may stay.

use crate::common::outside::{self, Asked, Outside};
use crate::common::*;
use releve_relay::Config;
use releve_state::Seats;
use releve_state::coordinator::{Coordinator, Revocation};
use releve_state::ledger::Ledger;
use releve_state::memory::Memory;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const YES: &str = r#"{"allow":true,"viewer":"alice"}"#;

fn asking(origin: &FakeOrigin, hook: &Outside) -> Config {
    let mut config = config(&[origin.url()]);
    config.webhook_url = Some(hook.url());
    config.limits.outside_patience = Duration::from_millis(400);
    config
}

async fn start(config: Config, state: Arc<Memory>) -> Relay {
    let mut keys = keys();
    keys.webhook = Some(ring(6));
    let handle = releve_relay::start_with(config, keys, state.clone(), state.clone()).await.unwrap();
    Relay { handle, state }
}

async fn enter(relay: &Relay, stream: &str, token: &str) -> client::Answer {
    relay.client().await.get(&format!("/live/{stream}/index.m3u8?token={token}")).await
}

fn json(asked: &Asked) -> Value {
    serde_json::from_str(&asked.body).unwrap()
}

/// As an operator would check it: over the header's time, a dot and the body.
fn is_signed(asked: &Asked) -> bool {
    let header = asked.header("releve-signature");
    let part = |name: &str| header.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[6; 32]);
    let signed = format!("{}.{}", part("t="), asked.body);
    let fresh = part("t=").parse::<u64>().unwrap().abs_diff(now_unix_s()) < 10;
    fresh && ring::hmac::verify(&key, signed.as_bytes(), &hex::decode(part("v1=")).unwrap()).is_ok()
}

#[tokio::test]
async fn the_webhook_lets_in_and_keeps_out_and_the_ledger_knows() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let hook = Outside::start(YES).await;
    let relay = start(asking(&origin, &hook), Arc::default()).await;
    assert_eq!(relay.client().await.get("/watch/demo?token=cookie-17").await.status, 200);
    assert_eq!(hook.asked().len(), 0, "once a session, not for the page");
    let entered = enter(&relay, "demo", "cookie-17").await;
    assert_eq!(entered.status, 302);
    let session = entered.header("location").unwrap().strip_suffix("/index.m3u8").unwrap().to_owned();
    let mine = relay.client().await.get(&format!("{session}/video/1.m4s")).await;
    assert_eq!((mine.status, mine.body), (200, copy_for(&marked(1, 40), "alice")));
    let asked = hook.asked();
    assert_eq!((asked.len(), asked[0].line.as_str()), (1, "POST /"), "and not again for a segment");
    let told = json(&asked[0]);
    assert_eq!(
        (&told["event"], &told["stream"], &told["token"]),
        (&"enter".into(), &"demo".into(), &"cookie-17".into())
    );
    assert!(is_signed(&asked[0]), "{:?}", asked[0]);
    let recorded = relay.state.sessions_of("alice").await.unwrap();
    assert_eq!(told["session"], hex::encode(recorded[0].session));
    assert_eq!(enter(&relay, "demo", &token("demo", "bob")).await.status, 302);
    assert_eq!(hook.asked().len(), 1, "our own token needs nobody");
    let denials: [&dyn Fn(&mut outside::Says); 2] =
        [&|says| says.body = r#"{"allow":false}"#.into(), &|says| {
            (says.status, says.body) = (403, String::new())
        }];
    for denial in denials {
        hook.says(denial);
        for stream in ["demo", "nobody"] {
            let refused = enter(&relay, stream, "cookie-17").await;
            assert_eq!((refused.status, refused.header("releve-reason")), (403, Some("denied")));
        }
    }
    hook.says(|says| (says.status, says.body) = (200, YES.replace('}', ",\"watch_until\":5}")));
    assert_eq!(enter(&relay, "demo", "cookie-17").await.header("releve-reason"), Some("expired"));
    assert_eq!(relay.state.sessions_of("alice").await.unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_verdict_nobody_comes_in() {
    let origin = FakeOrigin::start().await;
    let elsewhere = Outside::start(YES).await;
    let hook = Outside::start(YES).await;
    let relay = start(asking(&origin, &hook), Arc::default()).await;
    let faults: [&dyn Fn(&mut outside::Says); 6] = [
        &|says| (says.status, says.location) = (302, Some(elsewhere.url())),
        &|says| (says.status, says.location) = (307, Some(elsewhere.url())),
        &|says| says.status = 500,
        &|says| (says.status, says.body) = (200, "yes".into()),
        &|says| says.body = format!("{YES}{}", " ".repeat(5000)),
        &|says| (says.body, says.delay) = (YES.into(), Duration::from_secs(9)),
    ];
    for fault in faults {
        hook.says(fault);
        let came = Instant::now();
        for stream in ["demo", "nobody"] {
            let answer = enter(&relay, stream, "cookie-17").await;
            assert_eq!((answer.status, answer.header("location")), (503, None));
        }
        assert!(came.elapsed() < Duration::from_secs(3), "{:?}", came.elapsed());
    }
    assert_eq!(elsewhere.asked().len(), 0, "redirects are not followed: the token goes nowhere else");
    assert!(relay.state.register().await.unwrap().is_empty());
    hook.says(|says| says.delay = Duration::ZERO);
    assert_eq!(enter(&relay, "demo", "cookie-17").await.status, 302);
    relay.state.revoke(Revocation { viewer: "alice".into(), at_unix_s: now_unix_s() }).await.unwrap();
    until("the revocation is known", async || enter(&relay, "demo", "cookie-17").await.status == 403).await;
}

#[tokio::test]
async fn a_crowd_is_turned_away_rather_than_queued() {
    let origin = FakeOrigin::start().await;
    let hook = Outside::start(YES).await;
    hook.says(|says| says.delay = Duration::from_millis(700));
    let mut config = asking(&origin, &hook);
    config.limits.outside_patience = Duration::from_secs(5);
    let relay = Arc::new(start(config, Arc::default()).await);
    let mut crowd = tokio::task::JoinSet::new();
    for viewer in 0..100 {
        let relay = relay.clone();
        crowd.spawn(async move { enter(&relay, "demo", &format!("cookie-{viewer}")).await.status });
    }
    let answers = crowd.join_all().await;
    let count = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((count(302), count(503)), (64, 36));
    assert_eq!(hook.asked().len(), 64);
}

#[tokio::test]
async fn who_is_in_is_asked_about_again_and_ends_on_every_relay() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let hook = Outside::start(YES).await;
    let mut config = asking(&origin, &hook);
    config.limits.recheck = Duration::from_secs(1);
    config.limits.recheck_retry = Duration::from_secs(1);
    let one = start(config.clone(), Arc::default()).await;
    let other = start(config, one.state.clone()).await;
    let entered = enter(&one, "demo", "cookie-17").await;
    let path =
        format!("{}/video.m3u8", entered.header("location").unwrap().strip_suffix("/index.m3u8").unwrap());
    let (mut here, mut there) = (one.client().await, other.client().await);
    let mut watch = async || (here.get(&path).await.status, there.get(&path).await.status);
    assert_eq!(watch().await, (200, 200));
    let rechecks = || hook.asked().iter().filter(|asked| json(asked)["event"] == "recheck").count();
    until("both relays ask again", async || {
        assert_eq!(watch().await, (200, 200));
        rechecks() >= 4
    })
    .await;
    let asked = hook.asked();
    let last = asked.last().unwrap();
    assert_eq!((json(last)["viewer"].clone(), json(last).get("token")), ("alice".into(), None));
    assert_eq!(json(last)["session"], json(&asked[0])["session"]);
    assert!(is_signed(last));
    // No verdict is no end: a webhook that is away must not empty the house.
    hook.says(|says| says.status = 500);
    let before = rechecks();
    until("it is asked in vain", async || rechecks() >= before + 3).await;
    assert_eq!(watch().await, (200, 200));
    // The end comes from one relay and is heard by the other, which has nobody to ask.
    let ended = Instant::now();
    hook.says(|says| (says.status, says.body) = (200, r#"{"allow":false}"#.into()));
    until("it is out everywhere", async || watch().await == (403, 403)).await;
    assert!(ended.elapsed() < Duration::from_secs(5), "{:?}", ended.elapsed());
    assert_eq!(one.state.ended_sessions(0).await.unwrap().0.len(), 1);
    let late = start(asking(&origin, &hook), one.state.clone()).await;
    assert_eq!(late.client().await.get(&path).await.status, 403, "a relay that starts later knows it too");
}

/// The Python of the operators' page says yes to what a relay sent, and no to anything else.
#[tokio::test]
async fn the_check_of_the_docs_works() {
    let docs = include_str!("../../docs/access.md");
    let check = docs.split("```python-webhook\n").nth(1).unwrap().split("```").next().unwrap();
    let origin = FakeOrigin::start().await;
    let hook = Outside::start(YES).await;
    let relay = start(asking(&origin, &hook), Arc::default()).await;
    assert_eq!(enter(&relay, "demo", "cookie-17").await.status, 302);
    let asked = &hook.asked()[0];
    let script = format!(
        "{check}\nimport sys\nkeys, (header, body) = {{1: bytes([6] * 32)}}, sys.argv[1:]\n\
         print(is_from_a_relay(keys, header, body.encode()), is_from_a_relay(keys, header, body.encode() + b' '))"
    );
    let mut python = std::process::Command::new("/usr/bin/python3");
    let Ok(ran) = python.args(["-c", &script, asked.header("releve-signature"), &asked.body]).output() else {
        assert!(std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none(), "Python is missing");
        eprintln!("SKIPPED: no /usr/bin/python3");
        return;
    };
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout),
        "True False\n",
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

#[tokio::test]
async fn a_webhook_needs_a_key() {
    let origin = FakeOrigin::start().await;
    let hook = Outside::start(YES).await;
    let state = Arc::<Memory>::default();
    let started = releve_relay::start_with(asking(&origin, &hook), keys(), state.clone(), state).await;
    assert!(started.err().unwrap().to_string().contains("webhook.key"));
}
