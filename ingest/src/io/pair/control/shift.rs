//! Connections change hands: each step for each of them, several at once where there are many.
//!
//! In: survivors, sockets, dumps. Out: the next stage of each, or why that one is lost. Order and reasons: `takeover`.

use super::board::Moved;
use crate::io::pair::orders::{Resumed, Socket};
use crate::io::pair::outline::Outline;
use crate::io::pair::pulse::Pulse;
use bytes::Bytes;
use mirror::{ConnectionId, Survived};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::num::NonZero;
use std::thread::available_parallelism;
use std::time::Duration;
use takeover::hold::{Base, Flow};
use takeover::socket::{Dumped, Error, Frozen, Quiet, destroy_orphan};
use tracing::warn;

/// So many connections are worth another thread.
const A_THREADS_WORTH: usize = 8;
const THREADS_MAX: usize = 4;
/// Read at once from a frozen socket: on the stack, which is there already; a larger buffer's pages would first have to come.
const DRAIN_BYTES: usize = 16 << 10;
/// What the old host had not sent leaves within this, or the connection is broken.
const TAIL_MAX: Duration = Duration::from_millis(500);

/// Restored, mute.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) connection: ConnectionId,
    pub(super) flow: Flow,
    pub(super) base: Option<Base>,
    quiet: Quiet,
    /// When it was frozen, on the other node's clock.
    frozen: Duration,
    in_flight: usize,
    unread: usize,
}

/// Frozen and dumped.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) connection: ConnectionId,
    pub(super) flow: Flow,
    pub(super) outline: Outline,
    dumped: Dumped,
}

impl Given {
    fn moved(&self, alive: bool) -> Moved {
        let state = &self.outline.state;
        Moved {
            publisher: self.flow.peer,
            alive,
            in_flight: state.unacknowledged.len(),
            unread: state.unread.len(),
            discarded: Some(self.dumped.discarded()),
            blackout_ms: None,
        }
    }
}

