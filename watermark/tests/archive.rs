//! The archive: what is written comes back whole, and what a crash or a hand did to it does not.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use bytes::Bytes;
use releve_watermark::archive::log::{self, LOG_MS, PICTURE};
use releve_watermark::archive::record::HEAD_BYTES;
use releve_watermark::archive::{Archive, ArchiveError, Chain, Log, LogName};
use releve_watermark::object::Pair;
use releve_watermark::{GopId, Position, object::Object};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};

const RUN: &str = "0123456789abcdef";
const DATE: i64 = 1_763_730_000_000;

fn object(number: u64) -> Object {
    let position = Position { gop: GopId([number as u8; 16]), slice: 0 };
    let a = Bytes::from(format!("common of {number}, AAAA, more").into_bytes());
    Object { code_key: 1, a, pairs: vec![Pair { offset: 13, position, b: Bytes::from_static(b"BBBB") }] }
}

fn record(number: u64) -> Vec<u8> {
    let hash = ring::digest::digest(&ring::digest::SHA256, &object(number).encode());
    let gop = json!({
        "id": hex::encode([number as u8; 16]), "start_90k": number * 180_000, "marking": "marked",
        "slices": 1, "pattern_key": 1, "code_key": 1, "bias_key": 1,
    });
    let record = json!({
        "number": number, "run": RUN, "start_90k": number * 180_000, "duration_90k": 180_000,
        "date_unix_ms": DATE + 2_000 * number as i64, "gops": [gop], "discontinuity": 0,
        "tracks": [{"track": "video", "init": "init-1", "sha256": hex::encode(hash), "len": 1, "parts": []}],
    });
    serde_json::to_vec(&record).unwrap()
}

/// Appends segments to a log's file, and gives where each of its records ends.
fn write(dir: &Path, log: &mut Log, after: Chain, numbers: std::ops::Range<u64>) -> PathBuf {
    let path = dir.join(log.name.text().replace('/', "+"));
    let mut bytes = fs::read(&path).unwrap_or_default();
    for number in numbers {
        let init = ("init-1", &b"ftyp moov"[..]);
        let append = log.segment(("demo", PICTURE), after, &record(number), init, &object(number)).unwrap();
        bytes.extend_from_slice(&append.bytes);
        log.sealed(append);
    }
    fs::write(&path, bytes).unwrap();
    path
}

fn numbers(archive: &Archive) -> Vec<u64> {
    archive.entries().iter().map(|entry| entry.record.number).collect()
}

#[test]
fn what_is_written_comes_back_across_logs() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Log::new(RUN, DATE);
    write(folder.path(), &mut first, Chain::START, 0..3);
    let mut second = Log::new(RUN, DATE + 6_000);
    write(folder.path(), &mut second, first.chain, 3..5);
    fs::write(folder.path().join("notes.txt"), "not ours").unwrap();
    let archive = Archive::open(folder.path()).unwrap();
    assert_eq!(numbers(&archive), [0, 1, 2, 3, 4]);
    assert_eq!(archive.notes(), &[] as &[String]);
    for entry in archive.entries() {
        assert_eq!(archive.object(entry).unwrap(), object(entry.record.number));
        assert_eq!(archive.init(entry).unwrap(), &Bytes::from_static(b"ftyp moov"));
        assert_eq!((&*entry.stream, entry.record.gops[0].bias_key), ("demo", 1));
    }
}

/// A log cut at every byte: whole records before the cut are read, nothing else, and nothing fails.
#[test]
fn half_a_record_is_never_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(RUN, DATE);
    let mut ends = Vec::new();
    let mut path = PathBuf::new();
    for number in 0..3 {
        path = write(folder.path(), &mut log, Chain::START, number..number + 1);
        ends.push(fs::metadata(&path).unwrap().len());
    }
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let archive = Archive::open(folder.path()).unwrap();
        let expected = ends.iter().filter(|&&end| end <= cut as u64).count();
        assert_eq!(archive.entries().len(), expected, "cut at {cut}");
        archive.entries().iter().for_each(|entry| drop(archive.object(entry).unwrap()));
        let (_, end) = log::walk(&whole[..cut], |_, _| {});
        assert!(end <= cut && (archive.notes().is_empty() == (end == cut)), "cut at {cut}");
    }
    // Blocks that were allocated but never written.
    let mut zeros = whole[..ends[1] as usize].to_vec();
    zeros.resize(whole.len(), 0);
    fs::write(&path, zeros).unwrap();
    assert_eq!(numbers(&Archive::open(folder.path()).unwrap()), [0, 1]);
}

#[test]
fn an_altered_segment_is_refused_and_a_missing_log_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Log::new(RUN, DATE);
    let path = write(folder.path(), &mut first, Chain::START, 0..3);
    let mut second = Log::new(RUN, DATE + LOG_MS);
    let second_path = write(folder.path(), &mut second, first.chain, 3..4);
    let mut third = Log::new(RUN, DATE + 2 * LOG_MS);
    write(folder.path(), &mut third, second.chain, 4..5);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(12).position(|window| window == b"common of 1,").unwrap();
    bytes[at + 13] ^= 1;
    fs::write(&path, &bytes).unwrap();
    fs::remove_file(second_path).unwrap();
    let archive = Archive::open(folder.path()).unwrap();
    assert!(archive.notes()[0].contains("does not follow"), "{:?}", archive.notes());
    let objects: Vec<_> = archive.entries().iter().map(|entry| archive.object(entry).is_ok()).collect();
    assert_eq!((numbers(&archive), objects), (vec![0, 1, 2, 4], vec![true, false, true, true]));
    assert!(matches!(archive.object(&archive.entries()[1]), Err(ArchiveError::Segment { number: 1, .. })));
}

