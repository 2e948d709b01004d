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

/// Writes a certificate and its key there, and gives a node's configuration of them.
pub fn listening(at: &str, dir: &Path) -> String {
    for (name, text) in [
        ("c.pem", include_str!("../../../relay/tests/tls/first.pem")),
        ("k.pem", include_str!("../../../relay/tests/tls/first.key")),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let dir = dir.display();
    format!("rtmps_listen = \"{at}\"\ntls_certificate = \"{dir}/c.pem\"\ntls_key = \"{dir}/k.pem\"\n")
}

/// An address where one connection is taken and goes on to that one through TLS, as `stunnel` would.
pub async fn tunnel(to: SocketAddr) -> SocketAddr {
    let mut roots = RootCertStore::empty();
    let certificate = include_bytes!("../../../relay/tests/tls/first.pem");
    roots.add(CertificateDer::from_pem_slice(certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(config.with_root_certificates(roots).with_no_client_auth()));
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
