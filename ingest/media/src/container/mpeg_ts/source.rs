//! What is read back from a CMAF segment: its samples, and what of its init sections a transport stream repeats.
//!
//! In: init sections and objects that `cmaf` wrote. Out: sample places and times, parameter sets, ADTS heads. Pure. These
//! are this program's own bytes; where they do not parse, what was read until then is all there is.

use super::packets::REFERENCE;
use super::pes::{ANY_PICTURE, HEAD_MAX, START_CODE};
use crate::bits::Bits;
use crate::container::cmaf::IDR_FLAGS;
use crate::unit::AAC_FRAME_SAMPLES;
use mp4_atom::{Codec, Decode, Ftyp, Moof, Moov, Trak};
use std::ops::Range;

/// Sample rates by their index (ISO/IEC 14496-3 table 1.18).
const RATES: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];
/// Bytes of an ADTS head without checksum.
const ADTS_BYTES: usize = 7;
/// The longest ADTS frame, head included: its length has 13 bits.
const ADTS_MAX: usize = 0x1fff;

/// One sample and where it lies in its object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// Decode time on the track's clock.
    pub(super) time: u64,
    /// Presentation minus decode time; 0 for audio.
    pub(super) composition: i32,
    /// An IDR picture.
    pub(super) idr: bool,
    /// Its bytes.
    pub(super) bytes: Range<usize>,
}

/// The samples of all fragments of a segment, in order.
pub(super) fn samples(object: &[u8]) -> Vec<Sample> {
    let (mut all, mut rest) = (Vec::new(), object);
    while let Ok(moof) = Moof::decode(&mut rest) {
        let head = object.len() - rest.len();
        let Some(mdat) = rest.first_chunk::<4>().map(|len| u32::from_be_bytes(*len) as usize) else { break };
        let Some(after) = rest.get(mdat.max(8)..) else { break };
        rest = after;
        let Some(traf) = moof.traf.first() else { continue };
        let mut time = traf.tfdt.as_ref().map_or(0, |tfdt| tfdt.base_media_decode_time);
        let usual = traf.tfhd.default_sample_duration.unwrap_or(AAC_FRAME_SAMPLES);
        let (mut at, end) = (head + 8, head + mdat.max(8));
        for entry in traf.trun.iter().flat_map(|run| run.samples.iter()) {
            let next = at.saturating_add(entry.size.unwrap_or(0) as usize);
            if next > end {
                break;
            }
            let composition = i32::try_from(entry.cts.unwrap_or(0)).unwrap_or(0);
            let idr = entry.flags == Some(IDR_FLAGS);
            all.push(Sample { time, composition, idr, bytes: at..next });
            time = time.saturating_add(entry.duration.unwrap_or(usual).into());
            at = next;
        }
    }
    all
}

/// What goes with pictures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pictures {
    /// Bytes of a NAL unit's length prefix.
    pub(super) length_size: usize,
    /// SPS and PPS, the marker's own among them.
    pub(super) sets: Vec<Vec<u8>>,
}

impl Pictures {
    pub(super) fn of_init(init: &[u8]) -> Option<Pictures> {
        let trak = track(init)?;
        let Codec::Avc1(avc1) = trak.mdia.minf.stbl.stsd.codecs.first()? else { return None };
        let record = &avc1.avcc;
        let sets = [&record.sequence_parameter_sets[..], &record.picture_parameter_sets].concat();
        Some(Pictures { length_size: record.length_size.into(), sets })
    }

    /// So many bytes of units behind their length prefixes, at most, where start codes stand for those.
    pub(super) fn bytes_max(&self, prefixed: usize) -> usize {
        let units = prefixed / (self.length_size + 1); // of a byte each
        prefixed + units * START_CODE.len().saturating_sub(self.length_size)
    }

    /// What a picture gets before its units at most: a head, a clock reference, a delimiter, the parameter sets.
    pub(super) fn more_max(&self) -> usize {
        let sets: usize = self.sets.iter().map(|set| START_CODE.len() + set.len()).sum();
        HEAD_MAX + REFERENCE + START_CODE.len() + ANY_PICTURE.len() + sets
    }
}

/// What goes with audio frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sounds {
    /// Samples a second.
    pub(super) rate: u32,
    rate_index: u8,
    channels: u8,
}

impl Sounds {
    /// What a frame gets before it at most: a head, a clock reference, its own ADTS head.
    pub(super) const MORE_MAX: usize = HEAD_MAX + REFERENCE + ADTS_BYTES;

    /// `None` where ADTS cannot say what the configuration says: a rate outside of the table, more than 3 bits of channels.
    pub(super) fn of_init(init: &[u8]) -> Option<Sounds> {
        let trak = track(init)?;
        let Codec::Mp4a(mp4a) = trak.mdia.minf.stbl.stsd.codecs.first()? else { return None };
        let rate = trak.mdia.mdhd.timescale;
        let rate_index = RATES.iter().position(|known| *known == rate)? as u8; // one of 13
        let mut asc = Bits::new(&mp4a.esds.es_desc.dec_config.dec_specific.as_ref()?.raw);
        asc.take(5)?; // the object type: AAC-LC, or SBR and PS, of which ADTS names the AAC-LC core
        if asc.take(4)? == 15 {
            asc.take(24)?;
        }
        let channels = asc.take(4).filter(|channels| (1..=7).contains(channels))? as u8;
        Some(Sounds { rate, rate_index, channels })
    }

    /// Adds a frame behind its ADTS head (ISO/IEC 13818-7 §6.2); one that is too long for it is left out.
    pub(super) fn put_frame(&self, to: &mut Vec<u8>, frame: &[u8]) {
        let len = frame.len() + ADTS_BYTES;
        if len > ADTS_MAX {
            return;
        }
        let (profile, len) = (1u8, len as u16); // AAC-LC
        to.extend([
            0xff,
            0xf1, // MPEG-4, no checksum
            profile << 6 | self.rate_index << 2 | self.channels >> 2,
            self.channels << 6 | (len >> 11) as u8,
            (len >> 3) as u8,
            (len << 5) as u8 | 0x1f, // with the next: no statement on the buffer
            0xfc,
        ]);
        to.extend_from_slice(frame);
    }
}

fn track(init: &[u8]) -> Option<Trak> {
    let mut rest = init;
    Ftyp::decode(&mut rest).ok()?;
    Moov::decode(&mut rest).ok()?.trak.into_iter().next()
}
