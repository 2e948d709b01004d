//! The streams of this node: their slots, and who holds them.
//!
//! In: a publisher with a stream key. Out: a `Claim` on the stream's slot, or why not. Each stream has one `publish` task;
//! a claim is the sending end of its queue. A slot has one publisher, or the primary and the backup of one feed. Touches the
//! state store (stream records) and memory.

mod claim;
mod inlet;

pub use claim::Claim;
pub use inlet::Kicks;

use crate::io::pair::data::{Moment, Pairing, Second};
use crate::metrics::Metrics;
use crate::slot::{self, Decision, Holder, Push};
use claim::Parts;
use ingest_api::StreamName;
use inlet::Inlet;
use media::window::Window;
use releve_state::coordinator::{Coordinator, Encrypt, Error as StateError, MarkPolicy, StreamRecord};
use releve_state::stream_key::{self, StreamKey};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;
use thiserror::Error;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

/// Media bytes of one publisher that may wait for its stream's task: two key pictures of 100 Mb/s video while the one
/// before them is being marked. A full queue makes the publisher's connection wait.
pub const QUEUE_BYTES: usize = 16 << 20;
/// Messages that may wait, whatever their size: 16 MiB of 20-byte audio would otherwise be 800,000 of them.
const QUEUE_MESSAGES: usize = 1024;
/// Publishers, each replaced by the next, that a stream's task may have before it: more come only while the state store is
/// away, and each may have a full queue.
const BEGINS: usize = 4;

/// Why a publisher's connection is closed by its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// A newer connection with the same key took the slot.
    Replaced,
    /// The stream was removed or its key changed.
    KeyEnded,
    /// What it sends cannot be published.
    BadMedia,
    /// The state store does not answer.
    NoState,
    /// The DRM key server gives no key to begin with.
    NoKey,
    /// Another process raised the stream's epoch: it holds the stream now.
    Fenced,
    /// The pair's other node cannot begin in the middle of it.
    Unshared,
    /// The node stops.
    Stopping,
}

impl Kick {
    /// The reason in words for the publisher, and for the metric's label.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Kick::Replaced => ("a newer connection with this key took over", "replaced"),
            Kick::KeyEnded => ("this stream key has ended", "key-ended"),
            Kick::BadMedia => ("the media cannot be published, see the server's log", "bad-media"),
            Kick::NoState => ("the server cannot record segments at the moment", "no-state"),
            Kick::NoKey => ("the server has no key for this stream at the moment", "no-key"),
            Kick::Unshared => ("begin anew, so that a second server has the stream, too", "unshared"),
            Kick::Fenced => ("another node has taken the stream over", "fenced"),
            Kick::Stopping => ("the server is stopping", "stopping"),
        }
    }

    /// Whether the publisher would be served again if it connected anew: to this node's next life, or to another node.
    pub fn wants_reconnect(self) -> bool {
        matches!(self, Kick::Stopping | Kick::Fenced | Kick::Unshared)
    }
}

/// What is on its way to the stream's task.
pub enum Queued {
    /// A media message; its bytes count until it is taken.
    Media(rtmp::Message, OwnedSemaphorePermit),
    /// Between two messages: a standby joins here.
    Moment(Box<Moment>),
    /// What follows is another connection's, which begins as if it had just taken the slot.
    Anew,
}

/// What a stream's task is told when a publisher takes the slot.
pub struct Begin {
    /// The publisher's messages; ends when it leaves.
    pub media: mpsc::Receiver<Queued>,
    /// Closes the publisher's connection, the backup's too.
    pub kick: Kicks,
    /// What to do about marking while this publisher is here.
    pub mark: MarkPolicy,
    /// How a run that begins with it is encrypted.
    pub encrypt: Encrypt,
    /// Turns true when the publisher lives on elsewhere: nothing of it is to be ended here.
    pub moved: Arc<AtomicBool>,
    /// Its twin on the other node of a pair.
    pub pairing: Option<Pairing>,
}

/// One stream of this node.
pub struct Slot {
    record: RwLock<StreamRecord>,
    holder: Mutex<Option<Held>>,
    begin: mpsc::Sender<Begin>,
    /// Counts claims, of all slots.
    claims: Arc<AtomicU64>,
    /// What the stream lists now.
    pub window: watch::Receiver<Arc<Window>>,
}

