//! The pattern: from a decoded luma plane to the two planes that the variants are coded from.
//!
//! In: luma samples, what part of them is shown, a seed, a strength. Out: A = luma + pattern and B = luma − pattern.
//! Pure and integers only: every node makes the same samples from the same picture.
//!
//! The pattern is a random grid of ±1 cells, 32 rows high in a picture of 720 and scaled with the height, so that all
//! renditions of a source share its geometry. The mean of 5×5 cells is taken off, what is left is interpolated smoothly
//! and weighed by what hides it: variance of 8×8 samples and luminance. Its values live on a grid of 8×8 samples and are
//! interpolated to every sample in 1/64 levels; a fixed dither turns fractions of a level into samples.
//!
//! The seed belongs to one GOP of one source (`PatternSeed::derive`), so no pattern is ever seen twice, and it can be
//! handed to a process that must not know the key. Samples outside the shown rows stay as they are.

use crate::key::Key;
use crate::position::GopId;
use ring::hmac;
use std::ops::Range;
use thiserror::Error;

/// Strength unless the operator says otherwise, in 1/100 luma levels.
pub const STRENGTH_DEFAULT: u16 = 35;
/// Strongest pattern, in 1/100 luma levels: more than this is plainly visible.
pub const STRENGTH_MAX: u16 = 200;
/// Most samples a side.
pub const SIDE_MAX: usize = 8192;

/// Furthest that a sample moves, in 1/64 levels.
const SHIFT_MAX: i32 = 3 * 64;
/// Side of the square that one value of the field covers, in samples.
const STEP: usize = 8;
/// Rows of a cell in a picture of `CELL_OF_ROWS` rows.
const CELL_ROWS: usize = 32;
/// See `CELL_ROWS`.
const CELL_OF_ROWS: usize = 720;
/// Smallest cell, in 1/256 samples: two values of the field.
const CELL_MIN_Q8: usize = 16 << 8;
/// Side of the dither tile, in samples.
const TILE: usize = 64;

/// What a GOP's pattern is drawn from.
#[derive(Clone, PartialEq, Eq)]
pub struct PatternSeed(pub [u8; 32]);

impl PatternSeed {
    /// HMAC-SHA256(pattern key, label ‖ gop id).
    pub fn derive(pattern: &Key, gop: GopId) -> PatternSeed {
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, pattern.secret()));
        mac.update(b"releve pattern 1\0");
        mac.update(&gop.0);
        let mut seed = [0; 32];
        seed.copy_from_slice(mac.sign().as_ref());
        PatternSeed(seed)
    }

    /// `height` rows of `width` cells, ±64. Row r is the bits of HMAC-SHA256(seed, label ‖ r ‖ block), highest bit of
    /// each byte first, 256 cells a block: wider and higher pictures have more cells, never other ones.
    fn cells(&self, width: usize, height: usize) -> Vec<i32> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut cells = Vec::with_capacity(width * height);
        for (row, _) in (0u32..).zip(0..height) {
            for (block, first) in (0u32..).zip((0..width).step_by(256)) {
                let mut mac = hmac::Context::with_key(&key);
                mac.update(b"releve cells 1\0");
                mac.update(&row.to_be_bytes());
                mac.update(&block.to_be_bytes());
                let bits = mac.sign();
                let bits =
                    bits.as_ref().iter().flat_map(|byte| (0..8).map(move |bit| byte << bit & 0x80 != 0));
                cells.extend(bits.take(width - first).map(|set| if set { 64 } else { -64 }));
            }
        }
        cells
    }
}

impl std::fmt::Debug for PatternSeed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PatternSeed(***)")
    }
}

/// A decoded luma plane and the part of it that is shown.
#[derive(Clone, Copy, Debug)]
pub struct Luma<'a> {
    /// `width × height` samples, rows from the top, no padding.
    pub samples: &'a [u8],
    /// Coded width, a multiple of 8.
    pub width: usize,
    /// Coded height, a multiple of 8.
    pub height: usize,
    /// First shown column; the cells are counted from it.
    pub left: usize,
    /// First shown row; the cells are counted from it.
    pub top: usize,
    /// Shown rows.
    pub rows: usize,
}

