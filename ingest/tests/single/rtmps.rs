//! Publishers through TLS: what they send is what it is without, and who does not speak it is told so.

use crate::common::secure::{listening, tunnel};
use crate::common::{Encoder, Lab, alone, get, hashes, seconds, soon};
use releve_ingest::io::node::Node;
use releve_ingest::io::publish::GRACE;
use releve_state::coordinator::MarkPolicy;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A node that listens for publishers through TLS too.
async fn node(lab: &Lab) -> Node {
    lab.node_with(GRACE, &listening("127.0.0.1:0", lab.folder.path())).await
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
