//! Viewers who speak HTTP/2.
//!
//! ```text
//! worker (epoll): accept, handshake ─ALPN h2─► serve: one task a connection ─► exchange: one task a request ─► node
//!    ▲ seat, address, limits                     │ `sealed`: our records                     step, answer
//!    └──────────── Proved, Gone ◄────────────────┘
//! ```
//!
//! In: sockets whose hands are shaken. Out: answers. The door is another one, the answer is not: what a request is answered
//! is decided by the same calls of the node as over HTTP/1.1. Frames, header compression and flow control are the `h2`
//! library's. A connection keeps its seat with the worker that let it in, and counts there.

mod exchange;
mod sealed;

use crate::http1::Patience;
use crate::http1::request::HEAD_BYTES_MAX;
use crate::node::Node;
use crate::session::Session;
use crate::tls;
use bytes::Bytes;
use exchange::{Done, exchange};
use h2::Reason;
use h2::server::{Builder, Connection, SendResponse};
use sealed::Hand;
use std::future::poll_fn;
use std::net::{IpAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Requests of one connection at once: a player has a playlist and an object of each track under way, and a blocked reload.
const STREAMS_MAX: u32 = 32;
/// Requests that a connection may take back before they are answered, beyond those it lets be answered: players do so when
/// they seek or change quality; whoever does little else wants work done for nothing (CVE-2023-44487).
const CANCELLED_MAX: u32 = 64;
/// Requests reset before they were looked at, and errors of streams, that the library puts up with.
const RESETS_MAX: usize = 16;
/// Bytes of a body that the library holds for one stream; they are shared, not copied.
const SEND_BYTES: usize = 256 << 10;
/// Viewers whose copies one connection carries: a browser with some tabs. One more, and it is to come back anew.
const SESSIONS_MAX: usize = 16;
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_secs(1);

/// What the exchanges of a connection have in common.
pub(super) struct Common {
    node: Arc<Node>,
    source: IpAddr,
    patience: Patience,
    copies: Mutex<Copies>,
    proved: AtomicBool,
    on_proof: Box<dyn Fn() + Send + Sync>,
}

/// Viewers' copies that the connection carries.
struct Copies {
    /// Whose, since nothing of any was under way last.
    sessions: Vec<Session>,
    /// How many are being handed to the library.
    under_way: usize,
    /// When the last one was.
    last: Instant,
}

impl Common {
    fn prove(&self) {
        if !self.proved.swap(true, Ordering::Relaxed) {
            (self.on_proof)();
        }
    }

    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.copies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy is about to be sent.
    fn begins(&self, session: &Session) {
        let mut copies = self.copies();
        copies.under_way += 1;
        if !copies.sessions.iter().any(|known| known.id == session.id) {
            copies.sessions.push(session.clone());
        }
    }

    /// All of it is with the library, or will never be.
    fn ended(&self) {
        let mut copies = self.copies();
        copies.under_way -= 1;
        copies.last = Instant::now();
    }

    /// Whether everybody whose copy may be under way may still have it. `is_sent`: nothing is sealed and not sent.
    fn is_allowed(&self, is_sent: bool) -> bool {
        let mut copies = self.copies();
        // What the library held then has been sealed since, unless what is sealed had to wait.
        if copies.under_way == 0 && is_sent && copies.last.elapsed() >= TICK {
            copies.sessions.clear();
        }
        copies.sessions.iter().all(|session| self.node.still(&session.standing()).is_ok())
    }
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The viewer or the relay has said that it is over.
    Said,
    /// Nobody asked for anything for too long.
    Idle,
    /// Bytes that are not HTTP/2, or the connection broke.
    Broken,
    /// Somebody may not have any more what they are being sent.
    Cut,
    /// They take no bytes, or too few.
    Slow,
    /// Work was asked for in vain, too often.
    Abuse,
}

impl End {
    fn word(self) -> &'static str {
        match self {
            End::Said => "said",
            End::Idle => "idle",
            End::Broken => "broken",
            End::Cut => "cut",
            End::Slow => "slow",
            End::Abuse => "abuse",
        }
    }
}

/// Serves a connection to its end. `source`: whose it is. `on_proof` is called once, when it has shown a session.
pub(super) async fn serve(
    node: Arc<Node>,
    socket: TcpStream,
    tls: Box<tls::Session>,
    source: IpAddr,
    patience: Patience,
    on_proof: Box<dyn Fn() + Send + Sync>,
) {
    let Ok(socket) = tokio::net::TcpStream::from_std(socket) else { return };
    let hand = Hand::new(socket, tls, node.clone());
    node.metrics.http2_connections.inc();
    let common = Common {
        node: node.clone(),
        source,
        patience,
        copies: Mutex::new(Copies { sessions: Vec::new(), under_way: 0, last: Instant::now() }),
        proved: AtomicBool::new(false),
        on_proof,
    };
    let end = run(Arc::new(common), &hand).await;
    tracing::debug!(?end, "connection ended");
    node.metrics.http2_connections.dec();
    node.metrics.http2_ended(end.word());
    match end {
        End::Cut | End::Slow | End::Idle => hand.reset(),
        _ => hand.close(),
    }
    if end == End::Cut {
        node.metrics.bodies_cut.inc();
    }
}

