//! How soon a leak is traced, and whether anybody innocent is ever named: the whole way, from a broadcaster's encoder over
//! relays to viewers' recordings, through what pirates do, to `releve-trace identify`.
//!
//! In: feeds, how many viewers a row. Out: a Markdown table on stdout, as `watermark/docs/marks.md` has it. Viewers are drawn
//! at random (the seed is printed) and record from two relays; the tracer gets the pirate's file, archive, keys and a register
//! of 1,000,000, nothing else.

use crate::viewer::Recording;
use crate::{Cluster, Mark, Publisher, Viewer, feed};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Viewers in the register.
const REGISTER: usize = 1_000_000;
/// How much of a recording is leaked.
const LEAK_S: f64 = 20.0;
/// How much colluders leak.
const MIXED_S: f64 = 34.0;
/// How long viewers record.
const WATCHED: Duration = Duration::from_secs(40);

/// What is done to a copy: name, filters, coder and its arguments.
type Attack = (&'static str, &'static str, &'static [&'static str]);

const ATTACKS: &[Attack] = &[
    ("360p, 200 kb/s", "scale=640:360", &["-b:v", "200k", "-maxrate", "300k", "-bufsize", "400k"]),
    ("360p, CRF 28", "scale=640:360", &["-crf", "28"]),
    ("240p, CRF 30", "scale=426:240", &["-crf", "30"]),
    (
        "360p, x265, 200 kb/s",
        "scale=640:360",
        &["-c:v", "libx265", "-b:v", "200k", "-x265-params", "log-level=error"],
    ),
    (
        "360p, VP9, 200 kb/s",
        "scale=640:360",
        &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "200k"],
    ),
    ("crop 12 % left, 360p", "crop=iw*0.85:ih*0.88:iw*0.12:ih*0.03,scale=640:360", &["-crf", "28"]),
    ("mirrored, 360p", "hflip,scale=640:360", &["-crf", "28"]),
    ("3 % faster, 25 fps, 360p", "setpts=PTS/1.03,fps=25,scale=640:360", &["-crf", "28"]),
    (
        "logo and lower third, 360p",
        "drawbox=x=iw*0.72:y=ih*0.05:w=iw*0.2:h=ih*0.18:color=red:t=fill,drawbox=x=0:y=ih*0.82:w=iw:h=ih*0.12:color=blue:t=fill,scale=640:360",
        &["-crf", "28"],
    ),
    (
        "\"sink\": crop, colour, noise, 25 fps, 360p",
        "crop=iw*0.93:ih*0.92:iw*0.05:ih*0.03,eq=brightness=0.04:contrast=1.1:gamma=1.1,noise=alls=6:allf=t,fps=25,scale=640:360",
        &["-crf", "30"],
    ),
    (
        "\"cam\": perspective, turn, blur, colour, noise, 25 fps, 360p",
        "perspective=x0=12:y0=8:x1=W-20:y1=2:x2=5:y2=H-10:x3=W-6:y3=H-22:sense=source,rotate=1.5*PI/180,gblur=sigma=1.5,eq=brightness=-0.03:contrast=1.15:gamma=0.9,noise=alls=10:allf=t,fps=25,scale=640:360",
        &["-crf", "30"],
    ),
];

/// Small numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % end as u64) as usize
    }
}

/// One clip's outcome.
struct Outcome {
    guilty: BTreeSet<String>,
    code: i32,
    found: Value,
    kbps: f64,
    took_s: f64,
}

impl Outcome {
    fn named(&self) -> BTreeSet<String> {
        let named = self.found["viewers"].as_array().into_iter().flatten();
        named.filter_map(|named| Some(named["viewer"].as_str()?.to_owned())).collect()
    }
}

/// Runs it all; gives how many innocent viewers were named.
///
/// # Errors
/// When anything does not run.
pub fn run(short: bool) -> Result<u64> {
    let viewers_a_row = match std::env::var("RELEVE_TRACE_VIEWERS") {
        Ok(text) => text.parse().context("RELEVE_TRACE_VIEWERS is a number")?,
        Err(_) if short => 1,
        Err(_) => 20,
    };
    // Rows by their place, from 0; all without.
    let rows = std::env::var("RELEVE_TRACE_ROWS").unwrap_or_default();
    let rows: BTreeSet<usize> = rows.split(',').filter_map(|row| row.trim().parse().ok()).collect();
    let wanted = |row: usize| if rows.is_empty() { !short || row == 0 } else { rows.contains(&row) };
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let mut dice = Dice(seed);
    println!("seed {seed}, register {REGISTER}, {viewers_a_row} viewer(s) a row, {LEAK_S} s leaked each\n");

    let lab = Lab::record(&mut dice, if short { 2 } else { 8 })?;
    println!("archive: {:.2} bytes for each that a viewer receives of the video\n", lab.archived_ratio()?);
    let mut innocent = lab.controls(&mut dice)?;
    println!(
        "\n| Copy | kb/s | named of | others named | seconds needed (median, most) | not named, and why | tracer, s |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (_, (name, filters, coder)) in ATTACKS.iter().enumerate().filter(|(row, _)| wanted(*row)) {
        let mut row = Vec::new();
        for _ in 0..viewers_a_row {
            let who = dice.below(lab.copies.len());
            let from_s = dice.below(12) as f64 + 2.0;
            let copies = [(who, from_s)];
            row.push(lab.leak(&copies, filters, coder, &["--growing"])?);
        }
        innocent += print_row(name, &row);
    }
    if !short {
        for (name, mix) in [
            ("two averaged, 360p, CRF 28", "average"),
            ("two interleaved in time, 360p, CRF 28", "interleave"),
        ] {
            let mut row = Vec::new();
            for _ in 0..viewers_a_row {
                let (one, other) = (dice.below(lab.copies.len()), dice.below(lab.copies.len() - 1));
                let other = if other >= one { other + 1 } else { other };
                row.push(lab.collude(&[one, other], mix)?);
            }
            innocent += print_row(name, &row);
        }
    }
    println!("\ninnocent viewers named: {innocent}");
    Ok(innocent)
}

