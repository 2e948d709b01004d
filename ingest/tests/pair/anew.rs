//! A stream whose IDR pictures are three seconds apart, on two nodes that normalise: both code it anew, alike.

use super::*;
use crate::common::reported;
use ingest_api::window::Sha256;
use mark::h264::nal::{kind, split_annexb};
use releve_ingest::io::publish::GRACE;
use rtmp::{MediaKind, Message};
use std::ops::Range;

const NORMALISES: &str = "normalise = \"auto\"\n";

/// Periods of three seconds, each with one IDR picture: the pictures of a second three times as slowly, and the sound of three.
fn film(periods: Range<u32>) -> Vec<Message> {
    let of = |kind, messages: Vec<Message>| messages.into_iter().filter(move |message| message.kind == kind);
    let slowly = |message: Message| Message { timestamp: message.timestamp * 3, ..message };
    let mut messages: Vec<Message> = of(MediaKind::Video, seconds(periods.clone())).map(slowly).collect();
    messages.extend(of(MediaKind::Audio, seconds(periods.start * 3..periods.end * 3)));
    messages.sort_by_key(|message| message.timestamp);
    messages
}

/// So many pictures of 30 a second, without sound: one IDR picture and never again.
fn of_one_idr_picture(pictures: u32) -> Vec<Message> {
    let mut encoder = codec::GopEncoder::new(64, 64, 30).unwrap();
    let mut messages = Vec::new();
    for number in 0..pictures {
        let samples = (0..64 * 64 * 3 / 2).map(|at: u32| (at / 5 + number * 3) as u8).collect();
        let picture = codec::Picture::new(64, 64, samples).unwrap();
        let annexb = encoder.encode(&picture, 30, number == 0).unwrap();
        let units = split_annexb(&annexb);
        let of = |kinds: &[u8]| units.iter().copied().find(|unit| kinds.contains(&(unit[0] & 31))).unwrap();
        let mut say = |payload: Vec<u8>| {
            let timestamp = number * 100 / 3;
            messages.push(Message { kind: MediaKind::Video, timestamp, payload: payload.into() });
        };
        let sized = |unit: &[u8]| [&(unit.len() as u16).to_be_bytes()[..], unit].concat();
        if number == 0 {
            let (sps, pps) = (of(&[kind::SPS]), of(&[kind::PPS]));
            // ISO/IEC 14496-15 §5.3.3.1.2.
            let record =
                [&[1, sps[1], sps[2], sps[3], 0xff, 0xe1], &sized(sps)[..], &[1], &sized(pps)].concat();
            say([&[0x17, 0, 0, 0, 0], &record[..], &[0xfd, 0xf8, 0xf8, 0]].concat());
        }
        let slice = of(&[kind::SLICE, kind::IDR]);
        let head = if number == 0 { 0x17 } else { 0x27 };
        say([&[head, 1, 0, 0, 0], &(slice.len() as u32).to_be_bytes()[..], slice].concat());
    }
    messages
}

/// The holder is alone.
async fn normalising() -> Pair {
    with_markers(MarkPolicy::Require, [None, None]).await
}

/// The same with other programs that mark and normalise, at the holder and at the standby.
async fn with_markers(mark: MarkPolicy, [holder, standby]: [Option<&str>; 2]) -> Pair {
    let mut first = Lab::new(mark).await;
    first.more = NORMALISES;
    let mut second = first.twin().await;
    holder.into_iter().for_each(|program| first.marker = program.into());
    standby.into_iter().for_each(|program| second.marker = program.into());
    let (a, b) = (free_address(), free_address());
    Pair::of((first, a, b), (second, b, a), Protect::Commit).await
}

/// Sends what is of each second, a fifth of a second for it, until the standby has joined; gives the rest.
async fn joins<'a>(pair: &mut Pair, encoder: &mut Encoder, media: &'a [Message]) -> &'a [Message] {
    let joining = pair.join();
    tokio::pin!(joining);
    let mut rest = media;
    loop {
        let second = rest[0].timestamp / 1_000;
        let (next, later) =
            rest.split_at(rest.partition_point(|message| message.timestamp / 1_000 <= second));
        encoder.send(next).await;
        rest = later;
        tokio::select! {
            () = &mut joining => return rest,
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
        }
    }
}

/// Every GOP is of a second and marked, all are of one run, and neither node says that it differs.
fn looks_whole(pair: &Pair, segments: &[Segment]) {
    assert!(segments.iter().all(|one| (one.run, one.discontinuity) == (segments[0].run, 0)));
    let gops: Vec<_> = segments.iter().flat_map(|one| &one.gops).collect();
    assert!(
        gops.len() == segments.len() && gops.iter().all(|gop| gop.marking == Marking::Marked),
        "{gops:?}"
    );
    for side in [&pair.holder, &pair.standby] {
        let facts = side.node.pair_status().unwrap().streams;
        assert!(facts.values().all(|facts| facts.differing == 0), "{facts:?}");
    }
}

