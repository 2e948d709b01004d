//! Edges that choose variants themselves, as ETSI TS 104 002 V1.1.1 §5.7.5.3 has them: a small one, written from the
//! specification, stands between viewers and relay.

use crate::common::client::Answer;
use crate::common::*;
use crate::low_latency;
use base64::{Engine, engine::general_purpose::URL_SAFE, engine::general_purpose::URL_SAFE_NO_PAD};
use coset::cbor::Value as Cbor;
use coset::{CborSerializable, CoseMac0, TaggedCborSerializable};
use releve_relay::{Config, Keys};
use releve_state::memory::Memory;
use releve_watermark::{Key, KeyRing, Position, Symbol};
use ring::hmac;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the edge's key is, as a bearer.
fn bearer() -> String {
    format!("authorization: Bearer {}\r\n", "06".repeat(32))
}

async fn relay(show: Show, change: impl FnOnce(&mut Config, &mut Keys)) -> (Relay, FakeOrigin) {
    let origin = FakeOrigin::start().await;
    origin.put(show);
    let (mut config, mut keys) = (config(&[origin.url()]), keys());
    keys.edge = Some(ring(6));
    change(&mut config, &mut keys);
    let state = Arc::new(Memory::default());
    let handle = releve_relay::start_with(config, keys, state.clone(), state.clone()).await.unwrap();
    (Relay { handle, state }, origin)
}

/// The edge: it has the tokens' secret and the relay's bearer, and keeps what it fetched.
struct Edge {
    upstream: Client,
    secret: Vec<u8>,
    kept: BTreeMap<String, Answer>,
}

impl Edge {
    async fn before(relay: &Relay) -> Edge {
        let secret = URL_SAFE_NO_PAD.decode(vector()["private"]["k"].as_str().unwrap()).unwrap();
        Edge { upstream: relay.client().await, secret, kept: BTreeMap::new() }
    }

    async fn fetch(&mut self, path: &str) -> Answer {
        if let Some(kept) = self.kept.get(path) {
            return kept.clone();
        }
        let answer = self.upstream.ask("GET", path, &bearer()).await;
        if answer.header("cache-control").is_some_and(|cache| cache.starts_with("public")) {
            self.kept.insert(path.to_owned(), answer.clone());
        }
        answer
    }

    /// The pattern of a token, and its length in bits, if the token's MAC holds.
    fn pattern(&self, token: &str) -> Option<(Vec<u8>, usize)> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.secret);
        if let Some((signed, tag)) = token.rsplit_once('.') {
            hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(tag).unwrap()).ok()?;
            let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
            let claims: Value = serde_json::from_slice(&claims).unwrap();
            let pattern = URL_SAFE_NO_PAD.decode(claims["wmpattern"].as_str()?).unwrap();
            return Some((pattern, claims["wmpatlen"].as_u64().unwrap() as usize));
        }
        let token = URL_SAFE_NO_PAD.decode(token).unwrap();
        let cose = CoseMac0::from_tagged_slice(token.strip_prefix(b"\xd8\x3d").unwrap()).unwrap();
        cose.verify_payload_tag(
            &[],
            || ring::error::Unspecified,
            |tag, signed| hmac::verify(&key, signed, tag),
        )
        .ok()?;
        let claims = Cbor::from_slice(&cose.payload.unwrap()).unwrap();
        let claim = |label: u64| {
            let claims = claims.as_map().unwrap();
            claims.iter().find(|(name, _)| *name == Cbor::from(label)).map(|(_, value)| value.clone())
        };
        let length: i128 = claim(302).unwrap().as_integer().unwrap().into();
        Some((claim(304)?.into_bytes().unwrap(), length as usize))
    }

    /// What a device gets: `below` is `video/7.m4s`, say.
    async fn device(&mut self, below: &str, token: &str) -> Result<Vec<u8>, u16> {
        let (pattern, bits) = self.pattern(token).ok_or(401u16)?;
        let (folder, file) = below.split_once('/').unwrap();
        let pace = self.fetch(&format!("/edge/demo/{folder}/WMPaceInfo/{file}")).await;
        assert_eq!((pace.status, pace.header("content-type")), (200, Some("application/cbor")), "{below}");
        let variant = match position(&pace.body) {
            -1 => "",
            position => {
                let position = position as usize % bits;
                // Big endian: bit 0 is the first of the first byte.
                if pattern[position / 8] & 0x80 >> (position % 8) == 0 { "" } else { "b/" }
            }
        };
        let answer = self.fetch(&format!("/edge/demo/{folder}/{variant}{file}")).await;
        assert_eq!(answer.status, 200, "{below}");
        let egress = URL_SAFE.decode(answer.header("wmpaceinfoegress").unwrap()).unwrap();
        assert_eq!(egress, pace.body, "the field says what the object says");
        Ok(answer.body)
    }
}

