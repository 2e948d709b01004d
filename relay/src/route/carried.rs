//! A playlist whose every URI carries the session in its query, for players and proxies that must not see it in the path.
//!
//! In: a playlist as all viewers get it, with relative URIs, and a credential. Out: one viewer's own. Pure. A URI line gets
//! `?s=CREDENTIAL`, and so does every `URI="…"` of a tag (RFC 8216 §4.3.4, 8216bis §4.4.5); what the URI itself is stays.

/// The query name of the session.
pub const NAME: &str = "s";

/// The playlist with the credential in each URI that leads here; addresses elsewhere carry nothing.
pub fn carried(playlist: &str, credential: &str) -> String {
    rewritten(playlist, |uri, out| {
        out.push_str(uri);
        out.extend([if uri.contains('?') { "&" } else { "?" }, NAME, "=", credential]);
    })
}

/// The playlist with each URI that leads here as `write` has it. Those with a scheme (`https:`, `skd:`, `data:`) stay: they are
/// none of ours.
pub fn rewritten(playlist: &str, mut write: impl FnMut(&str, &mut String)) -> String {
    let mut text = String::with_capacity(2 * playlist.len() + playlist.lines().count() * 64);
    for line in playlist.lines() {
        if line.is_empty() {
        } else if !line.starts_with('#') {
            uri_as(line, &mut text, &mut write);
        } else if let Some((before, uri, after)) = attribute(line) {
            text.push_str(before);
            uri_as(uri, &mut text, &mut write);
            text.push_str(after);
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

fn uri_as(uri: &str, text: &mut String, write: &mut impl FnMut(&str, &mut String)) {
    // RFC 3986 §4.2: a relative one has no colon in its first part.
    let first = uri.split(['/', '?', '#']).next().unwrap_or_default();
    if first.contains(':') { text.push_str(uri) } else { write(uri, text) }
}

/// A tag's line around its URI, if it has one: `URI` or `SERVER-URI`.
fn attribute(line: &str) -> Option<(&str, &str, &str)> {
    let begins = |before: &str| before.strip_suffix("SERVER-").unwrap_or(before).ends_with([':', ',']);
    let begin = line.match_indices("URI=\"").find(|(at, _)| begins(&line[..*at]))?.0 + "URI=\"".len();
    let end = begin + line[begin..].find('"')?;
    Some((&line[..begin], &line[begin..end], &line[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_uri_carries_the_session_and_nothing_else_changes() {
        let playlist = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,NAME=\"URI=\",URI=\"audio.m3u8\",DEFAULT=YES\n\
            #EXT-X-MAP:URI=\"video/init-0.mp4\"\n#EXTINF:2,\nvideo/1.m4s\n#EXT-X-PART:DURATION=0.3,URI=\"video/2.0.m4s\"\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video/2.1.m4s\"\nvideo.m3u8?x=1\n";
        let expected = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,NAME=\"URI=\",URI=\"audio.m3u8?s=C\",DEFAULT=YES\n\
            #EXT-X-MAP:URI=\"video/init-0.mp4?s=C\"\n#EXTINF:2,\nvideo/1.m4s?s=C\n#EXT-X-PART:DURATION=0.3,URI=\"video/2.0.m4s?s=C\"\n\
            #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video/2.1.m4s?s=C\"\nvideo.m3u8?x=1&s=C\n";
        assert_eq!(carried(playlist, "C"), expected);
        let steering = "#EXT-X-CONTENT-STEERING:SERVER-URI=\"steering.json\",PATHWAY-ID=\"relay\"\n";
        assert_eq!(carried(steering, "C"), steering.replace(".json", ".json?s=C"));
        assert_eq!(carried("#X:A-URI=\"a\"\n", "C"), "#X:A-URI=\"a\"\n");
        assert_eq!(carried("", "C"), "");
        for elsewhere in [
            "https://cdn.example.org/7.m4s\n",
            "#EXT-X-KEY:METHOD=SAMPLE-AES,URI=\"skd://key?x=1\",KEYFORMAT=\"com.apple.streamingkeydelivery\"\n",
            "#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES,URI=\"data:text/plain;charset=UTF-16;base64,AAA/A+==\"\n",
        ] {
            assert_eq!(carried(elsewhere, "C"), elsewhere);
        }
        assert_eq!(carried("7.m4s?at=1:2\n", "C"), "7.m4s?at=1:2&s=C\n");
    }
}
