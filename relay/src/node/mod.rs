//! One relay: what it knows, and the phases of a request.
//!
//! ```text
//! Request ─► route ─► credential ─► method ─► find ─► Reply
//!    ▲                                        └─► may still come: parked until the stream has moved ─┐
//!    └──────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! In: requests as plain values. Out: answers as plain values. It waits and spawns (tokio), but knows nothing of HTTP
//! libraries or sockets: `io` puts a server before it and origins, ledger and coordinator behind.

pub mod admit;
pub mod answer;
mod cdn;
mod edge;
pub mod fetch;
pub mod follow;
pub mod jwt_keys;
pub mod keys;
pub mod limits;
pub mod page;
mod park;
mod reports;
pub mod respond;
pub mod stream;
pub mod tier;
pub mod watched;

pub use crate::http1::{Method, Request};
pub use answer::{Answer, Reply};
pub use keys::Keys;
pub use limits::Limits;
pub use park::Park;
pub use respond::Step;

use crate::cache::Cache;
use crate::cdn::names::Name;
use crate::cmcd::stalls::Stalls;
use crate::io::metrics::Metrics;
use crate::io::origin::Origin;
use crate::io::webhook::Webhook;
use crate::revocation::Revocations;
use crate::session::{Session, Standing};
use crate::token::Refusal;
use crate::upstream::{Held, ObjectKey, Origins};
use bytes::Bytes;
use ingest_api::StreamName;
use jwt_keys::JwtKeys;
use releve_state::coordinator::Revocation;
use releve_state::seats::{EndedSession, SeatLimit};
use releve_state::{Coordinator, Ledger};
use std::collections::HashMap;
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use stream::Stream;
use tokio::sync::watch;
use watched::Watched;

/// A relay that answers requests.
pub struct Node {
    /// Its name in ledger and registry.
    pub name: String,
    /// Bounds and times.
    pub limits: Limits,
    /// What it counts.
    pub metrics: Metrics,
    /// Tokens of others.
    pub jwt: JwtKeys,
    /// Decides on tokens that are nobody else's, if there is one.
    pub webhook: Option<Arc<Webhook>>,
    /// How many sessions of one viewer run at once, if that is limited.
    pub seats: Option<SeatLimit>,
    /// Sessions that others want to hear of.
    pub watched: Watched,
    /// How much of the audience goes to the CDN, in sixteenths, where not all of it does.
    pub cdn_share: AtomicU8,
    /// Players that report that they wait for their buffers.
    stalls: Mutex<Stalls>,
    keys: RwLock<Arc<Keys>>,
    revocations: RwLock<Revocations>,
    /// Moves whenever a revocation arrives: held requests and long bodies look again.
    revoked: watch::Sender<u64>,
    /// Moves whenever a stream has changed: parked requests look again.
    changed: watch::Sender<u64>,
    /// True once the relay is stopping.
    stopping: watch::Sender<bool>,
    streams: Mutex<HashMap<StreamName, Arc<Stream>>>,
    cache: Arc<Cache<ObjectKey, Arc<Held>>>,
    /// Files that are encrypted for the CDN, by their names.
    sealed: Arc<Cache<Name, Bytes>>,
    /// Where the large ones lie.
    pub pages: pages::Arena,
    origins: Vec<Origin>,
    choice: Mutex<Origins>,
    ledger: Arc<dyn Ledger>,
    coordinator: Arc<dyn Coordinator>,
    started: Instant,
}

