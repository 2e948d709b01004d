//! What a relay is to the relays behind it: an origin that lists what it shows and gives what it has.
//!
//! In: a route of `ingest_api::origin`. Out: the bytes an ingest node would answer with. Whoever asks counts as a viewer: the
//! stream is followed, and an object that is not here is fetched once for all who want it. Both variants go on, unmixed;
//! the relay behind this one checks tokens and mixes for its own viewers.
//!
//! A snapshot goes on as viewers here are shown it, so that a number never stands for two things in two tiers. Its version
//! is this relay's own: two origins may show the same under different ones. Its fencing term is the highest seen here.

use super::Node;
use crate::route::Wanted;
use crate::upstream::view::Known;
use bytes::Bytes;
use ingest_api::origin::{Route, StreamEntry, StreamList};
use ingest_api::{StreamName, Track};
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// What became of a relay's request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    /// A list or a snapshot.
    Json(Bytes),
    /// An encoded object.
    Object(Bytes),
    /// The snapshot is the one that the asker has.
    Unchanged,
    /// There is no such thing (yet).
    Nothing,
}

impl Node {
    /// Answers one request of a relay behind this one.
    pub async fn give(self: &Arc<Self>, route: &Route) -> Given {
        let (stream, wanted) = match route {
            Route::Streams => return self.give_list(),
            Route::Window { stream, after, wait_ms } => {
                return self.give_window(stream, *after, Duration::from_millis(*wait_ms)).await;
            }
            Route::Segment { stream, track, number } => (stream, vec![Wanted::Segment(*track, *number)]),
            Route::Part { stream, track, number, index } => {
                (stream, vec![Wanted::Part(*track, *number, *index)])
            }
            Route::MpegTs { stream, number, .. } => (stream, vec![Wanted::TsSegment(*number)]),
            Route::Init { stream, init } => {
                let of = |track| Wanted::Init(track, init.clone());
                (stream, Track::ALL.map(of).into())
            }
        };
        let Some(stream) = self.follow(stream) else { return Given::Nothing };
        let known = wanted.iter().find_map(|wanted| match stream.view().find(wanted) {
            Known::Entry(entry) => Some(entry),
            Known::Soon | Known::Never => None,
        });
        // Not where MPEG-TS is to be made of other tracks than are listed here.
        let Some(entry) = known.filter(|entry| entry.route() == *route) else { return Given::Nothing };
        match self.object(&entry).await {
            Some(held) => Given::Object(held.object.encode()),
            None => Given::Nothing,
        }
    }

    /// The streams that are followed here.
    fn give_list(&self) -> Given {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = streams.iter().filter_map(|(name, stream)| {
            let view = stream.view();
            let live = view.shown()?.snapshot.live;
            Some(StreamEntry { stream: name.clone(), version: stream.version(), live })
        });
        json(&StreamList { node: self.name.clone(), streams: entries.collect() })
    }

    async fn give_window(self: &Arc<Self>, name: &StreamName, after: Option<u64>, wait: Duration) -> Given {
        let (deadline, mut changes) = (Instant::now() + wait, self.changes());
        loop {
            changes.borrow_and_update();
            let Some(stream) = self.follow(name) else { return Given::Nothing };
            let (version, shown, epoch) = {
                let view = stream.view();
                (stream.version(), view.shown().cloned(), view.epoch())
            };
            if let Some(shown) = shown.as_ref().filter(|_| Some(version) != after) {
                let mut snapshot = shown.snapshot.clone();
                (snapshot.version, snapshot.epoch) = (version, epoch);
                return json(&snapshot);
            }
            let over = match shown {
                Some(_) => Given::Unchanged,
                None => Given::Nothing,
            };
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return over },
                () = sleep_until(deadline) => return over,
                () = self.stopped() => return over,
            }
        }
    }
}

fn json(value: &impl serde::Serialize) -> Given {
    Given::Json(serde_json::to_vec(value).expect("snapshots are plain strings and numbers").into())
}
