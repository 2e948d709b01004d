//! What this stream's other node listed without it: copied, newest first, before the two are a pair again.
//!
//! In: where the stream stands at the holder, segments as they come. Out: the record made durable, then a window that lists
//! what the holder lists. Touches the state store and the blobs, as its parent does.

use super::{Context, Stream, unix_ms};
use crate::io::pair::data::{Found, Standing, record_hash};
use bytes::Bytes;
use media::window::Whole;
use releve_state::coordinator::Error as StateError;
use tracing::warn;

impl Stream {
    /// News of the pair: what the holder says of this stream, and what has come of it.
    pub(super) async fn copy(&mut self) {
        let Some(pair) = self.context.pair.clone() else { return };
        let name = self.context.stream.clone();
        if let Some(standing) = pair.standing(&name) {
            // A publisher's own beginning says it all.
            if self.live.is_none() {
                match self.stand(&standing).await {
                    Ok(()) => self.lack(),
                    Err(error) => {
                        self.diverged(&format!("this node cannot go on where the holder stands: {error}"));
                        pair.is_whole(&name);
                    }
                }
            } else if self.lacking.is_none() {
                pair.is_whole(&name);
            }
        }
        while let Some((number, found)) = pair.found(&name) {
            let whole = match found {
                _ if self.lacking != Some(number) => continue,
                Found::Segment(whole) => Some(*whole),
                Found::Same => self.spare.as_ref().and_then(|spare| spare.whole(number)),
                Found::Nothing => None,
            };
            match whole {
                Some(whole) if self.put_before(&whole).await => self.lack(),
                _ => self.lack_nothing(),
            }
        }
    }

    /// Goes on where the stream stands at the holder, for the publisher to come: its numbers are used, its run goes on.
    async fn stand(&mut self, standing: &Standing) -> Result<(), StateError> {
        let Context { stream, state, .. } = &self.context;
        let Standing { run, last, .. } = standing;
        let (ours, begun) = (state.last_segment(stream).await?, state.latest_run(stream).await?);
        // This node is ahead: with a segment, or with a run that the holder never heard of.
        if ours.as_ref().is_some_and(|ours| ours.number > last.number)
            || begun.is_some_and(|begun| begun != *run && begun.first_number > last.number)
        {
            return Ok(());
        }
        let mut epoch = state.epoch(stream).await?;
        while epoch < standing.epoch {
            epoch = state.advance_epoch(stream, epoch).await?;
        }
        state.begin_run(run).await?;
        // A run that has no segment yet keeps the numbers before it from being used again.
        if last.run == run.id {
            state.adopt_segment(stream, last, unix_ms()).await?;
        }
        self.store_inits(standing.seed.inits()).await;
        if self.window.newest() != Some(last) {
            // Whoever publishes next goes on from the records.
            (self.segmenter, self.gone_at) = (None, None);
            self.made.clear();
            self.set_aside();
            let joined = self.window.join(run, last.number.saturating_add(1), &standing.seed);
            joined.map_err(|error| StateError::Conflict(error.to_string()))?;
        }
        self.window.set_epoch(epoch);
        self.publish();
        Ok(())
    }

    /// Before the window begins anew: what it has need not be fetched again.
    pub(super) fn set_aside(&mut self) {
        if self.window.newest().is_some() {
            self.spare = Some(self.window.clone());
        }
    }

    /// Asks for what comes before the oldest segment here.
    pub(super) fn lack(&mut self) {
        let Some(pair) = &self.context.pair else { return };
        let Some(number) = self.window.before() else { return self.lack_nothing() };
        let spare = self.spare.as_ref().and_then(|spare| spare.record(number));
        self.lacking = Some(number);
        pair.lacks(&self.context.stream, number, spare.map(record_hash));
    }

    pub(super) fn lack_nothing(&mut self) {
        (self.lacking, self.spare) = (None, None);
        if let Some(pair) = &self.context.pair {
            pair.is_whole(&self.context.stream);
        }
    }

    /// `true` where one more would be listed.
    async fn put_before(&mut self, whole: &Whole) -> bool {
        self.store_inits(whole.inits.iter().map(|(name, bytes, _)| (name.as_str(), bytes))).await;
        match self.window.push_before(whole) {
            Ok(more) => {
                self.publish();
                more
            }
            Err(error) => {
                warn!(stream = %self.context.stream, %error, "what the holder listed alone stays with it");
                false
            }
        }
    }

    pub(super) async fn store_inits<'a>(&self, inits: impl Iterator<Item = (&'a str, &'a Bytes)>) {
        for (name, object) in inits {
            let blob = format!("init/{name}");
            if let Err(error) = self.context.blobs.put(&blob, object.clone()).await {
                warn!(stream = %self.context.stream, %error, "init section not stored; it is lost with a restart");
            }
        }
    }
}
