//! What the fuzz target `http1` calls, and the tests with it: bytes of a connection in, a panic if a promise breaks.
//!
//! Promises: however bytes are cut on their way in and answers on their way out, requests and answers are the same; a
//! request that is taken has no line end but CR LF, no folded line, no body but one that says how long it is; answers follow
//! one another in order, each as long as it says, and none after an error. Not tried here: deadlines.

use super::condition::outcome;
use super::connection::Connection;
use super::ending::{Patience, State};
use super::request::{BODY_BYTES_MAX, Malformed, Method, Parsed, Request, parse};
use super::{Outcome, Pool, Rendered};
use bytes::Bytes;
use std::io::IoSlice;
use std::time::Instant;

/// The entity tag of what the fuzzed relay answers.
pub const ETAG: &str = "\"tag\"";

/// A request without borrows, or why there was none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields of `Request`")]
pub struct Asked {
    pub method: Method,
    pub target: Vec<u8>,
    pub body: Option<Vec<u8>>,
    pub is_cmcd: bool,
    pub keep_alive: bool,
    pub outcome: Outcome,
}

/// What came of a connection's bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Talk {
    /// What was asked, in order.
    pub asked: Vec<Result<Asked, Malformed>>,
    /// What was answered.
    pub said: Vec<u8>,
    /// How it stood when all had come and gone, and before the client's end.
    pub state: State,
}

/// Bytes as a viewer's connection; the first four say how they are cut.
pub fn connection(data: &[u8]) {
    let Some((seed, input)) = data.split_first_chunk::<4>() else { return };
    let seed = u32::from_le_bytes(*seed);
    strict(input);
    let whole = talk(input, || usize::MAX, || usize::MAX);
    let mut cuts = sizes(seed);
    let mut writes = sizes(!seed);
    let cut = talk(input, &mut cuts, &mut writes);
    assert_eq!(cut, whole, "cuts made a difference");
    answers(&whole);
}

/// Small sizes from a seed.
fn sizes(seed: u32) -> impl FnMut() -> usize {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        1 + (state as usize >> 8) % if state.is_multiple_of(4) { 400 } else { 9 }
    }
}

/// Speaks `input` to a connection in cuts of these sizes and takes what it says in cuts of those.
pub fn talk(input: &[u8], mut read: impl FnMut() -> usize, mut write: impl FnMut() -> usize) -> Talk {
    let mut pool = Pool::new(Instant::now(), 784_111_777, Patience::default(), 4);
    let mut connection = Connection::new(&pool);
    let (mut asked, mut said, mut rest) = (Vec::new(), Vec::new(), input);
    let body: Bytes = (0..9000u32).map(|n| (n % 251) as u8).collect();
    let etag = [("etag", ETAG)];
    let shared = Rendered::shared(200, etag, &body[..100]).expect("the tag can be written");
    let marked = Rendered::head(200, etag, body.len()).expect("the tag can be written");
    loop {
        let before = (rest.len(), said.len(), asked.len(), connection.room());
        let cut = read().min(rest.len()).min(connection.room());
        assert_eq!(connection.receive(&mut pool, &rest[..cut]), cut, "room is taken");
        rest = &rest[cut..];
        while let Some(next) = connection.next_request() {
            let is_marked = asked.len() % 2 == 1;
            let of = if is_marked { &marked } else { &shared };
            let next = next.map(|request| own(&request, of.body_len()));
            match &next {
                Err(malformed) => {
                    connection.respond(&mut pool, &Rendered::bare(malformed.status()), Outcome::Whole)
                }
                Ok(Asked { outcome, .. }) if is_marked => {
                    let pieces = [body.slice(..10), body.slice(10..4000), body.slice(4000..)];
                    connection.respond_marked(&mut pool, of, *outcome, pieces)
                }
                Ok(Asked { outcome, .. }) => connection.respond(&mut pool, of, *outcome),
            };
            asked.push(next);
        }
        let mut slices = [IoSlice::new(&[]); 8];
        let filled = connection.unsent(&mut slices);
        let mut budget = write();
        let mut count = 0;
        for slice in &slices[..filled] {
            let take = slice.len().min(budget);
            said.extend_from_slice(&slice[..take]);
            (count, budget) = (count + take, budget - take);
        }
        connection.wrote(&mut pool, count);
        let after = (rest.len(), said.len(), asked.len(), connection.room());
        if after == before && connection.unsent_bytes() == 0 {
            break;
        }
    }
    let state = connection.state();
    connection.received_end();
    assert!(connection.next_request().is_none());
    assert!(matches!(connection.state(), State::Over(_)), "the client's end is the end of all");
    connection.close(&mut pool);
    Talk { asked, said, state }
}

fn own(request: &Request<'_>, len: usize) -> Asked {
    Asked {
        method: request.method,
        target: request.target.to_vec(),
        body: request.body.map(<[u8]>::to_vec),
        is_cmcd: request.is_cmcd,
        keep_alive: request.keep_alive,
        outcome: outcome(request, len, Some(ETAG)),
    }
}

