//! Fragmented MP4 as a player reads it (ISO/IEC 14496-12, 14496-15): init sections and segments to samples.
//!
//! In: bytes of an init section or a segment. Out: `Init`, `Fragment`s of `Sample`s, NAL units. Pure, and written apart from
//! the programs on purpose: what the writer believes of the format is not what judges it.

use anyhow::{Context, Result, bail, ensure};

/// What an init section says of its only track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Init {
    /// Ticks in a second.
    pub timescale: u32,
    /// `vide` or `soun`.
    pub handler: [u8; 4],
    /// The body of `avcC`, `hvcC`, `av1C` or `dOps`, or the AudioSpecificConfig of `esds`.
    pub config: Vec<u8>,
}

/// One `moof` with its media data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fragment {
    /// `mfhd` sequence number.
    pub sequence: u32,
    /// `tfdt`: decode time of the first sample, in ticks.
    pub tfdt: u64,
    /// Its samples in decode order.
    pub samples: Vec<Sample>,
}

/// One access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Decode time, in ticks.
    pub dts: u64,
    /// Presentation minus decode time, in ticks.
    pub cts: i64,
    /// Length, in ticks.
    pub duration: u32,
    /// Whether it can be decoded by itself.
    pub sync: bool,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// The children of a box, in order.
pub(crate) fn boxes(mut rest: &[u8]) -> Result<Vec<(&[u8], &[u8])>> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let size = be32(rest, 0)? as usize;
        ensure!(size >= 8 && size <= rest.len(), "a box of {size} bytes in {}", rest.len());
        found.push((&rest[4..8], &rest[8..size]));
        rest = &rest[size..];
    }
    Ok(found)
}

/// The only child of that kind.
fn child<'a>(body: &'a [u8], kind: &str) -> Result<&'a [u8]> {
    let mut all = boxes(body)?.into_iter().filter(|(name, _)| *name == kind.as_bytes());
    let (_, first) = all.next().with_context(|| format!("no {kind}"))?;
    ensure!(all.next().is_none(), "more than one {kind}");
    Ok(first)
}

fn path<'a>(body: &'a [u8], kinds: &[&str]) -> Result<&'a [u8]> {
    kinds.iter().try_fold(body, |body, kind| child(body, kind))
}

fn be32(bytes: &[u8], at: usize) -> Result<u32> {
    let four = bytes.get(at..at + 4).with_context(|| format!("cut at byte {at}"))?;
    Ok(u32::from_be_bytes(four.try_into()?))
}

fn be64(bytes: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from(be32(bytes, at)?) << 32 | u64::from(be32(bytes, at + 4)?))
}

impl Init {
    /// Reads an init section.
    ///
    /// # Errors
    /// Says which box is missing or cut.
    pub fn parse(bytes: &[u8]) -> Result<Init> {
        let media = path(bytes, &["moov", "trak", "mdia"])?;
        ensure!(path(bytes, &["moov", "trak"])?.windows(4).all(|four| four != b"elst"), "an edit list");
        let header = child(media, "mdhd")?;
        let timescale = be32(header, if header.first() == Some(&1) { 20 } else { 12 })?;
        let handler = child(media, "hdlr")?.get(8..12).context("cut hdlr")?.try_into()?;
        let entries = path(media, &["minf", "stbl", "stsd"])?.get(8..).context("cut stsd")?;
        let all = boxes(entries)?;
        let [(kind, entry)] = all[..] else { bail!("{} sample entries", all.len()) };
        let config = match kind {
            b"avc1" | b"encv" => child(entry.get(78..).context("cut avc1")?, "avcC")?.to_vec(),
            b"hvc1" => child(entry.get(78..).context("cut hvc1")?, "hvcC")?.to_vec(),
            b"av01" => child(entry.get(78..).context("cut av01")?, "av1C")?.to_vec(),
            b"Opus" => child(entry.get(28..).context("cut Opus")?, "dOps")?.to_vec(),
            b"mp4a" | b"enca" => specific(child(entry.get(28..).context("cut mp4a")?, "esds")?)?,
            other => bail!("sample entry {:?}", String::from_utf8_lossy(other)),
        };
        Ok(Init { timescale, handler, config })
    }
}

