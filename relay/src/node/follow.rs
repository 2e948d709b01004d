//! Following a stream: every origin is asked for its window, and what contradicts nothing is shown.
//!
//! A stream is followed from the first viewer until some time after the last one. What was shown stays known after that,
//! while there is room, so that numbers do not go back for whoever comes later.

use super::limits::ms;
use super::stream::Stream;
use super::{Node, now_unix_s};
use crate::io::origin::OriginError;
use crate::route::Wanted;
use crate::upstream::Shown;
use crate::upstream::view::{Known, Verdict};
use ingest_api::window::Segment;
use ingest_api::{Snapshot, StreamName};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// How long to wait before an origin without the stream is asked again.
const ABSENT_PAUSE: Duration = Duration::from_millis(300);
/// How long to wait after an origin's first failure in a row; doubles.
const FAILED_PAUSE: Duration = Duration::from_millis(200);
/// The longest wait after failures: what an origin's return may cost viewers.
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(2);
/// The shortest time between two windows of one origin: it may not make us spin.
const WINDOW_PAUSE: Duration = Duration::from_millis(20);

/// Segments of a window that are fetched at once when it is the first one: where players begin.
const AHEAD: usize = 3;

/// Versions of two processes, and of two times in the memory of one, never meet.
fn first_version() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_millis() as u64) << 16
}

impl Node {
    /// The stream, followed from now on; `None` when too many are known already.
    pub(super) fn follow(self: &Arc<Self>, name: &StreamName) -> Option<Arc<Stream>> {
        let stream = {
            let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
            if streams.len() >= self.limits.streams_max && !streams.contains_key(name) {
                streams.retain(|_, stream| stream.is_followed()); // room is made of those that nobody asks for
            }
            match streams.get(name) {
                Some(stream) => stream.clone(),
                None if streams.len() >= self.limits.streams_max => return None,
                None => {
                    let stream = Arc::new(Stream::new(name.clone(), first_version()));
                    streams.insert(name.clone(), stream.clone());
                    stream
                }
            }
        };
        if stream.want(self.now_ms()) {
            tokio::spawn(Arc::clone(self).follow_until_idle(name.clone(), stream.clone()));
        }
        Some(stream)
    }

    async fn follow_until_idle(self: Arc<Self>, name: StreamName, stream: Arc<Stream>) {
        tracing::info!(stream = %name, "following");
        let mut followers = JoinSet::new();
        for origin in 0..self.origins.len() {
            followers.spawn(Arc::clone(&self).follow_origin(name.clone(), stream.clone(), origin));
        }
        tokio::select! {
            () = async { while followers.join_next().await.is_some() {} } => {}
            () = self.stopped() => followers.shutdown().await,
        }
        stream.unfollow();
        if self.is_stopping() || stream.is_idle(self.now_ms(), ms(self.limits.follow_idle)) {
            tracing::info!(stream = %name, "no longer following");
        } else {
            self.follow(&name); // somebody asked between the last look and now
        }
    }

    async fn follow_origin(self: Arc<Self>, name: StreamName, stream: Arc<Stream>, origin: usize) {
        let (mut after, mut pause, mut well) = (None, FAILED_PAUSE, true);
        while !stream.is_idle(self.now_ms(), ms(self.limits.follow_idle)) {
            let asked = Instant::now();
            let keys = self.keys();
            let window = self.origins[origin].window(&keys.cluster, now_unix_s(), &name, after, &self.limits);
            match window.await {
                Ok(window) => {
                    self.choice().succeeded(origin);
                    if !well {
                        tracing::info!(origin = self.origins[origin].url(), stream = %name, "the origin is back");
                    }
                    (pause, well) = (FAILED_PAUSE, true);
                    if let Some(snapshot) = window {
                        after = Some(snapshot.version);
                        self.offer(&stream, snapshot, origin);
                    }
                    sleep(WINDOW_PAUSE.saturating_sub(asked.elapsed())).await;
                }
                Err(OriginError::NotFound) => {
                    (after, pause, well) = (None, FAILED_PAUSE, true);
                    sleep(ABSENT_PAUSE).await;
                }
                Err(error) => {
                    self.choice().failed(origin, self.now_ms());
                    self.metrics.upstream_failed("window");
                    if well {
                        tracing::warn!(origin = self.origins[origin].url(), stream = %name, %error, "the origin gives no window");
                    }
                    (after, well) = (None, false);
                    sleep(pause).await;
                    pause = (pause * 2).min(FAILED_PAUSE_MAX);
                }
            }
        }
    }

    fn offer(self: &Arc<Self>, stream: &Stream, snapshot: Snapshot, origin: usize) {
        let (epoch, version) = (snapshot.epoch, snapshot.version);
        let name = snapshot.stream.clone();
        let mut view = stream.view();
        let newest_before = view.newest();
        let verdict = view.offer(snapshot, self.now_ms());
        drop(view);
        match verdict {
            Ok(Verdict::Show(shown)) => {
                self.fetch_ahead(stream, &shown, newest_before);
                self.choice().led_by(origin);
                let newest = shown.snapshot.segments.last().map(|segment| segment.number);
                tracing::debug!(stream = %name, epoch, version, newest, origin = self.origins[origin].url(), "new window");
                stream.moved();
                self.changed.send_modify(|moves| *moves += 1);
            }
            Ok(Verdict::Same) => {}
            Err(contradiction) if contradiction.is_lag() => {
                self.metrics.upstream_refused("lag");
                tracing::debug!(stream = %name, epoch, %contradiction, "window not shown");
            }
            Err(contradiction) => {
                self.metrics.upstream_refused("contradiction");
                let origin = self.origins[origin].url();
                tracing::warn!(stream = %name, epoch, origin, %contradiction, "window refused");
            }
        }
    }

    /// Fetches what has just been listed before a viewer asks for it: an origin keeps segments in memory only, so what is
    /// here by then outlives its restart.
    fn fetch_ahead(self: &Arc<Self>, stream: &Stream, shown: &Shown, newest_before: Option<u64>) {
        let new = |segment: &&Segment| newest_before.is_none_or(|before| segment.number > before);
        for segment in shown.snapshot.segments.iter().rev().take(AHEAD).filter(new) {
            for row in &segment.tracks {
                let known = stream.view().find(&Wanted::Segment(row.track, segment.number));
                self.fetch_known(known);
            }
            // As MPEG-TS only where the one before it was wanted as that.
            let before = stream.view().find(&Wanted::TsSegment(segment.number.wrapping_sub(1)));
            if let Known::Entry(before) = before
                && self.cache.held(&before.key).is_some()
            {
                let known = stream.view().find(&Wanted::TsSegment(segment.number));
                self.fetch_known(known);
            }
        }
        // Of the segment that is being filled, the newest part.
        let Some(open) = &shown.snapshot.open else { return };
        let Some(newest) = open.parts().checked_sub(1) else { return };
        for track in open.tracks.iter().map(|entry| entry.track) {
            let wanted = Wanted::Part(track, open.number, newest as u32); // at most `PARTS_MAX`
            let known = stream.view().find(&wanted);
            self.fetch_known(known);
        }
    }

    fn fetch_known(self: &Arc<Self>, known: Known) {
        if let Known::Entry(entry) = known {
            let node = Arc::clone(self);
            tokio::spawn(async move { node.object(&entry).await });
        }
    }
}
