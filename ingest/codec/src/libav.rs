//! libavcodec, for what openh264 does not decode (HEVC, and H.264 of more than 8 bits or of more chroma), and for lone IDR
//! pictures of H.264, which it decodes in less than half of the time.
//!
//! In: access units as a publisher sends them, with their configuration record; or an IDR picture in Annex B. Out: 8-bit 4:2:0
//! pictures of whole macroblocks, in output order. One thread, no concealment; integers only, so every machine gives the same samples. The
//! libraries are the system's, and a binary that is linked to them is under their licence: the GPL where they were built with
//! x264, as Debian's are.

use crate::decoder::DecodeError;
use crate::picture::Picture;
use ac_ffmpeg::codec::Decoder as _;
use ac_ffmpeg::codec::video::{VideoDecoder, VideoFrame};
use ac_ffmpeg::packet::PacketMut;
use ac_ffmpeg::time::TimeBase;
use std::collections::VecDeque;

/// Tags are carried as times, which nothing rescales.
const TAGS: TimeBase = TimeBase::new(1, 90_000);

/// A fresh libavcodec decoder for one picture of H.264: what openh264's is without the feature.
pub struct Decoder(VideoDecoder);

impl Decoder {
    /// A decoder for one picture.
    ///
    /// # Errors
    /// When the library has no H.264, or no memory.
    pub fn new() -> Result<Decoder, DecodeError> {
        library(Foreign::H264, None).map(Decoder)
    }

    /// Decodes one IDR of that coded size. `annexb` holds SPS (without cropping), PPS and every slice.
    ///
    /// # Errors
    /// When the bytes are damaged, incomplete or of another size.
    pub fn decode(self, annexb: &[u8], width: usize, height: usize) -> Result<Picture, DecodeError> {
        let mut decoder = ForeignDecoder { library: self.0, width, height, ready: VecDeque::new() };
        let decoded = match decoder.push(annexb, 0)? {
            None => decoder.flush()?, // it waits for what might be shown before
            decoded => decoded,
        };
        let whole = decoded.map(|(_, picture)| picture).filter(|picture| !lacks_slices(picture));
        whole.ok_or(DecodeError::NoPicture)
    }
}

/// Whether slices are missing, of which the library says nothing: their samples are as they were when it got the memory, all 0,
/// but where a neighbour's edge was smoothed. No camera gives that colour (it is a green outside of every colour space).
fn lacks_slices(picture: &Picture) -> bool {
    let (columns, rows) = (picture.width() / 16, picture.height() / 16);
    let (luma, chroma) = picture.samples().split_at(picture.width() * picture.height());
    let (cb, cr) = chroma.split_at(chroma.len() / 2);
    (0..rows).any(|row| {
        (0..columns).any(|column| {
            let centre = |plane: &[u8], side: usize| {
                plane[(row * side + side / 2) * columns * side + column * side + side / 2]
            };
            (centre(luma, 16), centre(cb, 8), centre(cr, 8)) == (0, 0, 0)
        })
    })
}

/// A coding that this decoder is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Foreign {
    /// H.264 of any profile.
    H264,
    /// HEVC.
    Hevc,
}

/// A decoder for one period of a stream, from a picture on that decoding may begin with.
pub struct ForeignDecoder {
    library: VideoDecoder,
    width: usize,
    height: usize,
    ready: VecDeque<(u64, Picture)>,
}

impl ForeignDecoder {
    /// A decoder for pictures that are shown in that size, with the configuration record of the stream.
    ///
    /// # Errors
    /// When the library does not know the coding or refuses the record.
    pub fn new(
        coding: Foreign,
        record: &[u8],
        width: usize,
        height: usize,
    ) -> Result<ForeignDecoder, DecodeError> {
        let library = library(coding, Some(record))?;
        Ok(ForeignDecoder { library, width, height, ready: VecDeque::new() })
    }

    /// Takes one length-prefixed access unit with a tag, and gives the next picture in output order with its own, once it is
    /// known.
    ///
    /// # Errors
    /// When the bytes are damaged or have another size or format. The decoder is of no use afterwards.
    pub fn push(&mut self, access_unit: &[u8], tag: u64) -> Result<Option<(u64, Picture)>, DecodeError> {
        let mut packet = PacketMut::new(access_unit.len()).with_time_base(TAGS).with_raw_pts(tag as i64);
        packet.data_mut().copy_from_slice(access_unit);
        let pushed = self.library.try_push(packet.freeze());
        pushed.map_err(|error| DecodeError::Bitstream(error.to_string()))?;
        self.drain()?;
        Ok(self.ready.pop_front())
    }

    /// The next picture of those that wait for their turn, after the last access unit; `None` when there is none.
    ///
    /// # Errors
    /// As `push`.
    pub fn flush(&mut self) -> Result<Option<(u64, Picture)>, DecodeError> {
        if self.ready.is_empty() {
            // A second time is refused, and there is nothing more to come then.
            let _ = self.library.try_flush();
            self.drain()?;
        }
        Ok(self.ready.pop_front())
    }

