//! What a viewer may ask for: raw bytes of a request target become one typed route, or are malformed.
//!
//! ```text
//! /live/STREAM/index.m3u8?token=T  or  ?CAT=T         come in; ts.m3u8 alike, for the stream as MPEG-TS
//! /watch/STREAM?token=T                               the watch page
//! /v/SESSION/index.m3u8  video.m3u8  audio.m3u8       playlists; of further audio tracks audio2.m3u8 to audio8.m3u8
//! /v/SESSION/video/NUMBER.m4s  video/init-HEX16.mp4   objects; audio alike
//! /v/SESSION/video/NUMBER.INDEX.m4s                   parts
//! /v/SESSION/ts.m3u8  ts/NUMBER.ts                    all tracks as MPEG-TS
//! /v/SESSION/key/HEX32.key  key/HEX32.json            the key of an encrypted segment: its bytes, a Clear Key licence
//! /v/SESSION/video.m3u8?_HLS_msn=N&_HLS_part=I&_HLS_skip=YES     a playlist that has that part, as a delta update
//! /q/index.m3u8?s=SESSION  /q/video/NUMBER.m4s?s=SESSION …       the same with the session in the query
//! /c/STREAM/index.m3u8  /c/STREAM/video/NUMBER.m4s …             the same with the session in a cookie
//! /v/SESSION/cdn-video.m3u8  cdn-audio.m3u8  cdn-ts.m3u8         one viewer's playlists, of files at a CDN
//! /v/SESSION/steering.json                                       which of two pathways a viewer is to take
//! /v/SESSION/cmcd                                                where players post what they tell of themselves
//! /cdn/STREAM/video/NUMBER-HEX32.m4s  video/init-HEX16-HEX32.mp4 those files; audio alike, ts/NUMBER-HEX32.ts
//! /edge/STREAM/index.m3u8  video.m3u8  audio.m3u8  ts.m3u8       playlists for edges that choose variants themselves
//! /edge/STREAM/video/NUMBER.m4s  video/b/NUMBER.m4s  video/WMPaceInfo/NUMBER.m4s     A, B, and which bit says so; ts alike
//! /assets/NAME                                        script and style of the page
//! ```
//!
//! In: the target as it stood in the request line. Out: a `Route`, or `Malformed`. Pure and total.
//!
//! Everything has one spelling. Nothing here needs a `%`, so a path with one is malformed rather than decoded; so are
//! `//`, `.`, `..`, `;` and every byte that is not a letter, digit, `-`, `.`, `_`, `~` or `/`. A known query name that comes
//! twice is malformed, names that are not known are passed over. What is decided later (credential, cache key) is
//! decided by the typed route, never by the text.

use crate::cdn::names::Name;
use ingest_api::StreamName;
use ingest_api::playlist::{INDEX, MPEG_TS};
use serde::Deserialize;
use thiserror::Error;

pub mod carried;
pub mod cookie;
mod query;
pub mod range;
mod wanted;

pub use query::{Reload, Tokens};
pub use wanted::{Of, Wanted};

/// The longest target that is looked at, in bytes: twice a token and some.
pub const TARGET_BYTES_MAX: usize = 4096;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// The way in to a stream.
    Live {
        /// Which stream.
        stream: StreamName,
        /// Which playlist: `INDEX` or `MPEG_TS`.
        file: &'static str,
        /// The access token, if there is one.
        tokens: Tokens<'a>,
    },
    /// The watch page of a stream.
    Watch {
        /// Which stream.
        stream: StreamName,
        /// The access token, if there is one.
        tokens: Tokens<'a>,
    },
    /// Something below a session.
    Session {
        /// What carries it.
        carrier: Carrier<'a>,
        /// What is asked for; `None` when there is no such thing.
        wanted: Option<Wanted>,
        /// Whether an access token came too.
        token_too: bool,
        /// How a playlist is asked for.
        reload: Reload,
    },
    /// A file for a CDN to keep.
    Cdn {
        /// Of which stream.
        stream: StreamName,
        /// Which segment or init section.
        wanted: Wanted,
        /// What opens it, and says which variant it is.
        name: Name,
    },
    /// A file for an edge that chooses variants itself.
    Edge {
        /// Of which stream.
        stream: StreamName,
        /// Which playlist, segment or init section.
        wanted: Wanted,
        /// What of it.
        of: Of,
    },
    /// A file of the watch page.
    Asset {
        /// Its name.
        name: &'a str,
    },
    /// A place that only credentials open, but that names nothing.
    Guarded,
    /// Nothing of ours.
    Nothing,
}

