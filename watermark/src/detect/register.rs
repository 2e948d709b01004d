//! Where the original's points lie in the copy: refinement of a plane projective map.
//!
//! In: pairs of pictures (original, copy) that show the same moment, and a first guess. Out: a better map, and how well the
//! pictures agree under it. Pure.
//!
//! Inverse-free Gauss–Newton on all pairs at once, from coarse to fine: pictures are freed of local brightness and
//! contrast first, samples that disagree (logos, captions) lose weight. The steps follow Lucas and Kanade ("An iterative
//! image registration technique", 1981) in the forward additive form of Baker and Matthews (2004).

use super::homography::Homography;
use super::plane::{Plane, dot, solve};

/// Free entries of the map.
const ENTRIES: usize = 8;
/// Most steps a level.
const STEPS: usize = 12;
/// Half the side of the square that brightness and contrast are taken from, in samples of any level.
const LOCAL: usize = 7;
/// Contrast below which a place is flat, in levels².
const FLAT: f32 = 9.0;

/// Two pictures of the same moment at several sizes, brightness and contrast taken off.
pub(crate) struct Pair {
    /// From the working size down by halves.
    levels: Vec<Level>,
}

struct Level {
    original: Plane,
    copy: Plane,
    slope_x: Plane,
    slope_y: Plane,
}

impl Pair {
    /// Both at the working size; `levels` sizes are made.
    pub(crate) fn new(original: &Plane, copy: &Plane, levels: usize) -> Pair {
        let (mut original, mut copy) = (original.clone(), copy.clone());
        let mut made = Vec::with_capacity(levels);
        for level in 0..levels {
            let copy_flat = flattened(&copy.blurred(1));
            made.push(Level {
                original: flattened(&original.blurred(1)),
                slope_x: copy_flat.slope_x(),
                slope_y: copy_flat.slope_y(),
                copy: copy_flat,
            });
            if level + 1 < levels {
                (original, copy) = (original.halved(), copy.halved());
            }
        }
        Pair { levels: made }
    }
}

/// Local mean off, local deviation one; flat places near nought.
pub(crate) fn flattened(plane: &Plane) -> Plane {
    let mean = plane.blurred(LOCAL);
    let rest = plane.zip(&mean, |sample, mean| sample - mean);
    let variance = rest.zip(&rest, |x, y| x * y).blurred(LOCAL);
    rest.zip(&variance, |sample, variance| sample / (variance + FLAT).sqrt())
}

/// Refines `guess` (at the working size) from level `from` down to level `to`, 0 being the working size.
pub(crate) fn refine(pairs: &[Pair], guess: Homography, from: usize, to: usize) -> Homography {
    let mut map = guess;
    for level in (to..=from).rev() {
        let factor = f64::from(1u32 << level);
        let mut here = map.coarser(factor);
        for _ in 0..STEPS {
            let Some(step) = step(pairs, level, &here) else { break };
            let next = Homography(std::array::from_fn(|i| here.0[i] + step.get(i).copied().unwrap_or(0.0)));
            let size = pairs.first().map_or((1.0, 1.0), |pair| {
                let plane = &pair.levels[level].original;
                (plane.width as f64, plane.height as f64)
            });
            if !next.is_sane(size.0, size.1) {
                break;
            }
            let moved = [(0.0, 0.0), (size.0, 0.0), (0.0, size.1), size].map(|(x, y)| {
                let (one, other) = (here.map(x, y), next.map(x, y));
                (one.0 - other.0).abs().max((one.1 - other.1).abs())
            });
            here = next;
            if moved.iter().all(|&moved| moved < 0.01) {
                break;
            }
        }
        map = here.coarser(1.0 / factor);
    }
    map
}

