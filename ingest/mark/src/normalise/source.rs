//! What a publisher's stream is to the normaliser: who decodes it, and how its pictures are shown.
//!
//! In: a codec configuration. Out: a `Source`, or the `Misfit` in words. Pure.
//!
//! openh264 decodes what can also be marked as it comes. With the feature `libav`, libavcodec decodes HEVC, and H.264 of more
//! than 8 bits a sample or of 4:2:2 and 4:4:4; that is always coded anew, however short its GOPs are.

use crate::h264::Sps;
use crate::h264::nal::Units;
use crate::h264::shown::Shown;
use crate::host::Host;
use crate::plan::{Misfit, Plan};
use bytes::Bytes;
use media::config::ConfigError;
use media::unit::{VideoCoding, VideoConfig};

/// QP taken where the publisher's IDR picture does not say its own.
const QP_UNKNOWN: u8 = 26;
/// HEVC's NAL unit types of an IDR picture (ITU-T H.265 table 7-1).
const HEVC_IDR: [u8; 2] = [19, 20];

/// A stream that can be coded anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub(super) coding: VideoCoding,
    pub(super) record: Bytes,
    /// Coded size of our pictures in macroblocks.
    pub(super) columns: u32,
    pub(super) rows: u32,
    pub(super) shown: Shown,
    pub(super) decoder: By,
}

/// Who decodes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// openh264, which is given what the plan has.
    OpenH264(Box<Plan>),
    /// libavcodec, which is told the coding and gives pictures of this size.
    #[cfg(feature = "libav")]
    Libav { coding: codec::Foreign, width: usize, height: usize },
}

impl Source {
    /// The stream of this configuration.
    ///
    /// # Errors
    /// When nothing here decodes it: the same that keeps it from being marked.
    pub fn of(config: &VideoConfig) -> Result<Source, Misfit> {
        match Plan::of_config(config, &[]) {
            Ok(plan) => Ok(Source {
                coding: config.coding,
                record: plan.host_avcc().clone(),
                columns: plan.sps().columns,
                rows: plan.sps().rows,
                shown: plan.sps().shown()?,
                decoder: By::OpenH264(Box::new(plan)),
            }),
            #[cfg(feature = "libav")]
            Err(misfit) => super::foreign::source(config, misfit),
            #[cfg(not(feature = "libav"))]
            Err(misfit) => Err(misfit),
        }
    }

    /// The configuration that it is of.
    ///
    /// # Errors
    /// None, of one that `of` has read.
    pub(super) fn config(&self) -> Result<VideoConfig, ConfigError> {
        VideoConfig::of(self.coding, self.record.clone())
    }

    /// Whether it must be coded anew to be marked, however short its GOPs are.
    pub(super) fn never_fits(&self) -> bool {
        !matches!(self.decoder, By::OpenH264(_))
    }

    /// Whether nothing before this picture is needed for it and those that follow. It is one that decoding may begin with;
    /// of HEVC, some that follow such a picture are shown before it and refer to what came earlier.
    pub(super) fn is_closed(&self, access_unit: &[u8]) -> bool {
        if self.coding != VideoCoding::Hevc {
            return true;
        }
        // The length of prefixes stands behind 21 bytes of the record (ISO/IEC 14496-15 §8.3.3.1.2).
        let length_size = self.record.get(21).map_or(4, |byte| (byte & 3) + 1);
        let mut units = Units::new(access_unit, length_size).map_while(Result::ok);
        units.any(|(_, unit)| unit.first().is_some_and(|head| HEVC_IDR.contains(&(head >> 1))))
    }

    /// QP of the publisher's first picture.
    pub(super) fn first_qp(&self, access_unit: &[u8]) -> u8 {
        match &self.decoder {
            By::OpenH264(plan) => Host::read(plan, access_unit).map_or(QP_UNKNOWN, |host| host.qp),
            #[cfg(feature = "libav")]
            By::Libav { .. } => QP_UNKNOWN,
        }
    }

    /// Bytes that so many of the publisher's are worth to H.264: HEVC does with two thirds.
    pub(super) fn worth(&self, bytes: u64) -> u64 {
        if self.coding == VideoCoding::H264 { bytes } else { bytes + bytes / 2 }
    }

    /// The SPS of our pictures, shown as the publisher's are.
    pub(super) fn dressed(&self, own: &Sps) -> Vec<u8> {
        own.to_be_shown(&self.shown)
    }
}
