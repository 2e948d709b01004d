//! A request as an attacker makes it, and its answer, whichever version of HTTP carries them. Pure.

use http::{HeaderName, HeaderValue};

/// From where a request comes: sessions are bound to the network they were made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// That of all sessions.
    Home,
    /// Another one.
    Abroad,
}

/// A request without a body.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) target: String,
    pub(super) fields: Vec<(&'static str, String)>,
    /// Bytes that are sent instead of all that: only HTTP/1.1 can carry them, and the relay is to close after its answer.
    pub(super) raw: Option<Vec<u8>>,
    pub(super) from: Network,
}

impl Request {
    pub(super) fn get(target: impl Into<String>) -> Request {
        Request { method: "GET", target: target.into(), fields: Vec::new(), raw: None, from: Network::Home }
    }

    pub(super) fn raw(bytes: impl Into<Vec<u8>>) -> Request {
        Request { raw: Some(bytes.into()), ..Request::get("") }
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Request {
        self.fields.push((name, value.into()));
        self
    }

    pub(super) fn method(mut self, method: &'static str) -> Request {
        self.method = method;
        self
    }

    pub(super) fn is_head(&self) -> bool {
        self.raw.is_none() && self.method == "HEAD"
    }

    /// Its bytes over HTTP/1.1.
    pub(super) fn to_http1(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        let mut text = format!("{} {} HTTP/1.1\r\nHost: relay.example\r\n", self.method, self.target);
        for (name, value) in &self.fields {
            text.extend([name, ": ", value, "\r\n"]);
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// The same over HTTP/2; `None` where a client that keeps to the grammar cannot say it.
    pub(super) fn to_http2(&self) -> Option<http::Request<()>> {
        if self.raw.is_some() || !self.target.starts_with('/') {
            return None;
        }
        let mut request = http::Request::builder()
            .method(self.method)
            .uri(format!("https://relay.example{}", self.target))
            .body(())
            .ok()?;
        let said = request.uri().path_and_query().map(http::uri::PathAndQuery::as_str);
        if said != Some(self.target.as_str()) {
            return None; // it would be made another one on the way
        }
        for (name, value) in &self.fields {
            let name = HeaderName::try_from(name.to_ascii_lowercase()).ok()?;
            request.headers_mut().append(name, HeaderValue::try_from(value).ok()?);
        }
        Some(request)
    }
}

/// A whole answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    /// Bytes that came after it on a connection that was to end.
    pub(super) more: usize,
}

impl Answer {
    /// The first field of that name.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// Whether the relay closes the connection after it.
    pub(super) fn closes(&self) -> bool {
        self.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// The relay ended the connection, or the stream.
    Ended(String),
    /// Nothing came in time.
    Hung,
    /// What came is no answer.
    Strange(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_the_same_over_both_versions_or_is_not_said() {
        let request = Request::get("/v/a/b?x=1").with("Cookie", "a=b").with("Cookie", "c=d");
        let text = String::from_utf8(request.to_http1()).unwrap();
        assert_eq!(
            text,
            "GET /v/a/b?x=1 HTTP/1.1\r\nHost: relay.example\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n"
        );
        let second = request.to_http2().unwrap();
        assert_eq!(second.headers().get_all("cookie").iter().count(), 2);
        for target in ["//v/a", "/v/%2e%2e/a", "/v/../a", "/v/a;x?t[]=1", "/v\\a"] {
            assert_eq!(Request::get(target).to_http2().unwrap().uri().path_and_query().unwrap(), target);
        }
        for target in ["/v/a#b", "/a<b", "http://relay.example/a", "*"] {
            assert!(Request::get(target).to_http2().is_none(), "{target}");
        }
        assert!(Request::raw("x").to_http2().is_none());
    }
}
