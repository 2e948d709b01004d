//! Access tokens over HTTP, on the operators' listener: for a shop that sells entry and runs no command.
//!
//! ```text
//! POST /api/v1/tokens   Authorization: Bearer KEY (the 64 hex digits of a key in mint.key)
//! {"stream":"demo","viewer":"alice","ttl_s":300}        "watch_until": Unix seconds, may be missing
//! 201 {"token":…,"url":…,"watch_page":…,"expires_unix_s":…}
//! ```
//!
//! In: a request. Out: status and JSON. Without `mint.key` there is no such place. The key is compared in constant time, the
//! body is bounded before it is read, and neither keys nor tokens are logged.

use crate::node::{Node, now_unix_s};
use crate::token::bearer;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Request};
use ingest_api::StreamName;
use ingest_api::access::{self, Claims, is_viewer_name};
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;
use tokio::time::timeout;

/// Where it is.
pub const PATH: &str = "/api/v1/tokens";

const BODY_BYTES_MAX: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(5);
/// As `relevectl token mint`: a year.
const TTL_MAX_S: u64 = 31_536_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    stream: StreamName,
    viewer: String,
    ttl_s: u64,
    watch_until: Option<u64>,
}

/// Answers a request for a token: status and JSON.
pub(super) async fn answer(node: &Node, url: &str, request: Request<Incoming>) -> (u16, String) {
    let keys = node.keys();
    let Some(mint) = &keys.mint else { return fault(404, "nothing is minted here: there is no mint.key") };
    if !bearer::opens(mint, request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes)) {
        return fault(401, "the bearer is no key of mint.key");
    }
    if request.method() != Method::POST {
        return fault(405, "only POST");
    }
    let read = timeout(PATIENCE, Limited::new(request.into_body(), BODY_BYTES_MAX).collect()).await;
    let Ok(Ok(body)) = read else { return fault(400, "the body is too long, or did not come") };
    let wish: Wish = match serde_json::from_slice::<Wish>(&body.to_bytes()) {
        Ok(wish) if !is_viewer_name(&wish.viewer) => {
            return fault(400, "`viewer` has 1 to 128 bytes and no control characters");
        }
        Ok(wish) if !(1..=TTL_MAX_S).contains(&wish.ttl_s) => return fault(400, "`ttl_s` is 1 to 31536000"),
        Ok(wish) => wish,
        // The reason names fields and places, never a value of ours.
        Err(error) => return fault(400, &error.to_string()),
    };
    match timeout(PATIENCE, node.coordinator().stream(&wish.stream)).await {
        Ok(Ok(Some(_))) => {}
        Ok(Ok(None)) => return fault(404, "there is no such stream"),
        _ => return fault(503, "the state store does not answer"),
    }
    let now = now_unix_s();
    let expires_unix_s = now + wish.ttl_s;
    let claims = Claims {
        stream: wish.stream.clone(),
        viewer: wish.viewer,
        issued_unix_s: now,
        enter_until_unix_s: expires_unix_s,
        watch_until_unix_s: wish.watch_until,
    };
    let token = access::mint(&keys.access, &claims);
    let (stream, url) = (wish.stream, url.trim_end_matches('/'));
    let minted = json!({
        "url": format!("{url}/live/{stream}/index.m3u8?token={token}"),
        "watch_page": format!("{url}/watch/{stream}?token={token}"),
        "token": token,
        "expires_unix_s": expires_unix_s,
    });
    node.metrics.minted.inc();
    (201, minted.to_string())
}

fn fault(status: u16, why: &str) -> (u16, String) {
    (status, json!({ "error": why }).to_string())
}
