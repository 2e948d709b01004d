//! A pair of ingest nodes, broken in the lab's short form: a planned handover, and a holder that is killed.
//!
//! Needs root for its network namespaces; skipped visibly where that is not given. The whole lab is `scripts/takeover-lab.sh`.

use anyhow::Result;
use tests::lab::by_script;

const LAB: &str = env!("CARGO_BIN_EXE_takeover-lab");

#[test]
fn a_planned_handover_is_noticed_by_nobody() -> Result<()> {
    by_script(LAB, &["--scenario", "planned", "--short"]).map(drop)
}

#[test]
fn the_death_of_the_holder_is_noticed_by_nobody() -> Result<()> {
    by_script(LAB, &["--scenario", "kill", "--short"]).map(drop)
}
