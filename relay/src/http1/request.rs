//! Request parser: the bytes of a connection become one request head.
//!
//! In: all bytes that have come and were not consumed. Out: `Incomplete`, a `Request` that borrows from them, or why they
//! are none. The answer for some bytes is the same however they were cut on the way. No allocation. RFC 9112 §2–6; bare LF,
//! line folding, a second host and everything else that intermediaries are known to read differently is refused. A body comes
//! with a POST alone, as long as it says beforehand, and at once with its head; any other request that announces one is refused.

use super::coding::takes_gzip;
use core::net::IpAddr;
use std::mem::MaybeUninit;

/// Longest head in bytes, empty line included: a token of 2 KiB and a browser's cookies leave most of it free.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Longest request target in bytes: paths carry at most one token and one session.
pub const TARGET_BYTES_MAX: usize = 8 << 10;
/// Longest body in bytes: a player's events of half a minute take a few hundred.
pub const BODY_BYTES_MAX: usize = 16 << 10;
/// Most header fields: browsers send about twenty.
pub const FIELDS_MAX: usize = 64;

/// What the events of players are sent as (CTA-5004-B).
pub const CMCD: &str = "application/cmcd";
/// The field of a Common Access Token (CTA-5007).
pub const ACCESS_TOKEN: &str = "cta-common-access-token";

/// What some bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// The beginning of a request, or nothing.
    Incomplete,
    /// A whole head, but not the whole body: so many bytes both take.
    Awaits(usize),
    /// A request, and how many bytes it takes.
    Request(Request<'a>, usize),
    /// No request that may be answered: say so and close, for where the next one begins is not known.
    Malformed(Malformed),
}

/// The methods that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: a GET without the body.
    Head,
    /// OPTIONS: a browser asks whether it may.
    Options,
    /// POST: a player sends something.
    Post,
    /// Any other.
    Other,
}

impl Method {
    /// Its name; of any other none.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Head => "HEAD",
            Method::Options => "OPTIONS",
            Method::Post => "POST",
            Method::Other => "",
        }
    }
}

/// A request's head, borrowed from the bytes it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Its method.
    pub method: Method,
    /// Its target: begins with `/`, printable ASCII without `#`.
    pub target: &'a [u8],
    /// Whether it speaks HTTP/1.0.
    pub is_http_10: bool,
    /// Whether the connection may go on after the answer.
    pub keep_alive: bool,
    /// Its `Range`, if it has exactly one and no `If-Range`; without it the whole is a right answer.
    pub range: Option<&'a str>,
    /// Its `If-None-Match`, if it has exactly one; without it a full answer is right.
    pub if_none_match: Option<&'a [u8]>,
    /// Whether it takes an answer in gzip.
    pub gzip: bool,
    /// Its `Cookie`, if it has exactly one.
    pub cookie: Option<&'a [u8]>,
    /// Its `CTA-Common-Access-Token`, if it has exactly one.
    pub access_token: Option<&'a [u8]>,
    /// Its `Authorization`, if it has exactly one.
    pub authorization: Option<&'a [u8]>,
    /// Its `User-Agent`, if it has exactly one.
    pub user_agent: Option<&'a [u8]>,
    /// Its last `X-Forwarded-For`: the one that the nearest proxy wrote, if there is a proxy to be believed.
    pub forwarded_for: Option<&'a [u8]>,
    /// What is posted; `None` where the head does not say how long it is. Other methods have none, or an empty one.
    pub body: Option<&'a [u8]>,
    /// Whether that is events of a player: its only `Content-Type` says `CMCD`.
    pub is_cmcd: bool,
    /// Whose it is, once whoever took the connection has said so; the parser does not know.
    pub source: Option<IpAddr>,
}

