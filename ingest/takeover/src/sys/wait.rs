//! Waiting for descriptors, for enough bytes of a connection, for a time, and an event counter that wakes such a wait.
//!
//! poll(2), socket(7), recv(2), timerfd_create(2), eventfd(2).

use super::option;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Waits until one of the descriptors can be read (or has hung up), or the time is over. `None` waits for ever. Gives
/// which ones are ready; an interrupting signal counts as nothing ready.
///
/// # Errors
/// The kernel cannot wait: no memory.
pub fn readable<const N: usize>(
    descriptors: [Option<BorrowedFd<'_>>; N],
    limit: Option<Duration>,
) -> io::Result<[bool; N]> {
    ready(descriptors.map(|descriptor| descriptor.map(|open| (open, Way::In))), limit)
}

/// What a descriptor is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It can be read.
    In,
    /// It can be read or written.
    InOrOut,
}

/// As [`readable`], each descriptor for what is asked of it.
///
/// # Errors
/// The kernel cannot wait: no memory.
pub fn ready<const N: usize>(
    descriptors: [Option<(BorrowedFd<'_>, Way)>; N],
    limit: Option<Duration>,
) -> io::Result<[bool; N]> {
    // A negative descriptor is skipped by the kernel.
    let mut set = descriptors.map(|descriptor| libc::pollfd {
        fd: descriptor.map_or(-1, |(open, _)| open.as_raw_fd()),
        events: match descriptor {
            Some((_, Way::InOrOut)) => libc::POLLIN | libc::POLLOUT,
            _ => libc::POLLIN,
        },
        revents: 0,
    });
    let time = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs().min(1 << 30) as libc::time_t,
        tv_nsec: libc::c_long::from(limit.subsec_nanos()),
    });
    let time_pointer = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `set` holds N entries and outlives the call; the time pointer is null or points to `time`; no signal mask.
    let count = unsafe { libc::ppoll(set.as_mut_ptr(), N as libc::nfds_t, time_pointer, std::ptr::null()) };
    if count < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok([false; N]) } else { Err(error) };
    }
    Ok(set.map(|entry| entry.revents != 0))
}

/// From here on a TCP connection can be read once that many bytes have come, or its end, or an error; at once where they are
/// there. Fewer wait in its buffer.
///
/// # Errors
/// It is no socket.
pub fn enough(connection: &impl AsFd, bytes: u16) -> io::Result<()> {
    option::set_int(connection, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes.into())
}

