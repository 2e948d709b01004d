//! A viewer's way: token, session, playlists, objects; and each viewer's own variants.

use crate::common::*;
use flate2::read::GzDecoder;
use releve_state::ledger::Ledger;
use std::io::Read;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn a_viewer_comes_in_and_gets_everything_the_playlists_name() {
    let origin = FakeOrigin::start().await;
    let show = Show::new("demo", 7..12);
    let snapshot = show.snapshot.clone();
    origin.put(show);
    let relay = Relay::start(&[&origin]).await;
    let mut client = relay.client().await;

    let entered = client.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    assert_eq!(entered.status, 302);
    assert_eq!(entered.header("cache-control"), Some("no-store"));
    assert_eq!(entered.header("referrer-policy"), Some("no-referrer"));
    let location = entered.header("location").unwrap().to_owned();
    assert!(location.starts_with("/v/"), "{location}");
    let recorded = relay.state.sessions_of("alice").await.unwrap();
    assert_eq!(recorded.len(), 1, "the ledger has the session before the viewer knows it");
    assert_eq!((recorded[0].watermark_id, recorded[0].code_key), (mark_of("alice"), 1));
    assert_eq!(recorded[0].relay, "relay-test");

    let index = client.get(&location).await;
    assert_eq!(index.status, 200);
    assert_eq!(index.header("content-type"), Some("application/vnd.apple.mpegurl"));
    assert_eq!(index.header("cache-control"), Some("private, no-cache"));
    assert_eq!(index.header("access-control-allow-origin"), Some("*"));
    assert_eq!(index.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(index.text(), ingest_api::playlist::index(&snapshot).unwrap());

    let session = location.strip_suffix("/index.m3u8").unwrap();
    let playlists =
        [("video.m3u8", "video/mp4", 6), ("audio.m3u8", "audio/mp4", 6), ("ts.m3u8", "video/mp2t", 5)];
    for (playlist, content_type, count) in playlists {
        let media = client.get(&format!("{session}/{playlist}")).await;
        assert_eq!(media.status, 200);
        let text = media.text();
        let uris = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
        let maps = text.lines().filter_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")?.strip_suffix('"'));
        let uris: Vec<String> = maps.map(str::to_owned).chain(uris).collect();
        assert_eq!(uris.len(), count);
        for uri in uris {
            let object = client.get(&format!("{session}/{uri}")).await;
            assert_eq!(object.status, 200, "{uri}");
            assert_eq!(object.header("content-type"), Some(content_type));
            assert_eq!(object.header("cache-control"), Some("private, max-age=31536000, immutable"));
            assert_eq!(object.header("etag"), None);
            assert!(!object.body.is_empty());
        }
    }
    let head = client.ask("HEAD", &format!("{session}/video/7.m4s"), "").await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some(marked(7, 40).len().to_string().as_str()))
    );
    let missing = client.get(&format!("{session}/video/3.m4s")).await;
    assert_eq!((missing.status, missing.body.len()), (404, 0));
    relay.handle.stop().await;
}

/// A further audio track is asked for, and kept from strangers, as everything else.
#[tokio::test]
async fn a_further_audio_track_is_a_rendition_of_its_own() {
    let origin = FakeOrigin::start().await;
    let (mut show, track) = (Show::new("demo", 7..12), ingest_api::Track::ALL[2]);
    for segment in &mut show.snapshot.segments {
        let object = ingest_api::Object::plain(format!("second sound of {}", segment.number).into());
        let (len, sha256) = (object.len() as u64, ingest_api::window::Sha256::of(&object.encode()));
        let entry = ingest_api::window::SegmentTrack { track, len, sha256, ..segment.tracks[1].clone() };
        segment.tracks.push(entry);
        show.objects.push((format!("/origin/1/streams/demo/audio2/{}", segment.number), object));
    }
    let info = show.snapshot.tracks[1].clone();
    show.snapshot.tracks.push(ingest_api::window::TrackInfo { track, ..info });
    let snapshot = show.snapshot.clone();
    origin.put(show);
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let index = client.get(&format!("{session}/index.m3u8")).await.text();
    assert!(
        index == ingest_api::playlist::index(&snapshot).unwrap() && index.contains("audio2.m3u8"),
        "{index}"
    );
    let media = client.get(&format!("{session}/audio2.m3u8")).await.text();
    assert!(media.contains("audio2/11.m4s"), "{media}");
    let map =
        media.lines().find_map(|line| line.strip_prefix("#EXT-X-MAP:URI=\"")?.strip_suffix('"')).unwrap();
    let init = client.get(&format!("{session}/{map}")).await;
    assert_eq!((init.status, init.text().as_str()), (200, "init of audio"), "one for both");
    for (path, body) in [("audio2/9.m4s", "second sound of 9"), ("audio/9.m4s", "sound of 9")] {
        let object = client.get(&format!("{session}/{path}")).await;
        assert_eq!((object.status, object.text().as_str()), (200, body));
        assert_eq!(object.header("content-type"), Some("audio/mp4"));
    }
    for absent in ["audio3.m3u8", "audio3/9.m4s", "audio1/9.m4s", "audio2/3.m4s"] {
        assert_eq!(client.get(&format!("{session}/{absent}")).await.status, 404, "{absent}");
    }
    let other = format!("{}x", session);
    for path in ["audio2.m3u8", "audio2/9.m4s", map] {
        let (own, strange) =
            (client.get(&format!("{other}/{path}")).await, client.get(&format!("{other}/video.m3u8")).await);
        assert_eq!(own.status, strange.status, "as to any stranger");
        assert_ne!(own.status, 200);
    }
    relay.handle.stop().await;
}

