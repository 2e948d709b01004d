//! One origin: requests of ours, signed; answers of its, believed only when they are signed for this very request.
//!
//! In: a route. Out: its bytes, or why not. HTTP/1.1 over pooled connections (hyper). The size of an answer is bounded
//! before it is read, and an origin that falls silent is given up.

use crate::node::Limits;
use crate::node::limits::ms;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use ingest_api::node_auth::{self, ANSWER_HEADER, AUTH_HEADER, NodeAuthError, RequestMac};
use ingest_api::object::{OBJECT_BYTES_MAX, PAIRS_MAX};
use ingest_api::origin::{Route, StreamList, WAIT_MS_MAX};
use ingest_api::{Snapshot, StreamName};
use releve_watermark::KeyRing;
use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;

/// The largest JSON an origin may send: a thousand segments of 2 s, of all the tracks that there may be, are about 10 MB.
const JSON_BYTES_MAX: usize = 16 << 20;
/// The largest encoded object: both variants of everything, and the table of pairs.
const ENCODED_BYTES_MAX: usize = 2 * OBJECT_BYTES_MAX + 32 * PAIRS_MAX;
/// Connections that are kept for the next request.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// One origin and the connections to it.
pub struct Origin {
    url: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

/// The `host:port` of an origin's URL; `None` unless it is `http://host:port` and nothing more.
pub fn authority(url: &str) -> Option<&str> {
    let authority = url.strip_prefix("http://").map(|rest| rest.strip_suffix('/').unwrap_or(rest))?;
    let uri: hyper::Uri = format!("http://{authority}/").parse().ok()?;
    (uri.authority()?.as_str() == authority
        && uri.host().is_some_and(|host| !host.is_empty())
        && !authority.contains('@'))
    .then_some(authority)
}

impl Origin {
    /// The origin at this URL; no connection is made yet. `None` when it is not `http://host:port`.
    pub fn new(url: &str, limits: &Limits) -> Option<Origin> {
        let authority = authority(url)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits.origin_patience));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Some(Origin { url: format!("http://{authority}"), client })
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its streams.
    ///
    /// # Errors
    /// When it does not answer, or not as it should.
    pub async fn streams(
        &self,
        keys: &KeyRing,
        now_unix_s: u64,
        limits: &Limits,
    ) -> Result<StreamList, OriginError> {
        let (_, body) = self
            .ask(keys, now_unix_s, &Route::Streams, JSON_BYTES_MAX, limits.origin_patience, limits)
            .await?;
        serde_json::from_slice(&body).map_err(|_| OriginError::Json)
    }

    /// A stream's snapshot once it is not `after`; `None` when nothing changed while the origin held the request.
    ///
    /// # Errors
    /// When it does not answer, or not as it should; `NotFound` when it has no such stream.
    pub async fn window(
        &self,
        keys: &KeyRing,
        now_unix_s: u64,
        stream: &StreamName,
        after: Option<u64>,
        limits: &Limits,
    ) -> Result<Option<Snapshot>, OriginError> {
        let wait_ms = ms(limits.window_wait).min(WAIT_MS_MAX);
        let route = Route::Window { stream: stream.clone(), after, wait_ms };
        let patience = Duration::from_millis(wait_ms) + limits.origin_patience;
        let (status, body) = self.ask(keys, now_unix_s, &route, JSON_BYTES_MAX, patience, limits).await?;
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        serde_json::from_slice(&body).map(Some).map_err(|_| OriginError::Json)
    }

    /// The bytes of an encoded object; what they are worth is for the caller to check.
    ///
    /// # Errors
    /// When it does not answer, or not as it should; `NotFound` when it has no such object.
    pub async fn object(
        &self,
        keys: &KeyRing,
        now_unix_s: u64,
        route: &Route,
        limits: &Limits,
    ) -> Result<Bytes, OriginError> {
        let asked = self.ask(keys, now_unix_s, route, ENCODED_BYTES_MAX, limits.origin_patience, limits);
        Ok(asked.await?.1)
    }

