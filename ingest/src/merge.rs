//! Two publishers of one feed, made one: whichever says a thing first says it.
//!
//! An encoder that sends its feed twice (primary and backup) gives both connections the same messages with the same
//! timestamps, one of them later than the other. Of each kind, audio and video, a message goes on if it lies beyond all that
//! went on before it, whoever sends it; so the loss of either connection makes no hole, no duplicate and no step in time.
//! In: messages of the connections, in the order in which they came. Out: [`Taken`]. Pure.
//!
//! A place is a timestamp and a count, since several messages may share a timestamp. A connection counts (it is **joined**)
//! once what it sends overlaps what went on: before that, anything it gave could have a hole in front. A connection whose
//! timestamps are more than [`SKEW_MAX_MS`] away from the other's is no second copy of the feed; it waits as a spare, and
//! becomes the publisher when it is alone or the other one says nothing any more.
//!
//! Codec configurations have no place of their own: a connection begins with them, whenever it begins. One that is in force
//! already is a duplicate.

use bytes::Bytes;
use rtmp::{MediaKind, Message};
use std::collections::VecDeque;

/// Timestamps further apart than this are of two clocks, in milliseconds: twice the buffer of a slow encoder.
pub const SKEW_MAX_MS: u32 = 10_000;
/// When nothing went on for this long, a spare is asked, in milliseconds: what makes a publisher stale.
const QUIET_MS: u64 = crate::slot::STALE_MS;
/// What a connection that is not joined may have waiting: the oldest goes first.
const WAITING_BYTES: usize = 16 << 20;
/// The same in messages.
const WAITING_MESSAGES: usize = 4_096;

/// What a message is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Codec configuration of a track.
    Config(usize),
    /// Coded media of a track.
    Media(usize),
    /// Metadata, ends of sequences: nothing that is published.
    Other,
}

impl What {
    fn of(message: &Message) -> What {
        let (first, second) = (message.payload.first().copied(), message.payload.get(1).copied());
        match (message.kind, first, second) {
            // FourCC packets: the type is in the low bits.
            (MediaKind::Video, Some(first), _) if first & 0x80 != 0 => match first & 0x0f {
                0 => What::Config(0),
                1 | 3 => What::Media(0),
                _ => What::Other,
            },
            (MediaKind::Audio, Some(first), _) if first >> 4 == 9 => match first & 0x0f {
                0 => What::Config(1),
                1 => What::Media(1),
                _ => What::Other,
            },
            (MediaKind::Video, Some(_), Some(0)) => What::Config(0),
            (MediaKind::Video, Some(_), Some(1)) => What::Media(0),
            (MediaKind::Audio, Some(first), Some(0)) if first >> 4 == 10 => What::Config(1),
            (MediaKind::Audio, Some(_), Some(_)) => What::Media(1),
            _ => What::Other,
        }
    }
}

/// Whether it begins a GOP.
fn is_idr(message: &Message) -> bool {
    let first = message.payload.first().copied().unwrap_or_default();
    What::of(message) == What::Media(0) && (first >> 4) & 7 == 1
}

/// Where a message stands on its track: the how manieth of its timestamp it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    ms: u32,
    nth: u32,
}

impl Place {
    /// Milliseconds from the other to this one; timestamps wrap.
    fn since(self, other: Place) -> i32 {
        self.ms.wrapping_sub(other.ms).cast_signed()
    }

    fn is_beyond(self, other: Place) -> bool {
        let ms = self.since(other);
        ms > 0 || (ms == 0 && self.nth > other.nth)
    }
}

/// The last message of a track that went on.
#[derive(Clone, Copy, Debug)]
struct Mark {
    place: Place,
    by: u64,
}

/// One connection's side.
#[derive(Debug)]
pub struct Source {
    id: u64,
    joined: bool,
    /// The last message of each track.
    last: [Option<Place>; 2],
    /// The first one of each track that waits or went on, without a hole behind it.
    from: [Option<Place>; 2],
    /// Its codec configurations in force before what waits.
    configs: [Option<Message>; 2],
    waiting: VecDeque<(Message, Option<(usize, Place)>)>,
    waiting_bytes: usize,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing now.
    Nothing,
    /// It goes on.
    One(Message),
    /// These go on, in this order.
    Many(Vec<Message>),
    /// Its connection is the publisher from now on, and begins with these.
    Anew(Vec<Message>),
}

