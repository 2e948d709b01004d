//! TLS for publishers: a node's certificate, and the encoder's end.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

pub const FIRST: &str = include_str!("../../../relay/tests/tls/first.pem");
pub const FIRST_KEY: &str = include_str!("../../../relay/tests/tls/first.key");
pub const SECOND: &str = include_str!("../../../relay/tests/tls/second.pem");
pub const SECOND_KEY: &str = include_str!("../../../relay/tests/tls/second.key");
/// Has the key of `FIRST`.
pub const EXPIRED: &str = include_str!("../../../relay/tests/tls/expired.pem");

/// Puts a certificate and its key in place, as who renews one does.
pub fn put(dir: &Path, certificate: &str, key: &str) {
    for (name, text) in [("c.pem", certificate), ("k.pem", key)] {
        let (new, place) = (dir.join("new"), dir.join(name));
        std::fs::write(&new, text).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(new, place).unwrap();
    }
}

/// Writes a certificate and its key there, and gives a node's configuration of them.
pub fn listening(at: &str, dir: &Path) -> String {
    put(dir, FIRST, FIRST_KEY);
    let dir = dir.display();
    format!("rtmps_listen = \"{at}\"\ntls_certificate = \"{dir}/c.pem\"\ntls_key = \"{dir}/k.pem\"\n")
}

/// Trusts this certificate and no other.
fn trusting(certificate: &str) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Whether this certificate is shown there.
pub async fn shows(at: SocketAddr, certificate: &str) -> bool {
    let socket = TcpStream::connect(at).await.unwrap();
    trusting(certificate).connect(ServerName::try_from("localhost").unwrap(), socket).await.is_ok()
}

/// An address where one connection is taken and goes on to that one through TLS, as `stunnel` would.
pub async fn tunnel(to: SocketAddr) -> SocketAddr {
    let connector = trusting(FIRST);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut plain, _) = listener.accept().await.unwrap();
        let socket = TcpStream::connect(to).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut secure = connector.connect(name, socket).await.expect("the node has that certificate");
        let _ = copy_bidirectional(&mut plain, &mut secure).await;
    });
    address
}
