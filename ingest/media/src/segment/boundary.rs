//! Where to cut before a picture: the rules at the top of the room, as conditions.
//!
//! In: the picture that comes and what the last ones were like. Out: closed parts and segments. Pure.

use super::open::Open;
use super::report::{Output, Report};
use super::{HOLE_90K, SEGMENT_BYTES_MAX, SEGMENT_SAMPLES_MAX, Segmenter};
use crate::unit::AccessUnit;
use ingest_api::object::PAIRS_MAX;
use ingest_api::window::TICKS_PER_SECOND;
use serde::{Deserialize, Serialize};

/// What the last pictures were like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GopState {
    /// Decode time of the last picture of this publisher.
    pub(super) last_90k: Option<i64>,
    /// The last two steps, the newer one first.
    pub(super) steps_90k: [i64; 2],
    /// Where the GOP started that goes on.
    pub(super) start_90k: Option<i64>,
    /// Length of the last whole GOP.
    pub(super) length_90k: i64,
    pub(super) reported: bool,
    pub(super) withheld: bool,
    pub(super) needs_idr: bool,
}

/// Step assumed of a single picture: 30 frames a second.
const FIRST_STEP_90K: i64 = 3_000;

impl Segmenter {
    /// Cuts or closes a part before this picture, if it must.
    pub(super) fn boundary_before(&mut self, unit: &AccessUnit, out: &mut Vec<Output>) {
        let (dts, target, max) = (unit.dts_90k, self.target_90k(), self.max_90k());
        if let (Some(open), Some(last)) = (&self.open, self.gop.last_90k) {
            // A step that no timeline gives: end here and leave the hole.
            if dts.saturating_sub(last.max(open.start_90k())) > HOLE_90K {
                let end = self.next_tick();
                self.cut(end, out);
            }
        }
        while let Some(open) = self.open.as_ref().filter(|open| dts - open.start_90k() > max) {
            let end = self.stalled_end(open, target, max);
            self.cut(end, out);
            self.open_at(end, out);
        }
        let Some(open) = &self.open else { return };
        let elapsed = dts - open.start_90k();
        let step = self.gop.steps_90k[0].max(self.gop.steps_90k[1]);
        let gop_so_far = self.gop.start_90k.map_or(0, |start| dts - start);
        let changed = unit.idr && !open.same_tracks(self.video.as_ref(), &self.voices);
        let other_key = unit.gop.as_ref().is_some_and(|gop| unit.idr && !open.takes_key(gop.code_key));
        let oversize = open.bytes() + unit.len() > SEGMENT_BYTES_MAX
            || open.pairs() + unit.pieces.len() > PAIRS_MAX
            || open.samples() >= SEGMENT_SAMPLES_MAX;
        let forced = !unit.idr && (elapsed + step > max || (self.gop.length_90k > max && elapsed >= target));
        let fits = unit.idr && self.takes_another_gop(open, dts);
        if elapsed > 0 && (changed || other_key || oversize || forced || (unit.idr && !fits)) {
            if forced && !self.gop.reported {
                self.gop.reported = true;
                let start_90k = self.gop.start_90k.unwrap_or(dts);
                let (number, so_far_90k) = (open.number(), gop_so_far);
                out.push(Output::Report(Report::LongGop { number, start_90k, so_far_90k }));
            }
            if oversize {
                out.push(Output::Report(Report::Oversize { number: open.number() }));
            }
            self.cut(dts, out);
            self.open_at(dts, out);
        } else if elapsed == 0 && changed && !open.is_published() {
            self.open = None; // nothing of it is out: it opens again with the new tracks
        } else if open.part_is_full(dts, step, unit.len(), self.run.part_90k.max(1)) {
            self.close_part(dts, out);
        }
    }

    /// What an IDR picture of this time ends whatever it is like: the part of `boundary_before` that asks for nothing else of it. Where
    /// the track has stalled there is more to do first, which waits for the picture.
    pub(super) fn boundary_ahead(&mut self, dts: i64, out: &mut Vec<Output>) {
        let Some(open) = &self.open else { return };
        let elapsed = dts - open.start_90k();
        if elapsed <= 0 || elapsed > self.max_90k() {
            return;
        }
        let step = self.gop.steps_90k[0].max(self.gop.steps_90k[1]);
        if !self.takes_another_gop(open, dts) {
            self.cut(dts, out); // the picture opens the next one, by the configuration that it comes with
        } else if open.part_is_full(dts, step, 0, self.run.part_90k.max(1)) {
            self.close_part(dts, out);
        }
    }

    /// Whether an IDR picture of this time goes on with the open segment: before the target, and another GOP like the one that
    /// it ends has room.
    fn takes_another_gop(&self, open: &Open, dts: i64) -> bool {
        let elapsed = dts - open.start_90k();
        let gop_so_far = self.gop.start_90k.map_or(0, |start| dts - start);
        elapsed < self.target_90k() && elapsed + gop_so_far <= self.max_90k()
    }

    /// Where a segment ends whose track stopped.
    pub(super) fn stalled_end(&self, open: &Open, target: i64, max: i64) -> i64 {
        let last = self.gop.last_90k.unwrap_or(open.start_90k());
        let start = open.start_90k();
        (start + target).max(last + 1).max(open.part_start_90k() + 1).min(start + max + 1)
    }
}

impl GopState {
    /// The usual distance to the next picture.
    pub(super) fn step(&self) -> i64 {
        if self.steps_90k[0] > 0 { self.steps_90k[0] } else { FIRST_STEP_90K }
    }

    /// Counts a picture in.
    pub(super) fn saw(&mut self, dts: i64, idr: bool, withheld: bool) {
        if let Some(last) = self.last_90k {
            let step = dts - last;
            if step <= TICKS_PER_SECOND {
                self.steps_90k = [step, self.steps_90k[0]];
            }
        }
        self.last_90k = Some(dts);
        if idr {
            if let Some(start) = self.start_90k {
                self.length_90k = dts - start;
            }
            self.start_90k = Some(dts);
            self.reported = false;
            self.needs_idr = false;
            self.withheld = withheld;
        }
    }
}
