//! Answers rendered once for all who get them.
//!
//! ```text
//! HTTP/1.1 200 OK ─ date ─ [connection]      per answer, in the connection's own buffer
//! content-length ─ fields ─ empty line ─ body     one shared buffer an object, rendered once
//! ```
//!
//! In: status, fields, and a body or the length of one that follows in slices. Out: a `Rendered`, cheap to clone. Pure.
//! RFC 9110 §8.6, §14.4, §15; RFC 9112 §4–6.

use super::condition::Outcome;
use super::date::Stamp;
use crate::node::answer::COMMON;
use bytes::Bytes;
use std::ops::Range;

/// Fields that the connection itself writes, or that would change where a message ends.
const OWN: [&str; 7] =
    ["content-length", "transfer-encoding", "connection", "keep-alive", "date", "trailer", "upgrade"];

/// A field that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Its name is no token of lower case letters, digits and `-`.
    #[error("field name {0:?} is not made of a-z, 0-9 and `-`")]
    Name(String),
    /// Its value has a byte that is no printable ASCII, space or tab.
    #[error("value of field {0:?} has a byte that is not printable ASCII")]
    Value(String),
    /// Only the connection may write it.
    #[error("field {0:?} is written by the connection")]
    Own(String),
}

/// An answer but for its status line and date: rendered once, sent often.
#[derive(Clone, Debug)]
pub struct Rendered {
    status: u16,
    /// Length line, fields, empty line, and the body if it is shared.
    bytes: Bytes,
    /// Where the fields lie.
    fields: Range<usize>,
    /// Where the body begins.
    head_len: usize,
    body_len: usize,
}

impl Rendered {
    /// An answer whose body is the same for everybody: head and body in one buffer.
    ///
    /// # Errors
    /// A field that cannot be written.
    pub fn shared<'f>(
        status: u16,
        fields: impl IntoIterator<Item = (&'f str, &'f str)>,
        body: &[u8],
    ) -> Result<Rendered, FieldError> {
        Rendered::new(status, fields, body.len(), body)
    }

    /// The head of an answer whose body, `body_len` bytes, comes in slices with each answer.
    ///
    /// # Errors
    /// A field that cannot be written.
    pub fn head<'f>(
        status: u16,
        fields: impl IntoIterator<Item = (&'f str, &'f str)>,
        body_len: usize,
    ) -> Result<Rendered, FieldError> {
        Rendered::new(status, fields, body_len, &[])
    }

    /// The shared body.
    pub fn shared_body(&self) -> &[u8] {
        &self.bytes[self.head_len..]
    }

    /// A bare status without a body; nobody keeps it.
    pub fn bare(status: u16) -> Rendered {
        Rendered::shared(status, [("cache-control", "no-store")], &[])
            .expect("a constant field can be written")
    }

    fn new<'f>(
        status: u16,
        fields: impl IntoIterator<Item = (&'f str, &'f str)>,
        body_len: usize,
        body: &[u8],
    ) -> Result<Rendered, FieldError> {
        let mut bytes = Vec::with_capacity(512 + body.len());
        if has_length(status) {
            number_field(&mut bytes, b"content-length: ", body_len);
        }
        let begin = bytes.len();
        for (name, value) in COMMON.into_iter().chain(fields) {
            checked(name, value)?;
            field(&mut bytes, name, value);
        }
        let fields = begin..bytes.len();
        bytes.extend_from_slice(b"\r\n");
        let head_len = bytes.len();
        bytes.extend_from_slice(body);
        Ok(Rendered {
            status,
            bytes: Bytes::from_owner(bytes.into_boxed_slice()),
            fields,
            head_len,
            body_len,
        })
    }

    /// The status of the whole answer.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The length of its body in bytes.
    pub fn body_len(&self) -> usize {
        self.body_len
    }

    /// The shared body, to be handed on.
    pub fn shared_bytes(&self) -> Bytes {
        self.bytes.slice(self.head_len..)
    }

    /// Its fields, each a line with CR LF, as the outcome has them, without date and connection.
    pub fn lines(&self, outcome: Outcome) -> Vec<u8> {
        let mut lines = Vec::with_capacity(512);
        match outcome {
            Outcome::Whole => lines.extend_from_slice(self.rest_of_head()),
            Outcome::Part { start, end } => part_head(&mut lines, self, &(start..end)),
            Outcome::NotModified => not_modified_head(&mut lines, self),
            Outcome::Outside => outside_head(&mut lines, self),
        }
        lines.truncate(lines.len() - 2); // the empty line
        lines
    }

    /// Whether its body is in the same buffer; otherwise it comes in slices.
    pub fn is_shared(&self) -> bool {
        self.bytes.len() - self.head_len == self.body_len
    }

    /// Length line, fields and empty line.
    pub(super) fn rest_of_head(&self) -> &[u8] {
        &self.bytes[..self.head_len]
    }

    /// The same with the shared body.
    pub(super) fn rest(&self) -> &Bytes {
        &self.bytes
    }

    /// A part of the shared body.
    pub(super) fn body(&self, part: Range<usize>) -> Bytes {
        self.bytes.slice(self.head_len + part.start..self.head_len + part.end)
    }

    /// The fields without length line and empty line.
    pub(super) fn fields(&self) -> &[u8] {
        &self.bytes[self.fields.clone()]
    }
}

