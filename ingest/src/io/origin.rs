//! The origin: what relays fetch from this node.
//!
//! In: signed requests for the routes of `ingest_api::origin`. Out: signed answers from the windows that the streams' tasks
//! last published. A window request holds until there is something new. Touches its listener, and blobs for init sections
//! that are older than this process.

use crate::io::streams::Streams;
use crate::log::Gate;
use crate::metrics::Metrics;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use ingest_api::node_auth::{self, ANSWER_HEADER, AUTH_HEADER};
use ingest_api::origin::{Route, StreamEntry, StreamList};
use ingest_api::window::Sha256;
use ingest_api::{Object, StreamName};
use releve_listen::http::{Answer, answer, plain};
use releve_state::Blobs;
use releve_watermark::KeyRing;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

const OBJECT: &str = "application/octet-stream";
const JSON: &str = "application/json";

/// What the origin answers from.
pub struct Origin {
    /// This node's name.
    pub node: String,
    /// The cluster's keys.
    pub cluster: KeyRing,
    /// The streams of this node.
    pub streams: Arc<Streams>,
    /// Init sections.
    pub blobs: Arc<dyn Blobs>,
    /// Counters.
    pub metrics: Metrics,
    /// One permit, for whoever makes MPEG-TS.
    pub muxing: Arc<Semaphore>,
    /// Lets one line about refused requests a second pass.
    pub gate: Gate,
    /// Turns true when the node stops: requests that wait are answered then.
    pub stop: watch::Receiver<bool>,
}

impl Origin {
    /// Answers one request.
    pub async fn answer(self: Arc<Origin>, request: Request<Incoming>) -> Answer {
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        let header = request.headers().get(AUTH_HEADER).and_then(|value| value.to_str().ok());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let method = request.method().as_str();
        let asked =
            match node_auth::verify_request(&self.cluster, method, path, now, header.unwrap_or_default()) {
                Ok(asked) => asked,
                Err(error) => {
                    self.metrics.origin_denied.inc();
                    if let Some(held_back) = self.gate.pass() {
                        warn!(%error, held_back, "origin request refused");
                    }
                    return plain(StatusCode::FORBIDDEN, "forbidden\n");
                }
            };
        let (status, content_type, body) = match Route::parse(path) {
            Some(route) if request.method() == Method::GET => self.fetch(route).await,
            Some(_) => (StatusCode::METHOD_NOT_ALLOWED, JSON, Bytes::new()),
            None => (StatusCode::BAD_REQUEST, JSON, Bytes::new()),
        };
        let mac = node_auth::sign_answer(&self.cluster, &asked, status.as_u16(), &body);
        let mut response = answer(status, content_type, body);
        if let Some(mac) = mac.and_then(|mac| HeaderValue::from_str(&mac).ok()) {
            response.headers_mut().insert(ANSWER_HEADER, mac);
        }
        response
    }

    async fn fetch(&self, route: Route) -> (StatusCode, &'static str, Bytes) {
        let found = match route {
            Route::Streams => (JSON, Some(self.list())),
            Route::Window { stream, after, wait_ms } => {
                return match self.window(&stream, after, Duration::from_millis(wait_ms)).await {
                    Ok(Some(body)) => (StatusCode::OK, JSON, body),
                    Ok(None) => (StatusCode::NO_CONTENT, JSON, Bytes::new()),
                    Err(status) => (status, JSON, Bytes::new()),
                };
            }
            Route::Segment { stream, track, number } => {
                let window = self.streams.get(&stream).map(|slot| slot.window.borrow().clone());
                (OBJECT, window.and_then(|window| window.object(track, number).map(Object::encode)))
            }
            Route::Part { stream, track, number, index } => {
                let window = self.streams.get(&stream).map(|slot| slot.window.borrow().clone());
                let part = window.and_then(|window| window.part(track, number, index));
                (OBJECT, part.map(|part| part.encode()))
            }
            Route::MpegTs { stream, number, of } => (OBJECT, self.mpeg_ts(&stream, number, of).await),
            Route::Init { stream, init } => (OBJECT, self.init(&stream, &init).await),
        };
        match found {
            (content_type, Some(body)) => (StatusCode::OK, content_type, body),
            (content_type, None) => (StatusCode::NOT_FOUND, content_type, Bytes::new()),
        }
    }

    fn list(&self) -> Bytes {
        let entry = |(stream, slot): (StreamName, Arc<crate::io::streams::Slot>)| {
            let snapshot = slot.window.borrow().snapshot();
            StreamEntry { stream, version: snapshot.version, live: snapshot.live }
        };
        let list = StreamList {
            node: self.node.clone(),
            streams: self.streams.all().into_iter().map(entry).collect(),
        };
        json(&list)
    }

    async fn window(
        &self,
        stream: &StreamName,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<Option<Bytes>, StatusCode> {
        let slot = self.streams.get(stream).ok_or(StatusCode::NOT_FOUND)?;
        let mut window = slot.window.clone();
        let newer = window.wait_for(|window| Some(window.version()) != after);
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            newer = newer => match newer {
                Ok(window) => Ok(Some(json(&window.snapshot()))),
                Err(_) => Err(StatusCode::NOT_FOUND),
            },
            () = sleep(wait) => Ok(None),
            _ = stop.wait_for(|stop| *stop) => Ok(None),
        }
    }

    /// Made when it is first asked for, on a thread that no publisher waits for. One at a time, whatever relays ask for: those who
    /// want the same find it made when it is their turn.
    async fn mpeg_ts(&self, stream: &StreamName, number: u64, of: Sha256) -> Option<Bytes> {
        let window = self.streams.get(stream)?.window.borrow().clone();
        if let Some(made) = window.muxed(number, of) {
            return Some(made.encode());
        }
        let turn = self.muxing.clone().acquire_owned().await.ok()?;
        // It is made to its end, and the turn with it, if whoever asked goes.
        let made = spawn_blocking(move || {
            let made = window.mux(number, of);
            drop(turn);
            made.map(|object| object.encode())
        });
        made.await.ok()?
    }

    async fn init(&self, stream: &StreamName, init: &str) -> Option<Bytes> {
        let slot = self.streams.get(stream)?;
        let listed = slot.window.borrow().init(init).map(Object::encode);
        match listed {
            Some(object) => Some(object),
            None => self.blobs.get(&format!("init/{init}")).await.ok().flatten(),
        }
    }
}

fn json(value: &impl serde::Serialize) -> Bytes {
    serde_json::to_vec(value).map(Bytes::from).expect("snapshots are plain strings and numbers")
}
