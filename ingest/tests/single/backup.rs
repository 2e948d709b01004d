//! A feed that is pushed twice, as primary and as backup: what is recorded is the feed, whichever of the two is lost.

use crate::common::{Encoder, Lab, alone, get, hashes, seconds, soon};
use ingest_api::Snapshot;
use releve_ingest::io::node::Node;
use releve_ingest::io::publish::GRACE;
use releve_state::coordinator::MarkPolicy;
use rtmp::{MediaKind, Message};
use std::time::Duration;

/// What an encoder says of the feed between two moments, in milliseconds.
fn part(feed: &[Message], from: u32, to: u32) -> Vec<Message> {
    feed.iter().filter(|message| (from..to).contains(&message.timestamp)).cloned().collect()
}

fn assert_seamless(snapshot: &Snapshot, count: u64) {
    let facts: Vec<_> = snapshot.segments.iter().map(|s| (s.number, s.run, s.discontinuity)).collect();
    let run = snapshot.segments[0].run;
    assert_eq!(facts, (0..count).map(|number| (number, run, 0)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_either_makes_no_hole_no_duplicate_and_no_step() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let (feed, backup_key) = (seconds(0..9), format!("{}?backup=1", lab.key));
    let mut primary = Encoder::accepted(&node, &lab.key).await;
    primary.send(&part(&feed, 0, 2_600)).await;
    lab.listed(&node, 2).await;
    let mut backup = Encoder::accepted(&node, &backup_key).await;
    backup.send(&part(&feed, 1_000, 2_300)).await;
    // In the middle of a GOP; the backup is behind.
    primary.dies();
    backup.send(&part(&feed, 2_300, 5_500)).await;
    lab.listed(&node, 5).await;
    // It is back, first behind and then ahead of the backup, which is lost in its turn.
    let mut primary = Encoder::accepted(&node, &lab.key).await;
    primary.send(&part(&feed, 4_000, 6_200)).await;
    lab.listed(&node, 6).await;
    backup.dies();
    primary.send(&part(&feed, 6_200, 9_000)).await;
    primary.leaves().await;
    let snapshot = lab.ended(&node).await;
    assert_eq!(hashes(&snapshot.segments), alone(&feed).await, "the feed, not a byte more or less");
    assert_seamless(&snapshot, 9);
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_push_at_once_are_one() {
    let feed = seconds(0..8);
    let expected = alone(&feed).await;
    for _ in 0..5 {
        let lab = Lab::new(MarkPolicy::Off).await;
        let node = lab.node(GRACE).await;
        let mut primary = Encoder::accepted(&node, &lab.key).await;
        let mut backup = Encoder::accepted(&node, &format!("{}?backup=1", lab.key)).await;
        tokio::join!(primary.send(&feed), backup.send(&feed));
        tokio::join!(primary.leaves(), backup.leaves());
        let snapshot = lab.ended(&node).await;
        assert_eq!(hashes(&snapshot.segments), expected);
        assert_seamless(&snapshot, 8);
        soon(node.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_a_clock_of_its_own_waits_and_goes_on_like_an_encoder_that_returns() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let mut primary = Encoder::accepted(&node, &lab.key).await;
    let mut backup = Encoder::accepted(&node, &format!("{}?backup=1", lab.key)).await;
    primary.send(&seconds(0..3)).await;
    lab.listed(&node, 2).await;
    backup.send(&seconds(500..502)).await;
    primary.leaves().await;
    counts(&node, "publishers 1").await;
    backup.send(&seconds(502..505)).await;
    backup.leaves().await;
    // It kept its newest GOP while it waited; how much of it was read before the primary had left is not ours to say.
    // Between the two the stream has no publisher.
    let snapshot = lab.window(&node, |shown| !shown.live && shown.segments.len() >= 6).await;
    assert!(snapshot.segments.len() <= 8, "{}", snapshot.segments.len());
    assert_seamless(&snapshot, snapshot.segments.len() as u64);
    soon(node.stop()).await;
}

/// Waits until the node's metrics have this line.
async fn counts(node: &Node, line: &str) {
    let line = format!("releve_ingest_{line}");
    let said = async {
        loop {
            let (.., page) = get(node.admin, "/metrics", "").await.unwrap();
            if String::from_utf8(page).unwrap().lines().any(|said| said == line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(said).await;
}

/// The same moments in another encode: the last byte of each picture is another one.
fn encoded_again(feed: &[Message]) -> Vec<Message> {
    let again = |message: &Message| {
        let mut payload = message.payload.to_vec();
        if message.kind == MediaKind::Video && payload.get(1) == Some(&1) {
            *payload.last_mut().unwrap() ^= 0x10;
        }
        Message { payload: payload.into(), ..message.clone() }
    };
    feed.iter().map(again).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_encodes_on_one_clock_one_is_used_and_the_other_goes_on_when_it_is_lost() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let (feed, again) = (seconds(0..6), encoded_again(&seconds(0..6)));
    let mut primary = Encoder::accepted(&node, &lab.key).await;
    primary.send(&part(&feed, 0, 2_600)).await;
    lab.listed(&node, 2).await;
    let mut backup = Encoder::accepted(&node, &format!("{}?backup=1", lab.key)).await;
    // Behind the primary, and then ahead of it.
    backup.send(&part(&again, 1_000, 3_400)).await;
    counts(&node, r#"reports_total{stream="demo",kind="backup-differs"} 1"#).await;
    primary.send(&part(&feed, 2_600, 4_300)).await;
    let before = lab.listed(&node, 4).await;
    assert_eq!(hashes(&before.segments)[..8], alone(&feed).await[..8], "nothing of the backup");
    primary.dies();
    counts(&node, "publishers 1").await;
    backup.send(&part(&again, 3_400, 6_000)).await;
    backup.leaves().await;
    let snapshot = lab.ended(&node).await;
    assert_eq!(snapshot.segments[..4], before.segments[..4]);
    // Then what it kept while it waited.
    assert!((6..=8).contains(&snapshot.segments.len()), "{}", snapshot.segments.len());
    assert_seamless(&snapshot, snapshot.segments.len() as u64);
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_alone_is_the_publisher_and_a_second_of_either_replaces_the_first() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let backup_key = format!("{}?backup=1", lab.key);
    let feed = seconds(0..4);
    let mut backup = Encoder::accepted(&node, &backup_key).await;
    backup.send(&part(&feed, 0, 2_000)).await;
    lab.listed(&node, 1).await;
    let mut primary = Encoder::accepted(&node, &lab.key).await;
    primary.send(&part(&feed, 1_000, 2_500)).await;
    let second = Encoder::accepted(&node, &backup_key).await;
    backup.hears("a newer connection with this key took over").await;
    backup.closed().await;
    primary.send(&part(&feed, 2_500, 4_000)).await;
    tokio::join!(primary.leaves(), second.leaves());
    let snapshot = lab.ended(&node).await;
    assert_eq!(hashes(&snapshot.segments), alone(&feed).await);
    soon(node.stop()).await;
}
