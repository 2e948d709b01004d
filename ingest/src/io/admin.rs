//! The admin listener: metrics, health and status for operators.
//!
//! ```text
//! GET /metrics   Prometheus text        GET /livez   200 while the process answers
//! GET /status    JSON, one row a stream GET /readyz  200 while publishers are taken and the state store records
//! ```
//!
//! A node of a pair says in the status what it is, is ready while its part of the pair works, and takes the commands of
//! `pair::operate`. No secrets in any of it. Bind it to an address that only operators reach.

use crate::io::pair::operate::Operate;
use crate::io::streams::Streams;
use crate::metrics;
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use ingest_api::node_auth::AUTH_HEADER;
use prometheus_client::registry::Registry;
use releve_listen::http::{Answer, answer, plain};
use releve_state::coordinator::Coordinator;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

const PLAIN: &str = "text/plain; charset=utf-8";
/// How long the state store may take to count as answering.
const STATE_MAX: Duration = Duration::from_secs(2);

/// What the admin listener answers from.
pub struct Admin {
    /// This node's name.
    pub node: String,
    /// Counters.
    pub registry: Registry,
    /// The streams of this node.
    pub streams: Arc<Streams>,
    /// The state store.
    pub state: Arc<dyn Coordinator>,
    /// Whether the state store took the node's last sign of life: a full disk answers questions and records nothing.
    pub recording: Arc<AtomicBool>,
    /// The pair, if this node is one of two.
    pub pair: Option<Arc<Operate>>,
}

impl Admin {
    /// Answers one request.
    pub async fn answer(self: Arc<Admin>, request: Request<Incoming>) -> Answer {
        if request.method() == Method::POST
            && let Some(pair) = &self.pair
        {
            let path = request.uri().path_and_query().map_or("", |path| path.as_str()).to_owned();
            let header = request.headers().get(AUTH_HEADER).and_then(|value| value.to_str().ok());
            return pair.clone().answer(path, header.unwrap_or_default().to_owned()).await;
        }
        if request.method() != Method::GET {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match request.uri().path() {
            "/metrics" => {
                let text = metrics::render(&self.registry);
                answer(StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text)
            }
            "/livez" => plain(StatusCode::OK, "alive\n"),
            "/readyz" => self.ready().await,
            "/status" => self.status(),
            _ => plain(StatusCode::NOT_FOUND, "not here; try /metrics, /livez, /readyz, /status\n"),
        }
    }

    async fn ready(&self) -> Answer {
        if self.streams.is_stopping() {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
        }
        if !self.recording.load(Ordering::Relaxed) {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "the state store does not record\n");
        }
        if let Some(why) = self.pair.as_ref().and_then(|pair| pair.control.board.unready()) {
            return answer(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n"));
        }
        match timeout(STATE_MAX, self.state.streams()).await {
            Ok(Ok(_)) => {
                let doubts = self.pair.as_ref().map(|pair| pair.control.board.doubts()).unwrap_or_default();
                answer(StatusCode::OK, PLAIN, format!("ready\n{doubts}"))
            }
            _ => plain(StatusCode::SERVICE_UNAVAILABLE, "the state store does not answer\n"),
        }
    }

    fn status(&self) -> Answer {
        let rows: Vec<_> = self
            .streams
            .all()
            .into_iter()
            .map(|(stream, slot)| {
                let snapshot = slot.window.borrow().snapshot();
                json!({
                    "stream": stream, "live": snapshot.live, "epoch": snapshot.epoch,
                    "segments": snapshot.segments.len(),
                    "last_segment": snapshot.segments.last().map(|segment| segment.number),
                })
            })
            .collect();
        let body = json!({"pair": self.pair.as_ref().map(|pair| pair.status()), "node": self.node, "role": "ingest", "streams": rows}).to_string();
        answer(StatusCode::OK, "application/json", body)
    }
}
