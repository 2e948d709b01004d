//! `releve-trace codeword` on state folders made by the back-end that writes them.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use ingest_api::window::{Gop, Marking, Segment};
use ingest_api::{Run, RunId, StreamName};
use releve_state::coordinator::{Fence, MarkPolicy, StreamRecord};
use releve_state::ledger::SessionRecord;
use releve_state::sqlite::Sqlite;
use releve_state::{Coordinator, KeyHash, Ledger, StreamKey};
use releve_watermark::records::{GopRecord, Records, RecordsError};
use releve_watermark::{Codebook, GopId, Key, Position, Symbol, WatermarkId};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

fn code(version: u32) -> Key {
    Key::new(version, [0x10 + version as u8; 32])
}

fn bias() -> Key {
    Key::new(1, [0x22; 32])
}

fn name(text: &str) -> StreamName {
    text.parse().unwrap()
}

fn gop(segment: u64, index: i64, marking: Marking, code_key: u32) -> Gop {
    let start_90k = segment as i64 * 360_000 + index * 90_000;
    let slices = if marking == Marking::Marked { 8 } else { 0 };
    let id = GopId::derive("demo", &[1; 8], start_90k);
    let bias_key = u32::from(code_key != 0);
    Gop { id, start_90k, marking, slices, pattern_key: code_key, code_key, bias_key }
}

fn segment(number: u64, gops: Vec<Gop>) -> Segment {
    Segment {
        number,
        run: RunId([1; 8]),
        discontinuity: 0,
        start_90k: number as i64 * 360_000,
        duration_90k: 360_000,
        date_unix_ms: 0,
        independent: true,
        gops,
        tracks: vec![],
        has_mpeg_ts: false,
        key: None,
    }
}

/// Streams `demo`, with segments 4 to 6, and `quiet`, with none; alice was admitted under code key 2.
async fn folder() -> (tempfile::TempDir, Sqlite) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    std::fs::write(keys.join("code.key"), code(2).to_line() + &code(1).to_line()).unwrap();
    std::fs::write(keys.join("bias.key"), bias().to_line()).unwrap();
    let state = Sqlite::open(&folder.path().join("state.db")).unwrap();
    for stream in ["demo", "quiet"] {
        let key = StreamKey::generate().unwrap();
        let (key_id, key_hash) = (key.id().to_owned(), KeyHash::of(&key));
        let record = StreamRecord {
            name: name(stream),
            key_id,
            key_hash,
            mark: MarkPolicy::Prefer,
            encrypt: Default::default(),
        };
        state.add_stream(record).await.unwrap();
    }
    let run = Run {
        id: RunId([1; 8]),
        stream: name("demo"),
        anchor_unix_ms: 0,
        first_number: 4,
        first_discontinuity: 0,
        target_duration_s: 4,
        part_90k: 90_000,
        mpeg_ts: false,
        encryption: None,
    };
    state.begin_run(&run).await.unwrap();
    let two_marked = [0, 2].map(|index| gop(4, index, Marking::Marked, 2));
    let gops = vec![two_marked[0].clone(), gop(4, 1, Marking::Unmarked, 0), two_marked[1].clone()];
    for segment in [segment(4, gops), segment(5, vec![gop(5, 0, Marking::Marked, 1)]), segment(6, vec![])] {
        state.commit_segment(&name("demo"), &segment, Fence::Holds(0), 0).await.unwrap();
    }
    let session = SessionRecord {
        session: [1; 16],
        viewer: "alice".to_owned(),
        watermark_id: WatermarkId::of_viewer("alice"),
        stream: name("demo"),
        code_key: 2,
        admitted_unix_s: 1,
        relay: "relay-1".to_owned(),
    };
    state.record_session(session).await.unwrap();
    (folder, state)
}

fn trace(dir: &Path, stream: &str, viewer: &str, segment: &str, more: &[&str]) -> Output {
    let mut trace = Command::new(env!("CARGO_BIN_EXE_releve-trace"));
    trace.arg("codeword").arg("--dir").arg(dir);
    trace.args(["--stream", stream, "--viewer", viewer, "--segment", segment]).args(more).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The symbols one by one, as a relay asks for them.
fn expected(key: &Key, viewer: &str, gop: &Gop) -> String {
    let (codebook, id) = (Codebook::new(key, &bias()), WatermarkId::of_viewer(viewer));
    let symbol = |slice| codebook.symbol(id, Position { gop: gop.id, slice });
    (0..gop.slices).map(|slice| if symbol(slice) == Symbol::A { 'A' } else { 'B' }).collect()
}

#[tokio::test]
async fn it_says_what_a_relay_sends_while_others_write_and_after() {
    let (folder, state) = folder().await;
    let marked = [0, 2].map(|index| gop(4, index, Marking::Marked, 2));
    let symbols = marked.each_ref().map(|gop| expected(&code(2), "alice", gop));
    let id = |gop: &Gop| gop.id.0.map(|byte| format!("{byte:02x}")).concat();
    let object = json!({
        "stream": "demo", "viewer": "alice", "segment": 4,
        "watermark_id": format!("{:016x}", WatermarkId::of_viewer("alice").0),
        "gops": [
            {"gop": id(&marked[0]), "start_90k": 1_440_000, "marking": "marked", "slices": 8, "symbols": symbols[0]},
            {"gop": id(&gop(4, 1, Marking::Unmarked, 0)), "start_90k": 1_530_000, "marking": "unmarked", "slices": 0, "symbols": ""},
            {"gop": id(&marked[1]), "start_90k": 1_620_000, "marking": "marked", "slices": 8, "symbols": symbols[1]},
        ],
        "symbols": symbols.concat(),
    });
    let mut writer = Some(state);
    loop {
        let out = trace(folder.path(), "demo", "alice", "4", &["--json"]);
        assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), String::new()));
        assert_eq!(serde_json::from_slice::<Value>(&out.stdout).unwrap(), object);
        if writer.take().is_none() {
            break;
        }
    }
    let out = trace(folder.path(), "demo", "alice", "4", &[]);
    assert!(out.status.success());
    let table = text(&out.stdout);
    assert!(symbols.iter().all(|symbols| table.contains(symbols)), "{table}");
    assert!(table.contains("watermark id  "), "{table}");

    let bob = trace(folder.path(), "demo", "bob", "4", &["--json"]);
    let object: Value = serde_json::from_slice(&bob.stdout).unwrap();
    assert_eq!(object["symbols"], marked.each_ref().map(|gop| expected(&code(2), "bob", gop)).concat());
    assert_ne!(object["symbols"], symbols.concat());
    assert!(text(&bob.stderr).contains("the ledger has no session of `bob`"), "{}", text(&bob.stderr));
}

