//! Where a stream that may be coded anew stands, as a value for a twin on another node.
//!
//! In: a `Normaliser`. Out: `Saved`, where nothing is in flight and a worker knows no more than the first picture of its period;
//! from that a `Normaliser` again, and the steps that bring a fresh worker to the same place. Pure.

use super::{First, Normaliser, Source, State};
use crate::normalise::{Rate, Step};
use crate::plan::Misfit;
use bytes::Bytes;
use media::unit::VideoConfig;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// What a twin of this stream on another node starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    gop_90k: u32,
    /// The publisher's stream, where it can be decoded.
    source: Option<VideoConfig>,
    at: At,
    period: u64,
    decode_90k: VecDeque<(u64, i64)>,
    shown_90k: Vec<(u64, i64)>,
    rate: Option<Rate>,
    avcc: Bytes,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum At {
    Passing { idr_90k: Option<i64>, long: bool },
    Coding(Option<First>),
}

impl Normaliser {
    /// Where the stream stands, if another node can begin there.
    pub fn save(&self) -> Option<Saved> {
        let at = match self.state {
            State::Passing { idr_90k, long } => At::Passing { idr_90k, long },
            State::Watching { .. } => return None,
            State::Coding { begun: false } => At::Coding(None),
            State::Coding { begun: true } => At::Coding(Some(self.first.clone()?)),
        };
        let source = match self.source.as_ref().map(|source| source.config()) {
            None => None,
            Some(config) => Some(config.ok()?),
        };
        (self.asked.is_empty() && self.early.is_empty()).then(|| Saved {
            gop_90k: self.gop_90k,
            source,
            at,
            period: self.period,
            decode_90k: self.decode_90k.clone(),
            shown_90k: self.shown_90k.clone(),
            rate: self.rate,
            avcc: self.avcc.clone(),
        })
    }

    /// Goes on where another node's was saved; and what a worker is to do before anything else. What comes of that has gone
    /// on already.
    ///
    /// # Errors
    /// When nothing here decodes the stream.
    pub fn restore(saved: Saved) -> Result<(Normaliser, Vec<Step>), Misfit> {
        let Saved { gop_90k, source, at, period, decode_90k, shown_90k, rate, avcc } = saved;
        let source = source.map(|config| Source::of(&config)).transpose()?;
        let (mut steps, mut begun) = (Vec::new(), None);
        let state = match at {
            At::Passing { idr_90k, long } => State::Passing { idr_90k, long },
            At::Coding(first) => {
                let state = State::Coding { begun: first.is_some() };
                begun = first;
                state
            }
        };
        if let (Some(First { rate, pts_90k, access_unit }), Some(source)) = (begun.clone(), &source) {
            let (coding, record) = (source.coding, source.record.clone());
            steps.push(Step::Begin { coding, record, gop_90k, rate });
            steps.push(Step::Picture { pts_90k, access_unit });
        }
        let normaliser = Normaliser {
            source: source.map(Arc::new),
            state,
            period,
            decode_90k,
            shown_90k,
            rate,
            avcc,
            first: begun,
            ..Normaliser::new(gop_90k)
        };
        Ok((normaliser, steps))
    }
}
