//! Archived segments of one row, as the detector sees them.
//!
//! In: entries of an archive, one a segment, and the clock they stand on. Out: GOPs with their times, and their pictures with any
//! choice of variants. Touches the archive's logs and `ffmpeg` processes.

use super::{BETWEEN_S, Zeros};
use crate::archive::fragment::{first_composition, picture_size};
use crate::archive::{Archive, Entry, GopRecord};
use crate::detect::{self, Choice, EARLY_S, Frame, Gop, PictureError, Pictures};
use crate::position::GopId;
use crate::video::{Frames, Source};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Segments in order of time, none of them twice.
pub(super) struct Row {
    archive: Arc<Archive>,
    segments: Vec<Segment>,
    gops: Vec<Gop>,
    /// Of each GOP: its segment here, and its place in that segment's record.
    origins: Vec<(usize, usize)>,
    index: HashMap<GopId, usize>,
    lost: Arc<Mutex<BTreeSet<String>>>,
}

struct Segment {
    entry: Entry,
    /// The detector's time of its run's tick 0.
    zero_s: f64,
}

impl Row {
    /// Looks at the records of these segments.
    pub(super) fn new(
        archive: Arc<Archive>,
        entries: Vec<Entry>,
        zeros: &Zeros,
        lost: Arc<Mutex<BTreeSet<String>>>,
    ) -> Row {
        let (segments, gops, origins) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = Row { archive, segments, gops, origins, index: HashMap::new(), lost };
        let (mut run, mut zero_s, mut lead_s) = (None, 0.0, 0.0);
        for (at, entry) in entries.iter().enumerate() {
            let of = (entry.stream.clone(), entry.record.run.clone());
            if run.as_ref() != Some(&of) {
                zero_s = zeros.get(&of).copied().unwrap_or(0.0);
                // The IDR's way from decoder to screen is the same in all of a run that one encoder made. What is damaged
                // is passed over here, and told when its pictures are asked for.
                let mut of_run = entries[at..].iter().take_while(|entry| entry.record.run == of.1);
                let object = of_run.find_map(|entry| row.archive.object(entry).ok());
                lead_s = ticks_s(object.and_then(|object| first_composition(&object.a)).unwrap_or(0));
                run = Some(of);
            }
            let end_s = zero_s + lead_s + ticks_s(entry.record.start_90k + entry.record.duration_90k);
            row.take(entry.clone(), zero_s, lead_s, end_s);
        }
        row
    }

    fn take(&mut self, entry: Entry, zero_s: f64, lead_s: f64, end_s: f64) {
        let size = self.archive.init(&entry).and_then(|init| picture_size(init));
        for (place, gop) in entry.record.gops.iter().enumerate().filter(|(_, gop)| gop.marking != "withheld")
        {
            let start_s = zero_s + lead_s + ticks_s(gop.start_90k);
            let edges = match size {
                Some((_, height)) if gop.slices > 0 => {
                    let height = usize::from(height);
                    Gop::edges_of_rows(height.div_ceil(16), usize::from(gop.slices), 0, height)
                }
                _ => Vec::new(),
            };
            if let Some(before) = self.gops.last_mut() {
                before.end_s = before.end_s.min(start_s).max(before.start_s);
            }
            self.index.insert(gop.gop, self.gops.len());
            self.gops.push(Gop { id: gop.gop, start_s, end_s, edges });
            self.origins.push((self.segments.len(), place));
        }
        // A GOP that began earlier goes on here.
        if entry.record.gops.is_empty()
            && let Some(last) = self.gops.last_mut()
            && (end_s - last.end_s) < BETWEEN_S
        {
            last.end_s = end_s;
        }
        self.segments.push(Segment { entry, zero_s });
    }

    /// The segment and record of a GOP.
    pub(super) fn origin(&self, gop: GopId) -> Option<(&Entry, &GopRecord)> {
        let (segment, place) = *self.origins.get(*self.index.get(&gop)?)?;
        let entry = &self.segments[segment].entry;
        Some((entry, entry.record.gops.get(place)?))
    }

