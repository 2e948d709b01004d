//! Heartbeats of strangers: real ones said again, and forged ones, during the life of a pair.
//!
//! In: the beats on the wire of both hosts, as they are said. Out: the same datagrams again to the node they were for, at once,
//! late and after the epoch is over; with one bit changed; cut; and noise. A node that takes one of them for its peer's word
//! changes its state. It answers only what holds, so that all of this must change nothing but its count of refused datagrams.

use super::net::Net;
use super::rig::HOSTS;
use super::wire::{self, Ear};
use anyhow::Result;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const BEATS: u16 = 7401;
/// Beats that are kept to be said again: those of the first epochs stay.
const KEPT: usize = 2_000;
/// Between two datagrams: three times as often as both nodes beat.
const PAUSE: Duration = Duration::from_micros(800);

type Said = Arc<Mutex<Vec<(SocketAddrV4, Vec<u8>)>>>;

/// The echo at work; ends when it is dropped.
pub struct Echo {
    sent: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    _ears: Vec<Ear>,
}

impl Echo {
    /// Listens on both hosts, and says again what it hears.
    ///
    /// # Errors
    /// Missing rights.
    pub fn start(net: &Net) -> Result<Echo> {
        let said = Said::default();
        let mut ears = Vec::new();
        for name in HOSTS {
            let kept = said.clone();
            ears.push(Ear::open(Some(&net.name(name)), move |frame| {
                // Of the nodes: what this echo says comes from another port.
                let Some((from, to, bytes)) = wire::datagram(frame) else { return };
                if from.port() != BEATS || to.port() != BEATS {
                    return;
                }
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                // Later epochs find room too: every other one of the newer half makes it.
                if kept.len() == KEPT {
                    let half = KEPT / 2;
                    let mut number = 0;
                    kept.retain(|_| {
                        number += 1;
                        number <= half || number % 2 == 0
                    });
                }
                kept.push((to, bytes.to_vec()));
            })?);
        }
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let (sent, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, stopping) = (sent.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut number = 0_usize;
            while !stopping.load(Ordering::Relaxed) {
                std::thread::sleep(PAUSE);
                number += 1;
                let one = {
                    let said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    // By turns the newest and one of all.
                    let place = if number.is_multiple_of(2) {
                        said.len().checked_sub(1)
                    } else {
                        number.checked_rem(said.len())
                    };
                    place.and_then(|place| said.get(place).cloned())
                };
                let Some((to, bytes)) = one else { continue };
                // Every node is reached by its public path from here.
                let to = SocketAddr::from(([10, 77, 0, to.ip().octets()[3]], BEATS));
                if socket.send_to(&altered(bytes, number), to).is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Ok(Echo { sent, stop, thread: Some(thread), _ears: ears })
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Four of eight as they were, then a changed bit, a cut one, one for the other cluster, noise.
fn altered(mut bytes: Vec<u8>, number: usize) -> Vec<u8> {
    match number / 2 % 8 {
        4 => {
            let bit = number % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        5 => bytes.truncate(number % bytes.len()),
        // A far higher epoch and counter, as a thief of the address would say.
        6 => bytes[16..40].fill(0x7f),
        7 => bytes.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 31 + number) as u8),
        _ => {}
    }
    bytes
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
