//! The keys of one stream that a DRM key server gives: which segment has which, and asking for the next in time.
//!
//! The key of a period is asked for when the period before it begins. Where it has not come when its own begins, the
//! old key goes on, and it is asked for again and again; it then counts from the next segment on. All of a segment has
//! one key. In: numbers of segments. Out: keys. Touches the key server.

use crate::cpix::{Given, Wanted};
use crate::io::key_server::{KeyServer, KeyServerError};
use ingest_api::StreamName;
use ingest_api::content_key::ContentKey;
use releve_watermark::Key;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{info, warn};

/// The first and the longest pause between two questions.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// How keys are named and asked for, in one run.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) server: Arc<KeyServer>,
    pub(super) stream: StreamName,
    /// What ids and vectors follow from.
    pub(super) root: Key,
    /// Segments a period.
    pub(super) every: u32,
}

impl Way {
    fn period(&self, number: u64) -> u64 {
        number / u64::from(self.every.max(1))
    }

    async fn ask(&self, period: u64) -> Result<Given, KeyServerError> {
        let first = period * u64::from(self.every.max(1));
        let key = ContentKey::of_segment(&self.root, &self.stream, first, self.every);
        self.server.ask(&Wanted { content: self.stream.to_string(), period, key }).await
    }

    /// Asks until there is a key: of the period that is wanted at that time.
    async fn insist(self, wanted: Arc<AtomicU64>) -> (u64, Arc<Given>) {
        let mut pause = PAUSE;
        loop {
            let period = wanted.load(Ordering::Relaxed);
            match self.ask(period).await {
                Ok(given) => return (period, Arc::new(given)),
                Err(error) => {
                    warn!(stream = %self.stream, period, %error, "the key server gives no key, asking again");
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }
}

/// The keys of a run.
pub(super) struct ServerKeys {
    way: Way,
    /// The key in use, and its period.
    now: (u64, Arc<Given>),
    /// The newest segment that was asked about.
    number: u64,
    /// The period that is wanted next, and the one who asks. It ends with this.
    wanted: Arc<AtomicU64>,
    coming: JoinSet<(u64, Arc<Given>)>,
}

/// A segment's key.
pub(super) struct Chosen {
    pub(super) given: Arc<Given>,
    /// Segments by which the next key is late; 0 when it is not.
    pub(super) late: u64,
    /// Nothing of this segment was asked about before.
    pub(super) new: bool,
}

impl ServerKeys {
    /// Asks for the key of a run that begins or goes on with segment `number`.
    ///
    /// # Errors
    /// When the server gives none: then nothing may be published.
    pub(super) async fn begin(way: Way, number: u64) -> Result<ServerKeys, KeyServerError> {
        let period = way.period(number);
        let now = (period, Arc::new(way.ask(period).await?));
        let mut keys = ServerKeys { way, now, number, wanted: Arc::default(), coming: JoinSet::new() };
        keys.expect(period + 1);
        Ok(keys)
    }

    /// The key of a segment. Numbers do not go back.
    pub(super) fn of(&mut self, number: u64) -> Chosen {
        let period = self.way.period(number);
        let new = number > self.number;
        if new && period > self.now.0 {
            self.wanted.fetch_max(period, Ordering::Relaxed);
            if let Some(Ok(now)) = self.coming.try_join_next() {
                info!(stream = %self.way.stream, period = now.0, kid = %now.1.key.kid, "the next key is in use");
                self.now = now;
                self.expect(period + 1);
            }
        }
        self.number = self.number.max(number);
        let first = (self.now.0 + 1) * u64::from(self.way.every.max(1));
        Chosen { given: self.now.1.clone(), late: (number + 1).saturating_sub(first), new }
    }

    fn expect(&mut self, period: u64) {
        self.wanted = Arc::new(AtomicU64::new(period));
        self.coming = JoinSet::new();
        self.coming.spawn(self.way.clone().insist(self.wanted.clone()));
    }
}
