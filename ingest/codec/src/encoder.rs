//! Encoders: one picture becomes one IDR of row-aligned slices, or pictures become a closed GOP.
//!
//! In: a `Picture`, a QP. Out: Annex B bytes with openh264's own SPS and PPS. The settings are those that
//! `research/idr-openh264.md` §5.4 found: rate control off, one thread, nothing adaptive. Deblocking is off where an IDR
//! replaces one that was deblocked already (and each slice of a mix stays self-contained), and on within a GOP.

use crate::picture::{Picture, SIDE_MAX};
use openh264_sys2::source::APILoader;
use openh264_sys2::{
    CAMERA_VIDEO_REAL_TIME, CONSTANT_ID, ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, ENCODER_OPTION_TRACE_LEVEL,
    ISVCEncoder, ISVCEncoderVtbl, LOW_COMPLEXITY, PRO_BASELINE, PRO_HIGH, RC_OFF_MODE, SEncParamExt,
    SFrameBSInfo, SM_RASTER_SLICE, SM_SINGLE_SLICE, SSourcePicture, videoFormatI420,
};
use std::ffi::{c_int, c_void};
use std::ptr::NonNull;
use thiserror::Error;

/// Most slices of a picture that openh264 makes.
pub const SLICES_MAX: u16 = 35;
/// Pictures of no more macroblocks than this come as one slice, whatever is asked for (openh264's
/// `MIN_NUM_MB_PER_SLICE`).
const SINGLE_SLICE_MACROBLOCKS: usize = 48;
/// Coarsest quantiser.
pub const QP_MAX: u8 = 51;

/// Deblocking on and off for the whole picture (ISO/IEC 14496-10 §7.4.3).
const LOOP_FILTER_ON: c_int = 0;
const LOOP_FILTER_OFF: c_int = 1;
/// Nominal only: rate control is off.
const BITRATE_NOMINAL: c_int = 5_000_000;
/// Nominal only: rate control is off.
const FRAME_RATE_NOMINAL: f32 = 30.0;

/// How the coefficients are coded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entropy {
    /// Baseline streams.
    Cavlc,
    /// All others: 7–14 % smaller.
    Cabac,
}

/// What an encoder is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntraConfig {
    /// Coded width in samples, a multiple of 16.
    pub width: usize,
    /// Coded height in samples, a multiple of 16.
    pub height: usize,
    /// Slices; each is one or more whole rows of macroblocks.
    pub slices: u16,
    /// Entropy coding.
    pub entropy: Entropy,
}

impl IntraConfig {
    /// Most row-aligned slices of a picture of this coded size: one a row of macroblocks, `SLICES_MAX`, one for tiny ones.
    pub fn slices_max(width: usize, height: usize) -> u16 {
        let (columns, rows) = (width / 16, height / 16);
        if columns * rows <= SINGLE_SLICE_MACROBLOCKS {
            return 1;
        }
        u16::try_from(rows).map_or(SLICES_MAX, |rows| rows.min(SLICES_MAX))
    }

    /// First macroblock row of a slice; that of slice number `slices` is the row count.
    pub fn first_row(&self, slice: u16) -> usize {
        usize::from(slice) * (self.height / 16) / usize::from(self.slices)
    }

    fn check(&self) -> Result<(), EncodeError> {
        let side = |side: usize| side > 0 && side <= SIDE_MAX && side.is_multiple_of(16);
        let slices = self.slices > 0 && self.slices <= IntraConfig::slices_max(self.width, self.height);
        if side(self.width) && side(self.height) && slices { Ok(()) } else { Err(EncodeError::Config(*self)) }
    }
}

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
enum Shape {
    /// IDR pictures of their own.
    Intra,
    /// An IDR picture and those that refer to the one before them.
    Gop,
}

/// An openh264 encoder whose every picture is an IDR.
pub struct IntraEncoder {
    encoder: NonNull<ISVCEncoder>,
    parameters: SEncParamExt,
    config: IntraConfig,
    shape: Shape,
    qp: u8,
}

/// An openh264 encoder of one closed GOP: High profile, CABAC, one slice a picture, each P picture refers to the one before
/// it, output order is decoding order. A fresh one for each GOP, so that a GOP's bytes depend on its pictures and QPs alone.
#[derive(Debug)]
pub struct GopEncoder(IntraEncoder);

