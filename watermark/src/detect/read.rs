//! Reads the copy once through, GOP by GOP of the archive, and gives an observation for each slice.
//!
//! In: placed spans, the copy, the archive decoded as A, as B and with A in one class of slices after the other. Out: observations, as they come, each with
//! the number of its span. Pure. Holds one GOP's pictures of each at the grid's size.

use super::frame::{CLASSES, Choice, Clip, Frame, Gop, PictureError, Pictures, References};
use super::homography::Homography;
use super::light::Light;
use super::plane::{Plane, Point, dot};
use super::register::{self, Pair};
use super::symbols::{self, Shown};
use super::time::Span;
use super::{HEIGHT, WIDTH, plane};
use crate::position::Position;
use crate::score::Observation;
use crate::threads;
use std::iter::Peekable;

/// Width of the grid that symbols are fitted on.
const GRID_WIDTH: usize = WIDTH / 2;
/// Its height.
const GRID_HEIGHT: usize = HEIGHT / 2;
/// Most pictures of a copy that one GOP is read from: of more, every second or third.
const SHOWN_MAX: usize = 64;
/// Most pictures of a copy that are taken in for one GOP, whatever its clock says.
const TAKEN_MAX: usize = 256;
/// Pictures that a GOP's geometry is refined on.
const REFINED: usize = 4;
/// Originals before and after the expected one that a picture is compared with.
const AROUND: usize = 2;
/// Pictures this long before a GOP may still be its own: what comes earlier fell into a hole of the archive.
const EARLY_S: f64 = 0.1;
/// Part of a measured drift in time that is believed at once.
const DRIFT_GAIN: f64 = 0.5;

/// A GOP of the archive on the grid.
struct Original {
    time_s: f64,
    /// Mean of A and B.
    mean: Plane,
    /// A − B in each class of slices.
    marks: [Plane; CLASSES],
    /// At the working size, for the geometry; kept for a few pictures.
    whole: Plane,
}

pub(super) fn read(
    archive: &dyn References,
    clip: &dyn Clip,
    spans: &[Span],
    done: &mut dyn FnMut(f64),
    found: &mut dyn FnMut(usize, Observation),
) -> Result<(), PictureError> {
    let mut copy = clip.pictures(WIDTH, HEIGHT)?.peekable();
    for (index, span) in spans.iter().enumerate() {
        read_span(archive, *span, &mut copy, done, &mut |seen| found(index, seen))?;
    }
    Ok(())
}

fn read_span(
    archive: &dyn References,
    mut span: Span,
    copy: &mut Peekable<Pictures>,
    done: &mut dyn FnMut(f64),
    found: &mut dyn FnMut(Observation),
) -> Result<(), PictureError> {
    let gops = archive.gops();
    let (first_s, last_s) = (span.archive_at(span.from_s), span.archive_at(span.to_s));
    let begin = gops.partition_point(|gop| gop.end_s <= first_s);
    let end = gops.partition_point(|gop| gop.start_s < last_s);
    if begin >= end {
        return Ok(());
    }
    let variant =
        |choice| Ok::<_, PictureError>(archive.pictures(begin..end, choice, WIDTH, HEIGHT)?.peekable());
    // The last class is what A has beside the others.
    let classes = (0..CLASSES as u8 - 1).map(Choice::Class);
    let mut variants: Vec<_> =
        [Choice::A, Choice::B].into_iter().chain(classes).map(variant).collect::<Result<_, _>>()?;
    skip(copy, span.from_s)?;
    let mut before: Option<Original> = None;
    for gop in &gops[begin..end] {
        let originals = originals(&mut variants, gop)?;
        let fell_into_a_hole =
            |frame: &Frame| frame.time_s < span.to_s && span.archive_at(frame.time_s) < gop.start_s - EARLY_S;
        while let Some(Ok(frame)) = copy.peek()
            && fell_into_a_hole(frame)
        {
            copy.next().transpose()?;
            before = None;
        }
        let mut seen = Vec::new();
        while let Some(Ok(frame)) = copy.peek()
            && frame.time_s < span.to_s
            && span.archive_at(frame.time_s) < gop.end_s
        {
            let frame = copy.next().transpose()?;
            seen.extend(frame.filter(|_| seen.len() < TAKEN_MAX));
        }
        if let Some(Err(_)) = copy.peek() {
            copy.next().transpose()?;
        }
        let Some(at_s) = seen.first().map(|frame| frame.time_s) else { continue };
        done(at_s);
        if originals.is_empty() || gop.slices() == 0 {
            continue;
        }
        let stride = seen.len().div_ceil(SHOWN_MAX);
        let seen: Vec<Frame> = seen.into_iter().step_by(stride).collect();
        span.map = refined(&span, &originals, &seen);
        let shown = shown(&mut span, &originals, before.as_ref(), &seen);
        before = originals.into_iter().next_back();
        for (slice, soft) in (0u16..).zip(symbols::solve(&shown, &gop.edges)) {
            if soft.value.is_finite() && soft.variance > 0.0 {
                let position = Position { gop: gop.id, slice };
                let value =
                    soft.value.clamp(-crate::score::evidence::SOFT_MAX, crate::score::evidence::SOFT_MAX);
                found(Observation { position, soft: value, variance: soft.variance, at_s });
            }
        }
    }
    Ok(())
}

