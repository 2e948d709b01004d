//! What the traits promise, asked of every back-end: memory, SQLite, a local folder.
//!
//! A new back-end adds a line to each of the two lists at the end and passes the same tests.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod common;

use bytes::Bytes;
use common::{commit, key, name, node, run, segment, session, stream};
use releve_state::coordinator::{Error, Fence, MarkPolicy, NodeRole, Revocation};
use releve_state::local::Local;
use releve_state::memory::Memory;
use releve_state::seats::{EndedSession, Seat, SeatLimit, WhenFull};
use releve_state::sqlite::Sqlite;
use releve_state::{Blobs, Coordinator, DirectoryEntry, Ledger};
use releve_watermark::WatermarkId;
use std::path::Path;
use std::sync::Arc;
use tokio::task::JoinSet;

trait State: Coordinator + Ledger {}
impl<T: Coordinator + Ledger> State for T {}

/// Whether these are conflicts, each with its reason.
fn is_conflict<T: std::fmt::Debug>(answer: Result<T, Error>) -> bool {
    matches!(&answer, Err(Error::Conflict(why)) if !why.is_empty())
}

async fn streams_come_and_go_by_name_and_key_id(state: Arc<dyn State>) {
    let (one, two) = (key(1, 1), key(2, 2));
    let demo = stream("demo", &one, MarkPolicy::Require);
    let Err(Error::NotFound(_)) = state.update_stream(demo.clone()).await else {
        panic!("it is not there yet")
    };
    assert_eq!(state.stream(&demo.name).await, Ok(None));
    state.add_stream(demo.clone()).await.unwrap();
    assert_eq!(state.stream_by_key_id(one.id()).await, Ok(Some(demo.clone())));
    assert_eq!(state.stream_by_key_id(two.id()).await, Ok(None));

    let same_name = stream("demo", &two, MarkPolicy::Off);
    assert_eq!(state.add_stream(same_name).await, Err(Error::Exists("stream `demo`".to_owned())));
    let same_key = stream("other", &key(1, 9), MarkPolicy::Off);
    assert_eq!(state.add_stream(same_key).await, Err(Error::Exists("the key id".to_owned())));

    let before = stream("Before", &two, MarkPolicy::Off);
    state.add_stream(before.clone()).await.unwrap();
    assert_eq!(state.streams().await, Ok(vec![before.clone(), demo.clone()]), "by name, capitals first");
    let taken = stream("demo", &two, MarkPolicy::Off);
    assert_eq!(state.update_stream(taken).await, Err(Error::Exists("the key id".to_owned())));

    let renewed = stream("demo", &key(3, 3), MarkPolicy::Prefer);
    state.update_stream(renewed.clone()).await.unwrap();
    assert_eq!(state.stream_by_key_id(one.id()).await, Ok(None), "the old key has ended");
    assert_eq!(state.stream(&renewed.name).await, Ok(Some(renewed.clone())));

    state.remove_stream(&demo.name).await.unwrap();
    assert_eq!(state.remove_stream(&demo.name).await, Err(Error::NotFound("stream `demo`".to_owned())));
    assert_eq!(state.stream_by_key_id(&renewed.key_id).await, Ok(None));
    assert_eq!(state.streams().await, Ok(vec![before]));
}

