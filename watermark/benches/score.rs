//! How fast a register is scored, beside the MACs alone in the same run.
//!
//! `cargo bench -p releve-watermark --bench score`. Ten seconds of a copy at 8 symbols a second; items are ids. The
//! yardstick `codebook_alone` asks for the same symbols and adds nothing up.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use releve_watermark::score::{
    DECODERS, Evidence, Observation, Step, Tail, Tried, judge, rank, search::Scorer,
};
use releve_watermark::{Codebook, GopId, Key, Position, Symbol, WatermarkId};

fn main() {
    divan::main();
}

const IDS: u64 = 100_000;
const MILLION: u64 = 1_000_000;

fn book() -> Codebook {
    Codebook::new(&Key::new(1, [1; 32]), &Key::new(1, [2; 32]))
}

fn gop(second: u64) -> GopId {
    GopId::derive("bench", &[1; 8], second as i64 * 90_000)
}

/// What viewer 77 had, shrunk to 0.25 and a little uneven.
fn evidence(book: &Codebook, seconds: u64) -> Evidence {
    let seen = (0..seconds).flat_map(|second| {
        let symbols = (0..).zip(book.symbols(WatermarkId(77), gop(second), 8));
        let seen = symbols.map(move |(slice, symbol)| Observation {
            position: Position { gop: gop(second), slice },
            soft: if symbol == Symbol::A { 0.25 } else { -0.25 } + 0.02 * f64::from(slice) - 0.07,
            variance: 0.01,
            at_s: second as f64,
        });
        seen.collect::<Vec<_>>()
    });
    Evidence::new(seen, seconds as f64).expect("plain numbers")
}

fn ids(count: u64) -> Vec<WatermarkId> {
    (0..count).map(|n| WatermarkId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
}

#[divan::bench(args = [1, 2], sample_count = 10)]
fn ids_scored(bencher: Bencher<'_, '_>, threads: usize) {
    let book = book();
    let (evidence, ids) = (evidence(&book, 10), ids(IDS));
    bencher.counter(ItemsCount::new(IDS)).bench(|| rank(&book, &ids, &evidence, threads));
}

#[divan::bench(sample_count = 10)]
fn codebook_alone(bencher: Bencher<'_, '_>) {
    let (book, ids, gops) = (book(), ids(IDS), (0..10).map(gop).collect::<Vec<_>>());
    bencher.counter(ItemsCount::new(IDS)).bench(|| {
        for &id in &ids {
            for &gop in &gops {
                book.symbols(id, gop, 8).for_each(|symbol| {
                    black_box(symbol);
                });
            }
        }
    });
}

/// The whole way to a verdict, one million registered.
#[divan::bench(sample_count = 1, sample_size = 1)]
fn verdict_in_a_million(bencher: Bencher<'_, '_>) {
    let book = book();
    let (evidence, ids) = (evidence(&book, 10), ids(MILLION));
    let tried = Tried { viewers: MILLION, alignments: 1, look: 1 };
    bencher.counter(ItemsCount::new(MILLION)).bench(|| judge(&book, &ids, &evidence, tried, 2));
}

/// Fits, weights and the exact tails of all decoders.
#[divan::bench(args = [10, 60], sample_count = 10)]
fn evidence_made_ready(bencher: Bencher<'_, '_>, seconds: u64) {
    let book = book();
    let evidence = evidence(&book, seconds);
    bencher.counter(ItemsCount::new(DECODERS.len())).bench(|| Scorer::new(&book, &evidence));
}

#[divan::bench(sample_count = 10)]
fn one_exact_tail(bencher: Bencher<'_, '_>) {
    let steps: Vec<Step> = (0..80).map(|n| Step { a: 40 + n % 7, b: -250, bias: 0.5 }).collect();
    bencher.bench(|| Tail::new(&steps));
}