fn skip(pictures: &mut Peekable<Pictures>, time_s: f64) -> Result<(), PictureError> {
    while let Some(frame) = pictures.peek() {
        if frame.as_ref().is_ok_and(|frame| frame.time_s >= time_s) {
            break;
        }
        pictures.next().transpose()?;
    }
    Ok(())
}

/// The GOP's pictures out of the films, which go in step: A, B, and one for each class but the last.
fn originals(variants: &mut [Peekable<Pictures>], gop: &Gop) -> Result<Vec<Original>, PictureError> {
    // Half a millisecond: times come rounded.
    const ROUNDED_S: f64 = 0.0005;
    let mut pictures = Vec::new();
    for film in &mut *variants {
        skip(film, gop.start_s - ROUNDED_S)?;
    }
    let inside = |film: &mut Peekable<Pictures>| {
        film.peek()
            .is_some_and(|frame| frame.as_ref().map_or(true, |frame| frame.time_s < gop.end_s - ROUNDED_S))
    };
    while variants.iter_mut().all(inside) {
        let taken: Vec<Option<Frame>> =
            variants.iter_mut().map(|film| film.next().transpose()).collect::<Result<_, _>>()?;
        let Some(taken) = taken.into_iter().collect::<Option<Vec<Frame>>>() else { break };
        pictures.push(taken);
    }
    Ok(threads::each(pictures.into_iter(), threads::all(), |taken| original(&taken)))
}

/// Of one moment's pictures, which are at least two.
fn original(taken: &[Frame]) -> Original {
    let whole = plane(&taken[0]);
    let (a, b) = (whole.halved(), plane(&taken[1]).halved());
    let less = |one: &Plane, other: &Plane| one.zip(other, |one, other| one - other);
    let mut last = less(&a, &b);
    let marks = std::array::from_fn(|class| match taken.get(2 + class) {
        Some(frame) => {
            let mark = less(&plane(frame).halved(), &b);
            last = less(&last, &mark);
            mark
        }
        None => last.clone(),
    });
    Original { time_s: taken[0].time_s, mean: a.zip(&b, |a, b| (a + b) / 2.0), marks, whole }
}

/// The original expected at a time of the copy.
fn expected(span: &Span, originals: &[Original], time_s: f64) -> usize {
    let at = span.archive_at(time_s);
    let after = originals.partition_point(|original| original.time_s < at);
    let apart = |index: usize| (originals[index].time_s - at).abs();
    if after == originals.len() || after > 0 && apart(after - 1) <= apart(after) {
        after.saturating_sub(1)
    } else {
        after
    }
}

/// The geometry on this GOP's pictures: it drifts where a camera is held by hand.
fn refined(span: &Span, originals: &[Original], seen: &[Frame]) -> Homography {
    let step = seen.len().div_ceil(REFINED).max(1);
    let pairs: Vec<Pair> = threads::each(seen.iter().skip(step / 2).step_by(step), threads::all(), |frame| {
        let original = &originals[expected(span, originals, frame.time_s)];
        Pair::new(&original.whole, &plane(frame), 2)
    });
    let next = register::refine(&pairs, span.map, 1, 0);
    let agreement = |map: &Homography| register::agreement(&pairs, map, 0).0;
    if agreement(&next) > agreement(&span.map) { next } else { span.map }
}

