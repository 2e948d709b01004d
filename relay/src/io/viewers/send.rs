//! Sending slices on a plain socket: short ones copied, long ones as the pages they lie on.
//!
//! In: slices in their order. Out: how many bytes of them the kernel took. It never waits.

use rustix::net::{SendAncillaryBuffer, SendFlags};
use std::io::{self, IoSlice};
use std::net::TcpStream;

/// Sends what the kernel takes of these slices, in order. Long pieces of objects go as the pages they lie on, and what comes
/// before one waits for it, so that no packet is the smaller for being sent in two calls.
pub(super) fn send(socket: &TcpStream, slices: &[IoSlice<'_>], pages: &pages::Arena) -> io::Result<usize> {
    let (mut sent, mut from) = (0, 0);
    while from < slices.len() {
        let found = slices[from..].iter().enumerate().find_map(|(ahead, slice)| {
            let place = (slice.len() >= pages::WORTH_BYTES).then(|| pages.find(slice)).flatten()?;
            Some((from + ahead, place))
        });
        let to = found.as_ref().map_or(slices.len(), |(at, _)| *at);
        if from < to {
            let flags = if found.is_some() { SendFlags::MORE } else { SendFlags::empty() };
            let offered: usize = slices[from..to].iter().map(|slice| slice.len()).sum();
            let flags = flags | SendFlags::NOSIGNAL;
            let taken = match &slices[from..to] {
                // A playlist: one slice costs the kernel less to take than a list of one.
                [one] => rustix::net::send(socket, one, flags),
                some => rustix::net::sendmsg(socket, some, &mut SendAncillaryBuffer::default(), flags),
            };
            match went(sent, taken, offered)? {
                Sent::All(count) => sent = count,
                Sent::Some(count) => return Ok(count),
            }
        }
        let Some((at, (sheet, mut place))) = found else { break };
        let offered = slices[at].len();
        let taken = rustix::fs::sendfile(socket, sheet.file(), Some(&mut place), offered);
        match went(sent, taken, offered)? {
            Sent::All(count) => sent = count,
            Sent::Some(count) => return Ok(count),
        }
        from = at + 1;
    }
    Ok(sent)
}

/// How much has gone so far.
enum Sent {
    All(usize),
    Some(usize),
}

/// After `before`, the kernel took so much of what it was offered. An error behind bytes that have gone shows again.
fn went(before: usize, taken: rustix::io::Result<usize>, offered: usize) -> io::Result<Sent> {
    match taken {
        Ok(count) if count == offered => Ok(Sent::All(before + count)),
        Ok(count) => Ok(Sent::Some(before + count)),
        Err(_) if before > 0 => Ok(Sent::Some(before)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use std::io::{ErrorKind, Read};
    use std::net::TcpListener;

    #[test]
    fn slices_arrive_in_order_wherever_they_lie_and_however_little_is_taken_at_once() {
        let pages = pages::Arena::default();
        let noise = |seed: u32, len: usize| -> Vec<u8> {
            (0..len as u32)
                .map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8)
                .collect()
        };
        let kept = |seed, len| pages.keep(&noise(seed, len)).unwrap();
        let (long, second) = (kept(1, 3_000_000), kept(2, 700_000));
        let all: Vec<Bytes> = vec![
            noise(3, 300).into(),
            long.slice(..40_000),
            noise(4, 5_000).into(),
            long.slice(45_000..),
            second.slice(..9),        // too short for its page
            noise(5, 200_000).into(), // long, and on no page
            second,
        ];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        socket.set_nonblocking(true).unwrap();
        socket2::SockRef::from(&socket).set_send_buffer_size(16 << 10).unwrap();
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            other.read_to_end(&mut read).map(|_| read)
        });
        let (mut done, total) = (0, all.iter().map(Bytes::len).sum::<usize>());
        let mut partly = 0;
        while done < total {
            let mut skip = done;
            let rest: Vec<IoSlice<'_>> = all
                .iter()
                .filter_map(|bytes| {
                    let from = skip.min(bytes.len());
                    skip -= from;
                    (from < bytes.len()).then(|| IoSlice::new(&bytes[from..]))
                })
                .collect();
            match send(&socket, &rest, &pages) {
                Ok(count) => (done, partly) = (done + count, partly + 1),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    std::thread::sleep(std::time::Duration::from_micros(200));
                }
                Err(error) => panic!("{error}"),
            }
        }
        drop(socket);
        assert!(partly > 3, "a small buffer takes {total} bytes in more than {partly} turns");
        assert!(reader.join().unwrap().unwrap() == all.concat(), "other bytes came");
    }

    #[test]
    fn one_call_sends_all_that_fits() {
        let pages = pages::Arena::default();
        let long = pages.keep(&(0..90_000_u32).map(|at| (at % 251) as u8).collect::<Vec<u8>>()).unwrap();
        let all =
            [&b"head"[..], &long[..40_000], b"slice", &long[45_000..], &[9; 20_000], &long[..17_000], b"end"];
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        socket2::SockRef::from(&socket).set_send_buffer_size(400 << 10).unwrap();
        let slices = all.map(IoSlice::new);
        assert_eq!(send(&socket, &slices, &pages).unwrap(), all.concat().len());
        drop(socket);
        let mut read = Vec::new();
        other.read_to_end(&mut read).unwrap();
        assert!(read == all.concat(), "other bytes came");
    }

    #[test]
    fn what_went_before_an_error_counts() {
        let full = || Err(rustix::io::Errno::AGAIN);
        assert!(matches!(went(4, full(), 10), Ok(Sent::Some(4))));
        assert!(went(0, full(), 10).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
        assert!(matches!(went(4, Ok(6), 10), Ok(Sent::Some(10))));
        assert!(matches!(went(4, Ok(10), 10), Ok(Sent::All(14))));
    }
}