impl<'a> Request<'a> {
    /// The same with bytes of its own: for a request that has to wait. None with a body does.
    pub fn keep(&self) -> Kept {
        Kept {
            method: self.method,
            target: self.target.into(),
            is_http_10: self.is_http_10,
            keep_alive: self.keep_alive,
            range: self.range.map(Into::into),
            if_none_match: self.if_none_match.map(Into::into),
            gzip: self.gzip,
            cookie: self.cookie.map(Into::into),
            access_token: self.access_token.map(Into::into),
            authorization: self.authorization.map(Into::into),
            user_agent: self.user_agent.map(Into::into),
            source: self.source,
        }
    }
}

/// A request that owns its bytes.
#[derive(Clone, Debug)]
pub struct Kept {
    method: Method,
    target: Box<[u8]>,
    is_http_10: bool,
    keep_alive: bool,
    range: Option<Box<str>>,
    if_none_match: Option<Box<[u8]>>,
    gzip: bool,
    cookie: Option<Box<[u8]>>,
    access_token: Option<Box<[u8]>>,
    authorization: Option<Box<[u8]>>,
    user_agent: Option<Box<[u8]>>,
    source: Option<IpAddr>,
}

impl Kept {
    /// The request.
    pub fn request(&self) -> Request<'_> {
        Request {
            method: self.method,
            target: &self.target,
            is_http_10: self.is_http_10,
            keep_alive: self.keep_alive,
            range: self.range.as_deref(),
            if_none_match: self.if_none_match.as_deref(),
            gzip: self.gzip,
            cookie: self.cookie.as_deref(),
            access_token: self.access_token.as_deref(),
            authorization: self.authorization.as_deref(),
            user_agent: self.user_agent.as_deref(),
            forwarded_for: None, // it has been looked at
            body: None,
            is_cmcd: false,
            source: self.source,
        }
    }
}

/// Why bytes are no request that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The request line does not follow the grammar.
    #[error("request line is not `METHOD SP target SP HTTP/1.1`")]
    Line,
    /// A field does not follow the grammar.
    #[error("header field is not `name: value`, or is folded")]
    Field,
    /// A line ends with LF alone or a CR stands alone.
    #[error("line does not end with CR LF")]
    LineEnd,
    /// Not HTTP/1.0 or HTTP/1.1.
    #[error("version is not HTTP/1.0 or HTTP/1.1")]
    Version,
    /// The target is not a path.
    #[error("target is not a path of printable ASCII")]
    Target,
    /// The target is longer than `TARGET_BYTES_MAX`.
    #[error("target is longer than {TARGET_BYTES_MAX} bytes")]
    TargetTooLong,
    /// The head is longer than `HEAD_BYTES_MAX`.
    #[error("head is longer than {HEAD_BYTES_MAX} bytes")]
    HeadTooLong,
    /// More than `FIELDS_MAX` fields.
    #[error("head has more than {FIELDS_MAX} fields")]
    TooManyFields,
    /// No host, two, or one that is none.
    #[error("request does not name exactly one host")]
    Host,
    /// A body is announced where none may be, or in a way that may be read as two.
    #[error("request announces a body")]
    Body,
    /// A body whose length comes with it, or after it.
    #[error("request does not say how long its body is")]
    Length,
    /// The body is longer than `BODY_BYTES_MAX`.
    #[error("body is longer than {BODY_BYTES_MAX} bytes")]
    BodyTooLong,
    /// The client waits for leave to send a body.
    #[error("request expects something")]
    Expectation,
}

impl Malformed {
    /// The status it is answered with.
    pub fn status(self) -> u16 {
        match self {
            Malformed::Version => 505,
            Malformed::Length => 411,
            Malformed::BodyTooLong => 413,
            Malformed::TargetTooLong => 414,
            Malformed::HeadTooLong | Malformed::TooManyFields => 431,
            Malformed::Expectation => 417,
            _ => 400,
        }
    }
}

/// Reads the first request of `bytes`.
pub fn parse(bytes: &[u8]) -> Parsed<'_> {
    whole(bytes).unwrap_or_else(Parsed::Malformed)
}

