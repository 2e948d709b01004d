//! Low latency: parts for each viewer, reloads that wait, and what nobody gets while waiting.

use crate::common::*;
use ingest_api::window::{OpenSegment, OpenTrack, Part, Sha256};
use ingest_api::{Object, Track};
use releve_state::Coordinator;
use releve_state::coordinator::Revocation;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PARTS: usize = 4;

/// Part `index` of segment `number`: each is an object like a segment's, of its own slices.
pub(super) fn part(number: u64, index: usize) -> Object {
    marked(1_000 + number * PARTS as u64 + index as u64, 500)
}

/// Segments 0 up to, not including, `next`, and so many parts of `next`.
pub(super) fn show(next: u64, open: usize) -> Show {
    let mut show = Show::new("demo", 0..next);
    let mut parts = |number: u64, count: usize| -> Vec<Part> {
        (0..count)
            .map(|index| {
                let object = part(number, index);
                let (len, sha256) = (object.len() as u64, Sha256::of(&object.encode()));
                for track in ["video", "audio"] {
                    let path = format!("/origin/1/streams/demo/{track}/{number}/{index}");
                    show.objects.push((path, object.clone()));
                }
                Part { duration_90k: 45_000, len, independent: index == 0, sha256 }
            })
            .collect()
    };
    for segment in &mut show.snapshot.segments {
        for track in &mut segment.tracks {
            track.parts = parts(segment.number, PARTS);
        }
    }
    let inits: Vec<_> =
        show.snapshot.segments[0].tracks.iter().map(|entry| (entry.track, entry.init.clone())).collect();
    let track = |(track, init): (Track, String)| OpenTrack { track, init, parts: parts(next, open) };
    show.snapshot.open = (open > 0).then(|| OpenSegment {
        number: next,
        discontinuity: 0,
        key: None,
        date_unix_ms: 1_700_000_000_000 + next as i64 * 2_000,
        tracks: inits.into_iter().map(track).collect(),
    });
    show.snapshot.part_90k = 45_000;
    show.snapshot.version = 100 * next + open as u64;
    show
}

async fn watching(next: u64, open: usize) -> (FakeOrigin, Relay, String) {
    let origin = FakeOrigin::start().await;
    origin.put(show(next, open));
    let mut config = config(&[origin.url()]);
    config.limits.playlist_hold = Duration::from_secs(3);
    let relay = Relay::with(config).await;
    let session = relay.enter("demo", "alice").await;
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{session}/index.m3u8")).await.status, 200);
    (origin, relay, session)
}

#[tokio::test]
async fn a_reload_waits_for_the_part_it_names_and_each_viewer_gets_their_own_slices_of_it() {
    let (origin, relay, alice) = watching(6, 1).await;
    let bob = relay.enter("demo", "bob").await;
    for (msn, index) in [(6, 1), (6, 2), (6, 3), (7, 0)] {
        let mut held = Vec::new();
        for (viewer, session) in [("alice", &alice), ("bob", &bob)] {
            for track in ["video", "audio"] {
                let mut client = relay.client().await;
                let target = format!("{session}/{track}.m3u8?_HLS_msn={msn}&_HLS_part={index}");
                let uri = format!("{session}/{track}/{msn}.{index}.m4s");
                held.push(tokio::spawn(async move {
                    let playlist = client.get(&target).await;
                    (viewer, playlist, client.get(&uri).await)
                }));
                // The part itself may be asked for before it is there: the hint names it.
                let (mut early, uri) = (relay.client().await, format!("{session}/{track}/{msn}.{index}.m4s"));
                held.push(tokio::spawn(async move {
                    let part = early.get(&uri).await;
                    (viewer, part.clone(), part)
                }));
            }
        }
        sleep(Duration::from_millis(60)).await;
        assert!(held.iter().all(|held| !held.is_finished()), "{msn}.{index} is not there yet");
        let came = Instant::now();
        origin.put(if msn == 6 { show(6, index + 1) } else { show(7, 1) });
        for held in held {
            let (viewer, playlist, part) = held.await.unwrap();
            assert_eq!((playlist.status, part.status), (200, 200), "{msn}.{index}");
            if playlist.header("content-type") == Some("application/vnd.apple.mpegurl") {
                let named = format!("/{msn}.{index}.m4s\"");
                let is_part = |line: &str| line.starts_with("#EXT-X-PART:") && line.contains(&named);
                assert!(playlist.text().lines().any(is_part), "{}", playlist.text());
            }
            assert_eq!(part.body, copy_for(&self::part(msn, index), viewer));
        }
        assert!(came.elapsed() < Duration::from_secs(1), "{:?}", came.elapsed());
    }
    // Cut later they are the same.
    let mut client = relay.client().await;
    assert_eq!(client.get(&format!("{alice}/video/5.3.m4s")).await.body, copy_for(&part(5, 3), "alice"));
    assert_eq!(client.get(&format!("{alice}/video/5.4.m4s")).await.status, 404, "there are four");
}

