//! The decoder of one period of a stream, whichever library it is.
//!
//! In: access units as the publisher sends them, each with a tag. Out: pictures in output order with their tags.

use super::session::SessionError;
use super::source::{By, Source};
use crate::h264::nal::{Units, kind, kind_of};
use crate::plan::Plan;
#[cfg(feature = "libav")]
use codec::ForeignDecoder;
use codec::{Picture, StreamDecoder};

#[derive(Debug)]
pub(super) enum Decoding {
    OpenH264 {
        plan: Box<Plan>,
        decoder: StreamDecoder,
        /// The decoder has its parameter sets.
        begun: bool,
    },
    #[cfg(feature = "libav")]
    Libav(ForeignDecoder),
}

impl Decoding {
    /// # Errors
    /// When the library does not start.
    pub(super) fn of(source: &Source) -> Result<Decoding, SessionError> {
        match &source.decoder {
            By::OpenH264(plan) => {
                let decoder = StreamDecoder::new(plan.intra().width, plan.intra().height)?;
                Ok(Decoding::OpenH264 { plan: plan.clone(), decoder, begun: false })
            }
            #[cfg(feature = "libav")]
            By::Libav { coding, width, height } => {
                Ok(Decoding::Libav(ForeignDecoder::new(*coding, &source.record, *width, *height)?))
            }
        }
    }

    /// Takes an access unit and gives the next picture, once it is known.
    ///
    /// # Errors
    /// When it does not decode; nothing more comes then.
    pub(super) fn push(
        &mut self,
        access_unit: &[u8],
        tag: u64,
    ) -> Result<Option<(u64, Picture)>, SessionError> {
        match self {
            Decoding::OpenH264 { plan, decoder, begun } => {
                let annexb = annexb(plan, access_unit, std::mem::replace(begun, true))?;
                Ok(decoder.push(&annexb, tag)?)
            }
            #[cfg(feature = "libav")]
            Decoding::Libav(decoder) => Ok(decoder.push(access_unit, tag)?),
        }
    }

    /// The next of those that wait for their turn, after the last access unit.
    ///
    /// # Errors
    /// As `push`.
    pub(super) fn flush(&mut self) -> Result<Option<(u64, Picture)>, SessionError> {
        match self {
            Decoding::OpenH264 { decoder, .. } => Ok(decoder.flush()?),
            #[cfg(feature = "libav")]
            Decoding::Libav(decoder) => Ok(decoder.flush()?),
        }
    }
}

/// The slices alone, in Annex B; before the first the parameter sets, without cropping.
fn annexb(plan: &Plan, access_unit: &[u8], begun: bool) -> Result<Vec<u8>, SessionError> {
    let mut annexb = Vec::with_capacity(access_unit.len() + 512);
    let mut put = |unit: &[u8]| {
        annexb.extend_from_slice(&[0, 0, 0, 1]);
        annexb.extend_from_slice(unit);
    };
    if !begun {
        put(&plan.sps().uncropped_stream());
        plan.pps_units().for_each(&mut put);
    }
    for unit in Units::new(access_unit, plan.length_size()) {
        let (_, unit) = unit?;
        match kind_of(unit) {
            kind::SLICE | kind::IDR => put(unit),
            kind::SPS | kind::PPS => plan.admits_unit(unit)?,
            _ => {}
        }
    }
    Ok(annexb)
}
