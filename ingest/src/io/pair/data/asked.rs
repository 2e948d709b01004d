//! What a standby asks its holder for: slices that its own marking process could not make, and the bytes of a segment that
//! came out differently.
//!
//! In: what streams made, questions and answers of the link. Out: the same to whoever asked. Pure. A holder keeps little and
//! for a short time; what it no longer has it does not answer, and the asker goes on without it.

use bytes::{Bytes, BytesMut};
use ingest_api::track::ENCODINGS_MAX;
use ingest_api::{Object, Track};
use media::unit::Piece;
use mirror::compare::first_difference;
use mirror::frame::PAYLOAD_MAX;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// GOPs whose slices are kept: those that a standby may still wait for, four of each encoding.
const GOPS_KEPT: usize = 4 * (1 + ENCODINGS_MAX);
/// Segments whose objects are kept.
const SEGMENTS_KEPT: u64 = 3;
/// The longest answer that is put together, bytes: a segment of ten seconds at 50 Mb/s.
const ANSWER_MAX: usize = 64 << 20;
/// Bytes of an answer in one note, with room for what stands around them.
const PIECE_MAX: usize = PAYLOAD_MAX - 64;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Want {
    /// The pieces of the IDR picture with which the GOP of this track and start begins, marked.
    Slices((Track, i64)),
    /// One track of the segment of this number.
    Object(u64, Track),
}

/// A piece of what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    want: Want,
    last: bool,
    bytes: Bytes,
}

/// `media::unit::Piece` on the link.
#[derive(Serialize, Deserialize)]
enum Slice {
    Common(Bytes),
    Pair(Bytes, Bytes, u16),
}

/// What one connection's stream made lately, and what was fetched for it.
#[derive(Debug, Default)]
pub(super) struct Kept {
    slices: VecDeque<((Track, i64), Vec<Piece>)>,
    objects: VecDeque<(u64, Track, Object)>,
    fetched: VecDeque<((Track, i64), Vec<Piece>)>,
    coming: Option<(Want, BytesMut)>,
}

impl Kept {
    /// A GOP was marked here.
    pub(super) fn marked(&mut self, gop: (Track, i64), pieces: &[Piece]) {
        self.slices.push_back((gop, pieces.to_vec()));
        self.slices.drain(..self.slices.len().saturating_sub(GOPS_KEPT));
    }

    /// A track of a segment was made here.
    pub(super) fn made(&mut self, number: u64, track: Track, object: &Object) {
        self.objects.push_back((number, track, object.clone()));
        self.objects.retain(|(of, ..)| of.saturating_add(SEGMENTS_KEPT) > number);
    }

    /// The answers to a question, in order; none where it is not here.
    pub(super) fn answer(&self, want: Want) -> Vec<Answer> {
        let bytes = match want {
            Want::Slices(gop) => self.slices.iter().find(|(of, _)| *of == gop).map(|(_, pieces)| {
                let slices = pieces.iter().map(|piece| match piece {
                    Piece::Common(bytes) => Slice::Common(bytes.clone()),
                    Piece::Pair { a, b, slice } => Slice::Pair(a.clone(), b.clone(), *slice),
                });
                super::word::write(&slices.collect::<Vec<_>>())
            }),
            Want::Object(number, track) => self.object(number, track).map(Object::encode),
        };
        let Some(bytes) = bytes else { return Vec::new() };
        let piece = |at: usize| {
            let end = bytes.len().min(at + PIECE_MAX);
            Answer { want, last: end == bytes.len(), bytes: bytes.slice(at..end) }
        };
        (0..bytes.len()).step_by(PIECE_MAX).map(piece).collect()
    }

    fn object(&self, number: u64, track: Track) -> Option<&Object> {
        self.objects.iter().find(|(of, which, _)| (*of, *which) == (number, track)).map(|(.., object)| object)
    }

