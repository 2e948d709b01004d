//! The operators' listener: `/metrics`, `/livez`, `/readyz`, and tokens for whoever has the key to mint. No viewers.

use super::mint;
use super::regular::Signs;
use super::witness::Running;
use crate::node::Node;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// A monitor, an operator and their reserve.
const CONNECTIONS_MAX: usize = 32;
const HEAD_PATIENCE: Duration = Duration::from_secs(10);
const PLAIN: &str = "text/plain; charset=utf-8";
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves operators for as long as it is polled: also while the relay stops.
pub(super) async fn serve(
    listener: TcpListener,
    node: Arc<Node>,
    signs: Arc<Signs>,
    witness: Option<Running>,
    url: String,
) {
    let (witness, url) = (Arc::new(witness), Arc::<str>::from(url));
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Waiting for a seat leaves further operators in the listener's queue.
        let Ok(seat) = seats.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept operators");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (node, signs, witness, url) = (node.clone(), signs.clone(), witness.clone(), url.clone());
        tokio::spawn(async move {
            let service = service_fn(async |request: Request<Incoming>| {
                if request.uri().path() == mint::PATH {
                    let (status, json) = mint::answer(&node, &url, request).await;
                    return Ok::<_, Infallible>(of_mint(status, json));
                }
                Ok(answer(&node, &signs, witness.as_ref().as_ref(), &request))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_PATIENCE)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "operator's connection ended");
            }
            drop(seat);
        });
    }
}

fn answer(
    node: &Node,
    signs: &Signs,
    witness: Option<&Running>,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, String::new());
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, PLAIN, "alive\n".to_owned()),
        "/readyz" => {
            let ready = signs.is_ready() && !node.is_stopping();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            text(status, PLAIN, signs.tell(node) + &witness.map(Running::tell).unwrap_or_default())
        }
        "/metrics" => {
            node.measure();
            text(StatusCode::OK, METRICS, node.metrics.text())
        }
        _ => text(StatusCode::NOT_FOUND, PLAIN, String::new()),
    }
}

fn of_mint(status: u16, json: String) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = text(status, "application/json", json);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn text(status: StatusCode, content_type: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
