//! CMAF boxes: the init section of a track and the head of each fragment (ISO/IEC 14496-12, 23000-19).
//!
//! In: a configuration, or the samples of one part of one track. Out: bytes. Pure.
//!
//! ```text
//! init                                       fragment (a CMAF chunk)
//! ├ ftyp iso6, cmfc                          ├ moof
//! └ moov                                     │ ├ mfhd   sequence number: a function of segment and part
//!   ├ mvhd                                   │ └ traf
//!   ├ trak                                   │   ├ tfhd default-base-is-moof
//!   │ ├ tkhd                                 │   ├ tfdt 64-bit decode time
//!   │ └ mdia mdhd hdlr minf                  │   └ trun version 1: signed composition offsets
//!   │   └ stbl stsd what the codec says      └ mdat
//!   └ mvex trex                                  the samples
//! ```
//!
//! There is no edit list: composition offsets go as received, so audio and video keep the distance the publisher gave
//! them. Creation times are 0: nothing here may differ between two nodes.

use crate::config::dops;
use crate::unit::{AAC_FRAME_SAMPLES, AudioCoding, AudioConfig, VideoCoding, VideoConfig};
use bytes::{BufMut, Bytes, BytesMut};
use ingest_api::Track;
use mp4_atom::{
    Atom, Audio, Av01, Av1c, Avc1, Avcc, Codec, Decode, Dinf, Dref, DrefEntry, Encode, FourCC, Ftyp, Hdlr,
    Hvc1, Hvcc, Mdhd, Mdia, Mfhd, Minf, Moof, Moov, Mp4a, Mvex, Mvhd, Opus, Smhd, Stbl, Stco, Stsd, Tfdt,
    Tfhd, Tkhd, Traf, Trak, Trex, Trun, TrunEntry, TrunSamples, Visual, Vmhd, esds,
};
use thiserror::Error;

/// Ticks in a second of a video track.
pub const VIDEO_TIMESCALE: u32 = 90_000;

/// Track id in every file: each holds one track.
const TRACK_ID: u32 = 1;
/// `sample_depends_on` = 2: an IDR depends on nothing.
pub(super) const IDR_FLAGS: u32 = 0x0200_0000;
/// `sample_depends_on` = 1, `sample_is_non_sync_sample`.
const INTER_FLAGS: u32 = 0x0101_0000;

/// A configuration whose boxes do not fit their fields.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no init section can be made of this configuration: {0}")]
pub struct InitError(String);

/// One sample of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// In the track's timescale.
    pub duration: u32,
    /// In bytes.
    pub size: u32,
    /// Presentation minus decode time, in the track's timescale; 0 for audio.
    pub composition: i32,
    /// Decodable alone: IDR pictures, and all audio.
    pub sync: bool,
}

/// The init section of a video track.
///
/// # Errors
/// A record that its own parser took but the box writer does not.
pub fn video_init(config: &VideoConfig) -> Result<Bytes, InitError> {
    // The writer wants the record as fields; the marker's PPS may be among them.
    let mut record = &config.record[..];
    let side = |side: u32| u16::try_from(side).map_err(|_| InitError(format!("a side of {side} samples")));
    let (width, height) = (side(config.width)?, side(config.height)?);
    let visual = Visual { data_reference_index: 1, width, height, ..Visual::default() };
    let codec = match config.coding {
        VideoCoding::H264 => {
            let avcc = Avcc::decode_body(&mut record).map_err(failed)?;
            let (btrt, colr, pasp, taic, fiel, spatial) = (None, None, None, None, None, None);
            Codec::Avc1(Avc1 { visual, avcc, btrt, colr, pasp, taic, fiel, spatial })
        }
        VideoCoding::Hevc => {
            let hvcc = Hvcc::decode_body(&mut record).map_err(failed)?;
            Codec::Hvc1(Hvc1 { visual, hvcc, ..Hvc1::default() })
        }
        VideoCoding::Av1 => {
            let av1c = Av1c::decode_body(&mut record).map_err(failed)?;
            Codec::Av01(Av01 { visual, av1c, ..Av01::default() })
        }
    };
    let tkhd = Tkhd { width: width.into(), height: height.into(), ..track_head(Track::Video) };
    let minf = Minf { vmhd: Some(Vmhd::default()), ..media(codec) };
    init(tkhd, VIDEO_TIMESCALE, b"vide", minf)
}

