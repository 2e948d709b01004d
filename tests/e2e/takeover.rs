//! A pair of ingest nodes, broken in the lab's short form: a planned handover, and a holder that is killed.
//!
//! Needs root for its network namespaces; skipped visibly where that is not given. The whole lab is `scripts/takeover-lab.sh`.

use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

/// Exit status of a lab that was not allowed to run.
const SKIPPED: i32 = 77;

/// Both want the machine's attention: one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
fn a_planned_handover_is_noticed_by_nobody() -> Result<()> {
    lab("handover")
}

#[test]
fn the_death_of_the_holder_is_noticed_by_nobody() -> Result<()> {
    lab("kill")
}

fn lab(scenario: &str) -> Result<()> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let programs =
        Path::new(env!("CARGO_BIN_EXE_takeover-lab")).parent().map(Path::to_owned).unwrap_or_default();
    let mut lab = Command::new(tests::root().join("scripts/takeover-lab.sh"));
    // Relative to the tree, as everywhere.
    let named = std::env::var_os("RELEVE_BIN_DIR").map(|folder| tests::root().join(folder));
    lab.env("RELEVE_BIN_DIR", named.unwrap_or(programs));
    let said = lab.args([scenario, "--short"]).output()?;
    let errors = String::from_utf8_lossy(&said.stderr);
    if said.status.code() == Some(SKIPPED) {
        eprintln!("skipped: {}", errors.trim());
        return Ok(());
    }
    let line = String::from_utf8_lossy(&said.stdout);
    println!("{}", line.trim());
    ensure!(said.status.success(), "{}\n{errors}", line.trim());
    Ok(())
}
