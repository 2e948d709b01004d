//! Replays the fuzz corpora: every input that a fuzzer found interesting, on every test run.

use std::path::Path;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is in the tree") {
        let path = entry.expect("a readable folder").path();
        let data = std::fs::read(&path).expect("a readable file");
        println!("{}", path.display());
        run(&data);
        count += 1;
    }
    assert!(count >= 4, "{count} inputs in {}", folder.display());
}

#[test]
fn sessions() {
    replay("rtmp_session", rtmp::fuzzing::session);
}

#[test]
fn chunks() {
    replay("rtmp_chunk", rtmp::fuzzing::chunk);
}

#[test]
fn amf() {
    replay("rtmp_amf", rtmp::fuzzing::amf);
}
