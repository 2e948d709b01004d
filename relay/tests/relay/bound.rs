//! Sessions bound to an address and a player: whoever presents one from elsewhere is refused like a stranger.

use crate::common::http2::*;
use crate::common::stage::Stage;
use crate::common::*;
use client::Answer;
use releve_relay::Config;
use releve_relay::route::SessionIn;
use releve_relay::session::Binding;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

const ALL: Binding = Binding { address: true, agent: true };
const VLC: &str = "user-agent: VLC/3.0.21 LibVLC/3.0.21\r\n";
const HOME: [u8; 4] = [127, 0, 0, 1];
const NEIGHBOUR: [u8; 4] = [127, 0, 0, 99];
const AWAY: [u8; 4] = [127, 0, 1, 1];

async fn bound(change: impl FnOnce(&mut Config)) -> (Relay, FakeOrigin) {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let mut config = config(&[origin.url()]);
    config.session_bound_to = ALL;
    change(&mut config);
    (Relay::with(config).await, origin)
}

fn way_in() -> String {
    format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))
}

/// Where an admitted viewer is led, and the fields that they bring from then on.
fn led(entered: &Answer) -> (String, String) {
    assert_eq!(entered.status, 302);
    let cookie = entered.header("set-cookie").map(|set| set.split(';').next().unwrap());
    let fields = cookie.map_or(String::new(), |cookie| format!("cookie: {cookie}\r\n"));
    (entered.header("location").unwrap().to_owned(), fields)
}

fn said(answer: &Answer) -> (u16, Vec<(String, String)>, Vec<u8>) {
    let fields = answer.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
    (answer.status, fields, answer.body.clone())
}

fn denied(relay: &Relay, reason: &str) -> f64 {
    relay.metric(&format!("releve_relay_denied_total{{reason=\"{reason}\"}}")).unwrap_or(0.0)
}

#[tokio::test]
async fn a_url_a_query_and_a_cookie_open_for_their_viewer_only() {
    for session_in in [SessionIn::Path, SessionIn::Query, SessionIn::Cookie] {
        let (relay, _origin) = bound(|config| config.session_in = session_in).await;
        let at = relay.handle.listen;
        let entered = Client::from(HOME, at).await.ask("GET", &way_in(), VLC).await;
        let (index, fields) = led(&entered);
        let ask = async |source, agent: &str, index: &str, fields: &str| {
            Client::from(source, at).await.ask("GET", index, &format!("{fields}{agent}")).await
        };
        for source in [HOME, NEIGHBOUR] {
            assert_eq!(ask(source, VLC, &index, &fields).await.status, 200, "{session_in:?}");
        }
        // What somebody gets who made it up.
        let last = |text: &str| {
            let at = text.rfind("/index").filter(|_| session_in == SessionIn::Path).unwrap_or(text.len()) - 1;
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            format!("{}{other}{}", &text[..at], &text[at + 1..])
        };
        let (false_index, false_fields) = match session_in {
            SessionIn::Cookie => (index.clone(), format!("{}\r\n", last(fields.trim_end()))),
            _ => (last(&index), fields.clone()),
        };
        let stranger = ask(HOME, VLC, &false_index, &false_fields).await;
        assert_eq!((stranger.status, stranger.header("releve-reason")), (403, Some("denied")));
        let strangers = denied(&relay, "session");
        let curl = "user-agent: curl/8.14\r\n";
        let twice = VLC.repeat(2);
        for (source, agent) in [(AWAY, VLC), (AWAY, curl), (HOME, curl), (HOME, ""), (HOME, &twice)] {
            let refused = ask(source, agent, &index, &fields).await;
            assert_eq!(said(&refused), said(&stranger), "{session_in:?} {source:?} {agent}");
        }
        assert_eq!((denied(&relay, "address"), denied(&relay, "agent")), (2.0, 3.0));
        assert_eq!(denied(&relay, "session"), strangers);
    }
}

#[tokio::test]
async fn nothing_is_bound_unless_it_is_said() {
    let (relay, _origin) = bound(|config| config.session_bound_to = Binding::default()).await;
    let (index, _) = led(&Client::from(HOME, relay.handle.listen).await.ask("GET", &way_in(), VLC).await);
    assert_eq!(Client::from(AWAY, relay.handle.listen).await.get(&index).await.status, 200);
}

