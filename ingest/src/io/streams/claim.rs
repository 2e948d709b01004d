//! A publisher's hold on a slot.
//!
//! In: messages of a publisher. Out: the same in its stream's queue, a second copy of the feed left out (`merge`). Touches
//! memory only.

use super::inlet::Inlet;
use super::{Held, Kick, Queued, Seat, Slot};
use crate::io::pair::data::Moment;
use crate::merge::Taken;
use crate::metrics::{Metrics, OfStreamAnd};
use crate::slot::Push;
use releve_state::coordinator::StreamRecord;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use tokio::sync::{oneshot, watch};
use tracing::warn;

/// A publisher's hold on a slot; dropping it frees the slot.
pub struct Claim {
    pub(super) id: u64,
    /// The number of its connection: at both nodes of a pair the same.
    connection: u64,
    slot: Arc<Slot>,
    started: Instant,
    last_media_ms: Arc<AtomicU64>,
    inlet: Arc<Inlet>,
    /// It is the first one of its publisher.
    leads: bool,
    /// Until this ends the other connection has not come so far that this one may say something.
    admitted: Option<oneshot::Receiver<()>>,
    /// It has given the slot up.
    left: bool,
    metrics: Metrics,
    /// Turns to `Some` when the connection must close.
    pub kicked: watch::Receiver<Option<Kick>>,
}

/// What a claim is made of.
pub(super) struct Parts {
    pub(super) id: u64,
    pub(super) connection: u64,
    pub(super) slot: Arc<Slot>,
    pub(super) started: Instant,
    pub(super) last_media_ms: Arc<AtomicU64>,
    pub(super) inlet: Arc<Inlet>,
    pub(super) leads: bool,
    pub(super) admitted: Option<oneshot::Receiver<()>>,
    pub(super) kicked: watch::Receiver<Option<Kick>>,
}

impl Claim {
    pub(super) fn new(parts: Parts, metrics: Metrics) -> Claim {
        let Parts { id, connection, slot, started, last_media_ms, inlet, leads, admitted, kicked } = parts;
        metrics.publishers.inc();
        inlet.claims.fetch_add(1, Ordering::Relaxed);
        let left = false;
        Claim { id, connection, slot, started, last_media_ms, inlet, leads, admitted, left, metrics, kicked }
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
        if let Some(admitted) = self.admitted.take() {
            // Ended, or the other connection has: both are the end of its waiting.
            let _ = admitted.await;
            self.inlet.share();
        }
        let (inlet, now_ms) = (self.inlet.clone(), self.now_ms());
        // Held until it is queued: the queue has the order in which it was decided.
        let turn = inlet.turn(self.connection, now_ms, &mut self.kicked).await;
        let Some((mut confluence, standing)) = turn else { return false };
        let taken = confluence.take(self.connection, standing, now_ms, message);
        if confluence.found_to_differ(self.connection) {
            self.tell_difference();
        }
        let sent = match taken {
            Taken::Nothing => !inlet.media.is_closed(),
            Taken::One(message) => inlet.queue(message).await,
            Taken::Many(messages) => inlet.queue_all(messages).await,
            Taken::Anew(messages) => {
                self.slot.leave_to(self.id);
                inlet.media.send(Queued::Anew).await.is_ok() && inlet.queue_all(messages).await
            }
        };
        drop(confluence);
        if let Some(twin) = &inlet.twin {
            twin.strand.advance();
        }
        sent
    }

    fn tell_difference(&self) {
        let stream = self.slot.name().to_string();
        warn!(%stream, "primary and backup are two encodes of the feed: one is used, the other is its spare");
        let of = OfStreamAnd { stream, kind: "backup-differs" };
        self.metrics.reports.get_or_create(&of).inc();
    }

    /// Queues a moment behind the messages before it, where it is one for all connections of the publisher.
    pub async fn send_moment(&self, mut moment: Moment) {
        let Some(twin) = &self.inlet.twin else { return };
        let confluence = self.inlet.confluence().await;
        let shared = self.inlet.shared.load(Ordering::Relaxed);
        if twin.strand.instant(&mut moment, &confluence, shared) {
            // A stream that takes nothing any more ends its publisher.
            let _ = self.inlet.media.send(Queued::Moment(Box::new(moment))).await;
        }
    }

    /// From here on the publisher has, or had, two connections.
    pub fn share(&self) {
        self.inlet.share();
    }

    /// A claim for a further connection of this publisher, by the word of the pair's other node.
    pub fn second(&self, push: Push, peer: IpAddr, connection: u64) -> Claim {
        let (kick, kicked) = self.inlet.kicks.add();
        let id = self.slot.claims.fetch_add(1, Ordering::Relaxed);
        let last_media_ms = Arc::new(AtomicU64::new(self.now_ms()));
        let mut holder = self.slot.holder();
        if let Some(held) = holder.as_mut().filter(|held| Arc::ptr_eq(&held.inlet, &self.inlet)) {
            let seat = Seat { claim: id, connection, peer, last_media_ms: last_media_ms.clone(), kick };
            if let Some(before) = held.seats[push as usize].replace(seat) {
                before.kick.send_replace(Some(Kick::Replaced));
            }
        }
        let (slot, started, inlet) = (self.slot.clone(), self.started, self.inlet.clone());
        let (leads, admitted) = (false, None);
        let parts = Parts { id, connection, slot, started, last_media_ms, inlet, leads, admitted, kicked };
        // Counted under the lock.
        Claim::new(parts, self.metrics.clone())
    }

    /// Whether it began its publisher; else it is a further connection of it.
    pub fn leads(&self) -> bool {
        self.leads
    }

    /// Gives the slot up. Whether no other connection of the publisher goes on.
    pub fn leave(mut self) -> bool {
        self.lets_go()
    }

    /// Under the slot's lock, where others join: one of several that leave at one moment is the last.
    fn lets_go(&mut self) -> bool {
        let mut holder = self.slot.holder();
        if std::mem::replace(&mut self.left, true) {
            return false;
        }
        if holder.as_mut().is_some_and(|held| held.leave(self.id)) {
            *holder = None;
        }
        self.inlet.gone.lock().unwrap_or_else(PoisonError::into_inner).push(self.connection);
        self.inlet.claims.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Messages of the connection that the feed has taken.
    pub async fn taken(&self) -> u64 {
        self.inlet.confluence().await.taken_of(self.connection)
    }

    /// Ends when the stream has made the publisher's last segment; of one with a twin.
    pub fn done(&self) -> Option<watch::Receiver<()>> {
        self.inlet.twin.as_ref().map(|twin| twin.done.clone())
    }

    /// The stream, as it is recorded now.
    pub fn record(&self) -> StreamRecord {
        self.slot.record.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the other node of the pair has the publisher's connection, and decides over the slot.
    pub fn set_mirrored(&self, mirrored: bool) {
        let mut holder = self.slot.holder();
        if let Some(held) = holder.as_mut().filter(|held| held.has(self.id)) {
            held.mirrored = mirrored;
        }
    }

    /// Gives the slot up without an end: the publisher lives on elsewhere.
    pub fn moved(mut self) {
        if self.lets_go() {
            self.inlet.moved.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.lets_go();
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
