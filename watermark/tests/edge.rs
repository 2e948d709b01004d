//! Copies that an edge chose by the pattern of a viewer's token: whose they are, and that nobody else's they are said to be.
//!
//! Seeded: the same trials every time. `RELEVE_TRIALS` sets the trials of each control; few are run by default.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use releve_watermark::keybook::KeyBook;
use releve_watermark::score::decoder::DECODERS;
use releve_watermark::score::search::Scorer;
use releve_watermark::score::{Evidence, Observation};
use releve_watermark::trace::finding::rounded;
use releve_watermark::trace::{Finding, Read, Register, Suspects, chosen, find, verify, whole};
use releve_watermark::{Codebook, GopId, Key, Position, Symbol, WatermarkId};

/// Global false-positive probability of a name, whatever the register's size: what is missing to a million is paid here too.
const SURE: f64 = -6.0;

/// SplitMix64.
struct Random(u64);

impl Random {
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

    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    fn key(&mut self, version: u32) -> Key {
        let mut secret = [0; 32];
        secret.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&self.word().to_le_bytes()));
        Key::new(version, secret)
    }
}

fn trials(few: u64) -> u64 {
    std::env::var("RELEVE_TRIALS").ok().and_then(|text| text.parse().ok()).unwrap_or(few)
}

/// Versions 1 to 4, of which 4 is not in the book of whoever traces.
fn versions() -> ([Key; 4], [Key; 4]) {
    let key = |secret: u8| move |version: u32| Key::new(version, [secret + version as u8; 32]);
    ([1, 2, 3, 4].map(key(0x10)), [1, 2, 3, 4].map(key(0x20)))
}

fn keys() -> KeyBook {
    let (code, bias) = versions();
    KeyBook::new(code[..3].to_vec(), bias[..3].to_vec())
}

/// The codebook of a version.
fn book(version: usize) -> Codebook {
    let (code, bias) = versions();
    Codebook::new(&code[version - 1], &bias[version - 1])
}

fn register(viewers: usize) -> Register {
    Register::parse(&(0..viewers).map(|number| format!("viewer-{number}\n")).collect::<String>()).unwrap()
}

/// What an edge gives of a segment to who shows this pattern: clause 5.4, big endian, bit 0 first; 0 is variant A.
fn by(pattern: &[u8]) -> impl Fn(u64) -> Symbol {
    move |segment| {
        let bit = (segment % 2_048) as usize;
        if pattern[bit / 8] & 0x80 >> (bit % 8) == 0 { Symbol::A } else { Symbol::B }
    }
}

fn pattern_of(version: usize, viewer: &str) -> Vec<u8> {
    book(version).pattern(WatermarkId::of_viewer(viewer))
}

fn gop(segment: u64) -> GopId {
    GopId::derive("demo", &[1; 8], segment as i64 * 180_000)
}

/// A copy of these segments, recorded under version 2: a GOP of four slices each. Added up, one symbol of twenty would be
/// misread.
fn copy(
    random: &mut Random,
    segments: impl Iterator<Item = u64>,
    given: impl Fn(u64) -> Symbol,
) -> Vec<Read> {
    let (gain, sd) = (0.1, 0.1 / 1.645 * 4f64.sqrt());
    let mut reads = Vec::new();
    for (second, segment) in segments.enumerate() {
        let mean = if given(segment) == Symbol::A { gain } else { -gain };
        reads.extend((0..4).map(|slice| Read {
            stream: "demo".to_owned(),
            segment,
            gop: gop(segment),
            slice,
            at_s: second as f64,
            soft: rounded(mean + sd * random.normal()),
            variance: rounded(sd * sd),
            code_key: 2,
            bias_key: 2,
        }));
    }
    reads
}

/// As `releve-trace identify --whole-segments` reads it.
fn read_in_all_ways(slices: Vec<Read>, keys: &KeyBook) -> Vec<Read> {
    let whole = whole(&slices, |read| Some(read.gop));
    let chosen = chosen(&whole, keys);
    [slices, whole, chosen].concat()
}

/// The same without the slices, which have controls of their own.
fn by_segments(slices: Vec<Read>, keys: &KeyBook) -> Vec<Read> {
    read_in_all_ways(slices, keys).into_iter().filter(|read| read.slice >= 255).collect()
}

