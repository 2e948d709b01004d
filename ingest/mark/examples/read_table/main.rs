//! What is left of the mark after what pirates do: marks real pictures, attacks one viewer's copy with ffmpeg, reads it
//! back with the detector and prints a line for each attack.
//!
//! `cargo run --release -p mark --example read_table -- [--gop SECONDS] [--seconds N] [--strength N] [--only ATTACK,…]
//! [--symbols] CLIP…`; with `--quality FFMPEG [--height N]` it prints what the mark costs to look at instead, measured by an
//! ffmpeg that has libvmaf. A clip is any film that ffmpeg reads, or `testsrc2`. It is made 1280×720 at 30 pictures a second and coded by
//! x264 at 2.5 Mb/s, as a broadcaster sends it. Touches ffmpeg and files of its own under the system's temporary folder.
//!
//! Columns: kilobits a second of the attacked copy; symbols read, of those sent; how many came out wrong; mean of the soft
//! values towards the truth (0.5 is a mark that lost nothing), their deviation; deviation of what the variances explain (1
//! is honest); seconds until 1 of 1,000,000 viewers is named at a global false-positive probability of 1e-6 (a copy that
//! is cut there, judged once), and log10 of that probability for all of it; seconds the detector took.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a measurement ends loudly")]

#[path = "../../tests/common/mod.rs"]
mod common;
mod quality;

use common::{Stream, annexb, chosen};
use mark::{Plan, mark};
use media::unit::Piece;
use releve_watermark::detect::{
    self, Choice, Clip, Detection, Frame, Gop, PictureError, Pictures, References,
};
use releve_watermark::embed::PatternSeed;
use releve_watermark::score::{self, Tried, Verdict};
use releve_watermark::video::{Frames, Source};
use releve_watermark::{Codebook, GopId, Key, Position, Symbol, WatermarkId};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

/// Name, filters, coder and its arguments.
type Attack = (&'static str, &'static str, &'static [&'static str]);

const X264: &[&str] = &["-c:v", "libx264", "-preset", "veryfast"];

/// What begins like this is made of the broadcaster's own stream.
const UNMARKED: &str = "unmarked";

