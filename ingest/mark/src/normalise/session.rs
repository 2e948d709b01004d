//! The worker's side: decodes a stream and codes it anew, GOP by GOP.
//!
//! In: steps, of which each IDR period is self-contained. Out: pictures in output order. Runs where the codec may run; holds
//! one decoder, one encoder and a picture, whatever the stream is.

use super::decoding::Decoding;
use super::rate::{Rate, Spent};
use super::source::Source;
use super::{Coded, DELAY_MAX, Step};
use crate::h264::nal::BadLength;
use crate::plan::Misfit;
use bytes::Bytes;
#[cfg(not(feature = "libav"))]
use codec::GopEncoder;
#[cfg(feature = "libav")]
use codec::X264GopEncoder as GopEncoder;
use codec::{DecodeError, EncodeError, Picture};
use media::config::ConfigError;
use media::unit::VideoConfig;
use std::collections::VecDeque;
use thiserror::Error;

/// Why a period cannot go on; the next one can.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SessionError {
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The stream cannot be decoded here at all.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// A picture before any period, or after one that failed.
    #[error("a picture outside of a period")]
    NoPeriod,
    /// Length prefixes that do not add up.
    #[error(transparent)]
    Lengths(#[from] BadLength),
    /// It does not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The decoder keeps more than any level allows.
    #[error("the decoder holds back more than {DELAY_MAX} pictures")]
    Delay,
    /// It could not be coded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// What is coded anew in this process.
#[derive(Debug, Default)]
pub struct Session {
    period: Option<Period>,
}

#[derive(Debug)]
struct Period {
    source: Source,
    gop_90k: i64,
    decoder: Decoding,
    /// Bytes of the access units whose turn has not come.
    waiting: VecDeque<u64>,
    rate: Rate,
    gop: Option<Gop>,
}

#[derive(Debug)]
struct Gop {
    encoder: GopEncoder,
    start_90k: i64,
    spent: Spent,
    qp: u8,
}

impl Session {
    /// Takes one step.
    ///
    /// # Errors
    /// When the period cannot go on: then nothing is taken until the next `Begin`.
    pub fn step(&mut self, step: Step) -> Result<Coded, SessionError> {
        let taken = self.take(step);
        if taken.is_err() {
            self.period = None;
        }
        taken
    }

    fn take(&mut self, step: Step) -> Result<Coded, SessionError> {
        match step {
            Step::Begin { coding, record, gop_90k, rate } => {
                // The period before is given back first: two would need twice the memory.
                let ended = self.period.take().map(Period::end).transpose()?;
                let ended = ended.unwrap_or(Coded { pictures: Vec::new(), rate });
                let source = Source::of(&VideoConfig::of(coding, record)?)?;
                let decoder = Decoding::of(&source)?;
                let (gop_90k, rate) = (gop_90k.into(), ended.rate);
                self.period =
                    Some(Period { source, gop_90k, decoder, waiting: VecDeque::new(), rate, gop: None });
                Ok(ended)
            }
            Step::Picture { pts_90k, access_unit } => {
                let period = self.period.as_mut().ok_or(SessionError::NoPeriod)?;
                let pictures = period.picture(pts_90k, &access_unit)?.into_iter().collect();
                Ok(Coded { pictures, rate: period.rate })
            }
            Step::End => self.period.take().ok_or(SessionError::NoPeriod)?.end(),
        }
    }
}

impl Period {
    /// Everything that the decoder holds back comes out.
    fn end(mut self) -> Result<Coded, SessionError> {
        let mut pictures = Vec::new();
        while let Some((tag, picture)) = self.decoder.flush()? {
            pictures.push(self.code(tag, &picture)?);
            if pictures.len() > DELAY_MAX {
                return Err(SessionError::Delay);
            }
        }
        let rate = self.gop.map_or(self.rate, |gop| self.rate.after(gop.spent));
        Ok(Coded { pictures, rate })
    }

    fn picture(&mut self, pts_90k: i64, access_unit: &[u8]) -> Result<Option<(i64, Bytes)>, SessionError> {
        if self.waiting.len() > DELAY_MAX {
            return Err(SessionError::Delay);
        }
        self.waiting.push_back(self.source.worth(access_unit.len() as u64));
        // The tag is the time's own bits.
        match self.decoder.push(access_unit, pts_90k as u64)? {
            Some((tag, picture)) => self.code(tag, &picture).map(Some),
            None => Ok(None),
        }
    }

    fn code(&mut self, tag: u64, picture: &Picture) -> Result<(i64, Bytes), SessionError> {
        let pts_90k = tag as i64;
        let over = |gop: &Gop| pts_90k.saturating_sub(gop.start_90k) >= self.gop_90k;
        if self.gop.as_ref().is_none_or(over) {
            if let Some(gop) = self.gop.take() {
                self.rate = self.rate.after(gop.spent);
            }
            let qp = self.rate.qp;
            let mut encoder = GopEncoder::new(picture.width(), picture.height(), qp)?;
            if self.rate.odd {
                // A picture nobody gets: the next one's `idr_pic_id` is another than that of the GOP before.
                encoder.encode(picture, qp, true)?;
            }
            self.gop = Some(Gop { encoder, start_90k: pts_90k, spent: Spent::default(), qp });
        }
        let came = self.waiting.pop_front().unwrap_or(0);
        let gop = self.gop.as_mut().ok_or(SessionError::NoPeriod)?;
        let idr = gop.start_90k == pts_90k;
        let annexb = gop.encoder.encode(picture, gop.qp, idr)?;
        gop.qp = self.rate.coded(&mut gop.spent, came, annexb.len() as u64);
        Ok((pts_90k, annexb.into()))
    }
}
