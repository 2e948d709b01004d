//! The few facts of a sequence parameter set that a playlist and an init section name (ITU-T H.264 §7.3.2.1.1, E.1.1).
//!
//! In: an SPS NAL unit with its one-byte head. Out: picture size and rate, or what is wrong. Pure, total.

use super::SIDE_MAX;
use crate::bits::{Bits, unescaped};

/// Size and rate of the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Frames in 1,000 seconds; 0 where the SPS does not say.
    pub(super) millihertz: u32,
}

impl Picture {
    pub(super) fn of_sps(nal: &[u8]) -> Result<Picture, &'static str> {
        let raw = unescaped(nal.get(1..).unwrap_or_default());
        read(&mut Bits::new(&raw)).unwrap_or(Err("the SPS ends early or holds an impossible number"))
    }
}

/// `None` where the bits end or are no number.
fn read(bits: &mut Bits<'_>) -> Option<Result<Picture, &'static str>> {
    let profile = bits.take(8)?;
    bits.take(16)?;
    if bits.unsigned()? > 31 {
        return Some(Err("an SPS id over 31"));
    }
    let mut chroma = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma = bits.unsigned()?;
        if chroma > 3 {
            return Some(Err("a chroma format over 3"));
        }
        if chroma == 3 {
            bits.bit()?;
        }
        bits.unsigned()?;
        bits.unsigned()?;
        bits.bit()?;
        if bits.bit()? {
            scaling_lists(bits, if chroma == 3 { 12 } else { 8 })?;
        }
    }
    bits.unsigned()?;
    match bits.unsigned()? {
        0 => {
            bits.unsigned()?;
        }
        1 => {
            bits.bit()?;
            bits.signed()?;
            bits.signed()?;
            let cycle = bits.unsigned()?;
            if cycle > 255 {
                return Some(Err("a picture order cycle over 255"));
            }
            for _ in 0..cycle {
                bits.signed()?;
            }
        }
        2 => {}
        _ => return Some(Err("a picture order count type over 2")),
    }
    bits.unsigned()?;
    bits.bit()?;
    let width = u64::from(bits.unsigned()?) * 16 + 16;
    let rows = u64::from(bits.unsigned()?) * 16 + 16;
    let frames_only = bits.bit()?;
    let fields = if frames_only { 1 } else { 2 };
    if !frames_only {
        bits.bit()?;
    }
    bits.bit()?;
    let height = rows * fields;
    let mut cropped = (0, 0);
    if bits.bit()? {
        let unit_x = if matches!(chroma, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma == 1 { 2 } else { 1 } * fields;
        let (left, right) = (u64::from(bits.unsigned()?), u64::from(bits.unsigned()?));
        let (top, bottom) = (u64::from(bits.unsigned()?), u64::from(bits.unsigned()?));
        cropped = ((left + right) * unit_x, (top + bottom) * unit_y);
    }
    let sane = |whole: u64, cut: u64| {
        let left = u32::try_from(whole.checked_sub(cut)?).ok()?;
        (1..=SIDE_MAX).contains(&left).then_some(left)
    };
    let (Some(width), Some(height)) = (sane(width, cropped.0), sane(height, cropped.1)) else {
        return Some(Err("the picture has no usable size"));
    };
    // A VUI that ends early costs only the frame rate.
    Some(Ok(Picture { width, height, millihertz: frame_rate(bits).unwrap_or(0) }))
}

fn scaling_lists(bits: &mut Bits<'_>, count: usize) -> Option<()> {
    for list in 0..count {
        if !bits.bit()? {
            continue;
        }
        let mut next = 8i64;
        for _ in 0..if list < 6 { 16 } else { 64 } {
            next = (next + bits.signed()?).rem_euclid(256);
            if next == 0 {
                break;
            }
        }
    }
    Some(())
}

/// Frames in 1,000 seconds of the VUI's timing: two ticks a frame.
fn frame_rate(bits: &mut Bits<'_>) -> Option<u32> {
    if !bits.bit()? {
        return None;
    }
    if bits.bit()? && bits.take(8)? == 255 {
        bits.take(32)?;
    }
    if bits.bit()? {
        bits.bit()?;
    }
    if bits.bit()? {
        bits.take(4)?;
        if bits.bit()? {
            bits.take(24)?;
        }
    }
    if bits.bit()? {
        bits.unsigned()?;
        bits.unsigned()?;
    }
    if !bits.bit()? {
        return None;
    }
    let (tick, scale) = (u64::from(bits.take(32)?), u64::from(bits.take(32)?));
    let millihertz = (scale * 1000).checked_div(tick * 2)?;
    // Beyond 1,000 frames a second the field is noise.
    u32::try_from(millihertz).ok().filter(|rate| *rate <= 1_000_000)
}
