//! CDN mode: what each viewer is told to fetch, what a CDN gets, and what nobody gets.

use crate::cat::npm;
use crate::common::http2::Viewer;
use crate::common::stage::Stage;
use crate::common::*;
use crate::low_latency;
use ingest_api::content_key::{KeyId, SegmentKey};
use releve_relay::route::SessionIn;
use releve_relay::{Config, Keys, StartError};
use releve_state::Coordinator;
use releve_state::coordinator::Revocation;
use releve_state::memory::Memory;
use releve_watermark::{Key, KeyRing, Position, Symbol};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CDN: &str = "https://cdn.example.org/tv";

pub(crate) async fn relay(show: Show, keys: Keys, change: impl FnOnce(&mut Config)) -> (Relay, FakeOrigin) {
    let origin = FakeOrigin::start().await;
    origin.put(show);
    let mut config = config(&[origin.url()]);
    config.cdn_url = Some(format!("{CDN}/"));
    change(&mut config);
    let state = Arc::new(Memory::default());
    let handle = releve_relay::start_with(config, keys, state.clone(), state.clone()).await.unwrap();
    (Relay { handle, state }, origin)
}

async fn plain(show: Show) -> (Relay, FakeOrigin) {
    relay(show, keys(), |_| {}).await
}

/// The addresses at the CDN in a playlist, as paths at the relay.
pub(crate) fn at_cdn(playlist: &str) -> Vec<String> {
    playlist.split(['\n', '"']).filter_map(|uri| Some(uri.strip_prefix(CDN)?.to_owned())).collect()
}

/// By segment number: the paths of a viewer's playlist.
pub(crate) async fn paths(relay: &Relay, viewer: &str, file: &str) -> BTreeMap<u64, String> {
    let session = relay.enter("demo", viewer).await;
    let answer = relay.client().await.get(&format!("{session}/{file}")).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("private, no-store")), "{viewer}");
    assert_eq!(answer.header("etag"), None);
    let number = |path: &String| path.rsplit('/').next()?.split('-').next()?.parse().ok();
    at_cdn(&answer.text()).into_iter().filter_map(|path| Some((number(&path)?, path))).collect()
}

/// What the codeword says of a whole segment.
pub(crate) fn symbol(viewer: &str, number: u64) -> Symbol {
    codebook().symbol(mark_of(viewer), Position::whole(position(number, 0).gop))
}

#[tokio::test]
async fn a_cdn_keeps_two_files_a_segment_and_each_viewer_is_told_theirs() {
    let (relay, origin) = plain(Show::new("demo", 0..12)).await;
    let viewers = ["alice", "bob", "carol", "dave", "erin", "frank"];
    let mut cdn = relay.client().await;
    let mut named: BTreeMap<u64, BTreeMap<bool, BTreeSet<String>>> = BTreeMap::new();
    for viewer in viewers {
        for (file, ts) in [("cdn-video.m3u8", false), ("cdn-ts.m3u8", true)] {
            let paths = paths(&relay, viewer, file).await;
            assert_eq!(paths.len(), 12, "{viewer} {paths:?}");
            for (number, path) in paths {
                let symbol = symbol(viewer, number);
                let object = if ts { as_mpeg_ts(number, 40) } else { marked(number, 40) };
                let answer = cdn.get(&path).await;
                assert_eq!(answer.body, object.pieces(|_| symbol).concat(), "{viewer} {path}");
                if !ts {
                    let of = named.entry(number).or_default().entry(symbol == Symbol::A).or_default();
                    of.insert(path);
                }
            }
        }
        let sound: Vec<_> = paths(&relay, viewer, "cdn-audio.m3u8").await.into_values().collect();
        assert_eq!(sound, paths(&relay, "alice", "cdn-audio.m3u8").await.into_values().collect::<Vec<_>>());
        assert_eq!(cdn.get(&sound[3]).await.body, b"sound of 3");
    }
    for (number, variants) in &named {
        assert!(variants.values().all(|names| names.len() == 1), "{number}: {variants:?}");
    }
    let both = named.values().filter(|variants| variants.len() == 2).count();
    assert!(both >= 6, "six viewers share few of 12 symbols, {both} differ");
    assert_eq!(origin.asked("/origin/1/streams/demo/video/0"), 1, "variants come from one object");
}