/// The DecoderSpecificInfo in an `esds` (14496-1): descriptors 3, 4, 5 inside each other.
fn specific(esds: &[u8]) -> Result<Vec<u8>> {
    let mut rest = esds.get(4..).context("cut esds")?;
    for (tag, head) in [(3, 3), (4, 13), (5, 0)] {
        ensure!(rest.first() == Some(&tag), "no descriptor {tag} in esds");
        let (mut at, mut length) = (1, 0usize);
        loop {
            let byte = *rest.get(at).context("cut descriptor")?;
            (at, length) = (at + 1, length << 7 | usize::from(byte & 0x7f));
            if byte & 0x80 == 0 {
                break;
            }
        }
        rest = rest.get(at + head..at + length).context("cut descriptor")?;
    }
    Ok(rest.to_vec())
}

/// Reads a segment: one fragment or more.
///
/// # Errors
/// Says which box is missing, cut or strange.
pub fn fragments(segment: &[u8]) -> Result<Vec<Fragment>> {
    let (mut found, mut at) = (Vec::new(), 0);
    let mut moof: Option<(usize, &[u8])> = None;
    for (kind, body) in boxes(segment)? {
        match kind {
            b"moof" => moof = Some((at, body)),
            b"mdat" => {
                let (start, head) = moof.take().context("an mdat without its moof")?;
                let data = at + 8..at + 8 + body.len();
                found.push(fragment(head, &segment[start..data.end], data.start - start)?);
            }
            b"styp" | b"prft" | b"sidx" | b"emsg" => {}
            other => bail!("a {:?} in a segment", String::from_utf8_lossy(other)),
        }
        at += 8 + body.len();
    }
    ensure!(moof.is_none() && !found.is_empty(), "a segment without media data");
    Ok(found)
}

fn fragment(moof: &[u8], whole: &[u8], data_at: usize) -> Result<Fragment> {
    let sequence = be32(child(moof, "mfhd")?, 4)?;
    let traf = child(moof, "traf")?;
    let head = child(traf, "tfhd")?;
    let flags = be32(head, 0)? & 0xff_ffff;
    let mut at = 8 + 8 * (flags & 1) as usize + 4 * (flags >> 1 & 1) as usize;
    let mut default = |bit: u32| -> Result<u32> {
        if flags & bit == 0 {
            return Ok(0);
        }
        at += 4;
        be32(head, at - 4)
    };
    let (duration, size, sample_flags) = (default(8)?, default(16)?, default(32)?);
    let time = child(traf, "tfdt")?;
    let tfdt = if time.first() == Some(&1) { be64(time, 4)? } else { u64::from(be32(time, 4)?) };

    // None is a fragment without samples (14496-12 §8.8.6): a part that was cut before its first audio frame.
    let Ok(run) = child(traf, "trun") else {
        ensure!(data_at == whole.len(), "{} bytes of media data and no trun", whole.len() - data_at);
        return Ok(Fragment { sequence, tfdt, samples: Vec::new() });
    };
    let (version, flags) = (run.first().copied().context("cut trun")?, be32(run, 0)? & 0xff_ffff);
    let (count, mut at) = (be32(run, 4)?, 8);
    let mut next = |bit: u32| -> Result<Option<u32>> {
        if flags & bit == 0 {
            return Ok(None);
        }
        at += 4;
        be32(run, at - 4).map(Some)
    };
    let offset = next(1)?.context("a trun without data offset")?;
    ensure!(offset as usize == data_at, "data offset {offset}, media data at {data_at}");
    let first_flags = next(4)?;
    let (mut samples, mut dts, mut from) = (Vec::new(), tfdt, offset as usize);
    for index in 0..count {
        let duration = next(0x100)?.unwrap_or(duration);
        let size = next(0x200)?.unwrap_or(size) as usize;
        let own_flags = next(0x400)?;
        let cts = next(0x800)?.unwrap_or(0);
        let flags = own_flags.or(first_flags.filter(|_| index == 0)).unwrap_or(sample_flags);
        let data = whole.get(from..from + size).context("a sample outside of its mdat")?.to_vec();
        let cts = if version == 0 { i64::from(cts) } else { i64::from(cts as i32) };
        samples.push(Sample { dts, cts, duration, sync: flags & 0x1_0000 == 0, data });
        (dts, from) = (dts + u64::from(duration), from + size);
    }
    ensure!(from == whole.len(), "{} bytes of media data belong to no sample", whole.len() - from);
    Ok(Fragment { sequence, tfdt, samples })
}

