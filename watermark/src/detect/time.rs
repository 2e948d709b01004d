//! Which time of the archive each part of a copy shows.
//!
//! In: thumbnails of both, ten a second. Out: `Span`s of the copy, each on a straight line through the archive's time, with
//! a rough idea of the geometry. Pure.
//!
//! A thumbnail's print is its 16 × 9 samples, brightness and contrast taken off, beside its difference to the mean of the
//! seconds around it, which is all there is to tell two moments of a still scene apart. Windows of a few seconds are
//! compared with every place of the archive, under a handful of guesses of how the picture was cut, mirrored or shrunk;
//! windows that agree make a span. What is guessed here only has to be near: later stages refine time and geometry.

use super::homography::Homography;
use super::plane::{Plane, dot};

/// Thumbnails a second.
pub(crate) const RATE: f64 = 10.0;
/// Width of an original's thumbnail.
pub(crate) const WIDTH: usize = 16;
/// Height of an original's thumbnail.
pub(crate) const HEIGHT: usize = 9;
/// Thumbnails of the copy are so many times as large, so that parts of them can be looked at.
pub(crate) const FINER: usize = 4;

/// Thumbnails compared at once: 4 s.
const WINDOW: usize = 40;
/// From one window to the next: 2 s.
const HOP: usize = 20;
/// Half the time that a print's difference is taken to the mean of: 2 s.
const AROUND: usize = 20;
/// Deviation of a difference below which it is noise, in levels.
const STILL: f32 = 1.0;
/// Furthest from real time that a copy plays.
const SPEED_MAX: f64 = 0.07;
/// Windows that agree less with the archive are from elsewhere.
const AGREE_MIN: f32 = 0.2;

/// Part of a line's agreement that a thumbnail beyond its windows must have.
const GOES_ON: f32 = 0.5;

/// Part of the best agreement that another place must have to come into question too.
const REPEAT: f32 = 0.95;
/// Nearest two such places, in thumbnails: 1 s.
const REPEAT_APART: isize = 10;
/// Thumbnails each way that a playing copy can have strayed from one window to the next.
const NEAR: isize = 3;
/// Most such places that are looked at.
const REPEATS_MAX: usize = 12;
/// Thumbnails that a place is judged by.
const REPEAT_THUMBS: usize = 60;

/// A part of the copy and where in the archive it is from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Where it begins, on the copy's clock.
    pub from_s: f64,
    /// Where it ends.
    pub to_s: f64,
    /// Archive time = `archive_s` + (time − `from_s`) · `speed`.
    pub archive_s: f64,
    /// Seconds of the archive a second of the copy.
    pub speed: f64,
    /// How well the prints agree, at most 1.
    pub agreement: f64,
    /// From the original's picture to the copy's, both at the detector's working size.
    pub map: Homography,
}

impl Span {
    /// The archive's time at a time of the copy.
    pub fn archive_at(&self, time_s: f64) -> f64 {
        self.archive_s + (time_s - self.from_s) * self.speed
    }
}

/// Thumbnails at `RATE`, from a film's first picture on; a gap repeats the last one.
pub(crate) struct Thumbs {
    pub(crate) start_s: f64,
    pub(crate) pictures: Vec<Plane>,
    most: usize,
}

impl Thumbs {
    /// Of so many seconds at most, whatever a film's clock says.
    pub(crate) fn of(seconds: usize) -> Thumbs {
        Thumbs { start_s: 0.0, pictures: Vec::new(), most: seconds * RATE as usize }
    }

    /// Takes the pictures of a film in order; those that are due are kept.
    pub(crate) fn push(&mut self, time_s: f64, picture: impl FnOnce() -> Plane) {
        if self.pictures.is_empty() {
            self.start_s = time_s;
        }
        let due = ((time_s - self.start_s) * RATE + 0.01).floor();
        // A film whose clock jumps for hours is no film: at most ten minutes are bridged.
        let missing = (due + 1.0 - self.pictures.len() as f64).clamp(0.0, 6_000.0) as usize;
        let missing = missing.min(self.most - self.pictures.len());
        if missing > 0 {
            let picture = picture();
            self.pictures.extend(std::iter::repeat_n(picture, missing));
        }
    }

