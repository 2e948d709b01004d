//! One service of somebody else, asked over HTTP: an identity provider's keys, an operator's webhook, a DRM key server.
//!
//! In: a URL of the configuration, a request. Out: status and body, or why not. Certificates are checked against the
//! system's roots. Redirects are not followed, an answer is bounded in bytes and time, and no error repeats a body.

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::time::timeout;

/// What a URL must be like.
pub const RULE: &str = "must be an https:// URL (keys may be a file); http:// only to this machine, without user name or fragment";

/// Connections that are kept for the next request.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// A service and the connections to it.
#[derive(Debug)]
pub struct Outside {
    url: hyper::Uri,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Whether a URL may be asked: what comes over it decides who comes in, so nobody on the way may change it.
pub fn may_ask(url: &str) -> bool {
    let Ok(uri) = url.parse::<hyper::Uri>() else { return false };
    let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else { return false };
    let here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
    let scheme = uri.scheme_str();
    (scheme == Some("https") || scheme == Some("http") && here)
        && !authority.as_str().contains('@')
        && !url.contains('#')
        && !host.is_empty()
}

impl Outside {
    /// The service at a URL; no connection is made yet.
    ///
    /// # Errors
    /// When the URL may not be asked, or the system's root certificates cannot be read.
    pub fn new(url: &str, patience: Duration) -> Result<Outside, OutsideError> {
        if !may_ask(url) {
            return Err(OutsideError::Url);
        }
        let url: hyper::Uri = url.parse().map_err(|_| OutsideError::Url)?;
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(patience));
        // The provider is named: another one in the build must not make it a question.
        let (tls, provider) = (HttpsConnectorBuilder::new(), aws_lc_rs::default_provider());
        let connector = if url.scheme_str() == Some("https") {
            let rooted = tls.with_provider_and_native_roots(provider);
            let rooted = rooted.map_err(|error| OutsideError::Roots(error.to_string()))?;
            rooted.https_only().enable_http1().wrap_connector(connector)
        } else {
            // To this machine in plain: no certificates are needed, and there may be none.
            tls.with_tls_config(no_roots(provider)?).https_or_http().enable_http1().wrap_connector(connector)
        };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Ok(Outside { url, client })
    }

    /// Fetches what is there: the status must be 200.
    ///
    /// # Errors
    /// When it does not answer in time, or otherwise.
    pub async fn get(&self, bytes_max: usize, patience: Duration) -> Result<Bytes, OutsideError> {
        let request = Request::get(self.url.clone()).header("accept", "application/json");
        match self.ask(request, Bytes::new(), bytes_max, patience).await? {
            (200, body) => Ok(body),
            (status, _) => Err(OutsideError::Status(status)),
        }
    }

    /// Posts a body with these headers, its content type among them; any status is an answer.
    ///
    /// # Errors
    /// When it does not answer in time, or too much.
    pub async fn post(
        &self,
        headers: &[(&str, &str)],
        body: Bytes,
        bytes_max: usize,
        patience: Duration,
    ) -> Result<(u16, Bytes), OutsideError> {
        let mut request = Request::post(self.url.clone());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.ask(request, body, bytes_max, patience).await
    }

    async fn ask(
        &self,
        request: hyper::http::request::Builder,
        body: Bytes,
        bytes_max: usize,
        patience: Duration,
    ) -> Result<(u16, Bytes), OutsideError> {
        let request = request.body(Full::new(body)).map_err(|_| OutsideError::Url)?;
        let asked = async {
            let response = self.client.request(request).await.map_err(|error| failed(&error))?;
            let status = response.status().as_u16();
            let (mut body, mut read) = (response.into_body(), BytesMut::new());
            while let Some(frame) = body.frame().await {
                let Ok(bytes) = frame.map_err(|error| failed(&error))?.into_data() else { continue };
                if read.len() + bytes.len() > bytes_max {
                    return Err(OutsideError::TooLarge { bytes_max });
                }
                read.extend_from_slice(&bytes);
            }
            Ok((status, read.freeze()))
        };
        timeout(patience, asked).await.map_err(|_| OutsideError::Silent)?
    }
}

fn no_roots(provider: CryptoProvider) -> Result<ClientConfig, OutsideError> {
    let versions =
        ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| OutsideError::Roots(error.to_string()))?;
    Ok(versions.with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

/// The innermost cause: that is where the words an operator needs are.
fn failed(error: &(dyn std::error::Error + 'static)) -> OutsideError {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    OutsideError::Connection(cause.to_string())
}

/// Why a service gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OutsideError {
    /// The URL is none that is asked.
    #[error("the URL {RULE}")]
    Url,
    /// No root certificates.
    #[error("the system's root certificates cannot be read: {0}")]
    Roots(String),
    /// No connection, or it broke.
    #[error("no connection: {0}")]
    Connection(String),
    /// It did not answer in time.
    #[error("no answer in time")]
    Silent,
    /// It answered otherwise; redirects too are not followed.
    #[error("it answers with status {0}")]
    Status(u16),
    /// More than anything of that kind may have.
    #[error("the answer has more than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_on_the_way_may_change_the_answer() {
        for good in
            ["https://id.example.org/keys?x=1", "http://127.0.0.1:80/", "http://[::1]/a", "http://localhost/"]
        {
            assert!(may_ask(good), "{good}");
        }
        for bad in [
            "",
            "keys.json",
            "http://id.example.org/keys",
            "http://127.0.0.1.example.org/",
            "http://127.1/",
            "https://user:secret@id.example.org/",
            "https:///keys",
            "https://id.example.org/#x",
            "ftp://127.0.0.1/",
            "file:///etc/passwd",
        ] {
            assert!(!may_ask(bad), "{bad}");
        }
    }
}
