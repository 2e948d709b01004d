//! What players tell of themselves: who may, in what form, and what is counted.

use crate::common::http2::Viewer;
use crate::common::stage::Stage;
use crate::common::*;
use client::Answer;
use releve_relay::route::SessionIn;
use releve_state::Coordinator;
use releve_state::coordinator::Revocation;
use std::time::Duration;
use tokio::time::{Instant, timeout};

const CMCD: &str = "content-type: application/cmcd\r\n";

async fn relay() -> (FakeOrigin, Relay) {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    (origin, relay)
}

/// A post as it goes over the wire.
fn post(target: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nhost: relay\r\n{fields}content-length: {length}\r\n\r\n{body}")
}

async fn tell(client: &mut Client, target: &str, body: &str) -> Answer {
    client.send(post(target, CMCD, body).as_bytes()).await;
    client.answer(false).await.expect("an answer")
}

fn counted(relay: &Relay, what: &str) -> f64 {
    relay.metric(&format!("releve_relay_{what}")).unwrap_or(0.0)
}

/// A state's change, as players tell it.
fn change(sid: &str, state: &str, at_ms: u64) -> String {
    format!("e=ps,sid=\"{sid}\",sta={state},ts={at_ms},v=2\n")
}

#[tokio::test]
async fn what_players_tell_becomes_counts_without_names() {
    let (_origin, relay) = relay().await;
    let (alice, bob) = (relay.enter("demo", "alice").await, relay.enter("demo", "bob").await);
    let mut client = relay.client().await;
    let batch = change("one", "s", 1_000)
        + &change("one", "p", 1_700)
        + "e=t,bl=(4100;v 3900;a),ltc=1300,msd=700,sta=p,ts=2000,v=2\n"
        + "bl=(2000),e=rr,ltc=9000,rc=200,ts=2100,url=\"https://relay.example/v/x\",v=2\n"
        + "e=e,ec=(\"bufferStalledError\"),sta=p,ts=2200,v=2\n"
        + &change("one", "r", 3_000);
    let answer = tell(&mut client, &format!("{alice}/cmcd"), &batch).await;
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:?}");
    // The stall's end comes in another post; another player of the session and another session have none.
    for (session, sid) in [(&alice, "two"), (&bob, "one"), (&alice, "one")] {
        assert_eq!(counted(&relay, "players_stall_seconds_count"), 0.0);
        assert_eq!(tell(&mut client, &format!("{session}/cmcd"), &change(sid, "p", 4_250)).await.status, 204);
    }
    for (what, expected) in [
        ("players_stall_seconds_count", 1.0),
        ("players_stall_seconds_sum", 1.25),
        ("players_startup_seconds_sum", 0.7),
        ("players_buffer_seconds_sum", 3.9), // of what is told every interval, and only there
        ("players_latency_seconds_count", 1.0),
        ("players_latency_seconds_sum", 1.3),
        ("players_events_total{event=\"ps\"}", 6.0),
        ("players_events_total{event=\"e\"}", 1.0),
        ("players_states_total{state=\"rebuffering\"}", 1.0),
        ("players_states_total{state=\"playing\"}", 4.0),
        ("requests_total{kind=\"cmcd\",code=\"204\"}", 4.0),
    ] {
        assert_eq!(counted(&relay, what), expected, "{what} in {}", relay.handle.metrics());
    }
    // Whatever words come, there are no more of them here than are known.
    let lines = |from: usize| {
        (from..from + 100).map(|n| format!("e=x{n},sta=y{n},sid=\"z{n}\"\n")).collect::<String>()
    };
    for from in [0, 100, 200] {
        assert_eq!(tell(&mut client, &format!("{alice}/cmcd"), &lines(from)).await.status, 204);
    }
    assert_eq!(counted(&relay, "players_events_total{event=\"other\"}"), 300.0);
    let text = relay.handle.metrics();
    for word in
        ["alice", "demo", "x1", "y1", "z1", "\"one\"", "bufferStalledError", alice.trim_start_matches("/v/")]
    {
        assert!(!text.contains(word), "{word} in {text}");
    }
}