    fn drain(&mut self) -> Result<(), DecodeError> {
        while let Some(frame) =
            self.library.take().map_err(|error| DecodeError::Bitstream(error.to_string()))?
        {
            let picture = self.eight_bits(&frame)?;
            self.ready.push_back((frame.pts().timestamp() as u64, picture));
        }
        Ok(())
    }

    /// A decoded frame as 8-bit 4:2:0 of whole macroblocks: its last row and column go on to the edge.
    fn eight_bits(&self, frame: &VideoFrame) -> Result<Picture, DecodeError> {
        let name = frame.pixel_format().name();
        let unknown = || DecodeError::Bitstream(format!("samples of the kind {name} are not taken"));
        let format = Format::named(name).ok_or_else(unknown)?;
        if (frame.width(), frame.height()) != (self.width, self.height) {
            return Err(DecodeError::Size {
                width: frame.width(),
                height: frame.height(),
                expected_width: self.width,
                expected_height: self.height,
            });
        }
        let (columns, rows) = (self.width.next_multiple_of(16), self.height.next_multiple_of(16));
        let mut samples = Vec::with_capacity(columns * rows * 3 / 2);
        let planes = frame.planes();
        for plane in 0..3 {
            let of = Plane {
                samples: planes[plane].data(),
                stride: planes[plane].line_size(),
                bits: format.bits,
                across: if plane > 0 { format.across } else { 1 },
                down: if plane > 0 { format.down } else { 1 },
            };
            let half = if plane > 0 { 2 } else { 1 };
            let size = (self.width.div_ceil(half), self.height.div_ceil(half));
            of.append(&mut samples, size, (columns / half, rows / half)).ok_or_else(unknown)?;
        }
        Ok(Picture::new(columns, rows, samples)?)
    }
}

/// One thread; with the configuration record, or for Annex B.
fn library(coding: Foreign, record: Option<&[u8]>) -> Result<VideoDecoder, DecodeError> {
    // It says much on standard error, at times in lines without an end: what matters comes back as a code.
    ac_ffmpeg::set_log_callback(|_, _| ());
    let name = match coding {
        Foreign::H264 => "h264",
        Foreign::Hevc => "hevc",
    };
    let start = |error: ac_ffmpeg::Error| DecodeError::Start(error.to_string());
    let builder = VideoDecoder::builder(name).map_err(start)?;
    let builder = builder.extradata(record).time_base(TAGS).set_option("threads", 1);
    // Faults are errors and are not hidden; the order of output is what the stream says, and is not guessed.
    let builder = builder.set_option("err_detect", "explode").set_option("ec", 0).set_option("strict", 1);
    builder.build().map_err(start)
}

impl std::fmt::Debug for ForeignDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ForeignDecoder({} x {})", self.width, self.height)
    }
}

/// How libavcodec lays samples: planes, of more than 8 bits in two bytes each, the lower first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    bits: u32,
    /// Chroma samples that become one, across and down.
    across: usize,
    down: usize,
}

impl Format {
    fn named(name: &str) -> Option<Format> {
        let name = name.strip_suffix("le").unwrap_or(name);
        let name = name.strip_prefix("yuvj").or(name.strip_prefix("yuv"))?;
        let (chroma, bits) = name.split_once('p')?;
        let (across, down) = match chroma {
            "420" => (1, 1),
            "422" => (1, 2),
            "444" => (2, 2),
            _ => return None,
        };
        let bits = if bits.is_empty() { 8 } else { bits.parse().ok()? };
        (8..=14).contains(&bits).then_some(Format { bits, across, down })
    }
}

/// One plane of a frame, and how many of its samples become one of ours.
struct Plane<'a> {
    samples: &'a [u8],
    stride: usize,
    bits: u32,
    across: usize,
    down: usize,
}