fn whole(all: &[u8]) -> Result<Parsed<'_>, Malformed> {
    // Cut first, so that what lies beyond the limit has no say in the verdict.
    let bytes = &all[..all.len().min(HEAD_BYTES_MAX)];
    // RFC 9112 §2.2: one empty line before a request is passed over. More are not.
    let leading = if bytes.starts_with(b"\r\n") { 2 } else { 0 };
    let text = &bytes[leading..];
    if matches!(text.first(), Some(b'\r' | b'\n')) && text != b"\r" {
        return Err(Malformed::LineEnd);
    }
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let len = match parsed.parse_with_uninit_headers(text, &mut fields) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) if bytes.len() == HEAD_BYTES_MAX => return Err(Malformed::HeadTooLong),
        Ok(httparse::Status::Partial) => return Ok(Parsed::Incomplete),
        Err(error) => return Err(grammar(error)),
    };
    let (Some(method), Some(target), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Malformed::Line); // a complete head has all three
    };
    line_ends(&text[..len], parsed.headers)?;
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "OPTIONS" => Method::Options,
        "POST" => Method::Post,
        _ => Method::Other,
    };
    if target.len() > TARGET_BYTES_MAX {
        return Err(Malformed::TargetTooLong);
    }
    // Without a way out of the loop it is done many bytes at a time.
    let is_plain = target.bytes().fold(true, |good, byte| good & byte.is_ascii_graphic() & (byte != b'#'));
    if !target.starts_with('/') || !is_plain {
        return Err(Malformed::Target);
    }
    let is_http_10 = minor == 0;
    let seen = Seen::of(parsed.headers)?;
    if seen.hosts == 0 && !is_http_10 {
        return Err(Malformed::Host);
    }
    let (head, length) = (leading + len, seen.body(method)?);
    let end = head + length.unwrap_or(0);
    if end > all.len() {
        return Ok(Parsed::Awaits(end));
    }
    let request = Request {
        method,
        target: target.as_bytes(),
        is_http_10,
        keep_alive: !seen.close && (!is_http_10 || seen.keep_alive),
        range: if seen.ranges == 1 && !seen.if_range { seen.range } else { None },
        if_none_match: if seen.if_none_matches == 1 { seen.if_none_match } else { None },
        gzip: seen.encodings == 1 && seen.gzip,
        cookie: if seen.cookies == 1 { seen.cookie } else { None },
        access_token: if seen.access_tokens == 1 { seen.access_token } else { None },
        authorization: if seen.authorizations == 1 { seen.authorization } else { None },
        user_agent: if seen.user_agents == 1 { seen.user_agent } else { None },
        forwarded_for: seen.forwarded_for,
        body: length.map(|_| &all[head..end]),
        is_cmcd: seen.content_types == 1 && seen.is_cmcd,
        source: None,
    };
    Ok(Parsed::Request(request, end))
}

fn grammar(error: httparse::Error) -> Malformed {
    match error {
        httparse::Error::Version => Malformed::Version,
        httparse::Error::NewLine => Malformed::LineEnd,
        httparse::Error::TooManyHeaders => Malformed::TooManyFields,
        httparse::Error::HeaderName | httparse::Error::HeaderValue => Malformed::Field,
        httparse::Error::Token | httparse::Error::Status => Malformed::Line,
    }
}

/// The parser takes LF for CR LF. A line begins where a field's name does, and ends right before the next one: looking
/// there finds every line end without reading the head a second time.
fn line_ends(head: &[u8], fields: &[httparse::Header<'_>]) -> Result<(), Malformed> {
    let begin = head.as_ptr().addr();
    let good = fields.iter().all(|field| {
        let at = field.name.as_ptr().addr() - begin;
        head[..at].ends_with(b"\r\n")
    });
    if good && head.ends_with(b"\r\n\r\n") { Ok(()) } else { Err(Malformed::LineEnd) }
}

/// What the fields say that matters here.
#[derive(Default)]
struct Seen<'a> {
    hosts: usize,
    lengths: usize,
    length: &'a [u8],
    transfer_encoding: bool,
    content_types: usize,
    is_cmcd: bool,
    close: bool,
    keep_alive: bool,
    ranges: usize,
    range: Option<&'a str>,
    if_range: bool,
    if_none_matches: usize,
    if_none_match: Option<&'a [u8]>,
    cookies: usize,
    cookie: Option<&'a [u8]>,
    encodings: usize,
    gzip: bool,
    access_tokens: usize,
    access_token: Option<&'a [u8]>,
    authorizations: usize,
    authorization: Option<&'a [u8]>,
    user_agents: usize,
    user_agent: Option<&'a [u8]>,
    forwarded_for: Option<&'a [u8]>,
}

