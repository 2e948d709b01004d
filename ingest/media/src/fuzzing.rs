//! What the fuzz targets call, so that a plain test can call the same on the kept corpora.
//!
//! In: any bytes. Out: nothing; a broken promise panics. Pure.

use crate::config::CONFIG_BYTES_MAX;
use crate::feed::{Feed, Kind};
use crate::segment::{Output, Segmenter};
use crate::unit::{AudioConfig, VideoConfig};
use bytes::Bytes;
use ingest_api::window::Sha256;
use ingest_api::{Object, Run, RunId};

/// Messages of a hostile publisher through feed and segmenter.
///
/// Holds: no panic; numbers without holes; no segment longer than its target duration rounds to; every object decodes
/// from its encoding; a restored twin says the same. Input: `kind u8, timestamp step i16 (ms), length u8, payload` again
/// and again; kind 3 is the publisher leaving. Bit 2 of the kind restores the feed, bit 3 the segmenter: at every message
/// (`tests/feed.rs` and `segment/tests.rs` do that) it would be most of the work.
pub fn flv(mut data: &[u8]) {
    let run = Run {
        id: RunId([1; 8]),
        stream: "fuzz".parse().expect("a plain name"),
        anchor_unix_ms: 1_700_000_000_000,
        first_number: 10,
        first_discontinuity: 0,
        target_duration_s: 2,
        part_90k: 45_000,
        mpeg_ts: true,
        encryption: None,
    };
    let mut feed = Feed::new(0);
    let mut segmenter = Segmenter::begin(run);
    let (mut time, mut next) = (0u32, 10);
    while let Some((&[kind, a, b, len], rest)) = data.split_first_chunk::<4>() {
        let payload = &rest[..rest.len().min(usize::from(len))];
        data = &rest[payload.len()..];
        time = time.wrapping_add_signed(i32::from(i16::from_be_bytes([a, b])));
        let (cut_feed, cut_segmenter) = (kind & 4 != 0, kind & 8 != 0);
        let kind = match kind & 3 {
            0 => Kind::Audio,
            1 => Kind::Video,
            2 => Kind::Data,
            _ => {
                check(segmenter.gone(), &mut next);
                feed = Feed::new(segmenter.next_tick());
                continue;
            }
        };
        if cut_feed {
            feed = Feed::restore(&feed.snapshot()).expect("a feed reads its own state");
        }
        for unit in feed.push(kind, time, Bytes::copy_from_slice(payload)).unwrap_or_default() {
            let twin = cut_segmenter.then(|| segmenter.snapshot());
            let outputs = segmenter.push(unit.clone());
            if let Some(twin) = twin {
                let mut twin = Segmenter::restore(&twin).expect("a segmenter reads its own state");
                assert_eq!(twin.push(unit), outputs, "a restored segmenter says something else");
            }
            check(outputs, &mut next);
        }
    }
    check(segmenter.gone(), &mut next);
}

fn check(outputs: Vec<Output>, next: &mut u64) {
    for output in outputs {
        if let Output::Part { part, object, .. } = &output {
            assert_eq!((part.len, part.sha256), (object.len() as u64, Sha256::of(&object.encode())));
        }
        let Output::Segment { record, objects } = output else { continue };
        assert_eq!(record.number, *next, "a hole in the numbers");
        *next += 1;
        assert!(
            record.duration_90k > 0 && (record.duration_90k + 45_000) / 90_000 <= 2,
            "{}",
            record.duration_90k
        );
        let named: Vec<_> = record.tracks.iter().map(|named| named.track).collect();
        assert_eq!(named, objects.iter().map(|(track, _)| *track).collect::<Vec<_>>());
        assert!(named.is_sorted_by(|a, b| a < b), "each track once, in their order");
        for (named, (_, object)) in record.tracks.iter().zip(objects) {
            assert_eq!(named.len, object.len() as u64);
            assert_eq!(named.parts.iter().map(|part| part.len).sum::<u64>(), named.len);
            let ticks: i64 = named.parts.iter().map(|part| part.duration_90k).sum();
            assert_eq!(ticks, record.duration_90k, "parts do not add up");
            let mut start = 0;
            for part in &named.parts {
                let end = start + part.len as usize;
                let cut = object.part(start..end).expect("no part cuts a pair");
                assert_eq!(Sha256::of(&cut.encode()), part.sha256, "cut from the segment it is another part");
                start = end;
            }
            assert_eq!(Object::decode(object.encode()), Ok(object));
        }
    }
}

/// Sequence headers, and saved state.
///
/// Holds: no panic; what is accepted has sane values. Input: any bytes.
pub fn avcc(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(&data[..data.len().min(CONFIG_BYTES_MAX + 1)]);
    if let Ok(config) = VideoConfig::of_avcc(bytes.clone()) {
        assert!(config.width > 0 && config.height > 0 && matches!(config.length_size, 1 | 2 | 4));
        let init = crate::container::cmaf::video_init(&config);
        assert!(init.is_ok_and(|init| !init.is_empty()), "an accepted avcC makes no init section");
    }
    if let Ok(config) = VideoConfig::of_hvcc(bytes.clone()) {
        assert!(config.width > 0 && config.height > 0 && matches!(config.length_size, 1 | 2 | 4));
        assert!(
            crate::container::cmaf::video_init(&config).is_ok(),
            "an accepted hvcC makes no init section"
        );
    }
    if let Ok(config) = VideoConfig::of_av1c(bytes.clone()) {
        assert!(config.width > 0 && config.height > 0);
        assert!(
            crate::container::cmaf::video_init(&config).is_ok(),
            "an accepted av1C makes no init section"
        );
    }
    if let Ok(config) = AudioConfig::of_asc(bytes.clone()) {
        assert!(config.channels > 0 && config.sample_rate >= 7_350);
        assert!(crate::container::cmaf::audio_init(&config).is_ok());
    }
    if let Ok(config) = AudioConfig::of_opus(bytes.clone()) {
        assert!((1..=8).contains(&config.channels) && config.sample_rate == 48_000);
        assert!(crate::container::cmaf::audio_init(&config).is_ok());
    }
    let _ = Feed::restore(&bytes);
    if let Ok(mut segmenter) = Segmenter::restore(&bytes) {
        segmenter.gone();
    }
}
