//! Repeatable noise: what it draws depends on a seed and an index alone.

/// xorshift64*.
pub(super) struct Noise(u64);

impl Noise {
    /// The noise of one request, or of one hand at work.
    pub(super) fn of(seed: u64, index: u64) -> Noise {
        // SplitMix64's last steps: neighbours have nothing in common.
        let mut mixed = seed ^ index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Noise((mixed ^ (mixed >> 31)).max(1))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below a limit, which is not 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        ((self.next() >> 16) % limit.max(1) as u64) as usize
    }

    /// One of several, of which there is at least one.
    pub(super) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_and_index_draw_the_same_and_others_do_not() {
        let drawn = |seed, index| -> Vec<u64> {
            let mut noise = Noise::of(seed, index);
            (0..4).map(|_| noise.next()).collect()
        };
        assert_eq!(drawn(1, 7), drawn(1, 7));
        assert_ne!(drawn(1, 7), drawn(1, 8));
        assert_ne!(drawn(1, 7), drawn(2, 7));
        let mut noise = Noise::of(3, 0);
        let mut seen = [false; 5];
        (0..200).for_each(|_| seen[noise.below(5)] = true);
        assert_eq!(seen, [true; 5]);
    }
}
