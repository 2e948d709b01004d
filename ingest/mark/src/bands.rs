//! One or two bands of a picture, each taken by a hand of its own from samples to slices.
//!
//! In: a decoded picture and what marks it. Out: pairs of slices, from the top. The hands meet to agree on a QP and at the end,
//! and what they do is in no byte of the result: slices of one band know nothing of the other.

use crate::h264::IdrHeader;
use crate::hand::Hand;
use crate::job::MarkError;
use crate::plan::Plan;
use crate::{pad, splice};
use bytes::Bytes;
use codec::{Band, EncodeError, IntraConfig, IntraEncoder, Picture};
use releve_watermark::embed::{Luma, PatternSeed, embed_rows};
use std::sync::Arc;

/// What the bands of one picture have in common.
#[derive(Debug)]
pub(crate) struct Source {
    /// How its stream is marked.
    pub(crate) plan: Plan,
    /// Header of its first slice.
    pub(crate) header: IdrHeader,
    /// The picture as it came.
    pub(crate) picture: Picture,
    /// What the pattern is drawn from.
    pub(crate) seed: PatternSeed,
    /// Strength of the pattern in 1/100 luma levels.
    pub(crate) strength: u16,
}

/// Makes A and B of one band.
#[derive(Debug)]
pub(crate) struct Maker {
    band: Band,
    encoder: IntraEncoder,
    /// Samples of A and B, once there are any.
    samples: Option<[Picture; 2]>,
    /// A as it was coded last.
    coded_a: Vec<u8>,
}

impl Maker {
    fn new(band: Band, qp: u8) -> Result<Maker, EncodeError> {
        let encoder = IntraEncoder::new(band.clone(), qp)?;
        Ok(Maker { band, encoder, samples: None, coded_a: Vec::new() })
    }

    /// Codes A and says how many bytes it takes.
    ///
    /// # Errors
    /// When the pattern does not fit or the encoder fails.
    pub(crate) fn code_a(&mut self, source: &Source, qp: u8) -> Result<u64, MarkError> {
        let [a, _] = match &mut self.samples {
            Some(made) => made,
            none => none.insert(variants(source, &self.band)?),
        };
        self.encoder.set_qp(qp)?;
        self.coded_a = self.encoder.encode(a)?;
        Ok(self.coded_a.len() as u64)
    }

    /// Codes B as A was coded last, and makes both slices of the host's picture: pairs of equal length.
    ///
    /// # Errors
    /// When the encoder fails, or gives something else than asked for.
    pub(crate) fn pairs(&mut self, source: &Source) -> Result<Vec<(Bytes, Bytes)>, MarkError> {
        let [_, b] = self.samples.as_ref().ok_or(EncodeError::Skipped)?;
        let coded_b = self.encoder.encode(b)?;
        let slices = |coded: &[u8]| splice::splice(&source.plan, &source.header, &self.band, coded);
        let (slices_a, slices_b) = (slices(&self.coded_a)?, slices(&coded_b)?);
        let level = |(a, b): (&Vec<u8>, &Vec<u8>)| pad::pad(a, b, source.plan.length_size());
        Ok(slices_a.iter().zip(&slices_b).map(level).collect::<Result<_, _>>()?)
    }
}

/// The samples of a band as A and as B.
fn variants(source: &Source, band: &Band) -> Result<[Picture; 2], MarkError> {
    let Source { plan, picture, seed, strength, .. } = source;
    let [left, _, top, bottom] = plan.sps().crop.map(|samples| samples as usize);
    let (width, height) = (picture.width(), picture.height());
    let luma = Luma { samples: picture.luma(), width, height, left, top, rows: height - top - bottom };
    let (a, b) = embed_rows(&luma, seed, *strength, band.rows())?;
    Ok([picture.rows_with_luma(band.rows(), a)?, picture.rows_with_luma(band.rows(), b)?])
}

/// Starts the makers of a picture's bands: an upper and a lower one, or one of a picture that is too small for halves.
///
/// # Errors
/// When an encoder does not start.
pub(crate) fn start(config: IntraConfig, qp: u8) -> Result<(Maker, Option<Maker>), EncodeError> {
    let (upper, lower) = config.halves();
    let lower = lower.map(|band| Maker::new(band, qp)).transpose()?;
    Ok((Maker::new(upper, qp)?, lower))
}

/// The makers of a picture and their hands.
#[derive(Debug)]
pub(crate) struct Bands<'h> {
    hand: &'h Hand,
    source: Arc<Source>,
    /// Works here.
    upper: Maker,
    /// Works at the other hand, and is there meanwhile.
    lower: Option<Maker>,
}

impl<'h> Bands<'h> {
    /// Those of this picture.
    pub(crate) fn new(hand: &'h Hand, source: Source, (upper, lower): (Maker, Option<Maker>)) -> Bands<'h> {
        Bands { hand, source: Arc::new(source), upper, lower }
    }

    /// Has every maker do something, at once; from the top, what they gave.
    ///
    /// # Errors
    /// The first one's, from the top.
    pub(crate) fn each<R, F>(&mut self, act: F) -> Result<Vec<R>, MarkError>
    where
        R: Send + 'static,
        F: Fn(&mut Maker, &Source) -> Result<R, MarkError> + Copy + Send + 'static,
    {
        let Some(mut lower) = self.lower.take() else {
            return Ok(vec![act(&mut self.upper, &self.source)?]);
        };
        let source = Arc::clone(&self.source);
        let (above, (below, lower)) =
            self.hand.both(|| act(&mut self.upper, &self.source), move || (act(&mut lower, &source), lower));
        self.lower = Some(lower);
        Ok(vec![above?, below?])
    }
}
