//! What a viewer's own playlist of files at a CDN costs: it is written anew for each request.
//!
//! `cargo bench -p releve-relay --bench cdn`. Segments of 2 s, all marked, 6 to 300 of them in a track: the playlist has a name
//! and a symbol of each, with `cdn_encrypt` a vector too; beside it the names alone, the EdgeAuth token, of which a playlist has
//! one, and the encryption of a file: 2 s at 1 and at 6 Mb/s.
#![allow(missing_docs)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use ingest_api::window::{Gop, Marking, Segment, SegmentTrack, Sha256, TrackInfo};
use ingest_api::{RunId, Snapshot, Track, playlist};
use releve_relay::cdn::lock::Seal;
use releve_relay::cdn::{Names, Place, Variant, listed, token};
use releve_relay::route::Wanted;
use releve_relay::session::{Binding, Session};
use releve_watermark::{Codebook, GopId, Key, KeyRing, Symbol, WatermarkId};

const BASE: &str = "https://cdn.example.org/tv";

fn main() {
    divan::main();
}

fn key(number: u8) -> Key {
    Key::new(1, [number; 32])
}

fn gop(number: u64) -> GopId {
    GopId::derive("demo", b"run-0001", number as i64)
}

/// A stream with so many segments of marked video.
fn snapshot(segments: u64) -> Snapshot {
    let start_90k = |number: u64| number as i64 * 180_000;
    let segment = |number| Segment {
        number,
        run: RunId(*b"run-0001"),
        discontinuity: 0,
        start_90k: start_90k(number),
        duration_90k: 180_000,
        date_unix_ms: 1_700_000_000_000 + number as i64 * 2_000,
        independent: true,
        gops: vec![Gop {
            id: gop(number),
            start_90k: start_90k(number),
            marking: Marking::Marked,
            slices: 8,
            pattern_key: 1,
            code_key: 1,
            bias_key: 1,
        }],
        tracks: vec![SegmentTrack {
            track: Track::Video,
            init: "init-0123456789abcdef".into(),
            len: 500_000,
            sha256: Sha256([0; 32]),
            parts: Vec::new(),
            clear: None,
            sound_end: None,
            gops: Vec::new(),
        }],
        has_mpeg_ts: false,
        key: None,
    };
    Snapshot {
        stream: "demo".parse().expect("a name"),
        epoch: 1,
        version: 1,
        live: true,
        target_duration_s: 2,
        tracks: vec![TrackInfo {
            track: Track::Video,
            codec: "avc1.64001f".into(),
            peak_bps: 2_000_000,
            mean_bps: 1_800_000,
            width: 1280,
            height: 720,
            millihertz: 30_000,
            channels: 0,
        }],
        segments: (1000..1000 + segments).map(segment).collect(),
        part_90k: 0,
        open: None,
        signals: Vec::new(),
    }
}

fn session() -> Session {
    Session {
        id: [1; 16],
        watermark_id: WatermarkId::of_viewer("alice"),
        stream: "demo".parse().expect("a name"),
        issued_unix_s: 1_700_000_000,
        watch_until_unix_s: 1_700_043_200,
        asked: false,
        counted: false,
        bound: Binding::default(),
    }
}

#[divan::bench(args = [6, 30, 300])]
fn playlist_of_one_viewer(bencher: Bencher<'_, '_>, segments: u64) {
    playlist_of(bencher, segments, false);
}

#[divan::bench(args = [6, 30, 300])]
fn playlist_of_encrypted_files(bencher: Bencher<'_, '_>, segments: u64) {
    playlist_of(bencher, segments, true);
}

fn playlist_of(bencher: Bencher<'_, '_>, segments: u64, locked: bool) {
    let snapshot = snapshot(segments);
    let text = playlist::media(&snapshot, Track::Video).expect("segments are listed");
    let (names, codebook) = (Names::new(&KeyRing::of(key(4))), Codebook::new(&key(4), &key(5)));
    let id = WatermarkId::of_viewer("alice");
    let place = Place { base: BASE, query: "", locked };
    bencher.counter(ItemsCount::new(1u8)).bench_local(|| {
        let symbol = |_, position| Some(codebook.symbol(id, position));
        listed(black_box(&text), &place, &snapshot.stream, &snapshot.segments, &names, symbol)
            .map(|text| text.len())
    });
}

#[divan::bench(args = [6, 30, 300])]
fn names_alone(bencher: Bencher<'_, '_>, segments: u64) {
    let (names, stream) = (Names::new(&KeyRing::of(key(4))), session().stream);
    bencher.counter(ItemsCount::new(1u8)).bench_local(|| {
        let name = |number| {
            names.name(Some(1), &stream, &Wanted::Segment(Track::Video, number), Variant::Whole(Symbol::A))
        };
        (0..black_box(segments)).filter_map(name).fold(0, |all, name| all ^ name[0])
    });
}

#[divan::bench(args = [250_000, 1_500_000])]
fn file_encrypted(bencher: Bencher<'_, '_>, len: usize) {
    let seal = Seal { key: [4; 16], vector: [5; 16] };
    let clear = || {
        let mut clear = Vec::with_capacity(Seal::sealed_len(len));
        clear.resize(len, 0x47);
        clear
    };
    bencher.counter(BytesCount::new(len)).with_inputs(clear).bench_local_values(|clear| seal.sealed(clear));
}

#[divan::bench]
fn token_of_a_session(bencher: Bencher<'_, '_>) {
    let (key, session) = (key(6), session());
    bencher.counter(ItemsCount::new(1u8)).bench_local(|| {
        token::query("hdnts", &key, BASE, black_box(&session), "5e0c1f2a").map(|text| text.len())
    });
}
