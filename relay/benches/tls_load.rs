//! TLS of a whole relay on loopback: new connections a second beside paced viewers, processor time a GB beside plain and nginx.
//!
//! `scripts/bench.sh tls [--short] [--json]`. The relay runs in this process; its viewers' threads are counted by name
//! (`/proc/self/task/*/schedstat`), nginx's process as a whole. All TLS is 1.3 with AES-128-GCM and a P-256 certificate.
//! HTTP/2 is served on the runtime: its threads count with the others there, and its clients open what they count. The other
//! clients check the first answer of each connection and count the bytes of the others record by record without opening them.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, reason = "a measurement that cannot be made ends loudly")]

#[path = "../tests/common/mod.rs"]
mod common;

use common::secure::{Secure, client_of, install, listens, pem};
use common::{FakeOrigin, Relay, Show, config};
use rustls::ClientConfig;
use rustls::version::TLS13;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

/// Eight marked slices: a segment of 2 s at 1 Mb/s.
const SLICE_BYTES: usize = 31_000;
/// Viewers paced at a segment every 2 s while others come.
const PACED: usize = 200;
const PACE: Duration = Duration::from_secs(2);
/// Connections of a client thread that asks as fast as it is answered.
const CLOSED: usize = 8;

struct Run {
    tls: SocketAddr,
    plain: SocketAddr,
    segment: String,
    config: Arc<ClientConfig>,
    seconds: f64,
}

/// A connection whose answers are counted, not read.
enum Counted {
    Plain(TcpStream),
    Sealed(Box<Secure>),
}

impl Counted {
    /// Connects, asks once and looks at the answer: how long answers are, head and body.
    fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, target: &str) -> (Counted, usize) {
        let request = request(target);
        let mut bytes = vec![0; 1 << 20];
        let mut counted = match tls {
            Some(config) => Counted::Sealed(Box::new(Secure::connect(address, config).unwrap())),
            None => Counted::Plain(TcpStream::connect(address).unwrap()),
        };
        counted.ask(&request);
        let mut len = 0;
        let whole = loop {
            len += match &mut counted {
                Counted::Plain(stream) => stream.read(&mut bytes[len..]).unwrap(),
                Counted::Sealed(viewer) => viewer.stream.read(&mut bytes[len..]).unwrap(),
            };
            let text = String::from_utf8_lossy(&bytes[..len.min(2000)]).to_ascii_lowercase();
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            assert!(head.starts_with("http/1.1 200"), "{head}");
            let body = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            break head.len() + 4 + body.parse::<usize>().unwrap();
        };
        while len < whole {
            len += match &mut counted {
                Counted::Plain(stream) => stream.read(&mut bytes[len..]).unwrap(),
                Counted::Sealed(viewer) => viewer.stream.read(&mut bytes[len..]).unwrap(),
            };
        }
        (counted, whole)
    }

    fn ask(&mut self, request: &[u8]) {
        match self {
            Counted::Plain(stream) => stream.write_all(request).unwrap(),
            Counted::Sealed(viewer) => {
                viewer.stream.conn.writer().write_all(request).unwrap();
                viewer.stream.conn.write_tls(&mut viewer.stream.sock).map(drop).unwrap();
            }
        }
    }

    /// Counts an answer of so many bytes: of TLS 1.3, what is in its records (17 bytes of each are type and tag).
    fn count(&mut self, len: usize, buffer: &mut [u8]) -> bool {
        let (stream, sealed) = match self {
            Counted::Plain(stream) => (stream, false),
            Counted::Sealed(viewer) => (&mut viewer.stream.sock, true),
        };
        let (mut left, mut in_record, mut header) = (len, 0usize, Vec::with_capacity(5));
        if !sealed {
            in_record = len;
        }
        loop {
            let Ok(count) = stream.read(buffer) else { return false };
            if count == 0 {
                return false;
            }
            let mut bytes = &buffer[..count];
            while !bytes.is_empty() {
                if in_record == 0 {
                    let take = bytes.len().min(5 - header.len());
                    header.extend_from_slice(&bytes[..take]);
                    bytes = &bytes[take..];
                    if header.len() == 5 {
                        in_record = (usize::from(header[3]) << 8) | usize::from(header[4]);
                        let Some(rest) = left.checked_sub(in_record.wrapping_sub(17)) else { return false };
                        left = rest;
                        header.clear();
                    }
                    continue;
                }
                let take = bytes.len().min(in_record);
                in_record -= take;
                bytes = &bytes[take..];
                if in_record == 0 && (!sealed || left == 0) {
                    return bytes.is_empty();
                }
            }
        }
    }
}