/// How long each segment is and its sound: the pictures are marked by the run's own pattern.
fn timing(segments: &[Segment]) -> Vec<(i64, i64, Sha256)> {
    let of = |one: &Segment| (one.start_90k, one.duration_90k, one.tracks[1].sha256);
    segments.iter().map(of).collect()
}

/// What one node makes of it by itself.
async fn by_itself(media: &[Message]) -> Vec<Segment> {
    let lab = Lab::new(MarkPolicy::Require).await;
    let node = lab.node_with(GRACE, NORMALISES).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(media).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    soon(node.stop()).await;
    snapshot.segments
}

#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_code_a_stream_anew_alike_through_a_handover() {
    let media = film(0..3);
    let mut pair = normalising().await;
    pair.join().await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let (before, after) = media.split_at(media.len() * 5 / 12);
    encoder.send(before).await;
    pair.alike(0, 2).await;
    assert_eq!(reported(&pair.holder.node, "normalised").await, 1);
    assert_eq!(reported(&pair.standby.node, "normalised").await, 1);
    pair.hand_over().await;
    encoder.send(after).await;
    pair.join().await;
    encoder.leaves().await;
    let segments = pair.alike(0, 9).await;
    looks_whole(&pair, &segments);
    pair.stop().await;
}

/// HEVC is coded from its first picture on, and its first second is rated by that picture alone.
#[cfg(feature = "libav")]
#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_code_hevc_alike_through_a_handover() {
    let media = crate::common::hevc_seconds(0..9);
    let mut pair = normalising().await;
    pair.join().await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let (before, after) = media.split_at(media.len() * 5 / 18);
    encoder.send(before).await;
    pair.alike(0, 2).await;
    assert_eq!(reported(&pair.standby.node, "normalised").await, 1);
    pair.hand_over().await;
    let (before, after) = after.split_at(after.len() / 2);
    encoder.send(before).await;
    pair.join().await;
    pair.alike(0, 5).await;
    encoder.send(after).await;
    encoder.leaves().await;
    let segments = pair.alike(0, 9).await;
    looks_whole(&pair, &segments);
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_in_the_middle_of_a_period_does_not_show() {
    let media = film(0..3);
    let mut pair = normalising().await;
    pair.join().await;
    let cable = Cable::to(&pair.holder.node).await;
    let mut encoder = Encoder::publish_at(cable.address, &pair.holder.lab.key).await;
    encoder.hears("NetStream.Publish.Start").await;
    let (before, after) = media.split_at(media.len() * 5 / 9);
    encoder.send(before).await;
    pair.alike(0, 4).await;
    settled(&pair, &[&cable]).await;
    pair.crash(&[&cable]).await;
    encoder.send(after).await;
    encoder.leaves().await;
    let snapshot = pair.standby.lab.ended(&pair.standby.node).await;
    assert_eq!(timing(&snapshot.segments), timing(&by_itself(&media).await), "nothing is missing");
    let gops = snapshot.segments.iter().flat_map(|one| &one.gops);
    assert_eq!(gops.filter(|gop| gop.marking == Marking::Marked).count(), 9);
    pair.stop().await;
}

/// A node that comes back has the stream from the publisher's next IDR picture on, in the middle of which nothing can begin.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_joins_a_stream_that_is_coded_anew() {
    let media = film(0..8);
    let mut pair = normalising().await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let (before, after) = media.split_at(media.len() / 6);
    encoder.send(before).await;
    pair.holder.lab.listed(&pair.holder.node, 3).await;
    let rest = joins(&mut pair, &mut encoder, after).await;
    assert_eq!(reported(&pair.holder.node, "normalised").await, 1);
    encoder.send(rest).await;
    encoder.leaves().await;
    let segments = pair.alike(14, 10).await;
    looks_whole(&pair, &segments);
    pair.stop().await;
}

/// A stream of one IDR picture would keep its pair from being one for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_no_standby_can_join_begins_anew() {
    let mut pair = normalising().await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let media = of_one_idr_picture(1_200);
    let (before, after) = media.split_at(120);
    encoder.send(before).await;
    pair.holder.lab.listed(&pair.holder.node, 3).await;
    let joining = pair.join();
    let pushing = async {
        for message in after {
            encoder.send(std::slice::from_ref(message)).await;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
    };
    tokio::select! {
        () = joining => {}
        () = pushing => panic!("nothing joined"),
    }
    encoder.closed().await;
    assert_eq!(reported(&pair.holder.node, "unshared").await, 1);
    pair.stop().await;
}

