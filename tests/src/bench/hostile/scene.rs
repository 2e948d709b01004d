//! What there is to be had at the moment, of every kind: attacks on what does not exist would show nothing.
//!
//! In: the attacker's own sessions. Out: a `Scene`, anew every second.

use super::stage::{CDN, Cast, STREAMS};
use crate::http;
use anyhow::{Context, Result, ensure};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// How many of the newest segments are attacked: those are surely there for some seconds more.
const NEWEST: usize = 2;

/// Something below a session.
#[derive(Clone, Debug)]
pub(super) struct Thing {
    /// What kind it is.
    pub(super) kind: &'static str,
    /// Of which of the streams.
    pub(super) stream: usize,
    /// Its path below the session, with a query where it has one.
    pub(super) below: String,
    /// The attacker's own copy, where it stays as it is.
    pub(super) own: Option<Arc<[u8]>>,
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub(super) struct Scene {
    /// Below sessions, by kind.
    pub(super) kinds: Vec<Vec<Thing>>,
    /// Files of the CDN and of edges: whole paths.
    pub(super) cdn: Vec<String>,
    pub(super) edge: Vec<String>,
    /// The newest whole segment, by stream.
    pub(super) newest: [u64; 2],
}

/// Looks at what there is.
pub(super) struct Scout {
    relay: SocketAddr,
    sessions: [String; 2],
    own: HashMap<String, Arc<[u8]>>,
}

impl Scout {
    pub(super) fn new(relay: SocketAddr, cast: &Cast) -> Scout {
        let sessions = [0, 1].map(|stream| cast.passes[stream].own.session.clone());
        Scout { relay, sessions, own: HashMap::new() }
    }

    pub(super) fn look(&mut self) -> Result<Scene> {
        let mut things = Vec::new();
        let mut scene = Scene::default();
        for stream in 0..STREAMS.len() {
            scene.newest[stream] = self.look_at(stream, &mut things)?;
        }
        let newest = scene.newest[0];
        scene.cdn = self.cdn()?;
        let below = |path: String| format!("/edge/{}/{path}", STREAMS[0]);
        scene.edge =
            ["index.m3u8", "video.m3u8", "audio.m3u8", "ts.m3u8"].map(|file| below(file.to_owned())).into();
        let inits = things.iter().filter(|thing| thing.stream == 0 && thing.kind.starts_with("init"));
        scene.edge.extend(inits.map(|thing| below(thing.below.clone())));
        for folder in ["", "b/", "WMPaceInfo/"] {
            scene.edge.push(below(format!("video/{folder}{newest}.m4s")));
            scene.edge.push(below(format!("audio/{folder}{newest}.m4s")));
            scene.edge.push(below(format!("ts/{folder}{newest}.ts")));
        }
        let mut kinds: Vec<Vec<Thing>> = Vec::new();
        for thing in things {
            match kinds.iter_mut().find(|kind| kind[0].kind == thing.kind) {
                Some(kind) => kind.push(thing),
                None => kinds.push(vec![thing]),
            }
        }
        scene.kinds = kinds;
        Ok(scene)
    }

    fn get(&self, stream: usize, below: &str) -> Result<Vec<u8>> {
        let url = format!("http://{}/v/{}/{below}", self.relay, self.sessions[stream]);
        Ok(http::get(&url)?.ok().with_context(|| below.to_owned())?.body)
    }

    fn text(&self, stream: usize, below: &str) -> Result<String> {
        Ok(String::from_utf8(self.get(stream, below)?)?)
    }

