//! Letting a viewer in: the webhook where it decides, a seat where they are counted, then the ledger, then the redirect to
//! the playlist they asked for below their session (invariant 8). Whatever cannot be asked in time lets nobody in.

use super::answer::Answer;
use super::{Node, now_unix_s};
use crate::io::webhook::{Event, Kind, Verdict, WebhookError};
use crate::route::{SessionIn, carried, cookie};
use crate::session::{self, Presenter, Session, WATCH_S};
use crate::token::Refusal;
use ingest_api::StreamName;
use ingest_api::access::Claims;
use releve_state::coordinator::Error;
use releve_state::ledger::SessionRecord;
use releve_state::seats::{Seat, SeatLimit};
use releve_watermark::WatermarkId;
use ring::rand::{SecureRandom, SystemRandom};
use std::sync::{Arc, PoisonError};
use tokio::time::timeout;

impl Node {
    /// Opens a session for a viewer whose token holds. 503 when the ledger does not take the record: no media byte
    /// without one.
    pub(super) async fn admit(self: &Arc<Self>, claims: Claims, file: &str, by: Presenter<'_>) -> Answer {
        match self.draw() {
            Some(id) => self.admit_as(id, claims, false, file, by).await,
            None => self.not_admitted(),
        }
    }

    /// Asks the webhook about a viewer, and opens a session for them if it says so.
    pub(super) async fn ask_webhook(
        self: &Arc<Self>,
        stream: &StreamName,
        token: &str,
        file: &str,
        by: Presenter<'_>,
    ) -> Answer {
        let Some(id) = self.draw() else { return self.not_admitted() };
        let (viewer, watch_until_unix_s) = match self.verdict(&id, stream, token).await {
            Ok(Verdict::Allow { viewer: Some(viewer), watch_until_unix_s }) => (viewer, watch_until_unix_s),
            Ok(_) => {
                self.metrics.webhook("denied");
                return self.refuse(Refusal::Denied);
            }
            Err(error) => {
                self.metrics.webhook("failed");
                tracing::error!(%error, "the webhook gave no verdict: the viewer is not admitted");
                return self.not_admitted();
            }
        };
        self.metrics.webhook("allowed");
        let now = now_unix_s();
        if watch_until_unix_s.is_some_and(|until| until < now) {
            return self.refuse(Refusal::Expired);
        }
        let claims = Claims {
            stream: stream.clone(),
            viewer,
            issued_unix_s: now,
            enter_until_unix_s: now,
            watch_until_unix_s,
        };
        self.admit_as(id, claims, true, file, by).await
    }

    async fn verdict(
        &self,
        id: &[u8; 16],
        stream: &StreamName,
        token: &str,
    ) -> Result<Verdict, WebhookError> {
        let keys = self.keys();
        let (Some(webhook), Some(ring)) = (&self.webhook, &keys.webhook) else {
            return Err(WebhookError::NoKey);
        };
        let event = Event {
            event: Kind::Enter,
            id: hex::encode(self.draw().ok_or(WebhookError::Random)?),
            relay: &self.name,
            session: hex::encode(id),
            stream,
            token: Some(token),
            viewer: None,
        };
        webhook.ask(ring.current(), &event, now_unix_s()).await
    }

    async fn admit_as(
        self: &Arc<Self>,
        id: [u8; 16],
        claims: Claims,
        asked: bool,
        file: &str,
        by: Presenter<'_>,
    ) -> Answer {
        let keys = self.keys();
        let now = now_unix_s();
        let session = Session {
            id,
            watermark_id: WatermarkId::of_viewer(&claims.viewer),
            stream: claims.stream.clone(),
            issued_unix_s: now,
            watch_until_unix_s: claims.watch_until_unix_s.unwrap_or(now.saturating_add(WATCH_S)),
            asked,
            counted: self.seats.is_some(),
            bound: self.limits.bound,
        };
        // Others were waited for since the token was looked at.
        if self.revocations.read().unwrap_or_else(PoisonError::into_inner).covers_claims(&claims) {
            return self.refuse(Refusal::Revoked);
        }
        if let Some(limit) = self.seats {
            match self.stored("gave no seat", self.take_seat(&session, limit)).await {
                Some(true) => {}
                Some(false) => return self.refuse(Refusal::Full),
                None => return self.not_admitted(),
            }
        }
        let record = SessionRecord {
            session: id,
            viewer: claims.viewer,
            watermark_id: session.watermark_id,
            stream: session.stream.clone(),
            code_key: keys.code.current().version,
            admitted_unix_s: now,
            relay: self.name.clone(),
        };
        if self.stored("took no record of a session", self.ledger.record_session(record)).await.is_none() {
            return self.not_admitted();
        }
        self.metrics.sessions("admitted");
        tracing::info!(
            session = self.short(&session.id),
            stream = %session.stream,
            session_key = keys.session.current().version,
            "viewer admitted"
        );
        self.follow(&session.stream); // so that the playlist is on its way when the viewer asks
        let credential = session::seal(&keys.session, &session, by);
        match self.limits.session_in {
            SessionIn::Path => Answer::moved(format!("/v/{credential}/{file}")),
            SessionIn::Query => Answer::moved(format!("/q/{file}?{}={credential}", carried::NAME)),
            SessionIn::Cookie => {
                let watch_s = session.watch_until_unix_s.saturating_sub(now);
                let cookie = cookie::set(&session.stream, &credential, watch_s, self.limits.secure);
                Answer::moved(format!("/c/{}/{file}", session.stream)).with("set-cookie", cookie)
            }
        }
    }

    async fn take_seat(&self, session: &Session, limit: SeatLimit) -> Result<bool, Error> {
        let seat = Seat {
            viewer: session.watermark_id,
            session: session.id,
            seen_unix_s: session.issued_unix_s,
            until_unix_s: session.watch_until_unix_s,
        };
        self.coordinator.take_seat(seat, limit).await
    }

    /// What the store answers in time; `None`, loudly, when it does not.
    async fn stored<T>(&self, fault: &str, asked: impl Future<Output = Result<T, Error>>) -> Option<T> {
        let waited = self.limits.ledger_patience;
        match timeout(waited, asked).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                tracing::error!(%error, "the store {fault}: the viewer is not admitted");
                None
            }
            Err(_) => {
                tracing::error!(?waited, "the store {fault} in time: the viewer is not admitted");
                None
            }
        }
    }

    fn not_admitted(&self) -> Answer {
        self.metrics.sessions("failed");
        Answer::bare(503).with("retry-after", "2")
    }

    /// An id that nobody can guess.
    pub(crate) fn draw(&self) -> Option<[u8; 16]> {
        let mut id = [0; 16];
        let drawn = SystemRandom::new().fill(&mut id).is_ok();
        if !drawn {
            tracing::error!("the system gives no random bytes: no viewer can be admitted");
        }
        drawn.then_some(id)
    }

    /// A session in logs: the first digits of a hash of its id, enough to tell two apart and useless otherwise.
    pub(crate) fn short(&self, id: &[u8; 16]) -> String {
        hex::encode(&ring::digest::digest(&ring::digest::SHA256, id).as_ref()[..4])
    }
}
