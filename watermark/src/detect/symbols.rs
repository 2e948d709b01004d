//! The slice symbols of one GOP, all at once: a least-squares fit of the variants' difference to what the copy shows.
//!
//! In: residual pictures of the copy, and the difference of the variants at the same times, both through the same sieve
//! (`light`). Out: a soft value and a variance for each slice. Pure.
//!
//! Motion carries a slice's mark into its neighbours' rows. The archive is decoded with A in every fourth slice only, too: so
//! the difference falls into four parts, and within a part a slice's mark may stray by one and a half slices before it
//! could be taken for another's. Where parts overlap, the fit sorts them.
//!
//! A coder short of bits leaves a still scene as it is: the copy then goes on showing the mark of the GOP before. That
//! mark's slices are unknowns of their own, which are solved for and not used.
//!
//! A fit's own variance would only hold for noise without shape. So the same fit is made with the difference shifted
//! sideways, where it cannot match, and the variance is raised to what those fits scatter by. A wrong registration makes
//! the true fit such a shifted one: it then says nothing with much variance.

use super::frame::CLASSES;
use super::plane::{Plane, cholesky, dot, substitute};
use crate::threads;

/// Sideways shifts that the scatter is measured with, in samples of a grid 320 wide; a cell of the pattern is 8.
const SHIFTS: [usize; 12] = [24, 36, 52, 68, 84, 100, 220, 236, 252, 268, 284, 296];
/// Smallest noise of a sample, in levels²: rounding, on both sides.
const NOISE_MIN: f32 = 0.15;
/// Half the side of the square that noise is measured in.
const NOISE_RADIUS: usize = 4;
/// How far a slice that sees nothing is drawn to 0: part of the mean energy of a slice.
const RIDGE: f64 = 0.02;
/// Weight of a GOP's mean scatter against a slice's own, in shifts.
const PRIOR: f64 = 12.0;

/// One picture's part in a GOP's fit.
pub(crate) struct Shown {
    /// What the original does not explain.
    pub(crate) residual: Plane,
    /// A − B in each class of slices: of this GOP, and, where there is one, as the GOP before left it.
    pub(crate) marks: Vec<[Plane; CLASSES]>,
}

/// What was read of a slice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Soft {
    pub(crate) value: f64,
    /// +∞ where nothing is seen.
    pub(crate) variance: f64,
}

/// The soft symbols of the slices between these edges (parts of the height).
pub(crate) fn solve(shown: &[Shown], edges: &[f64]) -> Vec<Soft> {
    let slices = edges.len().saturating_sub(1);
    let blind = vec![Soft { value: 0.0, variance: f64::INFINITY }; slices];
    let Some(first) = shown.first() else { return blind };
    if slices == 0 {
        return blind;
    }
    let owners = Owners::new(edges, first.residual.height);
    let weights = weights(shown);
    let mut fit = Fit::new(slices * first.marks.len());
    for (picture, weight) in shown.iter().zip(&weights) {
        let weighted = picture.residual.zip(weight, |sample, weight| sample * weight);
        fit.add(&owners, picture, &weighted, weight);
    }
    let Some(values) = fit.solved() else { return blind };
    let scatter = scatter(shown, &weights, &owners, &values.0);
    let soft = |slice: usize| {
        if fit.energy(slice) <= 0.0 {
            return Soft { value: 0.0, variance: f64::INFINITY };
        }
        Soft { value: values.0[slice], variance: values.1[slice] * scatter[slice].max(1.0) }
    };
    (0..slices).map(soft).collect()
}

/// Which slice of each class a row's marks belong to.
struct Owners {
    slices: usize,
    of: [Vec<Option<usize>>; CLASSES],
}

impl Owners {
    fn new(edges: &[f64], height: usize) -> Owners {
        let slices = edges.len() - 1;
        // Within a class the border lies in the middle of the slices between.
        let of = |class: usize| {
            let row = |y: usize| {
                let at = (y as f64 + 0.5) / height as f64;
                let reach = |slice: usize| {
                    if slice + CLASSES < slices {
                        (edges[slice + 1] + edges[slice + CLASSES]) / 2.0
                    } else {
                        f64::INFINITY
                    }
                };
                (class..slices).step_by(CLASSES).find(|&slice| at < reach(slice))
            };
            (0..height).map(row).collect()
        };
        Owners { slices, of: std::array::from_fn(of) }
    }

    /// A row of each mark of a picture that is seen there, with the number of its unknown: this GOP's slices, then those of the
    /// one before.
    fn rows<'a>(&self, picture: &'a Shown, y: usize) -> Vec<(usize, &'a [f32])> {
        let of = |(gop, marks): (usize, &'a [Plane; CLASSES])| {
            let row = move |(owner, mark): (&Vec<Option<usize>>, &'a Plane)| {
                let row = mark.row(y);
                let slice = owner[y].filter(|_| row.iter().any(|&sample| sample != 0.0))?;
                Some((gop * self.slices + slice, row))
            };
            self.of.iter().zip(marks).filter_map(row).collect::<Vec<_>>()
        };
        picture.marks.iter().enumerate().flat_map(of).collect()
    }
}

