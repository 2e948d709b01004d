//! A relay as a witness: it grants an epoch once, remembers it through restarts, and listens to nobody else.

use crate::common::*;
use failover::vote::{ANSWER_LEN, Answer, Ask};
use failover::{ClusterId, NodeId, WitnessId};
use releve_watermark::KeyRing;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

const CLUSTER: ClusterId = ClusterId(1);

fn settings(folder: &Path) -> releve_relay::Config {
    let mut config = config(&["http://127.0.0.1:1".to_owned()]);
    config.state = folder.join("state.db");
    config.witness_listen = Some("127.0.0.1:0".parse().unwrap());
    config.witness_id = Some(7);
    config
}

fn ask(node: u16, base: u64, wanted: u64) -> Ask {
    Ask { node: NodeId(node), incarnation: 9, counter: 1, wanted, base, release: false }
}

/// What the witness answers, if it does.
fn put(witness: SocketAddr, keys: &KeyRing, ask: &Ask) -> Option<Answer> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    socket.send_to(&ask.seal(keys, CLUSTER), witness).unwrap();
    let mut buffer = [0; ANSWER_LEN + 1];
    let length = socket.recv(&mut buffer).ok()?;
    Some(Answer::open(keys, CLUSTER, &buffer[..length]).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_is_granted_once_and_stays_granted_through_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::with(settings(folder.path())).await;
    let at = relay.handle.witness.unwrap();
    let keys = cluster_key();
    let granted = put(at, &keys, &ask(1, 0, 5)).unwrap();
    assert_eq!((granted.witness, granted.granted, granted.highest), (WitnessId(7), true, 5));
    let refused = put(at, &keys, &ask(2, 0, 6)).unwrap();
    assert_eq!((refused.granted, refused.lock.epoch, refused.lock.node), (false, 5, 1));
    let mut admin = Client::connect(relay.handle.admin).await;
    let told = admin.get("/readyz").await.text();
    assert!(told.contains("witness 7: epoch 5 granted to node 1"), "{told}");
    let metrics = admin.get("/metrics").await.text();
    for line in
        ["releve_relay_witness_epoch 5", "witness_asks_total{outcome=\"granted\"} 1", "outcome=\"denied\"} 1"]
    {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    drop(admin);
    relay.handle.stop().await;

    let relay = Relay::with(settings(folder.path())).await;
    let at = relay.handle.witness.unwrap();
    assert!(!put(at, &keys, &ask(2, 0, 5)).unwrap().granted, "the same number twice");
    assert!(!put(at, &keys, &ask(2, 0, 6)).unwrap().granted, "over the head of 5");
    assert!(put(at, &keys, &ask(2, 5, 6)).unwrap().granted);
    relay.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_noise_are_not_answered_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::with(settings(folder.path())).await;
    let at = relay.handle.witness.unwrap();
    assert_eq!(put(at, &ring(9), &ask(1, 0, 5)), None);
    let noise = UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in [0, 1, 44, 86, 400, 2_000] {
        noise.send_to(&vec![0x52; length], at).unwrap();
    }
    assert!(put(at, &cluster_key(), &ask(2, 0, 5)).unwrap().granted);
    relay.handle.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoiled_record_stops_the_start_and_says_which_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("state.db.witness-7"), "highest 5\n").unwrap();
    let state = std::sync::Arc::new(releve_state::memory::Memory::default());
    let started = releve_relay::start_with(settings(folder.path()), keys(), state.clone(), state).await;
    let Err(error) = started else { panic!("it started") };
    assert!(error.to_string().contains("state.db.witness-7"), "{error}");
}
