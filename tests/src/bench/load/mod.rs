//! The load generator: many viewers of one live playlist, paced by a clock of their own.
//!
//! In: addresses, how each viewer comes in, how many there are. Out: what they got, how fast, and what went wrong. A
//! process a core (`crew`), since none may have more files open than some servers have viewers, each with one thread and its
//! own epoll; each viewer keeps one connection. The load is open: a viewer asks when its time has
//! come, however late the answer before was, and latency counts from that time; but for those who take all they can get
//! (`Habit::Playlists`, `Habit::Segments`). Bodies are thrown away in the kernel (`MSG_TRUNC`), but for a sample of viewers
//! whose bytes are hashed and compared. Through TLS that is done record by record: playlists and the sample's segments are
//! opened, of all others the records' headers are read.

mod answer;
pub mod crew;
mod thread;
mod tls;
mod viewer;
mod wire;

use anyhow::{Context, Result};
use crew::Crew;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU8;
use std::time::{Duration, Instant};

/// How long viewers who do not come in a burst take to come in, for each thousand of them.
const RAMP_A_THOUSAND: Duration = Duration::from_millis(700);
/// What is left out of the figures after everybody has come in, where it is not the coming in that counts.
pub const WARM_UP: Duration = Duration::from_secs(3);

/// How viewers come in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Entrance {
    /// With an access token: the paths that redirect to a session, one an account. Viewers take them in turns.
    Tokens(Vec<String>),
    /// The playlist lies below these paths, which end with a slash: a path an account, taken in turns.
    Below(Vec<String>),
}

impl Entrance {
    /// How many ways in there are.
    pub fn accounts(&self) -> usize {
        match self {
            Entrance::Tokens(paths) | Entrance::Below(paths) => paths.len(),
        }
    }
}

/// A load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// The servers; viewers are spread over them.
    pub servers: Vec<SocketAddr>,
    /// How viewers come in.
    pub entrance: Entrance,
    /// How many there are.
    pub viewers: usize,
    /// How long they take to come in.
    pub ramp: Duration,
    /// What is left out of the figures after that.
    pub warm_up: Duration,
    /// How long is measured then.
    pub time: Duration,
    /// What they do.
    pub habit: Habit,
    /// Whether through TLS.
    pub secure: bool,
}

/// What viewers do once they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Habit {
    /// Each asks for the playlist when its time comes, then for the newest segment.
    Paced,
    /// Each asks for the playlist when its time comes, as a delta update, then for the newest part.
    Parts,
    /// All have a reload waiting for the next segment, always: they are answered together.
    Reload,
    /// Each asks for the playlist once, and keeps its connection.
    Idle,
    /// Each asks for the playlist again as soon as it has it: a closed loop.
    Playlists,
    /// Each asks for the newest segment again as soon as it has it, and each 2 s for the playlist, to see which that is.
    Segments,
}

impl Habit {
    /// How often a viewer asks for the playlist: the length of a segment, or of a part.
    pub fn period(self) -> Duration {
        match self {
            Habit::Paced | Habit::Reload | Habit::Idle | Habit::Playlists | Habit::Segments => {
                Duration::from_secs(2)
            }
            Habit::Parts => Duration::from_nanos(333_333_333),
        }
    }

    /// The playlist.
    pub fn playlist(self) -> &'static str {
        match self {
            Habit::Parts => "video.m3u8?_HLS_skip=YES",
            Habit::Paced | Habit::Reload | Habit::Idle | Habit::Playlists | Habit::Segments => "video.m3u8",
        }
    }
}

