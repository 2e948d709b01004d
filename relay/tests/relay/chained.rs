//! Relays behind relays: the same playlists and objects in every tier, and nobody but the cluster's nodes as an asker.

use super::low_latency::{part, show};
use crate::common::*;
use ingest_api::node_auth::{AUTH_HEADER, sign_request};
use ingest_api::origin::Route;
use ingest_api::window::Sha256;
use ingest_api::{Snapshot, Track};
use std::net::SocketAddr;
use std::time::Duration;

/// A relay that others may fetch from, at this address.
async fn upper(origins: &[String], address: &str) -> Relay {
    let mut config = config(origins);
    config.origin_listen = Some(address.parse().unwrap());
    config.limits.playlist_hold = Duration::from_secs(3);
    Relay::with(config).await
}

/// A relay that fetches from these.
async fn lower(uppers: &[&Relay]) -> Relay {
    let urls: Vec<String> = uppers.iter().map(|upper| url(upper.handle.origin.unwrap())).collect();
    let mut config = config(&urls);
    config.limits.playlist_hold = Duration::from_secs(3);
    // What has two ways to go takes longer.
    config.limits.object_hold = Duration::from_secs(3);
    config.limits.origin_patience = Duration::from_secs(1);
    Relay::with(config).await
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

async fn text(relay: &Relay, target: &str) -> String {
    let answer = relay.client().await.get(target).await;
    assert_eq!(answer.status, 200, "{target}: {answer:?}");
    String::from_utf8(answer.body).unwrap()
}

#[tokio::test]
async fn viewers_of_every_tier_see_the_same_and_each_their_own() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..4));
    let top = upper(&[origin.url()], "127.0.0.1:0").await;
    let middle = upper(&[url(top.handle.origin.unwrap())], "127.0.0.1:0").await;
    let bottom = lower(&[&middle]).await;
    let (at_top, at_bottom) = (top.enter("demo", "alice").await, bottom.enter("demo", "alice").await);
    let other = bottom.enter("demo", "bob").await;
    for playlist in ["index.m3u8", "video.m3u8", "audio.m3u8", "ts.m3u8"] {
        let (above, below) = (
            text(&top, &format!("{at_top}/{playlist}")).await,
            text(&bottom, &format!("{at_bottom}/{playlist}")).await,
        );
        assert_eq!(above, below, "{playlist}");
    }
    let (object, muxed) = (marked(2, 40), as_mpeg_ts(2, 40));
    for (name, object) in [("video/2.m4s", &object), ("ts/2.ts", &muxed)] {
        for (session, viewer) in [(&at_bottom, "alice"), (&other, "bob")] {
            let answer = bottom.client().await.get(&format!("{session}/{name}")).await;
            assert_eq!(answer.body, copy_for(object, viewer), "{name} of {viewer}");
        }
    }
    assert_ne!(copy_for(&object, "alice"), copy_for(&object, "bob"));
    let init = Show::new("demo", 0..1).snapshot.segments[0].tracks[1].init.clone();
    assert_eq!(text(&bottom, &format!("{at_bottom}/audio/{init}.mp4")).await, "init of audio");
    assert_eq!(bottom.client().await.get(&format!("{at_bottom}/video/9.m4s")).await.status, 404);
    assert_eq!(origin.asked("/origin/1/streams/demo/video/2"), 1, "once for all tiers");

    // It goes on, through all of them.
    origin.put(Show::new("demo", 1..6));
    let grown = async || text(&bottom, &format!("{at_bottom}/video.m3u8")).await.contains("video/5.m4s");
    until("the newest segment is listed below", grown).await;
    let answer = bottom.client().await.get(&format!("{other}/video/5.m4s")).await;
    assert_eq!(answer.body, copy_for(&marked(5, 40), "bob"));
}

#[tokio::test]
async fn parts_come_through_and_a_reload_below_waits_for_its_part() {
    let origin = FakeOrigin::start().await;
    origin.put(show(6, 1));
    let top = upper(&[origin.url()], "127.0.0.1:0").await;
    let bottom = lower(&[&top]).await;
    let alice = bottom.enter("demo", "alice").await;
    for index in 1..4 {
        let target = format!("{alice}/video.m3u8?_HLS_msn=6&_HLS_part={index}");
        let mut client = bottom.client().await;
        let reload = tokio::spawn(async move { client.get(&target).await });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!reload.is_finished(), "part {index} is not there yet");
        origin.put(show(6, index + 1));
        let answer = reload.await.unwrap();
        let playlist = String::from_utf8(answer.body).unwrap();
        assert!(playlist.contains(&format!("video/6.{index}.m4s")), "{playlist}");
        let answer = bottom.client().await.get(&format!("{alice}/video/6.{index}.m4s")).await;
        assert_eq!(answer.body, copy_for(&part(6, index), "alice"));
    }
}

