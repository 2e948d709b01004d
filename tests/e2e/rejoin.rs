//! A publisher, or the whole ingest, that goes and comes back: numbers and time go on, nothing listed changes.

use anyhow::{Context, Result, ensure};
use std::time::Duration;
use tests::{Cluster, Mark, Publisher, Viewer, feed, http};

#[test]
fn a_publisher_that_returns_continues_its_stream() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let url = cluster.publish_url(&key)?;
    let mut publisher = Publisher::looped(feed::SMALL, &url, cluster.dir())?;
    let mut viewer =
        Viewer::enter_when_live(&cluster.mint("demo", "alice", 600)?[0], Duration::from_secs(20))?;
    viewer.follow_until(3, Duration::from_secs(20))?;
    publisher.child.kill();
    viewer.follow(Duration::from_millis(1_500))?;
    let before = http::get(&viewer.tracks[0].url)?.ok()?.body;
    viewer.follow(Duration::from_secs(3))?;
    let after = http::get(&viewer.tracks[0].url)?.ok()?.body;
    ensure!(before == after, "the playlist changes while nobody publishes");
    let had = viewer.tracks[0].listed().len();

    let _publisher = Publisher::looped(feed::SMALL, &url, cluster.dir())?;
    viewer.follow_until(had + 3, Duration::from_secs(20))?;
    viewer.verdict()?; // the judge sees to it that numbers and media time go on
    for track in &viewer.tracks {
        let discontinuities: Vec<u64> = track.listed().values().map(|listed| listed.discontinuity).collect();
        ensure!(discontinuities.iter().all(|number| *number == discontinuities[0]), "{discontinuities:?}");
    }
    Ok(())
}

#[test]
fn numbers_go_on_after_a_crash_of_the_ingest() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let url = cluster.publish_url(&key)?;
    let publisher = Publisher::looped(feed::SMALL, &url, cluster.dir())?;
    let mut viewer =
        Viewer::enter_when_live(&cluster.mint("demo", "alice", 600)?[0], Duration::from_secs(20))?;
    viewer.follow_until(3, Duration::from_secs(20))?;
    cluster.crash_and_restart_ingest()?;
    drop(publisher);
    let had = viewer.tracks[0].listed().len();
    let _publisher = Publisher::looped(feed::SMALL, &url, cluster.dir())?;
    viewer.follow_until(had + 3, Duration::from_secs(30))?;
    viewer.verdict().context("across the crash")?;
    let numbers: Vec<u64> = viewer.tracks[0].listed().keys().copied().collect();
    ensure!(numbers.windows(2).all(|two| two[0] + 1 == two[1]), "numbers with a hole: {numbers:?}");
    cluster.check_alive()
}

#[test]
fn a_second_publisher_does_not_disturb_the_first() -> Result<()> {
    let mut cluster = Cluster::start(1)?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let url = cluster.publish_url(&key)?;
    let mut first = Publisher::looped(feed::SMALL, &url, cluster.dir())?;
    let mut viewer =
        Viewer::enter_when_live(&cluster.mint("demo", "alice", 600)?[0], Duration::from_secs(20))?;
    viewer.follow_until(2, Duration::from_secs(20))?;
    // From the same address a newcomer with the key is the same broadcaster again, or refused while the first is healthy:
    // either way there is one stream, and it goes on.
    let mut second = Publisher::looped(feed::SMALL, &url, cluster.dir())?;
    viewer.follow_until(6, Duration::from_secs(25))?;
    viewer.verdict()?;
    let living = [first.child.ended()?.is_none(), second.child.ended()?.is_none()];
    ensure!(living != [false, false], "neither publisher is left");
    cluster.check_alive()
}
