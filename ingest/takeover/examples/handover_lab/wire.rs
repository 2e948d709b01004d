//! What the lab's programs share: addresses, pseudo-random bytes, frames on the private link, waiting, the clock.

use ring::digest::{Context, SHA256};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime};

pub(crate) const PORT: u16 = 1935;
pub(crate) const QUEUE: u16 = 1935;
pub(crate) const HOST_A: &str = "10.78.0.11:7000";
pub(crate) const BEAT_A: &str = "10.78.0.11:7001";
pub(crate) const BEAT_B: &str = "10.78.0.12:7001";
/// No lab process outlives this.
pub(crate) const LIFE_MAX: Duration = Duration::from_secs(180);

pub(crate) fn vip(v6: bool) -> IpAddr {
    if v6 { "fd77::100".parse().unwrap() } else { "10.77.0.100".parse().unwrap() }
}

pub(crate) fn wildcard(v6: bool) -> SocketAddr {
    if v6 { "[::]:1935".parse().unwrap() } else { "0.0.0.0:1935".parse().unwrap() }
}

/// Nanoseconds on a clock that all processes of this machine share.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64
}

/// Byte stream number `stream`, from any offset (splitmix64 as a counter).
pub(crate) fn noise(stream: u64, offset: u64, length: usize) -> Vec<u8> {
    let word = |index: u64| {
        let mut z =
            (stream << 56 ^ index).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31).to_le_bytes()
    };
    let skip = (offset % 8) as usize;
    let words = (skip + length).div_ceil(8) as u64;
    (offset / 8..offset / 8 + words).flat_map(word).skip(skip).take(length).collect()
}

/// The client's stream and the server's.
pub(crate) const UP: u64 = 1;
pub(crate) const DOWN: u64 = 2;

/// How much output the server owes for this much input.
pub(crate) fn owed(received: u64) -> u64 {
    received / 4096 * 1024
}

/// SHA-256 of the first bytes of a stream.
pub(crate) fn expected_hash(stream: u64, length: u64) -> String {
    let mut context = Context::new(&SHA256);
    let mut offset = 0;
    while offset < length {
        let part = (length - offset).min(1 << 16) as usize;
        context.update(&noise(stream, offset, part));
        offset += part as u64;
    }
    hex(context)
}

pub(crate) fn hex(context: Context) -> String {
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Waits until one of the descriptors is readable.
pub(crate) fn poll<const N: usize>(descriptors: [Option<BorrowedFd<'_>>; N], limit: Duration) -> [bool; N] {
    let mut set = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.map_or(-1, |open| open.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    });
    // SAFETY: the array has N entries and outlives the call.
    let count = unsafe { libc::poll(set.as_mut_ptr(), N as libc::nfds_t, limit.as_millis() as i32) };
    if count < 0 { [false; N] } else { set.map(|entry| entry.revents != 0) }
}

/// A framed connection between the two hosts: u32 length, kind, body.
pub(crate) struct Link {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Link {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn send(&mut self, kind: u8, parts: &[&[u8]]) -> std::io::Result<()> {
        let length = 1 + parts.iter().map(|part| part.len()).sum::<usize>();
        let mut frame = (length as u32).to_be_bytes().to_vec();
        frame.push(kind);
        frame.extend(parts.concat());
        self.stream.write_all(&frame)
    }

    /// One frame, waiting for it. `None` at the end of the link.
    pub(crate) fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            self.fill().then_some(())?;
        }
    }

    /// One read; `false` at the end.
    pub(crate) fn fill(&mut self) -> bool {
        let mut part = [0; 1 << 16];
        match self.stream.read(&mut part) {
            Ok(count) if count > 0 => self.buffer.extend(&part[..count]),
            _ => return false,
        }
        true
    }

    pub(crate) fn take(&mut self) -> Option<(u8, Vec<u8>)> {
        let length = u32::from_be_bytes(*self.buffer.first_chunk()?) as usize;
        let frame = self.buffer.get(4..4 + length)?.to_vec();
        self.buffer.drain(..4 + length);
        Some((frame[0], frame[1..].to_vec()))
    }
}

pub(crate) fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(*bytes.first_chunk().expect("the frame has a number"))
}

/// Reads what is there; `Ok(0)` is the end.
pub(crate) fn read_now(stream: &TcpStream, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut stream = stream;
    stream.set_nonblocking(true)?;
    let outcome = stream.read(buffer);
    stream.set_nonblocking(false)?;
    outcome
}

/// Tells the lab something.
pub(crate) fn say(words: std::fmt::Arguments<'_>) {
    println!("{words}");
}
