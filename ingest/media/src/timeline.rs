//! The run's clock: a publisher's 32-bit milliseconds become 90 kHz ticks that never go back and never tear.
//!
//! In: track and RTMP timestamp of each unit, in order of arrival. Out: its tick, and what had to be done for it. Pure.
//!
//! Goals, in this order: decode times of a track strictly increase; a publisher's restart, pause or reset clock leaves no
//! hole; audio and video keep their distance. Rules:
//!
//! 1. **Wrap.** Each timestamp is taken as the nearest one to the track's last (or, at its first, to another track's):
//!    the wrap at 2³² ms is undone here and nowhere else.
//! 2. **One offset.** ticks = ms × 90 + offset. All tracks share the offset, which is what keeps their distance.
//! 3. **Jump.** A timestamp over `JUMP_MS` beyond the last one *of any track* on the same clock, or over `JUMP_MS` behind
//!    the last of its own, is another clock. The unit follows the last one of its track by that track's usual step,
//!    which makes a new offset. The other tracks keep their old offset until they jump too; one that then lands near one that
//!    has jumped takes over its offset. So a few late units of the old clock between them do no harm, and a gap of one
//!    track alone (a still camera, a muted microphone) is no jump as long as another one goes on.
//! 4. **Bump.** A timestamp that repeats or goes back by less is jitter: it gets the least tick after the last one.
//!
//! The alternative, dropping units until the clock makes sense again, loses pictures that others need.

use ingest_api::Track;
use ingest_api::track::TRACKS_MAX;
use serde::{Deserialize, Serialize};

/// Beyond this a step is another clock: twice the longest frame or interleaving distance of a sane publisher.
pub const JUMP_MS: i64 = 1_000;
/// Step assumed before a track has shown one: 30 frames a second.
const VIDEO_STEP_90K: i64 = 3_000;
/// The same for audio: 1,024 samples at 48 kHz.
const AUDIO_STEP_90K: i64 = 1_920;

/// Clock of one publisher on a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    start_90k: i64,
    /// By the tracks' places in `Track::ALL`.
    clocks: [Option<Clock>; TRACKS_MAX],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Clock {
    /// Last timestamp, unwrapped.
    last_ms: i64,
    last_90k: i64,
    /// Last distance of two units that was neither jump nor bump.
    step_90k: i64,
    offset_90k: i64,
}

/// A unit's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its tick of the run.
    pub time_90k: i64,
    /// What had to be done for it.
    pub event: Option<Event>,
}

/// A timestamp that was not taken as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Another clock: re-based.
    Jump {
        /// On which track it showed.
        track: Track,
        /// The last timestamp before, unwrapped milliseconds.
        from_ms: i64,
        /// The one that jumped.
        to_ms: i64,
    },
    /// Repeated or slightly back: moved forward.
    Bump {
        /// On which track.
        track: Track,
        /// By how many ticks.
        by_90k: i64,
    },
}

impl Timeline {
    /// A clock whose first unit lands on `at_90k`: 0 for a new run, the end of what is published for a returning publisher.
    pub fn start(at_90k: i64) -> Timeline {
        Timeline { start_90k: at_90k, clocks: [None; TRACKS_MAX] }
    }

    /// The tick of the next unit of a track.
    pub fn push(&mut self, track: Track, timestamp_ms: u32) -> Stamp {
        let own = self.clocks[track.index()].take();
        let others = self.clocks.iter().flatten();
        let (clock, event) = match own {
            Some(own) => next(track, own, others, timestamp_ms),
            None => joins(track, others, timestamp_ms)
                .unwrap_or_else(|| (first(track, self.start_90k, timestamp_ms), None)),
        };
        self.clocks[track.index()] = Some(clock);
        Stamp { time_90k: clock.last_90k, event }
    }

    /// Where a timestamp lies on the clock of a track, which does not hear of it; `None` without such a clock, and on another one.
    pub fn beside(&self, track: Track, timestamp_ms: u32) -> Option<i64> {
        let clock = self.clocks[track.index()].as_ref()?;
        let (clock, ms) = beside(std::iter::once(clock), timestamp_ms)?;
        Some(at(ms, clock.offset_90k))
    }
}

fn usual_step(track: Track) -> i64 {
    match track {
        Track::Video | Track::Encoding(_) => VIDEO_STEP_90K,
        Track::Audio(_) => AUDIO_STEP_90K,
    }
}

/// The very first unit.
fn first(track: Track, at_90k: i64, timestamp_ms: u32) -> Clock {
    let ms = i64::from(timestamp_ms);
    let offset_90k = at_90k.saturating_sub(ms * 90);
    Clock { last_ms: ms, last_90k: at_90k, step_90k: usual_step(track), offset_90k }
}