async fn two_directories_become_one(state: Arc<dyn State>) {
    let other = Memory::default();
    let (one, two) = (key(1, 1), key(2, 2));
    let (demo, stage) = (stream("demo", &one, MarkPolicy::Off), stream("stage", &two, MarkPolicy::Off));
    state.add_stream(demo.clone()).await.unwrap();
    other.add_stream(stage.clone()).await.unwrap();
    let both = [&*state as &dyn Coordinator, &other];
    let exchange = async || {
        let (ours, theirs) = (both[0].directory().await.unwrap(), both[1].directory().await.unwrap());
        let changed =
            (both[0].merge_directory(theirs).await.unwrap(), both[1].merge_directory(ours).await.unwrap());
        assert_eq!(both[0].directory().await, both[1].directory().await);
        assert_eq!(both[0].streams().await, both[1].streams().await);
        (changed.0.len(), changed.1.len())
    };
    assert_eq!(exchange().await, (1, 1));
    assert_eq!(exchange().await, (0, 0), "nothing is new");
    assert_eq!(state.stream_by_key_id(two.id()).await, Ok(Some(stage.clone())));

    // What one node knows when it changes something is below it.
    let renewed = stream("demo", &key(3, 3), MarkPolicy::Prefer);
    other.update_stream(renewed.clone()).await.unwrap();
    state.remove_stream(&stage.name).await.unwrap();
    assert_eq!(exchange().await, (1, 1));
    assert_eq!(both[1].streams().await, Ok(vec![renewed.clone()]));
    assert_eq!(state.stream_by_key_id(one.id()).await, Ok(None), "the old key has ended here too");
    state.add_stream(stage.clone()).await.unwrap();
    assert_eq!(exchange().await, (0, 1), "what comes again is there again");

    // Both at once, neither knowing: one of them counts on both.
    state.remove_stream(&demo.name).await.unwrap();
    other.update_stream(stream("demo", &key(4, 4), MarkPolicy::Require)).await.unwrap();
    exchange().await;
    assert_eq!(both[1].stream(&demo.name).await.unwrap().map(|demo| demo.mark), Some(MarkPolicy::Require));

    // What would take another stream's key, has another's record or uses the numbers up is left out.
    let taken = stream("third", &two, MarkPolicy::Off);
    let entry = |name: &str, revision, record| DirectoryEntry { name: common::name(name), revision, record };
    let bad =
        [entry("third", 9, Some(taken)), entry("fourth", 9, Some(stage)), entry("demo", u64::MAX, None)];
    assert_eq!(state.merge_directory(bad.to_vec()).await, Ok(Vec::new()));
}

async fn an_epoch_is_granted_once(state: Arc<dyn State>) {
    let demo = name("demo");
    assert_eq!(state.epoch(&demo).await, Ok(0));
    assert_eq!(state.advance_epoch(&demo, 1).await, Err(Error::Stale(0)));
    let mut nodes = JoinSet::new();
    for _ in 0..10 {
        let (state, demo) = (state.clone(), demo.clone());
        nodes.spawn(async move { state.advance_epoch(&demo, 0).await });
    }
    let answers = nodes.join_all().await;
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(1)).count(), 1, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| **answer == Err(Error::Stale(1))).count(), 9, "{answers:?}");
    assert_eq!(state.advance_epoch(&demo, 1).await, Ok(2));
    assert_eq!(state.epoch(&demo).await, Ok(2));
    assert_eq!(state.epoch(&name("other")).await, Ok(0));
}

async fn numbers_never_go_back_or_skip(state: Arc<dyn State>) {
    let demo = name("demo");
    assert!(is_conflict(commit(&*state, &demo, &segment(1, 5, 0)).await), "no run has begun");
    assert_eq!(state.latest_run(&demo).await, Ok(None));
    state.begin_run(&run("demo", 1, 5)).await.unwrap();
    assert!(is_conflict(commit(&*state, &demo, &segment(1, 6, 0)).await), "5 is the next");
    assert!(is_conflict(commit(&*state, &demo, &segment(2, 5, 0)).await), "run 2 is unknown");
    assert!(
        is_conflict(commit(&*state, &name("other"), &segment(1, 5, 0)).await),
        "run 1 is not of that stream"
    );
    assert_eq!(state.last_segment(&demo).await, Ok(None));
    for number in 5..8 {
        commit(&*state, &demo, &segment(1, number, 0)).await.unwrap();
    }
    commit(&*state, &demo, &segment(1, 6, 0)).await.expect("the same again, later");
    assert!(is_conflict(commit(&*state, &demo, &segment(1, 6, 1)).await), "6 is used");
    assert!(is_conflict(commit(&*state, &demo, &segment(1, 4, 0)).await), "back");
    assert!(is_conflict(commit(&*state, &demo, &segment(1, 9, 0)).await), "8 is the next");
    assert_eq!(state.last_segment(&demo).await, Ok(Some(segment(1, 7, 0))));
    assert_eq!(state.segment(&demo, 6).await, Ok(Some(segment(1, 6, 0))));
    assert_eq!(state.segment(&demo, 8).await, Ok(None));
    assert_eq!(state.segment(&demo, u64::MAX).await, Ok(None));
    assert_eq!(state.segment(&name("other"), 6).await, Ok(None));
}

