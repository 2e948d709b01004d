//! A publisher that came to an address of this node's own, not to the shared one, or through TLS: its bytes are passed on to
//! the shared address, to whichever node holds that.
//!
//! In: an accepted connection. Out: a second one, from the same address of ours to the shared one, and every byte both ways.
//! Touches both sockets and reads nothing of what passes.
//!
//! So a primary pushed to one node and its backup pushed to the other meet at the holder, which makes one feed of them
//! (`merge`), and each is mirrored, held and moved like the connection of any publisher (`data`). What is lost with a node is
//! what came through it; the copy that came through the other one goes on, on the connection it has. A publish that was let
//! in here as this node's own would be in no books: the other node would make other segments of it.
//!
//! What TLS knows of a connection cannot be taken over, so TLS ends here, whichever address it came to, and plain RTMP is
//! passed on: the push lives as long as this node does and has the address it came to.

use super::data::Data;
use crate::io::admission::Pass;
use crate::io::rtmp::{Door, End, Socket};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::debug;

/// The holder answers a connection, or refuses it, within this; a second SYN goes out after one second, a third after three.
const REACHED_MAX: Duration = Duration::from_secs(5);
/// A holder that acknowledges nothing for this long is gone, and no other one has come.
const UNHEARD_MAX: Duration = Duration::from_secs(10);
/// By then the holder knows whether it lets the publisher in, or has closed: it is no stranger here any more.
const STRANGER_MAX: Duration = Duration::from_secs(30);
/// The holder's last words to a publisher that says nothing more.
const LAST_WORDS_MAX: Duration = Duration::from_secs(10);

/// Passes a publisher on to its end: `from` the address it came to, at the port for plain RTMP.
pub(crate) async fn pass_on(
    door: Door,
    pair: Data,
    socket: impl Socket,
    from: SocketAddr,
    peer: SocketAddr,
    pass: Pass,
) {
    door.metrics.connections.inc();
    let end = match reach(&pair, from).await {
        Ok(holder) => {
            debug!(%peer, "a publisher is passed on to the shared address");
            let known = async {
                sleep(STRANGER_MAX).await;
                drop(pass);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = both_ways(socket, holder) => {}
                () = known => {}
            }
            End::Left
        }
        Err(error) => {
            let words = format!("the pair's shared address is not reached from here ({error}): push to it");
            End::Socket(io::Error::new(error.kind(), words))
        }
    };
    door.metrics.connections.dec();
    door.ended(peer, end, false);
}

/// A connection from the address the publisher came to: that one stays here whoever holds the shared one.
async fn reach(pair: &Data, from: SocketAddr) -> io::Result<TcpStream> {
    let (from, port) = (from.ip().to_canonical(), from.port());
    let shared = pair.shared(from).ok_or(io::ErrorKind::AddrNotAvailable)?;
    let holder = if from.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    holder.bind((from, 0).into())?;
    let holder = timeout(REACHED_MAX, holder.connect((shared, port).into())).await??;
    holder.set_nodelay(true)?;
    socket2::SockRef::from(&holder).set_tcp_user_timeout(Some(UNHEARD_MAX))?;
    Ok(holder)
}

/// Until the holder says that it is over, or the publisher has and the holder has answered.
async fn both_ways(publisher: impl Socket, mut holder: TcpStream) {
    let (from_publisher, to_publisher) = split(publisher);
    let (from_holder, to_holder) = holder.split();
    let mut down = pin!(one_way(from_holder, to_publisher));
    tokio::select! {
        () = &mut down => {}
        () = one_way(from_publisher, to_holder) => drop(timeout(LAST_WORDS_MAX, down).await),
    }
}

/// However one end ends, the other one is told that nothing more comes.
async fn one_way(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let _ = copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}