/// One over the noise of each sample: by place over the whole GOP, and by picture.
fn weights(shown: &[Shown]) -> Vec<Plane> {
    let first = &shown[0].residual;
    let mut noise = Plane::new(first.width, first.height);
    for picture in shown {
        noise.data.iter_mut().zip(&picture.residual.data).for_each(|(sum, sample)| *sum += sample * sample);
    }
    let share = 1.0 / shown.len() as f32;
    let noise = noise.blurred(NOISE_RADIUS);
    let here = noise.zip(&noise, |sum, _| 1.0 / (sum * share + NOISE_MIN));
    let of_picture = |picture: &Shown| {
        let energy: f32 = picture
            .residual
            .data
            .iter()
            .zip(&here.data)
            .map(|(sample, weight)| sample * sample * weight)
            .sum();
        let mean = (energy / here.data.len() as f32).max(0.1);
        here.zip(&here, |weight, _| weight / mean)
    };
    shown.iter().map(of_picture).collect()
}

/// Normal equations of the slices' fit.
struct Fit {
    unknowns: usize,
    matrix: Vec<f64>,
    right: Vec<f64>,
}

impl Fit {
    fn new(unknowns: usize) -> Fit {
        Fit { unknowns, matrix: vec![0.0; unknowns * unknowns], right: vec![0.0; unknowns] }
    }

    fn add(&mut self, owners: &Owners, picture: &Shown, weighted: &Plane, weight: &Plane) {
        let n = self.unknowns;
        let mut scaled = vec![0.0; weight.width];
        for y in 0..weight.height {
            let rows = owners.rows(picture, y);
            for (index, &(i, mark)) in rows.iter().enumerate() {
                self.right[i] += f64::from(dot(mark, weighted.row(y)));
                scaled.iter_mut().zip(mark).zip(weight.row(y)).for_each(|((to, mark), w)| *to = mark * w);
                self.matrix[i * n + i] += f64::from(dot(mark, &scaled));
                for &(j, other) in &rows[..index] {
                    let both = f64::from(dot(other, &scaled));
                    self.matrix[i * n + j] += both;
                    self.matrix[j * n + i] += both;
                }
            }
        }
    }

    fn energy(&self, slice: usize) -> f64 {
        self.matrix[slice * self.unknowns + slice]
    }

    /// Values, and variances for noise of one.
    fn solved(&self) -> Option<(Vec<f64>, Vec<f64>)> {
        let n = self.unknowns;
        let mean = (0..n).map(|slice| self.energy(slice)).sum::<f64>() / n as f64;
        let mut matrix = self.matrix.clone();
        for slice in 0..n {
            matrix[slice * n + slice] += RIDGE * mean;
        }
        let lower = cholesky(&matrix, n)?;
        let variance = |slice| {
            let unit: Vec<f64> = (0..n).map(|other| f64::from(u8::from(other == slice))).collect();
            substitute(&lower, &unit)[slice]
        };
        Some((substitute(&lower, &self.right), (0..n).map(variance).collect()))
    }
}

/// How much wider fits that cannot match scatter than noise without shape would, for each slice.
fn scatter(shown: &[Shown], weights: &[Plane], owners: &Owners, values: &[f64]) -> Vec<f64> {
    let slices = owners.slices;
    // Of each shift, for each slice: right side and energy. Threads take shifts, so that sums keep their order.
    let sums: Vec<Vec<(f64, f64)>> =
        threads::each(SHIFTS.chunks(SHIFTS.len() / 2), threads::all(), |shifts| {
            shifted(shown, weights, owners, values, shifts)
        })
        .concat();
    let of = |slice: usize| {
        let ratios = sums.iter().map(|sums| sums[slice]).filter(|(_, energy)| *energy > 0.0);
        let ratios: Vec<f64> = ratios.map(|(right, energy)| right * right / energy).collect();
        (ratios.iter().sum::<f64>(), ratios.len() as f64)
    };
    let own: Vec<(f64, f64)> = (0..slices).map(of).collect();
    let (sum, count) = own.iter().fold((0.0, 0.0), |all, own| (all.0 + own.0, all.1 + own.1));
    let mean = if count > 0.0 { sum / count } else { 1.0 };
    own.iter().map(|(sum, count)| (sum + PRIOR * mean) / (count + PRIOR)).collect()
}