/// What `embed` does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EmbedError {
    /// Sides that are no multiple of 8, too long, or do not match the samples.
    #[error("a plane of {width} x {height} with {samples} samples cannot carry a pattern")]
    Shape {
        /// Width claimed.
        width: usize,
        /// Height claimed.
        height: usize,
        /// Samples given.
        samples: usize,
    },
    /// Shown rows outside the plane, or none.
    #[error("rows {top} to {top} + {rows} are not inside a plane of {height} rows")]
    Rows {
        /// First shown row.
        top: usize,
        /// Shown rows.
        rows: usize,
        /// Rows there are.
        height: usize,
    },
    /// Over `STRENGTH_MAX`.
    #[error("strength {0} is over {STRENGTH_MAX} hundredths of a level")]
    Strength(u16),
}

/// The planes that A and B are coded from. `strength` is in 1/100 luma levels.
///
/// # Errors
/// Names what does not fit; never panics.
pub fn embed(luma: &Luma<'_>, seed: &PatternSeed, strength: u16) -> Result<(Vec<u8>, Vec<u8>), EmbedError> {
    embed_rows(luma, seed, strength, 0..luma.height)
}

/// These rows of the planes that A and B are coded from, so that parts of a picture can be made at once: each has room for
/// its chroma behind it (4:2:0).
///
/// # Errors
/// As `embed`; `Rows` too where they are not rows of the plane.
pub fn embed_rows(
    luma: &Luma<'_>,
    seed: &PatternSeed,
    strength: u16,
    rows: Range<usize>,
) -> Result<(Vec<u8>, Vec<u8>), EmbedError> {
    luma.check(strength)?;
    if rows.is_empty() || rows.end > luma.height {
        let count = rows.end.saturating_sub(rows.start);
        return Err(EmbedError::Rows { top: rows.start, rows: count, height: luma.height });
    }
    let (width, columns, lines) = (luma.width, luma.width / STEP, luma.height / STEP);
    let first_line = between(rows.start, lines).0;
    let field = field(luma, seed, strength, first_line..between(rows.end - 1, lines).1 + 1);
    let mut values = vec![0i16; columns + 2];
    // Filled row by row: what is written is in the cache, and no sample is copied only to be written over.
    let room = width * rows.len() * 3 / 2;
    let mut variants = [Vec::with_capacity(room), Vec::with_capacity(room)];
    let given = luma.samples[rows.start * width..rows.end * width].chunks_exact(width);
    for (y, samples) in rows.zip(given) {
        if !(luma.top..luma.top + luma.rows).contains(&y) {
            variants.iter_mut().for_each(|variant| variant.extend_from_slice(samples));
            continue;
        }
        // The field's values sit in the middle of their squares; outside the outermost ones they repeat.
        let (above, below, weight) = between(y, lines);
        let line = |line: usize| &field[(line - first_line) * columns..][..columns];
        for ((value, &above), &below) in values[1..].iter_mut().zip(line(above)).zip(line(below)) {
            *value = ((above * (16 - weight) + below * weight) >> 4) as i16;
        }
        (values[0], values[columns + 1]) = (values[1], values[columns]);
        let from = variants[0].len();
        variants.iter_mut().for_each(|variant| variant.resize(from + width, 0));
        let [a, b] = &mut variants;
        shift_row(samples, &values, &DITHER[y % TILE], &mut a[from..], &mut b[from..]);
    }
    Ok(variants.into())
}

impl Luma<'_> {
    fn check(&self, strength: u16) -> Result<(), EmbedError> {
        let side = |side: usize| side > 0 && side <= SIDE_MAX && side.is_multiple_of(STEP);
        if !side(self.width) || !side(self.height) || self.samples.len() != self.width * self.height {
            return Err(EmbedError::Shape {
                width: self.width,
                height: self.height,
                samples: self.samples.len(),
            });
        }
        let last = self.top.checked_add(self.rows);
        if self.rows == 0 || last.is_none_or(|last| last > self.height) {
            return Err(EmbedError::Rows { top: self.top, rows: self.rows, height: self.height });
        }
        if strength > STRENGTH_MAX { Err(EmbedError::Strength(strength)) } else { Ok(()) }
    }
}

