//! The stage: the network, the programs on it, the file for what they received.

use crate::lab::Options;
use crate::netns::Namespace;
use crate::wire::now;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Client, both hosts, the switch between them.
pub(crate) struct Network {
    pub(crate) switch: Namespace,
    pub(crate) client: Namespace,
    pub(crate) a: Namespace,
    pub(crate) b: Namespace,
}

impl Network {
    pub(crate) fn build(options: Options) -> Self {
        let make = || Namespace::new().expect("a network namespace");
        let network = Self { switch: make(), client: make(), a: make(), b: make() };
        network.switch.ip("link add br0 type bridge forward_delay 0 stp_state 0", None);
        network.switch.ip("link set br0 up", None);
        for (space, port, host) in
            [(&network.client, "pc", 10), (&network.a, "pa", 11), (&network.b, "pb", 12)]
        {
            space.ip("link set lo up", None);
            space.ip(
                &format!("link add eth0 type veth peer name {port} netns {{other}}"),
                Some(&network.switch),
            );
            network.switch.ip(&format!("link set {port} master br0 up"), None);
            space.ip("link set eth0 up", None);
            space.ip(&format!("addr add 10.77.0.{host}/24 dev eth0"), None);
            space.ip(&format!("addr add fd77::{host}/64 dev eth0 nodad"), None);
        }
        network.a.ip("link add hb0 type veth peer name hb0 netns {other}", Some(&network.b));
        for (space, host) in [(&network.a, 11), (&network.b, 12)] {
            space.ip("link set hb0 up", None);
            space.ip(&format!("addr add 10.78.0.{host}/24 dev hb0"), None);
        }
        if options.bare {
            for name in ["tcp_sack", "tcp_timestamps", "tcp_window_scaling"] {
                network.client.set(&format!("ipv4/{name}"), "0");
            }
        }
        network
    }
}

impl Network {
    /// From now on the client's line loses packets.
    pub(crate) fn spoil(&self, options: Options) {
        if !options.loss {
            return;
        }
        // At the receiving ends, where no sender can notice: server to client, and client to server.
        for (space, device) in [(&self.client, "eth0"), (&self.switch, "pc")] {
            let rule = "meta l4proto tcp numgen random mod 100 < 3 counter drop";
            let chain =
                format!("chain in {{ type filter hook ingress device {device} priority 0; {rule}; }}");
            let table = format!("table netdev lossy {{ {chain}; }}");
            let output = space.enter(|| Command::new("nft").arg(&table).output()).expect("nft starts");
            assert!(output.status.success(), "nft: {}", String::from_utf8_lossy(&output.stderr));
        }
    }

    /// How many packets the lossy line has lost so far.
    pub(crate) fn lost(&self) -> u64 {
        let listing = |space: &Namespace| {
            let output =
                space.enter(|| Command::new("nft").args(["list", "ruleset"]).output()).expect("nft starts");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let after = text.split("counter packets ").nth(1).unwrap_or_default().to_string();
            after.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0)
        };
        listing(&self.client) + listing(&self.switch)
    }
}

/// One program of the lab and what it says. Killed when dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    name: &'static str,
}

pub(crate) type Fields = HashMap<String, String>;

impl Program {
    pub(crate) fn start(name: &'static str, space: &Namespace, arguments: &[&str], sink: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
        command.args(arguments).env("SINK", sink).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = space.enter(|| command.spawn()).expect("this program starts again");
        let output = child.stdout.take().expect("stdout is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, name }
    }

    /// Waits for a line that begins with this word; gives its fields.
    pub(crate) fn expect(&self, word: &str, limit: Duration) -> Result<Fields, String> {
        let until = Instant::now() + limit;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line =
                self.lines.recv_timeout(left).map_err(|_| format!("{} never said {word:?}", self.name))?;
            let mut words = line.split_whitespace();
            let first = words.next();
            if first == Some(word) {
                let pairs = words.filter_map(|pair| pair.split_once('='));
                return Ok(pairs.map(|(name, value)| (name.into(), value.into())).collect());
            }
            if first == Some("broken") {
                return Err(format!("{}: {line}", self.name));
            }
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        // A program that is gone shows when its answer does not come.
        if let Some(stdin) = &mut self.child.stdin {
            let _ = writeln!(stdin, "{line}");
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn value(fields: &Fields, name: &str) -> u64 {
    fields.get(name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A file for the received stream that goes away with the value.
pub(crate) struct Sink(PathBuf);

impl Sink {
    pub(crate) fn new() -> Self {
        Self(std::env::temp_dir().join(format!("handover-lab-{}-{}", std::process::id(), now())))
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("the temporary folder has a readable name")
    }

    pub(crate) fn hash(&self) -> (u64, String) {
        let bytes = std::fs::read(&self.0).unwrap_or_default();
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(&bytes);
        (bytes.len() as u64, crate::wire::hex(context))
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
