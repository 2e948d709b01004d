//! What the behaviour tests stand on: an origin with hand-made objects, a relay before it, a plain HTTP client.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

pub mod client;
pub mod http2;
pub mod origin;
pub mod outside;
pub mod secure;
pub mod stage;

use bytes::Bytes;
use ingest_api::access::{self, Claims};
use ingest_api::object::Pair;
use ingest_api::origin::Route;
use ingest_api::window::{Gop, Marking, Segment, SegmentTrack, Sha256, TrackInfo};
use ingest_api::{Object, RunId, Snapshot, StreamName, Track};
use releve_relay::{Config, Handle, Keys, Limits, start_with};
use releve_state::ledger::Ledger;
use releve_state::memory::Memory;
use releve_watermark::{Codebook, GopId, Key, KeyRing, Position, WatermarkId};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use client::Client;
pub use origin::FakeOrigin;

/// Slices of an IDR.
pub const SLICES: u16 = 8;

pub fn ring(number: u8) -> KeyRing {
    KeyRing::of(Key::new(1, [number; 32]))
}

pub fn keys() -> Keys {
    Keys::new(ring(1), ring(2), ring(3), ring(4), &ring(5))
}

pub fn cluster_key() -> KeyRing {
    ring(3)
}

pub fn codebook() -> Codebook {
    Codebook::new(ring(4).current(), ring(5).current())
}

pub fn mark_of(viewer: &str) -> WatermarkId {
    WatermarkId::of_viewer(viewer)
}

pub fn now_unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub fn stream(name: &str) -> StreamName {
    name.parse().unwrap()
}

pub fn token(name: &str, viewer: &str) -> String {
    token_until(name, viewer, now_unix_s() + 300)
}

pub fn token_until(name: &str, viewer: &str, enter_until_unix_s: u64) -> String {
    let claims = Claims {
        stream: stream(name),
        viewer: viewer.into(),
        issued_unix_s: 0,
        enter_until_unix_s,
        watch_until_unix_s: None,
    };
    access::mint(&ring(1), &claims)
}

/// Times short enough for tests; bounds as shipped.
pub fn limits() -> Limits {
    Limits {
        playlist_hold: Duration::from_millis(600),
        object_hold: Duration::from_millis(900),
        ahead_hold: Duration::from_millis(400),
        offline_grace: Duration::from_millis(300),
        origin_patience: Duration::from_millis(200),
        window_wait: Duration::from_millis(300),
        revocation_poll: Duration::from_millis(50),
        announce: Duration::from_millis(200),
        stop_patience: Duration::from_millis(500),
        ..Limits::default()
    }
}

pub fn config(origins: &[String]) -> Config {
    let text = format!(
        "name = \"relay-test\"\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
         origins = {origins:?}\nkeys_dir = \"unused\"\nstate = \"unused\"\n"
    );
    let mut config = Config::parse(&text, std::iter::empty()).unwrap();
    config.limits = limits();
    config
}

/// A relay with a state of its own.
pub struct Relay {
    pub handle: Handle,
    pub state: Arc<Memory>,
}

impl Relay {
    pub async fn start(origins: &[&FakeOrigin]) -> Relay {
        let urls: Vec<String> = origins.iter().map(|origin| origin.url()).collect();
        Relay::with(config(&urls)).await
    }

    pub async fn with(config: Config) -> Relay {
        let state = Arc::new(Memory::default());
        let handle = start_with(config, keys(), state.clone(), state.clone()).await.unwrap();
        Relay { handle, state }
    }

    pub async fn with_ledger(config: Config, ledger: Arc<dyn Ledger>) -> Relay {
        let state = Arc::new(Memory::default());
        let handle = start_with(config, keys(), state.clone(), ledger).await.unwrap();
        Relay { handle, state }
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.handle.listen).await
    }

    /// Lets a viewer in; gives the path of their session, `/v/SESSION`.
    pub async fn enter(&self, name: &str, viewer: &str) -> String {
        let answer =
            self.client().await.get(&format!("/live/{name}/index.m3u8?token={}", token(name, viewer))).await;
        assert_eq!(answer.status, 302, "{answer:?}");
        answer.header("location").unwrap().strip_suffix("/index.m3u8").unwrap().to_owned()
    }

    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = self.handle.metrics();
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

/// A stream with hand-made objects.
pub struct Show {
    pub snapshot: Snapshot,
    pub objects: Vec<(String, Object)>,
}

/// The video object of a segment: `slice_bytes` of A or B eight times, with common bytes around.
pub fn marked(number: u64, slice_bytes: usize) -> Object {
    let mut a = format!("head of {number};").into_bytes();
    let mut pairs = Vec::new();
    for slice in 0..SLICES {
        let b = vec![b'B'; slice_bytes];
        pairs.push(Pair { offset: a.len(), position: position(number, slice), b: b.into() });
        a.extend(vec![b'A'; slice_bytes]);
        if slice % 3 == 0 {
            a.extend_from_slice(b"between");
        }
    }
    a.extend_from_slice(b"tail");
    Object { code_key: 1, a: a.into(), pairs }
}

