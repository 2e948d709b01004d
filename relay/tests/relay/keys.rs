//! Keys of encrypted segments: who may watch gets those of what is there, nobody else gets any.

use crate::common::*;
use ingest_api::Signals;
use ingest_api::content_key::{ContentKey, KeyId, OF_KEY_SERVER, SegmentKey};
use releve_relay::route::SessionIn;
use releve_state::coordinator::{Coordinator, Revocation};

/// Segments 0 and 1 under one key, 2 under the next.
fn show() -> Show {
    let mut show = Show::new("demo", 0..3);
    for segment in &mut show.snapshot.segments {
        let kid = ContentKey::of_segment(ring(6).current(), &stream("demo"), segment.number, 2).kid;
        segment.key = Some(SegmentKey { content_key: 1, kid });
    }
    show
}

fn key(number: u64) -> ContentKey {
    ContentKey::of_segment(ring(6).current(), &stream("demo"), number, 2)
}

async fn encrypted() -> (Relay, FakeOrigin) {
    let origin = FakeOrigin::start().await;
    origin.put(show());
    origin.put(Show::new("stage", 0..3));
    let mut keys = keys();
    keys.content = Some(ring(6));
    let state = std::sync::Arc::new(releve_state::memory::Memory::default());
    let config = config(&[origin.url()]);
    let handle = releve_relay::start_with(config, keys, state.clone(), state.clone()).await.unwrap();
    (Relay { handle, state }, origin)
}

#[tokio::test]
async fn a_viewer_gets_the_keys_of_what_is_there_and_no_others() {
    let (relay, _origin) = encrypted().await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let playlist = client.get(&format!("{session}/video.m3u8")).await.text();
    for number in [0, 2] {
        let key = key(number);
        assert!(playlist.contains(&format!("URI=\"key/{0}.key\",KEYID=0x{0}", key.kid)), "{playlist}");
        let answer = client.get(&format!("{session}/key/{}.key", key.kid)).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &key.secret()[..]));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let answer = client.get(&format!("{session}/key/{}.json", key.kid)).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        let licence: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        let text = |bytes: &[u8; 16]| base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, bytes);
        let (k, kid) = (text(key.secret()), text(&key.kid.0));
        let expected = serde_json::json!({"keys": [{"kty": "oct", "k": k, "kid": kid}], "type": "temporary"});
        assert_eq!(licence, expected);
    }
    // Of a period to come, of no period, in another spelling.
    for name in [format!("{}.key", key(4).kid), format!("{}.json", KeyId([0; 16])), key(0).kid.to_string()] {
        let answer = client.get(&format!("{session}/key/{name}")).await;
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{name}");
    }
    let capitals = key(0).kid.to_string().to_uppercase();
    assert_eq!(client.get(&format!("{session}/key/{capitals}.key")).await.status, 404);
}

#[tokio::test]
async fn nobody_else_gets_a_key() {
    let (relay, _origin) = encrypted().await;
    let path = format!("key/{}.key", key(0).kid);
    let mut client = relay.client().await;
    // Before anybody watches, and after.
    for _ in 0..2 {
        for target in [format!("/v/x/{path}"), format!("/live/demo/{path}"), format!("/c/demo/{path}")] {
            let answer = client.get(&target).await;
            assert_eq!((answer.status, answer.body.len()), (403, 0), "{target}");
        }
        relay.enter("demo", "alice").await;
    }
    let elsewhere = relay.enter("stage", "bob").await;
    let answer = client.get(&format!("{elsewhere}/{path}")).await;
    assert_eq!((answer.status, answer.body.len()), (404, 0), "a viewer of another stream");
    let session = relay.enter("demo", "carol").await;
    let target = format!("{session}/{path}");
    assert_eq!(client.get(&target).await.status, 200);
    relay.state.revoke(Revocation { viewer: "carol".into(), at_unix_s: now_unix_s() }).await.unwrap();
    let refused = async {
        while client.get(&target).await.status == 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        client.get(&target).await
    };
    let answer = tokio::time::timeout(std::time::Duration::from_secs(5), refused).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (403, 0));
}

/// Segments under two keys of a key server.
fn of_a_key_server() -> (Show, [Signals; 2]) {
    let mut show = Show::new("demo", 0..4);
    let signals = [1u8, 2].map(|kid| {
        let line = |tag: &str, uri: &str| {
            format!("#EXT-X-{tag}:METHOD=SAMPLE-AES,URI=\"{uri}{kid}\",KEYFORMAT=\"x\"")
        };
        let lines =
            |tag: &str| ["skd://key/", "data:text/plain;base64,AAAA"].map(|uri| line(tag, uri)).into();
        Signals { kid: KeyId([kid; 16]), media: lines("KEY"), session: lines("SESSION-KEY") }
    });
    for (segment, at) in show.snapshot.segments.iter_mut().zip([0, 0, 1, 1]) {
        segment.key = Some(SegmentKey { content_key: OF_KEY_SERVER, kid: signals[at].kid });
    }
    show.snapshot.signals = signals.clone().into();
    (show, signals)
}

fn of_keys(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.contains("KEY:")).collect()
}

#[tokio::test]
async fn keys_of_a_key_server_are_told_as_it_says_and_are_not_here() {
    let origin = FakeOrigin::start().await;
    let (show, signals) = of_a_key_server();
    origin.put(show);
    let mut config = config(&[origin.url()]);
    (config.session_in, config.cdn_url) = (SessionIn::Query, Some("https://cdn.example.org".into()));
    let mut keys = keys();
    keys.content = Some(ring(6));
    let state = std::sync::Arc::new(releve_state::memory::Memory::default());
    let handle = releve_relay::start_with(config, keys, state.clone(), state.clone()).await.unwrap();
    let relay = Relay { handle, state };
    let mut client = relay.client().await;
    let entered = client.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    let index = entered.header("location").unwrap().to_owned();
    let query = index.strip_prefix("/q/index.m3u8?").unwrap().to_owned();
    let text = client.get(&index).await.text();
    assert_eq!(
        of_keys(&text),
        signals[1].session,
        "the newest key's, once, and nobody's session in them: {text}"
    );
    let media = [&signals[0].media[..], &signals[1].media].concat();
    for name in ["video.m3u8", "cdn-video.m3u8"] {
        let text = client.get(&format!("/q/{name}?{query}")).await.text();
        assert_eq!(of_keys(&text), media, "{text}");
    }
    for kind in ["key", "json"] {
        let answer = client.get(&format!("/q/key/{}.{kind}?{query}", signals[0].kid)).await;
        assert_eq!((answer.status, answer.body.len()), (404, 0));
    }
}