    fn time_s(&self, index: f64) -> f64 {
        self.start_s + index / RATE
    }
}

/// A guess of the geometry: from parts of the original's picture to parts of the copy's.
#[derive(Clone, Copy)]
struct Guess {
    scale: f64,
    left: f64,
    top: f64,
    mirrored: bool,
}

impl Guess {
    /// Whole, cut at the edges, as a picture in a picture; each also mirrored.
    fn all() -> Vec<Guess> {
        let centred = |scale: f64| (scale, (1.0 - scale) / 2.0, (1.0 - scale) / 2.0);
        let mut found: Vec<(f64, f64, f64)> = [1.0, 1.12, 1.3, 0.75, 0.5].map(centred).into();
        for scale in [0.7, 0.5, 0.36] {
            for (left, top) in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)] {
                found.push((scale, left * (1.0 - scale), top * (1.0 - scale)));
            }
        }
        let guess = |(scale, left, top), mirrored| Guess { scale, left, top, mirrored };
        let plain = found.iter().map(|&place| guess(place, false));
        plain.chain(found.iter().map(|&place| guess(place, true))).collect()
    }

    fn map(&self, width: f64, height: f64) -> Homography {
        let (sx, tx) = if self.mirrored {
            (-self.scale, (self.left + self.scale) * width - 1.0)
        } else {
            (self.scale, self.left * width)
        };
        Homography::scale(sx, self.scale, tx, self.top * height)
    }

    /// The copy's thumbnail on the original's grid, and which of its samples there are.
    fn view(&self, thumb: &Plane) -> (Vec<f32>, Vec<f32>) {
        let map = self.map(thumb.width as f64, thumb.height as f64);
        let (mut samples, mut seen) = (Vec::new(), Vec::new());
        let finer = FINER as f64;
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let (mut sum, mut count) = (0.0, 0);
                for part in 0..4 {
                    let (dx, dy) = (f64::from(part % 2) * 2.0 + 0.5, f64::from(part / 2) * 2.0 + 0.5);
                    let (u, v) = map.map(x as f64 * finer + dx, y as f64 * finer + dy);
                    if let Some(sample) = thumb.at(u as f32, v as f32) {
                        sum += sample;
                        count += 1;
                    }
                }
                samples.push(if count == 0 { 0.0 } else { sum / count as f32 });
                seen.push(if count >= 3 { 1.0 } else { 0.0 });
            }
        }
        (samples, seen)
    }
}

/// Prints of a film: all equally long, so that agreement is a dot product.
struct Prints {
    size: usize,
    data: Vec<f32>,
}

impl Prints {
    /// Of samples where seen is 1; the seen part is the same for all pictures.
    fn new(pictures: &[Vec<f32>], seen: &[f32]) -> Prints {
        let samples = seen.len();
        let count: f32 = seen.iter().sum::<f32>().max(1.0);
        let centred = |picture: &[f32]| -> Vec<f32> {
            let mean = dot(picture, seen) / count;
            picture.iter().zip(seen).map(|(sample, seen)| (sample - mean) * seen).collect()
        };
        let flat: Vec<Vec<f32>> = pictures.iter().map(|picture| centred(picture)).collect();
        let mut data = Vec::with_capacity(flat.len() * samples * 2);
        let mut sum = vec![0.0f32; samples];
        let mut inside = 0..0;
        for at in 0..flat.len() {
            let wanted = at.saturating_sub(AROUND)..(at + AROUND + 1).min(flat.len());
            for gone in &flat[inside.start..wanted.start] {
                sum.iter_mut().zip(gone).for_each(|(sum, sample)| *sum -= sample);
            }
            for new in &flat[inside.end..wanted.end] {
                sum.iter_mut().zip(new).for_each(|(sum, sample)| *sum += sample);
            }
            inside = wanted;
            let share = 1.0 / inside.len() as f32;
            let change: Vec<f32> = flat[at].iter().zip(&sum).map(|(here, sum)| here - sum * share).collect();
            for part in [&flat[at], &change] {
                let size = (0.5 / (dot(part, part) + STILL * STILL * count)).sqrt();
                data.extend(part.iter().map(|sample| sample * size));
            }
        }
        Prints { size: samples * 2, data }
    }

