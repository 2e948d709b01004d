//! As many requests as a processor takes: a closed loop over few connections, beside nginx with the same bytes as plain files.
//!
//! Playlists of about 1 KB (of ten whole segments; with parts they would be longer), and segments of about 1 MB. In the
//! relay's turn each viewer has a session of their own, every request is checked and each segment is the viewer's own marked
//! slices; nginx gives one viewer's copy to all and checks nothing. What counts is what a second of the server's processor
//! time gives (`schedstat`): generator and server share the machine, and both are busy all the time.

use super::files::{Check, Files};
use super::load::{Entrance, Habit, Load, WARM_UP};
use super::show::{ACCOUNTS, Sample, Show, measure};
use super::{Report, median};
use crate::hls::MediaPlaylist;
use crate::{feed, http, wait_for};
use anyhow::{Result, ensure};
use std::ops::Range;
use std::time::Duration;

/// Connections, a viewer each: what the bars say.
const VIEWERS: usize = 64;
/// Segments that a playlist lists in the long run, and how long it takes them to come.
const LISTED: usize = 10;
const FULL: Duration = Duration::from_secs(60);

/// What is asked for, and how much is got for a second of processor time.
struct Kind {
    habit: Habit,
    name: &'static str,
    unit: &'static str,
    amount: fn(&Sample) -> f64,
    /// How long such a body is.
    bytes: Range<f64>,
}

const KINDS: [Kind; 2] = [
    Kind {
        habit: Habit::Playlists,
        name: "playlist",
        unit: "requests",
        amount: |sample| sample.outcome.requests as f64,
        bytes: 700.0..1_400.0,
    },
    Kind {
        habit: Habit::Segments,
        name: "segment",
        unit: "gb",
        amount: |sample| sample.outcome.bytes as f64 / 1e9,
        bytes: 800e3..1_300e3,
    },
];

/// Runs it; `short` shows that it works, its figures are rough.
///
/// # Errors
/// When a program is missing or does not start, or the stream is not what it should be.
pub fn run(short: bool) -> Result<Report> {
    let (rounds, time) = if short { (1, Duration::from_secs(3)) } else { (3, Duration::from_secs(8)) };
    let mut show = Show::start(feed::MEGABYTE, "low_latency = false", VIEWERS)?;
    let playlist = format!("{}video.m3u8", show.base);
    wait_for("window that is full", FULL, || {
        let listed = MediaPlaylist::parse(http::get(&playlist)?.ok()?.text()?)?.segments.len();
        ensure!(listed >= LISTED, "{listed} segments are listed");
        Ok(())
    })?;
    let mut samples = [(Vec::new(), Vec::new()), (Vec::new(), Vec::new())];
    for round in 0..rounds {
        for (kind, (ours, theirs)) in KINDS.iter().zip(&mut samples) {
            let load = |servers, entrance| Load {
                servers,
                entrance,
                viewers: VIEWERS,
                ramp: Load::ramp_of(VIEWERS),
                warm_up: WARM_UP,
                time,
                habit: kind.habit,
                secure: false,
            };
            for turn in 0..2 {
                if (round + turn) % 2 == 0 {
                    let load = load(show.servers.clone(), Entrance::Tokens(show.paths.clone()));
                    ours.push(measure(&load, &show.relays())?);
                    show.cluster.check_alive()?;
                } else {
                    let files = Files::start(&playlist, kind.habit, Check::Nothing, ACCOUNTS)?;
                    let load = load(vec![files.address], Entrance::Below(files.below.clone()));
                    theirs.push(measure(&load, &[&files.child])?);
                    files.stop()?;
                }
            }
        }
    }
    let mut errors = 0;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (kind, (of_relay, of_nginx)) in KINDS.iter().zip(&samples) {
        for sample in of_relay.iter().chain(of_nginx) {
            errors += sample.outcome.errors + (VIEWERS - sample.outcome.served) as u64;
            sample.outcome.words.iter().for_each(|word| eprintln!("error: {word}"));
            let bytes = sample.outcome.mean_length();
            ensure!(kind.bytes.contains(&bytes), "a {} of {bytes:.0} bytes, not {:?}", kind.name, kind.bytes);
        }
        if kind.habit == Habit::Segments {
            errors += of_relay.iter().map(Sample::too_few_copies).sum::<u64>();
        }
        ours.extend(kind.figures(of_relay));
        theirs.extend(kind.figures(of_nginx));
    }
    // Both sides list the same figures in the same order; the first is what a processor-second gives: less is dearer.
    let ratio = theirs[0].1 / ours[0].1;
    Ok(Report { name: "closed", ours, yardstick: theirs, ratio, errors })
}

impl Kind {
    /// Median, least and most over the rounds of what counts, then what helps to read it.
    fn figures(&self, samples: &[Sample]) -> Vec<(String, f64)> {
        let Kind { name, unit, amount, .. } = self;
        let all = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).collect::<Vec<f64>>();
        let rates = all(&|sample| amount(sample) / sample.cpu);
        let rate = format!("{name}_{unit}_per_cpu_s");
        vec![
            (rate.clone(), median(rates.clone())),
            (format!("{rate}_min"), rates.iter().copied().fold(f64::INFINITY, f64::min)),
            (format!("{rate}_max"), rates.iter().copied().fold(0.0, f64::max)),
            (format!("{name}_{unit}_per_s"), median(all(&|sample| amount(sample) / sample.time))),
            (format!("{name}_server_cores"), median(all(&|sample| sample.cpu / sample.time))),
            (format!("{name}_bytes"), median(all(&|sample| sample.outcome.mean_length()))),
        ]
    }
}
