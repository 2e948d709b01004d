//! The keys of `[pair]`: two ingest nodes that share an address.
//!
//! In: TOML. Out: checked settings, and the election's `Config` made of them. Pure.
//!
//! ```toml
//! [pair]
//! protect = "commit"                      # or "handover"
//! node = 1                                # this node; the other has 2
//! peer = 2
//! link_listen = "10.0.0.1:7400"           # replication, on a private network
//! link_peer = "10.0.0.2:7400"
//! paths = [                               # heartbeats; two, on different wires
//!     { local = "10.0.0.1:7401", peer = "10.0.0.2:7401" },
//!     { local = "192.0.2.1:7401", peer = "192.0.2.2:7401" },
//! ]
//! witnesses = [                           # relays, three or five
//!     { id = 1, address = "192.0.2.11:7402" },
//!     { id = 2, address = "192.0.2.12:7402" },
//!     { id = 3, address = "192.0.2.13:7402" },
//! ]
//! addresses = [{ ip = "192.0.2.7", interface = "eth0" }]
//! ```

use super::ConfigError;
use failover::{ClusterId, NodeId, WitnessId};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Heartbeat paths at the most: each costs a datagram every 5 ms.
pub const PATHS_MAX: usize = 4;
/// Witnesses at the most: more make no pair safer.
const WITNESSES_MAX: usize = 9;
/// Virtual addresses at the most.
const ADDRESSES_MAX: usize = 8;

/// What a takeover must not lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protect {
    /// Planned takeovers lose nothing; a crash disconnects the publishers.
    Handover,
    /// A crash loses nothing either: packets wait until the standby has what they acknowledge.
    Commit,
}

/// One way between the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeatPath {
    /// Where this node sends from and listens.
    pub local: SocketAddr,
    /// Where the other does.
    pub peer: SocketAddr,
}

/// A relay that grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WitnessAt {
    /// Its `witness_id`.
    pub id: u16,
    /// Its `witness_listen`.
    pub address: SocketAddr,
}

/// A virtual address.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Virtual {
    /// Publishers connect here.
    pub ip: IpAddr,
    /// The interface that has it while this node holds.
    pub interface: String,
}

/// A program that moves the addresses instead of netlink.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HookAt {
    /// Program and arguments; no shell.
    pub argv: Vec<String>,
    /// How long it may take, in milliseconds.
    #[serde(default = "hook_timeout_ms")]
    pub timeout_ms: u64,
}

/// All keys of `[pair]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// What a takeover must not lose.
    pub protect: Protect,
    /// The cluster's number: another one for each pair that shares key files.
    #[serde(default = "cluster")]
    pub cluster: u64,
    /// This node's number, 1 to 65535.
    pub node: u16,
    /// The other node's number.
    pub peer: u16,
    /// Where this node listens for its standby.
    pub link_listen: SocketAddr,
    /// Where the other node listens for its standby.
    pub link_peer: SocketAddr,
    /// Ways of heartbeats.
    pub paths: Vec<BeatPath>,
    /// Relays that grant an epoch alone.
    pub witnesses: Vec<WitnessAt>,
    /// The addresses that move.
    pub addresses: Vec<Virtual>,
    /// What moves them where netlink does not reach.
    #[serde(default)]
    pub hook: Option<HookAt>,
    /// Silence of a peer is death no sooner than this, in milliseconds.
    #[serde(default = "dead_min_ms")]
    pub dead_min_ms: u64,
    /// ... and no later than this.
    #[serde(default = "dead_max_ms")]
    pub dead_max_ms: u64,
    /// A survivor without a grant holds its publishers this long, in milliseconds, then drops the address.
    #[serde(default = "max_hold_ms")]
    pub max_hold_ms: u64,
    /// The other node's admin listener, as `http://HOST:PORT`, so that `relevectl` can ask both.
    #[serde(default)]
    pub peer_admin: Option<String>,
    /// Hand over by itself to the node with the lower number once the pair is steady.
    #[serde(default)]
    pub preempt: bool,
}

fn cluster() -> u64 {
    1
}
fn hook_timeout_ms() -> u64 {
    20_000
}
fn dead_min_ms() -> u64 {
    35
}
fn dead_max_ms() -> u64 {
    500
}
fn max_hold_ms() -> u64 {
    3_000
}