    fn len(&self) -> usize {
        self.data.len() / self.size
    }

    fn at(&self, index: usize) -> &[f32] {
        &self.data[index * self.size..][..self.size]
    }
}

/// Prints of both films under one guess.
struct Match {
    copy: Prints,
    archive: Prints,
}

impl Match {
    fn new(copy: &Thumbs, archive: &Thumbs, guess: Guess) -> Option<Match> {
        let views: Vec<(Vec<f32>, Vec<f32>)> = copy.pictures.iter().map(|thumb| guess.view(thumb)).collect();
        let seen = views.first()?.1.clone();
        if seen.iter().sum::<f32>() < 0.3 * seen.len() as f32 {
            return None;
        }
        let views: Vec<Vec<f32>> = views.into_iter().map(|(samples, _)| samples).collect();
        let originals: Vec<Vec<f32>> = archive.pictures.iter().map(|thumb| thumb.data.clone()).collect();
        Some(Match { copy: Prints::new(&views, &seen), archive: Prints::new(&originals, &seen) })
    }

    /// The best place of a window of the copy: (agreement, index into the archive of its first thumbnail). It may hang
    /// over the archive's ends by half.
    fn place(&self, from: usize, window: usize) -> (f32, f64) {
        let half = window as isize / 2;
        let starts = -half..(self.archive.len() as isize - window as isize + half).max(1 - half);
        self.best_of(from, window, starts)
    }

    /// The best place near one.
    fn place_near(&self, from: usize, window: usize, start: f64) -> (f32, f64) {
        let start = start.round() as isize;
        self.best_of(from, window, start - NEAR..start + NEAR + 1)
    }

    fn best_of(&self, from: usize, window: usize, starts: std::ops::Range<isize>) -> (f32, f64) {
        let agree: Vec<f32> = starts.clone().map(|start| self.agreement(from, start, window)).collect();
        let Some((best, &top)) = agree.iter().enumerate().max_by(|x, y| x.1.total_cmp(y.1)) else {
            return (0.0, 0.0);
        };
        // The peak of a parabola through the best and its neighbours.
        let near = |index: usize| agree.get(index).copied();
        let shift = match (best.checked_sub(1).and_then(near), near(best + 1)) {
            (Some(before), Some(after)) if before + after < 2.0 * top => {
                f64::from((after - before) / (2.0 * (2.0 * top - before - after)))
            }
            _ => 0.0,
        };
        (top, (starts.start + best as isize) as f64 + shift)
    }

    fn agreement(&self, from: usize, start: isize, window: usize) -> f32 {
        let mut sum = 0.0;
        for i in 0..window {
            let at = start + i as isize;
            if at >= 0 && (at as usize) < self.archive.len() {
                sum += dot(self.copy.at(from + i), self.archive.at(at as usize));
            }
        }
        sum / window as f32
    }

    /// How far from a line, in thumbnails, the archive shows the same once more: the best few such places.
    fn repeats(&self, line: &Line, part: &std::ops::Range<usize>) -> Vec<f64> {
        let stride = part.len().div_ceil(REPEAT_THUMBS).max(1);
        let agreement = |apart: f64| -> f32 {
            part.clone().step_by(stride).map(|index| self.single(index, line.at(index as f64) + apart)).sum()
        };
        let reach = self.archive.len() as isize;
        let near = part.start as f64;
        let apart = (-reach..reach).filter(|&apart| {
            let start = line.at(near) + apart as f64;
            apart.abs() >= REPEAT_APART && start > -(part.len() as f64) / 2.0 && start < reach as f64
        });
        let enough = REPEAT * agreement(0.0);
        let mut found: Vec<(f32, f64)> = apart
            .map(|apart| (agreement(apart as f64), apart as f64))
            .filter(|(agreement, _)| *agreement > enough)
            .collect();
        found.sort_by(|x, y| y.0.total_cmp(&x.0));
        let mut kept: Vec<f64> = Vec::new();
        for (_, apart) in found {
            if kept.len() < REPEATS_MAX
                && kept.iter().all(|other| (apart - other).abs() >= REPEAT_APART as f64)
            {
                kept.push(apart);
            }
        }
        kept
    }

