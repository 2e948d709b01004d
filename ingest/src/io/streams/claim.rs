//! A publisher's hold on a slot, and the way into its stream's task that a primary and a backup share.
//!
//! In: messages of a publisher. Out: the same in the task's queue, a second copy of the feed left out (`merge`). Touches
//! memory only.

use super::{Held, Kick, QUEUE_BYTES, Queued, Slot};
use crate::io::pair::data::Moment;
use crate::merge::{Merge, Source, Taken};
use crate::metrics::{Metrics, OfStreamAnd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::warn;

/// Closes the connections of a slot's publishers.
#[derive(Clone, Debug, Default)]
pub struct Kicks(Arc<Mutex<Vec<watch::Sender<Option<Kick>>>>>);

impl Kicks {
    /// Closes all of them.
    pub fn send(&self, kick: Kick) {
        self.all().iter().for_each(|one| {
            one.send_replace(Some(kick));
        });
    }

    pub(super) fn add(&self) -> (watch::Sender<Option<Kick>>, watch::Receiver<Option<Kick>>) {
        let (kick, kicked) = watch::channel(None);
        let mut all = self.all();
        // Those that nobody listens to are over.
        all.retain(|one| one.receiver_count() > 0);
        all.push(kick.clone());
        (kick, kicked)
    }

    fn all(&self) -> MutexGuard<'_, Vec<watch::Sender<Option<Kick>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way into the stream's task for one publisher, or for a primary and its backup.
pub(super) struct Inlet {
    pub(super) media: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
    pub(super) kicks: Kicks,
    /// What went on; `None` where there is never a second one.
    merge: Option<tokio::sync::Mutex<Merge>>,
    /// Connections that may say something.
    claims: AtomicUsize,
}

impl Inlet {
    pub(super) fn new(media: mpsc::Sender<Queued>, merge: Option<Merge>) -> Inlet {
        Inlet {
            media,
            bytes: Arc::new(Semaphore::new(QUEUE_BYTES)),
            kicks: Kicks::default(),
            merge: merge.map(tokio::sync::Mutex::new),
            claims: AtomicUsize::new(0),
        }
    }

    async fn queue(&self, message: rtmp::Message) -> bool {
        let cost = message.payload.len().clamp(1, QUEUE_BYTES) as u32;
        match self.bytes.clone().acquire_many_owned(cost).await {
            Ok(permit) => self.media.send(Queued::Media(message, permit)).await.is_ok(),
            Err(_) => false,
        }
    }

    async fn queue_all(&self, messages: Vec<rtmp::Message>) -> bool {
        for message in messages {
            if !self.queue(message).await {
                return false;
            }
        }
        true
    }
}

/// A publisher's hold on a slot; dropping it frees the slot.
pub struct Claim {
    pub(super) id: u64,
    slot: Arc<Slot>,
    started: Instant,
    last_media_ms: Arc<AtomicU64>,
    inlet: Arc<Inlet>,
    source: Source,
    moved: Arc<AtomicBool>,
    metrics: Metrics,
    /// Turns to `Some` when the connection must close.
    pub kicked: watch::Receiver<Option<Kick>>,
}

/// What a claim is made of.
pub(super) struct Parts {
    pub(super) id: u64,
    pub(super) slot: Arc<Slot>,
    pub(super) started: Instant,
    pub(super) last_media_ms: Arc<AtomicU64>,
    pub(super) inlet: Arc<Inlet>,
    /// It is the first one of its inlet.
    pub(super) leads: bool,
    pub(super) moved: Arc<AtomicBool>,
    pub(super) kicked: watch::Receiver<Option<Kick>>,
}

impl Claim {
    pub(super) fn new(parts: Parts, metrics: Metrics) -> Claim {
        let Parts { id, slot, started, last_media_ms, inlet, leads, moved, kicked } = parts;
        metrics.publishers.inc();
        inlet.claims.fetch_add(1, Ordering::Relaxed);
        let source = Source::new(id, leads);
        Claim { id, slot, started, last_media_ms, inlet, source, moved, metrics, kicked }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Queues a message for the stream, or leaves it out where the other publisher of the feed has said it; waits while the
    /// queue is full. `false` when the stream no longer takes any.
    pub async fn send(&mut self, message: rtmp::Message) -> bool {
        // While it waits here it is not the publisher that is slow, and nobody may take it for stale.
        self.last_media_ms.store(u64::MAX, Ordering::Relaxed);
        let sent = self.enter(message).await;
        self.last_media_ms.store(self.now_ms(), Ordering::Relaxed);
        sent
    }

    async fn enter(&mut self, message: rtmp::Message) -> bool {
        let inlet = self.inlet.clone();
        let Some(merge) = &inlet.merge else { return inlet.queue(message).await };
        // Held until it is queued: the queue has the order in which it was decided.
        let mut merge = merge.lock().await;
        let alone = inlet.claims.load(Ordering::Relaxed) == 1;
        let now_ms = self.now_ms();
        let taken = merge.take(&mut self.source, alone, now_ms, message);
        if self.source.found_to_differ() {
            self.tell_difference();
        }
        match taken {
            Taken::Nothing => !inlet.media.is_closed(),
            Taken::One(message) => inlet.queue(message).await,
            Taken::Many(messages) => inlet.queue_all(messages).await,
            Taken::Anew(messages) => {
                let merge = std::mem::replace(&mut *merge, Merge::new(now_ms));
                match self.slot.clone().anew(self, merge) {
                    true => self.inlet.queue_all(messages).await,
                    false => false,
                }
            }
        }
    }

    fn tell_difference(&self) {
        let stream = self.slot.name().to_string();
        warn!(%stream, "primary and backup are two encodes of the feed: one is used, the other is its spare");
        let of = OfStreamAnd { stream, kind: "backup-differs" };
        self.metrics.reports.get_or_create(&of).inc();
    }

    /// Queues a moment behind the messages before it. `false` when the stream no longer takes any.
    pub async fn send_moment(&self, moment: Moment) -> bool {
        self.inlet.media.send(Queued::Moment(Box::new(moment))).await.is_ok()
    }

    /// Whether the other node of the pair has the publisher's connection, and decides over the slot.
    pub fn set_mirrored(&self, mirrored: bool) {
        let mut holder = self.slot.holder();
        if let Some(held) = holder.as_mut().filter(|held| held.has(self.id)) {
            held.mirrored = mirrored;
        }
    }

    /// Gives the slot up without an end: the publisher lives on elsewhere.
    pub fn moved(self) {
        self.moved.store(true, Ordering::Relaxed);
    }

    /// Goes on by a way of its own; gives the old one up.
    pub(super) fn turn_to(
        &mut self,
        inlet: Arc<Inlet>,
        moved: Arc<AtomicBool>,
        kicked: watch::Receiver<Option<Kick>>,
    ) {
        self.inlet.claims.fetch_sub(1, Ordering::Relaxed);
        inlet.claims.fetch_add(1, Ordering::Relaxed);
        (self.inlet, self.moved, self.kicked) = (inlet, moved, kicked);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut holder = self.slot.holder();
        if holder.as_mut().is_some_and(|held| held.leave(self.id)) {
            *holder = None;
        }
        self.inlet.claims.fetch_sub(1, Ordering::Relaxed);
        self.metrics.publishers.dec();
    }
}

impl Held {
    /// Whether it is one of its publishers.
    pub(super) fn has(&self, claim: u64) -> bool {
        self.seats.iter().flatten().any(|seat| seat.claim == claim)
    }

    /// One of its publishers leaves. `true`: it was the last.
    fn leave(&mut self, claim: u64) -> bool {
        let had = self.has(claim);
        for seat in &mut self.seats {
            seat.take_if(|seat| seat.claim == claim);
        }
        had && self.seats.iter().all(Option::is_none)
    }
}
