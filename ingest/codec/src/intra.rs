//! The encoder of the marker: one picture becomes one IDR of row-aligned slices.
//!
//! In: a `Picture`, a QP. Out: Annex B bytes with openh264's own SPS and PPS. Nothing of a slice depends on another one, so
//! a run of them, a `Band`, can be coded by itself, and two bands at once: their slices are those of the whole picture but for
//! the number of their first macroblock.

use crate::encoder::{EncodeError, Encoder, Shape};
use crate::picture::{Picture, SIDE_MAX};
use std::ops::Range;

/// Most slices of a picture that openh264 makes.
pub const SLICES_MAX: u16 = 35;
/// Pictures of no more macroblocks than this come as one slice, whatever is asked for (openh264's
/// `MIN_NUM_MB_PER_SLICE`).
const SINGLE_SLICE_MACROBLOCKS: usize = 48;

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

    /// The picture as one band.
    pub fn whole(self) -> Band {
        Band { config: self, slices: 0..self.slices }
    }

    /// The picture as an upper and a lower band of about as many slices; as one, where a half would be too small to have
    /// its slices.
    pub fn halves(self) -> (Band, Option<Band>) {
        let middle = self.slices / 2;
        let [upper, lower] = [0..middle, middle..self.slices].map(|slices| Band { config: self, slices });
        let large = |band: &Band| band.height() / 16 * (self.width / 16) > SINGLE_SLICE_MACROBLOCKS;
        if middle > 0 && large(&upper) && large(&lower) { (upper, Some(lower)) } else { (self.whole(), None) }
    }

    pub(crate) fn check(&self) -> Result<(), EncodeError> {
        let side = |side: usize| side > 0 && side <= SIDE_MAX && side.is_multiple_of(16);
        let slices = self.slices > 0 && self.slices <= IntraConfig::slices_max(self.width, self.height);
        if side(self.width) && side(self.height) && slices { Ok(()) } else { Err(EncodeError::Config(*self)) }
    }
}

/// A run of a picture's slices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    config: IntraConfig,
    slices: Range<u16>,
}

impl Band {
    /// The picture it belongs to.
    pub fn config(&self) -> &IntraConfig {
        &self.config
    }

    /// Its slices, counted from the picture's top.
    pub fn slices(&self) -> Range<u16> {
        self.slices.clone()
    }

    /// First row of macroblocks.
    pub fn first_row(&self) -> usize {
        self.config.first_row(self.slices.start)
    }

    /// Its rows of samples.
    pub fn rows(&self) -> Range<usize> {
        16 * self.first_row()..16 * self.config.first_row(self.slices.end)
    }

    /// Height in samples.
    pub fn height(&self) -> usize {
        self.rows().len()
    }
}

/// An openh264 encoder whose every picture is an IDR.
#[derive(Debug)]
pub struct IntraEncoder(Encoder);

impl IntraEncoder {
    /// An encoder of these slices of pictures of the band's configuration, with this QP.
    ///
    /// # Errors
    /// When the configuration is out of range or the library refuses it.
    pub fn new(band: Band, qp: u8) -> Result<IntraEncoder, EncodeError> {
        Encoder::new(band, qp, Shape::Intra).map(IntraEncoder)
    }

    /// Codes the next pictures with another QP.
    ///
    /// # Errors
    /// When it is over 51 or the library refuses.
    pub fn set_qp(&mut self, qp: u8) -> Result<(), EncodeError> {
        self.0.set_qp(qp)
    }

