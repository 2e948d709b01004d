//! A publish of several tracks: audio tracks as renditions, encodings of the picture as variants, and what is left out.

use crate::common::reported;
use crate::common::{Lab, encodings_seconds, of_track, several_seconds, soon, stream};
use crate::node::{assert_given, three_segments};
use ingest_api::origin::Route;
use ingest_api::window::Marking;
use ingest_api::{Object, Track};
use releve_state::coordinator::MarkPolicy;
use rtmp::MediaKind;

#[tokio::test(flavor = "multi_thread")]
async fn further_audio_tracks_go_out_beside_marked_pictures_and_what_is_left_out_is_said_once() {
    let lab = Lab::new(MarkPolicy::Require).await;
    let mut media = several_seconds(0..3);
    let ninth: Vec<_> = media
        .iter()
        .filter(|message| message.kind == MediaKind::Audio && message.payload[0] == 0xaf)
        .map(|message| of_track(8, message))
        .collect();
    media.extend(ninth);
    media.sort_by_key(|message| message.timestamp);
    let (node, snapshot) = three_segments(&lab, &media).await;
    let named: Vec<_> = snapshot.tracks.iter().map(|info| (info.track, info.codec.as_str())).collect();
    let [second, third] = [Track::ALL[2], Track::ALL[3]];
    assert!(matches!(named[0], (Track::Video, codec) if codec.starts_with("avc1.")));
    assert_eq!(named[1..], [(Track::AUDIO, "mp4a.40.2"), (second, "Opus"), (third, "mp4a.40.2")]);
    for segment in &snapshot.segments {
        assert!(segment.has_mpeg_ts && segment.gops[0].marking == Marking::Marked);
        let [_, first, second, third] = &segment.tracks[..] else { panic!("{:?}", segment.tracks) };
        assert!(second.sha256 != first.sha256 && second.init != first.init);
        assert_eq!((third.sha256, &third.init), (first.sha256, &first.init), "the same sound once more");
        assert_given(&lab, &node, segment).await;
    }
    let end = snapshot.segments[2].tracks[2].sound_end.unwrap();
    assert_eq!((end.rate, end.sample), (48_000, 144_000));
    assert_eq!(reported(&node, "further-tracks").await, 1);
    soon(node.stop()).await;
}

/// Of what comes beside the first one, what can be encrypted is; the publish goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_stream_has_further_audio_tracks_of_aac() {
    let lab = Lab::new(MarkPolicy::Off).await.encrypted().await;
    let (node, snapshot) = three_segments(&lab, &several_seconds(0..3)).await;
    let tracks = [Track::Video, Track::AUDIO, Track::ALL[3]];
    assert!(snapshot.tracks.iter().map(|info| info.track).eq(tracks));
    for segment in &snapshot.segments {
        assert!(segment.key.is_some() && segment.tracks.iter().all(|entry| entry.clear.is_some()));
        assert_given(&lab, &node, segment).await;
    }
    soon(node.stop()).await;
}

/// Three further encodings of an unmarked stream, and one whose IDR pictures lie elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn further_encodings_go_out_as_variants_and_one_that_is_not_aligned_is_left_out() {
    let lab = Lab::new(MarkPolicy::Off).await;
    let (node, snapshot) = three_segments(&lab, &encodings_seconds(0..3)).await;
    let named: Vec<_> =
        snapshot.tracks.iter().map(|info| (info.track.as_str(), info.codec.as_str())).collect();
    let further = [("video2", "hvc1.1.6.L30.90"), ("video3", "av01.0.00M.08"), ("video4", "avc1.64000a")];
    assert_eq!(named[..2], [("video", "avc1.64000a"), ("audio", "mp4a.40.2")]);
    assert_eq!(named[2..], further);
    for segment in &snapshot.segments {
        let [first, _, second, third, same] = &segment.tracks[..] else { panic!("{:?}", segment.tracks) };
        assert!([second, third].iter().all(|other| other.sha256 != first.sha256 && other.init != first.init));
        assert_eq!((same.sha256, &same.init), (first.sha256, &first.init), "the same pictures once more");
        assert!(segment.tracks.iter().all(|track| track.parts[0].independent));
        assert_given(&lab, &node, segment).await;
    }
    let index = ingest_api::playlist::index(&snapshot).unwrap();
    assert_eq!(index.matches("#EXT-X-STREAM-INF").count(), 4, "{index}");
    assert_eq!(reported(&node, "not-aligned").await, 3);
    soon(node.stop()).await;
}

