//! No secret is ever written where people look: logs, metrics, answers to strangers.

use anyhow::{Context, Result, ensure};
use std::process::Command;
use std::time::Duration;
use tests::{Cluster, Mark, Publisher, Viewer, feed, http};

#[test]
fn no_secret_is_in_any_log_or_metric() -> Result<()> {
    let mut cluster = Cluster::start_with(1, "log = \"json\"", &[("RUST_LOG", "trace")])?;
    let key = cluster.add_stream("demo", Mark::Prefer)?;
    let rotated = cluster.ctl(&["stream", "rotate-key", "demo"])?.trim_end().to_owned();
    let url = cluster.mint("demo", "alice", 600)?.remove(0);
    let token = url.split("token=").nth(1).context("a token")?.to_owned();
    let publisher = Publisher::looped(feed::SMALL, &cluster.publish_url(&rotated)?, cluster.dir())?;
    let mut viewer = Viewer::enter_when_live(&url, Duration::from_secs(20))?;
    viewer.follow_until(2, Duration::from_secs(20))?;
    // What is refused is a secret too: a key of yesterday, a token for somewhere else.
    let mut refused = Publisher::once(feed::SMALL, &cluster.publish_url(&key)?, cluster.dir())?;
    let status = refused.child.wait(Duration::from_secs(15)).context("a rotated key is refused")?;
    ensure!(!status.success(), "the old key publishes after its rotation");
    let page = http::get(&url.replace("/live/", "/watch/").replace("/index.m3u8", ""))?.ok()?;
    let _ = http::get(&format!("{url}x"))?;
    cluster.revoke("alice")?;
    std::thread::sleep(Duration::from_secs(1));
    drop(publisher);
    std::thread::sleep(Duration::from_millis(500));

    let session = viewer.index_url.split("/v/").nth(1).and_then(|rest| rest.split('/').next());
    let mut secrets = vec![key, rotated, token, session.context("a session")?.to_owned()];
    for file in std::fs::read_dir(cluster.dir().join("keys"))? {
        let text = std::fs::read_to_string(file?.path())?;
        secrets.extend(text.split_whitespace().filter(|word| word.len() >= 32).map(str::to_owned));
    }
    ensure!(secrets.len() >= 10, "six key files have a secret each: {}", secrets.len());
    // A key is an id and a secret; the id may be shown, the secret not.
    let halves: Vec<String> =
        secrets[..4].iter().map(|secret| secret[secret.len() - 20..].to_owned()).collect();
    let mut said = vec![("the logs".to_owned(), cluster.logs())];
    for node in std::iter::once(&cluster.ingest).chain(&cluster.relays) {
        said.push((format!("metrics of {}", node.name), node.metrics()?));
        ensure!(said.last().is_some_and(|(_, text)| text.contains("# EOF")), "{} has no metrics", node.name);
    }
    said.push(("the status".to_owned(), cluster.ctl(&["status", "--json"])?));
    said.push(("the list of streams".to_owned(), cluster.ctl(&["stream", "list", "--json"])?));
    for (place, text) in &said {
        for secret in secrets.iter().chain(&halves) {
            let at = text.find(secret.as_str());
            ensure!(
                at.is_none(),
                "a secret is in {place}: …{}…",
                at.map_or("", |at| &text[at.saturating_sub(120)..at])
            );
        }
    }
    ensure!(said[0].1.len() > 200, "the programs said nothing at all at trace level");
    ensure!(
        page.header("referrer-policy") == Some("no-referrer"),
        "the watch page's address leaks to other sites"
    );

    for entry in ["access", "session", "cluster", "pattern", "code", "bias", "webhook", "mint"] {
        use std::os::unix::fs::PermissionsExt;
        let file = cluster.dir().join("keys").join(format!("{entry}.key"));
        let mode = std::fs::metadata(&file)?.permissions().mode() & 0o777;
        ensure!(mode == 0o600, "{entry}.key has mode {mode:o}");
    }
    let out = Command::new("grep")
        .args(["-c", "--binary-files=text", "-F", &secrets[1]])
        .arg(cluster.dir().join("state.db"))
        .output()?;
    ensure!(out.stdout.starts_with(b"0"), "the stream key stands in the database as it is");
    cluster.check_alive()
}
