//! A media object as a relay holds it: common bytes and the places where variants differ.
//!
//! In: bytes of an origin, or pieces of a segmenter. Out: an `Object`; from it one viewer's bytes as shared slices. Pure.
//! To a relay this is all that a marked segment is: it knows no media.
//!
//! On the wire between nodes (integers big-endian):
//!
//! ```text
//! "RLV1"  code key version u32  length u32  pairs u16  zero u16
//! pair:   offset u32  length u32  gop id 16 bytes  slice u16        × pairs, in order, not overlapping
//! length bytes: the object with every pair as A
//! for each pair its bytes as B
//! ```

use crate::{GopId, Position, Symbol};
use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

/// The largest object a node sends or takes, in bytes: 4.5 s at 100 Mb/s is 56 MB.
pub const OBJECT_BYTES_MAX: usize = 64 << 20;
/// The most pairs in an object: 35 slices (openh264's most) of an IDR every frame for 4 s at 30 frames a second.
pub const PAIRS_MAX: usize = 4200;

const MAGIC: &[u8; 4] = b"RLV1";
const HEAD_BYTES: usize = 16;
const PAIR_BYTES: usize = 26;

/// A place where the two variants differ; both are equally long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// First byte, counted in the object.
    pub offset: usize,
    /// What the symbol belongs to.
    pub position: Position,
    /// The B bytes; the A bytes stand in the object itself.
    pub b: Bytes,
}

impl Pair {
    /// The first byte after the pair.
    pub fn end(&self) -> usize {
        self.offset + self.b.len()
    }
}

/// An immutable media object: a segment of one track, or an init section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// The code key that chooses between the variants; 0 where there is nothing to choose.
    pub code_key: u32,
    /// The whole object, every pair as A.
    pub a: Bytes,
    /// Where B differs, in order.
    pub pairs: Vec<Pair>,
}

impl Object {
    /// An object that is the same for every viewer.
    pub fn plain(bytes: Bytes) -> Object {
        Object { code_key: 0, a: bytes, pairs: Vec::new() }
    }

    /// How long every viewer's copy is, in bytes.
    pub fn len(&self) -> usize {
        self.a.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.a.is_empty()
    }

    /// One viewer's copy as shared slices, in order: for a scatter-gather write.
    pub fn pieces(&self, symbol: impl FnMut(Position) -> Symbol) -> Vec<Bytes> {
        self.copy(symbol).collect()
    }

    /// The same, one slice after the other: nothing is allocated.
    pub fn copy(&self, mut symbol: impl FnMut(Position) -> Symbol) -> impl Iterator<Item = Bytes> {
        let (mut at, mut pairs) = (0, self.pairs.iter());
        // The B bytes that come after the common bytes just given.
        let mut next: Option<&Pair> = None;
        std::iter::from_fn(move || {
            if let Some(pair) = next.take() {
                at = pair.end();
                return Some(pair.b.clone());
            }
            // Where A is chosen its bytes stand in place: they ride with the common bytes around them.
            let Some(pair) = pairs.find(|pair| symbol(pair.position) == Symbol::B) else {
                let rest = self.a.slice(at..);
                at = self.a.len();
                return (!rest.is_empty()).then_some(rest);
            };
            if at == pair.offset {
                at = pair.end();
                return Some(pair.b.clone());
            }
            next = Some(pair);
            Some(self.a.slice(at..pair.offset))
        })
    }

    /// These bytes as an object of their own. `None` when they are not all inside, or cut a pair.
    pub fn part(&self, bytes: std::ops::Range<usize>) -> Option<Object> {
        let inside = |pair: &&Pair| pair.offset < bytes.end && pair.end() > bytes.start;
        if bytes.start > bytes.end || bytes.end > self.a.len() {
            return None;
        }
        let mut pairs = Vec::new();
        for pair in self.pairs.iter().filter(inside) {
            let whole = pair.offset >= bytes.start && pair.end() <= bytes.end;
            let offset = whole.then(|| pair.offset - bytes.start)?;
            pairs.push(Pair { offset, ..pair.clone() });
        }
        let code_key = if pairs.is_empty() { 0 } else { self.code_key };
        Some(Object { code_key, a: self.a.slice(bytes), pairs })
    }