/// Residuals of the copy's pictures and the differences that belong to them; also follows drift in time. `left` is the
/// last original of the GOP before.
fn shown(span: &mut Span, originals: &[Original], left: Option<&Original>, seen: &[Frame]) -> Vec<Shown> {
    let view = View::new(&span.map);
    let flat: Vec<Plane> =
        threads::each(originals.iter(), threads::all(), |original| masked_detail(&original.mean, &view.seen));
    let of = |frame: &Frame| {
        let picture = view.of(&plane(frame));
        let guess = expected(span, originals, frame.time_s);
        let index = matching(&masked_detail(&picture, &view.seen), &flat, guess);
        let drift = originals[index].time_s - span.archive_at(frame.time_s);
        let here = &originals[index];
        let before = &originals[index.saturating_sub(1)].mean;
        let after = &originals[(index + 1).min(originals.len() - 1)].mean;
        let light = Light::new(&here.mean, before, after, left.map(|left| &left.mean), &view.seen);
        let marks = |of: &Original| of.marks.each_ref().map(|mark| light.residual(mark));
        let marks = [Some(here), left].into_iter().flatten().map(marks).collect();
        (drift, Shown { residual: light.residual(&picture), marks })
    };
    let (mut drifts, shown): (Vec<f64>, Vec<Shown>) =
        threads::each(seen.iter(), threads::all(), of).into_iter().unzip();
    drifts.sort_by(f64::total_cmp);
    if let Some(drift) = drifts.get(drifts.len() / 2) {
        span.archive_s += DRIFT_GAIN * drift;
    }
    shown
}

/// Detail of a picture where the copy can be seen.
fn masked_detail(plane: &Plane, seen: &Plane) -> Plane {
    plane.zip(&plane.blurred(6), |sample, blurred| sample - blurred).zip(seen, |sample, seen| sample * seen)
}

/// The original that a picture agrees with best, near the expected one; another only if it is clearly better.
fn matching(picture: &Plane, originals: &[Plane], guess: usize) -> usize {
    let agreement = |index: usize| {
        let original = &originals[index].data;
        dot(original, &picture.data) / (dot(original, original) + 1.0).sqrt()
    };
    let mut best = (agreement(guess) * 1.001, guess);
    for index in guess.saturating_sub(AROUND)..(guess + AROUND + 1).min(originals.len()) {
        let agreement = agreement(index);
        if agreement > best.0 {
            best = (agreement, index);
        }
    }
    best.1
}

/// The copy read back on the original's grid.
struct View {
    /// Where each sample of the grid that is seen lies in the copy: its index, and four points.
    points: Vec<(usize, [Point; 4])>,
    /// 1 where the copy shows the original, else 0.
    seen: Plane,
}

impl View {
    fn new(map: &Homography) -> View {
        let mut points = Vec::with_capacity(GRID_WIDTH * GRID_HEIGHT);
        let mut seen = Plane::new(GRID_WIDTH, GRID_HEIGHT);
        let inside = |(x, y): (f32, f32)| {
            (1.0..=(WIDTH - 2) as f32).contains(&x) && (1.0..=(HEIGHT - 2) as f32).contains(&y)
        };
        for (index, seen) in seen.data.iter_mut().enumerate() {
            let (x, y) = (index % GRID_WIDTH, index / GRID_WIDTH);
            let part = |part: usize| {
                let (x, y) = map.map((2 * x + part % 2) as f64, (2 * y + part / 2) as f64);
                Some((x as f32, y as f32)).filter(|&point| inside(point))
            };
            let point = |at| part(at).and_then(|(x, y)| Point::new(x, y, WIDTH, HEIGHT));
            if let (Some(one), Some(two), Some(three), Some(four)) = (point(0), point(1), point(2), point(3))
            {
                *seen = 1.0;
                points.push((index, [one, two, three, four]));
            }
        }
        View { points, seen }
    }

    /// Black where nothing is seen.
    fn of(&self, copy: &Plane) -> Plane {
        let mut picture = Plane::new(GRID_WIDTH, GRID_HEIGHT);
        for (index, points) in &self.points {
            picture.data[*index] = points.iter().map(|&point| copy.between(point)).sum::<f32>() / 4.0;
        }
        picture
    }
}
