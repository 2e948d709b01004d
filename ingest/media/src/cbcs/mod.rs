//! Encryption of segments: `cbcs` of Common Encryption (ISO/IEC 23001-7:2016 §10.4), a pure function of a segment and a key.
//!
//! In: init sections and objects as `container` made them, and a `ContentKey`. Out: the same, encrypted; pairs stay pairs.
//! Pure. `ingest/docs/encryption.md` is the operators' page.
//!
//! **Where.** Between segmenter and window: what is hashed, compared between the nodes of a pair, copied, listed and fetched
//! is the encrypted object. Relays know nothing of it and encrypt nothing; a viewer's segment is the same scatter-gather of
//! common bytes and slices as ever. The archive gets the clear object, its record both hashes.
//!
//! **Why A and B still mix.** In `cbcs` the chain of AES-CBC begins anew, from a constant vector, with each subsample. Each
//! slice is a subsample of its own, so its encrypted bytes depend on no other slice. The map of subsamples is one for all
//! viewers, as A and B have the same length with their filler but not each without: what is protected ends where the shorter
//! slice ends. The rest of the longer one, and the filler, are clear.
//!
//! ```text
//! A   len│head…  protected ──────────────────┤ rest │ len│filler
//! B   len│head…  protected ──────────────────┤ len│filler
//!     clear 64 bytes   1 block in 10          clear
//! ```
//!
//! **What is protected.** Of each video slice one block of 16 bytes in ten, behind its first `LEAD` bytes: its NAL unit's
//! length and header, and the slice header, stay readable, as the standard wants. Everything else of a picture is clear. Of
//! each audio frame all whole blocks.
//!
//! **AES-128** of whole segments (`METHOD=AES-128`) is not here: its chain runs through the whole segment, so what follows
//! an A slice would be other bytes than what follows a B slice, and relays would have to encrypt for each viewer. They do it for
//! a CDN, once a variant (`relay/src/cdn/lock.rs`).

mod boxes;
mod cipher;
mod units;

use bytes::{Bytes, BytesMut};
use cipher::{Cipher, FULL, ONE_IN_TEN};
use ingest_api::content_key::{ContentKey, KeyId};
use ingest_api::window::Sha256;
use ingest_api::{Object, Pair, Track};
use mp4_atom::{Codec, Decode, Ftyp, Moov};
use std::ops::Range;
use thiserror::Error;

/// Clear bytes at the beginning of a slice, its NAL unit's header among them. Slice headers of real encoders are shorter.
const LEAD: usize = 64;

