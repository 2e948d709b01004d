//! The ledger: which viewer opened which session, when and where. Append-only.
//!
//! A record is durable before the redirect that admits the viewer: no media byte without one (invariant 8).

use crate::coordinator::Error;
use async_trait::async_trait;
use ingest_api::StreamName;
use releve_watermark::WatermarkId;

/// One admitted viewer session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// The session's id, drawn at random.
    pub session: [u8; 16],
    /// The account.
    pub viewer: String,
    /// What the account's codeword is drawn by.
    pub watermark_id: WatermarkId,
    /// What it watches.
    pub stream: StreamName,
    /// Version of the code key in force.
    pub code_key: u32,
    /// When it was admitted, Unix seconds.
    pub admitted_unix_s: u64,
    /// The relay that admitted it.
    pub relay: String,
}

/// Append-only record of sessions, and the register of viewers that follows from it.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// Appends one record. Durable when it returns; concurrent appends share one write (group commit).
    async fn record_session(&self, record: SessionRecord) -> Result<(), Error>;
    /// A viewer's sessions, oldest first.
    async fn sessions_of(&self, viewer: &str) -> Result<Vec<SessionRecord>, Error>;
    /// Every viewer ever admitted with their watermark id, by name.
    async fn register(&self) -> Result<Vec<(String, WatermarkId)>, Error>;
}
