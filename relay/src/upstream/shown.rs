//! What viewers are shown of a stream: a snapshot and its playlists, rendered once and shared.
//!
//! In: a snapshot. Out: its playlists as bytes. Pure; the text is `ingest_api::playlist`.

use bytes::Bytes;
use ingest_api::playlist;
use ingest_api::{Snapshot, Track};

/// One snapshot with its playlists.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What the playlists are a function of.
    pub snapshot: Snapshot,
    index: Option<Bytes>,
    video: Option<Bytes>,
    audio: Option<Bytes>,
}

impl Shown {
    /// Renders a snapshot.
    pub fn new(snapshot: Snapshot) -> Shown {
        Shown {
            index: playlist::index(&snapshot).map(Bytes::from),
            video: playlist::media(&snapshot, Track::Video).map(Bytes::from),
            audio: playlist::media(&snapshot, Track::Audio).map(Bytes::from),
            snapshot,
        }
    }

    /// The multivariant playlist; `None` before the first segment.
    pub fn index(&self) -> Option<Bytes> {
        self.index.clone()
    }

    /// The playlist of a track; `None` while no listed segment has it.
    pub fn media(&self, track: Track) -> Option<Bytes> {
        match track {
            Track::Video => self.video.clone(),
            Track::Audio => self.audio.clone(),
        }
    }
}
