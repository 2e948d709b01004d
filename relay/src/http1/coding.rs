//! Whether a client takes an answer in gzip (RFC 9110 §12.5.3).
//!
//! In: the value of an `Accept-Encoding`. Out: yes or no. Pure, total, without allocation. Whoever does not name gzip gets
//! the plain bytes: `*` is no player's word for it.

/// Whether a list of codings has gzip with a weight above zero.
pub fn takes_gzip(list: &[u8]) -> bool {
    list.split(|&byte| byte == b',').any(|coding| {
        let mut words = coding.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let named = words.next().is_some_and(|name| name.eq_ignore_ascii_case(b"gzip"));
        named && words.all(|word| !is_zero(word))
    })
}

/// Whether a parameter is the weight zero: `q=0` to `q=0.000`.
fn is_zero(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', value @ ..] => value.iter().all(|byte| matches!(byte, b'0' | b'.')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_named_with_a_weight() {
        for list in [
            "gzip",
            "gzip, deflate, br, zstd",
            "br;q=1.0, GZIP;q=0.8",
            "identity ,gzip ; q=0.001",
            "gzip;q=1",
        ] {
            assert!(takes_gzip(list.as_bytes()), "{list}");
        }
        for list in [
            "",
            "identity",
            "*",
            "br",
            "gzip;q=0",
            "gzip; q=0.000",
            "gzip ;Q=0.0",
            "x-gzip",
            "gzipped",
            ",;,",
        ] {
            assert!(!takes_gzip(list.as_bytes()), "{list}");
        }
    }
}
