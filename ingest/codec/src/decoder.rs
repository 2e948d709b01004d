//! openh264's decoders: of one lone IDR picture, and of a stream from an IDR picture on.
//!
//! In: Annex B bytes of SPS, PPS and slices, whatever they are. Out: coded pictures, or an error. One `Decoder` decodes one
//! picture, so nothing of a broken picture can reach the next; a `StreamDecoder` ends with its first error.

use crate::picture::{Picture, PictureError};
use openh264::OpenH264API;
use openh264::decoder::{Decoder as Library, DecoderConfig};
use openh264::formats::YUVSource;
use openh264_sys2::{DECODER_OPTION_NUM_OF_FRAMES_REMAINING_IN_BUFFER, SBufferInfo};
use std::ffi::{c_int, c_void};
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

/// A fresh openh264 decoder for the pictures of one IDR period, in output order: error concealment off, no threads.
pub struct StreamDecoder {
    library: Library,
    width: usize,
    height: usize,
}

impl StreamDecoder {
    /// A decoder for pictures of that coded size.
    ///
    /// # Errors
    /// When the library has no memory.
    pub fn new(width: usize, height: usize) -> Result<StreamDecoder, DecodeError> {
        let library = Library::with_api_config(OpenH264API::from_source(), DecoderConfig::new());
        let library = library.map_err(|error| DecodeError::Start(error.to_string()))?;
        Ok(StreamDecoder { library, width, height })
    }

    /// Takes one access unit with a tag, and gives the next picture in output order with its own, once it is known.
    ///
    /// # Errors
    /// When the bytes are damaged, refer to what is not there, or have another size. The decoder is of no use afterwards.
    pub fn push(&mut self, annexb: &[u8], tag: u64) -> Result<Option<(u64, Picture)>, DecodeError> {
        let long = DecodeError::Bitstream("longer than a decoder takes".to_owned());
        let length = c_int::try_from(annexb.len()).map_err(|_| long)?;
        let mut planes = [std::ptr::null_mut::<u8>(); 3];
        let mut info = SBufferInfo { uiInBsTimeStamp: tag, ..SBufferInfo::default() };
        // SAFETY: the decoder is initialised, `annexb` has `length` bytes, the library writes three pointers and the info.
        let code = unsafe {
            let library = self.library.raw_api();
            library.decode_frame_no_delay(annexb.as_ptr(), length, planes.as_mut_ptr(), &raw mut info)
        };
        if code != 0 {
            return Err(DecodeError::Bitstream(format!("code {code:#x}")));
        }
        self.taken(&planes, &info)
    }

    /// The next picture of those that wait for their turn, after the last access unit; `None` when there is none.
    ///
    /// # Errors
    /// As `push`.
    pub fn flush(&mut self) -> Result<Option<(u64, Picture)>, DecodeError> {
        let mut waiting: c_int = 0;
        let mut planes = [std::ptr::null_mut::<u8>(); 3];
        let mut info = SBufferInfo::default();
        // SAFETY: the decoder is initialised; this option writes one int, a flush three pointers and the info.
        unsafe {
            let library = self.library.raw_api();
            let into = (&raw mut waiting).cast::<c_void>();
            library.get_option(DECODER_OPTION_NUM_OF_FRAMES_REMAINING_IN_BUFFER, into);
            if waiting <= 0 {
                return Ok(None);
            }
            library.flush_frame(planes.as_mut_ptr(), &raw mut info);
        }
        self.taken(&planes, &info)
    }

    /// Copies what the library gave, if it gave a picture.
    fn taken(
        &self,
        planes: &[*mut u8; 3],
        info: &SBufferInfo,
    ) -> Result<Option<(u64, Picture)>, DecodeError> {
        if info.iBufferStatus != 1 || planes.iter().any(|plane| plane.is_null()) {
            return Ok(None);
        }
        // SAFETY: with status 1 the library has filled this part of the union.
        let system = unsafe { info.UsrData.sSystemBuffer };
        let side = |side: c_int| usize::try_from(side).unwrap_or(0);
        let (out_width, out_height) = (side(system.iWidth), side(system.iHeight));
        let (width, height) = (self.width, self.height);
        if (out_width, out_height) != (width, height) {
            return Err(DecodeError::Size {
                width: out_width,
                height: out_height,
                expected_width: width,
                expected_height: height,
            });
        }
        let mut samples = Vec::with_capacity(width * height * 3 / 2);
        for (plane, stride, width, height) in [
            (planes[0], side(system.iStride[0]), width, height),
            (planes[1], side(system.iStride[1]), width / 2, height / 2),
            (planes[2], side(system.iStride[1]), width / 2, height / 2),
        ] {
            if stride < width {
                return Err(PictureError { width: stride, height, samples: 0 }.into());
            }
            // SAFETY: a plane has `height` rows that begin `stride` bytes apart, of at least `width` bytes each; they stay
            // until the next call on the decoder, which `&self` holds off.
            let plane = unsafe { std::slice::from_raw_parts(plane, stride * (height - 1) + width) };
            append(&mut samples, plane, stride, width, height)?;
        }
        Ok(Some((info.uiOutYuvTimeStamp, Picture::new(width, height, samples)?)))
    }
}

impl std::fmt::Debug for StreamDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamDecoder({} x {})", self.width, self.height)
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