    /// What a stream has; gives the number of its newest segment.
    fn look_at(&mut self, stream: usize, things: &mut Vec<Thing>) -> Result<u64> {
        let known = things.len();
        let mut put = |kind, below: &str| {
            let thing = Thing { kind, stream, below: below.to_owned(), own: None };
            if !things[known..].iter().any(|other| other.below == thing.below) {
                things.push(thing);
            }
        };
        for (kind, file) in [
            ("multivariant playlist", "index.m3u8"),
            ("video playlist", "video.m3u8"),
            ("audio playlist", "audio.m3u8"),
            ("delta update", "video.m3u8?_HLS_skip=YES"),
            ("steering manifest", "steering.json"),
        ] {
            put(kind, file);
        }
        // An encrypted stream is not there as MPEG-TS, and its files at the CDN are not what is attacked.
        if stream == 0 {
            for (kind, file) in [
                ("MPEG-TS playlist", "ts.m3u8"),
                ("CDN video playlist", "cdn-video.m3u8"),
                ("CDN audio playlist", "cdn-audio.m3u8"),
                ("CDN MPEG-TS playlist", "cdn-ts.m3u8"),
            ] {
                put(kind, file);
            }
        }
        let mut newest = 0;
        for (track, names) in [
            ("video", ["video init section", "video segment", "video part", "preload hint"]),
            ("audio", ["audio init section", "audio segment", "audio part", "preload hint"]),
        ] {
            let text = self.text(stream, &format!("{track}.m3u8"))?;
            let [init, segment, part, hint] = names;
            let mut parts = Vec::new();
            for (tag, uri) in attributes(&text) {
                match tag {
                    "#EXT-X-MAP" => put(init, uri),
                    "#EXT-X-PART" => parts.push(uri),
                    "#EXT-X-PRELOAD-HINT" => put(hint, uri),
                    "#EXT-X-KEY" if uri.starts_with("key/") => {
                        put("key", uri);
                        put("Clear Key licence", &uri.replace(".key", ".json"));
                    }
                    _ => {}
                }
            }
            parts.iter().rev().take(2 * NEWEST).for_each(|uri| put(part, uri));
            let segments: Vec<&str> = text.lines().filter(|line| line.ends_with(".m4s")).collect();
            for uri in segments.iter().rev().take(NEWEST) {
                put(segment, uri);
                if stream == 0 && track == "video" {
                    put("MPEG-TS segment", &uri.replace("video/", "ts/").replace(".m4s", ".ts"));
                }
            }
            let last =
                segments.last().and_then(|uri| uri.strip_suffix(".m4s")?.rsplit('/').next()?.parse().ok());
            newest = last.context("no segment is listed")?;
            put("blocking reload", &format!("{track}.m3u8?_HLS_msn={}", newest + 1));
            put("blocking reload", &format!("{track}.m3u8?_HLS_msn={}&_HLS_part=1", newest + 1));
        }
        let stays = |kind: &str| {
            let ends = ["segment", "init section", "part", "key", "licence"];
            ends.iter().any(|end| kind.ends_with(end))
        };
        let mut own = HashMap::new();
        for thing in &mut things[known..] {
            if stays(thing.kind) {
                let name = format!("{stream} {}", thing.below);
                let bytes = match self.own.get(&name) {
                    Some(bytes) => bytes.clone(),
                    None => self.get(stream, &thing.below)?.into(),
                };
                thing.own = Some(bytes.clone());
                own.insert(name, bytes);
            }
        }
        self.own.retain(|name, _| !name.starts_with(&format!("{stream} ")));
        self.own.extend(own);
        Ok(newest)
    }

    /// The newest files at the CDN: those of the attacker's own variants.
    fn cdn(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for file in ["cdn-video.m3u8", "cdn-audio.m3u8", "cdn-ts.m3u8"] {
            let text = self.text(0, file)?;
            let maps = attributes(&text).filter(|(tag, _)| *tag == "#EXT-X-MAP").map(|(_, uri)| uri);
            let files = text.lines().filter(|line| !line.starts_with('#')).rev().take(NEWEST);
            found.extend(maps.chain(files).filter_map(|uri| uri.strip_prefix(CDN)).map(str::to_owned));
        }
        ensure!(found.len() >= 3 * NEWEST, "{found:?} at the CDN");
        Ok(found)
    }
}

/// The tags that have a URI, and it.
fn attributes(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter(|line| line.starts_with('#')).filter_map(|line| {
        let (_, rest) = line.split_once("URI=\"")?;
        Some((line.split(':').next()?, rest.split('"').next()?))
    })
}