/// Does the same with each, on several threads where that pays. Results in the order of the items.
fn each<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let worth = (items.len() / A_THREADS_WORTH).min(THREADS_MAX);
    // How many cores there are is asked last: the system answers from files, and that takes longer than a connection.
    let threads = if worth < 2 { worth } else { worth.min(available_parallelism().map_or(1, NonZero::get)) };
    if threads < 2 {
        return items.into_iter().map(work).collect();
    }
    let share = items.len().div_ceil(threads);
    let mut shares = Vec::new();
    let mut items = items.into_iter();
    for _ in 0..threads {
        shares.push(items.by_ref().take(share).collect::<Vec<T>>());
    }
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> = shares
            .into_iter()
            .map(|share| scope.spawn(move || share.into_iter().map(work).collect::<Vec<R>>()))
            .collect();
        let done = running.into_iter().map(|thread| thread.join());
        // A panic here is a defect of ours; it goes on in this thread, as it would have without the others.
        done.flat_map(|done| done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

/// What a restore gives: the connection, or the publisher that is lost and why.
pub(super) type Restored = Result<Ready, (Option<SocketAddr>, String)>;

/// Restores what survived. `whole`: nothing was acknowledged beyond it. `offset`: the other node's clock less ours, ns.
pub(super) fn restore(
    survived: &[Survived],
    planned: bool,
    whole: bool,
    now: Duration,
    offset: i64,
) -> Vec<Restored> {
    let begun = survived.iter().filter(|survived| !is_half_open(survived)).collect();
    each(begun, |survived| restore_one(survived, planned, whole, now, offset))
}

/// Nobody knows whether the publisher has heard our SYN-ACK, and nothing of it was read. Restored, the connection would answer
/// a publisher that has not with an ACK that this one drops, as long as both live. Without it a second SYN begins anew, and
/// whoever had heard is told at once, by a reset.
fn is_half_open(survived: &Survived) -> bool {
    survived.received == 0 && Outline::decode(&survived.tcp).is_ok_and(|outline| outline.half_open)
}

fn restore_one(survived: &Survived, planned: bool, whole: bool, now: Duration, offset: i64) -> Restored {
    let outline = Outline::decode(&survived.tcp)
        .map_err(|error| (None, format!("connection {}: {error}", survived.connection)))?;
    let flow = outline.flow();
    let lost = |why: String| (Some(flow.peer), format!("{}: {why}", flow.peer));
    if !whole {
        return Err(lost("not restored: without the packet hold its end is not known".into()));
    }
    let counted = outline.base.is_none_or(|base| {
        outline.state.receive_next.wrapping_sub(outline.state.unread.len() as u32)
            == base.received.wrapping_add(survived.received as u32)
    });
    let state = if outline.exact && (planned || (outline.base.is_some() && counted)) {
        outline.state.clone()
    } else {
        let there = now.as_nanos() as i64 + offset;
        let age = u64::try_from(there - outline.taken.as_nanos() as i64).unwrap_or(0);
        outline
            .survived(survived.received, survived.sent_from, &survived.sent, Duration::from_nanos(age))
            .ok_or_else(|| lost("its first sequence numbers are not known".into()))?
    };
    let quiet = Quiet::restore(&state)
        .or_else(|error| if makes_way(flow) { Quiet::restore(&state) } else { Err(error) })
        .map_err(|error| lost(error.to_string()))?;
    Ok(Ready {
        connection: survived.connection,
        flow,
        base: outline.base,
        quiet,
        frozen: outline.taken,
        in_flight: state.unacknowledged.len(),
        unread: state.unread.len(),
    })
}

/// What a former life here left of the same connection stands in the way of a restore. Looked for only after one was refused:
/// the question to the kernel takes longer than the restore. Whether there was such an orphan, and it is gone.
fn makes_way(flow: Flow) -> bool {
    match destroy_orphan(flow.local, flow.peer) {
        Ok(true) => warn!(publisher = %flow.peer, "an orphan of a former life is removed"),
        Ok(false) => return false,
        Err(error) => {
            warn!(%error, publisher = %flow.peer, "an orphan may stand in the way");
            return false;
        }
    }
    true
}

/// Lets a restored connection speak; the address must be here.
pub(super) fn go_live(
    ready: Ready,
    planned: bool,
    pulse: &Pulse,
    offset: i64,
) -> (Moved, Result<Resumed, String>) {
    let Ready { connection, flow, base, quiet, frozen, in_flight, unread } = ready;
    let speak = || -> Result<TcpStream, String> {
        let live = quiet.go_live().map_err(|error| error.to_string())?;
        let mut stream = live.stream;
        stream.set_nonblocking(false).map_err(|error| error.to_string())?;
        if !live.tail.is_empty() {
            stream.set_write_timeout(Some(TAIL_MAX)).map_err(|error| error.to_string())?;
            stream.write_all(&live.tail).map_err(|error| error.to_string())?;
        }
        Ok(stream)
    };
    let spoke = speak();
    let there = pulse.now().as_nanos() as i64 + offset;
    let blackout = (there - frozen.as_nanos() as i64) as f64 / 1e6;
    let moved = Moved {
        publisher: flow.peer,
        alive: spoke.is_ok(),
        in_flight,
        unread,
        discarded: None,
        blackout_ms: (planned && spoke.is_ok()).then_some(blackout),
    };
    let live = spoke.and_then(|stream| live_again(connection, stream, base, pulse));
    (moved, live.map_err(|why| format!("{}: {why}", flow.peer)))
}

/// A stream for the data half, with its new outline.
pub(super) fn live_again(
    connection: ConnectionId,
    stream: TcpStream,
    base: Option<Base>,
    pulse: &Pulse,
) -> Result<Resumed, String> {
    let outline = Outline::of_stream(&stream, base, pulse.now()).map_err(|error| error.to_string())?;
    stream
        .set_write_timeout(None)
        .and_then(|()| stream.set_nonblocking(true))
        .map_err(|error| error.to_string())?;
    Ok(Resumed { connection, stream, tcp: outline.encode() })
}

/// A freeze: the dump with input found in the socket, or the stream as it was (none when it has ended) and why.
pub(super) type Froze = Result<(Given, Vec<Bytes>), (Option<(ConnectionId, TcpStream)>, String)>;

/// Freezes, drains and dumps every connection. Those that are half closed end here: they have no future to move.
pub(super) fn freeze(
    sockets: Vec<Socket>,
    pulse: &Pulse,
    base: impl Fn(Flow) -> Option<Base> + Sync,
) -> Vec<Froze> {
    each(sockets, |socket| freeze_one(socket, pulse, &base))
}

fn freeze_one(socket: Socket, pulse: &Pulse, base: &impl Fn(Flow) -> Option<Base>) -> Froze {
    let Socket { connection, stream, local, peer } = socket;
    let flow = Flow { local, peer };
    let taken = pulse.now();
    let frozen = Frozen::freeze(stream)
        .map_err(|kept| (Some((connection, kept.kept)), format!("{peer}: {}", kept.error)))?;
    let mut drained = Vec::new();
    let mut buffer = [0; DRAIN_BYTES];
    loop {
        match frozen.drain(&mut buffer) {
            Ok(0) => break,
            Ok(count) => drained.push(Bytes::copy_from_slice(&buffer[..count])),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    let dumped = match frozen.dump() {
        Ok(dumped) => dumped,
        Err(kept) => {
            let over = matches!(kept.error, Error::NotEstablished { .. });
            let why = format!("{peer}: {}", kept.error);
            // Drained bytes are lost with a stream that goes back: it must end too.
            let back = (!over && drained.is_empty()).then(|| kept.kept.thaw().ok()).flatten();
            return Err((back.map(|stream| (connection, stream)), why));
        }
    };
    let outline =
        Outline { state: dumped.state().clone(), base: base(flow), taken, exact: true, half_open: false };
    Ok((Given { connection, flow, outline, dumped }, drained))
}

/// Takes a dumped connection back.
pub(super) fn thaw(given: Given, pulse: &Pulse) -> (Moved, Result<Resumed, String>) {
    let mut moved = given.moved(true);
    let Given { connection, flow, outline, dumped } = given;
    let live = dumped.thaw().map_err(|error| error.to_string());
    let live = live.and_then(|stream| live_again(connection, stream, outline.base, pulse));
    moved.alive = live.is_ok();
    (moved, live.map_err(|why| format!("{}: {why}", flow.peer)))
}

/// Closes what remains of a connection that lives at the peer.
pub(super) fn depart(given: Given) -> (Moved, Result<(), String>) {
    let moved = given.moved(true);
    let peer = given.flow.peer;
    match given.dumped.depart() {
        Ok(departed) => {
            departed.close();
            (moved, Ok(()))
        }
        // Dropped it vanishes as silently; what slipped in was not acknowledged and comes again, to the peer.
        Err(kept) => (moved, Err(format!("{peer}: {}", kept.error))),
    }
}

/// Ends a connection without a packet.
pub(super) fn vanish(stream: TcpStream) {
    // Whatever fails here leaves a connection that closes like any; the address is gone by now, nothing arrives.
    if let Ok(frozen) = Frozen::freeze(stream)
        && let Ok(dumped) = frozen.dump()
    {
        drop(dumped);
    }
}