/// A request that is held, and one that waits for an object, are looked at again with all that they came with.
#[tokio::test]
async fn a_bound_viewer_may_wait() {
    let low_latency = |next: u64| {
        let mut show = Show::new("demo", 0..next);
        show.snapshot.part_90k = 45_000;
        show
    };
    let (relay, origin) = bound(|config| config.limits.playlist_hold = Duration::from_secs(3)).await;
    origin.put(low_latency(6));
    let mut client = relay.client().await;
    let (index, _) = led(&client.ask("GET", &way_in(), VLC).await);
    let session = index.strip_suffix("/index.m3u8").unwrap();
    assert_eq!(client.ask("GET", &index, VLC).await.status, 200);
    let segment = client.ask("GET", &format!("{session}/video/4.m4s"), VLC).await;
    assert_eq!(segment.body, copy_for(&marked(4, 40), "alice"));
    let reload = format!("{session}/video.m3u8?_HLS_msn=6");
    let (playlist, ()) = tokio::join!(client.ask("GET", &reload, VLC), async {
        sleep(Duration::from_millis(200)).await;
        origin.put(low_latency(7));
    });
    assert!(playlist.status == 200 && playlist.text().contains("video/6.m4s"), "{playlist:?}");
}

#[tokio::test]
async fn behind_a_proxy_the_address_is_the_one_it_names() {
    let listed = |config: &mut Config| {
        config.trusted_proxies = vec!["127.0.0.1".to_owned()].try_into().unwrap();
    };
    let (relay, _origin) = bound(listed).await;
    let mut proxy = relay.client().await;
    let fields = |source: &str| format!("x-forwarded-for: {source}\r\n{VLC}");
    let (index, _) = led(&proxy.ask("GET", &way_in(), &fields("192.0.2.1")).await);
    for (source, status) in [
        ("192.0.2.1", 200),
        ("203.0.113.1, 192.0.2.200, 127.0.0.1", 200),
        ("192.0.2.1, 203.0.113.1", 403),
        ("2001:db8::1", 403),
    ] {
        assert_eq!(proxy.ask("GET", &index, &fields(source)).await.status, status, "{source}");
    }
    // One that names nobody speaks for itself, whoever it named before.
    assert_eq!(proxy.ask("GET", &index, &fields("192.0.2.1")).await.status, 200);
    assert_eq!(proxy.ask("GET", &index, VLC).await.status, 403);
    // And who is no proxy names nobody.
    let mut other = Client::from(AWAY, relay.handle.listen).await;
    assert_eq!(other.ask("GET", &index, &fields("192.0.2.1")).await.status, 403);
    // A home's IPv6 network, in another spelling and another subnet.
    let (index, _) = led(&proxy.ask("GET", &way_in(), &fields("2001:db8:0:100::1")).await);
    assert_eq!(proxy.ask("GET", &index, &fields("[2001:db8::1ff:1:2:3:4]:9")).await.status, 200);
    assert_eq!(proxy.ask("GET", &index, &fields("2001:db8:0:200::1")).await.status, 403);
}

async fn from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(to).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_it_is_no_different() {
    let stage = Stage::with(Show::new("demo", 0..3), |config| {
        (config.http2, config.session_bound_to) = (true, ALL);
        // One that passes bytes on: its connections begin with whose they are.
        config.trusted_proxies = vec!["127.0.9.9".to_owned()].try_into().unwrap();
        config.proxy_protocol = true;
    })
    .await;
    let introduced = async |source: &str| {
        let mut socket = from([127, 0, 9, 9], stage.address()).await;
        let line = format!("PROXY TCP4 {source} 127.0.0.1 5000 443\r\n");
        socket.write_all(line.as_bytes()).await.unwrap();
        Viewer::over(socket).await
    };
    let vlc = VLC.trim_end().split_once(": ").unwrap();
    let entered = introduced("127.0.0.5").await.ask("GET", &way_in(), &[vlc]).await.unwrap();
    let (index, _) = led(&entered);
    let (home, away) = (introduced("127.0.0.6").await, introduced("192.0.2.1").await);
    assert_eq!(home.ask("GET", &index, &[vlc]).await.unwrap().status, 200);
    for refused in [
        home.ask("GET", &index, &[("user-agent", "curl/8.14")]).await.unwrap(),
        home.ask("GET", &index, &[]).await.unwrap(),
        home.ask("GET", &index, &[vlc, vlc]).await.unwrap(),
        away.ask("GET", &index, &[vlc]).await.unwrap(),
    ] {
        assert_eq!((refused.status, refused.header("releve-reason")), (403, Some("denied")));
    }
    // By another way, over the other version of HTTP.
    assert_eq!(
        Viewer::over(from(NEIGHBOUR, stage.address()).await)
            .await
            .ask("GET", &index, &[vlc])
            .await
            .unwrap()
            .status,
        200
    );
    assert_eq!(
        Viewer::over(from(AWAY, stage.address()).await)
            .await
            .ask("GET", &index, &[vlc])
            .await
            .unwrap()
            .status,
        403
    );
    let mut plain = Client::from(NEIGHBOUR, stage.relay.handle.listen).await;
    assert_eq!(plain.ask("GET", &index, VLC).await.status, 200);
    assert_eq!((denied(&stage.relay, "address"), denied(&stage.relay, "agent")), (2.0, 3.0));
}