    /// The object as one buffer for the wire between nodes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        self.encode_into(&mut out);
        out.freeze()
    }

    /// How long `encode` makes it, in bytes.
    pub fn encoded_len(&self) -> usize {
        let b_bytes: usize = self.pairs.iter().map(|pair| pair.b.len()).sum();
        HEAD_BYTES + self.pairs.len() * PAIR_BYTES + self.a.len() + b_bytes
    }

    /// Appends what `encode` gives.
    pub fn encode_into(&self, out: &mut BytesMut) {
        out.put_slice(&self.head());
        self.payloads().for_each(|bytes| out.put_slice(bytes));
    }

    /// What `encode` gives before the media: head and table. Behind it stand the `payloads`.
    pub fn head(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(HEAD_BYTES + self.pairs.len() * PAIR_BYTES);
        out.put_slice(MAGIC);
        out.put_u32(self.code_key);
        out.put_u32(self.a.len() as u32);
        out.put_u16(self.pairs.len() as u16);
        out.put_u16(0);
        for pair in &self.pairs {
            out.put_u32(pair.offset as u32);
            out.put_u32(pair.b.len() as u32);
            out.put_slice(&pair.position.gop.0);
            out.put_u16(pair.position.slice);
        }
        out
    }

    /// Its media: the common bytes with every A, then every B.
    pub fn payloads(&self) -> impl Iterator<Item = &Bytes> {
        [&self.a].into_iter().chain(self.pairs.iter().map(|pair| &pair.b))
    }

    /// Reads what `encode` wrote, sharing the buffer.
    ///
    /// # Errors
    /// Names what does not hold. Nothing is reserved from a length before the bytes are known to be there.
    pub fn decode(bytes: Bytes) -> Result<Object, ObjectError> {
        let head = bytes.get(..HEAD_BYTES).ok_or(ObjectError::Short)?;
        if &head[..4] != MAGIC {
            return Err(ObjectError::Magic);
        }
        let (code_key, len) = (read_u32(head, 4), read_u32(head, 8) as usize);
        let count = u16::from_be_bytes([head[12], head[13]]) as usize;
        if len > OBJECT_BYTES_MAX || count > PAIRS_MAX {
            return Err(ObjectError::TooLarge { len, pairs: count });
        }
        let a_at = HEAD_BYTES + count * PAIR_BYTES;
        let table = bytes.get(HEAD_BYTES..a_at).ok_or(ObjectError::Short)?;
        let mut b_at = a_at + len;
        let a = if bytes.len() >= b_at { bytes.slice(a_at..b_at) } else { return Err(ObjectError::Short) };
        let mut pairs: Vec<Pair> = Vec::with_capacity(count);
        for (index, row) in table.chunks_exact(PAIR_BYTES).enumerate() {
            let (offset, pair_len) = (read_u32(row, 0) as usize, read_u32(row, 4) as usize);
            let free_from = pairs.last().map_or(0, Pair::end);
            if offset < free_from || pair_len == 0 || offset + pair_len > len {
                return Err(ObjectError::Pair { index });
            }
            if bytes.len() < b_at + pair_len {
                return Err(ObjectError::Short);
            }
            let mut gop = [0; 16];
            gop.copy_from_slice(&row[8..24]);
            let slice = u16::from_be_bytes([row[24], row[25]]);
            let b = bytes.slice(b_at..b_at + pair_len);
            pairs.push(Pair { offset, position: Position { gop: GopId(gop), slice }, b });
            b_at += pair_len;
        }
        if b_at != bytes.len() {
            return Err(ObjectError::Long { extra: bytes.len() - b_at });
        }
        Ok(Object { code_key, a, pairs })
    }
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Why bytes are not an object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ObjectError {
    /// Ends before what its head promises.
    #[error("the object ends early")]
    Short,
    /// Goes on after what its head promises.
    #[error("the object has {extra} bytes too many")]
    Long {
        /// Bytes left over.
        extra: usize,
    },
    /// Another format or version.
    #[error("not an object of format RLV1; do both nodes run the same version?")]
    Magic,
    /// Beyond `OBJECT_BYTES_MAX` or `PAIRS_MAX`.
    #[error("an object of {len} bytes with {pairs} pairs is over the limit")]
    TooLarge {
        /// Length it claims, in bytes.
        len: usize,
        /// Pairs it claims.
        pairs: usize,
    },
    /// Out of order, empty, or outside the object.
    #[error("pair {index} overlaps another one or lies outside the object")]
    Pair {
        /// Counted from 0.
        index: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marked() -> Object {
        let position = |slice| Position { gop: GopId([3; 16]), slice };
        Object {
            code_key: 1,
            a: Bytes::from_static(b"headAAAAmidAAtail"),
            pairs: vec![
                Pair { offset: 4, position: position(0), b: Bytes::from_static(b"BBBB") },
                Pair { offset: 11, position: position(1), b: Bytes::from_static(b"BB") },
            ],
        }
    }

    #[test]
    fn a_viewer_gets_their_own_slices_and_everyone_the_same_length() {
        let copy = |first, second| {
            let pieces = marked().pieces(|p| if p.slice == 0 { first } else { second }).concat();
            String::from_utf8(pieces).unwrap()
        };
        assert_eq!(copy(Symbol::A, Symbol::A), "headAAAAmidAAtail");
        assert_eq!(copy(Symbol::B, Symbol::A), "headBBBBmidAAtail");
        assert_eq!(copy(Symbol::A, Symbol::B), "headAAAAmidBBtail");
        assert_eq!(copy(Symbol::B, Symbol::B), "headBBBBmidBBtail");
    }

    #[test]
    fn a_part_has_the_pairs_inside_it() {
        let object = marked();
        let part = object.part(9..17).unwrap();
        assert_eq!((part.code_key, &part.a[..], part.pairs.len()), (1, &b"idAAtail"[..], 1));
        assert_eq!((part.pairs[0].offset, &part.pairs[0].b[..]), (2, &b"BB"[..]));
        assert_eq!(object.part(0..17), Some(object.clone()));
        assert_eq!(object.part(8..11), Some(Object::plain(Bytes::from_static(b"mid"))));
        assert_eq!(object.part(0..5), None, "cuts a pair");
        assert_eq!(object.part(10..18), None, "goes beyond the end");
    }

    #[test]
    fn what_is_encoded_decodes() {
        assert_eq!(Object::decode(marked().encode()), Ok(marked()));
        let plain = Object::plain(Bytes::from_static(b"init"));
        assert_eq!(Object::decode(plain.encode()), Ok(plain));
    }

    #[test]
    fn overlapping_pairs_and_cut_objects_are_refused() {
        let mut overlapping = marked();
        overlapping.pairs[1].offset = 6;
        assert_eq!(Object::decode(overlapping.encode()), Err(ObjectError::Pair { index: 1 }));
        let whole = marked().encode();
        for cut in 0..whole.len() {
            assert!(Object::decode(whole.slice(..cut)).is_err(), "cut at {cut}");
        }
        let mut long = whole.to_vec();
        long.push(0);
        assert_eq!(Object::decode(long.into()), Err(ObjectError::Long { extra: 1 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_object_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if bytes.len() > 4 { bytes[..4].copy_from_slice(MAGIC); }
            let _ = Object::decode(bytes.into());
        }
    }
}
