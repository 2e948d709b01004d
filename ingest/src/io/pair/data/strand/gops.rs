//! How a stream's GOPs are marked, whether it is coded anew, and what the two nodes give each other of what they made.
//!
//! In: what this node made or would make of a GOP; the holder's word on it. Out: what counts; slices and segments that the other node lacks.
//! Touches the books.

use super::super::asked::{Answer, Want};
use super::super::word::Word;
use super::decisions::{Decision, Decisions, Said};
use super::{Of, Strand};
use ingest_api::window::Gop;
use ingest_api::{Object, Track};
use media::unit::Piece;
use mirror::ConnectionId;
use std::time::Duration;
use tokio::time::timeout;

/// How long slices may take from the holder: many times a round trip and some hundred kilobytes. The stream waits for them.
const SLICES_MAX: Duration = Duration::from_secs(1);

impl Of {
    /// As standby: what the holder decided.
    pub(in super::super) fn decided(&self, word: Decision) {
        if let Some(decisions) = &self.inner().decisions {
            let _ = decisions.send(word);
        }
    }

    /// As holder: the answers to a question.
    pub(in super::super) fn answer(&self, want: Want) -> Vec<Answer> {
        self.inner().kept.answer(want)
    }

    /// As standby: a piece of an answer. Words for the operator once a segment is whole.
    pub(in super::super) fn heard(&self, answer: Answer) -> Option<String> {
        self.inner().kept.heard(answer)
    }
}

impl Strand {
    /// This node has marked a GOP (track and start): its twin may ask for it.
    pub fn marked(&self, gop: (Track, i64), pieces: &[Piece]) {
        self.of.inner().kept.marked(gop, pieces);
    }

    /// This node has made a track of a segment: it may be compared byte for byte.
    pub fn keep(&self, number: u64, track: Track, object: &Object) {
        self.of.inner().kept.made(number, track, object);
    }

    /// As standby: the slices of a GOP that the holder marked and this node could not. `None` where they do not come.
    pub async fn slices(&self, gop: (Track, i64)) -> Option<Vec<Piece>> {
        let mut news = self.data.news();
        let asked = {
            let mut books = self.data.books();
            let members = self.of.inner().members.clone();
            members.iter().any(|member| books.ask(ConnectionId(member.connection), Want::Slices(gop)))
        };
        if !asked {
            return None;
        }
        self.data.ring();
        let fetched = async {
            loop {
                let follows = !self.data.is_holder();
                let found = self.of.inner().kept.take(gop);
                if found.is_some() || !follows {
                    return found;
                }
                news.changed().await.ok()?;
            }
        };
        timeout(SLICES_MAX, fetched).await.ok().flatten()
    }

    /// The holder's word on a GOP of a track, `None` where this node is the holder: then the twin is told ours.
    pub async fn agree(&self, track: Track, ours: &Gop, decisions: &mut Decisions) -> Option<Gop> {
        let known = |decisions: &mut Decisions| decisions.on(track, ours.start_90k);
        self.agreed(decisions, known, || Decision::Gop(track, ours.clone())).await
    }

    /// The holder's word on whether the stream is coded anew from the picture of this decode time on; `None` as in `agree`.
    pub async fn agree_on_room(&self, at_90k: i64, ours: bool, decisions: &mut Decisions) -> Option<bool> {
        let known = |decisions: &mut Decisions| decisions.on_room(at_90k);
        self.agreed(decisions, known, || Decision::Room(at_90k, ours)).await
    }

    async fn agreed<T>(
        &self,
        decisions: &mut Decisions,
        known: impl Fn(&mut Decisions) -> Said<T>,
        ours: impl FnOnce() -> Decision,
    ) -> Option<T> {
        let mut news = self.data.news();
        loop {
            // What a holder said before it died counts.
            match known(decisions) {
                Said::Word(theirs) => return Some(theirs),
                Said::Never => return None,
                Said::NotYet if self.data.is_holder() => {
                    self.note(Word::Decided(ours()));
                    return None;
                }
                Said::NotYet => tokio::select! {
                    heard = decisions.hear() => heard?,
                    _ = news.changed() => {}
                },
            }
        }
    }
}
