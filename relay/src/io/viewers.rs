//! The viewers' front: HTTP/1.1 with hyper, one task a connection.
//!
//! In: a listener. Out: requests for `Node::answer`, and its answers on the wire. All that hyper knows stays here and in
//! `body`; a faster front may take its place.
//!
//! Limits: so many connections (more get 503 and are closed), a deadline for each request's head which is also the idle
//! time, a size for heads, and a time within which a viewer must take some byte of an answer.

use super::body::Sending;
use super::socket::{Socket, Traffic};
use crate::node::answer::COMMON;
use crate::node::{Answer, Method, Node, Request};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, IF_RANGE, RANGE, TRANSFER_ENCODING};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

/// What hyper may hold of a connection, each way, in bytes: also the largest head.
const BUFFER_BYTES: usize = 64 << 10;
/// Most header fields of a request.
const HEADERS_MAX: usize = 64;
/// Most connections that are being told that there are too many.
const REFUSALS_MAX: usize = 64;
/// How long one of them is listened to.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(1);
/// The pause after a failed accept: descriptors may be short for a moment.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How often a connection is looked at from outside.
const WATCH: Duration = Duration::from_secs(1);

const TOO_MANY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 2\r\n\
    cache-control: no-store\r\nconnection: close\r\n\r\n";

/// Serves viewers until the node stops, then lets answers under way finish for a while.
pub(super) async fn serve(listener: TcpListener, node: Arc<Node>) {
    let seats = Arc::new(Semaphore::new(node.limits.connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = node.stopped() => break,
        };
        match accepted {
            Ok((stream, peer)) => match seats.clone().try_acquire_owned() {
                Ok(seat) => {
                    let node = node.clone();
                    connections.spawn(async move {
                        node.metrics.connections.inc();
                        serve_one(stream, peer, &node).await;
                        node.metrics.connections.dec();
                        drop(seat);
                    });
                }
                Err(_) => {
                    node.metrics.connections_refused.inc();
                    if let Ok(refusal) = refusals.clone().try_acquire_owned() {
                        connections.spawn(async move {
                            let _ = timeout(REFUSAL_PATIENCE, refuse(stream)).await;
                            drop(refusal);
                        });
                    }
                }
            },
            Err(error) => {
                tracing::warn!(%error, "cannot accept viewers");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let finished =
        timeout(node.limits.stop_patience, async { while connections.join_next().await.is_some() {} });
    if finished.await.is_err() {
        tracing::warn!(connections = connections.len(), "connections cut off: they did not finish in time");
        connections.shutdown().await;
    }
}

/// Tells a viewer that there are too many. Their request is read first: closing over unread bytes would reset the
/// connection before they read the answer.
async fn refuse(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = vec![0; 4096];
    let _ = stream.read(&mut head).await?;
    stream.write_all(TOO_MANY).await?;
    stream.shutdown().await
}

async fn serve_one(stream: TcpStream, peer: SocketAddr, node: &Arc<Node>) {
    let _ = stream.set_nodelay(true);
    let (socket, traffic) = Socket::new(stream);
    let service = service_fn(|request| {
        let (node, traffic) = (node.clone(), traffic.clone());
        async move { Ok::<_, Infallible>(exchange(&node, &traffic, request).await) }
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(node.limits.head_patience)
        .max_buf_size(BUFFER_BYTES)
        .max_headers(HEADERS_MAX)
        .serve_connection(TokioIo::new(socket), service);
    let mut revocations = node.revocation_moves();
    let mut told = false;
    let mut watch = interval(WATCH);
    watch.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = std::pin::Pin::new(&mut connection) => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "connection ended");
                }
                return;
            }
            _ = revocations.changed() => {}
            _ = watch.tick() => {}
            () = node.stopped(), if !told => {
                told = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
        if let Some(why) = must_end(node, &traffic) {
            tracing::debug!(%peer, why, "connection cut");
            node.metrics.bodies_cut.inc();
            connection.into_parts().io.into_inner().abort();
            return;
        }
    }
}

/// Why a connection whose viewer takes no bytes must not be left to itself.
fn must_end(node: &Node, traffic: &Traffic) -> Option<&'static str> {
    let blocked = traffic.blocked_for()?;
    if blocked > node.limits.write_patience {
        return Some("the viewer takes no bytes");
    }
    let session = traffic.last_copy()?;
    node.still(&session).is_err().then_some("the viewer's session has ended")
}

async fn exchange(
    node: &Arc<Node>,
    traffic: &Traffic,
    request: hyper::Request<Incoming>,
) -> Response<Sending> {
    let started = Instant::now();
    let method = match *request.method() {
        hyper::Method::GET => Method::Get,
        hyper::Method::HEAD => Method::Head,
        hyper::Method::OPTIONS => Method::Options,
        _ => Method::Other,
    };
    let mut answer = if is_plain(&request) {
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let range = match request.headers().get_all(RANGE).iter().collect::<Vec<_>>()[..] {
            [range] if !request.headers().contains_key(IF_RANGE) => range.to_str().ok(),
            _ => None,
        };
        node.answer(Request { method, target: target.as_bytes(), range }).await
    } else {
        node.metrics.request("malformed", 400);
        Answer::bare(400)
    };
    if node.is_stopping() {
        answer = answer.with("connection", "close");
    }
    tracing::trace!(status = answer.status, elapsed = ?started.elapsed(), "answered");
    response(answer, method, node, traffic)
}

/// Whether a request is of the plain form that players write: a path as target, one host, no body.
fn is_plain(request: &hyper::Request<Incoming>) -> bool {
    let headers = request.headers();
    let hosts = headers.get_all(HOST).iter().count();
    request.uri().authority().is_none()
        && request.uri().scheme().is_none()
        && (hosts == 1 || (hosts == 0 && request.version() == hyper::Version::HTTP_10))
        && !headers.contains_key(TRANSFER_ENCODING)
        && headers.get_all(CONTENT_LENGTH).iter().all(|length| length == "0")
        && request.body().is_end_stream()
}

fn response(answer: Answer, method: Method, node: &Arc<Node>, traffic: &Traffic) -> Response<Sending> {
    let Answer { status, headers, body } = answer;
    let len = body.len();
    let body = if method == Method::Head { crate::node::Body::Empty } else { body };
    let mut response = Response::new(Sending::new(body, node, traffic));
    // Every status is one of the constants in `node`.
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::NOT_FOUND);
    let map = response.headers_mut();
    for (name, value) in COMMON {
        map.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in headers {
        // Values are made of constants, numbers, checked names and base64url: all of them are header text.
        if let Ok(value) = HeaderValue::from_str(&value) {
            map.insert(HeaderName::from_static(name), value);
        }
    }
    if status != 204 {
        map.insert(CONTENT_LENGTH, HeaderValue::from(len));
    }
    response
}
