//! Akamai's EdgeAuth token (Auth Token 2.0): what an edge of theirs asks for before it gives a file.
//!
//! ```text
//! [st=UNIX~]exp=UNIX[~acl=PATTERN[!PATTERN…]][~id=TEXT][~data=TEXT]~hmac=HEX
//! HEX   HMAC-SHA-256 over all before `~hmac`, then [~url=PATH][~salt=TEXT], which the edge knows without being told
//! ```
//!
//! As Akamai's open libraries write it (PyPI `akamai-edgeauth` 0.3.2, npm `akamai-edgeauth` 0.2.0), without what those call
//! obsolete: no `ip`, no MD5, no SHA-1. In: a key, what to say. Out: the token. Pure: the caller brings the time.
//!
//! With `escape` (the property's "Escape token input") `id`, `data` and `url` are written as `%xx`, in small letters. Both
//! libraries agree on that but for ` `, `!`, `(`, `)` and `~`: texts with those are refused, and so is what would end a
//! field or the query it stands in.

use releve_watermark::Key;
use ring::hmac;
use thiserror::Error;

/// What a token opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens<'a> {
    /// All paths that fit one of these patterns, with `*` and `?`.
    Acl(&'a [&'a str]),
    /// This path. It is not in the token: the edge takes the request's own.
    Url(&'a str),
}

/// What a token says.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// First second it opens, Unix time, if it says so.
    pub from_unix_s: Option<u64>,
    /// Last second it opens, Unix time.
    pub until_unix_s: u64,
    /// What it opens.
    pub opens: Opens<'a>,
    /// Whose it is.
    pub id: Option<&'a str>,
    /// What else the edge is told.
    pub data: Option<&'a str>,
    /// What the edge knows beside the key.
    pub salt: Option<&'a str>,
    /// Whether `id`, `data` and the path are escaped.
    pub escape: bool,
}

impl<'a> Said<'a> {
    /// A token that opens this until then, and says no more.
    pub fn until(until_unix_s: u64, opens: Opens<'a>) -> Said<'a> {
        Said { from_unix_s: None, until_unix_s, opens, id: None, data: None, salt: None, escape: false }
    }
}

/// Makes a token.
///
/// # Errors
/// Names the field that cannot be written; no part of it, nor of the key.
pub fn mint(key: &Key, said: &Said<'_>) -> Result<String, EdgeAuthError> {
    if said.from_unix_s.is_some_and(|from| from >= said.until_unix_s) {
        return Err(EdgeAuthError::Over);
    }
    let mut token = String::with_capacity(192);
    if let Some(from) = said.from_unix_s {
        token += &format!("st={from}~");
    }
    token += &format!("exp={}", said.until_unix_s);
    if let Opens::Acl(patterns) = said.opens {
        let plain = |pattern: &&str| {
            pattern.starts_with('/') && pattern.bytes().all(|byte| byte != b'!' && is_plain(byte))
        };
        if patterns.is_empty() || !patterns.iter().all(plain) {
            return Err(EdgeAuthError::Field("acl"));
        }
        token += "~acl=";
        token += &patterns.join("!");
    }
    for (name, text) in [("id", said.id), ("data", said.data)] {
        if let Some(text) = text {
            token.extend(["~", name, "=", &written(name, text, said.escape)?]);
        }
    }
    let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key.secret()));
    mac.update(token.as_bytes());
    if let Opens::Url(path) = said.opens {
        let path = if path.starts_with('/') { written("url", path, said.escape)? } else { String::new() };
        if path.is_empty() {
            return Err(EdgeAuthError::Field("url"));
        }
        mac.update(b"~url=");
        mac.update(path.as_bytes());
    }
    if let Some(salt) = said.salt {
        mac.update(b"~salt=");
        mac.update(salt.as_bytes());
    }
    token += "~hmac=";
    token += &hex::encode(mac.sign());
    Ok(token)
}

/// What may stand in a field, and in a query, as it is.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"~&#\"%".contains(&byte)
}

fn written(field: &'static str, text: &str, escape: bool) -> Result<String, EdgeAuthError> {
    let fits = match escape {
        false => text.bytes().all(is_plain),
        true => !text.bytes().any(|byte| byte.is_ascii_control() || b" !()~".contains(&byte)),
    };
    if !fits || text.is_empty() {
        return Err(EdgeAuthError::Field(field));
    }
    if !escape {
        return Ok(text.to_owned());
    }
    let mut escaped = String::with_capacity(3 * text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            escaped.push(byte.into());
        } else {
            escaped += &format!("%{byte:02x}");
        }
    }
    Ok(escaped)
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EdgeAuthError {
    /// A field is empty, or has a character that would end it or that Akamai's libraries write differently.
    #[error(
        "`{0}` cannot be written into an EdgeAuth token: it is empty, begins with no `/` where it must, or has a character that does not fit"
    )]
    Field(&'static str),
    /// It would end before it begins.
    #[error("the token would end before it begins")]
    Over,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Made by the library on PyPI; `vectors/edge_auth.py` is the program.
    const VECTORS: &str = include_str!("../vectors/edge-auth.json");

    fn key() -> Key {
        Key::new(1, std::array::from_fn(|at| at as u8))
    }

    #[test]
    fn tokens_are_those_of_akamais_library() {
        let vectors: Vec<Value> = serde_json::from_str(VECTORS).unwrap();
        assert!(vectors.len() >= 10);
        for vector in &vectors {
            let text = |name: &str| vector[name].as_str();
            let acl: Vec<&str> =
                vector["acl"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let said = Said {
                from_unix_s: vector["start_time"].as_u64(),
                until_unix_s: vector["end_time"].as_u64().unwrap(),
                opens: text("url").map_or(Opens::Acl(&acl), Opens::Url),
                id: text("session_id"),
                data: text("payload"),
                salt: text("salt"),
                escape: vector["escape_early"].as_bool().unwrap(),
            };
            assert_eq!(mint(&key(), &said).as_deref(), Ok(text("token").unwrap()), "{vector}");
        }
    }

    #[test]
    fn nobody_writes_a_field_of_their_own() {
        let said = Said::until(9, Opens::Acl(&["/cdn/demo/*"]));
        for text in ["", "a~acl=/*", "a&b", "a#b", "a b", "a\"b", "a%7eb", "\u{e9}", "a\nb"] {
            for (id, data) in [(Some(text), None), (None, Some(text))] {
                let refused = mint(&key(), &Said { id, data, ..said });
                assert!(matches!(refused, Err(EdgeAuthError::Field("id" | "data"))), "{text:?} {refused:?}");
            }
        }
        for text in ["", "a~b", "a b", "a!b", "(a", "a)", "a\nb"] {
            let refused = mint(&key(), &Said { id: Some(text), escape: true, ..said });
            assert_eq!(refused, Err(EdgeAuthError::Field("id")), "{text:?}");
        }
        for acl in [&[][..], &["cdn/*"], &[""], &["/a!/b"], &["/a", "/b~exp=1"], &["/a&b"]] {
            let refused = mint(&key(), &Said::until(9, Opens::Acl(acl)));
            assert_eq!(refused, Err(EdgeAuthError::Field("acl")), "{acl:?}");
        }
        for url in ["", "a", "/a~salt=b", "/a b"] {
            let refused = mint(&key(), &Said::until(9, Opens::Url(url)));
            assert_eq!(refused, Err(EdgeAuthError::Field("url")), "{url:?}");
        }
        assert_eq!(mint(&key(), &Said { from_unix_s: Some(9), ..said }), Err(EdgeAuthError::Over));
    }
}
