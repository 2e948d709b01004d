//! An operator's commands to the pair, over the admin listener: hand over, go on alone by force.
//!
//! ```text
//! POST /pair/failover[?to=NODE][&dry_run=1]     hands over; with dry_run only says whether it could
//! POST /pair/force                              the peer is off and stays off: ask the witnesses without descent
//! ```
//!
//! In: requests signed with the cluster's key (`ingest_api::node_auth`), each of them once. Out: JSON, and a line in the audit
//! file of the state folder, synced, before anything is done and when it is over. Touches that file and the control half.

use super::control::Control;
use hyper::StatusCode;
use ingest_api::node_auth::{RequestMac, verify_request};
use releve_listen::http::{Answer, answer};
use releve_watermark::KeyRing;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Requests that are remembered, so that none counts twice: far more than operators send within the clocks' tolerance.
const SEEN_MAX: usize = 256;

/// What commands need.
pub struct Operate {
    /// The pair's control half.
    pub control: Arc<Control>,
    /// This node's number.
    pub node: u16,
    /// The other node's.
    pub peer: u16,
    /// Where the other node's operators look, if it was said.
    pub peer_admin: Option<String>,
    cluster: KeyRing,
    audit: PathBuf,
    seen: Mutex<VecDeque<RequestMac>>,
}

impl Operate {
    /// Commands to this control half; `audit` is the file that remembers them.
    pub fn new(
        control: Arc<Control>,
        pair: &crate::config::pair::Pair,
        cluster: KeyRing,
        audit: PathBuf,
    ) -> Operate {
        Operate {
            control,
            node: pair.node,
            peer: pair.peer,
            peer_admin: pair.peer_admin.clone(),
            cluster,
            audit,
            seen: Mutex::default(),
        }
    }

    /// The pair's part of the status page.
    pub fn status(&self) -> Value {
        let mut status = self.control.board.status();
        if let Some(status) = status.as_object_mut() {
            status.insert("peer_admin".into(), json!(self.peer_admin));
        }
        status
    }

    /// Answers a command.
    pub async fn answer(self: Arc<Operate>, path: String, header: String) -> Answer {
        if !self.is_new_and_ours(&path, &header) {
            return says(
                StatusCode::FORBIDDEN,
                &json!({"error": "forbidden: sign with the cluster key, once"}),
            );
        }
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let value = |key: &str| query.split('&').find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let to = value("to").map(str::to_owned);
        let dry = value("dry_run").is_some_and(|value| value != "0");
        match path {
            "/pair/failover" => self.failover(to, dry).await,
            "/pair/force" => {
                self.note(&json!({"command": "force"}));
                self.control.force();
                says(StatusCode::OK, &json!({"forced": true}))
            }
            _ => says(StatusCode::NOT_FOUND, &json!({"error": "no such command"})),
        }
    }

    async fn failover(self: Arc<Operate>, to: Option<String>, dry: bool) -> Answer {
        let refuse = |why: String| says(StatusCode::CONFLICT, &json!({"error": why}));
        let status = self.control.board.status();
        let state = status["state"].as_str().unwrap_or("starting").to_owned();
        if let Some(to) = to
            && to != self.peer.to_string()
        {
            let here = if to == self.node.to_string() { "holds already" } else { "is none of this pair" };
            return refuse(format!("node {to} {here}: the peer is node {}", self.peer));
        }
        if state != "paired" {
            return refuse(format!(
                "node {} is {state}: only a holder with a standby that has every byte can hand over",
                self.node
            ));
        }
        if status["level"] == "address" {
            return refuse("connections cannot move here: see the warnings in the status".into());
        }
        if dry {
            return says(StatusCode::OK, &json!({"possible": true, "from": self.node, "to": self.peer}));
        }
        self.note(&json!({"command": "failover", "from": self.node, "to": self.peer}));
        let control = self.control.clone();
        let done = tokio::task::spawn_blocking(move || control.hand_over()).await;
        let (status, body) = match done {
            Ok(Ok(takeover)) => {
                let code = if takeover.what == "gave" { StatusCode::OK } else { StatusCode::CONFLICT };
                (
                    code,
                    json!({"from": self.node, "to": self.peer, "takeover": takeover, "peer_admin": self.peer_admin}),
                )
            }
            Ok(Err(why)) => (StatusCode::CONFLICT, json!({"error": why.to_string()})),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, json!({"error": "the command broke off"})),
        };
        self.note(&json!({"command": "failover", "status": status.as_u16(), "outcome": body}));
        says(status, &body)
    }

    fn is_new_and_ours(&self, path: &str, header: &str) -> bool {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let Ok(mac) = verify_request(&self.cluster, "POST", path, now, header) else { return false };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(&mac) {
            return false;
        }
        seen.push_back(mac);
        if seen.len() > SEEN_MAX {
            seen.pop_front();
        }
        true
    }

    /// A line in the audit file, on the disk when this returns.
    fn note(&self, what: &Value) {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let line = json!({"at_unix_ms": at, "node": self.node, "what": what});
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.audit)
            .and_then(|mut file| writeln!(file, "{line}").and_then(|()| file.sync_all()));
        if let Err(error) = written {
            // An operator who moves publishers off a node with a full disk must be able to.
            tracing::error!(%error, file = %self.audit.display(), %line, "not in the audit file");
        }
    }
}

fn says(status: StatusCode, body: &Value) -> Answer {
    answer(status, "application/json", format!("{body}\n"))
}
