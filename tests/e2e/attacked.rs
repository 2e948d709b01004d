//! The bench of hostile viewers in its short form: attacks, copies and revocations, judged as at full size.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::process::Command;
use tests::cluster::program;

#[test]
fn hostile_viewers_get_nothing_and_good_ones_their_own() -> Result<()> {
    let bench = program("bench")?;
    let folder = bench.parent().context("a program is in a folder")?;
    let out = Command::new(&bench)
        .args(["hostile", "--short", "--json"])
        .env("RELEVE_BIN_DIR", folder)
        .output()
        .context("bench")?;
    let (said, errors) = (String::from_utf8(out.stdout)?, String::from_utf8_lossy(&out.stderr));
    ensure!(out.status.success(), "{}: {said}{errors}", out.status);
    let line: Value = serde_json::from_str(said.lines().last().context("no last line")?)?;
    ensure!(line["name"] == "hostile" && line["errors"] == 0, "{line}");
    let ours = |name: &str| line["ours"][name].as_f64().with_context(|| format!("no {name} in {line}"));
    for name in ["unauthorised_bytes", "unauthorised_answers", "answers_5xx", "hung", "crossed"] {
        ensure!(ours(name)? == 0.0, "{name}: {line}");
    }
    for (name, least) in [
        ("attacks_http1", 5_000.0),
        ("attacks_http2", 5_000.0),
        ("attacks", 20_000.0),
        ("segments", 3_000.0),
        ("revocations", 20.0),
    ] {
        ensure!(ours(name)? >= least, "{name} below {least}: {line}");
    }
    ensure!(ours("last_byte_max_ms")? <= 5_000.0, "{line}");
    Ok(())
}
