//! Two nodes on loopback that make the same of what one of them is sent. A small driver stands for the control half: it
//! gives the orders that an election would give. No rights are needed: a proxy stands for the kernel's move of a connection.
#![allow(clippy::unwrap_used)]

mod anew;
mod backup;
#[path = "../common/mod.rs"]
mod common;
mod harness;
mod rejoin;
mod through_tls;

use common::{
    Encoder, Lab, alone, av1_seconds, encodings_seconds, hashes, hevc_seconds, new_key, seconds,
    several_seconds, soon, stream,
};
use failover::Gate;
use harness::{Cable, Pair, Side, free_address, settled, survivors};
use ingest_api::window::{Marking, Segment};
use ingest_api::{Snapshot, Track};
use mirror::Role;
use releve_ingest::config::pair::Protect;
use releve_ingest::io::pair::orders::{Egress, Order, Report};
use releve_ingest::io::pair::outline::Outline;
use releve_state::coordinator::{Coordinator, MarkPolicy, StreamRecord};
use rtmp::amf::Value;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use takeover::hold::{Base, Confirmed, Flow, SynAck};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_list_the_same_segments() {
    let pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..5)).await;
    let segments = pair.alike(0, 4).await;
    assert_eq!(
        segments[0].tracks.iter().map(|track| track.track).collect::<Vec<_>>(),
        [Track::Video, Track::AUDIO]
    );
    let open = |snapshot: &Snapshot| {
        snapshot.open.as_ref().is_some_and(|open| open.number == 4 && open.parts() >= 2)
    };
    let of_holder = pair.holder.lab.window(&pair.holder.node, open).await.open;
    let of_standby =
        async { while pair.standby.lab.window(&pair.standby.node, open).await.open != of_holder {} };
    soon(of_standby).await;
    encoder.leaves().await;
    pair.alike(0, 5).await;
    let theirs = pair.standby.lab.state.last_segment(&stream()).await.unwrap();
    assert_eq!(theirs, pair.holder.lab.state.last_segment(&stream()).await.unwrap());
    pair.stop().await;
}

/// Pictures that cannot be marked go on as they come, on both nodes and through a handover.
#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_list_the_same_hevc() {
    unmarkable(hevc_seconds(0..6), ["hvc1.1.6.L30.90", "mp4a.40.2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_list_the_same_av1_and_opus() {
    unmarkable(av1_seconds(0..6), ["av01.0.00M.08", "Opus"]).await;
}

/// Each further audio track is the same on both nodes, byte for byte, and through a handover.
#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_list_the_same_further_audio_tracks() {
    let codecs = ["avc1.64000a", "mp4a.40.2", "Opus", "mp4a.40.2"];
    let segments = through_a_handover(MarkPolicy::Off, several_seconds(0..6), &codecs).await;
    let tracks = [Track::Video, Track::AUDIO, Track::ALL[2], Track::ALL[3]];
    for segment in &segments {
        assert!(segment.tracks.iter().map(|track| track.track).eq(tracks));
        assert_ne!(segment.tracks[1].sha256, segment.tracks[2].sha256);
    }
    assert_eq!(
        segments.last().unwrap().tracks[2].sound_end.unwrap().sample,
        6 * 48_000,
        "no frame is missing"
    );
}

/// Each further encoding is the same on both nodes, byte for byte, and through a handover.
#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_list_the_same_further_encodings() {
    let codecs = ["avc1.64000a", "mp4a.40.2", "hvc1.1.6.L30.90", "av01.0.00M.08", "avc1.64000a"];
    let segments = through_a_handover(MarkPolicy::Off, encodings_seconds(0..6), &codecs).await;
    let tracks = ["video", "audio", "video2", "video3", "video4"];
    for segment in &segments {
        assert!(segment.tracks.iter().map(|track| track.track.as_str()).eq(tracks));
        assert_eq!(segment.tracks[0].sha256, segment.tracks[4].sha256, "no picture is missing");
        assert_ne!(segment.tracks[0].sha256, segment.tracks[2].sha256);
    }
}

