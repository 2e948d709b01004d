//! Sessions in a cookie: what a browser keeps opens its stream and no other. Over HTTP/2: `http2`.

use crate::common::*;
use releve_relay::route::SessionIn;

/// A relay that leads viewers to cookies; its origin lives as long.
async fn keeping(public_url: Option<&str>) -> (Relay, FakeOrigin) {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    origin.put(Show::new("stage", 0..3));
    let mut config = config(&[origin.url()]);
    config.session_in = SessionIn::Cookie;
    config.public_url = public_url.map(str::to_owned);
    (Relay::with(config).await, origin)
}

#[tokio::test]
async fn a_browser_sees_the_stream_that_its_cookie_is_of() {
    let (relay, _origin) = keeping(None).await;
    let mut client = relay.client().await;
    let mut cookies = Vec::new();
    for stream in ["demo", "stage"] {
        let token = token(stream, "alice");
        let entered = client.get(&format!("/live/{stream}/index.m3u8?token={token}")).await;
        assert_eq!(entered.header("location"), Some(format!("/c/{stream}/index.m3u8").as_str()));
        let set = entered.header("set-cookie").unwrap().to_owned();
        assert!(
            set.contains(&format!("; Path=/c/{stream}/;")) && set.contains("; HttpOnly; SameSite=Lax"),
            "{set}"
        );
        assert!(!set.contains("Secure"), "this one speaks without TLS too");
        cookies.push(set.split(';').next().unwrap().to_owned());
    }
    let fields = |cookie: &str| format!("cookie: a=b; {cookie}\r\n");
    for path in ["index.m3u8", "video.m3u8", "audio.m3u8", "video/1.m4s"] {
        let answer = client.ask("GET", &format!("/c/demo/{path}"), &fields(&cookies[0])).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("set-cookie"), None);
        if path == "video/1.m4s" {
            assert_eq!(answer.body, copy_for(&marked(1, 40), "alice"));
        } else {
            assert!(!answer.text().contains(&cookies[0][7..]), "playlists are the same for all");
        }
    }
    let both = format!("{}; {}", cookies[0], cookies[1]);
    let twice = [fields(&cookies[0]), fields(&cookies[0])].concat();
    let strange = [
        String::new(),
        fields("releve="),
        fields(&cookies[1]),
        fields(&both),
        fields(&format!("{}x", cookies[0])),
        twice,
    ];
    for fields in strange {
        let answer = client.ask("GET", "/c/demo/video/1.m4s", &fields).await;
        assert_eq!((answer.status, answer.body.len()), (403, 0), "{fields}");
    }
    let answer = client.ask("GET", "/c/demo/video/1.m4s?token=x", &fields(&cookies[0])).await;
    assert_eq!(answer.status, 403, "two credentials");
    assert_eq!(client.ask("GET", "/c/demo/nothing", &fields(&cookies[0])).await.status, 404);
}

#[tokio::test]
async fn where_all_come_by_tls_the_cookie_stays_there() {
    let (relay, _origin) = keeping(Some("https://tv.example.org")).await;
    let mut client = relay.client().await;
    let entered = client.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    assert!(entered.header("set-cookie").unwrap().ends_with("; Secure"));
}