/// The first unit of a further track; `None` where there is no other yet.
fn joins<'a>(
    track: Track,
    others: impl Iterator<Item = &'a Clock> + Clone,
    timestamp_ms: u32,
) -> Option<(Clock, Option<Event>)> {
    let step_90k = usual_step(track);
    if let Some((other, ms)) = beside(others.clone(), timestamp_ms) {
        let (last_90k, offset_90k) = (at(ms, other.offset_90k), other.offset_90k);
        return Some((Clock { last_ms: ms, last_90k, step_90k, offset_90k }, None));
    }
    let other = others.max_by_key(|other| other.last_90k)?;
    let ms = unwrap(other.last_ms, timestamp_ms);
    let clock =
        Clock { last_ms: ms, last_90k: other.last_90k, step_90k, offset_90k: offset(other.last_90k, ms) };
    Some((clock, Some(Event::Jump { track, from_ms: other.last_ms, to_ms: ms })))
}

/// The track that is furthest on of those that a timestamp lies beside, and the timestamp on its clock.
fn beside<'a>(others: impl Iterator<Item = &'a Clock>, timestamp_ms: u32) -> Option<(&'a Clock, i64)> {
    let placed = others.map(|other| (other, unwrap(other.last_ms, timestamp_ms)));
    let near = placed.filter(|(other, ms)| ms.saturating_sub(other.last_ms).abs() <= JUMP_MS);
    near.max_by_key(|(other, _)| other.last_90k)
}

/// A unit of a track that has had some.
fn next<'a>(
    track: Track,
    own: Clock,
    others: impl Iterator<Item = &'a Clock> + Clone,
    timestamp_ms: u32,
) -> (Clock, Option<Event>) {
    let ms = unwrap(own.last_ms, timestamp_ms);
    let shared = others.clone().filter(|other| other.offset_90k == own.offset_90k);
    let newest = shared.map(|other| other.last_ms).fold(own.last_ms, i64::max);
    let same_clock = (own.last_ms.saturating_sub(JUMP_MS)..=newest.saturating_add(JUMP_MS)).contains(&ms);
    let jump = Event::Jump { track, from_ms: own.last_ms, to_ms: ms };
    if same_clock {
        let time = at(ms, own.offset_90k);
        if time > own.last_90k {
            let step = time - own.last_90k;
            let step_90k = if step <= JUMP_MS * 90 { step } else { own.step_90k };
            return (Clock { last_ms: ms, last_90k: time, step_90k, ..own }, None);
        }
        // The least tick after the last one; the newest timestamp stays the measure of jumps.
        let last_90k = own.last_90k.saturating_add(1);
        let event = Event::Bump { track, by_90k: last_90k.saturating_sub(time) };
        return (Clock { last_ms: own.last_ms.max(ms), last_90k, ..own }, Some(event));
    }
    // Another track has jumped already and this one lands beside it: take over its offset.
    let jumped = others.filter(|other| other.offset_90k != own.offset_90k);
    if let Some((other, ms)) = beside(jumped, timestamp_ms) {
        let last_90k = at(ms, other.offset_90k).max(own.last_90k.saturating_add(1));
        return (Clock { last_ms: ms, last_90k, offset_90k: other.offset_90k, ..own }, Some(jump));
    }
    let last_90k = own.last_90k.saturating_add(own.step_90k);
    (Clock { last_ms: ms, last_90k, offset_90k: offset(last_90k, ms), ..own }, Some(jump))
}

/// The unwrapped timestamp nearest to another one.
fn unwrap(near_ms: i64, timestamp_ms: u32) -> i64 {
    let step = timestamp_ms.wrapping_sub(near_ms as u32) as i32;
    near_ms.saturating_add(i64::from(step))
}

fn at(ms: i64, offset_90k: i64) -> i64 {
    ms.saturating_mul(90).saturating_add(offset_90k)
}