    /// Agreement of one thumbnail with the archive at a time given as an index.
    fn single(&self, index: usize, at: f64) -> f32 {
        let at = at.round();
        if at < 0.0 || at >= self.archive.len() as f64 {
            return 0.0;
        }
        dot(self.copy.at(index), self.archive.at(at as usize))
    }
}

/// A window's best place.
#[derive(Clone, Copy)]
struct Placed {
    /// Index of its middle in the copy.
    middle: f64,
    /// Index in the archive less that in the copy.
    offset: f64,
    agreement: f32,
}

/// The spans of a copy, in order and none overlapping, each with the other places of the archive that look alike (their
/// `archive_s`). `width` and `height` are the working size of the maps.
pub(crate) fn align(copy: &Thumbs, archive: &Thumbs, width: usize, height: usize) -> Vec<(Span, Vec<f64>)> {
    let count = copy.pictures.len();
    if count == 0 || archive.pictures.is_empty() {
        return Vec::new();
    }
    let window = WINDOW.min(count);
    let Some((guess, matched)) = best_guess(copy, archive, window) else { return Vec::new() };
    let last = count - window;
    let starts: Vec<usize> = (0..last).step_by(HOP).chain([last]).collect();
    let mut placed: Vec<Placed> = Vec::new();
    for from in starts {
        let (mut agreement, mut start) = matched.place(from, window);
        // Where the archive shows the same twice, the copy goes on where it was.
        if let Some(last) = placed.last() {
            let (here, near) = matched.place_near(from, window, from as f64 + last.offset);
            if here >= REPEAT * agreement {
                (agreement, start) = (here, near);
            }
        }
        if agreement >= AGREE_MIN {
            let middle = from as f64 + window as f64 / 2.0;
            placed.push(Placed { middle, offset: start - from as f64, agreement });
        }
    }
    let lines = lines(&placed);
    let borders = borders(&matched, &lines, count, window);
    let span = |(line, border): (&Line, &std::ops::Range<usize>)| {
        let from_s = copy.time_s(border.start as f64);
        let archive_s = archive.time_s(line.at(border.start as f64));
        let repeats = matched.repeats(line, border).iter().map(|apart| archive_s + apart / RATE).collect();
        let span = Span {
            from_s,
            to_s: copy.time_s(border.end as f64),
            archive_s,
            speed: line.speed,
            agreement: f64::from(line.agreement),
            map: guess.map(width as f64, height as f64),
        };
        (span, repeats)
    };
    lines.iter().zip(&borders).filter(|(_, border)| !border.is_empty()).map(span).collect()
}

/// The guess under which a few windows agree best with the archive.
fn best_guess(copy: &Thumbs, archive: &Thumbs, window: usize) -> Option<(Guess, Match)> {
    let last = copy.pictures.len() - window;
    let probes = [last / 4, last / 2, last - last / 4];
    let mut best: Option<(f32, Guess, Match)> = None;
    for guess in Guess::all() {
        let Some(matched) = Match::new(copy, archive, guess) else { continue };
        let mut probes = probes.to_vec();
        probes.dedup();
        let agreement = probes.iter().map(|&from| matched.place(from, window).0).sum::<f32>();
        let agreement = agreement / probes.len() as f32;
        // Smaller views agree more easily: the simplest guess wins a near tie.
        let handicap = if guess.scale == 1.0 { 0.0 } else { 0.03 };
        let agreement = agreement - handicap - if guess.mirrored { 0.01 } else { 0.0 };
        if best.as_ref().is_none_or(|best| agreement > best.0) {
            best = Some((agreement, guess, matched));
        }
    }
    best.map(|(_, guess, matched)| (guess, matched))
}

