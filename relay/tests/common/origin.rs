//! An ingest node's origin, as far as a relay can tell: signed answers, held windows, objects, and faults on demand.

use super::{Show, cluster_key, now_unix_s};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use ingest_api::node_auth::{ANSWER_HEADER, AUTH_HEADER, sign_answer, verify_request};
use ingest_api::origin::{Route, StreamList};
use ingest_api::{Snapshot, StreamName};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep};

/// What goes wrong at an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Objects have one byte changed, under a good signature.
    Corrupt,
    /// Answers are signed with another key.
    Forged,
    /// Requests are taken and never answered.
    Silent,
    /// Every answer is 500.
    Broken,
}

#[derive(Default)]
struct State {
    snapshots: HashMap<StreamName, Snapshot>,
    objects: HashMap<String, Bytes>,
    asked: HashMap<String, usize>,
    fault: Fault,
    object_delay: Duration,
}

pub struct FakeOrigin {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: Option<JoinHandle<()>>,
}

impl FakeOrigin {
    pub async fn start() -> FakeOrigin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let task = tokio::spawn(serve(listener, state.clone()));
        FakeOrigin { address, state, task: Some(task) }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lists a show from now on; earlier objects stay.
    pub fn put(&self, show: Show) {
        let mut state = self.state.lock().unwrap();
        for (path, object) in show.objects {
            state.objects.insert(path, object.encode());
        }
        state.snapshots.insert(show.snapshot.stream.clone(), show.snapshot);
    }

    pub fn fault(&self, fault: Fault) {
        self.state.lock().unwrap().fault = fault;
    }

    pub fn object_delay(&self, delay: Duration) {
        self.state.lock().unwrap().object_delay = delay;
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.state.lock().unwrap().asked.get(path).copied().unwrap_or(0)
    }

    /// Ends it and all its connections, as a crash would.
    pub async fn die(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Comes back at the same address with what it had.
    pub async fn revive(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.task = Some(tokio::spawn(serve(listener, self.state.clone())));
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let state = state.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let state = state.clone();
                async move { Ok::<_, Infallible>(exchange(&state, request).await) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn exchange(state: &Mutex<State>, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path_and_query().unwrap().as_str().to_owned();
    let auth = request.headers()[AUTH_HEADER].to_str().unwrap();
    let mac = verify_request(&cluster_key(), "GET", &path, now_unix_s(), auth)
        .expect("the relay signs its requests");
    let route = Route::parse(&path).expect("the relay writes canonical routes");
    let fault = {
        let mut state = state.lock().unwrap();
        *state.asked.entry(path.clone()).or_default() += 1;
        state.fault
    };
    let (status, body) = match (fault, route) {
        (Fault::Silent, _) => std::future::pending().await,
        (Fault::Broken, _) => (500, Bytes::new()),
        (_, Route::Streams) => {
            let list = StreamList { node: "fake".into(), streams: Vec::new() };
            (200, serde_json::to_vec(&list).unwrap().into())
        }
        (_, Route::Window { stream, after, wait_ms }) => window(state, &stream, after, wait_ms).await,
        (fault, Route::Segment { .. } | Route::MpegTs { .. } | Route::Part { .. } | Route::Init { .. }) => {
            let (delay, object) = {
                let state = state.lock().unwrap();
                (state.object_delay, state.objects.get(&path).cloned())
            };
            sleep(delay).await;
            match (object, fault) {
                (None, _) => (404, Bytes::new()),
                (Some(object), Fault::Corrupt) => {
                    let mut bytes = object.to_vec();
                    *bytes.last_mut().unwrap() ^= 1;
                    (200, bytes.into())
                }
                (Some(object), _) => (200, object),
            }
        }
    };
    let signer = if fault == Fault::Forged { super::ring(99) } else { cluster_key() };
    let signature = sign_answer(&signer, &mac, status, &body).unwrap();
    Response::builder().status(status).header(ANSWER_HEADER, signature).body(Full::new(body)).unwrap()
}

async fn window(state: &Mutex<State>, stream: &StreamName, after: Option<u64>, wait_ms: u64) -> (u16, Bytes) {
    let deadline = Instant::now() + Duration::from_millis(wait_ms);
    loop {
        let snapshot = state.lock().unwrap().snapshots.get(stream).cloned();
        match snapshot {
            None => return (404, Bytes::new()),
            Some(snapshot) if Some(snapshot.version) != after => {
                return (200, serde_json::to_vec(&snapshot).unwrap().into());
            }
            Some(_) if Instant::now() >= deadline => return (204, Bytes::new()),
            Some(_) => sleep(Duration::from_millis(5)).await,
        }
    }
}