/// The publishers of a slot.
struct Held {
    /// Primary and backup; one of them at least.
    seats: [Option<Seat>; 2],
    inlet: Arc<Inlet>,
    /// The other node of the pair has its connection, and decides over it.
    mirrored: bool,
}

struct Seat {
    claim: u64,
    connection: u64,
    peer: IpAddr,
    last_media_ms: Arc<AtomicU64>,
    kick: watch::Sender<Option<Kick>>,
}

impl Held {
    fn kick(&self, kick: Kick) {
        self.seats.iter().flatten().for_each(|seat| {
            seat.kick.send_replace(Some(kick));
        });
    }
}

/// Why a publisher gets no slot.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// No stream has this key. The same answer, in the same time, whether the id or the secret is wrong.
    #[error("no stream has this key")]
    WrongKey,
    /// A live publisher holds the slot.
    #[error("`{0}` has a live publisher already")]
    InUse(StreamName),
    /// The stream's task has not got round to the publishers before this one.
    #[error("`{0}` is still busy with the publishers before this one")]
    Busy(StreamName),
    /// The state store failed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Starts the task of a stream: given its record and queue, gives the window it publishes.
pub type Spawn = dyn Fn(&StreamRecord, mpsc::Receiver<Begin>) -> watch::Receiver<Arc<Window>> + Send + Sync;

#[derive(Default)]
struct Slots {
    by_name: BTreeMap<StreamName, Arc<Slot>>,
    /// Grows with every change, so that records that were read before one are not applied after it.
    changes: u64,
    /// The node stops: nobody gets a slot any more.
    stopping: bool,
}

/// All streams of the node.
pub struct Streams {
    state: Arc<dyn Coordinator>,
    spawn: Box<Spawn>,
    slots: RwLock<Slots>,
    claims: Arc<AtomicU64>,
    started: Instant,
    metrics: Metrics,
}

impl Streams {
    /// No streams yet; `refresh` reads them.
    pub fn new(state: Arc<dyn Coordinator>, metrics: Metrics, spawn: Box<Spawn>) -> Streams {
        Streams {
            state,
            spawn,
            slots: RwLock::default(),
            claims: Arc::new(AtomicU64::new(1)),
            started: Instant::now(),
            metrics,
        }
    }

    /// Brings the slots in line with the stream records: new ones appear, publishers whose key has ended are closed.
    ///
    /// # Errors
    /// When the state store does not answer; everything then stays as it is.
    pub async fn refresh(&self) -> Result<(), StateError> {
        loop {
            let changes = self.read().changes;
            let records = self.state.streams().await?;
            let mut slots = self.write();
            if slots.changes != changes {
                continue;
            }
            for record in &records {
                self.renew(&mut slots, record);
            }
            let before = slots.by_name.len();
            slots.by_name.retain(|name, slot| {
                let stays = records.iter().any(|record| &record.name == name) || slot.is_mirrored();
                if !stays {
                    slot.close(Kick::KeyEnded);
                }
                stays
            });
            slots.changes += (before - slots.by_name.len()) as u64;
            return Ok(());
        }
    }

    /// The state store.
    pub fn state(&self) -> &dyn Coordinator {
        &*self.state
    }

    fn open(&self, record: &StreamRecord) -> Arc<Slot> {
        let (begin, begins) = mpsc::channel(BEGINS);
        let window = (self.spawn)(record, begins);
        let (record, claims) = (RwLock::new(record.clone()), self.claims.clone());
        Arc::new(Slot { record, holder: Mutex::default(), begin, claims, window })
    }

    /// The slot of a stream.
    pub fn get(&self, name: &StreamName) -> Option<Arc<Slot>> {
        self.read().by_name.get(name).cloned()
    }

    /// All slots, by name.
    pub fn all(&self) -> Vec<(StreamName, Arc<Slot>)> {
        self.read().by_name.iter().map(|(name, slot)| (name.clone(), slot.clone())).collect()
    }

    /// Whether the node stops.
    pub fn is_stopping(&self) -> bool {
        self.read().stopping
    }

    /// Gives a publisher the slot its key opens.
    ///
    /// # Errors
    /// `ClaimError`; the slot's holder is untouched then.
    pub async fn claim(&self, key: &str, peer: IpAddr) -> Result<(StreamName, Claim), ClaimError> {
        let (record, claim) = self.claim_for(key, Push::Primary, peer, |_| None).await?;
        Ok((record.name, claim))
    }

