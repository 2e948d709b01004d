//! One connection of a feed: where its messages stand, and what waits of it.
//!
//! In: its messages. Out: their places, and what waits, in order. Pure.

use bytes::Bytes;
use ingest_api::Track;
use ingest_api::track::TRACKS_MAX;
use media::flv::{Audio, Video};
use rtmp::{MediaKind, Message};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::collections::VecDeque;

/// What a connection that is not joined may have waiting: the oldest goes first.
const WAITING_BYTES: usize = 16 << 20;
/// The same in messages.
const WAITING_MESSAGES: usize = 4_096;

/// What a message is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Codec configuration of a track.
    Config(usize),
    /// Coded media of a track.
    Media(usize),
    /// Metadata, ends of sequences: nothing that is published.
    Other,
}

impl What {
    pub(super) fn of(message: &Message) -> What {
        let payload = message.payload.clone();
        match message.kind {
            // One that has several tracks is known by the first of them.
            MediaKind::Video => {
                match Video::parse(payload).ok().and_then(|(tracks, _)| tracks.into_iter().next()) {
                    Some((track, Video::Config { .. })) => What::Config(track.index()),
                    Some((track, Video::Frame { .. })) => What::Media(track.index()),
                    Some((_, Video::End | Video::Ignored(_))) | None => What::Other,
                }
            }
            MediaKind::Audio => {
                match Audio::parse(payload).ok().and_then(|(tracks, _)| tracks.into_iter().next()) {
                    Some((track, Audio::Config { .. })) => What::Config(Track::Audio(track).index()),
                    Some((track, Audio::Frame { .. })) => What::Media(Track::Audio(track).index()),
                    Some((_, Audio::Ignored(_))) | None => What::Other,
                }
            }
            MediaKind::Data => What::Other,
        }
    }
}

/// Whether it begins a GOP, as its head says.
pub fn is_idr(message: &Message) -> bool {
    let first = message.payload.first().copied().unwrap_or_default();
    What::of(message) == What::Media(0) && (first >> 4) & 7 == 1
}

/// A message that can be given to another node.
#[derive(Clone, Debug)]
pub(super) struct Said(pub(super) Message);

impl Serialize for Said {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Message { kind, timestamp, payload } = &self.0;
        (*kind as u8, timestamp, payload).serialize(to)
    }
}

impl<'de> Deserialize<'de> for Said {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Said, D::Error> {
        let (kind, timestamp, payload) = <(u8, u32, Bytes)>::deserialize(from)?;
        let kind = [MediaKind::Audio, MediaKind::Video, MediaKind::Data]
            .into_iter()
            .find(|known| *known as u8 == kind)
            .ok_or_else(|| D::Error::custom("a kind of message that there is not"))?;
        Ok(Said(Message { kind, timestamp, payload }))
    }
}

/// Where a message stands on its track: the how manieth of its timestamp it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) ms: u32,
    pub(super) nth: u32,
}

impl Place {
    /// Milliseconds from the other to this one; timestamps wrap.
    pub(super) fn since(self, other: Place) -> i32 {
        self.ms.wrapping_sub(other.ms).cast_signed()
    }

    pub(super) fn is_beyond(self, other: Place) -> bool {
        let ms = self.since(other);
        ms > 0 || (ms == 0 && self.nth > other.nth)
    }
}

/// One connection's side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Source {
    pub(super) id: u64,
    pub(super) joined: bool,
    /// The last message of each track.
    pub(super) last: [Option<Place>; TRACKS_MAX],
    /// The first one of each track that waits or went on, without a hole behind it.
    pub(super) from: [Option<Place>; TRACKS_MAX],
    /// Its codec configurations in force before what waits.
    pub(super) configs: [Option<Said>; TRACKS_MAX],
    pub(super) waiting: VecDeque<(Said, Option<(usize, Place)>)>,
    waiting_bytes: usize,
    /// Since it joined: messages of each track in a row that were not those that went on.
    pub(super) unlike: [usize; TRACKS_MAX],
    /// It is another encode of the feed.
    pub(super) differs: bool,
    /// Nobody was told of that.
    untold: bool,
    /// The merge's life in which it last said something.
    pub(super) life: u32,
}

impl Source {
    /// A connection; `id` is its own. The first of a feed leads it: what it sends goes on.
    pub fn new(id: u64, leads: bool) -> Source {
        Source {
            id,
            joined: leads,
            last: [None; TRACKS_MAX],
            from: [None; TRACKS_MAX],
            configs: Default::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unlike: [0; TRACKS_MAX],
            differs: false,
            untold: false,
            life: 0,
        }
    }

    /// Whether it was found to be another encode of the feed since the last call: worth a word to the operator.
    pub fn found_to_differ(&mut self) -> bool {
        std::mem::take(&mut self.untold)
    }

    pub(super) fn part(&mut self) {
        (self.joined, self.differs, self.untold) = (false, true, true);
    }

    pub(super) fn place(&mut self, track: usize, ms: u32) -> Place {
        let nth = self.last[track].filter(|last| last.ms == ms).map_or(0, |last| last.nth + 1);
        let place = Place { ms, nth };
        self.last[track] = Some(place);
        place
    }

    pub(super) fn wait(&mut self, message: Message, place: Option<(usize, Place)>) {
        if let Some((track, place)) = place {
            self.from[track].get_or_insert(place);
        }
        self.waiting_bytes += message.payload.len();
        self.waiting.push_back((Said(message), place));
        while self.waiting_bytes > WAITING_BYTES || self.waiting.len() > WAITING_MESSAGES {
            let Some((Said(message), _)) = self.waiting.pop_front() else { return };
            self.waiting_bytes -= message.payload.len();
            self.behind(&message);
            // The hole is behind us.
            let first = |track| self.waiting.iter().find_map(|(_, of)| of.filter(|(of, _)| *of == track));
            self.from = std::array::from_fn(|track| first(track).map(|(_, place)| place));
        }
    }

    /// A message that waits no more, or never did.
    pub(super) fn behind(&mut self, message: &Message) {
        if let What::Config(track) = What::of(message) {
            self.configs[track] = Some(Said(message.clone()));
        }
    }

    pub(super) fn forget(&mut self) {
        while let Some((Said(message), _)) = self.waiting.pop_front() {
            self.behind(&message);
        }
        self.waiting_bytes = 0;
        self.from = [None; TRACKS_MAX];
    }

    /// All that waits, behind the codec configurations it was made with.
    pub(super) fn anew(&mut self) -> Vec<Message> {
        (self.joined, self.differs, self.unlike) = (true, false, [0; TRACKS_MAX]);
        let waiting = self.waiting.iter().map(|(message, _)| message);
        let all = self.configs.iter().flatten().chain(waiting).map(|Said(message)| message.clone()).collect();
        self.forget();
        all
    }

    /// Whether a value that came from elsewhere could be one of ours.
    pub(super) fn is_sound(&self) -> bool {
        let bytes = self.waiting.iter().map(|(message, _)| message.0.payload.len()).sum::<usize>();
        bytes == self.waiting_bytes
            && self.waiting.len() <= WAITING_MESSAGES
            && self.waiting.iter().all(|(_, of)| of.is_none_or(|(track, _)| track < TRACKS_MAX))
    }
}