/// The one `position` of a `sidecar-discrete` (§5.5.3.2).
fn position(cbor: &[u8]) -> i64 {
    let said = Cbor::from_slice(cbor).unwrap();
    let of = |map: &Cbor, label: u64| {
        map.as_map().unwrap().iter().find(|(name, _)| *name == Cbor::from(label)).unwrap().1.clone()
    };
    assert_eq!(of(&said, 1), Cbor::from(1));
    let segments = of(&said, 2).into_array().unwrap();
    assert_eq!(segments.len(), 1);
    let position: i128 = of(&segments[0], 6).as_integer().unwrap().into();
    position as i64
}

/// Tokens that `relevectl token mint --direct` makes for alice, with a shared secret.
fn vector() -> Value {
    let text = include_str!("../../../ingest/api/vectors/watermark-tokens.json");
    serde_json::from_str::<Value>(text).unwrap()["keys"][0].clone()
}

/// The segments that a playlist lists, as paths below the stream.
fn listed(playlist: &str) -> Vec<String> {
    playlist.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect()
}

/// Over the place where the pattern begins again: what the viewer gets is their pattern, segment by segment.
#[tokio::test]
async fn a_copy_that_an_edge_chose_is_the_viewers_pattern() {
    let numbers = 2_036..2_060u64;
    let (relay, origin) = relay(Show::new("demo", numbers.clone()), |_, _| {}).await;
    let mut edge = Edge::before(&relay).await;
    let index = edge.fetch("/edge/demo/index.m3u8").await.text();
    assert!(index.contains("URI=\"audio.m3u8\"") && index.ends_with("\nvideo.m3u8\n"), "{index}");
    for (playlist, ts) in [("video.m3u8", false), ("ts.m3u8", true)] {
        let playlist = edge.fetch(&format!("/edge/demo/{playlist}")).await.text();
        let segments = listed(&playlist);
        assert_eq!(segments.len(), 24, "{playlist}");
        for form in ["direct_cwt", "direct_jwt"] {
            let vector = vector();
            let mut seen = [0; 2];
            for (number, path) in numbers.clone().zip(&segments) {
                let mine = edge.device(path, vector[form].as_str().unwrap()).await.unwrap();
                let symbol = codebook().symbol(mark_of("alice"), Position::chosen(number));
                let object = if ts { as_mpeg_ts(number, 40) } else { marked(number, 40) };
                assert_eq!(mine, object.pieces(|_| symbol).concat(), "{form} {path}");
                seen[usize::from(symbol == Symbol::B)] += 1;
            }
            assert!(seen.iter().all(|&count| count > 3), "{seen:?} of A and B");
        }
    }
    let sound = listed(&edge.fetch("/edge/demo/audio.m3u8").await.text());
    let token = vector()["direct_cwt"].as_str().unwrap().to_owned();
    assert_eq!(edge.device(&sound[3], &token).await.unwrap(), b"sound of 2039");
    assert_eq!(origin.asked("/origin/1/streams/demo/video/2040"), 1, "variants come from one object");
    let mut forged = token.into_bytes();
    let last = forged.len() - 2;
    forged[last] = if forged[last] == b'A' { b'B' } else { b'A' };
    assert_eq!(edge.device("video/2040.m4s", std::str::from_utf8(&forged).unwrap()).await, Err(401));
}