/// What a connection has now, as much as there is room for; 0 at its end.
///
/// # Errors
/// `WouldBlock` where it has nothing; what else is wrong with it.
pub fn take(connection: &impl AsFd, room: &mut [u8]) -> io::Result<usize> {
    let (socket, to) = (connection.as_fd().as_raw_fd(), room.as_mut_ptr().cast());
    // SAFETY: the descriptor is open; the kernel writes no more than `room.len()` bytes, and `room` has as many.
    let count = unsafe { libc::recv(socket, to, room.len(), libc::MSG_DONTWAIT) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// A clock that is waited for like a connection: while it runs, it can be read once every so often.
#[derive(Debug)]
pub struct Ticks(OwnedFd);

impl Ticks {
    /// A clock that stands.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the call gives a new descriptor or −1.
        let raw =
            unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is open, was just made and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Runs from now on: the first time after `first`, which is not zero, then once in `every`.
    ///
    /// # Errors
    /// Times that the kernel does not take.
    pub fn start(&self, first: Duration, every: Duration) -> io::Result<()> {
        self.set(first, every)
    }

    /// Stands from now on.
    ///
    /// # Errors
    /// None that is known.
    pub fn stop(&self) -> io::Result<()> {
        self.set(Duration::ZERO, Duration::ZERO)
    }

    fn set(&self, first: Duration, every: Duration) -> io::Result<()> {
        let time = |time: Duration| libc::timespec {
            tv_sec: time.as_secs().min(1 << 30) as libc::time_t,
            tv_nsec: libc::c_long::from(time.subsec_nanos()),
        };
        let time = libc::itimerspec { it_value: time(first), it_interval: time(every) };
        // SAFETY: the descriptor is open, `time` outlives the call, and the old time is not asked for.
        let set =
            unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &raw const time, std::ptr::null_mut()) };
        if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes note of the times that have gone by.
    ///
    /// # Errors
    /// `WouldBlock` where there was none.
    pub fn take(&self) -> io::Result<()> {
        let mut times = [0_u8; 8];
        // SAFETY: the descriptor is open and non-blocking; the kernel writes eight bytes, and `times` has eight.
        let count = unsafe { libc::read(self.0.as_raw_fd(), times.as_mut_ptr().cast(), times.len()) };
        if count < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl AsFd for Ticks {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Ticks {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// An event counter: any thread rings, one thread waits.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A silent bell.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the call gives a new descriptor or −1.
        let raw = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is open, was just made and has no other owner.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Wakes the waiting thread. A full counter is already ringing, so nothing can fail that matters.
    pub fn ring(&self) {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the descriptor is open; the kernel reads eight bytes, and `one` has eight.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Silences the bell.
    pub fn hush(&self) {
        let mut count = [0_u8; 8];
        // SAFETY: the descriptor is open and non-blocking; the kernel writes eight bytes, and `count` has eight.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_bell_wakes_the_wait_until_it_is_hushed() {
        let bell = Bell::new().unwrap();
        let look = || readable([None, Some(bell.as_fd())], Some(Duration::ZERO)).unwrap();
        assert_eq!(look(), [false, false]);
        bell.ring();
        bell.ring();
        assert_eq!(look(), [false, true]);
        bell.hush();
        assert_eq!(look(), [false, false]);
    }

    #[test]
    fn a_clock_can_be_read_once_every_so_often_while_it_runs() {
        let ticks = Ticks::new().unwrap();
        let waits = |time| readable([Some(ticks.as_fd())], Some(time)).unwrap()[0];
        let (soon, never) = (Duration::from_secs(10), Duration::from_millis(50));
        let would_block = || ticks.take().unwrap_err().kind() == io::ErrorKind::WouldBlock;
        assert!(!waits(never) && would_block());
        ticks.start(Duration::from_nanos(1), Duration::from_millis(20)).unwrap();
        for _ in 0..3 {
            assert!(waits(soon));
            ticks.take().unwrap();
        }
        ticks.stop().unwrap();
        assert!(!waits(never) && would_block());
    }

    #[test]
    fn a_socket_with_room_is_ready_for_who_wants_to_write() {
        let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
        let look = |way| ready([Some((here.as_fd(), way))], Some(Duration::ZERO)).unwrap();
        assert_eq!((look(Way::In), look(Way::InOrOut)), ([false], [true]));
    }

    #[test]
    fn a_connection_is_ready_when_enough_has_come_or_no_more_will() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut here, _) = listener.accept().unwrap();
        let is_ready = |wait| readable([Some(here.as_fd())], Some(wait)).unwrap()[0];
        let (soon, never) = (Duration::from_secs(10), Duration::from_millis(50));
        enough(&here, 1000).unwrap();
        peer.write_all(&[7; 999]).unwrap();
        assert!(!is_ready(never));
        peer.write_all(&[7]).unwrap();
        assert!(is_ready(soon));
        assert_eq!((&here).read(&mut [0; 2000]).unwrap(), 1000);
        peer.write_all(&[7; 500]).unwrap();
        assert!(!is_ready(never));
        enough(&here, 400).unwrap();
        assert!(is_ready(soon), "what is there counts too");
        assert_eq!(take(&here, &mut [0; 200]).unwrap(), 200, "also what is not enough");
        assert_eq!(take(&here, &mut [0; 2000]).unwrap(), 300);
        assert_eq!(take(&here, &mut [0; 2000]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        peer.write_all(&[7; 500]).unwrap();
        enough(&here, 1000).unwrap();
        drop(peer);
        assert!(is_ready(soon), "the end of the connection");
        assert_eq!(here.read(&mut [0; 2000]).unwrap(), 500);
    }
}
