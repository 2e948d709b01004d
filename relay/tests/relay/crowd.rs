//! Many addresses, and one that wants everything: what it takes harms nobody else, and who is behind a proxy is told apart.

use crate::common::secure::*;
use crate::common::*;
use releve_relay::Config;
use rustls::version::TLS13;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

const HOSTILE: [u8; 4] = [127, 66, 6, 6];

/// A connection from a loopback address of the caller's choice.
fn from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::from(source), 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    stream
}

/// Sends a request and reads the head's first line; empty when the connection ended without one.
fn status(stream: &mut TcpStream, target: &str, fields: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nhost: relay\r\n{fields}\r\n");
    let _ = stream.write_all(request.as_bytes());
    first_line(stream)
}

fn first_line(stream: &mut TcpStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while !line.ends_with(b"\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => line.push(byte[0]),
            _ => return String::new(),
        }
    }
    String::from_utf8(line).unwrap().trim_end().strip_prefix("HTTP/1.1 ").unwrap().to_owned()
}

fn is_closed(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 16]), Ok(1..))
}

struct Stage {
    _origin: FakeOrigin,
    relay: Relay,
    session: String,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn with(change: impl FnOnce(&mut Config)) -> Stage {
        let origin = FakeOrigin::start().await;
        origin.put(Show::sized("demo", 0..4, 500));
        let dir = tempfile::tempdir().unwrap();
        install(dir.path(), "first.pem", "first.key");
        let mut config = config(&[origin.url()]);
        listens(&mut config, dir.path());
        change(&mut config);
        let relay = Relay::with(config).await;
        let session = relay.enter("demo", "alice").await;
        let mut client = relay.client().await;
        assert_eq!(client.get(&format!("{session}/index.m3u8")).await.status, 200);
        assert_eq!(client.get(&format!("{session}/video/1.m4s")).await.status, 200);
        Stage { _origin: origin, relay, session, _dir: dir }
    }

    fn plain(&self) -> SocketAddr {
        self.relay.handle.listen
    }

    fn playlist(&self) -> String {
        format!("{}/video.m3u8", self.session)
    }