/// One row of both variants. `values` has one value for each square and one more at either end.
///
/// Wrapping arithmetic, because checks keep the compiler from using vectors; nothing wraps: values are at most
/// `SHIFT_MAX`, so no term exceeds 16 · 192 + 384 · 15, and no level 255 · 64 + 63 + 192.
fn shift_row(samples: &[u8], values: &[i16], dither: &[i16; TILE], a: &mut [u8], b: &mut [u8]) {
    let variants = a.chunks_mut(TILE).zip(b.chunks_mut(TILE));
    for (tile, (samples, (a, b))) in samples.chunks(TILE).zip(variants).enumerate() {
        let shifts = shifts(&values[tile * (TILE / STEP)..]);
        let given = samples.iter().zip(dither).zip(&shifts);
        for (((&sample, &dither), &shift), (a, b)) in given.zip(a.iter_mut().zip(b)) {
            let level = i16::from(sample).wrapping_mul(64).wrapping_add(dither);
            *a = (level.wrapping_add(shift) >> 6).clamp(0, 255) as u8;
            *b = (level.wrapping_sub(shift) >> 6).clamp(0, 255) as u8;
        }
    }
}

/// The values of one row between those in the middle of the squares, in 1/64 levels; as many as `values` reaches.
fn shifts(values: &[i16]) -> [i16; TILE] {
    const NEAR: [i16; STEP] = [9, 11, 13, 15, 1, 3, 5, 7];
    let mut shifts = [0; TILE];
    for (shifts, values) in shifts.as_chunks_mut::<STEP>().0.iter_mut().zip(values.windows(3)) {
        // Samples 0–3 of a square lie between the value to the left and its own, 4–7 between its own and the right one.
        let (left, here, right) = (values[0], values[1], values[2]);
        let (from, to) = ([left, left, left, left, here, here, here, here], [here, right]);
        for (place, shift) in shifts.iter_mut().enumerate() {
            let (from, to) = (from[place], to[place / (STEP / 2)]);
            *shift = from.wrapping_mul(16).wrapping_add(to.wrapping_sub(from).wrapping_mul(NEAR[place])) >> 4;
        }
    }
    shifts
}

/// The two field rows (or columns) that sample `at` lies between, and the weight of the second in sixteenths.
fn between(at: usize, squares: usize) -> (usize, usize, i32) {
    let sixteenths = 2 * at as i32 + 1 - STEP as i32;
    let first = sixteenths >> 4;
    let inside = |index: i32| index.clamp(0, squares as i32 - 1) as usize;
    (inside(first), inside(first + 1), sixteenths & 15)
}

/// What each square of 8×8 samples in these lines of squares is shifted by, in 1/64 levels.
fn field(luma: &Luma<'_>, seed: &PatternSeed, strength: u16, lines: Range<usize>) -> Vec<i32> {
    let columns = luma.width / STEP;
    let grid = Grid::new(luma, seed);
    let middle = |square: usize, first: usize| grid.cell((square * STEP + STEP / 2).saturating_sub(first));
    let across: Vec<_> = (0..columns).map(|column| middle(column, luma.left)).collect();
    let mut field = Vec::with_capacity(columns * lines.len());
    let mut sums = vec![Sums::default(); columns];
    let square_rows = luma.width * STEP;
    let given = luma.samples[lines.start * square_rows..lines.end * square_rows].chunks_exact(square_rows);
    for (line, rows) in lines.zip(given) {
        let down = middle(line, luma.top);
        add_up(rows, luma.width, &mut sums);
        for (&across, sums) in across.iter().zip(&sums) {
            // The grid's rms is about 45 of 64, so 142 % make it one.
            let shift = ((grid.at(across, down) * gain(*sums) * 142 / 100) * i32::from(strength) / 100) >> 8;
            field.push(shift.clamp(-SHIFT_MAX, SHIFT_MAX));
        }
    }
    field
}

/// Of one square's 64 samples.
#[derive(Clone, Copy, Default)]
struct Sums {
    levels: u32,
    squares: u32,
}