/// Correlation of the original with the copy read through the map, over what both show, at a level; and the part of the
/// original that the copy shows.
pub(crate) fn agreement(pairs: &[Pair], map: &Homography, level: usize) -> (f64, f64) {
    let map = map.coarser(f64::from(1u32 << level));
    let (mut xy, mut xx, mut yy, mut seen, mut all) = (0.0f64, 0.0f64, 0.0f64, 0usize, 0usize);
    for pair in pairs {
        let level = &pair.levels[level];
        let stride = stride(level);
        for y in (0..level.original.height).step_by(stride) {
            for x in (0..level.original.width).step_by(stride) {
                all += 1;
                let (u, v) = map.map(x as f64, y as f64);
                let Some(copy) = level.copy.at(u as f32, v as f32) else { continue };
                let original = f64::from(level.original.data[y * level.original.width + x]);
                let copy = f64::from(copy);
                seen += 1;
                xy += original * copy;
                xx += original * original;
                yy += copy * copy;
            }
        }
    }
    let correlation = if xx > 0.0 && yy > 0.0 { xy / (xx * yy).sqrt() } else { 0.0 };
    (correlation, seen as f64 / all.max(1) as f64)
}

/// Samples skipped in fine levels: some thousands are enough.
fn stride(level: &Level) -> usize {
    (level.original.width / 160).max(1)
}

/// One Gauss–Newton step; `None` where the pictures do not determine it.
fn step(pairs: &[Pair], level: usize, map: &Homography) -> Option<Vec<f64>> {
    let mut normal = [0.0f64; ENTRIES * ENTRIES];
    let mut right = [0.0f64; ENTRIES];
    let mut errors = Vec::new();
    let mut rows: Vec<([f64; ENTRIES], f64)> = Vec::new();
    for pair in pairs {
        let level = &pair.levels[level];
        let stride = stride(level);
        rows.clear();
        for y in (0..level.original.height).step_by(stride) {
            for x in (0..level.original.width).step_by(stride) {
                let (px, py) = (x as f64, y as f64);
                let d = map.0[6] * px + map.0[7] * py + map.0[8];
                let (u, v) = map.map(px, py);
                let at = |plane: &Plane| plane.at(u as f32, v as f32).map(f64::from);
                let Some(copy) = at(&level.copy) else { continue };
                let (Some(gx), Some(gy)) = (at(&level.slope_x), at(&level.slope_y)) else { continue };
                let original = f64::from(level.original.data[y * level.original.width + x]);
                let (gx, gy) = (gx / d, gy / d);
                let along = -(gx * u + gy * v);
                rows.push((
                    [gx * px, gx * py, gx, gy * px, gy * py, gy, along * px, along * py],
                    original - copy,
                ));
            }
        }
        if rows.len() < 4 * ENTRIES {
            continue;
        }
        errors.clear();
        errors.extend(rows.iter().map(|(_, error)| error.abs()));
        let middle = errors.len() / 2;
        let (_, median, _) = errors.select_nth_unstable_by(middle, f64::total_cmp);
        let scale = (3.0 * *median).max(1e-3);
        for (row, error) in &rows {
            let weight = 1.0 / (1.0 + (error / scale).powi(2));
            for i in 0..ENTRIES {
                right[i] += weight * row[i] * error;
                for j in 0..=i {
                    normal[i * ENTRIES + j] += weight * row[i] * row[j];
                }
            }
        }
    }
    // Entries differ by orders of magnitude: the matrix is brought to a diagonal of one first.
    let sizes: Vec<f64> = (0..ENTRIES).map(|i| normal[i * ENTRIES + i].sqrt()).collect();
    if sizes.iter().any(|size| size.is_nan() || *size <= 0.0) {
        return None;
    }
    let mut scaled = vec![0.0; ENTRIES * ENTRIES];
    for i in 0..ENTRIES {
        for j in 0..ENTRIES {
            let entry = normal[i.max(j) * ENTRIES + i.min(j)];
            scaled[i * ENTRIES + j] = entry / (sizes[i] * sizes[j]) + if i == j { 1e-5 } else { 0.0 };
        }
    }
    let right: Vec<f64> = right.iter().zip(&sizes).map(|(right, size)| right / size).collect();
    let step = solve(&scaled, &right)?;
    Some(step.iter().zip(&sizes).map(|(step, size)| step / size).collect())
}