fn request(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// Nanoseconds of processor time of a process's threads whose name begins so.
fn cpu_ns(pid: &str, name: &str) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let of_task = |task: std::fs::DirEntry| {
        let read = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let counts = read("comm").starts_with(name);
        counts.then(|| read("schedstat").split(' ').next()?.parse::<u64>().ok()).flatten()
    };
    tasks.filter_map(of_task).sum()
}

/// As many segments as go, over `2 × CLOSED` connections: GB/s and processor seconds a GB.
fn bulk(run: &Run, address: SocketAddr, tls: bool, target: &str, cpu: impl Fn() -> u64) -> (f64, f64, u64) {
    let (stop, errors, bytes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (connected, mut result) = (Barrier::new(3), (0.0, 0.0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let tls = tls.then_some(&run.config);
                let mut all: Vec<_> = (0..CLOSED).map(|_| Counted::connect(address, tls, target)).collect();
                let (request, mut buffer) = (request(target), vec![0; 128 << 10]);
                connected.wait();
                while !stop.load(Ordering::Relaxed) {
                    all.iter_mut().for_each(|(counted, _)| counted.ask(&request));
                    for (counted, len) in &mut all {
                        if !counted.count(*len, &mut buffer) {
                            errors.fetch_add(1, Ordering::Relaxed);
                            return;
                        }
                        bytes.fetch_add(*len as u64, Ordering::Relaxed);
                    }
                }
            });
        }
        connected.wait();
        std::thread::sleep(Duration::from_millis(200)); // warm
        let (from, cpu_from, bytes_from) = (Instant::now(), cpu(), bytes.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_secs_f64(run.seconds));
        let gb = (bytes.load(Ordering::Relaxed) - bytes_from) as f64 / 1e9;
        let cpu_s = (cpu() - cpu_from) as f64 / 1e9;
        result = (gb / from.elapsed().as_secs_f64(), cpu_s / gb);
        stop.store(true, Ordering::Relaxed);
    });
    (result.0, result.1, errors.into_inner())
}

