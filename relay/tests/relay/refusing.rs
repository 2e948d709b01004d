//! What nobody gets: bytes without a credential, bytes after a revocation, bytes without a ledger record.

use crate::common::*;
use async_trait::async_trait;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config as ProptestConfig, RngAlgorithm, TestRng, TestRunner};
use releve_state::Coordinator;
use releve_state::coordinator::{Error, Revocation};
use releve_state::ledger::{Ledger, SessionRecord};
use releve_watermark::WatermarkId;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

async fn revoke(relay: &Relay, viewer: &str) {
    relay.state.revoke(Revocation { viewer: viewer.into(), at_unix_s: now_unix_s() }).await.unwrap();
}

#[tokio::test]
async fn credentials_that_do_not_hold_are_refused_alike_for_every_stream() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let good = token("demo", "alice");
    let mut client = relay.client().await;
    let mut status = async |target: String| client.get(&target).await.status;
    for name in ["demo", "nobody"] {
        assert_eq!(status(format!("/live/{name}/index.m3u8")).await, 403);
        assert_eq!(status(format!("/live/{name}/index.m3u8?token=")).await, 403);
        assert_eq!(status(format!("/live/{name}/index.m3u8?token=r1.1.e30.AA")).await, 403);
        assert_eq!(status(format!("/live/{name}/index.m3u8?token={}", token("other", "alice"))).await, 403);
        let expired = token_until(name, "alice", now_unix_s() - 1);
        assert_eq!(status(format!("/live/{name}/index.m3u8?token={expired}")).await, 403);
        assert_eq!(status(format!("/live/{name}/index.m3u8?Token={good}")).await, 403);
        assert_eq!(status(format!("/live/{name}/index.m3u8?token={good}&token={good}")).await, 400);
        assert_eq!(status(format!("/live/{name}%2e/index.m3u8?token={good}")).await, 400);
        assert_eq!(status(format!("/live/../live/{name}/index.m3u8?token={good}")).await, 400);
    }
    assert_eq!(status(format!("/live/demo/video.m3u8?token={good}")).await, 403);
    assert_eq!(status(format!("{session}/index.m3u8?token={good}")).await, 403, "two credentials");
    assert_eq!(status(format!("{session}/index.m3u8")).await, 200);
    assert_eq!(status(format!("{session}/other.m3u8")).await, 404);
    assert_eq!(status(format!("{session}x/index.m3u8")).await, 403);
    assert_eq!(status("/v/x/other.m3u8".into()).await, 403);
    for target in ["/", "/metrics", "/livez", "/origin/1/streams", "/assets/x", "/robots.txt"] {
        let answer = client.get(target).await;
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{target}");
    }
}

#[tokio::test]
async fn methods_are_told_apart_only_after_the_credential() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        assert_eq!(client.ask(method, &format!("{session}/index.m3u8"), "").await.status, 405);
        assert_eq!(client.ask(method, "/v/x/index.m3u8", "").await.status, 403);
    }
    let asked = client.ask("OPTIONS", &format!("{session}/video/1.m4s"), "origin: https://x\r\n").await;
    let allowed =
        Some("Range, CTA-Common-Access-Token, CMCD-Object, CMCD-Request, CMCD-Session, CMCD-Status");
    assert_eq!((asked.status, asked.header("access-control-allow-headers")), (204, allowed));
    assert_eq!(asked.header("access-control-allow-credentials"), None);
    assert_eq!(client.ask("OPTIONS", "/v/x/video/1.m4s", "").await.status, 403);
    let bodies = ["content-length: 5\r\n", "transfer-encoding: chunked\r\n"];
    for body in bodies {
        let mut client = relay.client().await;
        assert_eq!(client.ask("GET", &format!("{session}/index.m3u8"), body).await.status, 400);
    }
    let mut client = relay.client().await;
    assert_eq!(client.ask("GET", &format!("{session}/index.m3u8"), "host: other\r\n").await.status, 400);
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("http://relay{session}/index.m3u8")).await.status, 400);
}

