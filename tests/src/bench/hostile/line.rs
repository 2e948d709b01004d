//! Connections to the relay from addresses of the caller's choice: HTTP/1.1 in the clear, HTTP/2 through TLS.
//!
//! In: where to, where from, requests. Out: whole answers, or why there is none. Nothing is asked a second time here.

use super::wire::{Answer, Lost};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// The longest an answer, or the end of a connection, may take: the relay holds nobody for more than 10 s.
pub(super) const BOUND: Duration = Duration::from_secs(20);
/// The longest head that is read.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// The longest body that is read.
const BODY_BYTES_MAX: usize = 64 << 20;
/// What may be under way on a connection, and on one stream of it.
const WINDOW: u32 = 4 << 20;

/// Where the relay listens.
#[derive(Clone)]
pub(super) struct Doors {
    pub(super) plain: SocketAddr,
    pub(super) tls: SocketAddr,
    /// What a client of the latter trusts.
    pub(super) trust: Arc<ClientConfig>,
}

/// A client that offers HTTP/2.
pub(super) fn trust() -> Result<Arc<ClientConfig>> {
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(crate::certificate::roots()?)
            .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

async fn socket(to: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind((from, 0).into())?;
    let socket = socket.connect(to).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// A connection that speaks HTTP/1.1.
pub(super) struct Line {
    socket: TcpStream,
    read: Vec<u8>,
    /// Whether it has carried an answer: only then the relay may have ended it meanwhile.
    pub(super) used: bool,
}

impl Line {
    pub(super) async fn connect(to: SocketAddr, from: Ipv4Addr) -> Result<Line, Lost> {
        match timeout(BOUND, socket(to, from)).await {
            Ok(Ok(socket)) => Ok(Line { socket, read: Vec::with_capacity(HEAD_BYTES_MAX), used: false }),
            Ok(Err(error)) => Err(Lost::Ended(format!("cannot connect: {error}"))),
            Err(_) => Err(Lost::Hung),
        }
    }

    /// Sends bytes and reads one answer.
    pub(super) async fn ask(&mut self, bytes: &[u8], is_head: bool) -> Result<Answer, Lost> {
        let asked = async {
            // The relay may have refused it before it was whole: its answer counts.
            let sent = self.socket.write_all(bytes).await;
            match self.answer(is_head).await {
                Err(Lost::Ended(why)) if sent.is_err() => Err(Lost::Ended(format!("{why}, {sent:?}"))),
                answer => answer,
            }
        };
        let answer = timeout(BOUND, asked).await.unwrap_or(Err(Lost::Hung))?;
        self.used = true;
        Ok(answer)
    }

    /// How many bytes come until the relay ends the connection.
    pub(super) async fn rest(&mut self) -> Result<usize, Lost> {
        let rest = async {
            let mut count = self.read.len();
            while let Ok(more @ 1..) = self.more().await {
                count += more;
                self.read.clear();
            }
            count
        };
        timeout(BOUND, rest).await.map_err(|_| Lost::Hung)
    }

    /// Sends bytes of which the relay may not want to hear.
    pub(super) async fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).await.is_ok()
    }

    async fn more(&mut self) -> io::Result<usize> {
        self.socket.read_buf(&mut self.read).await
    }

    async fn answer(&mut self, is_head: bool) -> Result<Answer, Lost> {
        let ended = |error: io::Error| Lost::Ended(error.to_string());
        let mut searched = 0;
        let end = loop {
            let found = self.read[searched..].windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break searched + at + 4;
            }
            if self.read.len() > HEAD_BYTES_MAX {
                return Err(Lost::Strange("a head without an end".to_owned()));
            }
            searched = self.read.len().saturating_sub(3);
            if self.more().await.map_err(ended)? == 0 {
                return Err(Lost::Ended(format!("closed after {} bytes", self.read.len())));
            }
        };
        let mut answer = head(&self.read[..end]).map_err(|error| Lost::Strange(format!("{error:#}")))?;
        let has_body = !is_head && !matches!(answer.status, 204 | 304);
        let length = match answer.field("content-length").map(str::parse::<usize>) {
            _ if !has_body => 0,
            Some(Ok(length)) if length <= BODY_BYTES_MAX => length,
            other => return Err(Lost::Strange(format!("a body of length {other:?}"))),
        };
        self.read.reserve((end + length).saturating_sub(self.read.len()));
        while self.read.len() < end + length {
            if self.more().await.map_err(ended)? == 0 {
                return Err(Lost::Ended(format!("closed within a body of {length} bytes")));
            }
        }
        answer.body = self.read[end..end + length].to_vec();
        self.read.drain(..end + length);
        Ok(answer)
    }
}

/// Status and fields.
fn head(bytes: &[u8]) -> Result<Answer> {
    let text = std::str::from_utf8(bytes).context("a head that is no text")?;
    let mut lines = text.trim_end().split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).context("no status line")?;
    let mut fields = Vec::new();
    for line in lines {
        let (name, value) = line.split_once(':').with_context(|| format!("field {line:?}"))?;
        fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let status = status.get(..3).context("no status")?.parse()?;
    Ok(Answer { status, fields, ..Answer::default() })
}

/// A connection that speaks HTTP/2: cheap to clone, and open until the last clone is gone.
pub(super) type Line2 = SendRequest<Bytes>;

/// Makes one.
pub(super) async fn connect2(doors: &Doors, from: Ipv4Addr) -> Result<Line2, Lost> {
    let shaking = async {
        let socket = socket(doors.tls, from).await?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(doors.trust.clone()).connect(name, socket).await?;
        ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "no HTTP/2");
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .enable_push(false)
            .handshake(stream)
            .await?;
        tokio::spawn(connection); // how it ends, its requests say
        anyhow::Ok(send)
    };
    match timeout(BOUND, shaking).await {
        Ok(shaken) => shaken.map_err(|error| Lost::Ended(format!("{error:#}"))),
        Err(_) => Err(Lost::Hung),
    }
}

/// Asks over one.
pub(super) async fn ask2(line: Line2, request: http::Request<()>) -> Result<Answer, Lost> {
    let asked = async {
        let mut line = line.ready().await?;
        let (response, _) = line.send_request(request, true)?;
        let (head, mut stream) = response.await?.into_parts();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let fields = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
        let mut answer =
            Answer { status: head.status.as_u16(), fields: fields.collect(), ..Answer::default() };
        while let Some(chunk) = stream.data().await {
            let chunk = chunk?;
            stream.flow_control().release_capacity(chunk.len())?;
            answer.body.extend_from_slice(&chunk);
        }
        Ok::<_, h2::Error>(answer)
    };
    match timeout(BOUND, asked).await {
        Ok(asked) => asked.map_err(|error| Lost::Ended(error.to_string())),
        Err(_) => Err(Lost::Hung),
    }
}