/// What went on of a feed.
#[derive(Debug)]
pub struct Merge {
    marks: [Option<Mark>; 2],
    configs: [Option<Bytes>; 2],
    /// When something last went on, in the caller's milliseconds.
    passed_ms: u64,
}

impl Source {
    /// A connection; `id` is its own. The first of a feed leads it: what it sends goes on.
    pub fn new(id: u64, leads: bool) -> Source {
        Source {
            id,
            joined: leads,
            last: [None; 2],
            from: [None; 2],
            configs: [None, None],
            waiting: VecDeque::new(),
            waiting_bytes: 0,
        }
    }

    fn place(&mut self, track: usize, ms: u32) -> Place {
        let nth = self.last[track].filter(|last| last.ms == ms).map_or(0, |last| last.nth + 1);
        let place = Place { ms, nth };
        self.last[track] = Some(place);
        place
    }

    fn wait(&mut self, message: Message, place: Option<(usize, Place)>) {
        if let Some((track, place)) = place {
            self.from[track].get_or_insert(place);
        }
        self.waiting_bytes += message.payload.len();
        self.waiting.push_back((message, place));
        while self.waiting_bytes > WAITING_BYTES || self.waiting.len() > WAITING_MESSAGES {
            let Some((message, _)) = self.waiting.pop_front() else { return };
            self.waiting_bytes -= message.payload.len();
            self.behind(&message);
            // The hole is behind us.
            let first = |track| self.waiting.iter().find_map(|(_, of)| of.filter(|(of, _)| *of == track));
            self.from = [0, 1].map(|track| first(track).map(|(_, place)| place));
        }
    }

    /// A message that waits no more, or never did.
    fn behind(&mut self, message: &Message) {
        if let What::Config(track) = What::of(message) {
            self.configs[track] = Some(message.clone());
        }
    }

    fn forget(&mut self) {
        while let Some((message, _)) = self.waiting.pop_front() {
            self.behind(&message);
        }
        self.waiting_bytes = 0;
        self.from = [None; 2];
    }

    /// All that waits, behind the codec configurations it was made with.
    fn anew(&mut self) -> Vec<Message> {
        self.joined = true;
        let waiting = self.waiting.iter().map(|(message, _)| message);
        let all = self.configs.iter().flatten().chain(waiting).cloned().collect();
        self.forget();
        all
    }
}

impl Merge {
    /// Of which nothing went on yet.
    pub fn new(now_ms: u64) -> Merge {
        Merge { marks: [None; 2], configs: [None, None], passed_ms: now_ms }
    }

    /// Takes the next message of a connection, which may be `alone` now.
    pub fn take(&mut self, source: &mut Source, alone: bool, now_ms: u64, message: Message) -> Taken {
        let what = What::of(&message);
        let place = match what {
            What::Media(track) => Some((track, source.place(track, message.timestamp))),
            What::Config(_) | What::Other => None,
        };
        if source.joined && self.is_far(source, place) {
            source.joined = false;
            source.forget();
        }
        if !source.joined {
            return self.take_of_stranger(source, alone, now_ms, message, place);
        }
        source.behind(&message);
        match self.passes(source, alone, what, place, &message) {
            true => {
                self.passed_ms = now_ms;
                Taken::One(message)
            }
            false => Taken::Nothing,
        }
    }

