//! The example configurations: nginx and Varnish before a relay, as a CDN is. Both are Debian's; without one its test says
//! that it was skipped, or fails where `RELEVE_REQUIRE_TOOLS` is set.

use crate::common::*;
use releve_state::memory::Memory;
use releve_watermark::{Position, Symbol};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// An edge that is running, in a folder of its own.
struct Edge {
    address: SocketAddr,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Edge {
    fn drop(&mut self) {
        // The master ends its children itself.
        let pid = self.child.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &pid]).status();
        for _ in 0..100 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An example as shipped, for these addresses; `None` when its program is not there.
async fn edge(program: &str, address: SocketAddr, relay: SocketAddr) -> Option<Edge> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    if !found {
        assert!(std::env::var_os("RELEVE_REQUIRE_TOOLS").is_none(), "{program} is not installed");
        println!("skipped: {program} is not installed; scripts/setup.sh test installs it");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let shown = dir.path().display();
    let example = |name: &str| {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name));
        text.unwrap().replace("KEY\"", &format!("{}\"", "ab".repeat(32)))
    };
    let put = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    let mut command = Command::new(program);
    if program == "nginx" {
        let text = example("nginx-cdn.conf")
            .replace("127.0.0.1:8080", &relay.to_string())
            .replace("127.0.0.1:8443", &address.to_string())
            .replace("/var/cache/nginx/releve", &format!("{shown}/cache"));
        put("edge.conf", text);
        // Its worker must get at the folder; who is not root is only told that this changes nothing.
        let whole = format!(
            "user root;\nworker_processes 1;\ndaemon off;\npid {shown}/pid;\nerror_log {shown}/error.log;\nevents {{}}\n\
             http {{ access_log off; proxy_temp_path {shown}/proxy; client_body_temp_path {shown}/body; include {shown}/edge.conf; }}\n"
        );
        put("nginx.conf", whole);
        command.arg("-p").arg(dir.path()).arg("-c").arg(dir.path().join("nginx.conf"));
    } else {
        let text = example("varnish-cdn.vcl")
            .replace("\"127.0.0.1\"", &format!("\"{}\"", relay.ip()))
            .replace("\"8080\"", &format!("\"{}\"", relay.port()));
        put("edge.vcl", text);
        command.args(["-F", "-j", "none", "-s", "malloc,64m", "-a"]).arg(address.to_string());
        command.arg("-f").arg(dir.path().join("edge.vcl")).arg("-n").arg(dir.path().join("work"));
    }
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    command.env("PATH", path).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut edge = Edge { address, child: command.spawn().unwrap(), _dir: dir };
    // Varnish has its configuration compiled first.
    for _ in 0..1_200 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return Some(edge);
        }
        if let Some(status) = edge.child.try_wait().unwrap() {
            let log = std::fs::read_to_string(edge._dir.path().join("log")).unwrap();
            panic!("{program} ended, {status}: {log}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{program} does not listen");
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// How many answers of this status the relay gave to the edge.
fn given(relay: &Relay, code: u16) -> f64 {
    let name = format!("releve_relay_requests_total{{kind=\"cdn\",code=\"{code}\"}}");
    relay.metric(&name).unwrap_or(0.0)
}

async fn an_edge_keeps_the_promises(program: &str) {
    let origin = FakeOrigin::start().await;
    origin.put(Show::sized("demo", 0..8, 3_000));
    let address = free();
    let base = format!("http://{address}");
    let mut config = config(&[origin.url()]);
    config.cdn_url = Some(base.clone());
    let mut keys = keys();
    keys.cdn = Some(ring(0xab));
    let state = Arc::new(Memory::default());
    let handle = releve_relay::start_with(config, keys, state.clone(), state.clone()).await.unwrap();
    let relay = Relay { handle, state };
    let Some(edge) = edge(program, address, relay.handle.listen).await else { return };
    let mut client = Client::connect(edge.address).await;

    // Each viewer's own variants, each file from the relay once.
    let mut files = BTreeSet::new();
    for viewer in ["alice", "bob", "carol", "alice"] {
        let session = relay.enter("demo", viewer).await;
        let playlist = relay.client().await.get(&format!("{session}/cdn-video.m3u8")).await.text();
        let segments: Vec<&str> = playlist.lines().filter_map(|line| line.strip_prefix(&base)).collect();
        assert_eq!(segments.len(), 8, "{playlist}");
        for (number, path) in (0..).zip(segments) {
            let symbol = codebook().symbol(mark_of(viewer), Position::whole(position(number, 0).gop));
            let whole = marked(number, 3_000).pieces(|_| symbol).concat();
            let answer = client.get(path).await;
            assert_eq!((answer.status, &answer.body), (200, &whole), "{viewer} {path}");
            let part = client
                .ask("GET", &format!("{path}?CMCD=br%3D1"), "range: bytes=10-5000\r\ncookie: a=b\r\n")
                .await;
            assert_eq!((part.status, &part.body[..]), (206, &whole[10..=5_000]), "{viewer} {path}");
            files.insert((path.to_owned(), symbol == Symbol::A));
        }
    }
    assert!((9..=16).contains(&files.len()), "{} files of 8 segments", files.len());
    assert_eq!(given(&relay, 200), files.len() as f64, "each file once");

    // Tokens are still checked, at the relay.
    let path = &files.first().unwrap().0;
    assert_eq!(relay.client().await.get(path).await.status, 403, "without the edge's key");
    assert_eq!(client.get("/live/demo/index.m3u8").await.status, 404, "playlists are not the edge's");
    assert_eq!(relay.client().await.get("/v/nobody/cdn-video.m3u8").await.status, 403);

    // What is refused, and what is not there yet, is asked for anew each time.
    let denied = given(&relay, 403);
    let other = path.replace("/video/", "/audio/");
    for _ in 0..3 {
        assert_eq!(client.get(&other).await.status, 403);
    }
    assert_eq!(given(&relay, 403), denied + 3.0, "a refusal is not kept");
    let names = releve_relay::cdn::Names::new(&ring(4));
    let path = |number| {
        let wanted = releve_relay::route::Wanted::Segment(ingest_api::Track::Video, number);
        let name =
            names.name(Some(1), &stream("demo"), &wanted, releve_relay::cdn::Variant::Whole(Symbol::B));
        format!("/cdn/demo/video/{number}-{}.m4s", hex::encode(name.unwrap()))
    };
    assert_eq!(client.get(&path(8)).await.status, 404);
    origin.put(Show::sized("demo", 1..9, 3_000));
    until("the next segment is there", async || client.get(&path(8)).await.status == 200).await;

    // Twenty at once cost one fetch.
    let before = given(&relay, 200);
    origin.object_delay(Duration::from_millis(150));
    origin.put(Show::sized("demo", 1..10, 3_000));
    let session = relay.enter("demo", "dave").await;
    until("the relay lists it", async || {
        let playlist = relay.client().await.get(&format!("{session}/cdn-video.m3u8")).await.text();
        playlist.contains("/cdn/demo/video/9-")
    })
    .await;
    let mut viewers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (mut client, path) = (Client::connect(edge.address).await, path(9));
        viewers.spawn(async move { client.get(&path).await });
    }
    while let Some(answer) = viewers.join_next().await {
        assert_eq!(answer.unwrap().body, marked(9, 3_000).pieces(|_| Symbol::B).concat());
    }
    assert_eq!(given(&relay, 200), before + 1.0, "one fetch for twenty");

    // What is there outlives the relay.
    relay.handle.stop().await;
    assert_eq!(client.get(&path(9)).await.body, marked(9, 3_000).pieces(|_| Symbol::B).concat());
}

#[tokio::test]
async fn nginx_before_a_relay() {
    an_edge_keeps_the_promises("nginx").await;
}

#[tokio::test]
async fn varnish_before_a_relay() {
    an_edge_keeps_the_promises("varnishd").await;
}
