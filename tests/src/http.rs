//! A small strict HTTP/1.1 client (RFC 9112): one connection a request, so that a test sees every byte of an answer.
//!
//! In: a URL. Out: a whole `Response`, or an error when the answer is cut short or not well formed. It follows nothing by
//! itself and never repeats a request.

use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// The longest an answer may take; relays may hold a request for some segments' time.
const TIMEOUT: Duration = Duration::from_secs(40);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields in order; names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body without any transfer coding.
    pub body: Vec<u8>,
}

impl Response {
    /// The first field of that name (lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self) -> Result<&str> {
        Ok(std::str::from_utf8(&self.body)?)
    }

    /// The response itself if it is a 200.
    ///
    /// # Errors
    /// Any other status.
    pub fn ok(self) -> Result<Response> {
        ensure!(self.status == 200, "status {}: {}", self.status, String::from_utf8_lossy(&self.body));
        Ok(self)
    }
}

/// `http://HOST:PORT/PATH` as host and path.
///
/// # Errors
/// Anything else.
pub fn split(url: &str) -> Result<(&str, &str)> {
    let rest = url.strip_prefix("http://").with_context(|| format!("{url} is not an http URL"))?;
    let at = rest.find('/').unwrap_or(rest.len());
    Ok((&rest[..at], if at == rest.len() { "/" } else { &rest[at..] }))
}

/// A URI reference resolved against the URL of the document it stands in; only the forms that playlists use.
///
/// # Errors
/// When the base is not a URL.
pub fn join(base: &str, reference: &str) -> Result<String> {
    if reference.starts_with("http://") {
        return Ok(reference.to_owned());
    }
    let (host, path) = split(base)?;
    if reference.starts_with('/') {
        return Ok(format!("http://{host}{reference}"));
    }
    let path = path.split('?').next().unwrap_or(path);
    let folder = &path[..=path.rfind('/').context("a path starts with /")?];
    Ok(format!("http://{host}{folder}{reference}"))
}

/// GET.
///
/// # Errors
/// When there is no whole answer.
pub fn get(url: &str) -> Result<Response> {
    request("GET", url, &[])
}

/// Any request without a body.
///
/// # Errors
/// When there is no whole answer.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Result<Response> {
    say(method, url, headers, &[])
}

/// POST.
///
/// # Errors
/// When there is no whole answer.
pub fn post(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response> {
    let length = body.len().to_string();
    say("POST", url, &[headers, &[("Content-Length", length.as_str())]].concat(), body)
}

fn say(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response> {
    let (host, path) = split(url)?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    let answer = exchange(host, &[head.as_bytes(), body].concat())?;
    parse(&answer, method == "HEAD").with_context(|| format!("{method} {path} at {host}"))
}

/// Sends bytes as they are and reads until the other side closes.
///
/// # Errors
/// When the connection fails or stays silent.
pub fn exchange(host: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut socket = TcpStream::connect(host).with_context(|| host.to_owned())?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    socket.write_all(bytes)?;
    let mut answer = Vec::new();
    socket.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

fn parse(answer: &[u8], head_only: bool) -> Result<Response> {
    let end =
        answer.windows(4).position(|four| four == b"\r\n\r\n").context("the answer has no end of header")?;
    let head = std::str::from_utf8(&answer[..end])?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().context("no status line")?;
    let status =
        status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).context("no status line")?;
    let mut response = Response { status: status.parse()?, headers: Vec::new(), body: Vec::new() };
    for line in lines {
        let (name, value) = line.split_once(':').with_context(|| format!("header line {line:?}"))?;
        response.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let body = &answer[end + 4..];
    if head_only || response.status == 204 || response.status == 304 {
        ensure!(body.is_empty(), "{} bytes of body where none may be", body.len());
        return Ok(response);
    }
    response.body = match (response.header("content-length"), response.header("transfer-encoding")) {
        (Some(length), None) => {
            let length: usize = length.parse()?;
            ensure!(body.len() == length, "body of {} bytes, announced as {length}", body.len());
            body.to_vec()
        }
        (None, Some("chunked")) => unchunk(body)?,
        other => bail!("neither length nor chunks: {other:?}"),
    };
    Ok(response)
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").context("chunk without a size")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end])?, 16)?;
        rest = &rest[end + 2..];
        if size == 0 {
            ensure!(rest == b"\r\n", "bytes after the last chunk");
            return Ok(body);
        }
        body.extend_from_slice(rest.get(..size).context("cut chunk")?);
        rest = rest[size..].strip_prefix(b"\r\n").context("chunk without its end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_answer_is_an_error() {
        assert!(parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab", false).is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", false).is_err());
        let whole =
            parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", false);
        assert_eq!(whole.unwrap().body, b"ab");
    }

    #[test]
    fn references_resolve() {
        let base = "http://127.0.0.1:1/v/s/index.m3u8?x=/";
        assert_eq!(join(base, "video/1.m4s").unwrap(), "http://127.0.0.1:1/v/s/video/1.m4s");
        assert_eq!(join(base, "/a").unwrap(), "http://127.0.0.1:1/a");
    }
}
