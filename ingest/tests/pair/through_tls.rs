//! Publishers through TLS to a pair: TLS ends at the node it came to, and what was in it goes to the shared address, where it
//! has a twin like the bytes of any publisher.

use crate::backup::{assert_nothing_differed, assert_seamless, backup_key, part};
use crate::common::secure::tunnel;
use crate::common::{Encoder, alone, hashes, seconds};
use crate::harness::Pair;
use std::net::SocketAddr;

/// The address that the two nodes share.
const SHARED: [u8; 4] = [127, 0, 0, 9];

async fn sharing() -> Pair {
    let mut pair = Pair::sharing(SHARED.into()).await;
    pair.join().await;
    pair
}

/// An encoder that was accepted through TLS at this address of the holder.
async fn through_tls(pair: &Pair, to: [u8; 4]) -> Encoder {
    let to: SocketAddr = (to, pair.holder.node.rtmps.unwrap().port()).into();
    let mut encoder = Encoder::publish_at(tunnel(to).await, &pair.holder.lab.key).await;
    encoder.hears("NetStream.Publish.Start").await;
    encoder
}

/// What is said through TLS after a handover goes to the node that has the shared address then.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_goes_on_when_the_node_that_ends_its_tls_hands_over() {
    let mut pair = sharing().await;
    let feed = seconds(0..6);
    let mut encoder = through_tls(&pair, [127, 0, 0, 1]).await;
    encoder.send(&part(&feed, 0, 2_600)).await;
    pair.alike(0, 2).await;
    pair.hand_over().await;
    encoder.send(&part(&feed, 2_600, 6_000)).await;
    pair.join().await;
    encoder.leaves().await;
    let segments = pair.alike(0, 6).await;
    assert_eq!(hashes(&segments), alone(&feed).await, "not a byte more or less");
    assert_seamless(&segments);
    assert_nothing_differed(&mut pair);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_lost_its_tls_goes_on_where_it_was() {
    let mut pair = sharing().await;
    let feed = seconds(0..3);
    let mut encoder = through_tls(&pair, SHARED).await;
    encoder.send(&part(&feed, 0, 2_600)).await;
    pair.alike(0, 2).await;
    encoder.dies();
    let mut encoder = through_tls(&pair, SHARED).await;
    encoder.send(&feed).await;
    encoder.leaves().await;
    let segments = pair.ended(5).await;
    assert_eq!(segments.len(), 6);
    assert_seamless(&segments);
    assert_nothing_differed(&mut pair);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loss_of_one_of_two_pushes_through_tls_shows_in_nothing() {
    let mut pair = sharing().await;
    let (port, feed) = (pair.holder.node.rtmp.port(), seconds(0..5));
    let mut primary = through_tls(&pair, [127, 0, 0, 1]).await;
    let mut backup = Encoder::publish_at(([127, 0, 0, 2], port).into(), &backup_key(&pair)).await;
    backup.hears("NetStream.Publish.Start").await;
    primary.send(&part(&feed, 0, 2_600)).await;
    backup.send(&part(&feed, 0, 1_300)).await;
    pair.alike(0, 2).await;
    primary.dies();
    backup.send(&part(&feed, 1_300, 5_000)).await;
    backup.leaves().await;
    let segments = pair.alike(0, 5).await;
    assert_eq!(hashes(&segments), alone(&feed).await, "not a byte more or less");
    assert_seamless(&segments);
    assert_nothing_differed(&mut pair);
    pair.stop().await;
}