impl GopEncoder {
    /// An encoder of pictures of this coded size.
    ///
    /// # Errors
    /// When a side is out of range or the library refuses.
    pub fn new(width: usize, height: usize, qp: u8) -> Result<GopEncoder, EncodeError> {
        let config = IntraConfig { width, height, slices: 1, entropy: Entropy::Cabac };
        IntraEncoder::start(config, qp, Shape::Gop).map(GopEncoder)
    }

    /// One picture in Annex B; an IDR picture comes with openh264's SPS and PPS, and its `idr_pic_id` differs from that of
    /// the one before. The first is always one.
    ///
    /// # Errors
    /// When the picture has another size, QP is over 51, or the library fails or skips.
    pub fn encode(&mut self, picture: &Picture, qp: u8, idr: bool) -> Result<Vec<u8>, EncodeError> {
        self.0.set_qp(qp)?;
        self.0.code(picture, idr)
    }
}

impl IntraEncoder {
    /// An encoder of this size, shape and QP.
    ///
    /// # Errors
    /// When the configuration is out of range or the library refuses it.
    pub fn new(config: IntraConfig, qp: u8) -> Result<IntraEncoder, EncodeError> {
        IntraEncoder::start(config, qp, Shape::Intra)
    }

    fn start(config: IntraConfig, qp: u8, shape: Shape) -> Result<IntraEncoder, EncodeError> {
        config.check()?;
        if qp > QP_MAX {
            return Err(EncodeError::Qp(qp));
        }
        let mut created: *mut ISVCEncoder = std::ptr::null_mut();
        // SAFETY: the library writes one pointer to where `created` lives.
        let code = unsafe { APILoader::WelsCreateSVCEncoder(&raw mut created) };
        let refused = EncodeError::Refused { step: "start", code: code.into() };
        let encoder = NonNull::new(created).filter(|_| code == 0).ok_or(refused)?;
        // From here on `this` owns the encoder and its drop gives it back.
        let mut this = IntraEncoder { encoder, parameters: SEncParamExt::default(), config, shape, qp };
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
        configure(&mut self.parameters, &self.config, self.shape, self.qp);
        let initialise = method(methods.InitializeExt, "take its settings")?;
        // SAFETY: `encoder` is live and not yet initialised; the library copies the parameters.
        check("take its settings", unsafe { initialise(encoder, &raw const self.parameters) })
    }

