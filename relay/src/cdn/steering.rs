//! Content steering (RFC 8216bis §7): two ways to the same segments, and which of them a viewer takes.
//!
//! ```text
//! pathway relay   video.m3u8      the relay's own segments, eight symbols a GOP, parts and all
//! pathway cdn     cdn-video.m3u8  segments at the CDN, one symbol each
//! ```
//!
//! In: the multivariant playlist as it is without a CDN, a session's id, the share of viewers that goes to the CDN. Out: the
//! playlist with both pathways, and the steering manifest. Pure.

use super::PREFIX;
use super::overflow::WHOLE;
use crate::route::carried;
use serde_json::json;

/// The name of the steering manifest below a session.
pub const STEERING: &str = "steering.json";

/// A way to the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pathway {
    /// From the relay.
    Relay,
    /// From the CDN.
    Cdn,
}

impl Pathway {
    /// The way of a session: drawn by its id, so that of a growing share nobody comes back, and of a shrinking one nobody
    /// goes. `share` is in sixteenths, `here` the way that it is on, if it has begun.
    ///
    /// A player that plays parts cannot go on with whole segments without waiting for each: where there are `parts` it stays where
    /// it is until there is room for all, and who comes before that begins at the CDN.
    pub fn of(session: &[u8; 16], share: u8, parts: bool, here: Option<Pathway>) -> Pathway {
        match here {
            _ if share == 0 => Pathway::Relay,
            Some(here) if parts => here,
            _ if parts || session[0] % WHOLE < share => Pathway::Cdn,
            _ => Pathway::Relay,
        }
    }

    /// The way that a player says it is on (`_HLS_pathway`), with the quotes of a playlist or without; one that is not known is taken
    /// for the relay's.
    pub fn told(text: &str) -> Pathway {
        let id = text.trim_start_matches("%22").trim_end_matches("%22").trim_matches('"');
        if id == Pathway::Cdn.id() { Pathway::Cdn } else { Pathway::Relay }
    }

    /// Its `PATHWAY-ID`.
    pub fn id(self) -> &'static str {
        match self {
            Pathway::Relay => "relay",
            Pathway::Cdn => "cdn",
        }
    }

    fn other(self) -> Pathway {
        match self {
            Pathway::Relay => Pathway::Cdn,
            Pathway::Cdn => Pathway::Relay,
        }
    }
}

/// The multivariant playlist with both pathways. `first` is where players begin, and where those stay that know no steering.
pub fn index(index: &str, first: Pathway) -> String {
    let mut text = String::with_capacity(2 * index.len() + 128);
    let (head, variants): (Vec<&str>, Vec<&str>) = index.lines().partition(|line| {
        line.starts_with("#EXTM3U")
            || line.starts_with("#EXT-X-VERSION")
            || line.starts_with("#EXT-X-INDEPENDENT")
            || line.starts_with("#EXT-X-SESSION-KEY:")
    });
    for line in head {
        text.extend([line, "\n"]);
    }
    text.extend(["#EXT-X-CONTENT-STEERING:SERVER-URI=\"", STEERING, "\",PATHWAY-ID=\"", first.id(), "\"\n"]);
    for pathway in [first, first.other()] {
        for line in &variants {
            let line = match pathway {
                Pathway::Relay => (*line).to_owned(),
                Pathway::Cdn => at_cdn(line),
            };
            text += line.trim_end();
            if line.starts_with("#EXT-X-STREAM-INF:") {
                text.extend([",PATHWAY-ID=\"", pathway.id(), "\""]);
            }
            text.push('\n');
        }
    }
    text
}

/// A line of the multivariant playlist as it is on the pathway of the CDN: other playlists, and groups of its own.
fn at_cdn(line: &str) -> String {
    let mut line = carried::rewritten(line, |uri, out| out.extend([PREFIX, uri]));
    for name in ["GROUP-ID", "AUDIO", "VIDEO", "SUBTITLES"] {
        for before in [',', ':'] {
            let group = format!("{before}{name}=\"");
            line = line.replace(&group, &format!("{group}{PREFIX}"));
        }
    }
    line
}

