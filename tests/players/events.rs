//! What real players tell the relay of themselves (CMCD v2), and what of that stands in its metrics.

use crate::{browse, on_air, watch_url};
use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tests::lab::players::{Player, missing};
use tests::{Cluster, Publisher, Viewer, tool};

/// Within this time whatever is expected has happened.
const PATIENCE: Duration = Duration::from_secs(40);

/// The value of a metric of players.
fn counted(cluster: &Cluster, what: &str) -> Result<f64> {
    cluster.relays[0].sum(|line| line.starts_with(&format!("releve_relay_players_{what} ")))
}

fn at_least(cluster: &Cluster, what: &str, least: f64) -> Result<f64> {
    tests::wait_for(what, PATIENCE, || {
        let count = counted(cluster, what)?;
        ensure!(count >= least, "{count} in {}", cluster.relays[0].metrics()?);
        Ok(count)
    })
}

/// Every post of events was taken.
fn all_were_taken(cluster: &Cluster) -> Result<()> {
    let posts = |code: &str| {
        let begins = format!("releve_relay_requests_total{{kind=\"cmcd\",code=\"{code}");
        cluster.relays[0].sum(|line| line.starts_with(&begins))
    };
    let (taken, all) = (posts("204")?, posts("")?);
    ensure!(
        taken > 0.0 && taken == all,
        "{taken} of {all} posts were taken: {}",
        cluster.relays[0].metrics()?
    );
    Ok(())
}

/// A player on a session's playlist that posts to the relay from a page of another site: some intervals and responses.
fn told(name: &str) -> Result<Option<(Cluster, Publisher, Player)>> {
    if let Some(why) = missing(name) {
        ensure!(tool("node")?.is_none() || tool("chromium")?.is_none(), "{why}");
        return Ok(None);
    }
    let (cluster, publisher, url) = on_air()?;
    let session = Viewer::enter(&url)?.index_url;
    let player = Player::telling(name, &session, 2)?;
    at_least(&cluster, "events_total{event=\"t\"}", 3.0)
        .with_context(|| format!("{:?}", player.complaints()))?;
    at_least(&cluster, "events_total{event=\"rr\"}", 3.0)?;
    ensure!(counted(&cluster, "events_total{event=\"other\"}")? == 0.0, "{}", cluster.relays[0].metrics()?);
    Ok(Some((cluster, publisher, player)))
}

/// It begins, it stalls since nothing comes, it goes on.
#[test]
fn hls_js_tells_of_a_stall() -> Result<()> {
    let Some((cluster, _publisher, mut player)) = told("hls.js")? else { return Ok(()) };
    at_least(&cluster, "states_total{state=\"playing\"}", 1.0)?;
    at_least(&cluster, "buffer_seconds_count", 1.0)?;
    let metrics = cluster.relays[0].metrics()?;
    ensure!(counted(&cluster, "states_total{state=\"rebuffering\"}")? == 0.0, "{metrics}");
    ensure!(counted(&cluster, "stall_seconds_count")? == 0.0, "{metrics}");

    let stopped = Instant::now();
    // The ingest: it would take a publisher that is silent for long for one that is gone.
    cluster.ingest.child.signal(Signal::STOP)?;
    let stalls = at_least(&cluster, "states_total{state=\"rebuffering\"}", 1.0);
    cluster.ingest.child.signal(Signal::CONT)?;
    stalls?;
    at_least(&cluster, "stall_seconds_count", 1.0)?;
    let (stalled, at_most) = (counted(&cluster, "stall_seconds_sum")?, stopped.elapsed().as_secs_f64());
    ensure!(stalled > 0.0 && stalled <= at_most, "stalls of {stalled} s in {at_most} s");
    player.check_alive()?;
    all_were_taken(&cluster)
}

/// Its compiled build tells no states (5.2.12: its own compiler renames `sta` where it says it, and not where it looks for it).
#[test]
fn shaka_tells_how_it_began() -> Result<()> {
    let Some((cluster, _publisher, mut player)) = told("shaka")? else { return Ok(()) };
    let metrics = cluster.relays[0].metrics()?;
    ensure!(counted(&cluster, "startup_seconds_count")? == 1.0, "{metrics}");
    ensure!((0.01..20.0).contains(&counted(&cluster, "startup_seconds_sum")?), "{metrics}");
    player.check_alive()?;
    all_were_taken(&cluster)
}

/// The watch page, as it is: what hls.js tells, and with it how soon the picture came and how far behind it is.
#[test]
fn the_watch_page_tells_how_it_is() -> Result<()> {
    let (cluster, _publisher, url) = on_air()?;
    let shot = cluster.dir().join("tells.png");
    // It tells how it is every half a minute.
    let played = browse(&["play", &watch_url(&url), "33", shot.to_str().context("a path in UTF-8")?])?;
    let Some(facts) = played else { return Ok(()) };
    ensure!(
        facts["errors"] == serde_json::json!([]) && facts["complaints"] == serde_json::json!([]),
        "{facts}"
    );
    let waits = facts["waits"].as_array().context("waits")?.len() as f64;
    ensure!(counted(&cluster, "states_total{state=\"playing\"}")? >= 1.0, "{}", cluster.relays[0].metrics()?);
    ensure!(counted(&cluster, "states_total{state=\"rebuffering\"}")? == waits, "{facts}");
    ensure!(counted(&cluster, "startup_seconds_count")? == 1.0, "{}", cluster.relays[0].metrics()?);
    let startup_s = counted(&cluster, "startup_seconds_sum")?;
    ensure!((0.01..20.0).contains(&startup_s), "it says {startup_s} s: {facts}");
    ensure!(counted(&cluster, "latency_seconds_count")? >= 1.0, "{}", cluster.relays[0].metrics()?);
    let (behind_s, told) =
        (counted(&cluster, "latency_seconds_sum")?, counted(&cluster, "latency_seconds_count")?);
    ensure!((0.3..5.0).contains(&(behind_s / told)), "{behind_s} s behind in {told} reports");
    eprintln!("begun after {startup_s} s, {} s behind", behind_s / told);
    all_were_taken(&cluster)
}
