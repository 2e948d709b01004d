//! What the publishers' host sees of their connections to the moving address: every TCP segment, both ways.
//!
//! In: frames of the client's namespace. Out: sums since the beginning; of the last segments, who spoke when.

use super::net::VIP;
use super::wire::{self, ACK, Ear, FIN, RST, SYN};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Segments that are remembered: more than a minute of two streams.
const RECENT: usize = 400_000;

/// One segment.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Instant,
    from_client: bool,
    /// The publisher's port.
    port: u16,
    mac: [u8; 6],
    flags: u8,
    sequence: u32,
    acknowledges: u32,
    length: u32,
}

#[derive(Default)]
struct Log {
    sums: Sums,
    /// The end of what each port has sent, once it has sent.
    newest: HashMap<u16, u32>,
    /// The number each port began with.
    begun: HashMap<u16, u32>,
    recent: VecDeque<Seen>,
}

/// A capture under way.
pub struct Capture {
    log: Arc<Mutex<Log>>,
    _ear: Ear,
}

/// Sums of a capture.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    /// SYN of publishers.
    pub syn: u64,
    /// Connections that publishers began: their SYN without those sent again.
    pub connections: u64,
    /// RST, either way.
    pub rst: u64,
    /// FIN, either way.
    pub fin: u64,
    /// Segments of publishers whose bytes had been sent before.
    pub retransmissions: u64,
}

/// How an address changed hands, as one publisher saw it; times since the event.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// The last segment of the old holder, negative when it came before the event, milliseconds.
    pub silent_ms: f64,
    /// The first segment of the new one, milliseconds.
    pub word_ms: f64,
    /// The first acknowledgement of more than the old one had acknowledged, milliseconds.
    pub byte_ms: f64,
}

impl Capture {
    /// Begins to listen.
    ///
    /// # Errors
    /// Missing CAP_NET_RAW.
    pub fn start() -> Result<Capture> {
        Capture::of(VIP)
    }

