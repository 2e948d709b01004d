//! Random operations have the same answers in memory and in SQLite, edge for edge.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod common;

use common::{key, name, node, run, segment, session, stream};
use proptest::prelude::*;
use releve_state::coordinator::{Fence, MarkPolicy, NodeRole, Revocation};
use releve_state::memory::Memory;
use releve_state::sqlite::Sqlite;
use releve_state::{Coordinator, Ledger};

/// One call with small arguments, so that they meet.
#[derive(Clone, Debug)]
enum Call {
    AddStream(&'static str, u8),
    UpdateStream(&'static str, u8),
    RemoveStream(&'static str),
    Advance(&'static str, u64),
    BeginRun(&'static str, u8, u64),
    Commit(&'static str, (u8, u64, u8), Fence, i64),
    Forget(&'static str, i64),
    Revoke(u64),
    Announce(&'static str, u64),
    Session(u8, &'static str, u64, u64),
    Revocations(u64),
    Reopen,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let stream = || prop::sample::select(vec!["a", "B", "a-2"]);
    let edge =
        prop_oneof![4 => 0u64..3, 1 => (i64::MAX as u64 - 2)..=(i64::MAX as u64 + 1), 1 => Just(u64::MAX)];
    let number = prop_oneof![9 => 0u64..6, 1 => edge.clone()];
    let fence = prop_oneof![(0u64..3).prop_map(Fence::Holds), (0u64..3).prop_map(Fence::Follows)];
    let call = prop_oneof![
        1 => (stream(), 0u8..4).prop_map(|(name, key)| Call::AddStream(name, key)),
        1 => (stream(), 0u8..4).prop_map(|(name, key)| Call::UpdateStream(name, key)),
        1 => stream().prop_map(Call::RemoveStream),
        1 => (stream(), 0u64..3).prop_map(|(name, from)| Call::Advance(name, from)),
        3 => (stream(), 0u8..4, number.clone()).prop_map(|(name, id, first)| Call::BeginRun(name, id, first)),
        8 => (stream(), (0u8..4, number, 0u8..2), fence, any::<i64>())
            .prop_map(|(name, segment, fence, at)| Call::Commit(name, segment, fence, at)),
        1 => (stream(), 0i64..7).prop_map(|(name, segments)| Call::Forget(name, segments)),
        1 => edge.clone().prop_map(Call::Revoke),
        1 => (prop::sample::select(vec!["n", "m"]), edge.clone()).prop_map(|(name, seen)| Call::Announce(name, seen)),
        2 => (0u8..4, prop::sample::select(vec!["v", "", "\0", "ü"]), edge.clone(), edge.clone())
            .prop_map(|(session, viewer, id, at)| Call::Session(session, viewer, id, at)),
        1 => edge.prop_map(Call::Revocations),
        1 => Just(Call::Reopen),
    ];
    prop::collection::vec(call, 1..60)
}

/// The answer to one call, as text.
async fn answer(state: &(impl Coordinator + Ledger), call: &Call) -> String {
    let mark = MarkPolicy::Prefer;
    match call {
        Call::AddStream(name, id) => {
            format!("{:?}", state.add_stream(stream(name, &key(*id, 1), mark)).await)
        }
        Call::UpdateStream(name, id) => {
            format!("{:?}", state.update_stream(stream(name, &key(*id, 2), mark)).await)
        }
        Call::RemoveStream(stream) => format!("{:?}", state.remove_stream(&name(stream)).await),
        Call::Advance(stream, from) => format!("{:?}", state.advance_epoch(&name(stream), *from).await),
        Call::BeginRun(stream, id, first) => {
            format!("{:?}", state.begin_run(&run(stream, *id, *first)).await)
        }
        Call::Commit(stream, (run, number, flavour), fence, at) => {
            let segment = segment(*run, *number, *flavour);
            format!("{:?}", state.commit_segment(&name(stream), &segment, *fence, *at).await)
        }
        Call::Forget(stream, segments) => {
            // Segment n of the tests begins 2 n seconds after this date.
            let before = 1_700_000_000_000 + segments * 2_000;
            format!("{:?}", state.forget_segments(&name(stream), before).await)
        }
        Call::Revoke(at_unix_s) => {
            format!("{:?}", state.revoke(Revocation { viewer: "v".to_owned(), at_unix_s: *at_unix_s }).await)
        }
        Call::Announce(name, seen) => {
            format!("{:?}", state.announce(node(name, NodeRole::Relay, *seen)).await)
        }
        Call::Session(id, viewer, mark, at) => {
            format!("{:?}", state.record_session(session(*id, viewer, *mark, *at)).await)
        }
        Call::Revocations(cursor) => format!("{:?}", state.revocations(*cursor).await),
        Call::Reopen => String::new(),
    }
}

/// Everything there is to read.
async fn contents(state: &(impl Coordinator + Ledger)) -> String {
    let mut text =
        format!("{:?}{:?}{:?}", state.streams().await, state.nodes().await, state.register().await);
    for stream in ["a", "B", "a-2"].map(name) {
        text += &format!(
            "{:?}{:?}{:?}{:?}{:?}",
            state.stream(&stream).await,
            state.epoch(&stream).await,
            state.latest_run(&stream).await,
            state.last_segment(&stream).await,
            state.last_commit_unix_ms(&stream).await
        );
        for number in 0..6 {
            text += &format!("{:?}", state.segment(&stream, number).await);
        }
    }
    for id in 0..4 {
        text += &format!("{:?}", state.stream_by_key_id(key(id, 1).id()).await);
    }
    for viewer in ["v", "", "\0", "ü"] {
        text += &format!("{:?}", state.sessions_of(viewer).await);
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]
    #[test]
    fn memory_and_sqlite_agree(calls in calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("state.db");
            let (memory, mut sqlite) = (Memory::default(), Sqlite::open(&path).unwrap());
            for call in &calls {
                if let Call::Reopen = call {
                    sqlite = Sqlite::open(&path).unwrap();
                }
                prop_assert_eq!(answer(&memory, call).await, answer(&sqlite, call).await, "{:?}", call);
            }
            prop_assert_eq!(contents(&memory).await, contents(&sqlite).await);
            Ok(())
        })?;
    }
}