/// What the viewers got while it was measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Whole answers.
    pub requests: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// From the time a playlist was due to its last byte, in µs.
    pub playlist_us: Vec<u32>,
    /// From a segment's request to its last byte, in µs.
    pub segment_us: Vec<u32>,
    /// From the time a viewer had something to do until it did it, in µs: the generator's own lateness.
    pub lag_us: Vec<u32>,
    /// When which segment's reloads were answered: (segment, µs of a clock that all processes share).
    pub reloads: Vec<(u64, u64)>,
    /// Segments or parts whose last byte came later than a period after their playlist was due.
    pub late: u64,
    /// Wrong statuses, cut answers and lost connections, over the whole run; and wrong bytes.
    pub errors: u64,
    /// What the first errors were.
    pub words: Vec<String>,
    /// Viewers who were being served at the end.
    pub served: usize,
    /// Hashes of the sampled bodies: (account, segment) → hash.
    #[serde(with = "listed")]
    pub(super) hashes: HashMap<(usize, u64), u64>,
    /// How long the bodies of a closed loop are, by segment, or by a playlist's newest segment.
    pub(super) lengths: HashMap<u64, usize>,
}

/// A map as a list: its keys are no text.
mod listed {
    use super::{Deserialize, HashMap, Serialize};

    type Hashes = HashMap<(usize, u64), u64>;

    pub(super) fn serialize<S: serde::Serializer>(map: &Hashes, to: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'a, D: serde::Deserializer<'a>>(from: D) -> Result<Hashes, D::Error> {
        Ok(Vec::<((usize, u64), u64)>::deserialize(from)?.into_iter().collect())
    }
}

/// Where a run stands: viewers come in, then it is measured, then it is over.
#[derive(Default)]
struct Stage(AtomicU8);

const MEASURED: u8 = 1;
const OVER: u8 = 2;

impl Load {
    /// Runs it. `measure` is called when the measured time begins and ends; the two values come back with the outcome.
    ///
    /// # Errors
    /// When a process of the generator cannot do its work, or `measure` cannot.
    pub fn run<M>(&self, mut measure: impl FnMut() -> Result<M>) -> Result<(Outcome, M, M, Duration)> {
        let mut crew = Crew::start(self)?;
        std::thread::sleep(self.ramp + self.warm_up);
        let (before, since) = (measure(), Instant::now());
        crew.tell(MEASURED)?;
        std::thread::sleep(self.time);
        let (after, time) = (measure(), since.elapsed());
        crew.tell(OVER)?;
        let outcome = crew.outcome()?;
        Ok((outcome, before?, after.context("at the end of the measured time")?, time))
    }

    /// How long viewers take to come in when they do not come in a burst.
    pub fn ramp_of(viewers: usize) -> Duration {
        RAMP_A_THOUSAND.mul_f64(viewers as f64 / 1000.0) + Duration::from_millis(200)
    }
}

impl Outcome {
    fn add(&mut self, other: Outcome) {
        self.requests += other.requests;
        self.bytes += other.bytes;
        self.playlist_us.extend(other.playlist_us);
        self.segment_us.extend(other.segment_us);
        self.lag_us.extend(other.lag_us);
        self.reloads.extend(other.reloads);
        self.late += other.late;
        self.errors += other.errors;
        self.words.extend(other.words);
        self.served += other.served;
        for (of, hash) in other.hashes {
            self.compare(of, hash);
        }
        for (number, length) in other.lengths {
            self.measure(number, length);
        }
    }

    fn error(&mut self, what: impl FnOnce() -> String) {
        self.errors += 1;
        if self.words.len() < 5 {
            self.words.push(what());
        }
    }

    /// Every viewer of an account gets the same bytes of a segment.
    fn compare(&mut self, of: (usize, u64), hash: u64) {
        if *self.hashes.entry(of).or_insert(hash) != hash {
            self.error(|| format!("two viewers of account {} got different bytes of segment {}", of.0, of.1));
        }
    }

    /// Every copy of a segment is as long as the others, and so is every playlist that ends with it.
    fn measure(&mut self, number: u64, length: usize) {
        let known = *self.lengths.entry(number).or_insert(length);
        if known != length {
            self.error(|| format!("{length} bytes of what was {known} bytes before, at segment {number}"));
        }
    }

    /// How long the bodies of a closed loop are, in bytes; 0 where there were none.
    pub fn mean_length(&self) -> f64 {
        self.lengths.values().sum::<usize>() as f64 / self.lengths.len().max(1) as f64
    }

