//! What each viewer's copy of a segment must be: both variants of it, cut at the slices that differ, put together by the symbols
//! of the viewer's codeword.
//!
//! In: variants A and B, as fragmented MP4 or MPEG-TS, and symbols. Out: the copy that they say. Pure, and written apart from the
//! programs on purpose.

use crate::mp4;
use anyhow::{Context, Result, ensure};
use std::ops::Range;

/// Types of NAL units (ISO/IEC 14496-10 table 7-1): a slice of an IDR picture, and the filler that makes two equally long.
const IDR: u8 = 5;
const FILLER: u8 = 12;

/// Where a slice of a picture lies, with the filler behind it: in one piece in MP4, in the payloads of its packets in MPEG-TS.
type Slice = Vec<Range<usize>>;

/// Both variants of a segment.
#[derive(Debug)]
pub(super) struct Pair {
    a: Vec<u8>,
    b: Vec<u8>,
    slices: Vec<Slice>,
}

impl Pair {
    /// Both variants of a segment of fragmented MP4.
    ///
    /// # Errors
    /// When it is none, or the two differ elsewhere than in IDR slices.
    pub(super) fn of_mp4(a: Vec<u8>, b: Vec<u8>) -> Result<Pair> {
        let slices = slices_of_mp4(&a)?;
        ensure!(slices == slices_of_mp4(&b)?, "the slices of A and B lie elsewhere in MP4");
        Pair { a, b, slices }.checked()
    }

    /// The same as MPEG-TS.
    ///
    /// # Errors
    /// As `of_mp4`.
    pub(super) fn of_ts(a: Vec<u8>, b: Vec<u8>) -> Result<Pair> {
        let slices = slices_of_ts(&a)?;
        ensure!(slices == slices_of_ts(&b)?, "the slices of A and B lie elsewhere in MPEG-TS");
        Pair { a, b, slices }.checked()
    }

    fn checked(self) -> Result<Pair> {
        ensure!(self.a.len() == self.b.len(), "A has {} bytes, B {}", self.a.len(), self.b.len());
        let mut of_slices = vec![false; self.a.len()];
        for range in self.slices.iter().flatten() {
            of_slices[range.clone()].fill(true);
        }
        let bytes = self.a.iter().zip(&self.b).zip(&of_slices);
        let elsewhere = bytes.enumerate().find(|(_, ((a, b), of_slice))| a != b && !**of_slice);
        ensure!(
            elsewhere.is_none(),
            "A and B differ outside of IDR slices: {:?}",
            elsewhere.map(|(at, _)| at)
        );
        Ok(self)
    }

    /// The copy of whoever has these symbols, one a slice.
    ///
    /// # Errors
    /// When there are more or fewer.
    pub(super) fn copy(&self, symbols: &str) -> Result<Vec<u8>> {
        ensure!(symbols.len() == self.slices.len(), "{} slices, symbols {symbols:?}", self.slices.len());
        let mut copy = self.a.clone();
        for (slice, symbol) in self.slices.iter().zip(symbols.chars()) {
            ensure!(matches!(symbol, 'A' | 'B'), "symbol {symbol:?}");
            for range in slice.iter().filter(|_| symbol == 'B') {
                copy[range.clone()].copy_from_slice(&self.b[range.clone()]);
            }
        }
        Ok(copy)
    }

    /// In how many slices the two differ.
    pub(super) fn differing(&self) -> usize {
        let differ = |range: &Range<usize>| self.a[range.clone()] != self.b[range.clone()];
        self.slices.iter().filter(|slice| slice.iter().any(differ)).count()
    }
}

/// The IDR slices of a segment of fragmented MP4, in order.
fn slices_of_mp4(segment: &[u8]) -> Result<Vec<Slice>> {
    let (mut media, mut at) = (Vec::new(), 0);
    for (kind, body) in mp4::boxes(segment)? {
        if kind == b"mdat" {
            media.push(at + 8);
        }
        at += 8 + body.len();
    }
    let mut slices: Vec<Slice> = Vec::new();
    for (fragment, mut at) in mp4::fragments(segment)?.iter().zip(media) {
        for sample in &fragment.samples {
            for nal in mp4::nals(&sample.data)? {
                let end = at + 4 + nal.len();
                match (mp4::nal_type(nal), slices.last_mut().and_then(|slice| slice.last_mut())) {
                    (IDR, _) => slices.push(std::iter::once(at..end).collect()),
                    (FILLER, Some(range)) if range.end == at => range.end = end,
                    _ => {}
                }
                at = end;
            }
        }
    }
    Ok(slices)
}

/// Bytes of a packet (ISO/IEC 13818-1 §2.4.3.2).
const PACKET: usize = 188;

