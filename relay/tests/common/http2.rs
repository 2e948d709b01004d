//! A viewer who speaks HTTP/2.

use super::client::Answer;
use super::secure::client;
use bytes::Bytes;
use h2::client::SendRequest;
use rustls::ClientConfig;
use rustls::version::TLS13;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A client that offers these protocols.
pub fn offering(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = (*client(&[&TLS13])).clone();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Arc::new(config)
}

/// A viewer with a connection of their own.
pub struct Viewer {
    pub send: SendRequest<Bytes>,
    pub connection: JoinHandle<Result<(), h2::Error>>,
}

impl Viewer {
    pub async fn connect(address: SocketAddr) -> Viewer {
        Viewer::with_window(address, 1 << 20).await
    }

    /// Over a socket of the caller.
    pub async fn over(socket: TcpStream) -> Viewer {
        Viewer::shaking(socket, 1 << 20).await
    }

    pub async fn with_window(address: SocketAddr, window: u32) -> Viewer {
        Viewer::shaking(TcpStream::connect(address).await.unwrap(), window).await
    }

    async fn shaking(socket: TcpStream, window: u32) -> Viewer {
        let connector = TlsConnector::from(offering(&[b"h2", b"http/1.1"]));
        let stream = connector.connect("localhost".try_into().unwrap(), socket).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (send, connection) = h2::client::Builder::new()
            .initial_window_size(window)
            .initial_connection_window_size(window)
            .handshake(stream)
            .await
            .unwrap();
        Viewer { send, connection: tokio::spawn(connection) }
    }

    pub async fn ask(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Result<Answer, h2::Error> {
        self.said(method, target, fields, &[], true).await
    }

    /// Posts these pieces; `ends`: nothing follows them.
    pub async fn post(
        &self,
        target: &str,
        fields: &[(&str, &str)],
        pieces: &[&[u8]],
        ends: bool,
    ) -> Result<Answer, h2::Error> {
        self.said("POST", target, fields, pieces, ends).await
    }

    async fn said(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        pieces: &[&[u8]],
        ends: bool,
    ) -> Result<Answer, h2::Error> {
        let mut request = http::Request::builder().method(method).uri(format!("https://localhost{target}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut send = self.send.clone().ready().await?;
        let (response, mut sends) =
            send.send_request(request.body(()).unwrap(), pieces.is_empty() && ends)?;
        for (at, piece) in pieces.iter().enumerate() {
            // A relay may have answered before all of it is out.
            let last = at + 1 == pieces.len() && ends;
            let _ = sends.send_data(Bytes::copy_from_slice(piece), last);
        }
        let (head, mut body) = response.await?.into_parts();
        let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
        let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let mut answer = Answer { status: head.status.as_u16(), headers, body: Vec::new() };
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            answer.body.extend_from_slice(&chunk);
        }
        Ok(answer)
    }

    pub async fn get(&self, target: &str) -> Answer {
        timeout(Duration::from_secs(15), self.ask("GET", target, &[])).await.unwrap().unwrap()
    }
}
