//! A viewer: comes in with a token, follows the playlists, fetches every object, keeps the bytes, and has all of it judged.
//!
//! In: a playlist URL with a token. Out: a `Recording`.

use crate::hls::{Index, Listed, MediaPlaylist};
use crate::http;
use crate::judge::Judge;
use crate::mp4::{self, Fragment, Init, Sample};
use crate::wait_for;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How often a viewer asks for a playlist.
const POLL: Duration = Duration::from_millis(200);

/// A viewer who has come in.
pub struct Viewer {
    /// The multivariant playlist of this viewer's own session.
    pub index_url: String,
    /// What it says.
    pub index: Index,
    /// What was recorded so far: the main track, each of audio that is apart, and each other variant.
    pub tracks: Vec<Track>,
}

/// One followed track.
pub struct Track {
    /// URL of its playlist.
    pub url: String,
    /// Its playlist, as it was seen last.
    pub playlist: Option<MediaPlaylist>,
    judge: Judge,
    inits: BTreeMap<String, Vec<u8>>,
    segments: BTreeMap<u64, (Listed, Vec<u8>)>,
}

/// One track of a recording.
#[derive(Debug, Clone)]
pub struct Recording {
    /// The init section of the first segment.
    pub init: Vec<u8>,
    /// The bytes of each segment.
    pub segments: BTreeMap<u64, Vec<u8>>,
}

