//! Content steering: who is over the relay's room is sent to the CDN, and comes back.

use crate::common::*;
use crate::low_latency;
use releve_relay::Config;
use releve_relay::route::SessionIn;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const CDN: &str = "https://cdn.example.org";

async fn relay(room: u32, change: impl FnOnce(&mut Config)) -> (Relay, FakeOrigin) {
    showing(Show::new("demo", 0..4), room, change).await
}

async fn showing(show: Show, room: u32, change: impl FnOnce(&mut Config)) -> (Relay, FakeOrigin) {
    let origin = FakeOrigin::start().await;
    origin.put(show);
    let mut config = config(&[origin.url()]);
    config.cdn_url = Some(CDN.to_owned());
    config.cdn_overflow = room;
    config.limits.head_patience = Duration::from_secs(60); // a crowd that asks for nothing stays
    config.limits.overflow_look = Duration::from_millis(20);
    config.limits.overflow_hold = Duration::from_millis(200);
    change(&mut config);
    (Relay::with(config).await, origin)
}

async fn first(client: &mut Client, session: &str) -> String {
    let answer = client.get(&format!("{session}/steering.json")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    assert_eq!(answer.header("cache-control"), Some("private, no-store"));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    let manifest: Value = serde_json::from_slice(&answer.body).unwrap();
    let pathways = manifest["PATHWAY-PRIORITY"].as_array().unwrap().clone();
    assert_eq!(manifest, json!({"VERSION": 1, "TTL": 15, "PATHWAY-PRIORITY": pathways}));
    assert!(pathways == ["relay", "cdn"] || pathways == ["cdn", "relay"], "{pathways:?}");
    pathways[0].as_str().unwrap().to_owned()
}

/// The pathway that the multivariant playlist begins with, by its tag and by its first variant.
async fn begins(client: &mut Client, session: &str) -> String {
    let text = client.get(&format!("{session}/index.m3u8")).await.text();
    let tag = "#EXT-X-CONTENT-STEERING:SERVER-URI=\"steering.json\",PATHWAY-ID=\"";
    let line = text.lines().find_map(|line| line.strip_prefix(tag)).unwrap_or_else(|| panic!("{text}"));
    let pathway = line.trim_end_matches('"').to_owned();
    let variants: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = ["video.m3u8", "cdn-video.m3u8"];
    assert!(variants == expected || variants.iter().rev().eq(expected.iter()), "{text}");
    assert_eq!(variants[0] == "cdn-video.m3u8", pathway == "cdn", "{text}");
    pathway
}

#[tokio::test]
async fn who_is_over_the_room_goes_to_the_cdn_and_comes_back() {
    let (relay, _origin) = relay(10, |_| {}).await;
    let mut client = relay.client().await;
    let mut sessions = Vec::new();
    for viewer in 0..48 {
        sessions.push(relay.enter("demo", &format!("viewer-{viewer}")).await);
    }
    let ways = async |client: &mut Client| {
        let mut ways = BTreeMap::new();
        for session in &sessions {
            let way = first(client, session).await;
            assert_eq!(begins(client, session).await, way);
            ways.insert(session.clone(), way);
        }
        ways
    };
    let share = || relay.metric("releve_relay_cdn_share").unwrap();
    let at_cdn = |ways: &BTreeMap<String, String>| ways.values().filter(|way| *way == "cdn").count();

    // Connections that have ended are counted out before anything is said of the load.
    until("only the client is there", async || relay.metric("releve_relay_connections") == Some(1.0)).await;
    assert_eq!((share(), at_cdn(&ways(&mut client).await)), (0.0, 0), "there is room");

    // 10 of 20 have room.
    let mut crowd = Vec::new();
    for _ in 0..19 {
        crowd.push(relay.client().await);
    }
    until("half of them have no room", async || share() == 0.5).await;
    let half = ways(&mut client).await;
    assert!((8..=40).contains(&at_cdn(&half)), "{half:?}");

    // Who went stays when more go.
    for _ in 0..20 {
        crowd.push(relay.client().await);
    }
    until("three quarters have no room", async || share() == 0.75).await;
    let most = ways(&mut client).await;
    assert!(half.iter().all(|(session, way)| way == "relay" || most[session] == "cdn"), "{half:?} {most:?}");
    assert!(at_cdn(&most) > at_cdn(&half));

    // Room again.
    crowd.clear();
    until("all have room", async || share() == 0.0).await;
    assert_eq!(at_cdn(&ways(&mut client).await), 0);
}

/// A viewer may come with the session, and the playlist, of another relay.
#[tokio::test]
async fn a_relay_that_has_not_seen_the_stream_yet_answers_when_it_has() {
    let origin = FakeOrigin::start().await;
    let mut config = config(&[origin.url()]);
    config.cdn_url = Some(CDN.to_owned());
    config.cdn_overflow = 10;
    let relay = Relay::with(config).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let asked = tokio::spawn(async move { first(&mut client, &session).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asked.is_finished(), "there is no stream to speak of");
    origin.put(Show::new("demo", 0..4));
    assert_eq!(asked.await.unwrap(), "relay");
}

/// hls.js stalls on each segment when it goes from parts to whole segments: it stays at the latency it had.
#[tokio::test]
async fn who_plays_parts_stays_and_who_comes_begins_at_the_cdn() {
    let (relay, _origin) = showing(low_latency::show(4, 2), 10, |_| {}).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let way = async |client: &mut Client, here: &str| {
        let answer = client.get(&format!("{session}/steering.json{here}")).await;
        let manifest: Value = serde_json::from_slice(&answer.body).unwrap();
        manifest["PATHWAY-PRIORITY"][0].as_str().unwrap().to_owned()
    };
    let ways = ["?_HLS_pathway=relay", "?_HLS_pathway=%22cdn%22&_HLS_throughput=1", ""];
    let share = || relay.metric("releve_relay_cdn_share").unwrap();
    until("only the client is there", async || relay.metric("releve_relay_connections") == Some(1.0)).await;
    for here in ways {
        assert_eq!(way(&mut client, here).await, "relay", "{here}");
    }
    assert_eq!(begins(&mut client, &session).await, "relay");
    let mut crowd = Vec::new();
    for _ in 0..12 {
        crowd.push(relay.client().await);
    }
    until("some have no room", async || share() == 0.25).await;
    for (here, expected) in ways.into_iter().zip(["relay", "cdn", "relay"]) {
        assert_eq!(way(&mut client, here).await, expected, "{here}");
    }
    for viewer in ["bob", "carol", "dave", "erin"] {
        let session = relay.enter("demo", viewer).await;
        assert_eq!(begins(&mut client, &session).await, "cdn");
    }
    let twice = format!("{session}/steering.json?_HLS_pathway=cdn&_HLS_pathway=cdn");
    assert_eq!(client.get(&twice).await.status, 400);
    crowd.clear();
    until("all have room", async || share() == 0.0).await;
    for here in ways {
        assert_eq!(way(&mut client, here).await, "relay", "{here}");
    }
    assert_eq!(begins(&mut client, &session).await, "relay");
}

/// The same numbers, init section and media, whichever pathway a viewer takes.
#[tokio::test]
async fn both_pathways_lead_to_the_same_segments() {
    let (relay, _origin) = relay(10, |_| {}).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let own = client.get(&format!("{session}/video.m3u8")).await.text();
    let cdn = client.get(&format!("{session}/cdn-video.m3u8")).await.text();
    let bare = |text: &str| -> Vec<String> {
        let name = |line: &str| {
            let line = line.replace(&format!("{CDN}/cdn/demo/"), "");
            match line.rsplit_once('-').zip(line.rsplit_once('.')) {
                Some(((stem, name), (_, kind)))
                    if name.len() == 33 + kind.len() + usize::from(line.ends_with('"')) =>
                {
                    format!("{stem}.{kind}")
                }
                _ => line,
            }
        };
        text.lines().map(name).collect()
    };
    assert_eq!(bare(&cdn).len(), own.lines().count());
    let tags = |text: &str| -> Vec<String> {
        text.lines()
            .filter(|line| line.starts_with('#') && !line.contains("URI"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(tags(&own), tags(&cdn), "numbers, durations and dates");
    assert_eq!(cdn.matches(CDN).count(), 5, "{cdn}");
    let index = client.get(&format!("{session}/index.m3u8")).await;
    assert!(index.header("etag").is_some(), "rendered once for all who begin alike");
    let groups: Vec<String> =
        index.text().lines().filter(|line| line.starts_with("#EXT-X-MEDIA")).map(str::to_owned).collect();
    assert!(
        groups[0].contains("GROUP-ID=\"audio\"") && groups[0].contains("URI=\"audio.m3u8\""),
        "{groups:?}"
    );
    assert!(
        groups[1].contains("GROUP-ID=\"cdn-audio\"") && groups[1].contains("URI=\"cdn-audio.m3u8\""),
        "{groups:?}"
    );
}

#[tokio::test]
async fn steering_is_behind_the_session() {
    let (relay, _origin) = relay(10, |config| config.session_in = SessionIn::Query).await;
    let mut client = relay.client().await;
    let entered = client.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    let index = entered.header("location").unwrap().to_owned();
    let query = index.strip_prefix("/q/index.m3u8?").unwrap().to_owned();
    let text = client.get(&index).await.text();
    assert!(text.contains(&format!("SERVER-URI=\"steering.json?{query}\"")), "{text}");
    // What players add to it.
    let asked = format!("/q/steering.json?{query}&_HLS_pathway=%22relay%22&_HLS_throughput=5140000");
    assert_eq!(client.get(&asked).await.status, 200);
    for refused in ["/q/steering.json", "/q/steering.json?s=x", "/v/x/steering.json", "/c/demo/steering.json"]
    {
        assert_eq!(client.get(refused).await.status, 403, "{refused}");
    }
    let entered = client.get(&format!("/live/demo/ts.m3u8?token={}", token("demo", "alice"))).await;
    assert!(entered.header("location").unwrap().starts_with("/q/ts.m3u8?"), "one playlist has one pathway");
}

#[tokio::test]
async fn without_a_room_nobody_is_steered() {
    let (relay, _origin) = relay(0, |_| {}).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{session}/steering.json")).await.status, 404);
    let index = client.get(&format!("{session}/index.m3u8")).await.text();
    assert!(!index.contains("STEERING") && index.ends_with("\ncdn-video.m3u8\n"), "{index}");
}
