//! What a request's conditions make of an answer that is at hand (RFC 9110 §13, §14).
//!
//! In: the request, the object's length and entity tag. Out: the whole, a part, "not modified" or "outside". Pure.

use super::request::{Method, Request};
use crate::route::range::{Span, span};

/// What of an answer's body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it.
    Whole,
    /// 206: the bytes from `start` up to, not including, `end`; at least one.
    Part {
        /// First byte.
        start: usize,
        /// The byte after the last one.
        end: usize,
    },
    /// 304: the client has it.
    NotModified,
    /// 416: no byte of the range is in the object.
    Outside,
}

/// Decides in the order of RFC 9110 §13.2.2: `If-None-Match`, then `Range`, which only GET has. `etag` is the tag with its
/// quotes; objects without one are never "not modified".
pub fn outcome(request: &Request<'_>, len: usize, etag: Option<&str>) -> Outcome {
    if let (Some(list), Some(etag)) = (request.if_none_match, etag)
        && names(list, etag.as_bytes())
    {
        return Outcome::NotModified;
    }
    let range = if request.method == Method::Get { request.range } else { None };
    match span(range, len) {
        Span::Whole => Outcome::Whole,
        Span::Part { start, end } => Outcome::Part { start, end },
        Span::Outside => Outcome::Outside,
    }
}

impl Outcome {
    /// The status of an answer that is 200 when whole.
    pub fn status(self) -> u16 {
        match self {
            Outcome::Whole => 200,
            Outcome::Part { .. } => 206,
            Outcome::NotModified => 304,
            Outcome::Outside => 416,
        }
    }
}

/// Whether a list of entity tags names this one, by weak comparison (RFC 9110 §8.8.3.2). A list that does not follow the
/// grammar names nothing from there on.
fn names(list: &[u8], etag: &[u8]) -> bool {
    let opaque = etag.strip_prefix(b"W/").unwrap_or(etag);
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        rest = rest.trim_ascii_start();
        while let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
        }
        rest = rest.strip_prefix(b"W/").unwrap_or(rest);
        let Some(inner) = rest.strip_prefix(b"\"") else { return false };
        let Some(close) = inner.iter().position(|&byte| byte == b'"') else { return false };
        if &rest[..close + 2] == opaque {
            return true;
        }
        rest = inner[close + 1..].trim_ascii_start();
        if !rest.starts_with(b",") {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get<'a>(range: Option<&'a str>, if_none_match: Option<&'a [u8]>) -> Request<'a> {
        Request {
            method: Method::Get,
            target: b"/",
            is_http_10: false,
            keep_alive: true,
            range,
            if_none_match,
            gzip: false,
            cookie: None,
            access_token: None,
            authorization: None,
            user_agent: None,
            forwarded_for: None,
            body: None,
            is_cmcd: false,
            source: None,
        }
    }

    #[test]
    fn a_tag_is_found_in_a_list_by_weak_comparison() {
        for list in
            [r#""a""#, r#"W/"a""#, "*", r#""b", "a""#, r#""b" ,W/"a","c""#, r#", ,"a""#, r#""x,y" , "a""#]
        {
            assert_eq!(
                outcome(&get(None, Some(list.as_bytes())), 9, Some(r#""a""#)),
                Outcome::NotModified,
                "{list}"
            );
            assert_eq!(
                outcome(&get(None, Some(list.as_bytes())), 9, Some(r#"W/"a""#)),
                Outcome::NotModified,
                "{list}"
            );
        }
        for list in
            ["", "a", r#""A""#, r#""b""#, r#""a"#, r#""b" "a""#, r#""b";"a""#, r#"w/"a""#, "**", r#"b,"a""#]
        {
            assert_eq!(
                outcome(&get(None, Some(list.as_bytes())), 9, Some(r#""a""#)),
                Outcome::Whole,
                "{list}"
            );
        }
        assert_eq!(outcome(&get(None, Some(b"*")), 9, None), Outcome::Whole);
    }

    #[test]
    fn the_tag_is_asked_before_the_range_and_only_get_has_ranges() {
        let part = Outcome::Part { start: 2, end: 4 };
        assert_eq!(outcome(&get(Some("bytes=2-3"), None), 9, Some(r#""a""#)), part);
        assert_eq!(outcome(&get(Some("bytes=2-3"), Some(br#""b""#)), 9, Some(r#""a""#)), part);
        assert_eq!(
            outcome(&get(Some("bytes=2-3"), Some(br#""a""#)), 9, Some(r#""a""#)),
            Outcome::NotModified
        );
        assert_eq!(outcome(&get(Some("bytes=9-"), None), 9, None), Outcome::Outside);
        let head = Request { method: Method::Head, ..get(Some("bytes=2-3"), None) };
        assert_eq!(outcome(&head, 9, None), Outcome::Whole);
    }
}
