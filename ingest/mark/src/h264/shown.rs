//! How a stream's pictures are to be shown: what one coding says of it, for an SPS of H.264 to say the same.
//!
//! In: the VUI of an SPS (ISO/IEC 14496-10 §E.1.1), as far as its timing; HEVC's begins with the same fields. Out: a value,
//! written again. Pure.

use super::bits::{BitReader, BitWriter, Malformed};

/// `Extended_SAR`.
pub(crate) const SHAPE_EXTENDED: u8 = 255;

/// How pictures are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// `level_idc` of H.264.
    pub level: u8,
    /// Cropped luma samples: left, right, top, bottom; even ones.
    pub crop: [u32; 4],
    /// The sample's shape.
    pub shape: Option<Shape>,
    /// Whether the picture's edges may be left out.
    pub overscan: Option<bool>,
    /// What its samples mean.
    pub signal: Option<Signal>,
    /// Where chroma samples are, in the top and the bottom field.
    pub chroma_place: Option<[u32; 2]>,
    /// How fast pictures come.
    pub timing: Option<Timing>,
}

/// The shape of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `aspect_ratio_idc`.
    Known(u8),
    /// Width to height.
    Of(u16, u16),
}

/// What samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// `video_format`, 3 bits.
    pub format: u8,
    /// Whether black is 0 and white the largest value.
    pub full_range: bool,
    /// Primaries, transfer characteristics, matrix.
    pub colours: Option<[u8; 3]>,
}

/// How fast pictures come: two ticks each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Units of the clock in a tick.
    pub units: u32,
    /// Units of the clock in a second.
    pub scale: u32,
    /// Whether all pictures are as far apart.
    pub fixed: bool,
}

impl Shown {
    /// Reads a VUI from its flag on, as far as its timing, over what is there already.
    ///
    /// # Errors
    /// When it does not parse.
    pub(super) fn read_vui(&mut self, read: &mut BitReader<'_>) -> Result<(), Malformed> {
        if !read.flag()? {
            return Ok(());
        }
        if read.flag()? {
            // Eight and sixteen bits fit.
            self.shape = Some(match read.bits(8)? as u8 {
                SHAPE_EXTENDED => Shape::Of(read.bits(16)? as u16, read.bits(16)? as u16),
                known => Shape::Known(known),
            });
        }
        if read.flag()? {
            self.overscan = Some(read.flag()?);
        }
        if read.flag()? {
            let (format, full_range) = (read.bits(3)? as u8, read.flag()?);
            let colours = match read.flag()? {
                true => Some([read.bits(8)? as u8, read.bits(8)? as u8, read.bits(8)? as u8]),
                false => None,
            };
            self.signal = Some(Signal { format, full_range, colours });
        }
        if read.flag()? {
            let mut place = || read.ue(5, "chroma_sample_loc_type");
            self.chroma_place = Some([place()?, place()?]);
        }
        if read.flag()? {
            self.timing = Some(Timing { units: read.bits(32)?, scale: read.bits(32)?, fixed: read.flag()? });
        }
        Ok(())
    }

    /// `frame_cropping_flag` and what follows it.
    pub(super) fn write_crop(&self, write: &mut BitWriter) {
        write.flag(self.crop != [0; 4]);
        if self.crop != [0; 4] {
            self.crop.iter().for_each(|side| write.ue(side / 2));
        }
    }

    /// A VUI from its flag on, as far as its timing.
    pub(super) fn write_vui(&self, write: &mut BitWriter) {
        write.flag(true);
        write.flag(self.shape.is_some());
        match self.shape {
            None => {}
            Some(Shape::Known(shape)) => write.bits(8, shape.into()),
            Some(Shape::Of(width, height)) => {
                write.bits(8, SHAPE_EXTENDED.into());
                write.bits(16, width.into());
                write.bits(16, height.into());
            }
        }
        write.flag(self.overscan.is_some());
        if let Some(appropriate) = self.overscan {
            write.flag(appropriate);
        }
        write.flag(self.signal.is_some());
        if let Some(signal) = self.signal {
            write.bits(3, signal.format.into());
            write.flag(signal.full_range);
            write.flag(signal.colours.is_some());
            signal.colours.into_iter().flatten().for_each(|code| write.bits(8, code.into()));
        }
        write.flag(self.chroma_place.is_some());
        self.chroma_place.into_iter().flatten().for_each(|place| write.ue(place));
        write.flag(self.timing.is_some());
        if let Some(timing) = self.timing {
            write.bits(32, timing.units);
            write.bits(32, timing.scale);
            write.flag(timing.fixed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::option;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            shape in option::of(prop_oneof![
                (0..SHAPE_EXTENDED).prop_map(Shape::Known),
                any::<(u16, u16)>().prop_map(|(width, height)| Shape::Of(width, height)),
            ]),
            overscan: Option<bool>,
            signal in option::of((0u8..8, any::<bool>(), any::<Option<[u8; 3]>>())),
            chroma_place in option::of([0u32..6, 0u32..6]),
            timing: Option<(u32, u32, bool)>,
        ) {
            let signal = signal.map(|(format, full_range, colours)| Signal { format, full_range, colours });
            let timing = timing.map(|(units, scale, fixed)| Timing { units, scale, fixed });
            let shown = Shown { shape, overscan, signal, chroma_place, timing, ..Shown::default() };
            let mut write = BitWriter::default();
            shown.write_vui(&mut write);
            write.trailing();
            let bytes = write.into_bytes();
            let mut read = BitReader::new("VUI", &bytes);
            let mut again = Shown::default();
            again.read_vui(&mut read).unwrap();
            prop_assert_eq!(again, shown);
        }
    }
}