/// Rough guesses from nothing: scales, shifts and mirror images at the coarsest size, the best few that differ.
pub(crate) fn search(pairs: &[Pair], level: usize) -> Vec<Homography> {
    const SCALES: [f64; 10] = [0.36, 0.45, 0.56, 0.7, 0.8, 0.9, 1.0, 1.12, 1.25, 1.45];
    const KEPT: usize = 6;
    let mut found: Vec<(f32, Homography)> = Vec::new();
    let probes: Vec<&Level> = [pairs.len() / 4, pairs.len() / 2]
        .iter()
        .filter_map(|&at| pairs.get(at)?.levels.get(level))
        .collect();
    let Some(first) = probes.first() else { return Vec::new() };
    let (width, height) = (first.copy.width as isize, first.copy.height as isize);
    for scale in SCALES {
        for mirrored in [false, true] {
            // The copy's samples fall on the original scaled by `scale`, moved by whole samples of the copy.
            let scaled: Vec<Plane> =
                probes.iter().map(|level| rescaled(&level.original, scale, mirrored)).collect();
            let (columns, lines) = (scaled[0].width as isize, scaled[0].height as isize);
            let reach = |own: isize, other: isize| {
                let overlap = own.min(other) * 6 / 10;
                (overlap - own)..=(other - overlap)
            };
            let mut best = (f32::NEG_INFINITY, 0, 0);
            for top in reach(lines, height) {
                for left in reach(columns, width) {
                    let agreement = scaled
                        .iter()
                        .zip(&probes)
                        .map(|(original, level)| overlap(original, &level.copy, left, top))
                        .sum::<f32>();
                    if agreement > best.0 {
                        best = (agreement, left, top);
                    }
                }
            }
            let (left, top) = (best.1 as f64, best.2 as f64);
            let shift = 0.5 * scale - 0.5;
            let map = if mirrored {
                Homography::scale(-scale, scale, columns as f64 - 1.0 - shift + left, shift + top)
            } else {
                Homography::scale(scale, scale, shift + left, shift + top)
            };
            found.push((best.0, map.coarser(1.0 / f64::from(1u32 << level))));
        }
    }
    found.sort_by(|x, y| y.0.total_cmp(&x.0));
    found.into_iter().take(KEPT).map(|(_, map)| map).collect()
}

fn rescaled(plane: &Plane, scale: f64, mirrored: bool) -> Plane {
    let size = |side: usize| ((side as f64 * scale) as usize).max(4);
    let mut to = Plane::new(size(plane.width), size(plane.height));
    let (width, columns) = (to.width, plane.width as f32 - 1.0);
    for y in 0..to.height {
        for (x, sample) in to.row_mut(y).iter_mut().enumerate() {
            let x = if mirrored { width - 1 - x } else { x };
            let from = |at: usize| ((at as f64 + 0.5) / scale - 0.5).max(0.0) as f32;
            let (x, y) = (from(x).min(columns), from(y).min(plane.height as f32 - 1.0));
            *sample = plane.at(x, y).unwrap_or(0.0);
        }
    }
    to
}

/// Correlation where both are, the original's first sample lying on sample (left, top) of the copy.
fn overlap(original: &Plane, copy: &Plane, left: isize, top: isize) -> f32 {
    let from = (0.max(-left) as usize, 0.max(-top) as usize);
    let at = (0.max(left) as usize, 0.max(top) as usize);
    let columns = (original.width - from.0).min(copy.width - at.0);
    let lines = (original.height - from.1).min(copy.height - at.1);
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for line in 0..lines {
        let one = &original.row(from.1 + line)[from.0..][..columns];
        let other = &copy.row(at.1 + line)[at.0..][..columns];
        xy += dot(one, other);
        xx += dot(one, one);
        yy += dot(other, other);
    }
    // A little more than chance counts only on enough samples.
    xy / (xx * yy + 1.0).sqrt() * (1.0 - 8.0 / (columns * lines) as f32)
}
