//! The view of one stream: the newest snapshot that contradicts nothing a viewer was shown before.
//!
//! In: snapshots of any origin, the time in milliseconds. Out: whether to show them, and what is known of an object. Pure.
//!
//! What it holds to (invariants 2 and 4): a fencing term is never followed by a lower one; the newest number never goes
//! back and the oldest neither; a number once shown keeps its bytes, duration and discontinuity count. A snapshot that
//! breaks one of these changes nothing: the last good one stays.
//!
//! An ingest that was started anew lists only what it has made since. What was shown before and joins on stays listed
//! (RFC 8216 §6.2.2: never less than three target durations): this relay has the bytes.

use super::object::{Entry, ObjectKey, What};
use super::parts::{self, Sought};
use super::shown::Shown;
use crate::route::Wanted;
use ingest_api::content_key::{KeyId, OF_KEY_SERVER, SegmentKey};
use ingest_api::object::OBJECT_BYTES_MAX;
use ingest_api::origin::is_init_name;
use ingest_api::track::TRACKS_MAX;
use ingest_api::window::{OpenSegment, Segment, TICKS_PER_SECOND};
use ingest_api::{Signals, Snapshot, StreamName, Track};
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// Most segments in a snapshot.
pub const SEGMENTS_MAX: usize = 1024;
/// Most keys of a key server in a snapshot: with a key for each segment, as many as 60 listed ones and the open one have.
const SIGNALS_MAX: usize = 64;
/// Longest segment, in ticks: `EXT-X-TARGETDURATION` is at most 10 s and durations round to it.
const DURATION_90K_MAX: i64 = 11 * TICKS_PER_SECOND;
/// How far ahead of the newest number a request may be and still be waited for: another relay may be this much faster.
const AHEAD_MAX: u64 = 3;

/// What one relay knows of one stream.
#[derive(Debug)]
pub struct View {
    stream: StreamName,
    epoch: u64,
    shown: Option<Arc<Shown>>,
    /// Shown segments by number: the listed ones, and those that players may still ask for.
    kept: BTreeMap<u64, Kept>,
    offline_since_ms: Option<u64>,
    grown_ms: u64,
}

#[derive(Debug)]
struct Kept {
    segment: Segment,
    /// When it may be forgotten; `None` while it is listed.
    until_ms: Option<u64>,
}

/// What became of a snapshot.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It is what viewers see from now on.
    Show(Arc<Shown>),
    /// It says nothing new.
    Same,
}

/// What is known of an object that a viewer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// It exists.
    Entry(Entry),
    /// Not yet, but it may come at any moment.
    Soon,
    /// It does not exist, or no longer.
    Never,
}

impl View {
    /// A stream of which nothing is known.
    pub fn new(stream: StreamName) -> View {
        View { stream, epoch: 0, shown: None, kept: BTreeMap::new(), offline_since_ms: None, grown_ms: 0 }
    }

    /// Takes a snapshot of an origin.
    ///
    /// # Errors
    /// Says what it contradicts; the view is as before, but for the fencing term: a higher one counts from its first word on.
    pub fn offer(&mut self, mut snapshot: Snapshot, now_ms: u64) -> Result<Verdict, Contradiction> {
        self.forget(now_ms);
        well_formed(&snapshot, &self.stream)?;
        if snapshot.epoch < self.epoch {
            return Err(Contradiction::Epoch { epoch: snapshot.epoch, seen: self.epoch });
        }
        self.epoch = snapshot.epoch;
        if let Some(shown) = &self.shown {
            if let (Some(first), Some(last)) =
                (shown.snapshot.segments.first(), shown.snapshot.segments.last())
            {
                // An origin may list more of the past than was shown; the oldest number must not go back either.
                snapshot.segments.retain(|segment| segment.number >= first.number);
                let newest = snapshot.segments.last().map(|segment| segment.number);
                if newest.is_none_or(|newest| newest < last.number) {
                    return Err(Contradiction::Number { number: newest, seen: last.number });
                }
            }
            for segment in &snapshot.segments {
                let changed = |kept: &Kept| !same_for_viewers(&kept.segment, segment);
                if self.kept.get(&segment.number).is_some_and(changed) {
                    return Err(Contradiction::Changed { number: segment.number });
                }
            }
            for segment in &mut snapshot.segments {
                // What was shown of its parts stays, too.
                let Some(kept) = self.kept.get(&segment.number) else { continue };
                for (entry, kept) in segment.tracks.iter_mut().zip(&kept.segment.tracks) {
                    entry.parts.clone_from(&kept.parts);
                }
            }
            parts::reconcile(&shown.snapshot, &mut snapshot);
            join_on(&shown.snapshot, &mut snapshot);
            still_told(&shown.snapshot, &mut snapshot);
            if told_alike(&shown.snapshot, &snapshot) {
                return Ok(Verdict::Same);
            }
        }
        Ok(Verdict::Show(self.show(snapshot, now_ms)))
    }

