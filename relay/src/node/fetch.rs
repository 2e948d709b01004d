//! Fetching an object: one flight for all who want it, over all origins, until it is here or time is up.

use super::limits::ms;
use super::{Node, now_unix_s};
use crate::cache::{Landed, Look, Owner};
use crate::io::origin::OriginError;
use crate::upstream::object::weight;
use crate::upstream::{Entry, Held, ObjectKey};
use ingest_api::Object;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How long a failed search is remembered: those who come meanwhile hear of it at once.
const ABSENT: Duration = Duration::from_secs(1);
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
            Ok(object) => {
                self.metrics.flights("found");
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

    /// Asks the origins in turn, round after round, until one gives the object.
    async fn search(&self, entry: &Entry) -> Object {
        let route = entry.route();
        loop {
            let order = self.choice().order(self.now_ms());
            for origin in order {
                let keys = self.keys();
                let asked =
                    self.origins[origin].object(&keys.cluster, now_unix_s(), &route, &self.limits).await;
                let error = match asked {
                    Ok(bytes) => match entry.check(bytes) {
                        Ok(object) => {
                            self.choice().succeeded(origin);
                            return object;
                        }
                        Err(mismatch) => {
                            self.metrics.upstream_refused("object");
                            let origin = self.origins[origin].url();
                            tracing::warn!(origin, object = ?entry.key.what, %mismatch, "object refused");
                            continue;
                        }
                    },
                    // The standby may be a moment behind: no failure of the node.
                    Err(OriginError::NotFound) => continue,
                    Err(error) => error,
                };
                self.choice().failed(origin, self.now_ms());
                self.metrics.upstream_failed("object");
                tracing::debug!(origin = self.origins[origin].url(), %error, "an origin gave no object");
            }
            sleep(ROUND_PAUSE).await;
        }
    }
}
