//! What the detector is given: a copy's pictures, and the archive's pictures of any choice of variants.
//!
//! Types and two traits, no code to speak of. Pure: whoever implements the traits does the I/O.

use crate::codeword::Symbol;
use crate::position::GopId;
use std::ops::Range;

/// A picture's time may be off by this, in seconds, and still belong to its GOP.
pub const EARLY_S: f64 = 0.002;

/// One grey picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// When it is shown, in seconds on its film's own clock.
    pub time_s: f64,
    /// Samples a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width × height` samples, rows from the top.
    pub luma: Vec<u8>,
}

/// Why pictures could not be read; the detector only passes it on.
pub type PictureError = Box<dyn std::error::Error + Send + Sync>;

/// Pictures in the order shown.
pub type Pictures = Box<dyn Iterator<Item = Result<Frame, PictureError>>>;

/// A GOP of the archive.
#[derive(Clone, Debug, PartialEq)]
pub struct Gop {
    /// Its id, which its positions are made of.
    pub id: GopId,
    /// When its first picture is shown, on the archive's clock.
    pub start_s: f64,
    /// When the next GOP begins, or its last picture ends.
    pub end_s: f64,
    /// Upper edge of each slice of its IDR from the top, and the lower edge of the last, as parts of the picture's height:
    /// 0.0 first, 1.0 last, one more than there are slices. Empty when it carries no mark.
    pub edges: Vec<f64>,
}

impl Gop {
    /// Slices that carry a symbol each.
    pub fn slices(&self) -> usize {
        self.edges.len().saturating_sub(1)
    }

    /// Edges of slices of whole macroblock rows, as the marker cuts them: slice s begins at row `rows · s / slices`,
    /// rounded down. `rows` counts the macroblock rows, `shown` the shown part of them: samples cut off at the top, and
    /// samples that are left.
    pub fn edges_of_rows(rows: usize, slices: usize, cut: usize, shown: usize) -> Vec<f64> {
        let edge = |slice: usize| {
            let sample = (rows * slice / slices.max(1)) * 16;
            (sample.saturating_sub(cut) as f64 / shown.max(1) as f64).min(1.0)
        };
        (0..=slices).map(edge).collect()
    }
}

/// Classes of slices that are told apart by decoding them apart, each with every fourth slice.
pub const CLASSES: usize = 4;

/// Which variant each slice of the archive's pictures has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Choice {
    /// A everywhere.
    A,
    /// B everywhere.
    B,
    /// A in the slices of one class, which are those with this number modulo `CLASSES`; B in the others. It tells where motion
    /// carried their marks to.
    Class(u8),
}

impl Choice {
    /// The variant of a slice, counted from the top, from 0.
    pub fn symbol(self, slice: u16) -> Symbol {
        match self {
            Choice::A => Symbol::A,
            Choice::B => Symbol::B,
            Choice::Class(class) if usize::from(slice) % CLASSES == usize::from(class) => Symbol::A,
            Choice::Class(_) => Symbol::B,
        }
    }
}

/// The archive, as far as the detector must know it.
pub trait References {
    /// All GOPs in question, in order of time, none overlapping.
    fn gops(&self) -> &[Gop];

    /// The pictures of a run of GOPs as a viewer with these variants saw them, at this size, each with its time on the
    /// archive's clock. The detector calls it a few times for each part of a copy, and reads several at once.
    ///
    /// # Errors
    /// When they cannot be had.
    fn pictures(
        &self,
        gops: Range<usize>,
        choice: Choice,
        width: usize,
        height: usize,
    ) -> Result<Pictures, PictureError>;

    /// Further encodings of the same pictures, on the same clock: with marks of their own, which stand for the same symbols.
    /// The copy may be of any.
    fn beside(&self) -> Vec<&dyn References> {
        Vec::new()
    }
}

/// The copy. It is read more than once, so that its length needs no memory.
pub trait Clip {
    /// All its pictures from the beginning, at this size.
    ///
    /// # Errors
    /// When they cannot be had.
    fn pictures(&self, width: usize, height: usize) -> Result<Pictures, PictureError>;
}