fn found(reads: Vec<Read>, register: &Register, keys: &KeyBook, threads: usize) -> Finding {
    let seconds = reads.iter().fold(0.0, |most: f64, read| most.max(read.at_s)) + 1.0;
    find(reads, seconds, 1, vec!["all of it".to_owned()], &mut Suspects::new(register, keys, threads))
        .unwrap()
}

/// The copy begins before the end of the pattern and goes on at its beginning. Names as for a register of a million.
#[test]
fn the_viewer_of_a_pattern_is_named_and_all_readings_are_paid_for() {
    let pattern = pattern_of(2, "viewer-7");
    let slices = copy(&mut Random(1), 2_000..2_110, by(&pattern));
    let alone = found(slices.clone(), &register(500), &keys(), 1);
    assert!(alone.viewers.is_empty(), "slice by slice it is nobody's: {:?}", alone.viewers);
    let finding = found(read_in_all_ways(slices, &keys()), &register(500), &keys(), 1);
    assert_eq!((finding.verdict.as_str(), finding.viewers.len()), ("identified", 1), "{}", finding.reason);
    let named = &finding.viewers[0];
    assert_eq!(named.viewer, "viewer-7");
    assert!(named.log10_fp + (1e6f64 / 500.0).log10() <= SURE, "{named:?}");
    // By slices, by segments, and by patterns of the versions 1, 2 and 3.
    assert_eq!(finding.paid.readings, 5);
    verify(&finding, &keys(), None).unwrap();
    let mut cheaper = finding.clone();
    cheaper.paid.readings = 4;
    assert!(verify(&cheaper, &keys(), None).is_err(), "five readings at the price of four");
    let mut moved = finding.clone();
    let read = moved.evidence.iter_mut().find(|read| read.slice > 255).unwrap();
    read.slice ^= 1;
    let refused = verify(&moved, &keys(), None).unwrap_err().to_string();
    assert!(refused.contains("does not stand at the bit"), "{refused}");
}

/// A token lives through a change of keys, and may be made under keys that the ingest does not use yet.
#[test]
fn the_pattern_may_be_of_the_version_before_or_after() {
    for (version, is_named) in [(1, true), (2, true), (3, true), (4, false)] {
        let slices = copy(&mut Random(version as u64), 0..110, by(&pattern_of(version, "viewer-7")));
        let finding = found(read_in_all_ways(slices, &keys()), &register(500), &keys(), 1);
        let names: Vec<&str> = finding.viewers.iter().map(|named| named.viewer.as_str()).collect();
        assert_eq!(names, if is_named { vec!["viewer-7"] } else { vec![] }, "version {version}");
    }
}

/// Sixty bits, ten times round: evidence of sixty symbols, which cannot be less probable than those are.
#[test]
fn a_pattern_that_comes_round_counts_once() {
    let id = WatermarkId::of_viewer("viewer-7");
    let segments = || (0..10u64).flat_map(|round| (0..60).map(move |bit| round * 2_048 + bit));
    let slices = copy(&mut Random(3), segments(), by(&pattern_of(2, "viewer-7")));
    let finding = found(by_segments(slices, &keys()), &register(20), &keys(), 1);
    let [named] = &finding.viewers[..] else { panic!("{:?}", finding.viewers) };
    let least: f64 = (0..60)
        .map(|bit| {
            let a = book(2).bias(Position::chosen(bit)) as f64 / 2f64.powi(64);
            let of = if book(2).symbol(id, Position::chosen(bit)) == Symbol::A { a } else { 1.0 - a };
            of.log10()
        })
        .sum();
    assert!(named.log10_p >= least - 1e-9, "{} for symbols of {least}", named.log10_p);
    assert!(
        named.log10_p <= 0.8 * least,
        "ten readings of each are nearly clean: {} of {least}",
        named.log10_p
    );
}

/// Nobody is named in any trial of a control.
fn nobody_is_named(name: &str, few: u64, copy_of: impl Fn(&mut Random) -> (Vec<Read>, KeyBook)) {
    let register = register(200);
    let mut random = Random(name.len() as u64);
    for trial in 0..trials(few) {
        let (slices, keys) = copy_of(&mut random);
        let finding = found(by_segments(slices, &keys), &register, &keys, 1);
        assert!(finding.viewers.is_empty(), "{name}, trial {trial}: {:?}", finding.viewers);
    }
    println!("{name}: {} trials, nobody named", trials(few));
}

