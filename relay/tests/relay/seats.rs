//! How many sessions of one viewer run at once, over several relays, and that nobody waits for the count while watching.

use crate::common::*;
use releve_relay::io::config::SessionsWhenFull;
use releve_relay::{Config, start_with};
use releve_state::Seats;
use releve_state::memory::Memory;
use releve_state::sqlite::Sqlite;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

fn counting(origin: &FakeOrigin, seats: u32, when_full: SessionsWhenFull) -> Config {
    let mut config = config(&[origin.url()]);
    config.sessions_per_viewer = seats;
    config.sessions_when_full = when_full;
    config.limits.seat_report = Duration::from_millis(200);
    config.limits.seat_idle = Duration::from_secs(2);
    config
}

async fn relay(config: &Config, state: &Arc<Memory>) -> Relay {
    let handle = start_with(config.clone(), keys(), state.clone(), state.clone()).await.unwrap();
    Relay { handle, state: state.clone() }
}

async fn enter(relay: &Relay, viewer: &str) -> client::Answer {
    relay.client().await.get(&format!("/live/demo/index.m3u8?token={}", token("demo", viewer))).await
}

fn path(entered: &client::Answer) -> String {
    assert_eq!(entered.status, 302);
    format!("{}/video.m3u8", entered.header("location").unwrap().strip_suffix("/index.m3u8").unwrap())
}

async fn status(relay: &Relay, path: &str) -> u16 {
    relay.client().await.get(path).await.status
}

#[tokio::test]
async fn one_more_is_refused_on_any_relay_until_a_seat_is_free() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let (state, config) = (Arc::default(), counting(&origin, 2, SessionsWhenFull::RejectNew));
    let (one, two) = (relay(&config, &state).await, relay(&config, &state).await);
    let (first, second) = (path(&enter(&one, "alice").await), path(&enter(&two, "alice").await));
    for relay in [&one, &two] {
        let refused = enter(relay, "alice").await;
        assert_eq!((refused.status, refused.header("releve-reason")), (403, Some("full")));
    }
    path(&enter(&one, "bob").await);
    // Both are watched, from whichever relay, for longer than a seat stays without being seen.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(3500) {
        assert_eq!((status(&two, &first).await, status(&one, &second).await), (200, 200));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(enter(&one, "alice").await.status, 403, "they are still sitting there");
    // One stops watching: its seat becomes free, and somebody else takes it.
    let third = async {
        loop {
            let entered = enter(&one, "alice").await;
            assert_eq!(status(&one, &second).await, 200);
            if entered.status == 302 {
                return path(&entered);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let third = tokio::time::timeout(Duration::from_secs(6), third).await.unwrap();
    // And who left comes back: there is no seat any more, so this session ends, on both relays.
    until("the one that was away is out", async || {
        let still = (status(&one, &first).await, status(&two, &first).await);
        assert_eq!((status(&one, &third).await, status(&one, &second).await), (200, 200));
        still == (403, 403)
    })
    .await;
}

#[tokio::test]
async fn the_oldest_makes_room_on_every_relay_within_five_seconds() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let (state, config) = (Arc::default(), counting(&origin, 1, SessionsWhenFull::StopOldest));
    let (one, two) = (relay(&config, &state).await, relay(&config, &state).await);
    let first = path(&enter(&one, "alice").await);
    assert_eq!((status(&one, &first).await, status(&two, &first).await), (200, 200));
    let came = Instant::now();
    let second = path(&enter(&two, "alice").await);
    until("the first is out everywhere", async || {
        (status(&one, &first).await, status(&two, &first).await) == (403, 403)
    })
    .await;
    assert!(came.elapsed() < Duration::from_secs(5), "{:?}", came.elapsed());
    for _ in 0..10 {
        assert_eq!(status(&one, &second).await, 200);
        let refused = one.client().await.get(&first).await;
        assert_eq!((refused.status, refused.header("releve-reason")), (403, Some("ended")));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Twenty ask for the last seat at the same moment, at two relays, with the store that one machine has.
#[tokio::test]
async fn two_relays_never_give_the_last_seat_twice() {
    let origin = FakeOrigin::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = counting(&origin, 3, SessionsWhenFull::RejectNew);
    let mut relays = Vec::new();
    for _ in 0..2 {
        let state = Arc::new(Sqlite::open(&folder.path().join("state.db")).unwrap());
        let handle = start_with(config.clone(), keys(), state.clone(), state).await.unwrap();
        relays.push(Arc::new(Relay { handle, state: Arc::default() }));
    }
    let mut asking = tokio::task::JoinSet::new();
    for number in 0..20 {
        let relay = relays[number % 2].clone();
        asking.spawn(async move { enter(&relay, "alice").await.status });
    }
    let statuses = asking.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 302).count(), 3, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 403).count(), 17, "{statuses:?}");
}

/// A store whose reports never come to an end.
#[tokio::test]
async fn who_watches_never_waits_for_the_count() {
    let origin = FakeOrigin::start().await;
    origin.put(Show::new("demo", 0..3));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.db");
    let config = counting(&origin, 1, SessionsWhenFull::RejectNew);
    let state = Arc::new(Sqlite::open(&file).unwrap());
    let handle = start_with(config, keys(), state.clone(), state.clone()).await.unwrap();
    let relay = Relay { handle, state: Arc::default() };
    let first = path(&enter(&relay, "alice").await);
    assert_eq!(status(&relay, &first).await, 200);
    // Somebody else holds the database: whatever writes waits.
    let locked = rusqlite::Connection::open(&file).unwrap();
    locked.execute_batch("BEGIN IMMEDIATE").unwrap();
    for _ in 0..20 {
        let asked = Instant::now();
        assert_eq!(status(&relay, &first).await, 200);
        assert!(asked.elapsed() < Duration::from_millis(500), "{:?}", asked.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    locked.execute_batch("ROLLBACK").unwrap();
    assert_eq!(state.ended_sessions(0).await.unwrap().0, []);
}
