//! A decoded picture: 8-bit 4:2:0, planes without padding.

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

    /// The same picture with another luma plane.
    ///
    /// # Errors
    /// When the plane has another size.
    pub fn with_luma(&self, luma: Vec<u8>) -> Result<Picture, PictureError> {
        let mut samples = luma;
        samples.extend_from_slice(&self.samples[self.width * self.height..]);
        Picture::new(self.width, self.height, samples)
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
        let picture = Picture::new(16, 16, (0..=255).chain(0..128).collect()).unwrap();
        let other = picture.with_luma(vec![9; 256]).unwrap();
        assert_eq!((other.luma(), &other.samples()[256..]), (&[9; 256][..], &picture.samples()[256..]));
        assert!(picture.with_luma(vec![9; 255]).is_err());
    }
}