    /// Stream, number and seconds into the segment at a time of the detector's clock.
    pub(super) fn place(&self, time_s: f64) -> Option<(&Entry, f64)> {
        let start_s = |segment: &Segment| segment.zero_s + ticks_s(segment.entry.record.start_90k);
        let segment = self.segments.iter().rfind(|segment| start_s(segment) <= time_s + EARLY_S);
        let segment = segment.or(self.segments.first())?;
        Some((&segment.entry, time_s - start_s(segment)))
    }

    /// How much there is, in segments.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The segments that a run of GOPs needs, cut where run or init section change.
    fn films(&self, gops: Range<usize>) -> Vec<Range<usize>> {
        let (Some(first), Some(last)) =
            (self.origins.get(gops.start), self.origins.get(gops.end.wrapping_sub(1)))
        else {
            return Vec::new();
        };
        let goes_on =
            self.segments[last.0 + 1..].iter().take_while(|segment| segment.entry.record.gops.is_empty());
        let end = last.0 + 1 + goes_on.count();
        let mut films: Vec<Range<usize>> = Vec::new();
        let film = |at: usize| {
            let record = &self.segments[at].entry.record;
            (&record.run, record.init())
        };
        for at in first.0..end {
            match films.last_mut().filter(|last| film(last.start) == film(at)) {
                Some(last) => last.end = at + 1,
                None => films.push(at..at + 1),
            }
        }
        films
    }
}

impl detect::References for Row {
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
        let (Some(first), Some(last)) = (self.gops.get(gops.start), self.gops.get(gops.end.wrapping_sub(1)))
        else {
            return Ok(Box::new(std::iter::empty()));
        };
        let wanted = first.start_s - EARLY_S..last.end_s - EARLY_S;
        let mut films = Vec::new();
        for film in self.films(gops) {
            let segments = &self.segments[film];
            let Some(init) = self.archive.init(&segments[0].entry) else { continue };
            let bytes = Film {
                archive: self.archive.clone(),
                segments: segments.iter().map(|segment| segment.entry.clone()).collect(),
                pieces: VecDeque::from([init.clone()]),
                choice,
                lost: self.lost.clone(),
            };
            films.push((segments[0].zero_s, bytes));
        }
        let pictures = films.into_iter().flat_map(move |(zero_s, film)| -> Pictures {
            let source = Source::Bytes { bytes: Box::new(film), format: Some(("mp4", None)) };
            match Frames::open(source, width, height, None) {
                Ok(frames) => Box::new(frames.map(move |frame| {
                    let frame = frame?;
                    Ok(Frame { time_s: zero_s + frame.time_s, ..frame })
                })),
                Err(error) => Box::new(std::iter::once(Err(error.into()))),
            }
        });
        Ok(Box::new(
            pictures.filter(move |frame| frame.as_ref().map_or(true, |frame| wanted.contains(&frame.time_s))),
        ))
    }
}

/// Archived segments of one init section as one viewer's film, read as it is asked for.
struct Film {
    archive: Arc<Archive>,
    segments: VecDeque<Entry>,
    pieces: VecDeque<Bytes>,
    choice: Choice,
    lost: Arc<Mutex<BTreeSet<String>>>,
}

impl Read for Film {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(piece) = self.pieces.front_mut() {
                let len = piece.len().min(buffer.len());
                buffer[..len].copy_from_slice(&piece.split_to(len));
                if piece.is_empty() {
                    self.pieces.pop_front();
                }
                if len > 0 || buffer.is_empty() {
                    return Ok(len);
                }
                continue;
            }
            let Some(entry) = self.segments.pop_front() else { return Ok(0) };
            match self.archive.object(&entry) {
                Ok(object) => self.pieces.extend(object.pieces(|at| self.choice.symbol(at.slice))),
                // A damaged segment is a hole: the next one begins with a picture of its own.
                Err(error) => {
                    let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
                    lost.insert(error.to_string());
                }
            }
        }
    }
}

/// Ticks of 90 kHz as seconds.
pub(super) fn ticks_s(ticks: i64) -> f64 {
    ticks as f64 / 90_000.0
}