/// A further encoding is a variant of its own, kept from strangers, and of a marked one each viewer has their own bytes: symbol n of
/// the picture's GOP is that of its slice n, as many as it has.
#[tokio::test]
async fn a_further_encoding_is_a_variant_and_marked_as_the_picture_is() {
    let origin = FakeOrigin::start().await;
    let show = Show::new("demo", 7..12).laddered();
    let snapshot = show.snapshot.clone();
    origin.put(show);
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let another = relay.enter("demo", "bob").await;
    let mut client = relay.client().await;
    let index = client.get(&format!("{session}/index.m3u8")).await.text();
    assert_eq!(index, ingest_api::playlist::index(&snapshot).unwrap());
    assert!(index.contains("RESOLUTION=640x360") && index.ends_with("\nvideo2.m3u8\n"), "{index}");
    let media = client.get(&format!("{session}/video2.m3u8")).await.text();
    assert!(media.contains("video2/11.m4s"), "{media}");
    let mut differ = 0;
    for number in 7..12 {
        let mut bodies = Vec::new();
        for (session, viewer) in [(&session, "alice"), (&another, "bob")] {
            let own = client.get(&format!("{session}/video2/{number}.m4s")).await;
            assert_eq!((own.status, own.header("content-type")), (200, Some("video/mp4")));
            assert_eq!(own.body, copy_for(&smaller(number), viewer), "by the symbols of the picture's GOP");
            bodies.push(own.body);
        }
        differ += usize::from(bodies[0] != bodies[1]);
    }
    assert!(differ > 0, "two viewers have other slices");
    for absent in ["video3.m3u8", "video3/9.m4s", "video1/9.m4s", "video2/3.m4s"] {
        assert_eq!(client.get(&format!("{session}/{absent}")).await.status, 404, "{absent}");
    }
    let other = format!("{session}x");
    let strange = client.get(&format!("{other}/video.m3u8")).await.status;
    assert_ne!(strange, 200);
    for path in ["video2.m3u8", "video2/9.m4s"] {
        assert_eq!(client.get(&format!("{other}/{path}")).await.status, strange, "as to any stranger");
    }
    relay.handle.stop().await;
}

#[tokio::test]
async fn a_playlist_comes_in_gzip_to_who_takes_it() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..9));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    for playlist in ["index.m3u8", "video.m3u8", "audio.m3u8", "ts.m3u8"] {
        let target = format!("{session}/{playlist}");
        let plain = client.ask("GET", &target, "accept-encoding: gzip;q=0, identity\r\n").await;
        let coded = client.ask("GET", &target, "accept-encoding: gzip, deflate, br\r\n").await;
        assert_eq!(
            (plain.header("content-encoding"), coded.header("content-encoding")),
            (None, Some("gzip"))
        );
        assert_eq!(
            (plain.header("vary"), coded.header("vary")),
            (Some("accept-encoding"), Some("accept-encoding"))
        );
        let mut text = String::new();
        GzDecoder::new(&*coded.body).read_to_string(&mut text).unwrap();
        assert_eq!(text, plain.text());
        assert!(coded.body.len() < plain.body.len(), "{} of {}", coded.body.len(), plain.body.len());
        // Each has a tag of its own: what is held in the one coding is not new in it alone.
        let tags = [plain.header("etag").unwrap(), coded.header("etag").unwrap()];
        assert_ne!(tags[0], tags[1]);
        for (tag, coding, status) in
            [(tags[0], "", 304), (tags[1], "gzip", 304), (tags[0], "gzip", 200), (tags[1], "", 200)]
        {
            let fields = format!("if-none-match: {tag}\r\naccept-encoding: {coding}\r\n");
            assert_eq!(client.ask("GET", &target, &fields).await.status, status, "{tag} {coding}");
        }
    }
    // What nobody can make smaller goes as it is.
    let object = client.ask("GET", &format!("{session}/video/3.m4s"), "accept-encoding: gzip\r\n").await;
    assert_eq!(object.header("content-encoding"), None);
    assert_eq!(object.body, copy_for(&marked(3, 40), "alice"));
}

