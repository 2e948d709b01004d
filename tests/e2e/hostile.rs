//! Hostile bytes on every open port, beside a good publisher whose viewers must not notice.

use anyhow::{Context, Result, ensure};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tests::tap::Tap;
use tests::{Child, Cluster, Mark, Publisher, Viewer, feed, wait_for};

/// How much more memory the ingest may use after all of it.
const MORE_KIB_MAX: u64 = 96 << 10;
/// How long a connection that does not get anywhere may stay open.
const PATIENCE: Duration = Duration::from_secs(15);

/// Repeatable noise (xorshift64*).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Sends bytes, says that there are no more, and reads what comes until the other side closes too.
fn throw(target: SocketAddr, bytes: &[u8]) -> Result<()> {
    let mut socket = TcpStream::connect(target)?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.set_write_timeout(Some(Duration::from_secs(3)))?;
    for piece in bytes.chunks(32 << 10) {
        if socket.write_all(piece).is_err() {
            return Ok(()); // refused, as it should be
        }
    }
    if socket.shutdown(Shutdown::Write).is_err() {
        return Ok(()); // closed already
    }
    let mut answer = [0; 8192];
    loop {
        match socket.read(&mut answer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                anyhow::bail!("a connection is kept open although its peer has ended it");
            }
            Err(_) => return Ok(()), // a reset is an end too
        }
    }
}

/// What ffmpeg sends to publish the small feed, byte for byte.
fn capture(cluster: &Cluster, key: &str) -> Result<Vec<u8>> {
    let mut tap = Tap::to(cluster.ingest.port("rtmp")?)?;
    let mut push =
        Publisher::once(feed::SMALL, &format!("rtmp://{}/live/{key}", tap.address()), cluster.dir())?;
    ensure!(push.child.wait(Duration::from_secs(30))?.success(), "ffmpeg: {}", push.child.log());
    tap.finish()?;
    Ok(tap.sent())
}

#[test]
fn hostile_publishers_harm_nobody() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let good = cluster.add_stream("good", Mark::Prefer)?;
    let bad = cluster.add_stream("bad", Mark::Prefer)?;
    let rtmp = cluster.ingest.port("rtmp")?;
    let _publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&good)?, cluster.dir())?;
    let mut viewer =
        Viewer::enter_when_live(&cluster.mint("good", "alice", 600)?[0], Duration::from_secs(20))?;
    let script = capture(&cluster, &bad)?;
    ensure!(script.len() > 100_000, "{} bytes of a publisher", script.len());
    let before = cluster.ingest.child.rss_kib()?;

    let attack = || -> Result<()> {
        let mut noise = Noise(0x5eed);
        for round in 0..150 {
            let count = 1 + noise.below(8192);
            throw(rtmp, &noise.bytes(count)).context("noise")?;
            // A good handshake, then noise.
            let count = 1 + noise.below(4096);
            throw(rtmp, &[&script[..3073], &noise.bytes(count)].concat())
                .context("noise after a handshake")?;
            // A real publisher with some bits flipped, mostly where the protocol is.
            let mut flipped = script.clone();
            let range = if round % 3 == 0 { flipped.len() } else { 6_000 };
            for _ in 0..1 + noise.below(24) {
                let at = 1537 + noise.below(range - 1537);
                flipped[at] ^= 1 << noise.below(8);
            }
            throw(rtmp, &flipped).context("flipped bits")?;
            // A real publisher that is cut, and one that says everything twice.
            throw(rtmp, &script[..noise.below(script.len())]).context("cut")?;
        }
        // Claims of 16 MiB for every message, on many chunk streams at once: nothing may be reserved for them.
        for _ in 0..20 {
            let mut claims = script[..3073].to_vec();
            for stream in 3..64u8 {
                claims.extend_from_slice(&[stream, 0, 0, 0, 0xff, 0xff, 0xff, 9, 1, 0, 0, 0]);
                claims.extend_from_slice(&[0; 128]);
            }
            throw(rtmp, &claims).context("claims")?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let attacker = scope.spawn(attack);
        while !attacker.is_finished() {
            viewer.poll()?;
            std::thread::sleep(Duration::from_millis(200));
        }
        attacker.join().map_err(|_| anyhow::anyhow!("the attacker panicked"))?
    })?;
    let listed = viewer.tracks[0].listed().len();
    viewer.follow_until(listed + 2, Duration::from_secs(15)).context("the good stream goes on")?;
    viewer.verdict().context("the good stream")?;
    cluster.check_alive()?;
    let after = cluster.ingest.child.rss_kib()?;
    ensure!(after < before + MORE_KIB_MAX, "the ingest uses {after} KiB after {before} KiB");
    let log = cluster.logs();
    ensure!(!log.contains("panicked"), "something panicked: {log}");

    // And the stream that was attacked is there for its own publisher.
    let _publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&bad)?, cluster.dir())?;
    let mut viewer =
        Viewer::enter_when_live(&cluster.mint("bad", "alice", 600)?[0], Duration::from_secs(20))?;
    let newest = viewer.tracks[0].listed().len();
    viewer.follow_until(newest + 3, Duration::from_secs(20))
}