    /// The same for a publisher that may be a backup, or have a twin.
    ///
    /// # Errors
    /// As `claim`.
    pub async fn claim_for(
        &self,
        key: &str,
        push: Push,
        peer: IpAddr,
        pairing: impl FnOnce(&StreamRecord) -> Option<Pairing>,
    ) -> Result<(StreamRecord, Claim), ClaimError> {
        let presented = StreamKey::parse(key).ok();
        loop {
            let changes = self.read().changes;
            let record = match &presented {
                Some(key) => self.state.stream_by_key_id(key.id()).await?,
                None => None,
            };
            let allowed = presented.as_ref().is_some_and(|key| stream_key::verify(record.as_ref(), key));
            let Some(record) = record.filter(|_| allowed) else { return Err(ClaimError::WrongKey) };
            // Held to the end, so that a stream that is removed meanwhile finds its new publisher.
            let mut slots = self.write();
            if slots.stopping {
                return Err(ClaimError::Stopping);
            }
            if slots.changes != changes {
                continue;
            }
            let slot = self.renew(&mut slots, &record);
            let pairing = pairing(&record);
            let claim = self.hold(&slot, &record, (push, peer), false, pairing)?;
            return Ok((record, claim));
        }
    }

    /// Gives a publisher whose connection the other node of the pair has the slot that it holds there. Who holds it here
    /// must go: a stream has one holder. The stream's record becomes what it is there.
    ///
    /// # Errors
    /// `ClaimError::State`, `Busy` or `Stopping`.
    pub async fn follow(
        &self,
        record: &StreamRecord,
        publisher: (Push, IpAddr),
        pairing: Pairing,
    ) -> Result<Claim, ClaimError> {
        let known = match self.state.stream(&record.name).await? {
            None => match self.state.add_stream(record.clone()).await {
                // The copy of the other node's directory was first.
                Err(StateError::Exists(_)) => self.state.stream(&record.name).await?,
                added => added.map(|()| None)?,
            },
            known => known,
        };
        if known.is_some_and(|known| known != *record) {
            self.state.update_stream(record.clone()).await?;
        }
        let mut slots = self.write();
        if slots.stopping {
            return Err(ClaimError::Stopping);
        }
        let slot = self.renew(&mut slots, record);
        self.hold(&slot, record, publisher, true, Some(pairing))
    }

    /// The slot of a record, up to date.
    fn renew(&self, slots: &mut Slots, record: &StreamRecord) -> Arc<Slot> {
        let Some(slot) = slots.by_name.get(&record.name) else {
            let slot = self.open(record);
            slots.by_name.insert(record.name.clone(), slot.clone());
            slots.changes += 1;
            return slot;
        };
        slots.changes += u64::from(slot.renew(record));
        slot.clone()
    }