#[tokio::test]
async fn mpeg_ts_has_a_way_in_of_its_own_and_the_same_choice_of_slices() {
    let origin = FakeOrigin::start().await;
    let show = Show::new("demo", 0..6);
    let playlist = ingest_api::playlist::mpeg_ts(&show.snapshot).unwrap();
    let route = ts_route("demo", &show.snapshot.segments[0]);
    origin.put(show);
    let relay = Relay::start(&[&origin]).await;
    let mut copies = Vec::new();
    for viewer in ["alice", "bob"] {
        let mut client = relay.client().await;
        let entered = client.get(&format!("/live/demo/ts.m3u8?token={}", token("demo", viewer))).await;
        assert_eq!(entered.status, 302);
        let location = entered.header("location").unwrap();
        assert_eq!(client.get(location).await.text(), playlist);
        let session = location.strip_suffix("/ts.m3u8").unwrap();
        let mut all = Vec::new();
        for number in 0..6 {
            let copy = client.get(&format!("{session}/ts/{number}.ts")).await;
            assert_eq!(copy.body, copy_for(&as_mpeg_ts(number, 40), viewer), "{viewer} {number}");
            all.extend(copy.body);
        }
        assert_eq!(client.get(&format!("{session}/ts/99.ts")).await.status, 404);
        copies.push(all);
    }
    assert!(copies[0] != copies[1], "48 symbols tell them apart");
    assert_eq!(origin.asked(&route), 1, "variants come from one object");
}

/// A relay fetches ahead what somebody watches, and nothing that nobody does.
#[tokio::test]
async fn the_next_segment_is_fetched_ahead_as_mpeg_ts_once_somebody_watches_that() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..6));
    let routes: Vec<_> =
        Show::new("demo", 0..7).snapshot.segments.iter().map(|segment| ts_route("demo", segment)).collect();
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    client.get(&format!("{session}/index.m3u8")).await;
    let soon = async |route: &str| {
        for _ in 0..200 {
            if origin.asked(route) > 0 {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    };
    assert!(soon("/origin/1/streams/demo/video/5").await);
    assert_eq!(origin.asked(&routes[5]), 0);
    assert_eq!(client.get(&format!("{session}/ts/5.ts")).await.status, 200);
    origin.put(Show::new("demo", 0..7));
    assert!(soon(&routes[6]).await);
}

#[tokio::test]
async fn every_viewer_gets_their_own_slices_whole_and_in_ranges() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::sized("demo", 0..6, 3_000));
    let relay = Relay::start(&[&origin]).await;
    let mut copies = Vec::new();
    for viewer in ["alice", "bob", "carol"] {
        let session = relay.enter("demo", viewer).await;
        let mut client = relay.client().await;
        let mut all = Vec::new();
        for number in 0..6 {
            let target = format!("{session}/video/{number}.m4s");
            let object = marked(number, 3_000);
            let expected = copy_for(&object, viewer);
            let whole = client.get(&target).await;
            assert_eq!(whole.body, expected, "{viewer} {number}");
            assert_eq!(whole.body.len(), object.len());
            let len = expected.len();
            for (start, end) in
                [(0, 1), (0, len), (10, 20), (2_990, 3_100), (1, len - 1), (len - 1, len), (5_000, 21_000)]
            {
                let part = client.ask("GET", &target, &format!("range: bytes={start}-{}\r\n", end - 1)).await;
                assert_eq!(part.status, 206);
                assert_eq!(
                    part.header("content-range"),
                    Some(format!("bytes {start}-{}/{len}", end - 1).as_str())
                );
                assert_eq!(part.body, &expected[start..end], "{viewer} {number} {start}..{end}");
            }
            let outside = client.ask("GET", &target, &format!("range: bytes={len}-\r\n")).await;
            assert_eq!((outside.status, outside.body.len()), (416, 0));
            assert_eq!(outside.header("content-range"), Some(format!("bytes */{len}").as_str()));
            let several = client.ask("GET", &target, "range: bytes=0-1,4-5\r\n").await;
            assert_eq!((several.status, several.body), (200, expected.clone()));
            all.extend(expected);
        }
        copies.push(all);
    }
    assert!(
        copies[0] != copies[1] && copies[1] != copies[2] && copies[0] != copies[2],
        "48 symbols tell them apart"
    );
    assert_eq!(origin.asked("/origin/1/streams/demo/video/0"), 1, "variants come from one object");
}

