//! Requests that parsers are known to read differently, and the limits.

use super::*;

fn of(text: &str) -> Parsed<'_> {
    parse(text.as_bytes())
}

fn request(text: &str) -> Request<'_> {
    match of(text) {
        Parsed::Request(request, len) => {
            assert_eq!(len, text.len(), "{text:?}");
            request
        }
        other => panic!("{other:?} for {text:?}"),
    }
}

fn with(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}

#[test]
fn a_players_request_is_read() {
    let text = "GET /v/abc/video/index.m3u8?_HLS_msn=4 HTTP/1.1\r\nHost: relay.example:8443\r\nUser-Agent: x\r\n\
        Range: bytes=0-9\r\nIf-None-Match: \"t\"\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n";
    let read = request(text);
    assert_eq!(read.method, Method::Get);
    assert_eq!(read.target, b"/v/abc/video/index.m3u8?_HLS_msn=4");
    assert_eq!((read.range, read.if_none_match), (Some("bytes=0-9"), Some(&b"\"t\""[..])));
    assert!(read.keep_alive && !read.is_http_10);
    assert_eq!(read.target.as_ptr(), text[4..].as_ptr(), "borrowed, not copied");
}

#[test]
fn every_beginning_of_a_request_is_incomplete() {
    let text = with("Range: bytes=0-9\r\n");
    for end in 0..text.len() {
        assert_eq!(of(&text[..end]), Parsed::Incomplete, "{:?}", &text[..end]);
    }
    let two = text.clone() + &text;
    assert!(matches!(of(&two), Parsed::Request(_, len) if len == text.len()));
}

#[test]
fn methods_and_persistence() {
    for (name, method) in [
        ("HEAD", Method::Head),
        ("OPTIONS", Method::Options),
        ("get", Method::Other),
        ("DELETE", Method::Other),
    ] {
        assert_eq!(request(&format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n")).method, method);
    }
    for (line, keep_alive) in [
        ("HTTP/1.1\r\nHost: a\r\n", true),
        ("HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n", false),
        ("HTTP/1.1\r\nHost: a\r\nConnection: te , close\r\n", false),
        ("HTTP/1.1\r\nHost: a\r\nConnection: closed\r\n", true),
        ("HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: close\r\n", false),
        ("HTTP/1.0\r\n", false),
        ("HTTP/1.0\r\nConnection: Keep-Alive\r\n", true),
        ("HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n", false),
    ] {
        assert_eq!(request(&format!("GET / {line}\r\n")).keep_alive, keep_alive, "{line:?}");
    }
}

#[test]
fn what_may_be_read_in_two_ways_is_refused() {
    use Malformed::*;
    let table: &[(&str, Malformed)] = &[
        // line ends
        ("GET / HTTP/1.1\nHost: a\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\r\nX:\nY: b\r\n\r\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\n\n", LineEnd),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", Field),
        ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Field),
        ("GET / HTTP/1.1\rHost: a\r\n\r\n", LineEnd),
        ("\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", LineEnd),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", LineEnd),
        ("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", LineEnd),
        // request line
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Line),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Version),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Line),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Line),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", LineEnd),
        ("GET /\r\nHost: a\r\n\r\n", Line),
        ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Version),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Version),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Version),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x12\x03\x03", Line), // a TLS greeting
        // target
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        ("GET a/b HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n", Target),
        ("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", Line),
        ("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", Line),
        // fields
        ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", Field),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Field),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Field),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", Field),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n", Field),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n", Field),
        ("GET / HTTP/1.1\r\nHost: a\r\nX(: b\r\n\r\n", Field),
        // host
        ("GET / HTTP/1.1\r\n\r\n", Host),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", Host),
        ("GET / HTTP/1.1\r\nHost: a\r\nhOST: b\r\n\r\n", Host),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Host),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Host),
        ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Host),
        // bodies
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n", Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\n", Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 0\r\n\r\n", Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 6\r\n\r\n", Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Length),
        ("POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: identity\r\n\r\n", Length),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Body),
        ("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 05\r\n\r\nhello", Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", Body),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            Body,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16385\r\n\r\n", BodyTooLong),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", BodyTooLong),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: x\r\n\r\n", Body),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", Field),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n", Expectation),
    ];
    for (text, malformed) in table {
        assert_eq!(of(text), Parsed::Malformed(*malformed), "{text:?}");
        assert!((400..506).contains(&malformed.status()));
        // Cut anywhere it is incomplete or the same verdict, never a request.
        for end in 0..text.len() {
            let cut = parse(&text.as_bytes()[..end]);
            assert!(
                cut == Parsed::Incomplete || cut == Parsed::Malformed(*malformed),
                "{text:?} to {end}: {cut:?}"
            );
        }
    }
}

