//! How long a revoked viewer goes on, over two relays with the times as shipped: never five seconds.

use crate::common::*;
use releve_relay::start_with;
use releve_state::coordinator::{Coordinator, Revocation};
use releve_state::sqlite::Sqlite;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const VIEWERS: usize = 200;

/// Each viewer watches through both relays, is revoked at another moment, and is asked for until both have refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_revocations_reach_two_relays_in_time() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&[origin.url()]);
    config.limits.revocation_poll = releve_relay::Limits::default().revocation_poll;
    let mut relays = Vec::new();
    for _ in 0..2 {
        let state = Arc::new(Sqlite::open(&folder.path().join("state.db")).unwrap());
        let handle = start_with(config.clone(), keys(), state.clone(), state).await.unwrap();
        relays.push(handle.listen);
    }
    let operator = Arc::new(Sqlite::open(&folder.path().join("state.db")).unwrap());
    let mut viewers = tokio::task::JoinSet::new();
    for number in 0..VIEWERS {
        let (relays, operator) = (relays.clone(), operator.clone());
        viewers.spawn(async move {
            let viewer = format!("viewer-{number}");
            let mut connections = [Client::connect(relays[0]).await, Client::connect(relays[1]).await];
            let target = format!("/live/demo/index.m3u8?token={}", token("demo", &viewer));
            let entered = connections[number % 2].get(&target).await;
            let path = entered.header("location").unwrap().replace("index.m3u8", "video.m3u8");
            for connection in &mut connections {
                assert_eq!(connection.get(&path).await.status, 200);
            }
            tokio::time::sleep(Duration::from_millis(number as u64 * 15)).await;
            operator.revoke(Revocation { viewer, at_unix_s: now_unix_s() }).await.unwrap();
            let revoked = Instant::now();
            for connection in &mut connections {
                while connection.get(&path).await.status == 200 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            revoked.elapsed()
        });
    }
    let mut took = viewers.join_all().await;
    took.sort_unstable();
    println!("revocations: median {:?}, longest {:?} of {VIEWERS}", took[VIEWERS / 2], took[VIEWERS - 1]);
    assert!(took[VIEWERS - 1] < Duration::from_secs(5), "{:?}", took[VIEWERS - 1]);
}
