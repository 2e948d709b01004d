//! The detector on films made here: what it finds in copies that were cut, turned, dimmed, slowed, or are none.
//!
//! A film is a drifting wallpaper with something that moves in front of it, ten pictures a second, a GOP a second, four
//! slices a GOP. What real coders leave of the mark is measured by the example `read_table` of package `mark`.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use releve_watermark::detect::{
    Choice, Clip, Detection, Frame, Gop, Homography, Kept, PictureError, Pictures, References, detect,
};
use releve_watermark::score::{Tried, Verdict, judge};
use releve_watermark::{Codebook, GopId, Key, Symbol, WatermarkId};
use std::ops::Range;

const RATE: usize = 10;
const SLICES: usize = 4;
const SIDE: usize = 512;

/// A number that looks drawn.
fn mixed(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn sign(seed: u64) -> f32 {
    if mixed(seed) & 1 == 0 { 1.0 } else { -1.0 }
}

/// A film, and how its mark is drawn.
#[derive(Clone)]
struct Film {
    wallpaper: Vec<f32>,
    gops: Vec<Gop>,
    seed: u64,
    /// Its pictures begin anew after so many seconds; the mark does not.
    repeats_after: Option<usize>,
    /// From then on, so much of them is of another wallpaper.
    other: f32,
}

impl Film {
    fn new(seconds: usize, seed: u64) -> Film {
        let seed = mixed(seed);
        // Noise of three sizes, each smooth between its points.
        let mut wallpaper = vec![0.0; SIDE * SIDE];
        for (size, height) in [(64, 60.0), (16, 30.0), (4, 12.0)] {
            let point = |x: usize, y: usize| {
                let (x, y) = (x % (SIDE / size), y % (SIDE / size));
                mixed(seed ^ (size as u64) << 40 ^ (y as u64) << 20 ^ x as u64) as f32 / u64::MAX as f32 - 0.5
            };
            for (index, sample) in wallpaper.iter_mut().enumerate() {
                let (x, y) = (index % SIDE, index / SIDE);
                let (across, down) = ((x % size) as f32 / size as f32, (y % size) as f32 / size as f32);
                let (x, y) = (x / size, y / size);
                let top = point(x, y) + (point(x + 1, y) - point(x, y)) * across;
                let bottom = point(x, y + 1) + (point(x + 1, y + 1) - point(x, y + 1)) * across;
                *sample += (top + (bottom - top) * down) * height;
            }
        }
        let gop = |start: usize| Gop {
            id: GopId::derive("film", &seed.to_be_bytes(), start as i64),
            start_s: start as f64,
            end_s: (start + 1) as f64,
            edges: (0..=SLICES).map(|slice| slice as f64 / SLICES as f64).collect(),
        };
        Film { wallpaper, gops: (0..seconds).map(gop).collect(), seed, repeats_after: None, other: 0.0 }
    }

    /// The picture at a time, with so much of A or B in each slice.
    fn picture(&self, time_s: f64, width: usize, height: usize, mark: impl Fn(usize) -> f32) -> Vec<f32> {
        let gop = (time_s + 1e-9) as usize;
        let other = self.repeats_after.filter(|&seconds| gop >= seconds).map_or(0.0, |_| self.other);
        let time_s = self.repeats_after.map_or(time_s, |seconds| (time_s + 1e-9) % seconds as f64);
        // Not quite straight on, so that no two moments look alike.
        let (pan, tilt) = (3.1 * 10.0 * time_s, 20.0 * (0.9 * time_s).sin());
        let (ball_x, ball_y) = (320.0 + 250.0 * (1.7 * time_s).sin(), 180.0 + 130.0 * (2.3 * time_s).cos());
        let mut samples = Vec::with_capacity(width * height);
        for line in 0..height {
            // The film is 640 × 360 of its own; smaller pictures look at fewer of its samples.
            let y = (line as f64 + 0.5) * 360.0 / height as f64 - 0.5;
            let wallpaper = &self.wallpaper[(y + tilt + 40.0) as usize % SIDE * SIDE..][..SIDE];
            let amount = 2.0 * mark(((y * SLICES as f64 / 360.0) as usize).min(SLICES - 1));
            let cell = (gop as u64) << 40 | (y as u64 / 16) << 20;
            let cells: Vec<f32> = (0..40).map(|x| amount * sign(self.seed ^ (cell | x))).collect();
            for column in 0..width {
                let x = (column as f64 + 0.5) * 640.0 / width as f64 - 0.5;
                let near = (x - ball_x).powi(2) + (y - ball_y).powi(2) < 1600.0;
                let at = (x + pan) as usize % SIDE;
                let paper = wallpaper[at] * (1.0 - other) + self.wallpaper[at * SIDE + y as usize] * other;
                let level = 120.0 + paper + if near { 40.0 } else { 0.0 };
                samples.push(level + cells[x as usize / 16]);
            }
        }
        samples
    }

    /// What the pirate has there.
    fn symbol(gop: &Gop, slice: usize) -> Symbol {
        if mixed(u64::from(gop.id.0[0]) << 8 | slice as u64) & 1 == 0 { Symbol::A } else { Symbol::B }
    }
}

fn amount(symbol: Symbol) -> f32 {
    if symbol == Symbol::A { 1.0 } else { -1.0 }
}

impl References for Film {
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
        let film = self.clone();
        let frame = move |index: usize| {
            let time_s = index as f64 / RATE as f64;
            let samples = film.picture(time_s, width, height, |slice| amount(choice.symbol(slice as u16)));
            let luma = samples.into_iter().map(|sample| sample.round().clamp(0.0, 255.0) as u8).collect();
            Ok(Frame { time_s, width, height, luma })
        };
        Ok(Box::new((gops.start * RATE..gops.end * RATE).map(frame)))
    }
}

