//! The little that the tracer reads of CMAF: how large pictures are, and how long after its decode time an IDR is shown.
//!
//! In: an init section or a segment of a video track. Out: numbers, or `None` for what is not laid out as ours are. Pure.

/// Width and height of the shown picture, from an init section's `avc1` box.
pub fn picture_size(init: &[u8]) -> Option<(u16, u16)> {
    let at = init.windows(4).position(|word| word == b"avc1")? + 4 + 24;
    let side = |at: usize| Some(u16::from_be_bytes([*init.get(at)?, *init.get(at + 1)?]));
    Some((side(at)?, side(at + 2)?)).filter(|&(width, height)| width > 0 && height > 0)
}

/// Composition offset of the first sample of a segment, in the track's ticks.
pub fn first_composition(segment: &[u8]) -> Option<i64> {
    let moof = inside(segment, b"moof")?;
    let trun = inside(inside(moof, b"traf")?, b"trun")?;
    let word = |at: usize| Some(u32::from_be_bytes(*trun.get(at..)?.first_chunk::<4>()?));
    let flags = word(0)?;
    if word(4)? == 0 {
        return None;
    }
    if flags & 0x800 == 0 {
        return Some(0);
    }
    // Version and flags, count, then what the flags say: data offset, flags of the first sample; of each sample before its
    // composition offset its duration, size and flags.
    let before = [0x1, 0x4, 0x100, 0x200, 0x400].iter().filter(|&&bit| flags & bit != 0).count();
    let offset = word(8 + 4 * before)?;
    Some(if flags >> 24 == 0 { i64::from(offset) } else { i64::from(offset as i32) })
}

/// The content of the first box of this kind.
fn inside<'a>(mut boxes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    loop {
        let len = u32::from_be_bytes(*boxes.first_chunk::<4>()?) as usize;
        let content = boxes.get(8..len)?;
        if &boxes[4..8] == kind {
            return Some(content);
        }
        boxes = &boxes[len..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes()[..], kind, content].concat()
    }

    #[test]
    fn the_first_offset_is_found_behind_what_stands_before_it() {
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>();
        let segment = |trun: &[u32]| {
            let traf = [boxed(b"tfhd", &[0; 8]), boxed(b"trun", &words(trun))].concat();
            [boxed(b"styp", b"x"), boxed(b"moof", &boxed(b"traf", &traf))].concat()
        };
        let minus = 0x0100_0f01u32;
        assert_eq!(
            first_composition(&segment(&[minus, 1, 99, 3_000, 10, 0, -6_000i32 as u32])),
            Some(-6_000)
        );
        assert_eq!(first_composition(&segment(&[0x0000_0f01, 1, 99, 3_000, 10, 0, 6_000])), Some(6_000));
        assert_eq!(first_composition(&segment(&[0x0000_0201, 1, 99, 10])), Some(0));
        assert_eq!(first_composition(&segment(&[0x0000_0f01, 0, 99])), None);
        assert_eq!(first_composition(b"\0\0\0\x08moof"), None);
        assert_eq!(first_composition(b"\0\0\0\0moof"), None);
    }

    #[test]
    fn sizes_are_those_of_the_sample_entry() {
        let mut entry = vec![0; 28];
        entry[24..28].copy_from_slice(&[0x05, 0x00, 0x02, 0xd0]);
        assert_eq!(picture_size(&boxed(b"avc1", &entry)), Some((1280, 720)));
        assert_eq!(picture_size(b"nothing"), None);
    }
}
