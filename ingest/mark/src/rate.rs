//! How finely the new IDR is coded: QP six below the host's, raised until it keeps to a size cap.
//!
//! In: QP and bytes of the host's IDR, bytes of the GOP before it as they came in. Out: QPs to try, in order. Pure and
//! integers only: every node tries the same. B always takes the QP that A ended with.

/// How much finer than the host the new picture is coded: the picture was quantised once already.
const QP_FINER: u8 = 6;
/// Finest QP: below it bytes grow and nobody sees the difference (static scenes come with QP 8 and a tiny IDR).
const QP_MIN: u8 = 10;
/// Times a picture may be coded again because it was too large.
pub const RETRIES: u8 = 3;
/// Most steps of QP at once.
const STEP_MAX: usize = 8;
/// The cap above the host's IDR, in parts of the previous GOP: 1/20, so a stream grows by 5 % at most where that can
/// be reached.
const GOP_SHARE: u64 = 20;
/// A GOP is taken to be this many times its IDR where the one before is unknown.
const GOP_OF_IDR: u64 = 10;

/// Size in thousandths that one step of QP more is needed for, two steps, and so on: e^(0.08 n).
const RATIOS: [u64; STEP_MAX - 1] = [1_083, 1_174, 1_271, 1_377, 1_492, 1_616, 1_751];

/// The QP to start with.
pub fn first_qp(host: u8) -> u8 {
    host.saturating_sub(QP_FINER).clamp(QP_MIN, codec::QP_MAX)
}

/// Bytes that the new IDR should keep to. `previous_gop` is 0 where unknown.
pub fn cap(host_idr: u64, previous_gop: u64) -> u64 {
    let gop = if previous_gop == 0 { host_idr.saturating_mul(GOP_OF_IDR) } else { previous_gop };
    host_idr.saturating_add(gop / GOP_SHARE)
}

/// The QP to try next when `bytes` came out at `qp`; `None` when they are few enough or nothing coarser is left.
pub fn next_qp(qp: u8, bytes: u64, cap: u64) -> Option<u8> {
    if bytes <= cap || qp >= codec::QP_MAX {
        return None;
    }
    let thousandths = bytes.saturating_mul(1_000) / cap.max(1);
    let step = 1 + RATIOS.iter().filter(|&&ratio| thousandths >= ratio).count();
    // A step is at most 8.
    Some((qp + step as u8).min(codec::QP_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn six_finer_within_limits() {
        assert_eq!((first_qp(28), first_qp(16), first_qp(9), first_qp(51)), (22, 10, 10, 45));
    }

    #[test]
    fn the_cap_is_the_idr_and_a_twentieth_of_the_gop() {
        assert_eq!(cap(40_000, 600_000), 70_000);
        assert_eq!(cap(40_000, 0), 60_000);
        assert_eq!(cap(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn steps_follow_the_ratio() {
        assert_eq!(next_qp(20, 100, 100), None);
        assert_eq!(next_qp(20, 101, 100), Some(21));
        assert_eq!(next_qp(20, 109, 100), Some(22));
        assert_eq!(next_qp(20, 300, 100), Some(28));
        assert_eq!(next_qp(50, 300, 100), Some(51));
        assert_eq!(next_qp(51, 300, 100), None);
        assert_eq!(next_qp(20, 2, 0), Some(28));
    }

    proptest! {
        #[test]
        fn a_step_is_what_the_logarithm_says(bytes in 1_001u64..5_000_000) {
            let step = next_qp(20, bytes, 1_000).unwrap() - 20;
            let exact = ((bytes as f64 / 1_000.0).ln() / 0.08).ceil().clamp(1.0, 8.0);
            prop_assert!((f64::from(step) - exact).abs() <= 1.0, "{} for {}", step, bytes);
        }
    }
}
