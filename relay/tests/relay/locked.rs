//! Files at a CDN in AES-128: what a player makes of them, who gets their keys, and what a CDN has without one.

use crate::cdn::{at_cdn, paths, relay};
use crate::common::http2::Viewer;
use crate::common::stage::Stage;
use crate::common::*;
use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use ingest_api::content_key::{KeyId, SegmentKey};
use releve_relay::Config;
use releve_relay::cdn::lock::LockId;
use releve_relay::route::SessionIn;
use releve_state::Coordinator;
use releve_state::coordinator::Revocation;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const FILES: [&str; 3] = ["cdn-video.m3u8", "cdn-audio.m3u8", "cdn-ts.m3u8"];
const KEPT: Option<&str> = Some("public, max-age=3600, stale-if-error=3600, immutable");

fn encrypt(config: &mut Config) {
    config.cdn_encrypt = true;
}

async fn encrypting(show: Show) -> (Relay, FakeOrigin) {
    relay(show, keys(), encrypt).await
}

/// One segment as a player has it.
#[derive(Debug, PartialEq, Eq)]
struct Played {
    path: String,
    uri: String,
    vector: [u8; 16],
    sealed: Vec<u8>,
    clear: Vec<u8>,
}

/// What a player does with a playlist of AES-128 and the files it names (RFC 8216 §4.3.2.4, §5.2).
async fn played(relay: &Relay, session: &str, file: &str) -> BTreeMap<u64, Played> {
    let mut client = relay.client().await;
    let playlist = client.get(&format!("{session}/{file}")).await.text();
    let first = playlist.lines().find_map(|line| line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:"));
    let (mut number, mut key, mut all) = (first.unwrap().parse::<u64>().unwrap(), None, BTreeMap::new());
    for line in playlist.lines() {
        if let Some(said) = line.strip_prefix("#EXT-X-KEY:METHOD=") {
            key = said.strip_prefix("AES-128,URI=\"").map(|said| {
                let (uri, vector) = said.split_once("\",IV=0x").unwrap();
                (uri.to_owned(), <[u8; 16]>::try_from(hex::decode(vector).unwrap()).unwrap())
            });
        } else if line.starts_with("#EXT-X-MAP") {
            assert_eq!(key, None, "init sections are clear: {playlist}");
            let init = client.get(&at_cdn(line)[0]).await;
            assert!(init.body.starts_with(b"init of "), "{line}");
        } else if let Some(path) = at_cdn(line).pop() {
            let (uri, vector) = key.clone().expect("a segment without a key");
            let answer = client.get(&format!("{session}/{uri}")).await;
            assert_eq!((answer.status, answer.body.len()), (200, 16), "{uri}");
            assert_eq!(answer.header("cache-control"), Some("private, no-store"));
            assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
            let sealed = client.get(&path).await.body;
            let clear = opened(&answer.body, &vector, &sealed);
            all.insert(number, Played { path, uri, vector, sealed, clear });
            number += 1;
        }
    }
    all
}

fn opened(key: &[u8], vector: &[u8; 16], sealed: &[u8]) -> Vec<u8> {
    let key = UnboundCipherKey::new(&AES_128, key).unwrap();
    let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(key).unwrap();
    let mut bytes = sealed.to_vec();
    cipher.decrypt(&mut bytes, DecryptionContext::Iv128(vector.into())).expect("padding").to_vec()
}

/// The address below a session of the key of video from this number on.
fn key_of(number: u64) -> String {
    format!("key/{}.key", LockId::of(1, 1, number).kid())
}

#[tokio::test]
async fn who_has_a_session_reads_what_a_cdn_without_encryption_keeps() {
    let (locked, _origin) = encrypting(Show::new("demo", 297..303)).await;
    let (open, _other) = relay(Show::new("demo", 297..303), keys(), |_| {}).await;
    let (mut uris, mut vectors, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for viewer in ["alice", "bob", "carol", "dave"] {
        let session = locked.enter("demo", viewer).await;
        for file in FILES {
            let clear = paths(&open, viewer, file).await;
            let all = played(&locked, &session, file).await;
            assert!(all.keys().copied().eq(297..303), "{file}");
            for (number, played) in all {
                let expected = open.client().await.get(&clear[&number]).await.body;
                assert_eq!(played.clear, expected, "{viewer} {file} {number}");
                assert_ne!(played.path, clear[&number], "other bytes, another name");
                let in_common = |bytes: &[u8]| expected.windows(8).any(|clear| bytes == clear);
                assert!(!played.sealed.windows(8).any(in_common), "{viewer} {file} {number}");
                uris.insert(played.uri);
                vectors.insert(played.vector);
                names.insert(played.path);
            }
        }
        let own = locked.client().await.get(&format!("{session}/video.m3u8")).await.text();
        assert!(!own.contains("EXT-X-KEY"), "what the relay gives itself is each viewer's own: {own}");
    }
    assert_eq!(uris.len(), 6, "a key for each kind and each 300 segments: {uris:?}");
    assert!(names.len() > 18, "four viewers have A and B of some segment");
    assert_eq!(vectors.len(), names.len(), "each file has a vector of its own, A and B too");
}

/// A CDN pulls from any of them, and a player asks any of them.
#[tokio::test]
async fn every_relay_gives_the_same_files_and_keys() {
    let (one, _origin) = encrypting(Show::new("demo", 297..303)).await;
    let (two, _other) = encrypting(Show::new("demo", 297..303)).await;
    let session = one.enter("demo", "alice").await;
    // The second has never heard of the stream, and is asked for the key first.
    let key = two.client().await.get(&format!("{session}/{}", key_of(300))).await;
    assert_eq!((key.status, key.body.len()), (200, 16));
    for file in FILES {
        let all = played(&one, &session, file).await;
        assert_eq!(all.len(), 6);
        assert_eq!(all, played(&two, &session, file).await, "{file}");
    }
}

/// The setting says what playlists name: files and keys of both kinds are there while it is changed from relay to relay.
#[tokio::test]
async fn a_relay_that_lists_clear_files_has_the_others_too() {
    let (locked, _origin) = encrypting(Show::new("demo", 0..4)).await;
    let (open, _other) = relay(Show::new("demo", 0..4), keys(), |_| {}).await;
    let session = locked.enter("demo", "alice").await;
    let (mut client, mut asked) = (open.client().await, 0);
    for played in played(&locked, &session, "cdn-video.m3u8").await.into_values() {
        assert_eq!(client.get(&played.path).await.body, played.sealed);
        let key = client.get(&format!("{session}/{}", played.uri)).await.body;
        assert_eq!(opened(&key, &played.vector, &played.sealed), played.clear);
        asked += 1;
    }
    assert_eq!(asked, 4);
    for path in paths(&open, "alice", "cdn-video.m3u8").await.into_values() {
        assert_eq!(locked.client().await.get(&path).await.body, client.get(&path).await.body);
    }
    // Without a CDN there is neither.
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..4));
    let none = Relay::start(&[&origin]).await;
    let session = none.enter("demo", "alice").await;
    assert_eq!(none.client().await.get(&format!("{session}/{}", key_of(0))).await.status, 404);
}