/// What carries the session of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier<'a> {
    /// The path: the credential, as it came.
    Path(&'a str),
    /// The query: the credential, as it came. Its playlists carry it on.
    Query(&'a str),
    /// A cookie that belongs to the paths of this stream.
    Cookie(StreamName),
}

/// Where a session is carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionIn {
    /// In the path: playlists are the same for all viewers.
    #[default]
    Path,
    /// In the query: playlists are written for each viewer.
    Query,
    /// In a cookie: playlists are the same for all viewers, and the page is of the relay's own site.
    Cookie,
}

/// The target is not one a player of ours would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed request target")]
pub struct Malformed;

/// Reads a request target.
///
/// # Errors
/// `Malformed` for any spelling that is not canonical; it does not say which part.
pub fn parse(target: &[u8]) -> Result<Route<'_>, Malformed> {
    // Of all bytes, and not up to the first bad one: so many are looked at at once.
    let graphic = target.iter().fold(true, |graphic, byte| graphic & byte.is_ascii_graphic());
    if target.len() > TARGET_BYTES_MAX || !graphic {
        return Err(Malformed);
    }
    let target = std::str::from_utf8(target).map_err(|_| Malformed)?;
    let (path, text) = target.split_once('?').unwrap_or((target, ""));
    let rest = canonical(path)?;
    let (tokens, reload) = query::asked(text)?;
    let (first, rest) = rest.split_once('/').unwrap_or((rest, ""));
    let session = |carrier, below| {
        let (wanted, token_too) = (Wanted::of_path(below), tokens != Tokens::default());
        Route::Session { carrier, wanted, token_too, reload }
    };
    Ok(match first {
        "live" => match rest.split_once('/').map(|(stream, file)| (stream.parse(), file)) {
            Some((Ok(stream), INDEX)) => Route::Live { stream, file: INDEX, tokens },
            Some((Ok(stream), MPEG_TS)) => Route::Live { stream, file: MPEG_TS, tokens },
            _ => Route::Guarded,
        },
        "watch" => rest.parse().map_or(Route::Guarded, |stream| Route::Watch { stream, tokens }),
        "v" => {
            let (credential, below) = rest.split_once('/').unwrap_or((rest, ""));
            session(Carrier::Path(credential), below)
        }
        "q" => match query::session_of(text)? {
            Some(credential) => session(Carrier::Query(credential), rest),
            None => Route::Guarded,
        },
        "c" => match rest.split_once('/').map(|(stream, below)| (stream.parse(), below)) {
            Some((Ok(stream), below)) => session(Carrier::Cookie(stream), below),
            _ => Route::Guarded,
        },
        "cdn" => rest
            .split_once('/')
            .and_then(|(stream, below)| Some((stream.parse().ok()?, wanted::cdn(below)?)))
            .map_or(Route::Guarded, |(stream, (wanted, name))| Route::Cdn { stream, wanted, name }),
        "edge" => rest
            .split_once('/')
            .and_then(|(stream, below)| Some((stream.parse().ok()?, wanted::edge(below)?)))
            .map_or(Route::Guarded, |(stream, (wanted, of))| Route::Edge { stream, wanted, of }),
        "assets" if !rest.is_empty() && !rest.contains('/') => Route::Asset { name: rest },
        _ => Route::Nothing,
    })
}

/// The path without its first slash, if it is spelled canonically: of plain characters, without empty words (but for the last),
/// and none of them `.` or `..`.
fn canonical(path: &str) -> Result<&str, Malformed> {
    let rest = path.strip_prefix('/').ok_or(Malformed)?;
    // Without a way out of the loop: most of a path is a credential, and good.
    let plain = rest.bytes().fold(true, |plain, byte| plain & PLAIN[usize::from(byte)]);
    let mut words = rest.split('/');
    let last = words.next_back();
    let named = words.all(|word| !matches!(word, "" | "." | "..")) && !matches!(last, Some("." | ".."));
    if plain && named { Ok(rest) } else { Err(Malformed) }
}

