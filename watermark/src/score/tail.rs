//! How often an innocent scores this much: a bound on the tail of a sum of independent two-valued steps.
//!
//! In: for each position what A and what B add to the score, and the bias. Out: an upper bound on log10 P(score ≥ t) for
//! any t. Pure. An innocent's symbols are PRF outputs that nobody who made the copy could see, so given the copy they
//! are independent, A with probability bias; the score's distribution is known, whatever the picture looks like.
//!
//! Weights are whole numbers, so the distribution can be counted out position by position (**exact**), as long as that
//! takes no more than `EXACT_WORK_MAX` steps. Longer evidence gets **Chernoff's bound**, e^(K(s) − s·t) with
//! K(s) = Σ ln(p·e^(s·a) + (1−p)·e^(s·b)), which holds for every s ≥ 0 and costs about a decade at 1e-12. Rounding is
//! paid for in both: a result is never below the true value.

use super::decoder::UNITS_A_NAT;

/// Multiply-adds that counting out may take: a fraction of a second.
pub const EXACT_WORK_MAX: u64 = 1 << 28;

/// No bound is given below this: floating point holds nothing smaller safely.
pub const LOG10_MIN: f64 = -290.0;

/// Added to every log10: far above the relative rounding error of 2⁻⁵² a step over `EXACT_WORK_MAX` steps.
const ROUNDING_LOG10: f64 = 1e-7;

/// Values of s that a Chernoff tail keeps at hand, a nat⁻¹: 0.02 · 1.15^k. Between them at most 0.06 decades are lost at
/// 1e-12.
const SLOPES: i32 = 48;

/// What one position adds to a score, in units of 1/64 nat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// If the viewer has A there.
    pub a: i32,
    /// If the viewer has B there.
    pub b: i32,
    /// Probability of A.
    pub bias: f64,
}

/// The tail of an innocent's score.
#[derive(Clone, Debug)]
pub struct Tail(Kind);

#[derive(Clone, Debug)]
enum Kind {
    /// log10 P(score ≥ least + index).
    Exact { least: i64, log10: Vec<f64> },
    /// s and K(s), s in units⁻¹.
    Chernoff { lines: Vec<(f64, f64)>, steps: Vec<Step> },
}

impl Tail {
    /// The exact tail where it can be had, else Chernoff's.
    pub fn new(steps: &[Step]) -> Tail {
        let mut widths: Vec<u64> = steps.iter().map(width).collect();
        widths.sort_unstable();
        let (mut bins, mut work) = (1u64, 0u64);
        for width in widths {
            bins += width;
            work += bins;
        }
        if work <= EXACT_WORK_MAX { Tail::exact(steps) } else { Tail::chernoff(steps) }
    }

    /// Chernoff's bound always: cheap to set up.
    pub fn chernoff(steps: &[Step]) -> Tail {
        let slope = |k| 0.02 * 1.15f64.powi(k) / UNITS_A_NAT;
        let lines = (0..SLOPES).map(slope).map(|s| (s, cumulant(steps, s))).collect();
        Tail(Kind::Chernoff { lines, steps: steps.to_vec() })
    }

    fn exact(steps: &[Step]) -> Tail {
        let least = steps.iter().map(|step| i64::from(step.a.min(step.b))).sum();
        let mut sorted: Vec<&Step> = steps.iter().collect();
        sorted.sort_by_key(|step| width(step));
        // Narrow steps first: the row stays short for longest.
        let (mut row, mut next) = (vec![1.0], Vec::new());
        for step in sorted {
            let width = width(step) as usize;
            let up = if step.a > step.b { step.bias } else { 1.0 - step.bias };
            next.clear();
            next.extend(row.iter().map(|mass| mass * (1.0 - up)));
            next.resize(row.len() + width, 0.0);
            for (sum, mass) in next[width..].iter_mut().zip(&row) {
                *sum += mass * up;
            }
            std::mem::swap(&mut row, &mut next);
        }
        let mut tail = 0.0;
        for mass in row.iter_mut().rev() {
            tail += *mass;
            *mass = tail;
        }
        for mass in &mut row {
            *mass = bounded(mass.log10());
        }
        Tail(Kind::Exact { least, log10: row })
    }