/// The NAL units of a length-prefixed access unit (14496-15, four-byte lengths).
///
/// # Errors
/// When a length does not fit.
pub fn nals(mut unit: &[u8]) -> Result<Vec<&[u8]>> {
    let mut found = Vec::new();
    while !unit.is_empty() {
        let size = be32(unit, 0)? as usize;
        ensure!(size > 0, "an empty NAL unit");
        found.push(unit.get(4..4 + size).context("a NAL unit longer than its access unit")?);
        unit = &unit[4 + size..];
    }
    Ok(found)
}

/// The type of a NAL unit (H.264 table 7-1).
pub fn nal_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |byte| byte & 0x1f)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_fragment_without_samples_is_one_and_has_no_data() {
        let of = |kind: &[u8], body: &[u8]| -> Vec<u8> {
            let length = u32::try_from(body.len() + 8).unwrap().to_be_bytes();
            [&length[..], kind, body].concat()
        };
        let traf = [of(b"tfhd", &[0, 2, 0, 0, 0, 0, 0, 1]), of(b"tfdt", &[0, 0, 0, 0, 0, 0, 0, 9])].concat();
        let moof = of(b"moof", &[of(b"mfhd", &[0, 0, 0, 0, 0, 0, 0, 7]), of(b"traf", &traf)].concat());
        let read = fragments(&[moof.clone(), of(b"mdat", b"")].concat()).unwrap();
        assert_eq!((read.len(), read[0].sequence, read[0].tfdt, read[0].samples.len()), (1, 7, 9, 0));
        let error = fragments(&[moof, of(b"mdat", b"x")].concat()).unwrap_err();
        assert!(error.to_string().contains("1 bytes of media data and no trun"), "{error}");
    }

    /// What ffmpeg writes, read back: times, flags and bytes as ffprobe reports them.
    #[test]
    fn ffmpegs_own_fragments_read() {
        let Some(ffmpeg) = crate::tool("ffmpeg").unwrap() else { return };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.mp4");
        let made = Command::new(ffmpeg)
            .args([
                "-v",
                "error",
                "-f",
                "lavfi",
                "-i",
                "testsrc=size=64x64:rate=10",
                "-t",
                "1",
                "-c:v",
                "libx264",
            ])
            .args([
                "-bf",
                "2",
                "-movflags",
                "+empty_moov+frag_keyframe+default_base_moof+negative_cts_offsets",
            ])
            .arg(&file)
            .status();
        assert!(made.unwrap().success());
        let bytes = std::fs::read(&file).unwrap();
        let at = bytes.windows(4).position(|four| four == b"moof").unwrap() - 4;
        let end = bytes.windows(4).position(|four| four == b"mfra").unwrap() - 4;
        let init = Init::parse(&bytes[boxes(&bytes[..at]).unwrap()[0].1.len() + 8..at]).unwrap();
        assert_eq!((init.handler, init.config[0]), (*b"vide", 1));
        let all = fragments(&bytes[at..end]).unwrap();
        let samples: Vec<&Sample> = all.iter().flat_map(|fragment| &fragment.samples).collect();
        assert_eq!(samples.len(), 10);
        assert!(samples[0].sync && samples.iter().filter(|sample| sample.sync).count() == 1);
        assert!(samples.iter().all(|sample| nals(&sample.data).is_ok()));
        assert!(samples.windows(2).all(|two| two[0].dts + u64::from(two[0].duration) == two[1].dts));
    }
}
