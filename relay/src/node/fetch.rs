//! Fetching an object: one flight for all who want it, over all origins, until it is here or time is up. A slow origin is
//! not waited for: the next one is asked too, and the first good answer counts.

use super::limits::ms;
use super::{Node, now_unix_s};
use crate::cache::{Landed, Look, Owner};
use crate::io::origin::OriginError;
use crate::upstream::object::weight;
use crate::upstream::{Entry, Held, ObjectKey};
use ingest_api::Object;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How long a failed search is remembered: those who come meanwhile hear of it at once.
const ABSENT: Duration = Duration::from_secs(1);
/// How long the one origin may take before another is asked too: a segment of 50 Mb/s takes a tenth of that on a gigabit
/// link, and a viewer's buffer does not notice it.
const HEDGE_AFTER: Duration = Duration::from_millis(100);
/// The pause between two rounds over all origins.
const ROUND_PAUSE: Duration = Duration::from_millis(250);

impl Node {
    /// The object of an entry; `None` when no origin gave it in time.
    pub(super) async fn object(self: &Arc<Self>, entry: &Entry) -> Option<Arc<Held>> {
        let deadline = Instant::now() + self.limits.object_hold;
        let mut first = true;
        loop {
            let look = self.cache.look(&entry.key, self.now_ms());
            if std::mem::take(&mut first) {
                self.metrics.cache_looks(match look {
                    Look::Held(_) => "hit",
                    Look::Wait(_) => "wait",
                    Look::Absent | Look::Fetch(_) => "miss",
                });
            }
            let waiter = match look {
                Look::Held(object) => return Some(object),
                Look::Absent => return None,
                Look::Wait(waiter) => waiter,
                Look::Fetch(owner) => {
                    let waiter = owner.waiter();
                    // A task of its own: the flight goes on when the viewer who opened it has gone.
                    tokio::spawn(Arc::clone(self).fly(entry.clone(), owner));
                    waiter
                }
            };
            match timeout_at(deadline, waiter).await {
                Ok(Landed::Found(object)) => return Some(object),
                Ok(Landed::Absent) | Err(_) => return None,
                Ok(Landed::Abandoned) => {}
            }
        }
    }

    async fn fly(self: Arc<Self>, entry: Entry, owner: Owner<ObjectKey, Arc<Held>>) {
        let deadline = Instant::now() + self.limits.object_hold;
        match timeout_at(deadline, self.search(&entry)).await {
            Ok(mut object) => {
                self.metrics.flights("found");
                if object.a.len() >= pages::WORTH_BYTES {
                    match self.pages.keep(&object.a) {
                        Ok(kept) => object.a = kept,
                        // Sent as other bytes are: that costs more, and nothing else.
                        Err(error) => tracing::debug!(%error, "an object is not in a file of memory"),
                    }
                }
                let weight = weight(&object);
                owner.found(Arc::new(entry.held(object)), weight);
            }
            Err(_) => {
                self.metrics.flights("absent");
                tracing::warn!(object = ?entry.key.what, stream = %entry.key.stream, "no origin gives the object");
                owner.absent(self.now_ms(), self.now_ms() + ms(ABSENT));
            }
        }
    }

    /// Asks one origin after the other, the next one already while this one is slow, round after round, until one gives
    /// the object. Whoever is still being asked then is asked no longer.
    async fn search(self: &Arc<Self>, entry: &Entry) -> Object {
        let mut asked = JoinSet::new();
        loop {
            let order = self.choice().order(self.now_ms());
            for origin in order {
                asked.spawn(Arc::clone(self).ask(origin, entry.clone()));
                while let Ok(Some(answer)) = timeout(HEDGE_AFTER, asked.join_next()).await {
                    if let Ok(Some(object)) = answer {
                        return object;
                    }
                }
            }
            while let Some(answer) = asked.join_next().await {
                if let Ok(Some(object)) = answer {
                    return object;
                }
            }
            sleep(ROUND_PAUSE).await;
        }
    }

    /// The object, if this origin has it and it is what was listed.
    async fn ask(self: Arc<Self>, origin: usize, entry: Entry) -> Option<Object> {
        let (keys, asked) = (self.keys(), &self.origins[origin]);
        let answer = asked.object(&keys.cluster, now_unix_s(), &entry.route(), &self.limits).await;
        let error = match answer {
            Ok(bytes) => match entry.check(bytes) {
                Ok(object) => {
                    self.choice().succeeded(origin);
                    return Some(object);
                }
                Err(mismatch) => {
                    self.metrics.upstream_refused("object");
                    tracing::warn!(origin = asked.url(), object = ?entry.key.what, %mismatch, "object refused");
                    return None;
                }
            },
            // The standby may be a moment behind: no failure of the node.
            Err(OriginError::NotFound) => return None,
            Err(error) => error,
        };
        self.choice().failed(origin, self.now_ms());
        self.metrics.upstream_failed("object");
        tracing::debug!(origin = asked.url(), %error, "an origin gave no object");
        None
    }
}