impl Plane<'_> {
    /// Appends the plane in 8 bits: `size` samples, then as many more as `whole` has. `None` where it is shorter than it says.
    fn append(&self, to: &mut Vec<u8>, size: (usize, usize), whole: (usize, usize)) -> Option<()> {
        let (wide, shift) = (usize::from(self.bits > 8) + 1, self.bits - 8);
        // The mean of all the samples and all of their bits at once, to the nearest.
        let count = (self.across * self.down) as u32;
        let half = (count << shift) / 2;
        for row in 0..size.1 {
            let from = to.len();
            if (shift, count) == (0, 1) {
                // Samples as we want them.
                to.extend_from_slice(self.samples.get(row * self.stride..)?.get(..size.0)?);
                let last = *to.last()?;
                to.resize(from + whole.0, last);
                continue;
            }
            let line = |down: usize| {
                let at = (row * self.down + down) * self.stride;
                self.samples.get(at..at + size.0 * self.across * wide)
            };
            let lines = [line(0)?, line(self.down - 1)?];
            for column in 0..size.0 {
                let mut sum = 0;
                for line in &lines[..self.down] {
                    for across in 0..self.across {
                        let at = (column * self.across + across) * wide;
                        let high = if wide == 2 { line[at + 1] } else { 0 };
                        sum += u32::from(high) << 8 | u32::from(line[at]);
                    }
                }
                to.push(((sum + half) / (count << shift)).min(255) as u8);
            }
            let last = *to.last()?;
            to.resize(from + whole.0, last);
        }
        let last = to.len() - whole.0;
        for _ in size.1..whole.1 {
            to.extend_from_within(last..last + whole.0);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Entropy, IntraConfig, IntraEncoder, OpenH264Decoder};

    #[test]
    fn formats_are_planes_of_8_to_14_bits() {
        let format = |bits, across, down| Some(Format { bits, across, down });
        assert_eq!(Format::named("yuv420p"), format(8, 1, 1));
        assert_eq!(Format::named("yuvj420p"), format(8, 1, 1));
        assert_eq!(Format::named("yuv420p10le"), format(10, 1, 1));
        assert_eq!(Format::named("yuv422p12le"), format(12, 1, 2));
        assert_eq!(Format::named("yuv444p"), format(8, 2, 2));
        for other in ["gray", "gray10le", "nv12", "yuv410p", "gbrp", "yuva420p", "yuv420p16be", ""] {
            assert_eq!(Format::named(other), None, "{other}");
        }
    }

    #[test]
    fn samples_are_rounded_to_8_bits_and_go_on_to_the_edge() {
        // 10 bits, two rows of three samples and a byte of padding each.
        let row = |samples: [u16; 3]| [&samples.map(u16::to_le_bytes).concat()[..], &[9]].concat();
        let samples = [row([0, 5, 6]), row([1023, 512, 4])].concat();
        let mut out = Vec::new();
        Plane { samples: &samples, stride: 7, bits: 10, across: 1, down: 1 }
            .append(&mut out, (3, 2), (4, 3))
            .unwrap();
        assert_eq!(out, [0, 1, 2, 2, 255, 128, 1, 1, 255, 128, 1, 1]);
        let cut = Plane { samples: &samples[..12], stride: 7, bits: 10, across: 1, down: 1 };
        assert_eq!(cut.append(&mut Vec::new(), (3, 2), (4, 3)), None);
    }

    #[test]
    fn more_chroma_becomes_its_mean() {
        let samples = [1, 2, 9, 9, 4, 6, 9, 9];
        let mut out = Vec::new();
        let plane = |across, down| Plane { samples: &samples, stride: 4, bits: 8, across, down };
        plane(2, 2).append(&mut out, (2, 1), (2, 1)).unwrap();
        plane(1, 2).append(&mut out, (2, 1), (2, 1)).unwrap();
        assert_eq!(out, [3, 9, 3, 4]);
    }

    fn noise(width: usize, height: usize, seed: usize) -> Picture {
        let sample = |i: usize| (60 + ((i * seed) ^ (i / width * 3)) % 90 + (i / 16) % 40) as u8;
        Picture::new(width, height, (0..width * height * 3 / 2).map(sample).collect()).unwrap()
    }

    /// An IDR picture with its parameter sets, and where its slices begin.
    fn coded(width: usize, height: usize, slices: u16, entropy: Entropy) -> (Vec<u8>, Vec<usize>) {
        let config = IntraConfig { width, height, slices, entropy };
        let bytes = IntraEncoder::new(config.whole(), 26).unwrap().encode(&noise(width, height, 7)).unwrap();
        let begins = |at: &usize| bytes[*at..*at + 3] == [0, 0, 1] && bytes[*at + 3] & 31 == 5;
        let starts = (0..bytes.len() - 3).filter(begins).collect();
        (bytes, starts)
    }

    #[test]
    fn lone_pictures_are_what_openh264_makes_of_them() {
        for entropy in [Entropy::Cavlc, Entropy::Cabac] {
            for (width, height, slices) in [(16, 16, 1), (112, 112, 7), (608, 1088, 35), (1280, 720, 8)] {
                let (bytes, _) = coded(width, height, slices, entropy);
                let theirs = OpenH264Decoder::new().unwrap().decode(&bytes, width, height).unwrap();
                let ours = Decoder::new().unwrap().decode(&bytes, width, height).unwrap();
                assert!(ours == theirs, "{entropy:?} {width} x {height}");
            }
        }
    }

    #[test]
    fn a_picture_without_one_of_its_slices_is_an_error() {
        for entropy in [Entropy::Cavlc, Entropy::Cabac] {
            let (bytes, starts) = coded(176, 144, 4, entropy);
            for (slice, &from) in starts.iter().enumerate().skip(1) {
                let to = starts.get(slice + 1).copied().unwrap_or(bytes.len());
                let cut = [&bytes[..from], &bytes[to..]].concat();
                let decoded = Decoder::new().unwrap().decode(&cut, 176, 144);
                assert!(decoded.is_err(), "{entropy:?}: a picture without slice {slice}");
            }
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        assert!(ForeignDecoder::new(Foreign::Hevc, &[1; 30], 64, 64).is_err());
    }
}