#[tokio::test]
async fn only_who_has_a_session_is_heard() {
    let (_origin, relay) = relay().await;
    let alice = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let event = change("one", "p", 1_000);
    let good = token("demo", "alice");
    for target in [
        "/v/x/cmcd".to_owned(),
        format!("{alice}x/cmcd"),
        format!("{alice}/cmcd?token={good}"),
        "/q/cmcd".to_owned(),
    ] {
        assert_eq!(tell(&mut client, &target, &event).await.status, 403, "{target}");
    }
    assert_eq!(tell(&mut client, "/cmcd", &event).await.status, 404);
    for path in ["index.m3u8", "video/1.m4s", "cmcds"] {
        assert!(
            matches!(tell(&mut client, &format!("{alice}/{path}"), &event).await.status, 404 | 405),
            "{path}"
        );
    }
    assert_eq!(tell(&mut client, &format!("{alice}/cmcd"), &event).await.status, 204);
    relay.state.revoke(Revocation { viewer: "alice".into(), at_unix_s: now_unix_s() }).await.unwrap();
    until("she is out", async || tell(&mut client, &format!("{alice}/cmcd"), &event).await.status == 403)
        .await;
}

#[tokio::test]
async fn a_session_in_the_query_tells_too() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let mut config = config(&[origin.url()]);
    config.session_in = SessionIn::Query;
    let relay = Relay::with(config).await;
    let mut client = relay.client().await;
    let entered = client.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    let target = entered.header("location").unwrap().replace("index.m3u8", "cmcd");
    assert_eq!(tell(&mut client, &target, &change("one", "p", 1)).await.status, 204);
    assert_eq!(counted(&relay, "players_states_total{state=\"playing\"}"), 1.0);
}

#[tokio::test]
async fn what_has_another_form_is_refused_and_not_counted() {
    let (_origin, relay) = relay().await;
    let target = format!("{}/cmcd", relay.enter("demo", "alice").await);
    let event = change("one", "p", 1_000);
    let mut client = relay.client().await;
    for method in ["GET", "HEAD", "PUT"] {
        let answer = client.ask(method, &target, "").await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST, OPTIONS")), "{method}");
    }
    let asked = client.ask("OPTIONS", &target, "origin: https://x\r\n").await;
    assert_eq!((asked.status, asked.header("access-control-allow-methods")), (204, Some("POST, OPTIONS")));
    assert!(asked.header("access-control-allow-headers").unwrap().contains("Content-Type"));
    assert_eq!(client.ask("OPTIONS", "/v/x/cmcd", "").await.status, 403);
    assert_eq!(client.ask("POST", &target, CMCD).await.status, 411);
    for fields in ["", "content-type: text/plain\r\n", &CMCD.repeat(2)] {
        client.send(post(&target, fields, &event).as_bytes()).await;
        let answer = client.answer(false).await.unwrap();
        assert_eq!((answer.status, answer.header("accept")), (415, Some("application/cmcd")), "{fields:?}");
    }
    for (body, said) in [
        (String::new(), "no event: send one a line"),
        (event.clone() + "sta=p\n", "line 2 does not say in `e`"),
        (event.repeat(3) + "{}\n", "line 4 is no dictionary"),
        (event.repeat(129), "more than 128 events"),
    ] {
        let answer = tell(&mut client, &target, &body).await;
        assert!(answer.status == 400 && answer.text().starts_with(said), "{answer:?}");
    }
    // Of what cannot be read to its end, the connection ends too.
    let longest =
        event.clone() + &format!("e=ce,com.example-x=\"{}\"\n", "x".repeat(16_384 - event.len() - 22));
    assert_eq!(longest.len(), 16_384);
    for (fields, status) in [
        ("transfer-encoding: chunked\r\n", 411),
        ("content-length: 16385\r\n", 413),
        ("content-length: 99999999999999999999\r\n", 413),
        ("content-length: 5\r\ncontent-length: 5\r\n", 400),
        ("content-length: 5\r\ntransfer-encoding: chunked\r\n", 400),
        ("content-length: 5\r\nexpect: 100-continue\r\n", 417),
    ] {
        let mut client = relay.client().await;
        let answer = client.ask("POST", &target, &format!("{CMCD}{fields}")).await;
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{fields:?}");
        assert!(client.answer(false).await.is_none());
    }
    assert_eq!(counted(&relay, "players_events_total{event=\"ps\"}"), 0.0);
    assert_eq!(tell(&mut client, &target, &longest).await.status, 204);
    assert_eq!(counted(&relay, "players_events_total{event=\"ps\"}"), 1.0);
}

