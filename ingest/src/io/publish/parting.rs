//! How a publisher ends in its stream's task: replaced, by its other connection's beginning anew, or for good.
//!
//! In: a publisher that has said its last. Out: what was taken from it, published; nothing of what is listed changes. Touches
//! what its parent does.

use super::Stream;
use media::feed::Feed;
use media::segment::Segmenter;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long a paired publisher that is replaced may take to hand over what was read from it.
const LAST_WORDS_MAX: Duration = Duration::from_secs(5);

impl Stream {
    /// Another publisher takes the slot, or the slot is gone. What was taken from the last one is published first.
    pub(super) async fn replaced(&mut self) {
        match &mut self.live {
            // Its twin was sent the same bytes and takes all that is in them: so must we.
            Some(live) if live.twin.is_some() => {}
            Some(live) => live.media.close(),
            None => return,
        }
        while let Some(live) = &mut self.live {
            match timeout(LAST_WORDS_MAX, live.media.recv()).await {
                Ok(queued) => self.queued(queued).await,
                Err(_) => {
                    live.media.close();
                    self.diverged("a replaced publisher's connection does not end");
                }
            }
        }
    }

    /// The publisher goes on by another connection, which has another clock or another encode: a feed of its own.
    pub(super) async fn anew(&mut self) {
        self.give_rest().await;
        let start = self.segmenter.as_ref().map_or(0, Segmenter::next_tick);
        if let Some(live) = &mut self.live {
            live.feed = Feed::new(start);
        }
        self.context.marking.again();
        self.told.clear();
    }

    /// The publisher has left: what it sent is published, nothing else changes.
    pub(super) async fn gone(&mut self) {
        if self.live.is_none() {
            return;
        }
        self.give_rest().await;
        self.live = None;
        self.gone_at = Some(Instant::now());
        self.window.set_live(false);
        self.publish();
    }

    /// What is still held of the feed goes on.
    async fn give_rest(&mut self) {
        if self.segmenter.is_some()
            && let Some(live) = &mut self.live
        {
            for unit in self.context.marking.end(self.run, &mut live.voice).await {
                self.segment(unit).await;
            }
        }
        let outputs = self.segmenter.as_mut().map(Segmenter::gone).unwrap_or_default();
        self.carry_out(outputs).await;
    }
}