/// The same over HTTP/2: as many segments as go, over 16 connections, one after the other on each.
fn bulk_http2(run: &Run, cpu: impl Fn() -> u64) -> (f64, f64, u64) {
    let clients = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut config = (*run.config).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let (bytes, errors) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    for _ in 0..2 * CLOSED {
        let (connector, address) = (connector.clone(), run.tls);
        let target = format!("https://localhost{}", run.segment);
        let (bytes, errors) = (bytes.clone(), errors.clone());
        clients.spawn(async move {
            let went = async {
                let socket = tokio::net::TcpStream::connect(address).await?;
                let stream = connector.connect("localhost".try_into().unwrap(), socket).await?;
                let (mut send, connection) = h2::client::Builder::new()
                    .initial_window_size(1 << 20)
                    .initial_connection_window_size(1 << 20)
                    .handshake::<_, bytes::Bytes>(stream)
                    .await?;
                tokio::spawn(connection);
                loop {
                    let request = http::Request::get(&target).body(()).unwrap();
                    let (response, _) = send.send_request(request, true)?;
                    let mut body = response.await?.into_body();
                    while let Some(chunk) = body.data().await {
                        let chunk = chunk?;
                        body.flow_control().release_capacity(chunk.len())?;
                        bytes.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    }
                }
                #[allow(unreachable_code, reason = "it names the kind of error")]
                Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
            };
            if went.await.is_err() {
                errors.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    std::thread::sleep(Duration::from_millis(500)); // warm
    let (from, cpu_from, bytes_from) = (Instant::now(), cpu(), bytes.load(Ordering::Relaxed));
    std::thread::sleep(Duration::from_secs_f64(run.seconds));
    let gb = (bytes.load(Ordering::Relaxed) - bytes_from) as f64 / 1e9;
    let cpu_s = (cpu() - cpu_from) as f64 / 1e9;
    let result = (gb / from.elapsed().as_secs_f64(), cpu_s / gb, errors.load(Ordering::Relaxed));
    clients.shutdown_background();
    result
}

struct Joins {
    a_second: f64,
    cpu_us: f64,
    paced_p99_ms: f64,
    paced: u64,
    errors: u64,
}

/// New connections as fast as two clients make them, one playlist each, beside `PACED` viewers.
fn joins(run: &Run, resumed: bool, playlist: &str) -> Joins {
    let (stop, errors, made) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let seated = Barrier::new(2);
    let (mut a_second, mut cpu_us) = (0.0, 0.0);
    let cpu = || cpu_ns("self", "viewers-");
    let mut took = std::thread::scope(|scope| {
        let paced = scope.spawn(|| {
            let mut all: Vec<_> =
                (0..PACED).map(|_| Counted::connect(run.tls, Some(&run.config), &run.segment)).collect();
            let (request, mut buffer, mut took) = (request(&run.segment), vec![0; 128 << 10], Vec::new());
            seated.wait();
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                for (counted, len) in &mut all {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    counted.ask(&request);
                    if !counted.count(*len, &mut buffer) {
                        errors.fetch_add(1, Ordering::Relaxed);
                        return took;
                    }
                    took.push(due.elapsed().as_secs_f64() * 1e3);
                    due += PACE / PACED as u32;
                }
            }
            took
        });
        seated.wait();
        let before = cpu();
        std::thread::sleep(Duration::from_secs(1));
        let paced_cpu = (cpu() - before) as f64;
        for _ in 0..2 {
            scope.spawn(|| {
                let kept = viewer();
                while !stop.load(Ordering::Relaxed) {
                    let config = if resumed { kept.clone() } else { client_without_tickets(&kept) };
                    let first = made.load(Ordering::Relaxed) < 2;
                    let went = Secure::connect(run.tls, &config).and_then(|mut viewer| {
                        viewer.send(&format!(
                            "GET {playlist} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
                        ));
                        Ok((viewer.answer()?.status, viewer.is_resumed()))
                    });
                    let good =
                        went.is_ok_and(|went| went == (200, resumed && !first) || went == (200, resumed));
                    if !good && !first {
                        errors.fetch_add(1, Ordering::Relaxed);
                    }
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(Duration::from_millis(300));
        let (from, cpu_from, made_from) = (Instant::now(), cpu(), made.load(Ordering::Relaxed));
        std::thread::sleep(Duration::from_secs_f64(run.seconds));
        let count = (made.load(Ordering::Relaxed) - made_from) as f64;
        let elapsed = from.elapsed().as_secs_f64();
        a_second = count / elapsed;
        cpu_us = ((cpu() - cpu_from) as f64 - paced_cpu * elapsed) / count / 1e3;
        stop.store(true, Ordering::Relaxed);
        paced.join().unwrap()
    });
    took.sort_by(f64::total_cmp);
    Joins {
        a_second,
        cpu_us,
        paced_p99_ms: took.get(took.len() * 99 / 100).copied().unwrap_or(f64::NAN),
        paced: took.len() as u64,
        errors: errors.into_inner(),
    }
}

fn viewer() -> Arc<ClientConfig> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256];
    client_of(provider, &[&TLS13])
}

fn client_without_tickets(config: &Arc<ClientConfig>) -> Arc<ClientConfig> {
    let mut fresh = ClientConfig::clone(config);
    fresh.resumption = rustls::client::Resumption::disabled();
    Arc::new(fresh)
}

struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx with the same certificate and one file as long as the segment; `None` where there is no nginx.
fn nginx(dir: &Path, len: usize) -> Option<(Nginx, SocketAddr)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    std::fs::create_dir_all(dir.join("www")).ok()?;
    std::fs::write(dir.join("www/segment.m4s"), vec![7; len]).ok()?;
    std::fs::write(dir.join("key.pem"), pem("first.key")).ok()?;
    std::fs::write(dir.join("cert.pem"), pem("first.pem")).ok()?;
    let text = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000000; open_file_cache max=10;\n\
         client_body_temp_path {dir}/a; proxy_temp_path {dir}/b; fastcgi_temp_path {dir}/c;\n\
         uwsgi_temp_path {dir}/d; scgi_temp_path {dir}/e;\n\
         server {{ listen 127.0.0.1:{port} ssl; root {dir}/www; ssl_certificate {dir}/cert.pem;\n\
         ssl_certificate_key {dir}/key.pem; ssl_protocols TLSv1.2 TLSv1.3;\n\
         ssl_session_cache shared:a:10m; }} }}\n",
        dir = dir.display()
    );
    std::fs::write(dir.join("nginx.conf"), text).ok()?;
    let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let child = Command::new(program)
        .args(["-p", dir.to_str()?, "-c", "nginx.conf"])
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let (nginx, address) = (Nginx(child), SocketAddr::from(([127, 0, 0, 1], port)));
    (0..100).find(|_| {
        std::thread::sleep(Duration::from_millis(20));
        TcpStream::connect(address).is_ok()
    })?;
    Some((nginx, address))
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let told = |name: &str| arguments.iter().any(|argument| argument == name);
    let (short, json) = (told("--short"), told("--json"));
    let dir = tempfile::tempdir().unwrap();
    install(dir.path(), "first.pem", "first.key");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("relay-io")
        .enable_all()
        .build()
        .unwrap();
    let (relay, _origin, session) = runtime.block_on(async {
        let origin = FakeOrigin::start().await;
        origin.put(Show::sized("demo", 0..3, SLICE_BYTES));
        let mut config = config(&[origin.url()]);
        listens(&mut config, dir.path());
        config.http2 = true;
        let relay = Relay::with(config).await;
        let session = relay.enter("demo", "alice").await;
        relay.client().await.get(&format!("{session}/video/1.m4s")).await;
        (relay, origin, session)
    });
    let run = Run {
        tls: relay.handle.tls_listen.unwrap(),
        plain: relay.handle.listen,
        segment: format!("{session}/video/1.m4s"),
        config: viewer(),
        seconds: if short { 1.0 } else { 6.0 },
    };
    let rounds = if short { 1 } else { 3 };
    let (_, len) = Counted::connect(run.plain, None, &run.segment);
    let nginx = nginx(dir.path(), len);
    let ours = || cpu_ns("self", "viewers-");
    let (mut rows, mut errors) = ([const { Vec::new() }; 4], 0);
    for _ in 0..rounds {
        let plain = bulk(&run, run.plain, false, &run.segment, ours);
        let sealed = bulk(&run, run.tls, true, &run.segment, ours);
        rows[0].push((plain.1, plain.0));
        rows[1].push((sealed.1, sealed.0));
        // Its connections are served on the runtime.
        let http2 = bulk_http2(&run, || ours() + cpu_ns("self", "relay-io"));
        rows[3].push((http2.1, http2.0));
        errors += plain.2 + sealed.2 + http2.2;
        if let Some((nginx, address)) = &nginx {
            let pid = nginx.0.id().to_string();
            let theirs = bulk(&run, *address, true, "/segment.m4s", || cpu_ns(&pid, ""));
            rows[2].push((theirs.1, theirs.0));
            errors += theirs.2;
        }
    }
    let median = |row: &mut Vec<(f64, f64)>| {
        row.sort_by(|one, other| one.0.total_cmp(&other.0));
        row.get(row.len() / 2).copied().unwrap_or((f64::NAN, f64::NAN))
    };
    let [plain, sealed, theirs, http2] = rows.each_mut().map(median);
    let playlist = format!("{session}/video.m3u8");
    let full = joins(&run, false, &playlist);
    let resumed = joins(&run, true, &playlist);
    errors += full.errors + resumed.errors;
    if !json {
        println!("| segments of {len} bytes, 16 connections | CPU-s a GB | GB/s |\n|---|---|---|");
        let rows = [
            ("relay, plain", plain),
            ("relay, TLS", sealed),
            ("relay, TLS, HTTP/2", http2),
            ("nginx, TLS", theirs),
        ];
        for (name, row) in rows {
            println!("| {name} | {:.3} | {:.2} |", row.0, row.1);
        }
        println!(
            "\n| new connections beside {PACED} viewers at 1 Mb/s | a second | CPU µs each | a viewer's segment, p99 ms |"
        );
        println!("|---|---|---|---|");
        for (name, joins) in [("full handshake and a playlist", &full), ("resumed and a playlist", &resumed)]
        {
            println!("| {name} | {:.0} | {:.0} | {:.1} |", joins.a_second, joins.cpu_us, joins.paced_p99_ms);
        }
        println!();
    }
    println!(
        "{{\"name\":\"tls\",\"ours\":{{\"cpu_s_per_gb\":{:.3},\"plain_cpu_s_per_gb\":{:.3},\"http2_cpu_s_per_gb\":{:.3},\"full_per_s\":{:.0},\
         \"resumed_per_s\":{:.0},\"paced_segments\":{}}},\"yardstick\":{{\"nginx_cpu_s_per_gb\":{:.3}}},\
         \"ratio\":{:.3},\"errors\":{errors}}}",
        sealed.0,
        plain.0,
        http2.0,
        full.a_second,
        resumed.a_second,
        full.paced + resumed.paced,
        theirs.0,
        sealed.0 / theirs.0
    );
    runtime.block_on(relay.handle.stop());
    if errors > 0 {
        std::process::exit(1);
    }
}