async fn old_segments_are_forgotten_but_their_numbers_stay_used(state: Arc<dyn State>) {
    let demo = name("demo");
    assert_eq!(state.forget_segments(&demo, i64::MAX).await, Ok(0));
    state.begin_run(&run("demo", 1, 5)).await.unwrap();
    for number in 5..10 {
        commit(&*state, &demo, &segment(1, number, 0)).await.unwrap();
    }
    let seven = segment(1, 7, 0).date_unix_ms;
    assert_eq!(state.forget_segments(&name("other"), i64::MAX).await, Ok(0));
    assert_eq!(state.forget_segments(&demo, seven).await, Ok(2));
    assert_eq!(state.segment(&demo, 6).await, Ok(None));
    assert_eq!(state.segment(&demo, 7).await, Ok(Some(segment(1, 7, 0))));
    assert!(is_conflict(commit(&*state, &demo, &segment(1, 6, 0)).await), "6 stays used");
    assert_eq!(state.forget_segments(&demo, i64::MAX).await, Ok(2));
    assert_eq!(state.last_segment(&demo).await, Ok(Some(segment(1, 9, 0))), "the newest stays");
    commit(&*state, &demo, &segment(1, 10, 0)).await.expect("the next");
}

async fn a_peers_segment_is_adopted_over_a_hole_and_never_back(state: Arc<dyn State>) {
    let demo = name("demo");
    assert!(is_conflict(state.adopt_segment(&demo, &segment(1, 5, 0), 0).await), "no run has begun");
    state.begin_run(&run("demo", 1, 5)).await.unwrap();
    assert!(is_conflict(state.adopt_segment(&demo, &segment(1, 4, 0), 0).await), "before the run");
    state.adopt_segment(&demo, &segment(1, 9, 0), 0).await.unwrap();
    state.adopt_segment(&demo, &segment(1, 9, 0), 0).await.expect("the same again");
    state.adopt_segment(&demo, &segment(1, 7, 1), 0).await.expect("older ones say nothing new");
    assert!(is_conflict(state.adopt_segment(&demo, &segment(1, 9, 1), 0).await), "9 is used");
    assert!(is_conflict(state.adopt_segment(&demo, &segment(2, 10, 0), 0).await), "run 2 is unknown");
    assert_eq!(state.segment(&demo, 7).await, Ok(None));
    commit(&*state, &demo, &segment(1, 10, 0)).await.expect("goes on behind it");
    assert_eq!(state.last_segment(&demo).await, Ok(Some(segment(1, 10, 0))));
}

async fn a_segment_is_committed_under_its_fence_or_not_at_all(state: Arc<dyn State>) {
    let demo = name("demo");
    state.begin_run(&run("demo", 1, 0)).await.unwrap();
    let commit =
        async |number, fence, at| state.commit_segment(&demo, &segment(1, number, 0), fence, at).await;
    assert_eq!(state.last_commit_unix_ms(&demo).await, Ok(None));
    assert_eq!(commit(0, Fence::Holds(1), 5).await, Err(Error::Stale(0)), "nobody granted that");
    assert_eq!(commit(0, Fence::Follows(1), 5).await, Err(Error::Stale(0)));
    assert_eq!(state.last_segment(&demo).await, Ok(None), "nothing was written");
    commit(0, Fence::Holds(0), 1_000).await.unwrap();
    state.advance_epoch(&demo, 0).await.unwrap();
    state.advance_epoch(&demo, 1).await.unwrap();
    assert_eq!(commit(1, Fence::Holds(1), 5).await, Err(Error::Stale(2)), "another one holds it");
    assert_eq!(commit(0, Fence::Holds(1), 5).await, Err(Error::Stale(2)), "even what is there");
    commit(1, Fence::Follows(1), 2_000).await.expect("who follows is not fenced");
    commit(2, Fence::Holds(2), 3_000).await.unwrap();
    commit(2, Fence::Holds(2), 9_000).await.expect("the same again");
    assert_eq!(state.last_commit_unix_ms(&demo).await, Ok(Some(3_000)), "as it was");
    state.adopt_segment(&demo, &segment(1, 7, 0), 4_000).await.unwrap();
    assert_eq!(state.last_commit_unix_ms(&demo).await, Ok(Some(4_000)));
    state.forget_segments(&demo, i64::MAX).await.unwrap();
    assert_eq!(state.last_commit_unix_ms(&demo).await, Ok(Some(4_000)), "the newest stays");
    assert_eq!(state.last_commit_unix_ms(&name("other")).await, Ok(None));
}

