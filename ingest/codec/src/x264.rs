//! x264 by way of libavcodec: the normaliser's encoder where the libraries are there.
//!
//! In: pictures of one size. Out: each in Annex B as soon as it is there, in the shape of `GopEncoder`'s.

use crate::encoder::{EncodeError, QP_MAX};
use crate::picture::Picture;
use ac_ffmpeg::codec::Encoder as _;
use ac_ffmpeg::codec::video::frame::PictureType;
use ac_ffmpeg::codec::video::{VideoEncoder, VideoFrameMut};
use ac_ffmpeg::time::{TimeBase, Timestamp};

/// Pictures are counted; nothing rescales that.
const PICTURES: TimeBase = TimeBase::new(1, 25);
/// What a node can code live beside decoding.
const PRESET: &str = "veryfast";
/// A constant QP, the same for all pictures, needs no floating-point number; parameter sets are those of every other QP.
const PARAMETERS: &str = "keyint=infinite:scenecut=0:ipratio=1:bframes=0:aud=0:stitchable=1";

/// An x264 encoder of one closed GOP: High profile, CABAC, one slice a picture, output order is decoding order, one QP. A fresh
/// one for each GOP, so that a GOP's bytes depend on its pictures and its QP alone.
pub struct X264GopEncoder {
    library: VideoEncoder,
    width: usize,
    height: usize,
    count: i64,
}

impl X264GopEncoder {
    /// An encoder of pictures of this coded size.
    ///
    /// # Errors
    /// When QP is over 51, or the library has no x264 or refuses.
    pub fn new(width: usize, height: usize, qp: u8) -> Result<X264GopEncoder, EncodeError> {
        if qp > QP_MAX {
            return Err(EncodeError::Qp(qp));
        }
        ac_ffmpeg::set_log_callback(|_, _| ());
        let refused = |step| EncodeError::Refused { step, code: -1 };
        let format = "yuv420p".parse().map_err(|_| refused("take 4:2:0"))?;
        let builder =
            VideoEncoder::builder("libx264").map_err(|_| refused("start as x264"))?.pixel_format(format);
        let builder = builder.width(width).height(height).time_base(PICTURES).set_option("threads", 1);
        let builder = builder.set_option("preset", PRESET).set_option("tune", "zerolatency");
        let builder = builder.set_option("profile", "high").set_option("qp", qp).set_option("forced-idr", 1);
        let library = builder.set_option("x264-params", PARAMETERS).build();
        let library = library.map_err(|_| refused("take its settings"))?;
        Ok(X264GopEncoder { library, width, height, count: 0 })
    }

    /// One picture in Annex B, in the QP that the GOP began with, whichever is asked for: x264 takes no other one. An IDR picture
    /// comes with SPS and PPS, at first with an SEI message about the encoder too, and its `idr_pic_id` differs from that of
    /// the one before. The first is always one.
    ///
    /// # Errors
    /// When the picture has another size, or the library fails or keeps it.
    pub fn encode(&mut self, picture: &Picture, _qp: u8, idr: bool) -> Result<Vec<u8>, EncodeError> {
        let (width, height) = (picture.width(), picture.height());
        if (width, height) != (self.width, self.height) {
            return Err(EncodeError::Size { width, height });
        }
        let refused = |step| EncodeError::Refused { step, code: -1 };
        let format = "yuv420p".parse().map_err(|_| refused("take 4:2:0"))?;
        let mut frame = VideoFrameMut::black(format, width, height);
        let (luma, chroma) = picture.samples().split_at(width * height);
        let (cb, cr) = chroma.split_at(chroma.len() / 2);
        let mut planes = frame.planes_mut();
        for (plane, samples, width) in [(0, luma, width), (1, cb, width / 2), (2, cr, width / 2)] {
            for (line, to) in samples.chunks(width).zip(planes[plane].lines_mut()) {
                to[..width].copy_from_slice(line);
            }
        }
        let kind = if idr { PictureType::I } else { PictureType::None };
        let frame = frame.with_time_base(PICTURES).with_pts(Timestamp::new(self.count, PICTURES));
        self.count += 1;
        let frame = frame.with_picture_type(kind).freeze();
        let pushed = self.library.try_push(frame);
        pushed.map_err(|_| refused("code a picture"))?;
        let packet = self.library.take().map_err(|_| refused("give a picture"))?;
        Ok(packet.ok_or(EncodeError::Skipped)?.data().to_vec())
    }
}

impl std::fmt::Debug for X264GopEncoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "X264GopEncoder({} x {})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_comes_at_once_and_only_idr_pictures_begin() {
        let picture = |seed: usize| {
            let samples = (0..64 * 48 * 3 / 2).map(|at| (at * seed % 251) as u8).collect();
            Picture::new(64, 48, samples).unwrap()
        };
        let units = |annexb: &[u8]| -> Vec<u8> {
            let heads = annexb.windows(4).filter(|four| four[..3] == [0, 0, 1]);
            heads.map(|four| four[3] & 0x1f).collect()
        };
        let film = || {
            let mut encoder = X264GopEncoder::new(64, 48, 30).unwrap();
            [(1, true), (3, false), (5, false), (7, true)].map(|(seed, idr)| {
                let coded = encoder.encode(&picture(seed), 30, idr).unwrap();
                let expected: &[u8] = match (seed, idr) {
                    (1, _) => &[7, 8, 6, 5],
                    (_, true) => &[7, 8, 5],
                    _ => &[1],
                };
                assert_eq!(units(&coded), expected, "{seed}");
                coded
            })
        };
        assert_eq!(film(), film(), "the same bytes again");
        let mut encoder = X264GopEncoder::new(64, 48, 30).unwrap();
        let other = Picture::new(64, 64, vec![0; 64 * 64 * 3 / 2]).unwrap();
        assert_eq!(encoder.encode(&other, 30, true), Err(EncodeError::Size { width: 64, height: 64 }));
        assert!(matches!(X264GopEncoder::new(64, 48, 52), Err(EncodeError::Qp(52))));
    }
}
