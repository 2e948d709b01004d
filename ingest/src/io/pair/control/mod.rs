//! The control half of a pair's node: who holds, and what follows from it in the kernel.
//!
//! ```text
//!  datagrams ─► beats (thread, FIFO: failover::Election) ── Work ──► mover (thread) ── Order ──► data half
//!                 │  ▲            │                          │  ▲                                  │
//!               gate │          notes                        │  └──────────── Report ──────────────┤
//!                 │  │            ▼                          ▼                                     │
//!                 │  └── durable ─ keeper (thread)     address, sockets (shift)                    │
//!                 ▼                                                                                │
//!               packet hold (thread) ◄───────────────────────── Egress ────────────────────────────┘
//! ```
//!
//! In: the configuration, keys, the data half's reports, the operator. Out: orders, the address, live sockets, a status. The
//! threads are plain ones, never the async runtime: a busy data plane must not look like a dead node. What is missing in
//! rights or kernel features is found at the start and said loudly; the node then protects less, not nothing.

mod address;
mod beats;
mod board;
mod gate;
mod held;
mod keep;
mod mover;
mod shift;
mod wire;

pub use address::ownerships;
pub use beats::Work;
pub use board::{Board, Level, Moved, Takeover};
pub use gate::GateCell;

use super::orders::{Egress, Order, Report};
use super::pulse::Pulse;
use crate::config::pair::{Pair, Protect};
use beats::{Beats, Input, Letters};
use failover::election::NoHandover;
use failover::{Action, Epoch, Note};
use held::{Held, Outlet};
use keep::{Keep, KeepError};
use mover::{Mover, Task};
use releve_watermark::KeyRing;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::sync::mpsc::{self, Sender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use takeover::rights::{self, Right};
use thiserror::Error;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tracing::{error, warn};

/// Below the heartbeats and the packet hold.
const MOVER_PRIORITY: u8 = 30;
/// The election answers within a turn; a command waits no longer.
const COMMAND_MAX: Duration = Duration::from_secs(1);
/// Offer, freeze and hand-over: the election's patience and a little more.
const HANDOVER_MAX: Duration = Duration::from_secs(2);

/// Why there is no pair.
#[derive(Debug, Error)]
pub enum ControlError {
    /// What is kept through restarts.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A socket of the election.
    #[error("`pair.paths`: cannot open {0} for heartbeats: {1}")]
    Path(SocketAddr, io::Error),
    /// An address or its interface.
    #[error("`pair.addresses`: {0}")]
    Address(#[from] takeover::address::Error),
    /// A thread.
    #[error("cannot start a thread of the pair: {0}")]
    Thread(io::Error),
}

/// Why an operator's command is not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// Not this node's, or not now.
    #[error(transparent)]
    Handover(#[from] NoHandover),
    /// The election does not answer.
    #[error("the election does not answer")]
    Silent,
    /// Begun, and neither through nor back.
    #[error("the handover has not ended in time; see the status")]
    Unfinished,
}

/// What the data half is given.
pub struct Line {
    /// Orders, to be carried out in this order.
    pub orders: UnboundedReceiver<Order>,
    /// Takes reports; never blocks.
    pub reports: Arc<dyn Fn(Report) + Send + Sync>,
    /// The packet hold, where there is one.
    pub egress: Option<Arc<dyn Egress>>,
    /// Clock and pulse.
    pub pulse: Arc<Pulse>,
}

/// What the kernel is to do for the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Everything that the configuration asks for, and the rights allow.
    Full {
        /// The protected port.
        port: u16,
    },
    /// Nothing: no address moves, no packet waits. For tests of the rest.
    None,
}

/// A running control half.
pub struct Control {
    /// What operators see.
    pub board: Arc<Board>,
    /// What may leave.
    pub gate: Arc<GateCell>,
    election: Letters,
    mover: Sender<Task>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    held: Option<Arc<Held>>,
}

/// Starts the control half. Everything it needs of the kernel is open when this returns; the data half opens its link after.
///
/// # Errors
/// Names what could not be had. Missing rights are no error: they are warnings, and a lower level of protection.
pub fn start(
    pair: &Pair,
    name: &str,
    folder: &Path,
    cluster: KeyRing,
    kernel: Kernel,
) -> Result<(Control, Line), ControlError> {
    let pulse = Arc::new(Pulse::default());
    let gate = Arc::new(GateCell::default());
    let (keep, note) = Keep::begin(folder, pair.node)?;
    let (orders, for_data) = unbounded_channel();
    let mut reasons = pair.doubts();
    let mut addresses = None;
    let mut held = None;
    let wanted = if pair.protect == Protect::Commit { Level::Commit } else { Level::Handover };
    let mut level = wanted;
    if let Kernel::Full { port } = kernel {
        let missing = missing_rights(pair);
        if missing.iter().any(|(right, _)| *right == Right::Repair) {
            level = Level::Address;
        }
        let may_lock = !missing.iter().any(|(right, _)| *right == Right::LockedMemory);
        reasons.extend(missing.into_iter().map(|(_, words)| words));
        let (prepared, doubts) = address::Addresses::prepare(pair, name)?;
        reasons.extend(doubts);
        addresses = Some(prepared);
        let ips: Vec<_> = pair.addresses.iter().map(|address| address.ip).collect();
        if level == Level::Commit {
            match Held::start(pair.node, &ips, port, gate.clone(), pulse.clone(), orders.clone()) {
                Ok(started) => held = Some(Arc::new(started)),
                Err(error) => {
                    level = Level::Handover;
                    reasons.push(format!("no packet hold: {error}"));
                }
            }
        } else {
            held::clean(pair.node, &ips, port);
        }
        // The gate is shut: what the kernel says of a former life's connections goes nowhere. Later it could.
        for ip in ips {
            match takeover::socket::destroy_orphans(ip, port) {
                Ok(0) => {}
                Ok(count) => warn!(count, %ip, "connections of a former life are removed"),
                Err(error) => warn!(%error, %ip, "connections of a former life may stand in the way"),
            }
        }
        if let Some(held) = &held {
            held.look();
        }
        // Only without a bound on it: with one, a later allocation would fail.
        if may_lock && let Err(error) = takeover::realtime::lock_memory() {
            warn!(%error, "memory is not locked: a machine short of it may look dead");
        }
    }
    reasons.iter().for_each(|reason| warn!(reason, "the pair"));
    if level != wanted {
        error!(?wanted, ?level, "the pair protects less than configured");
    }
    let board = Arc::new(Board::new(wanted, level, reasons, pair.node, pair.peer));
    let offset = Arc::new(AtomicI64::new(0));
    let (mover, tasks) = mpsc::channel();
    let (notes, to_keep) = mpsc::channel::<Note>();
    let work = mover.clone();
    let beats = Beats {
        election: pair.election(),
        incarnation: keep.incarnation,
        note,
        wire: wire::Wire::open(cluster, pair.cluster_id(), &pair.paths, &pair.witnesses)
            .map_err(|(at, error)| ControlError::Path(at, error))?,
        pulse: pulse.clone(),
        gate: gate.clone(),
        board: board.clone(),
        offset: offset.clone(),
        hand_on: Box::new(move |next| {
            // The receivers end after this thread does.
            let _ = match next {
                Work::Act(Action::Persist(note), ..) => notes.send(note).is_ok(),
                other => work.send(Task::Work(other)).is_ok(),
            };
        }),
    };
    let (election, thread) = beats.start().map_err(ControlError::Thread)?;
    let mut threads = vec![thread];
    let durable = election.clone();
    threads.push(spawn("pair-keeper", move || keep_notes(&keep, &to_keep, &durable))?);
    let mover_thread = Mover {
        inbox: tasks,
        orders,
        election: election.clone(),
        addresses,
        held: held.clone(),
        gate: gate.clone(),
        pulse: pulse.clone(),
        board: board.clone(),
        offset,
        level,
        later: VecDeque::new(),
        ready: Vec::new(),
        given: Vec::new(),
        begun: None,
        decided: Instant::now(),
        steps: BTreeMap::new(),
        shut_since: None,
        lost: Vec::new(),
        trouble: Vec::new(),
        claims: 0,
        rule_looked: Instant::now(),
    };
    let move_on = move || {
        // Publishers wait for its steps. Without the right it goes on among the others; the heartbeats' thread says so.
        let _ = takeover::realtime::fifo(MOVER_PRIORITY);
        mover_thread.run();
    };
    threads.push(spawn("pair-mover", move_on)?);
    let reports = reporter(election.clone(), mover.clone());
    let egress = held.clone().map(|held| Arc::new(Outlet(held)) as Arc<dyn Egress>);
    let control = Control { board, gate, election, mover, threads: Mutex::new(threads), held };
    Ok((control, Line { orders: for_data, reports, egress, pulse }))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, ControlError> {
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(ControlError::Thread)
}

/// What the protection would need and this process has not, in words.
fn missing_rights(pair: &Pair) -> Vec<(Right, String)> {
    let needed = |right: &Right| match right {
        Right::PacketHold => pair.protect == Protect::Commit,
        Right::RawPackets | Right::NetworkAdministration => pair.hook.is_none(),
        _ => true,
    };
    let missing = rights::probe().into_iter().filter(|finding| finding.missing.is_some());
    missing
        .filter(|finding| needed(&finding.right))
        .map(|finding| (finding.right, finding.to_string()))
        .collect()
}

/// Stores notes, one after the other, and says when each is durable.
fn keep_notes(keep: &Keep, notes: &mpsc::Receiver<Note>, election: &Letters) {
    /// A disk that fails is asked again: without the note the election stands still, which is safe.
    const AGAIN: Duration = Duration::from_millis(200);
    for note in notes {
        while let Err(error) = keep.store(note) {
            error!(%error, "the pair's note cannot be stored: no new epoch until it can");
            std::thread::sleep(AGAIN);
        }
        election.put(Input::Persisted(note));
    }
}

fn reporter(election: Letters, mover: Sender<Task>) -> Arc<dyn Fn(Report) + Send + Sync> {
    Arc::new(move |report| {
        let input = match report {
            Report::LinkUp => Input::LinkUp,
            Report::LinkDown => Input::LinkDown,
            Report::InStep(epoch) => Input::InStep(epoch),
            Report::Paired(epoch) => Input::Paired(epoch),
            other => {
                // After the mover's end nobody waits for reports.
                let _ = mover.send(Task::Report(other));
                return;
            }
        };
        election.put(input);
    })
}

impl std::fmt::Debug for Control {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Control").field("gate", &self.gate.told()).finish_non_exhaustive()
    }
}

impl Control {
    /// Hands over to the peer, and waits for the end of it: what moved.
    ///
    /// # Errors
    /// Why not; nothing has changed then, or everything has gone back.
    pub fn hand_over(&self) -> Result<Takeover, Refused> {
        let (count, _) = self.board.since(0);
        let (reply, answer) = sync_channel(1);
        self.election.put(Input::Handover(reply));
        answer.recv_timeout(COMMAND_MAX).map_err(|_| Refused::Silent)??;
        let started = Instant::now();
        while started.elapsed() < HANDOVER_MAX {
            std::thread::sleep(Duration::from_millis(2));
            let ended = |takeover: &Takeover| matches!(takeover.what, "gave" | "went-back");
            if let Some(takeover) = self.board.since(count).1.into_iter().find(ended) {
                return Ok(takeover);
            }
            // Given back without a freeze: the standby did not answer the offer.
            if started.elapsed() > HANDOVER_MAX / 2 && self.board.since(count).0 == count {
                break;
            }
        }
        Err(Refused::Unfinished)
    }

    /// The operator vouches that the peer is off and stays off.
    pub fn force(&self) {
        self.election.put(Input::Force);
    }

    /// The epoch and state in which this node is, in words.
    pub fn gate_epoch(&self) -> Epoch {
        match self.gate.told() {
            failover::Gate::Confirmed(epoch) | failover::Gate::Alone(epoch) => epoch,
            failover::Gate::Held => 0,
        }
    }

    /// Ends the threads; the address is gone when this returns. The peer notices by itself.
    pub fn stop(&self) {
        let _ = self.mover.send(Task::Stop);
        self.election.put(Input::Stop);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic of a thread has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.stop();
        let _ = self.held.take();
    }
}