    /// Codes the next pictures with another QP.
    ///
    /// # Errors
    /// When it is over 51 or the library refuses.
    pub fn set_qp(&mut self, qp: u8) -> Result<(), EncodeError> {
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

    /// One IDR in Annex B: openh264's SPS, PPS and the slices from the top.
    ///
    /// # Errors
    /// When the picture has another size, or the library fails or skips.
    pub fn encode(&mut self, picture: &Picture) -> Result<Vec<u8>, EncodeError> {
        self.code(picture, true)
    }

    fn code(&mut self, picture: &Picture, idr: bool) -> Result<Vec<u8>, EncodeError> {
        let (width, height) = (picture.width(), picture.height());
        if (width, height) != (self.config.width, self.config.height) {
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

impl Drop for IntraEncoder {
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

impl std::fmt::Debug for IntraEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IntraEncoder({:?}, QP {})", self.config, self.qp)
    }
}

fn configure(parameters: &mut SEncParamExt, config: &IntraConfig, shape: Shape, qp: u8) {
    let (width, height) = (config.width as c_int, config.height as c_int);
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
    layer.sSliceArgument.uiSliceNum = config.slices.into();
    if config.slices == 1 {
        layer.sSliceArgument.uiSliceMode = SM_SINGLE_SLICE;
        return;
    }
    layer.sSliceArgument.uiSliceMode = SM_RASTER_SLICE;
    for (slice, count) in (0..config.slices).zip(&mut layer.sSliceArgument.uiSliceMbNum) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Decoder;
    use proptest::prelude::*;

    fn noise(width: usize, height: usize, seed: u32, smooth: u32) -> Picture {
        let mut state = seed | 1;
        let samples = (0..width * height * 3 / 2).map(|i| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let ramp = (i % width) * 200 / width;
            (ramp as u32 + state % (1 + 55 / smooth)) as u8
        });
        Picture::new(width, height, samples.collect()).unwrap()
    }

    fn config(width: usize, height: usize, slices: u16, entropy: Entropy) -> IntraConfig {
        IntraConfig { width, height, slices, entropy }
    }

    /// Start codes followed by an IDR slice.
    fn slices_in(annexb: &[u8]) -> usize {
        annexb.windows(4).filter(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 31 == 5).count()
    }

    #[test]
    fn what_it_codes_decodes_near_the_source() {
        for entropy in [Entropy::Cavlc, Entropy::Cabac] {
            for (width, height, slices) in
                [(16, 16, 1), (64, 64, 1), (112, 112, 7), (176, 144, 8), (608, 1088, 35), (112, 128, 8)]
            {
                let picture = noise(width, height, 7, 8);
                let bytes = IntraEncoder::new(config(width, height, slices, entropy), 20)
                    .unwrap()
                    .encode(&picture)
                    .unwrap();
                assert_eq!(slices_in(&bytes), usize::from(slices), "{width} x {height}");
                let back = Decoder::new().unwrap().decode(&bytes, width, height).unwrap();
                let error: u64 = picture
                    .samples()
                    .iter()
                    .zip(back.samples())
                    .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
                    .sum();
                let mean = error as f64 / picture.samples().len() as f64;
                assert!(mean < 15.0, "{entropy:?} {width} x {height}: squared error {mean}");
            }
        }
    }

    /// Fresh state, reused state and a detour over another QP give the same bytes.
    #[test]
    fn bytes_depend_on_the_input_alone() {
        let (one, two) = (noise(176, 144, 3, 4), noise(176, 144, 9, 1));
        for entropy in [Entropy::Cavlc, Entropy::Cabac] {
            let config = config(176, 144, 8, entropy);
            let fresh = IntraEncoder::new(config, 22).unwrap().encode(&one).unwrap();
            let mut used = IntraEncoder::new(config, 30).unwrap();
            used.encode(&two).unwrap();
            used.set_qp(22).unwrap();
            let slices = |bytes: &[u8]| {
                let at =
                    bytes.windows(4).position(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 31 == 5).unwrap();
                bytes[at + 4..].to_vec()
            };
            let again = used.encode(&one).unwrap();
            let back = |bytes: &[u8]| Decoder::new().unwrap().decode(bytes, 176, 144).unwrap();
            assert_eq!(back(&fresh), back(&again));
            assert_eq!(slices(&fresh).len().abs_diff(slices(&again).len()), 0);
        }
    }

    #[test]
    fn damaged_and_cut_pictures_are_errors_or_pictures() {
        let config = config(176, 144, 4, Entropy::Cabac);
        let bytes = IntraEncoder::new(config, 26).unwrap().encode(&noise(176, 144, 3, 4)).unwrap();
        let last = bytes.windows(4).rposition(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 31 == 5).unwrap();
        let decode = |bytes: &[u8]| Decoder::new().unwrap().decode(bytes, 176, 144);
        assert!(decode(&bytes[..last]).is_err(), "a picture without its last slice");
        assert!(decode(&[]).is_err());
        assert!(matches!(
            Decoder::new().unwrap().decode(&bytes, 176, 160),
            Err(DecodeError::Size { height: 144, .. })
        ));
    }

    use crate::DecodeError;

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(matches!(
            IntraEncoder::new(config(176, 144, 10, Entropy::Cabac), 20),
            Err(EncodeError::Config(_))
        ));
        assert!(matches!(
            IntraEncoder::new(config(176, 144, 0, Entropy::Cabac), 20),
            Err(EncodeError::Config(_))
        ));
        assert!(matches!(
            IntraEncoder::new(config(170, 144, 1, Entropy::Cabac), 20),
            Err(EncodeError::Config(_))
        ));
        assert!(matches!(
            IntraEncoder::new(config(176, 144, 1, Entropy::Cabac), 52),
            Err(EncodeError::Qp(52))
        ));
        let mut encoder = IntraEncoder::new(config(176, 144, 1, Entropy::Cabac), 20).unwrap();
        assert_eq!(encoder.set_qp(52), Err(EncodeError::Qp(52)));
        assert!(matches!(encoder.encode(&noise(160, 144, 1, 1)), Err(EncodeError::Size { width: 160, .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn the_decoder_survives_flipped_bits(flips in proptest::collection::vec((any::<u16>(), 0u8..8), 1..12), cut: Option<u16>) {
            let config = config(112, 112, 7, Entropy::Cabac);
            let mut bytes = IntraEncoder::new(config, 30).unwrap().encode(&noise(112, 112, 5, 2)).unwrap();
            for (at, bit) in flips {
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= 1 << bit;
            }
            if let Some(cut) = cut {
                bytes.truncate(usize::from(cut) % bytes.len());
            }
            if let Ok(picture) = Decoder::new().unwrap().decode(&bytes, 112, 112) {
                prop_assert_eq!(picture.samples().len(), 112 * 112 * 3 / 2);
            }
        }
    }
}