impl<'a> Seen<'a> {
    fn of(fields: &[httparse::Header<'a>]) -> Result<Seen<'a>, Malformed> {
        let mut seen = Seen::default();
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            // By length first: most fields of a browser matter to nobody here.
            match field.name.len() {
                4 if is("host") => {
                    seen.hosts += 1;
                    if seen.hosts > 1 || !field.value.iter().copied().all(of_host) {
                        return Err(Malformed::Host);
                    }
                }
                5 if is("range") => {
                    seen.ranges += 1;
                    seen.range = std::str::from_utf8(field.value).ok();
                }
                6 if is("cookie") => {
                    seen.cookies += 1;
                    seen.cookie = Some(field.value);
                }
                6 if is("expect") => return Err(Malformed::Expectation),
                8 if is("if-range") => seen.if_range = true,
                10 if is("connection") => {
                    for option in field.value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                        seen.close |= option.eq_ignore_ascii_case(b"close");
                        seen.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                10 if is("user-agent") => {
                    seen.user_agents += 1;
                    seen.user_agent = Some(field.value);
                }
                12 if is("content-type") => {
                    seen.content_types += 1;
                    seen.is_cmcd = is_cmcd(field.value);
                }
                13 if is("if-none-match") => {
                    seen.if_none_matches += 1;
                    seen.if_none_match = Some(field.value);
                }
                13 if is("authorization") => {
                    seen.authorizations += 1;
                    seen.authorization = Some(field.value);
                }
                14 if is("content-length") => {
                    seen.lengths += 1;
                    seen.length = field.value;
                }
                15 if is("accept-encoding") => {
                    seen.encodings += 1;
                    seen.gzip = takes_gzip(field.value);
                }
                15 if is("x-forwarded-for") => seen.forwarded_for = Some(field.value),
                17 if is("transfer-encoding") => seen.transfer_encoding = true,
                23 if is(ACCESS_TOKEN) => {
                    seen.access_tokens += 1;
                    seen.access_token = Some(field.value);
                }
                _ => {}
            }
        }
        Ok(seen)
    }

    /// How long the body is; `None` where the head does not say, which is no body (RFC 9112 §6.3).
    fn body(&self, method: Method) -> Result<Option<usize>, Malformed> {
        match (method, self.transfer_encoding, self.lengths) {
            (_, false, 0) => Ok(None),
            (_, false, 1) if self.length == b"0" => Ok(Some(0)),
            (Method::Post, false, 1) => posted(self.length).map(Some),
            (Method::Post, true, 0) => Err(Malformed::Length),
            _ => Err(Malformed::Body),
        }
    }
}

/// A length in its one spelling.
fn posted(text: &[u8]) -> Result<usize, Malformed> {
    if !text.iter().all(u8::is_ascii_digit) || matches!(text, [] | [b'0', ..]) {
        return Err(Malformed::Body);
    }
    // Digits that are no number are too many.
    let length = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
    if length > BODY_BYTES_MAX { Err(Malformed::BodyTooLong) } else { Ok(length) }
}

/// Whether a `Content-Type` is that of players' events; what it says beyond does not matter.
pub fn is_cmcd(content_type: &[u8]) -> bool {
    let named = content_type.split(|&byte| byte == b';').next().unwrap_or_default();
    named.trim_ascii().eq_ignore_ascii_case(CMCD.as_bytes())
}

/// Whether a byte may stand in a host and port (RFC 3986 §3.2.2; no user, no path, no list).
fn of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte)
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