/// An archive that has some of a film's GOPs.
struct Part {
    film: Film,
    gops: Vec<Gop>,
}

impl Part {
    fn of(film: &Film, kept: impl Fn(usize) -> bool) -> Part {
        let gops = film.gops.iter().enumerate().filter(|(index, _)| kept(*index));
        Part { film: film.clone(), gops: gops.map(|(_, gop)| gop.clone()).collect() }
    }
}

impl References for Part {
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
        let of_film = |gop: &Gop| self.film.gops.iter().position(|other| other.id == gop.id).unwrap();
        let pictures = |gop: &Gop| {
            let index = of_film(gop);
            self.film.pictures(index..index + 1, choice, width, height)
        };
        let films = self.gops[gops].iter().map(pictures).collect::<Result<Vec<_>, _>>()?;
        Ok(Box::new(films.into_iter().flatten()))
    }
}

/// A copy: its pictures are those of a film at these times, changed.
#[derive(Clone)]
struct Copy {
    film: Film,
    times: Vec<f64>,
    marked: bool,
    /// From the film's picture to the copy's.
    map: Homography,
}

impl Copy {
    fn of(film: &Film, times: impl Iterator<Item = f64>) -> Copy {
        Copy { film: film.clone(), times: times.collect(), marked: true, map: Homography::IDENTITY }
    }
}

impl Clip for Copy {
    fn pictures(&self, width: usize, height: usize) -> Result<Pictures, PictureError> {
        let copy = self.clone();
        let frame = move |index: usize| {
            let time_s = copy.times[index];
            let gop = &copy.film.gops[(time_s + 1e-9) as usize];
            let mark = |slice| if copy.marked { amount(Film::symbol(gop, slice)) } else { 0.0 };
            let picture = copy.film.picture(time_s, 640, 360, mark);
            let mut luma = Vec::with_capacity(width * height);
            let back = inverse(&copy.map);
            for line in 0..height {
                for column in 0..width {
                    let x = (column as f64 + 0.5) * 640.0 / width as f64 - 0.5;
                    let y = (line as f64 + 0.5) * 360.0 / height as f64 - 0.5;
                    let (u, v) = back.map(x, y);
                    let level = between(&picture, u, v);
                    let noise = mixed((index as u64) << 40 | (line as u64) << 20 | column as u64) % 13;
                    luma.push((level * 1.1 - 15.0 + noise as f32 - 6.0).round().clamp(0.0, 255.0) as u8);
                }
            }
            Ok(Frame { time_s: index as f64 / RATE as f64, width, height, luma })
        };
        Ok(Box::new((0..self.times.len()).map(frame)))
    }
}

/// Of maps that scale and move only.
fn inverse(map: &Homography) -> Homography {
    let h = map.0;
    Homography::scale(1.0 / h[0], 1.0 / h[4], -h[2] / h[0], -h[5] / h[4])
}

