//! What the publisher's host sees of its connection to the moving address: every TCP segment, both ways.
//!
//! In: an AF_PACKET socket in the client's namespace. Out: the segments with times, and sums of them.

use super::net::VIP;
use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::Read;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// One segment.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When.
    pub at: Instant,
    /// From the publisher, or to it.
    pub from_client: bool,
    /// The publisher's port.
    pub port: u16,
    /// The sender's Ethernet address.
    pub mac: [u8; 6],
    flags: u8,
    sequence: u32,
    acknowledges: u32,
    length: u32,
}

/// A capture under way.
pub struct Capture {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Sums of a capture.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// SYN of the publisher.
    pub syn: u64,
    /// RST, either way.
    pub rst: u64,
    /// FIN, either way.
    pub fin: u64,
    /// Segments of the publisher whose bytes had been sent before.
    pub retransmissions: u64,
}

impl Capture {
    /// Begins to listen.
    ///
    /// # Errors
    /// Missing CAP_NET_RAW.
    pub fn start() -> Result<Capture> {
        // Every protocol, on every interface of this namespace.
        let all = Protocol::from(i32::from(0x0003_u16.to_be()));
        let mut socket =
            Socket::new(Domain::PACKET, Type::RAW, Some(all)).context("a packet socket (root)")?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let _ = socket.set_recv_buffer_size(16 << 20);
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (noted, stopping) = (seen.clone(), stop.clone());
        let vip: Ipv4Addr = VIP.parse()?;
        let thread = std::thread::spawn(move || {
            let mut frame = vec![0; 128 << 10];
            while !stopping.load(Ordering::Relaxed) {
                let Ok(length) = socket.read(&mut frame) else { continue };
                if let Some(segment) = parse(&frame[..length], vip) {
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push(segment);
                }
            }
        });
        Ok(Capture { seen, stop, thread: Some(thread) })
    }

    fn all(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sums from a moment on.
    pub fn sums(&self, since: Instant) -> Sums {
        let mut sums = Sums::default();
        let mut newest: std::collections::HashMap<u16, u32> = std::collections::HashMap::new();
        for one in self.all() {
            let counts = one.at >= since;
            if one.from_client && one.length > 0 {
                let end = one.sequence.wrapping_add(one.length);
                let before = newest.entry(one.port).or_insert(one.sequence);
                if (end.wrapping_sub(*before) as i32) > 0 {
                    *before = end;
                } else if counts {
                    sums.retransmissions += 1;
                }
            }
            if counts {
                sums.syn += u64::from(one.from_client && one.flags & (SYN | ACK) == SYN);
                sums.rst += u64::from(one.flags & RST != 0);
                sums.fin += u64::from(one.flags & FIN != 0);
            }
        }
        sums
    }

    /// From `event` until somebody with another Ethernet address acknowledged more than the one before had.
    pub fn first_new_byte(&self, event: Instant) -> Option<Duration> {
        let all = self.all();
        let answers = |one: &&Seen| !one.from_client && one.flags & ACK != 0;
        let last = all.iter().filter(|one| one.at < event).rfind(answers)?;
        let fresh = |one: &&Seen| {
            one.at > event
                && one.mac != last.mac
                && one.port == last.port
                && (one.acknowledges.wrapping_sub(last.acknowledges) as i32) > 0
        };
        all.iter().filter(answers).find(fresh).map(|one| one.at - event)
    }

    /// The last segments that were seen, a line each: for people.
    pub fn tail(&self, count: usize) -> String {
        let all = self.all();
        let Some(last) = all.last() else { return "nothing was seen\n".to_owned() };
        let line = |one: &Seen| {
            format!(
                "{:>9.3} ms {} mac ..{:02x} flags {:02x} seq {} len {} ack {}\n",
                (last.at - one.at).as_secs_f64() * -1000.0,
                if one.from_client { "publisher" } else { "address  " },
                one.mac[5],
                one.flags,
                one.sequence,
                one.length,
                one.acknowledges
            )
        };
        all[all.len().saturating_sub(count)..].iter().map(line).collect()
    }

    /// Segments from this Ethernet address since a moment.
    pub fn spoken_by(&self, mac: [u8; 6], since: Instant) -> usize {
        self.all().iter().filter(|one| !one.from_client && one.mac == mac && one.at > since).count()
    }

    /// Who answered last before a moment.
    pub fn speaker(&self, before: Instant) -> Option<[u8; 6]> {
        self.all().iter().rfind(|one| !one.from_client && one.at < before).map(|one| one.mac)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn parse(frame: &[u8], vip: Ipv4Addr) -> Option<Seen> {
    let ip = frame.get(14..)?;
    if frame[12..14] != [8, 0] || *ip.first()? >> 4 != 4 || *ip.get(9)? != 6 {
        return None;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([*ip.get(2)?, *ip.get(3)?]));
    let tcp = ip.get(header..)?;
    let address = |at: usize| ip.get(at..at + 4)?.first_chunk::<4>().map(|four| Ipv4Addr::from(*four));
    let port = |at: usize| tcp.get(at..at + 2)?.first_chunk::<2>().map(|two| u16::from_be_bytes(*two));
    let word = |at: usize| tcp.get(at..at + 4)?.first_chunk::<4>().map(|four| u32::from_be_bytes(*four));
    let from_client = address(16)? == vip && port(2)? == 1935;
    let to_client = address(12)? == vip && port(0)? == 1935;
    if !from_client && !to_client {
        return None;
    }
    let offset = usize::from(*tcp.get(12)? >> 4) * 4;
    // Offloaded segments may be longer than the field says; zero means "as long as the frame".
    let all = if total == 0 { ip.len() } else { total };
    Some(Seen {
        at: Instant::now(),
        from_client,
        port: port(if from_client { 0 } else { 2 })?,
        mac: *frame.get(6..12)?.first_chunk()?,
        flags: *tcp.get(13)?,
        sequence: word(4)?,
        acknowledges: word(8)?,
        length: u32::try_from(all.saturating_sub(header + offset)).ok()?,
    })
}
