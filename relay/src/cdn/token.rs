//! The token that one viewer's addresses at the CDN carry in their query, for edges that ask for one (Akamai's EdgeAuth).
//!
//! In: the parameter's name, the key, the CDN's URL, whose session it is. Out: the query. Pure.
//!
//! It is the same for all of a session, from every relay: players give up when the address of a number is another one. So
//! it ends with the session, and opens all files of the stream, which nobody finds without their names.

use crate::session::Session;
use ingest_api::edge_auth::{EdgeAuthError, Opens, Said, mint};
use releve_watermark::Key;

/// The query of one session's addresses, with its `?`. `base` is the CDN's URL without a slash at its end; `id` is what the
/// CDN's log may say of the session.
///
/// # Errors
/// When the URL's path cannot stand in a token.
pub fn query(
    name: &str,
    key: &Key,
    base: &str,
    session: &Session,
    id: &str,
) -> Result<String, EdgeAuthError> {
    let path = super::origin(base).map_or("", |origin| &base[origin.len()..]);
    let files = format!("{path}/cdn/{}/*", session.stream);
    let files = [files.as_str()];
    let said = Said { id: Some(id), ..Said::until(session.watch_until_unix_s, Opens::Acl(&files)) };
    Ok(format!("?{name}={}", mint(key, &said)?))
}

/// Whether a query may have a parameter of this name besides those that mean something here.
pub fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let ours = ["s", "token", "CAT", "CMCD"].contains(&name) || name.starts_with("_HLS_");
    (1..=32).contains(&name.len()) && name.bytes().all(plain) && !ours
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Binding;
    use releve_watermark::WatermarkId;

    /// Computed with npm's `akamai-edgeauth` 0.2.0.
    const KNOWN: &str = "?hdnts=exp=4102444800~acl=/tv/cdn/demo/*~id=5e0c1f2a~hmac=36c1482695d1ea7093503003f2f1ea177afefdc8e420f858a2ed2fb00560716c";

    #[test]
    fn known_answer() {
        let session = Session {
            id: [1; 16],
            watermark_id: WatermarkId::of_viewer("alice"),
            stream: "demo".parse().unwrap(),
            issued_unix_s: 0,
            watch_until_unix_s: 4_102_444_800,
            asked: false,
            counted: false,
            bound: Binding::default(),
        };
        let key = Key::new(1, std::array::from_fn(|at| at as u8));
        let of = |base| query("hdnts", &key, base, &session, "5e0c1f2a");
        assert_eq!(of("https://cdn.example.org/tv").as_deref(), Ok(KNOWN));
        let root = of("https://cdn.example.org").unwrap();
        assert!(root.contains("~acl=/cdn/demo/*~"), "{root}");
        assert_eq!(of("https://cdn.example.org/~tv"), Err(EdgeAuthError::Field("acl")));
    }

    #[test]
    fn a_parameter_means_one_thing() {
        for name in ["hdnts", "hdnea", "__token__", "x"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "s", "token", "CAT", "CMCD", "_HLS_msn", "a-b", "a=b", "\u{e9}", &"x".repeat(33)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