impl Node {
    /// A relay of these parts; nothing runs yet.
    #[allow(clippy::too_many_arguments, reason = "each is a part of its own")]
    pub fn new(
        name: String,
        limits: Limits,
        cache_bytes: usize,
        keys: Keys,
        origins: Vec<Origin>,
        webhook: Option<Arc<Webhook>>,
        seats: Option<SeatLimit>,
        coordinator: Arc<dyn Coordinator>,
        ledger: Arc<dyn Ledger>,
    ) -> Arc<Node> {
        Arc::new(Node {
            name,
            limits,
            metrics: Metrics::new(),
            jwt: JwtKeys::default(),
            webhook,
            seats,
            watched: Watched::default(),
            cdn_share: AtomicU8::new(0),
            stalls: Mutex::default(),
            keys: RwLock::new(Arc::new(keys)),
            revocations: RwLock::default(),
            revoked: watch::Sender::new(0),
            changed: watch::Sender::new(0),
            stopping: watch::Sender::new(false),
            streams: Mutex::default(),
            cache: Cache::new(cache_bytes),
            sealed: Cache::new(cache_bytes),
            pages: pages::Arena::default(),
            choice: Mutex::new(Origins::new(origins.len())),
            origins,
            ledger,
            coordinator,
            started: Instant::now(),
        })
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts other keys in force: from the next request on.
    pub fn rekey(&self, keys: Keys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
        self.revoked.send_modify(|moves| *moves += 1);
    }

    /// Takes new revocations; whoever is held or being sent something looks again.
    pub fn revoke(&self, new: &[Revocation]) {
        if new.is_empty() {
            return;
        }
        let mut revocations = self.revocations.write().unwrap_or_else(PoisonError::into_inner);
        for revocation in new {
            revocations.revoke(&revocation.viewer, revocation.at_unix_s);
        }
        self.metrics.revoked_viewers.set(i64::try_from(revocations.len()).unwrap_or(i64::MAX));
        drop(revocations);
        self.revoked.send_modify(|moves| *moves += 1);
    }

    /// Ends single sessions; whoever is held or being sent something looks again.
    pub fn end_sessions(&self, ended: &[EndedSession]) {
        if ended.is_empty() {
            return;
        }
        let now = now_unix_s();
        let mut revocations = self.revocations.write().unwrap_or_else(PoisonError::into_inner);
        ended.iter().for_each(|ended| revocations.end(ended.session, ended.until_unix_s, now));
        drop(revocations);
        self.revoked.send_modify(|moves| *moves += 1);
    }

    /// Moves with every revocation and change of keys.
    pub fn revocation_moves(&self) -> watch::Receiver<u64> {
        self.revoked.subscribe()
    }

    /// Moves with every change of a stream.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether a session that was good when its request came still is.
    ///
    /// # Errors
    /// Why it is not.
    pub fn still(&self, session: &Standing) -> Result<(), Refusal> {
        if session.watch_until_unix_s < now_unix_s() {
            return Err(Refusal::Expired);
        }
        let revocations = self.revocations.read().unwrap_or_else(PoisonError::into_inner);
        if revocations.has_ended(session) {
            return Err(Refusal::Ended);
        }
        if revocations.covers(session) { Err(Refusal::Revoked) } else { Ok(()) }
    }

    /// Notes that a session made a request.
    fn saw(&self, session: &Session) {
        if session.asked || session.counted {
            self.watched.saw(session, self.limits.recheck.as_secs(), now_unix_s());
        }
    }

    /// Tells everything to come to an end.
    pub fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Waits until the relay stops.
    pub async fn stopped(&self) {
        // The sender lives as long as the node: an error cannot come.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }

    /// Whether it has been told to stop.
    pub fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Shared state of the cluster.
    pub fn coordinator(&self) -> &dyn Coordinator {
        &*self.coordinator
    }

    /// Record of sessions.
    pub fn ledger(&self) -> &dyn Ledger {
        &*self.ledger
    }

    /// The origins, in the order of the configuration.
    pub fn origins(&self) -> &[Origin] {
        &self.origins
    }

    /// Brings the gauges up to date.
    pub fn measure(&self) {
        let fill = self.cache.fill();
        let gauge = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics.cache_bytes.set(gauge(fill.bytes));
        self.metrics.cache_objects.set(gauge(fill.values));
        self.metrics.flights_open.set(gauge(fill.flights));
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        self.metrics
            .streams_followed
            .set(gauge(streams.values().filter(|stream| stream.is_followed()).count()));
    }

    /// Milliseconds of a clock that only goes forward.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn choice(&self) -> MutexGuard<'_, Origins> {
        self.choice.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Unix seconds of the system clock.
pub fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