#[tokio::test]
async fn a_cdn_gets_a_range_a_head_and_a_304_of_what_it_keeps() {
    let (relay, _origin) = encrypting(Show::sized("demo", 0..4, 3_000)).await;
    let path = paths(&relay, "alice", "cdn-video.m3u8").await[&2].clone();
    let mut client = relay.client().await;
    let whole = client.get(&path).await;
    let len = marked(2, 3_000).len() / 16 * 16 + 16;
    assert_eq!((whole.status, whole.body.len(), whole.header("cache-control")), (200, len, KEPT));
    assert_eq!(whole.header("content-length"), Some(len.to_string().as_str()));
    let etag = whole.header("etag").unwrap().to_owned();
    assert!(path.contains(etag.trim_matches('"')), "{etag} {path}");
    let last = len - 1;
    for (from, to) in [(0, 15), (17, 9_000), (last, last)] {
        let part = client.ask("GET", &path, &format!("range: bytes={from}-{to}\r\n")).await;
        assert_eq!((part.status, &part.body[..]), (206, &whole.body[from..=to]));
        assert_eq!(part.header("content-range"), Some(format!("bytes {from}-{to}/{len}").as_str()));
        assert_eq!(part.header("etag"), Some(etag.as_str()));
    }
    let outside = client.ask("GET", &path, &format!("range: bytes={len}-\r\n")).await;
    assert_eq!((outside.status, outside.body.len()), (416, 0));
    assert_eq!(outside.header("content-range"), Some(format!("bytes */{len}").as_str()));
    let again = client.ask("GET", &path, &format!("if-none-match: {etag}\r\n")).await;
    assert_eq!((again.status, again.body.len(), again.header("cache-control")), (304, 0, KEPT));
    let head = client.ask("HEAD", &path, "").await;
    assert_eq!((head.status, head.header("content-length")), (200, Some(len.to_string().as_str())));
    assert_eq!(head.header("etag"), Some(etag.as_str()));
    assert_eq!(client.get(&path).await.body, whole.body, "the same each time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_a_file_is_the_same() {
    let stage = Stage::with(Show::sized("demo", 0..4, 3_000), |config| {
        config.http2 = true;
        config.cdn_url = Some("https://cdn.example.org/tv".to_owned());
        encrypt(config);
    })
    .await;
    let path = paths(&stage.relay, "alice", "cdn-video.m3u8").await[&2].clone();
    let expected = stage.relay.client().await.get(&path).await.body;
    let viewer = Viewer::connect(stage.address()).await;
    let whole = viewer.get(&path).await;
    assert_eq!((whole.status, &whole.body, whole.header("cache-control")), (200, &expected, KEPT));
    let part = viewer.ask("GET", &path, &[("range", "bytes=2990-9000")]).await.unwrap();
    assert_eq!((part.status, &part.body[..]), (206, &expected[2_990..=9_000]));
    let head = viewer.ask("HEAD", &path, &[]).await.unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(expected.len().to_string().as_str()));
    let again = viewer.ask("GET", &path, &[("if-none-match", whole.header("etag").unwrap())]).await.unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[tokio::test]
async fn nobody_gets_a_key_without_a_session() {
    let (relay, origin) = encrypting(Show::new("demo", 0..4)).await;
    origin.put(Show::new("stage", 0..4));
    let (uri, mut client) = (key_of(0), relay.client().await);
    // Before anybody watches, and after.
    for _ in 0..2 {
        let targets = ["/v/x", "/live/demo", "/cdn/demo", "/c/demo"].map(|at| format!("{at}/{uri}"));
        for target in targets.into_iter().chain([format!("/q/{uri}?s=x")]) {
            let answer = client.get(&target).await;
            assert_eq!((answer.status, answer.body.len()), (403, 0), "{target}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{target}");
        }
        relay.enter("demo", "alice").await;
    }
    let session = relay.enter("demo", "bob").await;
    let key = client.get(&format!("{session}/{uri}")).await;
    assert_eq!((key.status, key.body.len()), (200, 16));
    let elsewhere = relay.enter("stage", "bob").await;
    let other = client.get(&format!("{elsewhere}/{uri}")).await;
    assert_eq!((other.status, other.body.len()), (200, 16));
    assert_ne!(other.body, key.body, "each stream has keys of its own");
    let licence = uri.replace(".key", ".json");
    assert_eq!(client.get(&format!("{session}/{licence}")).await.status, 404, "it is no key of Clear Key");
}

#[tokio::test]
async fn who_is_revoked_gets_no_further_key() {
    let (relay, origin) = encrypting(Show::new("demo", 296..300)).await;
    let (session, staying) = (relay.enter("demo", "alice").await, relay.enter("demo", "bob").await);
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{session}/{}", key_of(299))).await.status, 200);
    relay.state.revoke(Revocation { viewer: "alice".into(), at_unix_s: now_unix_s() }).await.unwrap();
    until("alice is out", async || client.get(&format!("{session}/{}", key_of(299))).await.status == 403)
        .await;
    origin.put(Show::new("demo", 297..301));
    until("the next key is there", async || {
        client.get(&format!("{staying}/{}", key_of(300))).await.status == 200
    })
    .await;
    let refused = client.get(&format!("{session}/{}", key_of(300))).await;
    assert_eq!((refused.status, refused.body.len()), (403, 0));
}

#[tokio::test]
async fn a_key_comes_with_its_first_segment_and_not_before() {
    const HOLD: Duration = Duration::from_secs(1);
    let change = |config: &mut Config| {
        encrypt(config);
        config.limits.ahead_hold = HOLD;
    };
    let (relay, origin) = relay(Show::new("demo", 296..300), keys(), change).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let key = async |client: &mut Client, number| client.get(&format!("{session}/{}", key_of(number))).await;
    assert_eq!(key(&mut client, 299).await.status, 200);
    let far = key(&mut client, 600).await;
    assert_eq!((far.status, far.header("cache-control")), (404, Some("no-store")));
    // Another relay may list the next one already: it is waited for, and is not given before it is there.
    let asked = Instant::now();
    assert_eq!(key(&mut client, 300).await.status, 404);
    assert!(asked.elapsed() >= HOLD, "answered after {:?}", asked.elapsed());
    let target = format!("{session}/{}", key_of(300));
    let early = tokio::spawn(async move { client.get(&target).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!early.is_finished());
    origin.put(Show::new("demo", 297..301));
    let early = early.await.unwrap();
    assert_eq!((early.status, early.body.len()), (200, 16));
}

#[tokio::test]
async fn a_session_in_the_query_stands_in_the_address_of_a_key() {
    let change = |config: &mut Config| {
        encrypt(config);
        config.session_in = SessionIn::Query;
    };
    let (relay, _origin) = relay(Show::new("demo", 0..4), keys(), change).await;
    let mut client = relay.client().await;
    let entered = client.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    let query = entered.header("location").unwrap().strip_prefix("/q/index.m3u8?").unwrap().to_owned();
    let playlist = client.get(&format!("/q/cdn-video.m3u8?{query}")).await.text();
    let uri = format!("{}?{query}", key_of(0));
    assert_eq!(playlist.matches(&format!("AES-128,URI=\"{uri}\",IV=0x")).count(), 4, "{playlist}");
    assert!(at_cdn(&playlist).iter().all(|path| !path.contains('?')), "{playlist}");
    assert_eq!(client.get(&format!("/q/{uri}")).await.body.len(), 16);
}

#[tokio::test]
async fn segments_that_are_encrypted_already_stay_as_they_are() {
    let key = SegmentKey { content_key: 1, kid: KeyId([7; 16]) };
    let mut names = Vec::new();
    for encrypt in [false, true] {
        let mut show = Show::new("demo", 0..4);
        show.snapshot.segments[2..].iter_mut().for_each(|segment| segment.key = Some(key));
        let (relay, _origin) = relay(show, keys(), |config| config.cdn_encrypt = encrypt).await;
        let session = relay.enter("demo", "alice").await;
        let playlist = relay.client().await.get(&format!("{session}/cdn-video.m3u8")).await.text();
        let first = playlist.find("METHOD=SAMPLE-AES").expect("they say how they are encrypted");
        assert!(!playlist[first..].contains("METHOD=AES-128"), "{playlist}");
        assert_eq!(playlist.matches("METHOD=AES-128").count(), if encrypt { 2 } else { 0 }, "{playlist}");
        let paths = paths(&relay, "alice", "cdn-video.m3u8").await;
        let answer = relay.client().await.get(&paths[&3]).await;
        assert_eq!(answer.body, marked(3, 40).pieces(|_| crate::cdn::symbol("alice", 3)).concat());
        names.push(paths);
    }
    assert!(names[0][&3] == names[1][&3] && names[0][&1] != names[1][&1], "other bytes, another name");
}
