//! The publisher: sends one stream, reads the other, and watches its own wire.

use crate::wire::{DOWN, LIFE_MAX, PORT, UP, hex, noise, say, vip};
use ring::digest::{Context, SHA256};
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use takeover::hold::Segment;

/// 1316 bytes every 2 ms: 5.3 Mb/s.
const CHUNK: usize = 1316;
const PACE: Duration = Duration::from_millis(2);
/// A client that cannot send or finish for this long calls the connection broken.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the sniffer saw of our connection.
#[derive(Default)]
struct Seen {
    syn: u32,
    syn_ack: u32,
    reset: u32,
    fin_early: u32,
    hosts: BTreeSet<[u8; 6]>,
    changes: u32,
    last: Option<[u8; 6]>,
}

pub(crate) fn run(v6: bool) {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let closing = Arc::new(AtomicBool::new(false));
    sniff(vip(v6), Arc::clone(&seen), Arc::clone(&closing));
    let server = SocketAddr::new(vip(v6), PORT);
    let stream = match TcpStream::connect_timeout(&server, PATIENCE) {
        Ok(stream) => stream,
        Err(error) => {
            return say(format_args!("report error=connect:{}", error.to_string().replace(' ', "_")));
        }
    };
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    say(format_args!("connected {}", stream.local_addr().unwrap()));
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = Arc::clone(&stop);
    std::thread::spawn(move || {
        // Any line, or the end of the lab, ends the stream.
        let _ = std::io::stdin().read_line(&mut String::new());
        stopper.store(true, Ordering::Release);
        std::thread::sleep(LIFE_MAX);
        std::process::exit(3);
    });
    let reader = {
        let stream = stream.try_clone().unwrap();
        std::thread::spawn(move || read(stream))
    };
    let (sent, sent_hash, send_error, longest) = send(&stream, &stop);
    // Whatever ends the connection from here on is expected.
    closing.store(true, Ordering::Release);
    let _ = stream.shutdown(Shutdown::Write);
    let (received, intact, read_error) = reader.join().unwrap();
    let seen = seen.lock().unwrap();
    say(format_args!(
        "report sent={sent} sent_hash={sent_hash} received={received} intact={intact} error={} longest_block_ms={} syn={} \
         syn_ack={} reset={} fin_early={} hosts={} changes={}",
        send_error.or(read_error).unwrap_or_else(|| "none".into()).replace(' ', "_"),
        longest.as_millis(),
        seen.syn,
        seen.syn_ack,
        seen.reset,
        seen.fin_early,
        seen.hosts.len(),
        seen.changes
    ));
}

fn send(mut stream: &TcpStream, stop: &AtomicBool) -> (u64, String, Option<String>, Duration) {
    let mut context = Context::new(&SHA256);
    let (mut sent, mut longest) = (0, Duration::ZERO);
    let started = Instant::now();
    let mut next = started;
    let mut failure = None;
    while !stop.load(Ordering::Acquire) && started.elapsed() < LIFE_MAX {
        let chunk = noise(UP, sent, CHUNK);
        let before = Instant::now();
        if let Err(error) = stream.write_all(&chunk) {
            failure = Some(format!("send: {error}"));
            break;
        }
        longest = longest.max(before.elapsed());
        context.update(&chunk);
        sent += CHUNK as u64;
        next += PACE;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    (sent, hex(context), failure, longest)
}

/// Reads to the end: how much, whether it was the right bytes, what went wrong.
fn read(mut stream: TcpStream) -> (u64, bool, Option<String>) {
    let mut buffer = vec![0; 1 << 16];
    let (mut received, mut intact) = (0, true);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return (received, intact, None),
            Ok(count) => {
                intact &= buffer[..count] == noise(DOWN, received, count);
                received += count as u64;
            }
            Err(error) => return (received, intact, Some(format!("read: {error}"))),
        }
    }
}

/// Counts what the wire shows of the connection with `server`.
fn sniff(server: IpAddr, seen: Arc<Mutex<Seen>>, closing: Arc<AtomicBool>) {
    let everything = i32::from(3_u16.to_be()); // ETH_P_ALL
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(everything))).unwrap();
    socket.set_recv_buffer_size(8 << 20).unwrap();
    std::thread::spawn(move || {
        let mut socket = socket;
        let mut frame = vec![0; 1 << 16];
        while let Ok(count) = socket.read(&mut frame) {
            let Some(packet) = frame[..count].get(14..) else { continue };
            let Some(segment) = Segment::parse(packet) else { continue };
            let header = if server.is_ipv4() { 20 } else { 40 };
            let flags = packet.get(header + 13).copied().unwrap_or(0);
            let mut seen = seen.lock().unwrap();
            if segment.flow.local.ip() == server {
                let host: [u8; 6] = *frame[6..].first_chunk().unwrap();
                if seen.last.replace(host).is_some_and(|last| last != host) {
                    seen.changes += 1;
                }
                seen.hosts.insert(host);
                seen.syn_ack += u32::from(segment.syn_ack.is_some());
                seen.fin_early += u32::from(flags & 1 != 0 && !closing.load(Ordering::Acquire));
            } else if segment.flow.peer.ip() != server {
                continue;
            }
            seen.syn += u32::from(flags & 0x12 == 0x02);
            seen.reset += u32::from(segment.reset);
        }
    });
}
