//! The takeover lab: `takeover-lab PREFIX [SCENARIO …] [--protect LEVEL] [--count N] [--short]`, inside the client's
//! namespace, as `scripts/takeover-lab.sh` runs it.
//!
//! In: scenarios. Out: a JSON line for each, `{"scenario","protect","ok","count","runs":[…]}`. Exit 0 when all went unnoticed.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use serde_json::json;
use std::process::ExitCode;
use tests::lab::scenario::{Scenario, play};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("takeover-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut words = std::env::args().skip(1);
    let prefix = words.next().context("usage: takeover-lab PREFIX [SCENARIO …]")?;
    let (mut scenarios, mut count, mut short, mut protect) = (Vec::new(), None, false, "commit".to_owned());
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => short = true,
            "--count" => count = Some(words.next().context("--count needs a number")?.parse()?),
            "--protect" => protect = words.next().context("--protect needs a level")?,
            name => match Scenario::ALL.iter().find(|(known, _)| *known == name) {
                Some((name, scenario)) => scenarios.push((*name, *scenario)),
                None => bail!("{name:?} is none of {:?}", Scenario::ALL.map(|(name, _)| name)),
            },
        }
    }
    if scenarios.is_empty() {
        scenarios = Scenario::ALL.to_vec();
    }
    let mut all = true;
    for (name, scenario) in scenarios {
        let usual = if scenario == Scenario::Handover { 20 } else { 5 };
        let count = count.unwrap_or(if short { usual / 5 } else { usual });
        let line = match play(&prefix, scenario, &protect, count) {
            Ok(outcome) => {
                all &= outcome.ok;
                json!({"scenario": name, "protect": protect, "ok": outcome.ok, "count": count, "runs": outcome.runs})
            }
            Err(error) => {
                all = false;
                json!({"scenario": name, "protect": protect, "ok": false, "count": count, "error": format!("{error:#}")})
            }
        };
        println!("{line}");
    }
    Ok(all)
}
