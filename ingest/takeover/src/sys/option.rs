//! Socket options and queue counters by number: bytes in, bytes out.
//!
//! Only for options that socket2 does not know (the `TCP_REPAIR` family, packet sockets). tcp(7), socket(7).

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Sets an option from raw bytes.
pub(crate) fn set_bytes(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed and therefore open; the kernel reads `length` bytes from `value`, which are there.
    let done =
        unsafe { libc::setsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_ptr().cast(), length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an integer option.
pub(crate) fn set_int(socket: &impl AsFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    set_bytes(socket, level, name, &value.to_ne_bytes())
}

/// Reads an option into `value`; gives the number of bytes the kernel wrote.
pub(crate) fn get_bytes(socket: &impl AsFd, level: i32, name: i32, value: &mut [u8]) -> io::Result<usize> {
    let mut length = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is open; the kernel writes at most `length` bytes into `value` and stores the count in `length`.
    let done = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut length)
    };
    if done == 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}

/// Reads a 32-bit option.
pub(crate) fn get_u32(socket: &impl AsFd, level: i32, name: i32) -> io::Result<u32> {
    let mut value = [0; 4];
    let length = get_bytes(socket, level, name, &mut value)?;
    if length == 4 { Ok(u32::from_ne_bytes(value)) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Dissolves the association of a socket (connect to "no address").
pub(crate) fn disconnect(socket: &impl AsFd) -> io::Result<()> {
    let nowhere =
        libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: Default::default() };
    let length = size_of::<libc::sockaddr>() as libc::socklen_t;
    // SAFETY: the descriptor is open; the kernel reads `length` bytes of one sockaddr, which is there.
    let done = unsafe { libc::connect(socket.as_fd().as_raw_fd(), &raw const nowhere, length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads one of the counters `SIOCINQ`, `SIOCOUTQ`, `SIOCOUTQNSD`: bytes in a queue of the socket.
pub(crate) fn queue_length(socket: &impl AsFd, request: libc::c_ulong) -> io::Result<usize> {
    let mut value: libc::c_int = 0;
    // SAFETY: the descriptor is open; these three requests write one int through the pointer, and `value` is one.
    let done = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), request, &raw mut value) };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidData.into())
}
