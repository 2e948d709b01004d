//! What a segmenter checks of a state that it takes over: everything its arithmetic relies on.

use super::{ANNOUNCED_MAX, Segmenter, TICKS_MAX};
use crate::saved::SavedError;
use ingest_api::window::TICKS_PER_SECOND;

pub(super) const ROOM: &str = "the segmenter";

impl Segmenter {
    pub(super) fn check(&self) -> Result<(), SavedError> {
        let in_range = |tick: Option<i64>| tick.is_none_or(|tick| (0..=TICKS_MAX).contains(&tick));
        let gop = &self.gop;
        let steps = gop.steps_90k.iter().all(|step| (0..=TICKS_PER_SECOND).contains(step));
        let facts = [
            (in_range(self.next_90k), "its end"),
            (in_range(gop.last_90k) && in_range(gop.start_90k), "a picture's time"),
            (steps && (0..=TICKS_MAX).contains(&gop.length_90k), "a GOP's length"),
            (gop.start_90k <= gop.last_90k, "a GOP after its last picture"),
            ((0..=TICKS_MAX).contains(&self.run.part_90k), "the longest part"),
            (self.announced.len() <= ANNOUNCED_MAX, "the init sections"),
            (self.discontinuity < u64::MAX >> 1, "the discontinuities"),
            (self.voices.iter().all(|voice| voice.clock.is_sane(TICKS_MAX)), "an audio clock"),
            (self.encodings.is_sane(), "a further encoding"),
            (self.open.as_ref().is_none_or(|open| open.is_sane(TICKS_MAX)), "the open segment"),
            (self.rates().all(|rate| (1..=96_000).contains(&rate)), "a sample rate"),
            (self.open.is_none() || self.open_fits(), "the open segment's last picture"),
        ];
        match facts.into_iter().find(|(holds, _)| !holds) {
            Some((_, what)) => Err(SavedError::Value { room: ROOM, what }),
            None => Ok(()),
        }
    }

    fn rates(&self) -> impl Iterator<Item = u32> {
        let open = self.open.iter().flat_map(|open| open.sample_rates());
        let voices = self.voices.iter().filter_map(|voice| voice.config.as_ref());
        voices.map(|prepared| prepared.config.sample_rate).chain(open)
    }

    /// Pictures of the open part are not after the last one seen, and the segment is not longer than it may be.
    fn open_fits(&self) -> bool {
        let Some(open) = &self.open else { return true };
        let newest = open.newest_90k();
        newest.is_none_or(|newest| self.gop.last_90k.is_some_and(|last| newest <= last))
            && open.part_start_90k() - open.start_90k() <= self.max_90k()
            && (!open.has_video()
                || self.gop.last_90k.is_none_or(|last| last - open.start_90k() <= self.max_90k()))
    }
}