    /// What viewers are shown.
    pub fn shown(&self) -> Option<&Arc<Shown>> {
        self.shown.as_ref()
    }

    /// The newest number shown.
    pub fn newest(&self) -> Option<u64> {
        Some(self.shown.as_ref()?.snapshot.segments.last()?.number)
    }

    /// The highest fencing term seen.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a viewer who comes now will see something: a publisher is, or was less than `grace_ms` ago, connected, the
    /// window has grown within `stall_ms`, and there is a whole segment, for players that do not know parts.
    pub fn is_live(&self, now_ms: u64, grace_ms: u64, stall_ms: u64) -> bool {
        let connected = self.offline_since_ms.is_none_or(|since| now_ms < since.saturating_add(grace_ms));
        self.newest().is_some() && connected && now_ms < self.grown_ms.saturating_add(stall_ms)
    }

    /// What is known of an object.
    pub fn find(&self, wanted: &Wanted) -> Known {
        let newest = self.kept.last_key_value().map(|(number, _)| *number);
        match wanted {
            Wanted::Segment(_, number) | Wanted::TsSegment(number) => {
                let kept = self.kept.get(number).and_then(|kept| named(&kept.segment, wanted));
                match (kept, newest) {
                    (Some((what, len)), _) => Known::Entry(self.entry(what, len)),
                    (None, Some(newest)) if *number <= newest || number - newest > AHEAD_MAX => Known::Never,
                    (None, _) => Known::Soon,
                }
            }
            Wanted::Part(track, number, index) => self.find_part(*track, *number, *index),
            Wanted::Init(track, init) => {
                let names = |kept: &Kept| {
                    kept.segment.tracks.iter().any(|entry| entry.track == *track && entry.init == *init)
                };
                let open = self.shown.as_ref().and_then(|shown| shown.snapshot.open.as_ref());
                let opens = open.is_some_and(|open| {
                    open.tracks.iter().any(|entry| entry.track == *track && entry.init == *init)
                });
                if opens || self.kept.values().any(names) {
                    Known::Entry(self.entry(What::Init(*track, init.clone()), None))
                } else {
                    Known::Soon
                }
            }
            Wanted::Index
            | Wanted::Media(_)
            | Wanted::MpegTs
            | Wanted::CdnMedia(_)
            | Wanted::CdnMpegTs
            | Wanted::Steering => Known::Never,
            Wanted::Key(_) | Wanted::Licence(_) | Wanted::Events => Known::Never,
        }
    }

    /// The key of this id, where a segment that players may ask for, or the open one, is encrypted by it: no other is given
    /// to anybody, above all none of a segment to come.
    pub fn key(&self, kid: KeyId) -> Option<SegmentKey> {
        let open = self.shown.as_ref().and_then(|shown| shown.snapshot.open.as_ref()?.key);
        let kept = self.kept.values().rev().filter_map(|kept| kept.segment.key);
        open.into_iter().chain(kept).find(|key| key.kid == kid)
    }

    /// Whether a segment with a number from the first to the last of these may be asked for; `None` when not yet, but at any
    /// moment.
    pub fn keeps(&self, (first, last): (u64, u64)) -> Option<bool> {
        if self.kept.range(first..=last).next().is_some() {
            return Some(true);
        }
        let soon = self.newest().is_none_or(|newest| first > newest && first - newest <= AHEAD_MAX);
        (!soon).then_some(false)
    }

    fn find_part(&self, track: Track, number: u64, index: u32) -> Known {
        let sought = match (self.kept.get(&number), &self.shown) {
            (Some(kept), _) => {
                let entry = kept.segment.tracks.iter().find(|entry| entry.track == track);
                let part = entry.and_then(|entry| entry.parts.get(index as usize));
                part.map_or(Sought::Never, Sought::Listed)
            }
            (None, Some(shown)) => parts::find(&shown.snapshot, track, number, index),
            (None, None) => Sought::Soon,
        };
        match sought {
            Sought::Listed(part) => {
                let what = What::Part { track, number, index, sha256: part.sha256 };
                Known::Entry(self.entry(what, Some(part.len)))
            }
            Sought::Soon => Known::Soon,
            Sought::Never => Known::Never,
        }
    }

