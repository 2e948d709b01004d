//! Which object is meant, and whether what an origin sent is that object.
//!
//! In: a row of a snapshot, bytes of an origin. Out: an `Object` whose every byte is vouched for, with the head of its
//! answers, or why not. Pure.

use crate::http1::Rendered;
use bytes::Bytes;
use ingest_api::object::ObjectError;
use ingest_api::origin::Route;
use ingest_api::window::Sha256;
use ingest_api::{Object, StreamName, Track};
use thiserror::Error;

/// Names an object for ever: a key of the cache. Made from snapshots, never from URL text. Both variants are one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectKey {
    /// Its stream.
    pub stream: StreamName,
    /// What it is there.
    pub what: What,
}

/// A segment, a part of one, or an init section.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// One track of one segment.
    Segment {
        /// Which track.
        track: Track,
        /// Which number.
        number: u64,
        /// Hash of the encoded object: other bytes under the same number would be another object.
        sha256: Sha256,
    },
    /// All tracks of one segment as MPEG-TS.
    TsSegment {
        /// Which number.
        number: u64,
        /// What it is made of: other bytes of those tracks would be another object. Its own hash nobody knows before it is made.
        of: Sha256,
    },
    /// One part of one track of one segment.
    Part {
        /// Which track.
        track: Track,
        /// Which segment.
        number: u64,
        /// Which part.
        index: u32,
        /// Hash of the encoded object.
        sha256: Sha256,
    },
    /// An init section of a track, by its name: that is made from its hash.
    Init(Track, String),
}

/// Objects never change, and each viewer's copy is theirs alone.
const CACHE: &str = "private, max-age=31536000, immutable";
/// The field that tells an edge which bit of a pattern a segment stands at (ETSI TS 104 002 V1.1.1 §5.5.3.3).
const PACE: &str = "wmpaceinfoegress";
/// A whole segment at a CDN: it never changes either, but is not to lie there long after it has left the window. What a CDN
/// still has is right while no relay answers.
pub const CDN_CACHE: &str = "public, max-age=3600, stale-if-error=3600, immutable";

/// An object as it is kept: with the head that all its answers share.
#[derive(Clone, Debug)]
pub struct Held {
    /// The object.
    pub object: Object,
    /// Status and fields of an answer with the whole of it.
    pub head: Rendered,
    content_type: &'static str,
}

impl Held {
    /// Another object of the same kind.
    #[must_use]
    pub fn with(&self, object: Object) -> Held {
        Held { object, head: self.head.clone(), content_type: self.content_type }
    }

    /// Status and fields of an answer with one whole variant, for a CDN. The tag is the name of that variant; `len` is how
    /// long it is as it is sent.
    pub fn cdn_head(&self, etag: &str, len: usize) -> Rendered {
        let fields = [
            ("content-type", self.content_type),
            ("cache-control", CDN_CACHE),
            ("accept-ranges", "bytes"),
            ("etag", etag),
        ];
        Rendered::head(200, fields, len).unwrap_or_else(|_| Rendered::bare(500))
    }

    /// The same for an edge that chooses the variant itself; `pace` is WMPaceInfo in text. The edge hands these fields on, so
    /// that no tag names the variant.
    pub fn edge_head(&self, pace: Option<&str>) -> Rendered {
        let fields =
            [("content-type", self.content_type), ("cache-control", CDN_CACHE), ("accept-ranges", "bytes")];
        let fields = fields.into_iter().chain(pace.map(|pace| (PACE, pace)));
        Rendered::head(200, fields, self.object.len()).unwrap_or_else(|_| Rendered::bare(500))
    }
}

/// What a snapshot promises of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub key: ObjectKey,
    /// Its length, the same for every viewer, in bytes; `None` for an init section, and for MPEG-TS.
    pub len: Option<u64>,
}

impl Entry {
    /// Where an origin keeps it.
    pub fn route(&self) -> Route {
        let stream = self.key.stream.clone();
        match &self.key.what {
            What::Segment { track, number, .. } => Route::Segment { stream, track: *track, number: *number },
            What::Part { track, number, index, .. } => {
                Route::Part { stream, track: *track, number: *number, index: *index }
            }
            What::TsSegment { number, of } => Route::MpegTs { stream, number: *number, of: *of },
            What::Init(_, init) => Route::Init { stream, init: init.clone() },
        }
    }

    /// The object with the head of its answers. It has no entity tag: one tag for both variants would be wrong, and one for
    /// each would name the variant.
    pub fn held(&self, object: Object) -> Held {
        let track = match self.key.what {
            What::Segment { track, .. } | What::Part { track, .. } | What::Init(track, _) => Some(track),
            What::TsSegment { .. } => None,
        };
        let content_type = match track {
            Some(Track::Video | Track::Encoding(_)) => "video/mp4",
            Some(Track::Audio(_)) => "audio/mp4",
            None => "video/mp2t",
        };
        let fields = [("content-type", content_type), ("cache-control", CACHE), ("accept-ranges", "bytes")];
        let head = Rendered::head(200, fields, object.len()).expect("constant fields can be written");
        Held { object, head, content_type }
    }

