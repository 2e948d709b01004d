//! The operators' listener: `/metrics`, `/livez`, `/readyz`, and tokens for whoever has the key to mint. No viewers.

use super::mint;
use super::regular::Signs;
use super::witness::Running;
use crate::node::Node;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, StatusCode};
use releve_listen::http::{self, Answer};
use std::future::pending;
use std::sync::Arc;
use tokio::net::TcpListener;

/// A monitor, an operator and their reserve.
const CONNECTIONS_MAX: usize = 32;
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
    let answered = move |request: Request<Incoming>| {
        let (node, signs, witness, url) = (node.clone(), signs.clone(), witness.clone(), url.clone());
        async move {
            if request.uri().path() == mint::PATH {
                let (status, json) = mint::answer(&node, &url, request).await;
                return of_mint(status, json);
            }
            answer(&node, &signs, witness.as_ref().as_ref(), &request)
        }
    };
    http::serve(listener, CONNECTIONS_MAX, pending(), answered).await;
}

fn answer(node: &Node, signs: &Signs, witness: Option<&Running>, request: &Request<Incoming>) -> Answer {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return http::answer(StatusCode::METHOD_NOT_ALLOWED, PLAIN, String::new());
    }
    match request.uri().path() {
        "/livez" => http::answer(StatusCode::OK, PLAIN, "alive\n".to_owned()),
        "/readyz" => {
            let ready = signs.is_ready() && !node.is_stopping();
            let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            http::answer(status, PLAIN, signs.tell(node) + &witness.map(Running::tell).unwrap_or_default())
        }
        "/metrics" => {
            node.measure();
            http::answer(StatusCode::OK, METRICS, node.metrics.text())
        }
        _ => http::answer(StatusCode::NOT_FOUND, PLAIN, String::new()),
    }
}

fn of_mint(status: u16, json: String) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = http::answer(status, "application/json", json);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}