async fn unmarkable(media: Vec<rtmp::Message>, codecs: [&str; 2]) {
    let segments = through_a_handover(MarkPolicy::Prefer, media, &codecs).await;
    assert!(segments.iter().flat_map(|one| &one.gops).all(|gop| gop.marking == Marking::Unmarked));
    assert_eq!(segments.iter().map(|one| one.gops.len()).sum::<usize>(), 6);
}

/// What both list of six seconds that are handed over in the third.
async fn through_a_handover(mark: MarkPolicy, media: Vec<rtmp::Message>, codecs: &[&str]) -> Vec<Segment> {
    let mut pair = Pair::new(mark, Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let (before, after) = media.split_at(media.len() * 5 / 12);
    encoder.send(before).await;
    pair.alike(0, 2).await;
    pair.hand_over().await;
    encoder.send(after).await;
    pair.join().await;
    encoder.leaves().await;
    let segments = pair.alike(0, 6).await;
    assert!(segments.iter().all(|one| (one.run, one.discontinuity) == (segments[0].run, 0)));
    let listed = pair.standby.lab.ended(&pair.standby.node).await;
    let listed: Vec<_> = listed.tracks.iter().map(|info| info.codec.as_str()).collect();
    assert_eq!(listed, codecs);
    pair.stop().await;
    segments
}

#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_list_the_same_marks() {
    let pair = Pair::new(MarkPolicy::Require, Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..4)).await;
    let segments = pair.alike(0, 3).await;
    assert!(segments.iter().flat_map(|segment| &segment.gops).all(|gop| gop.marking == Marking::Marked));
    encoder.leaves().await;
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_cannot_mark_is_given_the_holders_slices() {
    // Of the picture and of a further encoding; where it is the holder who cannot, neither has one.
    let cases = [(MarkPolicy::Require, true), (MarkPolicy::Prefer, true), (MarkPolicy::Prefer, false)];
    for (mark, holder_marks) in cases {
        let mut first = Lab::new(mark).await;
        let mut second = first.twin().await;
        let without = if holder_marks { &mut second } else { &mut first };
        without.marker = "/nonexistent/marker".into();
        let (a, b) = (free_address(), free_address());
        let mut pair = Pair::of((first, a, b), (second, b, a), Protect::Commit).await;
        pair.join().await;
        let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
        encoder.send(&encodings_seconds(0..5)).await;
        // The holder keeps nothing of a publisher that has left.
        pair.alike(0, 4).await;
        encoder.leaves().await;
        let segments = pair.alike(0, 5).await;
        let marking = if holder_marks { Marking::Marked } else { Marking::Unmarked };
        assert!(segments.iter().flat_map(|one| &one.gops).all(|gop| gop.marking == marking));
        for segment in &segments {
            let further = segment.tracks.iter().find(|track| track.track.as_str() == "video4");
            let gops = further.map(|track| &track.gops);
            assert_eq!(gops, Some(&segment.gops).filter(|_| holder_marks));
        }
        let facts = pair.standby.node.pair_status().unwrap().streams;
        assert!(facts.values().all(|facts| facts.differing == 0), "{facts:?}");
        pair.stop().await;
    }
}

