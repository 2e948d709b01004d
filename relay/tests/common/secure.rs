//! A viewer who speaks TLS: rustls on a blocking socket, so that each byte is read when the test says so.

use super::client::Answer;
use releve_relay::Config;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A file of `tests/tls`.
pub fn pem(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)).unwrap()
}

/// Puts a pair into a folder, as `relay.pem` and `relay.key`.
pub fn install(dir: &Path, certificate: &str, key: &str) {
    for (from, to, mode) in [(key, "relay.key", 0o600), (certificate, "relay.pem", 0o644)] {
        let beside = dir.join("beside");
        std::fs::write(&beside, pem(from)).unwrap();
        std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(mode)).unwrap();
        std::fs::rename(beside, dir.join(to)).unwrap();
    }
}

/// Has a relay listen for TLS with the pair in a folder.
pub fn listens(config: &mut Config, dir: &Path) {
    config.tls_listen = Some(([127, 0, 0, 1], 0).into());
    (config.tls_certificate, config.tls_key) = (Some(dir.join("relay.pem")), Some(dir.join("relay.key")));
    config.limits.certificate_look = Duration::from_millis(30);
}

/// A client that trusts the tests' certificates and keeps its tickets.
pub fn client(versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    client_of(rustls::crypto::aws_lc_rs::default_provider(), versions)
}

/// The same with suites of the caller.
pub fn client_of(
    provider: CryptoProvider,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for name in ["first.pem", "second.pem"] {
        roots.add(CertificateDer::from_pem_slice(&pem(name)).unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

pub struct Secure {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    read: Vec<u8>,
}

impl Secure {
    /// Connects and shakes hands.
    pub fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<Secure> {
        Secure::over(TcpStream::connect(address)?, config)
    }

    /// The same over a socket of the caller.
    pub fn over(socket: TcpStream, config: &Arc<ClientConfig>) -> std::io::Result<Secure> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(15)))?;
        let client = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(client, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Secure { stream, read: Vec::new() })
    }

    pub fn is_resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The certificate that it was shown.
    pub fn shown(&self) -> Vec<u8> {
        self.stream.conn.peer_certificates().unwrap()[0].to_vec()
    }

    pub fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
        self.stream.flush().unwrap();
    }

    pub fn get(&mut self, target: &str) -> Answer {
        self.send(&format!("GET {target} HTTP/1.1\r\nhost: relay\r\n\r\n"));
        self.answer().expect("the relay closed without an answer")
    }

    /// The next answer; an error when the connection ends before one is whole.
    pub fn answer(&mut self) -> std::io::Result<Answer> {
        let end = loop {
            if let Some(at) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            self.more()?;
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut answer = Answer { status, headers, body: Vec::new() };
        let len: usize = answer.header("content-length").map_or(0, |len| len.parse().unwrap());
        while self.read.len() < len {
            self.more()?;
        }
        answer.body = self.read.drain(..len).collect();
        Ok(answer)
    }

    fn more(&mut self) -> std::io::Result<()> {
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.read.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}

/// The certificate of a file, as a client is shown it.
pub fn certificate(name: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(&pem(name)).unwrap().to_vec()
}
