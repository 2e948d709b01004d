//! How finely a normalised stream is coded: QP by the bytes that the publisher spends on the same pictures.
//!
//! In: bytes of each picture as it came in and as it went out. Out: the QP of the next one. Pure and integers only: every
//! node comes to the same.
//!
//! Over a GOP the QP stays where it is, and the next GOP's is set by how far this one missed the publisher's bytes. Within
//! a GOP it is raised only when the GOP runs away, at a cut the publisher foresaw and we did not.

use serde::{Deserialize, Serialize};

/// Bytes that may go out for those that came in, in eighths: a fifth of a GOP is its IDR picture, of which the publisher
/// sent few or none.
const SHARE: u64 = 10;
/// Finest and coarsest QP: beyond them bytes go and nobody sees the difference, or nothing is left to see.
const QP: std::ops::RangeInclusive<i32> = 14..=44;
/// The first QP above that of the publisher's IDR picture: encoders spend more on an IDR picture than on the others.
const ABOVE_IDR: u8 = 3;
/// Most steps within a GOP.
const EXTRA_MAX: u8 = 10;
/// Bytes over thousandths of the target, and how many steps of QP are taken then. Twice the bytes are 6 steps; half of that
/// is taken.
const STEPS: [(u64, i32); 8] =
    [(2_000, 4), (1_500, 3), (1_250, 2), (1_080, 1), (930, 0), (800, -1), (640, -2), (0, -3)];

/// What carries over from GOP to GOP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// QP of the next GOP.
    pub qp: u8,
    /// Bytes of a usual GOP as it comes in.
    pub gop_bytes: u32,
    /// Bytes that earlier GOPs left over; negative when they took too many.
    pub carry: i32,
    /// Whether the last GOP was the second, fourth and so on: pictures next to each other have different ids.
    pub odd: bool,
}

/// The GOP that is being coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    came: u64,
    went: u64,
    extra: u8,
}

impl Rate {
    /// The first GOP's: QP of the publisher's IDR picture, bytes of so much of the stream as a GOP will be long.
    pub fn first(idr_qp: u8, gop_bytes: u64) -> Rate {
        let qp = clamped(i32::from(idr_qp) + i32::from(ABOVE_IDR));
        Rate { qp, gop_bytes: saturated(gop_bytes), carry: 0, odd: false }
    }

    /// Counts a picture in, and gives the QP of the next one of the GOP.
    pub(super) fn coded(&self, spent: &mut Spent, came: u64, went: u64) -> u8 {
        spent.came += came;
        spent.went += went;
        let ahead = spent.went.saturating_sub(shared(spent.came));
        let room = shared(u64::from(self.gop_bytes));
        if ahead > room {
            spent.extra = (spent.extra + 1).min(EXTRA_MAX);
        } else if ahead < room / 2 {
            spent.extra = spent.extra.saturating_sub(1);
        }
        clamped(i32::from(self.qp) + i32::from(spent.extra))
    }

    /// After a GOP: what the next one starts with.
    pub(super) fn after(&self, spent: Spent) -> Rate {
        if spent.came == 0 {
            return *self;
        }
        let usual = u64::from(self.gop_bytes);
        // A short one is mostly its IDR picture and says little.
        let whole = spent.came * 2 >= usual;
        let may = shared(spent.came);
        let carry = i64::from(self.carry) + saturated(may) as i64 - saturated(spent.went) as i64;
        let bound = shared(usual.max(spent.came)).min(i32::MAX as u64) as i64;
        let carry = carry.clamp(-bound, bound) as i32;
        let target = (may as i64 + i64::from(self.carry) / 4).max(may as i64 / 2).max(1) as u64;
        let thousandths = spent.went.saturating_mul(1_000) / target;
        let step = STEPS.iter().find(|(over, _)| thousandths >= *over).map_or(0, |(_, step)| *step);
        let qp = if whole { clamped(i32::from(self.qp) + step) } else { self.qp };
        let gop_bytes = if whole { saturated((usual + spent.came) / 2) } else { self.gop_bytes };
        Rate { qp, gop_bytes, carry, odd: !self.odd }
    }
}

fn shared(bytes: u64) -> u64 {
    bytes.saturating_mul(SHARE) / 8
}

fn saturated(bytes: u64) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn clamped(qp: i32) -> u8 {
    // Between 14 and 44.
    qp.clamp(*QP.start(), *QP.end()) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A source of constant content: a GOP at QP 26 takes `at_26`, and an eighth less with each QP more.
    fn settle(at_26: f64, came: u64, gops: u32) -> Vec<(u8, f64)> {
        let mut rate = Rate::first(20, came);
        let mut out = Vec::new();
        for _ in 0..gops {
            let (mut spent, mut qp, mut sum) = (Spent::default(), rate.qp, 0.0);
            for picture in 0..60 {
                let share = if picture == 0 { 0.2 } else { 0.8 / 59.0 };
                let went = at_26 * share * 2f64.powf((26.0 - f64::from(qp)) / 6.0);
                sum += went;
                qp = rate.coded(&mut spent, came / 60, went as u64);
            }
            rate = rate.after(spent);
            out.push((rate.qp, sum));
        }
        out
    }

    #[test]
    fn it_settles_at_the_publishers_bytes_and_a_quarter() {
        for at_26 in [100_000.0, 400_000.0, 1_600_000.0] {
            let gops = settle(at_26, 600_000, 40);
            let bytes: f64 = gops[10..].iter().map(|(_, bytes)| bytes).sum::<f64>() / 30.0;
            let allowed = if at_26 < 200_000.0 { 0.0..760_000.0 } else { 650_000.0..800_000.0 };
            assert!(allowed.contains(&bytes), "{at_26}: {bytes}, {gops:?}");
            let last = &gops[30..];
            let (low, high) = (last.iter().map(|gop| gop.0).min(), last.iter().map(|gop| gop.0).max());
            assert!(high.unwrap() - low.unwrap() <= 2, "{at_26}: it swings: {gops:?}");
        }
    }

    #[test]
    fn a_gop_that_runs_away_is_held() {
        let rate = Rate::first(20, 600_000);
        let mut spent = Spent::default();
        let mut qp = rate.qp;
        for _ in 0..60 {
            qp = rate.coded(&mut spent, 10_000, 60_000);
        }
        assert_eq!(qp, rate.qp + EXTRA_MAX);
        for _ in 0..2_000 {
            qp = rate.coded(&mut spent, 10_000, 100);
        }
        assert_eq!(qp, rate.qp);
    }

    proptest! {
        #[test]
        fn any_numbers_give_a_qp(idr in 0u8..=51, usual: u64, pictures in proptest::collection::vec((0u64..1 << 40, 0u64..1 << 40), 0..50)) {
            let mut rate = Rate::first(idr, usual);
            for gop in pictures.chunks(7) {
                let mut spent = Spent::default();
                for (came, went) in gop {
                    let qp = rate.coded(&mut spent, *came, *went);
                    prop_assert!(QP.contains(&i32::from(qp)));
                }
                rate = rate.after(spent);
                prop_assert!(QP.contains(&i32::from(rate.qp)));
            }
        }
    }
}