/// What is encrypted is never in the clear; what cannot be is left out.
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_stream_has_further_encodings_of_h264() {
    let lab = Lab::new(MarkPolicy::Off).await.encrypted().await;
    let (node, snapshot) = three_segments(&lab, &encodings_seconds(0..3)).await;
    assert!(snapshot.tracks.iter().map(|info| info.track.as_str()).eq(["video", "audio", "video4"]));
    for segment in &snapshot.segments {
        assert!(segment.key.is_some() && segment.tracks.iter().all(|entry| entry.clear.is_some()));
        let [first, _, same] = &segment.tracks[..] else { panic!("{:?}", segment.tracks) };
        assert_eq!(first.sha256, same.sha256, "one key");
    }
    assert_eq!(reported(&node, "bad-config").await, 2);
    soon(node.stop()).await;
}

/// A further encoding goes out marked, at the picture's positions, or not at all: what carries no marks would name nobody.
#[tokio::test(flavor = "multi_thread")]
async fn further_encodings_of_a_marked_stream_are_marked_or_left_out() {
    for policy in [MarkPolicy::Prefer, MarkPolicy::Require] {
        let lab = Lab::new(policy).await;
        let (node, snapshot) = three_segments(&lab, &encodings_seconds(0..3)).await;
        assert!(snapshot.tracks.iter().map(|info| info.track.as_str()).eq(["video", "audio", "video4"]));
        for segment in &snapshot.segments {
            let [first, _, same] = &segment.tracks[..] else { panic!("{:?}", segment.tracks) };
            assert!(same.gops == segment.gops && first.gops.is_empty(), "{:?}", same.gops);
            assert!(same.gops.iter().all(|gop| gop.marking == Marking::Marked && gop.slices > 0));
            assert_eq!((same.sha256, &same.init), (first.sha256, &first.init), "the same marks, too");
            let route = Route::Segment { stream: stream(), track: same.track, number: segment.number };
            let object = Object::decode(lab.ask(node.origin, route).await.unwrap().1.into()).unwrap();
            let slices: Vec<u16> = object.pairs.iter().map(|pair| pair.position.slice).collect();
            assert_eq!(slices, (0..same.gops[0].slices).collect::<Vec<_>>());
            assert!(object.pairs.iter().all(|pair| pair.position.gop == segment.gops[0].id));
            assert_given(&lab, &node, segment).await;
        }
        assert_eq!(reported(&node, "further-tracks").await, 2, "HEVC and AV1, each once");
        assert_eq!(reported(&node, "not-aligned").await, 3, "the one with other key frames");
        soon(node.stop()).await;
    }
}

/// Whoever cannot mark has none, though the picture goes on.
#[tokio::test(flavor = "multi_thread")]
async fn further_encodings_are_left_out_where_marking_fails() {
    let mut lab = Lab::new(MarkPolicy::Prefer).await;
    lab.marker = "/nonexistent/marker".into();
    let (node, snapshot) = three_segments(&lab, &encodings_seconds(0..3)).await;
    assert!(snapshot.tracks.iter().map(|info| info.track.as_str()).eq(["video", "audio"]));
    assert!(snapshot.segments.iter().flat_map(|one| &one.gops).all(|gop| gop.marking == Marking::Unmarked));
    assert!(reported(&node, "encoding-withheld").await > 0);
    soon(node.stop()).await;
}
