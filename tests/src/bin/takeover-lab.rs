//! The takeover lab: `takeover-lab PREFIX [SCENARIO …] [--protect LEVEL] [--count N] [--short]`, inside the client's
//! namespace, as `scripts/takeover-lab.sh` runs it; `takeover-lab PREFIX sum FILE` adds up the lines of many batches.
//!
//! `takeover-lab PREFIX players [PLAYER …] [--count N] [--short]` has real players look on.
//!
//! In: scenarios. Out: a JSON line for each, `{"scenario","protect","count","ok","jitter_ms","summary","runs":[…]}`; the last
//! run is the whole. Exit 0 when all went unnoticed, and every control was noticed.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail};
use serde_json::json;
use std::process::ExitCode;
use tests::lab::scenario::{Scenario, play};
use tests::lab::summary::{self, Jitter};

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
    let mut words = words.peekable();
    if words.next_if(|word| word == "sum").is_some() {
        let file = words.next().context("usage: takeover-lab PREFIX sum FILE")?;
        let sums = summary::sum(&std::fs::read_to_string(&file).with_context(|| file)?)?;
        sums.iter().for_each(|line| println!("{line}"));
        return Ok(sums.iter().all(|line| line["ok"] == true));
    }
    if words.next_if(|word| word == "players").is_some() {
        return tests::lab::watch::run(&prefix, &words.collect::<Vec<_>>());
    }
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
        let usual = scenario.usual();
        let count = count.unwrap_or(if short { usual.div_ceil(5) } else { usual });
        let jitter = Jitter::start();
        let played = play(&prefix, scenario, &protect, count);
        let jitter = jitter.end();
        let mut line = json!({
            "scenario": name, "protect": protect, "count": count, "ok": false, "jitter_ms": jitter, "skipped": 0,
        });
        match played {
            Ok(outcome) => {
                all &= outcome.ok;
                line["ok"] = json!(outcome.ok);
                line["summary"] = summary::of(&outcome.runs);
                line["runs"] = json!(outcome.runs);
            }
            Err(error) => {
                all = false;
                line["error"] = json!(format!("{error:#}"));
            }
        }
        println!("{line}");
    }
    Ok(all)
}