    /// The same of connections to another address.
    ///
    /// # Errors
    /// Missing CAP_NET_RAW, or no address.
    pub fn of(address: &str) -> Result<Capture> {
        let log = Arc::new(Mutex::new(Log::default()));
        let noted = log.clone();
        let address: Ipv4Addr = address.parse()?;
        let ear = Ear::open(None, move |frame| {
            let at = Instant::now();
            if let Some(seen) = parse(frame, address, at) {
                noted.lock().unwrap_or_else(PoisonError::into_inner).note(seen);
            }
        })?;
        Ok(Capture { log, _ear: ear })
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sums so far.
    pub fn sums(&self) -> Sums {
        self.log().sums
    }

    /// The port of the publisher that connected last, and its first sequence number.
    ///
    /// # Errors
    /// When none has.
    pub fn newest(&self) -> Result<(u16, u32)> {
        let log = self.log();
        let syn = |one: &&Seen| one.from_client && one.flags & (SYN | ACK) == SYN;
        let last = log.recent.iter().rev().find(syn).context("nobody has connected")?;
        Ok((last.port, last.sequence))
    }

    /// The newest acknowledgement number for that port.
    pub fn acknowledged(&self, port: u16) -> Option<u32> {
        let log = self.log();
        let answer = |one: &&Seen| !one.from_client && one.port == port && one.flags & ACK != 0;
        log.recent.iter().rev().find(answer).map(|one| one.acknowledges)
    }

    /// How the connection of that port changed hands after the event.
    ///
    /// # Errors
    /// When it has not.
    pub fn change(&self, event: Instant, port: u16) -> Result<Change> {
        let log = self.log();
        let after = log.recent.partition_point(|one| one.at < event);
        let answers = |one: &&Seen| !one.from_client && one.port == port && one.flags & ACK != 0;
        let before = log.recent.range(..after).rev().find(answers);
        let mut last = *before.context("nobody had answered before")?;
        let old = last.mac;
        let (mut silent, mut word) = (last.at, None);
        for one in log.recent.range(after..).filter(answers) {
            if one.mac == old {
                // Its last words may have crossed the event.
                ensure!(word.is_none(), "the old holder spoke after the new one");
                (last, silent) = (*one, one.at);
                continue;
            }
            word = word.or(Some(one.at));
            if (one.acknowledges.wrapping_sub(last.acknowledges) as i32) > 0 {
                let ms = |at: Instant| match at.checked_duration_since(event) {
                    Some(after) => after.as_secs_f64() * 1e3,
                    None => event.duration_since(at).as_secs_f64() * -1e3,
                };
                let word_ms = ms(word.unwrap_or(one.at));
                return Ok(Change { silent_ms: ms(silent), word_ms, byte_ms: ms(one.at) });
            }
        }
        anyhow::bail!("nobody else acknowledged anything to port {port}")
    }

    /// The longest time since a moment in which nothing more was acknowledged to that port, milliseconds; `None` when it
    /// heard nothing.
    pub fn longest_wait_ms(&self, port: u16, since: Instant) -> Option<f64> {
        let log = self.log();
        let after = log.recent.partition_point(|one| one.at < since);
        let answers = |one: &&Seen| !one.from_client && one.port == port && one.flags & ACK != 0;
        let mut last = *log.recent.range(after..).find(answers)?;
        let mut longest = last.at - since;
        for one in log.recent.range(after..).filter(answers) {
            if (one.acknowledges.wrapping_sub(last.acknowledges) as i32) > 0 {
                longest = longest.max(one.at - last.at);
                last = *one;
            }
        }
        Some(longest.max(last.at.elapsed()).as_secs_f64() * 1e3)
    }

    /// Bytes that were acknowledged to that port, and then by another holder no more.
    pub fn forgotten(&self, port: u16) -> usize {
        let log = self.log();
        let answers = |one: &&Seen| !one.from_client && one.port == port && one.flags & ACK != 0;
        let (mut most, mut forgotten): (Option<(u32, [u8; 6])>, i32) = (None, 0);
        for one in log.recent.iter().filter(answers) {
            match most {
                Some((acknowledged, by)) if (one.acknowledges.wrapping_sub(acknowledged) as i32) <= 0 => {
                    if by != one.mac {
                        forgotten = forgotten.max(acknowledged.wrapping_sub(one.acknowledges) as i32);
                    }
                }
                _ => most = Some((one.acknowledges, one.mac)),
            }
        }
        forgotten as usize
    }

    /// The last segments that were seen, a line each: for people.
    pub fn tail(&self, count: usize) -> String {
        let log = self.log();
        let Some(last) = log.recent.back() else { return "nothing was seen\n".to_owned() };
        let line = |one: &Seen| {
            format!(
                "{:>9.3} ms {} port {} mac ..{:02x} flags {:02x} seq {} len {} ack {}\n",
                (last.at - one.at).as_secs_f64() * -1000.0,
                if one.from_client { "publisher" } else { "address  " },
                one.port,
                one.mac[5],
                one.flags,
                one.sequence,
                one.length,
                one.acknowledges
            )
        };
        log.recent.range(log.recent.len().saturating_sub(count)..).map(line).collect()
    }

    /// Segments from this Ethernet address since a moment.
    pub fn spoken_by(&self, mac: [u8; 6], since: Instant) -> usize {
        let log = self.log();
        let after = log.recent.partition_point(|one| one.at <= since);
        log.recent.range(after..).filter(|one| !one.from_client && one.mac == mac).count()
    }

    /// Who answered last before a moment.
    pub fn speaker(&self, before: Instant) -> Option<[u8; 6]> {
        self.log().recent.iter().rfind(|one| !one.from_client && one.at < before).map(|one| one.mac)
    }
}

impl Log {
    fn note(&mut self, one: Seen) {
        if one.from_client && one.length > 0 {
            let end = one.sequence.wrapping_add(one.length);
            let before = self.newest.entry(one.port).or_insert(one.sequence);
            if (end.wrapping_sub(*before) as i32) > 0 {
                *before = end;
            } else {
                self.sums.retransmissions += 1;
            }
        }
        let opens = one.from_client && one.flags & (SYN | ACK) == SYN;
        if opens {
            self.newest.remove(&one.port);
            let again = self.begun.insert(one.port, one.sequence) == Some(one.sequence);
            self.sums.connections += u64::from(!again);
        }
        self.sums.syn += u64::from(opens);
        self.sums.rst += u64::from(one.flags & RST != 0);
        self.sums.fin += u64::from(one.flags & FIN != 0);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(one);
    }
}

impl std::ops::Sub for Sums {
    type Output = Sums;

    fn sub(self, before: Sums) -> Sums {
        Sums {
            syn: self.syn - before.syn,
            connections: self.connections - before.connections,
            rst: self.rst - before.rst,
            fin: self.fin - before.fin,
            retransmissions: self.retransmissions - before.retransmissions,
        }
    }
}

impl std::ops::Add for Sums {
    type Output = Sums;

    fn add(self, more: Sums) -> Sums {
        Sums {
            syn: self.syn + more.syn,
            connections: self.connections + more.connections,
            rst: self.rst + more.rst,
            fin: self.fin + more.fin,
            retransmissions: self.retransmissions + more.retransmissions,
        }
    }
}

impl Sums {
    /// As the lab prints it.
    pub fn json(&self) -> Value {
        json!({
            "reconnects": self.connections, "syn": self.syn, "rst": self.rst, "fin": self.fin,
            "retransmissions": self.retransmissions,
        })
    }
}

fn parse(frame: &[u8], address: Ipv4Addr, at: Instant) -> Option<Seen> {
    let segment = wire::segment(frame)?;
    let from_client = *segment.to.ip() == address && segment.to.port() == 1935;
    let to_client = *segment.from.ip() == address && segment.from.port() == 1935;
    (from_client || to_client).then_some(Seen {
        at,
        from_client,
        port: if from_client { segment.from.port() } else { segment.to.port() },
        mac: segment.mac,
        flags: segment.flags,
        sequence: segment.sequence,
        acknowledges: segment.acknowledges,
        length: u32::try_from(segment.payload.len()).ok()?,
    })
}
