//! A running relay allocates nothing for a viewer's steady requests: counted in its worker threads, over real sockets.
#![allow(
    unsafe_code,
    reason = "an allocator that counts is an unsafe trait; it hands everything on to the system's"
)]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod common;

use common::secure::*;
use common::*;
use releve_relay::session::Binding;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

struct Counting;

/// Allocations of all threads but those that have asked to be left out.
static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LEFT_OUT: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    if LEFT_OUT.try_with(Cell::get) == Ok(false) {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is handed on to `System` as it came; counting touches a thread-local that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are those that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The player's field; its session is bound to it.
const PLAYER: &str = "user-agent: player\r\n";

/// Asks on a kept connection and reads the whole answer, `len` bytes with its head.
fn ask(stream: &mut (impl Read + Write), request: &[u8], len: usize, into: &mut [u8]) {
    stream.write_all(request).unwrap();
    stream.flush().unwrap();
    stream.read_exact(&mut into[..len]).unwrap();
}

/// Allocations of the relay's threads in so many rounds of requests.
fn allocated(
    stream: &mut (impl Read + Write),
    rounds: usize,
    requests: &[(&str, Vec<u8>)],
    lens: &[usize],
    into: &mut [u8],
) -> u64 {
    let before = COUNT.load(Ordering::Relaxed);
    for _ in 0..rounds {
        for ((_, request), len) in requests.iter().zip(lens) {
            ask(stream, request, *len, into);
        }
    }
    COUNT.load(Ordering::Relaxed) - before
}

/// One test alone in its program, on one thread with the runtime: all other threads but the test runner's are the relay's.
#[test]
fn steady_requests_allocate_nothing() {
    LEFT_OUT.set(true);
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (relay, origin, session) = runtime.block_on(async {
        let origin = FakeOrigin::start().await;
        origin.put(Show::sized("demo", 0..6, 5_000));
        let mut config = config(&[origin.url()]);
        config.sessions_per_viewer = 3; // counted all the while
        config.session_bound_to = Binding { address: true, agent: true };
        install(dir.path(), "first.pem", "first.key");
        listens(&mut config, dir.path());
        config.limits.certificate_look = Duration::from_secs(3600); // looking at files allocates
        let relay = Relay::with(config).await;
        let target = format!("/live/demo/index.m3u8?token={}", token("demo", "alice"));
        let entered = relay.client().await.ask("GET", &target, PLAYER).await;
        let index = entered.header("location").unwrap();
        let session = index.strip_suffix("/index.m3u8").unwrap().to_owned();
        (relay, origin, session)
    });
    let target = |below: &str, fields: &str| {
        format!("GET {session}/{below} HTTP/1.1\r\nhost: relay\r\n{PLAYER}{fields}\r\n").into_bytes()
    };
    let etag = runtime.block_on(async {
        let mut client = relay.client().await;
        client.ask("GET", &format!("{session}/index.m3u8"), PLAYER).await;
        client.ask("GET", &format!("{session}/video/4.m4s"), PLAYER).await; // from now on it is held
        let playlist = client.ask("GET", &format!("{session}/video.m3u8"), PLAYER).await;
        playlist.header("etag").unwrap().to_owned()
    });
    let requests = [
        ("200", target("video.m3u8", "")),
        ("304", target("video.m3u8", &format!("if-none-match: {etag}\r\n"))),
        ("200", target("video/4.m4s", "")),
        ("206", target("video/4.m4s", "range: bytes=1000-20000\r\n")),
        ("416", target("video/4.m4s", "range: bytes=99999999-\r\n")),
    ];
    let mut stream = TcpStream::connect(relay.handle.listen).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut buffer = vec![0; 100_000];
    // Once each, to learn how long the answers are: they are as long every time.
    let lens = requests.each_ref().map(|(status, request)| {
        stream.write_all(request).unwrap();
        let mut len = 0;
        loop {
            len += stream.read(&mut buffer[len..]).unwrap();
            let text = String::from_utf8_lossy(&buffer[..len]);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return len;
            }
        }
    });
    assert!(lens[2] > 40_000, "{lens:?}");
    allocated(&mut stream, 50, &requests, &lens, &mut buffer);
    let plain = allocated(&mut stream, 400, &requests, &lens, &mut buffer);
    assert_eq!(plain, 0, "in {} requests", 400 * requests.len());
    // Through TLS it is no different once hands are shaken, in either version.
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let address = relay.handle.tls_listen.unwrap();
        let mut viewer = Secure::connect(address, &client(&[version])).unwrap();
        allocated(&mut viewer.stream, 50, &requests, &lens, &mut buffer);
        let sealed = allocated(&mut viewer.stream, 400, &requests, &lens, &mut buffer);
        assert_eq!(sealed, 0, "in {} requests through {version:?}", 400 * requests.len());
    }
    let before = COUNT.load(Ordering::Relaxed);
    // The counter counts: what is not steady, a refusal, is rendered for the one who gets it.
    let refused = b"GET /v/x/video.m3u8 HTTP/1.1\r\nhost: relay\r\n\r\n";
    stream.write_all(refused).unwrap();
    assert!(stream.read(&mut buffer).unwrap() > 0 && buffer.starts_with(b"HTTP/1.1 403 "));
    assert!(COUNT.load(Ordering::Relaxed) > before);
    runtime.block_on(relay.handle.stop());
    drop(origin);
}