/// Of many that commit and one that fences, all at once: what is there afterwards was written before the fence.
async fn a_fence_comes_before_a_commit_or_behind_it(state: Arc<dyn State>) {
    let demo = name("demo");
    state.begin_run(&run("demo", 1, 0)).await.unwrap();
    for round in 0..20 {
        let first = state.last_segment(&demo).await.unwrap().map_or(0, |last| last.number + 1);
        let committing = {
            let (state, demo) = (state.clone(), demo.clone());
            tokio::spawn(async move {
                let mut number = first;
                loop {
                    match state.commit_segment(&demo, &segment(1, number, 0), Fence::Holds(round), 0).await {
                        Ok(()) => number += 1,
                        Err(error) => return (number, error),
                    }
                }
            })
        };
        tokio::task::yield_now().await;
        assert_eq!(state.advance_epoch(&demo, round).await, Ok(round + 1));
        let at_fence = state.last_segment(&demo).await.unwrap().map_or(0, |last| last.number + 1);
        let (next, error) = committing.await.unwrap();
        assert_eq!((next, error), (at_fence, Error::Stale(round + 1)));
    }
}

async fn a_run_begins_above_all_used_numbers(state: Arc<dyn State>) {
    let demo = name("demo");
    state.begin_run(&run("demo", 1, 0)).await.unwrap();
    state.begin_run(&run("demo", 1, 0)).await.expect("the same again: an answer was lost");
    assert!(is_conflict(state.begin_run(&run("demo", 1, 1)).await), "the same id, another record");
    commit(&*state, &demo, &segment(1, 0, 0)).await.unwrap();
    commit(&*state, &demo, &segment(1, 1, 0)).await.unwrap();
    assert!(is_conflict(state.begin_run(&run("demo", 2, 1)).await), "1 is used");

    state.begin_run(&run("demo", 2, 10)).await.unwrap();
    assert_eq!(state.latest_run(&demo).await, Ok(Some(run("demo", 2, 10))));
    assert!(is_conflict(commit(&*state, &demo, &segment(1, 2, 0)).await), "run 1 has ended");
    state.begin_run(&run("demo", 3, 2)).await.expect("run 2 has used no number");
    assert_eq!(state.latest_run(&demo).await, Ok(Some(run("demo", 3, 2))), "newest, not highest");
    assert!(is_conflict(state.begin_run(&run("demo", 1, 0)).await), "run 1 has ended");
    assert!(is_conflict(state.begin_run(&run("demo", 2, 10)).await), "run 2 has ended");
    commit(&*state, &demo, &segment(3, 2, 0)).await.unwrap();
    state.begin_run(&run("other", 1, 0)).await.expect("another stream has numbers of its own");

    for first_number in [u64::MAX, i64::MAX as u64] {
        assert!(is_conflict(state.begin_run(&run("demo", 9, first_number)).await));
        assert!(is_conflict(commit(&*state, &demo, &segment(3, first_number, 0)).await));
    }
    let last = i64::MAX as u64 - 1;
    state.begin_run(&run("demo", 9, last)).await.unwrap();
    commit(&*state, &demo, &segment(9, last, 0)).await.unwrap();
    assert!(is_conflict(commit(&*state, &demo, &segment(9, last + 1, 0)).await), "the numbers are used up");
    assert_eq!(state.last_segment(&demo).await, Ok(Some(segment(9, last, 0))));
}

async fn a_removed_stream_leaves_its_numbers_used(state: Arc<dyn State>) {
    let demo = name("demo");
    state.add_stream(stream("demo", &key(1, 1), MarkPolicy::Off)).await.unwrap();
    state.begin_run(&run("demo", 1, 0)).await.unwrap();
    commit(&*state, &demo, &segment(1, 0, 0)).await.unwrap();
    state.advance_epoch(&demo, 0).await.unwrap();
    state.remove_stream(&demo).await.unwrap();
    state.add_stream(stream("demo", &key(2, 2), MarkPolicy::Off)).await.unwrap();
    assert_eq!(state.last_segment(&demo).await, Ok(Some(segment(1, 0, 0))));
    assert_eq!(state.epoch(&demo).await, Ok(1));
    assert!(is_conflict(state.begin_run(&run("demo", 2, 0)).await));
    state.begin_run(&run("demo", 2, 1)).await.unwrap();
    commit(&*state, &demo, &segment(2, 1, 0)).await.unwrap();
}

fn seat(viewer: u64, session: u8, seen_unix_s: u64) -> Seat {
    Seat { viewer: WatermarkId(viewer), session: [session; 16], seen_unix_s, until_unix_s: 9_000 }
}

fn seats(seats: u32, when_full: WhenFull) -> SeatLimit {
    SeatLimit { seats, when_full, idle_s: 30 }
}