/// A standby that cannot code it says so, and the holder lists what it makes.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_cannot_code_it_holds_nothing_up() {
    let mut pair = with_markers(MarkPolicy::Require, [None, Some("/nonexistent/marker")]).await;
    pair.join().await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&film(0..2)).await;
    encoder.leaves().await;
    let snapshot = pair.holder.lab.listed(&pair.holder.node, 6).await;
    let gops: Vec<_> = snapshot.segments.iter().flat_map(|one| &one.gops).collect();
    assert!(gops.len() == 6 && gops.iter().all(|gop| gop.marking == Marking::Marked), "{gops:?}");
    let why = |report| match report {
        Report::Diverged(words) if words.contains("the normalising process failed") => Some(words),
        _ => None,
    };
    let words = pair.standby.hears(why).await;
    assert!(words.starts_with("stream demo: "), "{words}");
    // The next publisher is followed as any other.
    let listed = snapshot.segments.len() as u64;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..4)).await;
    // The slices of those that it cannot mark are the holder's, who keeps nothing of a publisher that has left.
    pair.alike(listed, 3).await;
    encoder.leaves().await;
    pair.stop().await;
}

/// A standby whose configuration differs says so, and holds nothing up.
#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_does_not_normalise_says_so_and_holds_nothing_up() {
    let mut first = Lab::new(MarkPolicy::Prefer).await;
    first.more = NORMALISES;
    let mut second = first.twin().await;
    second.more = "";
    let (a, b) = (free_address(), free_address());
    let mut pair = Pair::of((first, a, b), (second, b, a), Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let media = seconds(0..20);
    let rest = joins(&mut pair, &mut encoder, &media).await;
    encoder.send(rest).await;
    encoder.leaves().await;
    assert_eq!(reported(&pair.standby.node, "diverged").await, 1);
    let whole = |snapshot: &Snapshot| snapshot.segments.last().is_some_and(|last| last.number == 19);
    pair.holder.lab.window(&pair.holder.node, whole).await;
    pair.stop().await;
}

/// When it holds after all, the publisher begins anew there, behind the numbers that the other one used.
#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_that_made_nothing_of_a_stream_goes_on_with_its_numbers() {
    let mut pair = with_markers(MarkPolicy::Prefer, [None, Some("/nonexistent/marker")]).await;
    pair.join().await;
    let cable = Cable::to(&pair.holder.node).await;
    let mut encoder = Encoder::publish_at(cable.address, &pair.holder.lab.key).await;
    encoder.hears("NetStream.Publish.Start").await;
    let media = film(0..3);
    let (before, after) = media.split_at(media.len() * 5 / 9);
    encoder.send(before).await;
    let listed = pair.holder.lab.listed(&pair.holder.node, 4).await.segments;
    settled(&pair, &[&cable]).await;
    pair.crash(&[&cable]).await;
    encoder.send(after).await;
    let closed = async {
        while pair.standby.node.pair_status().unwrap().connections > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(closed).await;
    let mut encoder = Encoder::accepted(&pair.standby.node, &pair.standby.lab.key).await;
    encoder.send(&seconds(0..3)).await;
    encoder.leaves().await;
    let snapshot = pair.standby.lab.ended(&pair.standby.node).await;
    assert_eq!(snapshot.segments.len(), 3);
    assert!(snapshot.segments[0].number > listed.last().unwrap().number, "{}", snapshot.segments[0].number);
    assert_eq!(snapshot.segments[0].run, listed[0].run, "within the grace time the run goes on");
    pair.stop().await;
}

/// The holder has given a stream up for a while; the standby, which could code it, passes it on as well.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_holder_does_not_code_passes_on_both_nodes() {
    let mut pair = with_markers(MarkPolicy::Prefer, [Some("/bin/false"), None]).await;
    pair.join().await;
    for _ in 0..3 {
        let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
        encoder.send(&film(0..2)).await;
        encoder.closed().await;
    }
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&film(0..3)).await;
    encoder.leaves().await;
    let segments = pair.ended(3).await;
    let gops: Vec<_> = segments.iter().flat_map(|one| &one.gops).collect();
    assert!(gops.len() == 3 && gops.iter().all(|gop| gop.marking == Marking::Unmarked), "{gops:?}");
    let length: i64 = segments.iter().map(|one| one.duration_90k).sum();
    assert!((780_000..830_000).contains(&length), "{length} ticks of nine seconds");
    assert_eq!(reported(&pair.standby.node, "not-normalised").await, 1);
    pair.stop().await;
}
