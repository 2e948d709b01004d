//! A whole node on loopback: what encoders are told, what relays are shown, what a restart keeps.

use crate::common::{
    Encoder, Lab, av1_seconds, get, hevc_seconds, new_key, opus_seconds, reported, seconds, soon, stream,
};
use ingest_api::node_auth::AUTH_HEADER;
use ingest_api::origin::Route;
use ingest_api::window::{Marking, Segment, Sha256};
use ingest_api::{Object, Snapshot, Track};
use releve_ingest::io::node::Node;
use releve_ingest::io::publish::GRACE;
use releve_state::Coordinator;
use releve_state::coordinator::MarkPolicy;
use rtmp::Message;
use rtmp::amf::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fn numbers(snapshot: &Snapshot) -> Vec<u64> {
    snapshot.segments.iter().map(|segment| segment.number).collect()
}

/// Nothing between the two that a player would notice.
fn assert_seamless(before: &Segment, after: &Segment) {
    assert_eq!(after.number, before.number + 1);
    assert_eq!((after.run, after.discontinuity), (before.run, before.discontinuity));
    assert_eq!(after.start_90k, before.start_90k + before.duration_90k);
    assert_eq!(after.tracks[0].init, before.tracks[0].init);
}

/// A publish of three segments, to its end.
pub(crate) async fn three_segments(lab: &Lab, media: &[Message]) -> (Node, Snapshot) {
    let node = lab.node(GRACE).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(media).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    assert_eq!(snapshot.segments.len(), 3);
    (node, snapshot)
}

/// Relays are given what is listed, of every track.
pub(crate) async fn assert_given(lab: &Lab, node: &Node, segment: &Segment) {
    for track in &segment.tracks {
        let route = Route::Segment { stream: stream(), track: track.track, number: segment.number };
        let (status, object) = lab.ask(node.origin, route).await.unwrap();
        assert_eq!((status, Sha256::of(&object)), (200, track.sha256));
    }
}

