//! One request of an HTTP/2 connection, and its answer.
//!
//! In: a head, a stream to answer on. Out: how it ended. The answer is the node's, by the same two calls as over HTTP/1.1:
//! `step`, again whenever the stream has moved, and `answer` for what needs the ledger or an origin. RFC 9113 §8.

use super::Common;
use crate::http1::coding::takes_gzip;
use crate::http1::request::{ACCESS_TOKEN, BODY_BYTES_MAX, FIELDS_MAX, TARGET_BYTES_MAX, is_cmcd};
use crate::http1::{Malformed, Method, Outcome, Rendered, Request, Stamp};
use crate::node::{Answer, Reply, Step, now_unix_s};
use crate::route::cookie;
use crate::session::Session;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode, request::Parts};
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Bytes of a body in one frame: with the frame's head they fill one TLS record.
const FRAME_BYTES: usize = (16 << 10) - 9;

/// How an exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// All of the answer is with the library.
    Said,
    /// The viewer does not want it any more.
    Cancelled,
    /// They may not have it any more.
    Cut,
    /// They take nothing, or too little.
    Slow,
}

/// Answers a request.
pub(super) async fn exchange(
    common: Arc<Common>,
    asked: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Done {
    let (head, mut body) = asked.into_parts();
    let posted = match head.method {
        http::Method::POST => match timeout(common.patience.head, whole(&mut body)).await {
            Ok(Ok(posted)) => posted.map(Some),
            Ok(Err(_)) | Err(_) => return Done::Cancelled, // taken back, or as good as that
        },
        _ => Ok(None),
    };
    let has_body = !body.is_end_stream();
    let request = match &posted {
        Ok(posted) => request(&head, has_body, posted.as_deref(), common.source),
        Err(malformed) => Err(*malformed),
    };
    let reply = match request {
        Ok(request) => tokio::select! {
            biased;
            _ = poll_fn(|context| respond.poll_reset(context)) => return Done::Cancelled,
            reply = answer(&common, &request) => reply,
        },
        Err(malformed) => {
            tracing::debug!(%malformed, "refused");
            common.node.metrics.request("malformed", malformed.status());
            Answer::bare(malformed.status()).into()
        }
    };
    drop(body); // nobody reads on
    if reply.is_of_session() {
        common.prove();
    }
    say(&common, &mut respond, reply, head.method == http::Method::HEAD).await
}

/// All of a body, as far as there is room for it.
async fn whole(body: &mut RecvStream) -> Result<Result<Bytes, Malformed>, h2::Error> {
    let mut whole = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        if whole.len() + chunk.len() > BODY_BYTES_MAX {
            return Ok(Err(Malformed::BodyTooLong));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(Ok(whole.into()))
}

/// What a head asks for, as strictly as over HTTP/1.1. `posted`: the body of a POST.
fn request<'a>(
    head: &'a Parts,
    has_body: bool,
    posted: Option<&'a [u8]>,
    source: IpAddr,
) -> Result<Request<'a>, Malformed> {
    let fields = &head.headers;
    if fields.len() > FIELDS_MAX {
        return Err(Malformed::TooManyFields);
    }
    if fields.contains_key(header::EXPECT) {
        return Err(Malformed::Expectation);
    }
    let announced = || fields.get_all(header::CONTENT_LENGTH).iter().any(|length| length != "0");
    if posted.is_none() && (has_body || announced()) {
        return Err(Malformed::Body);
    }
    let target = head.uri.path_and_query().map_or("*", |target| target.as_str());
    if target.len() > TARGET_BYTES_MAX {
        return Err(Malformed::TargetTooLong);
    }
    if !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Err(Malformed::Target);
    }
    let conditional = fields.contains_key(header::IF_RANGE);
    Ok(Request {
        method: match head.method {
            http::Method::GET => Method::Get,
            http::Method::HEAD => Method::Head,
            http::Method::OPTIONS => Method::Options,
            http::Method::POST => Method::Post,
            _ => Method::Other,
        },
        target: target.as_bytes(),
        is_http_10: false,
        keep_alive: true,
        range: only(fields, header::RANGE).filter(|_| !conditional).and_then(|range| range.to_str().ok()),
        if_none_match: only(fields, header::IF_NONE_MATCH).map(HeaderValue::as_bytes),
        gzip: only(fields, header::ACCEPT_ENCODING).is_some_and(|list| takes_gzip(list.as_bytes())),
        // Browsers cut it into crumbs (RFC 9113 §8.2.3); one of them is ours.
        cookie: crumb(fields),
        access_token: only(fields, HeaderName::from_static(ACCESS_TOKEN)).map(HeaderValue::as_bytes),
        authorization: only(fields, header::AUTHORIZATION).map(HeaderValue::as_bytes),
        user_agent: only(fields, header::USER_AGENT).map(HeaderValue::as_bytes),
        body: posted,
        is_cmcd: only(fields, header::CONTENT_TYPE).is_some_and(|named| is_cmcd(named.as_bytes())),
        forwarded_for: None, // proxies that speak of many viewers are not offered HTTP/2
        source: Some(source),
    })
}

