//! The holder's words on how marking ended, as a stream's task takes them.
//!
//! In: words, as they come. Out: the one on this GOP of this encoding of the picture. Waits for nothing itself.
//!
//! Both nodes ask in one order, that of the publisher's messages. Of one encoding the GOPs come in order of time, between two of
//! them anything may: so a word on another encoding is laid aside, and a later GOP's means that this one's was never said.

use ingest_api::Track;
use ingest_api::window::Gop;
use std::collections::VecDeque;
use tokio::sync::mpsc;

/// How marking ended for a GOP of the picture, or of a further encoding of it.
pub(in super::super) type Decision = (Track, Gop);

/// Words that are kept for later, at most: a stream that never asks for them differs from the holder's.
const ASIDE_MAX: usize = 64;

/// Where a stream's task hears the holder.
#[derive(Debug)]
pub struct Decisions {
    from: mpsc::UnboundedReceiver<Decision>,
    aside: VecDeque<Decision>,
}

/// What is known of a GOP.
#[derive(Debug, PartialEq)]
pub(super) enum Said {
    /// This.
    Word(Gop),
    /// Nothing, and nothing will be.
    Never,
    /// Nothing so far.
    NotYet,
}

impl Decisions {
    /// Nothing has been said yet.
    pub(super) fn new(from: mpsc::UnboundedReceiver<Decision>) -> Decisions {
        Decisions { from, aside: VecDeque::new() }
    }

    /// The next word; `None` when nobody says anything any more.
    pub(super) async fn hear(&mut self) -> Option<()> {
        let word = self.from.recv().await?;
        self.lay_aside(word);
        Some(())
    }

    /// What has been said of a GOP.
    pub(super) fn on(&mut self, track: Track, start_90k: i64) -> Said {
        while let Ok(word) = self.from.try_recv() {
            self.lay_aside(word);
        }
        self.aside.retain(|(of, gop)| *of != track || gop.start_90k >= start_90k);
        let Some(at) = self.aside.iter().position(|(of, _)| *of == track) else { return Said::NotYet };
        if self.aside[at].1.start_90k > start_90k {
            return Said::Never;
        }
        self.aside.remove(at).map_or(Said::NotYet, |(_, gop)| Said::Word(gop))
    }

    fn lay_aside(&mut self, word: Decision) {
        self.aside.push_back(word);
        self.aside.drain(..self.aside.len().saturating_sub(ASIDE_MAX));
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
            say.send((track, gop(start))).unwrap();
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
            say.send((further, gop(start))).unwrap();
        }
        assert_eq!(decisions.on(first, 27), Said::NotYet);
        assert_eq!(decisions.aside.len(), ASIDE_MAX);
        drop(say);
        assert_eq!(decisions.hear().await, None);
    }
}