/// Relays are given it as MPEG-TS, the same bytes to all who ask at once and whoever asks again, made of what is listed and of
/// nothing else.
async fn assert_muxed(lab: &Lab, node: &Node, segment: &Segment) {
    let (number, of) = (segment.number, segment.mpeg_ts().unwrap());
    let ask = async |of| lab.ask(node.origin, Route::MpegTs { stream: stream(), number, of }).await.unwrap();
    let answers = tokio::join!(ask(of), ask(of), ask(of));
    assert!(answers.0.0 == 200 && answers.0 == answers.1 && answers.1 == answers.2);
    let object = Object::decode(answers.0.1.clone().into()).unwrap();
    assert!(
        !object.is_empty() && object.a.chunks(188).all(|packet| packet.len() == 188 && packet[0] == 0x47)
    );
    assert_eq!(ask(of).await, answers.0);
    assert_eq!(ask(Sha256::of(b"other tracks")).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_shown_to_relays_and_to_nobody_else() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..3)).await;
    let snapshot = lab.listed(&node, 2).await;
    assert_eq!((snapshot.live, snapshot.epoch, numbers(&snapshot)), (true, 1, vec![0, 1]));
    for segment in &snapshot.segments {
        assert_muxed(&lab, &node, segment).await;
        assert_eq!(segment.tracks.len(), 2, "video and audio");
        for row in &segment.tracks {
            let route = Route::Segment { stream: stream(), track: row.track, number: segment.number };
            let (status, body) = lab.ask(node.origin, route).await.unwrap();
            assert_eq!((status, Sha256::of(&body)), (200, row.sha256));
            let init = Route::Init { stream: stream(), init: row.init.clone() };
            let (status, body) = lab.ask(node.origin, init).await.unwrap();
            assert!(status == 200 && Object::decode(body.into()).unwrap().a.windows(4).any(|b| b == b"moov"));
        }
    }
    encoder.leaves().await;
    assert_eq!(numbers(&lab.ended(&node).await), [0, 1, 2], "what was sent before leaving is there");

    let missing = Route::Segment { stream: stream(), track: Track::Video, number: 3 };
    assert_eq!(lab.ask(node.origin, missing).await.unwrap().0, 404);
    let path = Route::Streams.to_path();
    for headers in [String::new(), format!("{AUTH_HEADER}: 1 1 0 00 00\r\n")] {
        let (status, _, body) = get(node.origin, &path, &headers).await.unwrap();
        assert_eq!((status, body), (403, b"forbidden\n".to_vec()));
    }
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_listed_before_their_segment_is_complete_and_stay_the_same() {
    let lab = Lab::new(MarkPolicy::Require).await;
    let node = lab.node_with(GRACE, "low_latency = true\n").await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..2)).await;
    let fetch = async |track, number, index: usize| {
        let route = Route::Part { stream: stream(), track, number, index: index as u32 };
        lab.ask(node.origin, route).await.unwrap()
    };
    let open = |snapshot: &Snapshot| snapshot.open.as_ref().is_some_and(|open| open.parts() >= 2);
    let snapshot = lab.window(&node, open).await;
    assert_eq!(snapshot.part_90k, 30_000);
    let early = snapshot.open.unwrap();
    assert_eq!(early.tracks.len(), 2);
    for entry in &early.tracks {
        for (index, part) in entry.parts.iter().enumerate() {
            let (status, body) = fetch(entry.track, early.number, index).await;
            assert_eq!((status, Sha256::of(&body)), (200, part.sha256), "{:?} {index}", entry.track);
            let pairs = Object::decode(body.into()).unwrap().pairs.len();
            assert_eq!(
                pairs > 0,
                entry.track == Track::Video && part.independent,
                "slices are in the IDR's part"
            );
        }
        assert_eq!(fetch(entry.track, early.number, 500).await.0, 404);
    }
    encoder.send(&seconds(2..4)).await;
    let complete =
        |snapshot: &Snapshot| snapshot.segments.iter().any(|segment| segment.number == early.number);
    let later = lab.window(&node, complete).await;
    let segment = later.segments.iter().find(|segment| segment.number == early.number).unwrap();
    for (row, before) in segment.tracks.iter().zip(&early.tracks) {
        assert!(row.parts.starts_with(&before.parts), "what was listed stays");
        for (index, part) in row.parts.iter().enumerate() {
            let (status, body) = fetch(row.track, early.number, index).await;
            assert_eq!((status, Sha256::of(&body)), (200, part.sha256), "cut from the segment");
        }
    }
    encoder.leaves().await;
    assert_eq!(lab.ended(&node).await.open, None, "what was open is complete");
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_can_be_marked_is() {
    let lab = Lab::new(MarkPolicy::Require).await;
    let node = lab.node(GRACE).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..3)).await;
    let snapshot = lab.listed(&node, 2).await;
    let gops: Vec<_> = snapshot.segments.iter().flat_map(|segment| &segment.gops).collect();
    assert!(gops.len() == 2 && gops.iter().all(|gop| gop.marking == Marking::Marked), "{gops:?}");
    let route = Route::Segment { stream: stream(), track: Track::Video, number: 0 };
    let object = Object::decode(lab.ask(node.origin, route).await.unwrap().1.into()).unwrap();
    assert_eq!(object.pairs.len(), usize::from(gops[0].slices));
    soon(node.stop()).await;
}

