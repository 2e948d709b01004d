//! Where an origin keeps what: the paths a relay asks an ingest node for.
//!
//! ```text
//! GET /origin/1/streams                                     StreamList
//! GET /origin/1/streams/NAME/window?after=V&wait_ms=N       Snapshot; holds while its version is V; 204 after N ms
//! GET /origin/1/streams/NAME/TRACK/NUMBER                   an encoded Object
//! GET /origin/1/streams/NAME/TRACK/NUMBER/INDEX             an encoded Object: one part of it
//! GET /origin/1/streams/NAME/ts/NUMBER/OF                   an encoded Object: all tracks of it as MPEG-TS, made of these
//! GET /origin/1/streams/NAME/init/INIT                      an encoded Object
//! ```
//!
//! All of them want a signed request and give a signed answer (`node_auth`). 404 where there is nothing (yet). `OF` is
//! `Segment::mpeg_ts`: a node whose tracks of that number are others, or that makes MPEG-TS in another way, has nothing there.
//! In: a path or a route. Out: the other one. Pure.

use crate::name::StreamName;
use crate::track::Track;
use crate::window::Sha256;
use serde::{Deserialize, Serialize};

/// The longest a window request may be held, in milliseconds.
pub const WAIT_MS_MAX: u64 = 30_000;

/// What an origin can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// All streams.
    Streams,
    /// A stream's snapshot, as soon as its version is not `after`.
    Window {
        /// Which stream.
        stream: StreamName,
        /// The version the asker has; `None` for "whatever there is".
        after: Option<u64>,
        /// How long to hold, in milliseconds.
        wait_ms: u64,
    },
    /// One track of one segment.
    Segment {
        /// Which stream.
        stream: StreamName,
        /// Which track.
        track: Track,
        /// Which number.
        number: u64,
    },
    /// One part of one track of one segment.
    Part {
        /// Which stream.
        stream: StreamName,
        /// Which track.
        track: Track,
        /// Which segment.
        number: u64,
        /// Which part, counted from 0.
        index: u32,
    },
    /// One segment as MPEG-TS.
    MpegTs {
        /// Which stream.
        stream: StreamName,
        /// Which number.
        number: u64,
        /// What it is made of: `Segment::mpeg_ts`.
        of: Sha256,
    },
    /// An init section.
    Init {
        /// Which stream.
        stream: StreamName,
        /// Its name, as `init-0123456789abcdef`.
        init: String,
    },
}

/// What `Route::Streams` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamList {
    /// The answering node's name.
    pub node: String,
    /// Its streams.
    pub streams: Vec<StreamEntry>,
}

/// One row of a `StreamList`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamEntry {
    /// Public name.
    pub stream: StreamName,
    /// Version of its snapshot.
    pub version: u64,
    /// Whether a publisher is connected.
    pub live: bool,
}

