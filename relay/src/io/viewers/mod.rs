//! The viewers' front: a thread a core, each with its own listener and its own epoll.
//!
//! ```text
//! kernel (SO_REUSEPORT) ─► worker 0: Doors ─► Seat (Wire), … ─► node.step ─► one writev an answer, or one write of 128 KiB
//!                      └─► worker 1: …                 ├─ may come with the stream ─► parked in its seat until that moves
//!                                                      └─ ledger, origin ─► task on the runtime: node.answer
//!                                     mailbox (eventfd) ◄──────── reply ────────┘
//! ```
//!
//! A worker never waits for anything but its epoll: what is at hand is answered in place; what waits for its stream (a
//! blocked reload, a part that is hinted at) stays in its seat and costs neither thread nor task; an admission that must be
//! durable or an object that is fetched is a task on the runtime, and its reply comes back by the mailbox. Workers share no
//! locks but those of the node, held for a look each.
//!
//! `rustix` for epoll and eventfd: its calls are the kernel's, one for one, behind safe types. `mio` and `polling` hide
//! edge triggering or rearm with a system call an event, which costs more than reading the request. Descriptor tables of
//! their own for the workers would need `unshare`, which no safe crate offers, and rightly so: a descriptor number would
//! mean another file in another thread. So all workers share the process's limit; more viewers than that need a second
//! relay on the machine.

mod door;
mod mailbox;
mod seat;
mod send;
mod turns;
mod visitor;
mod wire;
mod worker;

use super::viewers::mailbox::{Letter, Mailbox};
use crate::node::Node;
use crate::tls::Current;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::mpsc;
pub(super) use visitor::Proxies;
use worker::Worker;

/// Connections that may wait to be accepted, on each listener: a burst of 20,000 viewers comes within a second.
const BACKLOG: i32 = 4096;
/// What the kernel may hold unsent for one viewer, in bytes, before it doubles it for its own needs; left to itself it goes
/// up to 4 MB. A segment of 2 s at 1 Mb/s goes in one write; with a quarter of this it takes three, and three wake-ups.
const SEND_BUFFER_BYTES: usize = 256 << 10;
/// Descriptors that are not viewers': listeners, origins, the state, logs, and the files that objects lie in.
const DESCRIPTORS_KEPT: usize = 125 + pages::SHEETS_MAX;

/// The listeners of an address, one a worker, and the address itself.
pub(super) struct Listeners {
    pub(super) address: SocketAddr,
    listeners: Vec<TcpListener>,
}

/// What the workers of a front share.
pub(super) struct Shared {
    pub(super) node: Arc<Node>,
    /// Connections that are seated, over all workers.
    pub(super) seated: AtomicUsize,
    /// Most of them.
    pub(super) seats: usize,
    /// Most handshakes under way, on each worker.
    pub(super) handshakes: usize,
    /// How many workers share the seats.
    pub(super) workers: usize,
    /// Who may say whose connection it is.
    pub(super) proxies: Proxies,
    /// Whether HTTP/2 is offered through TLS.
    pub(super) http2: bool,
}

/// Threads that serve viewers.
pub(super) struct Front {
    node: Arc<Node>,
    mailboxes: Vec<Arc<Mailbox>>,
    /// Closed when every worker has ended.
    ended: mpsc::Receiver<()>,
}

/// Listens on an address for each core.
pub(super) fn listen(address: SocketAddr) -> io::Result<Listeners> {
    if address.port() != 0 {
        // Listeners that share a port also share it with another relay's: whoever holds it already must be seen.
        drop(TcpListener::bind(address)?);
    }
    let first = listener(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..std::thread::available_parallelism().map_or(1, NonZero::get) {
        listeners.push(listener(address)?);
    }
    Ok(Listeners { address, listeners })
}

fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Whoever is accepted inherits these: no system call for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Starts the workers; they answer from now on. `secure`: where viewers come in who speak TLS, and with what.
pub(super) fn start(
    listeners: Listeners,
    secure: Option<(Listeners, Arc<Current>)>,
    proxies: Proxies,
    http2: bool,
    node: &Arc<Node>,
) -> io::Result<Front> {
    let seats = node.limits.connections_max.min(descriptors().saturating_sub(DESCRIPTORS_KEPT).max(1));
    if seats < node.limits.connections_max {
        tracing::info!(seats, "the limit on open files bounds how many viewers there is room for");
    }
    let workers = listeners.listeners.len();
    let handshakes = (node.limits.handshakes_max / workers).max(1);
    let seated = AtomicUsize::new(0);
    let node_too = node.clone();
    let shared = Arc::new(Shared { node: node_too, seated, seats, handshakes, workers, proxies, http2 });
    let (secure, current) = secure.map(|(listeners, current)| (listeners.listeners, current)).unzip();
    let mut secure = secure.into_iter().flatten();
    let (alive, ended) = mpsc::channel(1);
    let logs = tracing::dispatcher::get_default(Clone::clone);
    let mut front = Front { node: node.clone(), mailboxes: Vec::new(), ended };
    for (number, listener) in listeners.listeners.into_iter().enumerate() {
        let mailbox = Arc::new(Mailbox::new()?);
        front.mailboxes.push(mailbox.clone());
        let secure = secure.next().zip(current.clone());
        let runtime = tokio::runtime::Handle::current();
        let worker = Worker::new(shared.clone(), mailbox, listener, secure, runtime)?;
        let (logs, alive) = (logs.clone(), alive.clone());
        std::thread::Builder::new().name(format!("viewers-{number}")).spawn(move || {
            let _alive = alive;
            tracing::dispatcher::with_default(&logs, || worker.run());
        })?;
    }
    Ok(front)
}

impl Front {
    /// Passes on to the workers what they must hear of; returns when they have ended, which they do when the node stops.
    pub(super) async fn watch(mut self) {
        let (mut revocations, mut changes) = (self.node.revocation_moves(), self.node.changes());
        loop {
            tokio::select! {
                _ = changes.changed() => self.post(|| Letter::Changed),
                _ = revocations.changed() => self.post(|| Letter::Look),
                () = self.node.stopped() => break,
                _ = self.ended.recv() => {
                    tracing::error!("no thread serves viewers any more");
                    return;
                }
            }
        }
        self.post(|| Letter::Stop);
        let _ = self.ended.recv().await;
    }

    fn post(&self, letter: impl Fn() -> Letter) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.post(letter()));
    }
}

impl Drop for Front {
    /// Nobody watches any more, be it that the runtime has gone: the workers must not outlive it.
    fn drop(&mut self) {
        self.post(|| Letter::End);
    }
}

/// How many descriptors the process may have, once it has asked for all it can get.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.map_or(usize::MAX, |count| usize::try_from(count).unwrap_or(usize::MAX))
}
