//! Planes of real numbers: what every stage of the detector calculates with.
//!
//! In: grey pictures or planes. Out: planes, sums and single samples. Pure. Rows from the top, no padding; beyond its edges
//! a plane repeats its outermost samples.

/// A plane of samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plane {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) data: Vec<f32>,
}

/// A point between four samples of any plane of one size: worked out once, looked at in many.
#[derive(Clone, Copy)]
pub(crate) struct Point {
    /// Index of the sample above and to the left.
    first: u32,
    /// How far on it lies, as parts of a sample.
    across: f32,
    down: f32,
}

impl Point {
    /// `None` outside the outermost sample centres.
    #[inline]
    pub(crate) fn new(x: f32, y: f32, width: usize, height: usize) -> Option<Point> {
        let inside = x >= 0.0 && y >= 0.0 && x <= (width - 1) as f32 && y <= (height - 1) as f32;
        if !inside {
            return None;
        }
        let (column, line) = ((x as usize).min(width - 2), (y as usize).min(height - 2));
        let first = (line * width + column) as u32;
        Some(Point { first, across: x - column as f32, down: y - line as f32 })
    }
}

impl Plane {
    pub(crate) fn new(width: usize, height: usize) -> Plane {
        Plane { width, height, data: vec![0.0; width * height] }
    }

    /// Missing samples are black, surplus ones left out: a picture's size is its maker's promise.
    pub(crate) fn of_luma(luma: &[u8], width: usize, height: usize) -> Plane {
        let mut data: Vec<f32> = luma.iter().take(width * height).map(|&sample| f32::from(sample)).collect();
        data.resize(width * height, 0.0);
        Plane { width, height, data }
    }

    pub(crate) fn row(&self, y: usize) -> &[f32] {
        &self.data[y * self.width..][..self.width]
    }

    pub(crate) fn row_mut(&mut self, y: usize) -> &mut [f32] {
        &mut self.data[y * self.width..][..self.width]
    }

    /// Half the size: means of 2×2.
    pub(crate) fn halved(&self) -> Plane {
        let mut half = Plane::new(self.width / 2, self.height / 2);
        for y in 0..half.height {
            let (above, below) = (self.row(2 * y), self.row(2 * y + 1));
            for (x, sample) in half.row_mut(y).iter_mut().enumerate() {
                *sample = (above[2 * x] + above[2 * x + 1] + below[2 * x] + below[2 * x + 1]) / 4.0;
            }
        }
        half
    }

    /// Sample by sample.
    pub(crate) fn zip(&self, other: &Plane, f: impl Fn(f32, f32) -> f32) -> Plane {
        let data = self.data.iter().zip(&other.data).map(|(&x, &y)| f(x, y)).collect();
        Plane { width: self.width, height: self.height, data }
    }

    /// Between four samples; `None` outside the outermost sample centres.
    #[inline]
    pub(crate) fn at(&self, x: f32, y: f32) -> Option<f32> {
        Some(self.between(Point::new(x, y, self.width, self.height)?))
    }

    /// The same at a point of a plane of this size.
    #[inline]
    pub(crate) fn between(&self, point: Point) -> f32 {
        let first = point.first as usize;
        let (above, below) = (&self.data[first..first + 2], &self.data[first + self.width..][..2]);
        let top = above[0] + (above[1] - above[0]) * point.across;
        let bottom = below[0] + (below[1] - below[0]) * point.across;
        top + (bottom - top) * point.down
    }

    /// Mean over squares of side 2·radius + 1.
    pub(crate) fn blurred(&self, radius: usize) -> Plane {
        let (width, height) = (self.width, self.height);
        let share = 1.0 / (2 * radius + 1) as f32;
        let mut across = Plane::new(width, height);
        for y in 0..height {
            let (from, to) = (self.row(y), across.row_mut(y));
            let at = |x: isize| from[x.clamp(0, width as isize - 1) as usize];
            let radius = radius as isize;
            let mut sum: f32 = (-radius..=radius).map(at).sum();
            for (x, sample) in (0isize..).zip(to.iter_mut()) {
                *sample = sum * share;
                sum += at(x + radius + 1) - at(x - radius);
            }
        }
        let mut both = Plane::new(width, height);
        let line = |y: isize| y.clamp(0, height as isize - 1) as usize;
        let mut sums = vec![0.0f32; width];
        for y in -(radius as isize)..=radius as isize {
            sums.iter_mut().zip(across.row(line(y))).for_each(|(sum, sample)| *sum += sample);
        }
        for y in 0..height {
            both.row_mut(y).iter_mut().zip(&sums).for_each(|(sample, sum)| *sample = sum * share);
            let (comes, goes) = (line(y as isize + radius as isize + 1), line(y as isize - radius as isize));
            let (comes, goes) = (across.row(comes), across.row(goes));
            for (sum, (comes, goes)) in sums.iter_mut().zip(comes.iter().zip(goes)) {
                *sum += comes - goes;
            }
        }
        both
    }