    /// A piece of an answer came. Words for the operator once a segment is whole.
    pub(super) fn heard(&mut self, answer: Answer) -> Option<String> {
        let Answer { want, last, bytes } = answer;
        let (of, mut all) = self.coming.take().unwrap_or((want, BytesMut::new()));
        if of != want {
            all.clear();
        }
        if all.len() + bytes.len() > ANSWER_MAX {
            return None;
        }
        all.extend_from_slice(&bytes);
        if !last {
            self.coming = Some((want, all));
            return None;
        }
        match want {
            Want::Slices(gop) => {
                let slices: Vec<Slice> = super::word::read(&all).ok()?;
                let pieces = slices.into_iter().map(|slice| match slice {
                    Slice::Common(bytes) => Piece::Common(bytes),
                    Slice::Pair(a, b, slice) => Piece::Pair { a, b, slice },
                });
                self.fetched.push_back((gop, pieces.collect()));
                self.fetched.drain(..self.fetched.len().saturating_sub(GOPS_KEPT));
                None
            }
            Want::Object(number, track) => {
                let theirs = Object::decode(all.freeze()).ok()?;
                let ours = self.object(number, track)?;
                let track = track.as_str();
                let (what, at) = difference(ours, &theirs)?;
                Some(format!("segment {number} ({track}): the first byte that differs is {what} {at}"))
            }
        }
    }

    /// The slices of a GOP, once they were fetched.
    pub(super) fn take(&mut self, gop: (Track, i64)) -> Option<Vec<Piece>> {
        let at = self.fetched.iter().position(|(of, _)| *of == gop)?;
        self.fetched.remove(at).map(|(_, pieces)| pieces)
    }
}

/// Where two objects part: in the segment as A, or else in the other variant of a slice.
fn difference(ours: &Object, theirs: &Object) -> Option<(String, usize)> {
    if let Some(at) = first_difference(&ours.a, &theirs.a) {
        let byte = |bytes: &Bytes| bytes.get(at).map_or("none".to_owned(), |byte| format!("{byte:#04x}"));
        let (here, there) = (byte(&ours.a), byte(&theirs.a));
        return Some((format!("({here} here, {there} at the holder) byte"), at));
    }
    let pairs = ours.pairs.iter().zip(&theirs.pairs);
    let parts = pairs.filter_map(|(ours, theirs)| {
        first_difference(&ours.b, &theirs.b).map(|at| ("in variant B byte".to_owned(), ours.offset + at))
    });
    parts.min_by_key(|(_, at)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetch(from: &Kept, to: &mut Kept, want: Want) -> Option<String> {
        let mut words = None;
        for answer in from.answer(want) {
            let sent = super::super::word::write(&answer);
            assert!(sent.len() <= PAYLOAD_MAX, "{} bytes in a note", sent.len());
            words = to.heard(super::super::word::read(&sent).unwrap()).or(words);
        }
        words
    }

    #[test]
    fn slices_of_any_size_arrive_whole_and_the_oldest_are_forgotten() {
        let (mut holder, mut standby) = (Kept::default(), Kept::default());
        let last = GOPS_KEPT as i64;
        let gop = |start| (if start % 2 == 0 { Track::Video } else { Track::ALL[9] }, start);
        for start in 0..=last {
            let a = Bytes::from(vec![start as u8; 100_000]);
            let pair = Piece::Pair { a: a.clone(), b: a.clone(), slice: 3 };
            holder.marked(gop(start), &[Piece::Common(a), pair]);
        }
        for start in 0..=last {
            assert_eq!(fetch(&holder, &mut standby, Want::Slices(gop(start))), None);
            let kept = holder.slices.iter().find(|(of, _)| *of == gop(start));
            let kept = kept.map(|(_, pieces)| pieces.clone());
            assert_eq!(standby.take((Track::AUDIO, start)), None, "of another track");
            assert_eq!((kept.is_some(), standby.take(gop(start))), (start > 0, kept));
        }
        assert_eq!(standby.take(gop(last)), None, "taken once");
    }

    #[test]
    fn the_first_byte_that_differs_is_named() {
        let bytes = |changed: Option<usize>| {
            let mut bytes = vec![7; 90_000];
            if let Some(at) = changed {
                bytes[at] = 8;
            }
            Object::plain(bytes.into())
        };
        let (mut holder, mut standby) = (Kept::default(), Kept::default());
        holder.made(5, Track::Video, &bytes(Some(70_001)));
        standby.made(5, Track::Video, &bytes(None));
        let words = fetch(&holder, &mut standby, Want::Object(5, Track::Video)).unwrap();
        let said =
            "segment 5 (video): the first byte that differs is (0x07 here, 0x08 at the holder) byte 70001";
        assert_eq!(words, said);
        assert_eq!(fetch(&holder, &mut standby, Want::Object(5, Track::AUDIO)), None, "it is not there");
        standby.made(6, Track::Video, &bytes(None));
        holder.made(6, Track::Video, &bytes(None));
        assert_eq!(fetch(&holder, &mut standby, Want::Object(6, Track::Video)), None, "nothing differs");
    }
}
