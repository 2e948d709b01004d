//! One viewer's playlist: segments and init sections at the CDN, keys and all else below the session.
//!
//! In: a playlist as all viewers get it, without parts; the segments it lists, whose it is. Out: the same with one variant's
//! address for each segment. Pure.

use super::names::{Names, Variant};
use crate::route::{Wanted, carried};
use ingest_api::StreamName;
use ingest_api::window::{Gop, Marking, Segment};
use releve_watermark::{Position, Symbol};

/// What the names of such playlists begin with.
pub const PREFIX: &str = "cdn-";

/// The playlist with the addresses of one viewer. `base` is the CDN's URL without a slash at its end, `query` what stands
/// behind each address; `symbol` says which variant they get at a position under a code key, `None` when that key is not live.
///
/// `None` when an address cannot be made: better no playlist than one with a hole.
pub fn listed(
    playlist: &str,
    base: &str,
    query: &str,
    stream: &StreamName,
    segments: &[Segment],
    names: &Names,
    symbol: impl Fn(u32, Position) -> Option<Symbol>,
) -> Option<String> {
    let mut whole = true;
    let text = carried::rewritten(playlist, |uri, out| {
        let Some(wanted) = Wanted::of_path(uri) else { return out.push_str(uri) };
        let address = match &wanted {
            Wanted::Segment(_, number) | Wanted::TsSegment(number) => {
                let at = segments.partition_point(|segment| segment.number < *number);
                let segment = segments.get(at).filter(|segment| segment.number == *number);
                segment.and_then(|segment| {
                    let marked = marked(segment);
                    let variant = match (&wanted, marked) {
                        (Wanted::Segment(ingest_api::Track::Audio, _), _) | (_, None) => Variant::Only,
                        (_, Some(gop)) => Variant::Whole(symbol(gop.code_key, Position::whole(gop.id))?),
                    };
                    names.name(marked.map(|gop| gop.code_key), stream, &wanted, variant)
                })
            }
            Wanted::Init(..) => names.name(None, stream, &wanted, Variant::Only),
            _ => return out.push_str(uri),
        };
        match address.zip(uri.rsplit_once('.')) {
            Some((name, (stem, kind))) => {
                let name = hex::encode(name);
                out.extend([base, "/cdn/", stream.as_str(), "/", stem, "-", &name, ".", kind, query]);
            }
            None => whole = false,
        }
    });
    whole.then_some(text)
}

/// The GOP that a whole segment's symbol belongs to: the first marked one that starts in it.
pub fn marked(segment: &Segment) -> Option<&Gop> {
    segment.gops.iter().find(|gop| gop.marking == Marking::Marked)
}
