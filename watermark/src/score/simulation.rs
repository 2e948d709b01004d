//! The whole room against simulated pirates and honest controls.
//!
//! Seeded: the same trials every time. `RELEVE_TRIALS` sets the trials of each control (10,000 is the promise; few are
//! run by default). `docs/score.md` holds the figures of a long run and the commands.

use super::search::{Candidate, Scorer};
use super::verdict::{self, Price};
use super::*;
use crate::{Codebook, GopId, Key, Position, Symbol, WatermarkId};

/// Slices a GOP, GOPs of one second.
const SLICES: u16 = 8;
const MILLION: u64 = 1_000_000;

/// SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn uniform(&mut self) -> f64 {
        (self.word() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn chance(&mut self, p: f64) -> bool {
        self.uniform() < p
    }

    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    fn key(&mut self) -> Key {
        let mut secret = [0; 32];
        secret.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&self.word().to_le_bytes()));
        Key::new(1, secret)
    }

    fn viewers(&mut self, count: usize) -> Vec<WatermarkId> {
        (0..count).map(|_| WatermarkId(self.word())).collect()
    }
}

fn trials(few: usize) -> usize {
    std::env::var("RELEVE_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// What a copy went through: the gain of its mark and the noise of its readings.
#[derive(Clone, Copy)]
struct Chain {
    gain: f64,
    sd: f64,
    /// The reader states its variance as the true one times this.
    belief: f64,
}

/// Of every hundred hard decisions none, 5 or 15 would be wrong; copies at 360p had gains of 0.17 to 0.4.
const CLEAN: Chain = Chain { gain: 0.3, sd: 0.06, belief: 1.0 };
const BER_5: Chain = Chain { gain: 0.25, sd: 0.25 / 1.645, belief: 1.0 };
const BER_15: Chain = Chain { gain: 0.2, sd: 0.2 / 1.036, belief: 1.0 };

/// A copy of event `event` that these pirates made.
fn copy(
    random: &mut Random,
    book: &Codebook,
    event: u64,
    pirates: &[WatermarkId],
    strategy: Strategy,
    seconds: u32,
    chain: Chain,
) -> Evidence {
    let mut observations = Vec::new();
    for second in 0..seconds {
        let gop = GopId::derive("event", &event.to_be_bytes(), i64::from(second) * 90_000);
        let mut a = [0u8; SLICES as usize];
        let mut of_one = [[false; 16]; SLICES as usize];
        for (index, &id) in pirates.iter().enumerate() {
            for (slice, symbol) in book.symbols(id, gop, SLICES).enumerate() {
                a[slice] += u8::from(symbol == Symbol::A);
                of_one[slice][index] = symbol == Symbol::A;
            }
        }
        for slice in 0..SLICES {
            let (z, c) = (a[usize::from(slice)], pirates.len() as u8);
            let (less, tie) = (2 * z < c, 2 * z == c);
            let lot = random.chance(0.5);
            let fraction = match strategy {
                Strategy::Average => f64::from(z) / f64::from(c),
                Strategy::Interleave => {
                    f64::from(u8::from(of_one[usize::from(slice)][random.below(pirates.len())]))
                }
                Strategy::Majority => f64::from(u8::from(if tie { lot } else { !less })),
                Strategy::Minority if z == 0 || z == c => f64::from(u8::from(z == c)),
                Strategy::Minority => f64::from(u8::from(if tie { lot } else { less })),
            };
            observations.push(Observation {
                position: Position { gop, slice },
                soft: chain.gain * (2.0 * fraction - 1.0) + chain.sd * random.normal(),
                variance: chain.sd * chain.sd * chain.belief,
                at_s: f64::from(second),
            });
        }
    }
    Evidence::new(observations, f64::from(seconds)).unwrap()
}

/// Who is named, of these pirates in a register of a million. Innocents change nothing for a pirate but the top list: a
/// pirate who would hardly be in it among a million (best p above 10^−5.7) is left out.
fn named_in_a_million(book: &Codebook, pirates: &[WatermarkId], evidence: &Evidence) -> Vec<Accused> {
    let scorer = Scorer::new(book, evidence);
    let listed = |candidate: &Candidate| candidate.log10_p < -5.7;
    let top: Vec<Candidate> =
        scorer.rank(&mut Roll::new(book, pirates), 1).top.into_iter().filter(listed).collect();
    verdict::named(&scorer, &top, &Price::of(Tried { viewers: MILLION, alignments: 1, look: 1 }))
}

/// How many of `count` colluders are named after so many seconds, trial after trial.
fn pirates_named(
    count: usize,
    strategy: Strategy,
    seconds: u32,
    chain: Chain,
) -> impl Iterator<Item = usize> {
    let mut random = Random::new(u64::from(seconds) << 8 | count as u64);
    (0..).map(move |event| {
        let book = Codebook::new(&random.key(), &random.key());
        let pirates = random.viewers(count);
        let evidence = copy(&mut random, &book, event, &pirates, strategy, seconds, chain);
        named_in_a_million(&book, &pirates, &evidence).len()
    })
}

/// Share of trials in which at least one is named.
fn found(count: usize, strategy: Strategy, seconds: u32, chain: Chain, trials: usize) -> f64 {
    let named = pirates_named(count, strategy, seconds, chain).take(trials).filter(|&named| named > 0);
    named.count() as f64 / trials as f64
}

#[test]
fn one_of_a_million_is_named_from_seconds() {
    for (chain, seconds) in [(CLEAN, 10), (BER_5, 12), (BER_15, 25)] {
        let one = found(1, Strategy::Interleave, seconds, chain, 20);
        assert!(one >= 0.85, "gain {}, sd {}: {one} in {seconds} s", chain.gain, chain.sd);
    }
    let one = found(1, Strategy::Interleave, 3, CLEAN, 20);
    assert_eq!(one, 0.0, "three seconds hold too few symbols for a million");
}

/// One trial each in a debug build, where counting out tails takes seconds.
#[test]
fn two_and_three_colluders_are_named_whatever_they_do() {
    let trials = if cfg!(debug_assertions) { 1 } else { 20 };
    for (count, strategy, seconds) in [
        (2, Strategy::Interleave, 50),
        (2, Strategy::Average, 22),
        (3, Strategy::Average, 35),
        (3, Strategy::Majority, 40),
        (3, Strategy::Minority, 125),
    ] {
        let one = found(count, strategy, seconds, CLEAN, trials);
        assert!(one >= 0.9, "{count} by {strategy:?}: {one} in {seconds} s");
    }
}

/// Trials of a control, with 200 viewers who are all innocent: verdicts, and how often somebody was named.
fn control(
    name: &str,
    few: usize,
    mut evidence: impl FnMut(&mut Random, &Codebook, u64) -> Evidence,
) -> Vec<Verdict> {
    let mut random = Random::new(name.len() as u64);
    let trials = trials(few);
    let mut verdicts = Vec::new();
    for event in 0..trials as u64 {
        let book = Codebook::new(&random.key(), &random.key());
        let evidence = evidence(&mut random, &book, event);
        let register = random.viewers(200);
        let tried = Tried { viewers: 200, alignments: 1, look: 1 };
        verdicts.push(judge(&book, &register, &evidence, tried, 1).verdict);
    }
    let count = |is: fn(&Verdict) -> bool| verdicts.iter().filter(|verdict| is(verdict)).count();
    let named = count(|verdict| matches!(verdict, Verdict::Identified { .. }));
    let not_ours = count(|verdict| *verdict == Verdict::NotOurs);
    println!("{name}: {trials} trials, {named} accusations, {not_ours} times not ours");
    assert_eq!(named, 0, "{name}: an innocent was named");
    verdicts
}

#[test]
fn control_unmarked_copy() {
    let verdicts = control("unmarked", 25, |random, _, event| {
        let noise = Chain { gain: 0.0, sd: 0.08, belief: 1.0 };
        let (book, nobody) = (Codebook::new(&random.key(), &random.key()), [WatermarkId(0)]);
        copy(random, &book, event, &nobody, Strategy::Interleave, 10, noise)
    });
    let not_ours = verdicts.iter().filter(|verdict| **verdict == Verdict::NotOurs).count();
    assert!(not_ours * 100 >= verdicts.len() * 90, "{not_ours} of {} called not ours", verdicts.len());
}

/// The host shines through: readings have energy and a pattern of their own, and the reader does not know.
#[test]
fn control_unmarked_copy_that_looks_marked() {
    control("unmarked, patterned", 10, |random, _, event| {
        let host = Codebook::new(&random.key(), &random.key());
        let viewer = random.viewers(1);
        copy(random, &host, event, &viewer, Strategy::Interleave, 10, Chain { belief: 0.1, ..CLEAN })
    });
}

/// A registered viewer's copy of one event, read as if it were another.
#[test]
fn control_other_event() {
    control("other event", 10, |random, book, event| {
        let viewer = random.viewers(1);
        let theirs = copy(random, book, event, &viewer, Strategy::Interleave, 10, CLEAN);
        let relabelled = theirs.observations().iter().enumerate().map(|(index, seen)| {
            let gop = GopId::derive("other", &event.to_be_bytes(), (index as i64 / 8) * 90_000);
            Observation { position: Position { gop, slice: index as u16 % 8 }, ..*seen }
        });
        Evidence::new(relabelled, 10.0).unwrap()
    });
}

/// The right event under another code key, the same biases: the closest miss there is.
#[test]
fn control_other_key() {
    let biases = Random::new(77).key();
    let mut random = Random::new(78);
    let (trials, mut bias_z, mut named) = (trials(10), 0.0, 0);
    for event in 0..trials as u64 {
        let [ours, theirs] = [0, 1].map(|_| Codebook::new(&random.key(), &biases));
        let register = random.viewers(200);
        let evidence = copy(&mut random, &theirs, event, &register[..1], Strategy::Interleave, 10, CLEAN);
        let report = judge(&ours, &register, &evidence, Tried { viewers: 200, alignments: 1, look: 1 }, 1);
        bias_z += report.presence.bias_z;
        named += usize::from(matches!(report.verdict, Verdict::Identified { .. }));
    }
    let bias_z = bias_z / trials as f64;
    println!("other key: {trials} trials, {named} accusations, mean bias z {bias_z:.2}");
    assert_eq!(named, 0, "an innocent was named");
    assert!(bias_z > 2.5, "the copies follow our biases: {bias_z}");
}

#[test]
fn control_viewer_not_in_the_register() {
    let verdicts = control("not in the register", 10, |random, book, event| {
        let stranger = random.viewers(1);
        copy(random, book, event, &stranger, Strategy::Interleave, 20, CLEAN)
    });
    assert!(verdicts.iter().all(|verdict| matches!(verdict, Verdict::Insufficient { .. })));
}

/// Strangers who colluded, in copies that are judged again and again as they grow.
#[test]
fn control_growing_copies_of_strangers() {
    let mut random = Random::new(31);
    for event in 0..trials(10) as u64 / 5 {
        let book = Codebook::new(&random.key(), &random.key());
        let (register, strangers) = (random.viewers(200), random.viewers(2));
        let whole = copy(&mut random, &book, event, &strangers, Strategy::Average, 12, BER_5);
        let starts = whole.observations().iter().map(|seen| seen.at_s);
        for (look, at_s) in looks(starts, whole.seconds(), 200) {
            let tried = Tried { viewers: 200, alignments: 1, look };
            let verdict = judge(&book, &register, &whole.until(at_s), tried, 1).verdict;
            assert!(!matches!(verdict, Verdict::Identified { .. }), "{verdict:?} at {at_s} s");
        }
    }
    println!("growing copies of strangers: {} copies, 0 accusations", trials(10) / 5);
}

/// One pirate copy against random codebooks: P(p ≤ x) ≤ x for every decoder and every x, within the margin of a one-sided
/// Kolmogorov–Smirnov test at 1 in 2,000, and the p-values are not idly large either.
#[test]
fn p_values_of_random_codebooks_are_uniform() {
    let mut random = Random::new(9);
    let (pirate, bias) = (random.viewers(1), random.key());
    let theirs = Codebook::new(&random.key(), &bias);
    let (books, each) = (trials(20).clamp(20, 1_000), 1_000);
    for (strategy, belief) in [(Strategy::Interleave, 1.0), (Strategy::Interleave, 0.05)] {
        let evidence = copy(&mut random, &theirs, 1, &pirate, strategy, 8, Chain { belief, ..BER_5 });
        let mut p_of_lane = vec![Vec::with_capacity(books * each); DECODERS.len()];
        for _ in 0..books {
            let book = Codebook::new(&random.key(), &bias);
            let scorer = Scorer::new(&book, &evidence);
            for id in random.viewers(each) {
                for (lane, score) in scorer.score(id).into_iter().enumerate() {
                    p_of_lane[lane].push(10f64.powf(scorer.tail(lane).log10_sharp(score)));
                }
            }
        }
        for (lane, p) in p_of_lane.iter_mut().enumerate() {
            p.sort_by(f64::total_cmp);
            let n = p.len() as f64;
            let excess = p.iter().zip(1..).map(|(p, rank)| f64::from(rank) / n - p).fold(0.0, f64::max);
            let median = p[p.len() / 2];
            println!("{:?}: {n} p-values, excess {excess:.5}, median {median:.3}", DECODERS[lane]);
            assert!(excess <= 1.95 / n.sqrt(), "{:?}: {excess}", DECODERS[lane]);
            for k in 2..6 {
                let expected = n * 10f64.powi(-k);
                let below = p.partition_point(|&p| p <= 10f64.powi(-k)) as f64;
                assert!(below <= expected + 5.0 * expected.sqrt() + 3.0, "{below} of {n} at 1e-{k}");
            }
            assert!(median < 0.6, "{:?}: p-values are too large, half above {median}", DECODERS[lane]);
        }
    }
}

/// Beside a pirate who is known, an innocent's conditional p-value is as honest as the plain one.
#[test]
fn innocents_are_no_accomplices() {
    let mut random = Random::new(41);
    let book = Codebook::new(&random.key(), &random.key());
    let pirates = random.viewers(2);
    for strategy in [Strategy::Interleave, Strategy::Average] {
        let evidence = copy(&mut random, &book, 1, &pirates, strategy, 8, BER_5);
        let scorer = Scorer::new(&book, &evidence);
        let known = scorer.symbols(pirates[0]);
        for lane in joint::lanes_beyond(1) {
            let steps = scorer.steps(lane, &[&known]);
            let tail = Tail::new(&steps);
            let p = |id| 10f64.powf(tail.log10(joint::total(&steps, &scorer.symbols(id))));
            let mut p: Vec<f64> = random.viewers(2_000).into_iter().map(p).collect();
            p.sort_by(f64::total_cmp);
            let excess = p.iter().zip(1..).map(|(p, rank)| f64::from(rank) / 2_000.0 - p).fold(0.0, f64::max);
            assert!(excess <= 1.95 / 2_000f64.sqrt(), "{:?} of {strategy:?}: {excess}", DECODERS[lane]);
        }
    }
}

/// Around the length where two colluders come within reach: two who average are found as a pair before either could be
/// named alone, and of two who interleave the second is named beside the first.
#[test]
fn colluders_give_each_other_away() {
    for (strategy, seconds, basis) in
        [(Strategy::Average, 10, Basis::Pair), (Strategy::Interleave, 26, Basis::Beside)]
    {
        let mut random = Random::new(51);
        let mut found = 0;
        for event in 0..10 {
            let book = Codebook::new(&random.key(), &random.key());
            let pirates = random.viewers(2);
            let evidence = copy(&mut random, &book, event, &pirates, strategy, seconds, CLEAN);
            for accused in named_in_a_million(&book, &pirates, &evidence) {
                found += usize::from(accused.basis == basis);
                assert!(accused.log10_fp <= verdict::LOG10_FP_MAX);
            }
        }
        assert!(found > 0, "{strategy:?} for {seconds} s: nobody by {basis:?}");
    }
}

/// A copy that shows ten seconds a hundred times is evidence of ten seconds.
#[test]
fn a_loop_adds_no_evidence_against_innocents() {
    let mut random = Random::new(5);
    let book = Codebook::new(&random.key(), &random.key());
    let stranger = random.viewers(1);
    let once = copy(&mut random, &book, 1, &stranger, Strategy::Interleave, 3, CLEAN);
    let again = (0..100).flat_map(|_| once.observations().to_vec());
    let looped = Evidence::new(again, 300.0).unwrap();
    assert_eq!(looped.observations().len(), 24);
    let best = |evidence| rank(&book, &Random::new(6).viewers(2_000), evidence, 1).top[0].log10_p;
    assert!(best(&looped) > -6.0 && best(&looped) > 2.0 * best(&once), "{} {}", best(&looped), best(&once));
}

#[test]
fn what_is_missing_is_said_in_seconds_and_comes_true() {
    let mut random = Random::new(12);
    let (mut said, mut trials) = (Vec::new(), 0);
    while said.len() < 8 {
        trials += 1;
        assert!(trials < 40, "five seconds are too often enough");
        let book = Codebook::new(&random.key(), &random.key());
        let pirate = random.viewers(1);
        let whole = copy(&mut random, &book, trials, &pirate, Strategy::Interleave, 40, BER_5);
        let tried = Tried { viewers: MILLION, alignments: 1, look: 1 };
        let Verdict::Insufficient { needed_s: Some(more) } =
            judge(&book, &pirate, &whole.until(5.0), tried, 1).verdict
        else {
            continue;
        };
        let enough = judge(&book, &pirate, &whole.until(5.0 + more.ceil() + 3.0), tried, 1).verdict;
        said.push((more, matches!(enough, Verdict::Identified { .. })));
    }
    assert!(said.iter().all(|(more, _)| (1.0..25.0).contains(more)), "{said:?}");
    assert!(said.iter().filter(|(_, enough)| *enough).count() >= 6, "{said:?}");
}

/// For `docs/score.md`: positions until at least one colluder, and until all, are named in 29 of 30 trials among a
/// million. `RELEVE_SECONDS_MAX` bounds the search; what is not found by then is printed as a dash.
fn print_positions_needed(name: &str, chain: Chain) {
    const TRIALS: usize = 30;
    let most = std::env::var("RELEVE_SECONDS_MAX").ok().and_then(|text| text.parse().ok()).unwrap_or(150.0);
    let models: [(usize, Strategy); 10] = [
        (1, Strategy::Interleave),
        (2, Strategy::Interleave),
        (2, Strategy::Average),
        (3, Strategy::Average),
        (4, Strategy::Average),
        (3, Strategy::Majority),
        (3, Strategy::Interleave),
        (4, Strategy::Interleave),
        (3, Strategy::Minority),
        (4, Strategy::Minority),
    ];
    for (count, strategy) in models {
        let mut seconds = 4.0f64;
        let mut until = |least: usize| {
            while seconds <= most {
                let trials = pirates_named(count, strategy, seconds.round() as u32, chain).take(TRIALS);
                // One miss is allowed; at the second, this is too short.
                let missed = trials.filter(|&named| named < least).take(2).count();
                if missed < 2 {
                    return (seconds.round() * 8.0).to_string();
                }
                seconds = (seconds * 1.1).max(seconds + 1.0);
            }
            "–".to_owned()
        };
        let one = until(1);
        let all = if count == 1 { one.clone() } else { until(count) };
        println!("| {name} | {count} {strategy:?} | {one} | {all} |");
    }
}

#[test]
#[ignore = "prints a table; minutes in a release build"]
fn positions_needed_ber_0() {
    print_positions_needed("BER 0", CLEAN);
}

#[test]
#[ignore = "prints a table; minutes in a release build"]
fn positions_needed_ber_5() {
    print_positions_needed("BER 5 %", BER_5);
}

#[test]
#[ignore = "prints a table; minutes in a release build"]
fn positions_needed_ber_15() {
    print_positions_needed("BER 15 %", BER_15);
}
