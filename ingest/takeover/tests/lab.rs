//! The whole of it: live connections between namespaces, both byte streams compared by SHA-256.
//!
//! Runs the example `handover_lab`, which says what it measured (`--nocapture` shows it) and judges by content only,
//! never by time.

#![allow(clippy::unwrap_used, reason = "a test says what it expects by failing loudly")]

mod support;

use std::process::Command;
use support::{example, skip};

/// One lab at a time: two cores, and the lab has six processes.
static LAB: std::sync::Mutex<()> = std::sync::Mutex::new(());

fn lab(arguments: &[&str]) {
    let _alone = LAB.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let output = Command::new("timeout")
        .arg("120")
        .arg(example("handover_lab"))
        .args(arguments)
        .output()
        .expect("timeout (coreutils) starts");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}{}", String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) {
        skip(said.trim().trim_start_matches("SKIP: "));
    } else {
        assert!(output.status.success(), "handover_lab {arguments:?}: {said}");
    }
}

#[test]
fn twenty_four_handovers_on_one_connection_lose_nothing() {
    lab(&["handover", "24"]);
}

#[test]
fn twenty_four_handovers_over_ipv6_lose_nothing() {
    lab(&["handover", "24", "--v6"]);
}

#[test]
fn a_client_without_tcp_options_survives_twenty_four_handovers() {
    lab(&["handover", "24", "--no-options"]);
}

#[test]
fn handovers_and_crashes_on_a_lossy_line_lose_nothing() {
    lab(&["handover", "24", "--loss"]);
    lab(&["kill", "--trials=1", "--loss"]);
}

#[test]
fn a_killed_holder_loses_nothing() {
    lab(&["kill", "--trials=2"]);
}

#[test]
fn a_killed_holder_loses_nothing_over_ipv6() {
    lab(&["kill", "--trials=1", "--v6"]);
}

#[test]
fn a_powerless_holder_loses_nothing() {
    lab(&["power", "--trials=2"]);
}

#[test]
fn a_powerless_holder_loses_nothing_over_ipv6() {
    lab(&["power", "--trials=1", "--v6"]);
}

#[test]
fn a_holder_that_sleeps_and_wakes_harms_nobody() {
    lab(&["zombie", "--trials=2"]);
}

#[test]
fn the_standby_has_every_byte_of_a_calm_stream() {
    lab(&["calm"]);
}

#[test]
fn without_the_hold_the_same_crash_breaks_the_connection() {
    lab(&["control", "--trials=2"]);
}