#[tokio::test]
async fn an_account_has_one_codeword_whatever_its_session() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let (first, second) = (relay.enter("demo", "alice").await, relay.enter("demo", "alice").await);
    assert_ne!(first, second);
    let mut client = relay.client().await;
    let a = client.get(&format!("{first}/video/1.m4s")).await;
    let b = client.get(&format!("{second}/video/1.m4s")).await;
    assert_eq!(a.body, b.body);
}

#[tokio::test]
async fn two_hundred_viewers_cost_one_flight() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    origin.object_delay(Duration::from_millis(100));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    relay.client().await.get(&format!("{session}/video.m3u8")).await;
    let mut viewers = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (session, mut client) = (session.clone(), relay.client().await);
        viewers.spawn(async move { client.get(&format!("{session}/video/2.m4s")).await });
    }
    let expected = copy_for(&marked(2, 40), "alice");
    while let Some(answer) = viewers.join_next().await {
        let answer = answer.unwrap();
        assert_eq!((answer.status, &answer.body), (200, &expected));
    }
    assert_eq!(origin.asked("/origin/1/streams/demo/video/2"), 1);
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_held_for_and_starts_by_itself() {
    let origin = FakeOrigin::start().await;
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    let asked = Instant::now();
    let offline = client.get(&format!("{session}/index.m3u8")).await;
    assert_eq!((offline.status, offline.header("retry-after")), (404, Some("2")));
    assert!(asked.elapsed() >= limits().playlist_hold, "{:?}", asked.elapsed());
    let held = tokio::spawn(async move { client.get(&format!("{session}/index.m3u8")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    origin.put(Show::new("demo", 0..3));
    let held = held.await.unwrap();
    assert_eq!(held.status, 200);
}

#[tokio::test]
async fn a_stream_whose_publisher_has_gone_lets_nobody_new_in_but_keeps_its_playlists() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{session}/index.m3u8")).await.status, 200);
    let mut gone = Show::new("demo", 0..3);
    gone.snapshot.live = false;
    gone.snapshot.version = 99;
    origin.put(gone);
    until("the index is gone", async || client.get(&format!("{session}/index.m3u8")).await.status == 404)
        .await;
    assert_eq!(client.get(&format!("{session}/video.m3u8")).await.status, 200);
    origin.put(Show::new("demo", 0..4));
    until("the index is back", async || client.get(&format!("{session}/index.m3u8")).await.status == 200)
        .await;
}

#[tokio::test]
async fn an_object_that_another_relay_listed_first_is_waited_for() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    client.get(&format!("{session}/video.m3u8")).await;
    let early = tokio::spawn(async move { client.get(&format!("{session}/video/3.m4s")).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    origin.put(Show::new("demo", 1..4));
    assert_eq!(early.await.unwrap().body, copy_for(&marked(3, 40), "alice"));
}

#[tokio::test]
async fn the_watch_page_opens_with_a_token_and_says_why_without() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let relay = Relay::start(&[&origin]).await;
    let mut client = relay.client().await;
    let mut pages = Vec::new();
    for name in ["demo", "nobody"] {
        let page = client.get(&format!("/watch/{name}?token={}", token(name, "alice"))).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(!page.text().contains("://"), "no outside links");
        pages.push(page.text().replace(name, "NAME"));
    }
    assert_eq!(pages[0], pages[1], "the page does not tell whether there is a stream");
    for asset in pages[0].split("\"/assets/").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        let file = client.get(&format!("/assets/{asset}")).await;
        assert_eq!((file.status, file.body.is_empty()), (200, false), "{asset}");
        assert_eq!(file.header("cache-control"), Some("public, max-age=31536000, immutable"));
    }
    assert!(pages[0].matches("/assets/").count() == 2);
    let refused = |name: &'static str, token: String| format!("/watch/{name}?token={token}");
    let expired = client.get(&refused("demo", token_until("demo", "alice", now_unix_s() - 1))).await;
    assert_eq!((expired.status, expired.header("releve-reason")), (403, Some("expired")));
    assert!(expired.text().contains("has expired"));
    let wrong = client.get(&refused("demo", token("other", "alice"))).await;
    assert_eq!((wrong.status, wrong.header("releve-reason")), (403, Some("denied")));
    let nobody = client.get(&refused("nobody", token("other", "alice"))).await;
    assert_eq!((nobody.status, nobody.body), (403, wrong.body), "nor does a refusal");
}