/// One node died, and what it has is damaged in one place; the other came later. Together they have all of it.
#[test]
fn what_one_node_lacks_the_other_has() {
    let (died, came) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = write(died.path(), &mut Log::new(RUN, DATE), Chain::START, 0..4);
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(12).position(|window| window == b"common of 2,").unwrap();
    bytes[at + 13] ^= 1;
    bytes.truncate(bytes.len() - 1);
    fs::write(&path, &bytes).unwrap();
    write(came.path(), &mut Log::new(RUN, DATE + 4_000), Chain::START, 2..6);
    let whole = |archive: &Archive| -> Vec<bool> {
        archive.entries().iter().map(|entry| archive.object(entry).is_ok()).collect()
    };
    let alone = Archive::open(died.path()).unwrap();
    assert_eq!((numbers(&alone), whole(&alone)), (vec![0, 1, 2], vec![true, true, false]));
    for dirs in [[died.path(), came.path()], [came.path(), died.path()]] {
        let both = Archive::open_all(&dirs).unwrap();
        assert_eq!(numbers(&both), [0, 1, 2, 3, 4, 5]);
        for entry in both.entries() {
            assert_eq!(both.object(entry).unwrap(), object(entry.record.number));
            assert!(both.init(entry).is_some());
        }
    }
}

#[test]
fn a_log_takes_an_hour_of_its_run() {
    let log = Log::new(RUN, DATE);
    let hour = DATE - DATE % LOG_MS;
    assert!(log.takes(RUN, DATE) && log.takes(RUN, hour + LOG_MS - 1));
    assert!(!log.takes(RUN, hour + LOG_MS) && !log.takes("fedcba9876543210", DATE));
    assert_eq!(LogName::parse(&log.name.text()), Some(log.name.clone()));
    for text in [
        "",
        "x.rla",
        "0123456789abcdef/1.rla",
        "0123456789abcdeg/001763730000000.rla",
        "../001763730000000.rla",
    ] {
        assert_eq!(LogName::parse(text), None, "{text}");
    }
    assert_eq!(HEAD_BYTES, 44);
}

/// A segment of two encodings in one log: each has its own object, init section and GOPs, wherever the log is cut.
#[test]
fn further_encodings_are_kept_beside_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = Log::new(RUN, DATE);
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for number in 0..2 {
        let own = object(number + 10);
        let mut record: serde_json::Value = serde_json::from_slice(&record(number)).unwrap();
        let mut gop = record["gops"][0].clone();
        gop["slices"] = json!(5);
        let hash = hex::encode(ring::digest::digest(&ring::digest::SHA256, &own.encode()));
        let track = json!({"track": "video2", "init": "init-2", "sha256": hash, "len": 1, "parts": [], "gops": [gop]});
        record["tracks"].as_array_mut().unwrap().push(track);
        let record = serde_json::to_vec(&record).unwrap();
        let picture = object(number);
        for (track, init, object) in [(PICTURE, "init-1", &picture), ("video2", "init-2", &own)] {
            let init = (init, init.as_bytes());
            let append = log.segment(("demo", track), Chain::START, &record, init, object).unwrap();
            bytes.extend_from_slice(&append.bytes);
            log.sealed(append);
            ends.push(bytes.len());
        }
    }
    let path = folder.path().join(log.name.text().replace('/', "+"));
    let near = |cut: &usize| cut.is_multiple_of(7) || ends.iter().any(|end| end.abs_diff(*cut) < 2);
    for cut in (0..=bytes.len()).filter(near) {
        fs::write(&path, &bytes[..cut]).unwrap();
        let archive = Archive::open(folder.path()).unwrap();
        let found: Vec<_> =
            archive.entries().iter().map(|entry| (entry.record.number, entry.track.to_string())).collect();
        let all =
            [(0, "video"), (0, "video2"), (1, "video"), (1, "video2")].map(|(at, of)| (at, of.to_owned()));
        assert_eq!(found, all[..ends.iter().filter(|&&end| end <= cut).count()], "cut at {cut}");
        for entry in archive.entries() {
            let (add, init, slices) =
                if &*entry.track == PICTURE { (0, "init-1", 1) } else { (10, "init-2", 5) };
            assert_eq!(archive.object(entry).unwrap(), object(entry.record.number + add));
            assert_eq!(archive.init(entry).unwrap(), init);
            assert_eq!(entry.record.gops.iter().map(|gop| gop.slices).collect::<Vec<_>>(), [slices]);
        }
    }
    // The other node of a pair has the same: it is one segment a track still.
    let both = Archive::open_all(&[folder.path(), folder.path()]).unwrap();
    assert_eq!(both.entries().len(), 4);
    assert_eq!(both.notes(), &[] as &[String]);
}
