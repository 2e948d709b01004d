//! How fast units become segments, beside a plain copy of the same bytes in the same run.
//!
//! `cargo bench -p media`. A segment costs two SHA-256 passes (part and segment) and one copy; the copy alone is the
//! yardstick `copy_*`. MPEG-TS is made of them when it is asked for.

use bytes::Bytes;
use divan::Bencher;
use divan::counter::BytesCount;
use ingest_api::content_key::ContentKey;
use ingest_api::window::Sha256;
use ingest_api::{AudioTrack, Object, Run, RunId, Track};
use media::cbcs::Seal;
use media::segment::{Output, Segmenter};
use media::unit::{AccessUnit, AudioConfig, AudioFrame, Piece, Unit, VideoConfig};
use media::window::Window;
use releve_watermark::Key;
use std::sync::Arc;

fn main() {
    divan::main();
}

const PICTURES: i64 = 300;

fn run(mpeg_ts: bool) -> Run {
    Run {
        id: RunId([1; 8]),
        stream: "bench".parse().expect("a plain name"),
        anchor_unix_ms: 0,
        first_number: 0,
        first_discontinuity: 0,
        target_duration_s: 4,
        part_90k: 45_000,
        mpeg_ts,
        encryption: None,
    }
}

/// Ten seconds at 30 pictures a second with 48 kHz audio.
fn units(bits_per_second: usize) -> (Vec<Unit>, usize) {
    let avcc = "0164001fffe1001a6764001facd9405005bb0110000003001000000303c0f183196001000668ebe3cb22c0";
    let avcc = Bytes::from(hex::decode(avcc).expect("hex"));
    let video = VideoConfig::of_avcc(avcc).expect("a real avcC");
    let audio = AudioConfig::of_asc(Bytes::from_static(&[0x11, 0x90])).expect("a real ASC");
    let mut units =
        vec![Unit::VideoConfig(Arc::new(video)), Unit::AudioConfig(AudioTrack::FIRST, Arc::new(audio))];
    let size = bits_per_second / 8 / 30;
    let mut bytes = 0;
    for n in 0..PICTURES {
        let mut unit = vec![n as u8 | 1; size];
        unit[..4].copy_from_slice(&(size as u32 - 4).to_be_bytes());
        unit[4] = if n % 60 == 0 { 0x65 } else { 0x41 };
        let data = Bytes::from(unit);
        bytes += size;
        let pieces = vec![Piece::Common(data)];
        let (dts_90k, idr) = (n * 3_000, n % 60 == 0);
        units.push(Unit::Video(AccessUnit { dts_90k, composition_90k: 6_000, idr, gop: None, pieces }));
        if n % 16 < 10 || n % 2 == 0 {
            let data = Bytes::from(vec![n as u8; 340]);
            bytes += 340;
            units.push(Unit::Audio(AudioFrame { track: AudioTrack::FIRST, time_90k: dts_90k, data }));
        }
    }
    (units, bytes)
}

#[divan::bench(args = [6, 50])]
fn segment_mbps(bencher: Bencher<'_, '_>, mbps: usize) {
    let (units, bytes) = units(mbps * 1_000_000);
    bencher.counter(BytesCount::new(bytes)).with_inputs(|| units.clone()).bench_values(|units| {
        let mut segmenter = Segmenter::begin(run(false));
        let mut outputs = 0;
        for unit in units {
            outputs += divan::black_box(segmenter.push(unit)).len();
        }
        outputs + divan::black_box(segmenter.gone()).len()
    });
}

/// What it takes to make MPEG-TS of the segments, when somebody asks for that.
#[divan::bench(args = [6, 50])]
fn mpeg_ts_mbps(bencher: Bencher<'_, '_>, mbps: usize) {
    let (units, bytes) = units(mbps * 1_000_000);
    let mut segmenter = Segmenter::begin(run(true));
    let mut outputs: Vec<Output> = units.into_iter().flat_map(|unit| segmenter.push(unit)).collect();
    outputs.extend(segmenter.gone());
    bencher
        .counter(BytesCount::new(bytes))
        .with_inputs(|| {
            let mut window = Window::new(run(true).stream, 4, 60, 60, 0);
            outputs.iter().for_each(|output| window.apply(output).expect("segments in order"));
            window
        })
        .bench_values(|window| {
            for segment in window.snapshot().segments {
                let of = segment.mpeg_ts().expect("H.264 and AAC");
                divan::black_box(window.mux(segment.number, of).expect("it is kept"));
            }
        });
}

/// What encryption adds: parts and segments of both tracks encrypted, and the hashes of what comes of it.
#[divan::bench(args = [6, 50])]
fn encrypt_mbps(bencher: Bencher<'_, '_>, mbps: usize) {
    let (units, bytes) = units(mbps * 1_000_000);
    let mut segmenter = Segmenter::begin(run(false));
    let mut outputs: Vec<Output> = units.into_iter().flat_map(|unit| segmenter.push(unit)).collect();
    outputs.extend(segmenter.gone());
    let key = ContentKey::of_segment(&Key::new(1, [1; 32]), &run(false).stream, 0, 300);
    let seal = |wanted| {
        let init = outputs.iter().find_map(|output| match output {
            Output::Init { track, object, .. } if *track == wanted => Some(&object.a),
            _ => None,
        });
        Seal::new(wanted, init.expect("an init section"), &key).expect("an init section of ours")
    };
    let (video_seal, audio_seal) = (seal(Track::Video), seal(Track::AUDIO));
    bencher.counter(BytesCount::new(bytes)).bench(|| {
        for output in &outputs {
            let each = |seal: &Seal, object: &Object| {
                let (sealed, lens) = seal.seal(object).expect("a segment of ours");
                let mut at = 0;
                for len in lens.iter().filter(|_| lens.len() > 1) {
                    let part = sealed.part(at..at + *len as usize).expect("a part");
                    divan::black_box(Sha256::of(&part.encode()));
                    at += *len as usize;
                }
                divan::black_box(Sha256::of(&sealed.encode()));
            };
            match output {
                Output::Part { track, object, .. } => {
                    each(if track.is_audio() { &audio_seal } else { &video_seal }, object);
                }
                Output::Segment { objects, .. } => {
                    for (track, object) in objects {
                        each(if track.is_audio() { &audio_seal } else { &video_seal }, object);
                    }
                }
                Output::Init { .. } | Output::Report(_) => {}
            }
        }
    });
}

#[divan::bench(args = [6, 50])]
fn copy_mbps(bencher: Bencher<'_, '_>, mbps: usize) {
    let (units, bytes) = units(mbps * 1_000_000);
    let whole: Vec<Bytes> = units
        .iter()
        .filter_map(|unit| match unit {
            Unit::Video(AccessUnit { pieces, .. }) => match &pieces[..] {
                [Piece::Common(data)] => Some(data.clone()),
                _ => None,
            },
            _ => None,
        })
        .collect();
    bencher.counter(BytesCount::new(bytes)).bench(|| {
        // As the segmenter: a buffer of 4 s at a time.
        for segment in whole.chunks(120) {
            let mut copy = Vec::with_capacity(segment.iter().map(Bytes::len).sum());
            segment.iter().for_each(|data| copy.extend_from_slice(data));
            divan::black_box(copy);
        }
    });
}

#[divan::bench(args = [50])]
fn sha256_mbps(bencher: Bencher<'_, '_>, mbps: usize) {
    let data = vec![7u8; mbps * 1_000_000 / 8 * 4];
    bencher
        .counter(BytesCount::new(data.len()))
        .bench(|| ingest_api::window::Sha256::of(divan::black_box(&data)));
}