/// Recordings of one event, and what the tracer is given.
struct Lab {
    cluster: Cluster,
    /// Viewer and recording.
    copies: Vec<(String, PathBuf)>,
    register: PathBuf,
    keys: PathBuf,
    video_bytes_a_segment: f64,
}

impl Lab {
    /// An event, watched by viewers of a register of which they are drawn.
    fn record(dice: &mut Dice, count: usize) -> Result<Lab> {
        let cluster = Cluster::start(2)?;
        let key = cluster.add_stream("demo", Mark::Require)?;
        let publisher = Publisher::once(feed::WANDER, &cluster.publish_url(&key)?, cluster.dir())?;
        let register = cluster.dir().join("register.txt");
        std::fs::write(
            &register,
            (0..REGISTER).map(|number| format!("account-{number}\n")).collect::<String>(),
        )?;
        let names: Vec<String> = (0..count).map(|_| format!("account-{}", dice.below(REGISTER))).collect();
        let mut viewers = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let url = cluster.mint("demo", name, 600)?.remove(index % 2);
            viewers.push(Viewer::enter_when_live(&url, Duration::from_secs(20))?);
        }
        std::thread::scope(|scope| {
            let all: Vec<_> =
                viewers.iter_mut().map(|viewer| scope.spawn(|| viewer.follow(WATCHED))).collect();
            all.into_iter()
                .try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a viewer panicked"))?)
        })?;
        drop(publisher);
        let mut copies = Vec::new();
        let mut video_bytes_a_segment = 0.0;
        for (name, viewer) in names.into_iter().zip(&viewers) {
            let recording: Recording = viewer.recording(0)?;
            let bytes: usize = recording.segments.values().map(Vec::len).sum();
            video_bytes_a_segment = bytes as f64 / recording.segments.len() as f64;
            copies.push((name.clone(), recording.save(cluster.dir(), &format!("{name}.mp4"))?));
        }
        let keys = cluster.dir().join("opened.keys");
        std::fs::write(&keys, cluster.ctl(&["key", "open", "1"])?)?;
        Ok(Lab { cluster, copies, register, keys, video_bytes_a_segment })
    }

    /// Bytes of the archive for each byte that a viewer receives of the video, over the segments that were recorded.
    fn archived_ratio(&self) -> Result<f64> {
        let metrics = self.cluster.ingest.metrics()?;
        let figure = |name: &str| -> Result<f64> {
            let line =
                metrics.lines().find(|line| line.starts_with(name)).with_context(|| format!("no {name}"))?;
            Ok(line.rsplit(' ').next().context("a figure")?.parse()?)
        };
        let archived = figure("releve_ingest_archive_bytes_total{")?;
        let segments = figure("releve_ingest_segments_total{")?;
        Ok(archived / segments / self.video_bytes_a_segment)
    }

    /// Leaks a part of each copy, one after the other, and asks whose it is.
    fn leak(&self, copies: &[(usize, f64)], filters: &str, coder: &[&str], more: &[&str]) -> Result<Outcome> {
        let (who, from_s) = copies[0];
        let film = &self.copies[who].1;
        let clip = self.encode(&["-i", text(film)?], &format!("[0:v]{filters}[v]"), from_s, LEAK_S, coder)?;
        self.ask(&clip, [self.copies[who].0.clone()].into(), more)
    }

    /// Two make one copy of theirs.
    fn collude(&self, who: &[usize; 2], mix: &str) -> Result<Outcome> {
        let films = [text(&self.copies[who[0]].1)?, text(&self.copies[who[1]].1)?];
        let filters = match mix {
            "average" => "[0:v][1:v]blend=all_mode=average,scale=640:360[v]",
            _ => "[0:v][1:v]blend=all_expr='if(mod(floor(T/1.7)\\,2)\\,A\\,B)',scale=640:360[v]",
        };
        let clip = self.encode(&["-i", films[0], "-i", films[1]], filters, 2.0, MIXED_S, &["-crf", "28"])?;
        let guilty = who.iter().map(|&who| self.copies[who].0.clone()).collect();
        self.ask(&clip, guilty, &["--growing"])
    }

    fn encode(
        &self,
        inputs: &[&str],
        filters: &str,
        from_s: f64,
        seconds: f64,
        coder: &[&str],
    ) -> Result<PathBuf> {
        let out = self.cluster.dir().join("leak.mkv");
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-v", "error", "-y"]).args(inputs);
        ffmpeg.args(["-filter_complex", filters, "-map", "[v]", "-an", "-ss", &from_s.to_string()]);
        ffmpeg.args(["-t", &seconds.to_string()]);
        if !coder.contains(&"-c:v") {
            ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast"]);
        }
        let ended = ffmpeg.args(coder).arg(&out).output()?;
        ensure!(ended.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&ended.stderr));
        Ok(out)
    }

    fn ask(&self, clip: &Path, guilty: BTreeSet<String>, more: &[&str]) -> Result<Outcome> {
        let seconds = if guilty.len() > 1 { MIXED_S } else { LEAK_S };
        let kbps = std::fs::metadata(clip)?.len() as f64 * 8.0 / 1e3 / seconds;
        let started = Instant::now();
        let mut arguments = more.to_vec();
        for (option, usual) in [("--register", &self.register), ("--keys", &self.keys)] {
            if !more.contains(&option) {
                arguments.extend([option, text(usual)?]);
            }
        }
        let (code, found) = self.cluster.identify(clip, &arguments)?;
        Ok(Outcome { guilty, code, found, kbps, took_s: started.elapsed().as_secs_f64() })
    }

    /// Copies for which nobody may be named.
    fn controls(&self, dice: &mut Dice) -> Result<u64> {
        println!("| Control | verdict | named |");
        println!("|---|---|---|");
        let plain: (&str, &[&str]) = ("scale=640:360", &["-crf", "28"]);
        let mut innocent = 0;
        let mut control = |name: &str, outcome: Outcome| {
            let named = outcome.named().len();
            innocent += named as u64;
            println!(
                "| {name} | {} ({}) | {named} |",
                outcome.found["verdict"].as_str().unwrap_or("?"),
                outcome.code
            );
        };
        let filters = format!("[0:v]{}[v]", plain.0);
        let clip = self.encode(&["-i", text(&feed::path(feed::WANDER)?)?], &filters, 6.0, LEAK_S, plain.1)?;
        control("the broadcaster's own feed, never marked", self.ask(&clip, BTreeSet::new(), &[])?);
        let clip = self.encode(
            &["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30"],
            &filters,
            6.0,
            LEAK_S,
            plain.1,
        )?;
        control("another event", self.ask(&clip, BTreeSet::new(), &[])?);
        let film = text(&self.copies[dice.below(self.copies.len())].1)?.to_owned();
        let clip = self.encode(&["-i", &film], &filters, 6.0, LEAK_S, plain.1)?;
        let other = self.cluster.dir().join("other.keys");
        let hex: String =
            (0..64).map(|_| char::from_digit(dice.below(16) as u32, 16).unwrap_or('0')).collect();
        std::fs::write(&other, format!("code 1 {hex}\nbias 1 {hex}\n"))?;
        control(
            "the right event under other keys",
            self.ask(&clip, BTreeSet::new(), &["--keys", text(&other)?])?,
        );
        let strangers = self.cluster.dir().join("strangers.txt");
        std::fs::write(
            &strangers,
            (0..REGISTER).map(|number| format!("stranger-{number}\n")).collect::<String>(),
        )?;
        control(
            "a viewer who is not in the register",
            self.ask(&clip, BTreeSet::new(), &["--register", text(&strangers)?])?,
        );
        Ok(innocent)
    }
}

