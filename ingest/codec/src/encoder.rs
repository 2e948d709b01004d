//! openh264's encoder, held safely: one picture becomes Annex B bytes.
//!
//! In: a `Picture`, a QP. Out: Annex B bytes with openh264's own SPS and PPS. `intra` and `gop` are its two uses. The
//! settings are those that `research/idr-openh264.md` §5.4 found: rate control off, one thread, nothing adaptive.
//! Deblocking is off where an IDR replaces one that was deblocked already (and each slice of a mix stays self-contained),
//! and on within a GOP.

use crate::intra::{Band, Entropy, IntraConfig};
use crate::picture::Picture;
use openh264_sys2::source::APILoader;
use openh264_sys2::{
    CAMERA_VIDEO_REAL_TIME, CONSTANT_ID, ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, ENCODER_OPTION_TRACE_LEVEL,
    ISVCEncoder, ISVCEncoderVtbl, LOW_COMPLEXITY, PRO_BASELINE, PRO_HIGH, RC_OFF_MODE, SEncParamExt,
    SFrameBSInfo, SM_RASTER_SLICE, SM_SINGLE_SLICE, SSourcePicture, videoFormatI420,
};
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use thiserror::Error;

/// Coarsest quantiser.
pub const QP_MAX: u8 = 51;

/// Deblocking on and off for the whole picture (ISO/IEC 14496-10 §7.4.3).
const LOOP_FILTER_ON: c_int = 0;
const LOOP_FILTER_OFF: c_int = 1;
/// Nominal only: rate control is off.
const BITRATE_NOMINAL: c_int = 5_000_000;
/// Nominal only: rate control is off.
const FRAME_RATE_NOMINAL: f32 = 30.0;

/// Why there is no coded picture.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EncodeError {
    /// Sides or slice count out of range.
    #[error("no encoder for {0:?}: sides must be whole macroblocks, slices at most `slices_max`")]
    Config(IntraConfig),
    /// QP over 51.
    #[error("QP {0} is over {QP_MAX}")]
    Qp(u8),
    /// The picture has another size than the encoder.
    #[error("a picture of {width} x {height} in an encoder of another size")]
    Size {
        /// The picture's width.
        width: usize,
        /// The picture's height.
        height: usize,
    },
    /// The library refused.
    #[error("the H.264 encoder refused to {step}: code {code}")]
    Refused {
        /// What it was asked to do.
        step: &'static str,
        /// What it said.
        code: i64,
    },
    /// The library says success and gives nothing, as it does when it skips a picture.
    #[error("the H.264 encoder skipped the picture")]
    Skipped,
}

/// What an encoder's pictures are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// IDR pictures of their own.
    Intra,
    /// An IDR picture and those that refer to the one before them.
    Gop,
}

/// An openh264 encoder.
pub(crate) struct Encoder {
    encoder: NonNull<ISVCEncoder>,
    parameters: SEncParamExt,
    band: Band,
    shape: Shape,
    qp: u8,
}

// SAFETY: an encoder belongs to whoever has it and keeps nothing of the thread that made it: one thread inside
// (`iMultipleThreadIdc` is 1), no thread-local state, and every call needs it exclusively.
unsafe impl Send for Encoder {}

impl Encoder {
    /// An encoder of this part of pictures, of this shape and QP.
    ///
    /// # Errors
    /// When the configuration is out of range or the library refuses it.
    pub(crate) fn new(band: Band, qp: u8, shape: Shape) -> Result<Encoder, EncodeError> {
        band.config().check()?;
        if qp > QP_MAX {
            return Err(EncodeError::Qp(qp));
        }
        let mut created: *mut ISVCEncoder = std::ptr::null_mut();
        // SAFETY: the library writes one pointer to where `created` lives.
        let code = unsafe { APILoader::WelsCreateSVCEncoder(&raw mut created) };
        let refused = EncodeError::Refused { step: "start", code: code.into() };
        let encoder = NonNull::new(created).filter(|_| code == 0).ok_or(refused)?;
        // From here on `this` owns the encoder and its drop gives it back.
        let mut this = Encoder { encoder, parameters: SEncParamExt::default(), band, shape, qp };
        this.initialise()?;
        Ok(this)
    }

