//! How a publisher's bytes are waited for: what it sends gathers in its socket and is taken every `LOOK`, or as soon as much has
//! come. To be woken for each message would be most of what a publisher costs, and nobody sees so short a wait.
//!
//! In: a socket and room. Out: what has come. Touches the socket and a clock of the kernel's: a timer of the runtime would wake it
//! up twice, to be set and to go off. All publishers are looked at in the same moments, one wake-up for all of them.

use std::io::{ErrorKind, Result};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use takeover::wait::{self, Ticks};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// How often a publisher is looked at who sends all the time: a picture's time at most.
const LOOK: Duration = Duration::from_millis(30);
/// Bytes that are not let gather longer: half a read.
const TOGETHER_BYTES: u16 = 32 << 10;

/// What an RTMP connection goes over.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {
    /// From here on it can be read once that many bytes are there.
    ///
    /// # Errors
    /// That cannot be said of it.
    fn enough(&self, bytes: u16) -> Result<()>;

    /// What it has now, as much as there is room for, be it enough or not; 0 at its end.
    ///
    /// # Errors
    /// `WouldBlock` where it has nothing.
    fn gathered(&self, room: &mut [u8]) -> Result<usize>;
}

impl Socket for TcpStream {
    fn enough(&self, bytes: u16) -> Result<()> {
        wait::enough(self, bytes)
    }

    fn gathered(&self, room: &mut [u8]) -> Result<usize> {
        wait::take(self, room)
    }
}

impl Socket for TlsStream<TcpStream> {
    /// How many bytes of the connection make so many of the session's is not known.
    fn enough(&self, _: u16) -> Result<()> {
        Err(ErrorKind::Unsupported.into())
    }

    fn gathered(&self, _: &mut [u8]) -> Result<usize> {
        Err(ErrorKind::WouldBlock.into())
    }
}

/// How one connection is waited for.
pub(super) struct Gather {
    ticks: Option<AsyncFd<Ticks>>,
    /// What comes gathers now; else it is heard of with the next byte.
    on: bool,
    /// Much has come since the last look, and was heard of.
    came: bool,
}

impl Gather {
    /// Hears of the next byte, also of a socket that another one had let gather.
    pub(super) fn new(socket: &impl Socket) -> Gather {
        let _ = socket.enough(1); // of a socket that cannot, nothing ever gathered
        Gather { ticks: None, on: false, came: false }
    }

    /// Lets what comes gather, or no longer. Where the system does not give what that takes, nothing changes.
    pub(super) fn set(&mut self, on: bool, socket: &impl Socket) {
        if on == self.on {
            return;
        }
        let set = match on {
            true => socket.enough(TOGETHER_BYTES).and_then(|()| {
                self.tick().inspect_err(|_| {
                    let _ = socket.enough(1); // as it could be told the other
                })
            }),
            false => socket
                .enough(1)
                .and_then(|()| self.ticks.as_ref().map_or(Ok(()), |ticks| ticks.get_ref().stop())),
        };
        if set.is_ok() {
            self.on = on;
        }
    }

    fn tick(&mut self) -> Result<()> {
        let ticks = match self.ticks.take() {
            Some(ticks) => ticks,
            #[expect(
                deprecated,
                reason = "what the unsafe way asks for holds: it owns one descriptor for as long as it is"
            )]
            None => AsyncFd::new(Ticks::new()?)?,
        };
        ticks.get_ref().start(until_look(), LOOK)?;
        self.ticks = Some(ticks);
        Ok(())
    }

    /// Reads what comes. Where it gathers, that is at the next look, or as soon as much has come; `None`: nothing came from one look
    /// to the next.
    ///
    /// # Errors
    /// The socket's.
    pub(super) async fn read(&mut self, socket: &mut impl Socket, room: &mut [u8]) -> Result<Option<usize>> {
        let Some(ticks) = self.ticks.as_ref().filter(|_| self.on) else {
            return socket.read(room).await.map(Some);
        };
        loop {
            tokio::select! {
                biased;
                read = socket.read(&mut *room) => {
                    self.came = true;
                    return read.map(Some);
                }
                look = look(ticks) => look?,
            }
            let came = std::mem::take(&mut self.came);
            match socket.gathered(room) {
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    if !came {
                        return Ok(None);
                    }
                }
                read => return read.map(Some),
            }
        }
    }
}

