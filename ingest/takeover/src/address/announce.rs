//! Announcing the address on the wire, and listening for others who claim it.
//!
//! In: an address, an interface, a [`Schedule`]. Out: frames on that interface, and a count of foreign claims. One raw
//! packet socket (CAP_NET_RAW) with a filter, so that only ARP and neighbour advertisements wake it.

use super::claim::Claim;
use super::error::Error;
use super::ownership::Interface;
use super::schedule::Schedule;
use super::{Mac, arp, neighbour};
use crate::error::{Purpose, SystemError};
use crate::sys::packet::PacketSocket;
use crate::sys::wait::{Bell, readable};
use socket2::SockFilter;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Everything needed to announce one address, ready to send.
#[derive(Debug)]
pub struct Announcer {
    socket: PacketSocket,
    ip: IpAddr,
    mac: Mac,
    frames: Vec<Vec<u8>>,
}

impl Announcer {
    /// Opens the socket and builds the frames.
    ///
    /// # Errors
    /// Missing CAP_NET_RAW, or no Ethernet interface.
    pub fn prepare(ip: IpAddr, interface: &Interface) -> Result<Self, Error> {
        let socket = PacketSocket::open(interface.index(), &claims_only())
            .to("open a packet socket for announcements (CAP_NET_RAW)")?;
        let mac = socket
            .hardware_address()
            .to("read the interface's Ethernet address")?
            .ok_or_else(|| Error::NotEthernet { name: interface.name().into() })?;
        let frames = match ip {
            IpAddr::V4(ip) => arp::gratuitous(mac, ip).iter().map(|frame| frame.to_vec()).collect(),
            IpAddr::V6(ip) => vec![neighbour::unsolicited(mac, ip).to_vec()],
        };
        Ok(Self { socket, ip, mac, frames })
    }

    /// Sends one announcement.
    ///
    /// # Errors
    /// The interface is down or gone.
    pub fn announce(&self) -> Result<(), SystemError> {
        self.frames.iter().try_for_each(|frame| self.socket.send(frame)).to("announce the virtual address")
    }

    /// Reads what has arrived and gives the last foreign claim of our address in it, if any.
    ///
    /// # Errors
    /// The socket failed.
    pub fn foreign_claim(&self) -> Result<Option<Claim>, SystemError> {
        /// Frames at once: a flood must not keep the schedule waiting.
        const BATCH: usize = 64;
        let mut buffer = [0; 256];
        let mut found = None;
        for _ in 0..BATCH {
            let frame = match self.socket.receive(&mut buffer) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                // Reported once when the interface goes down; it comes back with it.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => break,
                Err(error) => return Err(error).to("listen for claims of the virtual address"),
            };
            found =
                Claim::parse(frame).filter(|claim| claim.ip == self.ip && claim.mac != self.mac).or(found);
        }
        Ok(found)
    }
}

/// ARP, or IPv6 whose next header is ICMPv6 of type 136 (neighbour advertisement).
fn claims_only() -> [SockFilter; 9] {
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_HALF, 0, 0, 12),
        SockFilter::new(JUMP_EQUAL, 5, 0, arp::ETHERTYPE.into()),
        SockFilter::new(JUMP_EQUAL, 0, 5, neighbour::ETHERTYPE.into()),
        SockFilter::new(LOAD_BYTE, 0, 0, 20),
        SockFilter::new(JUMP_EQUAL, 0, 3, neighbour::ICMP.into()),
        SockFilter::new(LOAD_BYTE, 0, 0, 54),
        SockFilter::new(JUMP_EQUAL, 0, 1, neighbour::ADVERTISEMENT.into()),
        SockFilter::new(RETURN, 0, 0, 256),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// A thread that keeps the schedule while we own the address. Make it long before it is needed: opening and closing
/// its packet socket each take the kernel some milliseconds.
#[derive(Debug)]
pub struct Announcing {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    announcer: Announcer,
    bell: Bell,
    clock: Instant,
    stop: AtomicBool,
    post: Mutex<Post>,
}

/// What both sides change. Whoever announces holds the lock, so nothing is sent once `cease` has returned.
#[derive(Debug, Default)]
struct Post {
    /// Present while the address is ours.
    schedule: Option<Schedule>,
    claims: u64,
    last: Option<Claim>,
}

impl Shared {
    fn post(&self) -> MutexGuard<'_, Post> {
        // Plain values, whole after every statement: a panic elsewhere does not spoil them.
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whatever the wire and the clock ask for.
    fn turn(&self) -> Result<(), SystemError> {
        let claim = self.announcer.foreign_claim()?;
        let mut post = self.post();
        let now = self.clock.elapsed();
        // While the address is another's, his claims are right.
        let Some(schedule) = &mut post.schedule else { return Ok(()) };
        if claim.is_some() {
            schedule.claimed(now);
        }
        if schedule.due(now) {
            // A lost announcement is what the next one is for.
            let _ = self.announcer.announce();
        }
        if claim.is_some() {
            post.claims += 1;
            post.last = claim;
        }
        Ok(())
    }
}

impl Announcing {
    /// Starts the thread. It announces nothing yet.
    ///
    /// # Errors
    /// No descriptor or no thread to be had.
    pub fn prepare(announcer: Announcer) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            announcer,
            bell: Bell::new().to("make the announcer's bell (eventfd)")?,
            clock: Instant::now(),
            stop: AtomicBool::new(false),
            post: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("announcer".into())
            .spawn(move || keep(&for_thread))
            .to("start the announcer's thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// The address is ours from now on. The first announcement is on the wire when this returns.
    ///
    /// # Errors
    /// The first announcement failed; the later ones are tried all the same.
    pub fn begin(&self) -> Result<(), SystemError> {
        let mut post = self.shared.post();
        let first = self.shared.announcer.announce();
        let mut schedule = Schedule::start(self.shared.clock.elapsed());
        schedule.due(self.shared.clock.elapsed());
        *post = Post { schedule: Some(schedule), claims: 0, last: None };
        drop(post);
        self.shared.bell.ring();
        first
    }

    /// The address is not ours any more. Nothing is announced once this has returned.
    pub fn cease(&self) {
        self.shared.post().schedule = None;
    }

    /// How often somebody else claimed the address since [`begin`](Self::begin), and the last claim. Above zero with us
    /// as holder means that two hosts own it: compare epochs.
    pub fn claims(&self) -> (u64, Option<Claim>) {
        let post = self.shared.post();
        (post.claims, post.last)
    }
}

impl Drop for Announcing {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Wait after a failed read.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

fn keep(shared: &Shared) {
    while !shared.stop.load(Ordering::Acquire) {
        let next = shared.post().schedule.as_ref().and_then(Schedule::next);
        let limit = next.map(|next| next.saturating_sub(shared.clock.elapsed()));
        let waited = readable([Some(shared.announcer.socket.as_fd()), Some(shared.bell.as_fd())], limit);
        shared.bell.hush();
        // The interface is in trouble and may come back: go on, but do not spin.
        if waited.is_err() || shared.turn().is_err() {
            std::thread::sleep(PAUSE_AFTER_ERROR);
        }
    }
}
