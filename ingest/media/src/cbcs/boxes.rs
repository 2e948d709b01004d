//! The boxes of Common Encryption, put into files that `cmaf` wrote (ISO/IEC 23001-7:2016 §7, §8; ISO/IEC 14496-12 §8.7.8).
//!
//! ```text
//! init                                         fragment
//! └ moov                                       └ moof
//!   ├ trak … stsd                                └ traf
//!   │ └ encv or enca                               ├ tfhd tfdt trun
//!   │   ├ what avc1 or mp4a had                    ├ saiz  length of each sample's map
//!   │   └ sinf frma schm schi                      ├ saio  where they begin
//!   │     └ tenc  pattern, key id, vector          └ senc  the maps
//!   ├ pssh  key id, for who asks by it
//!   └ pssh  what a key server gave, one a DRM system
//! ```
//!
//! In: bytes of `cmaf`, a key, maps of subsamples. Out: bytes. Pure. Boxes are put in, none is changed but for lengths and
//! the name of the sample entry.

use super::SealError;
use super::units::Subsample;
use crate::container::cmaf;
use ingest_api::Track;
use ingest_api::content_key::ContentKey;

/// "Common" system of the W3C's `cenc` initialisation data: a list of key ids.
const COMMON_SYSTEM: [u8; 16] =
    [0x10, 0x77, 0xef, 0xec, 0xc0, 0xb2, 0x4d, 0x02, 0xac, 0xe3, 0x3c, 0x1e, 0x52, 0xe2, 0xfb, 0x4b];
/// Encrypted blocks in the high half, skipped ones in the low half; 0 for all.
const PATTERN_VIDEO: u8 = 0x19;
const PATTERN_AUDIO: u8 = 0;

fn boxed(kind: &[u8; 4], content: &[&[u8]]) -> Vec<u8> {
    let len = 8 + content.iter().map(|piece| piece.len()).sum::<usize>();
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(&(len as u32).to_be_bytes()); // far below 4 GiB: objects are at most 64 MiB
    out.extend_from_slice(kind);
    content.iter().for_each(|piece| out.extend_from_slice(piece));
    out
}

/// The first box of these bytes: its kind and its content.
fn first(bytes: &[u8]) -> Option<([u8; 4], &[u8])> {
    let len = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
    Some((*bytes.get(4..8)?.first_chunk()?, bytes.get(8..len)?))
}

/// All boxes of these bytes.
fn each(mut bytes: &[u8]) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    std::iter::from_fn(move || {
        let found = first(bytes)?;
        bytes = &bytes[8 + found.1.len()..];
        Some(found)
    })
}

/// The init section of the encrypted track.
pub(super) fn init(track: Track, clear: &[u8], key: &ContentKey) -> Result<Vec<u8>, SealError> {
    let (from, to, pattern): (&[u8; 4], _, _) = match track {
        Track::Video | Track::Encoding(_) => (b"avc1", b"encv", PATTERN_VIDEO),
        Track::Audio(_) => (b"mp4a", b"enca", PATTERN_AUDIO),
    };
    let schm = boxed(b"schm", &[&[0; 4], b"cbcs", &[0, 1, 0, 0]]);
    let protected = [1, 0, 0, 0, 0, pattern, 1, 0]; // version 1; protected, no vectors of samples
    let tenc = boxed(b"tenc", &[&protected, &key.kid.0, &[16], key.iv()]);
    let schi = boxed(b"schi", &[&tenc]);
    let sinf = boxed(b"sinf", &[&boxed(b"frma", &[from]), &schm, &schi]);
    let pssh = boxed(b"pssh", &[&[1, 0, 0, 0], &COMMON_SYSTEM, &[0, 0, 0, 1], &key.kid.0, &[0; 4]]);
    let mut entries = 0;
    let mut moov = None;
    let mut out = Vec::with_capacity(clear.len() + sinf.len() + pssh.len() + key.pssh().len());
    for (kind, content) in each(clear) {
        if &kind == b"moov" {
            let path: [&[u8; 4]; 5] = [b"trak", b"mdia", b"minf", b"stbl", b"stsd"];
            let inner = within(content, &path, &mut |stsd| {
                let (head, list) = stsd.split_at_checked(8)?;
                let mut inner = head.to_vec();
                for (kind, entry) in each(list) {
                    let known = &kind == from;
                    entries += usize::from(known);
                    inner.extend(if known { boxed(to, &[entry, &sinf]) } else { boxed(&kind, &[entry]) });
                }
                Some(inner)
            });
            let inner = inner.ok_or(SealError::Init("it ends early"))?;
            moov = Some(boxed(b"moov", &[&inner, &pssh, key.pssh()]));
            out.extend_from_slice(moov.as_deref().unwrap_or_default());
        } else {
            out.extend(boxed(&kind, &[content]));
        }
    }
    if entries == 1 && moov.is_some() { Ok(out) } else { Err(SealError::Init("not one sample entry")) }
}

