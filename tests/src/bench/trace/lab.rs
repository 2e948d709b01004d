//! An event that viewers recorded, and what the tracer is given: the pirate's file, archive, keys and a register of
//! 1,000,000, nothing else.

use super::rows::{Event, Row, WANDER, Who};
use crate::viewer::Recording;
use crate::{Cluster, Mark, Publisher, Viewer, feed};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Viewers in the register.
pub(super) const REGISTER: usize = 1_000_000;
/// Seconds from a recording's begin that a leak may begin after.
const LATEST_S: usize = 14;

/// Small numbers that a seed decides.
pub(super) struct Dice(pub(super) u64);

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
pub(super) struct Outcome {
    /// Who leaked it.
    pub(super) guilty: BTreeSet<String>,
    /// What the tracer said.
    pub(super) found: Value,
    /// The leak's.
    pub(super) kbps: f64,
    /// Seconds that the tracer took.
    pub(super) took_s: f64,
    code: i32,
}

impl Outcome {
    /// Everybody the tracer named.
    pub(super) fn named(&self) -> BTreeSet<String> {
        let named = self.found["viewers"].as_array().into_iter().flatten();
        named.filter_map(|named| Some(named["viewer"].as_str()?.to_owned())).collect()
    }

    /// What became of it, for whoever waits.
    pub(super) fn line(&self) -> String {
        let (named, found) = (self.named(), &self.found);
        format!(
            "{} s of it, {} of {} named, {} others; {}, {:.0} kb/s, {:.0} s of the tracer's time",
            found["seconds"],
            named.intersection(&self.guilty).count(),
            self.guilty.len(),
            named.difference(&self.guilty).count(),
            found["verdict"].as_str().unwrap_or("?"),
            self.kbps,
            self.took_s
        )
    }
}

/// Recordings of one event.
pub(super) struct Lab {
    cluster: Cluster,
    event: Event,
    /// Account and recording of everybody who stayed with a relay.
    copies: Vec<(String, PathBuf)>,
    /// The same of those who changed it with every segment.
    roaming: Vec<(String, PathBuf)>,
    register: PathBuf,
    keys: PathBuf,
    video_bytes_a_segment: f64,
}

/// A viewer, or two of one account on both relays.
struct Watching {
    name: String,
    viewers: Vec<Viewer>,
}