/// The IDR slices of the video of an MPEG-TS segment, in order (ISO/IEC 14496-10 annex B: between start codes).
fn slices_of_ts(segment: &[u8]) -> Result<Vec<Slice>> {
    ensure!(
        segment.len().is_multiple_of(PACKET) && !segment.is_empty(),
        "{} bytes of packets",
        segment.len()
    );
    // The payload of the video's packets, each byte with its place.
    let (mut video, mut payload) = (None, Vec::new());
    for (number, packet) in segment.chunks_exact(PACKET).enumerate() {
        ensure!(packet[0] == 0x47, "no packet at {}", number * PACKET);
        let (begins, id) = (packet[1] & 0x40 != 0, u16::from(packet[1] & 0x1f) << 8 | u16::from(packet[2]));
        let from = match packet[3] >> 4 & 3 {
            1 => 4,
            3 => 5 + usize::from(packet[4]),
            _ => continue, // no payload
        };
        ensure!(from <= PACKET, "an adaptation field longer than its packet");
        let body = &packet[from..];
        if begins && video.is_none() && body.len() > 3 && body[..3] == [0, 0, 1] && body[3] >> 4 == 0xe {
            video = Some(id);
        }
        if video == Some(id) {
            payload.extend((from..PACKET).map(|at| number * PACKET + at));
        }
    }
    ensure!(video.is_some(), "no video");
    let byte = |at: usize| payload.get(at).map(|&place| segment[place]);
    let mut starts: Vec<usize> = Vec::new();
    for at in 0..payload.len().saturating_sub(3) {
        if (byte(at), byte(at + 1), byte(at + 2)) == (Some(0), Some(0), Some(1)) {
            starts.push(at);
        }
    }
    starts.push(payload.len());
    let (mut slices, mut in_slice): (Vec<Slice>, bool) = (Vec::new(), false);
    for two in starts.windows(2) {
        // The head of a PES packet begins like a unit: its fourth byte is no type of one.
        let kind = byte(two[0] + 3).context("a start code at the end")?;
        match kind & 0x9f {
            IDR => slices.push(Vec::new()),
            FILLER if in_slice => {}
            _ => {
                in_slice = false;
                continue;
            }
        }
        in_slice = true;
        let slice = slices.last_mut().context("a slice has begun")?;
        for &place in &payload[two[0]..two[1]] {
            match slice.last_mut() {
                Some(range) if range.end == place => range.end += 1,
                _ => slice.push(place..place + 1),
            }
        }
    }
    Ok(slices)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of one program's video: a PES head, then units cut at will.
    fn packets(units: &[&[u8]]) -> Vec<u8> {
        let mut stream = vec![0, 0, 1, 0xe0, 0, 0, 0x80, 0, 0];
        for unit in units {
            stream.extend_from_slice(&[0, 0, 1]);
            stream.extend_from_slice(unit);
        }
        let mut packets = Vec::new();
        for (number, chunk) in stream.chunks(150).enumerate() {
            let stuffing = PACKET - 5 - chunk.len();
            let begins = if number == 0 { 0x40 } else { 0 };
            packets.extend_from_slice(&[0x47, begins | 1, 0, 0x30, stuffing as u8]);
            packets.extend(vec![0xff; stuffing]);
            packets.extend_from_slice(chunk);
            packets.extend_from_slice(&[0x47, 1, 1, 0x10]); // another one's
            packets.extend(vec![0x65; PACKET - 4]);
        }
        packets
    }

    #[test]
    fn a_copy_is_put_together_slice_by_slice() {
        let unit = |fill: u8| [&[0x65][..], &[fill; 200]].concat();
        let of =
            |one: u8, two: u8| packets(&[&[0x67, 1, 2], &unit(one), &[12, one], &unit(two), &[0x41, 9, 9]]);
        let pair = Pair::of_ts(of(0xa1, 0xa2), of(0xb1, 0xb2)).unwrap();
        assert_eq!(pair.differing(), 2);
        assert_eq!(pair.copy("AA").unwrap(), of(0xa1, 0xa2));
        assert_eq!(pair.copy("AB").unwrap(), of(0xa1, 0xb2));
        assert_eq!(pair.copy("BA").unwrap(), of(0xb1, 0xa2));
        assert_eq!(pair.copy("BB").unwrap(), of(0xb1, 0xb2));
        assert!(pair.copy("A").is_err() && pair.copy("AAB").is_err() && pair.copy("A?").is_err());
    }

    #[test]
    fn two_that_differ_elsewhere_are_no_pair() {
        let unit = [&[0x65][..], &[7; 20]].concat();
        let a = packets(&[&unit, &[0x41, 9, 9]]);
        let b = packets(&[&unit, &[0x41, 9, 8]]);
        assert!(Pair::of_ts(a, b).unwrap_err().to_string().contains("outside of IDR slices"));
    }
}