/// The same segment in a further encoding: other bytes, and fewer slices.
pub fn smaller(number: u64) -> Object {
    let mut object = marked(number, 24);
    object.pairs.truncate(5);
    object
}

/// The same segment as MPEG-TS: other bytes around the same choices.
pub fn as_mpeg_ts(number: u64, slice_bytes: usize) -> Object {
    marked(number, slice_bytes + 100)
}

/// Where an origin has a segment as MPEG-TS.
pub fn ts_route(name: &str, segment: &Segment) -> String {
    let of = segment.mpeg_ts().expect("it is there as that");
    Route::MpegTs { stream: stream(name), number: segment.number, of }.to_path()
}

pub fn position(number: u64, slice: u16) -> Position {
    Position { gop: GopId::derive("demo", b"run-0001", number as i64), slice }
}

/// What this viewer must be given of an object.
pub fn copy_for(object: &Object, viewer: &str) -> Vec<u8> {
    let (codebook, id) = (codebook(), mark_of(viewer));
    object.pieces(|position| codebook.symbol(id, position)).concat()
}

impl Show {
    pub fn new(name: &str, numbers: std::ops::Range<u64>) -> Show {
        Show::sized(name, numbers, 40)
    }

    pub fn sized(name: &str, numbers: std::ops::Range<u64>, slice_bytes: usize) -> Show {
        let mut objects = Vec::new();
        let mut inits = Vec::new();
        for track in [Track::Video, Track::AUDIO] {
            let object = Object::plain(Bytes::from(format!("init of {}", track.as_str())));
            let init = format!("init-{}", hex::encode(&Sha256::of(&object.a).0[..8]));
            objects.push((format!("/origin/1/streams/{name}/init/{init}"), object));
            inits.push(init);
        }
        let mut segments = Vec::new();
        for number in numbers {
            let video = marked(number, slice_bytes);
            let audio = Object::plain(Bytes::from(format!("sound of {number}")));
            let entry = |track, init: &str, object: &Object| SegmentTrack {
                track,
                init: init.to_owned(),
                len: object.len() as u64,
                sha256: Sha256::of(&object.encode()),
                parts: Vec::new(),
                clear: None,
                sound_end: None,
                gops: Vec::new(),
            };
            let segment = Segment {
                number,
                run: RunId(*b"run-0001"),
                discontinuity: 0,
                start_90k: number as i64 * 180_000,
                duration_90k: 180_000,
                date_unix_ms: 1_700_000_000_000 + number as i64 * 2_000,
                independent: true,
                gops: vec![Gop {
                    id: position(number, 0).gop,
                    start_90k: number as i64 * 180_000,
                    marking: Marking::Marked,
                    slices: SLICES,
                    pattern_key: 1,
                    code_key: 1,
                    bias_key: 1,
                }],
                tracks: vec![entry(Track::Video, &inits[0], &video), entry(Track::AUDIO, &inits[1], &audio)],
                has_mpeg_ts: true,
                key: None,
            };
            objects.push((format!("/origin/1/streams/{name}/video/{number}"), video));
            objects.push((format!("/origin/1/streams/{name}/audio/{number}"), audio));
            objects.push((ts_route(name, &segment), as_mpeg_ts(number, slice_bytes)));
            segments.push(segment);
        }
        let info = |track, codec: &str| TrackInfo {
            track,
            codec: codec.into(),
            peak_bps: 2_000_000,
            mean_bps: 1_800_000,
            width: if track == Track::Video { 1280 } else { 0 },
            height: if track == Track::Video { 720 } else { 0 },
            millihertz: if track == Track::Video { 30_000 } else { 0 },
            channels: if track == Track::AUDIO { 2 } else { 0 },
        };
        let snapshot = Snapshot {
            stream: stream(name),
            epoch: 1,
            version: segments.last().map_or(0, |segment| segment.number),
            live: true,
            target_duration_s: 2,
            tracks: vec![info(Track::Video, "avc1.64001f"), info(Track::AUDIO, "mp4a.40.2")],
            segments,
            part_90k: 0,
            open: None,
            signals: Vec::new(),
        };
        Show { snapshot, objects }
    }

    /// The same with a further encoding of the picture, `video2`.
    pub fn laddered(mut self) -> Show {
        let (name, track) = (self.snapshot.stream.clone(), Track::of_video(1).unwrap());
        for segment in &mut self.snapshot.segments {
            let object = smaller(segment.number);
            let (len, sha256) = (object.len() as u64, Sha256::of(&object.encode()));
            let gops = segment.gops.iter().map(|gop| Gop { slices: 5, ..gop.clone() }).collect();
            segment.tracks.push(SegmentTrack { track, len, sha256, gops, ..segment.tracks[0].clone() });
            self.objects.push((format!("/origin/1/streams/{name}/video2/{}", segment.number), object));
        }
        let info = self.snapshot.tracks[0].clone();
        self.snapshot.tracks.push(TrackInfo { track, width: 640, height: 360, ..info });
        self
    }
}

/// Waits until something holds; the test fails when it does not within 5 s.
pub async fn until<F: AsyncFnMut() -> bool>(what: &str, mut holds: F) {
    for _ in 0..250 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never: {what}");
}
