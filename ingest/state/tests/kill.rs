//! What was answered survives `kill -9` at any moment; what was not is there whole or not at all.
//!
//! The test starts itself as a child that writes and says what was answered; it kills the child and looks what is there.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod common;

use bytes::Bytes;
use common::{commit, name, run, segment, session};
use releve_state::local::Local;
use releve_state::sqlite::Sqlite;
use releve_state::{Blobs, Coordinator, Ledger};
use ring::rand::{SecureRandom, SystemRandom};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

/// Tells the child that it is one, and where to write.
const CHILD: &str = "RELEVE_STATE_TEST_CHILD";
const ROUNDS: usize = 25;

fn say(what: std::fmt::Arguments<'_>) {
    // Past the test harness, which keeps `println!` back.
    std::io::stdout().write_all(format!("\nanswered {what}\n").as_bytes()).unwrap();
}

/// The bytes of a blob follow from its number; long enough to be written in pieces.
fn blob(number: u64) -> Bytes {
    let words = (0..20_000u64).flat_map(|word| (word.wrapping_mul(number + 1)).to_le_bytes());
    words.collect::<Vec<_>>().into()
}

fn random() -> u64 {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// Writes for ever: sessions by two tasks, segments, blobs.
async fn child(folder: &Path) {
    let state = Arc::new(Sqlite::open(&folder.join("state.db")).unwrap());
    let demo = name("demo");
    let mut number = match state.last_segment(&demo).await.unwrap() {
        Some(last) => last.number + 1,
        None => 0,
    };
    state.begin_run(&run("demo", random() as u8, number)).await.ok();
    for task in 0..2 {
        let state = state.clone();
        tokio::spawn(async move {
            loop {
                let mut record = session(0, &format!("viewer-{task}"), task, 0);
                record.session[..8].copy_from_slice(&random().to_be_bytes());
                state.record_session(record.clone()).await.unwrap();
                say(format_args!("session {}", hex::encode(record.session)));
            }
        });
    }
    let blobs = Local::open(folder.join("blobs")).unwrap();
    tokio::spawn(async move {
        loop {
            let number = random();
            blobs.put(&format!("b/{number}"), blob(number)).await.unwrap();
            say(format_args!("blob {number}"));
        }
    });
    loop {
        let run = state.latest_run(&demo).await.unwrap().unwrap();
        commit(&*state, &demo, &segment(run.id.0[0], number, 0)).await.unwrap();
        say(format_args!("segment {number}"));
        number += 1;
    }
}

#[test]
fn what_was_answered_survives_kill_9() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(folder) = std::env::var_os(CHILD) {
        return runtime.block_on(child(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    let (mut sessions, mut segments, mut blobs) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_was_answered_survives_kill_9", "--nocapture"])
            .env(CHILD, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let first = lines.by_ref().find(|line| line.starts_with("answered ")).expect("the child writes");
        let reader = std::thread::spawn(move || std::iter::once(first).chain(lines).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_micros(random() % 60_000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in reader.join().unwrap() {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["answered", "session", id] if id.len() == 32 => sessions.push(id.to_owned()),
                ["answered", "segment", number] => segments.push(number.parse::<u64>().unwrap()),
                ["answered", "blob", number] => blobs.push(number.parse::<u64>().unwrap()),
                _ => {}
            }
        }
        runtime.block_on(check(folder.path(), &sessions, &segments, &blobs));
    }
    println!(
        "{} sessions, {} segments, {} blobs in {ROUNDS} rounds",
        sessions.len(),
        segments.len(),
        blobs.len()
    );
    assert!(sessions.len() > ROUNDS && segments.len() > 1 && blobs.len() > 1);
}

async fn check(folder: &Path, sessions: &[String], segments: &[u64], blobs: &[u64]) {
    let state = Sqlite::open(&folder.join("state.db")).unwrap();
    let mut there = std::collections::BTreeSet::new();
    for viewer in ["viewer-0", "viewer-1"] {
        there.extend(
            state.sessions_of(viewer).await.unwrap().iter().map(|record| hex::encode(record.session)),
        );
    }
    assert!(sessions.iter().all(|id| there.contains(id)), "a session is lost");
    let last = state.last_segment(&name("demo")).await.unwrap().map(|segment| segment.number);
    assert!(segments.iter().all(|number| Some(*number) <= last), "a segment is lost");
    for number in 0..last.map_or(0, |last| last + 1) {
        let segment = state.segment(&name("demo"), number).await.unwrap();
        assert!(segment.is_some_and(|segment| segment.number == number), "segment {number} is missing");
    }
    let store = Local::open(folder.join("blobs")).unwrap();
    let listed = store.list("b/").await.unwrap();
    for name in &listed {
        let number = name.strip_prefix("b/").unwrap().parse().unwrap();
        assert!(store.get(name).await.unwrap() == Some(blob(number)), "{name} is torn");
    }
    assert!(blobs.iter().all(|number| listed.contains(&format!("b/{number}"))), "a blob is lost");
    let unfinished = std::fs::read_dir(folder.join("blobs")).unwrap();
    assert_eq!(unfinished.count(), listed.len(), "what was torn is swept");
}
