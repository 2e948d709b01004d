//! How much later a viewer is told of a part because its stream is marked, beside the same streams passed through.
//!
//! 1080p30 at 6 Mb/s, GOPs of 2 s, parts of a third of a second, each stream with a publisher of our own that sends every access
//! unit when its time comes, and a viewer who waits for each part (blocking reload, RFC 8216bis §6.2.5.2). A part ends with the
//! first picture that is no longer in it: its clock begins when that picture is sent, and ends when the relay's whole
//! answer, which lists the part, is there. What a GOP waits is what the latest of its parts does, since a player that keeps its
//! distance must be ready for that one; the last part of a GOP ends with the next IDR picture, which is being marked then.
//!
//! RELEVE_BENCH_PUBLISHERS and RELEVE_BENCH_APART as in `ingest`.

use super::ingest::{moments, streams};
use super::{Report, median};
use crate::flv::Feed;
use crate::steady::{Reel, begin, connect};
use crate::{Cluster, Mark, feed, http, wait_for};
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// What marking may cost in time, ms a GOP.
const GOAL_MS: f64 = 60.0;
/// GOPs at the beginning of a stream that are left out: programs start, connections are new.
const WARM_UP_GOPS: usize = 2;
/// How long a playlist may take to come at the beginning.
const PATIENCE: Duration = Duration::from_secs(20);

/// A part as a viewer was told of it.
#[derive(Debug, Clone, Copy)]
struct Told {
    /// Where it ends, seconds of media since the stream's beginning.
    end_s: f64,
    /// Whether it begins with an IDR picture.
    independent: bool,
    at: Instant,
}

/// When a picture began to be sent, by its time in ms since the stream's beginning.
type Sent = BTreeMap<u64, Instant>;

/// What each GOP of a round waited, ms.
struct Gops {
    /// The latest of its parts.
    latest: Vec<f64>,
    /// The part that ends with the next IDR picture.
    last: Vec<f64>,
    /// All the others.
    others: Vec<f64>,
    errors: u64,
}

/// Runs it; `short` shows that it works.
///
/// # Errors
/// When a program is missing or does not start, or a stream ends.
pub fn run(short: bool) -> Result<Report> {
    let (streams, apart) = streams(short)?;
    let (rounds, reels) = if short { (1, 1) } else { (3, 2) };
    let (mut marked, mut passed) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..2 {
            match (round + turn) % 2 {
                0 => passed.push(one(Mark::Off, streams, apart, reels)?),
                _ => marked.push(one(Mark::Require, streams, apart, reels)?),
            }
        }
    }
    let all = |samples: &[Gops], of: fn(&Gops) -> &Vec<f64>| -> Vec<f64> {
        samples.iter().flat_map(|sample| of(sample).iter().copied()).collect()
    };
    let side = |samples: &[Gops]| {
        let latest = all(samples, |gops| &gops.latest);
        vec![
            ("gop_ms".to_owned(), mean(&latest)),
            ("gop_p95_ms".to_owned(), quantile(&latest, 0.95)),
            ("last_part_ms".to_owned(), mean(&all(samples, |gops| &gops.last))),
            ("other_parts_ms".to_owned(), mean(&all(samples, |gops| &gops.others))),
        ]
    };
    let (mut ours, yardstick) = (side(&marked), side(&passed));
    let added = ours[0].1 - yardstick[0].1;
    let (latest, usual) = (all(&marked, |gops| &gops.latest), median(all(&passed, |gops| &gops.latest)));
    let soon = latest.iter().filter(|ms| **ms - usual <= GOAL_MS).count();
    ours.push(("added_ms_per_gop".to_owned(), added));
    ours.push(("gops_within_60_ms_more".to_owned(), soon as f64 / latest.len() as f64));
    ours.push(("gops".to_owned(), latest.len() as f64));
    ours.push(("streams".to_owned(), streams as f64));
    let ratio = ours[0].1 / yardstick[0].1;
    let errors = marked.iter().chain(&passed).map(|sample| sample.errors).sum();
    Ok(Report { name: "late", ours, yardstick, ratio, errors })
}

fn mean(figures: &[f64]) -> f64 {
    figures.iter().sum::<f64>() / figures.len() as f64
}

fn quantile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}

