//! Viewers who speak HTTP/2: the same answers as over HTTP/1.1, revocation under way, and those who mean ill.

use crate::common::secure::*;
use crate::common::*;
use bytes::Bytes;
use client::Answer;
use h2::client::SendRequest;
use releve_relay::io::config::SessionIn;
use releve_relay::{Config, Limits};
use releve_state::coordinator::{Coordinator, Revocation};
use rustls::ClientConfig;
use rustls::version::TLS13;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;

struct Stage {
    origin: FakeOrigin,
    relay: Relay,
    dir: TempDir,
}

impl Stage {
    async fn with(show: Show, change: impl FnOnce(&mut Config)) -> Stage {
        let origin = FakeOrigin::start().await;
        origin.put(show);
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), "first.pem", "first.key");
        let mut config = config(&[origin.url()]);
        listens(&mut config, dir.path());
        config.http2 = true;
        change(&mut config);
        Stage { relay: Relay::with(config).await, origin, dir }
    }

    async fn limited(show: Show, limits: impl FnOnce(&mut Limits)) -> Stage {
        Stage::with(show, |config| limits(&mut config.limits)).await
    }

    fn address(&self) -> SocketAddr {
        self.relay.handle.tls_listen.unwrap()
    }

    /// Lets a viewer in, so that the stream is known and the segment is held; gives the path of their session.
    async fn enter(&self, viewer: &str) -> String {
        let session = self.relay.enter("demo", viewer).await;
        let mut client = self.relay.client().await;
        assert_eq!(client.get(&format!("{session}/index.m3u8")).await.status, 200);
        assert_eq!(client.get(&format!("{session}/video/1.m4s")).await.status, 200);
        session
    }

    fn ended(&self, why: &str) -> f64 {
        self.relay.metric(&format!("releve_relay_http2_ended_total{{reason=\"{why}\"}}")).unwrap_or(0.0)
    }

    async fn nobody_is_there(&self) {
        until("nobody is there", async || self.relay.metric("releve_relay_connections").unwrap() == 0.0)
            .await;
    }
}

