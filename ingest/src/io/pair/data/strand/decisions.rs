//! The holder's words on how marking ended and on what is coded anew, as a stream's task takes them.
//!
//! In: words, as they come. Out: the one on this GOP of this encoding of the picture, or on this picture. Waits for nothing itself.
//!
//! Both nodes ask in one order, that of the publisher's messages. Of one encoding the GOPs come in order of time, between two of
//! them anything may: so a word on another encoding is laid aside, and a later GOP's means that this one's was never said.

use ingest_api::Track;
use ingest_api::window::Gop;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// What the holder decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in super::super) enum Decision {
    /// How marking ended for a GOP of the picture, or of a further encoding of it.
    Gop(Track, Gop),
    /// Whether the stream is coded anew from the picture of this decode time on, in ticks.
    Room(i64, bool),
}

/// Words that are kept for later, at most: a stream that never asks for them differs from the holder's.
const ASIDE_MAX: usize = 64;

/// Where a stream's task hears the holder.
#[derive(Debug)]
pub struct Decisions {
    from: mpsc::UnboundedReceiver<Decision>,
    aside: VecDeque<(Track, Gop)>,
    room: Option<(i64, bool)>,
}

/// What is known of the holder's decision.
#[derive(Debug, PartialEq)]
pub(super) enum Said<T> {
    /// This.
    Word(T),
    /// Nothing, and nothing will be.
    Never,
    /// Nothing so far.
    NotYet,
}

impl Decisions {
    /// Nothing has been said yet.
    pub(super) fn new(from: mpsc::UnboundedReceiver<Decision>) -> Decisions {
        Decisions { from, aside: VecDeque::new(), room: None }
    }

    /// The next word; `None` when nobody says anything any more.
    pub(super) async fn hear(&mut self) -> Option<()> {
        let word = self.from.recv().await?;
        self.lay_aside(word);
        Some(())
    }

    /// What has been said of a GOP.
    pub(super) fn on(&mut self, track: Track, start_90k: i64) -> Said<Gop> {
        self.take_in();
        self.aside.retain(|(of, gop)| *of != track || gop.start_90k >= start_90k);
        let Some(at) = self.aside.iter().position(|(of, _)| *of == track) else { return Said::NotYet };
        if self.aside[at].1.start_90k > start_90k {
            return Said::Never;
        }
        self.aside.remove(at).map_or(Said::NotYet, |(_, gop)| Said::Word(gop))
    }

    /// What has been said of coding the stream anew from this picture on. It is asked once in a configuration.
    pub(super) fn on_room(&mut self, at_90k: i64) -> Said<bool> {
        self.take_in();
        match self.room {
            Some((at, room)) if at == at_90k => Said::Word(room),
            Some((at, _)) if at > at_90k => Said::Never,
            _ => Said::NotYet,
        }
    }

    fn take_in(&mut self) {
        while let Ok(word) = self.from.try_recv() {
            self.lay_aside(word);
        }
    }

    fn lay_aside(&mut self, word: Decision) {
        match word {
            Decision::Gop(track, gop) => {
                self.aside.push_back((track, gop));
                self.aside.drain(..self.aside.len().saturating_sub(ASIDE_MAX));
            }
            Decision::Room(at_90k, room) => self.room = Some((at_90k, room)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest_api::window::Marking;
    use releve_watermark::GopId;

    fn gop(start_90k: i64) -> Gop {
        let (slices, pattern_key, code_key, bias_key) = (0, 0, 0, 0);
        let id = GopId([7; 16]);
        Gop { id, start_90k, marking: Marking::Withheld, slices, pattern_key, code_key, bias_key }
    }

    #[tokio::test]
    async fn a_word_is_found_whatever_was_said_between() {
        let (say, from) = mpsc::unbounded_channel();
        let mut decisions = Decisions::new(from);
        let (first, further) = (Track::Video, Track::ALL[9]);
        assert_eq!(decisions.on(first, 0), Said::NotYet);
        for (track, start) in [(first, 0), (further, 0), (first, 9), (further, 18), (first, 18)] {
            say.send(Decision::Gop(track, gop(start))).unwrap();
        }
        decisions.hear().await.unwrap();
        // The further encoding's word on 9 was lost; nothing of the picture is.
        assert_eq!(decisions.on(first, 0), Said::Word(gop(0)));
        assert_eq!(decisions.on(further, 0), Said::Word(gop(0)));
        assert_eq!(decisions.on(first, 9), Said::Word(gop(9)));
        assert_eq!(decisions.on(further, 9), Said::Never);
        assert_eq!(decisions.on(further, 18), Said::Word(gop(18)));
        assert_eq!(decisions.on(first, 18), Said::Word(gop(18)));
        assert_eq!(decisions.on(first, 27), Said::NotYet);
        for start in 0..200 {
            say.send(Decision::Gop(further, gop(start))).unwrap();
        }
        assert_eq!(decisions.on(first, 27), Said::NotYet);
        assert_eq!(decisions.aside.len(), ASIDE_MAX);
        assert_eq!(decisions.on_room(27), Said::NotYet);
        say.send(Decision::Room(27, true)).unwrap();
        say.send(Decision::Gop(first, gop(27))).unwrap();
        assert_eq!(decisions.on(first, 27), Said::Word(gop(27)));
        assert_eq!(decisions.on_room(26), Said::Never);
        assert_eq!(decisions.on_room(27), Said::Word(true));
        assert_eq!(decisions.on_room(28), Said::NotYet);
        drop(say);
        assert_eq!(decisions.hear().await, None);
    }
}
