//! The operator's webhook: it decides who comes in with a token that is nobody else's, and whether they may stay.
//!
//! ```text
//! POST URL                              Releve-Signature: t=UNIX,k=KEY VERSION,v1=HEX
//! {"event":"enter","id":…,"relay":…,"session":…,"stream":…,"token":…}
//! {"event":"recheck","id":…,"relay":…,"session":…,"stream":…,"viewer":…}
//! 200 {"allow":true,"viewer":"alice","watch_until":1790000000}     200 {"allow":false} or 403: no
//! ```
//!
//! `v1` is HMAC-SHA-256 over `t`, a dot and the body. In: an event. Out: a verdict, or why there is none; the caller decides
//! what that means. Only so many are asked at once, each for so long; nothing of a token or an answer is logged.

use bytes::Bytes;
use ingest_api::StreamName;
use ingest_api::access::is_viewer_name;
use releve_listen::outside::{Outside, OutsideError};
use releve_watermark::Key;
use ring::hmac;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Semaphore;

/// The header that carries the signature.
pub const SIGNATURE_HEADER: &str = "releve-signature";

/// Most viewers that are asked about at once: more come back in two seconds.
const ENTERS_MAX: usize = 64;
/// Most sessions that are asked about again at once.
const RECHECKS_MAX: usize = 16;
/// An answer is a line.
const ANSWER_BYTES_MAX: usize = 4096;

/// A webhook, and who is being asked about.
#[derive(Debug)]
pub struct Webhook {
    outside: Outside,
    patience: Duration,
    enters: Semaphore,
    rechecks: Semaphore,
}

/// What the webhook is told. Its `Debug` is not derived: a token is a secret.
#[derive(Serialize)]
pub struct Event<'a> {
    /// What happens.
    pub event: Kind,
    /// Drawn for this request: nothing is decided twice.
    pub id: String,
    /// Which relay asks.
    pub relay: &'a str,
    /// The session's id, in hex.
    pub session: String,
    /// What the viewer wants, or watches.
    pub stream: &'a StreamName,
    /// The token they came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<&'a str>,
    /// The viewer, as the webhook named them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub viewer: Option<String>,
}

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A viewer wants to come in.
    Enter,
    /// A viewer has been watching for a while.
    Recheck,
}

/// What the webhook says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow {
        /// The account, where a viewer comes in.
        viewer: Option<String>,
        /// Last second to watch, Unix time.
        watch_until_unix_s: Option<u64>,
    },
    /// No.
    Deny,
}

#[derive(Deserialize)]
struct Said {
    allow: bool,
    viewer: Option<String>,
    watch_until: Option<u64>,
}

impl Webhook {
    /// The webhook at a URL.
    ///
    /// # Errors
    /// As `Outside::new`.
    pub fn new(url: &str, patience: Duration) -> Result<Webhook, OutsideError> {
        let outside = Outside::new(url, patience)?;
        let (enters, rechecks) = (Semaphore::new(ENTERS_MAX), Semaphore::new(RECHECKS_MAX));
        Ok(Webhook { outside, patience, enters, rechecks })
    }

    /// Asks about an event. One who wants to come in when too many do is not decided on; a recheck waits for its turn.
    ///
    /// # Errors
    /// When there is no verdict.
    pub async fn ask(&self, key: &Key, event: &Event<'_>, now_unix_s: u64) -> Result<Verdict, WebhookError> {
        let _turn = match event.event {
            Kind::Enter => self.enters.try_acquire().map_err(|_| WebhookError::Busy)?,
            Kind::Recheck => self.rechecks.acquire().await.map_err(|_| WebhookError::Busy)?,
        };
        let body = serde_json::to_vec(event).map_err(|_| WebhookError::Answer)?;
        let signature = signature(key, now_unix_s, &body);
        let headers = [("content-type", "application/json"), (SIGNATURE_HEADER, &signature)];
        let asked = self.outside.post(&headers, Bytes::from(body), ANSWER_BYTES_MAX, self.patience);
        let (status, answer) = asked.await?;
        verdict(event.event, status, &answer)
    }
}

fn verdict(kind: Kind, status: u16, answer: &[u8]) -> Result<Verdict, WebhookError> {
    match status {
        200 => {}
        403 => return Ok(Verdict::Deny),
        other => return Err(WebhookError::Status(other)),
    }
    let said: Said = serde_json::from_slice(answer).map_err(|_| WebhookError::Answer)?;
    if !said.allow {
        return Ok(Verdict::Deny);
    }
    let viewer = said.viewer.filter(|viewer| is_viewer_name(viewer));
    if kind == Kind::Enter && viewer.is_none() {
        return Err(WebhookError::Answer);
    }
    Ok(Verdict::Allow { viewer, watch_until_unix_s: said.watch_until })
}

/// The signature's header.
fn signature(key: &Key, now_unix_s: u64, body: &[u8]) -> String {
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.secret()));
    mac.update(format!("{now_unix_s}.").as_bytes());
    mac.update(body);
    format!("t={now_unix_s},k={},v1={}", key.version, hex::encode(mac.sign()))
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WebhookError {
    /// Too many are being asked about.
    #[error("{ENTERS_MAX} viewers are being asked about already")]
    Busy,
    /// No key to sign with.
    #[error("there is no webhook.key")]
    NoKey,
    /// No random bytes for an id.
    #[error("the system gives no random bytes")]
    Random,
    /// No answer.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// Neither 200 nor 403.
    #[error("it answers with status {0}")]
    Status(u16),
    /// Not the JSON that is expected, or no good viewer in it.
    #[error("its answer is not {{\"allow\": true, \"viewer\": NAME}} or {{\"allow\": false}}")]
    Answer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_is_one() {
        let enter = |status, text: &str| verdict(Kind::Enter, status, text.as_bytes());
        let alice = Verdict::Allow { viewer: Some("alice".into()), watch_until_unix_s: Some(9) };
        assert_eq!(enter(200, r#"{"allow":true,"viewer":"alice","watch_until":9,"more":1}"#), Ok(alice));
        assert_eq!(enter(200, r#"{"allow":false,"viewer":"alice"}"#), Ok(Verdict::Deny));
        assert_eq!(enter(403, ""), Ok(Verdict::Deny));
        for text in [
            "",
            "true",
            "{}",
            r#"{"allow":"yes","viewer":"alice"}"#,
            r#"{"allow":true}"#,
            r#"{"allow":true,"viewer":""}"#,
            r#"{"allow":true,"viewer":"a\nb"}"#,
            r#"{"allow":true,"viewer":"alice","watch_until":-1}"#,
            r#"{"allow":true,"allow":true,"viewer":"alice"}"#,
        ] {
            assert_eq!(enter(200, text), Err(WebhookError::Answer), "{text}");
        }
        for status in [201, 204, 301, 302, 401, 404, 500] {
            assert_eq!(
                enter(status, r#"{"allow":true,"viewer":"alice"}"#),
                Err(WebhookError::Status(status))
            );
        }
        let stays = Ok(Verdict::Allow { viewer: None, watch_until_unix_s: None });
        assert_eq!(verdict(Kind::Recheck, 200, br#"{"allow":true}"#), stays);
    }

    #[test]
    fn the_signature_is_what_the_docs_say() {
        // printf '1790000000.{"a":1}' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…07
        let header = signature(&Key::new(3, [7; 32]), 1_790_000_000, br#"{"a":1}"#);
        assert_eq!(
            header,
            "t=1790000000,k=3,v1=f57bd68337ab6215fda47efd875389871160ef156c646bdd0c4cf87aa8e07dd2"
        );
    }
}
