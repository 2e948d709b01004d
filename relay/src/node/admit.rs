//! Letting a viewer in: the ledger first, then the redirect to their session (invariant 8).

use super::answer::Answer;
use super::{Node, now_unix_s};
use crate::session::{self, Session, WATCH_S};
use ingest_api::access::Claims;
use releve_state::ledger::SessionRecord;
use releve_watermark::WatermarkId;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::Arc;
use tokio::time::timeout;

impl Node {
    /// Opens a session for a viewer whose token holds. 503 when the ledger does not take the record: no media byte
    /// without one.
    pub(super) async fn admit(self: &Arc<Self>, claims: Claims) -> Answer {
        let mut id = [0; 16];
        if SystemRandom::new().fill(&mut id).is_err() {
            tracing::error!("the system gives no random bytes: no viewer can be admitted");
            return self.not_admitted();
        }
        let keys = self.keys();
        let now = now_unix_s();
        let session = Session {
            id,
            watermark_id: WatermarkId::of_viewer(&claims.viewer),
            stream: claims.stream,
            issued_unix_s: now,
            watch_until_unix_s: claims.watch_until_unix_s.unwrap_or(now.saturating_add(WATCH_S)),
        };
        let record = SessionRecord {
            session: id,
            viewer: claims.viewer,
            watermark_id: session.watermark_id,
            stream: session.stream.clone(),
            code_key: keys.code.current().version,
            admitted_unix_s: now,
            relay: self.name.clone(),
        };
        match timeout(self.limits.ledger_patience, self.ledger.record_session(record)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "the ledger took no record of a session: the viewer is not admitted");
                return self.not_admitted();
            }
            Err(_) => {
                let waited = self.limits.ledger_patience;
                tracing::error!(?waited, "the ledger did not answer in time: the viewer is not admitted");
                return self.not_admitted();
            }
        }
        self.metrics.sessions("admitted");
        tracing::info!(
            session = short(&session.id),
            stream = %session.stream,
            session_key = keys.session.current().version,
            "viewer admitted"
        );
        self.follow(&session.stream); // so that the playlist is on its way when the viewer asks
        Answer::moved(format!("/v/{}/index.m3u8", session::seal(&keys.session, &session)))
    }

    fn not_admitted(&self) -> Answer {
        self.metrics.sessions("failed");
        Answer::bare(503).with("retry-after", "2")
    }
}

/// A session in logs: the first digits of a hash of its id, enough to tell two apart and useless otherwise.
pub(super) fn short(id: &[u8; 16]) -> String {
    hex::encode(&ring::digest::digest(&ring::digest::SHA256, id).as_ref()[..4])
}