async fn ended(state: &dyn State) -> Vec<u8> {
    let (ended, _) = state.ended_sessions(0).await.unwrap();
    assert!(ended.iter().all(|ended| ended.until_unix_s == 9_000));
    ended.iter().map(|ended| ended.session[0]).collect()
}

async fn seats_are_counted_by_viewer_and_freed_by_silence(state: Arc<dyn State>) {
    let two = seats(2, WhenFull::RejectNew);
    let take = |viewer, session, at| state.take_seat(seat(viewer, session, at), two);
    assert_eq!(take(1, 1, 100).await, Ok(true));
    assert_eq!(take(1, 2, 100).await, Ok(true));
    assert_eq!(take(1, 2, 101).await, Ok(true), "the same session takes one seat");
    assert_eq!(take(1, 3, 130).await, Ok(false));
    assert_eq!(take(2, 4, 130).await, Ok(true), "another viewer");
    state.keep_seats(vec![seat(1, 1, 130)], two).await.unwrap();
    assert_eq!(take(1, 3, 131).await, Ok(false));
    assert_eq!(take(1, 3, 132).await, Ok(true), "2 has not been seen for 31 s");
    state.keep_seats(vec![seat(1, 1, 135), seat(1, 3, 135), seat(1, 2, 135)], two).await.unwrap();
    assert_eq!(ended(&*state).await, [2], "it came back when its seat was taken");
    state.keep_seats(vec![seat(1, 2, 300)], two).await.unwrap();
    assert_eq!(ended(&*state).await, [2], "what was ended stays so, even when all seats are free");
    assert_eq!(take(1, 5, 300).await, Ok(true));
    state.keep_seats(vec![seat(1, 1, 300)], two).await.unwrap();
    assert_eq!(ended(&*state).await, [2], "1 had lost its seat for silence, and there is one");
    assert_eq!(take(1, 6, 300).await, Ok(false));
    assert!(is_conflict(state.take_seat(seat(1, 7, u64::MAX), seats(9, WhenFull::RejectNew)).await));
}

async fn the_oldest_session_makes_room(state: Arc<dyn State>) {
    let two = seats(2, WhenFull::StopOldest);
    for (session, at) in [(1, 100), (2, 101), (3, 102)] {
        assert_eq!(state.take_seat(seat(1, session, at), two).await, Ok(true));
    }
    assert_eq!(ended(&*state).await, [1]);
    state.keep_seats(vec![seat(1, 1, 103)], two).await.unwrap();
    assert_eq!(ended(&*state).await, [1], "who was ended does not end others");
    let one = seats(1, WhenFull::StopOldest);
    assert_eq!(state.take_seat(seat(1, 4, 104), one).await, Ok(true));
    assert_eq!(ended(&*state).await, [1, 2, 3], "a lower limit ends all that are over it");
}

async fn ended_sessions_are_read_from_a_cursor_on_and_forgotten_in_time(state: Arc<dyn State>) {
    let end = |session: u8, until_unix_s| EndedSession { session: [session; 16], until_unix_s };
    assert_eq!(state.ended_sessions(0).await, Ok((vec![], 0)));
    state.end_session(end(1, 50), 10).await.unwrap();
    state.end_session(end(2, 90), 10).await.unwrap();
    state.end_session(end(1, 50), 10).await.unwrap();
    let (both, cursor) = state.ended_sessions(0).await.unwrap();
    assert_eq!(both, [end(1, 50), end(2, 90)]);
    state.end_session(end(3, 70), 51).await.unwrap();
    let (new, later) = state.ended_sessions(cursor).await.unwrap();
    assert_eq!((new, later > cursor), (vec![end(3, 70)], true));
    assert_eq!(state.ended_sessions(0).await, Ok((vec![end(2, 90), end(3, 70)], later)));
    assert_eq!(state.ended_sessions(later).await, Ok((vec![], later)));
    assert!(is_conflict(state.end_session(end(4, u64::MAX), 51).await));
}

async fn of_many_who_want_the_last_seat_one_gets_it(state: Arc<dyn State>) {
    let mut tasks = JoinSet::new();
    for session in 0..20 {
        let state = state.clone();
        let limit = seats(3, WhenFull::RejectNew);
        tasks.spawn(async move { state.take_seat(seat(1, session, 100), limit).await.unwrap() });
    }
    let seated = tasks.join_all().await.into_iter().filter(|seated| *seated).count();
    assert_eq!(seated, 3);
}

