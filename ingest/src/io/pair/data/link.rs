//! The link as bytes on a TCP connection: who may speak on it, and when.
//!
//! In: sockets. Out: sockets whose other end has proved who it is, each with its `mirror::Link`. A stranger costs one of a
//! few places for two seconds and nothing else; a live link is not touched before its successor has proved itself.

use mirror::{Frame, Identity, Link};
use releve_watermark::KeyRing;
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, sleep_until, timeout};
use tracing::debug;

/// How long the other end has to prove itself.
const PROOF_MAX: Duration = Duration::from_secs(2);
/// Pause after the first try to reach the holder that came to nothing; it doubles with each.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// It grows no longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A link that stood this long came to something.
const STOOD: Duration = Duration::from_secs(1);

/// An end whose other end is who it says.
pub(super) struct Proven {
    pub(super) stream: TcpStream,
    pub(super) link: Link,
}

/// Says Hello and waits for the proof.
pub(super) async fn prove(stream: TcpStream, identity: Identity, keys: KeyRing) -> io::Result<Proven> {
    timeout(PROOF_MAX, shake(stream, identity, keys)).await?
}

async fn shake(mut stream: TcpStream, identity: Identity, keys: KeyRing) -> io::Result<Proven> {
    stream.set_nodelay(true)?;
    let mut nonce = [0; 32];
    SystemRandom::new().fill(&mut nonce).map_err(|_| io::Error::other("no random bytes"))?;
    let mut link = Link::new(identity, keys, nonce);
    let mut buffer = [0; 4096];
    loop {
        // What follows the Ping stays unread: it is for the books.
        let proven = matches!(link.poll_frame().map_err(io::Error::other)?, Some(Frame::Ping));
        while let Some(bytes) = link.poll_transmit() {
            stream.write_all(&bytes).await?;
        }
        if proven {
            return Ok(Proven { stream, link });
        }
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => link.handle_bytes(&buffer[..count]),
        }
    }
}

/// When the standby may dial. The first time in an epoch, and after a link that stood, at once: a handover waits for the new
/// link. A holder whose links end as soon as they are up, because it hangs or refuses what comes next, is left alone for
/// longer each time.
#[derive(Debug)]
pub(super) struct Redial {
    epoch: u64,
    pause: Duration,
    /// When the present link came up.
    up: Option<Instant>,
    next: Instant,
}

impl Redial {
    pub(super) fn new(now: Instant) -> Redial {
        Redial { epoch: 0, pause: Duration::ZERO, up: None, next: now }
    }

    /// The link is up.
    pub(super) fn up(&mut self, now: Instant) {
        self.up = Some(now);
    }

    /// A link is wanted, and the one before has ended if there was one: when to dial.
    pub(super) fn at(&mut self, epoch: u64, now: Instant) -> Instant {
        let up = self.up.take();
        let stood = up.is_some_and(|up| now.saturating_duration_since(up) >= STOOD);
        if epoch != self.epoch || stood {
            (self.epoch, self.pause, self.next) = (epoch, Duration::ZERO, now);
        } else if up.is_some() {
            self.pause = longer(self.pause);
            self.next = now + self.pause;
        }
        self.next
    }
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX)
}

/// Dials from then on until the holder has proved itself.
pub(super) async fn dial(
    address: SocketAddr,
    identity: Identity,
    keys: KeyRing,
    from: Instant,
) -> io::Result<Proven> {
    sleep_until(from.into()).await;
    let mut pause = Duration::ZERO;
    loop {
        let tried = match timeout(PROOF_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => prove(stream, identity, keys.clone()).await,
            Ok(Err(error)) => Err(error),
            Err(late) => Err(late.into()),
        };
        match tried {
            Ok(proven) => return Ok(proven),
            Err(error) => debug!(%address, %error, "the holder's link is not up"),
        }
        pause = longer(pause);
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_that_ends_its_links_is_dialled_less_and_less_until_one_stands_or_the_epoch_is_new() {
        let mut now = Instant::now();
        let mut redial = Redial::new(now);
        assert_eq!(redial.at(1, now), now, "the first one at once");
        let mut pauses = Vec::new();
        for _ in 0..8 {
            redial.up(now);
            now += Duration::from_millis(1);
            let next = redial.at(1, now);
            pauses.push((next - now).as_millis());
            // Ordered again meanwhile: no sooner for that.
            now += Duration::from_millis(3);
            assert_eq!(redial.at(1, now), next);
            now = next;
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        redial.up(now);
        assert_eq!(redial.at(2, now), now, "a handover's new link waits for nothing");
        redial.up(now);
        now += STOOD;
        assert_eq!(redial.at(2, now), now, "nor the one after a link that stood");
        redial.up(now);
        assert_eq!(redial.at(2, now), now + PAUSE_MIN, "and from there it begins anew");
    }
}
