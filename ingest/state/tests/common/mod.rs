//! Records to test with.
#![allow(dead_code, reason = "each test program uses its part")]

use ingest_api::Track;
use ingest_api::window::{Gop, Marking, Part, Segment, SegmentTrack, Sha256};
use ingest_api::{Run, RunId, StreamName};
use releve_state::Coordinator;
use releve_state::coordinator::{Error, Fence, MarkPolicy, NodeRecord, NodeRole, StreamRecord};
use releve_state::ledger::SessionRecord;
use releve_state::{KeyHash, StreamKey};
use releve_watermark::{GopId, WatermarkId};

pub(crate) fn name(text: &str) -> StreamName {
    text.parse().unwrap()
}

/// A key from small numbers.
pub(crate) fn key(id: u8, secret: u8) -> StreamKey {
    StreamKey::parse(&format!("kaaaaaaaa{id:02}_{}", hex::encode([secret; 16]))).unwrap()
}

pub(crate) fn stream(stream: &str, key: &StreamKey, mark: MarkPolicy) -> StreamRecord {
    StreamRecord {
        name: name(stream),
        key_id: key.id().to_owned(),
        key_hash: KeyHash::of(key),
        mark,
        encrypt: Default::default(),
    }
}

pub(crate) fn run(stream: &str, id: u8, first_number: u64) -> Run {
    Run {
        id: RunId([id; 8]),
        stream: name(stream),
        anchor_unix_ms: 1_700_000_000_000,
        first_number,
        first_discontinuity: 0,
        target_duration_s: 2,
        part_90k: 45_000,
        mpeg_ts: true,
        encryption: None,
    }
}

/// A segment with one marked GOP and both tracks; `flavour` makes another one under the same number.
pub(crate) fn segment(run: u8, number: u64, flavour: u8) -> Segment {
    let start_90k = (number % 1_000_000) as i64 * 180_000;
    let hash = Sha256::of(&[flavour]);
    let part = Part { duration_90k: 180_000, len: 1000, independent: true, sha256: hash };
    let track = |track| SegmentTrack {
        track,
        init: "init-0123456789abcdef".to_owned(),
        len: 1000,
        sha256: hash,
        parts: vec![part.clone()],
        clear: None,
        sound_end: None,
        gops: Vec::new(),
    };
    Segment {
        number,
        run: RunId([run; 8]),
        discontinuity: u64::MAX,
        start_90k,
        duration_90k: 180_000,
        date_unix_ms: 1_700_000_000_000 + start_90k / 90,
        independent: true,
        gops: vec![Gop {
            id: GopId::derive("demo", &[run; 8], start_90k),
            start_90k,
            marking: Marking::Marked,
            slices: 8,
            pattern_key: 1,
            code_key: 2,
            bias_key: 2,
        }],
        tracks: vec![track(Track::Video), track(Track::AUDIO)],
        has_mpeg_ts: false,
        key: None,
    }
}

/// Commits at time 0, under any fencing term.
pub(crate) async fn commit(
    state: &(impl Coordinator + ?Sized),
    stream: &StreamName,
    segment: &Segment,
) -> Result<(), Error> {
    state.commit_segment(stream, segment, Fence::Follows(0), 0).await
}

pub(crate) fn session(session: u8, viewer: &str, watermark_id: u64, admitted_unix_s: u64) -> SessionRecord {
    SessionRecord {
        session: [session; 16],
        viewer: viewer.to_owned(),
        watermark_id: WatermarkId(watermark_id),
        stream: name("demo"),
        code_key: 1,
        admitted_unix_s,
        relay: "relay-1".to_owned(),
    }
}

pub(crate) fn node(node: &str, role: NodeRole, seen_unix_ms: u64) -> NodeRecord {
    NodeRecord {
        name: node.to_owned(),
        role,
        url: format!("http://{node}:8080"),
        admin_url: format!("http://{node}:8081"),
        seen_unix_ms,
    }
}
