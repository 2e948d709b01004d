//! The takeover lab: two ingest nodes that share an address, witnesses, real publishers, viewers, and what may go wrong.
//!
//! ```text
//!            ┌── ns a: ingest ──┐   ns r: relays (witnesses 1–3; the first two read one node each, the third both)
//!  bridge ───┤                  ├── private wire
//!            └── ns b: ingest ──┘   ns c: ffmpeg, steady publishers, viewers, capture, and this program
//! ```
//!
//! In: root, iproute2, nftables, ffmpeg. Out: an `Outcome` a scenario. Everything is removed when dropped.
//!
//! | module | what it is |
//! |---|---|
//! | `net`, `rig` | namespaces and wires; programs |
//! | `wire`, `capture` | frames; what the publishers' host sees of its connections |
//! | `events`, `scenario` | what goes wrong; who publishes, how often, and what is made of it |
//! | `audience` | viewers and their judgement: rules, equal bytes, nothing missing |
//! | `kinds`, `wrap` | publishers with less in their handshake; one whose sequence numbers wrap |
//! | `slow`, `echo` | a slow link between the nodes; strange heartbeats |
//! | `proof` | the commit invariant, packet by packet |
//! | `watch`, `players` | real players look on while it happens |
//! | `twice` | a primary pushed to one node, its backup to the other |
//! | `leak` | a viewer's copy of it is traced |
//! | `tally` | what each run cost |
//! | `summary` | percentiles, and how late the machine itself is |

pub mod audience;
pub mod capture;
pub mod early;
pub mod echo;
pub mod events;
pub mod kinds;
pub mod leak;
pub mod net;
pub mod players;
pub mod proof;
pub mod rig;
pub mod scenario;
pub mod slow;
pub mod summary;
pub mod tally;
pub mod twice;
pub mod watch;
pub mod wire;
pub mod wrap;

use anyhow::{Result, ensure};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// Exit status of a lab that was not allowed to run.
const SKIPPED: i32 = 77;
/// Every lab wants the machine's attention: one after the other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `scripts/takeover-lab.sh` with `lab`, the program of this profile; gives what it printed, `None` when it may not run here.
///
/// # Errors
/// When somebody noticed something, with what the lab said.
pub fn by_script(lab: &str, words: &[&str]) -> Result<Option<String>> {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let beside = Path::new(lab).parent().map(Path::to_owned).unwrap_or_default();
    let mut script = Command::new(crate::root().join("scripts/takeover-lab.sh"));
    // Relative to the tree, as everywhere.
    let named = std::env::var_os("RELEVE_BIN_DIR").map(|folder| crate::root().join(folder));
    script.env("RELEVE_BIN_DIR", named.unwrap_or(beside));
    let said = script.args(words).output()?;
    let errors = String::from_utf8_lossy(&said.stderr);
    if said.status.code() == Some(SKIPPED) {
        eprintln!("skipped: {}", errors.trim());
        return Ok(None);
    }
    let lines = String::from_utf8_lossy(&said.stdout).trim().to_owned();
    println!("{lines}");
    ensure!(said.status.success(), "{lines}\n{errors}");
    Ok(Some(lines))
}