fn between(picture: &[f32], x: f64, y: f64) -> f32 {
    let (x, y) = (x.clamp(0.0, 638.99), y.clamp(0.0, 358.99));
    let (column, line) = (x as usize, y as usize);
    let (across, down) = ((x - column as f64) as f32, (y - line as f64) as f32);
    let at = |x: usize, y: usize| picture[y * 640 + x];
    let top = at(column, line) + (at(column + 1, line) - at(column, line)) * across;
    let bottom = at(column, line + 1) + (at(column + 1, line + 1) - at(column, line + 1)) * across;
    top + (bottom - top) * down
}

fn seconds(range: Range<f64>, speed: f64) -> impl Iterator<Item = f64> {
    let count = ((range.end - range.start) / speed * RATE as f64).round() as usize;
    (0..count).map(move |index| range.start + index as f64 / RATE as f64 * speed)
}

fn detected(film: &Film, copy: &Copy) -> Detection {
    detect(film, copy, &mut |_| {}).unwrap()
}

/// (right, wrong, unclear) symbols.
fn told(film: &Film, detection: &Detection) -> (usize, usize, usize) {
    let mut told = (0, 0, 0);
    for seen in &detection.observations {
        let gop = film.gops.iter().find(|gop| gop.id == seen.position.gop).unwrap();
        let towards = seen.soft * f64::from(amount(Film::symbol(gop, seen.position.slice.into())));
        if seen.soft * seen.soft < 9.0 * seen.variance {
            told.2 += 1;
        } else if towards > 0.0 {
            told.0 += 1;
        } else {
            told.1 += 1;
        }
    }
    told
}

#[test]
fn a_plain_copy_is_placed_and_read() {
    let film = Film::new(9, 1);
    let detection = detected(&film, &Copy::of(&film, seconds(2.0..7.0, 1.0)));
    let [span] = detection.spans[..] else { panic!("{:?}", detection.spans) };
    assert!((span.archive_at(0.0) - 2.0).abs() < 0.03 && (span.speed - 1.0).abs() < 0.003, "{span:?}");
    assert!((detection.seconds - 5.0).abs() < 1e-6);
    // The first picture may count as the last one of the GOP before.
    let (right, wrong, unclear) = told(&film, &detection);
    assert!(right == 20 && wrong == 0 && unclear <= 4, "{right} right, {wrong} wrong, {unclear} unclear");
    let clear = detection.observations.iter().filter(|seen| seen.soft * seen.soft > 9.0 * seen.variance);
    let mean = clear.map(|seen| seen.soft.abs()).sum::<f64>() / 20.0;
    assert!((0.35..0.6).contains(&mean), "half is a mark that lost nothing: {mean}");
}

#[test]
fn a_cut_and_mirrored_copy_is_read() {
    let film = Film::new(7, 2);
    let map = Homography::scale(-1.15, 1.12, 700.0, -15.0);
    let copy = Copy { map, ..Copy::of(&film, seconds(1.0..5.0, 1.0)) };
    let detection = detected(&film, &copy);
    let [span] = detection.spans[..] else { panic!("{:?}", detection.spans) };
    for (x, y) in [(100.0, 50.0), (500.0, 300.0)] {
        let ((u, v), (right_u, right_v)) = (span.map.map(x, y), map.map(x, y));
        assert!((u - right_u).abs() < 0.7 && (v - right_v).abs() < 0.7, "{u} {v} for {right_u} {right_v}");
    }
    let (right, wrong, _) = told(&film, &detection);
    assert!(right >= 14 && wrong == 0, "{right} right, {wrong} wrong");
}

#[test]
fn a_copy_that_plays_faster_is_followed() {
    let film = Film::new(10, 3);
    let detection = detected(&film, &Copy::of(&film, seconds(1.0..9.5, 1.04)));
    let [span] = detection.spans[..] else { panic!("{:?}", detection.spans) };
    assert!((span.speed - 1.04).abs() < 0.01, "{span:?}");
    let (right, wrong, _) = told(&film, &detection);
    assert!(right >= 30 && wrong == 0, "{right} right, {wrong} wrong");
}

