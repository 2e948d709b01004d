//! What the tracer takes from a segment's record of a track: when it was, what its GOPs are, which keys marked them.
//!
//! In: JSON as the ingest recorded it. Out: values. Pure. Unknown fields are left alone.

use super::log::PICTURE;
use crate::position::{GopId, Position};
use serde::{Deserialize, Serialize};

/// The record of one GOP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GopRecord {
    /// Its id.
    #[serde(rename = "id", with = "gop_hex")]
    pub gop: GopId,
    /// First tick of its IDR, in 90 kHz ticks of its run.
    pub start_90k: i64,
    /// `marked`, `unmarked` or `withheld`.
    pub marking: String,
    /// Slices that carry symbols; 0 unless marked.
    pub slices: u16,
    /// Version of the pattern key; 0 unless marked.
    pub pattern_key: u32,
    /// Version of the code key; 0 unless marked.
    pub code_key: u32,
    /// Version of the bias key; 0 unless marked, and in records of older versions.
    #[serde(default)]
    pub bias_key: u32,
}

impl GopRecord {
    /// Where its symbols sit, in order.
    pub fn positions(&self) -> impl Iterator<Item = Position> {
        let gop = self.gop;
        (0..self.slices).map(move |slice| Position { gop, slice })
    }
}

/// A GOP id as 32 hex digits.
pub mod gop_hex {
    use super::GopId;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it.
    ///
    /// # Errors
    /// Those of the format.
    pub fn serialize<S: Serializer>(id: &GopId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&hex::encode(id.0))
    }

    /// Reads it.
    ///
    /// # Errors
    /// Anything but 32 hex digits.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<GopId, D::Error> {
        let text = String::deserialize(from)?;
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map_err(serde::de::Error::custom)?;
        Ok(GopId(id))
    }
}

/// The record of one segment: what it says of the picture, or of one further encoding of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct SegmentRecord {
    /// Its number in the stream.
    pub number: u64,
    /// The run it belongs to, 16 hex digits.
    pub run: String,
    /// First tick, 90 kHz, of its run.
    pub start_90k: i64,
    /// Length in ticks.
    pub duration_90k: i64,
    /// When it was, Unix milliseconds.
    pub date_unix_ms: i64,
    /// The GOPs that start in it, in order.
    pub gops: Vec<GopRecord>,
    /// All its tracks, then the one in question.
    tracks: Vec<TrackRecord>,
}

/// One track of a segment's record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct TrackRecord {
    track: String,
    init: String,
    sha256: String,
    #[serde(default)]
    clear: Option<ClearRecord>,
    /// Of a further encoding: its own GOPs.
    #[serde(default)]
    gops: Vec<GopRecord>,
}

/// A track before it was encrypted: what the archive has of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct ClearRecord {
    init: String,
    sha256: String,
}

impl SegmentRecord {
    /// What it says of this track.
    pub(super) fn of_track(mut self, track: &str) -> SegmentRecord {
        self.tracks.retain(|entry| entry.track == track);
        if track != PICTURE {
            self.gops =
                self.tracks.first_mut().map(|entry| std::mem::take(&mut entry.gops)).unwrap_or_default();
        }
        self
    }

    /// Name of the track's init section, before encryption.
    pub fn init(&self) -> Option<&str> {
        self.track().map(|track| track.clear.as_ref().map_or(track.init.as_str(), |clear| &clear.init))
    }

    /// SHA-256 of the track's encoded object before encryption, 64 hex digits: what was recorded in the ledger before it was
    /// published.
    pub fn sha256(&self) -> Option<&str> {
        self.track().map(|track| track.clear.as_ref().map_or(track.sha256.as_str(), |clear| &clear.sha256))
    }

    fn track(&self) -> Option<&TrackRecord> {
        self.tracks.first()
    }
}
