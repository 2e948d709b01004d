//! What an origin lists of a stream at one moment: the snapshot that playlists are a function of.
//!
//! In: JSON of an ingest node, or its own window. Out: plain values. Pure. Times are 90 kHz ticks of the run unless a
//! name says otherwise.

use crate::Object;
use crate::content_key::{KeyId, SegmentKey};
use crate::name::{RunId, StreamName};
use crate::signals::Signals;
use crate::track::Track;
use releve_watermark::GopId;
use serde::{Deserialize, Serialize};

/// Ticks in a second of every media time that is not audio samples.
pub const TICKS_PER_SECOND: i64 = 90_000;

/// A SHA-256, 64 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256(pub [u8; 32]);

impl Sha256 {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Sha256 {
        let mut hash = [0; 32];
        hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        Sha256(hash)
    }

    /// The hash of what `Object::encode` gives, without making that.
    pub fn of_object(object: &Object) -> Sha256 {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(&object.head());
        object.payloads().for_each(|bytes| context.update(bytes));
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Sha256(hash)
    }
}

impl std::fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = hex::FromHexError;
    fn try_from(text: String) -> Result<Sha256, hex::FromHexError> {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash)?;
        Ok(Sha256(hash))
    }
}

impl From<Sha256> for String {
    fn from(hash: Sha256) -> String {
        hex::encode(hash.0)
    }
}

/// A stream as an origin lists it at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Public name.
    pub stream: StreamName,
    /// Fencing term; a relay refuses lower ones than it has seen.
    pub epoch: u64,
    /// Differs whenever anything else here does; compare for equality only.
    pub version: u64,
    /// Whether a publisher is connected now.
    pub live: bool,
    /// `EXT-X-TARGETDURATION`, in seconds; fixed for a run.
    pub target_duration_s: u32,
    /// The tracks of the newest segment, in their order.
    pub tracks: Vec<TrackInfo>,
    /// The listed segments: oldest first, numbers without a hole.
    pub segments: Vec<Segment>,
    /// Longest part in ticks, fixed for a run; 0: parts are not listed.
    #[serde(default)]
    pub part_90k: i64,
    /// The segment after the last one, from its first part on; only where parts are listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenSegment>,
    /// What players are told of those keys of its segments that a DRM key server gave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signals: Vec<Signals>,
}

/// A segment that is being filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSegment {
    /// Its number.
    pub number: u64,
    /// Discontinuities of the stream before it.
    pub discontinuity: u64,
    /// Its `EXT-X-PROGRAM-DATE-TIME` in Unix milliseconds.
    pub date_unix_ms: i64,
    /// The key that it is encrypted by, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<SegmentKey>,
    /// Its parts so far, one entry a track, in their order; all tracks have as many.
    pub tracks: Vec<OpenTrack>,
}

/// One track of a segment that is being filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenTrack {
    /// Which one.
    pub track: Track,
    /// Name of its init section.
    pub init: String,
    /// The parts so far, in order.
    pub parts: Vec<Part>,
}

impl OpenSegment {
    /// How many parts every track has.
    pub fn parts(&self) -> usize {
        self.tracks.iter().map(|track| track.parts.len()).min().unwrap_or(0)
    }
}

impl Snapshot {
    /// What players are told of a key, where a key server gave it.
    pub fn signals(&self, kid: KeyId) -> Option<&Signals> {
        self.signals.iter().find(|signals| signals.kid == kid)
    }

    /// The keys of its segments, oldest first; one may be named again and again.
    pub fn keys(&self) -> impl Iterator<Item = SegmentKey> {
        let open = self.open.iter().filter_map(|open| open.key);
        self.segments.iter().filter_map(|segment| segment.key).chain(open)
    }

    /// The newest number and how many parts the segment after it has: what only ever grows.
    pub fn edge(&self) -> Option<(u64, usize)> {
        let parts = self.open.as_ref().map_or(0, OpenSegment::parts);
        match (self.segments.last(), &self.open) {
            (Some(last), _) => Some((last.number, parts)),
            (None, Some(open)) => Some((open.number.wrapping_sub(1), parts)),
            (None, None) => None,
        }
    }
}

/// What the multivariant playlist says of a track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackInfo {
    /// Which one.
    pub track: Track,
    /// RFC 6381 name, as `avc1.64001f` or `mp4a.40.2`.
    pub codec: String,
    /// Highest bit rate of a segment of this run so far, in bits a second.
    pub peak_bps: u64,
    /// Mean bit rate of this run so far, in bits a second.
    pub mean_bps: u64,
    /// Picture width after cropping; 0 for audio.
    pub width: u32,
    /// Picture height after cropping; 0 for audio.
    pub height: u32,
    /// Frames in 1,000 seconds; 0 where unknown or audio.
    pub millihertz: u32,
    /// Audio channels; 0 for video.
    pub channels: u32,
}

/// One listed segment, all tracks of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Media sequence number; never goes back, never names other bytes.
    pub number: u64,
    /// The run it belongs to.
    pub run: RunId,
    /// Discontinuities of the stream before this segment: its `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity: u64,
    /// First tick.
    pub start_90k: i64,
    /// Length in ticks.
    pub duration_90k: i64,
    /// `EXT-X-PROGRAM-DATE-TIME` in Unix milliseconds: the run's anchor plus ticks.
    pub date_unix_ms: i64,
    /// Starts with an IDR (or has no video).
    pub independent: bool,
    /// The GOPs that start in it, in order.
    pub gops: Vec<Gop>,
    /// Its bytes, one entry a track, in their order.
    pub tracks: Vec<SegmentTrack>,
    /// Whether it is there as MPEG-TS too; made when it is first asked for.
    #[serde(default)]
    pub has_mpeg_ts: bool,
    /// The key that it is encrypted by, if it is.
    #[serde(default)]
    pub key: Option<SegmentKey>,
}

