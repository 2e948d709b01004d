//! An object in the making: shared pieces, copied once when it is frozen.
//!
//! In: heads and payloads as slices of what the socket gave. Out: an `Object` in one buffer of exactly its size, and its
//! hash. Pure.

use bytes::{Bytes, BytesMut};
use ingest_api::object::{OBJECT_BYTES_MAX, PAIRS_MAX};
use ingest_api::window::Sha256;
use ingest_api::{Object, Pair};
use releve_watermark::{GopId, Position};
use serde::{Deserialize, Serialize};

/// The pieces of a part or of a whole segment of one track.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pieces {
    bytes: Vec<Bytes>,
    pairs: Vec<PairAt>,
    len: usize,
    code_key: u32,
}

/// A pair on its way into an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct PairAt {
    offset: usize,
    gop: [u8; 16],
    slice: u16,
    b: Bytes,
}

impl Pieces {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn pairs(&self) -> usize {
        self.pairs.len()
    }

    pub(crate) fn code_key(&self) -> u32 {
        self.code_key
    }

    pub(crate) fn common(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        self.bytes.push(bytes);
    }

    /// `a` and `b` are equally long: the caller checked.
    pub(crate) fn pair(&mut self, a: Bytes, b: Bytes, position: Position, code_key: u32) {
        self.pairs.push(PairAt { offset: self.len, gop: position.gop.0, slice: position.slice, b });
        self.code_key = code_key;
        self.common(a);
    }

    /// Adds all of another one behind this.
    pub(crate) fn append(&mut self, other: &Pieces) {
        let base = self.len;
        self.pairs
            .extend(other.pairs.iter().map(|pair| PairAt { offset: base + pair.offset, ..pair.clone() }));
        self.bytes.extend(other.bytes.iter().cloned());
        self.len += other.len;
        if other.code_key != 0 {
            self.code_key = other.code_key;
        }
    }

    /// What `restore` relies on: lengths that add up, pairs in order and inside.
    pub(crate) fn is_sane(&self) -> bool {
        let len: usize = self.bytes.iter().map(Bytes::len).sum();
        let mut free_from = 0;
        let pairs = self.pairs.iter().all(|pair| {
            let fits = pair.offset >= free_from && !pair.b.is_empty();
            free_from = pair.offset.saturating_add(pair.b.len());
            fits && free_from <= len
        });
        len == self.len && len <= OBJECT_BYTES_MAX && pairs && self.pairs.len() <= PAIRS_MAX
    }

    /// The object and the hash of its encoding: the one copy of the media path.
    pub(crate) fn freeze(&self) -> (Object, Sha256) {
        let mut a = BytesMut::with_capacity(self.len);
        for piece in &self.bytes {
            a.extend_from_slice(piece);
        }
        let pair = |at: &PairAt| Pair {
            offset: at.offset,
            position: Position { gop: GopId(at.gop), slice: at.slice },
            b: at.b.clone(),
        };
        let pairs = self.pairs.iter().map(pair).collect();
        let object = Object { code_key: self.code_key, a: a.freeze(), pairs };
        let sha256 = Sha256::of_object(&object);
        (object, sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_encoded_object() {
        let position = |slice| Position { gop: GopId([7; 16]), slice };
        let mut part = Pieces::default();
        part.common(Bytes::from_static(b"head"));
        part.pair(Bytes::from_static(b"AA"), Bytes::from_static(b"BB"), position(0), 3);
        part.common(Bytes::from_static(b"tail"));
        let mut whole = Pieces::default();
        whole.append(&part);
        whole.append(&part);
        for pieces in [&Pieces::default(), &part, &whole] {
            let (object, hash) = pieces.freeze();
            assert_eq!(hash, Sha256::of(&object.encode()));
            assert_eq!(Object::decode(object.encode()), Ok(object));
        }
        assert_eq!(whole.freeze().0.pairs[1].offset, 14);
    }
}
