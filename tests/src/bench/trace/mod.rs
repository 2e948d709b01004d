//! How soon a leak is traced, and whether anybody innocent is ever named: the whole way, from a broadcaster's encoder over
//! relays to viewers' recordings, through what pirates do, to `releve-trace identify`.
//!
//! In: which rows, how many leaks each. Out: a Markdown table on stdout, as `watermark/docs/marks.md` has it. Viewers are
//! drawn at random (the seed is printed) and record from two relays. All rows of one event share its recordings and one
//! tracer; the next leaks are made while it works.

mod lab;
mod rows;
mod tracer;

use anyhow::{Context, Result, ensure};
use lab::{Dice, Drawn, Lab, Outcome, REGISTER};
use rows::{ROWS, Row, WANDER, Who};
use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Most viewers who record an event.
const VIEWERS_MAX: usize = 20;
/// Leaks that are made ahead of the tracer.
const AHEAD: usize = 2;

/// Runs it all; gives how many innocent viewers were named.
///
/// # Errors
/// When anything does not run.
pub fn run(short: bool) -> Result<u64> {
    let leaks = match std::env::var("RELEVE_TRACE_VIEWERS") {
        Ok(text) => text.parse().context("RELEVE_TRACE_VIEWERS is a number")?,
        Err(_) if short => 1,
        Err(_) => 20,
    };
    // Rows by their place, from 0; all without.
    let asked = std::env::var("RELEVE_TRACE_ROWS").unwrap_or_default();
    let asked: BTreeSet<usize> = asked.split(',').filter_map(|row| row.trim().parse().ok()).collect();
    let wanted = |row: usize| if asked.is_empty() { !short || row == 0 } else { asked.contains(&row) };
    let rows: Vec<&'static Row> =
        ROWS.iter().enumerate().filter(|(place, _)| wanted(*place)).map(|(_, row)| row).collect();
    let seed = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos() as u64;
    let mut dice = Dice(seed);
    println!("seed {seed}, register {REGISTER}, {leaks} leak(s) a row\n");

    let mut innocent = 0;
    for of_event in rows.chunk_by(|one, next| one.event == next.event) {
        let Some(event) = of_event.first().map(|row| row.event) else { continue };
        let most = of_event.iter().map(|row| row.who.many()).max().unwrap_or(1);
        let roaming = of_event.iter().any(|row| matches!(row.who, Who::Roaming));
        let roaming = if roaming { leaks.min(VIEWERS_MAX).div_ceil(2) } else { 0 };
        let stay = leaks.min(VIEWERS_MAX).max(if most > 1 { most + 1 } else { 2 });
        let lab = Lab::record(&mut dice, event, stay, roaming)?;
        let (marked, others) = lab.gops()?;
        println!("{}: {marked} GOPs marked, {others} not", event.feed);
        ensure!(
            others == 0 && marked >= event.watched_s / event.gop_s,
            "the recording was disturbed: run this again where the ingest is not starved"
        );
        if event == WANDER && wanted(0) {
            println!(
                "archive: {:.2} bytes for each that a viewer receives of the video\n",
                lab.archived_ratio()?
            );
            innocent += lab.controls(&mut dice)?;
        }
        println!(
            "\n| Copy | s | kb/s | named of | others named | seconds needed (median, most) | not named, and why | tracer, s of processor time |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        let mut drawn = Vec::new();
        for row in of_event {
            for turn in 0..leaks {
                drawn.push(lab.draw(row, turn, &mut dice)?);
            }
        }
        innocent += traced(&lab, drawn, leaks)?;
    }
    println!("\ninnocent viewers named: {innocent}");
    Ok(innocent)
}

/// Makes leaks and asks whose they are, both at once; prints a row after so many leaks. Gives how many innocent viewers are
/// named.
fn traced(lab: &Lab, drawn: Vec<Drawn>, leaks: usize) -> Result<u64> {
    let mut tracer = lab.tracer()?;
    let (sender, made) = mpsc::sync_channel(AHEAD);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (number, drawn) in drawn.into_iter().enumerate() {
                // Nobody waits any more where the tracer failed.
                if sender.send(lab.leak(drawn, number)).is_err() {
                    return;
                }
            }
        });
        let (mut innocent, mut outcomes) = (0, Vec::new());
        for leak in made {
            let leak = leak?;
            let row = leak.row;
            let outcome = leak.traced(&mut tracer)?;
            eprintln!("{}: {}", row.name, outcome.line());
            outcomes.push(outcome);
            if outcomes.len() == leaks {
                innocent += print_row(row, &outcomes);
                outcomes.clear();
            }
        }
        Ok(innocent)
    })
}

/// Prints a row; gives how many innocent viewers it names.
fn print_row(row: &Row, outcomes: &[Outcome]) -> u64 {
    let (hits, misses): (Vec<&Outcome>, Vec<&Outcome>) =
        outcomes.iter().partition(|one| !one.named().is_disjoint(&one.guilty));
    let innocent: usize = outcomes.iter().map(|one| one.named().difference(&one.guilty).count()).sum();
    let mut seconds: Vec<f64> = hits.iter().filter_map(|one| one.found["seconds"].as_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let needed = match (seconds.get(seconds.len() / 2), seconds.last()) {
        (Some(middle), Some(most)) => format!("{middle:.1}, {most:.1}"),
        _ => "-".to_owned(),
    };
    let why = |one: &&Outcome| {
        let more = one.found["needed_seconds"].as_f64().map_or("?".to_owned(), |more| format!("{more:.0}"));
        format!("{} (+{more} s)", one.found["verdict"].as_str().unwrap_or("?"))
    };
    let misses: Vec<String> = misses.iter().map(why).collect();
    let mean = |of: fn(&Outcome) -> f64| outcomes.iter().map(of).sum::<f64>() / outcomes.len().max(1) as f64;
    println!(
        "| {} | {:.0} | {:.0} | {} of {} | {innocent} | {needed} | {} | {:.1} |",
        row.name,
        row.leak_s,
        mean(|one| one.kbps),
        hits.len(),
        outcomes.len(),
        misses.join(", "),
        mean(|one| one.took_s)
    );
    innocent as u64
}
