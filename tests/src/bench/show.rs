//! What benchmarks of relays have in common: a live stream, marked, relays before it, and what a load costs its servers.
//!
//! In: a feed, how many viewers there will be, a load. Out: running programs, and what was measured.

use super::load::{Load, Outcome, raise_descriptor_limit};
use crate::{Child, Cluster, Mark, Publisher, Viewer, http};
use anyhow::{Context, Result, ensure};
use std::net::SocketAddr;
use std::time::Duration;

/// Names among which the viewers' sessions are spread.
pub(super) const ACCOUNTS: usize = 32;
/// The length of the window: whoever comes begins at its end.
const LIVE: Duration = Duration::from_secs(30);
/// Descriptors of a server or generator that are not viewers'.
const DESCRIPTORS_KEPT: usize = 300;

/// What a load got, and what that took of its servers.
pub(super) struct Sample {
    /// What viewers got.
    pub(super) outcome: Outcome,
    /// Processor time of all servers, and the time it was measured for, in seconds.
    pub(super) cpu: f64,
    pub(super) time: f64,
    /// More resident memory than before, for each viewer.
    pub(super) kib_per_viewer: f64,
}

impl Sample {
    /// 1 where sampled accounts got too few different copies of a segment, to be an error. Eight symbols a segment: among so
    /// few accounts two may agree, half of them cannot.
    pub(super) fn too_few_copies(&self) -> u64 {
        let (copies, accounts) = self.outcome.copies();
        if copies < accounts {
            eprintln!("{accounts} sampled accounts got {copies} different copies of a segment");
        }
        u64::from(copies * 2 < accounts)
    }
}

/// How many viewers there are: so many unless the environment says otherwise.
pub(super) fn viewers(usual: usize) -> Result<usize> {
    match std::env::var("RELEVE_BENCH_VIEWERS") {
        Ok(text) => text.parse().context("RELEVE_BENCH_VIEWERS"),
        Err(_) => Ok(usual),
    }
}

/// How many viewers one relay, or one worker of nginx, has room for: each is an open file.
pub(super) fn room() -> Result<usize> {
    Ok(usize::try_from(raise_descriptor_limit())?.saturating_sub(DESCRIPTORS_KEPT))
}

/// A live stream, marked, and relays before it: as many as so many viewers need.
pub(super) struct Show {
    pub(super) cluster: Cluster,
    _publisher: Publisher,
    /// The ways in, one an account; every relay has them.
    pub(super) paths: Vec<String>,
    pub(super) servers: Vec<SocketAddr>,
    /// Where one viewer's playlists are.
    pub(super) base: String,
}

impl Show {
    pub(super) fn start(feed: &str, ingest_toml: &str, viewers: usize) -> Result<Show> {
        Show::start_with(feed, ingest_toml, viewers, &[])
    }

    /// The same with more environment for all programs.
    pub(super) fn start_with(
        feed: &str,
        ingest_toml: &str,
        viewers: usize,
        env: &[(&str, &str)],
    ) -> Result<Show> {
        let room = room()?;
        ensure!(room > 0, "at most {DESCRIPTORS_KEPT} open files: no viewer has room");
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        ensure!(
            viewers <= room * cores,
            "{viewers} viewers, but at most {room} for each of {cores} nginx workers"
        );
        let cluster = Cluster::start_with(viewers.div_ceil(room), ingest_toml, env)?;
        let key = cluster.add_stream("bench", Mark::Require)?;
        let publisher = Publisher::looped(feed, &cluster.publish_url(&key)?, cluster.dir())?;
        let mut paths = Vec::new();
        for account in 0..ACCOUNTS {
            let url = cluster.mint("bench", &format!("account-{account}"), 3600)?.remove(0);
            let path = url.find("/live/").with_context(|| format!("no stream in {url}"))?;
            paths.push(url[path..].to_owned());
        }
        let servers: Vec<_> =
            cluster.relays.iter().map(|relay| relay.port("listen")).collect::<Result<_>>()?;
        let mut base = String::new();
        for server in servers.iter().rev() {
            let viewer = Viewer::enter_when_live(&format!("http://{server}{}", paths[0]), LIVE)?;
            base = http::join(&viewer.index_url, "")?;
        }
        Ok(Show { cluster, _publisher: publisher, paths, servers, base })
    }

    pub(super) fn relays(&self) -> Vec<&Child> {
        self.cluster.relays.iter().map(|relay| &relay.child).collect()
    }

    /// A session of each account: the path that its playlists are below.
    pub(super) fn sessions(&self) -> Result<Vec<String>> {
        let enter = |path: &String| {
            let viewer = Viewer::enter(&format!("http://{}{path}", self.servers[0]))?;
            let base = http::join(&viewer.index_url, "")?;
            Ok(http::split(&base)?.1.to_owned())
        };
        self.paths.iter().map(enter).collect()
    }
}

/// Runs a load, and counts what its servers take of the processor.
///
/// # Errors
/// When a server is gone, or nobody was served.
pub(super) fn measure(load: &Load, servers: &[&Child]) -> Result<Sample> {
    let rss = || servers.iter().map(|server| server.family_rss_kib()).sum::<Result<u64>>();
    let cpu = || servers.iter().map(|server| server.cpu()).sum::<Result<Duration>>();
    let before = rss()?;
    let (outcome, (cpu_before, _), (cpu_after, rss), time) = load.run(|| Ok((cpu()?, rss()?)))?;
    ensure!(outcome.served > 0, "nobody was served: {:?}", outcome.words);
    Ok(Sample {
        cpu: cpu_after.saturating_sub(cpu_before).as_secs_f64(),
        time: time.as_secs_f64(),
        kib_per_viewer: rss.saturating_sub(before) as f64 / load.viewers as f64,
        outcome,
    })
}