/// What an answer says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Nothing: it stays open, as HTTP/1.1 has it.
    None,
    /// It stays open, which HTTP/1.0 must be told.
    KeepAlive,
    /// It closes.
    Close,
}

/// Status line, date, connection.
pub(super) fn opening(out: &mut Vec<u8>, status: u16, stamp: &Stamp, farewell: Farewell) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, usize::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(stamp.line());
    match farewell {
        Farewell::None => {}
        Farewell::KeepAlive => out.extend_from_slice(b"connection: keep-alive\r\n"),
        Farewell::Close => out.extend_from_slice(b"connection: close\r\n"),
    }
}

/// The rest of a 206's head.
pub(super) fn part_head(out: &mut Vec<u8>, whole: &Rendered, part: &Range<usize>) {
    number_field(out, b"content-length: ", part.len());
    out.extend_from_slice(b"content-range: bytes ");
    number(out, part.start);
    out.push(b'-');
    number(out, part.end - 1);
    number_field(out, b"/", whole.body_len);
    out.extend_from_slice(whole.fields());
    out.extend_from_slice(b"\r\n");
}

/// The rest of a 304's head: the fields that the whole answer would have, for the copy that the client holds.
pub(super) fn not_modified_head(out: &mut Vec<u8>, whole: &Rendered) {
    out.extend_from_slice(whole.fields());
    out.extend_from_slice(b"\r\n");
}

/// The rest of a 416's head. Nobody keeps it.
pub(super) fn outside_head(out: &mut Vec<u8>, whole: &Rendered) {
    number_field(out, b"content-length: ", 0);
    number_field(out, b"content-range: bytes */", whole.body_len);
    for (name, value) in COMMON {
        field(out, name, value);
    }
    out.extend_from_slice(b"cache-control: no-store\r\n\r\n");
}

/// Whether an answer of this status says a length: 204 and 304 never have a body (RFC 9110 §8.6).
fn has_length(status: u16) -> bool {
    status != 204 && status != 304
}

fn checked(name: &str, value: &str) -> Result<(), FieldError> {
    let of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if name.is_empty() || !name.bytes().all(of_name) {
        return Err(FieldError::Name(name.into()));
    }
    if OWN.contains(&name) {
        return Err(FieldError::Own(name.into()));
    }
    let of_value = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
    if value.bytes().all(of_value) { Ok(()) } else { Err(FieldError::Value(name.into())) }
}

fn field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn number_field(out: &mut Vec<u8>, before: &[u8], value: usize) {
    out.extend_from_slice(before);
    number(out, value);
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, mut value: usize) {
    let mut digits = [b'0'; 20]; // the digits of 2^64
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        206 => "Partial Content",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        414 => "URI Too Long",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "", // a reason may be empty (RFC 9112 §4)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_shared_answer_is_one_buffer_of_head_and_body() {
        let answer = Rendered::shared(200, [("content-type", "text/plain")], b"hello").unwrap();
        let text = std::str::from_utf8(answer.rest()).unwrap();
        assert!(text.starts_with("content-length: 5\r\nx-content-type-options: nosniff\r\n"), "{text}");
        assert!(text.ends_with("content-type: text/plain\r\n\r\nhello"), "{text}");
        assert!(answer.is_shared());
        assert_eq!(answer.body(1..3), "el");
        assert!(!Rendered::head(200, [], 5).unwrap().is_shared());
        assert!(!std::str::from_utf8(Rendered::bare(204).rest()).unwrap().contains("content-length"));
    }

    #[test]
    fn fields_that_would_split_or_frame_an_answer_are_refused() {
        let render = |name, value| Rendered::head(200, [(name, value)], 0).map(|_| ());
        for value in ["a\r\nset-cookie: x", "a\nb", "a\rb", "a\0", "é", "\u{7f}"] {
            assert_eq!(render("x", value), Err(FieldError::Value("x".into())), "{value:?}");
        }
        for name in ["", "A", "a b", "a:", "a\r\n", "é"] {
            assert_eq!(render(name, "v"), Err(FieldError::Name(name.into())), "{name:?}");
        }
        for name in OWN {
            assert_eq!(render(name, "v"), Err(FieldError::Own(name.into())), "{name:?}");
        }
    }

    #[test]
    fn parts_say_which_bytes_they_are() {
        let whole = Rendered::head(200, [("content-type", "video/mp4")], 100).unwrap();
        let mut out = Vec::new();
        part_head(&mut out, &whole, &(10..20));
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("content-length: 10\r\ncontent-range: bytes 10-19/100\r\n"), "{text}");
        assert!(text.ends_with("content-type: video/mp4\r\n\r\n"), "{text}");
        let mut out = Vec::new();
        outside_head(&mut out, &whole);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("content-length: 0\r\ncontent-range: bytes */100\r\n"), "{text}");
        assert!(text.ends_with("no-store\r\n\r\n") && !text.contains("video/mp4"), "{text}");
    }

    proptest! {
        #[test]
        fn numbers_are_decimal(value: usize) {
            let mut out = Vec::new();
            number(&mut out, value);
            prop_assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
