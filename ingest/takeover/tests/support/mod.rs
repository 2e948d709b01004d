//! What the tests that need a kernel share: the question of rights, the lab's namespaces, the examples' paths.

#![allow(dead_code, reason = "each test file uses its part")]

#[path = "../../examples/handover_lab/netns.rs"]
pub(crate) mod netns;

use std::io::Write;
use std::path::PathBuf;
use takeover::rights::{self, Right};

/// False, with a visible line, when a right is missing; a failure when RELEVE_REQUIRE_RIGHTS=1.
pub(crate) fn allowed(needed: &[Right]) -> bool {
    let missing = rights::probe()
        .into_iter()
        .find(|finding| needed.contains(&finding.right) && finding.missing.is_some())
        .map(|finding| finding.to_string());
    let reason = missing
        .or_else(|| netns::Namespace::new().err().map(|error| format!("no network namespaces: {error}")));
    match reason {
        None => true,
        Some(reason) => skip(&reason),
    }
}

pub(crate) fn skip(reason: &str) -> bool {
    assert!(
        std::env::var("RELEVE_REQUIRE_RIGHTS").as_deref() != Ok("1"),
        "rights are required here: {reason}"
    );
    // Not `println`: the harness hides what a passing test prints, and a skipped test must be seen.
    let _ = writeln!(std::io::stderr(), "SKIP: {reason}");
    false
}

/// A program of this package's examples, which `cargo test` builds.
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build -p takeover --examples`", path.display());
    path
}
