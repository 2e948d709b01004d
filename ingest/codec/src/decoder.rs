//! Decoder of one lone IDR picture.
//!
//! In: Annex B bytes of SPS, PPS and all slices of one IDR, whatever they are. Out: the coded picture, or an error. One
//! decoder decodes one picture, so nothing of a broken picture can reach the next.

use crate::picture::{Picture, PictureError};
use openh264::OpenH264API;
use openh264::decoder::{Decoder as Library, DecoderConfig};
use openh264::formats::YUVSource;
use thiserror::Error;

/// A fresh openh264 decoder: error concealment off, no threads.
pub struct Decoder(Library);

/// Why there is no picture.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The library could not be set up.
    #[error("the H.264 decoder did not start: {0}")]
    Start(String),
    /// The library found an error in the bytes.
    #[error("the picture does not decode: {0}")]
    Bitstream(String),
    /// The bytes hold no complete picture.
    #[error("the bytes hold no complete picture")]
    NoPicture,
    /// It came out in another size than its parameter sets announce.
    #[error("the picture came out as {width} x {height}, expected {expected_width} x {expected_height}")]
    Size {
        /// Decoded width.
        width: usize,
        /// Decoded height.
        height: usize,
        /// Announced width.
        expected_width: usize,
        /// Announced height.
        expected_height: usize,
    },
    /// Planes that do not match their sides.
    #[error(transparent)]
    Picture(#[from] PictureError),
}

impl Decoder {
    /// A decoder for one picture.
    ///
    /// # Errors
    /// When the library has no memory.
    pub fn new() -> Result<Decoder, DecodeError> {
        let library = Library::with_api_config(OpenH264API::from_source(), DecoderConfig::new());
        library.map(Decoder).map_err(|error| DecodeError::Start(error.to_string()))
    }

    /// Decodes one IDR of that coded size. `annexb` holds SPS (without cropping), PPS and every slice.
    ///
    /// # Errors
    /// When the bytes are damaged, incomplete or of another size.
    pub fn decode(mut self, annexb: &[u8], width: usize, height: usize) -> Result<Picture, DecodeError> {
        let decoded = self.0.decode(annexb).map_err(|error| DecodeError::Bitstream(error.to_string()))?;
        let decoded = decoded.ok_or(DecodeError::NoPicture)?;
        if decoded.dimensions() != (width, height) {
            let (out_width, out_height) = decoded.dimensions();
            return Err(DecodeError::Size {
                width: out_width,
                height: out_height,
                expected_width: width,
                expected_height: height,
            });
        }
        let (y, u, v) = decoded.strides();
        let mut samples = Vec::with_capacity(width * height * 3 / 2);
        append(&mut samples, decoded.y(), y, width, height)?;
        append(&mut samples, decoded.u(), u, width / 2, height / 2)?;
        append(&mut samples, decoded.v(), v, width / 2, height / 2)?;
        Ok(Picture::new(width, height, samples)?)
    }
}

/// Appends the rows of a plane without their padding.
fn append(
    to: &mut Vec<u8>,
    plane: &[u8],
    stride: usize,
    width: usize,
    height: usize,
) -> Result<(), PictureError> {
    let wrong = PictureError { width: stride, height, samples: plane.len() };
    for row in 0..height {
        to.extend_from_slice(plane.get(row * stride..row * stride + width).ok_or(wrong)?);
    }
    Ok(())
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decoder")
    }
}
