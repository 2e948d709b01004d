//! The benchmarks that need whole programs: `bench NAME [--short] [--json]`, as `scripts/bench.sh` runs it.
//!
//! In: a name. Out: a table for people (not with `--json`), and as its last line
//! `{"name","ours":{…},"yardstick":{…},"ratio","errors"}`. `bench table` reads such lines and prints the table of bars;
//! `bench crew` is a process of the load generator.
#![forbid(unsafe_code)]

use anyhow::{Result, bail};
use std::process::ExitCode;

const NAMES: &str = "burst, closed, first, flat, hold, hostile, https, idle, ingest, late, many, parts, relay, reload, takeover, trace";

fn main() -> ExitCode {
    match run() {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the command line names; gives the count of errors.
fn run() -> Result<u64> {
    let (mut name, mut short, mut json) = (None, false, false);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--short" => short = true,
            "--json" => json = true,
            other if name.is_none() && !other.starts_with('-') => name = Some(other.to_owned()),
            other => bail!("{other:?} is not known; usage: bench NAME [--short] [--json]"),
        }
    }
    let report = match name.as_deref() {
        // A table of its own kind; errors are innocent viewers who were named.
        Some("crew") => return tests::bench::load::crew::work().map(|()| 0),
        Some("table") => {
            println!("{}", tests::bench::table::table(&std::io::read_to_string(std::io::stdin())?)?);
            return Ok(0);
        }
        Some("trace") => return tests::bench::trace::run(short),
        Some("ingest") => tests::bench::ingest::run(short)?,
        Some("relay") => tests::bench::relay::run(short)?,
        Some("many") => tests::bench::relay::many(short)?,
        Some("idle") => tests::bench::relay::idle(short)?,
        Some("burst") => tests::bench::relay::burst(short)?,
        Some("parts") => tests::bench::relay::parts(short)?,
        Some("hostile") => tests::bench::hostile::run(short)?,
        Some("hold") => tests::bench::hold::run(short)?,
        Some("takeover") => tests::bench::takeover::run(short)?,
        Some("closed") => tests::bench::closed::run(short)?,
        Some("first") => tests::bench::first::run(short)?,
        Some("flat") => tests::bench::flat::run(short)?,
        Some("https") => tests::bench::https::run(short)?,
        Some("late") => tests::bench::late::run(short)?,
        Some("reload") => tests::bench::relay::reload(short)?,
        Some(other) => bail!("there is no benchmark {other:?}; there are: {NAMES}"),
        None => bail!("usage: bench NAME [--short] [--json]; there are: {NAMES}"),
    };
    if !json {
        report.print_table();
    }
    println!("{}", report.to_json());
    Ok(report.errors)
}