    async fn ask(
        &self,
        keys: &KeyRing,
        now_unix_s: u64,
        route: &Route,
        bytes_max: usize,
        patience: Duration,
        limits: &Limits,
    ) -> Result<(StatusCode, Bytes), OriginError> {
        let path = route.to_path();
        let mut nonce = [0; 16];
        SystemRandom::new().fill(&mut nonce).map_err(|_| OriginError::Random)?;
        let (auth, mac) = node_auth::sign_request(keys, "GET", &path, now_unix_s, nonce);
        let request = Request::get(format!("{}{path}", self.url))
            .header(AUTH_HEADER, auth)
            .body(Empty::new())
            .map_err(|error| OriginError::Request(error.to_string()))?;
        let response = timeout(patience, self.client.request(request))
            .await
            .map_err(|_| OriginError::Silent)?
            .map_err(|error| OriginError::Connection(deepest(&error)))?;
        believed(keys, &mac, response, bytes_max, limits.origin_patience).await
    }
}

/// Reads an answer and checks that it is the origin's answer to our request.
async fn believed(
    keys: &KeyRing,
    mac: &RequestMac,
    response: Response<Incoming>,
    bytes_max: usize,
    patience: Duration,
) -> Result<(StatusCode, Bytes), OriginError> {
    let status = response.status();
    let Some(header) = response.headers().get(ANSWER_HEADER).and_then(|value| value.to_str().ok()) else {
        return Err(OriginError::Unsigned { status: status.as_u16() });
    };
    let header = header.to_owned();
    let body = read(response.into_body(), bytes_max, patience).await?;
    node_auth::verify_answer(keys, mac, status.as_u16(), &body, &header)?;
    match status {
        StatusCode::OK | StatusCode::NO_CONTENT => Ok((status, body)),
        StatusCode::NOT_FOUND => Err(OriginError::NotFound),
        other => Err(OriginError::Status { status: other.as_u16() }),
    }
}

/// Memory grows with what has arrived, not with what a header promises.
async fn read(mut body: Incoming, bytes_max: usize, patience: Duration) -> Result<Bytes, OriginError> {
    let mut read = BytesMut::new();
    loop {
        let frame = timeout(patience, body.frame()).await.map_err(|_| OriginError::Silent)?;
        let Some(frame) = frame else { return Ok(read.freeze()) };
        let frame = frame.map_err(|error| OriginError::Connection(deepest(&error)))?;
        if let Ok(bytes) = frame.into_data() {
            if read.len() + bytes.len() > bytes_max {
                return Err(OriginError::TooLarge { bytes_max });
            }
            read.extend_from_slice(&bytes);
        }
    }
}

/// The innermost cause: that is where the words an operator needs are.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// Why an origin gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OriginError {
    /// It has no such thing (yet).
    #[error("the origin has no such thing")]
    NotFound,
    /// No connection, or it broke.
    #[error("no connection: {0}")]
    Connection(String),
    /// It accepted the request and fell silent.
    #[error("the origin does not answer in time")]
    Silent,
    /// Its answer has no signature: it does not know our key, or it is somebody else.
    #[error("the answer (status {status}) is not signed; do both nodes have the same cluster key?")]
    Unsigned {
        /// The status it came with.
        status: u16,
    },
    /// The signature does not hold.
    #[error("the answer is not believed: {0}")]
    Auth(#[from] NodeAuthError),
    /// A signed answer that means failure.
    #[error("the origin answers with status {status}")]
    Status {
        /// Which.
        status: u16,
    },
    /// More than anything of that kind may have.
    #[error("the answer has more than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
    /// Signed, but not what was asked for.
    #[error("the answer is not the JSON that was asked for; do both nodes run the same version?")]
    Json,
    /// The request could not be written.
    #[error("the request cannot be written: {0}")]
    Request(String),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_http_address_is_an_origin() {
        assert_eq!(authority("http://127.0.0.1:80"), Some("127.0.0.1:80"));
        assert_eq!(authority("http://[::1]:8100/"), Some("[::1]:8100"));
        assert_eq!(authority("http://ingest-a"), Some("ingest-a"));
        for other in
            ["", "http://", "https://a", "a:80", "http://a/b", "http://a?x", "http://u@a", "http://a b"]
        {
            assert_eq!(authority(other), None, "{other}");
        }
    }
}
