//! The archive of a node: what was published is there, through restarts and full disks, and goes when it is old.

use crate::common::{Encoder, Lab, encodings_seconds, seconds, soon, stream};
use bytes::Bytes;
use ingest_api::content_key::{ContentKey, SegmentKey};
use ingest_api::origin::Route;
use ingest_api::window::{Segment, SegmentTrack, Sha256, TrackInfo};
use ingest_api::{Object, Pair, RunId, Track};
use media::cbcs::Seal;
use media::window::Window;
use releve_ingest::io::archive as node_archive;
use releve_ingest::io::archive::prune_logs;
use releve_ingest::metrics::{Metrics, render};
use releve_ingest::state_dir::{KeyKind, StateDir};
use releve_state::Blobs;
use releve_state::coordinator::{Error, MarkPolicy};
use releve_state::local::Local;
use releve_state::memory::Memory;
use releve_watermark::archive::Archive;
use releve_watermark::{GopId, Position};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

const GRACE: Duration = Duration::from_secs(30);

fn written(lab: &Lab) -> Vec<u64> {
    let archive = Archive::open(&lab.folder.path().join("archive")).unwrap();
    assert_eq!(archive.notes(), &[] as &[String]);
    archive.entries().iter().map(|entry| entry.record.number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_is_archived_as_it_was_across_restarts() {
    let lab = Lab::new(MarkPolicy::Require).await;
    let mut sent = 0;
    for last in [2, 5] {
        let node = lab.node(GRACE).await;
        let mut encoder = Encoder::accepted(&node, &lab.key).await;
        encoder.send(&seconds(sent..sent + 3)).await;
        encoder.leaves().await;
        sent += 3;
        let snapshot =
            lab.window(&node, |s| !s.live && s.segments.last().is_some_and(|s| s.number == last)).await;
        let mut published = Vec::new();
        for segment in &snapshot.segments {
            let route = Route::Segment { stream: stream(), track: Track::Video, number: segment.number };
            published.push((segment.number, lab.ask(node.origin, route).await.unwrap().1));
        }
        soon(node.stop()).await;
        let archive = Archive::open(&lab.folder.path().join("archive")).unwrap();
        for (number, bytes) in published {
            let entry = archive.entries().iter().find(|entry| entry.record.number == number).unwrap();
            let object = archive.object(entry).unwrap();
            assert!(!object.pairs.is_empty() && object.encode() == bytes, "segment {number}");
            assert!(archive.init(entry).unwrap().windows(4).any(|word| word == b"moov"));
            let gop = &entry.record.gops[0];
            assert_eq!((gop.pattern_key, gop.code_key, gop.bias_key), (1, 1, 1));
        }
    }
    assert_eq!(written(&lab), [0, 1, 2, 3, 4, 5]);
    let logs = Local::open(lab.folder.path().join("archive")).unwrap();
    assert_eq!(logs.list("").await.unwrap().len(), 2, "one a process, and the second follows the first");
    assert_eq!(prune_logs(&logs, 0).await, Ok(0));
    assert_eq!(prune_logs(&logs, i64::MAX).await, Ok(2));
    assert_eq!(written(&lab), [] as [u64; 0]);
}

/// Relays are given encrypted segments, the tracer clear ones; a restart goes on without a discontinuity.
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_stream_is_archived_in_the_clear() {
    let lab = Lab::new(MarkPolicy::Require).await.encrypted().await;
    let root = StateDir::at(lab.folder.path()).keys(KeyKind::Content).unwrap().current().clone();
    let mut sent = 0;
    for last in [3, 7] {
        let node = lab.node_with(GRACE, "key_segments = 3\n").await;
        let mut encoder = Encoder::accepted(&node, &lab.key).await;
        encoder.send(&seconds(sent..sent + 4)).await;
        encoder.leaves().await;
        sent += 4;
        let snapshot =
            lab.window(&node, |s| !s.live && s.segments.last().is_some_and(|s| s.number == last)).await;
        let mut published = Vec::new();
        for segment in &snapshot.segments {
            let key = ContentKey::of_segment(&root, &stream(), segment.number, 3);
            assert_eq!(segment.key, Some(SegmentKey { content_key: 1, kid: key.kid }));
            assert_eq!((segment.discontinuity, segment.has_mpeg_ts), (0, false));
            for track in &segment.tracks {
                let route = Route::Segment { stream: stream(), track: track.track, number: segment.number };
                let (status, bytes) = lab.ask(node.origin, route).await.unwrap();
                assert_eq!((status, Sha256::of(&bytes)), (200, track.sha256));
                let init = Route::Init { stream: stream(), init: track.init.clone() };
                let init = Object::decode(lab.ask(node.origin, init).await.unwrap().1.into()).unwrap().a;
                if track.track == Track::Video {
                    published.push((segment.number, key.clone(), init, bytes));
                }
            }
        }
        soon(node.stop()).await;
        let archive = Archive::open(&lab.folder.path().join("archive")).unwrap();
        for (number, key, init, bytes) in published {
            let entry = archive.entries().iter().find(|entry| entry.record.number == number).unwrap();
            let clear = archive.object(entry).unwrap();
            let seal = Seal::new(Track::Video, archive.init(entry).unwrap(), &key).unwrap();
            assert_eq!(seal.init(), &init);
            assert!(clear.encode() != bytes && seal.seal(&clear).unwrap().0.encode() == bytes, "{number}");
        }
    }
    assert_eq!(written(&lab), (0..8).collect::<Vec<u64>>());
}

/// Each encoding of the picture that is marked, as it was before encryption, with its own GOPs.
#[tokio::test(flavor = "multi_thread")]
async fn every_marked_encoding_is_archived() {
    for encrypts in [false, true] {
        let lab = Lab::new(MarkPolicy::Require).await;
        let lab = if encrypts { lab.encrypted().await } else { lab };
        let node = lab.node(GRACE).await;
        let mut encoder = Encoder::accepted(&node, &lab.key).await;
        encoder.send(&encodings_seconds(0..3)).await;
        encoder.leaves().await;
        let snapshot =
            lab.window(&node, |s| !s.live && s.segments.last().is_some_and(|s| s.number == 2)).await;
        soon(node.stop()).await;
        let archive = Archive::open(&lab.folder.path().join("archive")).unwrap();
        assert_eq!(archive.notes(), &[] as &[String]);
        let found: Vec<_> =
            archive.entries().iter().map(|entry| (entry.record.number, entry.track.to_string())).collect();
        let each = |number| ["video", "video4"].map(|track| (number, track.to_owned()));
        assert_eq!(found, (0..3).flat_map(each).collect::<Vec<_>>());
        for entry in archive.entries() {
            let segment = &snapshot.segments[entry.record.number as usize];
            let track = segment.tracks.iter().find(|track| track.track.as_str() == &*entry.track).unwrap();
            let sha256 = track.clear.as_ref().map_or(track.sha256, |clear| clear.sha256);
            assert_eq!(Sha256::of(&archive.object(entry).unwrap().encode()), sha256);
            assert_eq!(track.clear.is_some(), encrypts);
            assert!(archive.init(entry).is_some());
            let gops: Vec<_> = entry.record.gops.iter().map(|gop| (gop.gop, gop.slices)).collect();
            assert_eq!(gops, segment.gops.iter().map(|gop| (gop.id, gop.slices)).collect::<Vec<_>>());
        }
    }
}

/// A disk that takes nothing, and one that takes nothing for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_loud_and_harmless() {
    let disk = Arc::new(Disk::default());
    let (metrics, registry) = Metrics::new();
    let (archive, writer) = node_archive::Archive::over(disk.clone(), metrics);
    let (stop, stopping) = watch::channel(false);
    let writing = tokio::spawn(writer.run(stopping));
    let mut window = Window::new(stream(), 1, 10, 16, 0);
    let info = TrackInfo {
        track: Track::Video,
        codec: String::new(),
        peak_bps: 0,
        mean_bps: 0,
        width: 0,
        height: 0,
        millihertz: 0,
        channels: 0,
    };
    window.add_init("init-1".to_owned(), Object::plain(Bytes::from_static(b"moov")), info);
    for number in 0..6 {
        disk.full.store((2..4).contains(&number), Ordering::SeqCst);
        let position = Position { gop: GopId([7; 16]), slice: 0 };
        let pair = Pair { offset: 50, position, b: Bytes::from_static(b"B") };
        let object = Object { code_key: 1, a: vec![number as u8; 100].into(), pairs: vec![pair] };
        let track = SegmentTrack {
            track: Track::Video,
            init: "init-1".to_owned(),
            len: 100,
            sha256: Sha256::of(&object.encode()),
            parts: Vec::new(),
            clear: None,
            sound_end: None,
            gops: Vec::new(),
        };
        let record = Segment {
            number,
            run: RunId([7; 8]),
            discontinuity: 0,
            start_90k: number as i64 * 90_000,
            duration_90k: 90_000,
            date_unix_ms: 1_763_730_000_000 + number as i64 * 1_000,
            independent: true,
            gops: Vec::new(),
            tracks: vec![track],
            has_mpeg_ts: false,
            key: None,
        };
        // One without marks is none of the archive's business.
        let plain = Object::plain(object.a.clone());
        archive.offer(&stream(), &window, &record, (Track::Video, &plain));
        archive.offer(&stream(), &window, &record, (Track::Video, &object));
        soon(async {
            while disk.asked.load(Ordering::SeqCst) <= number {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    stop.send_replace(true);
    soon(writing).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in disk.kept.list("").await.unwrap() {
        let bytes = disk.kept.get(&name).await.unwrap().unwrap();
        std::fs::write(folder.path().join(name.replace('/', "+")), bytes).unwrap();
    }
    let kept = Archive::open(folder.path()).unwrap();
    let numbers: Vec<_> = kept.entries().iter().map(|entry| entry.record.number).collect();
    assert_eq!((numbers, kept.notes()), (vec![0, 1, 4, 5], &[] as &[String]));
    kept.entries().iter().for_each(|entry| drop(kept.object(entry).unwrap()));
    let metrics = render(&registry);
    assert!(metrics.contains("archive_dropped_total{stream=\"demo\",kind=\"unwritten\"} 2"), "{metrics}");
}

/// Blobs on a disk that is full at times; a write that fails leaves half of its bytes, as a real one may.
#[derive(Default)]
struct Disk {
    kept: Memory,
    full: AtomicBool,
    asked: AtomicU64,
}

#[async_trait::async_trait]
impl Blobs for Disk {
    async fn append(&self, name: &str, at: u64, bytes: Bytes) -> Result<(), Error> {
        let full = self.full.load(Ordering::SeqCst);
        let written = if full { bytes.slice(..bytes.len() / 2) } else { bytes };
        let done = self.kept.append(name, at, written).await;
        self.asked.fetch_add(1, Ordering::SeqCst);
        if full { Err(Error::Store("no space left".to_owned())) } else { done }
    }
    async fn put(&self, name: &str, bytes: Bytes) -> Result<(), Error> {
        self.kept.put(name, bytes).await
    }
    async fn get(&self, name: &str) -> Result<Option<Bytes>, Error> {
        self.kept.get(name).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, Error> {
        self.kept.list(prefix).await
    }
    async fn delete(&self, name: &str) -> Result<(), Error> {
        self.kept.delete(name).await
    }
}
