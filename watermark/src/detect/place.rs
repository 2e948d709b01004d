//! The geometry and exact time of each span.
//!
//! In: spans that are near in time and roughly right in geometry. Out: the same, refined on a few pictures each. Pure.
//!
//! Up to `SAMPLES` pictures of a span are compared with the archive's pictures around their times. Geometry comes first,
//! from the guess of the thumbnails and, where that fails, from a search over scales, shifts and mirror images; then each
//! picture's agreement with the moments around it is worked out, the line through the archive's time along which all agree
//! best gives offset and speed, and the geometry is refined once more with the right pictures.

use super::frame::{Choice, Clip, PictureError, References};
use super::homography::Homography;
use super::plane::{Plane, dot};
use super::register::{self, Pair};
use super::time::Span;
use super::{HEIGHT, WIDTH, plane};
use crate::threads;

/// Pictures of a span that are looked at.
const SAMPLES: usize = 8;
/// Sizes that pictures are compared at: 640, 320, 160 and 80 wide.
const LEVELS: usize = 4;
/// The archive's pictures this near in time come into question.
const NEAR_S: f64 = 0.3;
/// Speeds that are tried beside the one found, each way, in steps of 0.002.
const SPEEDS: i32 = 35;
/// Shifts that are tried, each way.
const SHIFTS: i32 = 30;
/// A shift, in seconds: a third of a picture.
const SHIFT_S: f64 = 0.01;
/// What another speed than 1 must gain a sample.
const SPEED_PRICE: f64 = 0.002;
/// Registration that agrees less is tried again from many guesses.
const GOOD: f64 = 0.55;
/// Spans that are looked at: a copy with more cuts than that is read at its longest parts.
const SPANS_MAX: usize = 64;

/// A picture of the copy and the archive's pictures around it.
struct Sample {
    time_s: f64,
    copy: Plane,
    /// (time, picture), in order.
    originals: Vec<(f64, Plane)>,
}

impl Sample {
    /// The original's picture that is nearest to a time.
    fn nearest(&self, time_s: f64) -> &Plane {
        let apart = |original: &(f64, Plane)| (original.0 - time_s).abs();
        let best = self.originals.iter().min_by(|x, y| apart(x).total_cmp(&apart(y)));
        best.map_or(&self.copy, |(_, picture)| picture)
    }
}

pub(super) fn place(
    archive: &dyn References,
    clip: &dyn Clip,
    spans: &[Span],
) -> Result<Vec<Span>, PictureError> {
    let mut longest: Vec<&Span> = spans.iter().collect();
    longest.sort_by(|x, y| (y.to_s - y.from_s).total_cmp(&(x.to_s - x.from_s)));
    longest.truncate(SPANS_MAX);
    longest.sort_by(|x, y| x.from_s.total_cmp(&y.from_s));
    let mut pictures = clip.pictures(WIDTH, HEIGHT)?.peekable();
    let mut placed = Vec::new();
    for span in longest {
        let step_s = (span.to_s - span.from_s) / SAMPLES as f64;
        let mut samples = Vec::new();
        for index in 0..SAMPLES {
            let due_s = span.from_s + (index as f64 + 0.5) * step_s;
            while let Some(Ok(frame)) = pictures.peek()
                && frame.time_s < due_s
            {
                pictures.next();
            }
            let Some(frame) = pictures.next().transpose()? else { break };
            if frame.time_s < span.to_s {
                samples.push(Sample { time_s: frame.time_s, copy: plane(&frame), originals: Vec::new() });
            }
        }
        originals(archive, span, &mut samples)?;
        samples.retain(|sample| !sample.originals.is_empty());
        if !samples.is_empty() {
            placed.push(refined(*span, &samples));
        }
    }
    Ok(placed)
}

/// Reads the archive's pictures around each sample. GOPs next to each other are read in one go.
fn originals(archive: &dyn References, span: &Span, samples: &mut [Sample]) -> Result<(), PictureError> {
    let gops = archive.gops();
    let wanted = |time_s: f64| {
        let at = span.archive_at(time_s);
        at - NEAR_S..at + NEAR_S
    };
    let needed: Vec<usize> = (0..gops.len())
        .filter(|&gop| {
            let near = |sample: &Sample| {
                let wanted = wanted(sample.time_s);
                gops[gop].start_s < wanted.end && gops[gop].end_s > wanted.start
            };
            samples.iter().any(near)
        })
        .collect();
    for run in needed.chunk_by(|one, next| one + 1 == *next) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        for frame in archive.pictures(*first..last + 1, Choice::A, WIDTH, HEIGHT)? {
            let frame = frame?;
            for sample in samples.iter_mut().filter(|sample| wanted(sample.time_s).contains(&frame.time_s)) {
                sample.originals.push((frame.time_s, plane(&frame)));
            }
        }
    }
    Ok(())
}

fn refined(mut span: Span, samples: &[Sample]) -> Span {
    for round in 0..2 {
        let pairs: Vec<Pair> = threads::each(samples.iter(), threads::all(), |sample| {
            Pair::new(sample.nearest(span.archive_at(sample.time_s)), &sample.copy, LEVELS)
        });
        (span.map, span.agreement) =
            if round == 0 { found(&pairs, span.map) } else { better(&pairs, span.map, 1) };
        let line = moments(&span, samples);
        span.archive_s = line.0;
        span.speed = line.1;
    }
    span
}

