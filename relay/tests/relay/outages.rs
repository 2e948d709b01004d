//! Origins that die, lag, lie or hang: viewers are held or shown the last good, and never get a 5xx or a wrong byte.

use crate::common::origin::Fault;
use crate::common::*;
use std::time::Duration;

/// A relay with these origins, and a viewer who has seen the window.
async fn watching(origins: &[&FakeOrigin]) -> (Relay, Client, String) {
    let relay = Relay::start(origins).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{session}/index.m3u8")).await.status, 200);
    (relay, client, session)
}

fn newest(playlist: &str) -> u64 {
    let uri = playlist.lines().rfind(|line| !line.starts_with('#')).unwrap();
    uri.strip_prefix("video/").unwrap().strip_suffix(".m4s").unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_dead_origin_leaves_the_last_good_and_objects_are_held_for() {
    let mut origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..8));
    let (relay, mut client, session) = watching(&[&origin]).await;
    assert_eq!(client.get(&format!("{session}/video/1.m4s")).await.status, 200);
    // Three segments of two tracks, and the one that was asked for.
    let fetched = "releve_relay_flights_total{outcome=\"found\"} 7";
    until("the newest segments are fetched ahead", async || relay.handle.metrics().contains(fetched)).await;
    let before = client.get(&format!("{session}/video.m3u8")).await.text();
    origin.die().await;
    for target in ["index.m3u8", "video.m3u8", "audio.m3u8", "video/1.m4s", "video/7.m4s", "audio/5.m4s"] {
        assert_eq!(client.get(&format!("{session}/{target}")).await.status, 200, "{target}");
    }
    assert_eq!(client.get(&format!("{session}/video.m3u8")).await.text(), before);
    let held = client.get(&format!("{session}/video/2.m4s")).await;
    assert_eq!((held.status, held.header("retry-after")), (404, Some("2")), "held, then not now: never 5xx");
    let waiting = {
        let session = session.clone();
        let mut client = Client::connect(client.stream.peer_addr().unwrap()).await;
        tokio::spawn(async move { client.get(&format!("{session}/video/3.m4s")).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    origin.put(Show::new("demo", 1..9));
    origin.revive().await;
    assert_eq!(waiting.await.unwrap().body, copy_for(&marked(3, 40), "alice"), "held over the gap");
    until("the window goes on", async || {
        newest(&client.get(&format!("{session}/video.m3u8")).await.text()) == 8
    })
    .await;
}

#[tokio::test]
async fn the_other_origin_takes_over() {
    for fault in [None, Some(Fault::Silent), Some(Fault::Broken), Some(Fault::Forged)] {
        let (mut a, b) = (FakeOrigin::start().await, FakeOrigin::start().await);
        a.put(Show::new("demo", 0..5));
        b.put(Show::new("demo", 0..5));
        let (_relay, mut client, session) = watching(&[&a, &b]).await;
        match fault {
            None => a.die().await,
            Some(fault) => a.fault(fault),
        }
        b.put(Show::new("demo", 1..6));
        until("the window goes on", async || {
            newest(&client.get(&format!("{session}/video.m3u8")).await.text()) == 5
        })
        .await;
        for number in 1..6 {
            let object = client.get(&format!("{session}/video/{number}.m4s")).await;
            assert_eq!(object.body, copy_for(&marked(number, 40), "alice"), "{fault:?}");
        }
    }
}

/// The first origin would answer after the viewer has given up; nothing but asking the second one meanwhile helps.
#[tokio::test]
async fn a_slow_origin_is_not_waited_for() {
    let (slow, other) = (FakeOrigin::start().await, FakeOrigin::start().await);
    slow.put(Show::new("demo", 0..8));
    slow.object_delay(Duration::from_secs(600));
    other.put(Show::new("demo", 0..8));
    let mut config = config(&[slow.url(), other.url()]);
    config.limits.origin_patience = Duration::from_secs(300);
    let relay = Relay::with(config).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    for number in 0..8 {
        let object = client.get(&format!("{session}/video/{number}.m4s")).await;
        assert_eq!(object.body, copy_for(&marked(number, 40), "alice"));
    }
}

#[tokio::test]
async fn a_fenced_or_forgetful_origin_takes_nothing_back() {
    let (a, b) = (FakeOrigin::start().await, FakeOrigin::start().await);
    let mut newer = Show::new("demo", 10..15);
    newer.snapshot.epoch = 5;
    a.put(newer);
    let (relay, mut client, session) = watching(&[&a, &b]).await;
    let mut fenced = Show::new("demo", 11..20);
    fenced.snapshot.epoch = 4;
    b.put(fenced);
    let refused = "releve_relay_upstream_refused_total{reason=\"contradiction\"}";
    until("the fenced one is refused", async || relay.metric(refused) > Some(0.0)).await;
    assert_eq!(newest(&client.get(&format!("{session}/video.m3u8")).await.text()), 14);
    let mut forgetful = Show::new("demo", 0..3);
    forgetful.snapshot.epoch = 6;
    b.put(forgetful);
    let lag = "releve_relay_upstream_refused_total{reason=\"lag\"}";
    until("the forgetful one is refused", async || relay.metric(lag) > Some(0.0)).await;
    let text = client.get(&format!("{session}/video.m3u8")).await.text();
    assert!(text.contains("#EXT-X-MEDIA-SEQUENCE:10\n") && newest(&text) == 14);
    let mut goes_on = Show::new("demo", 11..16);
    goes_on.snapshot.epoch = 6;
    b.put(goes_on);
    until("its successor is shown", async || {
        newest(&client.get(&format!("{session}/video.m3u8")).await.text()) == 15
    })
    .await;
}

#[tokio::test]
async fn changed_bytes_are_never_served() {
    let (bad, good) = (FakeOrigin::start().await, FakeOrigin::start().await);
    bad.put(Show::new("demo", 0..3));
    bad.fault(Fault::Corrupt);
    let (relay, mut client, session) = watching(&[&bad]).await;
    let text = client.get(&format!("{session}/video.m3u8")).await.text();
    let init = text
        .lines()
        .find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")?.strip_suffix('"'))
        .unwrap()
        .to_owned();
    for target in ["video/1.m4s", "audio/1.m4s", &init] {
        let answer = client.get(&format!("{session}/{target}")).await;
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{target}");
    }
    assert!(relay.metric("releve_relay_upstream_refused_total{reason=\"object\"}") > Some(0.0));
    good.put(Show::new("demo", 0..3));
    let (_relay, mut client, session) = watching(&[&bad, &good]).await;
    for number in 0..3 {
        let object = client.get(&format!("{session}/video/{number}.m4s")).await;
        assert_eq!(object.body, copy_for(&marked(number, 40), "alice"));
    }
}

#[tokio::test]
async fn memory_stays_within_its_bound() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::sized("demo", 0..12, 16 << 10));
    let mut config = config(&[origin.url()]);
    config.cache_mib = 1;
    let relay = Relay::with(config).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    for _ in 0..2 {
        for number in 0..12 {
            let object = client.get(&format!("{session}/video/{number}.m4s")).await;
            assert_eq!(object.body, copy_for(&marked(number, 16 << 10), "alice"));
            let held = relay.metric("releve_relay_cache_bytes").unwrap();
            assert!(held <= f64::from(1 << 20), "{held}");
        }
    }
    assert!(relay.metric("releve_relay_cache_objects").unwrap() >= 3.0);
    assert_eq!(origin.asked("/origin/1/streams/demo/video/0"), 2, "forgotten and fetched again");
}
