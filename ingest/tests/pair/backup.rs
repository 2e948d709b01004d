//! A feed that is pushed twice, as primary and as backup, to a pair: both nodes make the feed of it, and the same, whichever of
//! connections and nodes is lost.

use crate::common::{Encoder, alone, hashes, seconds};
use crate::harness::{Cable, Pair, settled};
use ingest_api::Snapshot;
use ingest_api::window::Segment;
use releve_ingest::config::pair::Protect;
use releve_ingest::io::pair::orders::Report;
use releve_state::coordinator::MarkPolicy;
use rtmp::{MediaKind, Message};
use std::time::Duration;

/// What an encoder says of the feed between two moments, in milliseconds.
pub(crate) fn part(feed: &[Message], from: u32, to: u32) -> Vec<Message> {
    feed.iter().filter(|message| (from..to).contains(&message.timestamp)).cloned().collect()
}

/// What an encoder says first, on each connection.
fn configs(feed: &[Message]) -> Vec<Message> {
    let is_config =
        |message: &&Message| message.kind != MediaKind::Data && message.payload.get(1) == Some(&0);
    part(feed, 0, 1).iter().filter(is_config).cloned().collect()
}

/// The same messages as another muxer writes them: of each 300 ms the sound first.
fn sound_first(feed: &[Message]) -> Vec<Message> {
    let mut all = feed.to_vec();
    all.sort_by_key(|message| (message.timestamp / 300, message.kind == MediaKind::Video));
    all
}

pub(crate) fn assert_seamless(segments: &[Segment]) {
    let facts: Vec<_> = segments.iter().map(|s| (s.number, s.run, s.discontinuity)).collect();
    let run = segments[0].run;
    assert_eq!(facts, (0..segments.len() as u64).map(|number| (number, run, 0)).collect::<Vec<_>>());
}

pub(crate) fn assert_nothing_differed(pair: &mut Pair) {
    for side in [&mut pair.holder, &mut pair.standby] {
        let facts = side.node.pair_status().unwrap().streams;
        let reports = std::iter::from_fn(|| side.reports.try_recv().ok());
        let alarms: Vec<_> = reports.filter(|report| matches!(report, Report::Diverged(_))).collect();
        let alike = facts.values().all(|facts| facts.differing == 0) && alarms.is_empty();
        assert!(alike, "{facts:?}\n{alarms:#?}");
    }
}