#[test]
fn a_wrong_key_is_refused_by_name() -> Result<()> {
    let cluster = Cluster::start(0)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let mut wrong = key.clone().into_bytes();
    let last = wrong.last_mut().context("a key")?;
    *last = if *last == b'0' { b'1' } else { b'0' };
    for key in [String::from_utf8(wrong)?, "demo".into(), "nonsense".into(), key[..key.len() / 2].to_owned()]
    {
        let tap = Tap::to(cluster.ingest.port("rtmp")?)?;
        let url = format!("rtmp://{}/live/{key}", tap.address());
        let mut push = Publisher::once(feed::SMALL, &url, cluster.dir())?;
        let status = push.child.wait(Duration::from_secs(15)).context("a wrong key is refused")?;
        ensure!(!status.success(), "ffmpeg published with a wrong key");
        let answer = tap.received();
        let named = answer.windows(26).any(|bytes| {
            bytes == b"NetStream.Publish.BadName\0" || &bytes[..25] == b"NetStream.Publish.BadName"
        });
        ensure!(named, "no NetStream.Publish.BadName in the answer");
    }
    Ok(())
}

#[test]
fn a_peer_that_gets_nowhere_is_let_go() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let script = capture(&cluster, &key)?;
    let rtmp = cluster.ingest.port("rtmp")?;
    // Silent from the start, in the handshake, after it, and one byte a second for ever.
    let mut sockets = Vec::new();
    for bytes in [0, 1, 700, 1537, 3073, 3100] {
        let mut socket = TcpStream::connect(rtmp)?;
        socket.write_all(&script[..bytes])?;
        sockets.push((bytes, socket, false));
    }
    sockets.push((3100, TcpStream::connect(rtmp)?, true));
    let started = Instant::now();
    for (bytes, mut socket, slowly) in sockets {
        socket.set_read_timeout(Some(Duration::from_millis(if slowly { 500 } else { 1_000 })))?;
        let mut sent = 0;
        loop {
            ensure!(started.elapsed() < PATIENCE, "open after {PATIENCE:?}: {bytes} bytes, slowly: {slowly}");
            if slowly && (sent >= bytes || socket.write_all(&script[sent..=sent]).is_err()) {
                break;
            }
            sent += 1;
            match socket.read(&mut [0; 8192]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                    ) => {}
                Err(_) => break,
            }
        }
    }
    cluster.check_alive()
}

#[test]
fn hostile_bytes_on_the_viewers_port_harm_nobody() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let _publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&key)?, cluster.dir())?;
    let mut viewer =
        Viewer::enter_when_live(&cluster.mint("demo", "alice", 600)?[0], Duration::from_secs(20))?;
    let ports =
        [cluster.relays[0].port("listen")?, cluster.ingest.port("origin")?, cluster.ingest.port("admin")?];
    let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", "/v/AAAA/index.m3u8?token=b").into_bytes();
    let mut noise = Noise(0xbad);
    for _ in 0..100 {
        for port in ports {
            let count = 1 + noise.below(4096);
            throw(port, &noise.bytes(count))?;
            let mut flipped = request.clone();
            for _ in 0..1 + noise.below(6) {
                let at = noise.below(flipped.len());
                flipped[at] = noise.next() as u8;
            }
            throw(port, &flipped)?;
        }
        viewer.poll()?;
    }
    viewer.verdict()?;
    cluster.check_alive()?;
    let log = cluster.logs();
    ensure!(!log.contains("panicked"), "something panicked: {log}");
    Ok(())
}

/// A killed mark worker is started again, and the stream goes on.
#[test]
fn a_dead_mark_worker_is_replaced() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let _publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&key)?, cluster.dir())?;
    let mut viewer =
        Viewer::enter_when_live(&cluster.mint("demo", "alice", 600)?[0], Duration::from_secs(20))?;
    viewer.follow_until(2, Duration::from_secs(10))?;
    for _ in 0..2 {
        let worker = mark_worker(&cluster.ingest.child)?;
        let id = rustix::process::Pid::from_raw(worker).context("a process id is not 0")?;
        rustix::process::kill_process(id, rustix::process::Signal::KILL)?;
        wait_for("new mark worker", Duration::from_secs(10), || {
            let now = mark_worker(&cluster.ingest.child)?;
            ensure!(now != worker, "the dead worker still runs");
            Ok(())
        })?;
        viewer.follow(Duration::from_secs(4))?;
    }
    let newest = *viewer.tracks[0].listed().keys().last().context("segments")?;
    viewer.follow_until(viewer.tracks[0].listed().len() + 2, Duration::from_secs(10))?;
    viewer.verdict()?;
    let word = cluster.codeword("demo", "alice", newest + 2)?;
    ensure!(word["gops"][0]["marking"] == "marked", "marking has not come back: {word}");
    cluster.check_alive()
}

/// The process id of the ingest's mark worker: a child whose command line says so.
fn mark_worker(ingest: &Child) -> Result<i32> {
    for child in ingest.children()? {
        let line = std::fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
        if line.windows(11).any(|bytes| bytes == b"mark-worker") {
            return Ok(child.try_into()?);
        }
    }
    anyhow::bail!("the ingest has no mark worker")
}
