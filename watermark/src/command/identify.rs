//! `identify`: whose copy a clip is; `inspect`: where it is from, and what can be read of the mark.

use super::progress::Bar;
use super::{DONE, INSUFFICIENT, NOT_OURS};
use crate::KeyBook;
use crate::archive::Archive;
use crate::detect::{Detection, Progress, detect};
use crate::position::GopId;
use crate::records::{Records, register_of};
use crate::score::looks;
use crate::trace::io::{self, Clip, References};
use crate::trace::{Finding, Read, Register, Suspects, chosen, finding, page, whole};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Begins every SQLite file.
const SQLITE: &[u8] = b"SQLite format 3\0";

/// What the clip is compared with.
#[derive(Args)]
pub struct Compared {
    /// The clip: any film that ffmpeg reads.
    #[arg(long)]
    clip: PathBuf,
    /// State folder of a one-machine set-up: archive, keys and register in one.
    #[arg(long, env = "RELEVE_DIR", required_unless_present = "archive")]
    dir: Option<PathBuf>,
    /// Folder of archive logs; once for each node of a pair: what one lacks, the other may have.
    #[arg(long)]
    archive: Vec<PathBuf>,
    /// Only this stream.
    #[arg(long)]
    stream: Option<String>,
    /// Nothing before this time, Unix seconds; a long archive takes minutes an hour.
    #[arg(long)]
    from: Option<i64>,
    /// Nothing after this time, Unix seconds.
    #[arg(long)]
    to: Option<i64>,
    /// One JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What `identify` is asked.
#[derive(Args)]
pub struct Identify {
    #[command(flatten)]
    compared: Compared,
    /// File of opened keys: `code VERSION HEX` and `bias VERSION HEX`, one a line.
    #[arg(long, required_unless_present = "dir")]
    keys: Option<PathBuf>,
    /// The register: a viewer a line, or a state.db.
    #[arg(long, required_unless_present = "dir")]
    register: Option<PathBuf>,
    /// Judge the clip as it grows, first when it shows enough symbols for a name and then after each tenth more, and stop
    /// when somebody is named: `seconds` says how much of it was enough. Each look is paid for.
    #[arg(long)]
    growing: bool,
    /// The copy may be of whole segments, as a CDN keeps them, chosen by the viewer's playlist or by an edge: read it in these
    /// ways too. Each is paid for.
    #[arg(long)]
    whole_segments: bool,
    /// Write a report as one HTML file.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// What was read of the clip, and what it was compared with.
struct Seen {
    detection: Detection,
    references: References,
}

/// Names the viewer, or says why not.
///
/// # Errors
/// Says what is missing or wrong.
pub fn identify(asked: Identify) -> Result<u8> {
    let Identify { compared, keys, register, growing, whole_segments, report } = asked;
    // What is quickly found to be missing, first.
    let records = match &compared.dir {
        Some(dir) if keys.is_none() || register.is_none() => Some(Records::open(dir)?),
        _ => None,
    };
    let keys = match (&keys, &records) {
        (Some(path), _) => KeyBook::parse(&text(path)?).with_context(|| path.display().to_string())?,
        (None, Some(records)) => records.keys().clone(),
        (None, None) => bail!("--keys is missing"),
    };
    let (register, register_input) = match (&register, &records) {
        (Some(path), _) => (read_register(path)?, (path.display().to_string(), io::sha256_of(path)?)),
        (None, Some(records)) => {
            let register = Register { rows: records.register()? };
            let lines: String =
                register.rows.iter().map(|(viewer, id)| format!("{viewer}\t{:016x}\n", id.0)).collect();
            let hash = ring::digest::digest(&ring::digest::SHA256, lines.as_bytes());
            (register, ("register, as VIEWER<TAB>ID lines".to_owned(), hex::encode(hash)))
        }
        (None, None) => bail!("--register is missing"),
    };
    if register.rows.is_empty() {
        bail!("the register is empty: nobody was ever admitted");
    }
    let seen = see(&compared)?;
    let reads = reads(&seen);
    let places = places(&seen);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let seconds = finding::rounded(seen.detection.seconds);
    let mut suspects = Suspects::new(&register, &keys, threads);
    let mut judged = |look: u32, until_s: f64| {
        let so_far = |read: &&Read| until_s >= seconds || read.at_s < until_s;
        let mut reads: Vec<Read> = reads.iter().filter(so_far).cloned().collect();
        if whole_segments {
            let whole = whole(&reads, |read| first_marked(&seen, read));
            let chosen = chosen(&whole, &keys);
            reads.extend(whole.into_iter().chain(chosen));
        }
        finding::find(reads, until_s, look, places.clone(), &mut suspects)
    };
    let mut found = None;
    let plan = looks(reads.iter().map(|read| read.at_s), seconds, register.rows.len() as u64);
    for (look, at_s) in plan.into_iter().filter(|_| growing) {
        let so_far = judged(look, at_s)?;
        let named = so_far.verdict == "identified";
        found = Some(so_far);
        if named {
            break;
        }
    }
    let mut found = match found {
        Some(found) => found,
        None => judged(1, seconds)?,
    };
    let clip = (compared.clip.display().to_string(), io::sha256_of(&compared.clip)?);
    found.inputs = vec![clip, register_input];
    if let Some(path) = &report {
        fs::write(path, page::page(&found)).with_context(|| path.display().to_string())?;
    }
    if compared.json {
        println!("{}", serde_json::to_string(&found)?)
    } else {
        print_finding(&found)
    }
    Ok(match found.verdict.as_str() {
        "identified" => DONE,
        "not-ours" => NOT_OURS,
        _ => INSUFFICIENT,
    })
}

/// Shows where a clip is from and what can be read of it; needs no keys and no register.
///
/// # Errors
/// Says what is missing or wrong.
pub fn inspect(compared: Compared) -> Result<u8> {
    let seen = see(&compared)?;
    let (reads, places) = (reads(&seen), places(&seen));
    if compared.json {
        let seconds = seen.detection.seconds;
        let json = serde_json::json!({"seconds": seconds, "symbols": reads.len(), "places": places, "evidence": reads});
        println!("{json}");
        return Ok(if places.is_empty() { NOT_OURS } else { DONE });
    }
    println!("{:.1} s, {} symbols", seen.detection.seconds, reads.len());
    places.iter().for_each(|place| println!("{place}"));
    let mut gop = None;
    for read in &reads {
        if gop != Some(read.gop) {
            gop = Some(read.gop);
            print!(
                "\n{:>8.2} s  {} {:>6} {}  ",
                read.at_s,
                read.stream,
                read.segment,
                hex::encode(&read.gop.0[..4])
            );
        }
        print!(" {}{:+.2}±{:.2}", read.slice, read.soft, read.variance.sqrt());
    }
    println!();
    Ok(if places.is_empty() { NOT_OURS } else { DONE })
}

fn see(compared: &Compared) -> Result<Seen> {
    let paths = match (&compared.archive[..], &compared.dir) {
        ([], Some(dir)) => vec![dir.join("archive")],
        ([], None) => bail!("--archive is missing"),
        (archives, _) => archives.to_vec(),
    };
    fs::File::open(&compared.clip).with_context(|| compared.clip.display().to_string())?;
    let archive = Archive::open_all(&paths)?;
    archive.notes().iter().for_each(|note| eprintln!("note: {note}"));
    let asked =
        io::Asked { stream: compared.stream.clone(), from_unix_s: compared.from, to_unix_s: compared.to };
    let references = References::new(Arc::new(archive), &asked);
    if references.segments() == 0 {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        bail!("{}: nothing is archived of what is asked for", paths.join(", "));
    }
    let mut bar = Bar::new();
    let mut show = |progress| match progress {
        Progress::Copy(done) => bar.show("looking at the copy", done, 0.0),
        Progress::Archive(done, all) => bar.show("looking at the archive", done, all),
        Progress::Read(done, all) => bar.show("reading the mark", done, all),
    };
    let detection = detect(&references, &Clip(compared.clip.clone()), &mut show);
    bar.clear();
    let detection = detection.map_err(|error| anyhow::anyhow!("{error}"))?;
    references.lost().iter().for_each(|lost| eprintln!("note: {lost}"));
    Ok(Seen { detection, references })
}

/// The symbols with their origins, rounded so that their decimal text is exactly them.
fn reads(seen: &Seen) -> Vec<Read> {
    let seconds = finding::rounded(seen.detection.seconds);
    let read = |observation: &crate::score::Observation| {
        let (entry, gop) = seen.references.origin(observation.position.gop)?;
        Some(Read {
            stream: entry.stream.to_string(),
            segment: entry.record.number,
            gop: observation.position.gop,
            slice: observation.position.slice,
            at_s: finding::rounded(observation.at_s).clamp(0.0, seconds),
            soft: finding::rounded(observation.soft),
            variance: finding::rounded(observation.variance).max(1e-6),
            code_key: gop.code_key,
            bias_key: gop.bias_key,
        })
    };
    let finite = |seen: &&crate::score::Observation| seen.variance.is_finite() && seen.variance <= 1e4;
    seen.detection.observations.iter().filter(finite).filter_map(read).collect()
}

/// The GOP that the symbol of a reading's whole segment belongs to.
fn first_marked(seen: &Seen, read: &Read) -> Option<GopId> {
    let (entry, _) = seen.references.origin(read.gop)?;
    entry.record.gops.iter().find(|gop| gop.slices > 0).map(|gop| gop.gop)
}

fn places(seen: &Seen) -> Vec<String> {
    let place = |span: &crate::detect::Span| {
        let at = seen.references.place(span.archive_s);
        let at = at.map(|(entry, into_s)| {
            let unix_s = entry.record.date_unix_ms as f64 / 1e3 + into_s;
            format!("`{}` segment {} + {into_s:.2} s (Unix {unix_s:.2})", entry.stream, entry.record.number)
        });
        let map = span.map.0.map(|entry| format!("{entry:.5}")).join(" ");
        format!(
            "{:.2} to {:.2} s: {}, speed {:.4}, agreement {:.2}, map {map}",
            span.from_s,
            span.to_s,
            at.unwrap_or_default(),
            span.speed,
            span.agreement
        )
    };
    seen.detection.spans.iter().map(place).collect()
}

/// A register: lines, or the viewers of a state.db.
///
/// # Errors
/// When it cannot be read or a line is wrong.
pub(super) fn read_register(path: &Path) -> Result<Register> {
    let name = || path.display().to_string();
    let mut first = Vec::new();
    let file = fs::File::open(path).with_context(name)?;
    std::io::Read::read_to_end(&mut std::io::Read::take(file, SQLITE.len() as u64), &mut first)
        .with_context(name)?;
    if first == SQLITE {
        return Ok(Register { rows: register_of(path)? });
    }
    Register::parse(&text(path)?)
        .map_err(|line| anyhow::anyhow!("{}: line {line}: not `VIEWER<TAB>16 HEX DIGITS`", name()))
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.display().to_string())
}

fn print_finding(found: &Finding) {
    println!("{}: {}", found.verdict, found.reason);
    for named in &found.viewers {
        println!("  {}  log10 FP {:.2} ({})", named.viewer, named.log10_fp, named.basis);
    }
    println!("{} symbols in {:.1} s", found.symbols, found.seconds);
    if let Some(needed) = found.needed_seconds {
        println!("about {needed:.0} s more would probably be enough");
    }
    found.places.iter().for_each(|place| println!("{place}"));
}