/// A book of random keys, and its codebook of version 2.
fn random_keys(random: &mut Random) -> (KeyBook, Codebook) {
    let [code, bias] = [0, 1].map(|_| [random.key(1), random.key(2)]);
    let book = Codebook::new(&code[1], &bias[1]);
    (KeyBook::new(code.to_vec(), bias.to_vec()), book)
}

#[test]
fn control_unmarked_copy() {
    nobody_is_named("unmarked", 40, |random| {
        let (keys, _) = random_keys(random);
        let mut slices = copy(random, 2_000..2_110, |_| Symbol::A);
        slices.iter_mut().for_each(|read| read.soft = rounded(read.soft - 0.1));
        (slices, keys)
    });
}

#[test]
fn control_all_of_variant_a() {
    nobody_is_named("all of A", 40, |random| {
        let (keys, _) = random_keys(random);
        (copy(random, 2_000..2_110, |_| Symbol::A), keys)
    });
}

#[test]
fn control_viewer_not_in_the_register() {
    nobody_is_named("not in the register", 40, |random| {
        let (keys, book) = random_keys(random);
        let pattern = book.pattern(WatermarkId(random.word()));
        (copy(random, 2_000..2_110, by(&pattern)), keys)
    });
}

#[test]
fn control_other_keys() {
    nobody_is_named("other keys", 40, |random| {
        let ((keys, _), (_, theirs)) = (random_keys(random), random_keys(random));
        let pattern = theirs.pattern(WatermarkId::of_viewer("viewer-7"));
        (copy(random, 2_000..2_110, by(&pattern)), keys)
    });
}

/// One copy, twice round the pattern, against random codebooks: P(p ≤ x) ≤ x for every decoder and every x, within the margin
/// of a one-sided Kolmogorov–Smirnov test at 1 in 2,000, and the p-values are not idly large either.
#[test]
fn p_values_of_random_codebooks_are_uniform() {
    let mut random = Random(9);
    let segments = (0..2u64).flat_map(|round| (0..64).map(move |bit| round * 2_048 + bit));
    let slices = copy(&mut random, segments, by(&pattern_of(2, "viewer-7")));
    let reads = read_in_all_ways(slices, &keys());
    let seen = reads.iter().filter(|read| read.slice > 255 && read.code_key == 2).map(|read| Observation {
        position: Position { gop: read.gop, slice: read.slice },
        soft: read.soft,
        variance: read.variance,
        at_s: read.at_s,
    });
    let evidence = Evidence::new(seen, 128.0).unwrap();
    assert_eq!(evidence.observations().len(), 64, "each bit once");
    let (books, each) = (trials(20).clamp(20, 1_000), 1_000);
    let bias = random.key(1);
    let mut p_of_lane = vec![Vec::new(); DECODERS.len()];
    for _ in 0..books {
        let book = Codebook::new(&random.key(1), &bias);
        let scorer = Scorer::new(&book, &evidence);
        for _ in 0..each {
            for (lane, score) in scorer.score(WatermarkId(random.word())).into_iter().enumerate() {
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
        assert!(median < 0.6, "{:?}: p-values are too large, half above {median}", DECODERS[lane]);
    }
}

/// For `docs/marks.md`: how many segments it takes, and a register of a million drawn to the last.
#[test]
#[ignore = "prints a table; minutes in a release build"]
fn one_of_a_million() {
    let (register, threads) = (register(1_000_000), 2);
    for segments in [80, 90, 100, 110] {
        let mut named = 0;
        for viewer in 0..5u64 {
            let name = format!("viewer-{}", viewer * 199_999 + segments);
            let slices =
                copy(&mut Random(segments << 8 | viewer), 2_000..2_000 + segments, by(&pattern_of(2, &name)));
            let finding = found(by_segments(slices, &keys()), &register, &keys(), threads);
            assert!(finding.viewers.iter().all(|named| named.viewer == name), "{:?}", finding.viewers);
            named += finding.viewers.len();
        }
        println!("{segments} segments, one symbol of 20 misread: {named} of 5 named among 1,000,000");
    }
}
