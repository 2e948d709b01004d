//! Publishers through TLS: what they send is what it is without, and who does not speak it is told so.

use crate::common::{Encoder, Lab, alone, get, hashes, seconds, soon};
use releve_ingest::io::node::Node;
use releve_ingest::io::publish::GRACE;
use releve_state::coordinator::MarkPolicy;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// A node with this certificate.
async fn node(lab: &Lab) -> Node {
    let dir = lab.folder.path();
    for (name, text) in [
        ("c.pem", include_str!("../../../relay/tests/tls/first.pem")),
        ("k.pem", include_str!("../../../relay/tests/tls/first.key")),
    ] {
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let path = dir.display();
    let more = format!(
        "rtmps_listen = \"127.0.0.1:0\"\ntls_certificate = \"{path}/c.pem\"\ntls_key = \"{path}/k.pem\"\n"
    );
    lab.node_with(GRACE, &more).await
}

/// An address where one connection is taken and goes on to that one through TLS, as `stunnel` would.
async fn tunnel(to: SocketAddr) -> SocketAddr {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_through_tls_is_a_publisher() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = node(&lab).await;
    let address = tunnel(node.rtmps.unwrap()).await;
    let mut encoder = Encoder::publish_with(address, &lab.key, &[]).await;
    encoder.hears("NetStream.Publish.Start").await;
    encoder.send(&seconds(0..4)).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    assert_eq!(hashes(&snapshot.segments), alone(&seconds(0..4)).await);
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_is_closed_and_counted() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = node(&lab).await;
    let mut socket = TcpStream::connect(node.rtmps.unwrap()).await.unwrap();
    let mut hello = vec![3];
    hello.resize(1 + 1536, 0);
    socket.write_all(&hello).await.unwrap();
    let mut said = Vec::new();
    let _ = soon(socket.read_to_end(&mut said)).await;
    assert!(said.len() < 20, "an alert at the most: {said:?}");
    let counted = async {
        loop {
            let (.., page) = get(node.admin, "/metrics", "").await.unwrap();
            if String::from_utf8(page).unwrap().contains("refused_total{reason=\"tls\"} 1") {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    soon(counted).await;
    // And the other way round: TLS at the plain address is no RTMP.
    let broken = tunnel(node.rtmp).await;
    let mut socket = TcpStream::connect(broken).await.unwrap();
    let mut said = Vec::new();
    let _ = soon(socket.read_to_end(&mut said)).await;
    assert!(said.is_empty());
    soon(node.stop()).await;
}
