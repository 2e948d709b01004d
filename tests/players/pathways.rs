//! Two ways to the same segments: what a CDN keeps in AES-128, and players that are steered to the CDN and back.

use crate::{plays_steadily, script};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::time::Duration;
use tests::{Cluster, Mark, Publisher, Viewer, feed};

/// A stream whose relay is its own CDN, with more of a relay's settings.
fn on_air(ingest_toml: &str, settings: &[(&str, &str)]) -> Result<(Cluster, Publisher)> {
    // Its address is told before it listens.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let base = format!("http://{address}");
    let own = [("RELEVE_RELAY_LISTEN", address.as_str()), ("RELEVE_RELAY_CDN_URL", &base)];
    let cluster = Cluster::start_with(1, ingest_toml, &[&own[..], settings].concat())?;
    let key = cluster.add_stream("demo", Mark::Require)?;
    let publisher = Publisher::looped(feed::HD, &cluster.publish_url(&key)?, cluster.dir())?;
    let looker = cluster.mint("demo", "bob", 600)?.remove(0);
    Viewer::enter_when_live(&looker, Duration::from_secs(20))?.follow_until(3, Duration::from_secs(20))?;
    Ok((cluster, publisher))
}

/// How often a key was given out.
fn keys_given(cluster: &Cluster) -> Result<f64> {
    cluster.relays[0].sum(|line| line.starts_with("releve_relay_requests_total{kind=\"key\",code=\"200\"}"))
}

#[test]
fn hls_js_plays_aes_128_and_fetches_each_key_once() -> Result<()> {
    let (cluster, _publisher) = on_air("", &[("RELEVE_RELAY_CDN_ENCRYPT", "true")])?;
    let before = keys_given(&cluster)?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let Some(facts) = plays_steadily(&url, &cluster.dir().join("aes.png"), 15)? else { return Ok(()) };
    ensure!(
        facts["encrypted"] == false,
        "it is the player that decrypts, not the browser's key system: {facts}"
    );
    let keys: Vec<&str> =
        facts["keys"].as_array().context("keys")?.iter().filter_map(Value::as_str).collect();
    let different: BTreeSet<&str> = keys.iter().copied().collect();
    ensure!(
        different.len() == 2 && keys.len() == 2,
        "one of the pictures and one of the sound, once each: {facts}"
    );
    let given = keys_given(&cluster)? - before;
    ensure!(given == 2.0, "{given} keys were asked for");
    Ok(())
}

/// What hls.js says when it goes over to another way, none of it fatal: it lets go of what was on its way, and it fetches the
/// segment of sound that it holds once more. Most times it sees that it has that one already; not where it adds the bytes
/// before it has read their times, since pictures with two B frames at 30 a second begin 67 ms after their sound, and it forgives 50
/// (`isFragmentFullyBuffered` of its buffer-controller, 1.7).
const HLS_JS_IN_PASSING: [&str; 2] = ["networkError aborted", "mediaError bufferAppendNoProgress"];

/// The steering manifest moves a player that is watching, and it plays on. `in_passing`: what it may say, once for each change.
fn is_steered(player: &str, in_passing: &[&str]) -> Result<()> {
    // Room for all: the relay's own manifest says `relay` first, until the script has it say another.
    let (cluster, _publisher) = on_air("low_latency = false", &[("RELEVE_RELAY_CDN_OVERFLOW", "1000")])?;
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let Some(facts) = script("facts.mjs", &["steer", player, &url])? else { return Ok(()) };
    for step in ["begins", "goes", "comes_back"] {
        ensure!(facts[step] == true, "{player}, {step}: {facts}");
    }
    for track in ["video", "audio"] {
        ensure!(facts[track] == json!(["relay", "cdn", "relay"]), "{player}, {track}: {facts}");
    }
    let said: Vec<&str> =
        facts["said"].as_array().context("said")?.iter().filter_map(Value::as_str).collect();
    ensure!(said.iter().all(|words| in_passing.contains(words)), "{player}: {facts}");
    const CHANGES: usize = 2;
    for words in in_passing {
        let times = said.iter().filter(|one| *one == words).count();
        ensure!(times <= CHANGES, "{player} said {words} {times} times: {facts}");
    }
    let number = |name: &str| facts[name].as_f64().with_context(|| format!("{name} in {facts}"));
    ensure!(number("manifests")? >= 3.0, "{facts}");
    // Shaka waits for a tenth of a second now and then; a way that gives nothing is a wait of a segment.
    ensure!(
        (number("played_s")? - number("wall_s")?).abs() < 0.5,
        "{player} did not go on steadily: {facts}"
    );
    eprintln!("{player}: {facts}");
    Ok(())
}

#[test]
fn hls_js_is_steered_to_the_cdn_and_back() -> Result<()> {
    is_steered("hls.js", &HLS_JS_IN_PASSING)
}

#[test]
fn shaka_is_steered_to_the_cdn_and_back() -> Result<()> {
    is_steered("shaka", &[])
}
