//! Viewers of the lab: they follow their playlists on a thread of their own, whatever happens, and are judged at the end.
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
use std::sync::atomic::{AtomicBool, Ordering};
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

/// The viewers at work.
pub struct Audience {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<Vec<(Seat, Viewer)>>>,
}

/// What became of it.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Sentences against the programs.
    pub problems: Vec<String>,
    /// Bytes that were sent and are in no recording.
    pub lost: usize,
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
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            while !stopping.load(Ordering::Relaxed) {
                for (seat, viewer) in &mut inside {
                    let polled = viewer.poll();
                    if !seat.may_miss {
                        polled.with_context(|| seat.url.clone())?;
                    }
                }
                std::thread::sleep(POLL);
            }
            Ok(inside)
        });
        Ok(Audience { stop, thread })
    }

    /// Ends the show, and judges. `strict`: no node was ever down, so every relay must have kept the rules.
    ///
    /// # Errors
    /// When the recordings cannot be read.
    pub fn judge(self, strict: bool) -> Result<Verdict> {
        self.stop.store(true, Ordering::Relaxed);
        let mut inside = self.thread.join().map_err(|_| anyhow!("the viewers' thread panicked"))??;
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
            let samples = viewer.recording(track)?.samples()?;
            let mut at = begins(units, &samples).context("not of this feed")?;
            for sample in &samples {
                // The feed comes over and over: what lies between is what is missing.
                let ahead =
                    (0..units.len()).find(|ahead| units[(at + ahead) % units.len()].data == sample.data);
                let Some(ahead) = ahead else {
                    self.problems.push(format!("{}: a sample of track {track} was never sent", seat.url));
                    continue;
                };
                self.lost +=
                    (0..ahead).map(|missing| units[(at + missing) % units.len()].data.len()).sum::<usize>();
                at = (at + ahead + 1) % units.len();
            }
            self.compared += samples.len();
        }
        Ok(())
    }
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