impl Pair {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let range = |key, value: String, ok: bool, wanted| match ok {
            true => Ok(()),
            false => Err(ConfigError::Range { key, value, wanted }),
        };
        range("pair.node", self.node.to_string(), self.node != 0, "1 to 65535")?;
        let other = self.peer != 0 && self.peer != self.node;
        range("pair.peer", self.peer.to_string(), other, "1 to 65535 and not `pair.node`")?;
        let port = self.link_peer.port() != 0;
        range("pair.link_peer", self.link_peer.to_string(), port, "an address with a port")?;

        let count = self.paths.len();
        range("pair.paths", format!("{count} paths"), (1..=PATHS_MAX).contains(&count), "1 to 4 paths")?;
        for path in &self.paths {
            let same_family = path.local.is_ipv4() == path.peer.is_ipv4();
            let ends = path.local != path.peer && path.peer.port() != 0 && same_family;
            let wanted = "two different ends of one address family, each with a port";
            range("pair.paths", format!("{} to {}", path.local, path.peer), ends, wanted)?;
        }
        let locals: BTreeSet<_> = self.paths.iter().map(|path| path.local).collect();
        range(
            "pair.paths",
            "one local end twice".into(),
            locals.len() == count,
            "paths with own local ends",
        )?;

        let count = self.witnesses.len();
        let few = (1..=WITNESSES_MAX).contains(&count);
        range("pair.witnesses", format!("{count} witnesses"), few, "1 to 9 relays, best 3 or 5")?;
        let ids: BTreeSet<_> = self.witnesses.iter().map(|witness| witness.id).collect();
        let places: BTreeSet<_> = self.witnesses.iter().map(|witness| witness.address).collect();
        let own = ids.len() == count && places.len() == count;
        range("pair.witnesses", "one relay twice".into(), own, "relays with own ids and addresses")?;

        let count = self.addresses.len();
        let some = (1..=ADDRESSES_MAX).contains(&count);
        range("pair.addresses", format!("{count} addresses"), some, "1 to 8 virtual addresses")?;
        let ips: BTreeSet<_> = self.addresses.iter().map(|address| address.ip).collect();
        range("pair.addresses", "one address twice".into(), ips.len() == count, "different addresses")?;
        for address in &self.addresses {
            let unicast =
                !address.ip.is_unspecified() && !address.ip.is_multicast() && !address.ip.is_loopback();
            range("pair.addresses", address.ip.to_string(), unicast, "a unicast address of a network")?;
            let named = (1..16).contains(&address.interface.len());
            range("pair.addresses", address.interface.clone(), named, "an interface's name, 1 to 15 bytes")?;
        }
        if let Some(hook) = &self.hook {
            range("pair.hook.argv", "empty".into(), !hook.argv.is_empty(), "a program and its arguments")?;
            let ms = hook.timeout_ms;
            range("pair.hook.timeout_ms", ms.to_string(), (10..=600_000).contains(&ms), "10 to 600000")?;
        }

        if let Some(url) = &self.peer_admin {
            let http = url.strip_prefix("http://").is_some_and(|host| host.contains(':'));
            range("pair.peer_admin", url.clone(), http, "http://HOST:PORT")?;
        }

        let ms = self.dead_min_ms;
        range("pair.dead_min_ms", ms.to_string(), (20..=10_000).contains(&ms), "20 to 10000")?;
        let ms = self.dead_max_ms;
        let above = (self.dead_min_ms..=60_000).contains(&ms);
        range("pair.dead_max_ms", ms.to_string(), above, "`pair.dead_min_ms` to 60000")?;
        let ms = self.max_hold_ms;
        range("pair.max_hold_ms", ms.to_string(), (100..=15_000).contains(&ms), "100 to 15000")
    }

    /// The election's settings; what no key says has the crate's defaults.
    pub fn election(&self) -> failover::Config {
        let witnesses = self.witnesses.iter().map(|witness| WitnessId(witness.id)).collect();
        failover::Config {
            dead_min: Duration::from_millis(self.dead_min_ms),
            dead_max: Duration::from_millis(self.dead_max_ms),
            max_hold: Duration::from_millis(self.max_hold_ms),
            preempt: self.preempt,
            ..failover::Config::of(NodeId(self.node), NodeId(self.peer), witnesses)
        }
    }

    /// The cluster's number.
    pub fn cluster_id(&self) -> ClusterId {
        ClusterId(self.cluster)
    }

    /// What works, but less well than an operator may think; a line each.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.paths.len() == 1 {
            doubts.push(
                "one heartbeat path (`pair.paths`): a cut of that wire looks like the peer's death".into(),
            );
        }
        let count = self.witnesses.len();
        if count < 3 {
            doubts.push(format!(
                "{count} witnesses (`pair.witnesses`): after the loss of a node and one of them nobody serves"
            ));
        } else if count.is_multiple_of(2) {
            doubts.push(format!("{count} witnesses (`pair.witnesses`): no better than {}", count - 1));
        }
        doubts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const PAIR: &str = r#"
