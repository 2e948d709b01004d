//! The operators' listener: `/metrics`, `/livez`, `/readyz`, and tokens for whoever has the key to mint. No viewers.

use super::http::{self, Answer};
use super::mint;
use super::regular::Signs;
use super::witness::Running;
use crate::node::Node;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
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
    http::serve(listener, CONNECTIONS_MAX, answered).await;
}

fn answer(node: &Node, signs: &Signs, witness: Option<&Running>, request: &Request<Incoming>) -> Answer {
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

fn of_mint(status: u16, json: String) -> Answer {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = text(status, "application/json", json);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn text(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