#[tokio::test]
async fn posts_and_gets_are_answered_in_order() {
    let (_origin, relay) = relay().await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{session}/index.m3u8")).await.status, 200);
    let get = format!("GET {session}/video/1.m4s HTTP/1.1\r\nhost: relay\r\n\r\n");
    // A body that is a request is a body.
    let all = [
        post(&format!("{session}/cmcd"), CMCD, &change("one", "p", 1)),
        get.clone(),
        post(&format!("{session}/cmcd"), CMCD, &get),
        get,
        post(&format!("{session}/cmcd"), CMCD, "e=t"),
    ]
    .concat();
    for piece in all.as_bytes().chunks(17) {
        client.send(piece).await;
        tokio::task::yield_now().await;
    }
    let mut statuses = Vec::new();
    for _ in 0..5 {
        statuses.push(client.answer(false).await.unwrap().status);
    }
    assert_eq!(statuses, [204, 200, 400, 200, 204]);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let mut config = config(&[origin.url()]);
    config.limits.head_patience = Duration::from_millis(400);
    let relay = Relay::with(config).await;
    let target = format!("{}/cmcd", relay.enter("demo", "alice").await);
    let mut client = relay.client().await;
    let all = post(&target, CMCD, &change("one", "p", 1).repeat(4));
    client.send(&all.as_bytes()[..all.len() - 1]).await;
    let came = Instant::now();
    assert!(client.answer(false).await.is_none(), "the connection ends");
    assert!(came.elapsed() >= Duration::from_millis(300), "{:?}", came.elapsed());
    assert_eq!(counted(&relay, "players_events_total{event=\"ps\"}"), 0.0);
    until("nobody is there", async || counted(&relay, "connections") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_tells_alike() {
    let stage = Stage::with(Show::new("demo", 0..3), |config| {
        config.http2 = true;
        config.limits.head_patience = Duration::from_millis(600);
    })
    .await;
    let target = format!("{}/cmcd", stage.enter("alice").await);
    let viewer = Viewer::connect(stage.address()).await;
    let typed = [("content-type", "application/cmcd")];
    let event = change("one", "p", 1);
    let (begin, end) = event.as_bytes().split_at(10);
    let long = vec![b'x'; 9_000];
    for (what, target, fields, pieces, status) in [
        ("an event", target.as_str(), &typed[..], vec![event.as_bytes()], 204),
        ("one in pieces", &target, &typed, vec![begin, end], 204),
        ("none", &target, &typed, vec![], 400),
        ("no type", &target, &[], vec![event.as_bytes()], 415),
        ("no event", &target, &typed, vec![b"x"], 400),
        ("too long", &target, &typed, vec![&long, &long], 413),
        ("a stranger's", "/v/x/cmcd", &typed, vec![event.as_bytes()], 403),
    ] {
        let told = timeout(Duration::from_secs(5), viewer.post(target, fields, &pieces, true)).await;
        assert_eq!(told.expect(what).expect(what).status, status, "{what}");
    }
    assert_eq!(viewer.ask("GET", &target, &[]).await.unwrap().status, 405);
    assert_eq!(counted(&stage.relay, "players_events_total{event=\"ps\"}"), 2.0);
    // A body that does not come ends its stream, and not the connection.
    let waited = timeout(Duration::from_secs(5), viewer.post(&target, &typed, &[begin], false)).await;
    assert!(waited.expect("it is not waited for").is_err());
    assert_eq!(viewer.get(&target.replace("cmcd", "video/1.m4s")).await.status, 200);
}