#[tokio::test]
async fn what_an_edge_keeps_says_nothing_of_a_viewer_and_names_no_variant() {
    let (relay, _origin) = relay(Show::sized("demo", 0..4, 3_000), |_, _| {}).await;
    let mut client = relay.client().await;
    let mut ask = async |path: &str, fields: &str| {
        client.ask("GET", &format!("/edge/demo/{path}"), &format!("{}{fields}", bearer())).await
    };
    let cache = Some("public, max-age=3600, stale-if-error=3600, immutable");
    let (a, b) = (ask("video/2.m4s", "").await, ask("video/b/2.m4s", "").await);
    assert_eq!((a.status, &a.body), (200, &marked(2, 3_000).pieces(|_| Symbol::A).concat()));
    assert_eq!((b.status, &b.body), (200, &marked(2, 3_000).pieces(|_| Symbol::B).concat()));
    let fields = |answer: &Answer| {
        let lasting = answer.headers.iter().filter(|(name, _)| name != "date");
        lasting.cloned().collect::<Vec<_>>()
    };
    assert_eq!(fields(&a), fields(&b), "nothing but the bytes tells A from B");
    assert_eq!((a.header("cache-control"), a.header("etag"), a.header("set-cookie")), (cache, None, None));
    assert_eq!(a.header("wmpaceinfoegress"), Some("ogEBAoGhBgI="));
    let part = ask("video/b/2.m4s", "range: bytes=2990-9000\r\n").await;
    assert_eq!((part.status, &part.body[..]), (206, &b.body[2_990..=9_000]));
    let pace = ask("video/WMPaceInfo/2.m4s", "").await;
    assert_eq!(
        (&pace.body[..], pace.header("cache-control")),
        (&b"\xa2\x01\x01\x02\x81\xa1\x06\x02"[..], cache)
    );
    let playlist = ask("video.m3u8", "").await;
    assert_eq!(playlist.header("cache-control"), Some("public, max-age=1"));
    let etag = playlist.header("etag").unwrap();
    assert_eq!(ask("video.m3u8", &format!("if-none-match: {etag}\r\n")).await.status, 304);
    let text = playlist.text();
    assert!(!text.contains("://") && !text.contains("b/") && !text.contains("WMPaceInfo"), "{text}");
    let map = text.split("URI=\"").nth(1).unwrap().split('"').next().unwrap();
    let init = ask(map, "").await;
    assert_eq!(
        (init.status, &init.body[..], init.header("wmpaceinfoegress")),
        (200, &b"init of video"[..], None)
    );
    assert_eq!(ask("video/99.m4s", "").await.status, 404);
    assert_eq!(ask("video/WMPaceInfo/99.m4s", "").await.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_segment_without_marks_has_no_place_in_the_pattern() {
    let mut show = Show::new("demo", 0..4);
    show.snapshot.segments[1].gops.clear();
    show.snapshot.segments[1].has_mpeg_ts = false;
    let plain = ingest_api::Object::plain(bytes::Bytes::from_static(b"no mark in it"));
    let entry = &mut show.snapshot.segments[1].tracks[0];
    entry.len = plain.len() as u64;
    entry.sha256 = ingest_api::window::Sha256::of(&plain.encode());
    show.objects.push(("/origin/1/streams/demo/video/1".to_owned(), plain));
    let (relay, _origin) = relay(show, |_, _| {}).await;
    let mut edge = Edge::before(&relay).await;
    for path in ["video/WMPaceInfo/1.m4s", "audio/WMPaceInfo/2.m4s"] {
        let pace = edge.fetch(&format!("/edge/demo/{path}")).await;
        assert_eq!((pace.status, position(&pace.body)), (200, -1), "{path}");
    }
    assert_eq!(position(&edge.fetch("/edge/demo/video/WMPaceInfo/2.m4s").await.body), 2);
    for path in ["video/1.m4s", "video/b/1.m4s"] {
        assert_eq!(edge.fetch(&format!("/edge/demo/{path}")).await.body, b"no mark in it");
    }
}

#[tokio::test]
async fn only_the_edges_key_opens_both_variants() {
    let two = KeyRing::parse(&format!("{}{}", Key::new(2, [9; 32]).to_line(), ring(6).current().to_line()));
    let change = |config: &mut Config, keys: &mut Keys| {
        config.cdn_url = Some("https://cdn.example.org".to_owned());
        keys.cdn = Some(ring(7));
        keys.edge = Some(two.unwrap());
    };
    let (relay, _origin) = relay(Show::new("demo", 0..4), change).await;
    let mut client = relay.client().await;
    let files =
        ["index.m3u8", "video.m3u8", "video/2.m4s", "video/b/2.m4s", "video/WMPaceInfo/2.m4s", "ts/2.ts"];
    let of = |byte: &str| format!("authorization: Bearer {}\r\n", byte.repeat(32));
    for file in files {
        for stream in ["demo", "nobody"] {
            for bad in ["".to_owned(), of("07"), of("05"), "authorization: Bearer\r\n".to_owned()] {
                let answer = client.ask("GET", &format!("/edge/{stream}/{file}"), &bad).await;
                assert_eq!((answer.status, answer.body.len()), (403, 0), "{stream} {file} {bad}");
                assert_eq!(answer.header("cache-control"), Some("no-store"), "{stream} {file} {bad}");
            }
        }
        let token = token("demo", "alice");
        assert_eq!(client.get(&format!("/edge/demo/{file}?token={token}")).await.status, 403, "{file}");
        for good in [of("06"), of("09")] {
            assert_eq!(client.ask("GET", &format!("/edge/demo/{file}"), &good).await.status, 200, "{file}");
        }
        assert_eq!(client.ask("POST", &format!("/edge/demo/{file}"), &of("06")).await.status, 405, "{file}");
    }
    assert!(relay.metric("releve_relay_denied_total{reason=\"bearer\"}") >= Some(48.0));
}

#[tokio::test]
async fn without_an_edges_key_there_are_no_such_files() {
    let (relay, _origin) = relay(Show::new("demo", 0..4), |_, keys| keys.edge = None).await;
    let mut client = relay.client().await;
    for file in ["index.m3u8", "video/2.m4s", "video/b/2.m4s", "video/WMPaceInfo/2.m4s"] {
        let answer = client.ask("GET", &format!("/edge/demo/{file}"), &bearer()).await;
        assert_eq!(answer.status, 404, "{file}");
    }
}

#[tokio::test]
async fn parts_and_keys_are_not_an_edges() {
    let (relay, _origin) = relay(low_latency::show(4, 2), |_, _| {}).await;
    let mut edge = Edge::before(&relay).await;
    let playlist = edge.fetch("/edge/demo/video.m3u8").await.text();
    assert!(!playlist.contains("EXT-X-PART") && !playlist.contains("CAN-BLOCK-RELOAD"), "{playlist}");
    assert_eq!(listed(&playlist).len(), 4, "{playlist}");
    for path in
        ["video/3.0.m4s", &format!("key/{}.key", "07".repeat(16)), &format!("key/{}.json", "07".repeat(16))]
    {
        assert_eq!(edge.fetch(&format!("/edge/demo/{path}")).await.status, 403, "{path}");
    }
}
