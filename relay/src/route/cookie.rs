//! The session that a browser carries in its cookie: read from a request, written for an admitted viewer.
//!
//! In: the value of a `Cookie` field (RFC 6265 §4.2.1), or a credential. Out: the other one. Pure. The cookie belongs to one
//! stream's paths, so that a viewer may watch several at once, and is for the relay's own site only: pages of other sites may
//! not read answers that were asked for with cookies.

use ingest_api::StreamName;
use std::fmt::Write;

/// Its name.
pub const NAME: &str = "releve";

/// Whether a `name=value` is this cookie.
pub fn is_ours(pair: &[u8]) -> bool {
    value(pair).is_some()
}

fn value(pair: &[u8]) -> Option<&[u8]> {
    pair.trim_ascii().strip_prefix(NAME.as_bytes())?.strip_prefix(b"=")
}

/// The credential of a field, if it has exactly one: which of two counts must not be a question.
pub fn of_field(field: &[u8]) -> Option<&str> {
    let mut found = field.split(|&byte| byte == b';').filter_map(value);
    let credential = found.next().filter(|_| found.next().is_none())?;
    std::str::from_utf8(credential).ok()
}

/// `Set-Cookie` for a viewer who may watch for so many seconds. `secure`: viewers come by TLS only.
pub fn set(stream: &StreamName, credential: &str, watch_s: u64, secure: bool) -> String {
    let mut text =
        format!("{NAME}={credential}; Path=/c/{stream}/; Max-Age={watch_s}; HttpOnly; SameSite=Lax");
    if secure {
        let _ = write!(text, "; Secure"); // a String takes it
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_counts() {
        assert_eq!(of_field(b"releve=abc"), Some("abc"));
        assert_eq!(of_field(b"a=b; releve=abc;c=d"), Some("abc"));
        assert_eq!(of_field(b"releve="), Some(""));
        for none in [
            &b""[..],
            b"releve",
            b"xreleve=a",
            b"Releve=a",
            b"releve=a; releve=a",
            b"a=releve=b",
            b"releve=\xff",
        ] {
            assert_eq!(of_field(none), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_set_is_read_again() {
        let stream: StreamName = "demo".parse().unwrap();
        let set = set(&stream, "abc", 60, true);
        assert_eq!(set, "releve=abc; Path=/c/demo/; Max-Age=60; HttpOnly; SameSite=Lax; Secure");
        assert_eq!(of_field(set.split(';').next().unwrap().as_bytes()), Some("abc"));
    }
}
