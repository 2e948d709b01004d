//! `relevectl failover`, and the pair's part of `relevectl status`.
//!
//! In: admin listeners of ingest nodes, the cluster key. Out: lines for people or JSON. The holder does the work; the node that
//! took over says how long each publisher was without one.

use super::ask;
use crate::say;
use crate::state_dir::{KeyKind, StateDir};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the taker may need to tell of what it took.
const TOLD_MAX: Duration = Duration::from_secs(2);

/// What an operator wants.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// The node that is to hold.
    pub to: Option<u16>,
    /// Only ask.
    pub dry_run: bool,
    /// Let a node that waits go on alone.
    pub force: bool,
    /// Print JSON.
    pub json: bool,
}

/// What each of these nodes, and their peers where they name them, says of its pair: (admin URL, status). Those that do not
/// answer, or are no pair's, are left out.
pub fn look(admins: &[String]) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    let mut waiting: Vec<String> = admins.to_vec();
    let mut asked = Vec::new();
    while let Some(admin) = waiting.pop() {
        if asked.contains(&admin) {
            continue;
        }
        asked.push(admin.clone());
        let Ok((200, status)) = ask::get(&admin, "/status") else { continue };
        let Some(pair) = status["pair"].as_object() else { continue };
        waiting.extend(pair.get("peer_admin").and_then(Value::as_str).map(str::to_owned));
        let mut pair = Value::Object(pair.clone());
        pair["admin_url"] = json!(admin);
        pair["name"] = status["node"].clone();
        if !found.iter().any(|other| other["node"] == pair["node"] && other["name"] == pair["name"]) {
            found.push(pair);
        }
    }
    found.sort_by_key(|pair| pair["node"].as_u64());
    found
}

/// Carries out a wish.
///
/// # Errors
/// Why it is not carried out.
pub fn failover(dir: &StateDir, admins: &[String], wish: &Wish) -> Result<()> {
    let cluster = dir.keys(KeyKind::Cluster)?;
    let nodes = look(admins);
    if nodes.is_empty() {
        bail!("no node of a pair answers; name one with --admin http://HOST:PORT");
    }
    let state = |node: &Value| node["state"].as_str().unwrap_or("starting").to_owned();
    let url = |node: &Value| node["admin_url"].as_str().unwrap_or_default().to_owned();
    if wish.force {
        let Some(node) = nodes.iter().find(|node| node["needs_force"] == true) else {
            let states: Vec<_> =
                nodes.iter().map(|node| format!("node {}: {}", node["node"], state(node))).collect();
            bail!("no node waits for it ({})", states.join(", "));
        };
        let (code, body) = ask::post(&url(node), "/pair/force", &cluster)?;
        return show(wish, code, &body);
    }
    let holder = nodes.iter().find(|node| matches!(state(node).as_str(), "paired" | "solo" | "holding"));
    let holder = holder.or(nodes.first()).context("no node")?;
    let taker = nodes.iter().find(|node| node["node"] == holder["peer_node"]);
    let told_before = taker.map_or(0, |taker| taker["takeover_count"].as_u64().unwrap_or(0));
    let mut query = Vec::new();
    query.extend(wish.to.map(|to| format!("to={to}")));
    query.extend(wish.dry_run.then(|| "dry_run=1".to_owned()));
    let path = if query.is_empty() {
        "/pair/failover".into()
    } else {
        format!("/pair/failover?{}", query.join("&"))
    };
    let (code, mut body) = ask::post(&url(holder), &path, &cluster)?;
    if code == 200
        && !wish.dry_run
        && let Some(taker) = taker
    {
        body["took"] = told(&url(taker), told_before, &body["takeover"]["epoch"]);
        add_discarded(&mut body);
    }
    show(wish, code, &body)
}

/// The taker's own record of this takeover; null when it does not tell in time.
fn told(admin: &str, before: u64, epoch: &Value) -> Value {
    let started = Instant::now();
    while started.elapsed() < TOLD_MAX {
        if let Ok((200, status)) = ask::get(admin, "/status")
            && status["pair"]["takeover_count"].as_u64() > Some(before)
        {
            let all = status["pair"]["takeovers"].as_array().cloned().unwrap_or_default();
            let this = |one: &&Value| one["what"] == "took" && one["epoch"] == *epoch;
            if let Some(one) = all.iter().rev().find(this) {
                return one.clone();
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Value::Null
}

/// What only the node that gave knows of a connection goes to what the taker says of it.
fn add_discarded(body: &mut Value) {
    let gave = body["takeover"]["connections"].as_array().cloned().unwrap_or_default();
    for one in body["took"]["connections"].as_array_mut().into_iter().flatten() {
        if let Some(same) = gave.iter().find(|same| same["publisher"] == one["publisher"]) {
            one["discarded"] = same["discarded"].clone();
        }
    }
}

fn show(wish: &Wish, code: u16, body: &Value) -> Result<()> {
    if wish.json {
        say!("{body}");
    } else if let Some(connections) = body["took"]["connections"].as_array() {
        say!("node {} holds, epoch {}", body["to"], body["took"]["epoch"]);
        say!(
            "{:<28} {:>12} {:>10} {:>7} {:>10} ALIVE",
            "PUBLISHER",
            "BLACKOUT ms",
            "IN FLIGHT",
            "UNREAD",
            "DISCARDED"
        );
        for one in connections {
            let ms = one["blackout_ms"].as_f64().map_or("-".to_owned(), |ms| format!("{ms:.2}"));
            let publisher = one["publisher"].as_str().unwrap_or_default();
            let discarded = one["discarded"].as_u64().map_or("-".to_owned(), |count| count.to_string());
            say!(
                "{publisher:<28} {ms:>12} {:>10} {:>7} {discarded:>10} {}",
                one["in_flight"],
                one["unread"],
                one["alive"]
            );
        }
    } else if code == 200 {
        say!("{body}");
    }
    if code != 200 {
        match body["error"].as_str() {
            Some(why) => bail!("{why}"),
            None => bail!("not handed over: {}", body["takeover"]["trouble"]),
        }
    }
    Ok(())
}

/// A pair for people.
pub fn print(pairs: &[Value]) {
    if pairs.is_empty() {
        return;
    }
    say!(
        "\n{:<16} {:<5} {:<9} {:>6} {:<9} {:<10} {:<8} {:>8}",
        "PAIR",
        "NODE",
        "STATE",
        "EPOCH",
        "PROTECTS",
        "PROTECTED",
        "PEER",
        "DEAD ms"
    );
    let word = |value: &Value| value.as_str().map_or(value.to_string(), str::to_owned);
    for pair in pairs {
        say!(
            "{:<16} {:<5} {:<9} {:>6} {:<9} {:<10} {:<8} {:>8}",
            word(&pair["name"]),
            word(&pair["node"]),
            word(&pair["state"]),
            word(&pair["epoch"]),
            word(&pair["level"]),
            word(&pair["protected"]),
            word(&pair["peer"]["verdict"]),
            word(&pair["dead_time_ms"]),
        );
        for warning in pair["warnings"].as_array().into_iter().flatten() {
            say!("  warning: {}", word(warning));
        }
        for takeover in pair["takeovers"].as_array().into_iter().flatten().rev().take(3) {
            let all = takeover["connections"].as_array().map_or(0, Vec::len);
            say!(
                "  epoch {}: {} ({}), {all} connections, {} ms",
                takeover["epoch"],
                word(&takeover["what"]),
                if takeover["planned"] == true { "planned" } else { "after a loss" },
                takeover["took_ms"].as_f64().map_or("-".into(), |ms| format!("{ms:.2}")),
            );
        }
    }
}
