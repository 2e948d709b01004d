//! Viewers of the lab: they follow their playlists, each on a thread of its own, whatever happens, and are judged at the end.
//!
//! In: playlist URLs. Out: what each has recorded, rules that were broken, bytes that are missing. `demo` is watched at three
//! relays, of which the first two read one node each, which may be down; the third reads both and may never miss anything. The
//! other streams are watched at the third.

use crate::feed;
use crate::flv::{Feed, Unit};
use crate::mp4::Sample;
use crate::viewer::Viewer;
use anyhow::{Context, Result, anyhow};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A stream may take so long to be there.
const LIVE_MAX: Duration = Duration::from_secs(30);
/// Between two looks at the playlists.
const POLL: Duration = Duration::from_millis(100);
/// So many samples in a row say where in the feed a recording begins: some sounds are equal.
const ALIKE: usize = 200;

/// Who watches what.
pub struct Seat {
    /// The feed that is pushed there.
    pub feed: &'static str,
    /// Playlist URL.
    pub url: String,
    /// Whether its relay may lose its only node.
    pub may_miss: bool,
}

/// The viewers at work, each on a thread of its own: a relay that has lost its only node keeps its viewers waiting.
pub struct Audience {
    stop: Arc<AtomicBool>,
    seats: Vec<Seated>,
}

struct Seated {
    seat: Seat,
    /// Rules that were broken before this viewer's eyes so far.
    broken: Arc<AtomicUsize>,
    thread: JoinHandle<Result<Viewer>>,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Sentences against the programs.
    pub problems: Vec<String>,
    /// Bytes that were sent and are in no recording, with the date of what follows them, milliseconds of the day.
    pub lost: Vec<(u64, usize)>,
    /// Dates of segments that were other bytes at another relay.
    pub differing: Vec<u64>,
    /// Access units that were compared.
    pub compared: usize,
}

impl Audience {
    /// Comes in at every seat, in order.
    ///
    /// # Errors
    /// When a stream is not there in time.
    pub fn start(seats: Vec<Seat>) -> Result<Audience> {
        let mut inside = Vec::new();
        for seat in seats {
            let viewer = Viewer::enter_when_live(&seat.url, LIVE_MAX)?;
            inside.push((seat, viewer));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let seated = |(seat, viewer): (Seat, Viewer)| {
            let broken = Arc::new(AtomicUsize::new(0));
            let (stopping, counted, may_miss) = (stop.clone(), broken.clone(), seat.may_miss);
            let thread = std::thread::spawn(move || follow(viewer, may_miss, &stopping, &counted));
            Seated { seat, broken, thread }
        };
        Ok(Audience { seats: inside.into_iter().map(seated).collect(), stop })
    }

    /// Rules that were broken so far, where nothing may be missed.
    pub fn broken(&self) -> usize {
        let whole = self.seats.iter().filter(|one| !one.seat.may_miss);
        whole.map(|one| one.broken.load(Ordering::Relaxed)).sum()
    }

    /// Ends the show, and judges. `strict`: no node was ever down, so every relay must have kept the rules.
    ///
    /// # Errors
    /// When the recordings cannot be read.
    pub fn judge(self, strict: bool) -> Result<Verdict> {
        self.stop.store(true, Ordering::Relaxed);
        let mut inside = Vec::new();
        for Seated { seat, thread, .. } in self.seats {
            let viewer = thread.join().map_err(|_| anyhow!("a viewer's thread panicked"))?;
            let viewer = viewer.with_context(|| seat.url.clone())?;
            inside.push((seat, viewer));
        }
        let mut verdict = Verdict::default();
        for (seat, viewer) in inside.iter_mut().filter(|(seat, _)| strict || !seat.may_miss) {
            let broken = viewer.verdict().err();
            verdict.problems.extend(broken.map(|error| format!("{}: {error:#}", seat.url)));
        }
        verdict.compare_relays(&inside)?;
        for (seat, viewer) in inside.iter().filter(|(seat, _)| !seat.may_miss) {
            verdict.count_lost(seat, viewer)?;
        }
        Ok(verdict)
    }
}

/// Looks again and again until it is told to stop; an error where nothing may be missed is the end.
fn follow(mut viewer: Viewer, may_miss: bool, stop: &AtomicBool, broken: &AtomicUsize) -> Result<Viewer> {
    while !stop.load(Ordering::Relaxed) {
        let polled = viewer.poll();
        if !may_miss {
            polled?;
        }
        broken.store(viewer.broken(), Ordering::Relaxed);
        std::thread::sleep(POLL);
    }
    Ok(viewer)
}

impl Verdict {
    /// Where two relays gave different bytes, and where numbers are missing.
    fn compare_relays(&mut self, inside: &[(Seat, Viewer)]) -> Result<()> {
        let (missing, whole): (Vec<_>, Vec<_>) = inside.iter().partition(|(seat, _)| seat.may_miss);
        let (_, first) = whole.first().context("somebody watches at the third relay")?;
        for track in 0..2 {
            let Ok(first) = first.recording(track) else { continue };
            for (seat, viewer) in &missing {
                let Ok(other) = viewer.recording(track) else { continue };
                for (number, bytes) in &other.segments {
                    if first.segments.get(number).is_some_and(|one| one != bytes) {
                        self.differing.push(dated(viewer, track, *number)?);
                        self.problems
                            .push(format!("segment {number} of track {track} differs at {}", seat.url));
                    }
                }
            }
        }
        for (seat, viewer) in &whole {
            for track in 0..2 {
                let Ok(recording) = viewer.recording(track) else { continue };
                let numbers: Vec<u64> = recording.segments.keys().copied().collect();
                if numbers.windows(2).any(|two| two[1] != two[0] + 1) {
                    self.problems.push(format!("{} track {track} has a hole: {numbers:?}", seat.url));
                }
            }
        }
        Ok(())
    }