/// Right side and energy of each slice's fit, its mark shifted sideways by each of `shifts`.
fn shifted(
    shown: &[Shown],
    weights: &[Plane],
    owners: &Owners,
    values: &[f64],
    shifts: &[usize],
) -> Vec<Vec<(f64, f64)>> {
    let slices = owners.slices;
    let mut sums = vec![vec![(0.0f64, 0.0f64); slices]; shifts.len()];
    let mut rest = Vec::new();
    let mut scaled = Vec::new();
    for (picture, weight) in shown.iter().zip(weights) {
        for y in 0..weight.height {
            let rows = owners.rows(picture, y);
            rest.clear();
            rest.extend_from_slice(picture.residual.row(y));
            for &(unknown, mark) in &rows {
                let value = values[unknown] as f32;
                rest.iter_mut().zip(mark).for_each(|(rest, mark)| *rest -= value * mark);
            }
            rest.iter_mut().zip(weight.row(y)).for_each(|(rest, weight)| *rest *= weight);
            for (slice, part) in rows.into_iter().filter(|(unknown, _)| *unknown < slices) {
                scaled.clear();
                scaled.extend(part.iter().map(|part| part * part));
                let width = part.len();
                for (shift, sums) in shifts.iter().zip(&mut sums) {
                    let shift = shift * width / 320;
                    let turned = |row: &[f32], with: &[f32]| {
                        dot(&row[..width - shift], &with[shift..])
                            + dot(&row[width - shift..], &with[..shift])
                    };
                    sums[slice].0 += f64::from(turned(part, &rest));
                    sums[slice].1 += f64::from(turned(&scaled, weight.row(y)));
                }
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(seed: u64, i: usize) -> f32 {
        let z = (seed << 32 | i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let z = (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (z >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    const SLICES: usize = 8;
    /// Of a slice.
    const ROWS: usize = 10;
    const EDGES: [f64; SLICES + 1] = [0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0];

    /// The slice whose mark a row shows, of those of a class: motion has carried them down by `by` rows, and each reaches four
    /// more into the next one's.
    fn shown_at(y: usize, class: usize, by: usize) -> Option<usize> {
        (class..SLICES)
            .step_by(CLASSES)
            .find(|slice| (slice * ROWS + by..(slice + 1) * ROWS + by + 4).contains(&y))
    }

    /// Pictures that show so much of each slice's mark, in cells of 8 × 8.
    fn shown(amounts: [f32; SLICES], by: usize, noise: f32) -> Vec<Shown> {
        let mark = |class: usize| {
            let sample = |i: usize| {
                let (x, y) = (i % 320, i / 320);
                shown_at(y, class, by).map_or(0.0, |_| 4.0 * drawn(9 + class as u64, y / 8 * 40 + x / 8))
            };
            Plane { width: 320, height: 80, data: (0..320 * 80).map(sample).collect() }
        };
        let picture = |number: u64| {
            let marks: [Plane; CLASSES] = std::array::from_fn(mark);
            let mut residual = Plane::new(320, 80);
            for (i, sample) in residual.data.iter_mut().enumerate() {
                *sample = noise * drawn(100 + number, i);
                for (class, mark) in marks.iter().enumerate() {
                    *sample +=
                        shown_at(i / 320, class, by).map_or(0.0, |slice| amounts[slice] * mark.data[i]);
                }
            }
            Shown { residual, marks: vec![marks] }
        };
        (0..5).map(picture).collect()
    }

    #[test]
    fn overlapping_slices_are_told_apart_though_they_strayed_by_more_than_one() {
        let amounts = [0.5, -0.5, 0.25, 0.0, -0.5, 0.5, 0.5, -0.25];
        for by in [0, 5, 11] {
            for (soft, amount) in solve(&shown(amounts, by, 4.0), &EDGES).iter().zip(amounts) {
                // The last slices' rows have gone over the edge.
                let seen = soft.variance < 0.05;
                assert!(
                    !seen || (soft.value - f64::from(amount)).abs() < 0.06,
                    "{soft:?} for {amount}, by {by} rows"
                );
                assert!(soft.variance > 1e-6, "{soft:?}");
            }
            let softs = solve(&shown(amounts, by, 4.0), &EDGES);
            assert!(softs[..6].iter().all(|soft| soft.variance < 0.02), "by {by} rows: {softs:?}");
        }
    }

    #[test]
    fn noise_alone_stays_within_its_variance() {
        let softs = solve(&shown([0.0; SLICES], 0, 8.0), &EDGES);
        assert!(softs.iter().all(|soft| soft.value.powi(2) < 16.0 * soft.variance), "{softs:?}");
    }

    #[test]
    fn nothing_seen_is_an_erasure() {
        let blank = || Plane::new(320, 80);
        let shown = [Shown { residual: blank(), marks: vec![std::array::from_fn(|_| blank())] }];
        assert!(solve(&shown, &EDGES).iter().all(|soft| soft.variance == f64::INFINITY));
        assert!(solve(&[], &EDGES).iter().all(|soft| soft.variance == f64::INFINITY));
        assert!(solve(&shown, &[]).is_empty());
    }
}