    /// Of a connection that is not joined: it waits until what it has overlaps what went on.
    fn take_of_stranger(
        &mut self,
        source: &mut Source,
        alone: bool,
        now_ms: u64,
        message: Message,
        place: Option<(usize, Place)>,
    ) -> Taken {
        if is_idr(&message) && !self.is_near(source) {
            // A spare begins with its newest pictures.
            source.forget();
        }
        source.wait(message, place);
        if self.overlaps(source) {
            source.joined = true;
            let waiting: Vec<_> = source.waiting.iter().cloned().collect();
            source.forget();
            let passes = |(message, place): (Message, Option<(usize, Place)>)| {
                let what = What::of(&message);
                self.passes(source, false, what, place, &message).then_some(message)
            };
            let passed: Vec<_> = waiting.into_iter().filter_map(passes).collect();
            if passed.is_empty() {
                return Taken::Nothing;
            }
            self.passed_ms = now_ms;
            return Taken::Many(passed);
        }
        let quiet = now_ms.saturating_sub(self.passed_ms) > QUIET_MS;
        let asked = quiet || (alone && !self.may_join(source));
        if !asked || place.is_none() {
            return Taken::Nothing;
        }
        *self = Merge::new(now_ms);
        let all = source.anew();
        for message in &all {
            let (what, place) = (What::of(message), None);
            self.note(source.id, what, place, message);
        }
        for track in 0..2 {
            self.marks[track] = source.last[track].map(|place| Mark { place, by: source.id });
        }
        Taken::Anew(all)
    }

    /// Whether what waits of a connection begins no later than what went on ends, on each track that there is.
    fn overlaps(&self, source: &Source) -> bool {
        self.marks.iter().any(Option::is_some)
            && self.marks.iter().zip(source.from).all(|(mark, from)| match (mark, from) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(mark), Some(from)) => {
                    let ahead = from.since(mark.place);
                    !from.is_beyond(mark.place) && ahead.unsigned_abs() <= SKEW_MAX_MS
                }
            })
    }

    /// Whether what waits of a connection is near what went on, on a track at least.
    fn is_near(&self, source: &Source) -> bool {
        self.marks.iter().zip(source.from).any(|(mark, from)| match (mark, from) {
            (Some(mark), Some(from)) => from.since(mark.place).unsigned_abs() <= SKEW_MAX_MS,
            _ => false,
        })
    }

    /// Whether a connection that is alone still overlaps what went on: not if a piece is missing between the two.
    fn may_join(&self, source: &Source) -> bool {
        let gap = |(mark, from): (&Option<Mark>, Option<Place>)| match (mark, from) {
            (Some(mark), Some(from)) => from.is_beyond(mark.place),
            _ => false,
        };
        self.is_near(source) && !self.marks.iter().zip(source.from).any(gap)
    }

    /// Whether a joined connection's clock has left the feed's, which another connection leads.
    fn is_far(&self, source: &Source, place: Option<(usize, Place)>) -> bool {
        let Some((track, place)) = place else { return false };
        self.marks[track]
            .is_some_and(|mark| mark.by != source.id && place.since(mark.place).unsigned_abs() > SKEW_MAX_MS)
    }

    /// Whether a message of a joined connection goes on.
    fn passes(
        &mut self,
        source: &Source,
        alone: bool,
        what: What,
        place: Option<(usize, Place)>,
        message: &Message,
    ) -> bool {
        let leads = |mark: Option<Mark>| mark.is_none_or(|mark| mark.by == source.id);
        // A publisher without a second one is taken as it is: whatever its clock does is the feed's to judge.
        let sole = alone && self.marks.into_iter().all(leads);
        let passes = sole
            || match (what, place) {
                (What::Media(track), Some((_, place))) => {
                    self.marks[track].is_none_or(|mark| place.is_beyond(mark.place))
                }
                (What::Config(track), _) => {
                    let beyond = |mark: Mark| message.timestamp.wrapping_sub(mark.place.ms).cast_signed() > 0;
                    self.configs[track].as_ref() != Some(&message.payload)
                        && self.marks[track].is_none_or(beyond)
                }
                _ => false,
            };
        if passes {
            self.note(source.id, what, place, message);
        }
        passes
    }

    fn note(&mut self, by: u64, what: What, place: Option<(usize, Place)>, message: &Message) {
        if let Some((track, place)) = place {
            self.marks[track] = Some(Mark { place, by });
        }
        if let What::Config(track) = what {
            self.configs[track] = Some(message.payload.clone());
        }
    }
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