async fn revocations_are_read_from_a_cursor_on(state: Arc<dyn State>) {
    let revocation = |viewer: &str, at_unix_s| Revocation { viewer: viewer.to_owned(), at_unix_s };
    assert_eq!(state.revocations(0).await, Ok((vec![], 0)));
    state.revoke(revocation("bob", 20)).await.unwrap();
    state.revoke(revocation("alice", 10)).await.unwrap();
    let (first, cursor) = state.revocations(0).await.unwrap();
    assert_eq!(first, [revocation("bob", 20), revocation("alice", 10)], "as recorded");
    assert_eq!(state.revocations(cursor).await, Ok((vec![], cursor)));
    state.revoke(revocation("bob", 30)).await.unwrap();
    let (next, later) = state.revocations(cursor).await.unwrap();
    assert_eq!((next, later > cursor), (vec![revocation("bob", 30)], true));
    assert_eq!(state.revocations(u64::MAX).await, Ok((vec![], u64::MAX)));
    assert!(is_conflict(state.revoke(revocation("bob", u64::MAX)).await));
    assert_eq!(state.revocations(later).await, Ok((vec![], later)));
}

async fn a_node_is_announced_under_one_name(state: Arc<dyn State>) {
    state.announce(node("relay-1", NodeRole::Relay, 1)).await.unwrap();
    state.announce(node("ingest-1", NodeRole::Ingest, u64::MAX)).await.unwrap();
    state.announce(node("relay-1", NodeRole::Relay, 2)).await.unwrap();
    let nodes = vec![node("ingest-1", NodeRole::Ingest, u64::MAX), node("relay-1", NodeRole::Relay, 2)];
    assert_eq!(state.nodes().await, Ok(nodes));
}

async fn sessions_are_appended_and_make_the_register(state: Arc<dyn State>) {
    assert_eq!(state.register().await, Ok(vec![]));
    let odd = "Zoë \0 'x'; --";
    for record in [session(1, "bob", 2, 50), session(2, "alice", u64::MAX, 60), session(3, odd, 0, 70)] {
        state.record_session(record).await.unwrap();
    }
    state
        .record_session(session(4, "bob", 1, 40))
        .await
        .expect("an admission recorded late, with another id");
    state.record_session(session(1, "bob", 2, 50)).await.expect("the same again: an answer was lost");
    assert!(is_conflict(state.record_session(session(1, "alice", 2, 50)).await), "that session is bob's");
    assert!(is_conflict(state.record_session(session(9, "eve", 2, u64::MAX)).await));
    assert_eq!(state.sessions_of("bob").await, Ok(vec![session(4, "bob", 1, 40), session(1, "bob", 2, 50)]));
    assert_eq!(state.sessions_of(odd).await, Ok(vec![session(3, odd, 0, 70)]));
    assert_eq!(state.sessions_of("eve").await, Ok(vec![]));
    assert_eq!(state.session([4; 16]).await, Ok(Some(session(4, "bob", 1, 40))));
    assert_eq!(state.session([99; 16]).await, Ok(None));
    let register = [(odd, 0), ("alice", u64::MAX), ("bob", 1), ("bob", 2)];
    assert_eq!(
        state.register().await,
        Ok(register.map(|(viewer, id)| (viewer.to_owned(), WatermarkId(id))).to_vec())
    );
}

/// A hundred at once, every third one a failure: each answer is that call's own.
async fn many_at_once_share_a_write_but_not_their_failures(state: Arc<dyn State>) {
    state.record_session(session(255, "taken", 0, 0)).await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..100 {
        let state = state.clone();
        calls.spawn(async move {
            let fails = number % 3 == 0;
            let record = session(if fails { 255 } else { number }, "crowd", u64::from(number), 100);
            (number, fails, state.record_session(record).await)
        });
    }
    for (number, fails, answer) in calls.join_all().await {
        assert_eq!(is_conflict(answer.clone()), fails, "{number}: {answer:?}");
        assert_eq!(answer.is_ok(), !fails, "{number}: {answer:?}");
    }
    let mut ids: Vec<_> =
        state.sessions_of("crowd").await.unwrap().iter().map(|record| record.session[0]).collect();
    ids.sort();
    assert_eq!(ids, (0..100).filter(|number| number % 3 != 0).collect::<Vec<u8>>());
    assert_eq!(state.register().await.unwrap().len(), 1 + 66, "a failed call left nothing in the register");
}

