//! Publishers through TLS: what they send is what it is without, and who does not speak it is told so.

use crate::common::secure::{EXPIRED, FIRST, FIRST_KEY, SECOND, SECOND_KEY, listening, put, shows, tunnel};
use crate::common::{Encoder, Lab, alone, get, hashes, seconds, soon};
use releve_ingest::config::Config;
use releve_ingest::io::node::{self, Node, Settings};
use releve_ingest::io::publish::GRACE;
use releve_state::coordinator::MarkPolicy;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A node that listens for publishers through TLS too.
async fn node(lab: &Lab) -> Node {
    lab.node_with(GRACE, &listening("127.0.0.1:0", lab.folder.path())).await
}

/// Waits until the node's metrics are as wanted.
async fn counted(node: &Node, wanted: impl Fn(&str) -> bool) {
    let counted = async {
        loop {
            let (.., page) = get(node.admin, "/metrics", "").await.unwrap();
            if wanted(&String::from_utf8(page).unwrap()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(counted).await;
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
    counted(&node, |page| page.contains("refused_total{reason=\"tls\"} 1")).await;
    // And the other way round: TLS at the plain address is no RTMP.
    let broken = tunnel(node.rtmp).await;
    let mut socket = TcpStream::connect(broken).await.unwrap();
    let mut said = Vec::new();
    let _ = soon(socket.read_to_end(&mut said)).await;
    assert!(said.is_empty());
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_is_taken_up_and_a_bad_one_is_not() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = node(&lab).await;
    let (at, dir) = (node.rtmps.unwrap(), lab.folder.path());
    let mut encoder = Encoder::publish_at(tunnel(at).await, &lab.key).await;
    encoder.hears("NetStream.Publish.Start").await;
    let ends_in_2120 = |page: &str| page.contains("tls_certificate_expires 4733510400");
    counted(&node, ends_in_2120).await;
    assert!(!shows(at, SECOND).await);
    put(dir, EXPIRED, FIRST_KEY);
    counted(&node, |page| !page.contains("tls_certificate_refused_total 0")).await;
    assert!(shows(at, FIRST).await, "the last good one stays");
    put(dir, SECOND, SECOND_KEY);
    let renewed = async {
        while !shows(at, SECOND).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(renewed).await;
    assert!(!shows(at, FIRST).await);
    // Whoever is connected noticed nothing.
    encoder.send(&seconds(0..3)).await;
    encoder.leaves().await;
    assert_eq!(hashes(&lab.ended(&node).await.segments), alone(&seconds(0..3)).await);
    soon(node.stop()).await;
}

#[tokio::test]
async fn a_node_does_not_start_with_an_expired_certificate() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let dir = lab.folder.path();
    let more = listening("127.0.0.1:1936", dir);
    let config = Config::parse(&format!("name = \"a\"\ndir = \"{}\"\n{more}", dir.display()), []).unwrap();
    assert!(node::check(&config).is_ok());
    put(dir, EXPIRED, FIRST_KEY);
    let settings = Settings {
        grace: GRACE,
        certificate_look: Duration::from_secs(60),
        marker: lab.marker.clone(),
        pair: None,
        control: None,
    };
    for said in [node::check(&config).err(), node::start_with(config.clone(), settings).await.err()] {
        let said = said.expect("an expired certificate").to_string();
        assert!(said.contains("expired on Fri, 31 Jan 2020"), "{said}");
    }
}
