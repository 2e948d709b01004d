//! The front on real sockets: conditions and ranges, order, slow and leaving viewers, and a burst with no room for it.

use crate::common::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

async fn watching(show: Show, limits: impl FnOnce(&mut releve_relay::Limits)) -> (FakeOrigin, Relay, String) {
    let origin = FakeOrigin::start().await;
    origin.put(show);
    let mut config = config(&[origin.url()]);
    limits(&mut config.limits);
    let relay = Relay::with(config).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{session}/index.m3u8")).await.status, 200);
    (origin, relay, session)
}

fn open_connections(relay: &Relay) -> f64 {
    relay.metric("releve_relay_connections").unwrap()
}

#[tokio::test]
async fn a_playlist_that_a_viewer_has_is_not_sent_again() {
    let (origin, relay, session) = watching(Show::new("demo", 0..5), |_| {}).await;
    let other = Relay::start(&[&origin]).await;
    let mut client = relay.client().await;
    for playlist in ["index.m3u8", "video.m3u8", "audio.m3u8"] {
        let target = format!("{session}/{playlist}");
        let whole = client.get(&target).await;
        let etag = whole.header("etag").unwrap().to_owned();
        for condition in [etag.clone(), format!("\"x\", W/{etag}"), "*".into()] {
            for method in ["GET", "HEAD"] {
                let same = client.ask(method, &target, &format!("if-none-match: {condition}\r\n")).await;
                assert_eq!((same.status, same.header("etag")), (304, Some(etag.as_str())), "{condition}");
                assert_eq!(same.header("content-length"), None);
                assert_eq!(same.header("cache-control"), whole.header("cache-control"));
            }
        }
        let stale = client.ask("GET", &target, "if-none-match: \"0123456789abcdef\"\r\n").await;
        assert_eq!((stale.status, &stale.body), (200, &whole.body));
        let part = client.ask("GET", &target, "range: bytes=0-9\r\n").await;
        assert_eq!((part.status, &part.body), (200, &whole.body), "a playlist has no ranges");
        let elsewhere = Client::connect(other.handle.listen).await.get(&target).await;
        assert_eq!(elsewhere.header("etag"), Some(etag.as_str()), "any relay gives the same tag");
    }
    let target = format!("{session}/video.m3u8");
    let before = client.get(&target).await.header("etag").unwrap().to_owned();
    origin.put(Show::new("demo", 1..6));
    until("the playlist goes on", async || {
        client.ask("GET", &target, &format!("if-none-match: {before}\r\n")).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn only_get_has_ranges_and_objects_have_no_tag() {
    let (_origin, relay, session) = watching(Show::sized("demo", 0..3, 3_000), |_| {}).await;
    let target = format!("{session}/video/1.m4s");
    let len = marked(1, 3_000).len().to_string();
    let mut client = relay.client().await;
    for range in ["", "range: bytes=5-9\r\n", "range: bytes=99999999-\r\n"] {
        let head = client.ask("HEAD", &target, range).await;
        assert_eq!((head.status, head.header("content-length")), (200, Some(len.as_str())));
        assert_eq!(head.header("accept-ranges"), Some("bytes"));
    }
    let anyhow = client.ask("GET", &target, "if-none-match: *\r\n").await;
    assert_eq!(anyhow.body, copy_for(&marked(1, 3_000), "alice"));
    let resumed = client.ask("GET", &target, "range: bytes=5-9\r\nif-range: \"x\"\r\n").await;
    assert_eq!(resumed.status, 200);
    let last = client.ask("GET", &target, "range: bytes=-1\r\n").await;
    assert_eq!((last.status, last.text().as_str()), (206, "l"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_also_when_one_waits() {
    let (origin, relay, session) = watching(Show::sized("demo", 0..8, 20_000), |_| {}).await;
    origin.object_delay(Duration::from_millis(50));
    let mut client = relay.client().await;
    let numbers = [0, 7, 1, 2, 2, 6, 3];
    let mut requests = String::new();
    for number in numbers {
        requests += &format!("GET {session}/video/{number}.m4s HTTP/1.1\r\nhost: relay\r\n\r\n");
        requests += &format!("HEAD {session}/audio/{number}.m4s HTTP/1.1\r\nhost: relay\r\n\r\n");
    }
    client.send(requests.as_bytes()).await;
    for number in numbers {
        let video = client.answer(false).await.unwrap();
        assert_eq!(video.body, copy_for(&marked(number, 20_000), "alice"), "{number}");
        assert_eq!(client.answer(true).await.unwrap().header("content-type"), Some("audio/mp4"));
    }
}

#[tokio::test]
async fn a_viewer_who_has_said_all_still_gets_the_answer() {
    let (_origin, relay, session) = watching(Show::sized("demo", 0..3, 100_000), |_| {}).await;
    for target in [format!("{session}/video/1.m4s"), format!("{session}/video.m3u8")] {
        let mut client = relay.client().await;
        client.send(format!("GET {target} HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes()).await;
        client.stream.shutdown().await.unwrap();
        assert_eq!(client.answer(false).await.unwrap().status, 200);
        assert!(client.answer(false).await.is_none(), "then the relay closes too");
    }
    until("nobody is seated", async || open_connections(&relay) == 0.0).await;
}

#[tokio::test]
async fn who_leaves_or_idles_frees_the_seat() {
    let (_origin, relay, session) = watching(Show::new("demo", 0..3), |limits| {
        limits.idle_patience = Duration::from_millis(300);
        limits.playlist_hold = Duration::from_millis(700);
    })
    .await;
    let nothing = relay.enter("nothing", "alice").await;
    let mut held = relay.client().await;
    held.send(format!("GET {nothing}/index.m3u8 HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes()).await;
    let reset = relay.client().await;
    socket2::SockRef::from(&reset.stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop((held, reset));
    let mut idle = relay.client().await;
    assert_eq!(idle.get(&format!("{session}/video.m3u8")).await.status, 200);
    let since = Instant::now();
    assert!(idle.answer(false).await.is_none());
    assert!(since.elapsed() < Duration::from_secs(3), "{:?}", since.elapsed());
    until("nobody is seated", async || open_connections(&relay) == 0.0).await;
}

#[tokio::test]
async fn a_viewer_who_takes_no_bytes_is_cut() {
    let (_origin, relay, session) = watching(Show::sized("demo", 0..3, 1 << 20), |limits| {
        limits.write_patience = Duration::from_millis(500);
        limits.object_hold = Duration::from_secs(5);
        limits.origin_patience = Duration::from_secs(2);
    })
    .await;
    until("the first client has gone", async || open_connections(&relay) == 0.0).await;
    let mut client = relay.client().await;
    client.send(format!("GET {session}/video/1.m4s HTTP/1.1\r\nhost: relay\r\n\r\n").as_bytes()).await;
    until("the relay answers", async || open_connections(&relay) == 1.0).await;
    until("the relay gives up", async || open_connections(&relay) == 0.0).await;
    let mut rest = Vec::new();
    let ended = client.stream.read_to_end(&mut rest).await;
    assert!(ended.is_err() && rest.len() < marked(1, 1 << 20).len(), "{ended:?}, {} bytes", rest.len());
}

#[tokio::test]
async fn a_burst_beyond_the_seats_is_turned_away_and_leaves_no_trace() {
    let (_origin, relay, session) =
        watching(Show::new("demo", 0..3), |limits| limits.connections_max = 20).await;
    until("the first client has gone", async || open_connections(&relay) == 0.0).await;
    let (mut burst, target) = (JoinSet::new(), format!("{session}/video.m3u8"));
    for _ in 0..600 {
        let (listen, target) = (relay.handle.listen, target.clone());
        burst.spawn(async move {
            let mut client = Client::connect(listen).await;
            let request = format!("GET {target} HTTP/1.1\r\nhost: relay\r\n\r\n");
            // Who is told so in passing may find the connection reset.
            if client.stream.write_all(request.as_bytes()).await.is_err() {
                return None;
            }
            let answer = client.answer(false).await?;
            sleep(Duration::from_millis(300)).await;
            Some(answer.status)
        });
    }
    let (mut served, mut refused, mut closed) = (0, 0, 0);
    while let Some(status) = burst.join_next().await {
        match status.unwrap() {
            Some(200) => served += 1,
            Some(503) => refused += 1,
            Some(status) => panic!("{status}"),
            None => closed += 1,
        }
    }
    assert!(served >= 20 && refused >= 64, "{served} served, {refused} refused, {closed} closed");
    let after = timeout(Duration::from_secs(1), async {
        let mut client = relay.client().await;
        while client.get(&target).await.status != 200 {
            client = relay.client().await;
        }
    });
    after.await.expect("served again within a second");
}