/// Prints a row; gives how many innocent viewers it names.
fn print_row(name: &str, row: &[Outcome]) -> u64 {
    let hits: Vec<&Outcome> = row.iter().filter(|one| !one.named().is_disjoint(&one.guilty)).collect();
    let innocent: usize = row.iter().map(|one| one.named().difference(&one.guilty).count()).sum();
    let mut seconds: Vec<f64> = hits.iter().filter_map(|one| one.found["seconds"].as_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let needed = match (seconds.get(seconds.len() / 2), seconds.last()) {
        (Some(middle), Some(most)) => format!("{middle:.1}, {most:.1}"),
        _ => "-".to_owned(),
    };
    let misses = row.iter().filter(|one| one.named().is_disjoint(&one.guilty));
    let misses: Vec<String> = misses
        .map(|one| {
            let more =
                one.found["needed_seconds"].as_f64().map_or("?".to_owned(), |more| format!("{more:.0}"));
            format!("{} (+{more} s)", one.found["verdict"].as_str().unwrap_or("?"))
        })
        .collect();
    let mean = |of: fn(&Outcome) -> f64| row.iter().map(of).sum::<f64>() / row.len().max(1) as f64;
    println!(
        "| {name} | {:.0} | {} of {} | {innocent} | {needed} | {} | {:.0} |",
        mean(|one| one.kbps),
        hits.len(),
        row.len(),
        misses.join(", "),
        mean(|one| one.took_s)
    );
    innocent as u64
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is text")
}
