//! The archive's pictures for the detector, and the other files that a trace reads.
//!
//! In: an opened archive and which of it is in question; paths. Out: `detect::References`, a clip, hashes. Touches the
//! archive's logs, the files named and `ffmpeg` processes; holds one segment of each at a time.
//!
//! Encodings of one picture look alike, so places are looked for in one row of segments: of each the picture, or a further
//! encoding where the archive has that alone. Beside it each further encoding is a row of its own, on the same clock.

mod row;

use crate::archive::log::PICTURE;
use crate::archive::{Archive, Entry, GopRecord};
use crate::detect::{self, Choice, Gop, PictureError, Pictures};
use crate::position::GopId;
use crate::video::{Frames, Source};
use ring::digest;
use row::{Row, ticks_s};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Seconds between two streams on the detector's clock: no part of a copy lasts over it.
const BETWEEN_S: f64 = 3_600.0;

/// Which part of an archive is in question.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// One stream; all without.
    pub stream: Option<String>,
    /// Nothing before this, Unix seconds.
    pub from_unix_s: Option<i64>,
    /// Nothing after this, Unix seconds.
    pub to_unix_s: Option<i64>,
}

/// The archive as the detector sees it.
pub struct References {
    /// Of each segment one encoding: the picture, where it is there.
    all: Row,
    /// Each further encoding.
    beside: Vec<Row>,
    lost: Arc<Mutex<BTreeSet<String>>>,
}

/// The detector's time of tick 0 of each stream's runs.
type Zeros = HashMap<(Arc<str>, String), f64>;

impl References {
    /// Looks at the records of what is asked for.
    pub fn new(archive: Arc<Archive>, asked: &Asked) -> References {
        let entries: Vec<Entry> = archive.entries().iter().filter(|e| asked.takes(e)).cloned().collect();
        let zeros = zeros(&entries);
        let mut one_each = entries.clone();
        one_each.dedup_by(|next, first| same_segment(next, first));
        let mut further = BTreeMap::<Arc<str>, Vec<Entry>>::new();
        for entry in entries.into_iter().filter(|entry| &*entry.track != PICTURE) {
            further.entry(entry.track.clone()).or_default().push(entry);
        }
        let lost = Arc::<Mutex<BTreeSet<String>>>::default();
        let row = |entries| Row::new(archive.clone(), entries, &zeros, lost.clone());
        let beside = further.into_values().map(row).collect();
        References { all: row(one_each), beside, lost }
    }

    /// The segment and record of a GOP.
    pub fn origin(&self, gop: GopId) -> Option<(&Entry, &GopRecord)> {
        std::iter::once(&self.all).chain(&self.beside).find_map(|row| row.origin(gop))
    }

    /// Stream, number and seconds into the segment at a time of the detector's clock.
    pub fn place(&self, time_s: f64) -> Option<(&Entry, f64)> {
        self.all.place(time_s)
    }

    /// How much there is, in segments.
    pub fn segments(&self) -> usize {
        self.all.segments()
    }

    /// Sentences about segments that turned out to be damaged, and were passed over.
    pub fn lost(&self) -> Vec<String> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

fn same_segment(one: &Entry, other: &Entry) -> bool {
    let of = |entry: &Entry| (entry.stream.clone(), entry.record.number);
    of(one) == of(other) && one.record.run == other.record.run
}

/// Puts the streams one after the other, and the runs of each where its dates say.
fn zeros(entries: &[Entry]) -> Zeros {
    let mut zeros = Zeros::new();
    let (mut stream, mut base_s, mut end_s) = (None, 0.0, 0.0);
    for entry in entries {
        let record = &entry.record;
        let date_s = record.date_unix_ms as f64 / 1e3;
        if stream != Some(&entry.stream) {
            base_s = if stream.is_none() { date_s } else { date_s - end_s - BETWEEN_S };
            stream = Some(&entry.stream);
        }
        let zero_s = zeros.entry((entry.stream.clone(), record.run.clone()));
        let zero_s = *zero_s.or_insert(date_s - base_s - ticks_s(record.start_90k));
        end_s = zero_s + ticks_s(record.start_90k + record.duration_90k);
    }
    zeros
}

impl Asked {
    fn takes(&self, entry: &Entry) -> bool {
        let record = &entry.record;
        let (from_ms, to_ms) = (record.date_unix_ms, record.date_unix_ms + record.duration_90k / 90);
        self.stream.as_deref().is_none_or(|stream| *stream == *entry.stream)
            && self.from_unix_s.is_none_or(|from| to_ms >= from.saturating_mul(1_000))
            && self.to_unix_s.is_none_or(|to| from_ms <= to.saturating_mul(1_000))
    }
}

impl detect::References for References {
    fn gops(&self) -> &[Gop] {
        self.all.gops()
    }

    fn pictures(
        &self,
        gops: Range<usize>,
        choice: Choice,
        width: usize,
        height: usize,
    ) -> Result<Pictures, PictureError> {
        self.all.pictures(gops, choice, width, height)
    }

    fn beside(&self) -> Vec<&dyn detect::References> {
        self.beside.iter().map(|row| row as &dyn detect::References).collect()
    }
}

/// A film that somebody leaked.
pub struct Clip(pub PathBuf);

impl detect::Clip for Clip {
    fn pictures(&self, width: usize, height: usize) -> Result<Pictures, PictureError> {
        let frames = Frames::open(Source::file(&self.0), width, height, None)?;
        Ok(Box::new(frames.map(|frame| Ok(frame?))))
    }
}

/// SHA-256 of a file, 64 hex digits.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(hash.finish())),
            len => hash.update(&buffer[..len]),
        }
    }
}
