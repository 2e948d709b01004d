//! Two publishers of one feed, made one: whichever says a thing first says it.
//!
//! An encoder that sends its feed twice (primary and backup) gives both connections the same messages with the same
//! timestamps, one of them later than the other. Of each track, of video and of audio, a message goes on if it lies beyond all that
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
//!
//! Two encodes of one picture on one clock are no copies: pictures of the one refer to pictures of the other. So a connection
//! joins only if its messages are those that went on in their places (`likeness`), and a joined one whose are not any more
//! leaves. It **differs** from then on: one of the two is used, the other is a spare.
//!
//! Two nodes that take the same messages in the same order, each with the same [`Standing`], decide the same: nothing else
//! goes in. `confluence` is all of it as one value, which one node can give to the other.

mod confluence;
mod likeness;
mod source;

pub use confluence::Confluence;
pub use source::{Source, is_idr};

use bytes::Bytes;
use ingest_api::Track;
use ingest_api::track::TRACKS_MAX;
use likeness::{Lately, Likeness};
use rtmp::Message;
use serde::{Deserialize, Serialize};
use source::{Place, Said, What};

/// Timestamps further apart than this are of two clocks, in milliseconds: twice the buffer of a slow encoder.
pub const SKEW_MAX_MS: u32 = 10_000;
/// When nothing went on for this long, a spare is asked, in milliseconds: what makes a publisher stale.
const QUIET_MS: u64 = crate::slot::STALE_MS;
/// So many messages of a track that are not those that went on make another encode of it; fewer may be lost ones.
const UNLIKE_MAX: usize = 4;
/// Messages of a track that are compared when a connection may join: its newest ones that could be known.
const COMPARED: usize = 32;

/// How things stand when a message is taken: what messages themselves do not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// There is no other connection now.
    pub alone: bool,
    /// Nothing went on lately: a spare may be asked.
    pub quiet: bool,
}

/// The last message of a track that went on.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Mark {
    place: Place,
    by: u64,
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
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Merge {
    /// By the tracks' places in `Track::ALL`, as all that is counted by track.
    marks: [Option<Mark>; TRACKS_MAX],
    configs: [Option<Bytes>; TRACKS_MAX],
    lately: [Lately; TRACKS_MAX],
    /// How often a spare became the publisher: who was joined before is not any more.
    life: u32,
    /// When something last went on, in the caller's milliseconds.
    #[serde(skip)]
    passed_ms: u64,
}

impl Merge {
    /// Of which nothing went on yet.
    pub fn new(now_ms: u64) -> Merge {
        let (configs, lately) = Default::default();
        Merge { marks: [None; TRACKS_MAX], configs, lately, life: 0, passed_ms: now_ms }
    }

