//! Frames of a namespace's interfaces, both ways, in the kernel's order, and what they say.
//!
//! In: an AF_PACKET socket (root). Out: frames; TCP segments and UDP datagrams in them. IPv4 on Ethernet only, as in `net`.

use anyhow::{Context, Result};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use socket2::{Domain, Protocol, Socket, Type};
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// TCP flags.
pub const FIN: u8 = 1;
/// …
pub const SYN: u8 = 2;
/// …
pub const RST: u8 = 4;
/// …
pub const ACK: u8 = 16;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// As long as an offloaded segment may be.
const FRAME_MAX: usize = 128 << 10;

/// A TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// The sender's Ethernet address.
    pub mac: [u8; 6],
    /// Sender.
    pub from: SocketAddrV4,
    /// Receiver.
    pub to: SocketAddrV4,
    /// Flags.
    pub flags: u8,
    /// First sequence number.
    pub sequence: u32,
    /// Acknowledgement number.
    pub acknowledges: u32,
    /// Payload.
    pub payload: &'a [u8],
}

/// A listener that ends when it is dropped.
pub struct Ear {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ear {
    /// Hears every frame in a namespace, or in this thread's own; returns once it hears.
    ///
    /// # Errors
    /// Missing rights, or no such namespace.
    pub fn open(namespace: Option<&str>, mut heard: impl FnMut(&[u8]) + Send + 'static) -> Result<Ear> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = stop.clone();
        let inside = namespace.map(|name| File::open(format!("/run/netns/{name}"))).transpose()?;
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let opened = inside.map_or(Ok(()), |inside| {
                move_into_link_name_space(inside.as_fd(), Some(LinkNameSpaceType::Network))
            });
            let mut socket = match opened.context("a namespace").and_then(|()| socket()) {
                Ok(socket) => socket,
                Err(error) => return drop(tell.send(Err(error))),
            };
            let _ = tell.send(Ok(()));
            let mut frame = vec![0; FRAME_MAX];
            while !stopping.load(Ordering::Relaxed) {
                if let Ok(length) = socket.read(&mut frame) {
                    heard(&frame[..length]);
                }
            }
        });
        told.recv().context("the listener's thread")??;
        Ok(Ear { stop, thread: Some(thread) })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Every protocol, on every interface of the thread's namespace.
fn socket() -> Result<Socket> {
    let all = Protocol::from(i32::from(0x0003_u16.to_be()));
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(all)).context("a packet socket (root)")?;
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    let _ = socket.set_recv_buffer_size(16 << 20);
    Ok(socket)
}

/// The segment in a frame, if it is one.
pub fn segment(frame: &[u8]) -> Option<Segment<'_>> {
    let (from, to, tcp) = packet(frame, TCP)?;
    let port = |at: usize| Some(u16::from_be_bytes(*tcp.get(at..)?.first_chunk()?));
    let word = |at: usize| Some(u32::from_be_bytes(*tcp.get(at..)?.first_chunk()?));
    Some(Segment {
        mac: *frame.get(6..)?.first_chunk()?,
        from: SocketAddrV4::new(from, port(0)?),
        to: SocketAddrV4::new(to, port(2)?),
        sequence: word(4)?,
        acknowledges: word(8)?,
        flags: *tcp.get(13)?,
        payload: tcp.get(usize::from(*tcp.get(12)? >> 4) * 4..)?,
    })
}

/// The datagram in a frame, if it is one: from, to, payload.
pub fn datagram(frame: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let (from, to, udp) = packet(frame, UDP)?;
    let port = |at: usize| Some(u16::from_be_bytes(*udp.get(at..)?.first_chunk()?));
    Some((SocketAddrV4::new(from, port(0)?), SocketAddrV4::new(to, port(2)?), udp.get(8..)?))
}

fn packet(frame: &[u8], protocol: u8) -> Option<(Ipv4Addr, Ipv4Addr, &[u8])> {
    let ip = frame.get(14..)?;
    if frame[12..14] != [8, 0] || *ip.first()? >> 4 != 4 || *ip.get(9)? != protocol {
        return None;
    }
    let total = usize::from(u16::from_be_bytes(*ip.get(2..)?.first_chunk()?));
    // Offloaded segments may be longer than the field says; zero means "as long as the frame".
    let ip = if total == 0 { ip } else { ip.get(..total)? };
    let address = |at: usize| Some(Ipv4Addr::from(*ip.get(at..)?.first_chunk::<4>()?));
    Some((address(12)?, address(16)?, ip.get(usize::from(ip[0] & 15) * 4..)?))
}