async fn blobs_are_whole_and_never_change(blobs: Arc<dyn Blobs>) {
    let (one, two) = (Bytes::from_static(b"one"), Bytes::from_static(b"two"));
    assert_eq!(blobs.get("init/a").await, Ok(None));
    blobs.put("init/a", one.clone()).await.unwrap();
    blobs.put("init/a", one.clone()).await.expect("the same again");
    assert!(is_conflict(blobs.put("init/a", two.clone()).await));
    assert_eq!(blobs.get("init/a").await, Ok(Some(one.clone())));
    blobs.put("init", two.clone()).await.expect("a name may continue another");
    blobs.put("init/a/b", two.clone()).await.unwrap();
    blobs.put("empty", Bytes::new()).await.unwrap();
    assert_eq!(blobs.get("empty").await, Ok(Some(Bytes::new())));
    let long = "x".repeat(200);
    blobs.put(&long, one.clone()).await.unwrap();
    let listed = |names: &[&str]| Ok(names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
    assert_eq!(blobs.list("").await, listed(&["empty", "init", "init/a", "init/a/b", &long]));
    assert_eq!(blobs.list("init/").await, listed(&["init/a", "init/a/b"]));
    assert_eq!(blobs.list("in").await, listed(&["init", "init/a", "init/a/b"]));
    assert_eq!(blobs.list("../").await, listed(&[]));
    for bad in ["", "/", "a//b", "../a", "a/..", ".a", "A", "a b", "a\0", "á", &"x".repeat(201)] {
        assert!(is_conflict(blobs.put(bad, one.clone()).await), "{bad:?}");
        assert_eq!(blobs.get(bad).await, Ok(None), "{bad:?}");
        assert_eq!(blobs.delete(bad).await, Ok(()), "{bad:?}");
    }
    blobs.delete("init/a").await.unwrap();
    blobs.delete("init/a").await.expect("it is unknown now");
    assert_eq!(blobs.get("init/a").await, Ok(None));
    blobs.put("init/a", two.clone()).await.expect("the name is free again");
    assert_eq!(blobs.get("init/a").await, Ok(Some(two)));
}

async fn a_blob_grows_by_what_is_acknowledged(blobs: Arc<dyn Blobs>) {
    let add = async |at, text: &'static str| blobs.append("run/log", at, text.as_bytes().into()).await;
    assert!(is_conflict(add(1, "x").await), "it is not there yet");
    add(0, "one ").await.unwrap();
    add(4, "two ").await.unwrap();
    assert!(is_conflict(add(9, "x").await), "it has 8 bytes");
    add(4, "three").await.expect("what stood there was never acknowledged");
    assert_eq!(blobs.get("run/log").await, Ok(Some(Bytes::from_static(b"one three"))));
    assert_eq!(blobs.list("run/").await, Ok(vec!["run/log".to_owned()]));
    assert!(is_conflict(blobs.append("../log", 0, Bytes::new()).await));
}

async fn of_many_that_store_a_name_one_wins(blobs: Arc<dyn Blobs>) {
    for round in 0..10 {
        let name = format!("round/{round}");
        let mut calls = JoinSet::new();
        for writer in 0..8u8 {
            let (blobs, name) = (blobs.clone(), name.clone());
            let bytes = Bytes::from(vec![writer / 2; 10_000]);
            calls.spawn(async move { (blobs.put(&name, bytes.clone()).await, bytes) });
        }
        let answers = calls.join_all().await;
        let kept = blobs.get(&name).await.unwrap().expect("somebody stored it");
        for (answer, bytes) in answers {
            assert_eq!(answer.is_ok(), bytes == kept);
            assert_eq!(is_conflict(answer), bytes != kept);
        }
    }
    assert_eq!(blobs.list("").await.unwrap().len(), 10);
}

/// What one handle answered, another one of the same place sees: at once, and after the first is gone.
async fn state_is_shared_and_durable(open: impl Fn() -> Arc<dyn State>) {
    let demo = name("demo");
    {
        let (one, two) = (open(), open());
        one.add_stream(stream("demo", &key(1, 1), MarkPolicy::Off)).await.unwrap();
        assert!(two.stream(&demo).await.unwrap().is_some());
        two.begin_run(&run("demo", 1, 0)).await.unwrap();
        commit(&*one, &demo, &segment(1, 0, 0)).await.unwrap();
        assert!(is_conflict(commit(&*two, &demo, &segment(1, 0, 1)).await));
        commit(&*two, &demo, &segment(1, 1, 0)).await.unwrap();
        assert_eq!(one.advance_epoch(&demo, 0).await, Ok(1));
        assert_eq!(two.advance_epoch(&demo, 0).await, Err(Error::Stale(1)));
        one.revoke(Revocation { viewer: "bob".to_owned(), at_unix_s: 1 }).await.unwrap();
        two.announce(node("relay-1", NodeRole::Relay, 1)).await.unwrap();
        let mut calls = JoinSet::new();
        for number in 0..100 {
            let state = if number % 2 == 0 { one.clone() } else { two.clone() };
            calls.spawn(async move { state.record_session(session(number, "alice", 7, 1)).await });
        }
        assert!(calls.join_all().await.iter().all(Result::is_ok));
    }
    let again = open();
    assert_eq!(again.last_segment(&demo).await, Ok(Some(segment(1, 1, 0))));
    assert_eq!(again.latest_run(&demo).await, Ok(Some(run("demo", 1, 0))));
    assert_eq!(again.epoch(&demo).await, Ok(1));
    assert_eq!(again.streams().await.unwrap().len(), 1);
    assert_eq!(again.nodes().await.unwrap().len(), 1);
    assert_eq!(again.revocations(0).await.unwrap().0.len(), 1);
    assert_eq!(again.sessions_of("alice").await.unwrap().len(), 100);
    assert_eq!(again.register().await, Ok(vec![("alice".to_owned(), WatermarkId(7))]));
}

async fn blobs_are_shared_and_durable(open: impl Fn() -> Arc<dyn Blobs>) {
    let bytes = Bytes::from_static(b"init");
    {
        let (one, two) = (open(), open());
        one.put("init/a", bytes.clone()).await.unwrap();
        assert_eq!(two.get("init/a").await, Ok(Some(bytes.clone())));
        assert!(is_conflict(two.put("init/a", Bytes::new()).await));
    }
    assert_eq!(open().get("init/a").await, Ok(Some(bytes)));
}

fn sqlite(folder: &Path) -> Arc<Sqlite> {
    Arc::new(Sqlite::open(&folder.join("state.db")).unwrap())
}

fn local(folder: &Path) -> Arc<Local> {
    Arc::new(Local::open(folder.join("blobs")).unwrap())
}

macro_rules! conforms {
    ($($test:ident: $($backend:ident)+;)+) => {$(
        mod $test {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $backend() {
                let folder = tempfile::tempdir().unwrap();
                super::$test(super::backend::$backend(folder.path())).await;
            })+
        }
    )+};
}