#[test]
fn a_copy_cut_together_is_read_from_both_places() {
    let film = Film::new(12, 4);
    let detection = detected(&film, &Copy::of(&film, seconds(7.0..12.0, 1.0).chain(seconds(1.0..6.0, 1.0))));
    let [one, other] = detection.spans[..] else { panic!("{:?}", detection.spans) };
    assert!((one.archive_at(0.0) - 7.0).abs() < 0.05 && (other.archive_at(5.0) - 1.0).abs() < 0.05);
    assert!((one.to_s - 5.0).abs() < 0.25, "{one:?}");
    let (right, wrong, _) = told(&film, &detection);
    assert!(right >= 36 && wrong == 0, "{right} right, {wrong} wrong");
}

/// The picture alone cannot tell: the mark of the second showing is another one.
#[test]
fn a_film_that_was_shown_twice_is_told_apart_by_its_mark() {
    let film = Film { repeats_after: Some(5), ..Film::new(10, 8) };
    let detection = detected(&film, &Copy::of(&film, seconds(5.0..9.0, 1.0)));
    let [span] = detection.spans[..] else { panic!("{:?}", detection.spans) };
    assert!((span.archive_at(0.0) - 5.0).abs() < 0.05, "{span:?}");
    let (right, wrong, _) = told(&film, &detection);
    assert!(right >= 15 && wrong == 0, "{right} right, {wrong} wrong");
}

/// What the archive lacks is found at another place of it that looks somewhat alike: it must not be read there.
#[test]
fn a_part_that_the_archive_lacks_is_not_read_elsewhere() {
    let film = Film { repeats_after: Some(6), other: 0.6, ..Film::new(14, 9) };
    let archive = Part::of(&film, |gop| gop >= 4);
    let detection = detect(&archive, &Copy::of(&film, seconds(0.0..10.0, 1.0)), &mut |_| {}).unwrap();
    let early = detection.observations.iter().filter(|seen| seen.at_s < 3.5).count();
    let (right, wrong, _) = told(&film, &detection);
    assert!(early == 0 && right >= 20 && wrong == 0, "{early} early, {right} right, {wrong} wrong");
}

/// The end of the first showing and the beginning of the second, of which alone there is an archive: the pictures of the
/// former are there, its mark is not.
#[test]
fn a_showing_that_is_not_archived_is_not_read_from_another() {
    let film = Film { repeats_after: Some(8), ..Film::new(16, 10) };
    let archive = Part::of(&film, |gop| gop >= 8);
    let detection = detect(&archive, &Copy::of(&film, seconds(3.0..13.0, 1.0)), &mut |_| {}).unwrap();
    let early = detection.observations.iter().filter(|seen| seen.at_s < 4.5).count();
    let (right, wrong, _) = told(&film, &detection);
    assert!(early == 0 && right >= 16 && wrong == 0, "{early} early, {right} right, {wrong} wrong");

    let detection = detect(&archive, &Copy::of(&film, seconds(0.0..8.0, 1.0)), &mut |_| {}).unwrap();
    let (right, wrong, unclear) = told(&film, &detection);
    assert!((right + wrong) * 10 <= unclear, "{right} right, {wrong} wrong, {unclear} unclear");
    let keys = (Key::new(1, [1; 32]), Key::new(1, [2; 32]));
    let ids: Vec<WatermarkId> = (0..1_000).map(WatermarkId).collect();
    let tried = Tried { viewers: 1_000, alignments: 1, look: 1 };
    let report = judge(&Codebook::new(&keys.0, &keys.1), &ids, &detection.evidence().unwrap(), tried, 1);
    assert_eq!(report.verdict, Verdict::NotOurs);
}

/// Pictures that fall into a hole are nobody's, least of all the next GOP's.
#[test]
fn an_archive_with_holes_is_read_where_it_is_whole() {
    let film = Film::new(14, 11);
    let holes = [3, 4, 8, 10];
    let archive = Part::of(&film, |gop| !holes.contains(&gop));
    let detection = detect(&archive, &Copy::of(&film, seconds(1.0..13.0, 1.0)), &mut |_| {}).unwrap();
    let [span] = detection.spans[..] else { panic!("{:?}", detection.spans) };
    assert!((span.archive_at(0.0) - 1.0).abs() < 0.03, "{span:?}");
    for seen in &detection.observations {
        let gop = film.gops.iter().find(|gop| gop.id == seen.position.gop).unwrap();
        let right = gop.start_s - 0.11..gop.end_s + 0.01;
        assert!(right.contains(&(seen.at_s + 1.0)), "{} s shows {}", seen.at_s, gop.start_s);
    }
    let (right, wrong, _) = told(&film, &detection);
    assert!(right >= 30 && wrong == 0, "{right} right, {wrong} wrong");
}

