//! What the copy did to the light: everything that the original explains, taken out, so that the mark remains.
//!
//! In: a picture of the copy on the original's grid, the original around that time. Out: residuals. Pure.
//!
//! In each block of `BLOCK_WIDTH` × `BLOCK_HEIGHT` samples the copy is fitted, by least squares, by seven pictures made
//! from the original: a constant (brightness), itself (contrast), its detail (blur and sharpening), its slopes across and
//! down (a rest of misregistration, to first order), its change in time (a rest of misalignment), and its change since the
//! GOP before (which a coder short of bits goes on showing). What is fitted is taken off. The difference of the variants goes through the same sieve, so that both sides of the later fit lost the same.

use super::plane::{Plane, cholesky, substitute};

/// Width of a block in samples: five cells of the pattern at the grid's 320.
const BLOCK_WIDTH: usize = 40;
/// Height of a block.
const BLOCK_HEIGHT: usize = 30;
/// Pictures that the copy is fitted by.
const TERMS: usize = 7;
/// Variance a term must have to count, in levels²: keeps flat blocks from fitting noise.
const RIDGE: f64 = 0.05;

/// The original at one time, ready to be taken off.
pub(crate) struct Light {
    terms: [Plane; TERMS],
    /// 1 where the copy can be seen, else 0.
    seen: Plane,
    /// Cholesky factors of the blocks' normal matrices; `None` where too little is seen.
    blocks: Vec<Option<Vec<f64>>>,
}

impl Light {
    /// The original's mean of A and B at a picture and at its neighbours in time, and where the GOP before ended.
    pub(crate) fn new(
        here: &Plane,
        before: &Plane,
        after: &Plane,
        left: Option<&Plane>,
        seen: &Plane,
    ) -> Light {
        let masked = |plane: Plane| plane.zip(seen, |sample, seen| sample * seen);
        let detail = here.zip(&here.blurred(1), |sample, blurred| sample - blurred);
        let terms = [
            seen.clone(),
            masked(here.zip(here, |sample, _| sample - 128.0)),
            masked(detail),
            masked(here.slope_x()),
            masked(here.slope_y()),
            masked(after.zip(before, |after, before| after - before)),
            masked(left.unwrap_or(here).zip(here, |left, here| left - here)),
        ];
        let mut light = Light { terms, seen: seen.clone(), blocks: Vec::new() };
        light.blocks = light.corners().map(|corner| light.normal(corner)).collect();
        light
    }

    fn corners(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let (width, height) = (self.seen.width, self.seen.height);
        (0..height)
            .step_by(BLOCK_HEIGHT)
            .flat_map(move |y| (0..width).step_by(BLOCK_WIDTH).map(move |x| (x, y)))
    }

    /// Σ over a block of x·y.
    fn sum(&self, (left, top): (usize, usize), one: &Plane, other: &Plane) -> f64 {
        let (width, height) = (self.seen.width, self.seen.height);
        let right = (left + BLOCK_WIDTH).min(width);
        let rows = top..(top + BLOCK_HEIGHT).min(height);
        rows.map(|y| f64::from(super::plane::dot(&one.row(y)[left..right], &other.row(y)[left..right]))).sum()
    }

    fn normal(&self, corner: (usize, usize)) -> Option<Vec<f64>> {
        let mut matrix = vec![0.0; TERMS * TERMS];
        for i in 0..TERMS {
            for j in 0..=i {
                let sum = self.sum(corner, &self.terms[i], &self.terms[j]);
                (matrix[i * TERMS + j], matrix[j * TERMS + i]) = (sum, sum);
            }
        }
        let seen = matrix[0];
        if seen < 8.0 * TERMS as f64 {
            return None;
        }
        for i in 1..TERMS {
            matrix[i * TERMS + i] += RIDGE * seen;
        }
        cholesky(&matrix, TERMS)
    }

    /// What the original does not explain; 0 where nothing is seen.
    pub(crate) fn residual(&self, picture: &Plane) -> Plane {
        let mut rest = picture.zip(&self.seen, |sample, seen| sample * seen);
        for (corner, lower) in self.corners().zip(&self.blocks) {
            let right = (corner.0 + BLOCK_WIDTH).min(rest.width);
            let rows = corner.1..(corner.1 + BLOCK_HEIGHT).min(rest.height);
            // Of a slice's mark most blocks are empty.
            if rows.clone().all(|y| rest.row(y)[corner.0..right].iter().all(|&sample| sample == 0.0)) {
                continue;
            }
            let Some(lower) = lower else {
                rows.for_each(|y| rest.row_mut(y)[corner.0..right].fill(0.0));
                continue;
            };
            let sums: Vec<f64> = self.terms.iter().map(|term| self.sum(corner, term, &rest)).collect();
            let fit: Vec<f32> = substitute(lower, &sums).iter().map(|&weight| weight as f32).collect();
            for y in rows {
                let rest = &mut rest.row_mut(y)[corner.0..right];
                for (term, weight) in self.terms.iter().zip(&fit) {
                    let term = &term.row(y)[corner.0..right];
                    rest.iter_mut().zip(term).for_each(|(sample, term)| *sample -= weight * term);
                }
            }
        }
        rest
    }
}

#[cfg(test)]
mod tests {
    use super::super::plane::dot;
    use super::*;

    fn noise(seed: usize) -> Plane {
        let sample = |i: usize| ((i * 7919 + seed * 104_729 + i * i % 1009) % 200) as f32 + 20.0;
        Plane { width: 80, height: 60, data: (0..80 * 60).map(sample).collect() }.blurred(1)
    }

    fn energy(plane: &Plane) -> f32 {
        dot(&plane.data, &plane.data) / plane.data.len() as f32
    }

    #[test]
    fn what_the_original_explains_goes_and_the_mark_stays() {
        let (here, before, after) = (noise(1), noise(2), noise(3));
        let mut seen = here.zip(&here, |_, _| 1.0);
        seen.data[..80 * 10].fill(0.0);
        let light = Light::new(&here, &before, &after, None, &seen);
        let cell =
            |i: usize| if (i % 80 / 8 + i / 80 / 8 + i / 80 / 24).is_multiple_of(2) { 1.0 } else { -1.0 };
        let mark = Plane { width: 80, height: 60, data: (0..80 * 60).map(cell).collect() };
        let dimmed = here.zip(&here.slope_x(), |sample, slope| 0.8 * sample + 12.0 + 0.3 * slope);
        let alone = light.residual(&dimmed);
        assert!(energy(&alone) < 0.01, "{}", energy(&alone));
        let marked = light.residual(&dimmed.zip(&mark, |sample, mark| sample + mark));
        let part = dot(&marked.data, &mark.data) / dot(&mark.data, &seen.zip(&mark, |x, y| x * y).data);
        assert!((0.9..1.05).contains(&part), "{part} of the mark is left");
        assert!(marked.data[..80 * 10].iter().all(|&sample| sample == 0.0), "nothing is seen there");
    }
}
