//! The kernel's repair mode, option by option.
//!
//! Numbers and structures of linux/tcp.h. In repair mode a socket neither sends nor answers; queues, sequence numbers
//! and options can be read and set. Needs CAP_NET_ADMIN over the network namespace.

use super::state::Window;
use crate::sys::{netlink, option};
use socket2::Socket;
use std::io;
use std::os::fd::AsFd;

const TCP: i32 = libc::IPPROTO_TCP;
const TCP_MAXSEG: i32 = 2;
const TCP_INFO: i32 = 11;
const TCP_REPAIR: i32 = 19;
const TCP_REPAIR_QUEUE: i32 = 20;
const TCP_QUEUE_SEQ: i32 = 21;
const TCP_REPAIR_OPTIONS: i32 = 22;
const TCP_TIMESTAMP: i32 = 24;
const TCP_REPAIR_WINDOW: i32 = 29;
const SO_BUF_LOCK: i32 = 72;
const SO_MEMINFO: i32 = 55;
/// `SK_MEMINFO_DROPS`, the ninth word, and the end of the array since Linux 4.12.
const DROPS_AT: usize = 32;
const SIOCINQ: libc::c_ulong = 0x541b;
const SIOCOUTQ: libc::c_ulong = 0x5411;
const SIOCOUTQNSD: libc::c_ulong = 0x894b;

/// Bytes a kernel takes back into a queue at once without running out of a contiguous buffer (CRIU's figure too).
const REFILL_CHUNK: usize = 32 << 10;

/// A socket in repair mode. Dropped, its connection vanishes without a packet, at once: also when another process holds
/// a copy of the descriptor for the moment between fork and exec.
#[derive(Debug)]
pub(super) struct Mute(Option<Socket>);

impl Mute {
    pub(super) fn new(socket: Socket) -> Self {
        Self(Some(socket))
    }

    /// The socket, which now closes like any.
    pub(super) fn release(mut self) -> Socket {
        self.0.take().expect("the socket leaves only together with its owner")
    }
}

impl std::ops::Deref for Mute {
    type Target = Socket;

    fn deref(&self) -> &Socket {
        self.0.as_ref().expect("the socket leaves only together with its owner")
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            // In repair mode this sends no reset. A socket that was never connected has nothing to dissolve.
            let _ = option::disconnect(socket);
        }
    }
}

/// The queue that the next repair call speaks about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    None = 0,
    Receive = 1,
    Send = 2,
}

/// The first bytes of `struct tcp_info`.
pub(super) struct Info {
    pub(super) state: u8,
    pub(super) timestamps: bool,
    pub(super) sack: bool,
    pub(super) scaled: bool,
    pub(super) send_scale: u8,
    pub(super) receive_scale: u8,
}

pub(super) fn on(socket: &impl AsFd) -> io::Result<()> {
    option::set_int(socket, TCP, TCP_REPAIR, 1)
}

/// Leaves repair mode with a window probe: the peer answers at once and so reveals what it waits for.
pub(super) fn off_with_probe(socket: &Socket) -> io::Result<()> {
    off(socket, 0)
}

/// Leaves repair mode without a word.
pub(super) fn off_silently(socket: &Socket) -> io::Result<()> {
    off(socket, -1)
}

fn off(socket: &Socket, how: i32) -> io::Result<()> {
    option::set_int(socket, TCP, TCP_REPAIR, how)?;
    // Leaving repair mode clears the reuse flag, and a later listener could then not bind beside this connection.
    socket.set_reuse_address(true)
}

pub(super) fn info(socket: &impl AsFd) -> io::Result<Info> {
    let mut bytes = [0; 8];
    if option::get_bytes(socket, TCP, TCP_INFO, &mut bytes)? < bytes.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Info {
        state: bytes[0],
        timestamps: bytes[5] & 1 != 0,
        sack: bytes[5] & 2 != 0,
        scaled: bytes[5] & 4 != 0,
        // Two four-bit fields; little-endian compilers put the first one into the low half.
        send_scale: if cfg!(target_endian = "little") { bytes[6] & 15 } else { bytes[6] >> 4 },
        receive_scale: if cfg!(target_endian = "little") { bytes[6] >> 4 } else { bytes[6] & 15 },
    })
}

/// Segments that this socket has discarded in its life.
pub(super) fn discarded(socket: &impl AsFd) -> io::Result<u32> {
    let mut bytes = [0; DROPS_AT + 4];
    if option::get_bytes(socket, libc::SOL_SOCKET, SO_MEMINFO, &mut bytes)? < bytes.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(bytes[DROPS_AT..].first_chunk().map_or(0, |word| u32::from_ne_bytes(*word)))
}

/// In repair mode this is the largest segment agreed, not the current one.
pub(super) fn segment_max(socket: &impl AsFd) -> io::Result<u16> {
    Ok(option::get_u32(socket, TCP, TCP_MAXSEG)?.clamp(1, u16::MAX.into()) as u16)
}