const ATTACKS: &[Attack] = &[
    ("unmarked", "null", &["-crf", "23"]),
    ("unmarked 360p", "scale=640:360", &["-b:v", "200k", "-maxrate", "300k", "-bufsize", "400k"]),
    ("crf 23", "null", &["-crf", "23"]),
    ("360p 200k", "scale=640:360", &["-b:v", "200k", "-maxrate", "300k", "-bufsize", "400k"]),
    ("360p crf 33", "scale=640:360", &["-crf", "33"]),
    ("240p crf 30", "scale=426:240", &["-crf", "30"]),
    ("240p 120k", "scale=426:240", &["-b:v", "120k", "-maxrate", "180k", "-bufsize", "240k"]),
    (
        "x265 200k",
        "scale=640:360",
        &["-c:v", "libx265", "-preset", "veryfast", "-b:v", "200k", "-x265-params", "log-level=error"],
    ),
    (
        "vp9 200k",
        "scale=640:360",
        &["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "6", "-b:v", "200k"],
    ),
    ("crop 5%", "crop=iw*0.9:ih*0.9,scale=640:360", &["-crf", "28"]),
    ("crop 10% left", "crop=iw*0.85:ih*0.88:iw*0.12:ih*0.03,scale=640:360", &["-crf", "28"]),
    ("flip", "hflip,scale=640:360", &["-crf", "28"]),
    ("4:3", "scale=640:480", &["-crf", "28"]),
    ("speed 1.03", "setpts=PTS/1.03,scale=640:360,fps=30", &["-crf", "28"]),
    ("fps 24", "fps=24,scale=640:360", &["-crf", "28"]),
    ("fps 25", "fps=25,scale=640:360", &["-crf", "28"]),
    ("fps 60", "fps=60,scale=640:360", &["-crf", "28"]),
    (
        "logo",
        "drawbox=x=iw*0.72:y=ih*0.05:w=iw*0.2:h=ih*0.18:color=red:t=fill,drawbox=x=0:y=ih*0.82:w=iw:h=ih*0.12:color=blue:t=fill,scale=640:360",
        &["-crf", "28"],
    ),
    ("light", "eq=brightness=0.06:contrast=1.2:gamma=1.2,scale=640:360", &["-crf", "28"]),
    (
        "in picture",
        "scale=800:450,pad=1280:720:400:150:color=gray,noise=alls=3:allf=t,scale=854:480",
        &["-crf", "26"],
    ),
    (
        "sink",
        "trim=start=0.4,setpts=PTS-STARTPTS,crop=iw*0.93:ih*0.92:iw*0.05:ih*0.03,eq=brightness=0.04:contrast=1.1:gamma=1.1,noise=alls=6:allf=t,fps=25,scale=640:360",
        &["-crf", "30"],
    ),
    (
        "cam",
        "trim=start=0.4,setpts=PTS-STARTPTS,perspective=x0=12:y0=8:x1=W-20:y1=2:x2=5:y2=H-10:x3=W-6:y3=H-22:sense=source,rotate=1.5*PI/180,gblur=sigma=1.5,eq=brightness=-0.03:contrast=1.15:gamma=0.9,noise=alls=10:allf=t,fps=25,scale=640:360",
        &["-crf", "30"],
    ),
];

/// Pictures a second of everything that is marked here.
const RATE: f64 = 30.0;

/// Viewers that could be named.
const VIEWERS: u64 = 1_000_000;

/// A marked stream, as an archive has it.
struct Archive {
    avcc: Arc<[u8]>,
    gops: Vec<Gop>,
    /// Of each GOP, its access units in pieces.
    pieces: Vec<Vec<Vec<Piece>>>,
}

impl Archive {
    fn bytes(&self, gops: Range<usize>, symbol: impl Fn(usize, u16) -> Symbol) -> Vec<u8> {
        let units: Vec<Vec<u8>> = gops
            .flat_map(|gop| self.pieces[gop].iter().map(move |pieces| (gop, pieces)))
            .map(|(gop, pieces)| chosen(pieces, |slice| symbol(gop, slice) == Symbol::B))
            .collect();
        annexb(&self.avcc, &units, 4)
    }
}

impl Archive {
    /// All of it, as one viewer gets it.
    fn copy_of(&self, book: &Codebook, id: WatermarkId) -> Vec<u8> {
        let symbol = |gop: usize, slice| book.symbol(id, Position { gop: self.gops[gop].id, slice });
        self.bytes(0..self.gops.len(), symbol)
    }
}

impl References for Archive {
    fn gops(&self) -> &[Gop] {
        &self.gops
    }

    fn pictures(
        &self,
        gops: Range<usize>,
        choice: Choice,
        width: usize,
        height: usize,
    ) -> Result<Pictures, PictureError> {
        let start_s = self.gops[gops.start].start_s;
        let bytes = Box::new(std::io::Cursor::new(self.bytes(gops, |_, slice| choice.symbol(slice))));
        let source = Source::Bytes { bytes, format: Some(("h264", Some(RATE))) };
        let frames = Frames::open(source, width, height, None)?;
        let timed = move |(index, frame): (usize, Result<Frame, _>)| {
            Ok(Frame { time_s: start_s + index as f64 / RATE, ..frame? })
        };
        Ok(Box::new(frames.enumerate().map(timed)))
    }
}

struct File(PathBuf);

impl Clip for File {
    fn pictures(&self, width: usize, height: usize) -> Result<Pictures, PictureError> {
        let frames = Frames::open(Source::file(&self.0), width, height, None)?;
        Ok(Box::new(frames.map(|frame| Ok(frame?))))
    }
}

struct Asked {
    gop_s: f64,
    seconds: f64,
    strength: u16,
    only: Vec<String>,
    symbols: bool,
    quality: Option<String>,
    height: usize,
    clips: Vec<String>,
}

impl Asked {
    fn width(&self) -> usize {
        self.height * 16 / 9
    }
}

fn asked() -> Asked {
    let mut asked = Asked {
        gop_s: 1.0,
        seconds: 10.0,
        strength: 35,
        only: vec![],
        symbols: false,
        quality: None,
        height: 720,
        clips: vec![],
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap();
        match argument.as_str() {
            "--gop" => asked.gop_s = value().parse().unwrap(),
            "--seconds" => asked.seconds = value().parse().unwrap(),
            "--strength" => asked.strength = value().parse().unwrap(),
            "--quality" => asked.quality = Some(value()),
            "--height" => asked.height = value().parse().unwrap(),
            "--symbols" => asked.symbols = true,
            "--only" => asked.only = value().split(',').map(str::to_owned).collect(),
            _ => asked.clips.push(argument),
        }
    }
    asked
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn ffmpeg() -> Command {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-v", "error", "-y"]);
    command
}

/// The broadcaster's pictures, before any coder.
fn pictures(clip: &str, asked: &Asked) -> Command {
    let (width, height) = (asked.width(), asked.height);
    let mut command = ffmpeg();
    if clip == "testsrc2" {
        let source = format!("testsrc2=size={width}x{height}:rate=30,noise=alls=6:all_seed=7");
        command.args(["-f", "lavfi", "-i", &source]);
    } else {
        command.args(["-stream_loop", "-1", "-i", clip]);
    }
    let fit = format!(
        "fps=30,scale={width}:{height}:flags=bicubic:force_original_aspect_ratio=increase,crop={width}:{height},format=yuv420p"
    );
    command.args(["-vf", &fit, "-an", "-frames:v", &((asked.seconds * RATE) as usize).to_string()]);
    command
}

/// The broadcaster's stream.
fn host(folder: &Path, clip: &str, asked: &Asked) -> Stream {
    let path = folder.join("host.h264");
    let gop = ((asked.gop_s * RATE) as usize).to_string();
    // As OBS is told: 2.5 Mb/s at 720 lines, 6 at 1080.
    let rate = if asked.height > 720 { "6000k" } else { "2500k" };
    let mut command = pictures(clip, asked);
    command.args([
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-profile:v",
        "high",
        "-bf",
        "2",
        "-threads",
        "2",
    ]);
    command.args(["-b:v", rate, "-maxrate", rate, "-bufsize", rate]);
    command.args(["-g", &gop, "-keyint_min", &gop, "-sc_threshold", "0"]);
    run(command.arg(&path));
    Stream::of_annexb(&std::fs::read(&path).unwrap())
}

fn marked(stream: &Stream, asked: &Asked) -> Archive {
    let plan = Plan::of(&stream.avcc(4)).unwrap();
    let pattern = Key::new(1, [0x33; 32]);
    let (mut gops, mut pieces) = (Vec::<Gop>::new(), Vec::<Vec<Vec<Piece>>>::new());
    let intra = plan.intra();
    for (at, unit) in stream.units.iter().enumerate() {
        let bytes = unit.bytes(4);
        if unit.idr {
            let start_s = at as f64 / RATE;
            let id = GopId::derive("table", b"run-0001", (start_s * 90_000.0) as i64);
            let seed = PatternSeed::derive(&pattern, id);
            let marked = mark(&plan.job(bytes, seed, stream.previous_gop(at), asked.strength)).unwrap();
            let edges = Gop::edges_of_rows(intra.height / 16, usize::from(marked.slices), 0, asked.height);
            if let Some(last) = gops.last_mut() {
                last.end_s = start_s;
            }
            gops.push(Gop { id, start_s, end_s: stream.units.len() as f64 / RATE, edges });
            pieces.push(vec![marked.pieces]);
        } else {
            pieces.last_mut().unwrap().push(vec![Piece::Common(bytes)]);
        }
    }
    Archive { avcc: plan.avcc().to_vec().into(), gops, pieces }
}

struct Row {
    symbols: usize,
    wrong: usize,
    mean: f64,
    deviation: f64,
    honest: f64,
}

fn row(detection: &Detection, book: &Codebook, id: WatermarkId) -> Row {
    let evidence = detection.evidence().unwrap();
    let towards = |position: Position| if book.symbol(id, position) == Symbol::A { 1.0 } else { -1.0 };
    let values: Vec<(f64, f64)> = evidence
        .observations()
        .iter()
        .map(|seen| (seen.soft * towards(seen.position), seen.variance))
        .collect();
    let weight: f64 = values.iter().map(|(_, variance)| 1.0 / variance).sum();
    let mean = values.iter().map(|(value, variance)| value / variance).sum::<f64>() / weight.max(1e-9);
    let count = values.len().max(1) as f64;
    let square = |f: &dyn Fn(&(f64, f64)) -> f64| (values.iter().map(f).sum::<f64>() / count).sqrt();
    Row {
        symbols: values.len(),
        wrong: values.iter().filter(|(value, _)| *value <= 0.0).count(),
        mean,
        deviation: square(&|(value, _)| (value - mean).powi(2)),
        honest: square(&|(value, variance)| (value - mean).powi(2) / variance),
    }
}

/// Seconds of copy that are enough, and log10 of the probability for all of it.
fn named(detection: &Detection, book: &Codebook, id: WatermarkId) -> (Option<usize>, Option<f64>) {
    let ids: Vec<WatermarkId> = [id].into_iter().chain((0..200).map(WatermarkId)).collect();
    let evidence = detection.evidence().unwrap();
    let tried = Tried { viewers: VIEWERS, alignments: 1, look: 1 };
    let judged = |seconds: f64| match score::judge(book, &ids, &evidence.until(seconds), tried, 1).verdict {
        Verdict::Identified { viewers } => {
            assert!(viewers.iter().all(|viewer| viewer.id == id), "somebody else is named: {viewers:?}");
            viewers.first().map(|viewer| viewer.log10_fp)
        }
        _ => None,
    };
    let enough = (1..=detection.seconds.ceil() as usize).find(|&seconds| judged(seconds as f64).is_some());
    (enough, judged(detection.seconds))
}

fn main() {
    let asked = asked();
    let folder = std::env::temp_dir().join(format!("releve-read-table-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    if let Some(vmaf) = &asked.quality {
        quality::print(&folder, vmaf, &asked);
        std::fs::remove_dir_all(&folder).unwrap();
        return;
    }
    println!(
        "{:<12} {:<14} {:>5} {:>9} {:>5} {:>6} {:>6} {:>6} {:>5} {:>7} {:>6}  spans",
        "clip", "attack", "kb/s", "symbols", "wrong", "mean", "dev", "honest", "s", "log10fp", "took"
    );
    for (number, clip) in asked.clips.iter().enumerate() {
        let archive = marked(&host(&folder, clip, &asked), &asked);
        let book = Codebook::new(&Key::new(1, [0x11; 32]), &Key::new(1, [0x22; 32]));
        let id = WatermarkId::of_viewer(&format!("pirate {number} of {clip}"));
        let copy = archive.copy_of(&book, id);
        let copy_path = folder.join("copy.h264");
        std::fs::write(&copy_path, copy).unwrap();
        let name = Path::new(clip).file_stem().unwrap().to_string_lossy().into_owned();
        let wanted =
            |attack: &&Attack| asked.only.is_empty() || asked.only.iter().any(|only| only == attack.0);
        for (attack, filters, coder) in ATTACKS.iter().filter(wanted) {
            let path = folder.join("attacked.mkv");
            let mut command = ffmpeg();
            let from =
                if attack.starts_with(UNMARKED) { folder.join("host.h264") } else { copy_path.clone() };
            command.args(["-framerate", "30", "-f", "h264", "-i"]).arg(&from);
            command.args(["-vf", &format!("setpts=N/30/TB,{filters}")]);
            run(command.args(X264).args(*coder).args(["-pix_fmt", "yuv420p"]).arg(&path));
            let started = Instant::now();
            let detection = detect::detect(&archive, &File(path.clone()), &mut |_| {}).unwrap();
            let took = started.elapsed().as_secs_f64();
            let row = row(&detection, &book, id);
            if asked.symbols {
                for seen in &detection.observations {
                    let sign = if book.symbol(id, seen.position) == Symbol::A { 1.0 } else { -1.0 };
                    let (slice, at_s) = (seen.position.slice, seen.at_s);
                    println!(
                        "  {at_s:>6.2} s slice {slice}: {:+.3} ± {:.3}",
                        seen.soft * sign,
                        seen.variance.sqrt()
                    );
                }
            }
            let (enough, log10_fp) = named(&detection, &book, id);
            let text = |number: Option<String>| number.unwrap_or("-".into());
            let kbits = std::fs::metadata(&path).unwrap().len() as f64 * 8e-3 / detection.seconds;
            let spans: Vec<String> = detection
                .spans
                .iter()
                .map(|span| {
                    format!(
                        "{:.2}+{:.2}→{:.2}×{:.3} {:.2}",
                        span.from_s,
                        span.to_s - span.from_s,
                        span.archive_s,
                        span.speed,
                        span.agreement
                    )
                })
                .collect();
            println!(
                "{:<12} {:<14} {:>5.0} {:>5}/{:<3} {:>5} {:>6.3} {:>6.3} {:>6.2} {:>5} {:>7} {:>6.1}  {}",
                name,
                attack,
                kbits,
                row.symbols,
                archive.gops.len() * 8,
                row.wrong,
                row.mean,
                row.deviation,
                row.honest,
                text(enough.map(|seconds| seconds.to_string())),
                text(log10_fp.map(|log10| format!("{log10:.1}"))),
                took,
                spans.join(", ")
            );
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