/// Sums of each square of one line. Rows are added up first, sample by sample: that is what vectors do well.
///
/// Nothing wraps (see `shift_row` for why it may): 8 · 255 fit into 16 bits, 64 · 255² into 32.
fn add_up(rows: &[u8], width: usize, sums: &mut [Sums]) {
    const AT_ONCE: usize = 2 * STEP;
    let rows: [&[u8]; STEP] = std::array::from_fn(|row| &rows[row * width..][..width]);
    for (square, sums) in sums.chunks_mut(AT_ONCE / STEP).enumerate() {
        let (mut levels, mut squares) = ([0u16; AT_ONCE], [0u32; AT_ONCE]);
        for row in rows {
            let row = &row[square * AT_ONCE..];
            for ((&sample, level), squares) in row.iter().zip(&mut levels).zip(&mut squares) {
                *level = level.wrapping_add(sample.into());
                *squares = squares.wrapping_add(u32::from(sample).wrapping_mul(sample.into()));
            }
        }
        for (place, sums) in sums.iter_mut().enumerate() {
            let here = place * STEP..(place + 1) * STEP;
            sums.levels = levels[here.clone()].iter().fold(0, |sum, &level| sum.wrapping_add(level.into()));
            sums.squares = squares[here].iter().fold(0, |sum, &square| sum.wrapping_add(square));
        }
    }
}

/// How much the eye forgives here, in 1/256: texture hides, darkness and white show.
fn gain(Sums { levels, squares }: Sums) -> i32 {
    let mean = (levels / 64) as i32;
    let variance = (squares / 64).saturating_sub((levels / 64) * (levels / 64));
    let texture = (154 + (variance << 8).isqrt() as i32).min(512); // 0.6 + deviation / 16, at most 2
    let dark = ((mean - 10) * 256 / 50).clamp(64, 256);
    let bright = ((250 - mean) * 256 / 20).clamp(0, 256);
    (((texture * dark) >> 8) * bright) >> 8
}

/// The random cells, their local mean taken off.
struct Grid {
    cells: Vec<i32>,
    width: usize,
    /// Side of a cell in 1/256 samples.
    side_q8: usize,
}

impl Grid {
    fn new(luma: &Luma<'_>, seed: &PatternSeed) -> Grid {
        let side_q8 = (((luma.rows * CELL_ROWS) << 8) / CELL_OF_ROWS).max(CELL_MIN_Q8);
        let (width, height) = ((luma.width << 8) / side_q8 + 3, (luma.height << 8) / side_q8 + 3);
        let raw = seed.cells(width, height);
        let near = |at: usize, off: usize, size: usize| (at + off).saturating_sub(2).min(size - 1);
        let cells = (0..raw.len())
            .map(|index| {
                let (x, y) = (index % width, index / width);
                let around: i32 =
                    (0..25).map(|off| raw[near(y, off / 5, height) * width + near(x, off % 5, width)]).sum();
                raw[index] - around / 25
            })
            .collect();
        Grid { cells, width, side_q8 }
    }

    /// The pattern there, about ±64.
    fn at(&self, (column, across): (usize, i32), (line, down): (usize, i32)) -> i32 {
        let row = |line: usize| {
            let cells = &self.cells[line * self.width + column..][..2];
            cells[0] * (256 - across) + cells[1] * across
        };
        (row(line) * (256 - down) + row(line + 1) * down) >> 16
    }

    /// The cell that a sample lies in, counted from the first shown one, and how far towards the next on a smooth step,
    /// in 1/256.
    fn cell(&self, at: usize) -> (usize, i32) {
        let (cell, rest) = ((at << 8) / self.side_q8, (at << 8) % self.side_q8);
        let t = (rest * 256 / self.side_q8) as i32;
        (cell, (t * t * (3 * 256 - 2 * t)) >> 16)
    }
}

/// Fixed noise of 0 to 63, the same in every picture: no part of the mark.
static DITHER: [[i16; TILE]; TILE] = dither();

const fn dither() -> [[i16; TILE]; TILE] {
    let mut tile = [[0; TILE]; TILE];
    let mut y = 0;
    while y < TILE {
        let mut x = 0;
        while x < TILE {
            tile[y][x] = (mixed((y as u64) << 32 | x as u64) & 63) as i16;
            x += 1;
        }
        y += 1;
    }
    tile
}