    fn initialise(&mut self) -> Result<(), EncodeError> {
        let methods = self.methods();
        let encoder = self.encoder.as_ptr();
        let mut quiet: c_int = 0;
        let set_option = method(methods.SetOption, "set an option")?;
        // SAFETY: `encoder` is live (see `new`); this option reads one int.
        unsafe { set_option(encoder, ENCODER_OPTION_TRACE_LEVEL, (&raw mut quiet).cast::<c_void>()) };
        let defaults = method(methods.GetDefaultParams, "give its defaults")?;
        // SAFETY: `encoder` is live; the library fills one `SEncParamExt`.
        check("give its defaults", unsafe { defaults(encoder, &raw mut self.parameters) })?;
        configure(&mut self.parameters, &self.band, self.shape, self.qp);
        let initialise = method(methods.InitializeExt, "take its settings")?;
        // SAFETY: `encoder` is live and not yet initialised; the library copies the parameters.
        check("take its settings", unsafe { initialise(encoder, &raw const self.parameters) })
    }

    /// Codes the next pictures with another QP.
    ///
    /// # Errors
    /// When it is over 51 or the library refuses.
    pub(crate) fn set_qp(&mut self, qp: u8) -> Result<(), EncodeError> {
        if qp > QP_MAX {
            return Err(EncodeError::Qp(qp));
        }
        if qp == self.qp {
            return Ok(());
        }
        self.parameters.sSpatialLayers[0].iDLayerQp = qp.into();
        let set_option = method(self.methods().SetOption, "change its QP")?;
        let parameters = (&raw mut self.parameters).cast::<c_void>();
        // SAFETY: the encoder is initialised; this option reads one `SEncParamExt` and copies what it needs.
        let code =
            unsafe { set_option(self.encoder.as_ptr(), ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, parameters) };
        check("change its QP", code)?;
        self.qp = qp;
        Ok(())
    }

    /// One picture, which is the band alone, in Annex B; an IDR picture comes with SPS and PPS, its slices from the top. The first
    /// is always one.
    ///
    /// # Errors
    /// When the picture has another size, or the library fails or skips.
    pub(crate) fn encode(&mut self, picture: &Picture, idr: bool) -> Result<Vec<u8>, EncodeError> {
        let (width, height) = (picture.width(), picture.height());
        if (width, height) != (self.band.config().width, self.band.height()) {
            return Err(EncodeError::Size { width, height });
        }
        if idr {
            let force = method(self.methods().ForceIntraFrame, "start a picture")?;
            // SAFETY: the encoder is initialised.
            check("start a picture", unsafe { force(self.encoder.as_ptr(), true) })?;
        }
        let (luma, chroma) = picture.samples().split_at(width * height);
        let (cb, cr) = chroma.split_at(chroma.len() / 2);
        // Sides are at most SIDE_MAX, far inside an int. The library takes mutable pointers and only reads.
        let (columns, rows) = (width as c_int, height as c_int);
        let source = SSourcePicture {
            iColorFormat: videoFormatI420,
            iPicWidth: columns,
            iPicHeight: rows,
            iStride: [columns, columns / 2, columns / 2, 0],
            pData: [
                luma.as_ptr().cast_mut(),
                cb.as_ptr().cast_mut(),
                cr.as_ptr().cast_mut(),
                std::ptr::null_mut(),
            ],
            ..SSourcePicture::default()
        };
        let mut coded = SFrameBSInfo::default();
        let encode = method(self.methods().EncodeFrame, "code a picture")?;
        // SAFETY: the encoder is initialised for this size; the planes are as long as strides and height say
        // (`Picture` holds that) and outlive the call, which copies them; `coded` is filled by the library.
        check("code a picture", unsafe { encode(self.encoder.as_ptr(), &raw const source, &raw mut coded) })?;
        let bytes = collect(&coded);
        if bytes.is_empty() { Err(EncodeError::Skipped) } else { Ok(bytes) }
    }

    fn methods(&self) -> ISVCEncoderVtbl {
        // SAFETY: a created encoder points to its table of methods until it is destroyed.
        unsafe { **self.encoder.as_ptr() }
    }
}

impl Drop for Encoder {
    fn drop(&mut self) {
        // SAFETY: the encoder is live and used by nobody else; destroying it uninitialises it first.
        unsafe {
            if let Some(uninitialise) = self.methods().Uninitialize {
                uninitialise(self.encoder.as_ptr());
            }
            APILoader::WelsDestroySVCEncoder(self.encoder.as_ptr());
        }
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Encoder({:?} of {:?}, QP {})", self.shape, self.band, self.qp)
    }
}

