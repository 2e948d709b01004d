//! The encoder of the normaliser: pictures become a closed GOP.
//!
//! In: pictures of one size, each with its QP. Out: each in Annex B, as soon as it is there.

use crate::encoder::{EncodeError, Encoder, Shape};
use crate::intra::{Entropy, IntraConfig};
use crate::picture::Picture;

/// An openh264 encoder of one closed GOP: High profile, CABAC, one slice a picture, each P picture refers to the one before
/// it, output order is decoding order. A fresh one for each GOP, so that a GOP's bytes depend on its pictures and QPs alone.
#[derive(Debug)]
pub struct GopEncoder(Encoder);

impl GopEncoder {
    /// An encoder of pictures of this coded size.
    ///
    /// # Errors
    /// When a side is out of range or the library refuses.
    pub fn new(width: usize, height: usize, qp: u8) -> Result<GopEncoder, EncodeError> {
        let config = IntraConfig { width, height, slices: 1, entropy: Entropy::Cabac };
        Encoder::new(config.whole(), qp, Shape::Gop).map(GopEncoder)
    }

    /// One picture in Annex B; an IDR picture comes with openh264's SPS and PPS, and its `idr_pic_id` differs from that of
    /// the one before. The first is always one.
    ///
    /// # Errors
    /// When the picture has another size, QP is over 51, or the library fails or skips.
    pub fn encode(&mut self, picture: &Picture, qp: u8, idr: bool) -> Result<Vec<u8>, EncodeError> {
        self.0.set_qp(qp)?;
        self.0.encode(picture, idr)
    }
}