#[test]
fn what_is_odd_but_plain_is_taken() {
    for text in [
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\r\nY: \r\nZ: caf\u{e9}\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET /?a=%2f&b=\"<>{}| HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        request(text);
    }
}

#[test]
fn what_is_posted_comes_with_its_request() {
    let post = |fields: &str, body: &str| format!("POST /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let text = post("Content-Length: 5\r\nContent-Type: application/cmcd\r\n", "hello");
    let read = request(&text);
    assert_eq!((read.method, read.body, read.is_cmcd), (Method::Post, Some(&b"hello"[..]), true));
    let head = text.len() - 5;
    for end in 0..text.len() {
        let expected = if end < head { Parsed::Incomplete } else { Parsed::Awaits(text.len()) };
        assert_eq!(of(&text[..end]), expected, "to {end}");
    }
    let two = text.clone() + "GET";
    assert!(matches!(of(&two), Parsed::Request(_, len) if len == text.len()));
    assert_eq!(request(&post("Content-Length: 0\r\n", "")).body, Some(&b""[..]));
    assert_eq!(request(&post("", "")).body, None, "it says nothing of its length");
    let longest = post("Content-Length: 16384\r\n", "");
    assert_eq!(of(&longest), Parsed::Awaits(longest.len() + BODY_BYTES_MAX));
    for (said, is_cmcd) in [
        ("Content-Type: Application/CMCD; charset=utf-8\r\n", true),
        ("Content-Type: application/cmcd ;x\r\n", true),
        ("Content-Type: application/cmcd+json\r\n", false),
        ("Content-Type: text/plain\r\n", false),
        ("Content-Type: application/cmcd\r\nContent-Type: application/cmcd\r\n", false),
        ("", false),
    ] {
        assert_eq!(request(&with(said)).is_cmcd, is_cmcd, "{said:?}");
    }
}

#[test]
fn a_range_counts_only_if_it_is_the_only_one_and_without_condition() {
    assert_eq!(request(&with("Range: bytes=0-1\r\nRange: bytes=2-3\r\n")).range, None);
    assert_eq!(request(&with("Range: bytes=0-1\r\nIf-Range: \"t\"\r\n")).range, None);
    assert_eq!(request(&with("If-Range: \"t\"\r\nRange: bytes=0-1\r\n")).range, None);
    assert_eq!(request(&with("range: bytes=0-1\r\n")).range, Some("bytes=0-1"));
    assert_eq!(request(&with("If-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\n")).if_none_match, None);
    let bytes = b"GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=\xff\r\n\r\n";
    assert!(matches!(parse(bytes), Parsed::Request(Request { range: None, .. }, _)));
}

#[test]
fn limits_hold_to_the_byte() {
    let fields = |count: usize| with(&"a: b\r\n".repeat(count - 1));
    request(&fields(FIELDS_MAX));
    assert_eq!(of(&fields(FIELDS_MAX + 1)), Parsed::Malformed(Malformed::TooManyFields));

    let target = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(len - 1));
    request(&target(TARGET_BYTES_MAX));
    assert_eq!(of(&target(TARGET_BYTES_MAX + 1)), Parsed::Malformed(Malformed::TargetTooLong));

    let around = with("X: \r\n").len();
    let head = |len: usize| with(&format!("X: {}\r\n", "a".repeat(len - around)));
    request(&head(HEAD_BYTES_MAX));
    let long = head(HEAD_BYTES_MAX + 1);
    assert_eq!(of(&long), Parsed::Malformed(Malformed::HeadTooLong));
    assert_eq!(of(&long[..HEAD_BYTES_MAX]), Parsed::Malformed(Malformed::HeadTooLong));
    assert_eq!(of(&long[..HEAD_BYTES_MAX - 1]), Parsed::Incomplete);
    // What lies beyond the limit has no say.
    let bad = format!("{}\0", &long[..HEAD_BYTES_MAX]);
    assert_eq!(of(&bad), Parsed::Malformed(Malformed::HeadTooLong));
}