    fn entry(&self, what: What, len: Option<u64>) -> Entry {
        Entry { key: ObjectKey { stream: self.stream.clone(), what }, len }
    }

    fn show(&mut self, snapshot: Snapshot, now_ms: u64) -> Arc<Shown> {
        let window_90k: i64 = match &self.shown {
            Some(shown) => shown.snapshot.segments.iter().map(|segment| segment.duration_90k).sum(),
            None => 0,
        };
        let first = snapshot.segments.first().map_or(u64::MAX, |segment| segment.number);
        for (_, kept) in self.kept.range_mut(..first) {
            // RFC 8216 §6.2.2: its own duration and that of the longest playlist it stood in.
            let stays_ms =
                (kept.segment.duration_90k + window_90k).unsigned_abs() * 1000 / TICKS_PER_SECOND as u64;
            kept.until_ms.get_or_insert(now_ms + stays_ms);
        }
        for segment in &snapshot.segments {
            let kept = || Kept { segment: segment.clone(), until_ms: None };
            self.kept.entry(segment.number).or_insert_with(kept);
        }
        let newest = |snapshot: &Snapshot| snapshot.segments.last().map(|segment| segment.number);
        let before = self.shown.as_ref().map(|shown| &shown.snapshot);
        if newest(&snapshot) > before.and_then(newest)
            || snapshot.open.as_ref().map_or(0, OpenSegment::parts)
                > before.and_then(|before| before.open.as_ref()).map_or(0, OpenSegment::parts)
        {
            self.grown_ms = now_ms;
        }
        self.offline_since_ms = match (snapshot.live, self.offline_since_ms) {
            (true, _) => None,
            (false, since) => since.or(Some(now_ms)),
        };
        let shown = Arc::new(Shown::new(snapshot));
        self.shown = Some(shown.clone());
        shown
    }

    fn forget(&mut self, now_ms: u64) {
        self.kept.retain(|_, kept| kept.until_ms.is_none_or(|until| now_ms < until));
        while self.kept.len() > 2 * SEGMENTS_MAX {
            self.kept.pop_first();
        }
    }
}

/// What a segment's record says of this object of it, and how long it is, where that is known.
fn named(segment: &Segment, wanted: &Wanted) -> Option<(What, Option<u64>)> {
    let number = segment.number;
    if let Wanted::Segment(track, _) = *wanted {
        let entry = segment.tracks.iter().find(|entry| entry.track == track)?;
        return Some((What::Segment { track, number, sha256: entry.sha256 }, Some(entry.len)));
    }
    Some((What::TsSegment { number, of: segment.mpeg_ts()? }, None))
}

/// Puts the end of what was shown before a snapshot that follows it without a hole: as much as makes it as long as what was
/// shown, and three target durations, where there is that much.
fn join_on(shown: &Snapshot, snapshot: &mut Snapshot) {
    let Some(first) = snapshot.segments.first() else { return };
    let before = shown.segments.partition_point(|segment| segment.number < first.number);
    let before = &shown.segments[..before];
    let joins = before.last().is_some_and(|last| {
        last.number.checked_add(1) == Some(first.number) && last.discontinuity <= first.discontinuity
    });
    if joins && shown.target_duration_s == snapshot.target_duration_s {
        let least_90k = 3 * i64::from(shown.target_duration_s) * TICKS_PER_SECOND;
        let mut count = snapshot.segments.len();
        let mut length_90k: i64 = snapshot.segments.iter().map(|segment| segment.duration_90k).sum();
        let stays = |segment: &&Segment| {
            let short = count < shown.segments.len() || length_90k < least_90k;
            (count, length_90k) = (count + 1, length_90k + segment.duration_90k);
            short
        };
        let stay = before.iter().rev().take_while(stays).count();
        snapshot.segments.splice(..0, before[before.len() - stay..].iter().cloned());
    }
}