/// One empty store of each kind.
mod backend {
    use super::{Arc, Memory, Path};

    pub(super) fn memory(_: &Path) -> Arc<Memory> {
        Arc::default()
    }

    pub(super) use super::{local, sqlite};
}

conforms! {
    streams_come_and_go_by_name_and_key_id: memory sqlite;
    two_directories_become_one: memory sqlite;
    an_epoch_is_granted_once: memory sqlite;
    numbers_never_go_back_or_skip: memory sqlite;
    a_peers_segment_is_adopted_over_a_hole_and_never_back: memory sqlite;
    a_segment_is_committed_under_its_fence_or_not_at_all: memory sqlite;
    a_fence_comes_before_a_commit_or_behind_it: memory sqlite;
    a_run_begins_above_all_used_numbers: memory sqlite;
    old_segments_are_forgotten_but_their_numbers_stay_used: memory sqlite;
    a_removed_stream_leaves_its_numbers_used: memory sqlite;
    revocations_are_read_from_a_cursor_on: memory sqlite;
    seats_are_counted_by_viewer_and_freed_by_silence: memory sqlite;
    the_oldest_session_makes_room: memory sqlite;
    ended_sessions_are_read_from_a_cursor_on_and_forgotten_in_time: memory sqlite;
    of_many_who_want_the_last_seat_one_gets_it: memory sqlite;
    a_node_is_announced_under_one_name: memory sqlite;
    sessions_are_appended_and_make_the_register: memory sqlite;
    many_at_once_share_a_write_but_not_their_failures: memory sqlite;
    blobs_are_whole_and_never_change: memory local;
    a_blob_grows_by_what_is_acknowledged: memory local;
    of_many_that_store_a_name_one_wins: memory local;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sqlite_is_shared_and_durable() {
    let folder = tempfile::tempdir().unwrap();
    state_is_shared_and_durable(|| sqlite(folder.path())).await;
}

#[tokio::test]
async fn local_is_shared_and_durable() {
    let folder = tempfile::tempdir().unwrap();
    blobs_are_shared_and_durable(|| local(folder.path())).await;
}