fn configure(parameters: &mut SEncParamExt, band: &Band, shape: Shape, qp: u8) {
    let (config, slices) = (band.config(), band.slices());
    let (width, height) = (config.width as c_int, band.height() as c_int);
    let (intra_period, loop_filter) = match shape {
        Shape::Intra => (1, LOOP_FILTER_OFF),
        Shape::Gop => (0, LOOP_FILTER_ON),
    };
    let cabac = config.entropy == Entropy::Cabac;
    parameters.iUsageType = CAMERA_VIDEO_REAL_TIME;
    (parameters.iPicWidth, parameters.iPicHeight) = (width, height);
    parameters.iTargetBitrate = BITRATE_NOMINAL;
    parameters.iRCMode = RC_OFF_MODE;
    parameters.fMaxFrameRate = FRAME_RATE_NOMINAL;
    parameters.iTemporalLayerNum = 1;
    parameters.iSpatialLayerNum = 1;
    // Modes are chosen by absolute differences, not by transformed ones: a fifth of a marked IDR's time, for IDRs that are
    // some 4 % larger at the same QP, which is 0.4 % of a stream.
    parameters.iComplexityMode = LOW_COMPLEXITY;
    parameters.uiIntraPeriod = intra_period;
    parameters.iNumRefFrame = 1;
    parameters.eSpsPpsIdStrategy = CONSTANT_ID;
    parameters.iEntropyCodingModeFlag = cabac.into();
    parameters.bEnableFrameSkip = false;
    parameters.iMultipleThreadIdc = 1;
    parameters.bUseLoadBalancing = false;
    parameters.iLoopFilterDisableIdc = loop_filter;
    parameters.bEnableDenoise = false;
    parameters.bEnableBackgroundDetection = false;
    parameters.bEnableAdaptiveQuant = false;
    parameters.bEnableSceneChangeDetect = false;
    parameters.bEnableLongTermReference = false;
    parameters.bPrefixNalAddingCtrl = false;
    parameters.bEnableSSEI = false;
    let layer = &mut parameters.sSpatialLayers[0];
    (layer.iVideoWidth, layer.iVideoHeight) = (width, height);
    layer.fFrameRate = FRAME_RATE_NOMINAL;
    layer.iSpatialBitrate = BITRATE_NOMINAL;
    layer.iMaxSpatialBitrate = 0;
    layer.uiProfileIdc = if cabac { PRO_HIGH } else { PRO_BASELINE };
    layer.iDLayerQp = qp.into();
    layer.sSliceArgument.uiSliceNum = slices.len() as u32;
    if slices.len() == 1 {
        layer.sSliceArgument.uiSliceMode = SM_SINGLE_SLICE;
        return;
    }
    layer.sSliceArgument.uiSliceMode = SM_RASTER_SLICE;
    for (slice, count) in slices.zip(&mut layer.sSliceArgument.uiSliceMbNum) {
        let rows = config.first_row(slice + 1) - config.first_row(slice);
        *count = (rows * config.width / 16) as u32;
    }
}

/// All NAL units of all layers, in order.
fn collect(coded: &SFrameBSInfo) -> Vec<u8> {
    let mut bytes = Vec::new();
    let layers = usize::try_from(coded.iLayerNum).unwrap_or(0);
    for layer in coded.sLayerInfo.iter().take(layers) {
        let units = usize::try_from(layer.iNalCount).unwrap_or(0);
        if units == 0 || layer.pNalLengthInByte.is_null() || layer.pBsBuf.is_null() {
            continue;
        }
        // SAFETY: after a successful `EncodeFrame` a layer has `iNalCount` lengths and their sum of bytes, both valid
        // until the next call on the encoder, which `encode` holds exclusively.
        let lengths = unsafe { std::slice::from_raw_parts(layer.pNalLengthInByte, units) };
        let length = lengths.iter().map(|&length| usize::try_from(length).unwrap_or(0)).sum();
        // SAFETY: as above.
        bytes.extend_from_slice(unsafe { std::slice::from_raw_parts(layer.pBsBuf, length) });
    }
    bytes
}

fn method<F>(method: Option<F>, step: &'static str) -> Result<F, EncodeError> {
    method.ok_or(EncodeError::Refused { step, code: -1 })
}

fn check(step: &'static str, code: c_int) -> Result<(), EncodeError> {
    if code == 0 { Ok(()) } else { Err(EncodeError::Refused { step, code: code.into() }) }
}