/// Windows on one line.
struct Line {
    first: f64,
    last: f64,
    /// Index in the archive at index 0 of the copy.
    origin: f64,
    speed: f64,
    agreement: f32,
}

impl Line {
    fn at(&self, index: f64) -> f64 {
        self.origin + index * self.speed
    }
}

/// Neighbouring windows whose places a playing copy could have.
fn lines(placed: &[Placed]) -> Vec<Line> {
    let mut groups: Vec<Vec<Placed>> = Vec::new();
    for &next in placed {
        let fits = |group: &Vec<Placed>| {
            group.last().is_some_and(|last| {
                let apart = next.middle - last.middle;
                (next.offset - last.offset).abs() <= SPEED_MAX * apart + 1.5 && apart <= 4.0 * HOP as f64
            })
        };
        match groups.last_mut() {
            Some(group) if fits(group) => group.push(next),
            _ => groups.push(vec![next]),
        }
    }
    // A window across a cut lies anywhere: alone between others it is nobody's.
    let alone = groups.len() > 1;
    groups.retain(|group| !alone || group.len() > 1 || group[0].agreement > 0.6);
    groups.iter().map(|group| line(group)).collect()
}

fn line(group: &[Placed]) -> Line {
    let count = group.len() as f64;
    let mean = |f: &dyn Fn(&Placed) -> f64| group.iter().map(f).sum::<f64>() / count;
    let (middle, offset) = (mean(&|placed| placed.middle), mean(&|placed| placed.offset));
    let spread = mean(&|placed| (placed.middle - middle).powi(2));
    let slope = mean(&|placed| (placed.middle - middle) * (placed.offset - offset));
    let slope = if count >= 3.0 { (slope / spread).clamp(-SPEED_MAX, SPEED_MAX) } else { 0.0 };
    Line {
        first: group.first().map_or(0.0, |placed| placed.middle),
        last: group.last().map_or(0.0, |placed| placed.middle),
        origin: offset - slope * middle,
        speed: 1.0 + slope,
        agreement: mean(&|placed| f64::from(placed.agreement)) as f32,
    }
}

/// Where each line's part of the copy begins and ends: between two lines at the place where both together agree best.
fn borders(matched: &Match, lines: &[Line], count: usize, window: usize) -> Vec<std::ops::Range<usize>> {
    let half = window as f64 / 2.0;
    let reach = |line: &Line| {
        let first = (line.first - half).max(0.0) as usize;
        first..((line.last + half).ceil() as usize).min(count)
    };
    let mut borders: Vec<std::ops::Range<usize>> = lines.iter().map(reach).collect();
    for next in 1..lines.len() {
        let (one, other) = (&lines[next - 1], &lines[next]);
        // From the middle of the last window of the one to the middle of the first of the other.
        let (from, to) = (one.last.max(0.0) as usize, (other.first.ceil() as usize).min(count));
        let gain = |index: usize| {
            matched.single(index, one.at(index as f64)) - matched.single(index, other.at(index as f64))
        };
        let (mut sum, mut best) = (0.0, (0.0, from));
        for index in from..to {
            sum += gain(index);
            if sum > best.0 {
                best = (sum, index + 1);
            }
        }
        borders[next - 1].end = best.1;
        borders[next].start = best.1;
    }
    // The first and the last line go on to the film's ends as long as they fit there.
    if let (Some(first), Some(line)) = (borders.first_mut(), lines.first()) {
        let fits = |index: &usize| matched.single(*index, line.at(*index as f64)) > GOES_ON * line.agreement;
        first.start -= (0..first.start).rev().take_while(fits).count();
    }
    if let (Some(last), Some(line)) = (borders.last_mut(), lines.last()) {
        let fits = |index: &usize| matched.single(*index, line.at(*index as f64)) > GOES_ON * line.agreement;
        last.end += (last.end..count).take_while(fits).count();
    }
    borders
}
