//! Asks nodes' admin listeners, for `relevectl`: one request, one answer.
//!
//! In: a base URL, a path, keys where the request must be signed. Out: status and JSON. Touches one socket; bounded in time
//! and bytes.

use anyhow::{Context, Result, bail, ensure};
use ingest_api::node_auth::{AUTH_HEADER, sign_request};
use releve_watermark::KeyRing;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A handover may take two seconds, a status page none.
const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_MAX: u64 = 16 << 20;

/// GET: status and body.
///
/// # Errors
/// The node cannot be reached, or does not answer in JSON.
pub fn get(base: &str, path: &str) -> Result<(u16, Value)> {
    ask(base, "GET", path, "")
}

/// POST, signed.
///
/// # Errors
/// As `get`.
pub fn post(base: &str, path: &str, cluster: &KeyRing) -> Result<(u16, Value)> {
    let mut nonce = [0; 16];
    SystemRandom::new().fill(&mut nonce).ok().context("the system gave no random bytes")?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (header, _) = sign_request(cluster, "POST", path, now, nonce);
    ask(base, "POST", path, &format!("{AUTH_HEADER}: {header}\r\ncontent-length: 0\r\n"))
}

fn ask(base: &str, method: &str, path: &str, headers: &str) -> Result<(u16, Value)> {
    let host = base.strip_prefix("http://").with_context(|| format!("{base} is not http://HOST:PORT"))?;
    let host = host.trim_end_matches('/');
    let at = host.to_socket_addrs().with_context(|| format!("{base}: no such host"))?.next();
    let mut socket =
        TcpStream::connect_timeout(&at.with_context(|| format!("{base}: no address"))?, PATIENCE)
            .with_context(|| format!("{base} does not answer"))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    write!(socket, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{headers}\r\n")?;
    let mut bytes = Vec::new();
    socket.take(ANSWER_MAX).read_to_end(&mut bytes).with_context(|| format!("{base} does not answer"))?;
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").context("no HTTP answer")?;
    let head = std::str::from_utf8(&bytes[..end]).context("no HTTP answer")?;
    let status: u16 = head.split(' ').nth(1).and_then(|word| word.parse().ok()).context("no HTTP answer")?;
    ensure!(!head.to_ascii_lowercase().contains("transfer-encoding"), "an answer in pieces");
    match serde_json::from_slice(&bytes[end + 4..]) {
        Ok(body) => Ok((status, body)),
        Err(_) => bail!("{base}{path}: status {status}, and no JSON"),
    }
}
