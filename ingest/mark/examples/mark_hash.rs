//! Marks the first IDR of an Annex B file and prints hashes of A and B: to compare machines, builds, or a run under
//! another program (`valgrind --error-exitcode=9 target/debug/examples/mark_hash FILE`).
//!
//! `cargo run -p mark --example mark_hash -- FILE`; with `--features cpu-mask`, `RELEVE_CPU_MASK=sse41` and the like
//! hide CPU features.
#![forbid(unsafe_code)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Stream, chosen, seed};
use mark::{Plan, mark};
use ring::digest::{SHA256, digest};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: mark_hash FILE.h264")?;
    let stream = Stream::of_annexb(&std::fs::read(path)?);
    let plan = Plan::of(&stream.avcc(4))?;
    let idr = stream.units.iter().find(|unit| unit.idr).ok_or("the file has no IDR")?;
    let marked = mark(&plan.job(idr.bytes(4), seed(0), 0, 35))?;
    for (name, is_b) in [("A", false), ("B", true)] {
        println!("{name} {:?} QP {}", digest(&SHA256, &chosen(&marked.pieces, |_| is_b)), marked.qp);
    }
    Ok(())
}
