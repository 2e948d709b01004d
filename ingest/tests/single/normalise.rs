//! A stream of long GOPs at a node that normalises, and whose normalising processes end: the publisher is closed, and not
//! for ever.

use crate::common::{Encoder, Lab, get, seconds, soon};
#[cfg(feature = "libav")]
use crate::common::{hevc_seconds, reported};
use ingest_api::window::Marking;
use releve_ingest::io::publish::GRACE;
use releve_state::coordinator::MarkPolicy;
use rtmp::{MediaKind, Message};

/// A configuration says another level in its record: it is not the one before.
fn of_another_level(message: Message) -> Message {
    let mut payload = message.payload.to_vec();
    if message.kind == MediaKind::Video && payload[1] == 0 {
        payload[8] += 1; // ISO/IEC 14496-15 §5.3.3.1.2, behind five bytes of FLV
    }
    Message { payload: payload.into(), ..message }
}

/// What is held until it is known whether it fits comes after what was there before it.
#[tokio::test(flavor = "multi_thread")]
async fn another_configuration_within_a_segment_loses_no_picture() {
    let lab = Lab::new(MarkPolicy::Prefer).await;
    let node = lab.node_with(GRACE, "normalise = \"auto\"\n").await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..2)).await;
    let begun = seconds(2..3).into_iter().filter(|message| message.timestamp < 2_300);
    encoder.send(&begun.collect::<Vec<_>>()).await;
    let is_configuration = |message: &Message| message.payload[1] == 0;
    for second in 0..3 {
        let later =
            |message: Message| Message { timestamp: message.timestamp + 2_300, ..of_another_level(message) };
        let messages = seconds(second..second + 1).into_iter().map(later);
        let messages = messages.filter(|message| second == 0 || !is_configuration(message));
        encoder.send(&messages.collect::<Vec<_>>()).await;
    }
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    let starts: Vec<i64> = snapshot
        .segments
        .iter()
        .flat_map(|segment| segment.gops.iter().map(|gop| gop.start_90k / 9_000))
        .collect();
    assert_eq!(starts, [0, 10, 20, 23, 33, 43], "tenths of a second");
    soon(node.stop()).await;
}

/// Four seconds of which only the first begins with an IDR picture.
fn long() -> Vec<Message> {
    let first = seconds(0..1);
    let is_idr = |message: &Message| {
        message.kind == MediaKind::Video && message.payload[0] >> 4 == 1 && message.payload[1] == 1
    };
    first.into_iter().chain(seconds(1..4).into_iter().filter(|message| !is_idr(message))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_normalised_is_closed_three_times_and_then_passes() {
    let mut lab = Lab::new(MarkPolicy::Prefer).await;
    lab.marker = "/bin/false".into();
    let node = lab.node_with(GRACE, "normalise = \"auto\"\n").await;
    for _ in 0..3 {
        let mut encoder = Encoder::accepted(&node, &lab.key).await;
        encoder.send(&long()).await;
        encoder.closed().await;
    }
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&long()).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    let gops: Vec<Marking> =
        snapshot.segments.iter().flat_map(|segment| segment.gops.iter().map(|gop| gop.marking)).collect();
    assert_eq!(gops, [Marking::Unmarked], "one GOP, as it came");
    let pictures: i64 = snapshot.segments.iter().map(|segment| segment.duration_90k).sum();
    assert!((350_000..370_000).contains(&pictures), "{pictures} ticks of four seconds");
    let (_, _, metrics) = get(node.admin, "/metrics", "").await.unwrap();
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("kind=\"not-normalised\"} 1"), "{metrics}");
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fits_and_what_ends_early_pass_a_node_that_normalises() {
    for (messages, length) in [(seconds(0..4), 4), (seconds(0..1), 1)] {
        let lab = Lab::new(MarkPolicy::Prefer).await;
        let node = lab.node_with(GRACE, "normalise = \"auto\"\n").await;
        let mut encoder = Encoder::accepted(&node, &lab.key).await;
        encoder.send(&messages).await;
        encoder.leaves().await;
        let snapshot = lab.ended(&node).await;
        let pictures: i64 = snapshot.segments.iter().map(|segment| segment.duration_90k).sum();
        assert!((pictures - length * 90_000).abs() < 20_000, "{pictures} ticks of {length} s");
        soon(node.stop()).await;
    }
}

#[cfg(feature = "libav")]
#[tokio::test(flavor = "multi_thread")]
async fn hevc_goes_out_as_h264_that_is_marked() {
    let lab = Lab::new(MarkPolicy::Require).await;
    let node = lab.node_with(GRACE, "normalise = \"auto\"\n").await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&hevc_seconds(0..4)).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    let codecs: Vec<_> = snapshot.tracks.iter().map(|info| info.codec.as_str()).collect();
    assert!(codecs[0].starts_with("avc1.6400") && codecs[1] == "mp4a.40.2", "{codecs:?}");
    let gops: Vec<_> = snapshot.segments.iter().flat_map(|one| &one.gops).collect();
    assert!(gops.len() >= 2 && gops.iter().all(|gop| gop.marking == Marking::Marked), "{gops:?}");
    let pictures: i64 = snapshot.segments.iter().map(|segment| segment.duration_90k).sum();
    assert!((pictures - 360_000).abs() < 20_000, "{pictures} ticks of 4 s");
    assert_eq!(reported(&node, "normalised").await, 1);
    soon(node.stop()).await;
}