#[tokio::test]
async fn a_revoked_viewer_is_out_on_the_next_request_and_in_held_ones() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let mut config = config(&[origin.url()]);
    config.limits.playlist_hold = Duration::from_secs(10);
    let relay = Relay::with(config).await;
    let (alice, bob) = (relay.enter("demo", "alice").await, relay.enter("demo", "bob").await);
    let elsewhere = relay.enter("later", "alice").await;
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{alice}/video/1.m4s")).await.status, 200);
    let mut waits = relay.client().await;
    let held = tokio::spawn(async move { waits.get(&format!("{elsewhere}/index.m3u8")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let revoked = Instant::now();
    revoke(&relay, "alice").await;
    assert_eq!(held.await.unwrap().status, 403);
    assert!(revoked.elapsed() < Duration::from_secs(5), "{:?}", revoked.elapsed());
    assert_eq!(client.get(&format!("{alice}/video/1.m4s")).await.status, 403, "on the same connection");
    assert_eq!(client.get(&format!("{bob}/video/1.m4s")).await.status, 200);
    let again = format!("/live/demo/index.m3u8?token={}", token("demo", "alice"));
    assert_eq!(client.get(&again).await.status, 403);
}

#[tokio::test]
async fn a_revocation_cuts_a_body_that_its_viewer_takes_slowly() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::sized("demo", 0..3, 3 << 20));
    let mut config = config(&[origin.url()]);
    // Three megabytes on a busy machine.
    config.limits.object_hold = Duration::from_secs(20);
    config.limits.origin_patience = Duration::from_secs(10);
    let relay = Relay::with(config).await;
    let alice = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    client.send(format!("GET {alice}/video/1.m4s HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes()).await;
    let mut first = [0; 1000];
    client.stream.read_exact(&mut first).await.unwrap();
    assert!(first.starts_with(b"HTTP/1.1 200"));
    revoke(&relay, "alice").await;
    tokio::time::sleep(Duration::from_millis(1500)).await; // nothing is read: the body waits in the socket
    let mut rest = Vec::new();
    let ended = client.stream.read_to_end(&mut rest).await;
    let whole = marked(1, 3 << 20).len();
    assert!(ended.is_err() || rest.len() < whole, "the whole object came after the revocation");
    assert!(rest.len() < whole / 2, "{} of {whole} bytes", rest.len());
}

struct NoLedger;

#[async_trait]
impl Ledger for NoLedger {
    async fn record_session(&self, _: SessionRecord) -> Result<(), Error> {
        Err(Error::Store("the disk is full".into()))
    }
    async fn session(&self, _: [u8; 16]) -> Result<Option<SessionRecord>, Error> {
        Ok(None)
    }
    async fn sessions_of(&self, _: &str) -> Result<Vec<SessionRecord>, Error> {
        Ok(Vec::new())
    }
    async fn register(&self) -> Result<Vec<(String, WatermarkId)>, Error> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn without_a_ledger_nobody_new_comes_in_and_who_is_in_stays() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let before = Relay::start(&[&origin]).await;
    let session = before.enter("demo", "alice").await;
    let relay = Relay::with_ledger(config(&[origin.url()]), Arc::new(NoLedger)).await;
    let mut client = relay.client().await;
    let refused = client.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    assert_eq!((refused.status, refused.header("location")), (503, None));
    let stays = client.get(&format!("{session}/index.m3u8")).await;
    assert_eq!(stays.status, 200, "any relay with the session key answers");
}

#[tokio::test]
async fn a_mark_that_nobody_can_choose_is_not_served() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let newer = releve_watermark::KeyRing::of(releve_watermark::Key::new(2, [4; 32]));
    relay.handle.rekey(releve_relay::Keys::new(ring(1), ring(2), ring(3), newer, &ring(5)));
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{session}/video/1.m4s")).await.status, 404);
    assert_eq!(client.get(&format!("{session}/audio/1.m4s")).await.status, 200);
}

/// Requests that look right at a glance: paths, queries and credentials with one thing wrong, in any combination.
fn hostile(session: &str, good: &str) -> impl Strategy<Value = String> + use<> {
    let cut = |text: &str| {
        let text = text.to_owned();
        (0..text.len(), 0u8..5, any::<u8>()).prop_map(move |(at, kind, byte)| {
            let mut changed = text.clone().into_bytes();
            let letter =
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."[byte as usize % 65];
            match kind {
                0 => changed.truncate(at),
                1 => changed[at] = if changed[at] == letter { b'~' } else { letter },
                2 => changed.insert(at, letter),
                3 => drop(changed.remove(at)),
                _ => changed.push(letter),
            }
            String::from_utf8(changed).unwrap()
        })
    };
    let credential = prop_oneof![
        cut(session.strip_prefix("/v/").unwrap()),
        cut(good),
        Just(good.to_owned()),
        "[A-Za-z0-9_.-]{0,40}",
    ];
    let below = prop_oneof![
        Just("index.m3u8".to_owned()),
        Just("video.m3u8".to_owned()),
        Just("video/1.m4s".to_owned()),
        Just("ts.m3u8".to_owned()),
        Just("ts/1.ts".to_owned()),
        Just("audio/init-0123456789abcdef.mp4".to_owned()),
        "[a-z0-9./%]{0,20}",
    ];
    let token = prop_oneof![
        cut(good),
        Just(token("demo3", "alice")),
        Just(token_until("demo", "alice", 1)),
        "[!-~]{0,30}"
    ];
    let name =
        prop_oneof![Just("token"), Just("Token"), Just("token[]"), Just("t"), Just("%74oken"), Just("CMCD")];
    let query = proptest::collection::vec((name, token), 0..3).prop_map(|pairs| {
        pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
    });
    let path = prop_oneof![
        (credential, below).prop_map(|(credential, below)| format!("/v/{credential}/{below}")),
        "(demo|demo2|nobody|%64emo|demo/|\\.\\./demo)/(index|ts)\\.m3u8"
            .prop_map(|rest| format!("/live/{rest}")),
        "(demo|demo2|nobody|demo/)".prop_map(|name| format!("/watch/{name}")),
        "/(live|v|watch)[!-~]{0,40}",
        "/[!-~]{0,40}",
    ];
    (path, query).prop_map(|(path, query)| if query.is_empty() { path } else { format!("{path}?{query}") })
}

#[tokio::test]
async fn ten_thousand_hostile_requests_get_nothing() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    relay.client().await.get(&format!("{session}/video/1.m4s")).await;
    let good = token("demo", "alice");
    let requests = hostile(&session, &good);
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let mut client = relay.client().await;
    let mut statuses = std::collections::BTreeMap::new();
    let refused_page = client.get("/watch/nobody").await.body;
    for _ in 0..12_000 {
        let target = requests.new_tree(&mut runner).unwrap().current();
        // The one thing that would be let in: the whole token, as the token of its stream.
        let admitted = target
            .split_once('?')
            .is_some_and(|(_, query)| query.split('&').any(|pair| pair == format!("token={good}")));
        if admitted || target.contains('#') {
            continue;
        }
        client.send(format!("GET {target} HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes()).await;
        let Some(answer) = client.answer(false).await else {
            client = relay.client().await;
            continue;
        };
        *statuses.entry(answer.status).or_insert(0) += 1;
        assert!(matches!(answer.status, 400 | 403 | 404 | 414), "{} for {target}", answer.status);
        assert!(
            answer.body.is_empty() || answer.body == refused_page || answer.text().contains("has expired"),
            "{target}"
        );
        let path = target.split('?').next().unwrap();
        if ["/live/", "/v/", "/watch/"].iter().any(|guarded| path.starts_with(guarded)) {
            assert!(matches!(answer.status, 400 | 403), "{} for {target}", answer.status);
        }
        if answer.header("connection") == Some("close") {
            client = relay.client().await;
        }
    }
    let total: usize = statuses.values().sum();
    assert!(total >= 10_000, "{statuses:?}");
    assert!(statuses[&403] > 2_000 && statuses[&400] > 1_000, "{statuses:?}");
    assert_eq!(relay.state.sessions_of("alice").await.unwrap().len(), 1, "nobody else was admitted");
}