/// The steering manifest of one viewer; players ask again after `ttl_s`, where they asked before.
pub fn manifest(pathway: Pathway, ttl_s: u64) -> String {
    let priority = [pathway.id(), pathway.other().id()];
    json!({"VERSION": 1, "TTL": ttl_s.max(1), "PATHWAY-PRIORITY": priority}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "#EXTM3U\n#EXT-X-VERSION:7\n\
        #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,URI=\"audio.m3u8\"\n\
        #EXT-X-STREAM-INF:BANDWIDTH=9,CODECS=\"avc1.64001f,mp4a.40.2\",AUDIO=\"audio\"\nvideo.m3u8\n";

    #[test]
    fn both_pathways_have_the_same_variants() {
        let relay = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,URI=\"audio.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=9,CODECS=\"avc1.64001f,mp4a.40.2\",AUDIO=\"audio\",PATHWAY-ID=\"relay\"\nvideo.m3u8\n";
        let cdn = "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"cdn-audio\",NAME=\"Audio\",DEFAULT=YES,URI=\"cdn-audio.m3u8\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=9,CODECS=\"avc1.64001f,mp4a.40.2\",AUDIO=\"cdn-audio\",PATHWAY-ID=\"cdn\"\ncdn-video.m3u8\n";
        let steering = |id| {
            format!(
                "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-CONTENT-STEERING:SERVER-URI=\"steering.json\",PATHWAY-ID=\"{id}\"\n"
            )
        };
        assert_eq!(index(INDEX, Pathway::Relay), format!("{}{relay}{cdn}", steering("relay")));
        assert_eq!(index(INDEX, Pathway::Cdn), format!("{}{cdn}{relay}", steering("cdn")));
    }

    #[test]
    fn a_share_is_that_of_the_sessions() {
        let way = |first, share| Pathway::of(&[first; 16], share, false, Some(Pathway::Relay));
        let of = |share| (0..=255).filter(|&first| way(first, share) == Pathway::Cdn).count();
        for share in 0..=WHOLE {
            assert_eq!(of(share), 16 * usize::from(share));
        }
        // Who went to the CDN with a smaller share goes with a larger one.
        for first in 0..=255 {
            let ways: Vec<_> = (0..=WHOLE).map(|share| way(first, share)).collect();
            assert!(ways.windows(2).all(|pair| pair[0] == Pathway::Relay || pair[1] == Pathway::Cdn));
        }
    }

    #[test]
    fn who_plays_parts_stays_until_there_is_room_for_all() {
        use Pathway::{Cdn, Relay};
        for (share, here, way) in [
            (0, None, Relay),
            (0, Some(Relay), Relay),
            (0, Some(Cdn), Relay),
            (1, None, Cdn),
            (1, Some(Relay), Relay),
            (1, Some(Cdn), Cdn),
            (WHOLE, None, Cdn),
            (WHOLE, Some(Relay), Relay),
        ] {
            for first in [0, 15] {
                assert_eq!(Pathway::of(&[first; 16], share, true, here), way, "{share} {here:?}");
            }
        }
    }

    #[test]
    fn players_say_where_they_are() {
        for text in ["cdn", "\"cdn\"", "%22cdn%22"] {
            assert_eq!(Pathway::told(text), Pathway::Cdn, "{text}");
        }
        for text in ["", ".", "relay", "\"relay\"", "%22relay%22", "CDN", "cdn2"] {
            assert_eq!(Pathway::told(text), Pathway::Relay, "{text}");
        }
    }

    #[test]
    fn the_manifest_names_both() {
        let read = |pathway| serde_json::from_str::<serde_json::Value>(&manifest(pathway, 30)).unwrap();
        assert_eq!(
            read(Pathway::Cdn),
            json!({"VERSION": 1, "TTL": 30, "PATHWAY-PRIORITY": ["cdn", "relay"]})
        );
        assert_eq!(read(Pathway::Relay)["PATHWAY-PRIORITY"], json!(["relay", "cdn"]));
    }
}