/// Whether this is the name of an init section: `init-` and 16 hex digits.
pub fn is_init_name(text: &str) -> bool {
    text.strip_prefix("init-").is_some_and(|hash| {
        hash.len() == 16 && hash.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

impl Route {
    /// The path and query of this route.
    pub fn to_path(&self) -> String {
        match self {
            Route::Streams => "/origin/1/streams".to_owned(),
            Route::Window { stream, after, wait_ms } => {
                let after = after.map_or(String::new(), |version| format!("after={version}&"));
                format!("/origin/1/streams/{stream}/window?{after}wait_ms={wait_ms}")
            }
            Route::Segment { stream, track, number } => {
                format!("/origin/1/streams/{stream}/{}/{number}", track.as_str())
            }
            Route::Part { stream, track, number, index } => {
                format!("/origin/1/streams/{stream}/{}/{number}/{index}", track.as_str())
            }
            Route::MpegTs { stream, number, of } => {
                format!("/origin/1/streams/{stream}/ts/{number}/{}", hex::encode(of.0))
            }
            Route::Init { stream, init } => format!("/origin/1/streams/{stream}/init/{init}"),
        }
    }

    /// The route of a path and query; `None` for anything not written exactly as `to_path` writes it.
    pub fn parse(path_and_query: &str) -> Option<Route> {
        let route = Self::parse_loosely(path_and_query)?;
        (route.to_path() == path_and_query).then_some(route)
    }

    fn parse_loosely(path_and_query: &str) -> Option<Route> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let rest = path.strip_prefix("/origin/1/streams")?;
        let Some(rest) = rest.strip_prefix('/') else {
            return rest.is_empty().then_some(Route::Streams);
        };
        let mut words = rest.split('/');
        let stream: StreamName = words.next()?.parse().ok()?;
        let route = match (words.next()?, words.next()) {
            ("window", None) => {
                let (mut after, mut wait_ms) = (None, 0);
                for pair in query.split('&') {
                    match pair.split_once('=')? {
                        ("after", value) => after = Some(value.parse().ok()?),
                        ("wait_ms", value) => wait_ms = value.parse().ok()?,
                        _ => return None,
                    }
                }
                (wait_ms <= WAIT_MS_MAX).then_some(Route::Window { stream, after, wait_ms })?
            }
            ("ts", Some(number)) => {
                let of = Sha256::try_from(words.next()?.to_owned()).ok()?;
                Route::MpegTs { stream, number: number.parse().ok()?, of }
            }
            ("init", Some(init)) if is_init_name(init) => Route::Init { stream, init: init.to_owned() },
            (track, Some(number)) => {
                let track = Track::of_str(track)?;
                let number = number.parse().ok()?;
                match words.next() {
                    None => Route::Segment { stream, track, number },
                    Some(index) => Route::Part { stream, track, number, index: index.parse().ok()? },
                }
            }
            _ => return None,
        };
        words.next().is_none().then_some(route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_and_paths_are_one_to_one() {
        let stream: StreamName = "demo".parse().unwrap();
        let routes = [
            Route::Streams,
            Route::Window { stream: stream.clone(), after: None, wait_ms: 0 },
            Route::Window { stream: stream.clone(), after: Some(7), wait_ms: 30_000 },
            Route::Segment { stream: stream.clone(), track: Track::AUDIO, number: u64::MAX },
            Route::Segment { stream: stream.clone(), track: Track::ALL[8], number: 7 },
            Route::Part { stream: stream.clone(), track: Track::Video, number: 7, index: u32::MAX },
            Route::MpegTs { stream: stream.clone(), number: 7, of: Sha256::of(b"tracks") },
            Route::Init { stream, init: "init-0123456789abcdef".to_owned() },
        ];
        for route in routes {
            assert_eq!(Route::parse(&route.to_path()), Some(route));
        }
    }

    #[test]
    fn anything_else_is_no_route() {
        for path in [
            "/",
            "/origin/1/streams/",
            "/origin/1/streamsx",
            "/origin/1/streams/demo",
            "/origin/1/streams/../video/1",
            "/origin/1/streams/demo/video/01",
            "/origin/1/streams/demo/audio1/1",
            "/origin/1/streams/demo/audio9/1",
            "/origin/1/streams/demo/video/+1",
            "/origin/1/streams/demo/video/1/",
            "/origin/1/streams/demo/video/1/01",
            "/origin/1/streams/demo/video/1/1/1",
            "/origin/1/streams/demo/video/1?x=1",
            "/origin/1/streams/demo/ts",
            "/origin/1/streams/demo/ts/1",
            "/origin/1/streams/demo/ts/1/0",
            "/origin/1/streams/demo/ts/01/00000000000000000000000000000000000000000000000000000000000000ab",
            "/origin/1/streams/demo/ts/1/00000000000000000000000000000000000000000000000000000000000000AB",
            "/origin/1/streams/demo/init/init-..",
            "/origin/1/streams/demo/window",
            "/origin/1/streams/demo/window?wait_ms=30001",
            "/origin/1/streams/demo/window?wait_ms=1&after=2",
        ] {
            assert_eq!(Route::parse(path), None, "{path}");
        }
    }
}
