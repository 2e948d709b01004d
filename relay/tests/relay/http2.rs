//! Viewers who speak HTTP/2: the same answers as over HTTP/1.1, and revocation under way. Those who mean ill: `http2_ill`.

use crate::common::http2::*;
use crate::common::secure::*;
use crate::common::stage::Stage;
use crate::common::*;
use client::Answer;
use releve_relay::route::SessionIn;
use releve_relay::{Config, Limits};
use releve_state::coordinator::{Coordinator, Revocation};
use std::io::Read;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// A relay that offers HTTP/2.
async fn http2(show: Show, change: impl FnOnce(&mut Config)) -> Stage {
    Stage::with(show, |config| {
        config.http2 = true;
        change(config);
    })
    .await
}

async fn limited(show: Show, limits: impl FnOnce(&mut Limits)) -> Stage {
    http2(show, |config| limits(&mut config.limits)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_viewers_on_one_relay_get_their_own_slices() {
    let stage = limited(Show::sized("demo", 0..6, 40_000), |_| {}).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_comes_in_crumbs() {
    let stage = http2(Show::new("demo", 0..3), |config| config.session_in = SessionIn::Cookie).await;
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

/// One decision for both versions: status, fields and body are the same, whatever is asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_the_other_version() {
    let stage = limited(Show::sized("demo", 0..4, 3_000), |_| {}).await;
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
        ("GET", &playlist, vec![("accept-encoding", "gzip")]),
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
    let stage = limited(low_latency(6), |limits| limits.playlist_hold = Duration::from_secs(3)).await;
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
    let stage = limited(show, big).await;
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
    let stage = limited(Show::new("demo", 0..3), |_| {}).await;
    let session = stage.enter("alice").await;
    for offer in [&[&b"http/1.1"[..]][..], &[]] {
        let mut viewer = Secure::connect(stage.address(), &offering(offer)).unwrap();
        assert_eq!(viewer.get(&format!("{session}/video.m3u8")).status, 200);
    }
    let off = http2(Show::new("demo", 0..3), |config| config.http2 = false).await;
    let session = off.enter("alice").await;
    let mut viewer = Secure::connect(off.address(), &offering(&[b"h2", b"http/1.1"])).unwrap();
    assert_eq!(viewer.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(viewer.get(&format!("{session}/video.m3u8")).status, 200);
    assert!(Secure::connect(off.address(), &offering(&[b"h2"])).is_err());
    // A listed proxy whose requests are many viewers' speaks HTTP/1.1.
    let proxied = http2(Show::new("demo", 0..3), |config| {
        config.trusted_proxies = vec!["127.0.0.1".to_owned()].try_into().unwrap();
    })
    .await;
    assert!(Secure::connect(proxied.address(), &offering(&[b"h2"])).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_and_slow_viewers_are_let_go_and_a_stop_lets_answers_finish() {
    let stage = limited(Show::sized("demo", 0..3, 1 << 20), |limits| {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_gets_its_copy_over_http2() {
    let features = Command::new("curl").arg("--version").output();
    let there = features.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains("HTTP2"));
    assert!(there || std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none(), "curl with HTTP/2 is wanted");
    if !there {
        eprintln!("skipped: there is no curl with HTTP/2");
        return;
    }
    let stage = limited(Show::sized("demo", 0..3, 90_000), |_| {}).await;
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
    let stage = limited(Show::new("demo", 0..3), |_| {}).await;
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