/// The marking processes stand still: a picture waits for them for as long as it may.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_idr_picture_ends_does_not_wait_for_its_marks() {
    let mut lab = Lab::new(MarkPolicy::Require).await;
    let (pids, marker) = (lab.folder.path().join("pids"), lab.folder.path().join("marker"));
    let script = format!("#!/bin/sh\necho $$ >>{}\nexec {} \"$@\"\n", pids.display(), lab.marker.display());
    std::fs::write(&marker, script).unwrap();
    std::fs::set_permissions(&marker, Permissions::from_mode(0o700)).unwrap();
    lab.marker = marker;
    let node = lab.node(GRACE).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..1)).await;
    let marked = async || {
        let (.., page) = get(node.admin, "/metrics", "").await.unwrap();
        let page = String::from_utf8(page).unwrap();
        let count = page.lines().find_map(|line| line.strip_prefix("releve_ingest_mark_seconds_count "));
        count.unwrap().parse::<u64>().unwrap()
    };
    let first = async {
        while marked().await == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(first).await;
    for pid in std::fs::read_to_string(&pids).unwrap().lines() {
        assert!(Command::new("kill").args(["-STOP", pid]).status().unwrap().success());
    }
    encoder.send(&seconds(1..2)).await;
    lab.listed(&node, 1).await;
    assert_eq!(marked().await, 1, "the second picture is being marked");
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_opens_nothing() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let (other, _) = new_key(MarkPolicy::Off);
    let (id, _) = lab.key.split_once('_').unwrap();
    for key in [other.clone(), format!("{id}_{}", other.split_once('_').unwrap().1), "demo".to_owned()] {
        let mut encoder = Encoder::publish(&node, &key).await;
        encoder.hears("NetStream.Publish.BadName").await;
        encoder.closed().await;
    }
    let (_, _, metrics) = get(node.admin, "/metrics", "").await.unwrap();
    let metrics = String::from_utf8(metrics).unwrap();
    assert!(metrics.contains("releve_ingest_refused_total{reason=\"wrong-key\"} 3"), "{metrics}");
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encoder_that_returns_takes_its_slot_at_once_and_nobody_sees_it() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let mut first = Encoder::accepted(&node, &lab.key).await;
    first.send(&seconds(0..3)).await;
    lab.listed(&node, 2).await;
    let mut second = Encoder::accepted(&node, &lab.key).await;
    first.hears("a newer connection with this key took over").await;
    first.closed().await;
    second.send(&seconds(70..73)).await;
    lab.listed(&node, 5).await; // no longer is nobody there, as between the two
    second.leaves().await;
    let snapshot = lab.ended(&node).await;
    assert_eq!(numbers(&snapshot), [0, 1, 2, 3, 4, 5]);
    snapshot.segments.windows(2).for_each(|pair| assert_seamless(&pair[0], &pair[1]));
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_publish_on_one_connection_goes_on_where_the_first_ended() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..2)).await;
    encoder.unpublish(&lab.key).await;
    encoder.ask(&lab.key).await;
    encoder.hears("NetStream.Unpublish.Success").await;
    lab.listed(&node, 2).await;
    // The second `publish` was read with the end of the first; its media must wait for the answer.
    lab.window(&node, |snapshot| snapshot.live && snapshot.segments.len() == 2).await;
    encoder.send(&seconds(5..7)).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    assert_eq!(numbers(&snapshot), [0, 1, 2, 3]);
    snapshot.segments.windows(2).for_each(|pair| assert_seamless(&pair[0], &pair[1]));
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_has_ended_closes_its_publisher() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let mut old = Encoder::accepted(&node, &lab.key).await;
    old.send(&seconds(0..2)).await;
    lab.listed(&node, 1).await;
    let (key, record) = new_key(MarkPolicy::Off);
    lab.state.update_stream(record).await.unwrap();
    old.hears("this stream key has ended").await;
    old.closed().await;
    Encoder::publish(&node, &lab.key).await.hears("NetStream.Publish.BadName").await;
    let mut new = Encoder::accepted(&node, &key).await;
    new.send(&seconds(0..2)).await;
    lab.listed(&node, 3).await;
    new.leaves().await;
    assert_eq!(numbers(&lab.ended(&node).await), [0, 1, 2, 3]);
    lab.state.remove_stream(&stream()).await.unwrap();
    let gone = async {
        let route = || Route::Window { stream: stream(), after: None, wait_ms: 0 };
        while lab.ask(node.origin, route()).await.unwrap().0 != 404 {}
    };
    soon(gone).await;
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_records_what_it_took_and_takes_no_more() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let (origin, rtmp) = (node.origin, node.rtmp);
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&seconds(0..2)).await;
    let before = lab.listed(&node, 1).await;
    // Relays hear of the last segment before the origin closes.
    let last = |shown: &Snapshot| shown.segments.last().is_some_and(|segment| segment.number == 1);
    let follows = lab.followed(origin, Some(before.version), last);
    let ((), shown, ()) = tokio::join!(soon(node.stop()), follows, async {
        encoder.hears("the server is stopping").await;
        assert!(!encoder.has_heard("ReconnectRequest"), "it did not say that it understands this");
        encoder.closed().await;
    });
    let recorded = lab.state.last_segment(&stream()).await.unwrap().unwrap();
    assert_eq!(shown.segments.last(), Some(&recorded), "what was shown is what is recorded");
    assert!(tokio::net::TcpStream::connect(rtmp).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_asks_whoever_understands_it_to_reconnect_and_takes_its_last_words() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let node = lab.node(GRACE).await;
    let reconnect = [("capsEx", Value::Number(1.0))];
    let mut encoder = Encoder::publish_with(node.rtmp, &lab.key, &reconnect).await;
    encoder.send(&seconds(0..2)).await;
    lab.listed(&node, 1).await;
    tokio::join!(soon(node.stop()), async {
        encoder.hears("NetConnection.Connect.ReconnectRequest").await;
        // Up to the next IDR picture, as the specification wants it.
        encoder.send(&seconds(2..3)).await;
        assert!(!encoder.has_heard("NetConnection.Connect.Closed"));
        encoder.leaves().await;
    });
    let recorded = lab.state.last_segment(&stream()).await.unwrap().unwrap();
    assert_eq!(recorded.number, 2, "what it sent to its end is recorded");

    let node = lab.node(GRACE).await;
    let mut stays = Encoder::publish_with(node.rtmp, &lab.key, &reconnect).await;
    stays.send(&seconds(0..2)).await;
    lab.listed(&node, 1).await;
    tokio::join!(soon(node.stop()), async {
        stays.hears("NetConnection.Connect.ReconnectRequest").await;
        stays.hears("NetConnection.Connect.Closed").await;
        stays.closed().await;
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_within_the_grace_time_is_no_discontinuity() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let mut last: Option<Segment> = None;
    for start in 0..3 {
        let node = lab.node(GRACE).await;
        let mut encoder = Encoder::accepted(&node, &lab.key).await;
        encoder.send(&seconds(start..start + 2)).await;
        encoder.leaves().await;
        let snapshot = lab.ended(&node).await;
        assert_eq!(snapshot.epoch, u64::from(start) + 1);
        if let Some(last) = &last {
            assert_seamless(last, &snapshot.segments[0]);
        }
        last = snapshot.segments.last().cloned();
        soon(node.stop()).await;
    }
}

/// A stream's media falls behind the clock by every pause its slot has waited through, and runs ahead of it where an encoder
/// pushes a file: the grace time counts from the moment of the last commit.
#[tokio::test(flavor = "multi_thread")]
async fn the_grace_time_counts_from_the_last_commit_not_from_the_medias_date() {
    let first = Lab::new(MarkPolicy::Off).await;
    let node = first.node(GRACE).await;
    let mut encoder = Encoder::accepted(&node, &first.key).await;
    encoder.send(&seconds(0..2)).await;
    encoder.leaves().await;
    first.ended(&node).await;
    soon(node.stop()).await;
    let run = first.state.latest_run(&stream()).await.unwrap().unwrap();
    let last = first.state.last_segment(&stream()).await.unwrap().unwrap();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    for (media_behind_ms, committed_ago_ms, goes_on) in [(600_000, 0, true), (-600_000, 31_000, false)] {
        let lab = first.twin().await;
        for record in first.state.streams().await.unwrap() {
            lab.state.add_stream(record).await.unwrap();
        }
        let mut run = run.clone();
        run.anchor_unix_ms = now() - media_behind_ms;
        let mut last = last.clone();
        last.date_unix_ms = run.anchor_unix_ms + last.start_90k / 90;
        lab.state.begin_run(&run).await.unwrap();
        lab.state.adopt_segment(&stream(), &last, now() - committed_ago_ms).await.unwrap();
        let node = lab.node(GRACE).await;
        let mut encoder = Encoder::accepted(&node, &lab.key).await;
        encoder.send(&seconds(0..2)).await;
        encoder.leaves().await;
        let next = lab.ended(&node).await.segments.remove(0);
        assert_eq!((next.number, next.run == run.id), (last.number + 1, goes_on), "{media_behind_ms}");
        soon(node.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_grace_time_a_new_run_begins_whether_the_node_was_restarted_or_not() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let mut all: Vec<Segment> = Vec::new();
    for restarted in [false, true] {
        let node = lab.node(Duration::ZERO).await;
        for publish in 0..2 {
            let mut encoder = Encoder::accepted(&node, &lab.key).await;
            encoder.send(&seconds(0..2)).await;
            encoder.leaves().await;
            let kept = 2 * (publish + 1);
            let snapshot = lab.window(&node, |now| !now.live && now.segments.len() == kept).await;
            all.extend(snapshot.segments[kept - 2..].iter().cloned());
        }
        soon(node.stop()).await;
        assert_eq!(all.len(), if restarted { 8 } else { 4 });
    }
    let facts: Vec<_> = all.iter().map(|segment| (segment.number, segment.discontinuity)).collect();
    assert_eq!(facts, [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)]);
    assert!(
        all.windows(2).all(|pair| pair[0].date_unix_ms <= pair[1].date_unix_ms || pair[0].run != pair[1].run)
    );
    assert!(all[1].run != all[2].run && all[3].run != all[4].run && all[5].run != all[6].run);
}

/// Two processes on one state folder: the one that took the stream last has it, the other one hears of it before it could
/// record anything, and can take it back without naming a hole.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_on_one_state_only_the_newer_holder_records() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let (old, new) = (lab.node(GRACE).await, lab.node(GRACE).await);
    let mut first = Encoder::accepted(&old, &lab.key).await;
    first.send(&seconds(0..2)).await;
    let before = lab.listed(&old, 1).await;
    let mut second = Encoder::accepted(&new, &lab.key).await;
    second.send(&seconds(0..2)).await;
    let taken = lab.listed(&new, 1).await;
    assert_eq!(taken.epoch, before.epoch + 1);
    assert_seamless(&before.segments[0], &taken.segments[0]);
    first.send(&seconds(2..3)).await;
    first.hears("another node has taken the stream over").await;
    first.closed().await;
    second.leaves().await;
    assert_eq!(numbers(&lab.ended(&new).await), [1, 2]);

    let mut back = Encoder::accepted(&old, &lab.key).await;
    back.send(&seconds(0..2)).await;
    back.leaves().await;
    let snapshot = lab.window(&old, |now| !now.live && now.segments.len() == 2).await;
    assert_eq!((snapshot.epoch, numbers(&snapshot)), (before.epoch + 2, vec![3, 4]));
    tokio::join!(soon(old.stop()), soon(new.stop()));
}

/// A node that has libavcodec makes H.264 of it: `normalise::hevc_goes_out_as_h264_that_is_marked`.
#[cfg(not(feature = "libav"))]
#[tokio::test(flavor = "multi_thread")]
async fn hevc_goes_out_unmarked_and_as_cmaf_alone() {
    let lab = Lab::new(MarkPolicy::Prefer).await;
    let node = lab.node_with(GRACE, "normalise = \"auto\"\n").await;
    let codecs = ["vp09", "hvc1"].map(Value::text).to_vec();
    let mut encoder =
        Encoder::publish_with(node.rtmp, &lab.key, &[("fourCcList", Value::StrictArray(codecs))]).await;
    encoder.hears("NetStream.Publish.Start").await;
    assert!(encoder.has_heard("fourCcList") && encoder.has_heard("hvc1") && !encoder.has_heard("vp09"));
    encoder.send(&hevc_seconds(0..3)).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    assert_eq!(snapshot.segments.len(), 3);
    let codecs: Vec<_> = snapshot.tracks.iter().map(|info| info.codec.as_str()).collect();
    assert_eq!(codecs, ["hvc1.1.6.L30.90", "mp4a.40.2"]);
    assert!(snapshot.segments.iter().all(|one| !one.has_mpeg_ts && one.independent));
    let gops: Vec<_> = snapshot.segments.iter().flat_map(|one| &one.gops).collect();
    assert!(gops.len() == 3 && gops.iter().all(|gop| gop.marking == Marking::Unmarked));
    assert_eq!(reported(&node, "unmarkable").await, 1);
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn av1_and_opus_go_out_as_they_came() {
    let lab = Lab::new(MarkPolicy::Prefer).await;
    let node = lab.node_with(GRACE, "normalise = \"auto\"\n").await;
    let codecs = ["av01", "Opus", "vp09"].map(Value::text).to_vec();
    let mut encoder =
        Encoder::publish_with(node.rtmp, &lab.key, &[("fourCcList", Value::StrictArray(codecs))]).await;
    encoder.hears("NetStream.Publish.Start").await;
    assert!(encoder.has_heard("av01") && encoder.has_heard("Opus") && !encoder.has_heard("vp09"));
    encoder.send(&av1_seconds(0..3)).await;
    encoder.leaves().await;
    let snapshot = lab.ended(&node).await;
    assert_eq!(snapshot.segments.len(), 3);
    let codecs: Vec<_> = snapshot.tracks.iter().map(|info| info.codec.as_str()).collect();
    assert_eq!(codecs, ["av01.0.00M.08", "Opus"]);
    assert!(snapshot.segments.iter().all(|one| !one.has_mpeg_ts && one.independent));
    let gops: Vec<_> = snapshot.segments.iter().flat_map(|one| &one.gops).collect();
    assert!(gops.len() == 3 && gops.iter().all(|gop| gop.marking == Marking::Unmarked));
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_requires_marks_takes_no_hevc() {
    let lab = Lab::new(MarkPolicy::Require).await;
    let node = lab.node(GRACE).await;
    let mut encoder = Encoder::accepted(&node, &lab.key).await;
    encoder.send(&hevc_seconds(0..1)).await;
    encoder.hears("the media cannot be published").await;
    encoder.closed().await;
    soon(node.stop()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_encrypted_takes_h264_and_aac_alone() {
    for media in [hevc_seconds(0..3), av1_seconds(0..3), opus_seconds(0..3)] {
        let lab = Lab::new(MarkPolicy::Off).await.encrypted().await;
        let node = lab.node(GRACE).await;
        let mut encoder = Encoder::accepted(&node, &lab.key).await;
        encoder.send(&media).await;
        encoder.hears("the media cannot be published").await;
        encoder.closed().await;
        let none = lab.window(&node, |snapshot| !snapshot.live).await;
        assert!(none.segments.is_empty(), "in the clear");
        soon(node.stop()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn opus_goes_out_beside_marked_pictures() {
    let lab = Lab::new(MarkPolicy::Require).await;
    let (node, snapshot) = three_segments(&lab, &opus_seconds(0..3)).await;
    assert!(snapshot.tracks[0].codec.starts_with("avc1.") && snapshot.tracks[1].codec == "Opus");
    assert!(snapshot.segments.iter().all(|one| one.has_mpeg_ts && one.tracks.len() == 2));
    assert!(snapshot.segments.iter().flat_map(|one| &one.gops).all(|gop| gop.marking == Marking::Marked));
    let end = snapshot.segments[2].tracks[1].sound_end.unwrap();
    assert_eq!((end.rate, end.sample), (48_000, 144_000));
    soon(node.stop()).await;
}