pub(super) fn timestamp(socket: &impl AsFd) -> io::Result<u32> {
    option::get_u32(socket, TCP, TCP_TIMESTAMP)
}

pub(super) fn set_timestamp(socket: &impl AsFd, clock: u32) -> io::Result<()> {
    option::set_bytes(socket, TCP, TCP_TIMESTAMP, &clock.to_ne_bytes())
}

pub(super) fn select(socket: &impl AsFd, queue: Queue) -> io::Result<()> {
    option::set_int(socket, TCP, TCP_REPAIR_QUEUE, queue as i32)
}

pub(super) fn sequence(socket: &impl AsFd, queue: Queue) -> io::Result<u32> {
    select(socket, queue)?;
    option::get_u32(socket, TCP, TCP_QUEUE_SEQ)
}

pub(super) fn set_sequence(socket: &impl AsFd, queue: Queue, number: u32) -> io::Result<()> {
    select(socket, queue)?;
    option::set_bytes(socket, TCP, TCP_QUEUE_SEQ, &number.to_ne_bytes())
}

/// Bytes received and not read, written and not acknowledged, written and not sent.
pub(super) fn lengths(socket: &impl AsFd) -> io::Result<(usize, usize, usize)> {
    Ok((
        option::queue_length(socket, SIOCINQ)?,
        option::queue_length(socket, SIOCOUTQ)?,
        option::queue_length(socket, SIOCOUTQNSD)?,
    ))
}

/// Copies `length` bytes of a queue without consuming them.
pub(super) fn contents(socket: &Socket, queue: Queue, length: usize) -> io::Result<Vec<u8>> {
    select(socket, queue)?;
    let mut bytes = vec![0; length];
    if length > 0 {
        let count = netlink::receive(socket, &mut bytes, libc::MSG_PEEK | libc::MSG_DONTWAIT)?;
        bytes.truncate(count);
    }
    Ok(bytes)
}

/// Puts bytes back into a queue; gives how many the kernel took.
pub(super) fn refill(socket: &Socket, queue: Queue, bytes: &[u8]) -> io::Result<usize> {
    select(socket, queue)?;
    let mut taken = 0;
    for chunk in bytes.chunks(REFILL_CHUNK) {
        let mut chunk = chunk;
        while !chunk.is_empty() {
            let count = match socket.send_with_flags(chunk, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                Err(error) => return Err(error),
            };
            taken += count;
            chunk = &chunk[count..];
        }
    }
    Ok(taken)
}

pub(super) fn window(socket: &impl AsFd) -> io::Result<Window> {
    let mut bytes = [0; 20];
    if option::get_bytes(socket, TCP, TCP_REPAIR_WINDOW, &mut bytes)? != bytes.len() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Ok(Window {
        update: word(0),
        send: word(4),
        send_max: word(8),
        receive: word(12),
        receive_update: word(16),
    })
}

pub(super) fn set_window(socket: &impl AsFd, window: &Window) -> io::Result<()> {
    let words = [window.update, window.send, window.send_max, window.receive, window.receive_update];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    option::set_bytes(socket, TCP, TCP_REPAIR_WINDOW, &bytes)
}

/// Sets options agreed in a handshake: pairs of (TCP option number, value) as `struct tcp_repair_opt`.
pub(super) fn set_options(socket: &impl AsFd, options: &[(u32, u32)]) -> io::Result<()> {
    let bytes: Vec<u8> = options
        .iter()
        .flat_map(|(kind, value)| [kind.to_ne_bytes(), value.to_ne_bytes()])
        .flatten()
        .collect();
    option::set_bytes(socket, TCP, TCP_REPAIR_OPTIONS, &bytes)
}

/// Makes room in the socket's buffers beyond the system's limits. The kernel counts its overhead in: ask for the
/// bytes, it doubles them.
pub(super) fn force_buffers(socket: &impl AsFd, receive: usize, send: usize) -> io::Result<()> {
    for (name, bytes) in [(libc::SO_RCVBUFFORCE, receive), (libc::SO_SNDBUFFORCE, send)] {
        if bytes > 0 {
            option::set_int(socket, libc::SOL_SOCKET, name, i32::try_from(bytes).unwrap_or(i32::MAX / 2))?;
        }
    }
    Ok(())
}

/// Lets the kernel size the buffers by itself again (Linux 5.14; older kernels keep them fixed, which only costs).
pub(super) fn free_buffers(socket: &impl AsFd) {
    let _ = option::set_int(socket, libc::SOL_SOCKET, SO_BUF_LOCK, 0);
}

/// Whether this process may use repair mode here: tried on a socket that is thrown away.
pub(crate) fn allowed() -> io::Result<()> {
    use socket2::{Domain, Type};
    on(&Socket::new(Domain::IPV4, Type::STREAM, None)?)
}