/// All streams for as many rounds of the feed.
fn one(mark: Mark, streams: usize, apart: bool, reels: u64) -> Result<Gops> {
    let feed = Feed::parse(&std::fs::read(feed::path(feed::FULL_HD)?)?)?;
    let mut cluster = Cluster::start(1)?;
    let to = cluster.ingest.port("rtmp")?;
    let mut ways = Vec::new();
    for (number, moment) in moments(streams, apart).into_iter().enumerate() {
        let stream = format!("late-{number}");
        let key = cluster.add_stream(&stream, mark)?;
        let url = cluster.mint(&stream, "viewer", 600)?.remove(0);
        let answer = http::get(&url)?;
        let at = answer.header("location").context("a redirect without Location")?;
        let playlist = http::join(&http::join(&url, at)?, "video.m3u8")?;
        let mut socket = connect(to, 0)?;
        begin(&mut socket, to, &key, &feed)?;
        ways.push((moment, socket, playlist));
    }
    let first = Instant::now();
    let each: Vec<Result<(Sent, Vec<Told>)>> = std::thread::scope(|scope| {
        let both: Vec<_> = ways
            .into_iter()
            .map(|(moment, mut socket, playlist)| {
                let feed = &feed;
                let pushed = scope.spawn(move || -> Result<Sent> {
                    let sent = push(&mut socket, feed, first + moment, reels)?;
                    socket.shutdown(Shutdown::Both)?;
                    Ok(sent)
                });
                let until = first + moment + length(feed) * reels as u32;
                (pushed, scope.spawn(move || follow(&playlist, until)))
            })
            .collect();
        let joined = both.into_iter().map(|(pushed, told)| {
            let panicked = |_| anyhow::anyhow!("a thread has panicked");
            let sent = pushed.join().map_err(panicked)?.context("a publisher")?;
            Ok((sent, told.join().map_err(panicked)?.context("a viewer")?))
        });
        joined.collect()
    });
    let mut all = Gops { latest: Vec::new(), last: Vec::new(), others: Vec::new(), errors: 0 };
    for stream in each {
        let (sent, told) = stream?;
        count(&sent, &told, &mut all)?;
    }
    ensure!(!all.latest.is_empty(), "no GOP was seen");
    if mark == Mark::Require {
        let not_marked =
            |line: &str| line.starts_with("releve_ingest_gops_total{") && !line.contains("kind=\"marked\"");
        all.errors += cluster.ingest.sum(not_marked)? as u64;
    }
    cluster.check_alive()?;
    Ok(all)
}

/// How long a round of the feed is.
fn length(feed: &Feed) -> Duration {
    Duration::from_millis(feed.video.len() as u64 * 1000 / 30)
}

/// Sends each message when its time comes; gives when each picture went.
fn push(socket: &mut std::net::TcpStream, feed: &Feed, began: Instant, reels: u64) -> Result<Sent> {
    let (mut reel, mut sent) = (Reel::of(feed)?, Sent::new());
    for round in 0..reels {
        reel.date(round)?;
        for (within_ms, message) in reel.messages() {
            let at_ms = round * reel.length_ms + u64::from(within_ms);
            let due = began + Duration::from_millis(at_ms);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // Of what has one time the picture comes first.
            sent.entry(at_ms).or_insert_with(Instant::now);
            socket.write_all(message)?;
        }
    }
    let pictures = |at_ms: &u64| {
        let within = at_ms % reel.length_ms;
        feed.video.binary_search_by_key(&within, |unit| u64::from(unit.dts_ms)).is_ok()
    };
    sent.retain(|at_ms, _| pictures(at_ms));
    Ok(sent)
}

/// Waits for one part after the other. The last that may come is some way before the publisher's end.
fn follow(playlist: &str, until: Instant) -> Result<Vec<Told>> {
    let text = wait_for("playlist", PATIENCE, || http::get(playlist)?.ok())?;
    let mut told = Vec::new();
    let first = number_after(text.text()?, "#EXT-X-MEDIA-SEQUENCE:").context("no number")?;
    let (mut number, mut index, mut end_s) = (first, 0, 0.0);
    while Instant::now() + Duration::from_secs(1) < until {
        let answer = http::get(&format!("{playlist}?_HLS_msn={number}&_HLS_part={index}"))?.ok()?;
        let at = Instant::now();
        let text = answer.text()?;
        if let Some(part) = part(text, number, index) {
            end_s += part.0;
            told.push(Told { end_s, independent: part.1, at });
            index += 1;
        } else {
            ensure!(
                text.contains(&format!("/{}.0.m4s", number + 1)),
                "part {number}.{index} did not come: {text}"
            );
        }
        if text.contains(&format!("/{number}.m4s")) {
            (number, index) = (number + 1, 0);
        }
    }
    Ok(told)
}