/// Variances are honest where there is nothing to read: few readings are clear, and their squares are what they say.
#[test]
fn an_unmarked_copy_says_nothing() {
    let film = Film::new(9, 5);
    let copy = Copy { marked: false, ..Copy::of(&film, seconds(0.0..9.0, 1.0)) };
    let detection = detected(&film, &copy);
    assert_eq!(detection.observations.len(), 36);
    let (right, wrong, unclear) = told(&film, &detection);
    assert!(unclear >= 33, "{right} + {wrong} of 36 are clear");
    let square = |seen: &releve_watermark::score::Observation| seen.soft * seen.soft / seen.variance;
    let mean = detection.observations.iter().map(square).sum::<f64>() / 36.0;
    assert!((0.2..2.5).contains(&mean), "mean square {mean}");
}

#[test]
fn another_film_is_from_nowhere_or_says_nothing() {
    let (film, other) = (Film::new(8, 6), Film::new(8, 7));
    let detection = detected(&film, &Copy::of(&other, seconds(1.0..6.0, 1.0)));
    let clear =
        detection.observations.iter().filter(|seen| seen.soft * seen.soft > 9.0 * seen.variance).count();
    assert!(clear * 10 <= detection.observations.len(), "{clear} of {}", detection.observations.len());
    let nothing = Copy::of(&other, std::iter::empty());
    let detection = detected(&film, &nothing);
    assert_eq!((detection.seconds, detection.spans.len(), detection.observations.len()), (0.0, 0, 0));
}

/// A film in two encodings: the same pictures, the same symbols, and a mark of its own in each.
struct Ladder {
    first: Film,
    lower: Film,
}

impl Ladder {
    fn new(seconds: usize, seed: u64) -> Ladder {
        let first = Film::new(seconds, seed);
        Ladder { lower: Film { seed: mixed(first.seed), ..first.clone() }, first }
    }
}

impl References for Ladder {
    fn gops(&self) -> &[Gop] {
        self.first.gops()
    }

    fn pictures(
        &self,
        gops: Range<usize>,
        choice: Choice,
        w: usize,
        h: usize,
    ) -> Result<Pictures, PictureError> {
        self.first.pictures(gops, choice, w, h)
    }

    fn beside(&self) -> Vec<&dyn References> {
        vec![&self.lower]
    }
}

/// One copy up to a picture, another from there on.
struct Changed(Copy, usize, Copy);

impl Clip for Changed {
    fn pictures(&self, width: usize, height: usize) -> Result<Pictures, PictureError> {
        let Changed(one, at, other) = self;
        let (one, other) = (one.pictures(width, height)?, other.pictures(width, height)?);
        Ok(Box::new(one.take(*at).chain(other.skip(*at))))
    }
}

/// Whichever encoding a viewer's player took, and when it changed over, each symbol is read, and once.
#[test]
fn a_copy_of_any_encoding_is_read_and_no_symbol_twice() {
    let ladder = Ladder::new(8, 12);
    let copy = |film: &Film| Copy::of(film, seconds(1.0..7.0, 1.0));
    let whole = |film: &Film| Changed(copy(film), 60, copy(film));
    let changed = Changed(copy(&ladder.first), 30, copy(&ladder.lower));
    let kept = Kept::new(&ladder);
    for (name, clip) in [("first", whole(&ladder.first)), ("lower", whole(&ladder.lower)), ("both", changed)]
    {
        let detection = detect(&kept, &clip, &mut |_| {}).unwrap();
        let (right, wrong, unclear) = told(&ladder.first, &detection);
        assert!(right >= 22 && wrong == 0, "{name}: {right} right, {wrong} wrong, {unclear} unclear");
        let positions: std::collections::BTreeSet<_> =
            detection.observations.iter().map(|seen| seen.position).collect();
        assert_eq!(positions.len(), detection.observations.len(), "{name}");
    }
    let alone = detect(&ladder.first, &copy(&ladder.lower), &mut |_| {}).unwrap();
    let (right, wrong, _) = told(&ladder.first, &alone);
    assert!(right < 6, "the first encoding alone would tell {right} right, {wrong} wrong of the lower one");
}