    /// Whether nothing went on for so long that a spare is asked.
    pub fn is_quiet(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.passed_ms) > QUIET_MS
    }

    /// Takes the next message of a connection.
    pub fn take(&mut self, source: &mut Source, standing: Standing, now_ms: u64, message: Message) -> Taken {
        let alone = standing.alone;
        if std::mem::replace(&mut source.life, self.life) != self.life {
            source.joined = false;
            source.forget();
        }
        let what = What::of(&message);
        let place = match what {
            What::Media(track) => Some((track, source.place(track, message.timestamp))),
            What::Config(_) | What::Other => None,
        };
        if source.joined && self.is_far(source, place) {
            source.joined = false;
            source.forget();
        }
        if source.joined && !alone && self.is_unlike(source, place, &message) {
            source.part();
        }
        if !source.joined {
            return self.take_of_stranger(source, standing, now_ms, message, place);
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
        Standing { alone, quiet }: Standing,
        now_ms: u64,
        message: Message,
        place: Option<(usize, Place)>,
    ) -> Taken {
        if is_idr(&message) && (source.differs || !self.is_near(source)) {
            // A spare begins with its newest pictures.
            source.forget();
        }
        source.wait(message, place);
        let likeness = match !source.differs && self.overlaps(source) {
            true => self.likeness(source),
            false => Likeness::Unknown,
        };
        if likeness == Likeness::Other {
            source.part();
        }
        if likeness == Likeness::Same {
            (source.joined, source.unlike) = (true, [0; TRACKS_MAX]);
            // What it was configured with may have gone on by nobody: of a track that begins with it.
            let configs = source.configs.iter().flatten().map(|config| (config.clone(), None));
            let waiting: Vec<_> = configs.chain(source.waiting.iter().cloned()).collect();
            source.forget();
            let passes = |(message, place): (Said, Option<(usize, Place)>)| {
                let Said(message) = message;
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
        let asked = quiet || (alone && (source.differs || !self.may_join(source)));
        if !asked || place.is_none() {
            return Taken::Nothing;
        }
        *self = Merge { life: self.life.wrapping_add(1), ..Merge::new(now_ms) };
        source.life = self.life;
        let all = source.anew();
        for message in &all {
            let (what, place) = (What::of(message), None);
            self.note(source.id, what, place, message);
        }
        for track in 0..TRACKS_MAX {
            self.marks[track] = source.last[track].map(|place| Mark { place, by: source.id });
        }
        Taken::Anew(all)
    }

    /// Whether what waits of a connection begins no later than what went on ends, on each track that there is. Of a further track
    /// nothing need wait: it may have ended.
    fn overlaps(&self, source: &Source) -> bool {
        self.marks.iter().any(Option::is_some)
            && self.marks.iter().zip(source.from).enumerate().all(|(track, (mark, from))| {
                match (mark, from) {
                    (None, _) => true,
                    (Some(_), None) => track > Track::AUDIO.index(),
                    (Some(mark), Some(from)) => {
                        let ahead = from.since(mark.place);
                        !from.is_beyond(mark.place) && ahead.unsigned_abs() <= SKEW_MAX_MS
                    }
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

    /// Whether what waits of a connection is what went on in its places: on every track, most of what can be compared.
    fn likeness(&self, source: &Source) -> Likeness {
        let mut all = Likeness::Same;
        for (track, mark) in self.marks.iter().enumerate() {
            let Some(mark) = mark else { continue };
            let known = source.waiting.iter().rev().filter_map(|(message, of)| match of {
                Some((of, place)) if *of == track && !place.is_beyond(mark.place) => {
                    Some((&message.0, *place))
                }
                _ => None,
            });
            let (mut same, mut other) = (0, 0);
            for (message, place) in known.take(COMPARED) {
                match self.lately[track].likeness(place, source.id, &message.payload) {
                    Likeness::Same => same += 1,
                    Likeness::Other | Likeness::Absent => other += 1,
                    Likeness::Unknown => {}
                }
            }
            if other >= UNLIKE_MAX && other >= same {
                return Likeness::Other;
            }
            if same <= other {
                all = Likeness::Unknown;
            }
        }
        all
    }

    /// Whether a joined connection has become another encode of the feed.
    fn is_unlike(&self, source: &mut Source, place: Option<(usize, Place)>, message: &Message) -> bool {
        let Some((track, place)) = place else { return false };
        match self.lately[track].likeness(place, source.id, &message.payload) {
            Likeness::Same => source.unlike[track] = 0,
            Likeness::Other => source.unlike[track] += 1,
            Likeness::Absent | Likeness::Unknown => {}
        }
        source.unlike[track] >= UNLIKE_MAX
    }

    /// Whether a connection that is alone may still turn out to overlap what went on: not if a piece is missing between the
    /// two, and not if it has passed all that it could be compared with.
    fn may_join(&self, source: &Source) -> bool {
        let behind = |(mark, last): (&Option<Mark>, Option<Place>)| match (mark, last) {
            (Some(mark), Some(last)) => !last.is_beyond(mark.place),
            (mark, _) => mark.is_some(),
        };
        if !self.marks.iter().zip(source.last).any(behind) {
            return false;
        }
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
            self.lately[track].push(place, by, &message.payload);
        }
        if let What::Config(track) = what {
            self.configs[track] = Some(message.payload.clone());
        }
    }
}

#[cfg(test)]
mod tests;