/// Length in seconds of a part that is listed, and whether it begins with an IDR picture.
fn part(playlist: &str, number: u64, index: usize) -> Option<(f64, bool)> {
    let name = format!("/{number}.{index}.m4s\"");
    let line = playlist.lines().find(|line| line.starts_with("#EXT-X-PART:") && line.contains(&name))?;
    let length = line.split("DURATION=").nth(1)?.split(',').next()?.parse().ok()?;
    Some((length, line.contains("INDEPENDENT=YES")))
}

fn number_after(playlist: &str, tag: &str) -> Option<u64> {
    playlist.lines().find_map(|line| line.strip_prefix(tag))?.parse().ok()
}

/// What the GOPs of one stream waited.
fn count(sent: &Sent, told: &[Told], all: &mut Gops) -> Result<()> {
    let mut gops: Vec<Vec<f64>> = Vec::new();
    for part in told {
        let end_ms = (part.end_s * 1000.0).round() as u64;
        let nearest = sent.range(end_ms.saturating_sub(2)..=end_ms + 2).next();
        let (_, sent_at) = nearest.with_context(|| format!("no picture was sent at {end_ms} ms"))?;
        ensure!(part.at > *sent_at, "a part was told of before its end was sent: {part:?}");
        if part.independent {
            gops.push(Vec::new());
        }
        let waited = part.at.duration_since(*sent_at).as_secs_f64() * 1000.0;
        gops.last_mut().context("the first part does not begin with an IDR picture")?.push(waited);
    }
    gops.pop(); // not known whole
    for parts in gops.into_iter().skip(WARM_UP_GOPS) {
        all.latest.push(parts.iter().copied().fold(0.0, f64::max));
        if let Some((last, others)) = parts.split_last() {
            all.last.push(*last);
            all.others.extend(others);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gop_waits_as_long_as_the_latest_of_its_parts() {
        let began = Instant::now();
        let at = |ms: u64| began + Duration::from_millis(ms);
        let sent: Sent = (0..=90).map(|picture| (picture * 100 / 3, at(picture * 100 / 3))).collect();
        let mut told = Vec::new();
        // Three parts a GOP; the last one of each 70 ms after its end, the others 5.
        for part in 1..=9_u64 {
            let late = if part % 3 == 0 { 70 } else { 5 };
            let end_s = part as f64 / 3.0 + 0.000_004 * part as f64;
            told.push(Told { end_s, independent: part % 3 == 1, at: at(part * 1000 / 3 + late) });
        }
        told.push(Told { end_s: 2.85, independent: true, at: at(9000) });
        let mut all = Gops { latest: Vec::new(), last: Vec::new(), others: Vec::new(), errors: 0 };
        assert!(count(&sent, &told, &mut all).is_err(), "no picture ends it");
        told.pop();
        told.push(Told { end_s: 3.0, independent: true, at: at(9000) });
        let mut all = Gops { latest: Vec::new(), last: Vec::new(), others: Vec::new(), errors: 0 };
        count(&sent, &told, &mut all).unwrap();
        let rounded = |of: &[f64]| of.iter().map(|ms| ms.round() as u64).collect::<Vec<_>>();
        assert_eq!((rounded(&all.latest), rounded(&all.last)), (vec![70], vec![70]));
        assert_eq!(rounded(&all.others), [5, 5]);
    }

    #[test]
    fn a_part_is_found_by_its_number_and_index() {
        let playlist = "#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-PART:DURATION=0.33333,URI=\"video/17.0.m4s\",INDEPENDENT=YES\n\
            #EXT-X-PART:DURATION=0.30000,URI=\"video/7.0.m4s\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video/7.1.m4s\"\n";
        assert_eq!(part(playlist, 7, 0), Some((0.3, false)));
        assert_eq!(part(playlist, 17, 0), Some((0.33333, true)));
        assert_eq!(part(playlist, 7, 1), None, "a hint is not there yet");
        assert_eq!(number_after(playlist, "#EXT-X-MEDIA-SEQUENCE:"), Some(7));
    }
}
