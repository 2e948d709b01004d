//! Parts: what of the segment that is being filled was shown, and when a blocking reload is due (RFC 8216bis §6.2.5).
//!
//! In: what was shown and what an origin says now, or a reload. Out: a snapshot that takes nothing back, or an answer.
//! Pure. A part that was shown stays as it was: an origin that knows fewer parts, or others (it lost the open segment in a
//! crash), does not change what viewers see of it; when such a segment is complete it is listed without its parts.

use crate::route::Reload;
use ingest_api::track::TRACKS_MAX;
use ingest_api::window::{OpenSegment, Part, Segment, TICKS_PER_SECOND};
use ingest_api::{Snapshot, Track};
use std::time::Duration;

/// Most parts of a segment: 10 s of parts of 20 ms.
pub const PARTS_MAX: usize = 512;
/// How far ahead of the newest part a request may be and still be waited for.
const AHEAD_MAX: usize = 3;

/// Whether a snapshot's parts are within bounds and its open segment follows the last one.
pub(super) fn well_formed(snapshot: &Snapshot, bytes_max: u64, is_init: impl Fn(&str) -> bool) -> bool {
    let bounded = |parts: &[Part]| {
        parts.len() <= PARTS_MAX
            && parts
                .iter()
                .all(|part| part.len <= bytes_max && (0..=10 * TICKS_PER_SECOND).contains(&part.duration_90k))
    };
    let listed = snapshot.segments.iter().flat_map(|segment| &segment.tracks);
    let open = snapshot.open.as_ref().is_none_or(|open| {
        let follows =
            snapshot.segments.last().is_none_or(|last| last.number.checked_add(1) == Some(open.number));
        let tracks = open.tracks.iter().all(|entry| is_init(&entry.init) && bounded(&entry.parts));
        follows && tracks && open.tracks.len() <= TRACKS_MAX && open.number < u64::MAX
    });
    (0..=10 * TICKS_PER_SECOND).contains(&snapshot.part_90k)
        && listed.into_iter().all(|entry| bounded(&entry.parts))
        && open
}

/// Brings the open segment of a new snapshot into line with the one that was shown.
pub(super) fn reconcile(shown: &Snapshot, new: &mut Snapshot) {
    let Some(before) = &shown.open else { return };
    if let Some(done) = new.segments.iter_mut().find(|segment| segment.number == before.number) {
        if !begins_like(done, before) {
            done.tracks.iter_mut().for_each(|entry| entry.parts.clear());
        }
    } else if new.segments.last().is_none_or(|last| last.number < before.number)
        && !new.open.as_ref().is_some_and(|open| goes_on(open, before))
    {
        new.open = Some(before.clone());
    }
}

/// Whether the complete segment has what was shown of it.
fn begins_like(done: &Segment, before: &OpenSegment) -> bool {
    done.discontinuity == before.discontinuity
        && done.date_unix_ms == before.date_unix_ms
        && before.tracks.iter().all(|was| {
            let is = done.tracks.iter().find(|is| is.track == was.track);
            is.is_some_and(|is| is.init == was.init && is.parts.starts_with(&was.parts))
        })
}

/// Whether an open segment is the one before with as many parts, or more.
fn goes_on(open: &OpenSegment, before: &OpenSegment) -> bool {
    (open.number, open.discontinuity, open.date_unix_ms)
        == (before.number, before.discontinuity, before.date_unix_ms)
        && before.tracks.iter().all(|was| {
            let is = open.tracks.iter().find(|is| is.track == was.track);
            is.is_some_and(|is| is.init == was.init && is.parts.starts_with(&was.parts))
        })
}

/// What is known of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sought<'a> {
    /// It is listed.
    Listed(&'a Part),
    /// It may come.
    Soon,
    /// It does not exist, or no longer.
    Never,
}

/// What is known of a part of a segment that is not complete.
pub(super) fn find(shown: &Snapshot, track: Track, number: u64, index: u32) -> Sought<'_> {
    let index = index as usize;
    let Some((newest, open_parts)) = shown.edge().filter(|_| shown.part_90k > 0) else {
        return Sought::Never;
    };
    let ahead = number.wrapping_sub(newest.wrapping_add(1));
    let open = shown.open.as_ref().and_then(|open| open.tracks.iter().find(|entry| entry.track == track));
    match (ahead, open.and_then(|open| open.parts.get(index))) {
        (0, Some(part)) if index < open_parts => Sought::Listed(part),
        (0, _) if index < open_parts + AHEAD_MAX => Sought::Soon,
        (1, _) if index < AHEAD_MAX => Sought::Soon,
        _ => Sought::Never,
    }
}

/// When a blocking reload is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// What it asks for is listed; or it asks for nothing.
    Now,
    /// It may come, within so long.
    Within(Duration),
    /// It asks for what is too far ahead: 400.
    Never,
}

/// When a reload is due.
pub fn due(shown: &Snapshot, reload: &Reload) -> Due {
    let Some(msn) = reload.msn.filter(|_| shown.part_90k > 0) else { return Due::Now };
    let Some((newest, open_parts)) = shown.edge() else { return Due::Now };
    let next = newest.wrapping_add(1); // of no segment and an open one 0 it is 0 again
    let listed = |number: u64| number < next;
    let parts_of = |number: u64| {
        let segment = shown.segments.iter().find(|segment| segment.number == number)?;
        segment.tracks.first().map(|entry| entry.parts.len() as u64)
    };
    let is_there = match reload.part {
        None => listed(msn),
        // A part after a segment's last one is the first of the next segment.
        Some(part) if listed(msn) => {
            msn.checked_add(1).is_none_or(&listed)
                || parts_of(msn).is_none_or(|parts| part < parts)
                || open_parts > 0
        }
        Some(part) => msn == next && part < open_parts as u64,
    };
    if is_there {
        Due::Now
    } else if msn > next.saturating_add(1) || reload.part.is_some_and(|part| part >= PARTS_MAX as u64) {
        Due::Never
    } else {
        Due::Within(Duration::from_secs(3 * u64::from(shown.target_duration_s)))
    }
}

#[cfg(test)]
#[path = "parts_tests.rs"]
pub(crate) mod tests;
