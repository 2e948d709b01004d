//! The link as bytes on a TCP connection: who may speak on it, and when.
//!
//! In: sockets. Out: sockets whose other end has proved who it is, each with its `mirror::Link`. A stranger costs one of a
//! few places for two seconds and nothing else; a live link is not touched before its successor has proved itself.

use mirror::{Frame, Identity, Link};
use releve_watermark::KeyRing;
use ring::rand::{SecureRandom, SystemRandom};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// How long the other end has to prove itself.
const PROOF_MAX: Duration = Duration::from_secs(2);
/// Pause between two tries to reach the holder.
const DIAL_PAUSE: Duration = Duration::from_millis(20);
/// One read.
pub(super) const READ_BYTES: usize = 256 << 10;

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

/// Dials until the holder has proved itself.
pub(super) async fn dial(address: SocketAddr, identity: Identity, keys: KeyRing) -> io::Result<Proven> {
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
        sleep(DIAL_PAUSE).await;
    }
}
