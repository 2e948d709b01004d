//! An archive whose pictures are kept once they were decoded: for several copies of one event.
//!
//! In: any `References`. Out: the same, picture for picture, without asking twice for what fits into `BYTES_MAX`. Pure but for
//! a lock. What came first stays: copies are read from their beginnings on, and what is asked for last would push out what
//! is asked for next. Encodings of one picture share the room evenly.

use super::frame::{Choice, EARLY_S, Frame, Gop, PictureError, Pictures, References};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of pictures that are kept, 4 GB: two minutes at 30 a second, all of it asked for.
const BYTES_MAX: usize = 4 << 30;

/// An archive and what was decoded of it.
pub struct Kept<'a> {
    archive: &'a dyn References,
    store: Arc<Mutex<Store>>,
    /// Its further encodings.
    beside: Vec<Kept<'a>>,
}

/// Which pictures: GOP, choice of variants, width, height.
type Which = (usize, Choice, usize, usize);

/// A GOP's pictures.
type Shown = Arc<Vec<Frame>>;

struct Store {
    gops: Vec<Gop>,
    pictures: HashMap<Which, Shown>,
    bytes: usize,
    bytes_max: usize,
}

impl<'a> Kept<'a> {
    /// Of this archive; nothing is decoded yet.
    pub fn new(archive: &'a dyn References) -> Kept<'a> {
        Kept::of(archive, BYTES_MAX)
    }

    /// The same with room for so many bytes of pictures.
    pub fn of(archive: &'a dyn References, bytes_max: usize) -> Kept<'a> {
        let beside = archive.beside();
        let bytes_max = bytes_max / (1 + beside.len());
        let kept = |archive: &'a dyn References, beside| {
            let store =
                Store { gops: archive.gops().to_vec(), pictures: HashMap::new(), bytes: 0, bytes_max };
            Kept { archive, store: Arc::new(Mutex::new(store)), beside }
        };
        let beside = beside.into_iter().map(|archive| kept(archive, Vec::new())).collect();
        kept(archive, beside)
    }
}

impl References for Kept<'_> {
    fn gops(&self) -> &[Gop] {
        self.archive.gops()
    }

    fn pictures(
        &self,
        gops: Range<usize>,
        choice: Choice,
        width: usize,
        height: usize,
    ) -> Result<Pictures, PictureError> {
        let here = move |gop: usize| (gop, choice, width, height);
        let last = gops.end.wrapping_sub(1);
        let mut pictures: Vec<Pictures> = Vec::new();
        for (kept, run) in locked(&self.store).runs(gops, here) {
            if kept.is_empty() {
                let frames = self.archive.pictures(run.clone(), choice, width, height)?;
                let (at, store) = (run.start, self.store.clone());
                let which = Box::new(here);
                pictures.push(Box::new(Keeping { frames, store, which, at, end: run.end, seen: Vec::new() }));
            }
            for (gop, frames) in run.zip(kept) {
                // What lies in a hole after the last GOP is not asked for.
                let end_s = if gop == last { self.gops()[gop].end_s - EARLY_S } else { f64::INFINITY };
                let count = frames.len();
                let asked =
                    move |index: usize| (frames[index].time_s < end_s).then(|| Ok(frames[index].clone()));
                pictures.push(Box::new((0..count).filter_map(asked)));
            }
        }
        Ok(Box::new(pictures.into_iter().flatten()))
    }

    fn beside(&self) -> Vec<&dyn References> {
        self.beside.iter().map(|kept| kept as &dyn References).collect()
    }
}

impl Store {
    /// A run of GOPs in pieces: what is kept of each, and nothing where the archive has to be asked.
    fn runs(&self, gops: Range<usize>, here: impl Fn(usize) -> Which) -> Vec<(Vec<Shown>, Range<usize>)> {
        let mut runs: Vec<(Vec<Shown>, Range<usize>)> = Vec::new();
        for gop in gops {
            let asked_before = runs.last().is_some_and(|(kept, _)| kept.is_empty());
            // Pictures in the hole after a GOP come only with the GOP behind it.
            let kept = self.pictures.get(&here(gop)).filter(|_| !(asked_before && self.hole_before(gop)));
            match (runs.last_mut(), kept) {
                (Some((of_run, run)), None) if of_run.is_empty() => run.end = gop + 1,
                (Some((of_run, run)), Some(kept)) if !of_run.is_empty() => {
                    of_run.push(kept.clone());
                    run.end = gop + 1;
                }
                (_, kept) => runs.push((kept.cloned().into_iter().collect(), gop..gop + 1)),
            }
        }
        runs
    }

    fn hole_before(&self, gop: usize) -> bool {
        gop > 0 && self.gops.get(gop).is_some_and(|next| self.gops[gop - 1].end_s < next.start_s)
    }

    fn keep(&mut self, which: Which, frames: Vec<Frame>) {
        let bytes: usize = frames.iter().map(|frame| frame.luma.len()).sum();
        if self.bytes + bytes <= self.bytes_max && !self.pictures.contains_key(&which) {
            self.bytes += bytes;
            self.pictures.insert(which, Arc::new(frames));
        }
    }
}

/// Passes pictures on, and keeps those of a GOP when it is over.
struct Keeping {
    frames: Pictures,
    store: Arc<Mutex<Store>>,
    /// What a GOP is kept under.
    which: Box<dyn Fn(usize) -> Which>,
    /// The GOP that goes on.
    at: usize,
    /// After the last one that was asked for.
    end: usize,
    seen: Vec<Frame>,
}

impl Keeping {
    fn over(&mut self, store: &mut Store) {
        store.keep((self.which)(self.at), std::mem::take(&mut self.seen));
        self.at += 1;
    }
}

impl Iterator for Keeping {
    type Item = Result<Frame, PictureError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.frames.next();
        let store = self.store.clone();
        let mut store = locked(&store);
        match &next {
            Some(Ok(frame)) => {
                while self.at + 1 < self.end && frame.time_s >= store.gops[self.at + 1].start_s - EARLY_S {
                    self.over(&mut store);
                }
                if self.at < self.end {
                    self.seen.push(frame.clone());
                }
            }
            // What could not be read is asked for again.
            Some(Err(_)) => self.at = self.end,
            None => {
                while self.at + 1 < self.end || self.at < self.end && !store.hole_before(self.end) {
                    self.over(&mut store);
                }
            }
        }
        next
    }
}

fn locked(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}
