//! The kept fuzz corpora, and random neighbours of them, through the functions that the fuzz targets call.
#![allow(clippy::unwrap_used)] // a test says what it expects by failing loudly, its helpers too

use proptest::prelude::*;
use std::path::Path;

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let files: Vec<_> = entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(!files.is_empty(), "{} is empty", folder.display());
    files
}

#[test]
fn flv_corpus() {
    corpus("flv").iter().for_each(|data| media::fuzzing::flv(data));
}

#[test]
fn avcc_corpus() {
    corpus("avcc").iter().for_each(|data| media::fuzzing::avcc(data));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn near_the_flv_corpus(
        which in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let files = corpus("flv");
        let mut data = which.get(&files).clone();
        for (at, byte) in flips {
            let at = at.index(data.len());
            data[at] = byte;
        }
        media::fuzzing::flv(&data);
    }

    #[test]
    fn near_the_avcc_corpus(
        which in any::<prop::sample::Index>(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let files = corpus("avcc");
        let mut data = which.get(&files).clone();
        for (at, byte) in flips {
            let at = at.index(data.len());
            data[at] = byte;
        }
        media::fuzzing::avcc(&data);
    }
}