/// The next look.
async fn look(ticks: &AsyncFd<Ticks>) -> Result<()> {
    loop {
        let mut ready = ticks.readable().await?;
        if let Ok(taken) = ready.try_io(|ticks| ticks.get_ref().take()) {
            return taken;
        }
    }
}

/// The moments of all publishers are the same.
fn until_look() -> Duration {
    let (every, now) = (LOOK.as_nanos(), SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    Duration::from_nanos((every - now.as_nanos() % every) as u64) // at most `LOOK`
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    /// Longer than any of these tests may take.
    const SOON: Duration = Duration::from_secs(10);

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (listener.accept().await.unwrap().0, peer)
    }

    /// What comes next, however many looks that takes.
    async fn next(gather: &mut Gather, socket: &mut TcpStream, room: &mut [u8]) -> usize {
        let next = async {
            loop {
                if let Some(count) = gather.read(socket, room).await.unwrap() {
                    return count;
                }
            }
        };
        timeout(SOON, next).await.expect("it has come")
    }

    #[tokio::test]
    async fn what_gathers_is_taken_at_a_look_and_much_of_it_or_its_end_at_once() {
        let ((mut here, mut peer), mut room) = (pair().await, vec![0; 64 << 10]);
        let mut gather = Gather::new(&here);
        gather.set(true, &here);
        assert!(gather.on);
        for _ in 0..3 {
            assert_eq!(gather.read(&mut here, &mut room).await.unwrap(), None, "nothing has come");
        }
        for message in [&[1; 100][..], &[2; 10]] {
            peer.write_all(message).await.unwrap();
        }
        let (mut taken, mut looks) = (0, 0);
        while taken < 110 {
            taken += next(&mut gather, &mut here, &mut room[taken..]).await;
            looks += 1;
        }
        assert!(looks <= 2 && room[..110] == [&[1; 100][..], &[2; 10]].concat());

        let much = usize::from(TOGETHER_BYTES);
        peer.write_all(&vec![3; much]).await.unwrap();
        timeout(SOON, here.readable()).await.expect("without a look").unwrap();
        assert_eq!(next(&mut gather, &mut here, &mut room).await, much);

        peer.write_all(&[4; 5]).await.unwrap();
        drop(peer);
        timeout(SOON, here.readable()).await.expect("without a look").unwrap();
        assert_eq!(next(&mut gather, &mut here, &mut room).await, 5);
        assert_eq!(next(&mut gather, &mut here, &mut room).await, 0, "its end");
    }

    #[tokio::test]
    async fn what_gathers_no_longer_is_heard_of_with_its_first_byte() {
        let ((mut here, mut peer), mut room) = (pair().await, vec![0; 100]);
        let mut gather = Gather::new(&here);
        for _ in 0..2 {
            gather.set(true, &here);
            gather.set(false, &here);
            peer.write_all(&[1]).await.unwrap();
            timeout(SOON, here.readable()).await.expect("without a look").unwrap();
            assert_eq!(gather.read(&mut here, &mut room).await.unwrap(), Some(1));
        }
        gather.set(true, &here);
        let mut anew = Gather::new(&here);
        peer.write_all(&[1]).await.unwrap();
        timeout(SOON, here.readable()).await.expect("a socket that gathered before").unwrap();
        assert_eq!(anew.read(&mut here, &mut room).await.unwrap(), Some(1));
    }

    #[test]
    fn looks_are_never_farther_apart_than_said() {
        for _ in 0..1_000 {
            assert!((Duration::from_nanos(1)..=LOOK).contains(&until_look()));
        }
    }
}
