//! Viewers through TLS at full size, beside nginx with TLS: the load of `relay`.
//!
//! A relay with a certificate, every viewer with a session and marked slices of their own, TLS 1.3 with AES-128-GCM; nginx with
//! the same suite and one viewer's copy as plain files, checking nothing. The generator opens playlists, and the segments of a
//! sample of viewers, whose bytes it hashes and compares; of all other segments it counts the records. All handshakes are full
//! ones. Figures are those of the time after everybody has come in; what happened to nginx's viewers (late or lost ones, where
//! it does not keep up) is among its figures, and an error is what happened to ours.

use super::files::{Check, Files};
use super::load::{Entrance, Habit, Load, WARM_UP};
use super::relay::figures;
use super::show::{ACCOUNTS, Sample, Show, measure, viewers};
use super::{Report, median};
use crate::{certificate, feed};
use anyhow::Result;
use std::time::Duration;

/// What each thousand take longer to come in than without TLS: handshakes take both ends' time.
const SHAKE_A_THOUSAND: Duration = Duration::from_millis(800);

/// Runs it; `short` is for CI: it shows that it works, its figures are rough.
///
/// # Errors
/// When a program is missing or does not start.
pub fn run(short: bool) -> Result<Report> {
    let viewers = viewers(if short { 300 } else { 19_500 })?;
    let (rounds, time) = if short { (1, Duration::from_secs(10)) } else { (3, Duration::from_secs(20)) };
    let folder = tempfile::Builder::new().prefix("releve-tls-").tempdir()?;
    let env = certificate::relay_env(folder.path())?;
    let env: Vec<_> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut show = Show::start_with(feed::MEGABIT, "", viewers, &env)?;
    let servers: Vec<_> =
        show.cluster.relays.iter().map(|relay| relay.port("tls_listen")).collect::<Result<_>>()?;
    let playlist = format!("{}video.m3u8", show.base);
    let load = |servers, entrance| Load {
        servers,
        entrance,
        viewers,
        ramp: Load::ramp_of(viewers) + SHAKE_A_THOUSAND.mul_f64(viewers as f64 / 1000.0),
        warm_up: WARM_UP,
        time,
        habit: Habit::Paced,
        secure: true,
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                let load = load(servers.clone(), Entrance::Tokens(show.paths.clone()));
                ours.push(measure(&load, &show.relays())?);
                show.cluster.check_alive()?;
            } else {
                let files = Files::start(&playlist, Habit::Paced, Check::Tls, ACCOUNTS)?;
                let load = load(vec![files.address], Entrance::Below(files.below.clone()));
                theirs.push(measure(&load, &[&files.child])?);
                files.stop()?;
            }
        }
    }
    for (whose, samples) in [("ours", &ours), ("nginx", &theirs)] {
        samples.iter().flat_map(|sample| &sample.outcome.words).for_each(|word| eprintln!("{whose}: {word}"));
    }
    let errors = |sample: &Sample| sample.outcome.errors;
    let lost = median(theirs.iter().map(|sample| errors(sample) as f64).collect());
    let errors = ours.iter().map(|sample| errors(sample) + sample.too_few_copies()).sum();
    let (mut ours, mut theirs) = (figures(&mut ours), figures(&mut theirs));
    ours.push(("relays".to_owned(), servers.len() as f64));
    theirs.push(("errors".to_owned(), lost));
    Ok(Report { name: "https", ratio: ours[0].1 / theirs[0].1, ours, yardstick: theirs, errors })
}
