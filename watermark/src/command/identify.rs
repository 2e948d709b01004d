//! `identify`: whose copy a clip is.

use super::compare::{Compared, Seen, open, see};
use super::{DONE, INSUFFICIENT, NOT_OURS};
use crate::KeyBook;
use crate::detect::{self, Kept};
use crate::records::{Records, register_of};
use crate::score::looks;
use crate::trace::finding::rounded;
use crate::trace::{Finding, Read, Register, Suspects, chosen, find, io, page, whole};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::io::BufRead;
use std::path::{Path, PathBuf};

/// Begins every SQLite file.
const SQLITE: &[u8] = b"SQLite format 3\0";
/// A clip of this name stands for a list of clips on standard input.
const LIST: &str = "-";

/// What `identify` is asked.
#[derive(Args)]
pub struct Identify {
    /// The clip: any film that ffmpeg reads. Several times, or `-` for a list on standard input, a path a line: each is judged
    /// alone and answered in turn, and what was decoded of the archive is kept in memory (4 GB at most) for the next.
    #[arg(long, required = true)]
    clip: Vec<PathBuf>,
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
    /// Write a report as one HTML file: of one clip.
    #[arg(long)]
    report: Option<PathBuf>,
}

/// Names the viewer of each clip, or says why not. Of several clips the highest exit code counts.
///
/// # Errors
/// Says what is missing or wrong.
pub fn identify(asked: Identify) -> Result<u8> {
    let Identify { clip: clips, compared, keys, register, growing, whole_segments, report } = asked;
    let several = clips.len() > 1 || clips[0].as_os_str() == LIST;
    if several && report.is_some() {
        bail!("--report is of one clip: ask for each by itself");
    }
    // What is quickly found to be missing, first.
    let mut named = clips.iter().filter(|clip| clip.as_os_str() != LIST);
    named.try_for_each(|clip| fs::File::open(clip).map(drop).with_context(|| clip.display().to_string()))?;
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
    let references = open(&compared)?;
    let kept = Kept::new(&references);
    let pictures: &dyn detect::References = if several { &kept } else { &references };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let mut suspects = Suspects::new(&register, &keys, threads);
    let mut worst = DONE;
    for clip in clips.iter().flat_map(|clip| listed(clip)) {
        let clip = clip?;
        let seen = see(&references, pictures, &clip)?;
        let mut found = judged(&seen, &mut suspects, &keys, growing, whole_segments)?;
        found.inputs = vec![(clip.display().to_string(), io::sha256_of(&clip)?), register_input.clone()];
        if let Some(path) = &report {
            fs::write(path, page::page(&found)).with_context(|| path.display().to_string())?;
        }
        if compared.json {
            println!("{}", serde_json::to_string(&found)?);
        } else {
            if several {
                println!("{}:", clip.display());
            }
            print_finding(&found);
        }
        worst = worst.max(match found.verdict.as_str() {
            "identified" => DONE,
            "not-ours" => NOT_OURS,
            _ => INSUFFICIENT,
        });
    }
    Ok(worst)
}

/// The clip, or those whose names come on standard input, as they come.
fn listed(clip: &Path) -> Box<dyn Iterator<Item = Result<PathBuf>>> {
    if clip.as_os_str() != LIST {
        return Box::new(std::iter::once(Ok(clip.to_path_buf())));
    }
    let lines = std::io::stdin().lock().lines();
    let named = |line: &std::io::Result<String>| line.as_ref().map_or(true, |line| !line.is_empty());
    Box::new(lines.filter(named).map(|line| Ok(PathBuf::from(line.context("the list of clips")?))))
}

/// Judges what was read of a clip: once as a whole, or at each look until somebody is named.
fn judged(
    seen: &Seen<'_>,
    suspects: &mut Suspects<'_>,
    keys: &KeyBook,
    growing: bool,
    whole_segments: bool,
) -> Result<Finding> {
    let reads = seen.reads();
    let places = seen.places();
    let seconds = rounded(seen.detection.seconds);
    let plan = looks(reads.iter().map(|read| read.at_s), seconds, suspects.viewers());
    let mut judged = |look: u32, until_s: f64| {
        let so_far = |read: &&Read| until_s >= seconds || read.at_s < until_s;
        let mut reads: Vec<Read> = reads.iter().filter(so_far).cloned().collect();
        if whole_segments {
            let whole = whole(&reads, |read| seen.first_marked(read));
            let chosen = chosen(&whole, keys);
            reads.extend(whole.into_iter().chain(chosen));
        }
        find(reads, until_s, look, places.clone(), suspects)
    };
    if !growing {
        return Ok(judged(1, seconds)?);
    }
    let mut found = None;
    for (look, at_s) in plan {
        let so_far = judged(look, at_s)?;
        let named = so_far.verdict == "identified";
        found = Some(so_far);
        if named {
            break;
        }
    }
    found.context("a plan has a look")
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
