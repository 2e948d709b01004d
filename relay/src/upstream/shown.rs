//! What viewers are shown of a stream: a snapshot and its playlists, rendered once and shared.
//!
//! In: a snapshot. Out: its playlists as answers. Pure; the text is `ingest_api::playlist`.

use crate::cdn::PREFIX;
use crate::cdn::steering::{self, Pathway};
use crate::http1::Rendered;
use crate::route::carried;
use flate2::Compression;
use flate2::write::GzEncoder;
use ingest_api::playlist;
use ingest_api::track::TRACKS_MAX;
use ingest_api::window::Sha256;
use ingest_api::{Snapshot, Track};
use std::io::Write;
use std::sync::OnceLock;

/// Playlists change at any moment.
const CACHE: &str = "private, no-cache";
/// Those that are an edge's to keep: for as long as a list without the newest segment does no harm.
const EDGE_CACHE: &str = "public, max-age=1";

/// One snapshot with its playlists.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What the playlists are a function of.
    pub snapshot: Snapshot,
    index: Option<Playlist>,
    /// By the tracks' places in `Track::ALL`.
    media: [Media; TRACKS_MAX],
    mpeg_ts: Option<Playlist>,
    cdn: Cdn,
}

/// What is made for CDN mode, when somebody asks.
#[derive(Clone, Debug, Default)]
struct Cdn {
    index: OnceLock<Option<Playlist>>,
    steered: [OnceLock<Option<Playlist>>; 2],
    /// By the tracks' places in `Track::ALL`.
    whole: [OnceLock<Option<String>>; TRACKS_MAX],
    /// For edges that choose themselves: of each track, as MPEG-TS, of all.
    neutral: [OnceLock<Option<Playlist>>; TRACKS_MAX + 2],
}

/// Which of the playlists that are the same for everybody behind an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neutral {
    /// The multivariant playlist.
    Index,
    /// A track's.
    Media(Track),
    /// That of the segments as MPEG-TS.
    MpegTs,
}

/// A track's playlist, and the same as a delta update.
#[derive(Clone, Debug)]
struct Media {
    whole: Option<Playlist>,
    delta: Option<Playlist>,
}

/// A playlist as all viewers get it.
#[derive(Clone, Debug)]
pub struct Playlist {
    plain: Coded,
    gzip: Coded,
}

/// A playlist in one coding.
#[derive(Clone, Debug)]
pub struct Coded {
    /// The whole answer.
    pub answer: Rendered,
    /// Its entity tag with the quotes: made from the text, so that all relays give the same.
    pub etag: Box<str>,
}

impl Playlist {
    fn new(text: &str) -> Playlist {
        Playlist::kept(text, CACHE)
    }

    fn kept(text: &str, cache: &str) -> Playlist {
        let tag = hex::encode(&Sha256::of(text.as_bytes()).0[..8]);
        Playlist {
            plain: Coded::new(format!("\"{tag}\""), None, cache, text.as_bytes()),
            gzip: Coded::new(format!("\"{tag}-gzip\""), Some("gzip"), cache, &gzip(text.as_bytes())),
        }
    }

    /// In gzip or as it is.
    pub fn coded(&self, gzip: bool) -> &Coded {
        if gzip { &self.gzip } else { &self.plain }
    }
}

impl Coded {
    fn new(etag: String, coding: Option<&str>, cache: &str, body: &[u8]) -> Coded {
        let fields = [
            ("content-type", playlist::CONTENT_TYPE),
            ("cache-control", cache),
            ("vary", "accept-encoding"),
            ("etag", &etag),
        ];
        let coding = coding.map(|coding| ("content-encoding", coding));
        let answer = Rendered::shared(200, fields.into_iter().chain(coding), body);
        Coded { answer: answer.expect("constants and hex can be written"), etag: etag.into() }
    }
}

/// Without a date, so that it depends on the text alone.
fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), Compression::default());
    encoder.write_all(text).and_then(|()| encoder.finish()).expect("memory takes what is written")
}

impl Shown {
    /// Renders a snapshot.
    pub fn new(snapshot: Snapshot) -> Shown {
        let render = |text: Option<String>| text.map(|text| Playlist::new(&text));
        let media = |track| Media {
            whole: render(playlist::media(&snapshot, track)),
            delta: render(playlist::delta(&snapshot, track)),
        };
        Shown {
            index: render(playlist::index(&snapshot)),
            media: Track::ALL.map(media),
            mpeg_ts: render(playlist::mpeg_ts(&snapshot)),
            cdn: Cdn::default(),
            snapshot,
        }
    }

    /// The multivariant playlist of who gets playlists of their own.
    pub fn cdn_index(&self) -> Option<&Playlist> {
        let make = |index: &Playlist| {
            let text = String::from_utf8_lossy(index.plain.answer.shared_body());
            Playlist::new(&carried::rewritten(&text, |uri, out| out.extend([PREFIX, uri])))
        };
        self.cdn.index.get_or_init(|| self.index().map(make)).as_ref()
    }

    /// The multivariant playlist of who is told which pathway to take; `first` is where they begin.
    pub fn steered_index(&self, first: Pathway) -> Option<&Playlist> {
        let make = |index: &Playlist| {
            let text = String::from_utf8_lossy(index.plain.answer.shared_body());
            Playlist::new(&steering::index(&text, first))
        };
        self.cdn.steered[usize::from(first == Pathway::Cdn)].get_or_init(|| self.index().map(make)).as_ref()
    }

    /// A track's playlist of whole segments, without parts: what a viewer's own is made of.
    pub fn whole(&self, track: Track) -> Option<&str> {
        let make = || {
            let whole = Snapshot { part_90k: 0, open: None, ..self.snapshot.clone() };
            playlist::media(&whole, track)
        };
        self.cdn.whole[track.index()].get_or_init(make).as_deref()
    }

    /// A playlist of whole segments for an edge that chooses variants itself: everybody's, and the edge's to keep.
    pub fn neutral(&self, which: Neutral) -> Option<&Playlist> {
        let (made, text): (_, &dyn Fn() -> Option<String>) = match which {
            Neutral::Media(track) => (track.index(), &move || Some(self.whole(track)?.to_owned())),
            Neutral::MpegTs => (TRACKS_MAX, &|| playlist::mpeg_ts(&self.snapshot)),
            Neutral::Index => (TRACKS_MAX + 1, &|| playlist::index(&self.snapshot)),
        };
        let make = || text().map(|text| Playlist::kept(&text, EDGE_CACHE));
        self.cdn.neutral[made].get_or_init(make).as_ref()
    }

    /// The multivariant playlist; `None` before the first segment.
    pub fn index(&self) -> Option<&Playlist> {
        self.index.as_ref()
    }

    /// The playlist of a track; `None` while no listed segment has it.
    pub fn media(&self, track: Track) -> Option<&Playlist> {
        self.of(track).whole.as_ref()
    }

    /// The playlist of the segments as MPEG-TS; `None` while none is there as that.
    pub fn mpeg_ts(&self) -> Option<&Playlist> {
        self.mpeg_ts.as_ref()
    }

    /// A track's playlist as a delta update; the whole where there is nothing to leave out.
    pub fn delta(&self, track: Track) -> Option<&Playlist> {
        self.of(track).delta.as_ref().or(self.media(track))
    }

    fn of(&self, track: Track) -> &Media {
        &self.media[track.index()]
    }
}
