//! How long a publisher waits when its host goes, beside keepalived with nginx-rtmp, in the same kind of namespaces.
//!
//! Ours: publishers' own connections, from the event to the first byte that the other node acknowledges, of one that offers
//! bytes every millisecond and of ffmpeg; for a planned takeover the time on the wire without any. Theirs: the first new connection that the other host answers, and when
//! ffmpeg, started again at once, has its first byte there; the connection it had is always lost. Each once with the
//! shortest interval of adverts that keepalived takes and once with the usual second.

use super::keepalived::{Came, Event, one};
use super::{Report, median};
use crate::lab::scenario::{PUBLISHERS, Play, Scenario, play};
use anyhow::{Context, Result};
use serde_json::Value;

const EVENTS: [(&str, Event, Scenario); 3] = [
    ("planned", Event::Planned, Scenario::Planned),
    ("kill", Event::Kill, Scenario::Kill),
    ("power", Event::Power, Scenario::Power),
];
/// VRRP counts in hundredths of a second.
const ADVERTS: [(&str, &str); 2] = [("", "0.01"), ("_advert_1s", "1")];

/// Runs it, inside the client's namespace of the lab.
///
/// # Errors
/// When the lab does not work or a program is missing.
pub fn run(short: bool) -> Result<Report> {
    let prefix =
        std::env::var("RELEVE_LAB_PREFIX").context("scripts/bench.sh takeover makes the namespaces")?;
    let times = if short { 1 } else { 5 };
    let (mut ours, mut theirs, mut errors) = (Vec::new(), Vec::new(), 0);
    for (name, event, scenario) in EVENTS {
        let outcome = play(
            &prefix,
            Play { scenario, protect: "commit", count: times, publishers: PUBLISHERS, backup: false },
        )?;
        let of = |name: &str| outcome.runs.iter().filter_map(|run| run[name].as_f64()).collect::<Vec<f64>>();
        let waits = of(if event == Event::Planned { "gap_ms" } else { "byte_ms" });
        // A connection that ends says so: with a reset here, or on its way out.
        let lost = of("rst").into_iter().chain(of("fin")).sum::<f64>();
        errors += u64::from(!outcome.ok || waits.len() != times || lost > 0.0);
        if !outcome.ok {
            eprintln!("error: {name}: {}", Value::Array(outcome.runs.clone()));
        }
        ours.extend(figures(name, "", "first_byte_ms", waits));
        if event != Event::Planned {
            ours.extend(figures(name, "", "publisher_back_ms", of("ffmpeg_ms")));
        }
        ours.push((format!("{name}_connections_lost"), lost));
        for (label, advert) in ADVERTS {
            let mut came: Vec<Came> = Vec::new();
            for _ in 0..times {
                came.push(
                    one(&prefix, advert, event).with_context(|| format!("keepalived, {name}, {advert} s"))?,
                );
            }
            let of = |figure: fn(&Came) -> f64| came.iter().map(figure).collect::<Vec<f64>>();
            theirs.extend(figures(name, label, "first_byte_ms", of(|came| came.new_connection_ms)));
            theirs.extend(figures(name, label, "publisher_back_ms", of(|came| came.publisher_ms)));
            let lost: u64 = came.iter().map(|came| came.lost).sum();
            theirs.push((format!("{name}{label}_connections_lost"), lost as f64));
        }
    }
    let wait =
        |side: &[(String, f64)]| side.iter().find(|(name, _)| name == "kill_first_byte_ms").map(|one| one.1);
    let ratio = wait(&ours).zip(wait(&theirs)).map_or(f64::NAN, |(ours, theirs)| ours / theirs);
    Ok(Report { name: "takeover", ours, yardstick: theirs, ratio, errors })
}

/// Median and longest.
fn figures(event: &str, label: &str, what: &str, all: Vec<f64>) -> [(String, f64); 2] {
    let longest = all.iter().copied().fold(f64::NAN, f64::max);
    let name = format!("{event}{label}_{what}");
    [(name.clone(), median(all)), (format!("{name}_max"), longest)]
}
