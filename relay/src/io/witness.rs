//! This relay as a witness: it grants epochs to ingest nodes that lost their peer, one owner each.
//!
//! In: sealed asks on a UDP socket of its own. Out: sealed answers, each only after what it grants is durable
//! (`witness/store.rs`). One thread of its own: a busy runtime delays no grant, a full disk no viewer. The rules are
//! `failover::witness`'s; this file carries them out.

mod store;

use super::metrics::WitnessCounts;
use failover::rule::Broken;
use failover::vote::Ask;
use failover::witness::{Action, Record, Witness};
use failover::{ClusterId, WitnessId};
use releve_watermark::KeyRing;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use store::Store;
use thiserror::Error;

/// How often the thread looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// More than any datagram of ours.
const DATAGRAM_MAX: usize = 512;
/// Time between log lines about datagrams that are not ours: anybody can send them.
const QUIET_EVERY: u64 = 1000;

/// Who this witness is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where asks arrive.
    pub listen: SocketAddr,
    /// The number by which the pair's configuration names it.
    pub id: u16,
    /// The pair's cluster number.
    pub cluster: u64,
    /// What is durable.
    pub file: PathBuf,
}

/// Why there is no witness.
#[derive(Debug, Error)]
pub enum WitnessError {
    /// The socket or the thread.
    #[error("cannot listen as a witness on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The file cannot be read, or holds something else.
    #[error(
        "{path}: {why}; if it is lost for good, give this relay a new `witness_id` and name it in both ingest nodes",
        path = path.display()
    )]
    Record {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A witness at work; ends when it is dropped.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub listen: SocketAddr,
    id: u16,
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// One line for operators.
    pub fn tell(&self) -> String {
        let Record { highest, lock, .. } = *self.record.lock().unwrap_or_else(PoisonError::into_inner);
        match lock.epoch {
            0 => format!("witness {}: nothing granted\n", self.id),
            epoch => format!(
                "witness {}: epoch {epoch} granted to node {}, highest {highest}\n",
                self.id, lock.node
            ),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has already been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Starts the witness's thread.
///
/// # Errors
/// When the address is taken, or the durable record cannot be read.
pub fn start(
    settings: Settings,
    keys: impl Fn() -> KeyRing + Send + 'static,
    counts: WitnessCounts,
) -> Result<Running, WitnessError> {
    let failed = |error| WitnessError::Listen(settings.listen, error);
    // Written now rather than at the first grant: a folder that cannot be written is said at the start.
    let (store, durable) = Store::open(&settings.file)?;
    let socket = UdpSocket::bind(settings.listen).map_err(failed)?;
    socket.set_read_timeout(Some(LOOK_EVERY)).map_err(failed)?;
    let listen = socket.local_addr().map_err(failed)?;
    let (record, stop) = (Arc::new(Mutex::new(durable)), Arc::new(AtomicBool::new(false)));
    counts.epoch.set(i64::try_from(durable.lock.epoch).unwrap_or(i64::MAX));
    let id = settings.id;
    let mut desk = Desk {
        witness: Witness::new(WitnessId(id), durable, Broken::default()),
        settings,
        socket,
        store,
        durable,
        shown: record.clone(),
        counts,
        strangers: 0,
    };
    let stopping = stop.clone();
    let run = move || {
        while !stopping.load(Ordering::Acquire) {
            desk.serve(&keys);
        }
    };
    let thread = std::thread::Builder::new().name("witness".into()).spawn(run);
    let thread = thread.map_err(|error| WitnessError::Listen(listen, error))?;
    tracing::info!(%listen, id, epoch = durable.lock.epoch, "this relay is a witness");
    Ok(Running { listen, id, record, stop, thread: Some(thread) })
}

struct Desk {
    settings: Settings,
    socket: UdpSocket,
    witness: Witness,
    store: Store,
    durable: Record,
    shown: Arc<Mutex<Record>>,
    counts: WitnessCounts,
    strangers: u64,
}

impl Desk {
    /// One datagram, or a short wait.
    fn serve(&mut self, keys: &impl Fn() -> KeyRing) {
        let mut buffer = [0; DATAGRAM_MAX];
        let (length, from) = match self.socket.recv_from(&mut buffer) {
            Ok(received) => received,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return;
            }
            // A port that was unreachable for an answer of ours, or a passing trouble: never a reason to spin.
            Err(_) => return std::thread::sleep(Duration::from_millis(1)),
        };
        let keys = keys();
        let cluster = ClusterId(self.settings.cluster);
        let ask = match Ask::open(&keys, cluster, &buffer[..length]) {
            Ok(ask) => ask,
            Err(error) => {
                self.counts.asked("refused-datagram");
                if self.strangers.is_multiple_of(QUIET_EVERY) {
                    tracing::warn!(%from, %error, "a datagram for the witness is not ours");
                }
                self.strangers += 1;
                return;
            }
        };
        self.witness.handle_ask(&ask);
        while let Some(action) = self.witness.poll_action() {
            match action {
                Action::Persist(record) => {
                    if let Err(error) = self.store.keep(&record) {
                        tracing::error!(%error, file = %self.settings.file.display(), "the witness cannot store its record: it grants nothing");
                        self.counts.asked("not-stored");
                        // Whatever the store holds now, nothing was said: the next ask is judged by what was durable.
                        self.witness =
                            Witness::new(WitnessId(self.settings.id), self.durable, Broken::default());
                        return;
                    }
                    self.kept(record, &ask);
                }
                Action::Answer(answer) => {
                    self.counts.asked(if answer.granted { "granted" } else { "denied" });
                    // A lost answer is asked for again.
                    let _ = self.socket.send_to(&answer.seal(&keys, cluster), from);
                }
            }
        }
    }

    fn kept(&mut self, record: Record, ask: &Ask) {
        self.durable = record;
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = record;
        self.counts.epoch.set(i64::try_from(record.lock.epoch).unwrap_or(i64::MAX));
        match ask.release {
            true => tracing::info!(epoch = ask.wanted, node = ask.node.0, "an epoch was given back"),
            false => {
                tracing::info!(epoch = ask.wanted, node = ask.node.0, base = ask.base, "an epoch is granted")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use failover::NodeId;
    use failover::vote::{ANSWER_LEN, Answer};
    use releve_watermark::Key;
    use std::fs::File;

    fn keys() -> KeyRing {
        KeyRing::of(Key::new(1, [3; 32]))
    }

    /// What cannot be made durable is not granted; and is, once it can.
    #[test]
    fn a_grant_that_cannot_be_stored_is_not_given() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            id: 7,
            cluster: 1,
            file: folder.path().join("witness-7"),
        };
        let (mut store, durable) = Store::open(&settings.file).unwrap();
        // A file that takes no writes, from root neither.
        let writable = store.exchange(File::open(&settings.file).unwrap());
        let socket = UdpSocket::bind(settings.listen).unwrap();
        let at = socket.local_addr().unwrap();
        let mut desk = Desk {
            witness: Witness::new(WitnessId(7), durable, Broken::default()),
            settings,
            socket,
            store,
            durable,
            shown: Arc::default(),
            counts: WitnessCounts::default(),
            strangers: 0,
        };
        let asking = UdpSocket::bind("127.0.0.1:0").unwrap();
        asking.set_nonblocking(true).unwrap();
        let put = |desk: &mut Desk, node: u16| {
            let ask =
                Ask { node: NodeId(node), incarnation: 9, counter: 1, wanted: 5, base: 0, release: false };
            asking.send_to(&ask.seal(&keys(), ClusterId(1)), at).unwrap();
            desk.serve(&keys);
            // Loopback delivers before `send_to` returns.
            let mut buffer = [0; ANSWER_LEN + 1];
            let length = asking.recv(&mut buffer).ok()?;
            Some(Answer::open(&keys(), ClusterId(1), &buffer[..length]).unwrap())
        };
        assert_eq!(put(&mut desk, 1), None);
        desk.store.exchange(writable);
        assert!(put(&mut desk, 2).unwrap().granted, "nobody was told of the first");
    }
}
