//! The listener for relays behind this one: signed requests in, signed answers out, as at an ingest node.
//!
//! In: requests for the routes of `ingest_api::origin`. Out: what `Node::give` has. Touches its listener. Whoever does not
//! know the cluster's key gets an unsigned 403 and costs one MAC.

use crate::node::tier::Given;
use crate::node::{Node, now_unix_s};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::{Method, Request, StatusCode};
use ingest_api::node_auth::{self, ANSWER_HEADER, AUTH_HEADER};
use ingest_api::origin::Route;
use releve_listen::http::{self, Answer};
use std::future::pending;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Each relay behind this one keeps a few dozen.
const CONNECTIONS_MAX: usize = 1024;
const OBJECT: &str = "application/octet-stream";
const JSON: &str = "application/json";

/// Serves relays for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, node: Arc<Node>) {
    http::serve(listener, CONNECTIONS_MAX, pending(), move |request| answer(node.clone(), request)).await;
}

async fn answer(node: Arc<Node>, request: Request<Incoming>) -> Answer {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let header = request.headers().get(AUTH_HEADER).and_then(|value| value.to_str().ok());
    let (keys, method) = (node.keys(), request.method());
    let header = header.unwrap_or_default();
    let asked = match node_auth::verify_request(&keys.cluster, method.as_str(), path, now_unix_s(), header) {
        Ok(asked) => asked,
        Err(error) => {
            node.metrics.tier("denied");
            tracing::debug!(%error, "a relay's request refused");
            return http::answer(StatusCode::FORBIDDEN, JSON, Bytes::new());
        }
    };
    let (status, content_type, body) = match Route::parse(path) {
        Some(route) if *method == Method::GET => match node.give(&route).await {
            Given::Json(body) => (StatusCode::OK, JSON, body),
            Given::Object(body) => (StatusCode::OK, OBJECT, body),
            Given::Unchanged => (StatusCode::NO_CONTENT, JSON, Bytes::new()),
            Given::Nothing => (StatusCode::NOT_FOUND, JSON, Bytes::new()),
        },
        Some(_) => (StatusCode::METHOD_NOT_ALLOWED, JSON, Bytes::new()),
        None => (StatusCode::BAD_REQUEST, JSON, Bytes::new()),
    };
    node.metrics.tier(match status {
        StatusCode::OK => "given",
        StatusCode::NO_CONTENT => "unchanged",
        _ => "nothing",
    });
    let mac = node_auth::sign_answer(&keys.cluster, &asked, status.as_u16(), &body);
    let mut response = http::answer(status, content_type, body);
    if let Some(mac) = mac.and_then(|mac| HeaderValue::from_str(&mac).ok()) {
        response.headers_mut().insert(ANSWER_HEADER, mac);
    }
    response
}
