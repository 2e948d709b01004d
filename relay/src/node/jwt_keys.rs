//! The keys that tokens of others are checked with, as they are known now, and when to ask for newer ones.
//!
//! In: rules whenever `io::jwks` has read them. Out: the same to every request, and "ask again" to whoever reads. Pure but for
//! the clock.

use super::Node;
use super::limits::ms;
use crate::token::foreign::Rules;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What a relay knows of others' keys.
#[derive(Debug)]
pub struct JwtKeys {
    rules: RwLock<Option<Arc<Rules>>>,
    /// Moves with every reading.
    read: watch::Sender<u64>,
    wanted: Notify,
    /// Milliseconds of the node's clock after which a key that is not known is worth a look.
    due_ms: AtomicU64,
}

impl Default for JwtKeys {
    fn default() -> JwtKeys {
        JwtKeys {
            rules: RwLock::default(),
            read: watch::Sender::new(0),
            wanted: Notify::new(),
            due_ms: AtomicU64::new(0),
        }
    }
}

impl JwtKeys {
    /// The rules in force; `None` when no tokens of others are taken.
    pub fn rules(&self) -> Option<Arc<Rules>> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts rules in force.
    pub fn put(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(rules));
    }

    /// Asks for the keys to be read again, though they may have been read just now.
    pub fn reload(&self) {
        self.due_ms.store(0, Ordering::Release);
        self.ask();
    }

    /// Asks for the keys to be read again, if it is time.
    pub fn ask(&self) {
        self.wanted.notify_one();
    }

    /// Waits until somebody asks.
    pub async fn asked(&self) {
        self.wanted.notified().await;
    }

    /// Moves with every reading that has come to an end, well or not.
    pub fn readings(&self) -> watch::Receiver<u64> {
        self.read.subscribe()
    }
}

impl Node {
    /// A reading has come to an end: whoever waits for a key looks, and the next key that is not known is worth a reading
    /// only after `rest`.
    pub fn jwt_keys_read(&self, rest: Duration) {
        self.jwt.due_ms.store(self.now_ms().saturating_add(ms(rest)), Ordering::Release);
        self.jwt.read.send_modify(|readings| *readings += 1);
    }

    /// Whether a key that is not known is worth a reading: at most one in a while, whoever asks.
    pub fn may_ask_for_keys(&self) -> bool {
        self.now_ms() >= self.jwt.due_ms.load(Ordering::Acquire)
    }
}
