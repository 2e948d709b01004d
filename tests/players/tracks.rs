//! Several sounds and several encodings of the picture: the watch page and hls.js change over between them.

use crate::{browse, watch_url};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::Duration;
use tests::steady::{self, Steady};
use tests::{Cluster, Mark, Viewer, feed, tracks};

/// What hls.js says when it changes over: it lets go of what was on its way, empties its buffer for another sound, and waits a
/// moment where little was in it. On a slow machine that is in every second run.
const IN_PASSING: [&str; 4] = ["aborted", "bufferStalledError", "bufferSeekOverHole", "bufferNudgeOnStall"];

/// The viewer chooses the other sound on the page, and hls.js is told to take the smaller picture and the larger one again.
#[test]
fn the_watch_page_changes_sound_and_size() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let feed = tracks::with_second_sound(tracks::plain(feed::SMALL)?, cluster.dir())?;
    let feed = tracks::with_smaller_picture(feed, feed::SMALL, "320:180", &tracks::SMALLER, cluster.dir())?;
    let key = cluster.add_stream("ladder", Mark::Require)?;
    let to = cluster.ingest.port("rtmp")?;
    let mut socket = steady::connect(to, 0)?;
    steady::begin(&mut socket, to, &key, &feed)?;
    let mut publisher = Steady::begun(socket, &feed)?;
    let url = cluster.mint("ladder", "alice", 600)?.remove(0);
    Viewer::enter_when_live(&url, Duration::from_secs(20))?.follow_until(3, Duration::from_secs(20))?;
    let Some(facts) = browse(&["choose", &watch_url(&url)])? else { return Ok(()) };
    publisher.check_alive()?;
    ensure!(facts["sounds"] == serde_json::json!(["Audio", "Audio 2"]), "{facts}");
    ensure!(facts["sound_fetched"] == true, "{facts}");
    ensure!(facts["sizes"] == serde_json::json!([[320, 180], [640, 360]]), "{facts}");
    ensure!(facts["plays_on"] == true, "it stands after the changes: {facts}");
    ensure!(facts["complaints"] == serde_json::json!([]), "{facts}");
    let errors = facts["errors"].as_array().context("errors")?;
    let in_passing = |error: &Value| {
        let detail = &error["detail"];
        detail["fatal"] == false && detail["details"].as_str().is_some_and(|kind| IN_PASSING.contains(&kind))
    };
    ensure!(errors.iter().all(in_passing), "{facts}");
    Ok(())
}