    /// From the first to the last answer of each release, in ms; of those that all viewers saw.
    pub fn spreads_ms(&self, viewers: usize) -> Vec<f64> {
        let mut releases: HashMap<u64, (u64, u64, usize)> = HashMap::new();
        for (number, at) in &self.reloads {
            let (first, last, count) = releases.entry(*number).or_insert((*at, *at, 0));
            (*first, *last, *count) = ((*first).min(*at), (*last).max(*at), *count + 1);
        }
        let whole = releases.into_values().filter(|(_, _, count)| *count == viewers);
        whole.map(|(first, last, _)| (last - first) as f64 / 1000.0).collect()
    }

    /// How many different copies the sampled accounts got of the segment that most of them have.
    pub fn copies(&self) -> (usize, usize) {
        let mut by_segment: HashMap<u64, Vec<u64>> = HashMap::new();
        for ((_, number), hash) in &self.hashes {
            by_segment.entry(*number).or_default().push(*hash);
        }
        let Some(mut most) = by_segment.into_values().max_by_key(Vec::len) else { return (0, 0) };
        let accounts = most.len();
        most.sort_unstable();
        most.dedup();
        (most.len(), accounts)
    }
}

/// The value that so many percent of all do not exceed; 0 of nothing.
pub fn percentile(values: &mut [u32], percent: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable();
    let at = (values.len() as f64 * percent / 100.0) as usize;
    f64::from(values[at.min(values.len() - 1)])
}

/// How many files, connections among them, the process may have open, once it has asked for all it can get.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = if setrlimit(Resource::Nofile, raised).is_ok() { limit.maximum } else { limit.current };
    current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_sorted_values() {
        let mut values = [9, 1, 5, 3, 7];
        assert_eq!(percentile(&mut values, 50.0), 5.0);
        assert_eq!(percentile(&mut values, 99.0), 9.0);
        assert_eq!(percentile(&mut [], 50.0), 0.0);
    }

    #[test]
    fn a_release_spreads_from_its_first_to_its_last_answer() {
        let reloads = vec![(7, 1_000), (8, 9_000), (7, 4_500), (9, 10_000), (8, 9_500)];
        let mut spreads = Outcome { reloads, ..Outcome::default() }.spreads_ms(2);
        spreads.sort_by(f64::total_cmp);
        assert_eq!(spreads, [0.5, 3.5], "nobody but one saw 9");
    }

    #[test]
    fn what_processes_found_adds_up() {
        let part = |hash: u64| {
            let mut outcome = Outcome { requests: 3, reloads: vec![(7, 1_000)], ..Outcome::default() };
            outcome.compare((2, 7), hash);
            let line = serde_json::to_string(&outcome).unwrap();
            serde_json::from_str::<Outcome>(&line).unwrap()
        };
        let mut all = Outcome::default();
        all.add(part(u64::MAX));
        all.add(part(u64::MAX));
        assert_eq!((all.requests, all.reloads.len(), all.errors), (6, 2, 0));
        all.add(part(1));
        assert_eq!(all.errors, 1, "another process's viewer of the same account got other bytes");
    }

    #[test]
    fn copies_of_another_length_are_an_error_in_whichever_process() {
        let part = |length: usize| {
            let mut outcome = Outcome::default();
            outcome.measure(7, length);
            outcome.measure(7, length);
            let line = serde_json::to_string(&outcome).unwrap();
            serde_json::from_str::<Outcome>(&line).unwrap()
        };
        let mut all = part(1_000);
        all.add(part(1_000));
        assert_eq!(all.errors, 0);
        all.add(part(999));
        all.measure(7, 1_001);
        assert_eq!(all.errors, 2, "{:?}", all.words);
    }

    #[test]
    fn other_bytes_for_one_account_are_an_error() {
        let mut outcome = Outcome::default();
        outcome.compare((1, 7), 3);
        outcome.compare((2, 7), 4);
        outcome.compare((1, 7), 3);
        assert_eq!((outcome.errors, outcome.copies()), (0, (2, 2)));
        outcome.compare((2, 7), 5);
        assert_eq!(outcome.errors, 1);
    }
}