name = "a"
dir = "/tmp/x"
[pair]
protect = "commit"
node = 1
peer = 2
link_listen = "10.0.0.1:7400"
link_peer = "10.0.0.2:7400"
paths = [{ local = "10.0.0.1:7401", peer = "10.0.0.2:7401" }, { local = "[fd00::1]:7401", peer = "[fd00::2]:7401" }]
witnesses = [{ id = 1, address = "10.0.1.1:7402" }, { id = 2, address = "10.0.1.2:7402" }, { id = 3, address = "10.0.1.3:7402" }]
addresses = [{ ip = "192.0.2.7", interface = "eth0" }, { ip = "2001:db8::7", interface = "eth0" }]
"#;

    fn parse(text: &str) -> Result<Pair, ConfigError> {
        Ok(Config::parse(text, [])?.pair.expect("there is one"))
    }

    #[test]
    fn what_is_not_said_has_the_elections_defaults() {
        let pair = parse(PAIR).unwrap();
        let ids = [1, 2, 3].map(WitnessId).to_vec();
        assert_eq!(pair.election(), failover::Config::of(NodeId(1), NodeId(2), ids));
        assert_eq!((pair.protect, pair.cluster, pair.hook.is_none()), (Protect::Commit, 1, true));
        assert!(pair.doubts().is_empty());
        assert!(Config::parse("name = \"a\"\ndir = \"x\"", []).unwrap().pair.is_none());
        let tls = "rtmps_listen = \"[::]:1936\"\ntls_certificate = \"c\"\ntls_key = \"k\"\n[pair]";
        assert!(parse(&PAIR.replacen("[pair]", tls, 1)).is_ok());
        assert!(parse(&PAIR.replacen("[pair]", "normalise = \"auto\"\n[pair]", 1)).is_ok());
    }

    #[test]
    fn errors_name_the_key() {
        for (from, to, named) in [
            ("\"commit\"", "\"some\"", "protect"),
            ("[pair]", "rtmp_listen = \"192.0.2.7:1935\"\n[pair]", "rtmp_listen"),
            (
                "[pair]",
                "rtmps_listen = \"192.0.2.7:1936\"\ntls_certificate = \"c\"\ntls_key = \"k\"\n[pair]",
                "rtmps_listen",
            ),
            ("node = 1", "node = 0", "pair.node"),
            ("peer = 2", "peer = 1", "pair.peer"),
            ("peer = 2", "", "missing field `peer`"),
            ("10.0.0.2:7400", "10.0.0.2:0", "pair.link_peer"),
            ("local = \"10.0.0.1:7401\"", "local = \"[::1]:7401\"", "pair.paths"),
            ("local = \"10.0.0.1:7401\"", "local = \"[fd00::1]:7401\"", "pair.paths"),
            ("id = 2", "id = 1", "pair.witnesses"),
            ("10.0.1.2:7402", "10.0.1.1:7402", "pair.witnesses"),
            ("192.0.2.7", "224.0.0.1", "pair.addresses"),
            ("2001:db8::7", "192.0.2.7", "pair.addresses"),
            ("interface = \"eth0\" }, {", "interface = \"\" }, {", "pair.addresses"),
            ("node = 1", "node = 1\ndead_min_ms = 1", "pair.dead_min_ms"),
            ("node = 1", "node = 1\ndead_max_ms = 30", "pair.dead_max_ms"),
            ("node = 1", "node = 1\nmax_hold_ms = 60000", "pair.max_hold_ms"),
            ("node = 1", "node = 1\nhook = { argv = [] }", "pair.hook.argv"),
            ("node = 1", "node = 1\npeer_admin = \"10.0.0.2\"", "pair.peer_admin"),
            ("node = 1", "node = 1\ncolour = 3", "colour"),
        ] {
            assert!(PAIR.contains(from), "{from}");
            let error = parse(&PAIR.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(named), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn what_is_weak_is_said() {
        let one_path = PAIR.replace(", { local = \"[fd00::1]:7401\", peer = \"[fd00::2]:7401\" }", "");
        let pair = parse(&one_path.replace("{ id = 1, address = \"10.0.1.1:7402\" }, ", "")).unwrap();
        let doubts = pair.doubts().join("\n");
        assert!(doubts.contains("pair.paths") && doubts.contains("pair.witnesses"), "{doubts}");
    }
}
