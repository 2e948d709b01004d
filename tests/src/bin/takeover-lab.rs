//! The takeover lab, inside the client's namespace, as `scripts/takeover-lab.sh` runs it: `takeover-lab PREFIX [--scenario
//! NAME …] [--count N] [--publishers P] [--protect LEVEL] [--backup] [--short] [--json]`; `takeover-lab PREFIX sum FILE` adds
//! up the lines of many batches.
//!
//! `takeover-lab PREFIX players [PLAYER …] [--count N] [--short]` has real players look on, `takeover-lab PREFIX leak [--anew]
//! [--count N]` traces a viewer's copy.
//!
//! In: scenarios. Out: a JSON line for each, `{"scenario","protect","count","skipped","ok","runs":[…],"whole":{…},"summary":{…},
//! "jitter_ms":{…}}`; for people a line for each run on stderr, unless `--json`. Exit 0 when all went unnoticed, and every
//! control was noticed.
#![forbid(unsafe_code)]

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::process::ExitCode;
use tests::lab::scenario::{PUBLISHERS, Play, Scenario, play};
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
    let prefix = words.next().context("usage: takeover-lab PREFIX [--scenario NAME …]")?;
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
    if words.next_if(|word| word == "leak").is_some() {
        return tests::lab::leak::run(&prefix, &words.collect::<Vec<_>>());
    }
    let wish = Wish::read(words)?;
    let mut all = true;
    for (name, scenario) in &wish.scenarios {
        let usual = scenario.usual();
        let count = wish.count.unwrap_or(if wish.short { usual.div_ceil(5) } else { usual });
        let jitter = Jitter::start();
        let (protect, publishers) = (wish.protect.as_str(), wish.publishers);
        let played =
            play(&prefix, Play { scenario: *scenario, protect, count, publishers, backup: wish.backup });
        let jitter = jitter.end();
        let mut line = json!({
            "scenario": name, "protect": protect, "backup": wish.backup, "count": count, "skipped": 0, "ok": false, "runs": [],
            "jitter_ms": jitter,
        });
        match played {
            Ok(outcome) => {
                all &= outcome.ok;
                line["ok"] = json!(outcome.ok);
                line["whole"] = outcome.whole;
                line["summary"] = summary::of(&outcome.runs);
                line["runs"] = json!(outcome.runs);
            }
            Err(error) => {
                all = false;
                line["error"] = json!(format!("{error:#}"));
            }
        }
        if !wish.json {
            tell(&line);
        }
        println!("{line}");
    }
    Ok(all)
}

/// What the command line asks for.
struct Wish {
    scenarios: Vec<(&'static str, Scenario)>,
    count: Option<usize>,
    publishers: usize,
    protect: String,
    backup: bool,
    short: bool,
    json: bool,
}

impl Wish {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Wish> {
        let mut wish = Wish {
            scenarios: Vec::new(),
            count: None,
            publishers: PUBLISHERS,
            protect: "commit".to_owned(),
            backup: false,
            short: false,
            json: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--scenario" => wish.scenarios.push(named(&value()?)?),
                "--count" => wish.count = Some(value()?.parse().context("--count")?),
                "--publishers" => wish.publishers = value()?.parse().context("--publishers")?,
                "--protect" => wish.protect = value()?,
                "--backup" => wish.backup = true,
                "--short" => wish.short = true,
                "--json" => wish.json = true,
                _ => bail!("{word:?} is not understood; scripts/takeover-lab.sh opens with what is"),
            }
        }
        ensure!(wish.count != Some(0) && wish.publishers > 0, "at least one run and one publisher");
        ensure!(
            !(wish.backup && wish.scenarios.is_empty()),
            "--backup needs --scenario planned, kill, power or standby"
        );
        if wish.scenarios.is_empty() {
            wish.scenarios = Scenario::ALL.to_vec();
        }
        Ok(wish)
    }
}

fn named(name: &str) -> Result<(&'static str, Scenario)> {
    let found = Scenario::ALL.iter().copied().find(|(known, _)| *known == name);
    found.with_context(|| {
        let known: Vec<_> = Scenario::ALL.iter().map(|(name, _)| *name).collect();
        format!("{name:?} is none of {}", known.join(", "))
    })
}

/// A scenario's line for people.
fn tell(line: &Value) {
    let runs = line["runs"].as_array().map_or(&[][..], Vec::as_slice);
    for (number, run) in runs.iter().enumerate() {
        let count = |name: &str| run[name].as_u64().unwrap_or(0);
        // The loss of a standby makes none.
        let blackout = run["blackout_ms"].as_f64().map_or("none".into(), |ms| format!("{ms:.1} ms"));
        eprintln!(
            "{} {} of {}: {}, blackout {blackout}, {} bytes lost, {} reconnects, {} RST, {} FIN, epoch {}",
            line["scenario"].as_str().unwrap_or_default(),
            number + 1,
            line["count"],
            if run["ok"] == true { "ok" } else { "NOT OK" },
            count("bytes_lost"),
            count("reconnects"),
            count("rst"),
            count("fin"),
            run["epoch"],
        );
    }
    let problems = line["whole"]["problems"].as_array().into_iter().flatten().chain(line.get("error"));
    problems.for_each(|words| eprintln!("  {words}"));
}