/// Each encoding has its marks on both nodes, and through a handover.
#[tokio::test(flavor = "multi_thread")]
async fn both_nodes_list_the_same_marks_of_further_encodings() {
    let codecs = ["avc1.64000a", "mp4a.40.2", "avc1.64000a"];
    let segments = through_a_handover(MarkPolicy::Require, encodings_seconds(0..6), &codecs).await;
    for segment in &segments {
        let [first, _, further] = &segment.tracks[..] else { panic!("{:?}", segment.tracks) };
        assert!(further.gops == segment.gops && further.gops[0].marking == Marking::Marked);
        assert_eq!(further.sha256, first.sha256, "the same pictures with the same marks");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_holder_does_not_show_in_the_stream() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let cable = Cable::to(&pair.holder.node).await;
    let mut encoder = Encoder::publish_at(cable.address, &pair.holder.lab.key).await;
    encoder.hears("NetStream.Publish.Start").await;
    let media = seconds(0..6);
    // In the middle of the fourth second: a segment is open.
    let (before, after) = media.split_at(media.len() * 7 / 12);
    encoder.send(before).await;
    let listed = pair.alike(0, 3).await;
    settled(&pair, &[&cable]).await;
    pair.crash(&[&cable]).await;
    encoder.send(after).await;
    encoder.leaves().await;
    let snapshot = pair.standby.lab.ended(&pair.standby.node).await;
    assert_eq!(snapshot.segments[..3], listed, "what was listed stays as it was");
    assert_eq!(hashes(&snapshot.segments), alone(&seconds(0..6)).await, "not a byte is missing");
    let facts: Vec<_> = snapshot.segments.iter().map(|s| (s.number, s.run, s.discontinuity)).collect();
    assert_eq!(facts, (0..6).map(|number| (number, listed[0].run, 0)).collect::<Vec<_>>());
    assert_eq!(snapshot.epoch, 2, "whoever held the stream before is fenced");
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_handover_does_not_show_and_goes_back_and_forth() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    let media = seconds(0..8);
    let pieces: Vec<_> = media.chunks(media.len() / 4).collect();
    encoder.send(pieces[0]).await;
    pair.alike(0, 1).await;
    for piece in &pieces[1..] {
        pair.hand_over().await;
        encoder.send(piece).await;
        pair.join().await;
    }
    encoder.leaves().await;
    let segments = pair.alike(0, 8).await;
    assert_eq!(hashes(&segments), alone(&seconds(0..8)).await, "not a byte is missing");
    assert!(segments.iter().all(|segment| (segment.run, segment.discontinuity) == (segments[0].run, 0)));
    pair.stop().await;
}

/// The question comes in the last moment in which the former holder can read it, and the answer is the next holder's: no two
/// nodes begin a run.
#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_comes_amid_a_handover_is_answered_once() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let streams = pair.holder.lab.state.directory().await.unwrap();
    pair.standby.lab.state.merge_directory(streams).await.unwrap();
    let mut encoder = Encoder::connects(pair.holder.node.rtmp, &[]).await;
    encoder.hears("NetConnection.Connect.Success").await;
    let mirrored = async {
        while pair.standby.node.pair_status().unwrap().connections != 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(mirrored).await;
    let sockets = pair.detach().await;
    encoder.ask(&pair.holder.lab.key).await;
    let arrived = async {
        while !matches!(sockets[0].stream.peek(&mut [0; 1]), Ok(1)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    soon(arrived).await;
    pair.give(sockets).await;
    encoder.hears("NetStream.Publish.Start").await;
    pair.join().await;
    encoder.send(&seconds(0..4)).await;
    encoder.leaves().await;
    let segments = pair.alike(0, 4).await;
    assert_eq!(hashes(&segments), alone(&seconds(0..4)).await, "not a byte is missing");
    let mut runs = Vec::new();
    for side in [&pair.holder, &pair.standby] {
        runs.push(side.lab.state.latest_run(&stream()).await.unwrap().map(|run| run.id));
    }
    assert!(runs[0] == Some(segments[0].run) && runs[0] == runs[1], "two runs: {runs:?}");
    pair.stop().await;
}

/// The twin has another pattern key: what it makes differs, in the pictures alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_named_and_the_holders_counts() {
    let first = Lab::new(MarkPolicy::Prefer).await;
    let second = first.twin().await;
    let stranger = Lab::new(MarkPolicy::Prefer).await;
    std::fs::copy(
        stranger.folder.path().join("keys/pattern.key"),
        second.folder.path().join("keys/pattern.key"),
    )
    .unwrap();
    let (a, b) = (free_address(), free_address());
    let mut pair = Pair::of((first, a, b), (second, b, a), Protect::Commit).await;
    pair.join().await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..3)).await;
    let holder = pair.holder.lab.listed(&pair.holder.node, 2).await;
    for side in [&mut pair.holder, &mut pair.standby] {
        let diverged = |report| match report {
            Report::Diverged(words) => Some(words),
            _ => None,
        };
        let words = side.hears(diverged).await;
        assert!(words.contains("segment 0 (video)") && words.contains("station Marked"), "{words}");
    }
    let byte = |report| match report {
        Report::Diverged(words) if words.contains("the first byte that differs is") => Some(words),
        _ => None,
    };
    let words = pair.standby.hears(byte).await;
    assert!(words.contains("stream demo, segment 0 (video)") && words.contains("at the holder"), "{words}");
    encoder.leaves().await;
    let holder = pair.holder.lab.listed(&pair.holder.node, holder.segments.len().max(3)).await;
    let standby = &pair.standby;
    let adopted = async {
        while standby.lab.state.last_segment(&stream()).await.unwrap().is_none_or(|last| last.number < 2) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(adopted).await;
    let recorded = standby.lab.state.last_segment(&stream()).await.unwrap().unwrap();
    assert_eq!(recorded, holder.segments[2], "the holder's record is the one that is kept");
    let snapshot = standby.lab.window(&standby.node, |_| true).await;
    assert_eq!(snapshot.segments, [], "what differs is not listed");
    pair.stop().await;
}

/// Between the two nodes: what the standby says waits while the gate is shut.
async fn gated(holder: SocketAddr) -> (SocketAddr, tokio::sync::watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (gate, open) = tokio::sync::watch::channel(true);
    tokio::spawn(async move {
        while let Ok((standby, _)) = listener.accept().await {
            let Ok(holder) = TcpStream::connect(holder).await else { continue };
            let ((mut from_standby, mut to_standby), (mut from_holder, mut to_holder)) =
                (standby.into_split(), holder.into_split());
            let mut open = open.clone();
            tokio::spawn(async move { tokio::io::copy(&mut from_holder, &mut to_standby).await });
            tokio::spawn(async move {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from_standby.read(&mut buffer).await {
                    open.wait_for(|open| *open).await.unwrap();
                    to_holder.write_all(&buffer[..count]).await.unwrap();
                }
            });
        }
    });
    (address, gate)
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_listed_before_both_have_made_it_unless_the_holder_is_alone() {
    for protect in [Protect::Commit, Protect::Handover] {
        let first = Lab::new(MarkPolicy::Off).await;
        let second = first.twin().await;
        let (a, b) = (free_address(), free_address());
        let (between, gate) = gated(a).await;
        let mut pair = Pair::of((first, a, b), (second, b, between), protect).await;
        pair.join().await;
        let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
        encoder.send(&seconds(0..2)).await;
        pair.alike(0, 1).await;
        gate.send_replace(false);
        encoder.send(&seconds(2..5)).await;
        // The standby hears the holder and lists all that both made.
        pair.standby.lab.listed(&pair.standby.node, 4).await;
        let held_back = pair.holder.lab.window(&pair.holder.node, |_| true).await;
        match protect {
            Protect::Commit => {
                assert!(held_back.segments.len() <= 2, "{:?}", hashes(&held_back.segments));
                assert!(held_back.open.is_none_or(|open| open.number < 2), "parts are listed early");
                // Shut off for good, the holder is granted to go on alone.
                pair.holder.order(Order::Gate(Gate::Held));
                pair.holder.order(Order::CloseLink);
                pair.holder.order(Order::Gate(Gate::Alone(2)));
            }
            Protect::Handover => gate.send_modify(|open| *open = false),
        }
        let listed = pair.holder.lab.listed(&pair.holder.node, 4).await;
        assert_eq!(listed.segments.iter().map(|segment| segment.number).collect::<Vec<_>>(), [0, 1, 2, 3]);
        gate.send_replace(true);
        pair.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_replaced_ends_at_the_same_byte_on_both_nodes() {
    let pair = Pair::new(MarkPolicy::Prefer, Protect::Commit).await;
    let mut first = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    // More than the stream's queue takes: some of it is parsed, some read, some neither, when the second one comes.
    let media = seconds(0..60);
    let replaces = async {
        // Something of the first one's must be there to go on from.
        pair.holder.lab.listed(&pair.holder.node, 1).await;
        Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await
    };
    let (mut second, ()) = tokio::join!(replaces, first.send(&media));
    first.closed().await;
    second.send(&seconds(500..503)).await;
    second.leaves().await;
    let segments = pair.ended(4).await;
    assert!(segments.windows(2).all(|two| two[1].start_90k == two[0].start_90k + two[0].duration_90k));
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_survivor_that_cannot_be_resumed_has_left_and_may_come_back() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Handover).await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..3)).await;
    let listed = pair.alike(0, 2).await;
    let standby = &mut pair.standby;
    // The third one has begun there too.
    let third = |now: &Snapshot| now.open.as_ref().is_some_and(|open| open.number == 2 && open.parts() > 0);
    standby.lab.window(&standby.node, third).await;
    let refused = Encoder::publish(&standby.node, &standby.lab.key).await;
    refused.closed().await;
    standby.order(Order::CloseLink);
    standby.order(Order::TakeOver);
    assert_eq!(standby.hears(survivors).await.unwrap().len(), 1);
    standby.order(Order::Resume(Vec::new()));
    standby.order(Order::Gate(Gate::Alone(2)));
    // The third one is listed once the gate is open: that may be a moment after the publisher has left.
    let left = standby.lab.window(&standby.node, |now| !now.live && now.segments.len() == 3).await;
    assert_eq!(&left.segments[..2], &listed[..]);
    let mut back = Encoder::accepted(&standby.node, &standby.lab.key).await;
    back.send(&seconds(0..2)).await;
    back.leaves().await;
    let snapshot = standby.lab.window(&standby.node, |now| !now.live && now.segments.len() == 5).await;
    let facts: Vec<_> = snapshot.segments.iter().map(|s| (s.number, s.run, s.discontinuity)).collect();
    assert_eq!(facts, (0..5).map(|number| (number, listed[0].run, 0)).collect::<Vec<_>>());
    pair.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_stops_asks_its_publisher_to_reconnect_and_both_nodes_have_its_last_words() {
    let Pair { holder, mut standby, .. } = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let reconnect = [("capsEx", Value::Number(1.0))];
    let mut encoder = Encoder::publish_with(holder.node.rtmp, &holder.lab.key, &reconnect).await;
    encoder.send(&seconds(0..2)).await;
    holder.lab.listed(&holder.node, 1).await;
    tokio::join!(soon(holder.node.stop()), async {
        encoder.hears("NetConnection.Connect.ReconnectRequest").await;
        // Up to the next IDR picture, as the specification wants it.
        encoder.send(&seconds(2..3)).await;
        assert!(!encoder.has_heard("NetConnection.Connect.Closed"));
        encoder.leaves().await;
    });
    let ended = standby.lab.window(&standby.node, |now| !now.live && now.segments.len() == 3).await;
    assert_eq!(hashes(&ended.segments), alone(&seconds(0..3)).await, "what it sent to its end");
    let recorded = holder.lab.state.last_segment(&stream()).await.unwrap();
    assert_eq!(recorded.as_ref(), ended.segments.last(), "both nodes recorded the same");
    // The address has gone over: there it goes on.
    standby.order(Order::CloseLink);
    standby.hears(|report| matches!(report, Report::LinkDown).then_some(())).await;
    standby.order(Order::TakeOver);
    assert_eq!(standby.hears(survivors).await, Some(Vec::new()), "its connection has ended");
    standby.order(Order::Resume(Vec::new()));
    standby.order(Order::Gate(Gate::Alone(2)));
    let serves = async {
        while !standby.node.pair_status().unwrap().holder {
            tokio::task::yield_now().await;
        }
    };
    soon(serves).await;
    let mut back = Encoder::accepted(&standby.node, &standby.lab.key).await;
    back.send(&seconds(3..5)).await;
    back.leaves().await;
    let snapshot = standby.lab.window(&standby.node, |now| !now.live && now.segments.len() == 5).await;
    assert_eq!(snapshot.segments[..3], ended.segments);
    let facts: Vec<_> = snapshot.segments.iter().map(|s| (s.number, s.run, s.discontinuity)).collect();
    assert_eq!(facts, (0..5).map(|number| (number, facts[0].1, 0)).collect::<Vec<_>>());
    soon(standby.node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_closes_a_publisher_that_does_not_reconnect_behind_the_same_byte_on_both_nodes() {
    let Pair { holder, standby, .. } = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let reconnect = [("capsEx", Value::Number(1.0))];
    let mut stays = Encoder::publish_with(holder.node.rtmp, &holder.lab.key, &reconnect).await;
    stays.send(&seconds(0..2)).await;
    holder.lab.listed(&holder.node, 1).await;
    tokio::join!(soon(holder.node.stop()), async {
        stays.hears("NetConnection.Connect.ReconnectRequest").await;
        // It goes on past the time it is given.
        for second in 2..40 {
            stays.send(&seconds(second..second + 1)).await;
            if stays.has_heard("NetConnection.Connect.Closed") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        stays.hears("NetConnection.Connect.Closed").await;
        stays.closed().await;
    });
    let ended = standby.lab.window(&standby.node, |now| !now.live && now.segments.len() >= 3).await;
    let recorded = holder.lab.state.last_segment(&stream()).await.unwrap();
    assert_eq!(recorded.as_ref(), ended.segments.last(), "both nodes recorded the same");
    let facts = standby.node.pair_status().unwrap().streams;
    assert!(facts.values().all(|facts| facts.differing == 0), "{facts:?}");
    soon(standby.node.stop()).await;
}

/// A wire between the nodes, and what cuts it: then nothing arrives any more, and nobody is told.
async fn wire_to(node: SocketAddr) -> (SocketAddr, Arc<Notify>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cut = Arc::new(Notify::new());
    let is_cut = cut.clone();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(node).await.unwrap();
        tokio::select! {
            _ = copy_bidirectional(&mut near, &mut far) => {}
            () = is_cut.notified() => std::future::pending().await,
        }
    });
    (address, cut)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_on_which_nothing_arrives_any_more_is_given_up_soon() {
    let first = Lab::new(MarkPolicy::Off).await;
    let second = first.twin().await;
    let (a, b) = (free_address(), free_address());
    let (wire, cut) = wire_to(a).await;
    let mut pair = Pair::of((first, a, b), (second, b, wire), Protect::Commit).await;
    pair.join().await;
    let mut encoder = Encoder::accepted(&pair.holder.node, &pair.holder.lab.key).await;
    encoder.send(&seconds(0..2)).await;
    pair.alike(0, 1).await;
    cut.notify_one();
    encoder.send(&seconds(2..4)).await;
    let down = pair.holder.hears(|report| matches!(report, Report::LinkDown).then_some(()));
    tokio::time::timeout(Duration::from_secs(3), down).await.expect("the link is given up");
    pair.holder.order(Order::Gate(Gate::Alone(2)));
    let snapshot = pair.holder.lab.listed(&pair.holder.node, 3).await;
    assert_eq!(hashes(&snapshot.segments[..3]), alone(&seconds(0..4)).await[..6]);
    encoder.leaves().await;
    pair.stop().await;
}

/// Stands for the packet hold: which connections it was told about.
#[derive(Default)]
struct Told(Mutex<Vec<(Flow, Base)>>);

impl Egress for Told {
    fn admit(&self, flow: Flow, base: Base) {
        self.0.lock().unwrap().push((flow, base));
    }
    fn confirm(&self, _: &[(Flow, Base, Confirmed)]) {}
    fn finish(&self, _: Flow, _: Base) {}
    fn forget(&self, _: Flow) {}
}

/// A publisher that fails and tries again at once may come from the same port, before its first connection's line has ended.
#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_used_again_is_another_connection() {
    let told = Arc::new(Told::default());
    let first = Lab::new(MarkPolicy::Off).await;
    let second = first.twin().await;
    let (a, b) = (free_address(), free_address());
    let holder = Side::with(first, 1, Protect::Commit, a, b, Some(told.clone())).await;
    let standby = Side::new(second, 2, Protect::Commit, b, a).await;
    let mut pair = Pair::between(holder, standby).await;
    pair.join().await;
    let flow = Flow { local: pair.holder.node.rtmp, peer: "127.0.0.1:50414".parse().unwrap() };
    for received in [1_000, 2_000] {
        let base = Base { received, sent: 7 };
        let syn_ack = SynAck { base, segment_max: None, sack: false, scale: None, timestamp: None };
        pair.holder.order(Order::Opened(flow, syn_ack));
        let admitted = async {
            while !told.0.lock().unwrap().contains(&(flow, base)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(admitted).await;
    }
    pair.stop().await;
}

/// The hold has told of a handshake before the connection is accepted, and the data half is busy with other orders.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_accepted_while_orders_wait_is_the_one_the_hold_has_told_of() {
    let mut pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let rtmp = pair.holder.node.rtmp;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let flow = Flow { local: rtmp, peer: socket.local_addr().unwrap() };
    let base = Base { received: 1_000, sent: 7 };
    let syn_ack = SynAck { base, segment_max: None, sack: false, scale: None, timestamp: None };
    for _ in 0..20_000 {
        pair.holder.order(Order::Gate(Gate::Confirmed(pair.epoch)));
    }
    pair.holder.order(Order::Opened(flow, syn_ack));
    let client = socket.connect(rtmp).await.unwrap();
    // It is in the books of both, once, with where its numbers begin.
    let known = async {
        while pair.standby.node.pair_status().unwrap().connections == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(known).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    pair.standby.order(Order::CloseLink);
    pair.standby.order(Order::TakeOver);
    let survived = pair.standby.hears(survivors).await.expect("it was paired");
    let bases: Vec<_> = survived
        .iter()
        .map(|survivor| Outline::decode(&survivor.tcp).ok().and_then(|outline| outline.base))
        .collect();
    assert_eq!(bases, [Some(base)]);
    drop(client);
    pair.stop().await;
}

/// What the operator does at either node holds at both.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_key_that_is_made_at_one_node_opens_the_other() {
    let pair = Pair::new(MarkPolicy::Off, Protect::Commit).await;
    let (here, there) = (&pair.holder.lab.state, &pair.standby.lab.state);
    let same = async || {
        let comes = async {
            while here.directory().await.unwrap() != there.directory().await.unwrap() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        soon(comes).await;
    };
    same().await;
    let (_, mut record) = new_key(MarkPolicy::Off);
    record.name = "second".parse().unwrap();
    here.add_stream(record.clone()).await.unwrap();
    same().await;
    assert_eq!(there.stream_by_key_id(&record.key_id).await.unwrap(), Some(record.clone()));
    let (_, newer) = new_key(MarkPolicy::Require);
    let newer = StreamRecord { name: record.name.clone(), ..newer };
    there.update_stream(newer.clone()).await.unwrap();
    same().await;
    assert_eq!(here.stream_by_key_id(&record.key_id).await.unwrap(), None);
    assert_eq!(here.stream(&record.name).await.unwrap(), Some(newer));
    here.remove_stream(&record.name).await.unwrap();
    same().await;
    assert_eq!(there.stream(&record.name).await.unwrap(), None);
    pair.stop().await;
}