/// Why something is not encrypted. It must not be published then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SealError {
    /// No init section as `cmaf` makes them.
    #[error("an init section is not as it should be: {0}")]
    Init(&'static str),
    /// No segment as `cmaf` makes them.
    #[error("a fragment is not as it should be: {0}")]
    Fragment(&'static str),
    /// More slices in a picture than a fragment can describe.
    #[error("a picture of {needed} subsamples; {} can be described", units::SUBSAMPLES_MAX)]
    Subsamples {
        /// How many it would take.
        needed: usize,
    },
    /// The cipher failed.
    #[error("the cipher failed")]
    Cipher,
}

/// What encrypts one track under one key.
#[derive(Debug)]
pub struct Seal {
    track: Track,
    length_size: usize,
    cipher: Cipher,
    kid: KeyId,
    name: String,
    init: Bytes,
}

impl Seal {
    /// For the segments of this init section.
    ///
    /// # Errors
    /// One that is not of this track.
    pub fn new(track: Track, init: &[u8], key: &ContentKey) -> Result<Seal, SealError> {
        let length_size = match track {
            Track::Video | Track::Encoding(_) => length_size(init)?,
            Track::Audio(_) => 0,
        };
        let init: Bytes = boxes::init(track, init, key)?.into();
        let name = format!("init-{}", hex::encode(&Sha256::of(&init).0[..8]));
        let cipher = Cipher::new(key).ok_or(SealError::Cipher)?;
        Ok(Seal { track, length_size, cipher, kid: key.kid, name, init })
    }

    /// The key's id.
    pub fn kid(&self) -> KeyId {
        self.kid
    }

    /// Name of the init section of encrypted segments.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The init section of encrypted segments.
    pub fn init(&self) -> &Bytes {
        &self.init
    }

    /// A part or a whole segment, encrypted, and how long each fragment of it is then.
    ///
    /// # Errors
    /// Bytes that `cmaf` did not write, or a picture of too many slices.
    pub fn seal(&self, object: &Object) -> Result<(Object, Vec<u64>), SealError> {
        let mut out = Sealing { a: BytesMut::with_capacity(object.len() + 1024), pairs: Vec::new() };
        let (mut lens, mut at, mut pairs) = (Vec::new(), 0, &object.pairs[..]);
        while at < object.len() {
            let fragment = boxes::Fragment::read(&object.a[at..])?;
            let end = at + fragment.len;
            let here = pairs.partition_point(|pair| pair.offset < end);
            let before = out.a.len();
            self.fragment(&object.a[at..end], &fragment, at, &pairs[..here], &mut out)?;
            lens.push((out.a.len() - before) as u64);
            (at, pairs) = (end, &pairs[here..]);
        }
        Ok((Object { code_key: object.code_key, a: out.a.freeze(), pairs: out.pairs }, lens))
    }

    /// One fragment, which begins at `from` of its object.
    fn fragment(
        &self,
        bytes: &[u8],
        fragment: &boxes::Fragment,
        from: usize,
        pairs: &[Pair],
        out: &mut Sealing,
    ) -> Result<(), SealError> {
        let mut body = BytesMut::from(&bytes[fragment.head..]);
        let mut variants: Vec<BytesMut> = pairs.iter().map(|pair| BytesMut::from(&pair.b[..])).collect();
        let (mut maps, mut at, mut pair) = (Vec::new(), 0, 0);
        for size in &fragment.sizes {
            let sample = at..at + size;
            if self.track.is_audio() {
                self.cipher.encrypt(&mut body[sample.clone()], FULL)?;
            } else {
                let inside = |pair: &Pair| pair.offset - from - fragment.head < sample.end;
                let count = pairs[pair..].partition_point(inside);
                let here = pair..pair + count;
                let base = from + fragment.head + at;
                let protected =
                    units::protected(&body[sample.clone()], &pairs[here.clone()], base, self.length_size)?;
                maps.push(units::subsamples(*size, &protected)?);
                self.slices(&mut body[sample.clone()], &protected)?;
                self.variants(&mut variants[here.clone()], &pairs[here.clone()], base, &protected)?;
                pair = here.end;
            }
            at = sample.end;
        }
        let head = match self.track {
            Track::Video | Track::Encoding(_) => boxes::with_subsamples(&bytes[..fragment.head], &maps)?,
            Track::Audio(_) => bytes[..fragment.head].to_vec(), // without subsamples the init section says it all
        };
        let moved = out.a.len() + head.len();
        out.a.extend_from_slice(&head);
        out.a.extend_from_slice(&body);
        out.pairs.extend(pairs.iter().zip(variants).map(|(pair, b)| Pair {
            offset: pair.offset - from - fragment.head + moved,
            position: pair.position,
            b: b.freeze(),
        }));
        Ok(())
    }

    fn slices(&self, sample: &mut [u8], protected: &[Range<usize>]) -> Result<(), SealError> {
        protected.iter().try_for_each(|range| self.cipher.encrypt(&mut sample[range.clone()], ONE_IN_TEN))
    }

    /// The same ranges of the B slices. `base`: where the sample begins in the object.
    fn variants(
        &self,
        variants: &mut [BytesMut],
        pairs: &[Pair],
        base: usize,
        protected: &[Range<usize>],
    ) -> Result<(), SealError> {
        for (b, pair) in variants.iter_mut().zip(pairs) {
            let inside = |range: &&Range<usize>| (pair.offset..pair.end()).contains(&(base + range.start));
            for range in protected.iter().filter(inside) {
                let (start, end) = (base + range.start - pair.offset, base + range.end - pair.offset);
                self.cipher.encrypt(&mut b[start..end], ONE_IN_TEN)?;
            }
        }
        Ok(())
    }
}

struct Sealing {
    a: BytesMut,
    pairs: Vec<Pair>,
}

/// Bytes of a NAL unit's length prefix, from the `avcC` of an init section.
fn length_size(mut init: &[u8]) -> Result<usize, SealError> {
    let damaged = |_| SealError::Init("it does not parse");
    Ftyp::decode(&mut init).map_err(damaged)?;
    let moov = Moov::decode(&mut init).map_err(damaged)?;
    let codec = moov.trak.first().and_then(|trak| trak.mdia.minf.stbl.stsd.codecs.first());
    match codec {
        Some(Codec::Avc1(avc1)) => Ok(avc1.avcc.length_size.into()),
        _ => Err(SealError::Init("no avc1 sample entry")),
    }
}
