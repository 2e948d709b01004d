//! The commit invariant, proved on the wire: no ACK leaves a holder beyond what its standby has confirmed.
//!
//! In: every frame of each node's host, in the kernel's order: the link to the peer and the publishers' connections are heard
//! by one socket. So "before" needs no clock: a confirmation counts from the frame in which it arrives, a packet from the frame
//! in which it leaves. Out: how many packets were checked, and which broke the promise.
//!
//! The link's frames are read as `mirror` documents them (nothing on it is encrypted), written apart from it on purpose:
//!
//! ```text
//! Hello  92 bytes: "RLVM" | version 1 | role 1 (2: standby) …
//! frame  length of body u32 | epoch u64 | counter u64 | body | MAC 16      Confirm: 12 | connection u64 | input u64 | output u64
//!                                                                          Opened:   2 | connection u64 …
//! ```
//!
//! Holds while both nodes are a pair: a holder that was granted the epoch alone acknowledges alone.

use super::net::{Net, VIP};
use super::rig::HOSTS;
use super::wire::{self, ACK, Ear, RST, SYN, Segment};
use anyhow::{Result, ensure};
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

const LINK_PORT: u16 = 7400;
const HELLO: usize = 92;
const HEADER: usize = 20;
const MAC: usize = 16;
const STANDBY: u8 = 2;
const OPENED: u8 = 2;
const CONFIRM: u8 = 12;

/// The proof under way: an ear on each host.
pub struct Proof {
    book: Arc<Mutex<Book>>,
    _ears: Vec<Ear>,
}

/// What was heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Packets to publishers that were checked.
    pub checked: usize,
    /// Confirmations that were heard.
    pub confirmations: usize,
    /// Packets that left too early, or what could not be read.
    pub broken: Vec<String>,
}

#[derive(Default)]
struct Book {
    heard: Heard,
    /// By publisher's port: first numbers behind the handshake (received, sent), and its place among the connections.
    publishers: HashMap<u16, (u32, u32, usize)>,
    /// The connections' numbers in the order they were opened in.
    connections: Vec<u64>,
}

/// One host's side.
#[derive(Default)]
struct Host {
    /// Ways of links, by (its sender's port, its receiver's port).
    ways: HashMap<(u16, u16), Way>,
    /// What the standby of this host's newest link has confirmed, by connection: input and output.
    confirmed: BTreeMap<u64, (u64, u64)>,
}

/// One way of a link, put together.
struct Way {
    next: u32,
    bytes: Vec<u8>,
    /// The sender's role, once its Hello is whole.
    role: Option<u8>,
}

impl Proof {
    /// Listens on both hosts. Before their nodes start: a link is read from its beginning.
    ///
    /// # Errors
    /// Missing rights.
    pub fn start(net: &Net) -> Result<Proof> {
        let book = Arc::new(Mutex::new(Book::default()));
        let vip: Ipv4Addr = VIP.parse()?;
        let mut ears = Vec::new();
        for name in HOSTS {
            let (shared, mut host) = (book.clone(), Host::default());
            ears.push(Ear::open(Some(&net.name(name)), move |frame| {
                let Some(segment) = wire::segment(frame) else { return };
                let mut book = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if segment.from.port() == LINK_PORT || segment.to.port() == LINK_PORT {
                    host.link(&segment, &mut book);
                } else if *segment.from.ip() == vip && segment.from.port() == 1935 {
                    host.leaves(&segment, &mut book);
                }
            })?);
        }
        Ok(Proof { book, _ears: ears })
    }

    /// What was heard so far.
    ///
    /// # Errors
    /// When nothing was: then nothing is proved.
    pub fn heard(&self) -> Result<Heard> {
        let heard = self.book.lock().unwrap_or_else(PoisonError::into_inner).heard.clone();
        ensure!(heard.checked > 0 && heard.confirmations > 0, "nothing was heard: {heard:?}");
        Ok(heard)
    }
}

impl Host {
    /// A piece of the link, arriving or leaving.
    fn link(&mut self, segment: &Segment, book: &mut Book) {
        let key = (segment.from.port(), segment.to.port());
        if segment.flags & SYN != 0 {
            let next = segment.sequence.wrapping_add(1);
            self.ways.insert(key, Way { next, bytes: Vec::new(), role: None });
            return;
        }
        // Behind a FIN there are numbers without bytes.
        let Some(way) = self.ways.get_mut(&key).filter(|_| !segment.payload.is_empty()) else { return };
        let known = way.next.wrapping_sub(segment.sequence) as i32;
        if known < 0 {
            book.heard.broken.push("the link was not heard whole: nothing is proved".to_owned());
            return drop(self.ways.remove(&key));
        }
        let Some(fresh) = segment.payload.get(known as usize..) else { return };
        way.bytes.extend_from_slice(fresh);
        way.next = way.next.wrapping_add(fresh.len() as u32);
        if way.role.is_none() && way.bytes.len() >= HELLO {
            way.role = way.bytes.starts_with(b"RLVM").then_some(way.bytes[5]);
            way.bytes.drain(..HELLO);
            if way.role == Some(STANDBY) {
                // Another link: its standby has confirmed nothing yet.
                self.confirmed.clear();
            }
        }
        while way.role.is_some()
            && let Some(length) = way.bytes.first_chunk().map(|four| u32::from_be_bytes(*four) as usize)
            && let Some(body) = way.bytes.get(HEADER..HEADER + length)
            && way.bytes.len() >= HEADER + length + MAC
        {
            let word = |at: usize| body.get(at..)?.first_chunk().map(|eight| u64::from_be_bytes(*eight));
            match (body.first(), word(1), word(9), word(17)) {
                (Some(&CONFIRM), Some(connection), Some(input), Some(output)) => {
                    self.confirmed.insert(connection, (input, output));
                    book.heard.confirmations += 1;
                }
                (Some(&OPENED), Some(connection), ..) if !book.connections.contains(&connection) => {
                    book.connections.push(connection);
                }
                _ => {}
            }
            way.bytes.drain(..HEADER + length + MAC);
        }
    }

    /// A packet for a publisher leaves this host.
    fn leaves(&self, segment: &Segment, book: &mut Book) {
        let port = segment.to.port();
        if segment.flags & (SYN | ACK) == SYN | ACK {
            let place = book.publishers.len();
            let place = book.publishers.get(&port).map_or(place, |(.., place)| *place);
            let base = (segment.acknowledges, segment.sequence.wrapping_add(1), place);
            book.publishers.insert(port, base);
        }
        let Some((received, sent, place)) = book.publishers.get(&port).copied() else { return };
        let known = book.connections.get(place).and_then(|connection| self.confirmed.get(connection));
        let end = segment.sequence.wrapping_add(segment.payload.len() as u32);
        let acknowledged = i64::from(segment.acknowledges.wrapping_sub(received) as i32);
        let carried = i64::from(end.wrapping_sub(sent) as i32);
        let (input, output) = known.map_or((-1, -1), |(input, output)| (*input as i64, *output as i64));
        book.heard.checked += 1;
        // The handshake's own numbers come before both bases; its packet waits for the standby all the same.
        let early = known.is_none() || acknowledged > input || carried > output;
        if early || segment.flags & RST != 0 {
            book.heard.broken.push(format!(
                "port {port} flags {:02x}: acknowledges {acknowledged} of {input}, carries {carried} of {output}",
                segment.flags
            ));
        }
    }
}