/// Characters that stand for themselves (RFC 3986 §2.3), and the one between words.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        plain[byte] =
            (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'-' | b'.' | b'_' | b'~' | b'/');
        byte += 1;
    }
    plain
};

#[cfg(test)]
mod tests {
    use super::*;
    use ingest_api::Track;
    use ingest_api::content_key::KeyId;
    use proptest::prelude::*;

    fn route(target: &str) -> Result<Route<'_>, Malformed> {
        parse(target.as_bytes())
    }

    fn one(token: &str) -> Tokens<'_> {
        Tokens { any: Some(token), cat: None }
    }

    #[test]
    fn each_route_has_its_spelling() {
        let stream: StreamName = "demo".parse().unwrap();
        assert_eq!(
            route("/live/demo/index.m3u8?token=r1.1.a.b"),
            Ok(Route::Live { stream: stream.clone(), file: INDEX, tokens: one("r1.1.a.b") })
        );
        assert_eq!(
            route("/live/demo/ts.m3u8"),
            Ok(Route::Live { stream: stream.clone(), file: MPEG_TS, tokens: Tokens::default() })
        );
        assert_eq!(
            route("/live/demo/index.m3u8?cat=x&CAT=2D3R&CATS=y"),
            Ok(Route::Live {
                stream: stream.clone(),
                file: INDEX,
                tokens: Tokens { any: None, cat: Some("2D3R") }
            })
        );
        assert_eq!(
            route("/watch/demo?_HLS_msn=3&CMCD=a%2Cb&token=t&x"),
            Ok(Route::Watch { stream: stream.clone(), tokens: one("t") })
        );
        assert_eq!(route("/watch/demo"), Ok(Route::Watch { stream, tokens: Tokens::default() }));
        let cdn = |wanted| Route::Cdn { stream: "demo".parse().unwrap(), wanted, name: [0xa5; 16] };
        for (below, wanted) in [
            ("video/7-HEX.m4s", Wanted::Segment(Track::Video, 7)),
            ("audio/7-HEX.m4s", Wanted::Segment(Track::AUDIO, 7)),
            ("ts/7-HEX.ts", Wanted::TsSegment(7)),
            (
                "video/init-0123456789abcdef-HEX.mp4",
                Wanted::Init(Track::Video, "init-0123456789abcdef".into()),
            ),
        ] {
            let target = format!("/cdn/demo/{}", below.replace("HEX", &"a5".repeat(16)));
            assert_eq!(route(&target), Ok(cdn(wanted)), "{target}");
            for odd in
                [target.replace("a5.", "A5."), target.replace("a5.", "."), target.replace("/7-", "/07-")]
            {
                assert!(odd == target || route(&odd) == Ok(Route::Guarded), "{odd}");
            }
        }
        assert_eq!(route("/assets/watch-0.js"), Ok(Route::Asset { name: "watch-0.js" }));
        for wanted in [
            Wanted::Index,
            Wanted::Media(Track::Video),
            Wanted::Media(Track::AUDIO),
            Wanted::MpegTs,
            Wanted::CdnMedia(Track::Video),
            Wanted::CdnMedia(Track::AUDIO),
            Wanted::CdnMpegTs,
            Wanted::Steering,
            Wanted::Events,
            Wanted::TsSegment(0),
            Wanted::Segment(Track::Video, 0),
            Wanted::Segment(Track::AUDIO, u64::MAX),
            Wanted::Media(Track::ALL[2]),
            Wanted::CdnMedia(Track::ALL[8]),
            Wanted::Segment(Track::ALL[2], 7),
            Wanted::Part(Track::ALL[8], 7, 1),
            Wanted::Init(Track::ALL[3], "init-0123456789abcdef".into()),
            Wanted::Part(Track::Video, 0, 0),
            Wanted::Part(Track::AUDIO, u64::MAX, u32::MAX),
            Wanted::Init(Track::Video, "init-0123456789abcdef".into()),
            Wanted::Key(KeyId([0xa5; 16])),
            Wanted::Licence(KeyId([0x5a; 16])),
        ] {
            let target = format!("/v/abc_-/{}", wanted.to_path());
            let reload = Reload::default();
            let session = Route::Session {
                carrier: Carrier::Path("abc_-"),
                wanted: Some(wanted),
                token_too: false,
                reload,
            };
            assert_eq!(route(&target), Ok(session), "{target}");
        }
    }

    #[test]
    fn a_reload_says_what_it_waits_for() {
        let reload = |query: &str| match route(&format!("/v/S/video.m3u8?{query}")) {
            Ok(Route::Session { reload, .. }) => Ok((reload.msn, reload.part, reload.skip)),
            Ok(other) => panic!("{other:?}"),
            Err(malformed) => Err(malformed),
        };
        assert_eq!(reload(""), Ok((None, None, false)));
        assert_eq!(reload("_HLS_msn=7"), Ok((Some(7), None, false)));
        assert_eq!(reload("_HLS_part=0&x=y&_HLS_msn=12&_HLS_skip=v2"), Ok((Some(12), Some(0), true)));
        assert_eq!(reload("_HLS_skip=YES"), Ok((None, None, true)));
        for query in [
            "_HLS_msn",
            "_HLS_msn=",
            "_HLS_msn=-1",
            "_HLS_msn=01",
            "_HLS_part=1",
            "_HLS_msn=1&_HLS_msn=1",
            "_HLS_msn=x",
        ] {
            assert_eq!(reload(query), Err(Malformed), "{query}");
        }
    }

    #[test]
    fn files_for_an_edge_have_one_spelling() {
        let init = Wanted::Init(Track::AUDIO, "init-0123456789abcdef".into());
        for (below, wanted, of) in [
            ("index.m3u8", Wanted::Index, Of::A),
            ("audio.m3u8", Wanted::Media(Track::AUDIO), Of::A),
            ("ts.m3u8", Wanted::MpegTs, Of::A),
            ("video/7.m4s", Wanted::Segment(Track::Video, 7), Of::A),
            ("video/b/7.m4s", Wanted::Segment(Track::Video, 7), Of::B),
            ("video/WMPaceInfo/7.m4s", Wanted::Segment(Track::Video, 7), Of::Pace),
            ("ts/b/7.ts", Wanted::TsSegment(7), Of::B),
            ("audio/init-0123456789abcdef.mp4", init, Of::A),
        ] {
            let stream = "demo".parse().unwrap();
            assert_eq!(route(&format!("/edge/demo/{below}")), Ok(Route::Edge { stream, wanted, of }));
        }
        for below in [
            "",
            "b/index.m3u8",
            "WMPaceInfo/video.m3u8",
            "video/a/7.m4s",
            "video/B/7.m4s",
            "video/b/b/7.m4s",
            "video/wmpaceinfo/7.m4s",
            "video/b/init-0123456789abcdef.mp4",
            "video/7.1.m4s",
            "video/b/7.1.m4s",
            "key/00000000000000000000000000000000.key",
            "cdn-video.m3u8",
            "steering.json",
            "cmcd",
        ] {
            assert_eq!(route(&format!("/edge/demo/{below}")), Ok(Route::Guarded), "{below}");
        }
    }

    #[test]
    fn a_session_in_the_query_is_one() {
        let carried = |target| match route(target) {
            Ok(Route::Session { carrier: Carrier::Query(credential), wanted, token_too, .. }) => {
                Ok((credential, wanted, token_too))
            }
            Ok(other) => panic!("{other:?}"),
            Err(Malformed) => Err(Malformed),
        };
        assert_eq!(carried("/q/index.m3u8?x=1&s=abc_-"), Ok(("abc_-", Some(Wanted::Index), false)));
        assert_eq!(carried("/q/other?s=a&token=b"), Ok(("a", None, true)));
        assert_eq!(carried("/q/index.m3u8?s="), Ok(("", Some(Wanted::Index), false)));
        for target in ["/q/index.m3u8?s=a&s=a", "/q/index.m3u8?s=%61", "/q/../index.m3u8?s=a"] {
            assert_eq!(carried(target), Err(Malformed), "{target}");
        }
        for target in
            ["/q", "/q/", "/q/index.m3u8", "/q/index.m3u8?S=a", "/q/index.m3u8?ss=a", "/q/index.m3u8?s"]
        {
            assert_eq!(route(target), Ok(Route::Guarded), "{target}");
        }
    }

    #[test]
    fn a_session_in_a_cookie_is_of_the_paths_stream() {
        let Ok(Route::Session { carrier: Carrier::Cookie(stream), wanted, token_too, .. }) =
            route("/c/demo/video/7.m4s?token=a")
        else {
            panic!()
        };
        assert_eq!(
            (stream.as_str(), wanted, token_too),
            ("demo", Some(Wanted::Segment(Track::Video, 7)), true)
        );
        for target in ["/c", "/c/", "/c/demo", "/c/~/index.m3u8"] {
            assert_eq!(route(target), Ok(Route::Guarded), "{target}");
        }
        let other = route("/c/demo/other");
        assert!(matches!(other, Ok(Route::Session { carrier: Carrier::Cookie(_), wanted: None, .. })));
    }

    #[test]
    fn other_spellings_are_malformed() {
        for target in [
            "",
            "live/demo/index.m3u8",
            "http://x/live/demo/index.m3u8",
            "//live/demo/index.m3u8",
            "/live//demo/index.m3u8",
            "/live/./demo/index.m3u8",
            "/live/demo/../demo/index.m3u8",
            "/live/demo%2findex.m3u8",
            "/live/%64emo/index.m3u8",
            "/live/demo/index.m3u8;x",
            "/live\\demo",
            "/v/S/video/+1.m4s",
            "/live/demo/index.m3u8#x",
            "/live/demo/index.m3u8?token=a#x",
            "/a b",
            "/\u{e9}",
            "/a\0",
            "/live/demo/index.m3u8?token=a&token=a",
            "/live/demo/index.m3u8?token&token=a",
            "/live/demo/index.m3u8?token=a&x=1&token=b",
            "/live/demo/index.m3u8?token=%61",
            "/live/demo/index.m3u8?CAT=%61",
            "/live/demo/index.m3u8?CAT=a&CAT=a",
            "*",
            &format!("/{}", "x".repeat(TARGET_BYTES_MAX)),
        ] {
            assert_eq!(route(target), Err(Malformed), "{target}");
        }
    }

    #[test]
    fn guarded_places_without_a_name_stay_guarded() {
        for target in [
            "/live",
            "/live/",
            "/live/demo",
            "/live/demo/",
            "/live/demo/video.m3u8",
            "/live/demo/ts/1.ts",
            "/live/-a/index.m3u8",
            "/live/a.b/index.m3u8",
            "/live/demo/index.m3u8/",
            "/watch",
            "/watch/",
            "/watch/demo/",
            "/watch/a.b",
        ] {
            assert_eq!(route(target), Ok(Route::Guarded), "{target}");
        }
        for below in [
            "",
            "x",
            "index.m3u8/",
            "video/01.m4s",
            "video/1.01.m4s",
            "video/1.4294967296.m4s",
            "video/1..m4s",
            "video/1.1.1.m4s",
            "video/1.ts",
            "ts/01.ts",
            "ts/1.m4s",
            "ts/1.0.ts",
            "ts/",
            "video/init-0.mp4",
            "video/18446744073709551616.m4s",
            "text/1.m4s",
            "video/1.m4s/",
            "video/init-0123456789ABCDEF.mp4",
        ] {
            let target = format!("/v/S/{below}");
            let reload = Reload::default();
            let carrier = Carrier::Path("S");
            let session = Route::Session { carrier, wanted: None, token_too: false, reload };
            assert_eq!(route(&target), Ok(session), "{target}");
        }
        for name in ["token", "CAT"] {
            let both = format!("/v/S/index.m3u8?{name}=");
            assert!(matches!(route(&both), Ok(Route::Session { token_too: true, .. })));
        }
        for target in
            ["/", "/LIVE/demo/index.m3u8", "/livez", "/metrics", "/favicon.ico", "/assets/", "/assets/a/b"]
        {
            assert_eq!(route(target), Ok(Route::Nothing), "{target}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_route_or_malformed(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_wanted_has_one_spelling(below in "(video|audio[0-9]?|ts|x)?[/.]?(init-)?[0-9a-f]{0,20}(.m4s|.mp4|.ts|.m3u8)?") {
            let target = format!("/v/S/{below}");
            if let Ok(Route::Session { wanted: Some(wanted), .. }) = parse(target.as_bytes()) {
                prop_assert_eq!(wanted.to_path(), below);
            }
        }
    }
}