    /// Takes the slot for a newcomer and tells its task; both under one lock, so that the task hears of publishers in the
    /// order in which they replace each other. A primary that finds a backup joins it, and the other way round: the task
    /// hears nothing then.
    fn hold(
        &self,
        slot: &Arc<Slot>,
        record: &StreamRecord,
        (push, peer): (Push, IpAddr),
        mirrored: bool,
        pairing: Option<Pairing>,
    ) -> Result<Claim, ClaimError> {
        let now_ms = self.started.elapsed().as_millis() as u64;
        let mut holder = slot.holder();
        // A pair's publisher and one that came past its shared address are never one.
        let shared = |held: &Held| held.inlet.is_twinned() == pairing.is_some();
        let current = holder.as_ref().and_then(|held| match shared(held) {
            true => held.seats[push as usize].as_ref(),
            false => held.seats.iter().flatten().next(),
        });
        let current = current.map(|seat| Holder {
            peer: seat.peer,
            last_media_ms: seat.last_media_ms.load(Ordering::Relaxed),
        });
        let decision = slot::decide(current, peer, now_ms);
        let theirs = holder.as_ref().is_some_and(|held| held.mirrored);
        if !mirrored && theirs && pairing.is_some() {
            // This node has taken over a moment ago, and the publisher's task has not heard of it.
            return Err(ClaimError::Busy(record.name.clone()));
        }
        if !mirrored && (decision == Decision::Refuse || theirs) {
            return Err(ClaimError::InUse(record.name.clone()));
        }
        let id = self.claims.fetch_add(1, Ordering::Relaxed);
        let connection = pairing.as_ref().map_or(id, |pairing| pairing.connection);
        let last_media_ms = Arc::new(AtomicU64::new(now_ms));
        let seat = |kick| Seat { claim: id, connection, peer, last_media_ms: last_media_ms.clone(), kick };
        let claim = |inlet, leads, admitted, kicked| {
            let (slot, started, last_media_ms) = (slot.clone(), self.started, last_media_ms.clone());
            let parts =
                Parts { id, connection, slot, started, last_media_ms, inlet, leads, admitted, kicked };
            Claim::new(parts, self.metrics.clone())
        };
        if !mirrored
            && let Some(held) = holder.as_mut().filter(|held| shared(held))
            && let Some(host) = held.seats[push.other() as usize].as_ref().map(|seat| seat.connection)
        {
            let admitted = held.inlet.joins(host, Second { connection, push, peer });
            let Some(admitted) = admitted else { return Err(ClaimError::Busy(record.name.clone())) };
            let (kick, kicked) = held.inlet.kicks.add();
            if let Some(before) = held.seats[push as usize].replace(seat(kick)) {
                before.kick.send_replace(Some(Kick::Replaced));
            }
            return Ok(claim(held.inlet.clone(), false, admitted, kicked));
        }
        let begin = slot.begin.try_reserve().map_err(|error| match error {
            TrySendError::Full(()) => ClaimError::Busy(record.name.clone()),
            TrySendError::Closed(()) => ClaimError::Stopping,
        })?;
        if let Some(held) = holder.take() {
            held.kick(Kick::Replaced);
        }
        let (sender, media) = mpsc::channel(QUEUE_MESSAGES);
        let inlet = Arc::new(Inlet::new(sender, connection, now_ms, pairing.as_ref()));
        let (kick, kicked) = inlet.kicks.add();
        let mut seats = [None, None];
        seats[push as usize] = Some(seat(kick));
        *holder = Some(Held { seats, inlet: inlet.clone(), mirrored });
        let (kick, moved) = (inlet.kicks.clone(), inlet.moved.clone());
        begin.send(Begin { media, kick, mark: record.mark, encrypt: record.encrypt, moved, pairing });
        Ok(claim(inlet, true, None, kicked))
    }

    fn read(&self) -> RwLockReadGuard<'_, Slots> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes every publisher and takes no more: the node stops. An encoder that is closed is back within milliseconds.
    pub fn close_all(&self) {
        self.write().stopping = true;
        self.all().iter().for_each(|(_, slot)| slot.close(Kick::Stopping));
    }
}

impl Slot {
    /// Takes over a changed record; a holder whose key it no longer is must go. `true` when it differed.
    fn renew(&self, record: &StreamRecord) -> bool {
        let mut known = self.record.write().unwrap_or_else(PoisonError::into_inner);
        if known.key_hash != record.key_hash {
            self.close(Kick::KeyEnded);
        }
        std::mem::replace(&mut *known, record.clone()) != *record
    }

    fn close(&self, kick: Kick) {
        let mut holder = self.holder();
        if let Some(held) = holder.take_if(|held| !held.mirrored || kick == Kick::Stopping) {
            held.kick(kick);
        }
    }

    fn is_mirrored(&self) -> bool {
        self.holder().as_ref().is_some_and(|held| held.mirrored)
    }

    fn name(&self) -> StreamName {
        self.record.read().unwrap_or_else(PoisonError::into_inner).name.clone()
    }

    /// Whether a publisher holds the slot.
    pub fn is_held(&self) -> bool {
        self.holder().is_some()
    }

    fn holder(&self) -> MutexGuard<'_, Option<Held>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A claim of the slot that waited as a spare is its publisher from now on; the other one goes.
    fn leave_to(&self, claim: u64) {
        let mut holder = self.holder();
        let Some(held) = holder.as_mut().filter(|held| held.has(claim)) else { return };
        for seat in &mut held.seats {
            if let Some(other) = seat.take_if(|seat| seat.claim != claim) {
                other.kick.send_replace(Some(Kick::Replaced));
            }
        }
    }
}
