//! What is said on the link, by whoever has something to say.
//!
//! In: what the books have for the other node. Out: bytes on the link. The engine owns it; input of a publisher goes out from
//! the task that read it, and confirmations from the thread that heard, because every acknowledgement waits for its way to the
//! standby and back. Touches the link's socket, under the books' lock, so that bytes go in the order of the books.

use super::books::Books;
use bytes::{Buf, Bytes};
use mirror::{Role, Standby};
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Arc, Weak};

/// The link's way out; without a link nothing.
#[derive(Debug, Default)]
pub(super) struct Mouth {
    role: Option<Role>,
    /// The engine's: what it closes is closed.
    stream: Weak<TcpStream>,
    /// Taken from the books and not written yet.
    out: Bytes,
}

impl Mouth {
    pub(super) fn of(role: Role, stream: &Arc<TcpStream>) -> Mouth {
        Mouth { role: Some(role), stream: Arc::downgrade(stream), out: Bytes::new() }
    }

    /// The link.
    pub(super) fn stream(&self) -> Option<Arc<TcpStream>> {
        self.stream.upgrade()
    }

    /// What this node is on it.
    pub(super) fn role(&self) -> Option<Role> {
        self.role
    }

    /// This is the link.
    pub(super) fn is_of(&self, stream: &Arc<TcpStream>) -> bool {
        std::ptr::eq(self.stream.as_ptr(), Arc::as_ptr(stream))
    }

    /// Nothing waits for the socket.
    pub(super) fn is_free(&self) -> bool {
        self.out.is_empty()
    }

    /// Says what `next` gives, as far as the socket takes it; the rest of a piece stays here.
    fn speak(&mut self, mut next: impl FnMut(Role) -> Option<Bytes>) -> io::Result<bool> {
        let (Some(role), Some(stream)) = (self.role, self.stream.upgrade()) else { return Ok(false) };
        loop {
            if self.out.is_empty() {
                match next(role) {
                    Some(bytes) => self.out = bytes,
                    None => return Ok(true),
                }
            }
            match (&*stream).write(&self.out) {
                Ok(count) => self.out.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Books {
    /// Gives the link what there is to say, as far as it takes it. `Ok(true)`: all of it.
    ///
    /// # Errors
    /// The link has broken; every later call says so too, until the engine has taken it away.
    pub(super) fn speak(&mut self) -> io::Result<bool> {
        let Books { mouth, holder, standby, .. } = self;
        mouth.speak(|role| match role {
            Role::Holder => holder.poll_transmit(),
            Role::Standby => standby.as_mut().and_then(Standby::poll_transmit),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use takeover::wait::{Way, ready};

    #[test]
    fn what_a_full_socket_leaves_is_said_later_and_nothing_on_a_link_that_is_gone() {
        const PIECE: usize = 100_000;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        stream.set_nonblocking(true).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        let mut mouth = Mouth::of(Role::Holder, &stream);
        let mut given = 0_u8;
        // More than any socket takes: 20 MB.
        let mut next = |_| {
            given += 1;
            (given <= 200).then(|| Bytes::from(vec![given; PIECE]))
        };
        assert!(matches!(mouth.speak(&mut next), Ok(false)));
        assert!(!mouth.is_free());
        let mut heard = vec![0; 200 * PIECE];
        let reading = std::thread::spawn(move || other.read_exact(&mut heard).map(|()| heard));
        while !mouth.speak(&mut next).unwrap() {
            ready([Some((stream.as_fd(), Way::InOrOut))], None).unwrap();
        }
        let heard = reading.join().unwrap().unwrap();
        assert!(heard.chunks(PIECE).zip(1..).all(|(piece, number)| piece.iter().all(|byte| *byte == number)));
        assert!(mouth.is_free());
        drop(stream);
        assert!(!mouth.speak(|_| panic!("taken from the books for nobody")).unwrap());
    }
}
