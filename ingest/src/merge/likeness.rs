//! Whether two connections say the same thing, or two encodes of it on one clock.
//!
//! In: messages that went on, and those of another connection. Out: a [`Likeness`] for each. Pure. A message is known by its
//! place, its length and the bytes at both its ends: two encoders differ in these with almost every picture, and the cost does
//! not grow with the picture.

use super::Place;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};

/// Messages of a track that are remembered: ten seconds of sound in frames of 10 ms.
const KEPT: usize = 1_024;
/// Bytes looked at, at either end of a message.
const ENDS: usize = 64;

/// How a message compares with what went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Likeness {
    /// The same one went on.
    Same,
    /// Another one stood in its place.
    Other,
    /// Nothing stood in its place, though something went on before it.
    Absent,
    /// It is not remembered that far back, or the connection itself said it.
    Unknown,
}

/// What went on of a track lately.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Lately(VecDeque<(Place, u64, u64)>);

impl Lately {
    /// This went on, said by a connection.
    pub(super) fn push(&mut self, place: Place, by: u64, payload: &Bytes) {
        self.0.push_back((place, by, print(payload)));
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }

    /// How a message of a connection compares.
    pub(super) fn likeness(&self, place: Place, by: u64, payload: &Bytes) -> Likeness {
        let known = self.0.iter().rev().find(|(at, ..)| *at == place);
        match known {
            Some((_, who, _)) if *who == by => Likeness::Unknown,
            Some((.., known)) if *known == print(payload) => Likeness::Same,
            Some(_) => Likeness::Other,
            None if self.0.front().is_some_and(|(first, ..)| place.is_beyond(*first)) => Likeness::Absent,
            None => Likeness::Unknown,
        }
    }
}

fn print(payload: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_usize(payload.len());
    hasher.write(&payload[..payload.len().min(ENDS)]);
    hasher.write(&payload[payload.len().saturating_sub(ENDS)..]);
    hasher.finish()
}
