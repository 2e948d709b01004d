//! The front through TLS, on real sockets: players' requests, resumption, other certificates under way, and those who mean ill.

use crate::common::secure::*;
use crate::common::stage::Stage;
use crate::common::*;
use releve_relay::Limits;
use rustls::version::{TLS12, TLS13};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A relay with a viewer let in, and their session.
async fn stage(show: Show, limits: impl FnOnce(&mut Limits)) -> (Stage, String) {
    let stage = Stage::limited(show, limits).await;
    let session = stage.enter("alice").await;
    (stage, session)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn viewers_watch_through_both_versions_and_resume() {
    let (stage, session) = stage(Show::sized("demo", 0..4, 60_000), |_| {}).await;
    for (version, count) in [(&TLS13, 1.0), (&TLS12, 2.0)] {
        let config = client(&[version]);
        for resumed in [false, true] {
            let mut viewer = Secure::connect(stage.address(), &config).unwrap();
            assert_eq!(viewer.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
            for number in 0..4 {
                let segment = viewer.get(&format!("{}/video/{number}.m4s", session));
                assert!(segment.body == copy_for(&marked(number, 60_000), "alice"), "segment {number}");
            }
            assert_eq!(viewer.get(&format!("{}/video.m3u8", session)).status, 200);
            assert_eq!(viewer.get("/v/none/video.m3u8").status, 403);
            assert_eq!(viewer.is_resumed(), resumed);
        }
        assert_eq!((stage.handshakes("full"), stage.handshakes("resumed")), (count, count));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_come_in_any_pieces_and_the_end_is_said() {
    let (stage, session) = stage(Show::new("demo", 0..3), |_| {}).await;
    let config = client(&[&TLS13]);
    let mut viewer = Secure::connect(stage.address(), &config).unwrap();
    let request = format!("GET {}/video.m3u8 HTTP/1.1\r\nhost: relay\r\n\r\n", session);
    for byte in request.chars() {
        viewer.send(&byte.to_string()); // a record each
    }
    let playlist = viewer.answer().unwrap();
    assert_eq!(playlist.status, 200);
    // More in one record than is answered at once.
    viewer.send(&request.repeat(60));
    for _ in 0..60 {
        assert_eq!(viewer.answer().unwrap().body, playlist.body);
    }
    viewer.send(&request.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"));
    assert_eq!(viewer.answer().unwrap().body, playlist.body);
    let mut rest = Vec::new();
    // rustls makes an end without close_notify an error.
    assert_eq!(viewer.stream.read_to_end(&mut rest).unwrap(), 0);
    // A client that has said all still gets the answer.
    let mut viewer = Secure::connect(stage.address(), &config).unwrap();
    viewer.send(&request);
    viewer.stream.conn.send_close_notify();
    viewer.stream.flush().unwrap();
    assert_eq!(viewer.answer().unwrap().body, playlist.body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_certificate_is_taken_up_under_running_downloads_and_a_bad_one_is_not() {
    let (stage, session) = stage(Show::sized("demo", 0..3, 400_000), |limits| {
        limits.object_hold = Duration::from_secs(5);
        limits.origin_patience = Duration::from_secs(2);
    })
    .await;
    let config = client(&[&TLS13]);
    let shown = || Secure::connect(stage.address(), &client(&[&TLS13])).unwrap().shown();
    let mut viewer = Secure::connect(stage.address(), &config).unwrap();
    assert_eq!(viewer.shown(), certificate("first.pem"));
    viewer.send(&format!("GET {}/video/1.m4s HTTP/1.1\r\nhost: relay\r\n\r\n", session));
    install(stage.dir.path(), "second.pem", "second.key");
    until("the second one is shown", async || shown() == certificate("second.pem")).await;
    // Neither a key that does not fit nor one that has expired.
    for (times, (chain, key)) in
        [("second.pem", "first.key"), ("expired.pem", "first.key")].iter().enumerate()
    {
        install(stage.dir.path(), chain, key);
        until("it is refused", async || {
            stage.relay.metric("releve_relay_tls_certificate_refused_total") >= Some(1.0 + times as f64)
        })
        .await;
        assert_eq!(shown(), certificate("second.pem"));
    }
    assert!(viewer.answer().unwrap().body == copy_for(&marked(1, 400_000), "alice"), "all of it, under way");
    assert_eq!(viewer.get(&format!("{}/video.m3u8", session)).status, 200);
    install(stage.dir.path(), "first.pem", "first.key");
    until("the first one is shown again", async || shown() == certificate("first.pem")).await;
    assert_eq!(stage.relay.metric("releve_relay_tls_certificate_expires"), Some(4_733_510_400.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_viewer_gets_all_and_one_who_takes_nothing_is_cut() {
    let (stage, session) = stage(Show::sized("demo", 0..3, 1 << 20), |limits| {
        limits.write_patience = Duration::from_millis(700);
        limits.object_hold = Duration::from_secs(5);
        limits.origin_patience = Duration::from_secs(2);
    })
    .await;
    let config = client(&[&TLS13]);
    let connections = || stage.relay.metric("releve_relay_connections").unwrap();
    until("the first client has gone", async || connections() == 0.0).await;
    let narrow = || {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.connect(&stage.address().into()).unwrap();
        Secure::over(socket.into(), &config).unwrap()
    };
    let request = format!("GET {}/video/1.m4s HTTP/1.1\r\nhost: relay\r\n\r\n", session);
    let (mut slow, mut stuck) = (narrow(), narrow());
    slow.send(&request);
    stuck.send(&request);
    let (wanted, mut got) = (copy_for(&marked(1, 1 << 20), "alice"), Vec::new());
    let mut chunk = vec![0; 64 << 10];
    while !got.ends_with(b"tail") || got.len() < wanted.len() {
        let count = slow.stream.read(&mut chunk).unwrap();
        got.extend_from_slice(&chunk[..count]);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(got[got.len() - wanted.len()..] == wanted, "slowly, and all of it");
    until("the one who takes nothing is cut", async || connections() == 1.0).await;
    assert!(stuck.stream.read_to_end(&mut Vec::new()).is_err(), "reset, not ended");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_waits_for_the_segment_it_names() {
    let low_latency = |next: u64| {
        let mut show = Show::new("demo", 0..next);
        show.snapshot.part_90k = 45_000;
        show
    };
    let (stage, session) =
        stage(low_latency(6), |limits| limits.playlist_hold = Duration::from_secs(3)).await;
    let config = client(&[&TLS13]);
    let held: Vec<_> = (0..50)
        .map(|_| {
            let mut viewer = Secure::connect(stage.address(), &config).unwrap();
            viewer.send(&format!("GET {}/video.m3u8?_HLS_msn=6 HTTP/1.1\r\nhost: relay\r\n\r\n", session));
            std::thread::spawn(move || viewer.answer().unwrap())
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(held.iter().all(|held| !held.is_finished()), "it is not there yet");
    let came = Instant::now();
    stage.origin.put(low_latency(7));
    for held in held {
        let playlist = held.join().unwrap();
        assert!(playlist.status == 200 && playlist.text().contains("video/6.m4s"), "{}", playlist.text());
    }
    assert!(came.elapsed() < Duration::from_secs(1), "{:?}", came.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_mean_ill_or_say_nothing_are_let_go() {
    let (stage, session) = stage(Show::new("demo", 0..3), |limits| {
        limits.head_patience = Duration::from_millis(800);
        limits.handshakes_max = 8;
    })
    .await;
    // Silent ones: no more of them than handshakes may be under way (at least one a thread), and none for long.
    let most = std::thread::available_parallelism().unwrap().get().max(8) as f64;
    let silent: Vec<_> = (0..100).map(|_| TcpStream::connect(stage.address()).unwrap()).collect();
    until("the rest is refused", async || stage.handshakes("refused") >= 95.0 - most).await;
    assert!(stage.relay.metric("releve_relay_connections").unwrap() <= most);
    for mut socket in silent {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = socket.write(b"\x16");
        assert!(!matches!(socket.read(&mut [0; 9]), Ok(1..)), "nothing is said to them");
    }
    until("nobody is shaking hands", async || stage.relay.metric("releve_relay_connections").unwrap() == 0.0)
        .await;
    // Noisy ones, one after the other.
    for round in 0..300u32 {
        let mut socket = TcpStream::connect(stage.address()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let noise: Vec<u8> = (0..400).map(|n| ((n * 31 * (round + 1)) >> 3) as u8).collect();
        let bytes: &[u8] = match round % 3 {
            0 => b"GET / HTTP/1.1\r\nhost: relay\r\n\r\n",
            1 => &[&[22, 3, 1, 1, 0x8b][..], &noise].concat(),
            _ => &noise,
        };
        let _ = socket.write_all(bytes);
        let mut said = Vec::new();
        let _ = socket.read_to_end(&mut said);
        assert!(said.len() <= 7, "an alert at most: {said:?}");
    }
    assert!(stage.handshakes("failed") >= 300.0);
    let mut viewer = Secure::connect(stage.address(), &client(&[&TLS13])).unwrap();
    assert_eq!(viewer.get(&format!("{}/video.m3u8", session)).status, 200);
    // TLS where plain requests are wanted is no request.
    assert_eq!(Secure::connect(stage.relay.handle.listen, &client(&[&TLS13])).err().map(|_| ()), Some(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_seat_is_told_so_through_tls() {
    let (stage, _) = stage(Show::new("demo", 0..3), |limits| limits.connections_max = 2).await;
    until("the first client has gone", async || {
        stage.relay.metric("releve_relay_connections").unwrap() == 0.0
    })
    .await;
    let config = client(&[&TLS13]);
    let mut seated: Vec<_> = (0..2).map(|_| Secure::connect(stage.address(), &config).unwrap()).collect();
    let refused = Secure::connect(stage.address(), &config).unwrap().get("/");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")));
    for viewer in &mut seated {
        assert_eq!(viewer.get("/").status, 404);
    }
}

fn tool(name: &str, version: &str) -> bool {
    let there = Command::new(name).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    assert!(there || std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none(), "{name} is wanted");
    if !there {
        eprintln!("skipped: there is no {name}");
    }
    there
}

/// Debian's openssl: both versions, and a ticket of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_connects_and_resumes() {
    if !tool("openssl", "version") {
        return;
    }
    let (stage, session) = stage(Show::new("demo", 0..3), |_| {}).await;
    let dir = stage.dir.path();
    let request = format!("GET {}/video.m3u8 HTTP/1.1\r\nhost: relay\r\nconnection: close\r\n\r\n", session);
    for version in ["-tls1_2", "-tls1_3"] {
        for (ticket, found) in [("-sess_out", "New, "), ("-sess_in", "Reused, ")] {
            let mut openssl = Command::new("openssl")
                .args([
                    "s_client",
                    "-ign_eof",
                    "-alpn",
                    "http/1.1",
                    "-servername",
                    "localhost",
                    version,
                    ticket,
                ])
                .arg(dir.join(version))
                .args(["-verify_return_error", "-CAfile"])
                .arg(dir.join("relay.pem"))
                .args(["-connect", &stage.address().to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            openssl.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
            let said = openssl.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&said.stdout);
            for wanted in [found, "ALPN protocol: http/1.1", "HTTP/1.1 200 OK", "#EXTM3U"] {
                assert!(text.contains(wanted), "{version} {ticket} {wanted}: {text}\n{:?}", said.stderr);
            }
            assert!(said.status.success(), "{version}: {}", String::from_utf8_lossy(&said.stderr));
        }
    }
    assert_eq!((stage.handshakes("full"), stage.handshakes("resumed")), (2.0, 2.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_its_copy() {
    if !tool("curl", "--version") {
        return;
    }
    let (stage, session) = stage(Show::sized("demo", 0..3, 90_000), |_| {}).await;
    let url = format!("https://{}{}/video/1.m4s", stage.address(), session);
    for version in ["1.2", "1.3"] {
        let got = Command::new("curl")
            .args(["-sS", "--fail", "--tls-max", version, "--cacert"])
            .arg(stage.dir.path().join("relay.pem"))
            .args([&url, &url]) // the second one on the kept connection
            .output()
            .unwrap();
        assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
        assert!(got.stdout == copy_for(&marked(1, 90_000), "alice").repeat(2), "curl with TLS {version}");
    }
    assert_eq!(stage.handshakes("full"), 2.0);
}
