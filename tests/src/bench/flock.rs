//! Many broadcasters at once, cheaply: all push the same feed in step, from a few threads.
//!
//! In: a feed, an address, stream keys. Out: so many live RTMP connections at the feed's own rate; how many have ended.

use crate::feed;
use crate::flv::Feed;
use crate::steady::{Reel, begin, connect};
use anyhow::{Context, Result};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often bytes are offered: a picture comes in two or three pieces.
const TICK: Duration = Duration::from_millis(10);
/// Connections of one thread.
const SHARE: usize = 25;

/// Connections at work; they end when it is dropped.
pub struct Flock {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    /// The feed's rate, Mb/s.
    pub mbps: f64,
}

impl Flock {
    /// Connects them all, one after the other, then begins to push.
    ///
    /// # Errors
    /// When the feed is missing, or one may not publish.
    pub fn start(name: &str, to: SocketAddr, keys: &[String]) -> Result<Flock> {
        let feed = Feed::parse(&std::fs::read(feed::path(name)?)?)?;
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut sockets = Vec::new();
        for (number, key) in keys.iter().enumerate() {
            let mut socket = connect(to, 0)?;
            begin(&mut socket, to, key, &feed).with_context(|| format!("publisher {number}"))?;
            let mut answers = socket.try_clone()?;
            // Unread they would fill the window.
            std::thread::spawn(move || io::copy(&mut answers, &mut io::sink()));
            sockets.push(socket);
        }
        let (mut threads, mut mbps) = (Vec::new(), 0.0);
        while !sockets.is_empty() {
            let share = sockets.split_off(sockets.len().saturating_sub(SHARE));
            let reel = Reel::of(&feed)?;
            mbps = reel.bytes.len() as f64 * 8e-3 / reel.length_ms as f64;
            let (stopping, ended) = (stop.clone(), ended.clone());
            threads.push(std::thread::spawn(move || push(share, reel, &stopping, &ended)));
        }
        Ok(Flock { stop, ended, threads, mbps })
    }

    /// Connections that ended by themselves.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }
}

impl Drop for Flock {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // it does not panic
        }
    }
}

fn push(mut sockets: Vec<TcpStream>, mut reel: Reel, stop: &AtomicBool, ended: &AtomicU64) {
    let (length, started) = (reel.bytes.len() as u64, Instant::now());
    let (mut sent, mut tick) = (0_u64, 0_u32);
    while !stop.load(Ordering::Relaxed) && !sockets.is_empty() {
        let due = started.elapsed().as_micros() as u64 * length / (reel.length_ms * 1000);
        while sent < due {
            let at = sent % length;
            if at == 0 && reel.date(sent / length).is_err() {
                break;
            }
            let end = length.min(at + due - sent);
            let piece = &reel.bytes[at as usize..end as usize];
            let before = sockets.len();
            sockets.retain_mut(|socket| socket.write_all(piece).is_ok());
            ended.fetch_add((before - sockets.len()) as u64, Ordering::Relaxed);
            sent += end - at;
        }
        tick += 1;
        std::thread::sleep((started + TICK * tick).saturating_duration_since(Instant::now()));
    }
    for socket in &sockets {
        let _ = socket.shutdown(Shutdown::Both); // it may have ended
    }
}