impl Lab {
    /// An event, watched by `stay` viewers of one relay each and `roam` of both.
    pub(super) fn record(dice: &mut Dice, event: Event, stay: usize, roam: usize) -> Result<Lab> {
        let cluster = Cluster::start(2)?;
        let key = cluster.add_stream("demo", Mark::Require)?;
        let publisher = Publisher::once(event.feed, &cluster.publish_url(&key)?, cluster.dir())?;
        let register = cluster.dir().join("register.txt");
        std::fs::write(
            &register,
            (0..REGISTER).map(|number| format!("account-{number}\n")).collect::<String>(),
        )?;
        let mut names = BTreeSet::new();
        while names.len() < stay + roam {
            names.insert(format!("account-{}", dice.below(REGISTER)));
        }
        let mut watching = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let urls = cluster.mint("demo", &name, 600)?;
            let urls = if index < stay { &urls[index % 2..][..1] } else { &urls[..2] };
            let enter = |url: &String| Viewer::enter_when_live(url, Duration::from_secs(20));
            watching.push(Watching { name, viewers: urls.iter().map(enter).collect::<Result<_>>()? });
        }
        let time = Duration::from_secs(event.watched_s);
        std::thread::scope(|scope| {
            let viewers = watching.iter_mut().flat_map(|one| &mut one.viewers);
            let all: Vec<_> = viewers.map(|viewer| scope.spawn(move || viewer.follow(time))).collect();
            all.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a viewer panicked"))?)
        })?;
        drop(publisher);
        let keys = cluster.dir().join("opened.keys");
        std::fs::write(&keys, cluster.ctl(&["key", "open", "1"])?)?;
        let mut lab = Lab {
            cluster,
            event,
            copies: Vec::new(),
            roaming: Vec::new(),
            register,
            keys,
            video_bytes_a_segment: 0.0,
        };
        lab.save(&watching)?;
        Ok(lab)
    }

    /// Writes the recordings as files that begin and end with the same segments.
    fn save(&mut self, watching: &[Watching]) -> Result<()> {
        let recordings: Vec<(&str, Vec<Recording>)> = watching
            .iter()
            .map(|one| {
                let recordings = one.viewers.iter().map(|viewer| viewer.recording(0));
                Ok((one.name.as_str(), recordings.collect::<Result<_>>()?))
            })
            .collect::<Result<_>>()?;
        let numbers =
            |recording: &Recording| -> BTreeSet<u64> { recording.segments.keys().copied().collect() };
        let common = recordings.iter().flat_map(|(_, recordings)| recordings).map(numbers);
        let common = common.reduce(|one, other| &one & &other).context("somebody watched")?;
        for (name, recordings) in recordings {
            let segments = common.iter().map(|number| {
                let from = &recordings[(*number % recordings.len() as u64) as usize];
                (*number, from.segments[number].clone())
            });
            let recording = Recording { init: recordings[0].init.clone(), segments: segments.collect() };
            let bytes: usize = recording.segments.values().map(Vec::len).sum();
            self.video_bytes_a_segment = bytes as f64 / common.len() as f64;
            let film = recording.save(self.cluster.dir(), &format!("{name}.mp4"))?;
            let list = if recordings.len() == 1 { &mut self.copies } else { &mut self.roaming };
            list.push((name.to_owned(), film));
        }
        Ok(())
    }

    /// Bytes of the archive for each byte that a viewer receives of the video, over the segments that were recorded.
    pub(super) fn archived_ratio(&self) -> Result<f64> {
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

    /// Leaks what a row says, from a second and by viewers drawn at random, and asks whose it is. `turn` counts a row's
    /// leaks: as long as there are viewers, each leaks once.
    pub(super) fn leak(&self, row: &Row, turn: usize, dice: &mut Dice) -> Result<Outcome> {
        let pool = if matches!(row.who, Who::Roaming) { &self.roaming } else { &self.copies };
        ensure!(pool.len() >= row.who.many(), "{} viewers are too few", pool.len());
        let mut guilty = BTreeSet::from([turn % pool.len()]);
        while guilty.len() < row.who.many() {
            guilty.insert(dice.below(pool.len()));
        }
        let spare = (self.event.watched_s as f64 - row.leak_s - 4.0).max(1.0) as usize;
        let from_s = 2.0 + dice.below(spare.min(LATEST_S)) as f64;
        let mut inputs = Vec::new();
        for &who in &guilty {
            inputs.extend(["-i", text(&pool[who].1)?]);
        }
        let filters = format!("{};[m]{}[v]", row.who.mix(), row.filters);
        let clip = self.encode(&inputs, &filters, from_s, row.leak_s, row.coder)?;
        let guilty = guilty.into_iter().map(|who| pool[who].0.clone()).collect();
        self.ask(&clip, guilty, row.leak_s, &["--growing"])
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
        ffmpeg.args(["-t", &seconds.to_string(), "-pix_fmt", "yuv420p"]);
        if !coder.contains(&"-c:v") {
            ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast"]);
        }
        let ended = ffmpeg.args(coder).arg(&out).output()?;
        ensure!(ended.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&ended.stderr));
        Ok(out)
    }

    fn ask(&self, clip: &Path, guilty: BTreeSet<String>, seconds: f64, more: &[&str]) -> Result<Outcome> {
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

    /// Copies for which nobody may be named; prints a row each and gives how many were.
    pub(super) fn controls(&self, dice: &mut Dice) -> Result<u64> {
        println!("| Control | verdict | named |");
        println!("|---|---|---|");
        let mut innocent = 0;
        let mut control = |name: &str, clip: &Path, more: &[&str]| -> Result<()> {
            let outcome = self.ask(clip, BTreeSet::new(), CONTROL_S, more)?;
            let named = outcome.named().len();
            innocent += named as u64;
            let verdict = outcome.found["verdict"].as_str().unwrap_or("?");
            println!("| {name} | {verdict} ({}) | {named} |", outcome.code);
            Ok(())
        };
        let encode =
            |inputs: &[&str]| self.encode(inputs, "[0:v]scale=640:360[v]", 6.0, CONTROL_S, &["-crf", "28"]);
        let clip = encode(&["-i", text(&feed::path(WANDER.feed)?)?])?;
        control("the broadcaster's own feed, never marked", &clip, &[])?;
        let clip = encode(&["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30"])?;
        control("another event", &clip, &[])?;
        let film = text(&self.copies[dice.below(self.copies.len())].1)?.to_owned();
        let clip = encode(&["-i", &film])?;
        let other = self.cluster.dir().join("other.keys");
        let hex: String =
            (0..64).map(|_| char::from_digit(dice.below(16) as u32, 16).unwrap_or('0')).collect();
        std::fs::write(&other, format!("code 1 {hex}\nbias 1 {hex}\n"))?;
        control("the right event under other keys", &clip, &["--keys", text(&other)?])?;
        let strangers = self.cluster.dir().join("strangers.txt");
        std::fs::write(
            &strangers,
            (0..REGISTER).map(|number| format!("stranger-{number}\n")).collect::<String>(),
        )?;
        control("a viewer who is not in the register", &clip, &["--register", text(&strangers)?])?;
        Ok(innocent)
    }
}

/// How much of a recording the controls leak.
const CONTROL_S: f64 = 20.0;

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is text")
}
