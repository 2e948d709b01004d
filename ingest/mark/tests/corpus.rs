//! Replays the kept inputs of the fuzz targets `h264_config` and `h264_slice`.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        run(&std::fs::read(entry.unwrap().path()).unwrap());
        inputs += 1;
    }
    assert!(inputs >= 5, "{} holds {inputs} inputs", folder.display());
}

#[test]
fn configurations() {
    replay("h264_config", mark::fuzzing::h264_config);
}

#[test]
fn slices() {
    replay("h264_slice", mark::fuzzing::h264_slice);
}