async fn run(common: Arc<Common>, hand: &Hand) -> End {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_send_buffer_size(SEND_BYTES)
        .max_concurrent_reset_streams(RESETS_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(Some(RESETS_MAX));
    let mut shaking = std::pin::pin!(builder.handshake::<_, Bytes>(hand.clone()));
    let shaken = poll_fn(|context| {
        let polled = shaking.as_mut().poll(context);
        // Should it fail, the library finds out when it reads.
        let _ = hand.poll_send(context);
        polled
    });
    let mut connection = match timeout(common.patience.head, shaken).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(_)) => return End::Broken,
        Err(_) => return End::Idle,
    };
    let end = Driver::new(common, hand).drive(&mut connection).await;
    if end == End::Abuse {
        connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        let last = poll_fn(|context| {
            let _ = connection.poll_closed(context);
            hand.poll_send(context)
        });
        let _ = timeout(TICK, last).await;
    }
    end
}

/// What drives a connection.
struct Driver<'a> {
    common: Arc<Common>,
    hand: &'a Hand,
    streams: JoinSet<Done>,
    answered: u32,
    cancelled: u32,
    /// When the last request was answered, or the connection began.
    idle_since: Instant,
    /// When it is over, having said goodbye.
    ends: Option<Instant>,
}

type Library = Connection<Hand, Bytes>;
type Asked = (http::Request<h2::RecvStream>, SendResponse<Bytes>);

impl Driver<'_> {
    fn new(common: Arc<Common>, hand: &Hand) -> Driver<'_> {
        Driver {
            common,
            hand,
            streams: JoinSet::new(),
            answered: 0,
            cancelled: 0,
            idle_since: Instant::now(),
            ends: None,
        }
    }

    async fn drive(mut self, connection: &mut Library) -> End {
        let node = self.common.node.clone();
        let mut revocations = node.revocation_moves();
        let mut stopped = std::pin::pin!(node.stopped());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let end = tokio::select! {
                next = accept(connection, self.hand) => self.accepted(next),
                Some(done) = self.streams.join_next() => self.done(done.unwrap_or(Done::Cancelled)),
                _ = revocations.changed() => self.look(),
                _ = tick.tick() => self.tick(connection),
                () = &mut stopped, if self.ends.is_none() => {
                    self.say_goodbye(connection, node.limits.stop_patience);
                    None
                }
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn accepted(&mut self, next: Option<Result<Asked, h2::Error>>) -> Option<End> {
        match next {
            Some(Ok((request, respond))) => {
                // Requests that were taken back do not count for the library, but their tasks may not have ended yet.
                if self.streams.len() >= 2 * STREAMS_MAX as usize {
                    return Some(End::Abuse);
                }
                self.streams.spawn(exchange(self.common.clone(), request, respond));
                None
            }
            Some(Err(error)) => {
                tracing::debug!(%error, "HTTP/2");
                let calm = error.reason() == Some(Reason::ENHANCE_YOUR_CALM) && !error.is_remote();
                Some(if calm { End::Abuse } else { End::Broken })
            }
            None => Some(End::Said),
        }
    }

    fn done(&mut self, done: Done) -> Option<End> {
        self.idle_since = Instant::now();
        match done {
            Done::Said => self.answered = self.answered.saturating_add(1),
            Done::Cancelled => self.cancelled = self.cancelled.saturating_add(1),
            Done::Cut => return Some(End::Cut),
            Done::Slow => return Some(End::Slow),
        }
        (self.cancelled > self.answered.saturating_add(CANCELLED_MAX)).then_some(End::Abuse)
    }

    fn look(&self) -> Option<End> {
        (!self.common.is_allowed(self.hand.is_sent())).then_some(End::Cut)
    }

    fn tick(&mut self, connection: &mut Library) -> Option<End> {
        if self.ends.is_some_and(|ends| ends <= Instant::now()) {
            return Some(if self.streams.is_empty() { End::Idle } else { End::Said });
        }
        let linger = self.common.patience.linger;
        if self.ends.is_none()
            && self.streams.is_empty()
            && self.idle_since.elapsed() >= self.common.patience.idle
        {
            self.say_goodbye(connection, linger);
        }
        if self.ends.is_none() && self.common.copies().sessions.len() > SESSIONS_MAX {
            self.say_goodbye(connection, self.common.patience.write);
        }
        self.look()
    }

    /// No further requests; those under way are answered.
    fn say_goodbye(&mut self, connection: &mut Library, at_most: Duration) {
        connection.graceful_shutdown();
        self.ends = Some(Instant::now() + at_most);
    }
}

/// The next request. Whatever the library has written meanwhile is sent.
async fn accept(connection: &mut Library, hand: &Hand) -> Option<Result<Asked, h2::Error>> {
    poll_fn(|context| {
        let polled = connection.poll_accept(context);
        match hand.poll_send(context) {
            Poll::Ready(Err(_)) => Poll::Ready(None),
            _ => polled,
        }
    })
    .await
}