    /// Slope across: half the difference of the neighbours.
    pub(crate) fn slope_x(&self) -> Plane {
        let mut slope = Plane::new(self.width, self.height);
        for y in 0..self.height {
            let from = self.row(y);
            for (x, sample) in slope.row_mut(y).iter_mut().enumerate() {
                *sample = (from[(x + 1).min(self.width - 1)] - from[x.saturating_sub(1)]) / 2.0;
            }
        }
        slope
    }

    /// Slope down.
    pub(crate) fn slope_y(&self) -> Plane {
        let mut slope = Plane::new(self.width, self.height);
        for y in 0..self.height {
            let (above, below) = (self.row(y.saturating_sub(1)), self.row((y + 1).min(self.height - 1)));
            for ((sample, above), below) in slope.row_mut(y).iter_mut().zip(above).zip(below) {
                *sample = (below - above) / 2.0;
            }
        }
        slope
    }
}

/// Σ x·y, in eight strands, so that the compiler may use vectors.
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (xs, ys) = (x.as_chunks::<8>(), y.as_chunks::<8>());
    for (x, y) in xs.0.iter().zip(ys.0) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + xs.1.iter().zip(ys.1).map(|(x, y)| x * y).sum::<f32>()
}

/// Solves S·x = r for a symmetric, positive definite S of side n, row by row in `s`; `None` where it is not one.
pub(crate) fn solve(s: &[f64], r: &[f64]) -> Option<Vec<f64>> {
    let lower = cholesky(s, r.len())?;
    Some(substitute(&lower, r))
}

/// The lower triangle L with L·Lᵀ = S.
pub(crate) fn cholesky(s: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut lower = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| lower[i * n + k] * lower[j * n + k]).sum();
            let rest = s[i * n + j] - known;
            lower[i * n + j] = if i == j {
                if rest.is_nan() || rest <= 0.0 {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / lower[j * n + j]
            };
        }
    }
    Some(lower)
}

/// x of L·Lᵀ·x = r.
pub(crate) fn substitute(lower: &[f64], r: &[f64]) -> Vec<f64> {
    let n = r.len();
    let mut x = r.to_vec();
    for i in 0..n {
        let known: f64 = (0..i).map(|k| lower[i * n + k] * x[k]).sum();
        x[i] = (x[i] - known) / lower[i * n + i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| lower[k * n + i] * x[k]).sum();
        x[i] = (x[i] - known) / lower[i * n + i];
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(width: usize, height: usize) -> Plane {
        let sample = |i: usize| ((i * 7919 + 13) % 251) as f32;
        Plane { width, height, data: (0..width * height).map(sample).collect() }
    }

    #[test]
    fn a_blur_is_the_mean_of_a_square() {
        let plane = noise(23, 17);
        for radius in [1, 4, 9] {
            let blurred = plane.blurred(radius);
            let reach = radius as isize;
            for (x, y) in [(0, 0), (11, 8), (22, 16), (3, 15)] {
                let at = |dx: isize, dy: isize| {
                    let (x, y) = ((x as isize + dx).clamp(0, 22), (y as isize + dy).clamp(0, 16));
                    plane.data[y as usize * 23 + x as usize]
                };
                let square = (-reach..=reach).flat_map(|dy| (-reach..=reach).map(move |dx| (dx, dy)));
                let mean = square.map(|(dx, dy)| at(dx, dy)).sum::<f32>() / (2 * radius + 1).pow(2) as f32;
                let found = blurred.data[y * 23 + x];
                assert!((found - mean).abs() < 0.01, "radius {radius}, ({x}, {y}): {found}, not {mean}");
            }
        }
    }

    #[test]
    fn samples_lie_between_their_neighbours_and_nowhere_outside() {
        let plane = Plane { width: 2, height: 2, data: vec![0.0, 4.0, 8.0, 12.0] };
        assert_eq!(plane.at(0.5, 0.5), Some(6.0));
        assert_eq!(plane.at(1.0, 1.0), Some(12.0));
        assert_eq!(plane.at(-0.01, 0.0), None);
        assert_eq!(plane.at(0.0, f32::NAN), None);
    }

    #[test]
    fn equations_are_solved_or_refused() {
        let x = solve(&[4.0, 1.0, 1.0, 3.0], &[1.0, 2.0]).unwrap();
        assert!((x[0] - 1.0 / 11.0).abs() < 1e-12 && (x[1] - 7.0 / 11.0).abs() < 1e-12);
        assert_eq!(solve(&[1.0, 2.0, 2.0, 1.0], &[1.0, 1.0]), None, "not definite");
        assert_eq!(solve(&[f64::NAN], &[1.0]), None);
    }
}