impl Viewer {
    /// Comes in once; an error says what the relay answered.
    ///
    /// # Errors
    /// Anything but a redirect to a session and its playlist.
    pub fn enter(url: &str) -> Result<Viewer> {
        let answer = http::get(url)?;
        ensure!(
            answer.status == 302,
            "no redirect but {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
        let index_url = http::join(url, answer.header("location").context("a redirect without Location")?)?;
        let answer = http::get(&index_url)?.ok()?;
        let index = Index::parse(answer.text()?)?;
        let mut tracks = vec![Track::of("video", http::join(&index_url, &index.main)?)];
        for (name, uri) in &index.audio {
            tracks.push(Track::of(&name.to_lowercase(), http::join(&index_url, uri)?));
        }
        for (_, uri) in &index.others {
            tracks.push(Track::of(uri.trim_end_matches(".m3u8"), http::join(&index_url, uri)?));
        }
        Ok(Viewer { index_url, index, tracks })
    }

    /// Comes in as soon as the stream is there.
    ///
    /// # Errors
    /// When it is not in time.
    pub fn enter_when_live(url: &str, at_most: Duration) -> Result<Viewer> {
        wait_for("live stream", at_most, || Viewer::enter(url))
    }

    /// Asks once for every playlist and fetches what is new.
    ///
    /// # Errors
    /// When anything is not answered as it should be.
    pub fn poll(&mut self) -> Result<()> {
        self.tracks.iter_mut().try_for_each(Track::poll)
    }

    /// Follows the stream for a time.
    ///
    /// # Errors
    /// When anything is not answered as it should be.
    pub fn follow(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.poll()?;
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Follows the stream until there are so many segments.
    ///
    /// # Errors
    /// When there are not in time, or anything is not answered as it should be.
    pub fn follow_until(&mut self, segments: usize, at_most: Duration) -> Result<()> {
        let end = Instant::now() + at_most;
        while self.tracks.iter().any(|track| track.segments.len() < segments) {
            ensure!(
                Instant::now() < end,
                "{:?} segments within {at_most:?}, not {segments}",
                self.tracks.iter().map(|track| track.segments.len()).collect::<Vec<_>>()
            );
            self.poll()?;
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// An error that lists every violation found so far, if there is one; listed segments are fetched again first, to see
    /// that their bytes have not changed.
    ///
    /// # Errors
    /// With the judge's sentences.
    pub fn verdict(&mut self) -> Result<()> {
        let mut violations = Vec::new();
        for track in &mut self.tracks {
            track.fetch_again(&mut violations)?;
            violations.extend_from_slice(track.judge.violations());
        }
        ensure!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
        Ok(())
    }

    /// How many violations were found so far.
    pub fn broken(&self) -> usize {
        self.tracks.iter().map(|track| track.judge.violations().len()).sum()
    }

    /// What was recorded of a track: 0 the main one, 1 audio, 2 a second audio track.
    ///
    /// # Errors
    /// When nothing was.
    pub fn recording(&self, track: usize) -> Result<Recording> {
        let track = self.tracks.get(track).context("no such track")?;
        let (first, _) = track.segments.values().next().context("nothing was recorded")?;
        let init =
            track.inits.get(&first.map).context("an init section is fetched with its segment")?.clone();
        let segments = track.segments.iter().map(|(number, (_, bytes))| (*number, bytes.clone())).collect();
        Ok(Recording { init, segments })
    }
}

impl Track {
    fn of(name: &str, url: String) -> Track {
        Track {
            url,
            playlist: None,
            judge: Judge::of(name),
            inits: BTreeMap::new(),
            segments: BTreeMap::new(),
        }
    }

    /// The listed segments so far, by number.
    pub fn listed(&self) -> &BTreeMap<u64, Listed> {
        self.judge.listed()
    }

    fn poll(&mut self) -> Result<()> {
        let answer = http::get(&self.url)?.ok()?;
        let playlist = MediaPlaylist::parse(answer.text()?).with_context(|| self.url.clone())?;
        self.judge.playlist(&playlist);
        for listed in &playlist.segments {
            if self.segments.contains_key(&listed.number) {
                continue;
            }
            if !self.inits.contains_key(&listed.map) {
                let init = http::get(&http::join(&self.url, &listed.map)?)?.ok().context("init section")?;
                self.inits.insert(listed.map.clone(), init.body);
            }
            let url = http::join(&self.url, &listed.uri)?;
            let bytes = http::get(&url)?.ok().with_context(|| format!("listed segment {url}"))?.body;
            self.judge.segment(listed, &self.inits[&listed.map], &bytes);
            self.segments.insert(listed.number, (listed.clone(), bytes));
        }
        self.playlist = Some(playlist);
        Ok(())
    }

    fn fetch_again(&mut self, violations: &mut Vec<String>) -> Result<()> {
        let Some(playlist) = &self.playlist else { return Ok(()) };
        for listed in &playlist.segments {
            let again = http::get(&http::join(&self.url, &listed.uri)?)?
                .ok()
                .context("S03: a segment just listed")?;
            if self.segments.get(&listed.number).is_some_and(|(_, bytes)| *bytes != again.body) {
                violations.push(format!("S02: {} has other bytes than before", listed.uri));
            }
        }
        Ok(())
    }
}

impl Recording {
    /// What the init section says.
    ///
    /// # Errors
    /// When it is not well formed.
    pub fn init(&self) -> Result<Init> {
        Init::parse(&self.init)
    }

    /// All fragments in order.
    ///
    /// # Errors
    /// When one is not well formed.
    pub fn fragments(&self) -> Result<Vec<Fragment>> {
        let each = self.segments.values().map(|bytes| mp4::fragments(bytes));
        Ok(each.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// All samples in order.
    ///
    /// # Errors
    /// When a segment is not well formed.
    pub fn samples(&self) -> Result<Vec<Sample>> {
        Ok(self.fragments()?.into_iter().flat_map(|fragment| fragment.samples).collect())
    }

    /// All samples in order, each with the number of its segment.
    ///
    /// # Errors
    /// When a segment is not well formed.
    pub fn numbered(&self) -> Result<Vec<(u64, Sample)>> {
        let mut samples = Vec::new();
        for (number, bytes) in &self.segments {
            for fragment in mp4::fragments(bytes)? {
                samples.extend(fragment.samples.into_iter().map(|sample| (*number, sample)));
            }
        }
        Ok(samples)
    }

    /// Writes it as a file that any player opens.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        let mut bytes = self.init.clone();
        self.segments.values().for_each(|segment| bytes.extend_from_slice(segment));
        let file = folder.join(name);
        std::fs::write(&file, bytes)?;
        Ok(file)
    }
}
