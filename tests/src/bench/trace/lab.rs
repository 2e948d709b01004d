//! An event that viewers recorded, and what the tracer is given: the pirate's file, archive, keys and a register of
//! 1,000,000, nothing else.

use super::rows::{Event, Row, WANDER, Who};
use super::tracer::{NICE, Tracer};
use crate::viewer::Recording;
use crate::{Cluster, Mark, Publisher, Viewer, feed};
use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

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

/// Who leaks, and from which second of the recording on.
pub(super) struct Drawn {
    row: &'static Row,
    /// Places in the list of copies.
    guilty: BTreeSet<usize>,
    from_s: f64,
}

/// A leak that was made.
pub(super) struct Leak {
    /// Of which row.
    pub(super) row: &'static Row,
    guilty: BTreeSet<String>,
    clip: PathBuf,
}

impl Leak {
    /// Asks whose it is, and takes the file away.
    pub(super) fn traced(self, tracer: &mut Tracer) -> Result<Outcome> {
        let kbps = std::fs::metadata(&self.clip)?.len() as f64 * 8.0 / 1e3 / self.row.leak_s;
        let (found, took_s) = tracer.ask(&self.clip)?;
        std::fs::remove_file(&self.clip)?;
        Ok(Outcome { guilty: self.guilty, found, kbps, took_s })
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
    /// Seconds of processor time that the tracer took.
    pub(super) took_s: f64,
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
            "{} s of it, {} of {} named, {} others; {}, {:.0} kb/s, {:.1} s of the tracer's processor time",
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

    /// How many GOPs of the event were marked, and how many not: a starved ingest leaves some out.
    pub(super) fn gops(&self) -> Result<(u64, u64)> {
        let gops = |line: &str| line.starts_with("releve_ingest_gops_total{");
        let marked = |line: &str| line.contains("kind=\"marked\"");
        let sum = |of: &dyn Fn(&str) -> bool| self.cluster.ingest.sum(|line| gops(line) && of(line));
        Ok((sum(&marked)? as u64, sum(&|line| !marked(line))? as u64))
    }

    /// Draws who leaks and from which second on. `turn` counts a row's leaks: as long as there are viewers, each leaks once.
    pub(super) fn draw(&self, row: &'static Row, turn: usize, dice: &mut Dice) -> Result<Drawn> {
        let viewers = self.pool(row).len();
        ensure!(viewers >= row.who.many(), "{viewers} viewers are too few");
        let mut guilty = BTreeSet::from([turn % viewers]);
        while guilty.len() < row.who.many() {
            guilty.insert(dice.below(viewers));
        }
        let spare = (self.event.watched_s as f64 - row.leak_s - 4.0).max(1.0) as usize;
        Ok(Drawn { row, guilty, from_s: 2.0 + dice.below(spare.min(LATEST_S)) as f64 })
    }

    /// Makes a leak's file.
    pub(super) fn leak(&self, drawn: Drawn, number: usize) -> Result<Leak> {
        let (row, pool) = (drawn.row, self.pool(drawn.row));
        let films: Result<Vec<&str>> = drawn.guilty.iter().map(|&who| text(&pool[who].1)).collect();
        let inputs: Vec<Vec<&str>> = films?.into_iter().map(|film| vec!["-i", film]).collect();
        let filters = format!("{};[m]{}[v]", row.who.mix(), row.filters);
        let name = format!("leak-{number}.mkv");
        let clip = self.encode(&name, &inputs, &filters, drawn.from_s, row.leak_s, row.coder)?;
        let guilty = drawn.guilty.into_iter().map(|who| pool[who].0.clone()).collect();
        Ok(Leak { row, guilty, clip })
    }

    /// A tracer that has this event's archive, keys and register, and nothing else.
    pub(super) fn tracer(&self) -> Result<Tracer> {
        Tracer::start(self.cluster.dir(), &self.keys, &self.register)
    }

    fn pool(&self, row: &Row) -> &[(String, PathBuf)] {
        if matches!(row.who, Who::Roaming) { &self.roaming } else { &self.copies }
    }

    /// A part of the inputs, which are all of one length, after these filters.
    fn encode(
        &self,
        name: &str,
        inputs: &[Vec<&str>],
        filters: &str,
        from_s: f64,
        seconds: f64,
        coder: &[&str],
    ) -> Result<PathBuf> {
        let out = self.cluster.dir().join(name);
        let mut ffmpeg = Command::new("nice");
        ffmpeg.args(NICE).args(["ffmpeg", "-nostdin", "-v", "error", "-y"]);
        for input in inputs {
            ffmpeg.args(["-ss", &from_s.to_string()]).args(input);
        }
        ffmpeg.args(["-filter_complex", filters, "-map", "[v]", "-an"]);
        ffmpeg.args(["-t", &seconds.to_string(), "-pix_fmt", "yuv420p"]);
        if !coder.contains(&"-c:v") {
            ffmpeg.args(["-c:v", "libx264", "-preset", "veryfast"]);
        }
        let ended = ffmpeg.args(coder).arg(&out).output()?;
        ensure!(ended.status.success(), "ffmpeg: {}", String::from_utf8_lossy(&ended.stderr));
        Ok(out)
    }

    /// Copies for which nobody may be named; prints a row each and gives how many were.
    pub(super) fn controls(&self, dice: &mut Dice) -> Result<u64> {
        println!("| Control | verdict | named |");
        println!("|---|---|---|");
        let mut innocent = 0;
        let mut control = |name: &str, clip: &Path, more: &[&str]| -> Result<()> {
            let mut arguments = vec!["--growing"];
            arguments.extend(more);
            for (option, usual) in [("--register", &self.register), ("--keys", &self.keys)] {
                if !more.contains(&option) {
                    arguments.extend([option, text(usual)?]);
                }
            }
            let (code, found) = self.cluster.identify(clip, &arguments)?;
            let named = found["viewers"].as_array().map_or(0, Vec::len);
            innocent += named as u64;
            let verdict = found["verdict"].as_str().unwrap_or("?");
            println!("| {name} | {verdict} ({code}) | {named} |");
            Ok(())
        };
        let encode = |input: &[&str]| {
            let (input, filters) = ([input.to_vec()], "[0:v]scale=640:360[v]");
            self.encode("control.mkv", &input, filters, 6.0, CONTROL_S, &["-crf", "28"])
        };
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
