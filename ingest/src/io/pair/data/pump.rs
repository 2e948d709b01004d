//! A live connection's socket: what is read goes into the books and then to the connection's task, what that says is written.
//!
//! In: a socket, [`Command`]s. Out: [`Turn`]s, in order; the socket itself when it is asked for, between two bytes. It never
//! waits for a parse, so that a socket can be given up at any moment. Touches its socket only.

use super::line::{Gone, Turn};
use super::tap::Tap;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use takeover::socket::{unacknowledged, unread};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

/// A publisher that sends nothing for this long is gone; encoders send audio or video many times a second.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// A peer that does not take our few bytes for this long is gone.
const WRITE_MAX: Duration = Duration::from_secs(10);
/// One read: 20 ms of 25 Mb/s.
const READ_BYTES: usize = 64 << 10;

/// What the socket is asked for.
#[derive(Debug)]
pub(super) enum Command {
    /// Write this; it is in the books.
    Write(Bytes),
    /// Give the socket out and end. Nothing when it has failed.
    Detach(oneshot::Sender<std::net::TcpStream>),
    /// How many bytes have arrived, read or not.
    Unread(oneshot::Sender<u64>),
    /// Read no more: `Turn::Hushed` follows the last input.
    Hush,
    /// Close in good order and end.
    Finish,
}

/// Runs a socket to its end. `written` is all output so far that is in the kernel or was acknowledged.
pub(super) async fn run(
    mut socket: TcpStream,
    tap: Tap,
    room: Arc<Semaphore>,
    turns: mpsc::UnboundedSender<Turn>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut written: u64,
) {
    let mut buffer = vec![0; READ_BYTES];
    // Output that was restored into the kernel's queue may wait there.
    let (mut open, mut whole, mut acked) = (true, true, 0);
    loop {
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(Command::Write(bytes)) => {
                    written += bytes.len() as u64;
                    if !matches!(timeout(WRITE_MAX, socket.write_all(&bytes)).await, Ok(Ok(()))) {
                        (open, whole) = (false, false);
                        let _ = turns.send(Turn::Gone(Gone::Silent));
                    }
                }
                Some(Command::Detach(reply)) => {
                    if whole && let Ok(socket) = socket.into_std() {
                        let _ = reply.send(socket);
                    }
                    return;
                }
                Some(Command::Unread(reply)) => {
                    let read = tap.position().map_or(0, |(input, _)| input);
                    let _ = reply.send(read + unread(&socket).map_or(0, |bytes| bytes as u64));
                }
                Some(Command::Hush) => {
                    open = false;
                    let _ = turns.send(Turn::Hushed);
                }
                Some(Command::Finish) | None => {
                    let _ = timeout(Duration::from_secs(1), socket.shutdown()).await;
                    return;
                }
            },
            (permit, read) = read(&mut socket, &mut buffer, &tap, &room), if open => {
                let gone = match read {
                    Ok(Ok(count @ 1..)) => {
                        let bytes = Bytes::copy_from_slice(&buffer[..count]);
                        let taken = tap.input(bytes, permit.and_then(|mut permit| permit.split(count)));
                        (!taken).then_some(Gone::Silent)
                    }
                    Ok(Ok(_)) => Some(Gone::Left),
                    Ok(Err(error)) => Some(Gone::Socket(error)),
                    Err(_) => Some(Gone::Silent),
                };
                if let Some(gone) = gone {
                    (open, whole) = (false, false);
                    // Whoever does not listen any more has given the socket up.
                    let _ = turns.send(Turn::Gone(gone));
                }
            }
        }
        if acked < written
            && let Ok(waiting) = unacknowledged(&socket)
        {
            acked = written.saturating_sub(waiting as u64);
            tap.acknowledged(acked);
        }
    }
}

type Read = (Option<OwnedSemaphorePermit>, Result<std::io::Result<usize>, tokio::time::error::Elapsed>);

/// Reads once there is room at both nodes.
async fn read(socket: &mut TcpStream, buffer: &mut [u8], tap: &Tap, room: &Arc<Semaphore>) -> Read {
    let permit = room.clone().acquire_many_owned(READ_BYTES as u32).await.ok();
    tap.may_read().await;
    (permit, timeout(SILENCE_MAX, socket.read(buffer)).await)
}
