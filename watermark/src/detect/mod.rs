//! The detector: from a copy's pictures and the archive's to soft symbols, which `score` judges.
//!
//! In: a `Clip` and `References`, which are read through traits. Out: a `Detection`: where the copy is from, and an
//! observation for each slice symbol that it shows. Pure: whoever implements the traits does the I/O; memory is bounded by
//! a GOP's pictures and by ten thumbnails a second.
//!
//! ```text
//! thumbnails of both ─► time: spans of the copy ─► place: geometry and exact time of each span
//!                        for each GOP of a span:   read: next picture of the original ─► light: what it explains, off
//!                                                        ─► symbols: least squares over all slices and pictures
//!                        of several encodings:     encodings: of each GOP the one whose mark it shows
//! ```
//!
//! It knows no keys and no viewers, and gives one reading of the copy. So whatever it tries on the way is no hypothesis
//! about viewers: `score`'s probabilities hold for any reading, a wrong one too, which only says nothing.

mod encodings;
mod frame;
mod homography;
mod kept;
mod light;
mod place;
mod plane;
mod read;
mod register;
mod symbols;
mod time;

pub use frame::{CLASSES, Choice, Clip, EARLY_S, Frame, Gop, PictureError, Pictures, References};
pub use homography::Homography;
pub use kept::Kept;
pub use time::Span;

use crate::score::{Evidence, EvidenceError, Observation};
use plane::Plane;
use time::Thumbs;

/// Width that pictures are read at; the spans' maps are in these samples.
pub const WIDTH: usize = 640;
/// Height that pictures are read at.
pub const HEIGHT: usize = 360;

/// Deviation of how much of the mark is left from slice to slice, as a part of what is left in the middle.
const UNEVEN: f64 = 0.2;
/// Readings this many deviations from nought tell how much is left.
const CLEAR: f64 = 3.0;

/// Seconds of a copy that are looked at; a longer one is read for its first hour.
const COPY_S_MAX: usize = 3_600;
/// Seconds of an archive that are compared with.
const ARCHIVE_S_MAX: usize = 24 * 3_600;
/// Seconds of a copy that places are told apart by.
const PROBE_S: f64 = 3.0;

/// Spans that agree less after registration are from elsewhere: other parts of a film reach 0.24 where the search for a map
/// makes the best of them, dark copies at 11 kb/s fall to 0.39.
const AGREE_MIN: f64 = 0.3;
/// So does a span that agrees less than this part of the copy's best one: a copy is worn alike all through.
const AGREE_PART: f64 = 0.6;
/// Most that one reading shows of a mark, in variances.
const SHOWN_MAX: f64 = CLEAR * CLEAR;
/// Where a span shows this much of a mark in the mean, it can be told that others show none.
const SHOWN_CLEAR: f64 = 5.0;
/// A span that then shows less than this is erased. Unmarked pictures show 1 to 3.
const SHOWN_MIN: f64 = 2.5;

/// What was read of a copy.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// Where its parts are from, in order; what lies between could not be placed.
    pub spans: Vec<Span>,
    /// A soft symbol for each slice that it shows; a position twice where the copy shows it twice.
    pub observations: Vec<Observation>,
    /// Length of the copy in seconds.
    pub seconds: f64,
}

impl Detection {
    /// As evidence.
    ///
    /// # Errors
    /// When there is more than a judge takes.
    pub fn evidence(&self) -> Result<Evidence, EvidenceError> {
        Evidence::new(self.observations.iter().copied(), self.seconds)
    }
}

/// How far the work has come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Progress {
    /// Thumbnails of the copy: seconds done.
    Copy(f64),
    /// Thumbnails of the archive: seconds done, of how many.
    Archive(f64, f64),
    /// Reading: seconds of the copy done, of how many.
    Read(f64, f64),
}

