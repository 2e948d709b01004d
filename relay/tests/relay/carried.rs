//! Sessions in the query: the way of a player that follows the URIs it is given, and what is refused on it.

use crate::common::*;
use releve_relay::route::SessionIn;

#[tokio::test]
async fn a_player_that_follows_its_uris_sees_the_stream() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let mut config = config(&[origin.url()]);
    config.session_in = SessionIn::Query;
    let relay = Relay::with(config).await;
    let mut client = relay.client().await;
    let entered = client.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    let index = entered.header("location").unwrap().to_owned();
    let query = index.strip_prefix("/q/index.m3u8?").unwrap().to_owned();
    let multivariant = client.get(&index).await;
    assert_eq!((multivariant.status, multivariant.header("etag")), (200, None));
    assert_eq!(multivariant.header("cache-control"), Some("private, no-cache"));
    let uris = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
        let attributes = text
            .lines()
            .filter(|line| line.starts_with('#'))
            .filter_map(|line| Some(line.split("URI=\"").nth(1)?.split('"').next()?.to_owned()));
        lines.chain(attributes).collect()
    };
    let (mut seen, mut to_see) = (Vec::new(), uris(&multivariant.text()));
    while let Some(uri) = to_see.pop() {
        assert!(uri.ends_with(&format!("?{query}")), "{uri}");
        // As a browser asks: a text that carries a session is not in gzip.
        let answer = client.ask("GET", &format!("/q/{uri}"), "accept-encoding: gzip\r\n").await;
        assert_eq!(answer.status, 200, "{uri}");
        let path = uri.split('?').next().unwrap().to_owned();
        if path.ends_with(".m3u8") {
            to_see.extend(uris(&answer.text()));
        } else if let Some(number) = path.strip_prefix("video/").and_then(|name| name.strip_suffix(".m4s")) {
            assert_eq!(answer.body, copy_for(&marked(number.parse().unwrap(), 40), "alice"));
        }
        seen.push(path);
        let bare = client.get(&format!("/q/{}", seen.last().unwrap())).await;
        assert_eq!((bare.status, bare.body.len()), (403, 0), "without the session");
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.iter().filter(|path| path.ends_with(".m4s")).count(), 6, "{seen:?}");
    assert_eq!(seen.iter().filter(|path| path.ends_with(".mp4")).count(), 2, "{seen:?}");
    for target in [
        format!("/q/video.m3u8?{query}x"),
        "/q/video.m3u8?s=".to_owned(),
        "/q/nobody?s=x".to_owned(),
        format!("/q/video.m3u8?{query}&token=x"),
    ] {
        assert_eq!(client.get(&target).await.status, 403, "{target}");
    }
    assert_eq!(client.get(&format!("/q/video.m3u8?{query}&{query}")).await.status, 400);
    assert_eq!(client.get(&format!("/q/nothing?{query}")).await.status, 404);
    let head = client.ask("HEAD", &index, "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}