/// Boxes with another content of the one at the end of a path.
fn within(
    content: &[u8],
    path: &[&[u8; 4]],
    change: &mut impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let Some((next, rest)) = path.split_first() else { return change(content) };
    let mut out = Vec::with_capacity(content.len() + 256);
    for (kind, inner) in each(content) {
        if kind == **next {
            out.extend(boxed(&kind, &[&within(inner, rest, change)?]));
        } else {
            out.extend(boxed(&kind, &[inner]));
        }
    }
    Some(out)
}

/// Where the parts of a fragment are.
#[derive(Debug)]
pub(super) struct Fragment {
    /// Bytes of `moof` and of the head of `mdat`.
    pub(super) head: usize,
    /// Bytes of all of it.
    pub(super) len: usize,
    /// Bytes of each sample; they are as many as there are.
    pub(super) sizes: Vec<usize>,
}

impl Fragment {
    /// The one that these bytes begin with.
    pub(super) fn read(bytes: &[u8]) -> Result<Fragment, SealError> {
        let cut = SealError::Fragment("it ends early");
        let (_, moof) = first(bytes).filter(|(kind, _)| kind == b"moof").ok_or(cut.clone())?;
        let head = moof.len() + 8 + 8;
        let (_, mdat) = first(&bytes[head - 8..]).filter(|(kind, _)| kind == b"mdat").ok_or(cut)?;
        let parsed = cmaf::read_fragment_head(&bytes[..head - 8]);
        let parsed = parsed.map_err(|_| SealError::Fragment("its head does not parse"))?;
        let runs = parsed.traf.iter().flat_map(|traf| &traf.trun);
        let entries = runs.flat_map(|run| run.samples.iter());
        let sizes: Vec<usize> = entries.map(|entry| entry.size.unwrap_or(0) as usize).collect();
        if sizes.iter().sum::<usize>() != mdat.len() {
            return Err(SealError::Fragment("its samples are not all it has"));
        }
        Ok(Fragment { head, len: head + mdat.len(), sizes })
    }
}

/// The head of a fragment, with the map of each sample. Without samples it stays as it is.
pub(super) fn with_subsamples(head: &[u8], maps: &[Vec<Subsample>]) -> Result<Vec<u8>, SealError> {
    if maps.is_empty() {
        return Ok(head.to_vec());
    }
    let odd = SealError::Fragment("its head is not one of ours");
    let (_, moof) = first(head).ok_or(odd.clone())?;
    let mdat = head.get(8 + moof.len()..).ok_or(odd.clone())?;
    let traf = each(moof).find(|(kind, _)| kind == b"traf").ok_or(odd.clone())?.1;
    let count = (maps.len() as u32).to_be_bytes();
    let mut described = Vec::with_capacity(maps.len() * 8);
    for map in maps {
        described.extend_from_slice(&(map.len() as u16).to_be_bytes());
        for (clear, protected) in map {
            described.extend_from_slice(&clear.to_be_bytes());
            described.extend_from_slice(&protected.to_be_bytes());
        }
    }
    let lengths: Vec<u8> = maps.iter().map(|map| (2 + 6 * map.len()) as u8).collect(); // at most SUBSAMPLES_MAX
    let saiz = boxed(b"saiz", &[&[0; 4], &[0], &count, &lengths]);
    let senc = boxed(b"senc", &[&[0, 0, 0, 2], &count, &described]);
    let grown = saiz.len() + 20 + senc.len();
    let mut track = Vec::with_capacity(traf.len() + grown);
    for (kind, content) in each(traf) {
        if &kind == b"trun" {
            track.extend(boxed(b"trun", &[&moved(content, grown).ok_or(odd.clone())?]));
        } else {
            track.extend(boxed(&kind, &[content]));
        }
    }
    track.extend_from_slice(&saiz);
    // Counted from the first byte of `moof`: `traf` is its last box, `senc` the last of that.
    let at = 8 + moof.len() + grown - senc.len() + 16;
    track.extend(boxed(b"saio", &[&[0; 4], &1u32.to_be_bytes(), &(at as u32).to_be_bytes()]));
    track.extend_from_slice(&senc);
    let others = each(moof).filter(|(kind, _)| kind != b"traf");
    let mut inner: Vec<u8> = others.flat_map(|(kind, content)| boxed(&kind, &[content])).collect();
    inner.extend(boxed(b"traf", &[&track]));
    let mut out = boxed(b"moof", &[&inner]);
    out.extend_from_slice(mdat);
    Ok(out)
}

/// A `trun` whose samples lie further back.
fn moved(trun: &[u8], grown: usize) -> Option<Vec<u8>> {
    let mut trun = trun.to_vec();
    let has_offset = trun.get(3)? & 1 == 1;
    let field = trun.get_mut(8..12).filter(|_| has_offset)?;
    let offset = i32::from_be_bytes(*field.first_chunk()?).checked_add(i32::try_from(grown).ok()?)?;
    field.copy_from_slice(&offset.to_be_bytes());
    Some(trun)
}