/// The one crumb with a session in it.
fn crumb(fields: &HeaderMap) -> Option<&[u8]> {
    let ours = |crumb: &&HeaderValue| crumb.as_bytes().split(|&byte| byte == b';').any(cookie::is_ours);
    let mut crumbs = fields.get_all(header::COOKIE).iter().filter(ours);
    crumbs.next().filter(|_| crumbs.next().is_none()).map(HeaderValue::as_bytes)
}

/// A field that comes exactly once.
fn only(fields: &HeaderMap, name: HeaderName) -> Option<&HeaderValue> {
    let mut values = fields.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// What the node answers; held for as long as it may come with the stream's next change.
async fn answer(common: &Common, request: &Request<'_>) -> Reply {
    let node = &common.node;
    let (mut changes, mut revocations) = (node.changes(), node.revocation_moves());
    let came = Instant::now();
    let mut until = None;
    loop {
        changes.mark_unchanged();
        revocations.mark_unchanged();
        let over = node.is_stopping() || until.is_some_and(|until| Instant::now() >= until);
        let park = match node.step(request, over) {
            Step::Reply(reply) => {
                if let Reply::Playlist(..) = &reply {
                    let held = until.map_or(0.0, |_| came.elapsed().as_secs_f64());
                    node.metrics.playlist_hold_seconds.observe(held);
                }
                return reply;
            }
            Step::Park(park) => park,
            Step::Ask => return node.answer(request).await,
        };
        common.prove(); // nobody else is kept waiting
        let until = *until.get_or_insert(came + park.at_most);
        let moved = async { while changes.changed().await.is_ok() && !park.has_moved() {} };
        tokio::select! {
            () = moved => {}
            _ = revocations.changed() => {}
            () = tokio::time::sleep_until(until) => {}
            () = node.stopped() => {}
        }
    }
}

async fn say(common: &Common, respond: &mut SendResponse<Bytes>, reply: Reply, head_only: bool) -> Done {
    tracing::trace!(status = reply.status(), "answered");
    match reply {
        Reply::Once(answer) => {
            let fields = answer.headers.iter().map(|(name, value)| (*name, value.as_ref()));
            let (rendered, body) = match Rendered::head(answer.status, fields, answer.body.len()) {
                Ok(rendered) => (rendered, answer.body),
                Err(_) => (Rendered::bare(500), Bytes::new()),
            };
            let body = Some(body).filter(|_| !head_only);
            send(common, respond, &rendered, Outcome::Whole, body, None).await
        }
        Reply::Playlist(rendered, outcome) => {
            let body = rendered.shared_bytes();
            send(common, respond, &rendered, outcome, Some(body).filter(|_| !head_only), None).await
        }
        Reply::Cdn(copy) => {
            let pieces: Vec<Bytes> = if head_only { Vec::new() } else { copy.pieces().collect() };
            send(common, respond, &copy.head, copy.outcome, pieces, None).await
        }
        Reply::Copy(copy) => {
            let pieces: Vec<Bytes> = if head_only { Vec::new() } else { copy.pieces().collect() };
            if !head_only && pieces.iter().map(Bytes::len).sum::<usize>() != copy.held.head.body_len() {
                return send(common, respond, &Rendered::bare(500), Outcome::Whole, None, None).await;
            }
            common.begins(&copy.session);
            let done =
                send(common, respond, &copy.held.head, copy.outcome, pieces, Some(&copy.session)).await;
            common.ended();
            done
        }
    }
}

/// Sends a head and, of a body in pieces, what the outcome leaves of it. `whose`: sent only while they may have it.
async fn send(
    common: &Common,
    respond: &mut SendResponse<Bytes>,
    rendered: &Rendered,
    outcome: Outcome,
    pieces: impl IntoIterator<Item = Bytes>,
    whose: Option<&Session>,
) -> Done {
    let (outcome, part) = match outcome {
        Outcome::Whole => (outcome, 0..rendered.body_len()),
        Outcome::Part { start, end } if start < end && end <= rendered.body_len() => (outcome, start..end),
        Outcome::NotModified => (outcome, 0..0),
        // A range that is none of this object's would come from a decision for another one.
        Outcome::Outside | Outcome::Part { .. } => (Outcome::Outside, 0..0),
    };
    let mut at = 0;
    let mut left: Vec<Bytes> = Vec::new();
    for piece in pieces {
        let (from, to) = (part.start.clamp(at, at + piece.len()), part.end.clamp(at, at + piece.len()));
        if from < to {
            left.push(piece.slice(from - at..to - at));
        }
        at += piece.len();
    }
    let Ok(mut stream) = respond.send_response(head(rendered, outcome), left.is_empty()) else {
        return Done::Cancelled;
    };
    if left.is_empty() {
        return Done::Said;
    }
    body(common, &mut stream, left, whose).await
}

async fn body(
    common: &Common,
    stream: &mut SendStream<Bytes>,
    pieces: Vec<Bytes>,
    whose: Option<&Session>,
) -> Done {
    let patience = common.patience;
    let mut deadline = Instant::now() + patience.write;
    let mut left: usize = pieces.iter().map(Bytes::len).sum();
    for mut piece in pieces {
        while !piece.is_empty() {
            stream.reserve_capacity(left);
            if stream.capacity() == 0 {
                match timeout_at(deadline, poll_fn(|context| stream.poll_capacity(context))).await {
                    Ok(Some(Ok(_))) => {}
                    Ok(None | Some(Err(_))) => return Done::Cancelled,
                    Err(_) => return Done::Slow,
                }
                continue;
            }
            // From here to the library there is no waiting.
            if whose.is_some_and(|session| common.node.still(&session.standing()).is_err()) {
                return Done::Cut;
            }
            let frame = piece.split_to(piece.len().min(FRAME_BYTES).min(stream.capacity()));
            left -= frame.len();
            let bought = Duration::from_secs(frame.len() as u64) / patience.write_rate_min.max(1);
            deadline = (deadline + bought).min(Instant::now() + patience.write);
            if stream.send_data(frame, left == 0).is_err() {
                return Done::Cancelled;
            }
        }
    }
    Done::Said
}

/// The head of an answer: the same fields as over HTTP/1.1.
fn head(rendered: &Rendered, outcome: Outcome) -> Response<()> {
    let mut response = Response::new(());
    let mut put = |name: &str, value: &str| {
        // What is rendered has been checked.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    };
    let mut lines = rendered.lines(outcome);
    lines.extend_from_slice(Stamp::new(now_unix_s()).line());
    for line in String::from_utf8_lossy(&lines).lines() {
        if let Some((name, value)) = line.split_once(": ") {
            put(name, value);
        }
    }
    let status = if outcome == Outcome::Whole { rendered.status() } else { outcome.status() };
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
