//! Our reading of a connection's bytes against hyper's: what we take, hyper takes, as the same requests in the same order.
//! The other way round need not hold: hyper forgives bare LF, bodies and more.

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use releve_relay::http1::fuzzing::talk;
use releve_relay::node::Method;
use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Seen = Vec<(Method, Vec<u8>)>;

/// What hyper makes of the bytes.
fn hypers(input: &[u8]) -> Seen {
    let seen: Rc<RefCell<Seen>> = Rc::default();
    let record = seen.clone();
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let method = match request.method().as_str() {
            "GET" => Method::Get,
            "HEAD" => Method::Head,
            "OPTIONS" => Method::Options,
            "POST" => Method::Post,
            _ => Method::Other,
        };
        record.borrow_mut().push((method, request.uri().to_string().into_bytes()));
        async { Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())) }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        client.write_all(input).await.unwrap();
        client.shutdown().await.unwrap();
        let _ = http1::Builder::new().half_close(true).serve_connection(TokioIo::new(server), service).await;
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
    });
    seen.take()
}

fn ours(input: &[u8]) -> Seen {
    let talk = talk(input, || usize::MAX, || usize::MAX);
    talk.asked.into_iter().map_while(Result::ok).map(|asked| (asked.method, asked.target)).collect()
}

#[test]
fn plain_requests_are_the_same_to_both() {
    for (input, count) in [
        ("GET /a?b=c HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("\r\nGET / HTTP/1.1\r\nHost:a\r\n\r\nHEAD /b HTTP/1.1\r\nhost: a\r\nX:\r\n\r\nGET /c", 2),
        ("GET /1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n", 1),
        ("GET /1 HTTP/1.0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", 1),
        ("GET /1 HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n", 2),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /GET /b HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", 0),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", 0),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", 0),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", 0),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 0),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r", 0),
    ] {
        let seen = ours(input.as_bytes());
        assert_eq!(seen.len(), count, "{input:?}");
        assert_eq!(seen, hypers(input.as_bytes()), "{input:?}");
    }
}

#[test]
fn what_hyper_forgives_is_refused_here() {
    for input in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert_eq!(ours(input.as_bytes()), [], "{input:?}");
        assert!(!hypers(input.as_bytes()).is_empty(), "hyper refuses it too now: {input:?}");
    }
}

fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "HEAD /b?c HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n",
        "OPTIONS /d HTTP/1.1\r\nhost: a\r\nConnection: te, close\r\n\r\n",
        "GET /e HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "POST /g HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nGET /",
        "POST /j HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /h HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /i HTTP/1.1\r\nHost: a\r\n",
        "X: y\r\n",
        "\r\n",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn what_we_take_hyper_takes(
        pieces in proptest::collection::vec(piece(), 1..8),
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), prop::sample::select(b"\r\n\t :,;/aGH10\0\x7f\xff-".to_vec()), any::<bool>()), 0..4),
    ) {
        let mut input = pieces.concat().into_bytes();
        for (at, byte, insert) in changes {
            let at = at.index(input.len());
            if insert { input.insert(at, byte) } else { input[at] = byte }
        }
        let (ours, hypers) = (ours(&input), hypers(&input));
        prop_assert!(hypers.starts_with(&ours), "{:?}\nours {ours:?}\nhyper {hypers:?}", String::from_utf8_lossy(&input));
    }
}