fn better(pairs: &[Pair], guess: Homography, from: usize) -> (Homography, f64) {
    let map = register::refine(pairs, guess, from, 0);
    (map, register::agreement(pairs, &map, 1).0)
}

/// The geometry from nothing but a guess.
fn found(pairs: &[Pair], guess: Homography) -> (Homography, f64) {
    let of_guess = better(pairs, guess, LEVELS - 1);
    if of_guess.1 >= GOOD {
        return of_guess;
    }
    let from = register::search(pairs, LEVELS - 1).into_iter();
    let from = threads::each(from, threads::all(), |seed| better(pairs, seed, LEVELS - 1));
    from.into_iter().chain([of_guess]).max_by(|x, y| x.1.total_cmp(&y.1)).unwrap_or(of_guess)
}

/// Archive time at the span's begin, and speed: the line through the archive's time along which the samples agree best.
///
/// Every sample has a curve of agreement over the moments around it. All curves are followed at once, because a sample
/// alone says little in a still or a periodic scene.
fn moments(span: &Span, samples: &[Sample]) -> (f64, f64) {
    let curve = |sample: &Sample| {
        let copy = view(&sample.copy, &span.map)?;
        let agreed = sample.originals.iter().map(|(time_s, original)| (*time_s, agreement(&copy, original)));
        Some((sample.time_s - span.from_s, agreed.collect::<Vec<_>>()))
    };
    let curves = threads::each(samples.iter(), threads::all(), curve);
    let curves: Vec<(f64, Vec<(f64, f64)>)> = curves.into_iter().flatten().collect();
    let Some(middle) = curves.iter().map(|curve| curve.0).reduce(f64::max).map(|last| last / 2.0) else {
        return (span.archive_s, span.speed);
    };
    let total = |shift: f64, speed: f64| -> f64 {
        let at = |time_s: f64| span.archive_s + span.speed * middle + shift + speed * (time_s - middle);
        curves.iter().map(|(time_s, curve)| interpolated(curve, at(*time_s))).sum()
    };
    // Copies at a changed speed are rarer than copies at the right one: it must pay.
    let price = |speed: f64| if (speed - 1.0).abs() < 1e-9 { 0.0 } else { SPEED_PRICE * curves.len() as f64 };
    let reach = |speed: f64| (speed - span.speed).abs() * middle < 2.0 * NEAR_S;
    let speeds = (-SPEEDS..=SPEEDS).map(|step| 1.0 + f64::from(step) * 0.002).filter(|&speed| reach(speed));
    let mut best = (f64::NEG_INFINITY, 0.0, span.speed);
    for speed in speeds.chain([span.speed]) {
        for step in -SHIFTS..=SHIFTS {
            let shift = f64::from(step) * SHIFT_S;
            let found = total(shift, speed) - price(speed);
            if found > best.0 {
                best = (found, shift, speed);
            }
        }
    }
    let (_, shift, speed) = best;
    (span.archive_s + span.speed * middle + shift - speed * middle, speed)
}

/// A curve at a time between its points; at its ends it goes on level.
fn interpolated(curve: &[(f64, f64)], time_s: f64) -> f64 {
    let after = curve.partition_point(|point| point.0 < time_s);
    match (after.checked_sub(1).and_then(|before| curve.get(before)), curve.get(after)) {
        (Some(before), Some(after)) => {
            let part = (time_s - before.0) / (after.0 - before.0).max(1e-6);
            before.1 + (after.1 - before.1) * part
        }
        (Some(only), None) | (None, Some(only)) => only.1,
        (None, None) => 0.0,
    }
}

/// A picture of the copy on the original's grid at a quarter of the size, flattened; 0 where nothing is seen.
fn view(copy: &Plane, map: &Homography) -> Option<Plane> {
    let mut seen = Plane::new(WIDTH / 4, HEIGHT / 4);
    let mut count = 0;
    for y in 0..seen.height {
        for x in 0..seen.width {
            let mut sum = 0.0;
            let mut all = true;
            for part in 0..4 {
                let (dx, dy) = (f64::from(part % 2) * 2.0 + 0.5, f64::from(part / 2) * 2.0 + 0.5);
                let (u, v) = map.map(4.0 * x as f64 + dx, 4.0 * y as f64 + dy);
                match copy.at(u as f32, v as f32) {
                    Some(sample) => sum += sample,
                    None => all = false,
                }
            }
            if all {
                seen.data[y * (WIDTH / 4) + x] = sum / 4.0;
                count += 1;
            }
        }
    }
    if count * 20 < seen.data.len() {
        return None;
    }
    let inside = seen.zip(&seen, |sample, _| if sample > 0.0 { 1.0 } else { 0.0 });
    Some(register::flattened(&seen).zip(&inside, |sample, inside| sample * inside))
}

fn agreement(copy: &Plane, original: &Plane) -> f64 {
    let original = register::flattened(&original.halved().halved());
    let visible = original.zip(copy, |original, copy| if copy == 0.0 { 0.0 } else { original });
    let size = dot(&visible.data, &visible.data) * dot(&copy.data, &copy.data);
    f64::from(dot(&visible.data, &copy.data) / (size + 1e-6).sqrt())
}