    /// An upper bound on log10 of the probability that an innocent's score reaches `score`: the exact value, or a fast
    /// bound close to Chernoff's.
    pub fn log10(&self, score: i32) -> f64 {
        match &self.0 {
            Kind::Exact { least, log10 } => {
                let index = i64::from(score) - least;
                match usize::try_from(index) {
                    Err(_) => 0.0,
                    // Beyond the largest score an innocent never comes; the smallest number stands for never.
                    Ok(index) => log10.get(index).copied().unwrap_or(LOG10_MIN),
                }
            }
            Kind::Chernoff { lines, .. } => {
                let t = f64::from(score);
                let least = lines.iter().fold(0.0, |least: f64, (s, k)| least.min(k - s * t));
                bounded(least / std::f64::consts::LN_10)
            }
        }
    }

    /// The same at its sharpest: Chernoff's bound at the best s instead of the nearest of a grid.
    pub fn log10_sharp(&self, score: i32) -> f64 {
        match &self.0 {
            Kind::Exact { .. } => self.log10(score),
            Kind::Chernoff { steps, .. } => self.log10(score).min(chernoff_log10(steps, score)),
        }
    }

    /// Whether the tail is counted out.
    pub fn is_exact(&self) -> bool {
        matches!(self.0, Kind::Exact { .. })
    }
}

/// Chernoff's bound on log10 P(score ≥ t), at the s where it is smallest: K'(s) = t, found by Newton's steps kept
/// inside a bracket.
pub fn chernoff_log10(steps: &[Step], score: i32) -> f64 {
    let t = f64::from(score);
    let (mut low, mut high) = (0.0, 40.0 / UNITS_A_NAT);
    let (mut s, mut least) = (1.0 / UNITS_A_NAT, 0.0f64);
    for _ in 0..40 {
        least = least.min(cumulant(steps, s) - s * t);
        let (mut mean, mut variance) = (0.0, 0.0);
        for step in steps {
            let (a, b) = (f64::from(step.a), f64::from(step.b));
            // Probability of A under the tilted law.
            let odds = (1.0 - step.bias) / step.bias * (s * (b - a)).exp();
            let of_a = 1.0 / (1.0 + odds);
            mean += of_a * a + (1.0 - of_a) * b;
            variance += of_a * (1.0 - of_a) * (a - b) * (a - b);
        }
        if mean < t {
            low = s
        } else {
            high = s
        }
        let newton = s + (t - mean) / variance;
        let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        if (next - s).abs() < 1e-9 * s {
            break;
        }
        s = next;
    }
    bounded(least / std::f64::consts::LN_10)
}

/// K(s), raised by more than its rounding error.
fn cumulant(steps: &[Step], s: f64) -> f64 {
    let (mut sum, mut size) = (0.0, 0.0);
    for step in steps {
        let (a, b) = (s * f64::from(step.a), s * f64::from(step.b));
        let most = a.max(b);
        sum += most + (step.bias * (a - most).exp() + (1.0 - step.bias) * (b - most).exp()).ln();
        size += a.abs().max(b.abs()) + 1.0;
    }
    sum + 1e-11 * size
}

fn width(step: &Step) -> u64 {
    u64::from(step.a.abs_diff(step.b))
}