    fn refused(&self, reason: &str) -> f64 {
        let name = format!("releve_relay_address_refused_total{{reason=\"{reason}\"}}");
        self.relay.metric(&name).unwrap_or(0.0)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_handshakes_of_one_address_keep_nobody_out() {
    const SILENT: usize = 6000;
    let stage = Stage::with(|_| {}).await;
    let secure = stage.relay.handle.tls_listen.unwrap();
    let silent: Vec<_> = (0..SILENT).map(|_| from(HOSTILE, secure)).collect();
    let connections = || stage.relay.metric("releve_relay_connections").unwrap();
    until("most of them are refused", async || stage.refused("handshakes") + connections() >= SILENT as f64)
        .await;
    assert!(connections() < 1000.0, "{}", connections());
    // Two thousand others, each from an address of their own.
    let mut viewers = Vec::new();
    for part in 0..4u8 {
        let session = stage.session.clone();
        viewers.push(std::thread::spawn(move || {
            let (config, wanted) = (client(&[&TLS13]), copy_for(&marked(1, 500), "alice"));
            for number in 1..501u16 {
                let [high, low] = number.to_be_bytes();
                let mut viewer = Secure::over(from([127, 10 + part, high, low], secure), &config).unwrap();
                assert_eq!(viewer.get(&format!("{session}/video.m3u8")).status, 200);
                assert!(viewer.get(&format!("{session}/video/1.m4s")).body == wanted);
            }
        }));
    }
    for viewers in viewers {
        tokio::task::spawn_blocking(move || viewers.join().unwrap()).await.unwrap();
    }
    assert_eq!(stage.relay.metric("releve_relay_tls_handshakes_total{outcome=\"refused\"}"), None);
    // What the one address held is free when it lets go.
    drop(silent);
    until("nobody is there", async || connections() == 0.0).await;
    let mut viewer = Secure::over(from(HOSTILE, secure), &client(&[&TLS13])).unwrap();
    assert_eq!(viewer.get(&stage.playlist()).status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_of_one_address_keep_nobody_out() {
    let stage = Stage::with(|config| config.limits.connections_max = 500).await;
    let silent: Vec<_> = (0..600).map(|_| from(HOSTILE, stage.plain())).collect();
    until("most of them are refused", async || stage.refused("unproved") >= 300.0).await;
    for number in 0..200 {
        let mut viewer = from([127, 20, 0, number], stage.plain());
        assert_eq!(status(&mut viewer, &stage.playlist(), ""), "200 OK", "{number}");
    }
    assert_eq!(stage.relay.metric("releve_relay_connections_refused_total"), Some(0.0));
    drop(silent);
}

/// Behind one address are many: those who watch do not count against those who come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_makes_room_for_the_next_behind_the_same_address() {
    let stage = Stage::with(|config| config.limits.connections_max = 1000).await;
    let mut watching = Vec::new();
    for number in 0..400 {
        let mut viewer = from(HOSTILE, stage.plain());
        assert_eq!(status(&mut viewer, &stage.playlist(), ""), "200 OK", "{number}");
        watching.push(viewer);
    }
    assert_eq!((stage.refused("unproved"), stage.refused("seats")), (0.0, 0.0));
    // Strangers who were answered are still strangers.
    let strangers: Vec<_> = (0..300)
        .map(|_| {
            let mut stranger = from([127, 66, 6, 7], stage.plain());
            let _ = status(&mut stranger, "/watch/app.js", "");
            stranger
        })
        .collect();
    assert!(stage.refused("unproved") >= 100.0, "{}", stage.refused("unproved"));
    drop((watching, strangers));
}

fn behind_proxies(config: &mut Config, protocol: bool) {
    config.trusted_proxies = vec!["127.0.0.2".to_owned(), "127.0.3.0/24".to_owned()].try_into().unwrap();
    config.proxy_protocol = protocol;
    config.limits.connections_max = 500;
}

const PROXY: [u8; 4] = [127, 0, 0, 2];

fn version_2(source: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(source);
    header.extend([127, 0, 0, 1, 0x30, 0x39, 0x1f, 0x90]);
    header
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_balancer_says_whose_connection_it_is() {
    let stage = Stage::with(|config| behind_proxies(config, true)).await;
    let target = stage.playlist();
    let line = |source: &str| format!("PROXY TCP4 {source} 127.0.0.1 4711 8080\r\n").into_bytes();
    for header in [line("192.0.2.1"), b"PROXY UNKNOWN\r\n".to_vec(), version_2([192, 0, 2, 1])] {
        let mut whole = from(PROXY, stage.plain());
        whole.write_all(&header).unwrap();
        assert_eq!(status(&mut whole, &target, ""), "200 OK");
        let mut pieces = from(PROXY, stage.plain());
        pieces.set_nodelay(true).unwrap();
        for byte in &header {
            pieces.write_all(&[*byte]).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(status(&mut pieces, &target, ""), "200 OK");
        let mut sealed = from(PROXY, stage.relay.handle.tls_listen.unwrap());
        sealed.write_all(&header).unwrap();
        assert_eq!(Secure::over(sealed, &client(&[&TLS13])).unwrap().get(&target).status, 200);
    }
    // One viewer behind it takes all they can; the other one comes in.
    let silent: Vec<_> = (0..400)
        .map(|_| {
            let mut silent = from(PROXY, stage.plain());
            silent.write_all(&line("192.0.2.66")).unwrap();
            silent
        })
        .collect();
    until("most of them are refused", async || stage.refused("unproved") >= 200.0).await;
    let mut other = from(PROXY, stage.plain());
    other.write_all(&line("192.0.2.67")).unwrap();
    assert_eq!(status(&mut other, &target, ""), "200 OK");
    drop(silent);
    // Whoever else says such things is believed nothing, and whoever says nothing is served.
    assert_eq!(status(&mut from([127, 0, 0, 9], stage.plain()), &target, ""), "200 OK");
    let mut liar = from([127, 0, 0, 9], stage.plain());
    liar.write_all(&line("192.0.2.1")).unwrap();
    assert_eq!(first_line(&mut liar), "505 HTTP Version Not Supported");
    // A listed proxy that does not say it is closed without a word.
    for wrong in
        [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], b"PROXY TCP4 here there 1 2\r\n", b"\x16\x03\x01\x02\0"]
    {
        let mut proxy = from(PROXY, stage.plain());
        proxy.write_all(wrong).unwrap();
        assert!(is_closed(&mut proxy), "{wrong:?}");
    }
    assert_eq!(stage.relay.metric("releve_relay_proxy_malformed_total"), Some(3.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_says_whose_request_it_is() {
    let stage = Stage::with(|config| behind_proxies(config, false)).await;
    let target = stage.playlist();
    let named = |source: &str| {
        format!("x-forwarded-for: 203.0.113.1\r\nX-Forwarded-For: 7.7.7.7, {source}, 127.0.3.1\r\n")
    };
    // Connections count for whom they serve: one viewer's requests on too many of them are turned away …
    let mut kept: Vec<_> = (0..300).map(|_| from(PROXY, stage.plain())).collect();
    let answers: Vec<_> =
        kept.iter_mut().map(|proxy| status(proxy, "/nothing", &named("192.0.2.66"))).collect();
    let turned_away = answers.iter().filter(|answer| *answer == "503 Service Unavailable").count();
    assert!(turned_away >= 100, "{turned_away} of {}", answers.len());
    // … and on the same connections the others are served.
    for (number, mut proxy) in kept.drain(..).enumerate() {
        assert!(proxy.read(&mut [0; 4096]).unwrap() > 0, "the rest of the answer before");
        let source = format!("192.0.3.{}", number % 250);
        assert_eq!(status(&mut proxy, &target, &named(&source)), "200 OK");
    }
    // Nobody else shifts the blame.
    let strangers: Vec<_> = (0..300)
        .map(|number| {
            let mut stranger = from(HOSTILE, stage.plain());
            let answer = status(&mut stranger, "/nothing", &named(&format!("192.0.4.{}", number % 250)));
            (stranger, answer)
        })
        .collect();
    let refused = strangers.iter().filter(|(_, answer)| answer != "404 Not Found").count();
    assert!(refused >= 100, "{refused}");
    let mut proxy = from(PROXY, stage.plain());
    assert_eq!(status(&mut proxy, &target, "x-forwarded-for: 192.0.2.1, unknown\r\n"), "400 Bad Request");
    let _ = proxy.read_to_end(&mut Vec::new()).unwrap();
    assert_eq!(stage.relay.metric("releve_relay_proxy_malformed_total"), Some(1.0));
}