#[tokio::test]
async fn a_relay_below_two_goes_on_when_either_ends_or_comes_again() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..4));
    let (one, two) =
        (upper(&[origin.url()], "127.0.0.1:0").await, upper(&[origin.url()], "127.0.0.1:0").await);
    let bottom = lower(&[&one, &two]).await;
    let alice = bottom.enter("demo", "alice").await;
    let listed = async |number: u64| {
        let target = format!("{alice}/video.m3u8");
        until("listed below", async || text(&bottom, &target).await.contains(&format!("video/{number}.m4s")))
            .await;
        let answer = bottom.client().await.get(&format!("{alice}/video/{number}.m4s")).await;
        assert_eq!(answer.body, copy_for(&marked(number, 40), "alice"));
    };
    listed(3).await;
    let address = one.handle.origin.unwrap().to_string();
    one.handle.stop().await;
    origin.put(Show::new("demo", 0..5));
    listed(4).await;
    let one = upper(&[origin.url()], &address).await;
    two.handle.stop().await;
    origin.put(Show::new("demo", 0..6));
    listed(5).await;
    assert!(one.metric("releve_relay_tier_requests_total{outcome=\"given\"}").unwrap() > 0.0);
}

#[tokio::test]
async fn a_window_has_the_relays_own_version_and_the_highest_term_it_has_seen() {
    let (old, new) = (FakeOrigin::start().await, FakeOrigin::start().await);
    old.put(Show::new("demo", 0..4));
    let top = upper(&[old.url(), new.url()], "127.0.0.1:0").await;
    let bottom = lower(&[&top]).await;
    let alice = bottom.enter("demo", "alice").await;
    let lists = async |relay: &Relay, session: &str, number: u64| {
        let (target, name) = (format!("{session}/video.m3u8"), format!("video/{number}.m4s"));
        until("listed", async || text(relay, &target).await.contains(&name)).await;
    };
    lists(&bottom, &alice, 3).await;
    // Another node, which counts its own versions, and happens to be where the first one is.
    let mut grown = Show::new("demo", 0..5);
    grown.snapshot.version = 3;
    new.put(grown);
    lists(&bottom, &alice, 4).await;
    let mut fenced = Show::new("demo", 0..5);
    (fenced.snapshot.version, fenced.snapshot.epoch) = (9, 7);
    new.put(fenced);
    let told = async || {
        let path = Route::Window { stream: stream("demo"), after: None, wait_ms: 0 }.to_path();
        let (auth, _) = sign_request(&cluster_key(), "GET", &path, now_unix_s(), [2; 16]);
        let mut client = Client::connect(top.handle.origin.unwrap()).await;
        let answer = client.ask("GET", &path, &format!("{AUTH_HEADER}: {auth}\r\n")).await;
        serde_json::from_slice::<Snapshot>(&answer.body).unwrap().epoch
    };
    until("the higher term goes on", async || told().await == 7).await;
}

#[tokio::test]
async fn mpeg_ts_is_given_of_the_tracks_that_are_listed_and_of_no_others() {
    let (origin, show) = (FakeOrigin::start().await, Show::new("demo", 0..4));
    let route = ts_route("demo", &show.snapshot.segments[1]);
    let other = Route::MpegTs { stream: stream("demo"), number: 1, of: Sha256::of(b"others") }.to_path();
    origin.put(show);
    let top = upper(&[origin.url()], "127.0.0.1:0").await;
    let alice = top.enter("demo", "alice").await;
    text(&top, &format!("{alice}/video.m3u8")).await; // the stream is known from here on
    for (path, status) in [(&route, 200), (&other, 404)] {
        let (auth, _) = sign_request(&cluster_key(), "GET", path, now_unix_s(), [3; 16]);
        let mut client = Client::connect(top.handle.origin.unwrap()).await;
        let answer = client.ask("GET", path, &format!("{AUTH_HEADER}: {auth}\r\n")).await;
        assert_eq!(answer.status, status);
        assert_eq!(status == 200, answer.body == as_mpeg_ts(1, 40).encode());
    }
}

#[tokio::test]
async fn only_nodes_of_the_cluster_may_fetch() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..4));
    let top = upper(&[origin.url()], "127.0.0.1:0").await;
    let alice = top.enter("demo", "alice").await;
    text(&top, &format!("{alice}/video.m3u8")).await; // the stream is known from here on
    let path = Route::Segment { stream: stream("demo"), track: Track::Video, number: 1 }.to_path();
    let now = now_unix_s();
    let (signed, _) = sign_request(&cluster_key(), "GET", &path, now, [1; 16]);
    let (foreign, _) = sign_request(&ring(99), "GET", &path, now, [1; 16]);
    let (old, _) = sign_request(&cluster_key(), "GET", &path, now - 3_600, [1; 16]);
    let asked = async |path: &str, header: &str| {
        let mut client = Client::connect(top.handle.origin.unwrap()).await;
        client.ask("GET", path, header).await
    };
    let header = |auth: &str| format!("{AUTH_HEADER}: {auth}\r\n");
    let good = asked(&path, &header(&signed)).await;
    assert_eq!((good.status, good.body), (200, marked(1, 40).encode().to_vec()));
    let other = "/origin/1/streams/demo/video/2";
    for (path, header) in [
        (&*path, String::new()),
        (&path, header("nonsense")),
        (&path, header(&foreign)),
        (&path, header(&old)),
        (other, header(&signed)),
        (&format!("{alice}/video/1.m4s"), String::new()),
        ("/metrics", String::new()),
    ] {
        let answer = asked(path, &header).await;
        assert_eq!((answer.status, answer.body.len()), (403, 0), "{path} {header}");
    }
    // And viewers' addresses know nothing of it.
    let answer = top.client().await.ask("GET", &path, &header(&signed)).await;
    assert_eq!(answer.status, 404);
    assert_eq!(top.metric("releve_relay_tier_requests_total{outcome=\"denied\"}"), Some(7.0));
}
