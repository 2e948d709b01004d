//! A DRM key server, asked over HTTP (SPEKE 2.0): the keys of streams that are encrypted for DRM systems.
//!
//! In: the node's `[drm]`, `keys/drm.header`; which key is wanted. Out: the key, or why not. Touches the network and one
//! file. Neither keys nor answers are ever logged; errors name no more than the server's status.

use crate::config::Drm;
use crate::cpix::{self, CpixError, Given, System, Wanted};
use crate::state_dir::StateDir;
use bytes::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use releve_listen::outside::{Outside, OutsideError};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of an answer; one of three systems has about 8,000.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Why there is no key.
#[derive(Debug, Error)]
pub enum KeyServerError {
    /// The server was not reached, or did not answer in time.
    #[error(transparent)]
    Outside(#[from] OutsideError),
    /// It answered, and not with a key we can use.
    #[error("the answer gives no key: {0}")]
    Answer(#[from] CpixError),
}

/// What is wrong with `keys/drm.header`.
#[derive(Debug, Error)]
#[error("{path}: {what}", path = .path.display())]
pub struct HeaderError {
    path: PathBuf,
    what: String,
}

/// The server, and how it is asked.
#[derive(Debug)]
pub struct KeyServer {
    outside: Outside,
    systems: Vec<System>,
    header: Option<Header>,
}

/// A header that says who we are. Its `Debug` shows the name only.
struct Header {
    name: String,
    value: String,
}

impl std::fmt::Debug for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Header({}, ***)", self.name)
    }
}

impl KeyServer {
    /// The server of a configuration; it is not asked yet.
    ///
    /// # Errors
    /// A URL that may not be asked, or a header file that is wrong.
    pub fn new(drm: &Drm, dir: &StateDir) -> anyhow::Result<KeyServer> {
        let outside = Outside::new(&drm.url, PATIENCE)?;
        Ok(KeyServer { outside, systems: drm.systems.clone(), header: header(dir)? })
    }

    /// Asks for a key.
    ///
    /// # Errors
    /// When there is no answer, or none with a key.
    pub async fn ask(&self, wanted: &Wanted) -> Result<Given, KeyServerError> {
        let mut headers = vec![
            ("content-type", "application/xml"),
            ("accept", "application/xml"),
            ("x-speke-version", "2.0"),
            ("x-speke-user-agent", concat!("releve-ingest/", env!("CARGO_PKG_VERSION"))),
        ];
        headers.extend(self.header.as_ref().map(|header| (&*header.name, &*header.value)));
        let question = Bytes::from(cpix::question(wanted, &self.systems));
        let (status, body) = self.outside.post(&headers, question, ANSWER_BYTES_MAX, PATIENCE).await?;
        if status != 200 {
            return Err(OutsideError::Status(status).into());
        }
        let text = std::str::from_utf8(&body).map_err(|_| CpixError::Xml)?;
        Ok(cpix::answer(text, wanted, &self.systems)?)
    }
}

/// The line of `keys/drm.header`, where there is such a file.
fn header(dir: &StateDir) -> Result<Option<Header>, HeaderError> {
    let path = dir.drm_header();
    let wrong = |what: &str| HeaderError { path: path.clone(), what: what.to_owned() };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(&error.to_string())),
    };
    let mode = std::fs::metadata(&path).map_err(|error| wrong(&error.to_string()))?.mode();
    if mode & 0o077 != 0 {
        return Err(wrong("it may be read by others than its owner; run `chmod 600` on it"));
    }
    let shape = "it must be one line, `Name: value`, as `Authorization: Basic …`";
    let (name, value) = text.trim().split_once(':').ok_or_else(|| wrong(shape))?;
    let (name, value) = (name.trim(), value.trim());
    let good =
        name.parse::<HeaderName>().is_ok() && HeaderValue::from_str(value).is_ok() && !value.is_empty();
    if !good {
        return Err(wrong(shape));
    }
    Ok(Some(Header { name: name.to_owned(), value: value.to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_header_is_one_line_that_nobody_else_reads() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::at(folder.path());
        dir.init().unwrap();
        assert!(header(&dir).unwrap().is_none());
        let write = |text: &str, mode| {
            std::fs::write(dir.drm_header(), text).unwrap();
            std::fs::set_permissions(dir.drm_header(), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("Authorization: Basic c2VjcmV0\n", 0o600);
        let read = header(&dir).unwrap().unwrap();
        assert_eq!((&*read.name, &*read.value), ("Authorization", "Basic c2VjcmV0"));
        assert!(!format!("{read:?}").contains("c2VjcmV0"));
        for (text, mode) in [
            ("Authorization: Basic c2VjcmV0\n", 0o640),
            ("c2VjcmV0", 0o600),
            ("", 0o600),
            ("a: c2VjcmV0\nb: c2VjcmV0\n", 0o600),
            ("not a name: c2VjcmV0", 0o600),
            ("Authorization:", 0o600),
        ] {
            write(text, mode);
            let error = header(&dir).unwrap_err().to_string();
            assert!(error.contains("drm.header") && !error.contains("c2VjcmV0"), "{error}");
        }
    }
}
