//! One byte range of an object (RFC 9110 §14): players cut large objects and resume broken ones.
//!
//! In: the value of a `Range` header and the object's length. Out: which bytes, everything, or nothing. Pure.

/// What a `Range` header asks of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The whole object: no range, several ranges, or one that is not understood (a server may pass those over).
    Whole,
    /// The bytes from `start` up to, not including, `end`; at least one.
    Part {
        /// First byte.
        start: usize,
        /// The byte after the last one.
        end: usize,
    },
    /// None of the object's bytes: 416.
    Outside,
}

/// Reads a `Range` header for an object of `len` bytes.
pub fn span(header: Option<&str>, len: usize) -> Span {
    header.and_then(|header| single(header, len)).unwrap_or(Span::Whole)
}

fn single(header: &str, len: usize) -> Option<Span> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(first) || !digits(last) || (first.is_empty() && last.is_empty()) {
        return None;
    }
    // A number beyond usize lies beyond any object: it saturates.
    let number = |text: &str| text.parse().unwrap_or(usize::MAX);
    let (start, end) = match (first, last) {
        ("", suffix) => (len.saturating_sub(number(suffix)), len),
        (first, "") => (number(first), len),
        (first, last) if number(last) < number(first) => return None,
        (first, last) => (number(first), number(last).saturating_add(1).min(len)),
    };
    Some(if start < end { Span::Part { start, end } } else { Span::Outside })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood_in_its_three_forms() {
        let part = |start, end| Span::Part { start, end };
        assert_eq!(span(None, 10), Span::Whole);
        assert_eq!(span(Some("bytes=0-0"), 10), part(0, 1));
        assert_eq!(span(Some("bytes=3-"), 10), part(3, 10));
        assert_eq!(span(Some("bytes=-4"), 10), part(6, 10));
        assert_eq!(span(Some("bytes=-99"), 10), part(0, 10));
        assert_eq!(span(Some("bytes=8-99"), 10), part(8, 10));
        assert_eq!(span(Some("bytes=9-99999999999999999999999"), 10), part(9, 10));
    }

    #[test]
    fn what_lies_outside_is_outside_and_the_rest_is_passed_over() {
        for outside in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(span(Some(outside), 10), Span::Outside, "{outside}");
        }
        for other in [
            "bytes=0-1,3-4",
            "bytes=-",
            "bytes=a-b",
            "bytes=4-2",
            "bytes= 1-2",
            "lines=1-2",
            "",
            "bytes=+1-2",
        ] {
            assert_eq!(span(Some(other), 10), Span::Whole, "{other}");
        }
        assert_eq!(span(Some("bytes=0-"), 0), Span::Outside);
    }
}
