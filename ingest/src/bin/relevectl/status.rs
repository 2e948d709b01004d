//! `relevectl status`: streams and nodes at a glance.
//!
//! In: the state, and what the nodes of a pair answer. Out: a table or JSON on standard output.

use crate::stream::word;
use crate::{SILENT_MS, unix_ms};
use anyhow::Result;
use releve_ingest::operator::pair;
use releve_ingest::say;
use releve_state::coordinator::{Coordinator, NodeRecord, NodeRole};
use releve_state::sqlite::Sqlite;
use serde_json::json;

/// Prints what there is.
pub(crate) async fn status(state: &Sqlite, as_json: bool) -> Result<()> {
    let now = unix_ms();
    let mut streams = Vec::new();
    for stream in state.streams().await? {
        let last = state.last_segment(&stream.name).await?;
        let epoch = state.epoch(&stream.name).await?;
        streams.push((stream, epoch, last));
    }
    let nodes = state.nodes().await?;
    let pairs = pair::look(&admins(state, None).await?);
    if as_json {
        let streams: Vec<_> = streams
            .iter()
            .map(|(stream, epoch, last)| {
                json!({
                    "name": stream.name, "mark": stream.mark, "epoch": epoch,
                    "last_segment": last.as_ref().map(|s| s.number),
                    "last_segment_end_unix_ms": last.as_ref().map(|s| s.date_unix_ms + s.duration_90k / 90),
                })
            })
            .collect();
        let nodes: Vec<_> = nodes
            .iter()
            .map(|node| {
                let silent_ms = now.saturating_sub(node.seen_unix_ms);
                json!({
                    "name": node.name, "role": node.role, "url": node.url, "admin_url": node.admin_url,
                    "alive": silent_ms < SILENT_MS, "seen_ms_ago": silent_ms,
                })
            })
            .collect();
        say!("{}", json!({"streams": streams, "nodes": nodes, "pair": pairs}));
        return Ok(());
    }
    say!("{:<24} {:<8} {:>6} {:>12}", "STREAM", "MARK", "EPOCH", "LAST SEGMENT");
    for (stream, epoch, last) in streams {
        let number = last.map_or("-".to_owned(), |segment| segment.number.to_string());
        say!("{:<24} {:<8} {epoch:>6} {number:>12}", stream.name.to_string(), word(stream.mark));
    }
    say!("\n{:<16} {:<7} {:<8} URL", "NODE", "ROLE", "STATE");
    for node in nodes {
        let role = if node.role == NodeRole::Ingest { "ingest" } else { "relay" };
        let alive = if now.saturating_sub(node.seen_unix_ms) < SILENT_MS { "alive" } else { "silent" };
        say!("{:<16} {role:<7} {alive:<8} {}", node.name, node.url);
    }
    pair::print(&pairs);
    Ok(())
}

/// Admin listeners of the ingest nodes: the one named, or those that the state folder knows and that have lately lived.
pub(crate) async fn admins(state: &Sqlite, named: Option<&str>) -> Result<Vec<String>> {
    if let Some(named) = named {
        return Ok(vec![named.to_owned()]);
    }
    let now = unix_ms();
    let lives = |node: &NodeRecord| {
        node.role == NodeRole::Ingest && now.saturating_sub(node.seen_unix_ms) < SILENT_MS
    };
    Ok(state.nodes().await?.into_iter().filter(lives).map(|node| node.admin_url).collect())
}