pub(crate) fn backup_key(pair: &Pair) -> String {
    format!("{}?backup=1", pair.holder.lab.key)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_either_makes_no_hole_no_duplicate_and_no_difference() {
    let mut pair = Pair::new(MarkPolicy::Prefer, Protect::Commit).await;
    let (node, key, feed) = (&pair.holder.node, &pair.holder.lab.key, seconds(0..9));
    let mut primary = Encoder::accepted(node, key).await;
    primary.send(&part(&feed, 0, 2_600)).await;
    pair.alike(0, 2).await;
    let mut backup = Encoder::accepted(node, &backup_key(&pair)).await;
    backup.send(&part(&feed, 1_000, 2_300)).await;
    // In the middle of a GOP; the backup is behind.
    primary.dies();
    backup.send(&part(&feed, 2_300, 5_500)).await;
    pair.alike(0, 5).await;
    // It is back, first behind and then ahead of the backup, which is lost and comes again in its turn.
    let mut primary = Encoder::accepted(node, key).await;
    primary.send(&part(&feed, 4_000, 6_200)).await;
    pair.alike(0, 6).await;
    backup.dies();
    primary.send(&part(&feed, 6_200, 7_300)).await;
    let mut backup = Encoder::accepted(node, &backup_key(&pair)).await;
    backup.send(&part(&feed, 6_000, 8_700)).await;
    primary.send(&part(&feed, 7_300, 9_000)).await;
    tokio::join!(primary.leaves(), backup.leaves());
    let segments = pair.alike(0, 9).await;
    pair.standby.lab.ended(&pair.standby.node).await;
    assert_seamless(&segments);
    assert_nothing_differed(&mut pair);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_to_an_address_of_a_nodes_own_is_passed_on_to_the_shared_one() {
    let mut pair = Pair::sharing([127, 0, 0, 9].into()).await;
    pair.join().await;
    let (port, key, feed) = (pair.holder.node.rtmp.port(), &pair.holder.lab.key, seconds(0..4));
    let mut primary = Encoder::publish_at(([127, 0, 0, 1], port).into(), key).await;
    primary.hears("NetStream.Publish.Start").await;
    let mut backup = Encoder::publish_at(([127, 0, 0, 2], port).into(), &backup_key(&pair)).await;
    backup.hears("NetStream.Publish.Start").await;
    primary.send(&part(&feed, 0, 2_600)).await;
    backup.send(&part(&feed, 0, 1_300)).await;
    pair.alike(0, 2).await;
    primary.dies();
    backup.send(&part(&feed, 1_300, 4_000)).await;
    backup.leaves().await;
    assert_seamless(&pair.alike(0, 4).await);
    assert_nothing_differed(&mut pair);
    // Nobody holds the shared address where it is the standby's: the publisher hears of it at once.
    let port = pair.standby.node.rtmp.port();
    Encoder::publish_at(([127, 0, 0, 1], port).into(), &pair.holder.lab.key).await.closed().await;
    pair.stop().await;
}

/// Two copies with sound and pictures in different orders: which of them says a thing first is in the segments, and chance.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_chance_at_the_holder_is_its_word_at_the_standby() {
    let feed = seconds(0..8);
    for _ in 0..5 {
        let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
        let node = &pair.holder.node;
        // Both knock at one moment, as one encoder does.
        let (key, backup_key) = (&pair.holder.lab.key, backup_key(&pair));
        let (mut primary, mut backup) =
            tokio::join!(Encoder::publish(node, key), Encoder::publish(node, &backup_key));
        let start = "NetStream.Publish.Start";
        tokio::join!(primary.hears(start), backup.hears(start));
        let other = sound_first(&feed);
        tokio::join!(primary.send(&feed), backup.send(&other));
        tokio::join!(primary.leaves(), backup.leaves());
        assert_seamless(&pair.alike(0, 8).await);
        assert_nothing_differed(&mut pair);
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_connections_go_on_when_the_holder_is_lost() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let feed = seconds(0..8);
    let first = Cable::to(&pair.holder.node).await;
    let mut primary = Encoder::publish_at(first.address, &pair.holder.lab.key).await;
    primary.hears("NetStream.Publish.Start").await;
    let second = Cable::to(&pair.holder.node).await;
    let mut backup = Encoder::publish_at(second.address, &backup_key(&pair)).await;
    backup.hears("NetStream.Publish.Start").await;
    let (ahead, behind) = (part(&feed, 0, 3_600), part(&feed, 0, 3_100));
    tokio::join!(primary.send(&ahead), backup.send(&behind));
    let listed = pair.alike(0, 3).await;
    settled(&pair, &[&first, &second]).await;
    pair.crash(&[&first, &second]).await;
    // Both are heard there: it is the backup that goes on where the primary is lost.
    primary.send(&part(&feed, 3_600, 4_400)).await;
    backup.send(&part(&feed, 3_100, 5_700)).await;
    let status = pair.standby.lab.listed(&pair.standby.node, 5).await;
    assert_eq!(status.segments[..3], listed);
    primary.leaves().await;
    backup.send(&part(&feed, 5_700, 8_000)).await;
    backup.leaves().await;
    let snapshot = pair.standby.lab.ended(&pair.standby.node).await;
    assert_eq!(hashes(&snapshot.segments), alone(&feed).await, "not a byte more or less");
    assert_seamless(&snapshot.segments);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_connections_go_on_through_handovers_back_and_forth() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let (feed, other) = (seconds(0..8), sound_first(&seconds(0..8)));
    let mut primary = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let mut backup = Encoder::accepted(&pair.holder.node, &backup_key(&pair)).await;
    for quarter in 0..4 {
        let (from, to) = (quarter * 2_000, quarter * 2_000 + 2_000);
        let (one, two) = (part(&feed, from, to), part(&other, from, to));
        if quarter > 0 {
            pair.hand_over().await;
        }
        tokio::join!(primary.send(&one), backup.send(&two), async {
            if quarter > 0 {
                pair.join().await;
            }
        });
        pair.alike(0, quarter as usize * 2 + 1).await;
    }
    tokio::join!(primary.leaves(), backup.leaves());
    assert_seamless(&pair.alike(0, 8).await);
    assert_nothing_differed(&mut pair);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_joins_while_two_push_lists_the_same_from_then_on() {
    let mut pair = Pair::alone(MarkPolicy::Off, Protect::Commit).await;
    let mut primary = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let mut backup = Encoder::accepted(&pair.holder.node, &backup_key(&pair)).await;
    let mut second = 2;
    let begun = seconds(0..second);
    tokio::join!(primary.send(&begun), backup.send(&begun));
    pair.holder.lab.listed(&pair.holder.node, 1).await;
    let of = |second: u32| part(&seconds(0..40), second * 1_000, second * 1_000 + 1_000);
    {
        let joining = pair.join();
        tokio::pin!(joining);
        loop {
            let (one, two) = (of(second), sound_first(&of(second)));
            tokio::join!(primary.send(&one), backup.send(&two));
            second += 1;
            tokio::select! {
                () = &mut joining => break,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }
    // It can take over: the primary is lost, then the backup goes on by itself.
    for _ in 0..3 {
        let (one, two) = (of(second), sound_first(&of(second)));
        tokio::join!(primary.send(&one), backup.send(&two));
        second += 1;
    }
    primary.dies();
    backup.send(&of(second)).await;
    backup.leaves().await;
    let end = u64::from(second + 1);
    let last = |now: &Snapshot| now.segments.last().is_some_and(|last| last.number + 1 == end);
    let ended = pair.standby.lab.window(&pair.standby.node, last).await;
    let first = ended.segments[0].number;
    assert!(first < end - 3, "it lists {first} to {end}");
    pair.alike(first, (end - first) as usize).await;
    assert_nothing_differed(&mut pair);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_comes_while_a_standby_joins_is_let_in() {
    for _ in 0..3 {
        let mut pair = Pair::alone(MarkPolicy::Off, Protect::Commit).await;
        let (address, key) = (pair.holder.node.rtmp, backup_key(&pair));
        let of = |second: u32| part(&seconds(0..60), second * 1_000, second * 1_000 + 1_000);
        let mut primary = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
        primary.send(&seconds(0..2)).await;
        pair.holder.lab.listed(&pair.holder.node, 1).await;
        let mut second = 2;
        let mut backup = {
            let comes = async {
                let mut backup = Encoder::publish_at(address, &key).await;
                backup.hears("NetStream.Publish.Start").await;
                backup
            };
            let both = async { tokio::join!(pair.join(), comes).1 };
            tokio::pin!(both);
            loop {
                primary.send(&of(second)).await;
                second += 1;
                tokio::select! {
                    backup = &mut both => break backup,
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
        };
        for _ in 0..3 {
            let (one, two) = (of(second), of(second - 1));
            tokio::join!(primary.send(&one), backup.send(&two));
            second += 1;
        }
        primary.dies();
        backup.send(&of(second - 1)).await;
        backup.leaves().await;
        let segments = pair.ended(3).await;
        assert_eq!(segments.last().unwrap().number + 1, u64::from(second));
        assert!(segments.len() >= 3);
        assert_nothing_differed(&mut pair);
        pair.stop().await;
    }
}

/// A spare of another clock: it waits, and goes on when it is alone, at the same message on both nodes.
#[tokio::test(flavor = "multi_thread")]
async fn a_spare_goes_on_at_the_same_message_on_both_nodes() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let mut primary = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let mut backup = Encoder::accepted(&pair.holder.node, &backup_key(&pair)).await;
    primary.send(&seconds(0..3)).await;
    pair.alike(0, 2).await;
    backup.send(&seconds(500..502)).await;
    primary.leaves().await;
    backup.send(&seconds(502..505)).await;
    backup.leaves().await;
    let segments = pair.ended(6).await;
    // It kept its newest GOP while it waited; how much of it was read before the primary had left is not ours to say.
    assert!(segments.len() <= 8, "{}", segments.len());
    assert_seamless(&segments);
    assert_nothing_differed(&mut pair);
    pair.stop().await;
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

/// Another encode on the same clock is a spare too; a node that took over knows it as one, and gives it the stream when the
/// primary says nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_knows_the_spare_and_gives_it_the_stream() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let (feed, again) = (seconds(0..6), encoded_again(&seconds(0..6)));
    let first = Cable::to(&pair.holder.node).await;
    let mut primary = Encoder::publish_at(first.address, &pair.holder.lab.key).await;
    primary.hears("NetStream.Publish.Start").await;
    let second = Cable::to(&pair.holder.node).await;
    let mut backup = Encoder::publish_at(second.address, &backup_key(&pair)).await;
    backup.hears("NetStream.Publish.Start").await;
    primary.send(&part(&feed, 0, 3_600)).await;
    backup.send(&part(&again, 0, 3_400)).await;
    pair.alike(0, 3).await;
    settled(&pair, &[&first, &second]).await;
    pair.crash(&[&first, &second]).await;
    primary.send(&part(&feed, 3_600, 4_400)).await;
    let listed = pair.standby.lab.listed(&pair.standby.node, 4).await;
    assert_eq!(hashes(&listed.segments)[..8], alone(&feed).await[..8], "nothing of the backup");
    // Longer than any pause of a publisher.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    backup.send(&part(&again, 3_400, 6_000)).await;
    primary.hears("a newer connection with this key took over").await;
    backup.leaves().await;
    let snapshot = pair.standby.lab.ended(&pair.standby.node).await;
    assert_eq!(snapshot.segments[..4], listed.segments[..4]);
    assert_seamless(&snapshot.segments);
    pair.stop().await;
}

/// One leaves at the moment at which the other one comes: whether the feed goes on or begins again, both nodes have it so.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_comes_while_the_primary_leaves_joins_it_on_both_nodes_or_on_none() {
    for round in 0..6 {
        let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
        let (node, key, feed) = (&pair.holder.node, &pair.holder.lab.key, seconds(0..11));
        let mut primary = Encoder::accepted(node, key).await;
        // More than the holder parses at once, and then the end.
        primary.send(&part(&feed, 0, 5_000 + round * 500)).await;
        let backup_key = backup_key(&pair);
        let leaving = async {
            primary.unpublish(key).await;
            primary.leaves().await;
        };
        let (mut backup, ()) = tokio::join!(Encoder::accepted(node, &backup_key), leaving);
        backup.send(&configs(&feed)).await;
        backup.send(&part(&feed, 4_500, 11_000)).await;
        backup.leaves().await;
        let segments = pair.ended(4).await;
        assert!(segments.iter().all(|segment| segment.discontinuity == 0));
        assert_nothing_differed(&mut pair);
        pair.stop().await;
    }
}

/// A standby is given the stream by the backup alone: it knows that one as the backup, and so lets a primary join it.
#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_that_was_given_the_backup_alone_lets_the_primary_in() {
    let mut pair = Pair::alone(MarkPolicy::Off, Protect::Commit).await;
    let of = |second: u32| part(&seconds(0..60), second * 1_000, second * 1_000 + 1_000);
    let mut primary = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let cable = Cable::to(&pair.holder.node).await;
    let mut backup = Encoder::publish_at(cable.address, &backup_key(&pair)).await;
    backup.hears("NetStream.Publish.Start").await;
    let begun = seconds(0..2);
    tokio::join!(primary.send(&begun), backup.send(&begun));
    primary.leaves().await;
    let mut second = 2;
    {
        let joining = pair.join();
        tokio::pin!(joining);
        loop {
            backup.send(&of(second)).await;
            second += 1;
            tokio::select! {
                () = &mut joining => break,
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }
    backup.send(&of(second)).await;
    backup.send(&of(second + 1)).await;
    pair.standby.lab.listed(&pair.standby.node, 1).await;
    settled(&pair, &[&cable]).await;
    pair.crash(&[&cable]).await;
    // A primary with the same key joins the backup, and goes on when that one is lost.
    let mut primary = Encoder::accepted(&pair.standby.node, &pair.standby.lab.key).await;
    let (one, two) = (of(second + 1), of(second + 2));
    tokio::join!(primary.send(&one), backup.send(&two));
    primary.send(&of(second + 2)).await;
    backup.leaves().await;
    primary.send(&of(second + 3)).await;
    primary.leaves().await;
    let end = u64::from(second) + 4;
    let snapshot = pair.standby.lab.ended(&pair.standby.node).await;
    assert_eq!(snapshot.segments.last().unwrap().number + 1, end, "a segment a second, none of them twice");
    assert!(snapshot.segments.iter().all(|segment| segment.discontinuity == 0));
    pair.stop().await;
}