/// Finds where the copy is from and reads what it shows of the mark.
///
/// # Errors
/// When pictures cannot be had. A copy that is from elsewhere is no error: it has no spans and no observations.
pub fn detect(
    archive: &dyn References,
    clip: &dyn Clip,
    progress: &mut dyn FnMut(Progress),
) -> Result<Detection, PictureError> {
    let mut copy = Thumbs::of(COPY_S_MAX);
    let (mut begin_s, mut end_s, mut step_s) = (0.0, 0.0, 0.0);
    for (index, frame) in clip.pictures(time::WIDTH * time::FINER, time::HEIGHT * time::FINER)?.enumerate() {
        let frame = frame?;
        if index == 0 {
            begin_s = frame.time_s;
        } else {
            step_s = (frame.time_s - end_s).clamp(0.0, 1.0);
        }
        end_s = frame.time_s;
        copy.push(frame.time_s, || plane(&frame));
        if index % 300 == 0 {
            progress(Progress::Copy(frame.time_s - begin_s));
        }
    }
    let seconds = (end_s + step_s - begin_s).max(0.0);
    let thumbs = archive_thumbs(archive, progress)?;
    let spans = time::align(&copy, &thumbs, WIDTH, HEIGHT);
    drop((copy, thumbs));
    let spans = spans.into_iter().map(|(span, repeats)| told_apart(archive, clip, span, &repeats));
    let mut spans = place::place(archive, clip, &spans.collect::<Result<Vec<_>, _>>()?)?;
    let best = spans.iter().fold(0.0, |best: f64, span| best.max(span.agreement));
    spans.retain(|span| span.agreement >= AGREE_MIN.max(AGREE_PART * best));
    let encodings = 1.0 + archive.beside().len() as f64;
    let mut done = |part: f64, time_s: f64| {
        progress(Progress::Read(seconds * part + (time_s - begin_s) / encodings, seconds));
    };
    let mut of_spans = encodings::read(archive, clip, &spans, &mut done)?;
    of_spans.iter_mut().flatten().for_each(|seen| seen.at_s = (seen.at_s - begin_s).clamp(0.0, seconds));
    let mut observations = marked(of_spans).concat();
    uneven(&mut observations);
    Ok(Detection { spans, observations, seconds })
}

/// Of places that look alike, a film that was shown twice: the one whose mark the copy shows.
fn told_apart(
    archive: &dyn References,
    clip: &dyn Clip,
    span: Span,
    repeats: &[f64],
) -> Result<Span, PictureError> {
    if repeats.is_empty() {
        return Ok(span);
    }
    let mut best = (f64::NEG_INFINITY, span);
    for archive_s in [span.archive_s].into_iter().chain(repeats.iter().copied()) {
        let whole = Span { archive_s, ..span };
        let probe = Span { to_s: span.to_s.min(span.from_s + PROBE_S), ..whole };
        let placed = place::place(archive, clip, &[probe])?;
        let seen = encodings::read(archive, clip, &placed, &mut |_, _| {})?;
        let shown = shown(&seen.concat());
        if shown > best.0 {
            best = (shown, whole);
        }
    }
    Ok(best.1)
}

/// How much of a mark readings show: the mean of their squares, in variances. What is cut off or covered does not count.
fn shown(seen: &[Observation]) -> f64 {
    let read = seen.iter().filter(|seen| seen.variance.is_finite());
    let (sum, count) = read.fold((0.0, 0.0), |(sum, count), seen| {
        (sum + (seen.soft * seen.soft / seen.variance).min(SHOWN_MAX), count + 1.0)
    });
    if count > 0.0 { sum / count } else { 0.0 }
}

/// Erases the spans without a mark where another span has one: the same pictures were broadcast at another time, which is
/// not archived. Its readings would be noise under positions that are nobody's, or that the copy shows elsewhere.
///
/// The choice rests on the copy alone, as all readings do: no viewer's symbols are in it, so there is nothing to pay for.
fn marked(of_spans: Vec<Vec<Observation>>) -> Vec<Vec<Observation>> {
    let clear = of_spans.iter().any(|seen| shown(seen) >= SHOWN_CLEAR);
    of_spans.into_iter().filter(|seen| !clear || shown(seen) >= SHOWN_MIN).collect()
}

/// Adds to the variances what the fits cannot know: a re-encode leaves more of the mark in one place than in another.
fn uneven(observations: &mut [Observation]) {
    let clear = |seen: &&Observation| seen.soft * seen.soft > CLEAR * CLEAR * seen.variance;
    let mut left: Vec<f64> = observations.iter().filter(clear).map(|seen| seen.soft.abs().min(0.5)).collect();
    if left.is_empty() {
        return;
    }
    // Where there is no mark, few readings are clear; they then speak of the noise's tail.
    let share = left.len() as f64 / observations.len() as f64;
    let middle = left.len() / 2;
    let (_, median, _) = left.select_nth_unstable_by(middle, f64::total_cmp);
    let variance = (UNEVEN * *median).powi(2) * share;
    observations.iter_mut().for_each(|seen| seen.variance += variance);
}

fn archive_thumbs(
    archive: &dyn References,
    progress: &mut dyn FnMut(Progress),
) -> Result<Thumbs, PictureError> {
    let mut thumbs = Thumbs::of(ARCHIVE_S_MAX);
    let gops = archive.gops();
    let (Some(first), Some(last)) = (gops.first(), gops.last()) else { return Ok(thumbs) };
    let pictures = archive.pictures(0..gops.len(), Choice::A, time::WIDTH, time::HEIGHT)?;
    for (index, frame) in pictures.enumerate() {
        let frame = frame?;
        thumbs.push(frame.time_s, || plane(&frame));
        if index % 300 == 0 {
            progress(Progress::Archive(frame.time_s - first.start_s, last.end_s - first.start_s));
        }
    }
    Ok(thumbs)
}

fn plane(frame: &Frame) -> Plane {
    Plane::of_luma(&frame.luma, frame.width, frame.height)
}