/// The init section of an audio track.
///
/// # Errors
/// Values that no box can hold; `AudioConfig::of` lets none through.
pub fn audio_init(config: &AudioConfig) -> Result<Bytes, InitError> {
    let channel_count = u16::try_from(config.channels).map_err(failed)?;
    // 16 bits hold no rate over 65,535 Hz; 0 sends readers to the timescale, as ffmpeg writes it too.
    let sample_rate = u16::try_from(config.sample_rate).unwrap_or(0).into();
    let audio = Audio { data_reference_index: 1, channel_count, sample_size: 16, sample_rate };
    let codec = match config.coding {
        AudioCoding::Aac => Codec::Mp4a(Mp4a { audio, esds: aac(config), btrt: None, taic: None }),
        AudioCoding::Opus => {
            let dops = dops(&config.record).map_err(failed)?;
            Codec::Opus(Opus { audio, dops, btrt: None })
        }
    };
    let minf = Minf { smhd: Some(Smhd::default()), ..media(codec) };
    init(track_head(Track::AUDIO), config.sample_rate, b"soun", minf)
}

fn aac(config: &AudioConfig) -> esds::Esds {
    let specific =
        esds::DecoderSpecific { profile: 0, freq_index: 0, chan_conf: 0, raw: config.record.to_vec() };
    let dec_config = esds::DecoderConfig {
        object_type_indication: 0x40,
        stream_type: 5,
        dec_specific: Some(specific),
        ..esds::DecoderConfig::default()
    };
    esds::Esds { es_desc: esds::EsDescriptor { es_id: 0, dec_config, ..esds::EsDescriptor::default() } }
}

fn track_head(track: Track) -> Tkhd {
    let volume = if track.is_audio() { 1u8 } else { 0 };
    Tkhd { track_id: TRACK_ID, enabled: true, in_movie: true, volume: volume.into(), ..Tkhd::default() }
}

fn media(codec: Codec) -> Minf {
    let here = DrefEntry::Url(Default::default());
    Minf {
        dinf: Dinf { dref: Dref { entries: vec![here] } },
        stbl: Stbl { stsd: Stsd { codecs: vec![codec] }, stco: Some(Stco::default()), ..Stbl::default() },
        ..Minf::default()
    }
}

fn init(tkhd: Tkhd, timescale: u32, handler: &[u8; 4], minf: Minf) -> Result<Bytes, InitError> {
    let brands: [&[u8; 4]; 3] = [b"iso6", b"cmfc", b"mp41"];
    let ftyp = Ftyp {
        major_brand: FourCC::new(b"iso6"),
        minor_version: 0,
        compatible_brands: brands.into_iter().map(FourCC::new).collect(),
    };
    let mdhd = Mdhd { timescale, language: "und".to_owned(), ..Mdhd::default() };
    let hdlr = Hdlr { handler: FourCC::new(handler), name: String::new() };
    let trex = Trex { track_id: TRACK_ID, default_sample_description_index: 1, ..Trex::default() };
    let moov = Moov {
        mvhd: Mvhd {
            timescale,
            rate: 1.into(),
            volume: 1.into(),
            next_track_id: TRACK_ID + 1,
            ..Mvhd::default()
        },
        trak: vec![Trak { tkhd, mdia: Mdia { mdhd, hdlr, minf }, ..Trak::default() }],
        mvex: Some(Mvex { mehd: None, trex: vec![trex] }),
        ..Moov::default()
    };
    let mut out = Vec::new();
    ftyp.encode(&mut out).map_err(failed)?;
    moov.encode(&mut out).map_err(failed)?;
    Ok(out.into())
}

fn failed(error: impl std::fmt::Display) -> InitError {
    InitError(error.to_string())
}

/// `moof` and the head of `mdat`; the samples' bytes follow.
///
/// `sequence` is any number that grows within a segment; `decode_time` is the first sample's, in the track's timescale.
/// No samples make an empty fragment: it holds a number's place.
pub fn fragment_head(track: Track, sequence: u32, decode_time: u64, samples: &[Sample]) -> Bytes {
    let payload: u64 = samples.iter().map(|sample| u64::from(sample.size)).sum();
    let mdat = u32::try_from(payload + 8).expect("a segment is at most OBJECT_BYTES_MAX, far below 4 GiB");
    let draft = moof(track, sequence, decode_time, samples, 0);
    // Its length does not depend on the offset: the second pass only fills it in.
    let offset =
        i32::try_from(draft.len() + 8).expect("a part holds at most SAMPLES_MAX samples of 16 bytes");
    let mut out = BytesMut::from(&moof(track, sequence, decode_time, samples, offset)[..]);
    out.put_u32(mdat);
    out.put_slice(b"mdat");
    out.freeze()
}