fn bounded(log10: f64) -> f64 {
    (log10 + ROUNDING_LOG10).clamp(LOG10_MIN, 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn steps(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Step>> {
        let bias = prop_oneof![Just(0.5), Just(0.211_324_865), Just(0.788_675_135)];
        let step = (-512i32..=512, -512i32..=512, bias).prop_map(|(a, b, bias)| Step { a, b, bias });
        prop::collection::vec(step, count)
    }

    /// Every outcome with its probability, in score order.
    fn enumerated(steps: &[Step]) -> Vec<(i32, f64)> {
        let outcome = |set: u32| {
            let (mut score, mut mass) = (0, 1.0);
            for (index, step) in steps.iter().enumerate() {
                let (add, chance) =
                    if set >> index & 1 == 1 { (step.a, step.bias) } else { (step.b, 1.0 - step.bias) };
                score += add;
                mass *= chance;
            }
            (score, mass)
        };
        let mut all: Vec<_> = (0..1u32 << steps.len()).map(outcome).collect();
        all.sort_by_key(|(score, _)| *score);
        all
    }

    fn check_against_enumeration(steps: &[Step]) {
        let all = enumerated(steps);
        let (exact, chernoff) = (Tail::exact(steps), Tail::chernoff(steps));
        let mut above = 0.0f64;
        for (index, &(score, mass)) in all.iter().enumerate().rev() {
            above += mass;
            if index > 0 && all[index - 1].0 == score {
                continue;
            }
            let truth = above.min(1.0).log10();
            let counted = exact.log10(score);
            assert!(counted >= truth && counted < truth + 1e-6, "{score}: {counted} for {truth}");
            let (fast, sharp) = (chernoff.log10(score), chernoff.log10_sharp(score));
            assert!(sharp >= truth - 1e-9, "{score}: {sharp} for {truth}");
            assert!(fast >= sharp, "{score}: {fast} under {sharp}");
        }
        let (least, most) = (all[0].0, all[all.len() - 1].0);
        assert_eq!(exact.log10(least), 0.0);
        assert_eq!(exact.log10(least - 1), 0.0);
        assert_eq!(exact.log10(most + 1), LOG10_MIN);
    }

    #[test]
    fn twenty_positions_are_what_enumeration_says() {
        let weights = [41, -37, 80, 12, -95, 60, 33, -70, 5, 99, -44, 71, 18, -53, 64, 29, -88, 76, 50, -11];
        let biases = [0.5, 0.211_324_865, 0.788_675_135];
        let steps: Vec<_> =
            (0..20).map(|n| Step { a: weights[n], b: -weights[19 - n], bias: biases[n % 3] }).collect();
        check_against_enumeration(&steps);
    }

    /// Ten fair coins: P(all) = 2⁻¹⁰, P(at least 8) = 56/1024.
    #[test]
    fn coins_come_out_as_everybody_knows() {
        let tail = Tail::new(&[Step { a: 1, b: 0, bias: 0.5 }; 10]);
        assert!(tail.is_exact());
        assert!((tail.log10(10) - (1.0f64 / 1024.0).log10()).abs() < 1e-6);
        assert!((tail.log10(8) - (56.0f64 / 1024.0).log10()).abs() < 1e-6);
        assert_eq!(Tail::new(&[]).log10(0), 0.0);
        assert_eq!(Tail::new(&[]).log10(1), LOG10_MIN);
    }

    /// At 1e-12 on ordinary evidence the bounds stay within two decades of the truth, and above it.
    #[test]
    fn chernoff_costs_about_a_decade() {
        let steps: Vec<_> = (0..96).map(|n| Step { a: 30 + n % 7, b: -40 + n % 5, bias: 0.5 }).collect();
        let (exact, chernoff) = (Tail::new(&steps), Tail::chernoff(&steps));
        let score = (0..5_000).find(|&score| exact.log10(score) < -12.0).unwrap();
        let (truth, sharp, fast) = (exact.log10(score), chernoff.log10_sharp(score), chernoff.log10(score));
        assert!(sharp > truth && sharp < truth + 1.8, "{sharp} for {truth}");
        assert!(fast < sharp + 0.07, "{fast} for {sharp}");
    }

    #[test]
    fn long_evidence_is_bounded_by_chernoff_and_stays_finite() {
        let steps: Vec<_> = (0..60_000).map(|n| Step { a: 40 + n % 9, b: -40, bias: 0.5 }).collect();
        let tail = Tail::new(&steps);
        assert!(!tail.is_exact());
        assert_eq!(tail.log10(i32::MIN), 0.0);
        assert_eq!(tail.log10_sharp(i32::MAX), LOG10_MIN);
        let mean = 60_000 * 2;
        assert!(tail.log10(mean - 1) > -0.1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn never_below_the_truth(steps in steps(1..12)) {
            check_against_enumeration(&steps);
        }

        #[test]
        fn chernoff_is_never_below_exact_where_enumeration_cannot_go(steps in steps(12..80), part in 0.0..1.0f64) {
            let (exact, chernoff) = (Tail::exact(&steps), Tail::chernoff(&steps));
            let least: i32 = steps.iter().map(|step| step.a.min(step.b)).sum();
            let most: i32 = steps.iter().map(|step| step.a.max(step.b)).sum();
            let score = least + (f64::from(most - least) * part) as i32;
            let truth = exact.log10(score) - 1e-6;
            prop_assert!(chernoff.log10_sharp(score) >= truth && chernoff.log10(score) >= truth);
        }
    }
}