/// Of a further encoding a viewer has the variant that they have of the picture, under names of its own.
#[tokio::test]
async fn a_further_encoding_has_the_symbols_of_the_pictures_gops() {
    let mut show = Show::new("demo", 0..6).laddered();
    // A segment that begins within a GOP of the picture, while the further encoding has one of its own.
    show.snapshot.segments[1].gops.clear();
    let (relay, _origin) = plain(show).await;
    let mut cdn = relay.client().await;
    for viewer in ["alice", "bob"] {
        let (own, picture) =
            (paths(&relay, viewer, "cdn-video2.m3u8").await, paths(&relay, viewer, "cdn-video.m3u8").await);
        assert_eq!(own.len(), 6);
        for (number, path) in own {
            let answer = cdn.get(&path).await;
            assert_eq!(answer.body, smaller(number).pieces(|_| symbol(viewer, number)).concat(), "{path}");
            assert_ne!(picture[&number], path);
        }
    }
}

#[tokio::test]
async fn the_way_of_a_player_leads_to_the_cdn() {
    let (relay, _origin) = plain(Show::new("demo", 0..4)).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let index = client.get(&format!("{session}/index.m3u8")).await.text();
    assert!(index.contains("URI=\"cdn-audio.m3u8\"") && index.ends_with("\ncdn-video.m3u8\n"), "{index}");
    let playlist = client.get(&format!("{session}/cdn-video.m3u8")).await.text();
    let addresses = at_cdn(&playlist);
    assert_eq!((addresses.len(), playlist.matches("://").count()), (5, 5), "{playlist}");
    assert!(!playlist.contains(session.trim_start_matches("/v/")), "no address elsewhere names a session");
    let init = client.get(&addresses[0]).await;
    assert_eq!((init.status, &init.body[..]), (200, &b"init of video"[..]));
    let entered = client.get(&format!("/live/demo/ts.m3u8?token={}", token("demo", "alice"))).await;
    assert!(entered.header("location").unwrap().ends_with("/cdn-ts.m3u8"), "{entered:?}");
    let page = client.get(&format!("/watch/demo?token={}", token("demo", "alice"))).await;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("connect-src 'self' https://cdn.example.org;"), "{policy}");
}

#[tokio::test]
async fn a_cdn_gets_what_it_may_keep_and_can_ask_again() {
    let (relay, _origin) = plain(Show::sized("demo", 0..4, 3_000)).await;
    let path = paths(&relay, "alice", "cdn-video.m3u8").await[&2].clone();
    let body = marked(2, 3_000).pieces(|_| symbol("alice", 2)).concat();
    let mut client = relay.client().await;
    let whole = client.get(&path).await;
    assert_eq!((whole.status, &whole.body), (200, &body));
    let cache = Some("public, max-age=3600, stale-if-error=3600, immutable");
    assert_eq!((whole.header("cache-control"), whole.header("content-type")), (cache, Some("video/mp4")));
    assert_eq!((whole.header("set-cookie"), whole.header("vary")), (None, None));
    assert_eq!(whole.header("access-control-allow-origin"), Some("*"));
    let etag = whole.header("etag").unwrap();
    let again = client.ask("GET", &path, &format!("if-none-match: {etag}\r\n")).await;
    assert_eq!((again.status, again.body.len(), again.header("cache-control")), (304, 0, cache));
    let part = client.ask("GET", &path, "range: bytes=2990-9000\r\n").await;
    assert_eq!((part.status, &part.body[..]), (206, &body[2_990..=9_000]));
    let outside = client.ask("GET", &path, "range: bytes=9000000-\r\n").await;
    assert_eq!((outside.status, outside.header("cache-control")), (416, Some("no-store")));
    let head = client.ask("HEAD", &path, "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(body.len().to_string().as_str()));
}

/// An edge may speak HTTP/2 to the relay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_it_is_no_different() {
    let stage = Stage::with(Show::sized("demo", 0..4, 3_000), |config| {
        config.http2 = true;
        config.cdn_url = Some(CDN.to_owned());
    })
    .await;
    let viewer = Viewer::connect(stage.address()).await;
    let entered = viewer.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    let index = entered.header("location").unwrap();
    let playlist = viewer.get(&index.replace("index.m3u8", "cdn-video.m3u8")).await;
    assert_eq!((playlist.status, playlist.header("cache-control")), (200, Some("private, no-store")));
    let path = at_cdn(&playlist.text()).into_iter().find(|path| path.contains("/video/2-")).unwrap();
    let body = marked(2, 3_000).pieces(|_| symbol("alice", 2)).concat();
    let whole = viewer.get(&path).await;
    assert_eq!((whole.status, &whole.body), (200, &body));
    let cache = Some("public, max-age=3600, stale-if-error=3600, immutable");
    assert_eq!((whole.header("cache-control"), whole.header("content-type")), (cache, Some("video/mp4")));
    let etag = whole.header("etag").unwrap();
    let again = viewer.ask("GET", &path, &[("if-none-match", etag)]).await.unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
    let part = viewer.ask("GET", &path, &[("range", "bytes=2990-9000")]).await.unwrap();
    assert_eq!((part.status, &part.body[..]), (206, &body[2_990..=9_000]));
    let refused = viewer.get(&path.replace("/2-", "/1-")).await;
    assert_eq!((refused.status, refused.header("cache-control")), (403, Some("no-store")));
}