fn offering(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = (*client(&[&TLS13])).clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// A viewer with a connection of their own.
struct Viewer {
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Viewer {
    async fn connect(address: SocketAddr) -> Viewer {
        Viewer::with_window(address, 1 << 20).await
    }

    async fn with_window(address: SocketAddr, window: u32) -> Viewer {
        let connector = TlsConnector::from(offering(&[b"h2", b"http/1.1"]));
        let socket = TcpStream::connect(address).await.unwrap();
        let stream = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(window)
            .handshake(stream)
            .await
            .unwrap();
        Viewer { send, connection: tokio::spawn(connection) }
    }

    async fn ask(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> Result<Answer, h2::Error> {
        let mut request = http::Request::builder().method(method).uri(format!("https://localhost{target}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await?;
        let (response, _) = send.send_request(request.body(()).unwrap(), true)?;
        let (head, mut body) = response.await?.into_parts();
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let mut answer = Answer { status: head.status.as_u16(), headers, body: Vec::new() };
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    async fn get(&self, target: &str) -> Answer {
        timeout(Duration::from_secs(15), self.ask("GET", target, &[])).await.unwrap().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_viewers_on_one_relay_get_their_own_slices() {
    let stage = Stage::limited(Show::sized("demo", 0..6, 40_000), |_| {}).await;
    let mut watching = Vec::new();
    for name in ["alice", "bob"] {
        let (session, viewer) = (stage.enter(name).await, Arc::new(Viewer::connect(stage.address()).await));
        // All at once on one connection.
        for number in 0..6 {
            let (viewer, target) = (viewer.clone(), format!("{session}/video/{number}.m4s"));
            watching.push(tokio::spawn(async move {
                for _ in 0..5 {
                    assert!(viewer.get(&target).await.body == copy_for(&marked(number, 40_000), name));
                }
            }));
        }
        // By the way in, too.
        let entered = viewer.get(&format!("/live/demo/index.m3u8?token={}", token("demo", name))).await;
        assert_eq!(entered.status, 302);
        let index = viewer.get(entered.header("location").unwrap()).await;
        assert!(index.status == 200 && index.text().starts_with("#EXTM3U"));
    }
    for viewer in watching {
        viewer.await.unwrap();
    }
    assert_ne!(copy_for(&marked(1, 40_000), "alice"), copy_for(&marked(1, 40_000), "bob"));
}

/// One decision for both versions: status, fields and body are the same, whatever is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_comes_in_crumbs() {
    let stage = Stage::with(Show::new("demo", 0..3), |config| config.session_in = SessionIn::Cookie).await;
    let viewer = Viewer::connect(stage.address()).await;
    let entered = viewer.get(&format!("/live/demo/index.m3u8?token={}", token("demo", "alice"))).await;
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let ask = async |crumbs: &[&str]| {
        let fields: Vec<_> = crumbs.iter().map(|crumb| ("cookie", *crumb)).collect();
        viewer.ask("GET", "/c/demo/video/1.m4s", &fields).await.unwrap()
    };
    assert_eq!(ask(&["a=b", &cookie, "c=d"]).await.body, copy_for(&marked(1, 40), "alice"));
    for crumbs in [&["a=b"][..], &[&cookie, &cookie]] {
        assert_eq!(ask(crumbs).await.status, 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_the_other_version() {
    let stage = Stage::limited(Show::sized("demo", 0..4, 3_000), |_| {}).await;
    let session = stage.enter("alice").await;
    let viewer = Viewer::connect(stage.address()).await;
    let mut other = stage.relay.client().await;
    let etag = viewer.get(&format!("{session}/video.m3u8")).await.header("etag").unwrap().to_owned();
    let long = format!("/{}", "x".repeat(9000));
    let (playlist, segment) = (format!("{session}/video.m3u8"), format!("{session}/video/1.m4s"));
    for (method, target, fields) in [
        ("GET", playlist.as_str(), vec![]),
        ("HEAD", &playlist, vec![]),
        ("GET", &playlist, vec![("if-none-match", etag.as_str())]),
        ("GET", &playlist, vec![("range", "bytes=0-3")]),
        ("GET", &segment, vec![]),
        ("HEAD", &segment, vec![]),
        ("GET", &segment, vec![("range", "bytes=7-20000")]),
        ("GET", &segment, vec![("range", "bytes=-1")]),
        ("GET", &segment, vec![("range", "bytes=99999999-")]),
        ("GET", &segment, vec![("range", "bytes=0-1"), ("if-range", "\"x\"")]),
        ("GET", &segment, vec![("expect", "100-continue")]),
        ("OPTIONS", &segment, vec![]),
        ("POST", &segment, vec![]),
        ("GET", "/v/none/video.m3u8", vec![]),
        ("GET", "/live/demo/index.m3u8?token=x", vec![]),
        ("GET", "/watch/demo?token=x", vec![]),
        ("GET", "/", vec![]),
        ("GET", "/a//b", vec![]),
        ("GET", "/%2e", vec![]),
        ("GET", &long, vec![]),
    ] {
        let two =
            timeout(Duration::from_secs(5), viewer.ask(method, target, &fields)).await.unwrap().unwrap();
        let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let one = other.ask(method, target, &lines).await;
        let comparable = |answer: &Answer| {
            let connection = ["date", "connection"];
            let mut fields: Vec<_> = answer
                .headers
                .iter()
                .filter(|(name, _)| !connection.contains(&name.as_str()))
                .cloned()
                .collect();
            fields.sort();
            (answer.status, fields)
        };
        assert_eq!(comparable(&two), comparable(&one), "{method} {target} {fields:?}");
        assert!(two.body == one.body && two.header("date").is_some(), "{method} {target} {fields:?}");
        if one.header("connection") == Some("close") {
            other = stage.relay.client().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_wait_together_for_the_segment_they_name() {
    let low_latency = |next: u64| {
        let mut show = Show::new("demo", 0..next);
        show.snapshot.part_90k = 45_000;
        show
    };
    let stage = Stage::limited(low_latency(6), |limits| limits.playlist_hold = Duration::from_secs(3)).await;
    let session = stage.enter("alice").await;
    let viewer = Arc::new(Viewer::connect(stage.address()).await);
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (viewer, target) = (viewer.clone(), format!("{session}/video.m3u8?_HLS_msn=6"));
        held.spawn(async move { viewer.get(&target).await });
    }
    sleep(Duration::from_millis(200)).await;
    assert!(held.try_join_next().is_none(), "it is not there yet");
    let came = Instant::now();
    stage.origin.put(low_latency(7));
    for playlist in held.join_all().await {
        assert!(playlist.status == 200 && playlist.text().contains("video/6.m4s"));
    }
    assert!(came.elapsed() < Duration::from_secs(1), "{:?}", came.elapsed());
}

async fn revoke(stage: &Stage, viewer: &str) {
    let revocation = Revocation { viewer: viewer.into(), at_unix_s: now_unix_s() };
    stage.relay.state.revoke(revocation).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_viewer_gets_no_byte_more_in_a_running_stream() {
    let big = |limits: &mut Limits| {
        limits.object_hold = Duration::from_secs(5);
        limits.origin_patience = Duration::from_secs(3);
        limits.playlist_hold = Duration::from_secs(3);
    };
    let mut show = Show::sized("demo", 0..3, 1 << 20);
    show.snapshot.part_90k = 45_000; // with blocking reload
    let stage = Stage::limited(show, big).await;
    let (session, other) = (stage.enter("alice").await, stage.enter("bob").await);
    let viewer = Viewer::with_window(stage.address(), 64 << 10).await;
    let request = |target: String| http::Request::get(format!("https://localhost{target}")).body(()).unwrap();
    let mut send = viewer.send.clone().ready().await.unwrap();
    let (response, _) = send.send_request(request(format!("{session}/video/1.m4s")), true).unwrap();
    let mut body = response.await.unwrap().into_body();
    // It is taken slowly, and well beyond what is in the buffers when the revocation comes.
    let (mut got, mut last, mut revoked) = (0, Instant::now(), None);
    let error = loop {
        match timeout(Duration::from_secs(10), body.data()).await.unwrap() {
            Some(Ok(chunk)) => {
                (got, last) = (got + chunk.len(), Instant::now());
                body.flow_control().release_capacity(chunk.len()).unwrap();
                if got > 300_000 && revoked.is_none() {
                    revoke(&stage, "alice").await;
                    revoked = Some(Instant::now());
                }
                sleep(Duration::from_millis(5)).await;
            }
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    assert!(error.is_some() && got < 4 << 20, "{got} bytes");
    assert!(last - revoked.unwrap() < Duration::from_secs(5));
    assert!(viewer.connection.await.unwrap().is_err(), "reset, with what was under way");
    assert_eq!((stage.ended("cut"), stage.relay.metric("releve_relay_bodies_cut_total")), (1.0, Some(1.0)));
    let viewer = Viewer::connect(stage.address()).await;
    assert_eq!(viewer.get(&format!("{session}/video.m3u8")).await.status, 403);
    assert!(viewer.get(&format!("{other}/video/1.m4s")).await.body == copy_for(&marked(1, 1 << 20), "bob"));
    // One who is waiting has their answer at once.
    let waiting = stage.relay.enter("nothing", "carol").await;
    let target = format!("{waiting}/index.m3u8");
    let waits = viewer.ask("GET", &target, &[]);
    let (answer, ()) = tokio::join!(waits, async {
        sleep(Duration::from_millis(100)).await;
        revoke(&stage, "carol").await;
    });
    assert_eq!(answer.unwrap().status, 403);
    // So has one who watched before, on the same connection.
    let viewer = Viewer::connect(stage.address()).await;
    assert_eq!(viewer.get(&format!("{other}/audio/1.m4s")).await.status, 200);
    sleep(Duration::from_millis(2500)).await;
    let target = format!("{other}/video.m3u8?_HLS_msn=3");
    let waits = viewer.ask("GET", &target, &[]);
    let (answer, ()) = tokio::join!(waits, async {
        sleep(Duration::from_millis(100)).await;
        revoke(&stage, "bob").await;
    });
    assert_eq!(answer.unwrap().status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_is_offered_where_it_is_switched_on_and_the_client_may_choose() {
    let stage = Stage::limited(Show::new("demo", 0..3), |_| {}).await;
    let session = stage.enter("alice").await;
    for offer in [&[&b"http/1.1"[..]][..], &[]] {
        let mut viewer = Secure::connect(stage.address(), &offering(offer)).unwrap();
        assert_eq!(viewer.get(&format!("{session}/video.m3u8")).status, 200);
    }
    let off = Stage::with(Show::new("demo", 0..3), |config| config.http2 = false).await;
    let session = off.enter("alice").await;
    let mut viewer = Secure::connect(off.address(), &offering(&[b"h2", b"http/1.1"])).unwrap();
    assert_eq!(viewer.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(viewer.get(&format!("{session}/video.m3u8")).status, 200);
    assert!(Secure::connect(off.address(), &offering(&[b"h2"])).is_err());
    // A listed proxy whose requests are many viewers' speaks HTTP/1.1.
    let proxied = Stage::with(Show::new("demo", 0..3), |config| {
        config.trusted_proxies = vec!["127.0.0.1".to_owned()].try_into().unwrap();
    })
    .await;
    assert!(Secure::connect(proxied.address(), &offering(&[b"h2"])).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_slow_viewers_are_let_go_and_a_stop_lets_answers_finish() {
    let stage = Stage::limited(Show::sized("demo", 0..3, 1 << 20), |limits| {
        limits.idle_patience = Duration::from_millis(500);
        limits.head_patience = Duration::from_millis(500);
        limits.write_patience = Duration::from_millis(900);
        limits.object_hold = Duration::from_secs(5);
        limits.origin_patience = Duration::from_secs(3);
        limits.stop_patience = Duration::from_secs(5);
    })
    .await;
    let session = stage.enter("alice").await;
    let idle = Viewer::connect(stage.address()).await;
    assert_eq!(idle.get(&format!("{session}/video.m3u8")).await.status, 200);
    // With a goodbye; the client's own may come to a closed door.
    let _ = timeout(Duration::from_secs(5), idle.connection).await.unwrap().unwrap();
    stage.nobody_is_there().await;
    assert_eq!(stage.ended("said") + stage.ended("idle"), 1.0);
    // One who says nothing after the handshake, and one whose window never opens.
    let silent = tokio::task::spawn_blocking({
        let address = stage.address();
        move || {
            let mut silent = Secure::connect(address, &offering(&[b"h2"])).unwrap();
            let _ = silent.stream.read_to_end(&mut Vec::new());
        }
    });
    timeout(Duration::from_secs(5), silent).await.unwrap().unwrap();
    let stuck = Viewer::with_window(stage.address(), 1 << 10).await;
    let mut send = stuck.send.clone().ready().await.unwrap();
    let target = format!("https://localhost{session}/video/1.m4s");
    let (response, _) = send.send_request(http::Request::get(target).body(()).unwrap(), true).unwrap();
    let _body = response.await.unwrap().into_body();
    assert!(timeout(Duration::from_secs(5), stuck.connection).await.unwrap().unwrap().is_err(), "reset");
    assert_eq!((stage.ended("slow"), stage.relay.metric("releve_relay_http2_connections")), (1.0, Some(0.0)));
    stage.nobody_is_there().await;
    // The relay stops while an answer is under way.
    let last = Viewer::connect(stage.address()).await;
    let target = format!("{session}/video/1.m4s");
    let answer = tokio::spawn(async move {
        let answer = last.get(&target).await;
        (answer, last.connection.await)
    });
    sleep(Duration::from_millis(3)).await;
    let stopping = Instant::now();
    stage.relay.handle.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(4), "{:?}", stopping.elapsed());
    if let (Ok((answer, _)), _) = (answer.await, ()) {
        assert!(answer.body == copy_for(&marked(1, 1 << 20), "alice"));
    }
}

/// Frames by hand.
mod frames {
    pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;

    pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// A field, spelt out (RFC 7541 §6.2.2).
    fn field(block: &mut Vec<u8>, name: &str, value: &str) {
        block.push(0);
        for text in [name, value] {
            match text.len().checked_sub(127) {
                None => block.push(text.len() as u8),
                Some(mut rest) => {
                    block.push(127);
                    while rest >= 128 {
                        block.push((rest % 128) as u8 | 128);
                        rest /= 128;
                    }
                    block.push(rest as u8);
                }
            }
            block.extend(text.as_bytes());
        }
    }

    pub(super) fn fields(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
        let mut block = Vec::new();
        let pseudo =
            [(":method", method), (":scheme", "https"), (":authority", "localhost"), (":path", path)];
        for (name, value) in pseudo.iter().chain(more) {
            field(&mut block, name, value);
        }
        block
    }

    pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &fields("GET", path, &[]))
    }
}

/// Sends bytes after the preface and our settings, and reads to the end: the code of the GOAWAY, if there was one, and how
/// many bytes came.
fn attack(address: SocketAddr, bytes: &[u8]) -> (Option<u32>, usize) {
    use frames::*;
    let mut wire = Secure::connect(address, &offering(&[b"h2"])).unwrap();
    let all = [PREFACE, &frame(SETTINGS, 0, 0, &[]), bytes].concat();
    for chunk in all.chunks(16 << 10) {
        if wire.stream.write_all(chunk).and_then(|()| wire.stream.flush()).is_err() {
            break;
        }
    }
    let mut said = Vec::new();
    let _ = wire.stream.read_to_end(&mut said);
    let (mut at, mut code) = (0, None);
    while let Some(head) = said.get(at..at + 9) {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        if head[3] == GOAWAY
            && let Some(payload) = said.get(at + 9..at + 17)
        {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        at += 9 + len;
    }
    (code, said.len())
}

/// How a connection may end: with one of these codes, or without a word.
type Codes = [Option<u32>];

const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn those_who_mean_ill_are_let_go_and_harm_nobody() {
    use frames::*;
    let stage = Stage::limited(Show::sized("demo", 0..3, 20_000), |limits| {
        limits.idle_patience = Duration::from_millis(700);
        limits.write_patience = Duration::from_millis(700);
    })
    .await;
    let session = stage.enter("alice").await;
    let (segment, playlist) = (format!("{session}/video/1.m4s"), format!("{session}/video.m3u8"));
    let watching = tokio::spawn({
        let (viewer, segment) = (Viewer::connect(stage.address()).await, segment.clone());
        async move {
            for _ in 0..200 {
                assert!(viewer.get(&segment).await.body == copy_for(&marked(1, 20_000), "alice"));
                sleep(Duration::from_millis(10)).await;
            }
        }
    });
    let reset = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    let streams = || (0..20_000u32).map(|number| 2 * number + 1);
    let waiting = format!("{session}/video.m3u8?_HLS_msn=3");
    let rapid = |path: &str| -> Vec<u8> {
        streams().flat_map(|stream| [get(stream, path), reset(stream)].concat()).collect()
    };
    let flood = |one: Vec<u8>| one.repeat(50_000);
    let head = fields("GET", &playlist, &[]);
    let endless =
        [frame(HEADERS, END_STREAM, 1, &head), frame(CONTINUATION, 0, 1, &[0; 16 << 10]).repeat(200)]
            .concat();
    let many: Vec<(&str, String)> = (0..300).map(|_| ("x-long", "y".repeat(110))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let calm = Some(ENHANCE_YOUR_CALM);
    let calmed = [calm, None];
    let closed = [
        None,
        Some(PROTOCOL_ERROR),
        Some(FRAME_SIZE_ERROR),
        Some(FLOW_CONTROL_ERROR),
        Some(COMPRESSION_ERROR),
        calm,
        Some(0),
    ];
    // Who is still sending when the connection is closed may not see why.
    let broken = &closed[..6];
    let attacks: Vec<(&str, Vec<u8>, &Codes)> = vec![
        ("rapid reset of what is at hand", rapid(&segment), &calmed),
        ("rapid reset of what waits", rapid(&waiting), &calmed),
        ("rapid reset of what is refused", rapid("/v/none/video.m3u8"), &calmed),
        ("a head without end", endless, broken),
        (
            "more streams than may be",
            streams().take(500).flat_map(|stream| get(stream, &waiting)).collect(),
            &closed,
        ),
        ("a head that is too long", frame(HEADERS, 5, 1, &fields("GET", &playlist, &many[..140])), &closed),
        ("a stream of even number", get(2, &playlist), broken),
        ("data on no stream", frame(DATA, 0, 0, b"x"), broken),
        ("data nobody asked for", frame(DATA, 0, 7, b"x"), broken),
        ("a window that does not open", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), broken),
        ("a window beyond all", frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]).repeat(2), broken),
        ("settings of no length", frame(SETTINGS, 0, 0, &[0; 5]), broken),
        ("a frame longer than may be", frame(HEADERS, 5, 1, &vec![0; 17 << 10]), broken),
        ("what is no header block", frame(HEADERS, 5, 1, &[0xff; 40]), broken),
        ("a flood of pings", flood(frame(PING, 0, 0, &[7; 8])), &closed),
        ("a flood of settings", flood(frame(SETTINGS, 0, 0, &[])), &closed),
        (
            "a body",
            [
                frame(HEADERS, END_HEADERS, 1, &fields("POST", &segment, &[])),
                frame(DATA, 0, 1, &[0; 9000]).repeat(40),
            ]
            .concat(),
            &closed,
        ),
        (
            "a window of nothing",
            [frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]), get(1, &segment), get(3, &segment)].concat(),
            &closed,
        ),
        ("nothing", Vec::new(), &closed),
    ];
    let mut under_way = Vec::new();
    for (what, bytes, wanted) in attacks {
        let (address, wanted) = (stage.address(), wanted.to_vec());
        let attacking = tokio::task::spawn_blocking(move || attack(address, &bytes));
        under_way.push((what, wanted, attacking));
    }
    let mut wrong = Vec::new();
    for (what, wanted, attacking) in under_way {
        let (code, came) = timeout(Duration::from_secs(30), attacking).await.expect(what).unwrap();
        if !wanted.contains(&code) || came > 3 << 20 {
            wrong.push((what, code, came));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    // What is no HTTP/2 at all.
    let address = stage.address();
    let said = tokio::task::spawn_blocking(move || {
        let mut wire = Secure::connect(address, &offering(&[b"h2"])).unwrap();
        wire.send("GET / HTTP/1.1\r\nhost: relay\r\n\r\n");
        let mut said = Vec::new();
        let _ = wire.stream.read_to_end(&mut said);
        said
    });
    assert!(said.await.unwrap().len() < 100);
    watching.await.unwrap();
    assert!(stage.ended("abuse") >= 2.0, "{}", stage.ended("abuse"));
    stage.nobody_is_there().await;
    assert_eq!(stage.relay.metric("releve_relay_http2_connections"), Some(0.0));
    assert_eq!(Viewer::connect(stage.address()).await.get(&playlist).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_its_copy_over_http2() {
    let features = Command::new("curl").arg("--version").output();
    let there = features.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("HTTP2"));
    assert!(there || std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none(), "curl with HTTP/2 is wanted");
    if !there {
        eprintln!("skipped: there is no curl with HTTP/2");
        return;
    }
    let stage = Stage::limited(Show::sized("demo", 0..3, 90_000), |_| {}).await;
    let session = stage.enter("alice").await;
    let url = format!("https://{}{session}/video/1.m4s", stage.address());
    let got = Command::new("curl")
        .args(["-sS", "--fail", "--http2", "-w", "%{stderr}%{http_version} ", "--cacert"])
        .arg(stage.dir.path().join("relay.pem"))
        .args([&url, &url]) // the second one on the kept connection
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&got.stderr), "2 2 ");
    assert!(got.stdout == copy_for(&marked(1, 90_000), "alice").repeat(2));
}

/// A browser opens the watch page, its script and its style.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chromium_opens_the_page_over_http2() {
    let there = Command::new("chromium").arg("--version").output().is_ok();
    assert!(there || std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none(), "chromium is wanted");
    if !there {
        eprintln!("skipped: there is no chromium");
        return;
    }
    let stage = Stage::limited(Show::new("demo", 0..3), |_| {}).await;
    let url = format!("https://{}/watch/demo?token={}", stage.address(), token("demo", "alice"));
    let profile = tempfile::tempdir().unwrap();
    let browser = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--ignore-certificate-errors",
            "--disable-quic",
        ])
        .args(["--disable-background-networking", "--virtual-time-budget=3000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(&url)
        .output();
    let said = tokio::task::spawn_blocking(|| browser).await.unwrap().unwrap();
    let page = String::from_utf8_lossy(&said.stdout);
    assert!(page.contains("<video"), "{page} {}", String::from_utf8_lossy(&said.stderr));
    let requests = |kind: &str| {
        let name = format!("releve_relay_requests_total{{kind=\"{kind}\",code=\"200\"}}");
        stage.relay.metric(&name).unwrap_or(0.0)
    };
    assert!(requests("watch") >= 1.0 && requests("asset") >= 1.0, "{}", stage.relay.handle.metrics());
    until("the browser has gone", async || stage.relay.metric("releve_relay_http2_connections") == Some(0.0))
        .await;
    let ended: f64 = ["said", "idle", "broken"].iter().map(|why| stage.ended(why)).sum();
    assert!(ended >= 1.0, "{}", stage.relay.handle.metrics());
}
