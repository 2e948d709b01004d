//! The way into a stream's task for one publisher, or for the two connections of one.
//!
//! In: messages of its connections, each in its turn. Out: one queue. Touches memory only.

use super::{Kick, QUEUE_BYTES, Queued};
use crate::io::pair::data::{Pairing, Second, Strand};
use crate::merge::{Confluence, Standing};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{MutexGuard, Semaphore, mpsc, oneshot, watch};

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

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<watch::Sender<Option<Kick>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way into the stream's task for one publisher, or for a primary and its backup.
pub(super) struct Inlet {
    pub(super) media: mpsc::Sender<Queued>,
    bytes: Arc<Semaphore>,
    pub(super) kicks: Kicks,
    /// What went on.
    confluence: tokio::sync::Mutex<Confluence>,
    /// Connections that may say something.
    pub(super) claims: AtomicUsize,
    /// Those that say nothing any more, until that is noticed.
    pub(super) gone: Mutex<Vec<u64>>,
    /// There is, or was, a second one: messages are taken in an order that both nodes of a pair must know.
    pub(super) shared: AtomicBool,
    pub(super) moved: Arc<AtomicBool>,
    pub(super) twin: Option<Other>,
}

/// The other node's half of a publisher.
#[derive(Clone)]
pub(super) struct Other {
    pub(super) strand: Strand,
    pub(super) done: watch::Receiver<()>,
}

impl Inlet {
    /// For a publisher whose first connection has this number. `pairing` says where it begins.
    pub(super) fn new(
        media: mpsc::Sender<Queued>,
        first: u64,
        now_ms: u64,
        pairing: Option<&Pairing>,
    ) -> Inlet {
        let live = pairing.and_then(Pairing::live);
        let begun = live.and_then(|live| live.confluence.clone().received(now_ms));
        let twin =
            |pairing: &Pairing| Other { strand: pairing.twin.strand.clone(), done: pairing.done.clone() };
        Inlet {
            media,
            bytes: Arc::new(Semaphore::new(QUEUE_BYTES)),
            kicks: Kicks::default(),
            confluence: tokio::sync::Mutex::new(begun.unwrap_or_else(|| Confluence::new(first, now_ms))),
            claims: AtomicUsize::new(0),
            gone: Mutex::default(),
            shared: AtomicBool::new(live.is_some_and(|live| live.shared)),
            moved: Arc::default(),
            twin: pairing.map(twin),
        }
    }

    /// Whether a further connection of this kind may share it, with a twin or without.
    pub(super) fn is_twinned(&self) -> bool {
        self.twin.is_some()
    }

    /// Tells the other node of a further connection. `None`: not now. What is given says when it may say something.
    pub(super) fn joins(&self, host: u64, second: Second) -> Option<Option<oneshot::Receiver<()>>> {
        match &self.twin {
            Some(twin) => twin.strand.joins(host, second).map(Some),
            None => Some(None),
        }
    }

    pub(super) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    /// What went on, without those that say nothing any more.
    pub(super) async fn confluence(&self) -> MutexGuard<'_, Confluence> {
        let mut confluence = self.confluence.lock().await;
        let gone = std::mem::take(&mut *self.gone.lock().unwrap_or_else(PoisonError::into_inner));
        gone.into_iter().for_each(|gone| confluence.leave(gone));
        confluence
    }

    pub(super) async fn queue(&self, message: rtmp::Message) -> bool {
        let cost = message.payload.len().clamp(1, QUEUE_BYTES) as u32;
        match self.bytes.clone().acquire_many_owned(cost).await {
            Ok(permit) => self.media.send(Queued::Media(message, permit)).await.is_ok(),
            Err(_) => false,
        }
    }

    pub(super) async fn queue_all(&self, messages: Vec<rtmp::Message>) -> bool {
        for message in messages {
            if !self.queue(message).await {
                return false;
            }
        }
        true
    }

    /// Waits until it is the turn of a connection's next message, and says how things stand then. `None`: the stream takes
    /// nothing more.
    pub(super) async fn turn(
        &self,
        of: u64,
        now_ms: u64,
        kicked: &mut watch::Receiver<Option<Kick>>,
    ) -> Option<(MutexGuard<'_, Confluence>, Standing)> {
        let alone = || self.claims.load(Ordering::Relaxed) == 1;
        let Some(Other { strand, .. }) = &self.twin else {
            let confluence = self.confluence().await;
            let standing = confluence.standing(alone(), now_ms);
            return Some((confluence, standing));
        };
        let mut news = strand.news();
        loop {
            let turned = strand.turned();
            tokio::pin!(turned);
            turned.as_mut().enable();
            let confluence = self.confluence().await;
            let standing = match self.shared.load(Ordering::Relaxed) {
                true => strand.turn(of, confluence.taken(), confluence.standing(alone(), now_ms)),
                false => Some(Standing { alone: true, quiet: false }),
            };
            if let Some(standing) = standing {
                return Some((confluence, standing));
            }
            drop(confluence);
            tokio::select! {
                going = strand.changed(of, turned, &mut news) => going.then_some(())?,
                () = self.media.closed() => return None,
                // The other node's word may never come.
                _ = kicked.wait_for(|kick| *kick == Some(Kick::Stopping)) => return None,
            }
        }
    }
}