/// Nothing but its own name opens a segment, and no refusal is kept or says whether there is a stream.
#[tokio::test]
async fn only_the_name_opens_a_segment() {
    let (relay, _origin) = plain(Show::new("demo", 0..4)).await;
    let path = paths(&relay, "alice", "cdn-video.m3u8").await[&2].clone();
    let mut client = relay.client().await;
    assert_eq!(client.get(&path).await.status, 200);
    let name = path.rsplit('-').next().unwrap().split('.').next().unwrap().to_owned();
    let mut others = vec![
        path.replace("/demo/", "/nobody/"),
        path.replace("/2-", "/1-"),
        path.replace("/2-", "/9-"),
        path.replace("/video/", "/audio/"),
        path.replace("/video/", "/ts/").replace(".m4s", ".ts"),
        path.replace(&name, &name.to_uppercase()),
        path.replace(&name, &name[1..]),
        path.replace(&format!("-{name}"), ""),
        path.replace("/2-", "/2.0-"),
        "/cdn/demo/index.m3u8".to_owned(),
        "/cdn/demo".to_owned(),
    ];
    for at in 0..name.len() {
        let mut changed = name.clone().into_bytes();
        changed[at] = if changed[at] == b'0' { b'1' } else { b'0' };
        others.push(path.replace(&name, std::str::from_utf8(&changed).unwrap()));
    }
    for other in others {
        let answer = client.get(&other).await;
        assert_eq!((answer.status, answer.body.len()), (403, 0), "{other}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{other}");
        assert_eq!(answer.header("releve-reason"), Some("denied"), "{other}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_waited_for_and_never_kept() {
    const HOLD: Duration = Duration::from_secs(1);
    let hold = |config: &mut Config| config.limits.ahead_hold = HOLD;
    let (relay, origin) = relay(Show::new("demo", 0..4), keys(), hold).await;
    let names = releve_relay::cdn::Names::new(&ring(4));
    let path = |number| {
        let wanted = releve_relay::route::Wanted::Segment(ingest_api::Track::Video, number);
        let variant = releve_relay::cdn::Variant::Whole(Symbol::B);
        let name = names.name(Some(1), &stream("demo"), &wanted, variant).unwrap();
        format!("/cdn/demo/video/{number}-{}.m4s", hex::encode(name))
    };
    let mut client = relay.client().await;
    // Nobody has entered: the relay begins to follow a stream whose name it made.
    assert_eq!(client.get(&path(2)).await.body, marked(2, 40).pieces(|_| Symbol::B).concat());
    let far = client.get(&path(99)).await;
    assert_eq!((far.status, far.header("cache-control")), (404, Some("no-store")));
    // The next one may be listed elsewhere already: it is waited for before it is "not now".
    let asked = Instant::now();
    let early = client.get(&path(4)).await;
    assert_eq!((early.status, early.header("cache-control")), (404, Some("no-store")));
    assert!(asked.elapsed() >= HOLD, "answered after {:?}", asked.elapsed());
    // It comes while somebody waits: nothing was said before, and then it is all there.
    let next = path(4);
    let early = tokio::spawn(async move { client.get(&next).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!early.is_finished());
    origin.put(Show::new("demo", 1..5));
    assert_eq!(early.await.unwrap().body, marked(4, 40).pieces(|_| Symbol::B).concat());
}

#[tokio::test]
async fn a_cdn_shows_one_of_two_live_keys_where_there_is_a_key() {
    let mut keys = keys();
    let (new, old) = (Key::new(2, [0xcd; 32]), Key::new(1, [0xab; 32]));
    keys.cdn = Some(KeyRing::parse(&format!("{}{}", new.to_line(), old.to_line())).unwrap());
    let (relay, _origin) = relay(Show::new("demo", 0..4), keys, |_| {}).await;
    let path = paths(&relay, "alice", "cdn-video.m3u8").await[&2].clone();
    let mut client = relay.client().await;
    for good in ["cd".repeat(32), "ab".repeat(32)] {
        let answer = client.ask("GET", &path, &format!("authorization: Bearer {good}\r\n")).await;
        assert_eq!(answer.status, 200);
    }
    let twice = format!("authorization: Bearer {0}\r\nauthorization: Bearer {0}\r\n", "cd".repeat(32));
    for bad in
        ["", "authorization: Bearer\r\n", &format!("authorization: Bearer {}\r\n", "ac".repeat(32)), &twice]
    {
        let answer = client.ask("GET", &path, bad).await;
        assert_eq!((answer.status, answer.header("cache-control")), (403, Some("no-store")), "{bad}");
    }
    assert_eq!(relay.metric("releve_relay_denied_total{reason=\"bearer\"}"), Some(4.0));
}

#[tokio::test]
async fn without_a_cdn_there_are_no_such_files() {
    let (with, _origin) = plain(Show::new("demo", 0..4)).await;
    let path = paths(&with, "alice", "cdn-video.m3u8").await[&2].clone();
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..4));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let index = client.get(&format!("{session}/index.m3u8")).await.text();
    assert!(index.ends_with("\nvideo.m3u8\n"), "{index}");
    assert_eq!(client.get(&path).await.status, 404, "a weaker mark is not the viewer's to choose");
    for file in ["cdn-video.m3u8", "cdn-audio.m3u8", "cdn-ts.m3u8"] {
        assert_eq!(client.get(&format!("{session}/{file}")).await.status, 404, "{file}");
    }
}

#[tokio::test]
async fn who_is_revoked_is_told_no_more_names() {
    let (relay, _origin) = plain(Show::new("demo", 0..4)).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{session}/cdn-video.m3u8")).await.status, 200);
    let revocation = Revocation { viewer: "alice".into(), at_unix_s: now_unix_s() };
    relay.state.revoke(revocation).await.unwrap();
    until("alice is out", async || client.get(&format!("{session}/cdn-video.m3u8")).await.status == 403)
        .await;
}

#[tokio::test]
async fn a_session_in_the_query_stays_at_the_relay() {
    let change = |config: &mut Config| config.session_in = SessionIn::Query;
    let mut show = Show::new("demo", 0..4);
    let kid = KeyId([7; 16]);
    let key = SegmentKey { content_key: 1, kid };
    show.snapshot.segments.iter_mut().for_each(|segment| segment.key = Some(key));
    let (relay, _origin) = relay(show, keys(), change).await;
    let mut client = relay.client().await;
    let entered = client.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    let index = entered.header("location").unwrap().to_owned();
    let query = index.strip_prefix("/q/index.m3u8?").unwrap().to_owned();
    let text = client.get(&index).await.text();
    assert!(text.ends_with(&format!("\ncdn-video.m3u8?{query}\n")), "{text}");
    let playlist = client.get(&format!("/q/cdn-video.m3u8?{query}")).await.text();
    assert_eq!(at_cdn(&playlist).len(), 5, "{playlist}");
    assert!(at_cdn(&playlist).iter().all(|path| !path.contains('?')), "{playlist}");
    assert!(playlist.contains(&format!("URI=\"key/{kid}.key?{query}\"")), "{playlist}");
}

#[tokio::test]
async fn parts_are_not_listed_and_reloads_do_not_wait() {
    let (relay, _origin) = plain(low_latency::show(4, 2)).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let playlist = client.get(&format!("{session}/cdn-video.m3u8?_HLS_msn=4&_HLS_part=3")).await.text();
    assert_eq!(at_cdn(&playlist).len(), 5, "{playlist}");
    assert!(!playlist.contains("EXT-X-PART") && !playlist.contains("CAN-BLOCK-RELOAD"), "{playlist}");
}

#[tokio::test]
async fn unmarked_segments_have_one_name_and_names_stay_while_keys_change() {
    let mut show = Show::new("demo", 0..4);
    show.snapshot.segments[1].gops.clear();
    show.snapshot.segments[1].has_mpeg_ts = false;
    let plain_object = ingest_api::Object::plain(bytes::Bytes::from_static(b"no mark in it"));
    let entry = &mut show.snapshot.segments[1].tracks[0];
    entry.len = plain_object.len() as u64;
    entry.sha256 = ingest_api::window::Sha256::of(&plain_object.encode());
    show.objects.push(("/origin/1/streams/demo/video/1".to_owned(), plain_object));
    let (relay, _origin) = plain(show).await;
    let alice = paths(&relay, "alice", "cdn-video.m3u8").await;
    for viewer in ["bob", "carol", "dave", "erin"] {
        assert_eq!(paths(&relay, viewer, "cdn-video.m3u8").await[&1], alice[&1]);
    }
    assert_eq!(relay.client().await.get(&alice[&1]).await.body, b"no mark in it");
    let code = KeyRing::parse(&format!("{}{}", Key::new(2, [9; 32]).to_line(), ring(4).current().to_line()));
    relay.handle.rekey(Keys::new(ring(1), ring(2), ring(3), code.unwrap(), &ring(5)));
    assert_eq!(paths(&relay, "alice", "cdn-video.m3u8").await, alice);
    assert_eq!(relay.client().await.get(&alice[&2]).await.status, 200);
}

/// Each address at the CDN with the token that it carries.
fn tokens(playlist: &str) -> Vec<(String, String)> {
    let uris = playlist.split(['\n', '"']).filter_map(|uri| uri.strip_prefix(CDN));
    uris.map(|uri| uri.split_once("?hdnts=").unwrap_or((uri, "")))
        .map(|(path, token)| (path.to_owned(), token.to_owned()))
        .collect()
}

/// Akamai's edges check what their own library makes of the same fields.
#[tokio::test]
async fn addresses_carry_the_token_that_akamais_edges_ask_for() {
    let mut keys = keys();
    let (current, old) = (Key::new(2, [0xed; 32]), Key::new(1, [0xab; 32]));
    keys.edge_auth = Some(KeyRing::parse(&format!("{}{}", current.to_line(), old.to_line())).unwrap());
    let change = |config: &mut Config| config.cdn_token = Some("hdnts".to_owned());
    let (relay, origin) = relay(Show::new("demo", 0..4), keys, change).await;
    let mut client = relay.client().await;
    let (mut said, mut made, mut listed) = (Vec::new(), Vec::new(), Vec::new());
    for viewer in ["alice", "bob"] {
        let session = relay.enter("demo", viewer).await;
        let mut of_session = BTreeSet::new();
        let mut of_number = BTreeMap::new();
        for (file, count) in [("cdn-video.m3u8", 5), ("cdn-audio.m3u8", 5), ("cdn-ts.m3u8", 4)] {
            let playlist = client.get(&format!("{session}/{file}")).await.text();
            let addresses = tokens(&playlist);
            assert_eq!(addresses.len(), count, "{playlist}");
            for (path, token) in addresses {
                // The relay behind the edge does not mind what the edge leaves in the query.
                assert_eq!(client.get(&format!("{path}?hdnts={token}")).await.status, 200, "{path}");
                of_session.insert(token.clone());
                of_number.insert(path, token);
            }
        }
        assert_eq!(of_session.len(), 1, "one token a session: {of_session:?}");
        let token = of_session.into_iter().next().unwrap();
        let fields: BTreeMap<&str, &str> =
            token.split('~').filter_map(|field| field.split_once('=')).collect();
        assert_eq!(fields.keys().copied().collect::<Vec<_>>(), ["acl", "exp", "hmac", "id"], "{token}");
        assert_eq!(fields["acl"], "/tv/cdn/demo/*");
        let until: u64 = fields["exp"].parse().unwrap();
        assert!((until - now_unix_s()).abs_diff(12 * 3600) < 60, "as long as the viewer may watch: {until}");
        said.push(json!({"endTime": until, "sessionId": fields["id"], "acl": fields["acl"]}).to_string());
        made.push(token);
        listed.push((session, of_number));
    }
    // What is listed stays as it is.
    origin.put(Show::new("demo", 0..6));
    for (session, before) in listed {
        let mut later = Vec::new();
        until("the next segments are listed", async || {
            later = tokens(&client.get(&format!("{session}/cdn-video.m3u8")).await.text());
            later.len() == 7
        })
        .await;
        let same = later.iter().filter(|(path, token)| before.get(path) == Some(token)).count();
        assert_eq!(same, 5, "{later:?}");
    }
    assert_ne!(made[0], made[1], "the CDN's log tells sessions apart");
    let arguments = [vec!["ed".repeat(32)], said.clone()].concat();
    if let Some(theirs) = npm(Path::new("edge.cjs"), &arguments) {
        assert_eq!(serde_json::from_slice::<Vec<String>>(&theirs).unwrap(), made);
    }
}

#[tokio::test]
async fn tokens_for_edges_need_a_key() {
    let origin = FakeOrigin::start().await;
    let mut config = config(&[origin.url()]);
    config.cdn_url = Some(CDN.to_owned());
    config.cdn_token = Some("hdnts".to_owned());
    let state = Arc::new(Memory::default());
    let refused = releve_relay::start_with(config, keys(), state.clone(), state).await.err();
    assert_eq!(refused, Some(StartError::EdgeAuthKey));
}