fn moof(track: Track, sequence: u32, decode_time: u64, samples: &[Sample], offset: i32) -> Vec<u8> {
    let first = samples.first().map_or(AAC_FRAME_SAMPLES, |sample| sample.duration);
    let alike = samples.iter().all(|sample| sample.duration == first);
    let usual = (track.is_audio() && alike).then_some(first);
    let entry = |sample: &Sample| TrunEntry {
        duration: usual.is_none().then_some(sample.duration),
        size: Some(sample.size),
        flags: (!track.is_audio()).then_some(if sample.sync { IDR_FLAGS } else { INTER_FLAGS }),
        cts: (!track.is_audio()).then_some(i64::from(sample.composition)),
    };
    let entries: Vec<TrunEntry> = samples.iter().map(entry).collect();
    let run = Trun { data_offset: Some(offset), samples: TrunSamples::Explicit(entries) };
    let tfhd = Tfhd {
        track_id: TRACK_ID,
        default_sample_duration: usual,
        default_sample_flags: track.is_audio().then_some(IDR_FLAGS),
        default_base_is_moof: true,
        ..Tfhd::default()
    };
    let traf = Traf {
        tfhd,
        tfdt: Some(Tfdt { base_media_decode_time: decode_time }),
        trun: if samples.is_empty() { Vec::new() } else { vec![run] },
        ..Traf::default()
    };
    let moof = Moof { mfhd: Mfhd { sequence_number: sequence }, traf: vec![traf] };
    let mut out = Vec::with_capacity(128 + samples.len() * 16);
    moof.encode(&mut out).expect("every field has its box's type and a Vec takes any length");
    out
}

/// Reads back what `fragment_head` wrote; for tests and tools.
///
/// # Errors
/// What mp4-atom says.
pub fn read_fragment_head(bytes: &[u8]) -> Result<Moof, mp4_atom::Error> {
    Moof::decode(&mut &bytes[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_signs_and_flags_come_back() {
        let samples = [
            Sample { duration: 3_000, size: 10, composition: 6_000, sync: true },
            Sample { duration: 3_000, size: 20, composition: -3_000, sync: false },
        ];
        let head = fragment_head(Track::Video, 7, 1 << 40, &samples);
        let moof = read_fragment_head(&head).unwrap();
        let traf = &moof.traf[0];
        assert_eq!(moof.mfhd.sequence_number, 7);
        assert_eq!(traf.tfdt.as_ref().unwrap().base_media_decode_time, 1 << 40);
        assert!(traf.tfhd.default_base_is_moof);
        assert_eq!(traf.trun[0].data_offset, Some(head.len() as i32));
        let entries: Vec<_> = traf.trun[0].samples.iter().collect();
        assert_eq!((entries[0].cts, entries[0].flags), (Some(6_000), Some(IDR_FLAGS)));
        assert_eq!((entries[1].cts, entries[1].flags), (Some(-3_000), Some(INTER_FLAGS)));
        assert_eq!(head[head.len() - 8..], [0, 0, 0, 38, b'm', b'd', b'a', b't']);
    }

    #[test]
    fn usual_audio_durations_are_written_once_and_unusual_ones_each() {
        let sample = |duration| Sample { duration, size: 9, composition: 0, sync: true };
        let usual = fragment_head(Track::AUDIO, 1, 0, &[sample(1_024); 20]);
        let gap = fragment_head(Track::AUDIO, 1, 0, &[sample(1_024), sample(5_000)]);
        let read = read_fragment_head(&usual).unwrap();
        assert_eq!(read.traf[0].tfhd.default_sample_duration, Some(1_024));
        assert_eq!(read.traf[0].trun[0].samples.iter().next().unwrap().duration, None);
        let read = read_fragment_head(&gap).unwrap();
        assert_eq!(read.traf[0].trun[0].samples.iter().nth(1).unwrap().duration, Some(5_000));
        assert!(read_fragment_head(&fragment_head(Track::AUDIO, 1, 5, &[])).unwrap().traf[0].trun.is_empty());
    }
}
