//! Who holds a stream's slot, and what becomes of messages that wait while it changes hands.
//!
//! The slots and a stream's task alone, on one thread: a test that does not wait lets nothing else run, so it decides the
//! order of things.

use crate::common::{new_key, seconds, soon, stream};
use ingest_api::window::Segment;
use media::window::Window;
use releve_ingest::io::archive::Archive;
use releve_ingest::io::marking::{Keys, Marking, pool};
use releve_ingest::io::publish::{Context, GRACE, run};
use releve_ingest::io::streams::{Begin, ClaimError, Kick, QUEUE_BYTES, Streams};
use releve_ingest::metrics::Metrics;
use releve_state::coordinator::{Coordinator, MarkPolicy, StreamRecord};
use releve_state::memory::Memory;
use releve_watermark::Key;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};

const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

struct Lab {
    state: Arc<Memory>,
    streams: Streams,
    key: String,
    /// Of streams without a task: what a task would take.
    begins: Arc<Mutex<Vec<mpsc::Receiver<Begin>>>>,
}

/// One stream, with its task or without.
async fn lab(with_task: bool) -> Lab {
    let state = Arc::new(Memory::default());
    let (key, record) = new_key(MarkPolicy::Off);
    state.add_stream(record).await.unwrap();
    let (metrics, _) = Metrics::new();
    let begins = Arc::new(Mutex::new(Vec::new()));
    let spawn = {
        let (state, metrics, begins) = (state.clone(), metrics.clone(), begins.clone());
        let keys = Keys { pattern: Key::generate(1).unwrap(), code_version: 1, bias_version: 1 };
        let pool = Arc::new(pool("/nonexistent".into(), 1));
        move |record: &StreamRecord, queue: mpsc::Receiver<Begin>| {
            let window = Window::new(record.name.clone(), 1, 10, 16, 0);
            let (out, published) = watch::channel(Arc::new(window.clone()));
            let context = Context {
                stream: record.name.clone(),
                target_duration_s: 1,
                mpeg_ts: true,
                content: None,
                key_segments: 300,
                key_server: None,
                state: state.clone(),
                blobs: state.clone(),
                marking: Marking::new(record.name.clone(), keys.clone(), pool.clone(), None, metrics.clone()),
                archive: Archive::none(metrics.clone()),
                metrics: metrics.clone(),
                grace: GRACE,
                pair: None,
            };
            if with_task {
                tokio::spawn(run(context, window, queue, out));
            } else {
                begins.lock().unwrap().push(queue);
            }
            published
        }
    };
    let streams = Streams::new(state.clone(), metrics, Box::new(spawn));
    streams.refresh().await.unwrap();
    Lab { state, streams, key, begins }
}

impl Lab {
    async fn listed(&self, segments: usize) -> Vec<Segment> {
        let mut window = self.streams.get(&stream()).unwrap().window.clone();
        let window = soon(window.wait_for(|now| now.snapshot().segments.len() >= segments)).await.unwrap();
        window.snapshot().segments
    }
}

#[tokio::test]
async fn what_waits_of_a_replaced_publisher_is_published_before_the_next_one_begins() {
    let lab = lab(true).await;
    let (_, mut first) = lab.streams.claim(&lab.key, HERE).await.unwrap();
    for message in seconds(0..3) {
        assert!(first.send(message).await);
    }
    let (_, mut second) = lab.streams.claim(&lab.key, HERE).await.unwrap();
    assert_eq!(*first.kicked.borrow(), Some(Kick::Replaced));
    for message in seconds(0..2) {
        assert!(second.send(message).await);
    }
    drop(second);
    let ends: Vec<i64> = lab.listed(5).await.iter().map(|s| s.start_90k + s.duration_90k).collect();
    assert_eq!(ends, [90_000, 180_000, 270_000, 360_000, 450_000]);
    assert!(!first.send(seconds(0..1).remove(0)).await, "nothing of the first comes behind the second");
}

#[tokio::test]
async fn what_waits_when_a_stream_is_removed_is_recorded() {
    let lab = lab(true).await;
    let (_, mut claim) = lab.streams.claim(&lab.key, HERE).await.unwrap();
    for message in seconds(0..3) {
        assert!(claim.send(message).await);
    }
    let mut window = lab.streams.get(&stream()).unwrap().window.clone();
    lab.state.remove_stream(&stream()).await.unwrap();
    lab.streams.refresh().await.unwrap();
    assert_eq!(*claim.kicked.borrow(), Some(Kick::KeyEnded));
    drop(claim);
    soon(async { while window.changed().await.is_ok() {} }).await;
    assert_eq!(lab.state.last_segment(&stream()).await.unwrap().unwrap().number, 2);
}

#[tokio::test]
async fn a_publisher_that_waits_for_us_is_not_stale() {
    let lab = lab(false).await;
    let (_, mut claim) = lab.streams.claim(&lab.key, HERE).await.unwrap();
    let mut large = seconds(0..1).remove(0);
    large.payload = vec![0; QUEUE_BYTES].into();
    assert!(claim.send(large.clone()).await);
    let waiting = claim.send(large);
    tokio::pin!(waiting);
    assert!(is_pending(waiting.as_mut()).await, "the queue is full");
    std::thread::sleep(std::time::Duration::from_millis(releve_ingest::slot::STALE_MS + 1));
    let other = lab.streams.claim(&lab.key, THERE).await;
    assert!(matches!(other, Err(ClaimError::InUse(_))));
}

/// Whether a future is not ready at its first look.
async fn is_pending(mut future: std::pin::Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn publishers_that_replace_each_other_are_heard_of_in_that_order_and_are_bounded() {
    let lab = lab(false).await;
    let mut claims = Vec::new();
    let refused = loop {
        match lab.streams.claim(&lab.key, HERE).await {
            Ok((_, claim)) => claims.push(claim),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, ClaimError::Busy(_)) && claims.len() == 4);
    let kicked: Vec<_> = claims.iter().map(|claim| claim.kicked.borrow().is_some()).collect();
    assert_eq!(kicked, [true, true, true, false], "who is refused takes nothing from the holder");
    let mut queue = lab.begins.lock().unwrap().remove(0);
    for mut claim in claims {
        assert!(claim.send(seconds(0..1).remove(0)).await);
        let mut begin = queue.recv().await.unwrap();
        drop(claim);
        assert!(begin.media.recv().await.is_some() && begin.media.recv().await.is_none());
    }
}

#[tokio::test]
async fn a_node_that_stops_gives_no_slot() {
    let lab = lab(true).await;
    let (_, claim) = lab.streams.claim(&lab.key, HERE).await.unwrap();
    lab.streams.close_all();
    assert_eq!(*claim.kicked.borrow(), Some(Kick::Stopping));
    assert!(matches!(lab.streams.claim(&lab.key, HERE).await, Err(ClaimError::Stopping)));
    assert!(matches!(lab.streams.claim("wrong", HERE).await, Err(ClaimError::WrongKey)));
}
