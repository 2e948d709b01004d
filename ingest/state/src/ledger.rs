//! The ledger: which viewer opened which session, when and where. Append-only.
//!
//! A record is durable before the redirect that admits the viewer: no media byte without one (invariant 8).

use crate::coordinator::{Error, check_number};
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
    /// Appends one record. Durable when it returns; concurrent appends share one write (group commit). The same record
    /// again is `Ok`, another one of the same session `Error::Conflict`.
    async fn record_session(&self, record: SessionRecord) -> Result<(), Error>;
    /// The record of one session.
    async fn session(&self, session: [u8; 16]) -> Result<Option<SessionRecord>, Error>;
    /// A viewer's sessions, oldest admission first.
    async fn sessions_of(&self, viewer: &str) -> Result<Vec<SessionRecord>, Error>;
    /// Every viewer ever admitted with their watermark id, by name; a row for each id if sessions had several.
    async fn register(&self) -> Result<Vec<(String, WatermarkId)>, Error>;
}

/// Whether a session may be recorded: `Ok(true)` as a new record, `Ok(false)` when it is there already. Shared by the
/// back-ends.
pub(crate) fn check_session(record: &SessionRecord, known: Option<&SessionRecord>) -> Result<bool, Error> {
    check_number("the time of an admission", record.admitted_unix_s)?;
    match known {
        None => Ok(true),
        Some(known) if known == record => Ok(false),
        Some(_) => Err(Error::Conflict("the session exists with another record".to_owned())),
    }
}