/// What was told of keys whose segments stay listed, where the origin names them no more.
fn still_told(shown: &Snapshot, snapshot: &mut Snapshot) {
    let lacks = |kid| snapshot.keys().any(|key| key.kid == kid) && snapshot.signals(kid).is_none();
    let told: Vec<_> = shown.signals.iter().filter(|signals| lacks(signals.kid)).cloned().collect();
    snapshot.signals.extend(told);
}

/// Whether viewers would be told the same by both; versions and fencing terms are not told.
fn told_alike(a: &Snapshot, b: &Snapshot) -> bool {
    (a.live, a.target_duration_s, &a.tracks, &a.segments, a.part_90k, &a.open, &a.signals)
        == (b.live, b.target_duration_s, &b.tracks, &b.segments, b.part_90k, &b.open, &b.signals)
}

/// Whether a number stands for the same to every viewer.
fn same_for_viewers(a: &Segment, b: &Segment) -> bool {
    let tracks = |segment: &Segment| -> Vec<_> {
        segment
            .tracks
            .iter()
            .map(|entry| (entry.track, entry.init.clone(), entry.len, entry.sha256))
            .collect()
    };
    (a.discontinuity, a.duration_90k, a.date_unix_ms, a.has_mpeg_ts, a.key)
        == (b.discontinuity, b.duration_90k, b.date_unix_ms, b.has_mpeg_ts, b.key)
        && tracks(a) == tracks(b)
}

fn well_formed(snapshot: &Snapshot, stream: &StreamName) -> Result<(), Contradiction> {
    if snapshot.stream != *stream {
        return Err(Contradiction::Stream);
    }
    if snapshot.segments.len() > SEGMENTS_MAX {
        return Err(Contradiction::TooMany { segments: snapshot.segments.len() });
    }
    let mut last: Option<&Segment> = None;
    for segment in &snapshot.segments {
        let odd = Err(Contradiction::Segment { number: segment.number });
        if !(0..=DURATION_90K_MAX).contains(&segment.duration_90k) || segment.tracks.len() > TRACKS_MAX {
            return odd;
        }
        for entry in &segment.tracks {
            if !is_init_name(&entry.init) || entry.len > OBJECT_BYTES_MAX as u64 {
                return odd;
            }
        }
        if let Some(last) = last {
            let follows = last.number.checked_add(1) == Some(segment.number);
            if !follows || segment.discontinuity < last.discontinuity {
                return odd;
            }
        }
        last = Some(segment);
    }
    if !parts::well_formed(snapshot, OBJECT_BYTES_MAX as u64, is_init_name) {
        return Err(Contradiction::Parts);
    }
    let told = |key: SegmentKey| key.content_key != OF_KEY_SERVER || snapshot.signals(key.kid).is_some();
    let few = snapshot.signals.len() <= SIGNALS_MAX;
    if !few || !snapshot.signals.iter().all(Signals::well_formed) || !snapshot.keys().all(told) {
        return Err(Contradiction::Signals);
    }
    Ok(())
}

/// What a snapshot contradicts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Contradiction {
    /// The question.
    #[error("the snapshot is of another stream")]
    Stream,
    /// The fencing term: a node that lost it still publishes.
    #[error("epoch {epoch} after {seen}: the node has been fenced off")]
    Epoch {
        /// Its term.
        epoch: u64,
        /// The highest seen.
        seen: u64,
    },
    /// The newest number.
    #[error("newest number {number:?} after {seen}: the node is behind")]
    Number {
        /// Its newest number.
        number: Option<u64>,
        /// The newest shown.
        seen: u64,
    },
    /// What was shown under a number.
    #[error("segment {number} is not what it was before")]
    Changed {
        /// Which one.
        number: u64,
    },
    /// The limit on listed segments.
    #[error("{segments} segments in a snapshot, at most {SEGMENTS_MAX} are taken")]
    TooMany {
        /// How many it lists.
        segments: usize,
    },
    /// The bounds on parts.
    #[error("parts are out of bounds, or the open segment does not follow the last one")]
    Parts,
    /// The rules for what players are told of keys.
    #[error("what players are told of keys is missing, or not what it should be")]
    Signals,
    /// The rules for a window.
    #[error("segment {number} does not follow the one before it or is out of bounds")]
    Segment {
        /// Which one.
        number: u64,
    },
}

impl Contradiction {
    /// Whether it is no more than a node that has not caught up: expected of a standby, not worth a warning.
    pub fn is_lag(&self) -> bool {
        matches!(self, Contradiction::Number { .. })
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