#[tokio::test]
async fn reloads_that_are_due_or_wrong_do_not_wait() {
    let (_origin, relay, session) = watching(9, 2).await;
    let mut client = relay.client().await;
    let began = Instant::now();
    let whole = client.get(&format!("{session}/video.m3u8")).await;
    for query in ["_HLS_msn=3", "_HLS_msn=8", "_HLS_msn=8&_HLS_part=3", "_HLS_msn=9&_HLS_part=1"] {
        let answer = client.get(&format!("{session}/video.m3u8?{query}")).await;
        assert_eq!((answer.status, &answer.body), (200, &whole.body), "{query}");
    }
    let delta = client.get(&format!("{session}/video.m3u8?_HLS_msn=9&_HLS_part=1&_HLS_skip=YES")).await;
    assert!(delta.text().contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n"), "{}", delta.text());
    assert_ne!(delta.header("etag"), whole.header("etag"));
    for query in
        ["_HLS_msn=12", "_HLS_msn=9&_HLS_part=9999", "_HLS_part=1", "_HLS_msn=x", "_HLS_msn=9&_HLS_msn=9"]
    {
        assert_eq!(client.get(&format!("{session}/video.m3u8?{query}")).await.status, 400, "{query}");
    }
    assert_eq!(
        client.get(&format!("{session}x/video.m3u8?_HLS_msn=12")).await.status,
        403,
        "the credential first"
    );
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_reload_that_waits_in_vain_gets_what_there_is() {
    let (_origin, relay, session) = watching(6, 1).await;
    let mut client = relay.client().await;
    let began = Instant::now();
    let answer = client.get(&format!("{session}/video.m3u8?_HLS_msn=6&_HLS_part=1")).await;
    assert_eq!(answer.status, 200, "held, then the last good: never 5xx");
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    let hinted = client.get(&format!("{session}/video/6.1.m4s")).await;
    assert_eq!(hinted.status, 404);
}

#[tokio::test]
async fn a_viewer_revoked_while_waiting_gets_nothing() {
    let (origin, relay, session) = watching(6, 1).await;
    let mut held = Vec::new();
    for target in ["video.m3u8?_HLS_msn=6&_HLS_part=1", "audio.m3u8?_HLS_msn=7", "video/6.1.m4s"] {
        let (mut client, target) = (relay.client().await, format!("{session}/{target}"));
        held.push(tokio::spawn(async move { client.get(&target).await }));
    }
    sleep(Duration::from_millis(60)).await;
    let revocation = Revocation { viewer: "alice".into(), at_unix_s: now_unix_s() };
    relay.state.revoke(revocation).await.unwrap();
    for held in held {
        let answer = held.await.unwrap();
        assert_eq!((answer.status, answer.body.len()), (403, 0));
    }
    origin.put(show(6, 2));
}

#[tokio::test]
async fn a_thousand_waiting_reloads_are_answered_together() {
    let (origin, relay, session) = watching(6, 1).await;
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..1_000 {
        let (mut client, session) = (relay.client().await, session.clone());
        held.spawn(async move {
            client.get(&format!("{session}/video.m3u8?_HLS_msn=6&_HLS_part=1")).await.status
        });
    }
    sleep(Duration::from_millis(300)).await;
    origin.put(show(6, 2));
    let came = Instant::now();
    while let Some(status) = held.join_next().await {
        assert_eq!(status.unwrap(), 200);
    }
    assert!(came.elapsed() < Duration::from_secs(2), "{:?}", came.elapsed());
    // Nobody has asked for the part yet.
    until("it is fetched ahead", async || origin.asked("/origin/1/streams/demo/video/6/1") == 1).await;
}
