//! Whether a viewer costs the same among few and among many: the load of `relay` with more and more viewers, beside nginx.
//!
//! One relay, so that at most as many viewers as it may have files open. Of what a server takes of the processor that which
//! it takes for one viewer alone is left out: following the stream costs the same for however many, and would be most of it
//! among a hundred.

use super::files::{Check, Files};
use super::load::{Entrance, Habit, Load, WARM_UP};
use super::show::{ACCOUNTS, Sample, Show, measure, room, viewers};
use super::{Report, median};
use crate::{Child, feed};
use anyhow::{Result, ensure};
use std::net::SocketAddr;
use std::time::Duration;

/// How many viewers there are, one after the other; the last is the most there may be.
const STEPS: [usize; 3] = [100, 1_000, 5_000];
const MOST: usize = 20_000;

/// What a viewer costs among so many.
#[derive(Clone, Copy)]
struct Cost {
    us_per_request: f64,
    s_per_gb: f64,
    cores: f64,
}

/// One server's round: its cores with one viewer alone, then the cost at each step.
struct Climb {
    alone: f64,
    costs: Vec<Cost>,
    errors: u64,
}

/// Runs it; `short` shows that it works, its figures are rough.
///
/// # Errors
/// When a program is missing or does not start.
pub fn run(short: bool) -> Result<Report> {
    let (rounds, time) = if short { (1, Duration::from_secs(4)) } else { (3, Duration::from_secs(10)) };
    let wanted = viewers(if short { 500 } else { MOST })?;
    let most = wanted.min(room()?);
    if most < wanted {
        eprintln!("one relay has room for {most} viewers here, not for {wanted}: a viewer is an open file");
    }
    let steps: Vec<usize> = STEPS.into_iter().filter(|step| *step < most).chain([most]).collect();
    let mut show = Show::start(feed::MEGABIT, "", most)?;
    let playlist = format!("{}{}", show.base, Habit::Paced.playlist());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let entrance = Entrance::Tokens(show.paths.clone());
                ours.push(climb(&steps, time, &show.servers, &entrance, &show.relays())?);
                show.cluster.check_alive()?;
            } else {
                let files = Files::start(&playlist, Habit::Paced, Check::Nothing, ACCOUNTS)?;
                let entrance = Entrance::Below(files.below.clone());
                theirs.push(climb(&steps, time, &[files.address], &entrance, &[&files.child])?);
                files.stop()?;
            }
        }
    }
    let errors = ours.iter().chain(&theirs).map(|climb| climb.errors).sum();
    let (ours, theirs) = (figures(&steps, &ours), figures(&steps, &theirs));
    let last = format!("viewers_{most}_cpu_us_per_request");
    let cost =
        |side: &[(String, f64)]| side.iter().find(|(name, _)| *name == last).map_or(f64::NAN, |one| one.1);
    Ok(Report { name: "flat", ratio: cost(&ours) / cost(&theirs), ours, yardstick: theirs, errors })
}

fn climb(
    steps: &[usize],
    time: Duration,
    servers: &[SocketAddr],
    entrance: &Entrance,
    programs: &[&Child],
) -> Result<Climb> {
    let one = |viewers| -> Result<Sample> {
        let load = Load {
            servers: servers.to_vec(),
            entrance: entrance.clone(),
            viewers,
            ramp: Load::ramp_of(viewers),
            warm_up: WARM_UP,
            time,
            habit: Habit::Paced,
            secure: false,
        };
        let sample = measure(&load, programs)?;
        sample.outcome.words.iter().for_each(|word| eprintln!("error: {viewers} viewers: {word}"));
        Ok(sample)
    };
    let first = one(1)?;
    let mut climb = Climb { alone: first.cpu / first.time, costs: Vec::new(), errors: first.outcome.errors };
    for viewers in steps {
        let sample = one(*viewers)?;
        climb.errors += sample.outcome.errors + (viewers - sample.outcome.served) as u64;
        climb.costs.push(Cost::of(&sample, climb.alone)?);
    }
    Ok(climb)
}

impl Cost {
    /// Of what is more than the cores for one viewer alone.
    fn of(sample: &Sample, alone: f64) -> Result<Cost> {
        ensure!(sample.outcome.requests > 0, "nobody asked for anything: {:?}", sample.outcome.words);
        let cpu = sample.cpu - alone * sample.time;
        Ok(Cost {
            us_per_request: cpu * 1e6 / sample.outcome.requests as f64,
            s_per_gb: cpu / (sample.outcome.bytes as f64 / 1e9),
            cores: sample.cpu / sample.time,
        })
    }
}

/// Medians over the rounds, step by step.
fn figures(steps: &[usize], climbs: &[Climb]) -> Vec<(String, f64)> {
    let at =
        |step: usize, of: fn(Cost) -> f64| median(climbs.iter().map(|climb| of(climb.costs[step])).collect());
    let mut rows =
        vec![("viewers_1_server_cores".to_owned(), median(climbs.iter().map(|climb| climb.alone).collect()))];
    for (step, viewers) in steps.iter().enumerate() {
        rows.push((format!("viewers_{viewers}_cpu_us_per_request"), at(step, |cost| cost.us_per_request)));
        rows.push((format!("viewers_{viewers}_cpu_s_per_gb"), at(step, |cost| cost.s_per_gb)));
        rows.push((format!("viewers_{viewers}_server_cores"), at(step, |cost| cost.cores)));
    }
    let request = |cost: Cost| cost.us_per_request;
    rows.push((
        "most_viewers_by_fewest_per_request".to_owned(),
        at(steps.len() - 1, request) / at(0, request),
    ));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::load::Outcome;

    #[test]
    fn what_one_viewer_takes_alone_is_left_out_and_the_end_is_held_against_the_beginning() {
        let sample = |cpu, requests, bytes| Sample {
            outcome: Outcome { requests, bytes, ..Outcome::default() },
            cpu,
            time: 10.0,
            kib_per_viewer: 0.0,
        };
        let cost = |cpu, requests, bytes| Cost::of(&sample(cpu, requests, bytes), 0.01).unwrap();
        let (few, many) = (cost(0.11, 1_000, 100_000_000), cost(2.1, 10_000, 20_000_000_000));
        let climb = Climb { alone: 0.01, costs: vec![few, many], errors: 0 };
        let rows = figures(&[100, 1_000], &[climb]);
        for (name, expected) in [
            ("viewers_1_server_cores", 0.01),
            ("viewers_100_cpu_us_per_request", 10.0),
            ("viewers_100_cpu_s_per_gb", 0.1),
            ("viewers_1000_cpu_us_per_request", 200.0),
            ("viewers_1000_cpu_s_per_gb", 0.1),
            ("viewers_1000_server_cores", 0.21),
            ("most_viewers_by_fewest_per_request", 20.0),
        ] {
            let figure = rows.iter().find(|(other, _)| other == name).unwrap().1;
            assert!((figure - expected).abs() < 1e-9, "{name}: {figure}");
        }
        assert!(Cost::of(&sample(1.0, 0, 0), 0.01).is_err());
    }
}