/// SplitMix64's output function.
const fn mixed(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The same, sample by sample as the definition says it.
    fn plain(luma: &Luma<'_>, seed: &PatternSeed, strength: u16) -> (Vec<u8>, Vec<u8>) {
        let (columns, lines) = (luma.width / STEP, luma.height / STEP);
        let field = field(luma, seed, strength, 0..lines);
        let (mut a, mut b) = (luma.samples.to_vec(), luma.samples.to_vec());
        for y in luma.top..luma.top + luma.rows {
            let (above, below, down) = between(y, lines);
            for x in 0..luma.width {
                let (left, right, across) = between(x, columns);
                let at = |column: usize| {
                    (field[above * columns + column] * (16 - down) + field[below * columns + column] * down)
                        >> 4
                };
                let shift = (at(left) * (16 - across) + at(right) * across) >> 4;
                let dither = (mixed(((y % 64) as u64) << 32 | (x % 64) as u64) & 63) as i32;
                let index = y * luma.width + x;
                let level = i32::from(luma.samples[index]) * 64 + dither;
                a[index] = ((level + shift) >> 6).clamp(0, 255) as u8;
                b[index] = ((level - shift) >> 6).clamp(0, 255) as u8;
            }
        }
        (a, b)
    }

    fn noise(width: usize, height: usize, seed: u64, low: u8, high: u8) -> Vec<u8> {
        let span = u64::from(high - low) + 1;
        (0..width * height).map(|i| low + (mixed(seed ^ i as u64) % span) as u8).collect()
    }

    fn whole(samples: &[u8], width: usize, height: usize) -> Luma<'_> {
        Luma { samples, width, height, left: 0, top: 0, rows: height }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_fast_rows_are_the_plain_ones(
            columns in 1usize..30, lines in 1usize..20, content: u64, seed: [u8; 32], strength in 0u16..=STRENGTH_MAX,
            low in 0u8..200, span in 0u8..=55, left in 0usize..9, top in 0usize..8, cut in 0usize..8,
            cut_at: proptest::sample::Index,
        ) {
            let (width, height) = (columns * STEP, lines * STEP);
            let samples = noise(width, height, content, low, low + span);
            let rows = (height - top).saturating_sub(cut).max(1);
            let luma = Luma { samples: &samples, width, height, left, top, rows };
            let seed = PatternSeed(seed);
            let (a, b) = plain(&luma, &seed, strength);
            // As two parts that meet anywhere.
            let middle = cut_at.index(height + 1);
            let mut made = (Vec::new(), Vec::new());
            for rows in [0..middle, middle..height].into_iter().filter(|rows| !rows.is_empty()) {
                let part = embed_rows(&luma, &seed, strength, rows).unwrap();
                made.0.extend(part.0);
                made.1.extend(part.1);
            }
            prop_assert!(made == (a, b), "in parts that meet at {middle}");
            prop_assert_eq!(embed(&luma, &seed, strength).unwrap(), made);
        }
    }

    #[test]
    fn a_and_b_lie_on_either_side_and_hidden_rows_stay() {
        let samples = noise(320, 192, 5, 60, 180);
        let luma = Luma { rows: 180, ..whole(&samples, 320, 192) };
        let (a, b) = embed(&luma, &PatternSeed([3; 32]), 100).unwrap();
        assert_eq!(a[180 * 320..], samples[180 * 320..]);
        assert_eq!(b[180 * 320..], samples[180 * 320..]);
        let shown = 180 * 320;
        let moved = |plane: &[u8]| {
            (0..shown).map(|i| (i64::from(plane[i]) - i64::from(samples[i])).abs()).sum::<i64>()
        };
        let apart =
            (0..shown).map(|i| (i64::from(a[i]) - i64::from(b[i])).pow(2)).sum::<i64>() as f64 / shown as f64;
        assert!(moved(&a) > 0 && moved(&b) > 0);
        assert!((1.5..7.0).contains(&apart.sqrt()), "rms(A - B) is {}", apart.sqrt());
        assert!((0..shown).all(|i| a[i].abs_diff(samples[i]) <= 4 && b[i].abs_diff(samples[i]) <= 4));
        let mean: i64 = (0..shown).map(|i| i64::from(a[i]) - i64::from(b[i])).sum();
        assert!(mean.abs() < shown as i64 / 3, "brightness moves by {mean} of {shown}");
    }

    #[test]
    fn strength_nought_changes_nothing() {
        let samples = noise(64, 64, 5, 0, 255);
        let (a, b) = embed(&whole(&samples, 64, 64), &PatternSeed([3; 32]), 0).unwrap();
        assert_eq!((&a, &b), (&samples, &samples));
    }

    /// Same seed, half the size: the signs of the pattern agree nearly everywhere.
    #[test]
    fn renditions_share_the_geometry() {
        let (large, small) = (vec![128; 1280 * 720], vec![128; 640 * 360]);
        let seed = PatternSeed([9; 32]);
        let one = field(&whole(&large, 1280, 720), &seed, 100, 0..90);
        let two = field(&whole(&small, 640, 360), &seed, 100, 0..45);
        let (mut same, mut all) = (0, 0);
        for line in 0..45 {
            for column in 0..80 {
                let mean: i32 =
                    [0, 1, 160, 161].iter().map(|off| one[2 * line * 160 + 2 * column + off]).sum();
                let other = two[line * 80 + column];
                if mean.abs() > 40 && other.abs() > 10 {
                    all += 1;
                    same += i32::from(mean.signum() == other.signum());
                }
            }
        }
        assert!(all > 1_500 && same * 100 > all * 97, "{same} of {all}");
    }

    /// Any change here changes the bytes of marked streams: a new label version must come with it.
    #[test]
    fn known_answer() {
        let samples = noise(128, 96, 7, 0, 255);
        let seed = PatternSeed::derive(&Key::new(1, [0x33; 32]), GopId([7; 16]));
        let (a, b) = embed(&Luma { rows: 90, ..whole(&samples, 128, 96) }, &seed, 35).unwrap();
        let hash =
            |plane: &[u8]| hex::encode(&ring::digest::digest(&ring::digest::SHA256, plane).as_ref()[..8]);
        assert_eq!((hash(&a).as_str(), hash(&b).as_str()), ("5b39777f31a9b8b6", "efa1603f6c50711e"));
    }

    #[test]
    fn every_gop_and_key_has_its_own_pattern() {
        let key = Key::new(1, [1; 32]);
        let seed = PatternSeed::derive(&key, GopId([1; 16]));
        assert_eq!(seed, PatternSeed::derive(&key, GopId([1; 16])));
        assert_ne!(seed, PatternSeed::derive(&key, GopId([2; 16])));
        assert_ne!(seed, PatternSeed::derive(&Key::new(1, [2; 32]), GopId([1; 16])));
        assert_eq!(format!("{seed:?}"), "PatternSeed(***)");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let samples = vec![0; 64];
        let good = whole(&samples, 8, 8);
        let seed = PatternSeed([0; 32]);
        assert!(embed(&good, &seed, 35).is_ok());
        let long = vec![90; SIDE_MAX * 8];
        assert!(embed(&whole(&long, SIDE_MAX, 8), &seed, 35).is_ok());
        assert!(embed(&whole(&long, 8, SIDE_MAX), &seed, 35).is_ok());
        assert!(matches!(
            embed(&Luma { width: 9, ..good }, &seed, 35),
            Err(EmbedError::Shape { width: 9, .. })
        ));
        assert!(matches!(embed(&Luma { height: 16, ..good }, &seed, 35), Err(EmbedError::Shape { .. })));
        assert!(matches!(embed(&Luma { rows: 9, ..good }, &seed, 35), Err(EmbedError::Rows { .. })));
        assert!(matches!(embed(&Luma { rows: 0, ..good }, &seed, 35), Err(EmbedError::Rows { .. })));
        assert!(matches!(embed(&Luma { top: usize::MAX, ..good }, &seed, 35), Err(EmbedError::Rows { .. })));
        assert_eq!(embed(&good, &seed, 201), Err(EmbedError::Strength(201)));
    }
}