    /// Bytes of pictures and sound that the publisher sent and the recording does not have.
    fn count_lost(&mut self, seat: &Seat, viewer: &Viewer) -> Result<()> {
        let sent = Feed::parse(&std::fs::read(feed::path(seat.feed)?)?)?;
        for (track, units) in [(0, &sent.video), (1, &sent.audio)] {
            let recording = viewer.recording(track)?;
            let mut at = begins(units, &recording.samples()?).context("not of this feed")?;
            for (number, sample) in recording.numbered()? {
                self.compared += 1;
                // The feed comes over and over: what lies between is what is missing.
                let ahead =
                    (0..units.len()).find(|ahead| units[(at + ahead) % units.len()].data == sample.data);
                let Some(ahead) = ahead else {
                    self.problems.push(format!("{}: a sample of track {track} was never sent", seat.url));
                    continue;
                };
                if ahead > 0 {
                    let missing = (0..ahead).map(|missing| units[(at + missing) % units.len()].data.len());
                    self.lost.push((dated(viewer, track, number)?, missing.sum()));
                }
                at = (at + ahead + 1) % units.len();
            }
        }
        Ok(())
    }
}

/// The date of a segment.
fn dated(viewer: &Viewer, track: usize, number: u64) -> Result<u64> {
    let listed = viewer.tracks.get(track).and_then(|track| track.listed().get(&number));
    Ok(listed.context("a recorded segment was listed")?.date_ms_of_day)
}

/// Where in the feed a recording begins: where the most of its first samples follow each other.
fn begins(units: &[Unit], samples: &[Sample]) -> Option<usize> {
    let alike = |start: usize| {
        let pairs = samples.iter().take(ALIKE).enumerate();
        pairs.take_while(|(after, sample)| units[(start + after) % units.len()].data == sample.data).count()
    };
    (0..units.len())
        .map(|start| (alike(start), start))
        .filter(|(count, _)| *count > 0)
        .max_by_key(|(count, start)| (*count, usize::MAX - start))
        .map(|(_, start)| start)
}