/// The way that MPEG-TS is made of a segment. Whoever makes other bytes of the same tracks counts it up: two versions then do not
/// take one for the other.
const MPEG_TS_WAY: &[u8] = b"releve mpeg-ts 1\0";

impl Segment {
    /// What this segment as MPEG-TS is named by, where it is there as that: the hash of all that its bytes are a function of,
    /// the way they are made and the hashes of the tracks in it. Their own hash is known to nobody before they are made.
    pub fn mpeg_ts(&self) -> Option<Sha256> {
        let mut made_of = self.has_mpeg_ts.then(|| MPEG_TS_WAY.to_vec())?;
        for track in [Track::Video, Track::AUDIO] {
            let entry = self.tracks.iter().find(|entry| entry.track == track);
            made_of.push(u8::from(entry.is_some()));
            if let Some(entry) = entry {
                made_of.extend((entry.init.len() as u64).to_be_bytes());
                made_of.extend(entry.init.as_bytes());
                made_of.extend(entry.sha256.0);
            }
        }
        Some(Sha256::of(&made_of))
    }
}

/// Where sound ends, exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SoundEnd {
    /// The first sample after it, on its track's clock.
    pub sample: u64,
    /// Samples a second.
    pub rate: u32,
}

/// One track's bytes of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentTrack {
    /// Which one.
    pub track: Track,
    /// Name of its init section, as `init-0123456789abcdef`: made from the hash of its bytes.
    pub init: String,
    /// Every viewer's length in bytes.
    pub len: u64,
    /// Hash of the encoded `Object`.
    pub sha256: Sha256,
    /// The parts that make it up, in order.
    pub parts: Vec<Part>,
    /// What it was before it was encrypted, where it was.
    #[serde(default)]
    pub clear: Option<Clear>,
    /// Of audio: where its sound ends; `None` without sound so far. A restarted node goes on from there.
    #[serde(default)]
    pub sound_end: Option<SoundEnd>,
    /// Of a further encoding of the picture: the GOPs of its own that start in the segment, in order, where they are marked.
    /// Those of the picture are the segment's.
    #[serde(default)]
    pub gops: Vec<Gop>,
}

/// A track of a segment before encryption: what the archive keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clear {
    /// Name of its init section; another one than the last segment's means that the configuration has changed.
    pub init: String,
    /// Hash of the encoded `Object`.
    pub sha256: Sha256,
}

/// One part of a segment: the unit of publication.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Length in ticks.
    pub duration_90k: i64,
    /// Every viewer's length in bytes.
    pub len: u64,
    /// Starts with an IDR (or has no video).
    pub independent: bool,
    /// Hash of the encoded `Object` of this part alone.
    pub sha256: Sha256,
}

/// How marking ended for a GOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Marking {
    /// Its IDR exists as A and B.
    Marked,
    /// Passed as it came.
    Unmarked,
    /// Not published, because the stream requires marks and there was none.
    Withheld,
}

/// The record of one GOP: what tracing needs to know of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gop {
    /// Its id.
    #[serde(with = "gop_id")]
    pub id: GopId,
    /// First tick of its IDR.
    pub start_90k: i64,
    /// Marked, unmarked, withheld.
    pub marking: Marking,
    /// Slices that carry symbols; 0 unless marked.
    pub slices: u16,
    /// Version of the pattern key; 0 unless marked.
    pub pattern_key: u32,
    /// Version of the code key; 0 unless marked.
    pub code_key: u32,
    /// Version of the bias key that goes with it; 0 unless marked, and in records of older versions.
    #[serde(default)]
    pub bias_key: u32,
}

mod gop_id {
    use super::GopId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &GopId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(id.0))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<GopId, D::Error> {
        let text = String::deserialize(from)?;
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map_err(serde::de::Error::custom)?;
        Ok(GopId(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playlist;

    #[test]
    fn as_mpeg_ts_it_is_named_by_all_that_is_in_it_and_by_nothing_else() {
        let segment = Segment { has_mpeg_ts: true, ..playlist::tests::segment(7, 0, "a") };
        let name = segment.mpeg_ts().unwrap();
        let changed = |change: &dyn Fn(&mut Segment)| {
            let mut other = segment.clone();
            change(&mut other);
            other.mpeg_ts()
        };
        assert_eq!(changed(&|other| other.has_mpeg_ts = false), None);
        let others: [&dyn Fn(&mut Segment); 5] = [
            &|other| other.tracks[0].sha256.0[31] ^= 1,
            &|other| other.tracks[1].sha256.0[0] ^= 1,
            &|other| other.tracks[0].init.push('1'),
            &|other| other.tracks.truncate(1),
            &|other| drop(other.tracks.remove(0)),
        ];
        let mut names: Vec<_> = others.iter().map(|change| changed(change).unwrap().0).collect();
        names.push(name.0);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 6, "a name each");
        let further = SegmentTrack { track: Track::ALL[2], ..segment.tracks[1].clone() };
        assert_eq!(changed(&|other| other.tracks.push(further.clone())), Some(name), "that is not in it");
        assert_eq!(changed(&|other| other.date_unix_ms += 1), Some(name));
    }
}