#[tokio::test]
async fn each_gop_is_read_under_the_code_key_its_record_names() {
    let (folder, _state) = folder().await;
    let out = trace(folder.path(), "demo", "alice", "5", &["--json"]);
    let object: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(object["symbols"], expected(&code(1), "alice", &gop(5, 0, Marking::Marked, 1)));
    assert_eq!(object["watermark_id"], format!("{:016x}", WatermarkId::of_viewer("alice").0));
    let out = trace(folder.path(), "demo", "alice", "6", &["--json"]);
    let object: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&object["symbols"], &object["gops"]), (&json!(""), &json!([])));
}

#[tokio::test]
async fn what_is_missing_is_said_with_its_place() {
    let (folder, _state) = folder().await;
    let dir = folder.path();
    let fails = |dir: &Path, stream: &str, segment: &str| {
        let out = trace(dir, stream, "alice", segment, &["--json"]);
        assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0));
        text(&out.stderr)
    };
    let said = fails(dir, "demo", "7");
    assert!(said.contains("`demo` has no segment 7") && said.contains("numbers 4 to 6"), "{said}");
    let said = fails(dir, "demo", "18446744073709551615");
    assert!(said.contains("has no segment 18446744073709551615"), "{said}");
    assert!(fails(dir, "quiet", "4").contains("no segment of `quiet` is recorded"));
    let said = fails(dir, "nowhere", "4");
    assert!(said.contains("knows no stream `nowhere`") && said.contains("state.db"), "{said}");

    let empty = tempfile::tempdir().unwrap();
    assert!(fails(empty.path(), "demo", "4").contains("keys/code.key: No such file"));
    let keys = dir.join("keys");
    std::fs::create_dir(empty.path().join("keys")).unwrap();
    std::fs::copy(keys.join("code.key"), empty.path().join("keys/code.key")).unwrap();
    assert!(fails(empty.path(), "demo", "4").contains("keys/bias.key: No such file"));
    std::fs::copy(keys.join("bias.key"), empty.path().join("keys/bias.key")).unwrap();
    assert!(fails(empty.path(), "demo", "4").contains("state.db: No such file"));
    assert!(!empty.path().join("state.db").exists(), "reading makes no file");

    let other = rusqlite::Connection::open(empty.path().join("state.db")).unwrap();
    other.pragma_update(None, "user_version", 6).unwrap();
    assert!(fails(empty.path(), "demo", "4").contains("has layout 6, this program reads 5"));

    std::fs::write(keys.join("code.key"), code(2).to_line()).unwrap();
    let said = fails(dir, "demo", "5");
    assert!(said.contains("keys: there is no code key 1"), "{said}");
    std::fs::write(keys.join("code.history"), code(1).to_line()).unwrap();
    let out = trace(dir, "demo", "alice", "5", &["--json"]);
    let object: Value = serde_json::from_slice(&out.stdout).unwrap();
    let symbols = expected(&code(1), "alice", &gop(5, 0, Marking::Marked, 1));
    assert_eq!(object["symbols"], symbols, "a key that was used up is found in the history");
    std::fs::write(keys.join("code.key"), "1 00\n").unwrap();
    let said = fails(dir, "demo", "4");
    assert!(said.contains("keys/code.key: line 1: the secret"), "{said}");

    assert_eq!(trace(dir, "demo", "alice", "four", &[]).status.code(), Some(2));
    assert_eq!(trace(dir, "demo", "alice", "4", &["--xml"]).status.code(), Some(2));
}

#[tokio::test]
async fn positions_are_those_of_the_marked_slices() {
    let (folder, _state) = folder().await;
    let records = Records::open(folder.path()).unwrap();
    let gops = records.gops("demo", 4).unwrap();
    let first = gop(4, 0, Marking::Marked, 2).id;
    let positions: Vec<_> = (0..8).map(|slice| Position { gop: first, slice }).collect();
    assert_eq!(gops[0].positions().collect::<Vec<_>>(), positions);
    assert_eq!(gops[1].positions().count(), 0);
    let unknown = GopRecord { code_key: 3, ..gops[0].clone() };
    assert!(matches!(records.codebook(&unknown), Err(RecordsError::NoKey { .. })));
    let alice = ("alice".to_owned(), WatermarkId::of_viewer("alice"));
    assert_eq!(records.register().unwrap(), [alice]);
    assert_eq!(records.watermark_ids("alice").unwrap(), [WatermarkId::of_viewer("alice")]);
}
