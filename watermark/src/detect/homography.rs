//! Where a point of the original lies in the copy: a plane projective map.
//!
//! In: points in samples of the working size. Out: points there. Pure. The map goes from the original to the copy, so that
//! the copy can be read back on the original's grid.

/// Coefficients, rows first; the last one is 1 as long as nothing is degenerate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Homography(pub [f64; 9]);

impl Homography {
    /// Every point where it is.
    pub const IDENTITY: Homography = Homography([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);

    /// First scales, then moves: x′ = sx·x + tx, y′ = sy·y + ty.
    pub fn scale(sx: f64, sy: f64, tx: f64, ty: f64) -> Homography {
        Homography([sx, 0.0, tx, 0.0, sy, ty, 0.0, 0.0, 1.0])
    }

    /// Where a point goes.
    pub fn map(&self, x: f64, y: f64) -> (f64, f64) {
        let h = &self.0;
        let d = h[6] * x + h[7] * y + h[8];
        ((h[0] * x + h[1] * y + h[2]) / d, (h[3] * x + h[4] * y + h[5]) / d)
    }

    /// First `first`, then this one.
    pub fn after(&self, first: &Homography) -> Homography {
        let mut product = [0.0; 9];
        for (index, entry) in product.iter_mut().enumerate() {
            *entry = (0..3).map(|k| self.0[index / 3 * 3 + k] * first.0[k * 3 + index % 3]).sum();
        }
        let scale = product[8];
        if scale != 0.0 {
            product.iter_mut().for_each(|entry| *entry /= scale);
        }
        Homography(product)
    }

    /// The same map between pictures whose samples are `factor` times as large.
    pub fn coarser(&self, factor: f64) -> Homography {
        // The middle of sample x of the fine picture lies at (x + ½) / factor − ½ of the coarse one.
        let shift = 0.5 / factor - 0.5;
        let down = Homography::scale(1.0 / factor, 1.0 / factor, shift, shift);
        let up = Homography::scale(factor, factor, -shift * factor, -shift * factor);
        down.after(&self.after(&up))
    }

    /// Whether it keeps the picture's corners within reason: not turned inside out, not blown up beyond use.
    pub(crate) fn is_sane(&self, width: f64, height: f64) -> bool {
        let corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)];
        let denominators = corners.iter().all(|(x, y)| self.0[6] * x + self.0[7] * y + self.0[8] > 0.2);
        let mapped = corners.map(|(x, y)| self.map(x, y));
        let near = mapped.iter().all(|(x, y)| x.abs() < 4.0 * width && y.abs() < 4.0 * height);
        let cross = |i: usize| {
            let (p, q, r) = (mapped[i], mapped[(i + 1) % 4], mapped[(i + 2) % 4]);
            (q.0 - p.0) * (r.1 - q.1) - (q.1 - p.1) * (r.0 - q.0)
        };
        let turns = [cross(0), cross(1), cross(2), cross(3)];
        let smallest = 0.02 * width * height;
        let convex = turns.iter().all(|&turn| turn > smallest) || turns.iter().all(|&turn| turn < -smallest);
        denominators && near && convex
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: (f64, f64), other: (f64, f64)) -> bool {
        (one.0 - other.0).abs() < 1e-9 && (one.1 - other.1).abs() < 1e-9
    }

    #[test]
    fn maps_follow_each_other_and_change_size() {
        let turn = Homography([0.99, -0.02, 5.0, 0.03, 1.01, -4.0, 1e-5, 2e-5, 1.0]);
        let grow = Homography::scale(1.2, 0.9, 3.0, -7.0);
        let (x, y) = grow.map(100.0, 50.0);
        assert!(near(turn.after(&grow).map(100.0, 50.0), turn.map(x, y)));
        let (x, y) = turn.map(2.0 * 40.0 + 0.5, 2.0 * 30.0 + 0.5);
        assert!(near(turn.coarser(2.0).map(40.0, 30.0), ((x - 0.5) / 2.0, (y - 0.5) / 2.0)));
    }

    #[test]
    fn only_usable_maps_are_sane() {
        assert!(Homography::IDENTITY.is_sane(640.0, 360.0));
        assert!(Homography::scale(-1.0, 1.0, 639.0, 0.0).is_sane(640.0, 360.0), "a mirror image");
        assert!(!Homography::scale(0.05, 0.05, 0.0, 0.0).is_sane(640.0, 360.0));
        let folded = Homography([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, -2e-3, 0.0, 1.0]);
        assert!(!folded.is_sane(640.0, 360.0));
        assert!(!Homography([f64::NAN; 9]).is_sane(640.0, 360.0));
    }
}