    /// Reads what an origin sent for this entry.
    ///
    /// # Errors
    /// When it is not the object that the snapshot promised, or no object at all.
    pub fn check(&self, bytes: Bytes) -> Result<Object, Mismatch> {
        if let What::Segment { sha256, .. } | What::Part { sha256, .. } = &self.key.what
            && *sha256 != Sha256::of(&bytes)
        {
            return Err(Mismatch::Hash);
        }
        let object = Object::decode(bytes)?;
        if let What::Init(_, name) = &self.key.what
            && *name != format!("init-{}", hex::encode(&Sha256::of(&object.a).0[..8]))
        {
            return Err(Mismatch::Hash);
        }
        if self.len.is_some_and(|len| len != object.len() as u64) {
            return Err(Mismatch::Length { len: object.len() });
        }
        if !object.pairs.is_empty() && object.code_key == 0 {
            return Err(Mismatch::NoCodeKey);
        }
        Ok(object)
    }
}

/// What an object weighs in memory, in bytes.
pub fn weight(object: &Object) -> usize {
    let pairs: usize = object.pairs.iter().map(|pair| pair.b.len() + size_of_val(pair)).sum();
    object.len() + pairs + size_of::<Object>()
}

/// Why what an origin sent is not what the snapshot promised.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Mismatch {
    /// Other bytes.
    #[error("the object's hash is not the one the snapshot promised")]
    Hash,
    /// Another length.
    #[error("the object has {len} bytes, not what the snapshot promised")]
    Length {
        /// Its length in bytes.
        len: usize,
    },
    /// There are variants, but nothing says who gets which.
    #[error("the object has variants but names no code key")]
    NoCodeKey,
    /// Not an object.
    #[error(transparent)]
    Object(#[from] ObjectError),
}

#[cfg(test)]
mod tests {
    use super::*;
    use ingest_api::object::Pair;
    use releve_watermark::{GopId, Position};

    fn entry(object: &Object) -> Entry {
        let what = What::Segment { track: Track::Video, number: 7, sha256: Sha256::of(&object.encode()) };
        Entry { key: ObjectKey { stream: "demo".parse().unwrap(), what }, len: Some(object.len() as u64) }
    }

    fn marked(code_key: u32) -> Object {
        let position = Position { gop: GopId([1; 16]), slice: 0 };
        let pair = Pair { offset: 1, position, b: Bytes::from_static(b"B") };
        Object { code_key, a: Bytes::from_static(b"cAc"), pairs: vec![pair] }
    }

    #[test]
    fn only_the_promised_bytes_pass() {
        let object = marked(1);
        let entry = entry(&object);
        assert_eq!(entry.check(object.encode()), Ok(object.clone()));
        let mut other = object.encode().to_vec();
        *other.last_mut().unwrap() = b'A';
        assert_eq!(entry.check(other.into()), Err(Mismatch::Hash));
        let longer = Entry { len: Some(4), ..entry };
        assert_eq!(longer.check(object.encode()), Err(Mismatch::Length { len: 3 }));
        assert_eq!(self::entry(&marked(0)).check(marked(0).encode()), Err(Mismatch::NoCodeKey));
    }

    /// It is the origin's word, which is signed, that it is made of these tracks; it must be one that can be mixed.
    #[test]
    fn mpeg_ts_is_asked_for_by_what_it_is_made_of() {
        let (of, stream) = (Sha256::of(b"tracks"), "demo".parse().unwrap());
        let entry = Entry { key: ObjectKey { stream, what: What::TsSegment { number: 7, of } }, len: None };
        let path = format!("/origin/1/streams/demo/ts/7/{}", hex::encode(of.0));
        assert_eq!(entry.route().to_path(), path);
        assert_eq!(entry.check(marked(1).encode()), Ok(marked(1)));
        assert_eq!(entry.check(marked(0).encode()), Err(Mismatch::NoCodeKey));
        assert!(entry.check(Bytes::from_static(b"no object")).is_err());
    }

    #[test]
    fn an_init_section_is_held_to_its_name() {
        let init = Object::plain(Bytes::from_static(b"ftypmoov"));
        let name = format!("init-{}", hex::encode(&Sha256::of(b"ftypmoov").0[..8]));
        let entry = |name| Entry {
            key: ObjectKey { stream: "demo".parse().unwrap(), what: What::Init(Track::Video, name) },
            len: None,
        };
        assert_eq!(entry(name).check(init.encode()), Ok(init.clone()));
        assert_eq!(entry("init-0123456789abcdef".into()).check(init.encode()), Err(Mismatch::Hash));
    }
}
