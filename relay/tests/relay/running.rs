//! A relay as a server: bounds on connections, health, a graceful stop, logs without secrets.

use crate::common::*;
use releve_state::Coordinator;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn too_many_connections_get_503_and_the_others_go_on() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let mut config = config(&[origin.url()]);
    config.limits.connections_max = 3;
    let relay = Relay::with(config).await;
    let mut seated = Vec::new();
    for _ in 0..3 {
        let mut client = relay.client().await;
        assert_eq!(client.get("/").await.status, 404);
        seated.push(client);
    }
    let refused = relay.client().await.get("/").await;
    assert_eq!((refused.status, refused.header("connection")), (503, Some("close")));
    for client in &mut seated {
        assert_eq!(client.get("/").await.status, 404);
    }
    seated.pop();
    until("a seat is free", async || {
        let mut client = relay.client().await;
        client.get("/").await.status == 404
    })
    .await;
}

#[tokio::test]
async fn a_head_that_does_not_end_is_not_waited_for() {
    let origin = FakeOrigin::start().await;
    let mut config = config(&[origin.url()]);
    config.limits.head_patience = Duration::from_millis(200);
    let relay = Relay::with(config).await;
    let mut client = relay.client().await;
    client.send(b"GET /live/demo/index.m3u8 HTTP/1.1\r\nhost: ").await;
    let started = Instant::now();
    let answer = client.answer(false).await;
    assert!(answer.is_none_or(|answer| answer.status == 408));
    assert!(started.elapsed() < Duration::from_secs(3));
    let mut client = relay.client().await;
    let huge = format!("GET / HTTP/1.1\r\nhost: relay\r\nx: {}\r\n\r\n", "y".repeat(200_000));
    let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, huge.as_bytes()).await;
    assert!(client.answer(false).await.is_none_or(|answer| answer.status == 431));
}

#[tokio::test]
async fn operators_see_health_and_counts_and_no_viewer_does() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    relay.client().await.get(&format!("{session}/video/1.m4s")).await;
    let mut admin = Client::connect(relay.handle.admin).await;
    assert_eq!(admin.get("/livez").await.status, 200);
    let ready = admin.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text());
    let metrics = admin.get("/metrics").await.text();
    for line in [
        "releve_relay_requests_total{kind=\"live\",code=\"302\"} 1",
        "releve_relay_requests_total{kind=\"segment\",code=\"200\"} 1",
        "releve_relay_sessions_total{outcome=\"admitted\"} 1",
        "releve_relay_flights_total{outcome=\"found\"}",
        "releve_relay_streams_followed 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    for secret in ["alice", "demo", session.strip_prefix("/v/").unwrap()] {
        assert!(!metrics.contains(secret), "{secret}");
    }
    for target in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(relay.client().await.get(target).await.status, 404);
    }
    assert_eq!(admin.get("/live/demo/index.m3u8").await.status, 404);
    let announced =
        async || relay.state.nodes().await.unwrap().into_iter().any(|node| node.name == "relay-test");
    until("the node is announced", announced).await;
}

#[tokio::test]
async fn a_stop_lets_answers_finish_and_ends_what_is_held() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::sized("demo", 0..3, 100_000));
    origin.object_delay(Duration::from_millis(500));
    let mut config = config(&[origin.url()]);
    config.limits.playlist_hold = Duration::from_secs(10);
    config.limits.object_hold = Duration::from_secs(10);
    config.limits.origin_patience = Duration::from_secs(10);
    config.limits.stop_patience = Duration::from_secs(10);
    let relay = Relay::with(config).await;
    let session = relay.enter("demo", "alice").await;
    let nothing = relay.enter("nothing", "alice").await;
    let mut idle = relay.client().await;
    assert_eq!(idle.get(&format!("{session}/video.m3u8")).await.status, 200);
    let (mut first, mut second) = (relay.client().await, relay.client().await);
    let held = tokio::spawn(async move { second.get(&format!("{nothing}/index.m3u8")).await });
    let fetched = tokio::spawn(async move { first.get(&format!("{session}/video/1.m4s")).await });
    until("the object is fetched", async || origin.asked("/origin/1/streams/demo/video/1") == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await; // the held one is told nowhere
    let (listen, started) = (relay.handle.listen, Instant::now());
    relay.handle.stop().await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    assert_eq!(fetched.await.unwrap().body, copy_for(&marked(1, 100_000), "alice"));
    assert_eq!(held.await.unwrap().status, 404);
    assert!(tokio::net::TcpStream::connect(listen).await.is_err(), "nobody new");
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_line_holds_a_secret() {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    // While there is one subscriber, a line that another test's thread comes to first is switched off for all.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
    // One thread runs the whole test: the guard covers every task.
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let good = token("demo", "alice-the-viewer");
    let mut client = relay.client().await;
    let entered = client.get(&format!("/live/demo/index.m3u8?token={good}")).await;
    let location = entered.header("location").unwrap().to_owned();
    let session = location.strip_suffix("/index.m3u8").unwrap();
    for target in [
        location.clone(),
        format!("{session}/video/1.m4s"),
        format!("{session}/video/99.m4s"),
        format!("{session}x/video/1.m4s"),
        format!("{session}/index.m3u8?token={good}"),
        format!("/watch/demo?token={good}"),
        format!("/watch/demo?token={good}&token={good}"),
        format!("/live/other/index.m3u8?token={good}"),
    ] {
        client.get(&target).await;
    }
    origin.die().await;
    client.get(&format!("{session}/video/2.m4s")).await;
    relay
        .state
        .revoke(releve_state::coordinator::Revocation {
            viewer: "alice-the-viewer".into(),
            at_unix_s: now_unix_s(),
        })
        .await
        .unwrap();
    until("revoked", async || client.get(&location).await.status == 403).await;
    relay.handle.stop().await;
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("viewer admitted") && logged.contains("a viewer is revoked"), "{logged}");
    let credential = session.strip_prefix("/v/").unwrap();
    for secret in [&good[good.len() - 20..], &good[5..25], &credential[..20], &credential[60..80], "alice"] {
        assert!(!logged.contains(secret), "{secret} in the log:\n{logged}");
    }
}