fn offset(at_90k: i64, ms: i64) -> i64 {
    at_90k.saturating_sub(ms.saturating_mul(90))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Track::Video;
    use proptest::prelude::*;

    const AUDIO: Track = Track::AUDIO;

    fn times(timeline: &mut Timeline, units: &[(Track, u32)]) -> Vec<i64> {
        units.iter().map(|&(track, ms)| timeline.push(track, ms).time_90k).collect()
    }

    #[test]
    fn the_first_unit_lands_where_it_is_told() {
        let mut timeline = Timeline::start(900_000);
        let units = [(Video, 5_000), (AUDIO, 5_010), (Video, 5_033), (AUDIO, 5_031)];
        assert_eq!(times(&mut timeline, &units), [900_000, 900_900, 902_970, 902_790]);
    }

    #[test]
    fn the_wrap_is_undone_once_for_both_tracks() {
        let mut timeline = Timeline::start(0);
        let units = [(Video, u32::MAX - 9), (AUDIO, u32::MAX - 4), (AUDIO, 16), (Video, 23), (Video, 56)];
        assert_eq!(times(&mut timeline, &units), [0, 450, 26 * 90, 33 * 90, 66 * 90]);
    }

    #[test]
    fn a_reset_clock_leaves_no_hole_and_keeps_the_distance() {
        let mut timeline = Timeline::start(0);
        times(&mut timeline, &[(Video, 100_000), (AUDIO, 100_010), (Video, 100_040), (AUDIO, 100_031)]);
        let video = timeline.push(Video, 0);
        assert_eq!(video.time_90k, 80 * 90);
        assert!(matches!(video.event, Some(Event::Jump { track: Video, from_ms: 100_040, to_ms: 0 })));
        // A late unit of the old clock stays on it.
        assert_eq!(timeline.push(AUDIO, 100_052), Stamp { time_90k: 52 * 90, event: None });
        let audio = timeline.push(AUDIO, 10);
        assert_eq!(audio.time_90k, 90 * 90, "10 ms after the video of the new clock");
        assert_eq!(timeline.push(Video, 40), Stamp { time_90k: 120 * 90, event: None });
    }

    #[test]
    fn a_guest_of_a_clock_is_where_the_track_would_be_and_leaves_no_trace() {
        let mut timeline = Timeline::start(900_000);
        assert_eq!(timeline.beside(Video, 5_000), None);
        timeline.push(Video, u32::MAX - 9);
        let before = timeline.clone();
        assert_eq!(timeline.beside(Video, u32::MAX - 9), Some(900_000));
        assert_eq!(timeline.beside(Video, 23), Some(900_000 + 33 * 90), "through the wrap");
        assert_eq!([991, 1_000_000].map(|ms| timeline.beside(Video, ms)), [None; 2], "over a second away");
        assert_eq!(timeline.beside(AUDIO, 23), None);
        assert_eq!(timeline, before);
    }

    #[test]
    fn a_gap_of_one_track_is_no_jump_while_the_other_goes_on() {
        let mut timeline = Timeline::start(0);
        timeline.push(Video, 0);
        for ms in (0..5_000).step_by(20) {
            assert_eq!(timeline.push(AUDIO, ms).event, None);
        }
        assert_eq!(timeline.push(Video, 5_000), Stamp { time_90k: 450_000, event: None });
        assert!(
            matches!(timeline.push(Video, 6_500).event, Some(Event::Jump { .. })),
            "and beyond both it is one"
        );
    }

    #[test]
    fn all_tracks_keep_their_distances_through_a_reset_clock() {
        let third = Track::ALL[3];
        let mut timeline = Timeline::start(0);
        let units =
            [(Video, 100_000), (AUDIO, 100_010), (third, 100_012), (Video, 100_040), (AUDIO, 100_031)];
        assert_eq!(times(&mut timeline, &units), [0, 900, 1_080, 3_600, 2_790]);
        assert_eq!(timeline.push(AUDIO, 0).time_90k, 2_790 + 1_890, "by its usual step");
        assert_eq!(timeline.push(third, 2).time_90k, 4_680 + 180, "2 ms after the sound of the new clock");
        assert_eq!(timeline.push(Video, 9).time_90k, 4_680 + 810);
        // One that comes late is on the clock of the others.
        let late = timeline.push(Track::ALL[8], 20);
        assert_eq!(late, Stamp { time_90k: 4_680 + 1_800, event: None });
    }

    #[test]
    fn jitter_is_bumped_by_the_least() {
        let mut timeline = Timeline::start(0);
        let stamps: Vec<_> = [0, 33, 33, 20, 67].map(|ms| timeline.push(Video, ms)).into();
        let times: Vec<_> = stamps.iter().map(|stamp| stamp.time_90k).collect();
        assert_eq!(times, [0, 2_970, 2_971, 2_972, 6_030]);
        assert_eq!(stamps[2].event, Some(Event::Bump { track: Video, by_90k: 1 }));
        assert_eq!(stamps[3].event, Some(Event::Bump { track: Video, by_90k: 2_972 - 1_800 }));
    }

    proptest! {
        #[test]
        fn any_timestamps_strictly_increase_and_tear_nothing(
            start in 0i64..1 << 50,
            units in proptest::collection::vec((0..TRACKS_MAX, prop_oneof![any::<u32>(), 0u32..5_000]), 1..200),
        ) {
            let mut timeline = Timeline::start(start);
            let mut last = [None; TRACKS_MAX];
            for (index, (track, ms)) in units.into_iter().enumerate() {
                let newest = last.iter().flatten().max().copied();
                let stamp = timeline.push(Track::ALL[track], ms);
                if index == 0 { prop_assert_eq!(stamp.time_90k, start); }
                let own: &mut Option<i64> = &mut last[track];
                if let Some(own) = *own { prop_assert!(stamp.time_90k > own); }
                // No unit lands more than a jump beyond everything before it.
                if let Some(newest) = newest { prop_assert!(stamp.time_90k <= newest + JUMP_MS * 90 + 90_000); }
                *own = Some(stamp.time_90k);
            }
        }

        #[test]
        fn any_sane_publisher_keeps_its_distances(
            base in any::<u32>(), apart in 0u32..900, steps in proptest::collection::vec(1u32..400, 1..100),
        ) {
            let mut timeline = Timeline::start(0);
            let mut ms = base;
            prop_assert_eq!(timeline.push(Video, ms).time_90k, 0);
            for step in steps {
                let sound = timeline.push(AUDIO, ms.wrapping_add(apart));
                ms = ms.wrapping_add(step);
                let picture = timeline.push(Video, ms);
                prop_assert_eq!((sound.event, picture.event), (None, None));
                prop_assert_eq!(picture.time_90k - sound.time_90k, (i64::from(step) - i64::from(apart)) * 90);
            }
        }
    }
}
