//! A decoded picture: 8-bit 4:2:0, planes without padding.

use std::ops::Range;
use thiserror::Error;

/// Most samples a side.
pub const SIDE_MAX: usize = 4096;

/// 8-bit 4:2:0 samples: luma, then the two chroma planes, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    samples: Vec<u8>,
}

/// Sides that are no multiple of 16 or over `SIDE_MAX`, or samples that do not match them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{width} x {height} with {samples} samples is no coded 4:2:0 picture of at most {SIDE_MAX} a side")]
pub struct PictureError {
    /// Width claimed.
    pub width: usize,
    /// Height claimed.
    pub height: usize,
    /// Samples given.
    pub samples: usize,
}

impl Picture {
    /// A picture of coded size (whole macroblocks).
    ///
    /// # Errors
    /// When sides and samples do not belong together.
    pub fn new(width: usize, height: usize, samples: Vec<u8>) -> Result<Picture, PictureError> {
        let side = |side: usize| side > 0 && side <= SIDE_MAX && side.is_multiple_of(16);
        if side(width) && side(height) && samples.len() == width * height * 3 / 2 {
            Ok(Picture { width, height, samples })
        } else {
            Err(PictureError { width, height, samples: samples.len() })
        }
    }

    /// Coded width in samples.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Coded height in samples.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The luma plane.
    pub fn luma(&self) -> &[u8] {
        &self.samples[..self.width * self.height]
    }

    /// All three planes.
    pub fn samples(&self) -> &[u8] {
        &self.samples
    }

    /// Some rows of it, whole macroblocks, as a picture of their own.
    ///
    /// # Errors
    /// When they are not rows of it.
    pub fn rows(&self, rows: Range<usize>) -> Result<Picture, PictureError> {
        let luma = self.luma().get(rows.start * self.width..rows.end * self.width).unwrap_or_default();
        self.rows_with_luma(rows, luma.to_vec())
    }

    /// The same with another luma plane, which is `luma` and no copy of it where it has room for the chroma behind it.
    ///
    /// # Errors
    /// As `rows`, and when the plane has another size.
    pub fn rows_with_luma(&self, rows: Range<usize>, luma: Vec<u8>) -> Result<Picture, PictureError> {
        let (height, mut samples) = (rows.len(), luma);
        let (cb, cr) = self.samples[self.width * self.height..].split_at(self.width * self.height / 4);
        if rows.start.is_multiple_of(16) && rows.end <= self.height && samples.len() == self.width * height {
            // A row of macroblocks has 16 rows of luma, and 8 of half as many samples of either chroma plane.
            let chroma = rows.start * self.width / 4..rows.end * self.width / 4;
            samples.extend_from_slice(&cb[chroma.clone()]);
            samples.extend_from_slice(&cr[chroma]);
        }
        Picture::new(self.width, height, samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_and_samples_must_match() {
        assert!(Picture::new(16, 32, vec![0; 768]).is_ok());
        assert!(Picture::new(16, 32, vec![0; 767]).is_err());
        assert!(Picture::new(8, 64, vec![0; 768]).is_err());
        assert!(Picture::new(0, 0, vec![]).is_err());
        assert!(Picture::new(SIDE_MAX + 16, 16, vec![0; (SIDE_MAX + 16) * 24]).is_err());
    }

    #[test]
    fn rows_are_cut_from_every_plane() {
        let picture = Picture::new(16, 32, (0..768).map(|at| (at / 7) as u8).collect()).unwrap();
        let (luma, cb, cr) =
            (picture.luma(), &picture.samples()[512..][..128], &picture.samples()[640..][..128]);
        let lower = picture.rows(16..32).unwrap();
        assert_eq!((lower.width(), lower.height()), (16, 16));
        assert_eq!(lower.samples(), [&luma[256..], &cb[64..], &cr[64..]].concat());
        assert_eq!(picture.rows(0..32), Ok(picture.clone()));
        let other = picture.rows_with_luma(0..16, vec![9; 256]).unwrap();
        assert_eq!(other.samples(), [&[9; 256][..], &cb[..64], &cr[..64]].concat());
        assert!(picture.rows_with_luma(0..16, vec![9; 255]).is_err());
        for rows in [8..24, 16..48, 32..48, 0..0] {
            assert!(picture.rows(rows.clone()).is_err(), "{rows:?}");
        }
    }
}