/// Looks at every head that is taken with other eyes than the parser's.
fn strict(mut input: &[u8]) {
    while let Parsed::Request(request, len) = parse(input) {
        let (all, rest) = input.split_at(len);
        let (head, body) = all.split_at(len - request.body.map_or(0, <[u8]>::len));
        let head = head.strip_prefix(b"\r\n").unwrap_or(head);
        let text: String = head.iter().map(|&byte| byte.to_ascii_lowercase() as char).collect();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(!lines.iter().any(|line| line.contains(['\r', '\n', '\0'])), "stray line end in {text:?}");
        let (last, fields) = (&lines[lines.len() - 2..], &lines[1..lines.len() - 2]);
        assert_eq!(last, ["", ""], "no empty line at the end of {text:?}");
        assert_eq!(lines[0].split(' ').count(), 3, "request line {:?}", lines[0]);
        let names = |name: &str| fields.iter().filter(|line| line.split(':').next() == Some(name)).count();
        assert!(
            fields.iter().all(|line| !line.is_empty() && !line.starts_with([' ', '\t'])),
            "folded: {text:?}"
        );
        assert_eq!(names("transfer-encoding") + names("expect"), 0);
        assert!(body.is_empty() || request.method == Method::Post && body.len() <= BODY_BYTES_MAX);
        let length = |line: &str| line.strip_prefix("content-length:").map(|length| length.trim().to_owned());
        let says = fields.iter().find_map(|line| length(line));
        assert_eq!(says, request.body.map(|body| body.len().to_string()), "{text:?}");
        assert!(names("content-length") <= 1 && names("host") + usize::from(request.is_http_10) >= 1);
        assert!(names("host") <= 1);
        input = rest;
    }
}

/// Reads the answers as a client does.
fn answers(talk: &Talk) {
    let mut rest = &talk.said[..];
    let mut closed = false;
    for asked in &talk.asked {
        assert!(!closed, "an answer after the last one");
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(len)) = head.parse(rest) else { panic!("an answer has no head") };
        let field = |name: &str| {
            let found = head.headers.iter().find(|field| field.name == name)?;
            std::str::from_utf8(found.value).ok()
        };
        let length = field("content-length").map_or(0, |value| value.parse().expect("a length is a number"));
        let (status, has_body) = match asked {
            Err(malformed) => (malformed.status(), true),
            Ok(asked) => {
                let status = match asked.outcome {
                    Outcome::Whole => 200,
                    Outcome::Part { .. } => 206,
                    Outcome::NotModified => 304,
                    Outcome::Outside => 416,
                };
                (status, asked.method != Method::Head)
            }
        };
        assert_eq!(head.code, Some(status));
        closed = field("connection") == Some("close");
        assert_eq!(closed, !asked.as_ref().is_ok_and(|asked| asked.keep_alive));
        rest = &rest[len + if has_body { length } else { 0 }..];
    }
    assert!(rest.is_empty(), "bytes after the last answer");
    assert_eq!(closed, talk.state == State::Lingering);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    #[test]
    fn every_input_that_fuzzing_has_kept() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/http1");
        let mut inputs = 0;
        for entry in std::fs::read_dir(&folder).unwrap() {
            connection(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 20, "{} holds {inputs} inputs", folder.display());
    }

    /// With the longest body there may be, which has lines.
    static LONGEST: LazyLock<String> = LazyLock::new(|| {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n");
        head + &"e=t,ts=1,v=2\nabc".repeat(BODY_BYTES_MAX / 16)
    });

    /// Requests, good and bad, as they may follow one another.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => Just("GET /v/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            2 => Just("HEAD /v/x HTTP/1.1\r\nHost: a\r\n\r\n"),
            2 => Just("GET /v/x HTTP/1.1\r\nHost: a\r\nRange: bytes=20-70\r\n\r\n"),
            2 => Just("GET /v/x HTTP/1.1\r\nHost: a\r\nIf-None-Match: \"tag\"\r\n\r\n"),
            1 => Just("GET /v/x HTTP/1.1\r\nHost: a\r\nRange: bytes=99999-\r\n\r\n"),
            1 => Just("GET /v/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            1 => Just("\r\n"),
            1 => Just("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
            1 => Just("GET / HTTP/1.1\nHost: a\n\n"),
            2 => Just("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
            1 => Just("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\na\nb\r\n\r\nGE"),
            1 => Just("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90\r\n\r\n"),
            1 => Just("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16385\r\n\r\n"),
            1 => Just("POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => Just(LONGEST.as_str()),
            1 => Just("GET /"),
        ];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn cuts_make_no_difference(seed: [u8; 4], bytes in bytes()) {
            connection(&[&seed[..], &bytes].concat());
        }

        #[test]
        fn nor_do_flipped_bytes(seed: [u8; 4], mut bytes in bytes(), at: prop::sample::Index, to: u8) {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            connection(&[&seed[..], &bytes].concat());
        }
    }
}
