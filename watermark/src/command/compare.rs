//! What `identify` and `inspect` share: where the archive is, and what is read of a clip.
//!
//! In: a parsed command line. Out: references, a `Seen`. Touches the files named; draws the progress bar.

use super::progress::Bar;
use crate::archive::Archive;
use crate::detect::{Detection, Progress, Span, detect};
use crate::position::GopId;
use crate::score::Observation;
use crate::trace::Read;
use crate::trace::finding::rounded;
use crate::trace::io::{Asked, Clip, References};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What clips are compared with.
#[derive(Args)]
pub struct Compared {
    /// State folder of a one-machine set-up: archive, keys and register in one.
    #[arg(long, env = "RELEVE_DIR", required_unless_present = "archive")]
    pub(super) dir: Option<PathBuf>,
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
    pub(super) json: bool,
}

/// What was read of a clip.
pub(super) struct Seen<'a> {
    pub(super) detection: Detection,
    references: &'a References,
}

/// Opens the archive as far as it is asked for.
///
/// # Errors
/// When it is not there, or holds nothing of that.
pub(super) fn open(compared: &Compared) -> Result<References> {
    let paths = match (&compared.archive[..], &compared.dir) {
        ([], Some(dir)) => vec![dir.join("archive")],
        ([], None) => bail!("--archive is missing"),
        (archives, _) => archives.to_vec(),
    };
    let archive = Archive::open_all(&paths)?;
    archive.notes().iter().for_each(|note| eprintln!("note: {note}"));
    let asked = Asked { stream: compared.stream.clone(), from_unix_s: compared.from, to_unix_s: compared.to };
    let references = References::new(Arc::new(archive), &asked);
    if references.segments() == 0 {
        let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
        bail!("{}: nothing is archived of what is asked for", paths.join(", "));
    }
    Ok(references)
}

/// Reads a clip; `pictures` are the references' own, or those that were kept of them.
///
/// # Errors
/// When the clip cannot be read.
pub(super) fn see<'a>(
    references: &'a References,
    pictures: &dyn crate::detect::References,
    clip: &Path,
) -> Result<Seen<'a>> {
    fs::File::open(clip).with_context(|| clip.display().to_string())?;
    let mut bar = Bar::new();
    let mut show = |progress| match progress {
        Progress::Copy(done) => bar.show("looking at the copy", done, 0.0),
        Progress::Archive(done, all) => bar.show("looking at the archive", done, all),
        Progress::Read(done, all) => bar.show("reading the mark", done, all),
    };
    let detection = detect(pictures, &Clip(clip.to_owned()), &mut show);
    bar.clear();
    let detection = detection.map_err(|error| anyhow::anyhow!("{error}"))?;
    references.lost().iter().for_each(|lost| eprintln!("note: {lost}"));
    Ok(Seen { detection, references })
}

impl Seen<'_> {
    /// The symbols with their origins, rounded so that their decimal text is exactly them.
    pub(super) fn reads(&self) -> Vec<Read> {
        let seconds = rounded(self.detection.seconds);
        let read = |observation: &Observation| {
            let (entry, gop) = self.references.origin(observation.position.gop)?;
            Some(Read {
                stream: entry.stream.to_string(),
                segment: entry.record.number,
                gop: observation.position.gop,
                slice: observation.position.slice,
                at_s: rounded(observation.at_s).clamp(0.0, seconds),
                soft: rounded(observation.soft),
                variance: rounded(observation.variance).max(1e-6),
                code_key: gop.code_key,
                bias_key: gop.bias_key,
            })
        };
        let finite = |seen: &&Observation| seen.variance.is_finite() && seen.variance <= 1e4;
        self.detection.observations.iter().filter(finite).filter_map(read).collect()
    }

    /// The GOP that the symbol of a reading's whole segment belongs to.
    pub(super) fn first_marked(&self, read: &Read) -> Option<GopId> {
        let (entry, _) = self.references.origin(read.gop)?;
        entry.record.gops.iter().find(|gop| gop.slices > 0).map(|gop| gop.gop)
    }

    pub(super) fn places(&self) -> Vec<String> {
        let place = |span: &Span| {
            let at = self.references.place(span.archive_s);
            let at = at.map(|(entry, into_s)| {
                let unix_s = entry.record.date_unix_ms as f64 / 1e3 + into_s;
                format!(
                    "`{}` segment {} + {into_s:.2} s (Unix {unix_s:.2})",
                    entry.stream, entry.record.number
                )
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
        self.detection.spans.iter().map(place).collect()
    }
}
