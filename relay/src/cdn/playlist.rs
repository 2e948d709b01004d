//! One viewer's playlist: segments and init sections at the CDN, keys and all else below the session.
//!
//! In: a playlist as all viewers get it, without parts; the segments it lists, whose it is. Out: the same with one variant's
//! address for each segment. Pure.

use super::lock::{self, Lock};
use super::names::{Name, Names, Variant};
use crate::route::{Wanted, carried};
use ingest_api::window::{Gop, Marking, Segment};
use ingest_api::{StreamName, Track};
use releve_watermark::{Position, Symbol};

/// What the names of such playlists begin with.
pub const PREFIX: &str = "cdn-";

/// Where files are, and how.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The CDN's URL without a slash at its end.
    pub base: &'a str,
    /// What stands behind each address.
    pub query: &'a str,
    /// Segments that the ingest has not encrypted are encrypted there.
    pub locked: bool,
}

/// The playlist with the addresses of one viewer. `symbol` says which variant they get at a position under a code key, `None` when that key is not live.
///
/// `None` when an address cannot be made: better no playlist than one with a hole.
pub fn listed(
    playlist: &str,
    cdn: &Place<'_>,
    stream: &StreamName,
    segments: &[Segment],
    names: &Names,
    symbol: impl Fn(u32, Position) -> Option<Symbol>,
) -> Option<String> {
    // A file's name, and how it is encrypted if it is.
    let file = |wanted: &Wanted| -> Option<(Name, Option<Lock>)> {
        let (Wanted::Segment(_, number) | Wanted::TsSegment(number)) = wanted else {
            return Some((names.name(None, stream, wanted, Variant::Only)?, None));
        };
        let at = segments.partition_point(|segment| segment.number < *number);
        let segment = segments.get(at).filter(|segment| segment.number == *number)?;
        let marked = match wanted {
            Wanted::Segment(track @ Track::Encoding(_), _) => marked_of(segment, *track),
            _ => marked(segment),
        };
        let variant = match (wanted, marked) {
            (Wanted::Segment(Track::Audio(_), _), _) | (_, None) => Variant::Only,
            (_, Some(gop)) => Variant::Whole(symbol(gop.code_key, Position::whole(gop.id))?),
        };
        let code_key = marked.map(|gop| gop.code_key);
        if cdn.locked && segment.key.is_none() {
            let (name, lock) = names.locked(code_key, stream, wanted, variant)?;
            return Some((name, Some(lock)));
        }
        Some((names.name(code_key, stream, wanted, variant)?, None))
    };
    let keyed = cdn.locked.then(|| lock::keyed(playlist, |wanted| file(wanted)?.1));
    let mut whole = true;
    let text = carried::rewritten(keyed.as_deref().unwrap_or(playlist), |uri, out| {
        let named = Wanted::of_path(uri)
            .filter(|wanted| matches!(wanted, Wanted::Segment(..) | Wanted::TsSegment(_) | Wanted::Init(..)));
        let Some(wanted) = named else { return out.push_str(uri) };
        match file(&wanted).zip(uri.rsplit_once('.')) {
            Some(((name, _), (stem, kind))) => {
                let name = hex::encode(name);
                out.extend([cdn.base, "/cdn/", stream.as_str(), "/", stem, "-", &name, ".", kind, cdn.query]);
            }
            None => whole = false,
        }
    });
    whole.then_some(text)
}

/// The same of a further encoding of the picture: it has the picture's GOP where it has that one's IDR picture, as at a segment's
/// beginning.
fn marked_of(segment: &Segment, track: Track) -> Option<&Gop> {
    let entry = segment.tracks.iter().find(|entry| entry.track == track)?;
    entry.gops.iter().find(|gop| gop.marking == Marking::Marked)
}

/// The GOP that a whole segment's symbol belongs to: the first marked one that starts in it.
pub fn marked(segment: &Segment) -> Option<&Gop> {
    segment.gops.iter().find(|gop| gop.marking == Marking::Marked)
}