    /// One IDR in Annex B: openh264's SPS and PPS, and its slices from the top. The picture is the band alone
    /// (`Picture::rows`).
    ///
    /// # Errors
    /// When the picture has another size, or the library fails or skips.
    pub fn encode(&mut self, picture: &Picture) -> Result<Vec<u8>, EncodeError> {
        self.0.encode(picture, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DecodeError, Decoder};
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
                let bytes = IntraEncoder::new(config(width, height, slices, entropy).whole(), 20)
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
            let fresh = IntraEncoder::new(config.whole(), 22).unwrap().encode(&one).unwrap();
            let mut used = IntraEncoder::new(config.whole(), 30).unwrap();
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
    fn a_band_decodes_as_its_part_of_the_whole_picture() {
        for entropy in [Entropy::Cavlc, Entropy::Cabac] {
            for (width, height, slices) in [(320, 176, 8), (608, 1088, 35), (1280, 720, 8), (320, 176, 3)] {
                let (config, picture) = (config(width, height, slices, entropy), noise(width, height, 5, 3));
                let code = |band: Band| {
                    let rows = picture.rows(band.rows()).unwrap();
                    IntraEncoder::new(band, 24).unwrap().encode(&rows).unwrap()
                };
                let decode =
                    |bytes: &[u8], height| Decoder::new().unwrap().decode(bytes, width, height).unwrap();
                let whole = decode(&code(config.whole()), height);
                let (upper, lower) = config.halves();
                let halves = [upper, lower.unwrap()];
                assert_eq!(
                    halves.iter().flat_map(Band::slices).collect::<Vec<_>>(),
                    (0..slices).collect::<Vec<_>>()
                );
                for band in halves {
                    let bytes = code(band.clone());
                    assert_eq!(slices_in(&bytes), band.slices().len());
                    let part = decode(&bytes, band.height());
                    assert!(
                        part == whole.rows(band.rows()).unwrap(),
                        "{entropy:?} {width} x {height}: {band:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_picture_too_small_for_halves_is_one_band() {
        for (width, height, slices) in [(16, 16, 1), (64, 64, 1), (112, 128, 8), (1280, 720, 1)] {
            let config = config(width, height, slices, Entropy::Cabac);
            assert_eq!(config.halves(), (config.whole(), None), "{width} x {height}");
        }
    }

    #[test]
    fn damaged_and_cut_pictures_are_errors_or_pictures() {
        let config = config(176, 144, 4, Entropy::Cabac);
        let bytes = IntraEncoder::new(config.whole(), 26).unwrap().encode(&noise(176, 144, 3, 4)).unwrap();
        let last = bytes.windows(4).rposition(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 31 == 5).unwrap();
        let decode = |bytes: &[u8]| Decoder::new().unwrap().decode(bytes, 176, 144);
        assert!(decode(&bytes[..last]).is_err(), "a picture without its last slice");
        assert!(decode(&[]).is_err());
        assert!(matches!(
            Decoder::new().unwrap().decode(&bytes, 176, 160),
            Err(DecodeError::Size { height: 144, .. })
        ));
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        assert!(matches!(
            IntraEncoder::new(config(176, 144, 10, Entropy::Cabac).whole(), 20),
            Err(EncodeError::Config(_))
        ));
        assert!(matches!(
            IntraEncoder::new(config(176, 144, 0, Entropy::Cabac).whole(), 20),
            Err(EncodeError::Config(_))
        ));
        assert!(matches!(
            IntraEncoder::new(config(170, 144, 1, Entropy::Cabac).whole(), 20),
            Err(EncodeError::Config(_))
        ));
        assert!(matches!(
            IntraEncoder::new(config(176, 144, 1, Entropy::Cabac).whole(), 52),
            Err(EncodeError::Qp(52))
        ));
        let mut encoder = IntraEncoder::new(config(176, 144, 1, Entropy::Cabac).whole(), 20).unwrap();
        assert_eq!(encoder.set_qp(52), Err(EncodeError::Qp(52)));
        assert!(matches!(encoder.encode(&noise(160, 144, 1, 1)), Err(EncodeError::Size { width: 160, .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn the_decoder_survives_flipped_bits(flips in proptest::collection::vec((any::<u16>(), 0u8..8), 1..12), cut: Option<u16>) {
            let config = config(112, 112, 7, Entropy::Cabac);
            let mut bytes = IntraEncoder::new(config.whole(), 30).unwrap().encode(&noise(112, 112, 5, 2)).unwrap();
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
